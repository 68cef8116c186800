//! A state as tables: what a checkpoint stores. `docs/checkpoints.md` specifies them.
//!
//! Five tables hold what the log said, in its order, and only grow; two hold what is true at the head.
//! Together they are all of a state, so that equal tables are equal states.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, FixedSizeBinaryArray, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit, UInt64Type};
use arrow::error::ArrowError;
use feature::definition::Definition;
use feature::digest::{Digest, HashAlgorithm};
use feature::{Id, Sequence, VersionId};

use super::{Batch, LogLine, State, TrainingSet};
use crate::records::{
    BatchCommitted, BatchHit, KnownAtSource, Object, Record, Selected, TrainingSetRecorded,
};

/// Why a state cannot be written as tables.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TablesError {
    #[error("{digest} is not by the store's hash, {}", .hash.name())]
    Hash { digest: Digest, hash: HashAlgorithm },
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("the checkpoint that the state rests on cannot be read any more: {0}")]
    Stored(String),
}

type Result<T, E = TablesError> = std::result::Result<T, E>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Entries,
    Batches,
    TrainingSets,
    Requests,
    Records,
    Definitions,
    RefusedSources,
    Profiles,
}

impl Table {
    /// Those that only grow: each row belongs to an entry.
    pub const GROWING: [Self; 6] =
        [Self::Entries, Self::Batches, Self::TrainingSets, Self::Requests, Self::Records, Self::Profiles];
    /// Those that are of the head.
    pub const WHOLE: [Self; 2] = [Self::Definitions, Self::RefusedSources];

    /// As it stands in a checkpoint.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Batches => "batches",
            Self::TrainingSets => "training_sets",
            Self::Requests => "requests",
            Self::Records => "records",
            Self::Definitions => "definitions",
            Self::RefusedSources => "refused_sources",
            Self::Profiles => "profiles",
        }
    }

    /// Whether a file of a checkpoint has its rows; those of the profiles lie beside their batches.
    pub fn has_file(self) -> bool {
        self != Self::Profiles
    }

    pub fn schema(self) -> SchemaRef {
        let fields = match self {
            Self::Entries => entries(),
            Self::Batches => batches(),
            Self::TrainingSets => training_sets(),
            Self::Requests => vec![
                required("sequence", DataType::UInt64),
                required("key", DataType::Utf8),
                required("digest", DIGEST),
            ],
            Self::Records => vec![
                required("sequence", DataType::UInt64),
                required("number", DataType::UInt32),
                required("body", DataType::Utf8),
            ],
            Self::Definitions => definitions(),
            Self::RefusedSources => vec![required("version", ID), required("digest", DIGEST)],
            Self::Profiles => vec![
                required("sequence", DataType::UInt64),
                required("batch", ID),
                required("profile", DataType::Struct(object_fields())),
                optional("judged", DataType::Utf8),
            ],
        };
        Arc::new(Schema::new(fields))
    }
}

/// The rows of each table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tables([RecordBatch; 8]);

impl Tables {
    pub fn empty() -> Self {
        let every = [
            Table::Entries,
            Table::Batches,
            Table::TrainingSets,
            Table::Requests,
            Table::Records,
            Table::Definitions,
            Table::RefusedSources,
            Table::Profiles,
        ];
        Self(every.map(|table| RecordBatch::new_empty(table.schema())))
    }

    pub fn of(&self, table: Table) -> &RecordBatch {
        &self.0[table as usize]
    }

    pub fn set(&mut self, table: Table, rows: RecordBatch) {
        self.0[table as usize] = rows;
    }

    /// The rows of a growing table whose entries are among these.
    pub fn within(&self, table: Table, from: Sequence, until: Sequence) -> RecordBatch {
        let rows = self.of(table);
        let sequences = rows.column(0).as_primitive::<UInt64Type>().values();
        let start = sequences.partition_point(|sequence| *sequence < from.0);
        let end = sequences.partition_point(|sequence| *sequence <= until.0);
        rows.slice(start, end.saturating_sub(start))
    }
}

