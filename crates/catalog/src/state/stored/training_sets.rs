//! Rows of the table of training sets, as values.

use arrow::array::{
    Array, AsArray, FixedSizeBinaryArray, ListArray, RecordBatch, StringArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{UInt32Type, UInt64Type};
use feature::Sequence;

use super::columns::{Objects, id, id_column, range, text};
use super::entries::Entries;
use crate::records::{BatchHit, Selected, TrainingSetRecorded};
use crate::state::TrainingSet;

/// The table of training sets.
pub(super) struct TrainingSets {
    sequence: UInt64Array,
    pub training_set: FixedSizeBinaryArray,
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
    pub fn new(rows: &RecordBatch) -> Self {
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

    pub fn get(&self, row: usize, entries: &Entries) -> TrainingSet {
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
