//! The entries of a checkpoint. Who wrote each and when is held, for nearly everything is asked for with it; the rest is read when the log
//! is shown.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType, UInt32Type, UInt64Type};
use feature::digest::{Digest, HashAlgorithm};
use feature::{Sequence, Timestamp};

use super::Result;
use super::columns::{bytes, id_column, range};
use crate::checkpoint::table_file::TableFile;
use crate::records::Record;
use crate::state::{Head, LogLine, Provenance};

const TEXTS: [&str; 4] = ["principal", "program", "run", "experiment"];

/// The table of entries; the row of each is its sequence.
#[derive(Debug)]
pub(super) struct Entries {
    pub hash: HashAlgorithm,
    pub head: Head,
    files: Vec<TableFile>,
    stretches: Vec<Stretch>,
}

/// Entries that stand one after the other.
#[derive(Debug)]
struct Stretch {
    first: u64,
    committed_at: TimestampMicrosecondArray,
    principal: Texts,
    program: Texts,
    run: Texts,
    experiment: Texts,
}

/// A column of texts, each of which is held once.
#[derive(Debug)]
struct Texts {
    keys: Int32Array,
    values: StringArray,
}

impl Texts {
    fn of(rows: &RecordBatch, column: usize) -> Self {
        let column = rows.column(column).as_dictionary::<Int32Type>();
        Self { keys: column.keys().clone(), values: column.values().as_string::<i32>().clone() }
    }

    fn get(&self, row: usize) -> Option<&str> {
        let key = self.keys.is_valid(row).then(|| self.keys.value(row))?;
        Some(self.values.value(key as usize))
    }

    fn text(&self, row: usize) -> Option<String> {
        self.get(row).map(str::to_owned)
    }
}

impl Entries {
    /// # Errors
    /// Where they are not the log from its beginning, or hold a record that this program does not know.
    pub fn new(files: Vec<TableFile>, hash: HashAlgorithm) -> Result<Self> {
        let (mut stretches, mut next) = (Vec::new(), 0);
        for file in &files {
            for rows in file.groups() {
                let columns =
                    ["sequence", "committed_at", "principal", "program", "run", "experiment", "records"];
                let rows = file.read_with_dictionaries(&columns, &TEXTS, rows)?;
                let sequences = rows.column(0).as_primitive::<UInt64Type>().values();
                let last = next + rows.num_rows() as u64;
                if !sequences.iter().copied().eq(next..last) {
                    return Err("its entries are not the log from its beginning".to_owned());
                }
                let numbers = rows.column(6).as_list::<i32>().values().as_primitive::<UInt32Type>();
                let unknown = |number: &&u32| Record::name_of(**number).is_none();
                if let Some(number) = numbers.values().iter().find(unknown) {
                    return Err(format!(
                        "it holds records of number {number}, which this program does not know"
                    ));
                }
                stretches.push(Stretch {
                    first: next,
                    committed_at: rows.column(1).as_primitive::<TimestampMicrosecondType>().clone(),
                    principal: Texts::of(&rows, 2),
                    program: Texts::of(&rows, 3),
                    run: Texts::of(&rows, 4),
                    experiment: Texts::of(&rows, 5),
                });
                next = last;
            }
        }
        let (Some(file), Some(stretch)) = (files.last(), stretches.last()) else {
            return Err("it has no entries".to_owned());
        };
        let last = stretch.committed_at.len() - 1;
        let digest = file.read(&["digest"], file.rows - 1..file.rows)?;
        let head = Head {
            sequence: Sequence(next - 1),
            digest: Digest::new(hash, bytes(&id_column(&digest, 0), 0)),
            committed_at: Timestamp(stretch.committed_at.value(last)),
        };
        Ok(Self { hash, head, files, stretches })
    }

    pub fn files(&self) -> &[TableFile] {
        &self.files
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.head.sequence.0 + 1
    }

    /// Whether each row of a growing table belongs to an entry of its file's range, in the order of the log.
    ///
    /// # Errors
    /// Where one does not.
    pub fn check(&self, file: &TableFile, sequences: &[u64]) -> Result<()> {
        let (from, until) = (file.from.0, file.until.0.min(self.head.sequence.0));
        let within = sequences.first().is_none_or(|first| *first >= from)
            && sequences.last().is_none_or(|last| *last <= until);
        if within && sequences.is_sorted() { Ok(()) } else { Err(file.of_no_entry()) }
    }

    fn at(&self, sequence: u64) -> (&Stretch, usize) {
        let after = self.stretches.partition_point(|stretch| stretch.first <= sequence);
        // The first begins with entry 0.
        let stretch = &self.stretches[after.saturating_sub(1)];
        (stretch, (sequence - stretch.first) as usize)
    }

    pub fn principal(&self, sequence: u64) -> &str {
        let (stretch, row) = self.at(sequence);
        stretch.principal.get(row).unwrap_or_default()
    }

    pub fn run(&self, sequence: u64) -> Option<&str> {
        let (stretch, row) = self.at(sequence);
        stretch.run.get(row)
    }

    pub fn experiment(&self, sequence: u64) -> Option<&str> {
        let (stretch, row) = self.at(sequence);
        stretch.experiment.get(row)
    }

    pub fn committed_at(&self, sequence: u64) -> Timestamp {
        let (stretch, row) = self.at(sequence);
        Timestamp(stretch.committed_at.value(row))
    }

    pub fn by(&self, sequence: u64) -> Arc<Provenance> {
        let (stretch, row) = self.at(sequence);
        Arc::new(Provenance {
            sequence: Sequence(sequence),
            committed_at: Timestamp(stretch.committed_at.value(row)),
            principal: stretch.principal.text(row).unwrap_or_default(),
            program: stretch.program.text(row).unwrap_or_default(),
            run: stretch.run.text(row),
            experiment: stretch.experiment.text(row),
        })
    }

    /// All lines of the log.
    ///
    /// # Errors
    /// Where a file cannot be read any more.
    pub fn lines(&self) -> Result<Vec<LogLine>> {
        let mut lines = Vec::new();
        for file in &self.files {
            let rows = file.read(&["digest", "records"], 0..file.rows)?;
            let (digest, records) = (id_column(&rows, 0), rows.column(1).as_list::<i32>());
            let numbers = records.values().as_primitive::<UInt32Type>();
            for row in 0..rows.num_rows() {
                let numbers = range(records, row).map(|place| numbers.value(place));
                lines.push(LogLine {
                    by: self.by(lines.len() as u64),
                    digest: Digest::new(self.hash, bytes(&digest, row)),
                    records: numbers.filter_map(|number| Some((number, Record::name_of(number)?))).collect(),
                });
            }
        }
        Ok(lines)
    }
}
