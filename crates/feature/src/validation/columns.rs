//! One column of the view: where it is read from, how it is converted, and how its faults are put into words.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::convert::{Conversion, Converted};
use super::fault::{Fault, Faults};
use super::reason::{Reason, Rejection};
use crate::datatype::FeatureType;
use crate::definition::{Feature, TimeRule};

/// What a column is to its view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Key,
    Occurrence,
    ValidAt,
    KnownAt,
    Feature,
    Retracted,
}

/// A column of the view and the source column that it is read from.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub role: Role,
    /// Among the converted columns.
    pub output: usize,
    /// Among the source's columns.
    pub source: usize,
    pub source_name: Arc<str>,
    pub data_type: FeatureType,
    pub conversion: Conversion,
    /// Who accepts or refuses: an entity, a view, or a feature of another name than its column.
    pub owner: String,
    /// `weather.temp`; a key's is `airport.origin`.
    pub full_name: String,
    /// The unit with a space before it; nothing where there is none.
    pub unit: String,
    /// Least and greatest accepted value, and the accepted values, as text.
    pub least: String,
    pub greatest: String,
    pub accepted: String,
}

/// More accepted values than this are not listed in a message.
const LISTED: usize = 12;

impl Column {
    /// What a feature declares, for its messages.
    pub(super) fn describe(&mut self, feature: &Feature) {
        self.unit = feature.unit.as_ref().map(|unit| format!(" {unit}")).unwrap_or_default();
        let range = feature.range.as_ref();
        let end = |literal: Option<&crate::definition::Literal>| literal.map(unquoted).unwrap_or_default();
        self.least = end(range.and_then(|range| range.least.as_ref()));
        self.greatest = end(range.and_then(|range| range.greatest.as_ref()));
        let values = feature.one_of.as_deref().unwrap_or_default();
        let listed: Vec<String> = values.iter().take(LISTED).map(ToString::to_string).collect();
        self.accepted = listed.join(", ");
        if values.len() > LISTED {
            self.accepted.push_str(&format!(" and {} more", values.len() - LISTED));
        }
    }

    pub(super) fn convert(&self, rows: &RecordBatch) -> Result<Converted, ArrowError> {
        self.conversion.apply(rows.column(self.source))
    }

    /// Rows without a value, apart from those whose value was faulty.
    pub(super) fn nulls(&self, converted: &Converted) -> Faults {
        let mut nulls = Faults::new();
        if converted.array.null_count() == converted.faults.len() {
            return nulls;
        }
        let mut faults = converted.faults.iter().map(|(row, _)| *row).peekable();
        for row in 0..converted.array.len() {
            if faults.next_if_eq(&row).is_none() && converted.array.is_null(row) {
                nulls.push((row, Fault::Null));
            }
        }
        nulls
    }

    /// The faults as rejections of this column.
    pub(super) fn reject(
        &self,
        faults: &Faults,
        rows: &RecordBatch,
        first_row: u64,
        time: &TimeRule,
        rejections: &mut Vec<Rejection>,
    ) -> Result<(), ArrowError> {
        if faults.is_empty() {
            return Ok(());
        }
        let values = Values::new(rows.column(self.source))?;
        // Whole columns are often wrong in one way: the words are found once.
        let mut phrases: Vec<(Fault, Reason, Arc<str>)> = Vec::new();
        for (index, fault) in faults {
            let known = phrases.iter().position(|(known, ..)| known == fault).unwrap_or_else(|| {
                phrases.push((*fault, self.reason(*fault), self.phrase(*fault, time).into()));
                phrases.len() - 1
            });
            let (_, reason, phrase) = &phrases[known];
            rejections.push(Rejection {
                row: first_row + *index as u64,
                index: *index,
                reason: *reason,
                column: Arc::clone(&self.source_name),
                value: values.text(*index),
                phrase: Arc::clone(phrase),
                output: Some(self.output),
            });
        }
        Ok(())
    }

    fn reason(&self, fault: Fault) -> Reason {
        match (fault, self.role) {
            (Fault::Null, Role::Key | Role::Occurrence) => Reason::NullKey,
            (Fault::Null, Role::ValidAt | Role::KnownAt) => Reason::NullTime,
            _ => fault.reason(),
        }
    }

