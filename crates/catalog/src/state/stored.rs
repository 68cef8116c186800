//! The part of a state that lies in the tables of a checkpoint. Batches, training sets, requests and lines of
//! the log become values when they are asked for, each once; what they need for that was checked when the
//! tables were taken in.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use arrow::array::{
    Array, AsArray, FixedSizeBinaryArray, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{TimestampMicrosecondType, UInt32Type, UInt64Type};
use feature::definition::{Definition, Entity};
use feature::digest::{Digest, HashAlgorithm};
use feature::quality::Judged;
use feature::{BatchId, Sequence, StoreId, Timestamp, TrainingSetId, VersionId};
use uuid::Uuid;

use super::compactions::Compactions;
use super::holds::Holds;
use super::producers::Producers;
use super::quarantine::{Held, Quarantine};
use super::registry::Registry;
use super::sweeps::Sweeps;
use super::tables::{Table, Tables, known_at_text};
use super::{
    Batch, BatchOrigin, Definitions, EntityVersion, Head, LogLine, PolicyHistory, Provenance, RecordedReads,
    RefusedBatch, Request, ServiceVersion, State, TrainingSet, Verification, ViewVersion, Withdrawals,
};
use crate::records::{
    BatchCommitted, BatchHit, Compacted, Derivation, KnownAtSource, Object, Record, Selected, SourceFile,
    TrainingSetRecorded,
};

/// Why tables are not those of a state.
type Result<T, E = String> = std::result::Result<T, E>;

impl State {
    /// The state that these tables hold; `tables_after(None)` gives them back.
    ///
    /// # Errors
    /// Where they contradict themselves, or hold what this program does not know.
    pub(crate) fn from_tables(store: StoreId, hash: HashAlgorithm, mut tables: Tables) -> Result<Self> {
        let entries = Entries::new(tables.of(Table::Entries), hash)?;
        let mut definitions = definitions(tables.of(Table::Definitions), &entries)?;
        let refused_sources = tables.of(Table::RefusedSources);
        let (version, digest) = (id_column(refused_sources, 0), id_column(refused_sources, 1));
        definitions.refused_sources = (0..refused_sources.num_rows())
            .map(|row| (id(&version, row), Digest::new(hash, bytes(&digest, row))))
            .collect();
        let told = Told::read(tables.of(Table::Records), &entries)?;
        let mut compactions = Compactions::default();
        for (record, by) in &told.compacted {
            let version = definitions.view_version(record.version);
            let line = version
                .ok_or_else(|| format!("it compacts version {}, which it lacks", record.version))?
                .line;
            compactions.take(record, line, by)?;
        }
        // Held as values from here on.
        for table in [Table::Records, Table::Definitions, Table::RefusedSources] {
            tables.set(table, RecordBatch::new_empty(table.schema()));
        }
        let last = entries.digest.len() - 1;
        let head = Head {
            sequence: Sequence(last as u64),
            digest: entries.digest(last),
            committed_at: Timestamp(entries.committed_at.value(last)),
        };
        let mut quarantine = Quarantine::default();
        for (record, by) in &told.kept {
            take_kept(&mut quarantine, record, by, &definitions)?;
        }
        let stored = Stored::new(tables, entries, &definitions, &quarantine)?;
        Ok(Self {
            stored: Some(Arc::new(stored)),
            definitions: Arc::new(definitions),
            registry: Arc::new(told.registry),
            refused: Arc::new(told.refused),
            verifications: Arc::new(told.verifications),
            reads: Arc::new(told.reads),
            withdrawals: Arc::new(told.withdrawals),
            quarantine: Arc::new(quarantine),
            policies: Arc::new(told.policies),
            compactions: Arc::new(compactions),
            producers: told.producers,
            sweeps: Arc::new(told.sweeps),
            holds: Arc::new(told.holds),
            ..Self::bare(store, hash, head)
        })
    }
}

#[derive(Debug)]
pub(super) struct Stored {
    tables: Tables,
    entries: Entries,
    batches: Batches,
    lines: HashMap<VersionId, Line>,
    /// Rows of batches by their ids.
    by_id: OnceLock<Vec<u32>>,
    training_sets: OnceLock<BTreeMap<TrainingSetId, TrainingSet>>,
    requests: OnceLock<HashMap<String, Request>>,
    log: OnceLock<Vec<LogLine>>,
}

