//! Batches of a checkpoint by their lines: where those of each lie is known from the beginning, and they are read when they are asked for.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, AsArray, FixedSizeBinaryArray, ListArray, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::UInt64Type;
use feature::digest::{Digest, HashAlgorithm};
use feature::{BatchId, Id, Sequence, VersionId};

use super::batches::{Batches, Known, json};
use super::columns::{bytes, id, id_column, range};
use super::entries::Entries;
use super::{Result, lost};
use crate::checkpoint::table_file::TableFile;
use crate::records::Derivation;
use crate::state::{Batch, BatchOrigin, CountedBatch, Which};

/// Who asks for more lines than this, one by one, and for more than this share of all, gets all: a line alone costs some pages, all
/// together cost each page once.
const FEW_LINES: usize = 64;
const FEW_SHARE: usize = 16;

#[derive(Debug)]
pub(super) struct Lines {
    files: Vec<TableFile>,
    known: Known,
    lines: HashMap<VersionId, Line>,
    /// How often a line was read alone.
    alone: AtomicUsize,
    all: OnceLock<()>,
    /// The end of each batch's id, with its line and its place in it.
    by_id: OnceLock<Vec<(u64, VersionId, usize)>>,
}

/// The batches of one line.
#[derive(Debug, Default)]
struct Line {
    /// In the order of the log.
    spans: Vec<Span>,
    batches: OnceLock<Vec<Arc<Batch>>>,
    sources: OnceLock<HashSet<Digest>>,
}

/// Rows of a file.
#[derive(Clone, Debug)]
struct Span {
    file: usize,
    rows: Range<usize>,
}

impl Lines {
    /// # Errors
    /// Where batches are of no version, of no entry, or not in their order.
    pub fn new(files: Vec<TableFile>, entries: &Entries, known: Known) -> Result<Self> {
        let mut lines: HashMap<VersionId, Line> = HashMap::new();
        for (place, file) in files.iter().enumerate() {
            let rows = file.read(&["sequence", "version"], 0..file.rows)?;
            let sequences = rows.column(0).as_primitive::<UInt64Type>().values();
            let versions = rows.column(1).as_fixed_size_binary();
            let mut before: Option<(&[u8], VersionId)> = None;
            let mut begun: Option<(VersionId, usize)> = None;
            let mut end = |line: VersionId, rows: Range<usize>| -> Result<()> {
                entries.check(file, sequences.get(rows.clone()).unwrap_or_default())?;
                let spans = &mut lines.entry(line).or_default().spans;
                if spans.last().is_some_and(|span| span.file == place) {
                    return Err("its batches do not stand by their lines".to_owned());
                }
                spans.push(Span { file: place, rows });
                Ok(())
            };
            for row in 0..rows.num_rows() {
                let of = versions.value(row);
                let line = match before {
                    Some((version, line)) if version == of => line,
                    _ => {
                        let version: VersionId = id(versions, row);
                        known.line_of(version).ok_or_else(|| {
                            format!("it has a batch of version {version}, and no such version")
                        })?
                    }
                };
                before = Some((of, line));
                match begun {
                    Some((begun, _)) if begun == line => {}
                    Some((of, from)) => {
                        end(of, from..row)?;
                        begun = Some((line, row));
                    }
                    None => begun = Some((line, row)),
                }
            }
            if let Some((of, from)) = begun {
                end(of, from..rows.num_rows())?;
            }
        }
        let (alone, all, by_id) = Default::default();
        Ok(Self { files, known, lines, alone, all, by_id })
    }

    pub fn files(&self) -> &[TableFile] {
        &self.files
    }

    pub fn batches_of(&self, line: VersionId, entries: &Entries) -> &[Arc<Batch>] {
        let Some(line) = self.lines.get(&line) else { return &[] };
        if line.batches.get().is_none() {
            let alone = self.alone.fetch_add(1, Ordering::Relaxed);
            if alone >= FEW_LINES.max(self.lines.len() / FEW_SHARE) {
                self.read_all(entries);
            }
        }
        line.batches.get_or_init(|| self.read(&line.spans, entries).unwrap_or_else(|why| lost(&why)))
    }

    fn read(&self, spans: &[Span], entries: &Entries) -> Result<Vec<Arc<Batch>>> {
        let mut found = Vec::new();
        for span in spans {
            let rows = self.files[span.file].read(&[], span.rows.clone())?;
            let batches = Batches::new(&rows, entries, &self.known);
            for row in 0..rows.num_rows() {
                found.push(Arc::new(batches.get(row)?));
            }
        }
        Ok(found)
    }

