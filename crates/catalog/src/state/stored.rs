//! The part of a state that lies in the files of a checkpoint. Batches, training sets, requests and lines of
//! the log become values when they are asked for, each once; what they need for that was checked when the
//! files were opened.

mod batches;
mod columns;
mod entries;
mod lines;
mod training_sets;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{UInt32Type, UInt64Type};
use feature::definition::{Definition, Entity};
use feature::digest::{Digest, HashAlgorithm};
use feature::{BatchId, Sequence, StoreId, TrainingSetId, VersionId};

use self::batches::Known;
use self::columns::{bytes, id, id_column};
use self::entries::Entries;
use self::lines::{Lines, Origins};
use self::training_sets::TrainingSets;
use super::alerts::Alerts;
use super::changes::Changes;
use super::compactions::Compactions;
use super::deprecations::Deprecations;
use super::erasures::Erasures;
use super::expiry::Expiry;
use super::holds::Holds;
use super::mended::Mended;
use super::producers::Producers;
use super::quarantine::Quarantine;
use super::registry::Registry;
use super::samples::Samples;
use super::sweeps::Sweeps;
use super::tables::{Table, Tables, known_at_text};
use super::unread::passed_over;
use super::{
    Batch, CountedBatch, Definitions, EntityVersion, LogLine, PolicyHistory, Provenance, RecordedReads,
    RefusedBatch, Request, ServiceVersion, Spines, State, TrainingSet, Verification, ViewVersion, Which,
    Withdrawals,
};
use crate::checkpoint::table_file::{self, TableFile};
use crate::checkpoint::{by_line, rows_of};
use crate::records::{Compacted, KnownAtSource, Record};

/// Why files are not those of a state.
type Result<T, E = String> = std::result::Result<T, E>;

/// What was proved when the store was opened cannot be read any more. Nothing that could be answered now would be right.
fn lost(why: &str) -> ! {
    panic!(
        "the checkpoint that the store was opened from was changed on the disk since: {why}; open the store again"
    )
}

/// The tables of a checkpoint without the batches: growing ones in their files, in the order of the log, the others as rows.
struct Files {
    entries: Vec<TableFile>,
    training_sets: Vec<TableFile>,
    requests: Vec<TableFile>,
    records: RecordBatch,
    definitions: RecordBatch,
    refused_sources: RecordBatch,
}

impl Files {
    /// From all files, those of a table in the order of the log.
    ///
    /// # Errors
    /// Where one that is read whole cannot be.
    fn of(files: Vec<(Table, TableFile)>) -> Result<Self> {
        let mut growing: HashMap<&'static str, Vec<TableFile>> = HashMap::new();
        for (table, file) in files {
            growing.entry(table.name()).or_default().push(file);
        }
        let mut taken = |table: Table| growing.remove(table.name()).unwrap_or_default();
        let whole = |table: Table, files: Vec<TableFile>| -> Result<RecordBatch> {
            let rows = files.iter().map(TableFile::all).collect::<Result<Vec<_>>>()?;
            concat_batches(&table.schema(), &rows).map_err(|error| error.to_string())
        };
        let (records, definitions) = (taken(Table::Records), taken(Table::Definitions));
        let refused = taken(Table::RefusedSources);
        Ok(Self {
            entries: taken(Table::Entries),
            training_sets: taken(Table::TrainingSets),
            requests: taken(Table::Requests),
            records: whole(Table::Records, records)?,
            definitions: whole(Table::Definitions, definitions)?,
            refused_sources: whole(Table::RefusedSources, refused)?,
        })
    }
}