/// The batches of one line.
#[derive(Debug, Default)]
struct Line {
    /// In the order of the log.
    rows: Vec<u32>,
    batches: OnceLock<Vec<Arc<Batch>>>,
    sources: OnceLock<HashSet<Digest>>,
}

impl Stored {
    fn new(
        tables: Tables,
        entries: Entries,
        definitions: &Definitions,
        quarantine: &Quarantine,
    ) -> Result<Self> {
        let mut batches = Batches::new(tables.of(Table::Batches), definitions, &entries)?;
        batches.profiles = Profiles::new(tables.of(Table::Profiles), &entries)?;
        let released = |held: &Held| {
            let end = held.end.as_ref().filter(|end| end.released)?;
            Some((held.batch.record.batch, held.admitted_by(&end.by)))
        };
        batches.released = quarantine.all().iter().filter_map(released).collect();
        let mut lines: HashMap<VersionId, Line> = HashMap::new();
        for (row, place) in (0..).zip(&batches.places) {
            lines.entry(batches.versions[*place as usize].line).or_default().rows.push(row);
        }
        for table in [Table::TrainingSets, Table::Requests] {
            entries.check(tables.of(table), table)?;
        }
        Ok(Self {
            tables,
            entries,
            batches,
            lines,
            by_id: OnceLock::new(),
            training_sets: OnceLock::new(),
            requests: OnceLock::new(),
            log: OnceLock::new(),
        })
    }

    /// The growing tables but `records`; the others are empty.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The last entry that was folded into it.
    pub fn head(&self) -> Sequence {
        Sequence((self.entries.digest.len() - 1) as u64)
    }

    pub fn batches_of_line(&self, line: VersionId) -> &[Arc<Batch>] {
        let Some(line) = self.lines.get(&line) else { return &[] };
        line.batches.get_or_init(|| {
            line.rows.iter().map(|row| Arc::new(self.batches.get(*row as usize, &self.entries))).collect()
        })
    }

