//! SQL can only read, and no statement reaches a file.

use arrow_flight::sql::client::FlightSqlServiceClient;
use tonic::{Code, Status};

use super::fixture::{Running, command};

/// Statements that do more than read.
const WRITES: [&str; 46] = [
    "CREATE TABLE t (a INT)",
    "CREATE TABLE t AS SELECT * FROM weather",
    "CREATE OR REPLACE TABLE weather AS SELECT 1",
    "CREATE TEMPORARY TABLE t AS SELECT 1",
    "CREATE VIEW v AS SELECT * FROM weather",
    "CREATE OR REPLACE VIEW weather AS SELECT 1",
    "CREATE SCHEMA s",
    "CREATE DATABASE d",
    "CREATE INDEX i ON weather (temp)",
    "CREATE FUNCTION f(x INT) RETURNS INT RETURN x",
    "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/etc'",
    "CREATE EXTERNAL TABLE t (a INT) STORED AS CSV LOCATION '/etc/passwd'",
    "CREATE UNBOUNDED EXTERNAL TABLE t STORED AS CSV LOCATION 'http://127.0.0.1/x'",
    "CREATE ROLE admin",
    "DROP TABLE weather",
    "DROP VIEW IF EXISTS weather",
    "DROP SCHEMA lineament CASCADE",
    "ALTER TABLE weather ADD COLUMN x INT",
    "ALTER TABLE weather RENAME TO w",
    "TRUNCATE TABLE weather",
    "INSERT INTO weather VALUES (1)",
    "INSERT INTO weather SELECT * FROM weather",
    "INSERT OVERWRITE weather SELECT * FROM weather",
    "UPDATE weather SET temp = 0",
    "DELETE FROM weather",
    "MERGE INTO weather w USING weather v ON w.temp = v.temp WHEN MATCHED THEN DELETE",
    "COPY weather TO '/tmp/x.parquet'",
    "COPY (SELECT * FROM weather) TO '/tmp/x.csv' STORED AS CSV",
    "COPY weather FROM '/etc/passwd'",
    "SET datafusion.execution.batch_size = 1",
    "SET TIME ZONE = 'UTC'",
    "RESET datafusion.execution.batch_size",
    "PREPARE p AS SELECT * FROM weather",
    "EXECUTE p",
    "DEALLOCATE p",
    "BEGIN",
    "START TRANSACTION",
    "COMMIT",
    "ROLLBACK",
    "USE lineament",
    "GRANT SELECT ON weather TO ada",
    "REVOKE ALL ON weather FROM ada",
    "CALL something()",
    "VACUUM",
    "ANALYZE TABLE weather COMPUTE STATISTICS",
    "LOAD DATA INPATH '/etc/passwd' INTO TABLE weather",
];

