//! Spines that are ingested once and asked for many times.

use std::sync::Arc;

use arrow::array::{AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Float64Type;
use arrow_flight::FlightDescriptor;
use serde_json::json;
use tonic::Code;

use super::fixture::{Running, batch, command, refused, times, upload};

fn spine() -> RecordBatch {
    batch(vec![
        ("origin", Arc::new(StringArray::from(vec![Some("JFK"), Some("EWR"), None]))),
        ("at", times([5, 3, 5].into_iter())),
        ("label", Arc::new(Int64Array::from(vec![1, 2, 3]))),
    ])
}

fn keep() -> FlightDescriptor {
    command(&json!({ "spine": {} }).to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spine_is_ingested_once_and_asked_many_times() {
    let mut server = Running::with_weather().await;
    let kept = server.put(keep(), vec![spine().slice(0, 2), spine().slice(2, 1)]).await.unwrap();
    assert_eq!((&kept["rows"], &kept["repeated"]), (&json!(3), &json!(false)), "{kept}");
    assert_eq!(kept["columns"], json!(["origin", "at", "label"]));
    let again = server.put(keep(), vec![spine()]).await.unwrap();
    assert_eq!((&again["spine"], &again["repeated"]), (&kept["spine"], &json!(true)));

    let wanted = |features: &[&str]| json!({ "historical_features": { "features": features, "spine": kept["spine"] } });
    let first = server.get(wanted(&["weather.temp"]).to_string()).await.unwrap();
    let rows = arrow::compute::concat_batches(&first.schema, &first.batches).unwrap();
    assert_eq!(rows.project(&[0, 1, 2]).unwrap().columns(), spine().columns());
    let expected = Float64Array::from(vec![Some(24.0), Some(12.0), None]);
    assert_eq!(rows.column(3).as_primitive::<Float64Type>(), &expected);
    let second = server.get(wanted(&["weather.wind_dir"]).to_string()).await.unwrap();
    let (first, second) = (first.report.unwrap(), second.report.unwrap());
    assert_ne!(first["training_set"], second["training_set"]);

    // Both sets name the one object, and a replay finds it.
    let mut paths = Vec::new();
    for report in [&first, &second] {
        let id = json!({ "training_set": report["training_set"] });
        assert_eq!(server.act("lineament.replay", &id).await.unwrap()["verdict"], "equal");
        let manifest = server.act("lineament.manifest", &id).await.unwrap();
        assert_eq!(manifest["spine"]["digest"], kept["spine"]);
        paths.push(manifest["spine"]["object"]["path"].clone());
    }
    assert_eq!(paths[0], paths[1]);

    // The same by exchange, in which no rows go up, and in SQL.
    let sent = server.exchange(&wanted(&["weather.temp"]), vec![spine().slice(0, 0)]).await.unwrap();
    assert_eq!(sent.report.unwrap()["digest"], first["digest"]);
    let digest = kept["spine"].as_str().unwrap();
    let sql = format!("SELECT * FROM historical_features(spine => '{digest}', features => ['weather.temp'])");
    assert_eq!(server.sql(&sql).await.unwrap().columns(), rows.columns());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_spine_is_refused() {
    let mut server = Running::with_weather().await;
    let nothing = format!("lmt1:blake3:{}", "0".repeat(64));
    let ask =
        |spine: &str| json!({ "historical_features": { "features": ["weather.temp"], "spine": spine } });
    let none = server.get(ask(&nothing).to_string()).await;
    refused(none, Code::NotFound, &["no spine lmt1:blake3:000", "DoPut"]);
    for wrong in ["", "lmt1", "../../log/0", "lmt1:blake3:../x", "lmt1:md5:00"] {
        refused(server.get(ask(wrong).to_string()).await, Code::InvalidArgument, &["digest"]);
        let sql =
            format!("SELECT * FROM historical_features(spine => '{wrong}', features => ['weather.temp'])");
        refused(server.sql(&sql).await, Code::InvalidArgument, &["digest"]);
    }
    refused(server.exchange(&ask(&nothing), vec![spine()]).await, Code::InvalidArgument, &["leave one out"]);
    refused(server.put(keep(), vec![spine().slice(0, 0)]).await, Code::InvalidArgument, &["no rows"]);
    let without = json!({ "historical_features": { "features": ["weather.temp"] } });
    refused(server.get(without.to_string()).await, Code::InvalidArgument, &["neither rows"]);
    let both = "SELECT * FROM historical_features((SELECT 1), spine => 'x', features => ['weather.temp'])";
    refused(server.sql(both).await, Code::InvalidArgument, &["given twice"]);
    let unknown = server.client.do_put(upload(command("{\"spine\": {\"name\": 1}}"), vec![spine()])).await;
    refused(unknown, Code::InvalidArgument, &["`name`"]);
    assert!(server.serving.catalog().refresh().await.unwrap().training_sets().next().is_none());
}