    /// Of one line; `sources` is room for those of one batch.
    pub fn batch_origins(
        &self,
        line: VersionId,
        sources: &mut Vec<Digest>,
        visit: &mut impl FnMut(BatchOrigin<'_>),
    ) {
        let (batches, entries) = (&self.batches, &self.entries);
        for row in self.lines.get(&line).map_or(&[][..], |line| &line.rows) {
            let place = *row as usize;
            sources.clear();
            sources.extend(batches.sources(place, entries).map(|source| source.digest));
            let sequence = batches.sequence.value(place);
            let entry = sequence as usize;
            let released = batches.released.get(&batches.id(place));
            visit(BatchOrigin {
                batch: batches.id(place),
                version: batches.version_of(place).version,
                sequence: Sequence(sequence),
                principal: released.map_or_else(|| entries.principal.value(entry), |by| &by.principal),
                run: match released {
                    Some(by) => by.run.as_deref(),
                    None => entries.run.is_valid(entry).then(|| entries.run.value(entry)),
                },
                sources,
                derivation: batches.derivations.get(row),
            });
        }
    }

    pub fn batch(&self, id: BatchId) -> Option<&Arc<Batch>> {
        let of = |row: u32| self.batches.id(row as usize);
        let by_id = self.by_id.get_or_init(|| {
            let mut rows: Vec<u32> = (0..).take(self.batches.batch.len()).collect();
            // Ids are minted in the order of time, so that this is nearly sorted.
            rows.sort_by_key(|row| of(*row));
            rows
        });
        let row = by_id[by_id.binary_search_by_key(&id, |row| of(*row)).ok()?];
        let line = self.batches.version_of(row as usize).line;
        let place = self.lines.get(&line)?.rows.binary_search(&row).ok()?;
        self.batches_of_line(line).get(place)
    }

    pub fn has_source(&self, line: VersionId, digest: Digest) -> bool {
        let Some(line) = self.lines.get(&line) else { return false };
        let sources = line.sources.get_or_init(|| {
            line.rows
                .iter()
                .flat_map(|row| self.batches.sources(*row as usize, &self.entries))
                .map(|source| source.digest)
                .collect()
        });
        sources.contains(&digest)
    }

    pub fn training_sets(&self) -> &BTreeMap<TrainingSetId, TrainingSet> {
        self.training_sets.get_or_init(|| {
            let sets = TrainingSets::new(self.tables.of(Table::TrainingSets));
            let rows = 0..sets.training_set.len();
            rows.map(|row| sets.get(row, &self.entries)).map(|set| (set.record.training_set, set)).collect()
        })
    }

    pub fn request(&self, key: &str) -> Option<&Request> {
        let requests = self.requests.get_or_init(|| {
            let rows = self.tables.of(Table::Requests);
            let sequence = rows.column(0).as_primitive::<UInt64Type>();
            let (key, digest) = (rows.column(1).as_string::<i32>(), id_column(rows, 2));
            let request = |row| Request {
                digest: Digest::new(self.entries.hash, bytes(&digest, row)),
                sequence: Sequence(sequence.value(row)),
            };
            (0..rows.num_rows()).map(|row| (key.value(row).to_owned(), request(row))).collect()
        });
        requests.get(key)
    }

    pub fn log(&self) -> &[LogLine] {
        self.log.get_or_init(|| (0..self.entries.digest.len()).map(|row| self.entries.line(row)).collect())
    }
}

/// The table of entries; the row of each is its sequence.
#[derive(Debug)]
struct Entries {
    hash: HashAlgorithm,
    committed_at: TimestampMicrosecondArray,
    principal: StringArray,
    program: StringArray,
    run: StringArray,
    experiment: StringArray,
    digest: FixedSizeBinaryArray,
    records: ListArray,
    numbers: UInt32Array,
}

impl Entries {
    fn new(rows: &RecordBatch, hash: HashAlgorithm) -> Result<Self> {
        let sequences = rows.column(0).as_primitive::<UInt64Type>().values();
        if rows.num_rows() == 0 || !sequences.iter().copied().eq(0..rows.num_rows() as u64) {
            return Err("its entries are not the log from its beginning".to_owned());
        }
        let records = rows.column(7).as_list::<i32>().clone();
        let numbers = records.values().as_primitive::<UInt32Type>().clone();
        let unknown = |number: &&u32| Record::name_of(**number).is_none();
        if let Some(number) = numbers.values().iter().find(unknown) {
            return Err(format!("it holds records of number {number}, which this program does not know"));
        }
        Ok(Self {
            hash,
            committed_at: rows.column(1).as_primitive::<TimestampMicrosecondType>().clone(),
            principal: rows.column(2).as_string::<i32>().clone(),
            program: rows.column(3).as_string::<i32>().clone(),
            run: rows.column(4).as_string::<i32>().clone(),
            experiment: rows.column(5).as_string::<i32>().clone(),
            digest: id_column(rows, 6),
            records,
            numbers,
        })
    }

    /// Whether each row of a growing table belongs to an entry, in the order of the log.
    fn check(&self, rows: &RecordBatch, table: Table) -> Result<()> {
        let sequences = rows.column(0).as_primitive::<UInt64Type>().values();
        let last = sequences.last().is_none_or(|last| *last < self.digest.len() as u64);
        if !last || !sequences.is_sorted() {
            return Err(format!("rows of its table `{}` belong to no entry of it", table.name()));
        }
        Ok(())
    }

    fn digest(&self, row: usize) -> Digest {
        Digest::new(self.hash, bytes(&self.digest, row))
    }

    fn by(&self, sequence: u64) -> Arc<Provenance> {
        let row = sequence as usize;
        Arc::new(Provenance {
            sequence: Sequence(sequence),
            committed_at: Timestamp(self.committed_at.value(row)),
            principal: self.principal.value(row).to_owned(),
            program: self.program.value(row).to_owned(),
            run: text(&self.run, row),
            experiment: text(&self.experiment, row),
        })
    }