impl State {
    /// The state that these tables hold, with their rows in memory as files; `tables_after(None)` gives them back.
    ///
    /// # Errors
    /// Where they contradict themselves, or hold what this program does not know.
    pub(crate) fn from_tables(store: StoreId, hash: HashAlgorithm, tables: &Tables) -> Result<Self> {
        let lines = lines_of(tables.of(Table::Definitions));
        let sequences = tables.of(Table::Entries).column(0).as_primitive::<UInt64Type>().values();
        let range = (Sequence::ZERO, Sequence(sequences.last().copied().unwrap_or_default()));
        let mut files = Vec::new();
        for table in Table::GROWING.into_iter().chain(Table::WHOLE).filter(|table| table.has_file()) {
            let rows = if Table::WHOLE.contains(&table) || table == Table::Records {
                tables.of(table).clone()
            } else {
                rows_of(table, tables, range, &|version| lines.get(&version).copied())?
            };
            if rows.num_rows() > 0 {
                let bytes = table_file::encode(table, &rows).map_err(|error| error.to_string())?;
                files.push((table, TableFile::of(table, range, rows.num_rows() as u64, bytes)?));
            }
        }
        let (batches, others) = files.into_iter().partition(|(table, _)| *table == Table::Batches);
        AllButBatches::of(hash, others)?.with_batches(store, batches)
    }
}

/// What a checkpoint holds beside its batches.
pub(crate) struct AllButBatches {
    entries: Entries,
    training_sets: Vec<TableFile>,
    requests: Vec<TableFile>,
    definitions: Definitions,
    told: Told,
    compactions: Compactions,
    quarantine: Quarantine,
}

impl AllButBatches {
    /// From all files but those of batches, those of a table in the order of the log.
    ///
    /// # Errors
    /// Where they contradict themselves, or hold what this program does not know.
    pub fn of(hash: HashAlgorithm, files: Vec<(Table, TableFile)>) -> Result<Self> {
        let Files { entries, training_sets, requests, records, definitions: rows, refused_sources } =
            Files::of(files)?;
        // Nearly all of the time that this takes, by halves.
        let (entries, found) = std::thread::scope(|scope| {
            let read = scope.spawn(|| read_all(&rows));
            (Entries::new(entries, hash), read.join())
        });
        let entries = entries?;
        let found = found.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let mut definitions = definitions(&rows, found, &entries)?;
        let (version, digest) = (id_column(&refused_sources, 0), id_column(&refused_sources, 1));
        definitions.refused_sources = (0..refused_sources.num_rows())
            .map(|row| (id(&version, row), Digest::new(hash, bytes(&digest, row))))
            .collect();
        let told = Told::read(&records, &entries)?;
        let mut compactions = Compactions::default();
        for (record, by) in &told.compacted {
            let version = definitions.view_version(record.version);
            let line = version
                .ok_or_else(|| format!("it compacts version {}, which it lacks", record.version))?
                .line;
            compactions.take(record, line, by)?;
        }
        let mut quarantine = Quarantine::default();
        for (record, by) in &told.kept {
            take_kept(&mut quarantine, record, by, &definitions)?;
        }
        Ok(Self { entries, training_sets, requests, definitions, told, compactions, quarantine })
    }

    /// The state, with the files of the batches in the order of the log.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn with_batches(self, store: StoreId, batches: Vec<(Table, TableFile)>) -> Result<State> {
        let Self { entries, training_sets, requests, definitions, told, compactions, quarantine } = self;
        let known = Known::new(&definitions, &quarantine);
        let (head, hash) = (entries.head.clone(), entries.hash);
        let batches = batches.into_iter().map(|(_, file)| file).collect();
        let batches = Lines::new(batches, &entries, known)?;
        let stored = Stored::new(entries, batches, training_sets, requests)?;
        Ok(State {
            stored: Some(Arc::new(stored)),
            definitions: Arc::new(definitions),
            registry: Arc::new(told.registry),
            refused: Arc::new(told.refused),
            verifications: Arc::new(told.verifications),
            reads: Arc::new(told.reads),
            withdrawals: Arc::new(told.withdrawals),
            quarantine: Arc::new(quarantine),
            policies: Arc::new(told.policies),
            samples: Arc::new(told.samples),
            mended: Arc::new(told.mended),
            deprecations: Arc::new(told.deprecations),
            changes: Arc::new(told.changes),
            alerts: Arc::new(told.alerts),
            compactions: Arc::new(compactions),
            producers: told.producers,
            sweeps: Arc::new(told.sweeps),
            holds: Arc::new(told.holds),
            expiry: Arc::new(told.expiry),
            erasures: Arc::new(told.erasures),
            spines: Arc::new(told.spines),
            ..State::bare(store, hash, head)
        })
    }
}

