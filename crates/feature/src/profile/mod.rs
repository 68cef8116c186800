//! The profile of a batch: what its values are like, feature by feature, without the rows.
//!
//! A profile is a function of the multiset of rows. It is the same, bit for bit, in whatever order the rows came and
//! however they were cut into pieces: sums are exact, bins are fixed by the type, and what is kept of the values is chosen
//! by a hash of each. So profiles of parts merge to that of the whole, and one of a month is made of its days without
//! reading a row. `docs/quality.md` says what each number means.

mod distinct;
mod exact;
mod numbers;
mod stored;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, kernels::aggregate};
use arrow::datatypes::{DataType, Float64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

pub use self::numbers::{Bin, Numbers};
pub use self::stored::ProfileError;
pub use self::values::{KEPT, Value, Values};
use crate::datatype::FeatureType;
use crate::definition::Feature;
use crate::time::Timestamp;
use crate::validation::RETRACTED;

/// What the rows of a batch, or of several, are like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchProfile {
    /// Observations; retractions are counted apart, for they have no values.
    pub rows: u64,
    pub retractions: u64,
    /// The first and the last `valid_at` of all rows.
    pub valid_at: Option<(Timestamp, Timestamp)>,
    /// Columns that the sources had, with their types; those of several sources together.
    pub source: BTreeMap<String, String>,
    /// In the order of the definition.
    pub features: Vec<FeatureProfile>,
}

/// What the values of one feature are like.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureProfile {
    pub feature: String,
    pub data_type: FeatureType,
    /// Observations of batches that have the feature.
    pub rows: u64,
    pub nulls: u64,
    pub nans: u64,
    /// Of numbers, dates and times (in days and microseconds since 1970).
    pub numbers: Option<Numbers>,
    /// Least and greatest text, by its first characters.
    pub texts: Option<(String, String)>,
    pub values: Values,
}

/// Characters of a text that a profile keeps.
const SHOWN: usize = 64;

impl BatchProfile {
    /// An empty profile of rows with these features.
    pub fn of(features: &[Feature]) -> Self {
        let features =
            features.iter().map(|feature| FeatureProfile::empty(feature.name.as_str(), feature.data_type));
        Self { features: features.collect(), ..Self::default() }
    }

    pub fn feature(&self, name: &str) -> Option<&FeatureProfile> {
        self.features.iter().find(|profile| profile.feature == name)
    }

    /// Takes in accepted rows, as validation gives them. Columns that the profile has no feature for are passed over.
    ///
    /// # Errors
    /// Where a column has another type than its feature.
    pub fn add(&mut self, rows: &RecordBatch) -> Result<(), ArrowError> {
        let retracted = rows.column_by_name(RETRACTED).and_then(|column| column.as_boolean_opt());
        let retractions = retracted.map_or(0, BooleanArray::true_count) as u64;
        self.retractions += retractions;
        self.rows += rows.num_rows() as u64 - retractions;
        if let Some(times) = rows.column_by_name("valid_at") {
            let times =
                times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| mistyped("valid_at"))?;
            if let (Some(least), Some(greatest)) = (aggregate::min(times), aggregate::max(times)) {
                self.see_times(Timestamp(least), Timestamp(greatest));
            }
        }
        for profile in &mut self.features {
            if let Some(column) = rows.column_by_name(&profile.feature) {
                profile.add(column, retracted)?;
            }
        }
        Ok(())
    }

    /// The profile of the rows of both.
    ///
    /// # Errors
    /// Where a feature has another type in the other: such batches are not of one line.
    pub fn merge(&mut self, other: &Self) -> Result<(), ProfileError> {
        self.rows += other.rows;
        self.retractions += other.retractions;
        if let Some((least, greatest)) = other.valid_at {
            self.see_times(least, greatest);
        }
        for (column, data_type) in &other.source {
            let known = self.source.entry(column.clone()).or_insert_with(|| data_type.clone());
            // Of two types the one that comes first, so that the order of batches does not matter.
            if *data_type < *known {
                known.clone_from(data_type);
            }
        }
        for profile in &other.features {
            match self.features.iter_mut().find(|known| known.feature == profile.feature) {
                Some(known) => known.merge(profile)?,
                None => self.features.push(profile.clone()),
            }
        }
        Ok(())
    }

    fn see_times(&mut self, least: Timestamp, greatest: Timestamp) {
        self.valid_at = Some(match self.valid_at {
            Some((first, last)) => (first.min(least), last.max(greatest)),
            None => (least, greatest),
        });
    }
}

