//! Metrics and health over HTTP, as whoever watches the server asks for them.

use std::net::SocketAddr;

use arrow_flight::Ticket;
use serde_json::json;
use serving::LastTrackingPass;
use tonic::Code;

use super::fixture::{Running, empty_store, options, path, refused, weather};
use crate::{Error, HttpOptions, ServeOptions, Server};

pub fn watched() -> ServeOptions {
    let http = HttpOptions { address: "127.0.0.1:0".parse().unwrap(), exposed: false };
    ServeOptions { http: Some(http), ..options("127.0.0.1:0") }
}

/// The status and the text of an answer.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// The value of a sample, by its name with labels.
pub async fn sample(address: SocketAddr, name: &str) -> f64 {
    let (code, text) = get(address, "/metrics").await;
    assert_eq!(code, 200);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no `{name}` in\n{text}")).parse().unwrap()
}

/// Waits until a sample has a value; it is counted a moment after the client has its answer.
pub async fn becomes(address: SocketAddr, name: &str, value: f64) {
    for _ in 0..500 {
        if (sample(address, name).await - value).abs() < 1e-9 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("`{name}` is {} and not {value} after ten seconds", sample(address, name).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_counted() {
    let mut server = Running::over(empty_store().await, watched()).await.and_weather().await;
    let http = server.http.unwrap();
    let calls =
        |method: &str, code: &str| format!(r#"lineament_calls_total{{method="{method}",code="{code}"}}"#);
    server.sql("SELECT temp FROM weather").await.unwrap();
    becomes(http, &calls("DoGet", "OK"), 1.0).await;
    assert_eq!(sample(http, r#"lineament_sent_rows_total{method="DoGet"}"#).await, 24.0);
    assert_eq!(sample(http, r#"lineament_received_rows_total{method="DoPut"}"#).await, 24.0);
    for method in ["DoGet", "DoPut", "DoAction"] {
        for way in ["received", "sent"] {
            let name = format!(r#"lineament_{way}_bytes_total{{method="{method}"}}"#);
            assert!(sample(http, &name).await > 0.0, "{name}");
        }
    }
    refused(server.sql("SELECT nothing FROM weather").await, Code::InvalidArgument, &["nothing"]);
    becomes(http, &calls("DoGet", "INVALID_ARGUMENT"), 1.0).await;
    let count = |what: &str| format!(r#"lineament_call_{what}_seconds_count{{method="DoGet"}}"#);
    assert_eq!(sample(http, &count("duration")).await, 2.0);
    assert_eq!(sample(http, &count("first_byte")).await, 1.0, "the one that was refused sent no message");
    assert_eq!(sample(http, "lineament_queries_running").await, 0.0);
    // The upload and both queries waited for their turns, however shortly.
    assert_eq!(sample(http, "lineament_query_wait_seconds_count").await, 3.0);
    let state = server.serving.catalog().state();
    assert!(sample(http, "lineament_log_sequence").await <= state.head.sequence.0 as f64);
    assert!(sample(http, "lineament_memory_limit_bytes").await >= 64e6);
    assert_eq!(sample(http, r#"lineament_cache_entries{cache="footers"}"#).await, 1.0);
    server.sql("SELECT wind_dir FROM weather").await.unwrap();
    assert!(sample(http, r#"lineament_cache_hits_total{cache="footers"}"#).await > 0.0);
    assert!(sample(http, r#"lineament_cache_bytes{cache="footers"}"#).await > 1_000.0);
    becomes(http, "lineament_reads_waiting", 0.0).await;
    assert!(sample(http, "lineament_last_flush_timestamp_seconds").await > 1.6e9);
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_over_the_store_and_over_mlflow_are_told() {
    let mut server = Running::over(empty_store().await, watched()).await.and_weather().await;
    let http = server.http.unwrap();
    let (_, before) = get(http, "/metrics").await;
    assert!(before.contains("\nlineament_last_reconciliation_timestamp_seconds 0\n"), "{before}");
    assert!(before.contains("\nlineament_reconciliation_failures_total 0\n"), "{before}");
    assert!(before.contains("\nlineament_mlflow_passes_total 0\n"), "{before}");
    assert!(!before.contains("lineament_reconciliation_problems"), "what nobody counted: {before}");

    // A set that no run used.
    let wanted = json!({ "historical_features": { "features": ["weather.temp"], "at": "at" } });
    let spine = weather(1).project(&[0, 1]).unwrap();
    server.exchange(&wanted, vec![spine]).await.unwrap();
    server.act("lineament.reconcile", &json!({ "deep": false })).await.unwrap();
    assert_eq!(sample(http, "lineament_reconciliation_problems").await, 1.0);
    assert_eq!(sample(http, "lineament_reconciliation_broken").await, 0.0);
    assert_eq!(sample(http, "lineament_reconciliation_deployed").await, 0.0);
    assert!(sample(http, "lineament_last_reconciliation_timestamp_seconds").await > 1.6e9);

    let at = Some("2024-01-01T00:00:00.5Z".to_owned());
    let good = LastTrackingPass { at, ..LastTrackingPass::default() };
    server.serving.note_tracking_pass(good.clone());
    server.serving.note_tracking_pass(LastTrackingPass { error: Some("it is down".to_owned()), ..good });
    assert_eq!(sample(http, "lineament_mlflow_passes_total").await, 2.0);
    assert_eq!(sample(http, "lineament_mlflow_failures_total").await, 1.0);
    let last = sample(http, "lineament_last_mlflow_pass_timestamp_seconds").await;
    assert_eq!(last, 1_704_067_200.0, "that of the one that did not fail");
}

/// Whatever clients send, the names and labels stay the same few.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_client_becomes_a_label() {
    let mut server = Running::over(empty_store().await, watched()).await;
    let http = server.http.unwrap();
    let series = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit_once(' ').map(|(name, _)| name.to_owned())).collect::<Vec<_>>()
    };
    let (_, before) = get(http, "/metrics").await;
    for secret in ["hunter2", "zebra"] {
        let sql = format!("SELECT '{secret}' FROM {secret}");
        server.sql(&sql).await.unwrap_err();
        server.act(&format!("lineament.{secret}"), &json!({})).await.unwrap_err();
        server.put(path(secret), vec![weather(1)]).await.unwrap_err();
    }
    let (_, after) = get(http, "/metrics").await;
    assert!(!after.contains("hunter2") && !after.contains("zebra") && !after.contains("ada"), "{after}");
    let (before, after) = (series(&before), series(&after));
    let new: Vec<&String> = after.iter().filter(|name| !before.contains(name)).collect();
    assert!(new.iter().all(|name| name.starts_with("lineament_calls_total{")), "{new:?}");
    assert!(new.len() <= 4, "{new:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told() {
    let server = Running::over(empty_store().await, watched()).await;
    let http = server.http.unwrap();
    assert_eq!(get(http, "/healthz").await, (200, "the process answers\n".to_owned()));
    assert_eq!(get(http, "/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(get(http, "/").await.0, 404);
    let posted = reqwest::Client::new().post(format!("http://{http}/metrics")).send().await.unwrap();
    assert_eq!(posted.status().as_u16(), 405);
    server.begin_to_stop().await.unwrap().unwrap();
    // Whoever has the port by now is not this server.
    let after = reqwest::get(format!("http://{http}/readyz")).await;
    assert!(
        !after.is_ok_and(|answer| answer.status().is_success()),
        "it is answered after the server has ended"
    );
}

#[tokio::test]
async fn other_machines_see_metrics_only_where_that_is_said() {
    let http = HttpOptions { address: "0.0.0.0:0".parse().unwrap(), exposed: false };
    let with = |http| ServeOptions { http: Some(http), ..options("127.0.0.1:0") };
    let refused = Server::bind(empty_store().await, with(http)).await.err().unwrap();
    assert!(matches!(refused, Error::Exposed(_)), "{refused}");
    assert!(refused.to_string().contains("--http-exposed"), "{refused}");
    let exposed = HttpOptions { exposed: true, ..http };
    assert!(Server::bind(empty_store().await, with(exposed)).await.is_ok());
    let first = Server::bind(empty_store().await, watched()).await.unwrap();
    let taken = HttpOptions { address: first.http_address().unwrap(), exposed: false };
    let taken = Server::bind(empty_store().await, with(taken)).await.err().unwrap();
    assert!(matches!(taken, Error::Bind { .. }), "{taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_forms_of_the_text_are_given() {
    let mut server = Running::over(empty_store().await, watched()).await;
    server.client.do_get(Ticket::new(json!({ "sql": "SELECT 1" }).to_string())).await.unwrap();
    let ask = async |accepts: &str| {
        let request = reqwest::Client::new().get(format!("http://{}/metrics", server.http.unwrap()));
        let answer = request.header("accept", accepts).send().await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (kind, answer.text().await.unwrap())
    };
    let (kind, text) = ask("application/openmetrics-text; version=1.0.0,text/plain;q=0.5").await;
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(text.ends_with("# EOF\n") && text.contains("# TYPE lineament_calls counter\n"), "{text}");
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    let (kind, text) = ask("*/*").await;
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    assert!(text.contains("# TYPE lineament_calls_total counter\n") && !text.contains("# EOF"), "{text}");
}