impl State {
    /// What the growing tables say after a sequence (all of it for none), and the whole ones.
    pub(crate) fn tables_after(&self, after: Option<Sequence>) -> Result<Tables> {
        let stored = self.stored.as_ref();
        let since = after.max(stored.map(|stored| stored.head()));
        let mut tables = self.since(since)?;
        if let Some(stored) = stored.filter(|stored| Some(stored.head()) > after) {
            let from = after.map_or(Sequence::ZERO, Sequence::next);
            let before = stored.growing_from(from).map_err(TablesError::Stored)?;
            for table in
                [Table::Entries, Table::Batches, Table::TrainingSets, Table::Requests, Table::Profiles]
            {
                let before = before.within(table, from, stored.head());
                let rows = concat_batches(&table.schema(), [&before, tables.of(table)])?;
                tables.set(table, rows);
            }
        }
        let mut records = Vec::new();
        let refused = self.refused.iter().map(|refused| (&refused.by, Record::from(refused.record.clone())));
        let reads = self.reads.iter().map(|reads| (&reads.by, Record::from(reads.record.clone())));
        let verified = self.verifications.iter().map(|noted| (&noted.by, Record::from(noted.record.clone())));
        let compacted = self.compactions().map(|one| (&one.by, Record::from(one.record.clone())));
        let noted =
            refused.chain(reads).chain(verified).chain(compacted).filter(|(by, _)| Some(by.sequence) > after);
        records.extend(noted.map(|(by, record)| (by.sequence, record)));
        let parts = self.producers.records_after(after);
        records.extend(parts.map(|(sequence, record)| (sequence, Record::from(record))));
        records.extend(self.withdrawals.records_after(after));
        records.extend(self.sweeps.records_after(after));
        records.extend(self.holds.records_after(after));
        records.extend(self.expiry.records_after(after));
        records.extend(self.erasures.records_after(after));
        records.extend(self.spines.records_after(after));
        records.extend(self.quarantine.records_after(after));
        records.extend(self.policies.records_after(after));
        records.extend(self.samples.records_after(after));
        records.extend(self.mended.records_after(after));
        records.extend(self.deprecations.records_after(after));
        records.extend(self.changes.records_after(after));
        records.extend(self.alerts.records_after(after));
        records.extend(self.registry.records_after(after));
        tables.set(Table::Records, record_rows(records)?);
        tables.set(Table::Definitions, self.definition_rows()?);
        tables.set(Table::RefusedSources, self.refused_source_rows()?);
        Ok(tables)
    }

    /// What was folded after a sequence.
    fn since(&self, after: Option<Sequence>) -> Result<Tables> {
        let hash = self.hash;
        let mut tables = Tables::empty();
        let log: Vec<&LogLine> = self.log.iter().filter(|line| Some(line.by.sequence) > after).collect();
        tables.set(Table::Entries, entry_rows(&log, hash)?);
        let admitted = self.admitted.iter().filter(|batch| Some(batch.by.sequence) > after);
        let admitted: Vec<&Batch> = admitted.map(AsRef::as_ref).collect();
        tables.set(Table::Batches, batch_rows(&admitted, hash)?);
        tables.set(Table::Profiles, profile_rows(&admitted, hash)?);
        let sets = self.training_sets.values().filter(|set| Some(set.by.sequence) > after);
        let mut sets: Vec<&TrainingSet> = sets.collect();
        sets.sort_by_key(|set| (set.by.sequence, set.record.training_set));
        tables.set(Table::TrainingSets, training_set_rows(&sets, hash)?);
        let requests = self.requests.iter().filter(|(_, request)| Some(request.sequence) > after);
        let mut requests: Vec<_> = requests.collect();
        requests.sort_by_key(|(_, request)| request.sequence);
        let digests = requests.iter().map(|(_, request)| own(&request.digest, hash));
        let columns: Vec<ArrayRef> = vec![
            numbers(requests.iter().map(|(_, request)| request.sequence.0)),
            texts(requests.iter().map(|(key, _)| key.as_str())),
            fixed(digests.collect::<Result<Vec<_>>>()?),
        ];
        tables.set(Table::Requests, RecordBatch::try_new(Table::Requests.schema(), columns)?);
        Ok(tables)
    }

