//! What has no content digest, and what the messages say.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date64Array, Decimal256Array, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, i256};

use super::super::{DigestError, HashAlgorithm, TableDigest, digest_batches};

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

fn message(batch: &RecordBatch) -> String {
    digest_batches(HashAlgorithm::Blake3, batch.schema_ref(), [batch]).unwrap_err().to_string()
}

#[test]
fn refused_types_and_names_are_told_before_any_row() {
    let interval = Field::new("gap", DataType::Interval(IntervalUnit::DayTime), true);
    let nested = Field::new("gaps", DataType::List(Arc::new(interval.clone())), true);
    for field in [interval, nested] {
        let name = field.name().clone();
        let error = TableDigest::new(HashAlgorithm::Blake3, &Schema::new(vec![field])).err().unwrap();
        assert!(error.to_string().contains(&format!("column `{name}`")), "{error}");
    }
    let twice =
        Schema::new(vec![Field::new("a", DataType::Int8, true), Field::new("a", DataType::Int8, true)]);
    let error = TableDigest::new(HashAlgorithm::Blake3, &twice).err().unwrap();
    assert_eq!(error, DigestError::DuplicateColumn("a".into()));
    // Names are bytes: two spellings of one letter are two names.
    let spelled = Schema::new(vec![
        Field::new("é", DataType::Int8, true),
        Field::new("e\u{301}", DataType::Int8, true),
    ]);
    assert!(TableDigest::new(HashAlgorithm::Blake3, &spelled).is_ok());
}

#[test]
fn values_that_cannot_be_represented_are_told_with_column_and_value() {
    let dates = batch(vec![("day", Arc::new(Date64Array::from(vec![0, 86_400_001])))]);
    let text = message(&dates);
    assert!(text.contains("column `day`") && text.contains("86400001"), "{text}");
    // Far beyond what days can count.
    let dates = batch(vec![("day", Arc::new(Date64Array::from(vec![i64::MAX / 86_400_000 * 86_400_000])))]);
    assert!(message(&dates).contains("column `day`"));
    let units = i256::from_i128(i128::MAX).wrapping_mul(i256::from_i128(1000));
    let decimals = Decimal256Array::from(vec![units]).with_precision_and_scale(20, 0).unwrap();
    let text = message(&batch(vec![("price", Arc::new(decimals))]));
    assert!(text.contains("column `price`"), "{text}");
}

#[test]
fn batches_of_another_schema_are_told() {
    let int32 = batch(vec![("a", Arc::new(Int32Array::from(vec![1])))]);
    let int64 = batch(vec![("a", Arc::new(Int64Array::from(vec![1])))]);
    let named = batch(vec![("b", Arc::new(Int32Array::from(vec![1])))]);
    let two =
        batch(vec![("a", Arc::new(Int32Array::from(vec![1]))), ("b", Arc::new(Int32Array::from(vec![1])))]);
    let refused = |other: &RecordBatch| {
        let mut table = TableDigest::new(HashAlgorithm::Sha256, int32.schema_ref()).unwrap();
        table.update(&int32).unwrap();
        table.update(other).unwrap_err()
    };
    let expected = DigestError::Type { column: "a".into(), expected: "i32".into(), found: "i64".into() };
    assert_eq!(refused(&int64), expected);
    let expected = DigestError::Name { position: 0, expected: "a".into(), found: "b".into() };
    assert_eq!(refused(&named), expected);
    assert_eq!(refused(&two), DigestError::Columns { expected: 1, found: 2 });
}
