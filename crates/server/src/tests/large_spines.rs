//! A spine that is more than the server's memory holds goes up and comes down.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::Float64Type;
use serde_json::json;
use tonic::Code;

use super::fixture::{Running, batch, command, empty_store, options, refused, times};
use crate::ServeOptions;

const MEMORY: u64 = 64 << 20;
const BATCHES: i64 = 80;
const ROWS: i64 = 1_000;

/// A mebibyte each.
fn spine() -> Vec<RecordBatch> {
    let part = |part: i64| {
        let rows = part * ROWS..(part + 1) * ROWS;
        let airport = |row: i64| ["EWR", "JFK"][(row % 2) as usize];
        // Hardly any of it can be compressed.
        let word =
            |row: i64, word: u64| (row as u64 * 128 + word + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let note = |row| (0..128).map(|at| format!("{:08x}", word(row, at))).collect::<String>();
        batch(vec![
            ("origin", Arc::new(StringArray::from_iter_values(rows.clone().map(airport)))),
            ("at", times(rows.clone().map(|row| row % 15))),
            ("row", Arc::new(Int64Array::from_iter_values(rows.clone()))),
            ("note", Arc::new(StringArray::from_iter_values(rows.map(note)))),
        ])
    };
    (0..BATCHES).map(part).collect()
}

async fn small(spill_limit: Option<u64>) -> Running {
    let options = ServeOptions { memory_limit: Some(MEMORY), spill_limit, ..options("127.0.0.1:0") };
    Running::over(empty_store().await, options).await.and_weather().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spine_beyond_memory_goes_up_and_its_features_come_down() {
    let mut server = small(None).await;
    let wanted = json!({ "historical_features": { "features": ["weather.temp"] } });
    let answer = server.exchange(&wanted, spine()).await.unwrap();
    let rows = concat_batches(&answer.schema, &answer.batches).unwrap();
    let sent = concat_batches(&spine()[0].schema(), &spine()).unwrap();
    assert_eq!(rows.project(&[0, 1, 2, 3]).unwrap().columns(), sent.columns());
    let temp = rows.column(4).as_primitive::<Float64Type>();
    for row in 0..rows.num_rows() {
        // What is observed in an hour is known an hour later.
        let hour = (row % 15).min(12).checked_sub(1);
        let expected = hour.map(|hour| (10 * (row % 2 + 1) + hour) as f64);
        assert_eq!(temp.is_valid(row).then(|| temp.value(row)), expected, "row {row}");
    }
    let report = answer.report.unwrap();
    assert_eq!(report["rows"], json!(BATCHES * ROWS));
    let id = json!({ "training_set": report["training_set"] });
    let manifest = server.act("lineament.manifest", &id).await.unwrap();
    assert_eq!(manifest["digest"], report["digest"]);

    // What is compared is held, and refused where it does not fit: by its rows, and not by the bytes that they have in the store.
    for action in ["lineament.bias", "lineament.audit"] {
        let refusal = server.act(action, &id).await;
        refused(refusal, Code::ResourceExhausted, &["the spine of the training set", "--memory-limit"]);
    }

    // The same by its content.
    let kept = server.put(command(&json!({ "spine": {} }).to_string()), spine()).await.unwrap();
    assert_eq!((&kept["spine"], &kept["rows"]), (&manifest["spine"]["digest"], &json!(BATCHES * ROWS)));
    let again = server.put(command(&json!({ "spine": {} }).to_string()), spine()).await.unwrap();
    assert_eq!((&again["spine"], &again["repeated"]), (&kept["spine"], &json!(true)));
    let by_digest = json!({ "historical_features": { "features": ["weather.temp"], "spine": kept["spine"], "record": false } });
    let answer = server.get(by_digest.to_string()).await.unwrap();
    assert_eq!(answer.report.unwrap()["digest"], report["digest"]);
    let digest = kept["spine"].as_str().unwrap();
    let sql = format!(
        "SELECT count(*) AS rows, sum(temp) AS temp FROM historical_features(spine => '{digest}', features => ['weather.temp'])"
    );
    let total = server.sql(&sql).await.unwrap();
    assert_eq!(total.column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0), BATCHES * ROWS);
    assert_eq!(total.column(1).as_primitive::<Float64Type>().value(0), temp.iter().flatten().sum::<f64>());
    given_back(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_with_a_large_spine_is_told() {
    let mut server = small(Some(4 << 20)).await;
    let wanted = |feature: &str| json!({ "historical_features": { "features": [feature], "record": false } });
    let unknown = server.exchange(&wanted("weather.tempp"), spine()).await;
    refused(unknown, Code::InvalidArgument, &["tempp"]);
    let kept = server.put(command(&json!({ "spine": {} }).to_string()), spine()).await;
    refused(kept, Code::ResourceExhausted, &["on disk", "--spill-limit"]);
    let mut recorded = wanted("weather.temp");
    recorded["historical_features"]["record"] = json!(true);
    refused(server.exchange(&recorded, spine()).await, Code::ResourceExhausted, &["--spill-limit"]);
    assert!(server.serving.catalog().refresh().await.unwrap().training_sets().next().is_none());
    given_back(&server).await;
    assert_eq!(server.sql("SELECT count(*) AS n FROM weather").await.unwrap().num_rows(), 1);
}

async fn given_back(server: &Running) {
    for _ in 0..500 {
        if server.serving.memory().held() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{} bytes are still held", server.serving.memory().held());
}