    fn definition_rows(&self) -> Result<RecordBatch> {
        let mut rows: Vec<DefinitionRow<'_>> = Vec::new();
        let mut entities: Vec<_> = self.entities().collect();
        entities.sort_by_key(|version| version.by.sequence);
        rows.extend(entities.into_iter().map(|version| DefinitionRow {
            sequence: version.by.sequence,
            id: version.entity.uuid(),
            version: version.version,
            number: version.number,
            of_view: None,
            digest: &version.digest,
            definition: Definition::Entity((*version.definition).clone()),
        }));
        let views = self.definitions.order.iter().filter_map(|id| self.view_version(*id));
        rows.extend(views.map(|version| DefinitionRow {
            sequence: version.by.sequence,
            id: version.view.uuid(),
            version: version.version,
            number: version.number,
            of_view: Some((version.line, Definition::Entity((*version.entity).clone()))),
            digest: &version.digest,
            definition: Definition::FeatureView((*version.definition).clone()),
        }));
        let mut services: Vec<_> = self.services().collect();
        services.sort_by_key(|version| version.by.sequence);
        rows.extend(services.into_iter().map(|version| DefinitionRow {
            sequence: version.by.sequence,
            id: version.service.uuid(),
            version: version.version,
            number: version.number,
            of_view: None,
            digest: &version.digest,
            definition: Definition::FeatureService((*version.definition).clone()),
        }));
        definition_rows(&rows)
    }

    fn refused_source_rows(&self) -> Result<RecordBatch> {
        let mut refused: Vec<_> = self.definitions.refused_sources.iter().collect();
        refused.sort_unstable();
        let digests = refused.iter().map(|(_, digest)| own(digest, self.hash)).collect::<Result<Vec<_>>>()?;
        let versions = refused.iter().map(|(version, _)| *version.uuid().as_bytes()).collect();
        Ok(RecordBatch::try_new(Table::RefusedSources.schema(), vec![fixed(versions), fixed(digests)])?)
    }
}

struct DefinitionRow<'a> {
    sequence: Sequence,
    id: uuid::Uuid,
    version: VersionId,
    number: u32,
    /// Of a feature view: its line, and its entity as it was.
    of_view: Option<(VersionId, Definition)>,
    digest: &'a str,
    definition: Definition,
}

fn definition_rows(rows: &[DefinitionRow<'_>]) -> Result<RecordBatch> {
    let lines = rows.iter().map(|row| row.of_view.as_ref().map(|(line, _)| *line.uuid().as_bytes()));
    let entities =
        rows.iter().map(|row| row.of_view.as_ref().map(|(_, entity)| entity.to_json().to_string()));
    let definitions: Vec<String> = rows.iter().map(|row| row.definition.to_json().to_string()).collect();
    let columns: Vec<ArrayRef> = vec![
        numbers(rows.iter().map(|row| row.sequence.0)),
        texts(rows.iter().map(|row| row.definition.kind())),
        fixed(rows.iter().map(|row| *row.id.as_bytes()).collect()),
        fixed(rows.iter().map(|row| *row.version.uuid().as_bytes()).collect()),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.number))),
        optional_fixed(lines.collect()),
        Arc::new(entities.collect::<StringArray>()),
        texts(rows.iter().map(|row| row.digest)),
        texts(definitions.iter().map(String::as_str)),
    ];
    Ok(RecordBatch::try_new(Table::Definitions.schema(), columns)?)
}

