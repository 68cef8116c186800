//! A first definition from data: types, observed ranges and null rules, for a person to correct.
//!
//! It is made in one pass and with bounded memory: least and greatest value, nulls, NaN, and small sets of text.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;

use crate::datatype::FeatureType;
use crate::definition::{FileFormat, valid_name};
use crate::name::{Name, nearest};
use column::Observed;

mod column;
mod text;

/// The two files, and what their author should know before using them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferredDefinition {
    pub entity_toml: String,
    pub view_toml: String,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InferenceError {
    #[error(
        "no key is named; say which column tells one entity from another, such as --key user_id (columns: {columns})"
    )]
    NoKey { columns: String },
    #[error("the data has no column `{column}`{hint}; its columns are {columns}")]
    UnknownColumn { column: String, hint: String, columns: String },
    #[error("column `{column}` is named twice; name each key once, and the time apart from them")]
    NamedTwice { column: String },
    #[error(
        "key column `{column}` is {found}; a key is whole numbers, text, bool, a date, a timestamp or a decimal, so cast it first or name another column"
    )]
    KeyType { column: String, found: DataType },
    #[error(
        "time column `{column}` is {found}; a time is a timestamp, a date or text in RFC 3339, so cast it first{hint}"
    )]
    TimeType { column: String, found: DataType, hint: String },
    #[error("column {number} has no name, and so no definition can read it; give it a name first")]
    Nameless { number: usize },
    #[error("no column is left to be a feature: beside keys and time there is {left}")]
    NoFeature { left: String },
    #[error("this batch has other columns than the first: {found} where {wanted} was")]
    OtherSchema { found: String, wanted: String },
    #[error("column `{column}` cannot be read: {why}")]
    Unreadable { column: String, why: String },
}

/// Watches data go by and writes what it saw as a definition.
pub struct Inference {
    schema: SchemaRef,
    keys: Vec<usize>,
    time: usize,
    entity: Name,
    view: Name,
    files: Option<(String, Option<FileFormat>)>,
    rows: u64,
    columns: Vec<Watched>,
    /// Columns that no feature type holds.
    left_out: Vec<String>,
    /// Rows whose time is finer than a microsecond.
    too_fine: u64,
}

/// A column of the data that becomes a key or a feature.
struct Watched {
    index: usize,
    name: Name,
    data_type: FeatureType,
    observed: Observed,
}

impl Inference {
    /// `keys` and `time` are columns of the data. The entity is called after its keys and the view after the entity, unless
    /// `entity_name` and `view_name` say otherwise.
    pub fn new(schema: SchemaRef, keys: &[String], time: &str) -> Result<Self, InferenceError> {
        if keys.is_empty() {
            return Err(InferenceError::NoKey { columns: columns(&schema) });
        }
        let mut indices = Vec::new();
        for key in keys {
            let index = find(&schema, key)?;
            if indices.contains(&index) {
                return Err(InferenceError::NamedTwice { column: key.clone() });
            }
            indices.push(index);
        }
        let time = find(&schema, time)?;
        if indices.contains(&time) {
            return Err(InferenceError::NamedTwice { column: schema.field(time).name().clone() });
        }
        check_time(&schema, time)?;
        if let Some(index) = indices.iter().chain([&time]).find(|index| is_nameless(schema.field(**index))) {
            return Err(InferenceError::Nameless { number: index + 1 });
        }

        let mut taken = BTreeSet::new();
        let mut watched = Vec::new();
        let mut left_out = Vec::new();
        for index in &indices {
            let field = schema.field(*index);
            let data_type = feature_type(field.data_type())
                .filter(|data_type| !data_type.is_float())
                .ok_or_else(|| InferenceError::KeyType {
                    column: field.name().clone(),
                    found: field.data_type().clone(),
                })?;
            let name = free_name(field.name(), &mut taken);
            watched.push(Watched { index: *index, name, data_type, observed: Observed::new(data_type) });
        }
        for (index, field) in schema.fields().iter().enumerate() {
            if index == time || indices.contains(&index) {
                continue;
            }
            match feature_type(field.data_type()) {
                Some(_) if is_nameless(field) => {
                    left_out
                        .push(format!("column {} is left out: it has no name; give it one first", index + 1));
                }
                Some(data_type) => {
                    let name = free_name(field.name(), &mut taken);
                    watched.push(Watched { index, name, data_type, observed: Observed::new(data_type) });
                }
                None => left_out.push(unsupported(field)),
            }
        }
        if watched.len() == indices.len() {
            let left = if left_out.is_empty() { "nothing".to_owned() } else { left_out.join("; ") };
            return Err(InferenceError::NoFeature { left });
        }
        let entity = entity_called(&watched, indices.len());
        let view = valid_name(&format!("{entity}_features"));
        Ok(Self {
            schema,
            keys: indices,
            time,
            entity,
            view,
            files: None,
            rows: 0,
            columns: watched,
            left_out,
            too_fine: 0,
        })
    }

    #[must_use]
    pub fn entity_name(self, entity: Name) -> Self {
        Self { entity, ..self }
    }

    #[must_use]
    pub fn view_name(self, view: Name) -> Self {
        Self { view, ..self }
    }

    /// Writes a `[source]` with these files, relative to the folder in which the definition will lie.
    #[must_use]
    pub fn source(self, files: &str, format: Option<FileFormat>) -> Self {
        Self { files: Some((files.to_owned(), format)), ..self }
    }

    /// The names that the entity and the view will have: good names for their files.
    pub fn names(&self) -> (&Name, &Name) {
        (&self.entity, &self.view)
    }

