//! Names, handles and tickets that were made up: none reaches beyond what they name.

use std::path::{Path, PathBuf};

use arrow_flight::sql::{
    Any, CommandPreparedStatementQuery, CommandStatementIngest, ProstMessageExt, TableDefinitionOptions,
    TableExistsOption, TableNotExistOption, TicketStatementQuery,
};
use arrow_flight::{FlightDescriptor, Ticket};
use catalog::{Author, Catalog};
use prost::Message;
use serde_json::{Value, json};
use serving::Serving;
use storage::Store;
use storage::environment::Clock;
use tonic::{Code, Status};

use super::fixture::{AIRPORT, Running, WEATHER, command, options, path, refused, weather};

/// What is no name of anything, on any system.
fn names() -> Vec<String> {
    let given = [
        "..",
        ".",
        "/",
        "../weather",
        "../../etc/passwd",
        "/etc/passwd",
        "./weather",
        "weather/../weather",
        "weather/",
        "data/weather",
        "%2e%2e",
        "%2e%2e%2fweather",
        "%252e%252e",
        "..%2f",
        "weather%00",
        "weather\0",
        "\0",
        "weather\n",
        "weather\r\nx: y",
        " weather",
        "weather ",
        "#1",
        "weather#1",
        "weather?x",
        "C:\\x",
        "\\\\host\\share",
        "..\\weather",
        "CON",
        "~",
        "$HOME",
        "${HOME}",
        "`id`",
        "$(id)",
        "weather;",
        "weather--",
        "weather' OR '1'='1",
        "weather\" OR \"1\"=\"1",
        "\"weather\"",
        "ｗeather",
        "wea\u{200b}ther",
        "we\u{0301}ather",
        "\u{202e}weather",
        "🌧",
        "*",
        "wea*",
        "weather@",
        "weather@0",
        "weather@-1",
        "weather@1.5",
        "weather@01x",
        "weather@99999999999999999999",
        "weather@1@1",
        "@1",
        "default.",
        ".weather",
        "a.b.c.d",
        "default..weather",
        "lineament/log",
        "file:///etc/passwd",
        "s3://bucket/key",
        "memory://",
        "-",
        "--help",
        "1weather",
    ];
    let mut names: Vec<String> = given.iter().map(|name| (*name).to_owned()).collect();
    assert!(names.len() >= 60, "{}", names.len());
    names.push("w".repeat(300));
    names.push("w".repeat(100_000));
    names.push("../".repeat(10_000));
    names
}

#[track_caller]
fn not_taken<T: std::fmt::Debug>(answer: Result<T, Status>, what: &str) {
    let status = answer.expect_err(what);
    assert!(
        matches!(status.code(), Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition),
        "{what}: {status:?}"
    );
    assert!(status.message().len() > 10, "{what}: {status:?}");
}

fn is_refusal(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::PermissionDenied | Code::NotFound)
}

