//! The published vectors, in every form in which Arrow can hold their values.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema};
use serde_json::{Value, json};

use super::super::{HashAlgorithm, digest_batches, type_text};
use super::arrays::{Style, array, data_type};

fn batch(vector: &Value, style: Style) -> RecordBatch {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for column in vector["columns"].as_array().unwrap() {
        let text = column["type"].as_str().unwrap();
        let data_type: DataType = data_type(text, style);
        assert_eq!(type_text(&data_type).as_deref(), Some(text));
        let values = match &column["values"] {
            Value::Array(values) => values.clone(),
            range => (range["from"].as_i64().unwrap()..range["until"].as_i64().unwrap())
                .map(|i| json!(i))
                .collect(),
        };
        fields.push(Field::new(column["name"].as_str().unwrap(), data_type.clone(), true));
        columns.push(array(&data_type, &values, style));
    }
    let rows = vector["rows"].as_u64().unwrap() as usize;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).unwrap()
}

#[test]
fn tables_give_the_digests_of_the_vectors() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/vectors/lmt1.json");
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let vectors = vectors["vectors"].as_array().unwrap();
    assert!(vectors.len() >= 50);
    let mut checked = 0;
    for vector in vectors {
        let long = vector["rows"].as_u64().unwrap() > 1000;
        for (text, lists) in [(0, 0), (1, 1), (2, 2), (0, 3)] {
            for (encoding, garbage, widths) in [
                (0, false, false),
                (0, true, false),
                (0, false, true),
                (1, false, false),
                (1, true, false),
                (2, false, false),
                (2, true, true),
            ] {
                // Dictionaries of a long vector would have more keys than their type can count.
                if long && (encoding == 1 || text > 0 || lists > 0) {
                    continue;
                }
                let batch = batch(vector, Style { text, lists, encoding, garbage, widths });
                for algorithm in HashAlgorithm::ALL {
                    let name = algorithm.name();
                    let result = digest_batches(algorithm, batch.schema_ref(), [&batch]).unwrap();
                    let expected = format!("lmt1:{name}:{}", vector[name].as_str().unwrap());
                    assert_eq!(result.digest.to_string(), expected, "{}", vector["name"]);
                    assert_eq!(result.rows, batch.num_rows() as u64);
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 2000, "{checked}");
}