/// Reads that would reach beyond the store, and texts that are no one statement.
const ESCAPES: [&str; 34] = [
    "SELECT 1; DROP TABLE weather",
    "SELECT 1; SELECT 2",
    "; DELETE FROM weather",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM \"/etc/passwd\"",
    "SELECT * FROM 'file.parquet'",
    "SELECT * FROM \"file.parquet\"",
    "SELECT * FROM 'file:///etc/passwd'",
    "SELECT * FROM \"file:///etc/passwd\"",
    "SELECT * FROM \"s3://bucket/key.parquet\"",
    "SELECT * FROM \"http://127.0.0.1/x.csv\"",
    "SELECT * FROM \"../weather.parquet\"",
    "SELECT * FROM read_parquet('/etc/passwd')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_json('/etc/passwd')",
    "SELECT * FROM parquet_scan('x.parquet')",
    "SELECT * FROM parquet_metadata('x.parquet')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM store.default.\"/etc/passwd\"",
    "SELECT * FROM lineament.\"../state\"",
    "SELECT * FROM session.spine",
    "SELECT * FROM state_batches",
    "SELECT * FROM other.default.weather",
    "SELECT (SELECT count(*) FROM '/etc/passwd')",
    "WITH x AS (SELECT * FROM \"file.parquet\") SELECT * FROM x",
    "SELECT * FROM weather WHERE temp IN (SELECT a FROM read_parquet('/etc/passwd'))",
    "SELECT * FROM weather UNION ALL SELECT * FROM \"file.csv\"",
    "WITH x AS (DELETE FROM weather RETURNING *) SELECT * FROM x",
    "WITH x AS (INSERT INTO weather VALUES (1) RETURNING *) SELECT * FROM x",
    "SELECT * FROM (COPY weather TO '/tmp/x')",
    "SELECT * INTO t FROM weather",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT load_extension('x')",
    "SELECT getenv('HOME')",
];

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_do_more_than_read_are_refused() {
    let mut server = Running::with_weather().await;
    let before = server.serving.catalog().refresh().await.unwrap().head.sequence;
    let mut texts = Vec::new();
    for write in WRITES {
        texts.push(write.to_owned());
        texts.push(format!("EXPLAIN {write}"));
        texts.push(format!("EXPLAIN ANALYZE {write}"));
        texts.push(format!("EXPLAIN VERBOSE {write}"));
        texts.push(format!("/* */ -- x\n {write}"));
        texts.push(format!("WITH x AS ({write}) SELECT * FROM x"));
        texts.push(format!("SELECT * FROM ({write}) x"));
        texts.push(format!("SELECT 1; {write}"));
        texts.push(format!("{write}; SELECT 1"));
    }
    for escape in ESCAPES {
        texts.push(escape.to_owned());
        texts.push(format!("EXPLAIN {escape}"));
        texts.push(format!("EXPLAIN ANALYZE {escape}"));
        texts.push(format!("SELECT * FROM ({escape}) x"));
    }
    let mut statements = FlightSqlServiceClient::new_from_inner(server.connect().await);
    for text in &texts {
        for answer in [
            server.client.get_flight_info(command(text)).await.map(|_| ()),
            server.client.get_schema(command(text)).await.map(|_| ()),
            server.sql(text).await.map(|_| ()),
            statements.prepare(text.clone(), None).await.map(|_| ()).map_err(Status::from),
        ] {
            let status = answer.expect_err(text);
            assert!(
                matches!(status.code(), Code::InvalidArgument | Code::PermissionDenied),
                "{text}: {status:?}"
            );
        }
    }
    // Plain statements of every kind that can be read as SQL are told that they are not allowed, not merely that they failed.
    let mut forbidden = 0;
    for write in WRITES {
        let status = server.sql(write).await.unwrap_err();
        if status.code() == Code::PermissionDenied {
            assert!(status.message().contains("only read"), "{write}: {status:?}");
            forbidden += 1;
        }
    }
    assert!(forbidden >= 35, "{forbidden}");
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
    for text in [
        "EXPLAIN SELECT * FROM weather",
        "EXPLAIN ANALYZE SELECT * FROM weather",
        "SHOW TABLES",
        "SHOW COLUMNS FROM weather",
        "DESCRIBE weather",
        "VALUES (1), (2)",
        "SELECT 'DROP TABLE weather; --' AS text",
        "TABLE weather",
    ] {
        server.sql(text).await.unwrap_or_else(|status| panic!("{text}: {status:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_and_long_statements_are_refused_or_answered() {
    let mut server = Running::with_weather().await;
    for text in [
        format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("SELECT {}1", "-").replace("-1", &"- ".repeat(20_000)) + "1",
        format!("SELECT {}true", "NOT ".repeat(20_000)),
        format!("SELECT 1{}", " + 1".repeat(3_000)),
        format!("SELECT {} 1", "SELECT (".repeat(5_000)),
        format!("{}SELECT 1{}", "SELECT * FROM (".repeat(5_000), ")".repeat(5_000)),
        format!("SELECT CASE {} END", "WHEN true THEN 1 ".repeat(5_000)),
    ] {
        if let Err(status) = server.sql(&text).await {
            assert!(matches!(status.code(), Code::InvalidArgument | Code::PermissionDenied), "{status:?}");
        }
    }
    assert_eq!(server.sql("SELECT 1").await.unwrap().num_rows(), 1);
}