    fn line(&self, row: usize) -> LogLine {
        let numbers = range(&self.records, row).map(|place| self.numbers.value(place));
        LogLine {
            by: self.by(row as u64),
            digest: self.digest(row),
            records: numbers.filter_map(|number| Some((number, Record::name_of(number)?))).collect(),
        }
    }
}

/// The table of batches.
#[derive(Debug)]
struct Batches {
    sequence: UInt64Array,
    batch: FixedSizeBinaryArray,
    view: FixedSizeBinaryArray,
    rows: UInt64Array,
    rejected: UInt64Array,
    known_at: Vec<KnownAtSource>,
    manifest: Objects,
    digest: FixedSizeBinaryArray,
    quarantine: Objects,
    sources: ListArray,
    source_digest: FixedSizeBinaryArray,
    source_bytes: UInt64Array,
    body: Objects,
    derivations: HashMap<u32, Derivation>,
    profiles: Profiles,
    /// Whose those are that waited in quarantine, and the place and time of their release.
    released: HashMap<BatchId, Arc<Provenance>>,
    /// Of each row, the place of its version in `versions`.
    places: Vec<u32>,
    versions: Vec<VersionOf>,
}

/// The version that a batch was written under.
#[derive(Debug)]
struct VersionOf {
    version: VersionId,
    number: u32,
    line: VersionId,
}

impl Batches {
    fn new(rows: &RecordBatch, definitions: &Definitions, entries: &Entries) -> Result<Self> {
        entries.check(rows, Table::Batches)?;
        let sources = rows.column(10).as_list::<i32>().clone();
        let each = sources.values().as_struct().clone();
        let known_at = rows.column(6).as_string::<i32>().iter().flatten().map(known_at);
        let derivation = rows.column(12).as_string::<i32>();
        let derived = (0..).zip(derivation.iter()).filter_map(|(row, text)| Some((row, text?)));
        let derivations = derived.map(|(row, text): (u32, &str)| Ok((row, serde_json::from_str(text)?)));
        let derivations: std::result::Result<_, serde_json::Error> = derivations.collect();
        let mut places = Vec::with_capacity(rows.num_rows());
        let (mut versions, mut known): (Vec<VersionOf>, HashMap<VersionId, u32>) = Default::default();
        let column = id_column(rows, 3);
        for row in 0..rows.num_rows() {
            let version: VersionId = id(&column, row);
            if let Some(place) = known.get(&version) {
                places.push(*place);
                continue;
            }
            let found = definitions.view_version(version);
            let found =
                found.ok_or_else(|| format!("it has a batch of version {version}, and no such version"))?;
            let place = versions.len() as u32;
            versions.push(VersionOf { version, number: found.number, line: found.line });
            known.insert(version, place);
            places.push(place);
        }
        Ok(Self {
            sequence: rows.column(0).as_primitive::<UInt64Type>().clone(),
            batch: id_column(rows, 1),
            view: id_column(rows, 2),
            rows: rows.column(4).as_primitive::<UInt64Type>().clone(),
            rejected: rows.column(5).as_primitive::<UInt64Type>().clone(),
            known_at: known_at.collect::<Result<_>>()?,
            manifest: Objects::new(rows.column(7).as_struct()),
            digest: id_column(rows, 8),
            quarantine: Objects::new(rows.column(9).as_struct()),
            source_digest: each.column(0).as_fixed_size_binary().clone(),
            source_bytes: each.column(1).as_primitive::<UInt64Type>().clone(),
            sources,
            body: Objects::new(rows.column(11).as_struct()),
            derivations: derivations
                .map_err(|error| format!("it has a derivation that cannot be read: {error}"))?,
            profiles: Profiles::default(),
            released: HashMap::new(),
            places,
            versions,
        })
    }

    fn id(&self, row: usize) -> BatchId {
        id(&self.batch, row)
    }

    fn version_of(&self, row: usize) -> &VersionOf {
        &self.versions[self.places[row] as usize]
    }

    fn sources(&self, row: usize, entries: &Entries) -> impl Iterator<Item = SourceFile> + use<'_> {
        let hash = entries.hash;
        range(&self.sources, row).map(move |place| SourceFile {
            digest: Digest::new(hash, bytes(&self.source_digest, place)),
            bytes: self.source_bytes.value(place),
        })
    }

