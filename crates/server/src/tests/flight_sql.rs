//! Flight SQL, by arrow-flight's client.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{AsArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, Schema, TimeUnit, UInt32Type};
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, CommandStatementIngest, SqlInfo,
    TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use arrow_flight::{FlightInfo, IpcMessage};
use futures::TryStreamExt;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::fixture::{Running, batch, refused, weather, weather_from};

type Client = FlightSqlServiceClient<Channel>;

async fn client(server: &Running) -> Client {
    FlightSqlServiceClient::new_from_inner(server.connect().await)
}

/// The rows of an endpoint, which must be of the schema that was announced.
async fn rows(client: &mut Client, info: FlightInfo) -> RecordBatch {
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let announced = info.try_decode_schema().unwrap();
    let mut stream = client.do_get(ticket).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = stream.try_next().await.unwrap() {
        batches.push(batch);
    }
    let schema = stream.schema().unwrap().clone();
    assert_eq!(schema.as_ref(), &announced);
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    let column = batch.column_by_name(column).unwrap().as_string::<i32>();
    column.iter().map(|text| text.unwrap_or_default().to_owned()).collect()
}

fn status<T: std::fmt::Debug>(answer: Result<T, arrow_flight::error::FlightError>) -> Result<T, Status> {
    answer.map_err(Status::from)
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_answered_with_the_schema_that_was_announced() {
    let server = Running::with_weather().await;
    let mut client = client(&server).await;
    for (sql, count) in [
        ("SELECT * FROM weather", 24),
        (
            "SELECT origin, count(*) AS n, avg(temp), max(at) FROM (SELECT *, valid_at AS at FROM weather) GROUP BY 1",
            2,
        ),
        ("SELECT temp, sum(temp) OVER (PARTITION BY origin ORDER BY valid_at) FROM weather", 24),
        (
            "SELECT a.temp, b.temp AS other FROM weather a LEFT JOIN weather b ON a.valid_at = b.valid_at AND b.temp > 20",
            26,
        ),
        ("SELECT origin FROM weather UNION ALL SELECT NULL", 25),
        (
            "SELECT arrow_cast(origin, 'Dictionary(Int32, Utf8)') AS d, arrow_cast(origin, 'Utf8View') AS v FROM weather",
            24,
        ),
        ("SELECT DISTINCT origin, NULL AS nothing, 1.5 AS number, make_array(temp) AS list FROM weather", 24),
        ("SELECT * FROM weather WHERE false", 0),
        ("WITH w AS (SELECT * FROM weather) SELECT * FROM w ORDER BY temp LIMIT 3", 3),
        ("SELECT * FROM lineament.feature_views", 1),
        ("SELECT * FROM lineament.log", 3),
        ("SELECT table_name FROM information_schema.tables WHERE table_name = 'weather'", 1),
        ("SHOW COLUMNS FROM weather", 4),
    ] {
        let info = client.execute(sql.to_owned(), None).await.unwrap();
        assert_eq!(rows(&mut client, info).await.num_rows(), count, "{sql}");
    }
    let wrong = client.execute("SELECT tmp FROM weather".to_owned(), None).await;
    refused(status(wrong), Code::InvalidArgument, &["tmp"]);
    let within = client.execute("SELECT 1".to_owned(), Some("t".into())).await;
    refused(status(within), Code::Unimplemented, &["transactions"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_prepared_and_run_with_parameters() {
    let server = Running::with_weather().await;
    let mut client = client(&server).await;
    let mut plain = client.prepare("SELECT temp FROM weather".to_owned(), None).await.unwrap();
    assert_eq!(plain.dataset_schema().unwrap().field(0).data_type(), &DataType::Float64);
    assert!(plain.parameter_schema().unwrap().fields().is_empty());
    for _ in 0..2 {
        let info = plain.execute().await.unwrap();
        assert_eq!(rows(&mut client, info).await.num_rows(), 24);
    }
    plain.close().await.unwrap();

    let sql = "SELECT count(*) AS n FROM weather WHERE origin = ? AND temp >= ?";
    let mut bound = client.prepare(sql.to_owned(), None).await.unwrap();
    assert_eq!(types(bound.parameter_schema().unwrap()), [("$1", DataType::Utf8), ("$2", DataType::Float64)]);
    assert_eq!(types(bound.dataset_schema().unwrap()), [("n", DataType::Int64)]);
    // The same statement with other parameters, one after another.
    for (origin, least, count) in [("JFK", 30.0, 2), ("EWR", 20.0, 2), ("'; DROP TABLE weather; --", 0.0, 0)]
    {
        let parameters = batch(vec![
            ("0", Arc::new(StringArray::from(vec![origin]))),
            ("1", Arc::new(Float64Array::from(vec![least]))),
        ]);
        bound.set_parameters(parameters).unwrap();
        let info = bound.execute().await.unwrap();
        let answer = rows(&mut client, info).await;
        assert_eq!(answer.column(0).as_primitive::<Int64Type>().value(0), count, "{origin}");
    }
    bound.set_parameters(batch(vec![("0", Arc::new(Float64Array::from(vec![1.0])))])).unwrap();
    refused(status(bound.execute().await), Code::InvalidArgument, &["2 parameters", "1 were given"]);

    let wrong = client.prepare("SELECT tmp FROM weather".to_owned(), None).await.map(|_| ());
    refused(status(wrong), Code::InvalidArgument, &["tmp"]);
    let mut unbound = client.prepare("SELECT temp + ? FROM weather".to_owned(), None).await.unwrap();
    if let Ok(info) = unbound.execute().await {
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let answer = match client.do_get(ticket).await {
            Ok(stream) => stream.try_collect::<Vec<_>>().await.map(|_| ()),
            Err(error) => Err(error),
        };
        refused(status(answer), Code::InvalidArgument, &["laceholder"]);
    }
}

fn types(schema: &Schema) -> Vec<(&str, DataType)> {
    schema.fields().iter().map(|field| (field.name().as_str(), field.data_type().clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn types_of_parameters_are_told_where_the_statement_says_them() {
    let server = Running::with_weather().await;
    let mut client = client(&server).await;
    let instant = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    for (sql, parameters, columns) in [
        (
            "SELECT temp, wind_dir FROM weather WHERE valid_at BETWEEN ? AND ? AND wind_dir IN (?) AND origin LIKE ? LIMIT ?",
            vec![instant(), instant(), DataType::Int32, DataType::Utf8, DataType::Int64],
            vec![("temp", DataType::Float64), ("wind_dir", DataType::Int32)],
        ),
        // One parameter at two places has one type, whichever place says it.
        (
            "SELECT origin FROM weather WHERE temp > $1 AND $1 IS NOT NULL AND $2 < 1.5",
            vec![DataType::Float64, DataType::Float64],
            vec![("origin", DataType::Utf8)],
        ),
        // What is of two types, or of none, is told as such, and then no columns are.
        ("SELECT temp FROM weather WHERE temp > $1 OR origin = $1", vec![DataType::Null], vec![]),
        ("SELECT $2, temp FROM weather WHERE origin = $1", vec![DataType::Utf8, DataType::Null], vec![]),
        // Nor where the statement cannot be planned without its parameters.
        ("SELECT count(*) FROM history(?) WHERE temp > ?", vec![DataType::Null, DataType::Null], vec![]),
        ("SELECT tmp FROM weather WHERE temp > ?", vec![DataType::Null], vec![]),
    ] {
        let prepared = client.prepare(sql.to_owned(), None).await.unwrap();
        let told = types(prepared.parameter_schema().unwrap());
        let numbers: Vec<String> = (1..=parameters.len()).map(|number| format!("${number}")).collect();
        let expected: Vec<(&str, DataType)> = numbers.iter().map(String::as_str).zip(parameters).collect();
        assert_eq!(told, expected, "{sql}");
        assert_eq!(types(prepared.dataset_schema().unwrap()), columns, "{sql}");
        prepared.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_are_bound_are_what_they_were() {
    let server = Running::with_weather().await;
    let mut client = client(&server).await;
    let values = weather(3).slice(5, 1);
    let mut bound = client.prepare("SELECT $1, $2, $3, $4".to_owned(), None).await.unwrap();
    bound.set_parameters(values.clone()).unwrap();
    let info = bound.execute().await.unwrap();
    let answer = rows(&mut client, info).await;
    assert_eq!(answer.columns(), values.columns());
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_find_their_way() {
    let server = Running::with_weather().await;
    let mut client = client(&server).await;
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(texts(&rows(&mut client, info).await, "catalog_name"), ["store"]);

    let info = client.get_db_schemas(CommandGetDbSchemas::default()).await.unwrap();
    let schemas: BTreeSet<String> =
        texts(&rows(&mut client, info).await, "db_schema_name").into_iter().collect();
    assert!(schemas.contains("default") && schemas.contains("lineament"), "{schemas:?}");

    let wanted = CommandGetTables {
        db_schema_filter_pattern: Some("def%".to_owned()),
        include_schema: true,
        ..CommandGetTables::default()
    };
    let info = client.get_tables(wanted).await.unwrap();
    let tables = rows(&mut client, info).await;
    assert_eq!(texts(&tables, "table_name"), ["weather"]);
    assert_eq!(texts(&tables, "table_type"), ["TABLE"]);
    let message = tables.column_by_name("table_schema").unwrap().as_binary::<i32>().value(0).to_vec();
    let schema = Schema::try_from(IpcMessage(message.into())).unwrap();
    let info = client.execute("SELECT * FROM weather".to_owned(), None).await.unwrap();
    assert_eq!(schema, info.try_decode_schema().unwrap());

    let info =
        client.get_tables(CommandGetTables { include_schema: true, ..Default::default() }).await.unwrap();
    let all = rows(&mut client, info).await;
    assert!(texts(&all, "table_name").contains(&"training_sets".to_owned()));
    let info = client
        .get_tables(CommandGetTables { table_types: vec!["TABLE".into()], ..Default::default() })
        .await
        .unwrap();
    assert_eq!(texts(&rows(&mut client, info).await, "table_name"), ["weather"]);

    let info = client.get_table_types().await.unwrap();
    assert_eq!(texts(&rows(&mut client, info).await, "table_type"), ["TABLE", "VIEW"]);

    let info = client
        .get_sql_info(vec![SqlInfo::FlightSqlServerName, SqlInfo::FlightSqlServerReadOnly])
        .await
        .unwrap();
    let told = rows(&mut client, info).await;
    assert_eq!(told.num_rows(), 2);
    assert_eq!(told.column(1).as_union().value(0).as_string::<i32>().value(0), "Lineament");
    let info = client.get_sql_info(vec![]).await.unwrap();
    let all = rows(&mut client, info).await;
    let names = all.column(0).as_primitive::<UInt32Type>();
    let value = |info: SqlInfo| {
        let at = names.iter().position(|name| name == u32::try_from(info as i32).ok()).expect("told");
        all.column(1).as_union().value(at)
    };
    assert!(value(SqlInfo::FlightSqlServerReadOnly).as_boolean().value(0));
    assert!(value(SqlInfo::FlightSqlServerCancel).as_boolean().value(0));
    assert!(value(SqlInfo::FlightSqlServerBulkIngestion).as_boolean().value(0));
    assert!(!value(SqlInfo::FlightSqlServerSubstrait).as_boolean().value(0));
    assert!(!value(SqlInfo::SqlTransactionsSupported).as_boolean().value(0));
    assert_eq!(value(SqlInfo::FlightSqlServerTransaction).as_primitive::<Int32Type>().value(0), 0);
    assert_eq!(value(SqlInfo::SqlIdentifierCase).as_primitive::<Int64Type>().value(0), 3);
    assert!(all.num_rows() > 50, "{}", all.num_rows());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_told() {
    let server = Running::with_weather().await;
    let mut client = client(&server).await;
    for table in ["weather", "weather@1"] {
        let wanted = CommandGetPrimaryKeys { table: table.to_owned(), ..CommandGetPrimaryKeys::default() };
        let info = client.get_primary_keys(wanted).await.unwrap();
        let keys = rows(&mut client, info).await;
        assert_eq!(texts(&keys, "column_name"), ["origin", "valid_at"]);
        assert_eq!(texts(&keys, "table_name"), [table, table]);
        assert_eq!(texts(&keys, "db_schema_name"), ["default", "default"]);
        assert_eq!(
            keys.column_by_name("key_sequence").unwrap().as_primitive::<Int32Type>().values(),
            &[1, 2]
        );
    }
    let system = CommandGetPrimaryKeys {
        table: "log".to_owned(),
        db_schema: Some("lineament".to_owned()),
        ..CommandGetPrimaryKeys::default()
    };
    let info = client.get_primary_keys(system).await.unwrap();
    assert_eq!(rows(&mut client, info).await.num_rows(), 0);
    let nowhere = CommandGetPrimaryKeys { table: "wether".to_owned(), ..CommandGetPrimaryKeys::default() };
    let info = client.get_primary_keys(nowhere).await.unwrap();
    let answer = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.map(|_| ());
    refused(status(answer), Code::NotFound, &["did you mean `weather`"]);

    let table = || "weather".to_owned();
    let infos = [
        client.get_exported_keys(CommandGetExportedKeys { table: table(), ..Default::default() }).await,
        client.get_imported_keys(CommandGetImportedKeys { table: table(), ..Default::default() }).await,
        client
            .get_cross_reference(CommandGetCrossReference {
                pk_table: table(),
                fk_table: table(),
                ..Default::default()
            })
            .await,
    ];
    for info in infos {
        let none = rows(&mut client, info.unwrap()).await;
        assert_eq!((none.num_rows(), none.num_columns()), (0, 13));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_supported_is_said_so() {
    let server = Running::with_weather().await;
    let mut client = client(&server).await;
    let update = client.execute_update("DELETE FROM weather".to_owned(), None).await;
    refused(status(update), Code::Unimplemented, &["only read"]);
    refused(status(client.begin_transaction().await), Code::Unimplemented, &["transactions"]);
    let types = client.get_xdbc_type_info(CommandGetXdbcTypeInfo::default()).await;
    refused(status(types), Code::Unimplemented, &["CommandGetXdbcTypeInfo", "Arrow's own"]);
    let handshake = server.connect().await.handshake(futures::stream::empty()).await.map(|_| ());
    refused(handshake, Code::Unimplemented, &["logins"]);
    assert_eq!(server.serving.catalog().refresh().await.unwrap().batches().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_ingest_appends_to_a_view() {
    let mut server = Running::with_weather().await;
    let mut client = client(&server).await;
    let command = |exists: TableExistsOption, missing: TableNotExistOption| CommandStatementIngest {
        table: "weather".to_owned(),
        table_definition_options: Some(TableDefinitionOptions {
            if_exists: exists as i32,
            if_not_exist: missing as i32,
        }),
        ..CommandStatementIngest::default()
    };
    let append = command(TableExistsOption::Append, TableNotExistOption::Fail);
    let late = |hours: i64| futures::stream::iter([Ok(weather_from(12, hours))]);
    assert_eq!(client.execute_ingest(append.clone(), late(2)).await.unwrap(), 4);
    let mean = server.sql("SELECT count(temp)::DOUBLE FROM weather").await.unwrap();
    assert_eq!(mean.column(0).as_primitive::<Float64Type>().value(0), 28.0);
    for (exists, missing) in [
        (TableExistsOption::Replace, TableNotExistOption::Fail),
        (TableExistsOption::Replace, TableNotExistOption::Create),
        (TableExistsOption::Fail, TableNotExistOption::Create),
    ] {
        let answer = client.execute_ingest(command(exists, missing), late(1)).await;
        refused(status(answer), Code::Unimplemented, &["append"]);
    }
    // Once more under a key: the first answer stands. Options and places that mean nothing here are refused.
    let create_append = command(TableExistsOption::Append, TableNotExistOption::Create);
    let named = |name: &str, value: &str| CommandStatementIngest {
        options: [("claim".to_owned(), "back_fill".to_owned()), (name.to_owned(), value.to_owned())].into(),
        ..create_append.clone()
    };
    for _ in 0..2 {
        assert_eq!(client.execute_ingest(named("key", "once"), late(2)).await.unwrap(), 4);
    }
    let count = server.sql("SELECT count(*) FROM lineament.batches").await.unwrap();
    assert_eq!(count.column(0).as_primitive::<Int64Type>().value(0), 3);
    for (wrong, code, part) in [
        (named("colour", "red"), Code::InvalidArgument, "`colour`"),
        (named("claim", "mine"), Code::InvalidArgument, "`mine`"),
        (
            CommandStatementIngest { catalog: Some("other".into()), ..append.clone() },
            Code::NotFound,
            "`store`",
        ),
        (
            CommandStatementIngest { transaction_id: Some("t".into()), ..append.clone() },
            Code::Unimplemented,
            "transactions",
        ),
    ] {
        refused(status(client.execute_ingest(wrong, late(1)).await), code, &[part]);
    }
    let elsewhere = CommandStatementIngest { table: "wether".to_owned(), ..append };
    refused(
        status(client.execute_ingest(elsewhere, late(1)).await),
        Code::NotFound,
        &["did you mean `weather`"],
    );
}
