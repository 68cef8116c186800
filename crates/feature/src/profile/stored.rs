//! A profile as the JSON that lies beside the log. No number in it is beyond 2^53: sums and hashes are hexadecimal text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::distinct::Registers;
use super::numbers::{BINS, Octave};
use super::{BatchProfile, FeatureProfile, Numbers, Value, Values};
use crate::datatype::FeatureType;
use crate::time::Timestamp;

/// The format that this program writes, and the only one that it reads.
const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("it is not the JSON of a profile: {0}")]
    Shape(String),
    #[error("it has format {0}, and this program knows {FORMAT}; a newer Lineament wrote it")]
    Format(u32),
    #[error("what it says of the feature `{feature}` contradicts itself: {why}")]
    Feature { feature: String, why: &'static str },
    #[error("the feature `{feature}` is {one} in one profile and {other} in the other")]
    Types { feature: String, one: FeatureType, other: FeatureType },
}

#[derive(Serialize, Deserialize)]
struct StoredBatch {
    format: u32,
    rows: u64,
    retractions: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_at: Option<[Timestamp; 2]>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    source: BTreeMap<String, String>,
    features: Vec<StoredFeature>,
}

#[derive(Serialize, Deserialize)]
struct StoredFeature {
    feature: String,
    #[serde(rename = "type")]
    data_type: FeatureType,
    rows: u64,
    nulls: u64,
    nans: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    numbers: Option<StoredNumbers>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    texts: Option<[String; 2]>,
    values: Vec<StoredValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registers: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredNumbers {
    infinite: u64,
    /// As text, so that every reader has the same number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends: Option<[String; 2]>,
    octaves: Vec<StoredOctave>,
}

#[derive(Serialize, Deserialize)]
struct StoredOctave {
    octave: u16,
    sum: String,
    squares: String,
    /// Bin and count.
    bins: Vec<(u16, u64)>,
}

#[derive(Serialize, Deserialize)]
struct StoredValue {
    hash: String,
    value: String,
    count: u64,
}

impl BatchProfile {
    /// The bytes of a profile: the same for the same rows.
    pub fn to_json(&self) -> Vec<u8> {
        let stored = StoredBatch {
            format: FORMAT,
            rows: self.rows,
            retractions: self.retractions,
            valid_at: self.valid_at.map(|(least, greatest)| [least, greatest]),
            source: self.source.clone(),
            features: self.features.iter().map(store).collect(),
        };
        // Text and numbers only, so that this cannot fail.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads what `to_json` wrote.
    ///
    /// # Errors
    /// For anything else, a later format among it.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ProfileError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let shape = |error: serde_json::Error| ProfileError::Shape(error.to_string());
        let Format { format } = serde_json::from_slice(bytes).map_err(shape)?;
        if format != FORMAT {
            return Err(ProfileError::Format(format));
        }
        let stored: StoredBatch = serde_json::from_slice(bytes).map_err(shape)?;
        Ok(Self {
            rows: stored.rows,
            retractions: stored.retractions,
            valid_at: stored.valid_at.map(|[least, greatest]| (least, greatest)),
            source: stored.source,
            features: stored.features.into_iter().map(read).collect::<Result<_, _>>()?,
        })
    }
}

fn store(profile: &FeatureProfile) -> StoredFeature {
    let octave = |octave: &Octave| StoredOctave {
        octave: octave.octave,
        sum: format!("{:x}", octave.sum),
        squares: match octave.squares {
            (low, 0) => format!("{low:x}"),
            (low, high) => format!("{high:x}{low:032x}"),
        },
        bins: (0..).zip(octave.counts).filter(|(_, count)| *count > 0).collect(),
    };
    let numbers = profile.numbers.as_ref().map(|numbers| StoredNumbers {
        infinite: numbers.infinite(),
        ends: numbers.ends().map(|(least, greatest)| [least.to_string(), greatest.to_string()]),
        octaves: numbers.sorted().into_iter().map(octave).collect(),
    });
    let value = |value: Value| StoredValue {
        hash: format!("{:016x}", value.hash),
        value: value.text,
        count: value.count,
    };
    StoredFeature {
        feature: profile.feature.clone(),
        data_type: profile.data_type,
        rows: profile.rows,
        nulls: profile.nulls,
        nans: profile.nans,
        numbers,
        texts: profile.texts.clone().map(|(least, greatest)| [least, greatest]),
        values: profile.values.kept().into_iter().map(value).collect(),
        registers: profile.values.registers().map(Registers::text),
    }
}

fn read(stored: StoredFeature) -> Result<FeatureProfile, ProfileError> {
    let name = stored.feature.clone();
    let wrong = |why: &'static str| ProfileError::Feature { feature: name.clone(), why };
    if stored.nulls.checked_add(stored.nans).is_none_or(|absent| absent > stored.rows) {
        return Err(wrong("it has more nulls than rows"));
    }
    let number = FeatureProfile::empty("", stored.data_type).numbers.is_some();
    if number != stored.numbers.is_some() {
        return Err(wrong("its type and its numbers do not go together"));
    }
    let numbers = stored.numbers.map(|numbers| {
        let ends = match numbers.ends {
            Some([least, greatest]) => Some((finite(&least)?, finite(&greatest)?)),
            None => None,
        };
        let octaves = numbers.octaves.into_iter().map(octave).collect::<Option<Vec<_>>>()?;
        Numbers::from_parts(numbers.infinite, ends, octaves)
    });
    let numbers = match numbers {
        Some(None) => return Err(wrong("its numbers cannot be read")),
        Some(numbers) => numbers,
        None => None,
    };
    let registers = match stored.registers.as_deref().map(Registers::read) {
        Some(None) => return Err(wrong("its registers cannot be read")),
        Some(registers) => registers,
        None => None,
    };
    let value = |stored: StoredValue| {
        let hash = u64::from_str_radix(&stored.hash, 16).ok()?;
        Some(Value { hash, text: stored.value, count: stored.count })
    };
    let values: Option<Vec<Value>> = stored.values.into_iter().map(value).collect();
    let values = values.and_then(|values| Values::from_parts(values, registers));
    Ok(FeatureProfile {
        data_type: stored.data_type,
        rows: stored.rows,
        nulls: stored.nulls,
        nans: stored.nans,
        numbers,
        texts: stored.texts.map(|[least, greatest]| (least, greatest)),
        values: values.ok_or_else(|| wrong("its values cannot be read"))?,
        feature: stored.feature,
    })
}

fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn octave(stored: StoredOctave) -> Option<Octave> {
    let mut counts = [0; BINS];
    for (bin, count) in stored.bins {
        *counts.get_mut(usize::from(bin))? = count;
    }
    let cut = stored.squares.len().saturating_sub(32);
    if !stored.squares.is_ascii() {
        return None;
    }
    let (high, low) = stored.squares.split_at(cut);
    let high = if high.is_empty() { 0 } else { u64::from_str_radix(high, 16).ok()? };
    Some(Octave {
        octave: stored.octave,
        counts,
        sum: u128::from_str_radix(&stored.sum, 16).ok()?,
        squares: (u128::from_str_radix(low, 16).ok()?, high),
    })
}