fn entry_rows(log: &[&LogLine], hash: HashAlgorithm) -> Result<RecordBatch> {
    let digests = log.iter().map(|line| own(&line.digest, hash)).collect::<Result<Vec<_>>>()?;
    let committed_at = log.iter().map(|line| line.by.committed_at.micros());
    let records = log.iter().flat_map(|line| line.records.iter().map(|(number, _)| *number));
    let schema = Table::Entries.schema();
    let columns: Vec<ArrayRef> = vec![
        numbers(log.iter().map(|line| line.by.sequence.0)),
        Arc::new(TimestampMicrosecondArray::from_iter_values(committed_at).with_timezone("UTC")),
        texts(log.iter().map(|line| line.by.principal.as_str())),
        texts(log.iter().map(|line| line.by.program.as_str())),
        Arc::new(log.iter().map(|line| line.by.run.as_deref()).collect::<StringArray>()),
        Arc::new(log.iter().map(|line| line.by.experiment.as_deref()).collect::<StringArray>()),
        fixed(digests),
        list(
            &schema,
            "records",
            log.iter().map(|line| line.records.len()),
            Arc::new(UInt32Array::from_iter_values(records)),
            None,
        )?,
    ];
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn batch_rows(admitted: &[&Batch], hash: HashAlgorithm) -> Result<RecordBatch> {
    let schema = Table::Batches.schema();
    let mut rows = BatchRows::default();
    for batch in admitted {
        rows.push(batch, hash)?;
    }
    let sources: ArrayRef = Arc::new(StructArray::try_new(
        source_fields(),
        vec![fixed(rows.source_digest), Arc::new(UInt64Array::from(rows.source_bytes))],
        None,
    )?);
    let columns: Vec<ArrayRef> = vec![
        numbers(admitted.iter().map(|batch| batch.by.sequence.0)),
        fixed(rows.batch),
        fixed(rows.view),
        fixed(rows.version),
        Arc::new(UInt64Array::from(rows.rows)),
        Arc::new(UInt64Array::from(rows.rejected)),
        texts(rows.known_at.into_iter()),
        objects(rows.manifest, hash)?,
        fixed(rows.digest),
        objects(rows.quarantine, hash)?,
        list(&schema, "sources", rows.sources.into_iter(), sources, None)?,
        objects(rows.body, hash)?,
        Arc::new(StringArray::from_iter(rows.derivation)),
    ];
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Of those batches that have one. A batch without a profile was not judged.
fn profile_rows(admitted: &[&Batch], hash: HashAlgorithm) -> Result<RecordBatch> {
    let profiled: Vec<_> =
        admitted.iter().filter_map(|batch| Some((batch, batch.record.profile.as_ref()?))).collect();
    let judged = profiled
        .iter()
        .map(|(batch, _)| batch.record.judged.as_ref().map(serde_json::to_string).transpose())
        .collect::<Result<Vec<_>, _>>()?;
    let columns: Vec<ArrayRef> = vec![
        numbers(profiled.iter().map(|(batch, _)| batch.by.sequence.0)),
        fixed(profiled.iter().map(|(batch, _)| *batch.record.batch.uuid().as_bytes()).collect()),
        objects(profiled.iter().map(|(_, profile)| Some(*profile)).collect(), hash)?,
        Arc::new(StringArray::from_iter(judged)),
    ];
    Ok(RecordBatch::try_new(Table::Profiles.schema(), columns)?)
}

#[derive(Default)]
struct BatchRows<'a> {
    batch: Vec<[u8; 16]>,
    view: Vec<[u8; 16]>,
    version: Vec<[u8; 16]>,
    rows: Vec<u64>,
    rejected: Vec<u64>,
    known_at: Vec<&'static str>,
    manifest: Vec<Option<&'a Object>>,
    digest: Vec<[u8; 32]>,
    quarantine: Vec<Option<&'a Object>>,
    sources: Vec<usize>,
    source_digest: Vec<[u8; 32]>,
    source_bytes: Vec<u64>,
    body: Vec<Option<&'a Object>>,
    derivation: Vec<Option<String>>,
}

impl<'a> BatchRows<'a> {
    fn push(&mut self, of: &'a Batch, hash: HashAlgorithm) -> Result<()> {
        // Without `..`: a field that is added to the record has to be stored too.
        let BatchCommitted {
            batch,
            view,
            version,
            rows,
            rejected,
            known_at,
            manifest,
            digest,
            quarantine,
            sources,
            body,
            derivation,
            // In a table of their own.
            profile: _,
            judged: _,
        } = &of.record;
        self.batch.push(*batch.uuid().as_bytes());
        self.view.push(*view.uuid().as_bytes());
        self.version.push(*version.uuid().as_bytes());
        self.rows.push(*rows);
        self.rejected.push(*rejected);
        self.known_at.push(known_at_text(*known_at));
        self.manifest.push(Some(manifest));
        self.digest.push(own(digest, hash)?);
        self.quarantine.push(quarantine.as_ref());
        self.sources.push(sources.len());
        for source in sources {
            self.source_digest.push(own(&source.digest, hash)?);
            self.source_bytes.push(source.bytes);
        }
        self.body.push(body.as_ref());
        self.derivation.push(derivation.as_ref().map(serde_json::to_string).transpose()?);
        Ok(())
    }
}

fn training_set_rows(sets: &[&TrainingSet], hash: HashAlgorithm) -> Result<RecordBatch> {
    let schema = Table::TrainingSets.schema();
    let mut rows = TrainingSetRows::default();
    for set in sets {
        rows.push(&set.record);
    }
    let selected = rows.selected_rows()?;
    let said = NullBuffer::from(rows.said);
    let columns: Vec<ArrayRef> = vec![
        numbers(sets.iter().map(|set| set.by.sequence.0)),
        fixed(rows.training_set),
        Arc::new(UInt64Array::from(rows.snapshot)),
        Arc::new(UInt64Array::from(rows.rows)),
        Arc::new(UInt32Array::from(rows.columns)),
        texts(rows.digest.into_iter()),
        objects(rows.manifest, hash)?,
        Arc::new(StringArray::from_iter(rows.name)),
        list(&schema, "selected", rows.selected.into_iter(), selected, Some(said))?,
    ];
    Ok(RecordBatch::try_new(schema, columns)?)
}

#[derive(Default)]
struct TrainingSetRows<'a> {
    training_set: Vec<[u8; 16]>,
    snapshot: Vec<u64>,
    rows: Vec<u64>,
    columns: Vec<u32>,
    digest: Vec<&'a str>,
    manifest: Vec<Option<&'a Object>>,
    name: Vec<Option<&'a str>>,
    /// Whether the record says what was selected.
    said: Vec<bool>,
    selected: Vec<usize>,
    version: Vec<[u8; 16]>,
    features: Vec<usize>,
    feature: Vec<&'a str>,
    hits: Vec<usize>,
    hit_batch: Vec<[u8; 16]>,
    hit_rows: Vec<u64>,
}