fn every_file(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { every_file(&path, found) } else { found.push(path) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_reaches_a_path() {
    let outside = tempfile::tempdir().unwrap();
    let root = outside.path().join("store");
    let author =
        Author { principal: "ada".to_owned(), program: "lineament test".to_owned(), ..Author::default() };
    let store = Store::open(&format!("file://{}", root.display()), Clock::System).unwrap();
    let serving = Serving::new(Catalog::create(store, &author).await.unwrap());
    let mut server = Running::over(serving, options("127.0.0.1:0")).await.and_weather().await;
    for name in names() {
        let what: String = name.chars().take(60).collect();
        not_taken(server.client.get_flight_info(path(&name)).await, &what);
        not_taken(server.client.get_schema(path(&name)).await, &what);
        not_taken(server.put(path(&name), vec![weather(1)]).await, &what);
        let ingest = json!({ "ingest": { "view": name } });
        not_taken(server.put(command(&ingest.to_string()), vec![weather(1)]).await, &what);
        let features = json!({ "historical_features": { "features": [format!("{name}.temp")] } });
        not_taken(server.exchange(&features, vec![weather(1).project(&[0, 1]).unwrap()]).await, &what);
        for wrong in
            [json!({ "training_set": name }), json!({ "training_set": name, "row": 0, "column": "temp" })]
        {
            not_taken(server.act("lineament.replay", &wrong).await, &what);
            not_taken(server.act("lineament.explain", &wrong).await, &what);
        }
        not_taken(server.get(json!({ "training_set": name }).to_string()).await, &what);
        let bulk = CommandStatementIngest {
            table: name.clone(),
            schema: Some(name.clone()),
            table_definition_options: Some(TableDefinitionOptions {
                if_exists: TableExistsOption::Append as i32,
                if_not_exist: TableNotExistOption::Fail as i32,
            }),
            ..CommandStatementIngest::default()
        };
        let bulk = FlightDescriptor::new_cmd(bulk.as_any().encode_to_vec());
        not_taken(server.put(bulk, vec![weather(1)]).await, &what);

        // As a name in definitions. (That of a file is a label for messages, and may be anything.)
        let quoted = Value::String(name.clone()).to_string();
        for (text, with) in
            [(AIRPORT, "name = \"airport\""), (WEATHER, "name = \"weather\""), (WEATHER, "name = \"temp\"")]
        {
            let hostile = text.replacen(with, &format!("name = {quoted}"), 1);
            let other = if text == AIRPORT { WEATHER } else { AIRPORT };
            let files = json!({ "files": { "a.toml": hostile, &name: other } });
            not_taken(server.act("lineament.plan", &files).await, &what);
            not_taken(server.act("lineament.apply", &files).await, &what);
        }
    }
    // Names of runs, keys and steps are kept as text, and lead nowhere.
    for name in names().into_iter().filter(|name| name.len() < 200) {
        let ingest = json!({ "ingest": { "view": "weather", "key": name, "steps": [name] } });
        let _ = server.put(command(&ingest.to_string()), vec![weather(1)]).await;
    }
    assert_eq!(server.sql("SELECT * FROM lineament.feature_views").await.unwrap().num_rows(), 1);
    drop(server);

    let mut beside: Vec<_> =
        std::fs::read_dir(outside.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    beside.retain(|name| name != "store");
    assert!(beside.is_empty(), "{beside:?}");
    let mut files = Vec::new();
    every_file(&root, &mut files);
    assert!(files.len() > 10);
    for file in files {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let plain = path.chars().all(|sign| matches!(sign, 'a'..='z' | '0'..='9' | '-' | '_' | '.' | '/'));
        assert!(plain && !path.contains(".."), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_and_tickets_that_were_made_up_are_refused() {
    let mut server = Running::with_weather().await;
    let statement = |handle: &str| {
        TicketStatementQuery { statement_handle: handle.to_owned().into() }.as_any().encode_to_vec()
    };
    let prepared = |handle: &str| {
        CommandPreparedStatementQuery { prepared_statement_handle: handle.to_owned().into() }
            .as_any()
            .encode_to_vec()
    };
    for handle in [
        "",
        "x",
        "{}",
        "[]",
        "null",
        "{\"sql\": 1}",
        "{\"sql\": \"SELECT 1\", \"x\": 1}",
        "{\"sql\": \"DROP TABLE weather\"}",
        "{\"sql\": \"SELECT 1; SELECT 2\"}",
        "{\"sql\": \"SELECT * FROM '/etc/passwd'\"}",
        "{\"sql\": \"SELECT ?\"}",
        "{\"prepared\": \"SELECT 1\"}",
    ] {
        for ticket in [statement(handle), prepared(handle)] {
            let status = server.get(ticket.clone()).await.expect_err(handle);
            assert!(is_refusal(status.code()), "{handle}: {status:?}");
        }
        let info = server.client.get_flight_info(FlightDescriptor::new_cmd(prepared(handle))).await;
        let status = info.expect_err(handle);
        assert!(is_refusal(status.code()), "{handle}: {status:?}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for ticket in [deep.clone(), format!("{{\"sql\": {deep}}}")] {
        refused(server.get(ticket).await, Code::InvalidArgument, &[]);
    }

    // However well it is made: those that this server gives out are sealed (their every bit is turned in `sealed_tickets`).
    let good = statement("{\"sql\":\"SELECT temp FROM weather\"}");
    refused(server.get(good.clone()).await, Code::InvalidArgument, &["not one that this server gives out"]);
    // A message of another kind, and one that is cut off.
    for at in 0..good.len() {
        let status = server.client.do_get(Ticket::new(good[..at].to_vec())).await.map(|_| ()).unwrap_err();
        assert!(matches!(status.code(), Code::InvalidArgument | Code::Unimplemented), "{at}: {status:?}");
    }
    let unknown =
        Any { type_url: "type.googleapis.com/arrow.flight.protocol.sql.Other".to_owned(), value: "x".into() };
    refused(server.get(unknown.encode_to_vec()).await, Code::Unimplemented, &["Other"]);
    assert_eq!(server.sql("SELECT 1").await.unwrap().num_rows(), 1);
}

/// What goes into the log stays there, so that its length is bounded.
#[tokio::test(flavor = "multi_thread")]
async fn long_texts_for_the_log_are_refused() {
    let mut server = Running::with_weather().await;
    let long = "x".repeat(513);
    for ingest in [
        json!({ "view": "weather", "key": long }),
        json!({ "view": "weather", "steps": [long] }),
        json!({ "view": "weather", "steps": vec!["x"; 101] }),
    ] {
        let put = server.put(command(&json!({ "ingest": ingest }).to_string()), vec![weather(1)]).await;
        refused(put, Code::InvalidArgument, &["at most"]);
    }
    let features = json!({ "historical_features": { "features": ["weather.temp"], "name": long } });
    let spine = weather(1).project(&[0, 1]).unwrap();
    refused(server.exchange(&features, vec![spine]).await, Code::InvalidArgument, &["at most 512"]);
    let many = json!({ "files": { "a.toml": "#".repeat(17 << 20) } });
    refused(server.act("lineament.apply", &many).await, Code::InvalidArgument, &["at most 16777216"]);
    for condition in [
        "NOT ".repeat(20_000) + "true",
        format!("{}true{}", "(".repeat(5_000), ")".repeat(5_000)),
        "temp > 1 AND ".repeat(1_200) + "true",
        "CAST(".repeat(40),
        "temp > 1 OR ".repeat(5_000) + "true",
    ] {
        let condition = Value::String(condition.clone()).to_string();
        let view = format!("{WEATHER}\n[[checks]]\nname = \"hostile\"\nsql = {condition}\n");
        let files = json!({ "files": { "airport.toml": AIRPORT, "weather.toml": view } });
        let status = server.act("lineament.apply", &files).await.expect_err(&condition[..20]);
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    // One that only its rows show to be too much is told to who sends them.
    let view = format!(
        "{WEATHER}\n[[checks]]\nname = \"great\"\nsql = \"length(repeat(origin, 2000000000)) > 1\"\n"
    );
    let files = json!({ "files": { "airport.toml": AIRPORT, "weather.toml": view } });
    server.act("lineament.apply", &files).await.unwrap();
    refused(
        server.put(path("weather"), vec![weather(1)]).await,
        Code::InvalidArgument,
        &["repeat would make"],
    );
    assert_eq!(server.sql("SELECT 1").await.unwrap().num_rows(), 1);
}