#[derive(Debug)]
pub(super) struct Stored {
    entries: Entries,
    batches: Lines,
    training_sets: Vec<TableFile>,
    requests: Vec<TableFile>,
    sets: OnceLock<BTreeMap<TrainingSetId, TrainingSet>>,
    /// What their keys hash to, with the file and the row of each.
    keys: OnceLock<Vec<(u64, usize, usize)>>,
    log: OnceLock<Vec<LogLine>>,
}

impl Stored {
    fn new(
        entries: Entries,
        batches: Lines,
        training_sets: Vec<TableFile>,
        requests: Vec<TableFile>,
    ) -> Result<Self> {
        for file in training_sets.iter().chain(&requests) {
            let rows = file.read(&["sequence"], 0..file.rows)?;
            entries.check(file, rows.column(0).as_primitive::<UInt64Type>().values())?;
        }
        let (sets, keys, log) = Default::default();
        Ok(Self { entries, batches, training_sets, requests, sets, keys, log })
    }

    /// The rows of growing tables, but of `records`, from an entry on, and some before it; the others are empty.
    ///
    /// # Errors
    /// Where a file cannot be read any more.
    pub fn growing_from(&self, from: Sequence) -> Result<Tables> {
        let read = |table: Table, files: &[TableFile]| -> Result<RecordBatch> {
            let wanted = files.iter().filter(|file| file.until >= from);
            let rows = wanted.map(TableFile::all).collect::<Result<Vec<_>>>()?;
            concat_batches(&table.schema(), &rows).map_err(|error| error.to_string())
        };
        let mut tables = Tables::empty();
        tables.set(Table::Entries, read(Table::Entries, self.entries.files())?);
        tables.set(Table::TrainingSets, read(Table::TrainingSets, &self.training_sets)?);
        tables.set(Table::Requests, read(Table::Requests, &self.requests)?);
        let (mut batches, mut profiles) = (Vec::new(), Vec::new());
        for file in self.batches.files().iter().filter(|file| file.until >= from) {
            let (of_file, profiles_of_file) = by_line::in_order(&file.all()?)?;
            batches.push(of_file);
            profiles.push(profiles_of_file);
        }
        for (table, rows) in [(Table::Batches, batches), (Table::Profiles, profiles)] {
            tables.set(table, concat_batches(&table.schema(), &rows).map_err(|error| error.to_string())?);
        }
        Ok(tables)
    }

    /// The last entry that was folded into it.
    pub fn head(&self) -> Sequence {
        self.entries.head.sequence
    }

    pub fn batches_of_line(&self, line: VersionId) -> &[Arc<Batch>] {
        self.batches.batches_of(line, &self.entries)
    }

    /// For who goes through all batches: reads them at once.
    pub fn read_all(&self) {
        self.batches.read_all(&self.entries);
    }