impl<'a> TrainingSetRows<'a> {
    fn push(&mut self, record: &'a TrainingSetRecorded) {
        let TrainingSetRecorded { training_set, sequence, rows, columns, digest, manifest, name, selected } =
            record;
        self.training_set.push(*training_set.uuid().as_bytes());
        self.snapshot.push(sequence.0);
        self.rows.push(*rows);
        self.columns.push(*columns);
        self.digest.push(digest);
        self.manifest.push(Some(manifest));
        self.name.push(name.as_deref());
        self.said.push(selected.is_some());
        let selected = selected.as_deref().unwrap_or_default();
        self.selected.push(selected.len());
        for Selected { version, features, hits } in selected {
            self.version.push(*version.uuid().as_bytes());
            self.features.push(features.len());
            self.feature.extend(features.iter().map(String::as_str));
            self.hits.push(hits.len());
            for BatchHit { batch, rows } in hits {
                self.hit_batch.push(*batch.uuid().as_bytes());
                self.hit_rows.push(*rows);
            }
        }
    }

    fn selected_rows(&mut self) -> Result<ArrayRef> {
        let fields = selected_fields();
        let schema = Schema::new(fields.clone());
        let hits = StructArray::try_new(
            hit_fields(),
            vec![
                fixed(std::mem::take(&mut self.hit_batch)),
                Arc::new(UInt64Array::from(std::mem::take(&mut self.hit_rows))),
            ],
            None,
        )?;
        let columns = vec![
            fixed(std::mem::take(&mut self.version)),
            list(&schema, "features", self.features.drain(..), texts(self.feature.drain(..)), None)?,
            list(&schema, "hits", self.hits.drain(..), Arc::new(hits), None)?,
        ];
        Ok(Arc::new(StructArray::try_new(fields, columns, None)?))
    }
}

/// By sequence and number; what is of one number in one entry stays in its order.
fn record_rows(mut records: Vec<(Sequence, Record)>) -> Result<RecordBatch> {
    records.sort_by_key(|(sequence, record)| (*sequence, record.number()));
    let bodies = records
        .iter()
        .map(|(_, record)| record.body().and_then(|body| serde_json::to_string(&body)))
        .collect::<Result<Vec<_>, _>>()?;
    let columns: Vec<ArrayRef> = vec![
        numbers(records.iter().map(|(sequence, _)| sequence.0)),
        Arc::new(UInt32Array::from_iter_values(records.iter().map(|(_, record)| record.number()))),
        texts(bodies.iter().map(String::as_str)),
    ];
    Ok(RecordBatch::try_new(Table::Records.schema(), columns)?)
}

const ID: DataType = DataType::FixedSizeBinary(16);
/// By the store's hash.
const DIGEST: DataType = DataType::FixedSizeBinary(32);

fn required(name: &str, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type, false))
}

fn optional(name: &str, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type, true))
}

fn of_elements(element: DataType) -> DataType {
    DataType::List(required("element", element))
}

