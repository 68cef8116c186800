//! The key of an entity that is erased: where it may lie, and which rows are of it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, Scalar, StringArray};
use arrow::compute::kernels::cmp::eq;
use arrow::compute::{and, cast};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use feature::definition::Key;
use feature::key::statistic::{StatisticValue, statistic_bytes};
use feature::key::{bucket_of_rows, canonical_key, key_hashes};
use feature::sampling::rows_of_share;
use storage::manifest::{ColumnStatistics, DataFile};

use crate::error::{Error, Result};

/// A key as somebody writes it: the text of each of its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityKey {
    parts: BTreeMap<String, String>,
}

/// The same as values of a version's keys.
#[derive(Clone, Debug)]
pub struct TypedKey {
    /// In the order of the entity; one value each.
    columns: Vec<(String, ArrayRef)>,
}

impl EntityKey {
    pub fn new(parts: BTreeMap<String, String>) -> Self {
        Self { parts }
    }

    /// The columns that it names.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts.keys().map(String::as_str)
    }

    /// Its values; none where an entity with these keys cannot have it.
    pub fn typed(&self, keys: &[Key]) -> Option<TypedKey> {
        if keys.len() != self.parts.len() {
            return None;
        }
        let mut columns = Vec::with_capacity(keys.len());
        for key in keys {
            let text = self.parts.get(key.name.as_str())?;
            let text: ArrayRef = Arc::new(StringArray::from(vec![text.as_str()]));
            let value = cast(&text, &key.data_type.arrow()).ok()?;
            if value.is_null(0) {
                return None;
            }
            columns.push((key.name.to_string(), value));
        }
        Some(TypedKey { columns })
    }

    /// Whether a row that was given as texts is of the key: by the columns of its names, or by any where the source calls them otherwise.
    pub(super) fn is_of(&self, row: &serde_json::Map<String, serde_json::Value>, typed: &TypedKey) -> bool {
        let same = |value: &serde_json::Value, texts: &[String]| match value.as_str() {
            Some(value) => texts.iter().any(|text| text == value.trim()),
            None => false,
        };
        self.parts.iter().all(|(column, given)| {
            let texts = [given.clone(), typed.shown(column)];
            match row.get(column) {
                Some(value) => same(value, &texts),
                None => row.values().any(|value| same(value, &texts)),
            }
        })
    }

    /// Whether a text speaks of the key: it has all of its values as words, and the name of one of its columns.
    pub(super) fn is_in(&self, text: &str, typed: &TypedKey) -> bool {
        self.parts.keys().any(|column| has_word(text, column))
            && self
                .parts
                .iter()
                .all(|(column, given)| has_word(text, given) || has_word(text, &typed.shown(column)))
    }
}

impl TypedKey {
    /// The canonical bytes, by which buckets and digests go.
    ///
    /// # Errors
    /// None that is known: the values are of the key's types.
    pub fn canonical(&self) -> Result<Vec<u8>> {
        canonical_key(&self.values(), 0).map_err(|error| Error::internal("a key has no bytes", error))
    }

    /// Which rows are of the key; none where the rows have not its columns, or not as something that can be compared.
    ///
    /// # Errors
    /// None that is known.
    pub fn rows_in(&self, rows: &RecordBatch) -> Result<Option<BooleanArray>> {
        let mut found: Option<BooleanArray> = None;
        for (name, value) in &self.columns {
            let Some(column) = rows.column_by_name(name) else { return Ok(None) };
            if column.data_type().is_floating() {
                return Ok(None);
            }
            let Ok(column) = cast(column, value.data_type()) else { return Ok(None) };
            let same = eq(&column, &Scalar::new(value.clone())).map_err(wrong)?;
            // A null is of no key.
            let same: BooleanArray = same.iter().map(|same| Some(same == Some(true))).collect();
            found = Some(match found {
                None => same,
                Some(before) => and(&before, &same).map_err(wrong)?,
            });
        }
        Ok(found)
    }