    /// What is counted of batches, read for this alone.
    pub fn count(&self, which: Which<'_>, visit: &mut dyn FnMut(CountedBatch<'_>)) {
        self.batches.count(which, &self.entries, visit).unwrap_or_else(|why| lost(&why));
    }

    /// Where batches came from.
    pub fn origins(&self) -> Origins<'_> {
        self.batches.origins(&self.entries)
    }

    pub fn batch(&self, id: BatchId) -> Option<&Arc<Batch>> {
        self.batches.batch(id, &self.entries)
    }

    pub fn has_source(&self, line: VersionId, digest: Digest) -> bool {
        self.batches.has_source(line, digest, &self.entries)
    }

    pub fn training_sets(&self) -> &BTreeMap<TrainingSetId, TrainingSet> {
        self.sets.get_or_init(|| {
            let mut found = BTreeMap::new();
            for file in &self.training_sets {
                let sets = TrainingSets::new(&file.all().unwrap_or_else(|why| lost(&why)));
                let rows = 0..sets.training_set.len();
                let sets = rows.map(|row| sets.get(row, &self.entries));
                found.extend(sets.map(|set| (set.record.training_set, set)));
            }
            found
        })
    }

    pub fn request(&self, key: &str) -> Option<Request> {
        let keys = self.keys.get_or_init(|| self.hashed_keys().unwrap_or_else(|why| lost(&why)));
        let hashed = hashed(key);
        let from = keys.partition_point(|(of, ..)| *of < hashed);
        let alike = keys.get(from..).unwrap_or_default().iter().take_while(|(of, ..)| *of == hashed);
        alike.into_iter().find_map(|(_, file, row)| {
            let rows = self.requests[*file].read(&[], *row..*row + 1).unwrap_or_else(|why| lost(&why));
            let is_it = rows.column(1).as_string::<i32>().value(0) == key;
            is_it.then(|| Request {
                sequence: Sequence(rows.column(0).as_primitive::<UInt64Type>().value(0)),
                digest: Digest::new(self.entries.hash, bytes(&id_column(&rows, 2), 0)),
            })
        })
    }

    fn hashed_keys(&self) -> Result<Vec<(u64, usize, usize)>> {
        let mut found = Vec::new();
        for (place, file) in self.requests.iter().enumerate() {
            let rows = file.read(&["key"], 0..file.rows)?;
            let keys = rows.column(0).as_string::<i32>();
            found.extend((0..keys.len()).map(|row| (hashed(keys.value(row)), place, row)));
        }
        found.sort_unstable();
        Ok(found)
    }

    pub fn log(&self) -> &[LogLine] {
        self.log.get_or_init(|| self.entries.lines().unwrap_or_else(|why| lost(&why)))
    }
}

