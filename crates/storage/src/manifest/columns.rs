//! The columns of a manifest.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};

fn required(name: &str, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type, false))
}

fn list(name: &str, item: DataType) -> FieldRef {
    required(name, DataType::List(required("element", item)))
}

pub fn statistics_fields() -> Fields {
    vec![
        required("column", DataType::Utf8),
        required("nulls", DataType::UInt64),
        required("nans", DataType::UInt64),
        Arc::new(Field::new("least", DataType::Binary, true)),
        Arc::new(Field::new("greatest", DataType::Binary, true)),
    ]
    .into()
}

pub fn piece_fields() -> Fields {
    vec![
        required("batch", DataType::FixedSizeBinary(16)),
        required("from", DataType::Int64),
        required("until", DataType::Int64),
        required("bucket", DataType::UInt32),
        required("buckets", DataType::UInt32),
        required("rows", DataType::UInt64),
        required("digest", DataType::Utf8),
    ]
    .into()
}

pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        required("id", DataType::FixedSizeBinary(16)),
        required("path", DataType::Utf8),
        required("version", DataType::UInt32),
        required("from", DataType::Int64),
        required("until", DataType::Int64),
        required("bucket", DataType::UInt32),
        required("buckets", DataType::UInt32),
        required("rows", DataType::UInt64),
        required("bytes", DataType::UInt64),
        Arc::new(Field::new("key_hashes", DataType::List(required("element", DataType::UInt32)), true)),
        list("statistics", DataType::Struct(statistics_fields())),
        list("pieces", DataType::Struct(piece_fields())),
        required("digest", DataType::Utf8),
        required("block_bytes", DataType::UInt32),
        list("blocks", DataType::FixedSizeBinary(32)),
    ]))
}