    fn get(&self, row: usize, entries: &Entries) -> Batch {
        let hash = entries.hash;
        let VersionOf { version, number, line } = self.version_of(row);
        let record = BatchCommitted {
            batch: self.id(row),
            view: id(&self.view, row),
            version: *version,
            rows: self.rows.value(row),
            rejected: self.rejected.value(row),
            known_at: self.known_at[row],
            manifest: self.manifest.get(row, hash),
            digest: Digest::new(hash, bytes(&self.digest, row)),
            quarantine: self.quarantine.find(row, hash),
            sources: self.sources(row, entries).collect(),
            body: self.body.find(row, hash),
            derivation: u32::try_from(row).ok().and_then(|row| self.derivations.get(&row)).cloned(),
            profile: self.profiles.object(self.id(row), hash),
            judged: self.profiles.judged(self.id(row)),
        };
        let released = self.released.get(&record.batch).cloned();
        let by = released.unwrap_or_else(|| entries.by(self.sequence.value(row)));
        Batch { record, line: *line, number: *number, by }
    }
}

/// The table of profiles.
#[derive(Debug, Default)]
struct Profiles {
    /// The row of each batch.
    rows: HashMap<BatchId, usize>,
    profile: Option<Objects>,
    /// Those that were judged, by row.
    judged: HashMap<usize, Judged>,
}

impl Profiles {
    fn new(rows: &RecordBatch, entries: &Entries) -> Result<Self> {
        entries.check(rows, Table::Profiles)?;
        let (batch, judged) = (id_column(rows, 1), rows.column(3).as_string::<i32>());
        let read = |(row, text): (usize, Option<&str>)| {
            Some(text.map(|text| Ok((row, serde_json::from_str(text)?))))
        };
        let judged: serde_json::Result<_> = judged.iter().enumerate().filter_map(read).flatten().collect();
        Ok(Self {
            rows: (0..rows.num_rows()).map(|row| (id(&batch, row), row)).collect(),
            profile: Some(Objects::new(rows.column(2).as_struct())),
            judged: judged.map_err(|error| format!("it has a verdict that cannot be read: {error}"))?,
        })
    }

    fn object(&self, batch: BatchId, hash: HashAlgorithm) -> Option<Object> {
        self.profile.as_ref()?.find(*self.rows.get(&batch)?, hash)
    }

    fn judged(&self, batch: BatchId) -> Option<Judged> {
        self.judged.get(self.rows.get(&batch)?).cloned()
    }
}

/// The table of training sets.
struct TrainingSets {
    sequence: UInt64Array,
    training_set: FixedSizeBinaryArray,
    snapshot: UInt64Array,
    rows: UInt64Array,
    columns: UInt32Array,
    digest: StringArray,
    manifest: Objects,
    name: StringArray,
    selected: ListArray,
    version: FixedSizeBinaryArray,
    features: ListArray,
    feature: StringArray,
    hits: ListArray,
    hit_batch: FixedSizeBinaryArray,
    hit_rows: UInt64Array,
}

impl TrainingSets {
    fn new(rows: &RecordBatch) -> Self {
        let selected = rows.column(8).as_list::<i32>().clone();
        let each = selected.values().as_struct();
        let (features, hits) = (each.column(1).as_list::<i32>(), each.column(2).as_list::<i32>());
        let hit = hits.values().as_struct();
        Self {
            sequence: rows.column(0).as_primitive::<UInt64Type>().clone(),
            training_set: id_column(rows, 1),
            snapshot: rows.column(2).as_primitive::<UInt64Type>().clone(),
            rows: rows.column(3).as_primitive::<UInt64Type>().clone(),
            columns: rows.column(4).as_primitive::<UInt32Type>().clone(),
            digest: rows.column(5).as_string::<i32>().clone(),
            manifest: Objects::new(rows.column(6).as_struct()),
            name: rows.column(7).as_string::<i32>().clone(),
            version: each.column(0).as_fixed_size_binary().clone(),
            features: features.clone(),
            feature: features.values().as_string::<i32>().clone(),
            hits: hits.clone(),
            hit_batch: hit.column(0).as_fixed_size_binary().clone(),
            hit_rows: hit.column(1).as_primitive::<UInt64Type>().clone(),
            selected,
        }
    }

