//! What a team declares: entities, feature views and feature services.
//!
//! These types are valid by construction of `parse` (from TOML) and of `Definition::from_json` (from the log). Their JSON
//! form goes whole into log entries, so fields are added, never renamed or given another meaning.

use serde::{Deserialize, Serialize};

pub mod alerts;
pub mod canonical;
mod checks;
mod errors;
mod folder;
mod keys;
mod literal;
mod naming;
mod parse;
pub mod quality;
mod record;
mod retention;
pub mod sampling;
pub mod schema;
mod vocabulary;

pub use errors::{DefinitionError, DefinitionErrors};
pub use folder::{Declared, Definitions, Unresolved, parse_files};
pub use keys::KeyError;
pub use literal::{Constant, LiteralError};
pub use naming::valid_name;
pub use parse::{parse, parse_alerts};
pub use quality::{Baseline, Measure, OnFail, Quality, Thresholds};
pub use record::RecordError;
pub use retention::Retention;
pub use sampling::Sampling;

use crate::datatype::FeatureType;
use crate::name::Name;
use crate::time::Span;

/// One definition file. In JSON it is the definition itself with its `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "a folder has some dozens of them")]
pub enum Definition {
    Entity(Entity),
    FeatureView(FeatureView),
    FeatureService(FeatureService),
}

/// Words for people. They are not part of a version: changing them is a record of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// What features describe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entity {
    pub project: Name,
    pub name: Name,
    /// One or more, in the order in which files are sorted by them.
    pub keys: Vec<Key>,
    #[serde(flatten)]
    pub about: About,
}

/// A key column: never a float, never null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Key {
    pub name: Name,
    #[serde(rename = "type")]
    pub data_type: FeatureType,
}

/// Features that share an entity, an event time and an origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureView {
    pub project: Name,
    pub name: Name,
    /// The entity's name, in the same project.
    pub entity: Name,
    /// How far a retrieval looks back; `None` is for ever. Never zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    pub time: TimeRule,
    /// A column that keeps apart several observations of one key and instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurrence: Option<Occurrence>,
    /// Source columns of the entity's keys, in the entity's order.
    pub keys: Vec<KeySource>,
    pub features: Vec<Feature>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// Where rows come from when `ingest` is given no files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The query that makes its rows, for a derived view. It has no source then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derived: Option<Derived>,
    /// The greatest share of rejected rows (0 to 1) at which a batch is still taken; above it, it is refused whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reject_above: Option<f64>,
    /// How its batches are judged; without it they are profiled and not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// What is profiled of that which is read and streamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// How long its rows are kept; for ever where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// What this version is to find out, in its owner's words. Like `about` no part of the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypothesis: Option<String>,
    #[serde(flatten)]
    pub about: About,
}

/// How the two times of an observation are found in a source row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeRule {
    /// The source column that says when the value is true of the entity.
    pub valid_at: String,
    pub known_at: KnownAt,
    /// The IANA zone of times that carry none; without it a naive time is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What a naive time means in the hour that a zone repeats. `refuse` rejects the row.
    #[serde(default)]
    pub repeated_hour: RepeatedHour,
}

/// When an observation could first have been known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownAt {
    /// A column of the source says.
    Column(String),
    /// This long after `valid_at`.
    Delay(Span),
    /// When the store took it in.
    Arrival,
    /// Nobody said: taken as `valid_at`, and lineage says that this was assumed.
    Assumed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepeatedHour {
    #[default]
    Refuse,
    Earlier,
    Later,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Occurrence {
    pub name: Name,
    #[serde(rename = "type")]
    pub data_type: FeatureType,
    /// The source column.
    pub column: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeySource {
    pub key: Name,
    /// The source column.
    pub column: String,
}

/// A named, typed value of an entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    pub name: Name,
    #[serde(rename = "type")]
    pub data_type: FeatureType,
    /// Part of the type: a change of unit is a change of type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The source column; the feature's own name where none is declared.
    pub column: String,
    /// Least and greatest accepted value, both inclusive; numbers, dates and timestamps only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// The accepted values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<Literal>>,
    /// Whether a source row may have no value here.
    pub nullable: bool,
    /// Whether NaN is accepted as a value (floats only).
    pub nan: bool,
    /// What a retrieval gives when no observation is found; null where none is declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Literal>,
    #[serde(flatten)]
    pub about: About,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<Literal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greatest: Option<Literal>,
}

/// A constant of a definition, as it stands in JSON. Integers beyond 2^53, decimals, dates (`2013-07-09`) and timestamps
/// (RFC 3339) are text, and whole numbers are `Int` even where the feature is a float: `constant` reads it by its type.
/// A literal fits its feature's type, or the definition is refused.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Literal {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// A condition over one row, in SQL. The row is rejected where it is false; null passes, as in SQL's own CHECK.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub name: Name,
    /// Over the view's columns: keys, `valid_at`, `known_at`, features.
    pub sql: String,
}

/// Rows that come from a query over other feature views. What it gives is read like a source's columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Derived {
    pub sql: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// A path or glob, relative to the folder of the definition file.
    pub files: String,
    /// By the file's ending where none is declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// A condition in SQL over the source's own columns; other rows are not taken, and not counted as rejected.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "where")]
    pub filter: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    Parquet,
    Csv,
    /// An Arrow IPC file or stream.
    Arrow,
}

/// A named list of feature references that a model uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureService {
    pub project: Name,
    pub name: Name,
    /// `weather.temp`, `weather@3.temp`, or `weather.*` for all of a view's features at that version.
    pub features: Vec<crate::reference::Reference>,
    /// What is profiled of that which is read by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    #[serde(flatten)]
    pub about: About,
}

#[cfg(test)]
mod tests;
