use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int8Array, Int64Array, StringArray};

use super::*;

fn key() -> MaskKey {
    MaskKey::new([7; 32])
}

#[test]
fn the_stronger_mask_wins_in_either_order() {
    let ascending = [Mask::Round(1.0), Mask::Round(10.0), Mask::Hash, Mask::Null];
    for (place, weak) in ascending.into_iter().enumerate() {
        for strong in &ascending[place..] {
            assert_eq!(weak.stronger(*strong), *strong);
            assert_eq!(strong.stronger(weak), *strong);
        }
    }
}

#[test]
fn masks_are_written_as_they_are_read() {
    for text in ["null", "hash", "round:10", "round:0.5"] {
        assert_eq!(text.parse::<Mask>().unwrap().to_string(), text);
    }
    for text in ["", "nulls", "round", "round:", "round:0", "round:-1", "round:NaN", "round:inf", "round:x"] {
        assert_eq!(text.parse::<Mask>().unwrap_err(), MaskError(text.to_owned()));
    }
}

#[test]
fn numbers_are_rounded_to_multiples_and_keep_their_type() {
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(14.9), None, Some(-15.0), Some(4.0)]));
    let rounded: ArrayRef = Arc::new(Float64Array::from(vec![Some(10.0), None, Some(-20.0), Some(0.0)]));
    assert_eq!(&Mask::Round(10.0).apply(&floats, &key()), &rounded);
    let whole: ArrayRef = Arc::new(Int8Array::from(vec![Some(14), Some(-15), Some(127), None]));
    // 130 is no int8.
    let rounded: ArrayRef = Arc::new(Int8Array::from(vec![Some(10), Some(-20), None, None]));
    assert_eq!(&Mask::Round(10.0).apply(&whole, &key()), &rounded);
    let ends: ArrayRef = Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX, 3]));
    // The greatest step is as long as the greatest int64.
    let rounded: ArrayRef = Arc::new(Int64Array::from(vec![-i64::MAX, i64::MAX, 0]));
    assert_eq!(&Mask::Round(1e300).apply(&ends, &key()), &rounded);
}

#[test]
fn hashes_are_the_same_for_the_same_value_and_key_alone() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("JFK"), None, Some("LGA"), Some("JFK")]));
    let hashed = Mask::Hash.apply(&texts, &key());
    let hashed = arrow::array::AsArray::as_string::<i32>(&hashed);
    assert_eq!(hashed.value(0).len(), 32);
    assert_eq!(hashed.value(0), hashed.value(3));
    assert_ne!(hashed.value(0), hashed.value(2));
    assert!(arrow::array::Array::is_null(hashed, 1));
    let other = Mask::Hash.apply(&texts, &MaskKey::new([8; 32]));
    assert_ne!(arrow::array::AsArray::as_string::<i32>(&other).value(0), hashed.value(0));
}

#[test]
fn what_a_mask_cannot_do_to_a_type_it_hides() {
    let truths: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
    for mask in [Mask::Null, Mask::Hash, Mask::Round(1.0)] {
        let shown = mask.apply(&truths, &key());
        assert_eq!(shown.null_count(), 2, "{mask}");
        assert_eq!(shown.data_type(), truths.data_type());
    }
    assert_eq!(Mask::Hash.of_type(&arrow::datatypes::DataType::Float64), Mask::Null);
    assert_eq!(Mask::Round(2.0).of_type(&arrow::datatypes::DataType::Float64), Mask::Round(2.0));
}

#[test]
fn a_key_is_not_shown() {
    assert_eq!(format!("{:?}", key()), "MaskKey(…)");
}