    fn get(&self, row: usize, entries: &Entries) -> TrainingSet {
        let said = self.selected.is_valid(row);
        let selected = said.then(|| range(&self.selected, row).map(|place| self.selected(place)).collect());
        let record = TrainingSetRecorded {
            training_set: id(&self.training_set, row),
            sequence: Sequence(self.snapshot.value(row)),
            rows: self.rows.value(row),
            columns: self.columns.value(row),
            digest: self.digest.value(row).to_owned(),
            manifest: self.manifest.get(row, entries.hash),
            name: text(&self.name, row),
            selected,
        };
        TrainingSet { record, by: entries.by(self.sequence.value(row)) }
    }

    fn selected(&self, place: usize) -> Selected {
        let hit = |place| BatchHit { batch: id(&self.hit_batch, place), rows: self.hit_rows.value(place) };
        Selected {
            version: id(&self.version, place),
            features: range(&self.features, place)
                .map(|place| self.feature.value(place).to_owned())
                .collect(),
            hits: range(&self.hits, place).map(hit).collect(),
        }
    }
}

/// A column of objects.
#[derive(Debug)]
struct Objects {
    column: StructArray,
    path: StringArray,
    bytes: UInt64Array,
    digest: FixedSizeBinaryArray,
}

impl Objects {
    fn new(column: &StructArray) -> Self {
        Self {
            path: column.column(0).as_string::<i32>().clone(),
            bytes: column.column(1).as_primitive::<UInt64Type>().clone(),
            digest: column.column(2).as_fixed_size_binary().clone(),
            column: column.clone(),
        }
    }

    fn get(&self, row: usize, hash: HashAlgorithm) -> Object {
        Object {
            path: self.path.value(row).to_owned(),
            bytes: self.bytes.value(row),
            digest: Digest::new(hash, bytes(&self.digest, row)),
        }
    }

    fn find(&self, row: usize, hash: HashAlgorithm) -> Option<Object> {
        self.column.is_valid(row).then(|| self.get(row, hash))
    }
}

/// What the records tell that have no table of their own.
#[derive(Default)]
struct Told {
    registry: Registry,
    refused: Vec<RefusedBatch>,
    verifications: Vec<Verification>,
    reads: Vec<RecordedReads>,
    withdrawals: Withdrawals,
    policies: PolicyHistory,
    /// Records of withdrawals, until they are in order.
    withdrawn: Vec<(Record, Arc<Provenance>)>,
    compacted: Vec<(Compacted, Arc<Provenance>)>,
    producers: Producers,
    sweeps: Sweeps,
    holds: Holds,
    /// Records of quarantine, those of a batch in their order.
    kept: Vec<(Record, Arc<Provenance>)>,
}

impl Told {
    fn read(rows: &RecordBatch, entries: &Entries) -> Result<Self> {
        entries.check(rows, Table::Records)?;
        let sequence = rows.column(0).as_primitive::<UInt64Type>().values();
        let number = rows.column(1).as_primitive::<UInt32Type>().values();
        let body = rows.column(2).as_string::<i32>();
        let mut told = Self::default();
        let mut order: Vec<usize> = (0..rows.num_rows()).collect();
        // A link before what it links: within a kind the order of the log, among kinds that of their numbers.
        order.sort_by_key(|row| number[*row]);
        let mut last: Option<Arc<Provenance>> = None;
        for row in order {
            let by = match &last {
                Some(last) if last.sequence.0 == sequence[row] => last.clone(),
                _ => entries.by(sequence[row]),
            };
            last = Some(by.clone());
            let wrong =
                |why: String| format!("it has a record of entry {} that cannot be: {why}", by.sequence);
            let record = serde_json::from_str(body.value(row)).map_err(|error| wrong(error.to_string()))?;
            let record = Record::decode(number[row], &record).map_err(|error| wrong(error.to_string()))?;
            told.take(record, &by).map_err(wrong)?;
        }
        // A thing may be withdrawn and restored in turn: kinds of record that have one order.
        told.withdrawn.sort_by_key(|(_, by)| by.sequence);
        for (record, by) in std::mem::take(&mut told.withdrawn) {
            told.withdrawals.take(&record, &by).map_err(|error| error.to_string())?;
        }
        Ok(told)
    }