fn hashed(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// The line of each version of a feature view.
fn lines_of(definitions: &RecordBatch) -> HashMap<VersionId, VersionId> {
    let (version, line) = (id_column(definitions, 3), id_column(definitions, 5));
    let views = (0..definitions.num_rows()).filter(|row| line.is_valid(*row));
    views.map(|row| (id(&version, row), id(&line, row))).collect()
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
    samples: Samples,
    mended: Mended,
    deprecations: Deprecations,
    changes: Changes,
    /// Records of several kinds that have one order, until they are in it.
    ordered: Vec<(Record, Arc<Provenance>)>,
    alerts: Alerts,
    /// Records of withdrawals, until they are in order.
    withdrawn: Vec<(Record, Arc<Provenance>)>,
    compacted: Vec<(Compacted, Arc<Provenance>)>,
    producers: Producers,
    sweeps: Sweeps,
    holds: Holds,
    expiry: Expiry,
    erasures: Erasures,
    spines: Spines,
    /// Records of spines, until they are in order.
    put_up: Vec<(Record, Arc<Provenance>)>,
    /// Records of quarantine, those of a batch in their order.
    kept: Vec<(Record, Arc<Provenance>)>,
}

impl Told {
    fn read(rows: &RecordBatch, entries: &Entries) -> Result<Self> {
        let sequence = rows.column(0).as_primitive::<UInt64Type>().values();
        let last = sequence.last().is_none_or(|last| *last < entries.count());
        if !last || !sequence.is_sorted() {
            return Err("rows of its table `records` belong to no entry of it".to_owned());
        }
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
            let text = serde_json::from_str(body.value(row)).map_err(|error| wrong(error.to_string()))?;
            let record = Record::decode(number[row], &text).map_err(|error| wrong(error.to_string()))?;
            let same = record.text().map_err(|error| wrong(error.to_string()))? == body.value(row);
            if !same {
                // What it says more would be lost in the next checkpoint without a word.
                let unknown = passed_over(&text, &record).map_err(|error| wrong(error.to_string()))?;
                if let Some(field) = unknown.first() {
                    return Err(format!(
                        "its writer knew the field `{field}` of record {}, which this program does not",
                        number[row]
                    ));
                }
            }
            told.take(record, &by).map_err(wrong)?;
        }
        // A thing may be withdrawn and restored in turn: kinds of record that have one order.
        told.withdrawn.sort_by_key(|(_, by)| by.sequence);
        for (record, by) in std::mem::take(&mut told.withdrawn) {
            told.withdrawals.take(&record, &by).map_err(|error| error.to_string())?;
        }
        // A spine that was dropped may be put up anew.
        told.put_up.sort_by_key(|(_, by)| by.sequence);
        for (record, by) in std::mem::take(&mut told.put_up) {
            let taken = match &record {
                Record::SpineKept(record) => told.spines.keep(record, &by),
                Record::SpinesDropped(record) => told.spines.drop(record, &by),
                Record::SpineUsed(record) => told.spines.need(record, &by),
                _ => Ok(()),
            };
            taken.map_err(|error| error.to_string())?;
        }
        told.ordered.sort_by_key(|(_, by)| by.sequence);
        for (record, by) in std::mem::take(&mut told.ordered) {
            let taken = told.deprecations.take(&record, &by).and_then(|()| told.changes.take(&record, &by));
            taken.map_err(|error| error.to_string())?;
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
            record @ (Record::RowsExpired(_) | Record::RowsDeleted(_)) => {
                self.expiry.recorded(&record, by);
                Ok(())
            }
            Record::Erased(record) => {
                self.erasures.recorded(&record, by);
                Ok(())
            }
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
            Record::Sampled(body) => self.samples.take(&body, by),
            Record::RowsMended(body) => self.mended.take(&body, by),
            Record::AlertsRaised(body) => self.alerts.raise(&body, by),
            Record::AlertDelivery(body) => self.alerts.step(&body, by),
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
            record @ (Record::SpineKept(_) | Record::SpinesDropped(_) | Record::SpineUsed(_)) => {
                self.put_up.push((record, by.clone()));
                Ok(())
            }
            record @ (Record::Deprecated(_)
            | Record::DeprecationAdvanced(_)
            | Record::DeprecationRevoked(_)
            | Record::PlanProposed(_)
            | Record::PlanApproved(_)
            | Record::PlanDeclined(_)
            | Record::PlanApplied(_)) => {
                self.ordered.push((record, by.clone()));
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

/// What each row defines.
fn read_all(rows: &RecordBatch) -> Result<Vec<Definition>> {
    rows.column(8).as_string::<i32>().iter().map(|text| read(text.unwrap_or_default())).collect()
}

fn definitions(rows: &RecordBatch, found: Vec<Definition>, entries: &Entries) -> Result<Definitions> {
    let sequence = rows.column(0).as_primitive::<UInt64Type>().values();
    let (of, version) = (id_column(rows, 2), id_column(rows, 3));
    let number = rows.column(4).as_primitive::<UInt32Type>().values();
    let (line, entity) = (id_column(rows, 5), rows.column(6).as_string::<i32>());
    let (digest, definition) = (rows.column(7).as_string::<i32>(), rows.column(8).as_string::<i32>());
    let mut all = Definitions::default();
    // Most views of a store share few entities.
    let mut entities: HashMap<&str, Arc<Entity>> = HashMap::new();
    let mut last: Option<Arc<Provenance>> = None;
    for (row, found) in found.into_iter().enumerate() {
        if sequence[row] >= entries.count() {
            return Err("it has a definition that belongs to no entry of it".to_owned());
        }
        let by = match &last {
            Some(last) if last.sequence.0 == sequence[row] => last.clone(),
            _ => entries.by(sequence[row]),
        };
        last = Some(by.clone());
        let (version, number, digest) = (id(&version, row), number[row], digest.value(row).to_owned());
        let text = definition.value(row);
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
    Definition::from_text(definition).map_err(|error| unreadable(error.to_string()))
}

fn known_at(text: &str) -> Result<KnownAtSource> {
    let every = [KnownAtSource::Column, KnownAtSource::Delay, KnownAtSource::Arrival, KnownAtSource::Assumed];
    let found = every.into_iter().find(|source| known_at_text(*source) == text);
    found.ok_or_else(|| format!("it has the source `{text}` of known_at, which this program does not know"))
}