    /// What is wrong with a value, to be read after it.
    fn phrase(&self, fault: Fault, time: &TimeRule) -> String {
        let Self { owner, full_name, unit, data_type, least, greatest, accepted, .. } = self;
        let zone = time.zone.as_deref().unwrap_or("UTC");
        match fault {
            Fault::Null => match self.role {
                Role::Key => format!("is not a key of `{owner}`; every row needs one"),
                Role::Occurrence => format!("does not tell occurrences of `{owner}` apart; every row needs a value"),
                Role::ValidAt => format!("is not a time; every row of `{owner}` needs its valid_at"),
                Role::KnownAt => format!("is not a time; every row of `{owner}` needs its known_at"),
                Role::Feature => format!("is not accepted by `{owner}`, which declares nullable = false"),
                Role::Retracted => "says neither true nor false; leave the column out where nothing is retracted".to_owned(),
            },
            Fault::WrongType => match data_type {
                FeatureType::Bool => "is neither true nor false".to_owned(),
                FeatureType::String => "is not text in UTF-8".to_owned(),
                FeatureType::Date => "is not a date; write it as 2013-07-09".to_owned(),
                FeatureType::Timestamp => "is not a time; write it as 2013-07-09T12:30:00Z".to_owned(),
                _ => format!("is not a number, and `{full_name}` is {data_type}"),
            },
            Fault::OutsideType => match integers(*data_type) {
                Some((least, greatest)) => {
                    format!("is outside of {data_type}, the type of `{full_name}`: {least} to {greatest}")
                }
                None => format!("is outside of {data_type}, the type of `{full_name}`"),
            },
            Fault::Inexact => match data_type {
                FeatureType::Decimal { scale, .. } => {
                    format!("has more than {scale} decimals, and `{full_name}` is {data_type}")
                }
                FeatureType::Float32 | FeatureType::Float64 => {
                    let exact = if *data_type == FeatureType::Float32 { 1u64 << 24 } else { 1 << 53 };
                    format!("would be rounded: {data_type}, the type of `{full_name}`, is exact for whole numbers up to {exact}; declare int64")
                }
                _ => format!("is not a whole number, and `{full_name}` is {data_type}"),
            },
            Fault::NotADay => "is a time within a day, where a date belongs; write it as 2013-07-09".to_owned(),
            Fault::TimeTooFine => {
                "is finer than a microsecond; round it up in the source, for rounding down can leak the future".to_owned()
            }
            Fault::TimeNonexistent => {
                format!("never was in {zone}, whose clocks skipped it; write it with its offset, or in UTC")
            }
            Fault::TimeRepeated => format!(
                "was twice in {zone}, whose clocks went back; write it with its offset, or declare repeated_hour = \"earlier\" or \"later\""
            ),
            Fault::TimeWithoutZone => {
                "has no zone; write it as 2013-07-09T12:30:00Z, or declare zone in the [time] table".to_owned()
            }
            Fault::TimeOutOfRange => "is outside of the years 1 to 9999".to_owned(),
            Fault::DelayOutOfRange => "plus the declared delay is outside of the years 1 to 9999".to_owned(),
            Fault::Nan => format!("is not accepted by `{owner}`, which declares nan = false"),
            Fault::Below => format!("{unit} is below {least}{unit}, the least that `{owner}` accepts").trim_start().to_owned(),
            Fault::Above => {
                format!("{unit} is above {greatest}{unit}, the greatest that `{owner}` accepts").trim_start().to_owned()
            }
            Fault::NotOneOf => format!("is not among the values that `{owner}` accepts: {accepted}"),
            Fault::NothingToTake => {
                format!("is not a retraction, and the source has none of the feature columns of `{owner}`")
            }
        }
    }
}

/// Least and greatest value of an integer type.
fn integers(data_type: FeatureType) -> Option<(i64, u64)> {
    Some(match data_type {
        FeatureType::Int8 => (i8::MIN.into(), i8::MAX as u64),
        FeatureType::Int16 => (i16::MIN.into(), i16::MAX as u64),
        FeatureType::Int32 => (i32::MIN.into(), i32::MAX as u64),
        FeatureType::Int64 => (i64::MIN, i64::MAX as u64),
        FeatureType::Uint8 => (0, u8::MAX.into()),
        FeatureType::Uint16 => (0, u16::MAX.into()),
        FeatureType::Uint32 => (0, u32::MAX.into()),
        FeatureType::Uint64 => (0, u64::MAX),
        _ => return None,
    })
}

fn unquoted(literal: &crate::definition::Literal) -> String {
    match literal {
        crate::definition::Literal::Text(text) => text.clone(),
        other => other.to_string().trim_end_matches(".0").to_owned(),
    }
}

/// The cells of a column as text, for people.
pub(super) struct Values {
    column: ArrayRef,
    quoted: bool,
}

/// Longer values are cut here, in characters.
const SHOWN: usize = 60;

impl Values {
    pub(super) fn new(column: &ArrayRef) -> Result<Self, ArrowError> {
        let plain = match column.data_type() {
            DataType::Dictionary(_, values) => cast(column, values)?,
            DataType::RunEndEncoded(_, values) => cast(column, values.data_type())?,
            _ => Arc::clone(column),
        };
        match plain.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Ok(Self { column: cast(&plain, &DataType::LargeUtf8)?, quoted: true })
            }
            _ => Ok(Self { column: plain, quoted: false }),
        }
    }

    pub(super) fn text(&self, row: usize) -> String {
        if self.column.is_null(row) || *self.column.data_type() == DataType::Null {
            return "null".to_owned();
        }
        if self.quoted {
            let value = self.column.as_string::<i64>().value(row);
            return format!("{:?}", shortened(value));
        }
        let options = FormatOptions::new().with_display_error(false);
        let shown = ArrayFormatter::try_new(&self.column, &options)
            .and_then(|cells| cells.value(row).try_to_string())
            // A time that the calendar does not reach is shown as its number.
            .or_else(|_| {
                let number = cast(&self.column.slice(row, 1), &DataType::Int64)?;
                ArrayFormatter::try_new(&number, &options)?.value(0).try_to_string()
            });
        shortened(&shown.unwrap_or_else(|_| "this value".to_owned()))
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