    fn take(&mut self, record: Record, by: &Arc<Provenance>) -> Result<()> {
        let registry = &mut self.registry;
        let taken = match record {
            Record::BatchRefused(record) => {
                self.refused.push(RefusedBatch { record, by: by.clone() });
                Ok(())
            }
            Record::ReadsRecorded(record) => {
                self.reads.push(RecordedReads { record, by: by.clone() });
                Ok(())
            }
            Record::Verified(record) => {
                self.verifications.push(Verification { record, by: by.clone() });
                Ok(())
            }
            Record::Compacted(record) => {
                self.compacted.push((record, by.clone()));
                Ok(())
            }
            Record::StreamPartsCommitted(record) => return self.producers.take(&record, by),
            Record::Swept(record) => self.sweeps.recorded(record, by),
            Record::RetentionSet(record) => self.sweeps.set(&record, by),
            Record::HoldPlaced(record) => self.holds.place(&record, by),
            Record::HoldLifted(record) => self.holds.lift(&record, by),
            Record::AuthorityAliased(body) => {
                registry.alias_authority(&body, by);
                Ok(())
            }
            Record::Reconciled(body) => {
                registry.reconciled(&body, by);
                Ok(())
            }
            Record::PoliciesApplied(body) => self.policies.take(&body, by),
            Record::ExternalLinked(body) => registry.link(&body, by),
            Record::ExperimentObserved(body) => registry.see_experiment(&body, by),
            Record::RunObserved(body) => registry.see_run(&body, by),
            Record::ModelObserved(body) => registry.see_model(&body, by),
            Record::ModelVersionObserved(body) => registry.see_model_version(&body, by),
            Record::AliasObserved(body) => registry.see_alias(&body, by),
            Record::DeploymentChanged(body) => registry.deploy(&body, by),
            Record::UseRecorded(body) => registry.record_use(&body, by),
            Record::DeploymentMeasured(body) => registry.measure(&body, by),
            record @ (Record::BatchWithdrawn(_)
            | Record::BatchRestored(_)
            | Record::VersionWithdrawn(_)
            | Record::VersionRestored(_)) => {
                self.withdrawn.push((record, by.clone()));
                Ok(())
            }
            record @ (Record::BatchQuarantined(_) | Record::BatchReleased(_) | Record::BatchDropped(_)) => {
                self.kept.push((record, by.clone()));
                Ok(())
            }
            Record::StoreCreated(_)
            | Record::EntityDefined(_)
            | Record::ViewVersionDefined(_)
            | Record::ServiceDefined(_)
            | Record::Described(_)
            | Record::BatchCommitted(_)
            | Record::TrainingSetRecorded(_) => {
                return Err(format!("{} has a table of its own", record.name()));
            }
        };
        taken.map_err(|error| error.to_string())
    }
}

fn take_kept(
    quarantine: &mut Quarantine,
    record: &Record,
    by: &Arc<Provenance>,
    definitions: &Definitions,
) -> Result<()> {
    let ended = match record {
        Record::BatchQuarantined(kept) => {
            let record = kept.batch.clone();
            let version = definitions.view_version(record.version);
            let version = version.ok_or_else(|| {
                format!("it keeps back a batch of version {}, which it lacks", record.version)
            })?;
            let batch = Batch { record, line: version.line, number: version.number, by: by.clone() };
            quarantine.keep(Arc::new(batch));
            return Ok(());
        }
        Record::BatchReleased(end) => quarantine.end(end.batch, true, &end.reason, by),
        Record::BatchDropped(end) => quarantine.end(end.batch, false, &end.reason, by),
        _ => return Ok(()),
    };
    ended.map(|_| ()).map_err(|error| error.to_string())
}

