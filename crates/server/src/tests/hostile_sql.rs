//! SQL can only read, and no statement reaches a file.

use arrow_flight::Ticket;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::StreamExt;
use serde_json::json;
use tonic::{Code, Status};

use super::fixture::{Running, command};
use super::sql_corpus::{ESCAPES, READS, WRITES};

/// A statement as it is, and hidden in others.
fn hidden(statement: &str) -> [String; 9] {
    [
        statement.to_owned(),
        format!("EXPLAIN {statement}"),
        format!("EXPLAIN ANALYZE {statement}"),
        format!("EXPLAIN VERBOSE {statement}"),
        format!("/* */ -- x\n {statement}"),
        format!("WITH x AS ({statement}) SELECT * FROM x"),
        format!("SELECT * FROM ({statement}) x"),
        format!("SELECT 1; {statement}"),
        format!("{statement}; SELECT 1"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_do_more_than_read_are_refused() {
    let mut server = Running::with_weather().await;
    let before = server.serving.catalog().refresh().await.unwrap().head.sequence;
    assert!(WRITES.len() + ESCAPES.len() >= 200, "{} and {}", WRITES.len(), ESCAPES.len());
    let texts: Vec<String> = WRITES.iter().chain(ESCAPES).flat_map(|statement| hidden(statement)).collect();
    let wrong: Vec<String> = futures::stream::iter(texts)
        .map(|text| {
            let mut client = server.client.clone();
            async move {
                let mut statements = FlightSqlServiceClient::new_from_inner(client.clone());
                let ticket = Ticket::new(json!({ "sql": text }).to_string());
                let answers = [
                    ("GetFlightInfo", client.get_flight_info(command(&text)).await.map(|_| ())),
                    ("GetSchema", client.get_schema(command(&text)).await.map(|_| ())),
                    ("DoGet", client.do_get(ticket).await.map(|_| ())),
                    (
                        "prepare",
                        statements.prepare(text.clone(), None).await.map(|_| ()).map_err(Status::from),
                    ),
                ];
                let wrong = answers.into_iter().filter_map(|(call, answer)| match answer {
                    Ok(()) => Some(format!("{call} takes `{text}`")),
                    Err(status) => match status.code() {
                        Code::InvalidArgument | Code::PermissionDenied | Code::NotFound => None,
                        _ => Some(format!("{call} of `{text}`: {status:?}")),
                    },
                });
                wrong.collect::<Vec<_>>()
            }
        })
        .buffer_unordered(8)
        .concat()
        .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // Plain statements of every kind that can be read as SQL are told that they are not allowed, not merely that they failed.
    let mut forbidden = 0;
    for write in WRITES {
        let status = server.sql(write).await.unwrap_err();
        if status.code() == Code::PermissionDenied {
            assert!(status.message().contains("only read"), "{write}: {status:?}");
            forbidden += 1;
        }
    }
    assert!(forbidden >= 70, "{forbidden}");
    assert_eq!(server.sql("SELECT * FROM weather").await.unwrap().num_rows(), 24);
    let after = server.serving.catalog().refresh().await.unwrap();
    let written: Vec<_> = after.log().iter().filter(|line| line.by.sequence > before).collect();
    // The last query and no other may have been recorded meanwhile.
    assert!(
        written.iter().all(|line| line.records.iter().all(|(_, name)| *name == "reads_recorded")),
        "{written:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_reads_is_allowed() {
    let mut server = Running::with_weather().await;
    for text in READS {
        server.sql(text).await.unwrap_or_else(|status| panic!("{text}: {status:?}"));
    }
}
