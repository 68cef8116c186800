//! Each plain Flight call, good and bad.

use std::sync::Arc;

use arrow::array::{
    Array, AsArray, DictionaryArray, Float64Array, Int32Array, LargeListArray, LargeStringArray, RecordBatch,
    StringArray,
};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use arrow_flight::encode::DictionaryHandling;
use arrow_flight::{Criteria, Empty, FlightDescriptor, FlightInfo};
use futures::TryStreamExt;
use serde_json::json;
use tonic::Code;

use super::fixture::{
    AIRPORT, Running, WEATHER, all, batch, command, empty_store, options, path, refused, times, upload,
    weather, weather_from, with_header,
};
use crate::ServeOptions;

#[tokio::test(flavor = "multi_thread")]
async fn definitions_are_planned_and_applied() {
    let mut server = Running::empty().await;
    let files = json!({ "files": { "airport.toml": AIRPORT, "weather.toml": WEATHER } });

    let plan = server.act("lineament.plan", &files).await.unwrap();
    assert_eq!(plan["sequence"], json!(null));
    assert_eq!(
        plan["changes"][1],
        json!({
            "subject": "feature_view", "project": "default", "name": "weather", "action": "create", "effect": "harmless", "services": [],
            "felt_by": { "derived_views": [], "training_sets": [], "model_versions": [], "deployments": [] }, "untraced": null,
            "text": "+ feature view weather@1",
        })
    );
    assert_eq!(plan["changes"][0]["subject"], "entity");
    let applied = server.act("lineament.apply", &files).await.unwrap();
    assert_eq!(applied["sequence"], 1);
    let again = server.act("lineament.apply", &files).await.unwrap();
    assert_eq!(again["sequence"], json!(null));
    assert_eq!(again["changes"][1]["action"], "keep");
    let described = WEATHER.replace("ttl", "description = \"hourly\"\nttl");
    let plan = server
        .act("lineament.plan", &json!({ "files": { "a.toml": AIRPORT, "w.toml": described } }))
        .await
        .unwrap();
    assert_eq!(plan["changes"][1]["action"], "describe");
    let shorter = WEATHER.replace("3h", "2h");
    let plan = server
        .act("lineament.plan", &json!({ "files": { "a.toml": AIRPORT, "w.toml": shorter } }))
        .await
        .unwrap();
    assert_eq!(plan["changes"][1]["action"], "next_version");

    let status = server.act("lineament.status", &json!({})).await.unwrap();
    assert_eq!(status["sequence"], 1);
    assert_eq!(status["program"], "lineament test");
    assert_eq!(status["store"], json!(server.serving.catalog().state().store));

    let wrong = WEATHER.replace("float64", "flot64");
    let body = json!({ "files": { "airport.toml": AIRPORT, "weather.toml": wrong } });
    refused(
        server.act("lineament.apply", &body).await,
        Code::InvalidArgument,
        &["weather.toml", "flot64", "float64"],
    );
    refused(
        server.act("lineament.plan", &json!({ "file": {} })).await,
        Code::InvalidArgument,
        &["`file`", "`files`"],
    );
    refused(
        server.act("lineament.plan", &json!({ "files": { "a": 1 } })).await,
        Code::InvalidArgument,
        &["`a`", "text"],
    );
    refused(server.act("lineament.status", &json!({ "x": 1 })).await, Code::InvalidArgument, &["`x`"]);
    refused(server.act("lineament.aply", &files).await, Code::NotFound, &["did you mean `lineament.apply`"]);
    refused(server.act("BeginTransaction", &json!({})).await, Code::Unimplemented, &["transactions"]);
    assert_eq!(server.act("lineament.status", &json!({})).await.unwrap()["sequence"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_are_listed() {
    let mut server = Running::empty().await;
    let types: Vec<_> =
        server.client.list_actions(Empty {}).await.unwrap().into_inner().try_collect().await.unwrap();
    let names: Vec<&str> = types.iter().map(|action| action.r#type.as_str()).collect();
    for name in [
        "lineament.plan",
        "lineament.apply",
        "lineament.replay",
        "lineament.explain",
        "lineament.explain_value",
        "lineament.diff",
        "lineament.audit",
        "lineament.status",
        "lineament.hold",
        "lineament.lift_hold",
        "lineament.plan_policies",
        "lineament.apply_policies",
        "lineament.lift_policies",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_are_placed_and_lifted() {
    let mut server = Running::with_weather().await;
    let wanted = json!({ "node": "weather@1", "reason": "case 17" });
    let placed = server.act("lineament.hold", &wanted).await.unwrap();
    assert_eq!((&placed["kind"], &placed["reason"]), (&json!("version"), &json!("case 17")));
    let state = server.serving.catalog().refresh().await.unwrap();
    assert!(state.holds().all()[0].is_in_force(state.head.sequence));
    for (node, reason, code, told) in [
        ("wether@1", "case 17", Code::NotFound, "weather"),
        ("weather@1.temp", "case 17", Code::InvalidArgument, "what can be held"),
        ("weather@1", " ", Code::InvalidArgument, "say why"),
    ] {
        let body = json!({ "node": node, "reason": reason });
        refused(server.act("lineament.hold", &body).await, code, &[told]);
    }
    let lift = json!({ "hold": placed["hold"], "reason": "closed" });
    let lifted = server.act("lineament.lift_hold", &lift).await.unwrap();
    assert_eq!((&lifted["id"], &lifted["reason"]), (&placed["id"], &json!("closed")));
    let state = server.serving.catalog().refresh().await.unwrap();
    assert!(!state.holds().all()[0].is_in_force(state.head.sequence));
    refused(server.act("lineament.lift_hold", &lift).await, Code::InvalidArgument, &["is lifted already"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_need_a_program_that_reads_them_and_something_to_lift() {
    let mut server = Running::empty().await;
    let files = json!({ "files": { "base.cedar": "permit(principal, action, resource);" } });
    for action in ["lineament.plan_policies", "lineament.apply_policies"] {
        refused(server.act(action, &files).await, Code::PermissionDenied, &["built without them"]);
        refused(server.act(action, &json!({ "file": {} })).await, Code::InvalidArgument, &["file"]);
        let wrong = json!({ "files": {}, "definitions": { "a.toml": "kind = \"entty\"" } });
        refused(server.act(action, &wrong).await, Code::InvalidArgument, &["a.toml:1"]);
    }
    let lift = json!({ "reason": "an exercise" });
    refused(server.act("lineament.lift_policies", &lift).await, Code::InvalidArgument, &["nothing to lift"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_put_into_a_view() {
    let mut server = Running::with_weather().await;
    let report = server.put(path("weather"), vec![weather_from(12, 2)]).await.unwrap();
    assert_eq!(report["view_version"], "weather@1");
    assert_eq!(report["rows"], 4);
    assert_eq!(report["rejected"], 0);
    assert_eq!(report["repeated"], false);
    assert_eq!(report["skipped_files"], 0);
    assert_eq!(report["filtered"], 0);
    assert!(report["batch"].is_string() && report["sequence"].is_u64());

    // Some rows are rejected, and said so.
    let mut columns = weather_from(14, 2).columns().to_vec();
    columns[2] = Arc::new(Float64Array::from(vec![1.0, 1_048.0, 2.0, 3.0]));
    let some = RecordBatch::try_new(weather(2).schema(), columns.clone()).unwrap();
    let report = server.put(path("weather"), vec![some]).await.unwrap();
    assert_eq!(report["rejected"], 1);
    assert_eq!(report["reasons"], json!([{ "reason": "above_range", "column": "temp", "rows": 1 }]));
    assert!(report["examples"][0].as_str().unwrap().contains("1048"), "{report}");

    // Too many are, and nothing is taken.
    columns[2] = Arc::new(Float64Array::from(vec![1_001.0, 1_048.0, 2_000.0, 3.0]));
    let most = RecordBatch::try_new(weather(2).schema(), columns).unwrap();
    refused(
        server.put(path("weather"), vec![most]).await,
        Code::FailedPrecondition,
        &["3 of 4 rows", "reject_above"],
    );

    refused(
        server.put(path("wether"), vec![weather(1)]).await,
        Code::NotFound,
        &["`wether`", "did you mean `weather`"],
    );
    refused(
        server.put(path("weather@1"), vec![weather(1)]).await,
        Code::InvalidArgument,
        &["version in force"],
    );
    refused(server.put(command("SELECT 1"), vec![weather(1)]).await, Code::InvalidArgument, &["path"]);
    let no_key = weather(1).project(&[1, 2, 3]).unwrap();
    refused(server.put(path("weather"), vec![no_key]).await, Code::InvalidArgument, &["origin"]);
    let empty = weather(1).slice(0, 0);
    refused(server.put(path("weather"), vec![empty]).await, Code::InvalidArgument, &["no rows"]);
    let two = FlightDescriptor::new_path(vec!["a".into(), "b".into()]);
    refused(server.put(two, vec![weather(1)]).await, Code::InvalidArgument, &["2 parts"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_command_has_key_claim_and_steps() {
    let mut server = Running::with_weather().await;
    let wanted = json!({ "ingest": { "view": "weather", "key": "monday", "claim": "correction", "steps": ["clean", "join"] } });
    let first = server.put(command(&wanted.to_string()), vec![weather(3)]).await.unwrap();
    assert_eq!(first["repeated"], false);
    let second = server.put(command(&wanted.to_string()), vec![weather(3)]).await.unwrap();
    assert_eq!(second["repeated"], true);
    assert_eq!((&second["batch"], &second["sequence"]), (&first["batch"], &first["sequence"]));
    refused(
        server.put(command(&wanted.to_string()), vec![weather(4)]).await,
        Code::InvalidArgument,
        &["`monday`", "choose another"],
    );
    for (wrong, part) in [
        (json!({ "ingest": { "view": "weather", "kee": "x" } }), "`kee`"),
        (json!({ "ingest": { "view": "weather", "claim": "backfill" } }), "`back_fill`"),
        (json!({ "ingets": { "view": "weather" } }), "`ingets`"),
        (json!({ "ingest": {} }), "`view`"),
    ] {
        refused(
            server.put(command(&wrong.to_string()), vec![weather(1)]).await,
            Code::InvalidArgument,
            &[part],
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_go_into_the_log() {
    let mut server = Running::with_weather().await;
    let mut request =
        with_header(upload(path("weather"), vec![weather_from(12, 1)]), "lineament-run", "run-7");
    request.metadata_mut().insert("lineament-experiment", "late flights".parse().unwrap());
    server.client.do_put(request).await.unwrap().into_inner().message().await.unwrap();
    let state = server.serving.catalog().refresh().await.unwrap();
    let by = &state.log().last().unwrap().by;
    assert_eq!((by.run.as_deref(), by.experiment.as_deref()), (Some("run-7"), Some("late flights")));
    assert_eq!((by.principal.as_str(), by.program.as_str()), ("ada", "lineament test"));

    let long = with_header(upload(path("weather"), vec![weather(1)]), "lineament-run", &"x".repeat(513));
    refused(server.client.do_put(long).await, Code::InvalidArgument, &["`lineament-run`", "512"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_planned_and_run() {
    let mut server = Running::with_weather().await;
    for descriptor in [
        path("weather"),
        path("weather@1"),
        path("default.weather"),
        command("SELECT * FROM weather"),
        command("{\"sql\": \"SELECT * FROM weather\"}"),
    ] {
        let (schema, answer) = server.planned(descriptor.clone()).await.unwrap();
        assert_eq!(answer.rows(), 24);
        assert_eq!(answer.schema.as_ref(), &schema, "{descriptor}");
        let told = server.client.get_schema(descriptor).await.unwrap().into_inner();
        assert_eq!(arrow::datatypes::Schema::try_from(&told).unwrap(), schema);
        assert!(answer.report.is_none());
    }
    let rows = server.sql("SELECT avg(temp) AS mean FROM weather WHERE origin = 'JFK'").await.unwrap();
    assert_eq!(rows.column(0).as_primitive::<Float64Type>().value(0), 25.5);
    // No rows are an answer too, with a schema.
    let answer = server.get(r#"{"sql": "SELECT temp FROM weather WHERE temp > 100"}"#).await.unwrap();
    assert_eq!((answer.rows(), answer.schema.field(0).name().as_str()), (0, "temp"));

    for (descriptor, code, parts) in [
        (path("wether"), Code::NotFound, &["did you mean `weather`"][..]),
        (path("weather@9"), Code::InvalidArgument, &["weather@1"]),
        (command("SELECT tmp FROM weather"), Code::InvalidArgument, &["tmp"]),
        (command("SELEC 1"), Code::InvalidArgument, &["selec"]),
        (command(""), Code::InvalidArgument, &["empty"]),
        (command("{\"sqll\": \"SELECT 1\"}"), Code::InvalidArgument, &["`sqll`"]),
        (command("{\"sql\": \"SELECT 1\", \"x\": 1}"), Code::InvalidArgument, &[]),
        (FlightDescriptor::new_cmd(vec![0xff, 0xfe]), Code::InvalidArgument, &["utf-8"]),
        (FlightDescriptor::new_path(vec![]), Code::InvalidArgument, &["0 parts"]),
        (command(&format!("SELECT '{}'", "x".repeat(2 << 20))), Code::InvalidArgument, &["at most"]),
    ] {
        let answer = server.client.get_flight_info(descriptor.clone()).await;
        let status = refused(answer, code, &[]);
        for part in parts {
            assert!(status.message().to_lowercase().contains(part), "{status:?}");
        }
        refused(server.client.get_schema(descriptor).await, code, &[]);
    }
    refused(server.get("SELECT 1").await, Code::InvalidArgument, &["ticket"]);
    refused(server.get("{\"training_set\": \"x\"}").await, Code::InvalidArgument, &["`x` is not an id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_amid_the_rows_is_a_status() {
    let mut server = Running::with_weather().await;
    let answer = server.get(r#"{"sql": "SELECT 7 / (wind_dir - 50) FROM weather"}"#).await;
    refused(answer, Code::InvalidArgument, &["zero"]);
    assert_eq!(server.sql("SELECT 1").await.unwrap().num_rows(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_listed() {
    let mut server = Running::with_weather().await;
    let flights = all(server.client.list_flights(Criteria::default()).await).await;
    assert_eq!(flights.len(), 1);
    assert_eq!(flights[0].flight_descriptor.as_ref().unwrap().path, ["weather"]);
    let ticket = flights[0].endpoint[0].ticket.clone().unwrap();
    let answer = server.get(ticket.ticket).await.unwrap();
    assert_eq!(answer.rows(), 24);
    assert_eq!(answer.schema.as_ref(), &flights[0].clone().try_decode_schema().unwrap());
    let some = Criteria { expression: "x".into() };
    refused(server.client.list_flights(some).await, Code::InvalidArgument, &["criteria"]);
    let polled = server.client.poll_flight_info(path("weather")).await.unwrap().into_inner();
    assert_eq!((polled.progress, polled.flight_descriptor), (Some(1.0), None));
    // A ticket is sealed anew each time.
    let unsealed = |mut info: FlightInfo| {
        let tickets: Vec<_> = info.endpoint.drain(..).map(|endpoint| endpoint.ticket.is_some()).collect();
        (info, tickets)
    };
    let info = server.client.get_flight_info(path("weather")).await.unwrap().into_inner();
    assert_eq!(polled.info.map(unsealed), Some(unsealed(info)));
    let wrong = server.client.poll_flight_info(path("wether")).await;
    refused(wrong, Code::NotFound, &["did you mean `weather`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_a_spine_come_back_as_they_went() {
    let mut server = Running::with_weather().await;
    let large = LargeListArray::from_iter_primitive::<Int64Type, _, _>(vec![
        Some(vec![Some(1), None]),
        None,
        Some(vec![Some(3)]),
    ]);
    let carriers: DictionaryArray<Int32Type> = vec![Some("UA"), None, Some("DL")].into_iter().collect();
    let spine = batch(vec![
        ("origin", Arc::new(StringArray::from(vec![Some("EWR"), Some("JFK"), None]))),
        ("at", times([5, 6, 7].into_iter())),
        ("carrier", Arc::new(carriers)),
        ("stops", Arc::new(large)),
        ("note", Arc::new(LargeStringArray::from(vec!["a", "b", "c"]))),
    ]);
    let messages = arrow_flight::encode::FlightDataEncoderBuilder::new()
        .with_dictionary_handling(DictionaryHandling::Resend)
        .with_flight_descriptor(Some(command(
            &json!({ "historical_features": { "features": ["weather.temp"], "record": false } }).to_string(),
        )));
    // The library's encoder would announce the large list as a small one, so it goes up as a text column only.
    let sent = spine.project(&[0, 1, 2, 4]).unwrap();
    let messages = messages.with_schema(sent.schema()).build(futures::stream::iter([Ok(sent.clone())]));
    let messages: Vec<_> = messages.try_collect().await.unwrap();
    let answer = server.client.do_exchange(futures::stream::iter(messages)).await.unwrap().into_inner();
    let answer = super::fixture::read(answer).await.unwrap();
    for (column, field) in sent.columns().iter().zip(sent.schema().fields()) {
        let (at, got) = answer.schema.column_with_name(field.name()).unwrap();
        assert_eq!(got.data_type(), field.data_type());
        assert_eq!(answer.batches[0].column(at), column);
    }

    // Downwards, the large list stays large: our encoder, the library's decoder.
    let encoded =
        crate::answer::Answer::batches(spine.schema(), vec![spine.clone()]).encode(Default::default());
    let decoded: Vec<RecordBatch> = arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(
        encoded.map_err(arrow_flight::error::FlightError::from),
    )
    .try_collect()
    .await
    .unwrap();
    assert_eq!(decoded, [spine]);
}

#[tokio::test(flavor = "multi_thread")]
async fn great_batches_travel_in_small_messages() {
    let rows = 600_000;
    let wide = batch(vec![
        ("n", Arc::new(Int32Array::from_iter_values(0..rows))),
        ("text", Arc::new(StringArray::from_iter_values((0..rows).map(|n| format!("row {n:>20}"))))),
    ]);
    let messages: Vec<_> = crate::answer::Answer::batches(wide.schema(), vec![wide.clone()])
        .encode(Default::default())
        .try_collect()
        .await
        .unwrap();
    assert!(messages.len() > 8, "{}", messages.len());
    assert!(messages.iter().all(|message| message.data_body.len() < 3 << 20));
    let stream = futures::stream::iter(messages.into_iter().map(Ok));
    let decoded: Vec<RecordBatch> =
        arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(stream)
            .try_collect()
            .await
            .unwrap();
    assert_eq!(arrow::compute::concat_batches(&wide.schema(), &decoded).unwrap(), wide);
    assert_eq!(wide.column(1).data_type(), &DataType::Utf8);
    assert_eq!(decoded[0].column(0).null_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_over_the_store_is_in_the_status() {
    let mut server = Running::empty().await;
    assert!(server.act("lineament.status", &json!({})).await.unwrap()["reconciliation"].is_null());
    let report = server.act("lineament.reconcile", &json!({ "deep": true })).await.unwrap();
    assert_eq!(
        (&report["deep"], &report["broken"], &report["problems"]),
        (&json!(true), &json!(0), &json!([]))
    );
    let status = server.act("lineament.status", &json!({})).await.unwrap();
    assert_eq!(status["reconciliation"]["problems"], 0);
    assert_eq!(status["reconciliation"]["at"], report["at"]);
    refused(server.act("lineament.reconcile", &json!({ "dep": 1 })).await, Code::InvalidArgument, &["`dep`"]);

    // On a schedule it comes by itself.
    let options = ServeOptions {
        reconcile_every: Some(std::time::Duration::from_millis(20)),
        compact_every: None,
        ..options("127.0.0.1:0")
    };
    let mut server = Running::over(empty_store().await, options).await;
    for _ in 0..500 {
        if server.serving.last_reconciliation().is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let status = server.act("lineament.status", &json!({})).await.unwrap();
    assert_eq!(status["reconciliation"]["broken"], 0);
}
