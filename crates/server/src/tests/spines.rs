//! Spines of which no rows are sent: ingested once and asked for many times, or given by a query.

use std::sync::Arc;

use arrow::array::{AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};
use arrow_flight::FlightDescriptor;
use serde_json::json;
use tonic::Code;

use super::fixture::{Running, batch, command, refused, times, upload, weather_from};

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
    refused(server.get(without.to_string()).await, Code::InvalidArgument, &["neither rows", "`spine_sql`"]);
    let both = "SELECT * FROM historical_features((SELECT 1), spine => 'x', features => ['weather.temp'])";
    refused(server.sql(both).await, Code::InvalidArgument, &["given twice"]);
    let unknown = server.client.do_put(upload(command("{\"spine\": {\"name\": 1}}"), vec![spine()])).await;
    refused(unknown, Code::InvalidArgument, &["`name`"]);
    assert!(server.serving.catalog().refresh().await.unwrap().training_sets().next().is_none());
}

fn asked(query: &str) -> serde_json::Value {
    json!({ "historical_features": { "features": ["weather.temp"], "spine_sql": query } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_gives_the_spine_where_its_rows_are() {
    let mut server = Running::with_weather().await;
    let query = "SELECT origin, valid_at AS at, temp AS label FROM weather WHERE temp >= 18 ORDER BY 1, 2";
    let answer = server.get(asked(query).to_string()).await.unwrap();
    let rows = arrow::compute::concat_batches(&answer.schema, &answer.batches).unwrap();
    // Known half an hour later, so the hour before counts.
    let expected = (17..=20).map(Some).chain([None]).chain((20..=30).map(Some));
    let expected: Float64Array = expected.map(|temp: Option<i32>| temp.map(f64::from)).collect();
    assert_eq!(rows.column(3).as_primitive::<Float64Type>(), &expected);
    let report = answer.report.unwrap();

    // As if the rows had come down and gone up again; and by exchange, in which none go up either.
    let given = server.sql(query).await.unwrap();
    assert_eq!(rows.project(&[0, 1, 2]).unwrap().columns(), given.columns());
    let wanted = json!({ "historical_features": { "features": ["weather.temp"] } });
    let sent = server.exchange(&wanted, vec![given]).await.unwrap();
    assert_eq!(sent.report.unwrap()["digest"], report["digest"]);
    let empty = server.exchange(&asked(query), vec![spine().slice(0, 0)]).await.unwrap();
    assert_eq!(empty.report.unwrap()["digest"], report["digest"]);

    // The set says what its spine was made of, and by which read.
    let id = json!({ "training_set": report["training_set"] });
    let manifest = server.act("lineament.manifest", &id).await.unwrap();
    let of_query = &manifest["spine"]["query"];
    let source = &of_query["sources"][0];
    assert_eq!(
        (&source["label"], &source["sequence"], &source["columns"]),
        (&json!("weather@1"), &report["sequence"], &json!(["origin", "temp", "valid_at"])),
        "{manifest}"
    );
    let label = manifest["lineage"].as_array().unwrap().iter().find(|edge| {
        edge["output"] == "label" && edge["source"]["of"] == "feature_view" && edge["kind"] == "IDENTITY"
    });
    assert_eq!(label.unwrap()["source"]["column"], "temp", "{manifest}");
    server.serving.flush(&catalog::Author::default()).await.unwrap();
    let read = of_query["read"].as_str().unwrap();
    let read = format!(
        "SELECT count(*) FROM lineament.reads WHERE read = '{read}' AND statement = '{query}' AND principal = 'ada'"
    );
    assert_eq!(server.sql(&read).await.unwrap().column(0).as_primitive::<Int64Type>().value(0), 1);

    // More comes in, and the query gives more; the set stays what it was, and so does the state that it is of.
    let more = json!({ "ingest": { "view": "weather", "claim": "back_fill" } });
    server.put(command(&more.to_string()), vec![weather_from(12, 2)]).await.unwrap();
    assert_eq!(server.get(asked(query).to_string()).await.unwrap().rows(), rows.num_rows() + 4);
    let again = server.get(id.to_string()).await.unwrap();
    let made = arrow::compute::concat_batches(&again.schema, &again.batches).unwrap();
    assert_eq!(made.columns(), rows.columns());
    assert_eq!(again.report.unwrap()["verdict"], "equal");
    let mut then = asked(query);
    then["historical_features"]["as_of"] = report["sequence"].clone();
    let then = server.get(then.to_string()).await.unwrap();
    assert_eq!(then.report.unwrap()["digest"], report["digest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_gives_no_spine_is_refused_by_its_name() {
    let mut server = Running::with_weather().await;
    let named = "the query of the spine";
    for (query, code, parts) in [
        (
            "SELECT origin, valid_at AS at FROM weather WHERE temp > 99",
            Code::InvalidArgument,
            [named, "no rows"],
        ),
        ("SELECT origin, valid_at AS at FROM wether", Code::NotFound, [named, "did you mean `weather`"]),
        ("SELECT origin, valid_at AS at, nothing FROM weather", Code::InvalidArgument, [named, "nothing"]),
        ("DROP TABLE weather", Code::PermissionDenied, [named, "only read"]),
        (
            "SELECT origin, valid_at AS at, 1 / (wind_dir - wind_dir) AS x FROM weather",
            Code::InvalidArgument,
            [named, "zero"],
        ),
        // The rules for spines hold for it.
        (
            "SELECT origin, valid_at, valid_at AS seen FROM weather",
            Code::InvalidArgument,
            ["several", "seen"],
        ),
        ("SELECT valid_at AS at FROM weather", Code::InvalidArgument, ["spine", "origin"]),
    ] {
        let status = server.get(asked(query).to_string()).await.expect_err(query);
        assert_eq!(status.code(), code, "{query}: {status:?}");
        for part in parts {
            assert!(status.message().contains(part), "{query}: `{part}` is not in `{}`", status.message());
        }
    }
    let query = "SELECT origin, valid_at AS at FROM weather";
    refused(server.exchange(&asked(query), vec![spine()]).await, Code::InvalidArgument, &["leave one out"]);
    let mut twice = asked(query);
    twice["historical_features"]["spine"] = json!(format!("lmt1:blake3:{}", "0".repeat(64)));
    refused(server.get(twice.to_string()).await, Code::InvalidArgument, &["given twice", "leave one out"]);
    assert!(server.serving.catalog().refresh().await.unwrap().training_sets().next().is_none());
}
