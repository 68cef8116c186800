//! What a feature accepts: NaN or not, a range, a set. Compiled from the definition once, run over whole columns.
//!
//! NaN is decided by `nan` alone: where it is accepted, range and set do not look at it. Floats compare as numbers, so
//! -0.0 is 0.0. Null never breaks a rule of this file.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use super::fault::{Fault, Faults};
use crate::datatype::FeatureType;
use crate::definition::{Constant, Feature, LiteralError};

/// All that a feature asks of a cell.
#[derive(Clone, Debug)]
pub(super) struct FeatureRules {
    pub nullable: bool,
    pub rules: Rules,
}

#[derive(Clone, Debug)]
pub(super) struct Rules {
    data_type: FeatureType,
    nan: bool,
    bounds: Option<Bounds>,
    allowed: Option<Allowed>,
}

/// Both inclusive. Integers, dates (days), timestamps (microseconds) and decimals (units of the scale) are whole.
#[derive(Clone, Copy, Debug)]
enum Bounds {
    Whole(Option<i128>, Option<i128>),
    Float(f64, f64),
}

#[derive(Clone, Debug)]
enum Allowed {
    Bool(Vec<bool>),
    Whole(Vec<i128>),
    Float(Vec<f64>),
    Text(HashSet<String>),
}

impl Rules {
    pub(super) fn new(feature: &Feature) -> Result<Self, LiteralError> {
        let bounds = match feature.bounds()? {
            (None, None) => None,
            (least, greatest) if feature.data_type.is_float() => Some(Bounds::Float(
                least.and_then(float).unwrap_or(f64::NEG_INFINITY),
                greatest.and_then(float).unwrap_or(f64::INFINITY),
            )),
            (least, greatest) => Some(Bounds::Whole(least.and_then(whole), greatest.and_then(whole))),
        };
        let allowed = feature.accepted()?.map(|constants| Allowed::new(constants, feature.data_type));
        Ok(Self { data_type: feature.data_type, nan: feature.nan, bounds, allowed })
    }

    /// The faults of a column of the declared type, in the order of rows.
    pub(super) fn faults(&self, array: &ArrayRef) -> Faults {
        let mut faults = Faults::new();
        match self.data_type {
            FeatureType::Bool => self.bools(array, &mut faults),
            FeatureType::Int8 => self.wholes::<Int8Type>(array, &mut faults),
            FeatureType::Int16 => self.wholes::<Int16Type>(array, &mut faults),
            FeatureType::Int32 => self.wholes::<Int32Type>(array, &mut faults),
            FeatureType::Int64 => self.wholes::<Int64Type>(array, &mut faults),
            FeatureType::Uint8 => self.wholes::<UInt8Type>(array, &mut faults),
            FeatureType::Uint16 => self.wholes::<UInt16Type>(array, &mut faults),
            FeatureType::Uint32 => self.wholes::<UInt32Type>(array, &mut faults),
            FeatureType::Uint64 => self.wholes::<UInt64Type>(array, &mut faults),
            FeatureType::Date => self.wholes::<Date32Type>(array, &mut faults),
            FeatureType::Timestamp => self.wholes::<TimestampMicrosecondType>(array, &mut faults),
            FeatureType::Decimal { .. } => self.wholes::<Decimal128Type>(array, &mut faults),
            FeatureType::Float32 => self.floats::<Float32Type>(array, &mut faults),
            FeatureType::Float64 => self.floats::<Float64Type>(array, &mut faults),
            FeatureType::String => self.texts(array, &mut faults),
            // No constant of this type can be written.
            FeatureType::Binary => {}
        }
        // Two rules may have found faults one after the other; a stable sort keeps them in that order within a row.
        faults.sort_by_key(|(row, _)| *row);
        faults
    }

    fn bools(&self, array: &ArrayRef, faults: &mut Faults) {
        let Some(Allowed::Bool(allowed)) = &self.allowed else { return };
        for (row, value) in array.as_boolean().iter().enumerate() {
            if value.is_some_and(|value| !allowed.contains(&value)) {
                faults.push((row, Fault::NotOneOf));
            }
        }
    }