fn definitions(rows: &RecordBatch, entries: &Entries) -> Result<Definitions> {
    let sequence = rows.column(0).as_primitive::<UInt64Type>().values();
    let (of, version) = (id_column(rows, 2), id_column(rows, 3));
    let number = rows.column(4).as_primitive::<UInt32Type>().values();
    let (line, entity) = (id_column(rows, 5), rows.column(6).as_string::<i32>());
    let (digest, definition) = (rows.column(7).as_string::<i32>(), rows.column(8).as_string::<i32>());
    let mut all = Definitions::default();
    // Most views of a store share few entities.
    let mut entities: HashMap<&str, Arc<Entity>> = HashMap::new();
    let mut last: Option<Arc<Provenance>> = None;
    for row in 0..rows.num_rows() {
        if sequence[row] >= entries.digest.len() as u64 {
            return Err("it has a definition that belongs to no entry of it".to_owned());
        }
        let by = match &last {
            Some(last) if last.sequence.0 == sequence[row] => last.clone(),
            _ => entries.by(sequence[row]),
        };
        last = Some(by.clone());
        let (version, number, digest) = (id(&version, row), number[row], digest.value(row).to_owned());
        let text = definition.value(row);
        let found = read(text)?;
        let name = (found.project().clone(), found.name().clone());
        let twice = |versions: usize| {
            let wrong = number as usize != versions + 1;
            wrong.then(|| format!("it has version {number} of `{}` after {versions} others", name.1))
        };
        match found {
            Definition::Entity(found) => {
                let versions = all.entities.entry(name.clone()).or_default();
                twice(versions.len()).map_or(Ok(()), Err)?;
                let (entity, definition) = (id(&of, row), Arc::new(found));
                entities.entry(text).or_insert_with(|| definition.clone());
                versions.push(EntityVersion { entity, version, number, digest, definition, by });
            }
            Definition::FeatureView(found) => {
                if !line.is_valid(row) || !entity.is_valid(row) {
                    return Err(format!("the view `{}` lacks its line or entity", name.1));
                }
                let text = entity.value(row);
                let entity = match entities.get(text) {
                    Some(entity) => entity.clone(),
                    None => match read(text)? {
                        Definition::Entity(entity) => {
                            entities.entry(text).or_insert(Arc::new(entity)).clone()
                        }
                        other => {
                            return Err(format!(
                                "the view `{}` has a {} for an entity",
                                name.1,
                                other.kind()
                            ));
                        }
                    },
                };
                let versions = all.views.entry(name.clone()).or_default();
                twice(versions.len()).map_or(Ok(()), Err)?;
                all.versions.insert(version, (name.clone(), versions.len()));
                all.order.push(version);
                let (view, line, definition) = (id(&of, row), id(&line, row), Arc::new(found));
                versions.push(ViewVersion { view, version, number, line, digest, definition, entity, by });
            }
            Definition::FeatureService(found) => {
                let versions = all.services.entry(name.clone()).or_default();
                twice(versions.len()).map_or(Ok(()), Err)?;
                let (service, definition) = (id(&of, row), Arc::new(found));
                versions.push(ServiceVersion { service, version, number, digest, definition, by });
            }
        }
    }
    Ok(all)
}

fn read(definition: &str) -> Result<Definition> {
    let unreadable = |why: String| format!("it has a definition that this program cannot read: {why}");
    let json = serde_json::from_str(definition).map_err(|error| unreadable(error.to_string()))?;
    Definition::from_json(&json).map_err(|error| unreadable(error.to_string()))
}

fn known_at(text: &str) -> Result<KnownAtSource> {
    let every = [KnownAtSource::Column, KnownAtSource::Delay, KnownAtSource::Arrival, KnownAtSource::Assumed];
    let found = every.into_iter().find(|source| known_at_text(*source) == text);
    found.ok_or_else(|| format!("it has the source `{text}` of known_at, which this program does not know"))
}

fn id_column(rows: &RecordBatch, column: usize) -> FixedSizeBinaryArray {
    rows.column(column).as_fixed_size_binary().clone()
}

/// The type of the column says how many bytes there are.
fn bytes<const N: usize>(array: &FixedSizeBinaryArray, row: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(array.value(row));
    bytes
}

fn id<I: From<Uuid>>(array: &FixedSizeBinaryArray, row: usize) -> I {
    I::from(Uuid::from_bytes(bytes(array, row)))
}

fn text(array: &StringArray, row: usize) -> Option<String> {
    array.is_valid(row).then(|| array.value(row).to_owned())
}

/// The places of a row's elements; Arrow's offsets are never negative.
fn range(list: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = list.offsets();
    offsets[row] as usize..offsets[row + 1] as usize
}