impl FeatureProfile {
    fn empty(feature: &str, data_type: FeatureType) -> Self {
        let number = !matches!(data_type, FeatureType::Bool | FeatureType::String | FeatureType::Binary);
        Self {
            feature: feature.to_owned(),
            data_type,
            rows: 0,
            nulls: 0,
            nans: 0,
            numbers: number.then(Numbers::default),
            texts: None,
            values: Values::default(),
        }
    }

    /// Values that are neither null nor NaN.
    pub fn count(&self) -> u64 {
        self.rows - self.nulls - self.nans
    }

    /// The share of rows without a value; none of no rows.
    pub fn null_share(&self) -> Option<f64> {
        (self.rows > 0).then(|| (self.nulls + self.nans) as f64 / self.rows as f64)
    }

    /// Whether its values are names of kinds and not amounts.
    pub fn is_category(&self) -> bool {
        self.numbers.is_none()
    }

    fn add(&mut self, column: &ArrayRef, retracted: Option<&BooleanArray>) -> Result<(), ArrowError> {
        if *column.data_type() != self.data_type.arrow() {
            return Err(mistyped(&self.feature));
        }
        let mut show = Shown::new(column)?;
        let rows = Taken { retracted, nulls: column.logical_nulls(), rows: column.len() };
        self.rows += rows.count() as u64;
        if self.numbers.is_some() {
            let floats = as_floats(column)?;
            let floats = floats.as_primitive::<Float64Type>().values();
            match Words::of(column)? {
                // Both zeros are one value.
                Words::Floats(words) => self.add_numbers(
                    &rows,
                    floats,
                    words.values(),
                    |word| (word + 0.0).to_bits().to_le_bytes(),
                    show,
                ),
                Words::Signed(words) => {
                    self.add_numbers(&rows, floats, words.values(), i64::to_le_bytes, show);
                }
                Words::Unsigned(words) => {
                    self.add_numbers(&rows, floats, words.values(), u64::to_le_bytes, show);
                }
                Words::Decimals(words) => {
                    self.add_numbers(&rows, floats, words.values(), i128::to_le_bytes, show);
                }
            }
            return Ok(());
        }
        let hashes = TextHashes::of(column).ok_or_else(|| mistyped(&self.feature))?;
        let texts = column.as_string_opt::<i32>();
        rows.each(&mut self.nulls, |row| {
            self.values.add(hashes.hash(row), || show.text(row));
            if let Some(texts) = texts {
                let text = first_characters(texts.value(row));
                see_text(&mut self.texts, text, text);
            }
        });
        Ok(())
    }

    /// Takes in numbers, with what tells them apart. One loop for each type, for it is a good part of what an ingest computes.
    fn add_numbers<W: Copy, const BYTES: usize>(
        &mut self,
        rows: &Taken<'_>,
        floats: &[f64],
        words: &[W],
        bytes: impl Fn(W) -> [u8; BYTES],
        mut show: Shown<'_>,
    ) {
        let Some(numbers) = &mut self.numbers else { return };
        let (nans, values) = (&mut self.nans, &mut self.values);
        rows.each(&mut self.nulls, |row| {
            let value = floats[row];
            if value.is_nan() {
                *nans += 1;
                return;
            }
            numbers.add(value);
            values.add(values::hash(&bytes(words[row])), || show.text(row));
        });
    }

    fn merge(&mut self, other: &Self) -> Result<(), ProfileError> {
        if self.data_type != other.data_type {
            return Err(ProfileError::Types {
                feature: self.feature.clone(),
                one: self.data_type,
                other: other.data_type,
            });
        }
        self.rows += other.rows;
        self.nulls += other.nulls;
        self.nans += other.nans;
        if let (Some(numbers), Some(more)) = (&mut self.numbers, &other.numbers) {
            numbers.merge(more);
        }
        if let Some((least, greatest)) = &other.texts {
            see_text(&mut self.texts, least, greatest);
        }
        self.values.merge(&other.values);
        Ok(())
    }
}

fn mistyped(column: &str) -> ArrowError {
    ArrowError::SchemaError(format!("column `{column}` has not the type that its feature declares"))
}

fn see_text(known: &mut Option<(String, String)>, least: &str, greatest: &str) {
    match known {
        Some((first, last)) => {
            if least < first.as_str() {
                *first = least.to_owned();
            }
            if greatest > last.as_str() {
                *last = greatest.to_owned();
            }
        }
        None => *known = Some((least.to_owned(), greatest.to_owned())),
    }
}