    /// Takes in some more rows. The batch must have the columns that `new` was told of.
    pub fn observe(&mut self, batch: &RecordBatch) -> Result<(), InferenceError> {
        let given = batch.schema();
        let same = given.fields().len() == self.schema.fields().len()
            && given.fields().iter().zip(self.schema.fields()).all(|(given, wanted)| {
                given.name() == wanted.name() && given.data_type() == wanted.data_type()
            });
        if !same {
            return Err(InferenceError::OtherSchema {
                found: columns(&given),
                wanted: columns(&self.schema),
            });
        }
        for watched in &mut self.columns {
            watched.observed.observe(batch.column(watched.index)).map_err(|why| {
                InferenceError::Unreadable {
                    column: self.schema.field(watched.index).name().clone(),
                    why: why.to_string(),
                }
            })?;
        }
        self.too_fine += column::finer_than_micros(batch.column(self.time));
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Writes the definitions. They parse as they are, and say in comments what was only observed.
    #[must_use]
    pub fn finish(self) -> InferredDefinition {
        InferredDefinition {
            entity_toml: text::entity(&self),
            view_toml: text::view(&self),
            warnings: text::warnings(&self),
        }
    }
}

fn columns(schema: &SchemaRef) -> String {
    schema
        .fields()
        .iter()
        .map(|field| format!("{} ({})", field.name(), field.data_type()))
        .collect::<Vec<_>>()
        .join(", ")
}

fn find(schema: &SchemaRef, column: &str) -> Result<usize, InferenceError> {
    let names = || schema.fields().iter().map(|field| field.name().as_str());
    names().position(|name| name == column).ok_or_else(|| {
        let near = nearest(column, names());
        InferenceError::UnknownColumn {
            column: column.to_owned(),
            hint: near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default(),
            columns: names().collect::<Vec<_>>().join(", "),
        }
    })
}

fn is_nameless(field: &Field) -> bool {
    field.name().trim().is_empty()
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}

fn is_text(data_type: &DataType) -> bool {
    feature_type(data_type) == Some(FeatureType::String)
}

fn check_time(schema: &SchemaRef, time: usize) -> Result<(), InferenceError> {
    let field = schema.field(time);
    if is_time(field.data_type()) || is_text(field.data_type()) {
        return Ok(());
    }
    let others: Vec<&str> = schema
        .fields()
        .iter()
        .filter(|field| is_time(field.data_type()))
        .map(|field| field.name().as_str())
        .collect();
    let hint = if others.is_empty() {
        "; no column of this data is a time".to_owned()
    } else {
        format!(", or name one that is: {}", others.join(", "))
    };
    Err(InferenceError::TimeType { column: field.name().clone(), found: field.data_type().clone(), hint })
}

/// The feature type that holds the values of an Arrow type; none where none does.
fn feature_type(data_type: &DataType) -> Option<FeatureType> {
    Some(match data_type {
        DataType::Boolean => FeatureType::Bool,
        DataType::Int8 => FeatureType::Int8,
        DataType::Int16 => FeatureType::Int16,
        DataType::Int32 => FeatureType::Int32,
        DataType::Int64 => FeatureType::Int64,
        DataType::UInt8 => FeatureType::Uint8,
        DataType::UInt16 => FeatureType::Uint16,
        DataType::UInt32 => FeatureType::Uint32,
        DataType::UInt64 => FeatureType::Uint64,
        DataType::Float32 => FeatureType::Float32,
        DataType::Float64 => FeatureType::Float64,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => FeatureType::String,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            FeatureType::Binary
        }
        DataType::Date32 | DataType::Date64 => FeatureType::Date,
        DataType::Timestamp(..) => FeatureType::Timestamp,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
            if *scale >= 0 && i16::from(*scale) <= i16::from(*precision) =>
        {
            FeatureType::Decimal { precision: *precision, scale: *scale }
        }
        DataType::Dictionary(_, values) => return feature_type(values),
        _ => return None,
    })
}

fn unsupported(field: &Field) -> String {
    let advice = match field.data_type() {
        DataType::Null => "it holds nothing",
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) | DataType::ListView(_) => {
            "give each element a column of its own"
        }
        DataType::Struct(_) => "give each field a column of its own",
        DataType::Float16 => "cast it to float32",
        DataType::Duration(_) | DataType::Interval(_) | DataType::Time32(_) | DataType::Time64(_) => {
            "cast it to a number, with its unit"
        }
        _ => "cast it to a type that features have",
    };
    format!("column `{}` is left out: no feature type holds {}; {advice}", field.name(), field.data_type())
}

/// A valid name for a column that no other column has.
fn free_name(column: &str, taken: &mut BTreeSet<Name>) -> Name {
    let wanted = valid_name(column);
    let mut name = wanted.clone();
    let mut number = 2;
    while taken.contains(&name) {
        name = valid_name(&format!("{}_{number}", wanted.as_str().get(..50).unwrap_or(wanted.as_str())));
        number += 1;
    }
    taken.insert(name.clone());
    name
}

/// `user` for the key `user_id`, `origin_carrier` for two keys.
fn entity_called(columns: &[Watched], keys: usize) -> Name {
    let parts: Vec<&str> = columns
        .iter()
        .take(keys)
        .map(|key| {
            let name = key.name.as_str();
            ["_id", "_key", "_code", "_no"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
        })
        .collect();
    valid_name(&parts.join("_"))
}

/// Whether a naive timestamp.
fn is_naive(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, None))
}

fn is_date(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date32 | DataType::Date64)
}

fn is_nanos(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Nanosecond, _))
}

#[cfg(test)]
mod tests;
