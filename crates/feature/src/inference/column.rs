//! What was seen of one column.

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampNanosecondType, UInt64Type,
};
use arrow::error::ArrowError;

use crate::datatype::FeatureType;
use crate::definition::{Constant, Literal};
use crate::time::Timestamp;

/// Sets greater than this are not worth listing.
const SET: usize = 12;

/// Text longer than this is no category.
const LONG: usize = 60;

pub(super) struct Observed {
    data_type: FeatureType,
    pub rows: u64,
    pub nulls: u64,
    pub nans: u64,
    pub infinite: u64,
    /// Least and greatest value, NaN and infinities apart; integers, dates, timestamps and decimals.
    whole: Option<(i128, i128)>,
    float: Option<(f64, f64)>,
    /// The distinct texts; none once there are too many.
    texts: Option<BTreeSet<String>>,
}

impl Observed {
    pub fn new(data_type: FeatureType) -> Self {
        let texts = (data_type == FeatureType::String).then(BTreeSet::new);
        Self { data_type, rows: 0, nulls: 0, nans: 0, infinite: 0, whole: None, float: None, texts }
    }

    pub fn observe(&mut self, column: &ArrayRef) -> Result<(), ArrowError> {
        self.rows += column.len() as u64;
        // A dictionary has its nulls in its values too; once it is cast, they are plain.
        let plain = match column.data_type() {
            DataType::Dictionary(_, values) => cast(column, values)?,
            _ => column.clone(),
        };
        self.nulls += plain.null_count() as u64;
        match self.data_type {
            FeatureType::Uint8 | FeatureType::Uint16 | FeatureType::Uint32 | FeatureType::Uint64 => {
                let values = cast(&plain, &DataType::UInt64)?;
                for value in values.as_primitive::<UInt64Type>().iter().flatten() {
                    self.whole(value.into());
                }
            }
            FeatureType::Int8 | FeatureType::Int16 | FeatureType::Int32 | FeatureType::Int64 => {
                let values = cast(&plain, &DataType::Int64)?;
                for value in values.as_primitive::<Int64Type>().iter().flatten() {
                    self.whole(value.into());
                }
            }
            FeatureType::Date => {
                let values = cast(&plain, &DataType::Date32)?;
                for value in values.as_primitive::<Date32Type>().iter().flatten() {
                    self.whole(value.into());
                }
            }
            FeatureType::Timestamp => {
                let values = cast(&plain, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
                for value in values.as_primitive::<TimestampMicrosecondType>().iter().flatten() {
                    self.whole(value.into());
                }
            }
            FeatureType::Decimal { .. } => {
                let values = cast(&plain, &self.data_type.arrow())?;
                for value in values.as_primitive::<Decimal128Type>().iter().flatten() {
                    self.whole(value);
                }
            }
            FeatureType::Float32 | FeatureType::Float64 => {
                let values = cast(&plain, &DataType::Float64)?;
                for value in values.as_primitive::<Float64Type>().iter().flatten() {
                    self.float(value);
                }
            }
            FeatureType::String => self.texts(&plain)?,
            FeatureType::Bool | FeatureType::Binary => {}
        }
        Ok(())
    }

    fn whole(&mut self, value: i128) {
        let (least, greatest) = self.whole.unwrap_or((value, value));
        self.whole = Some((least.min(value), greatest.max(value)));
    }

    fn float(&mut self, value: f64) {
        if value.is_nan() {
            self.nans += 1;
        } else if value.is_infinite() {
            self.infinite += 1;
        } else {
            let (least, greatest) = self.float.unwrap_or((value, value));
            self.float = Some((least.min(value), greatest.max(value)));
        }
    }

    fn texts(&mut self, column: &ArrayRef) -> Result<(), ArrowError> {
        let Some(texts) = &mut self.texts else { return Ok(()) };
        let values = cast(column, &DataType::Utf8)?;
        for value in values.as_string::<i32>().iter().flatten() {
            if !texts.contains(value) {
                if texts.len() == SET || value.len() > LONG {
                    self.texts = None;
                    return Ok(());
                }
                texts.insert(value.to_owned());
            }
        }
        Ok(())
    }

    /// Least and greatest value as they stand in a definition; none for types without a range, or where nothing was seen
    /// that an end could be.
    pub fn range(&self) -> Option<(Literal, Literal)> {
        if self.infinite > 0 {
            return None;
        }
        let literal = |constant: Constant| constant.literal(self.data_type);
        if let Some((least, greatest)) = self.float {
            return Some((literal(Constant::Float(least + 0.0)), literal(Constant::Float(greatest + 0.0))));
        }
        let (least, greatest) = self.whole?;
        let constant = |value: i128| match self.data_type {
            FeatureType::Date => i32::try_from(value).ok().map(Constant::Date),
            FeatureType::Timestamp => {
                i64::try_from(value).ok().map(|micros| Constant::Timestamp(Timestamp(micros)))
            }
            FeatureType::Decimal { .. } => Some(Constant::Decimal(value)),
            _ => Some(Constant::Int(value)),
        };
        Some((literal(constant(least)?), literal(constant(greatest)?)))
    }

    /// A small set of texts that came again and again, and so may be all that there are.
    pub fn categories(&self) -> Option<&BTreeSet<String>> {
        let seen = self.rows - self.nulls;
        self.texts.as_ref().filter(|texts| !texts.is_empty() && seen >= 10 * texts.len() as u64)
    }
}

/// How many times of the column are finer than a microsecond.
pub(super) fn finer_than_micros(column: &ArrayRef) -> u64 {
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let times = column.as_primitive::<TimestampNanosecondType>();
            times.iter().flatten().filter(|nanos| nanos % 1000 != 0).count() as u64
        }
        _ => 0,
    }
}
