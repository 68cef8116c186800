//! Features for a spine, and what is recorded of them: the report, replay, explain.

use std::sync::Arc;

use arrow::array::{AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Float64Type;
use serde_json::json;
use tonic::Code;

use super::fixture::{Running, batch, command, path, refused, times, upload, weather};

fn spine() -> RecordBatch {
    batch(vec![
        (
            "origin",
            Arc::new(StringArray::from(vec![Some("JFK"), Some("EWR"), None, Some("LGA"), Some("EWR")])),
        ),
        ("at", times([5, 3, 5, 5, 400].into_iter())),
        ("label", Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5]))),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spine_goes_up_and_its_features_come_down() {
    let mut server = Running::with_weather().await;
    let wanted =
        json!({ "historical_features": { "features": ["weather.temp"], "at": "at", "name": "late" } });
    let answer = server.exchange(&wanted, vec![spine().slice(0, 2), spine().slice(2, 3)]).await.unwrap();
    let names: Vec<&str> = answer.schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["origin", "at", "label", "temp"]);
    let rows = arrow::compute::concat_batches(&answer.schema, &answer.batches).unwrap();
    assert_eq!(rows.project(&[0, 1, 2]).unwrap().columns(), spine().columns());
    // Known half an hour later, so the hour before counts.
    let expected = Float64Array::from(vec![Some(24.0), Some(12.0), None, None, None]);
    assert_eq!(rows.column(3).as_primitive::<Float64Type>(), &expected);

    let report = answer.report.unwrap();
    assert_eq!(report["rows"], 5);
    assert_eq!(report["features"][0]["output"], "temp");
    assert_eq!(report["features"][0]["nulls"]["expired"], 1, "{report}");
    assert!(report["digest"].as_str().unwrap().starts_with("lmt1:blake3:"));
    assert_eq!(report["views"][0]["version"], "weather@1");
    let id = report["training_set"].as_str().unwrap().to_owned();

    // More comes in; the set stays what it was.
    let again = json!({ "ingest": { "view": "weather", "claim": "back_fill" } });
    server.put(command(&again.to_string()), vec![weather(12)]).await.unwrap();
    let again = server.get(json!({ "training_set": id }).to_string()).await.unwrap();
    assert_eq!(arrow::compute::concat_batches(&again.schema, &again.batches).unwrap(), rows);
    let replayed = again.report.unwrap();
    assert_eq!((&replayed["verdict"], &replayed["digest"]), (&json!("equal"), &report["digest"]));
    let replayed = server.act("lineament.replay", &json!({ "training_set": id })).await.unwrap();
    assert_eq!((&replayed["verdict"], &replayed["rows"]), (&json!("equal"), &json!(5)));

    let cell = json!({ "training_set": id, "row": 0, "column": "temp" });
    let explained = server.act("lineament.explain", &cell).await.unwrap();
    assert_eq!(explained["value"].to_string().trim_matches('"').parse::<f64>().unwrap(), 24.0, "{explained}");
    assert_eq!(explained["winner"]["principal"], "ada", "{explained}");

    refused(
        server.act("lineament.explain", &json!({ "training_set": id, "row": 99, "column": "temp" })).await,
        Code::NotFound,
        &["99"],
    );
    refused(
        server.act("lineament.explain", &json!({ "training_set": id, "row": 0 })).await,
        Code::InvalidArgument,
        &["`column`"],
    );
    let nobody = "01890000-0000-7000-8000-000000000000";
    refused(
        server.act("lineament.replay", &json!({ "training_set": nobody })).await,
        Code::NotFound,
        &[nobody],
    );
    refused(server.get(json!({ "training_set": nobody }).to_string()).await, Code::NotFound, &[nobody]);
    let planned = server.planned(command(&json!({ "training_set": id }).to_string())).await.unwrap();
    assert_eq!(planned.0, *rows.schema());
    assert_eq!(arrow::compute::concat_batches(&planned.1.schema, &planned.1.batches).unwrap(), rows);
    refused(
        server.client.get_flight_info(command(&json!({ "training_set": nobody }).to_string())).await,
        Code::NotFound,
        &[nobody],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_whose_bias_cannot_be_told_is_given_and_recorded() {
    let mut server = Running::with_weather().await;
    let never = TimestampMicrosecondArray::from(vec![None::<i64>]).with_timezone("UTC");
    let spine = batch(vec![("origin", Arc::new(StringArray::from(vec!["JFK"]))), ("at", Arc::new(never))]);
    let wanted = json!({ "historical_features": { "features": ["weather.temp"], "bias": true } });
    let answer = server.exchange(&wanted, vec![spine]).await.unwrap();
    assert_eq!(answer.rows(), 1);
    let report = answer.report.unwrap();
    let why = report["bias_error"].as_str().unwrap();
    assert!(why.contains("no row of the set has a time in `at`"), "{report}");
    assert!(report.get("bias").is_none(), "{report}");
    let id = json!({ "training_set": report["training_set"] });
    assert_eq!(server.act("lineament.replay", &id).await.unwrap()["verdict"], "equal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_says_why_a_feature_is_null_leads_to_the_feature() {
    let mut server = Running::with_weather().await;
    let wanted = json!({ "historical_features": { "features": ["weather.temp"], "null_reasons": true } });
    let report = server.exchange(&wanted, vec![spine()]).await.unwrap().report.unwrap();
    let cell = |column: &str| json!({ "training_set": report["training_set"], "row": 4, "column": column });
    let refusal = server.act("lineament.explain", &cell("temp__null_reason")).await;
    refused(refusal, Code::InvalidArgument, &["why the feature `temp` is null; explain `temp`"]);
    let explained = server.act("lineament.explain", &cell("temp")).await.unwrap();
    assert_eq!(explained["null_reason"], "expired", "{explained}");
    let refusal = server.act("lineament.explain", &cell("label")).await;
    refused(refusal, Code::InvalidArgument, &["`label` is a column of the spine"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_for_features_are_refused() {
    let mut server = Running::with_weather().await;
    for (wanted, code, part) in [
        (json!({ "historical_features": { "features": ["weather.tmp"] } }), Code::InvalidArgument, "temp"),
        (json!({ "historical_features": { "features": ["wether.temp"] } }), Code::InvalidArgument, "weather"),
        (
            json!({ "historical_features": { "features": ["weather.temp"], "at": "when" } }),
            Code::InvalidArgument,
            "when",
        ),
        (
            json!({ "historical_features": { "features": ["weather.temp"], "tll": {} } }),
            Code::InvalidArgument,
            "`tll`",
        ),
        (json!({ "historical_features": { "features": "weather.temp" } }), Code::InvalidArgument, "sequence"),
        (json!({ "historical_features": {} }), Code::InvalidArgument, "`features`"),
        (json!({ "features": {} }), Code::InvalidArgument, "`historical_features`"),
    ] {
        let answer = server.exchange(&wanted, vec![spine()]).await;
        let status = answer.expect_err(&wanted.to_string());
        assert!(
            matches!(status.code(), found if found == code || found == Code::NotFound),
            "{wanted}: {status:?}"
        );
        assert!(status.message().contains(part), "{wanted}: {status:?}");
    }
    let good = json!({ "historical_features": { "features": ["weather.temp"] } });
    refused(
        server.exchange(&good, vec![spine().project(&[1, 2]).unwrap()]).await,
        Code::InvalidArgument,
        &["origin"],
    );
    let to_a_path = server.client.do_exchange(upload(path("weather"), vec![spine()])).await;
    refused(to_a_path, Code::InvalidArgument, &["historical_features"]);
    let nothing = server.client.do_exchange(futures::stream::empty()).await;
    refused(nothing, Code::InvalidArgument, &["descriptor"]);
    assert!(server.serving.catalog().refresh().await.unwrap().training_sets().next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_are_compared_and_audited_over_flight() {
    let mut server = Running::with_weather().await;
    let mut ids = Vec::new();
    for known_by in [None, Some("2030-01-01T00:00:00Z")] {
        let wanted = json!({ "historical_features": { "features": ["weather.temp"], "at": "at", "known_by": known_by } });
        let report = server.exchange(&wanted, vec![spine()]).await.unwrap().report.unwrap();
        ids.push(report["training_set"].as_str().unwrap().to_owned());
    }
    let pair = json!({ "a": ids[0], "b": ids[1] });
    let diff = server.act("lineament.diff", &pair).await.unwrap();
    // With hindsight the value of the row's own hour counts.
    let expected = json!([{ "column": "temp", "class": "value", "cause": "knowledge", "cells": 2 }]);
    assert_eq!((&diff["changes"], &diff["equal"]), (&expected, &json!(false)), "{diff}");
    let cells = server.get(json!({ "diff": pair }).to_string()).await.unwrap();
    assert_eq!((cells.rows(), &cells.report.unwrap()["changes"]), (2, &expected));
    let same = server.act("lineament.diff", &json!({ "a": ids[0], "b": ids[0] })).await.unwrap();
    assert_eq!(same["equal"], true);

    let honest = server.act("lineament.audit", &json!({ "training_set": ids[0] })).await.unwrap();
    assert_eq!((&honest["clean"], &honest["judged_by"]), (&json!(true), &json!("provenance")), "{honest}");
    let leaky = server.get(json!({ "audit": { "training_set": ids[1] } }).to_string()).await.unwrap();
    assert_eq!((leaky.rows(), &leaky.report.unwrap()["leaked_rows"]), (2, &json!(2)));
    let set = server.get(json!({ "training_set": ids[1] }).to_string()).await.unwrap();
    let wanted = json!({ "audit": { "columns": { "temp": "weather.temp" }, "at": "at" } });
    let table = server.exchange(&wanted, set.batches).await.unwrap();
    let rows = table.rows();
    let report = table.report.unwrap();
    assert_eq!(
        (rows, &report["leaked_rows"], &report["judged_by"]),
        (2, &json!(2), &json!("value")),
        "{report}"
    );
    assert_eq!(report["columns"][0]["lead"]["least"], 30 * 60 * 1_000_000i64, "{report}");

    let value =
        json!({ "feature": "weather.temp", "key": { "origin": "JFK" }, "at": "1970-01-01T05:00:00Z" });
    let cell = json!({ "training_set": ids[0], "row": 0, "column": "temp" });
    let (value, cell) = (
        server.act("lineament.explain_value", &value).await.unwrap(),
        server.act("lineament.explain", &cell).await.unwrap(),
    );
    for member in ["value", "reference", "key", "at", "winner", "losers_by_reason"] {
        assert_eq!(value[member], cell[member], "{member}");
    }
    refused(server.act("lineament.diff", &json!({ "a": ids[0] })).await, Code::InvalidArgument, &["`b`"]);
    refused(
        server
            .act("lineament.explain_value", &json!({ "feature": "weather.temp", "key": {}, "at": "now" }))
            .await,
        Code::InvalidArgument,
        &["`now` is not an instant"],
    );
    for ticket in
        [json!({ "diff": { "a": ids[0], "b": ids[1] } }), json!({ "audit": { "training_set": ids[0] } })]
    {
        refused(
            server.client.get_flight_info(command(&ticket.to_string())).await,
            Code::InvalidArgument,
            &["DoGet"],
        );
    }
}