    fn wholes<T>(&self, array: &ArrayRef, faults: &mut Faults)
    where
        T: ArrowPrimitiveType,
        T::Native: TryFrom<i128> + Ord,
    {
        let array = array.as_primitive::<T>();
        // A bound fits the type, as the definition's reader made sure.
        let native = |bound: i128| T::Native::try_from(bound).ok();
        if let Some(Bounds::Whole(least, greatest)) = self.bounds {
            if let Some(least) = least.and_then(native) {
                find(array, Fault::Below, faults, |value| value < least);
            }
            if let Some(greatest) = greatest.and_then(native) {
                find(array, Fault::Above, faults, |value| value > greatest);
            }
        }
        if let Some(Allowed::Whole(allowed)) = &self.allowed {
            let mut allowed: Vec<T::Native> = allowed.iter().copied().filter_map(native).collect();
            allowed.sort_unstable();
            find(array, Fault::NotOneOf, faults, |value| allowed.binary_search(&value).is_err());
        }
    }

    fn floats<T>(&self, array: &ArrayRef, faults: &mut Faults)
    where
        T: ArrowPrimitiveType,
        T::Native: Into<f64>,
    {
        let array = array.as_primitive::<T>();
        if !self.nan {
            find(array, Fault::Nan, faults, |value| value.into().is_nan());
        }
        // Comparisons with NaN are false, and so it passes.
        if let Some(Bounds::Float(least, greatest)) = self.bounds {
            find(array, Fault::Below, faults, |value| value.into() < least);
            find(array, Fault::Above, faults, |value| value.into() > greatest);
        }
        if let Some(Allowed::Float(allowed)) = &self.allowed {
            find(array, Fault::NotOneOf, faults, |value| {
                let value = value.into();
                !value.is_nan() && !allowed.contains(&value)
            });
        }
    }

    fn texts(&self, array: &ArrayRef, faults: &mut Faults) {
        let Some(Allowed::Text(allowed)) = &self.allowed else { return };
        for (row, value) in array.as_string::<i32>().iter().enumerate() {
            if value.is_some_and(|value| !allowed.contains(value)) {
                faults.push((row, Fault::NotOneOf));
            }
        }
    }
}

/// Adds the rows whose value is bad. The first pass has no branch and no look at nulls, so that it runs at the memory's
/// speed.
fn find<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    fault: Fault,
    faults: &mut Faults,
    bad: impl Fn(T::Native) -> bool,
) {
    if !array.values().iter().fold(false, |any, value| any | bad(*value)) {
        return;
    }
    for (row, value) in array.values().iter().enumerate() {
        if bad(*value) && array.is_valid(row) {
            faults.push((row, fault));
        }
    }
}

impl Allowed {
    /// The constants are of the feature's type.
    fn new(constants: Vec<Constant>, data_type: FeatureType) -> Self {
        match data_type {
            FeatureType::Bool => Self::Bool(constants.into_iter().filter_map(bool).collect()),
            FeatureType::Float32 | FeatureType::Float64 => {
                Self::Float(constants.into_iter().filter_map(float).collect())
            }
            FeatureType::String => Self::Text(constants.into_iter().filter_map(text).collect()),
            _ => Self::Whole(constants.into_iter().filter_map(whole).collect()),
        }
    }
}

fn bool(constant: Constant) -> Option<bool> {
    if let Constant::Bool(value) = constant { Some(value) } else { None }
}

fn float(constant: Constant) -> Option<f64> {
    if let Constant::Float(value) = constant { Some(value) } else { None }
}

fn text(constant: Constant) -> Option<String> {
    if let Constant::Text(value) = constant { Some(value) } else { None }
}

fn whole(constant: Constant) -> Option<i128> {
    match constant {
        Constant::Int(value) | Constant::Decimal(value) => Some(value),
        Constant::Date(day) => Some(day.into()),
        Constant::Timestamp(at) => Some(at.micros().into()),
        Constant::Bool(_) | Constant::Float(_) | Constant::Text(_) => None,
    }
}