fn entries() -> Vec<FieldRef> {
    vec![
        required("sequence", DataType::UInt64),
        required("committed_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        required("principal", DataType::Utf8),
        required("program", DataType::Utf8),
        optional("run", DataType::Utf8),
        optional("experiment", DataType::Utf8),
        required("digest", DIGEST),
        required("records", of_elements(DataType::UInt32)),
    ]
}

fn batches() -> Vec<FieldRef> {
    vec![
        required("sequence", DataType::UInt64),
        required("batch", ID),
        required("view", ID),
        required("version", ID),
        required("rows", DataType::UInt64),
        required("rejected", DataType::UInt64),
        required("known_at", DataType::Utf8),
        required("manifest", DataType::Struct(object_fields())),
        required("digest", DIGEST),
        optional("quarantine", DataType::Struct(object_fields())),
        required("sources", of_elements(DataType::Struct(source_fields()))),
        optional("body", DataType::Struct(object_fields())),
        optional("derivation", DataType::Utf8),
    ]
}

fn training_sets() -> Vec<FieldRef> {
    vec![
        required("sequence", DataType::UInt64),
        required("training_set", ID),
        required("snapshot", DataType::UInt64),
        required("rows", DataType::UInt64),
        required("columns", DataType::UInt32),
        required("digest", DataType::Utf8),
        required("manifest", DataType::Struct(object_fields())),
        optional("name", DataType::Utf8),
        optional("selected", of_elements(DataType::Struct(selected_fields()))),
    ]
}

fn definitions() -> Vec<FieldRef> {
    vec![
        required("sequence", DataType::UInt64),
        required("kind", DataType::Utf8),
        required("id", ID),
        required("version", ID),
        required("number", DataType::UInt32),
        optional("line", ID),
        optional("entity", DataType::Utf8),
        required("digest", DataType::Utf8),
        required("definition", DataType::Utf8),
    ]
}

fn object_fields() -> Fields {
    vec![required("path", DataType::Utf8), required("bytes", DataType::UInt64), required("digest", DIGEST)]
        .into()
}

fn source_fields() -> Fields {
    vec![required("digest", DIGEST), required("bytes", DataType::UInt64)].into()
}

fn selected_fields() -> Fields {
    vec![
        required("version", ID),
        required("features", of_elements(DataType::Utf8)),
        required("hits", of_elements(DataType::Struct(hit_fields()))),
    ]
    .into()
}

fn hit_fields() -> Fields {
    vec![required("batch", ID), required("rows", DataType::UInt64)].into()
}

/// As in the log.
pub(super) fn known_at_text(known_at: KnownAtSource) -> &'static str {
    match known_at {
        KnownAtSource::Column => "column",
        KnownAtSource::Delay => "delay",
        KnownAtSource::Arrival => "arrival",
        KnownAtSource::Assumed => "assumed",
    }
}

fn own(digest: &Digest, hash: HashAlgorithm) -> Result<[u8; 32]> {
    if digest.algorithm() == hash {
        Ok(*digest.bytes())
    } else {
        Err(TablesError::Hash { digest: *digest, hash })
    }
}

fn numbers(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn fixed<const N: usize>(values: Vec<[u8; N]>) -> ArrayRef {
    Arc::new(FixedSizeBinaryArray::new(N as i32, values.into_flattened().into(), None))
}

fn optional_fixed<const N: usize>(values: Vec<Option<[u8; N]>>) -> ArrayRef {
    let nulls = values.iter().map(Option::is_some).collect::<Vec<_>>().into();
    let values: Vec<[u8; N]> = values.into_iter().map(|value| value.unwrap_or([0; N])).collect();
    Arc::new(FixedSizeBinaryArray::new(N as i32, values.into_flattened().into(), Some(nulls)))
}

/// What is null in the column is empty in its children.
fn objects(objects: Vec<Option<&Object>>, hash: HashAlgorithm) -> Result<ArrayRef> {
    let nulls: NullBuffer = objects.iter().map(Option::is_some).collect::<Vec<_>>().into();
    let digest = |object: &Option<&Object>| object.map_or(Ok([0; 32]), |object| own(&object.digest, hash));
    let digests = objects.iter().map(digest).collect::<Result<Vec<_>>>()?;
    let columns = vec![
        texts(objects.iter().map(|object| object.map_or("", |object| object.path.as_str()))),
        numbers(objects.iter().map(|object| object.map_or(0, |object| object.bytes))),
        fixed(digests),
    ];
    let nulls = Some(nulls).filter(|nulls| nulls.null_count() > 0);
    Ok(Arc::new(StructArray::try_new(object_fields(), columns, nulls)?))
}

fn list(
    schema: &Schema,
    name: &str,
    lengths: impl Iterator<Item = usize>,
    values: ArrayRef,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let DataType::List(element) = schema.field_with_name(name)?.data_type() else {
        return Err(ArrowError::SchemaError(format!("{name} is no list")).into());
    };
    let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
    Ok(Arc::new(ListArray::try_new(element.clone(), OffsetBuffer::from_lengths(lengths), values, nulls)?))
}