    /// All batches, each page once.
    pub fn read_all(&self, entries: &Entries) {
        self.all.get_or_init(|| {
            let read = || -> Result<()> {
                let mut found: HashMap<VersionId, Vec<Arc<Batch>>> = HashMap::new();
                for (place, file) in self.files.iter().enumerate() {
                    let mut spans: Vec<(VersionId, Range<usize>)> = Vec::new();
                    for (line, of) in &self.lines {
                        let here = of.spans.iter().filter(|span| span.file == place);
                        spans.extend(here.map(|span| (*line, span.rows.clone())));
                    }
                    spans.sort_by_key(|(_, rows)| rows.start);
                    let mut spans = spans.into_iter().peekable();
                    for group in file.groups() {
                        let rows = file.read(&[], group.clone())?;
                        let batches = Batches::new(&rows, entries, &self.known);
                        for row in group.clone() {
                            while spans.next_if(|(_, rows)| rows.end <= row).is_some() {}
                            let Some((line, _)) = spans.peek() else { break };
                            let batch = Arc::new(batches.get(row - group.start)?);
                            found.entry(*line).or_default().push(batch);
                        }
                    }
                }
                for (line, batches) in found {
                    if let Some(line) = self.lines.get(&line) {
                        // Somebody may have read it alone.
                        line.batches.get_or_init(|| batches);
                    }
                }
                Ok(())
            };
            read().unwrap_or_else(|why| lost(&why));
        });
    }

    pub fn has_source(&self, line: VersionId, digest: Digest, entries: &Entries) -> bool {
        let Some(of) = self.lines.get(&line) else { return false };
        let sources = of.sources.get_or_init(|| {
            let batches = self.batches_of(line, entries).iter();
            batches.flat_map(|batch| batch.record.sources.iter().map(|source| source.digest)).collect()
        });
        sources.contains(&digest)
    }

    pub fn batch(&self, batch: BatchId, entries: &Entries) -> Option<&Arc<Batch>> {
        let by_id = self.by_id.get_or_init(|| self.by_id().unwrap_or_else(|why| lost(&why)));
        let end = end_of(batch);
        let from = by_id.partition_point(|(of, ..)| *of < end);
        let mut alike = by_id.get(from..).unwrap_or_default().iter().take_while(|(of, ..)| *of == end);
        alike.find_map(|(_, line, place)| {
            let found = self.batches_of(*line, entries).get(*place)?;
            (found.record.batch == batch).then_some(found)
        })
    }