fn first_characters(text: &str) -> &str {
    // No character is less than a byte.
    if text.len() <= SHOWN {
        return text;
    }
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// Each number as the nearest float64. Whole numbers up to 2^53 are themselves.
fn as_floats(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Date32 => cast(&cast(column, &DataType::Int32)?, &DataType::Float64),
        DataType::Timestamp(_, _) => cast(&cast(column, &DataType::Int64)?, &DataType::Float64),
        _ => cast(column, &DataType::Float64),
    }
}

/// The rows of a column that are taken in: retractions have no values.
struct Taken<'a> {
    retracted: Option<&'a BooleanArray>,
    nulls: Option<NullBuffer>,
    rows: usize,
}

impl Taken<'_> {
    fn count(&self) -> usize {
        self.rows - self.retracted.map_or(0, BooleanArray::true_count)
    }

    /// Each row that has a value, in order; those without are counted.
    fn each(&self, nulls: &mut u64, mut take: impl FnMut(usize)) {
        if self.retracted.is_none() && self.nulls.is_none() {
            (0..self.rows).for_each(take);
            return;
        }
        for row in 0..self.rows {
            if self.retracted.is_some_and(|retracted| retracted.value(row)) {
                continue;
            }
            if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                *nulls += 1;
                continue;
            }
            take(row);
        }
    }
}

/// What tells values of numbers apart: their own bits, in 8 or 16 bytes.
enum Words {
    Floats(Float64Array),
    Signed(Int64Array),
    Unsigned(UInt64Array),
    Decimals(Decimal128Array),
}

impl Words {
    fn of(column: &ArrayRef) -> Result<Self, ArrowError> {
        Ok(match column.data_type() {
            DataType::Float32 | DataType::Float64 => {
                Self::Floats(cast(column, &DataType::Float64)?.as_primitive().clone())
            }
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                Self::Unsigned(cast(column, &DataType::UInt64)?.as_primitive().clone())
            }
            DataType::Decimal128(_, _) => Self::Decimals(column.as_primitive().clone()),
            DataType::Date32 => {
                let days = cast(column, &DataType::Int32)?;
                Self::Signed(cast(&days, &DataType::Int64)?.as_primitive().clone())
            }
            _ => Self::Signed(cast(column, &DataType::Int64)?.as_primitive().clone()),
        })
    }
}

/// What tells texts, bytes and truth values apart.
enum TextHashes<'a> {
    Text(&'a arrow::array::StringArray),
    Bytes(&'a arrow::array::BinaryArray),
    Truth(&'a BooleanArray),
}

impl<'a> TextHashes<'a> {
    fn of(column: &'a ArrayRef) -> Option<Self> {
        let text = column.as_string_opt::<i32>().map(Self::Text);
        let bytes = || column.as_binary_opt::<i32>().map(Self::Bytes);
        text.or_else(bytes).or_else(|| column.as_boolean_opt().map(Self::Truth))
    }

    fn hash(&self, row: usize) -> u64 {
        match self {
            Self::Text(column) => values::hash(column.value(row).as_bytes()),
            Self::Bytes(column) => values::hash(column.value(row)),
            Self::Truth(column) => values::hash(&[u8::from(column.value(row))]),
        }
    }
}

/// Values as people read them, made only for those that are kept.
struct Shown<'a>(ArrayFormatter<'a>);

const OPTIONS: FormatOptions<'static> = FormatOptions::new();

impl<'a> Shown<'a> {
    fn new(column: &'a ArrayRef) -> Result<Self, ArrowError> {
        Ok(Self(ArrayFormatter::try_new(column, &OPTIONS)?))
    }

    fn text(&mut self, row: usize) -> String {
        // A time that the calendar does not reach has no text.
        let text = self.0.value(row).try_to_string().unwrap_or_default();
        if text == "-0.0" { "0.0".to_owned() } else { first_characters(&text).to_owned() }
    }
}

const MICROS_OF_A_DAY: f64 = 86_400_000_000.0;

impl FeatureProfile {
    /// A number of this feature as people read it: dates and times as such.
    pub fn shown(&self, number: f64) -> String {
        match self.data_type {
            FeatureType::Timestamp => Timestamp(number as i64).to_string(),
            FeatureType::Date => {
                let text = Timestamp((number * MICROS_OF_A_DAY) as i64).to_string();
                text.split_once('T').map_or(text.clone(), |(day, _)| day.to_owned())
            }
            _ => number.to_string(),
        }
    }

    /// Least and greatest value as text; none where there is none.
    pub fn ends(&self) -> Option<(String, String)> {
        match &self.numbers {
            Some(numbers) => {
                numbers.ends().map(|(least, greatest)| (self.shown(least), self.shown(greatest)))
            }
            None => self.texts.clone(),
        }
    }
}