    /// Whether a data file may have rows of it, by what its manifest says.
    pub(super) fn may_lie_in(&self, file: &DataFile) -> bool {
        if file.buckets > 1 {
            let bucket = bucket_of_rows(&self.values(), file.buckets).ok();
            if bucket.is_some_and(|bucket| bucket.first() != Some(&file.bucket)) {
                return false;
            }
        }
        if key_hashes(&self.values()).is_ok_and(|hashes| !file.may_hold(&hashes)) {
            return false;
        }
        let within = |(name, value): &(String, ArrayRef)| {
            file.column(name).is_none_or(|bounds| within(bounds, value).unwrap_or(true))
        };
        self.columns.iter().all(within)
    }

    /// Whether its entity is among those of a share that is sampled.
    pub(super) fn is_in_share(&self, share: f64) -> Result<bool> {
        let rows = rows_of_share(&self.values(), share);
        let rows = rows.map_err(|error| Error::internal("a key is in no share", error))?;
        Ok(!rows.is_empty())
    }

    fn values(&self) -> Vec<ArrayRef> {
        self.columns.iter().map(|(_, value)| value.clone()).collect()
    }

    /// A value as tables show it.
    fn shown(&self, column: &str) -> String {
        let value = self.columns.iter().find(|(name, _)| name == column).map(|(_, value)| value);
        let options = FormatOptions::default();
        let formatter = value.and_then(|value| ArrayFormatter::try_new(value.as_ref(), &options).ok());
        formatter.and_then(|formatter| formatter.value(0).try_to_string().ok()).unwrap_or_default()
    }
}

/// None where the bounds cannot tell.
fn within(bounds: &ColumnStatistics, value: &ArrayRef) -> Option<bool> {
    let decoded = |bytes: &[u8]| StatisticValue::decode(value.data_type(), bytes).ok();
    let least = decoded(bounds.least.as_deref()?)?;
    let greatest = decoded(bounds.greatest.as_deref()?)?;
    let wanted = decoded(&statistic_bytes(value, 0).ok()??)?;
    let (below, above) = (wanted.compare(&least)?, wanted.compare(&greatest)?);
    Some(below != Ordering::Less && above != Ordering::Greater)
}

/// Whether a word stands in a text, with no letter, digit or `_` before or after it.
fn has_word(text: &str, word: &str) -> bool {
    if word.is_empty() {
        return false;
    }
    let of_word = |one: char| one.is_alphanumeric() || one == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(of_word) && !after.is_some_and(of_word)
    })
}

fn wrong(error: ArrowError) -> Error {
    Error::internal("keys cannot be compared", error)
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use feature::FeatureType;

    use super::*;

    fn key(name: &str, data_type: FeatureType, text: &str) -> (EntityKey, Option<TypedKey>) {
        let key = EntityKey::new(BTreeMap::from([(name.to_owned(), text.to_owned())]));
        let typed = key.typed(&[Key { name: name.parse().unwrap(), data_type }]);
        (key, typed)
    }

    #[test]
    fn rows_of_a_key_are_found_whatever_the_width_of_their_column() {
        let (_, typed) = key("id", FeatureType::Int32, "7");
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None, Some(8), Some(7)]));
        let rows = RecordBatch::try_new(schema, vec![ids]).unwrap();
        let found = typed.unwrap().rows_in(&rows).unwrap().unwrap();
        assert_eq!(found, BooleanArray::from(vec![true, false, false, true]));
    }

    #[test]
    fn what_is_no_value_of_the_type_is_no_key() {
        assert!(key("id", FeatureType::Int64, "seven").1.is_none());
        assert!(key("id", FeatureType::String, "seven").1.is_some());
    }

    #[test]
    fn words_are_told_from_parts_of_words() {
        assert!(has_word("SELECT * FROM v WHERE who = 'N1'", "N1"));
        assert!(!has_word("SELECT * FROM v WHERE who = 'N12'", "N1"));
        assert!(!has_word("SELECT * FROM v WHERE who = 'XN1'", "N1"));
        let (key, typed) = key("who", FeatureType::String, "N1");
        let typed = typed.unwrap();
        assert!(key.is_in("who = 'N1'", &typed));
        assert!(!key.is_in("other = 'N1'", &typed));
    }
}