    fn by_id(&self) -> Result<Vec<(u64, VersionId, usize)>> {
        let mut found = Vec::new();
        for (place, file) in self.files.iter().enumerate() {
            let rows = file.read(&["batch"], 0..file.rows)?;
            let batch = id_column(&rows, 0);
            for (line, of) in &self.lines {
                // Places in a line count on from file to file.
                let mut first = 0;
                for span in &of.spans {
                    if span.file == place {
                        let places = span.rows.clone().zip(first..);
                        found.extend(places.map(|(row, at)| (end_of(id(&batch, row)), *line, at)));
                    }
                    first += span.rows.len();
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// What is counted of batches, a group of rows at a time: none is held, and findings are passed over.
    ///
    /// # Errors
    /// Where a file cannot be read any more.
    pub fn count(
        &self,
        which: Which<'_>,
        entries: &Entries,
        visit: &mut dyn FnMut(CountedBatch<'_>),
    ) -> Result<()> {
        let columns = ["sequence", "batch", "version", "rows", "rejected", "derivation", "judged"];
        let unreadable = |error: serde_json::Error| {
            format!("it has a derivation or a verdict that cannot be read: {error}")
        };
        for file in self.files.iter().filter(|file| which.may_be_within(file.from, file.until)) {
            for group in file.groups() {
                if let Which::These(wanted) = which {
                    let batches = id_column(&file.read(&["batch"], group.clone())?, 0);
                    if !(0..batches.len()).any(|row| wanted.contains(&id::<BatchId>(&batches, row))) {
                        continue;
                    }
                }
                let rows = file.read(&columns, group)?;
                let sequences = rows.column(0).as_primitive::<UInt64Type>();
                let (batches, versions) = (id_column(&rows, 1), id_column(&rows, 2));
                let accepted = rows.column(3).as_primitive::<UInt64Type>();
                let rejected = rows.column(4).as_primitive::<UInt64Type>();
                let (derivations, judged) =
                    (rows.column(5).as_string::<i32>(), rows.column(6).as_string::<i32>());
                for row in 0..rows.num_rows() {
                    let (sequence, batch): (u64, BatchId) = (sequences.value(row), id(&batches, row));
                    if !which.has(Sequence(sequence), batch) {
                        continue;
                    }
                    let experiment = match self.known.released(batch) {
                        Some(by) => by.experiment.as_deref(),
                        None => entries.experiment(sequence),
                    };
                    let derivation: Option<Derivation> = json(derivations, row).map_err(unreadable)?;
                    visit(CountedBatch {
                        batch,
                        version: id(&versions, row),
                        committed_at: entries.committed_at(sequence),
                        experiment,
                        rows: accepted.value(row),
                        rejected: rejected.value(row),
                        checks: json(judged, row).map_err(unreadable)?,
                        untraced: derivation.is_some_and(|made| !made.is_traced()),
                    });
                }
            }
        }
        Ok(())
    }

    /// What is needed of all batches to say where they came from.
    pub fn origins<'a>(&'a self, entries: &'a Entries) -> Origins<'a> {
        let read = |file: &TableFile| -> Result<OriginRows> {
            let columns = ["sequence", "batch", "version", "sources", "derivation"];
            Ok(OriginRows::new(&file.read(&columns, 0..file.rows)?))
        };
        let files = self.files.iter().map(read).collect::<Result<_>>();
        Origins { lines: self, entries, files: files.unwrap_or_else(|why| lost(&why)) }
    }
}

/// The random end of an id.
fn end_of(batch: BatchId) -> u64 {
    batch.uuid().as_u64_pair().1
}

/// Where all batches came from, for as long as somebody asks.
pub(in crate::state) struct Origins<'a> {
    lines: &'a Lines,
    entries: &'a Entries,
    files: Vec<OriginRows>,
}

struct OriginRows {
    sequence: UInt64Array,
    batch: FixedSizeBinaryArray,
    version: FixedSizeBinaryArray,
    sources: ListArray,
    source_digest: FixedSizeBinaryArray,
    derivation: StringArray,
}

impl OriginRows {
    fn new(rows: &RecordBatch) -> Self {
        let sources = rows.column(3).as_list::<i32>().clone();
        Self {
            sequence: rows.column(0).as_primitive::<UInt64Type>().clone(),
            batch: id_column(rows, 1),
            version: id_column(rows, 2),
            source_digest: sources.values().as_struct().column(0).as_fixed_size_binary().clone(),
            sources,
            derivation: rows.column(4).as_string::<i32>().clone(),
        }
    }

    fn sources(&self, row: usize, hash: HashAlgorithm) -> impl Iterator<Item = Digest> + use<'_> {
        range(&self.sources, row).map(move |place| Digest::new(hash, bytes(&self.source_digest, place)))
    }

    fn derivation(&self, row: usize) -> Option<Derivation> {
        let text = self.derivation.is_valid(row).then(|| self.derivation.value(row))?;
        Some(serde_json::from_str(text).unwrap_or_else(|error| lost(&error.to_string())))
    }
}

impl Origins<'_> {
    /// Those of one line, in the order of the log.
    pub fn of_line(&self, line: VersionId, visit: &mut impl FnMut(BatchOrigin<'_>)) {
        let mut sources = Vec::new();
        for span in self.lines.lines.get(&line).map_or(&[][..], |line| &line.spans) {
            let rows = &self.files[span.file];
            for row in span.rows.clone() {
                sources.clear();
                sources.extend(rows.sources(row, self.entries.hash));
                let derivation = rows.derivation(row);
                let sequence = rows.sequence.value(row);
                let batch = id(&rows.batch, row);
                let released = self.lines.known.released(batch);
                visit(BatchOrigin {
                    batch,
                    version: id(&rows.version, row),
                    sequence: Sequence(sequence),
                    principal: released.map_or_else(|| self.entries.principal(sequence), |by| &by.principal),
                    run: match released {
                        Some(by) => by.run.as_deref(),
                        None => self.entries.run(sequence),
                    },
                    sources: &sources,
                    derivation: derivation.as_ref(),
                });
            }
        }
    }
}
