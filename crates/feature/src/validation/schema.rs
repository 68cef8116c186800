//! What can be wrong with a source as a whole, before any row is looked at; all of it is said at once.

use std::collections::HashMap;
use std::fmt;

use arrow::datatypes::{DataType, Schema};

use super::convert::Refusal;
use crate::datatype::FeatureType;

/// One thing that is wrong with a source's columns.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// `setting` is how the definition names the column, which stands there as `…`.
    #[error("the source has no column `{column}`, from which {wanted} is read{}; {}", meant(.nearest), next(.nearest, .setting))]
    Missing { column: String, wanted: String, nearest: Option<String>, setting: String },
    #[error("the source has {times} columns named `{column}`; rename all but one")]
    Repeated { column: String, times: usize },
    #[error("column `{column}` is {found}, which can never be {wanted} of type {declared}; {advice}")]
    Type { column: String, found: String, wanted: String, declared: FeatureType, advice: &'static str },
    #[error(
        "column `{column}`, from which {wanted} is read, holds times without a zone; declare zone in the [time] table of `{view}`, as in zone = \"America/New_York\" or zone = \"UTC\""
    )]
    NaiveTime { column: String, wanted: String, view: String },
    #[error(
        "the source has a column `_retracted`, but `{view}` has an occurrence column, and such views cannot be retracted; leave `_retracted` out"
    )]
    RetractedOccurrence { view: String },
    /// The definitions themselves do not fit together; parsed definitions always do.
    #[error("{0}")]
    Definition(String),
}

fn meant(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|nearest| format!(" (did you mean `{nearest}`?)")).unwrap_or_default()
}

fn next(nearest: &Option<String>, setting: &str) -> String {
    let column = nearest.as_deref().unwrap_or("…");
    format!(
        "rename it in the source, or write {} in the definition",
        setting.replace('…', &format!("{column:?}"))
    )
}

/// Everything that is wrong with a source's columns.
#[derive(Clone, PartialEq, Debug)]
pub struct SchemaErrors {
    /// The feature view.
    pub view: String,
    /// At least one.
    pub errors: Vec<SchemaError>,
    /// The columns that the source has.
    pub columns: Vec<String>,
}

impl fmt::Display for SchemaErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the source does not fit `{}`", self.view)?;
        for error in &self.errors {
            write!(f, "\n  {error}")?;
        }
        if self.errors.iter().any(|error| matches!(error, SchemaError::Missing { .. })) {
            write!(f, "\n  the source's columns are {}", self.columns.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for SchemaErrors {}

/// Columns whose name another column has too, each once.
pub(super) fn repeated(source: &Schema) -> Vec<SchemaError> {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for field in source.fields() {
        *times.entry(field.name()).or_default() += 1;
    }
    let mut errors = Vec::new();
    for field in source.fields() {
        if let Some(times) = times.remove(field.name().as_str()).filter(|times| *times > 1) {
            errors.push(SchemaError::Repeated { column: field.name().clone(), times });
        }
    }
    errors
}

pub(super) fn refused(
    refusal: Refusal,
    column: &str,
    found: &DataType,
    wanted: String,
    declared: FeatureType,
    view: &str,
) -> SchemaError {
    let advice = match refusal {
        Refusal::NoZone => {
            return SchemaError::NaiveTime { column: column.to_owned(), wanted, view: view.to_owned() };
        }
        Refusal::NumberAsTime => {
            "a number does not say its unit or where it starts to count; make it a timestamp in the source (pandas: to_datetime(…, unit=\"s\", utc=True))"
        }
        Refusal::InstantAsDate => {
            "an instant is on different days in different zones; make it a date in the source, or declare a timestamp"
        }
        Refusal::NotText => {
            "such values have many spellings as text; declare its own type, or make it text in the source"
        }
        Refusal::Nested => "a feature is one value; give each part a column of its own in the source",
        Refusal::Never => "declare the type that the source has, or change it in the source",
    };
    let found = type_name(found);
    SchemaError::Type { column: column.to_owned(), found, wanted, declared, advice }
}

/// A source type in the words of definitions, where they have one.
pub(super) fn type_name(data_type: &DataType) -> String {
    use DataType as D;
    let name = match data_type {
        D::Dictionary(_, values) => return type_name(values),
        D::RunEndEncoded(_, values) => return type_name(values.data_type()),
        D::Boolean => "bool",
        D::Utf8 | D::LargeUtf8 | D::Utf8View => "string",
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => "binary",
        D::Date32 | D::Date64 => "date",
        D::Timestamp(_, Some(_)) => "timestamp",
        D::Timestamp(_, None) => "timestamp without zone",
        D::Time32(_) | D::Time64(_) => "time of day",
        D::Duration(_) => "duration",
        D::Interval(_) => "interval",
        D::List(_) | D::LargeList(_) | D::FixedSizeList(..) | D::ListView(_) | D::LargeListView(_) => "list",
        D::Struct(_) => "struct",
        D::Map(..) => "map",
        D::Union(..) => "union",
        D::Decimal32(precision, scale)
        | D::Decimal64(precision, scale)
        | D::Decimal128(precision, scale)
        | D::Decimal256(precision, scale) => return format!("decimal({precision},{scale})"),
        other => return other.to_string().to_ascii_lowercase(),
    };
    name.to_owned()
}
