//! Rows of the table of batches, as values.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, FixedSizeBinaryArray, ListArray, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::UInt64Type;
use feature::digest::Digest;
use feature::{BatchId, VersionId};

use super::columns::{Objects, bytes, id, id_column, range};
use super::entries::Entries;
use super::{Result, known_at};
use crate::records::{BatchCommitted, SourceFile};
use crate::state::{Batch, Definitions, Provenance, Quarantine};

/// What batches have that their rows do not say.
#[derive(Debug, Default)]
pub(super) struct Known {
    versions: HashMap<VersionId, VersionOf>,
    /// Whose those are that waited in quarantine, and the place and time of their release.
    released: HashMap<BatchId, Arc<Provenance>>,
}

/// The version that a batch was written under.
#[derive(Clone, Copy, Debug)]
struct VersionOf {
    number: u32,
    line: VersionId,
}

impl Known {
    pub fn new(definitions: &Definitions, quarantine: &Quarantine) -> Self {
        let versions = definitions.order.iter().filter_map(|id| {
            let version = definitions.view_version(*id)?;
            Some((*id, VersionOf { number: version.number, line: version.line }))
        });
        let released = quarantine.all().iter().filter_map(|held| {
            let end = held.end.as_ref().filter(|end| end.released)?;
            Some((held.batch.record.batch, held.admitted_by(&end.by)))
        });
        Self { versions: versions.collect(), released: released.collect() }
    }

    pub fn line_of(&self, version: VersionId) -> Option<VersionId> {
        self.versions.get(&version).map(|version| version.line)
    }

    pub fn released(&self, batch: BatchId) -> Option<&Arc<Provenance>> {
        self.released.get(&batch)
    }
}

/// Some rows of the table, all columns of them.
pub(super) struct Batches<'a> {
    entries: &'a Entries,
    known: &'a Known,
    sequence: UInt64Array,
    batch: FixedSizeBinaryArray,
    view: FixedSizeBinaryArray,
    version: FixedSizeBinaryArray,
    rows: UInt64Array,
    rejected: UInt64Array,
    known_at: StringArray,
    manifest: Objects,
    digest: FixedSizeBinaryArray,
    quarantine: Objects,
    sources: ListArray,
    source_digest: FixedSizeBinaryArray,
    source_bytes: UInt64Array,
    body: Objects,
    derivation: StringArray,
    profile: Objects,
    judged: StringArray,
}

impl<'a> Batches<'a> {
    pub fn new(rows: &RecordBatch, entries: &'a Entries, known: &'a Known) -> Self {
        let sources = rows.column(10).as_list::<i32>().clone();
        let each = sources.values().as_struct().clone();
        Self {
            entries,
            known,
            sequence: rows.column(0).as_primitive::<UInt64Type>().clone(),
            batch: id_column(rows, 1),
            view: id_column(rows, 2),
            version: id_column(rows, 3),
            rows: rows.column(4).as_primitive::<UInt64Type>().clone(),
            rejected: rows.column(5).as_primitive::<UInt64Type>().clone(),
            known_at: rows.column(6).as_string::<i32>().clone(),
            manifest: Objects::new(rows.column(7).as_struct()),
            digest: id_column(rows, 8),
            quarantine: Objects::new(rows.column(9).as_struct()),
            source_digest: each.column(0).as_fixed_size_binary().clone(),
            source_bytes: each.column(1).as_primitive::<UInt64Type>().clone(),
            sources,
            body: Objects::new(rows.column(11).as_struct()),
            derivation: rows.column(12).as_string::<i32>().clone(),
            // After the place.
            profile: Objects::new(rows.column(14).as_struct()),
            judged: rows.column(15).as_string::<i32>().clone(),
        }
    }

    /// # Errors
    /// A value that this program does not know.
    pub fn get(&self, row: usize) -> Result<Batch> {
        let hash = self.entries.hash;
        let version: VersionId = id(&self.version, row);
        let of = self.known.versions.get(&version);
        let VersionOf { number, line } =
            *of.ok_or_else(|| format!("it has a batch of version {version}, and no such version"))?;
        let source = |place| SourceFile {
            digest: Digest::new(hash, bytes(&self.source_digest, place)),
            bytes: self.source_bytes.value(place),
        };
        let unreadable = |error: serde_json::Error| {
            format!("it has a derivation or a verdict that cannot be read: {error}")
        };
        let record = BatchCommitted {
            batch: id(&self.batch, row),
            view: id(&self.view, row),
            version,
            rows: self.rows.value(row),
            rejected: self.rejected.value(row),
            known_at: known_at(self.known_at.value(row))?,
            manifest: self.manifest.get(row, hash),
            digest: Digest::new(hash, bytes(&self.digest, row)),
            quarantine: self.quarantine.find(row, hash),
            sources: range(&self.sources, row).map(source).collect(),
            body: self.body.find(row, hash),
            derivation: json(&self.derivation, row).map_err(unreadable)?,
            profile: self.profile.find(row, hash),
            judged: json(&self.judged, row).map_err(unreadable)?,
        };
        let released = self.known.released(record.batch).cloned();
        let by = released.unwrap_or_else(|| self.entries.by(self.sequence.value(row)));
        Ok(Batch { record, line, number, by })
    }
}

pub(super) fn json<T: serde::de::DeserializeOwned>(
    texts: &StringArray,
    row: usize,
) -> serde_json::Result<Option<T>> {
    texts.is_valid(row).then(|| serde_json::from_str(texts.value(row))).transpose()
}
