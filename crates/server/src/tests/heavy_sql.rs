//! Short statements that would take all memory, all time, or more stack than there is. Tests run with the two mebibytes of stack
//! that threads have by default, and a server of 128 MiB.

use std::fmt::Write;
use std::io::Write as _;
use std::time::{Duration, Instant};

use arrow_flight::Ticket;
use serde_json::json;
use tonic::{Code, Status};

use super::fixture::{Running, empty_store, options};
use crate::ServeOptions;

/// What must become of a statement.
enum Then {
    /// It is refused, and the message says this.
    Refused(&'static str),
    /// It is answered.
    Answered,
    /// Either: what matters is that the server lives and answers soon.
    Ends,
}
use Then::{Answered, Ends, Refused};

const MEMORY: u64 = 128 << 20;
/// What one statement may take of the process beyond what it had. The pool counts what queries hold, not what they touch.
const GROWTH: u64 = 1 << 30;
/// How long a statement may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

async fn small_server() -> Running {
    let options = ServeOptions { memory_limit: Some(MEMORY), ..options("127.0.0.1:0") };
    Running::over(empty_store().await, options).await.and_weather().await
}

/// Bytes of the process that are in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}

/// Runs a statement to its end without keeping its rows.
async fn run(server: &mut Running, sql: &str) -> Result<u64, Status> {
    let ticket = Ticket::new(json!({ "sql": sql }).to_string());
    let mut messages = server.client.do_get(ticket).await?.into_inner();
    let mut bytes = 0;
    while let Some(message) = messages.message().await? {
        bytes += message.data_body.len() as u64;
    }
    Ok(bytes)
}

async fn check(cases: Vec<(&str, String, Then)>) {
    let mut server = small_server().await;
    let mut wrong = Vec::new();
    for (name, sql, then) in cases {
        // Said before it runs, so that one that hangs has a name.
        print!("{name}: ");
        std::io::stdout().flush().unwrap();
        let before = resident();
        let started = Instant::now();
        let answer = tokio::time::timeout(SOON, run(&mut server, &sql)).await;
        let (took, grew) = (started.elapsed(), resident().saturating_sub(before));
        let told = match (&answer, &then) {
            (Err(_), _) => Some(format!("takes longer than {SOON:?}")),
            (Ok(Ok(_)), Refused(part)) => Some(format!("is answered, and not refused with `{part}`")),
            (Ok(Err(status)), Answered) => Some(format!("is refused: {status:?}")),
            (Ok(Err(status)), Refused(part)) if !status.message().contains(part) => {
                Some(format!("is refused with `{}`, and not with `{part}`", status.message()))
            }
            (Ok(Err(status)), _)
                if !matches!(
                    status.code(),
                    Code::InvalidArgument | Code::NotFound | Code::ResourceExhausted
                ) =>
            {
                Some(format!("has the status {status:?}"))
            }
            _ if grew > GROWTH => Some(format!("makes the process greater by {} MiB", grew >> 20)),
            _ => None,
        };
        println!(
            "{took:?}, {} MiB, {}",
            grew >> 20,
            match &answer {
                Ok(Err(status)) => status.message().chars().take(150).collect(),
                other => format!("{other:?}"),
            }
        );
        if let Some(told) = told {
            wrong.push(format!("{name} {told}"));
        }
        if answer.is_err() {
            // Its work may go on; the others are not to be blamed for it.
            server = small_server().await;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(server.sql("SELECT * FROM weather").await.unwrap().num_rows(), 24);
}

fn nest(before: &str, open: &str, inner: &str, close: &str, times: usize) -> String {
    format!("{before}{}{inner}{}", open.repeat(times), close.repeat(times))
}

fn chain(before: &str, link: &str, times: usize, after: &str) -> String {
    format!("{before}{}{after}", link.repeat(times))
}

const LEVELS: &str = "at most 48 are allowed";
const OPERATORS: &str = "at most 500 are allowed";

#[tokio::test(flavor = "multi_thread")]
async fn deep_statements_are_refused() {
    check(vec![
        ("parentheses", nest("SELECT ", "(", "1", ")", 20_000), Refused(LEVELS)),
        ("NOT", nest("SELECT ", "NOT ", "true", "", 20_000), Refused(LEVELS)),
        ("minus", nest("SELECT ", "- ", "1", "", 20_000), Refused(LEVELS)),
        ("tilde", nest("SELECT ", "~", "1", "", 20_000), Refused(LEVELS)),
        ("functions", nest("SELECT ", "abs(", "1", ")", 20_000), Refused(LEVELS)),
        ("arrays", nest("SELECT ", "[", "1", "]", 20_000), Refused(LEVELS)),
        ("structs", nest("SELECT ", "{'a': ", "1", "}", 20_000), Refused(LEVELS)),
        (
            "CASE in ELSE",
            nest("SELECT ", "CASE WHEN true THEN 1 ELSE ", "1", " END", 10_000),
            Refused(LEVELS),
        ),
        ("CASE in WHEN", nest("SELECT ", "CASE WHEN ", "true", " THEN true END", 10_000), Refused(LEVELS)),
        ("CASE of CASE", nest("SELECT ", "CASE ", "1", " WHEN 1 THEN 1 END", 10_000), Refused(LEVELS)),
        ("CAST", nest("SELECT ", "CAST(", "1", " AS int)", 10_000), Refused(LEVELS)),
        ("types", nest("SELECT CAST(1 AS ", "Nullable(", "Int8", ")", 50_000), Refused(LEVELS)),
        ("array types", nest("SELECT CAST(1 AS ", "ARRAY<", "int", ">", 50_000) + ")", Refused(LEVELS)),
        ("INTERVAL", nest("SELECT ", "INTERVAL ", "'1 day'", "", 20_000), Refused(LEVELS)),
        ("derived tables", nest("", "SELECT * FROM (", "SELECT 1", ")", 10_000), Refused(LEVELS)),
        ("scalar subqueries", nest("SELECT ", "(SELECT ", "1", ")", 10_000), Refused(LEVELS)),
        ("EXISTS", nest("SELECT 1 WHERE ", "EXISTS (SELECT 1 WHERE ", "true", ")", 10_000), Refused(LEVELS)),
        (
            "IN subqueries",
            nest("SELECT 1 WHERE ", "1 IN (SELECT 1 WHERE ", "true", ")", 10_000),
            Refused(LEVELS),
        ),
        (
            "joins in parentheses",
            nest("SELECT * FROM ", "(weather CROSS JOIN ", "weather", ")", 10_000),
            Refused(LEVELS),
        ),
        ("unions in parentheses", nest("", "(SELECT 1 UNION ", "SELECT 1", ")", 10_000), Refused(LEVELS)),
        ("WITH in WITH", nest("", "WITH a AS (", "SELECT 1", ") SELECT * FROM a", 10_000), Refused(LEVELS)),
        ("EXPLAIN", nest("", "EXPLAIN ", "SELECT 1", "", 50_000), Refused(LEVELS)),
        ("EXPLAIN ANALYZE", nest("", "EXPLAIN ANALYZE VERBOSE ", "SELECT 1", "", 20_000), Refused(LEVELS)),
        ("EXPLAIN with options", nest("", "EXPLAIN FORMAT INDENT ", "SELECT 1", "", 20_000), Refused(LEVELS)),
        ("what is never closed", chain("SELECT ", "(", 500_000, ""), Refused("at most")),
        ("what is never opened", chain("SELECT ", ")", 500_000, ""), Refused("at most")),
        ("comments in comments", nest("SELECT 1 ", "/* ", "", "*/ ", 100_000), Answered),
        ("a comment that is never closed", chain("SELECT 1 ", "/* ", 100_000, ""), Refused("")),
        ("a text that is never closed", chain("SELECT '", "x", 1_000_000, ""), Refused("")),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_chains_are_refused_and_long_lists_are_not() {
    let one_column = "SELECT temp FROM weather WHERE ";
    let mut numbers = String::new();
    (0..60_000).for_each(|number| write!(numbers, ", {number}").unwrap());
    let mut rows = String::new();
    (0..40_000).for_each(|number| write!(rows, ", ({number})").unwrap());
    let mut columns = String::new();
    (0..2_000).for_each(|number| write!(columns, ", temp + {number} AS c{number}").unwrap());
    let mut named = "WITH c0 AS (SELECT * FROM weather)".to_owned();
    (1..2_000).for_each(|at| write!(named, ", c{at} AS (SELECT * FROM c{})", at - 1).unwrap());
    check(vec![
        ("10,000 ORs", chain(one_column, "temp = 1 OR ", 10_000, "false"), Refused(OPERATORS)),
        ("100,000 ORs", chain(one_column, "a OR ", 100_000, "false"), Refused(OPERATORS)),
        ("10,000 ANDs", chain(one_column, "temp > 1 AND ", 10_000, "true"), Refused(OPERATORS)),
        ("100,000 ANDs", chain(one_column, "a AND ", 100_000, "true"), Refused(OPERATORS)),
        ("sums", chain("SELECT 1", " + 1", 100_000, ""), Refused(OPERATORS)),
        ("texts put together", chain("SELECT 'a'", " || 'a'", 50_000, ""), Refused(OPERATORS)),
        ("comparisons", chain("SELECT 1", " = 1", 50_000, ""), Refused(OPERATORS)),
        ("casts", chain("SELECT 1", "::int", 50_000, ""), Refused(OPERATORS)),
        ("indexes", chain("SELECT [1]", "[1]", 50_000, ""), Refused(OPERATORS)),
        ("IS NULL", chain("SELECT 1", " IS NULL", 50_000, ""), Refused(OPERATORS)),
        ("BETWEEN", chain("SELECT 1", " BETWEEN 0 AND 2", 50_000, ""), Refused(OPERATORS)),
        ("LIKE", chain("SELECT 'a'", " LIKE 'a'", 50_000, ""), Refused(OPERATORS)),
        ("time zones", chain("SELECT now()", " AT TIME ZONE 'UTC'", 20_000, ""), Refused(OPERATORS)),
        ("arrows", chain("SELECT a", " -> a", 50_000, ""), Refused(OPERATORS)),
        ("dots", chain("SELECT a", ".a", 50_000, ""), Refused("at most 16 are allowed")),
        ("dots of a call", chain("SELECT abs(1)", ".a", 50_000, ""), Refused("at most 16 are allowed")),
        ("unions", chain("SELECT 1", " UNION ALL SELECT 1", 10_000, ""), Refused("at most")),
        ("exceptions", chain("SELECT 1", " EXCEPT SELECT 1", 10_000, ""), Refused("at most")),
        ("joins", chain("SELECT * FROM weather", " NATURAL JOIN weather", 10_000, ""), Refused(OPERATORS)),
        ("joins by comma", chain("SELECT count(*) FROM weather", ", weather", 10_000, ""), Refused(OPERATORS)),
        ("400 joins", chain("SELECT count(*) FROM weather", ", weather", 400, ""), Refused("at most 100 are allowed")),
        ("WITH after WITH", format!("{named} SELECT * FROM c1999"), Refused("at most 250 are allowed")),
        ("ASOF joins", chain("SELECT 1 FROM weather", " ASOF JOIN weather MATCH_CONDITION (a > b)", 10_000, ""), Refused(OPERATORS)),
        ("a long text", format!("SELECT '{}'", "x".repeat(2 << 20)), Refused("at most 1048576 are allowed")),
        ("a text of a mebibyte for each row", format!("SELECT '{}' FROM generate_series(1, 100000)", "x".repeat(1_000_000)), Refused("at most")),
        ("many constants", format!("SELECT 1{} FROM generate_series(1, 8192)", (0..1_000).map(|at| format!(", repeat('x', 60000) AS c{at}")).collect::<String>()), Refused("long constants")),
        ("an IN list", format!("{one_column} temp IN (-1{numbers})"), Answered),
        ("a NOT IN list", format!("{one_column} temp NOT IN (-1{numbers})"), Answered),
        ("an IN list of texts", format!("{one_column} origin IN ('EWR'{})", ", 'JFK'".repeat(60_000)), Answered),
        ("an IN list of expressions", format!("{one_column} temp IN (1{})", ", temp + 1".repeat(5_000)), Ends),
        ("VALUES", format!("VALUES (0){rows}"), Answered),
        ("columns", format!("SELECT temp{columns} FROM weather"), Ends),
        ("arguments", format!("SELECT concat('a'{}) FROM weather", ", origin".repeat(10_000)), Ends),
        ("an array", format!("SELECT [0{numbers}]"), Ends),
        ("WHENs", format!("SELECT CASE temp {} END FROM weather", "WHEN 1 THEN 1 ".repeat(5_000)), Ends),
        ("GROUP BY", format!("SELECT count(*) FROM weather GROUP BY temp{}", ", temp + 1".repeat(2_000)), Ends),
        ("ORDER BY", format!("SELECT temp FROM weather ORDER BY temp{}", ", temp + 1".repeat(2_000)), Ends),
        ("CUBE", format!("SELECT count(*) FROM weather GROUP BY CUBE (temp{})", ", temp".repeat(30)), Ends),
        ("GROUPING SETS", format!("SELECT count(*) FROM weather GROUP BY CUBE (temp, origin, wind_dir), {}", ["CUBE (temp, origin, wind_dir)"; 8].join(", ")), Ends),
        ("windows", format!("SELECT temp{} FROM weather", ", sum(temp) OVER (ORDER BY temp)".repeat(500)), Ends),
        ("a long name", format!("SELECT 1 AS \"{}\"", "x".repeat(500_000)), Ends),
        ("a long wrong name", format!("SELECT \"{}\" FROM weather", "x".repeat(500_000)), Refused("")),
        ("a long wrong table", format!("SELECT * FROM \"{}\"", "x".repeat(500_000)), Refused("")),
        ("LIKE of many wildcards", format!("SELECT '{}' LIKE '{}b'", "a".repeat(5_000), "%a".repeat(2_000)), Ends),
        ("a pattern that grows", "SELECT regexp_like('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab', '((a*)*)*c')".to_owned(), Ends),
        ("a pattern of repeats", "SELECT regexp_like('a', '((((a{100}){100}){100}){100})')".to_owned(), Refused("")),
        ("a great LIMIT", "SELECT * FROM weather LIMIT 9223372036854775807 OFFSET 9223372036854775807".to_owned(), Ends),
        ("a greater LIMIT", "SELECT * FROM weather LIMIT 99999999999999999999999999".to_owned(), Refused("")),
        ("a LIMIT below zero", "SELECT * FROM weather LIMIT -1".to_owned(), Refused("")),
        ("a great number", format!("SELECT {}", "9".repeat(100_000)), Ends),
        ("a great exponent", "SELECT 1e999999999, arrow_cast('1', 'Decimal128(38, 127)')".to_owned(), Ends),
        ("division of the least number", "SELECT -9223372036854775808 / -1, (-9223372036854775808) % -1, abs(-9223372036854775808)".to_owned(), Ends),
        ("times beyond time", "SELECT TIMESTAMP '2262-04-12' + INTERVAL '999999999 years', to_timestamp(9223372036854775807)".to_owned(), Ends),
        ("dates beyond time", "SELECT DATE '9999-12-31' + INTERVAL '2147483647 months', date_trunc('year', DATE '-262144-01-01')".to_owned(), Ends),
    ])
    .await;
}

/// Texts of a few hundred bytes that the parser could read for years.
#[tokio::test(flavor = "multi_thread")]
async fn texts_that_the_parser_would_read_again_and_again_are_refused() {
    let mut cases = Vec::new();
    for open in [
        "CAST(",
        "TRY_CAST(",
        "CONVERT(",
        "CEIL(",
        "FLOOR(",
        "POSITION(",
        "SUBSTRING(",
        "SUBSTRING(a FROM ",
        "OVERLAY(",
        "EXTRACT(YEAR FROM ",
        "NOT (",
        "ARRAY[",
        "CURRENT_TIMESTAMP(",
        "LOCALTIME(",
        "CASE(",
        "CASE WHEN 1 THEN ",
        "CASE end WHEN 1 THEN ",
        "CASE 1 WHEN NOT (",
        "INTERVAL ",
        "INTERVAL (",
        "CAST(CEIL(",
        "f(CAST(f(",
        "(CAST((",
        "[CAST([",
        "SELECT * FROM (((",
        "EXISTS (SELECT CAST(",
    ] {
        cases.push((open, chain("SELECT ", open, 24, ""), Ends));
        cases.push((open, chain("SELECT ", open, 45, "1"), Ends));
        cases.push((open, nest("SELECT ", open, "1", ")", 24), Ends));
        cases.push((open, nest("SELECT * FROM ", open, "1", ") x", 12), Ends));
    }
    check(cases).await;
}

/// What is allowed must not be what kills.
#[tokio::test(flavor = "multi_thread")]
async fn statements_at_the_limits_end() {
    let mut named = "WITH c0 AS (SELECT * FROM weather)".to_owned();
    (1..240).for_each(|at| {
        let from = at - 1;
        match at % 4 {
            0 => write!(named, ", c{at} AS (SELECT origin, temp + 1 AS temp FROM c{from})"),
            1 => write!(named, ", c{at} AS (SELECT origin, sum(temp) AS temp FROM c{from} GROUP BY origin)"),
            2 => write!(named, ", c{at} AS (SELECT * FROM c{from} ORDER BY temp LIMIT 100)"),
            _ => write!(named, ", c{at} AS (SELECT origin, temp FROM c{from} WHERE temp IS NOT NULL)"),
        }
        .unwrap();
    });
    let joined = |times: usize, join: &dyn Fn(usize) -> String| {
        let joins: String = (1..=times).map(join).collect();
        format!("SELECT count(*) FROM weather t0{joins}")
    };
    let by_key = |at: usize| {
        format!(" JOIN weather t{at} ON t0.origin = t{at}.origin AND t0.valid_at = t{at}.valid_at")
    };
    let as_of = |at: usize| {
        format!(
            " ASOF JOIN weather t{at} MATCH_CONDITION (t0.valid_at >= t{at}.valid_at) ON t0.origin = t{at}.origin"
        )
    };
    let mut cases = vec![
        ("500 sums", chain("SELECT temp", " + 1", 498, " FROM weather"), Ends),
        ("500 sums of columns", chain("SELECT temp", " + wind_dir", 498, " FROM weather"), Ends),
        ("250 different", chain("SELECT temp", " + temp * 2", 249, " FROM weather"), Ends),
        ("250 ORs", chain("SELECT temp FROM weather WHERE temp = 0", " OR wind_dir = 1", 248, ""), Answered),
        (
            "250 ANDs",
            chain("SELECT temp FROM weather WHERE temp > 0", " AND wind_dir < 999", 248, ""),
            Answered,
        ),
        ("500 texts", chain("SELECT origin", " || origin", 498, " FROM weather"), Answered),
        ("500 casts", chain("SELECT temp", "::int::double", 249, " FROM weather"), Ends),
        (
            "500 IS NULL",
            chain("SELECT temp", " IS NULL", 498, " FROM weather"),
            Refused("comparisons, tests"),
        ),
        ("12 IS NULL", chain("SELECT temp", " IS NULL", 12, " FROM weather"), Answered),
        (
            "5 unions",
            chain("SELECT temp FROM weather", " UNION ALL SELECT temp FROM weather", 4, ""),
            Answered,
        ),
        // Each sorts its view's history: how many do so at once, and whether there is room for them, is chance.
        (
            "250 unions",
            chain("SELECT temp FROM weather", " UNION ALL SELECT temp FROM weather", 249, ""),
            Ends,
        ),
        (
            "240 distinct unions",
            chain("SELECT temp FROM weather", " UNION SELECT temp FROM weather", 240, ""),
            Ends,
        ),
        (
            "100 exceptions",
            chain("SELECT temp FROM weather", " EXCEPT SELECT temp FROM weather", 100, ""),
            Ends,
        ),
        ("20 joins", joined(20, &by_key), Answered),
        ("100 joins", joined(100, &by_key), Ends),
        ("100 cross joins of one row", joined(100, &|at| format!(", (SELECT 1 AS a{at}) t{at}")), Ends),
        ("20 ASOF joins", joined(20, &as_of), Answered),
        ("100 ASOF joins", joined(100, &as_of), Ends),
        ("240 named queries", format!("{named} SELECT * FROM c239"), Ends),
        (
            "100 named queries",
            format!("{} SELECT * FROM c100", named.split(", c101").next().unwrap()),
            Answered,
        ),
    ];
    for times in [8, 12, 16, 24, 45] {
        cases.extend([
            ("parentheses", nest("SELECT ", "(", "temp", ")", times) + " FROM weather", Ends),
            ("sums in parentheses", nest("SELECT ", "(1 + ", "temp", ")", times) + " FROM weather", Ends),
            ("coalesce", nest("SELECT ", "coalesce(NULL, ", "temp", ")", times) + " FROM weather", Ends),
            ("nullif", nest("SELECT ", "nullif(1, ", "temp", ")", times) + " FROM weather", Ends),
            ("greatest", nest("SELECT ", "greatest(1, ", "temp", ")", times) + " FROM weather", Ends),
            ("abs", nest("SELECT ", "abs(", "temp", ")", times) + " FROM weather", Ends),
            ("NOT", nest("SELECT temp FROM weather WHERE ", "NOT ", "temp > 1", "", times), Ends),
            ("minus", nest("SELECT ", "- ", "temp", "", times) + " FROM weather", Ends),
            ("arrays", nest("SELECT ", "[", "temp", "]", times) + " FROM weather", Ends),
            ("two in arrays", nest("SELECT ", "[", "temp", ", NULL]", times) + " FROM weather", Ends),
            ("structs", nest("SELECT ", "{'a': ", "temp", "}", times) + " FROM weather", Ends),
            (
                "named structs",
                nest("SELECT ", "named_struct('a', ", "temp", ")", times) + " FROM weather",
                Ends,
            ),
            (
                "CASE in ELSE",
                nest("SELECT ", "CASE WHEN temp > 1 THEN 1 ELSE ", "temp", " END", times) + " FROM weather",
                Ends,
            ),
            (
                "CASE in THEN",
                nest("SELECT ", "CASE WHEN temp > 1 THEN ", "temp", " ELSE NULL END", times)
                    + " FROM weather",
                Ends,
            ),
            (
                "CASE in WHEN",
                nest("SELECT ", "CASE WHEN ", "temp > 1", " THEN true END", times) + " FROM weather",
                Ends,
            ),
            ("CAST", nest("SELECT ", "CAST(", "temp", " AS int)", times) + " FROM weather", Ends),
            ("derived tables", nest("", "SELECT * FROM (", "SELECT temp FROM weather", ")", times), Ends),
            (
                "derived tables in filters",
                nest("", "SELECT * FROM (", "SELECT temp FROM weather", ") WHERE temp > 1", times),
                Ends,
            ),
            ("scalar subqueries", nest("SELECT ", "(SELECT 1 + ", "1", ")", times), Ends),
            (
                "IN subqueries",
                nest(
                    "SELECT temp FROM weather WHERE ",
                    "temp IN (SELECT temp FROM weather WHERE ",
                    "true",
                    ")",
                    times,
                ),
                Ends,
            ),
            (
                "joins in parentheses",
                nest("SELECT count(*) FROM ", "((SELECT 1) x CROSS JOIN ", "(SELECT 2) y", ") z", times),
                Ends,
            ),
            ("unions in parentheses", nest("", "(SELECT 1 UNION ", "SELECT 2", ")", times), Ends),
            ("WITH in WITH", nest("", "WITH a AS (", "SELECT 1", ") SELECT * FROM a", times), Ends),
            ("LATERAL", nest("", "SELECT a.* FROM weather a, LATERAL (", "SELECT 1", ")", times / 4), Ends),
        ]);
        // Each of these the optimiser looks at twice, or writes out twice, at each level.
        for (open, inner, close) in NESTS {
            cases.push((open, nest("SELECT ", open, inner, close, times) + " FROM weather", Ends));
            let filter = nest("SELECT 1 FROM weather WHERE ", open, inner, close, times) + " IS NOT NULL";
            cases.push((open, filter, Ends));
        }
    }
    // And one within another, as they come.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for _ in 0..150 {
        let mut sql = "temp".to_owned();
        for _ in 0..8 + random(8) {
            let (open, _, close) = NESTS[random(NESTS.len())];
            sql = format!("{open}{sql}{close}");
        }
        cases.push(("at random", format!("SELECT {sql} FROM weather"), Ends));
    }
    check(cases).await;
}

/// What may stand within itself: before, within, behind.
const NESTS: [(&str, &str, &str); 27] = [
    ("CASE WHEN ", "temp > 1", " THEN true END"),
    ("CASE ", "temp", " WHEN 1 THEN 2 ELSE 3 END"),
    ("CASE WHEN (", "temp", ") = 1 THEN 2 ELSE 3 END"),
    ("coalesce(", "temp", ", 1)"),
    ("coalesce(1, ", "temp", ")"),
    ("nvl(", "temp", ", 1)"),
    ("ifnull(", "temp", ", 1)"),
    ("nvl2(", "temp", ", 1, 2)"),
    ("nvl2(1, ", "temp", ", 2)"),
    ("nullif(", "temp", ", 1)"),
    ("pow(", "temp", ", 2)"),
    ("greatest(", "temp", ", 1)"),
    ("(", "temp", " BETWEEN 0 AND 1)::int"),
    ("(1 BETWEEN ", "temp", " AND 5)::int"),
    ("(", "temp", " IN (1, 2))::int"),
    ("(", "temp", " IN (1, 2, 3, 4, 5))::int"),
    ("(", "temp", " NOT IN (1, 2, 3))::int"),
    ("(", "temp", " IS DISTINCT FROM 1)::int"),
    ("(", "temp", " IS NULL)::int"),
    ("((", "temp", " = 1) IS TRUE)::int"),
    ("((", "temp", " > 1) <> true)::int"),
    ("(", "temp", "::text LIKE 'a%')::int"),
    ("power(", "temp", ", 2)"),
    ("round(", "temp", ")"),
    ("(NOT (", "temp", " = 1))::int"),
    ("((", "temp", " = 1) OR false)::int"),
    ("(- ", "temp", " + 1)"),
];

/// What doubles at each level.
#[tokio::test(flavor = "multi_thread")]
async fn doubling_is_refused() {
    let levels = |times: usize, item: &str| {
        let mut sql = "WITH c0 AS (SELECT origin AS a, temp AS b FROM weather)".to_owned();
        (1..times).for_each(|at| write!(sql, ", c{at} AS (SELECT {item} FROM c{})", at - 1).unwrap());
        sql
    };
    let last = |times: usize| format!(" FROM c{}", times - 1);
    let doubled = |item: &str| levels(60, item) + " SELECT *" + &last(60);
    let written = "with the columns of its subqueries written out";
    let mut unions = "WITH c0 AS (SELECT 1)".to_owned();
    let mut joins = "WITH c0 AS (SELECT 1 AS a)".to_owned();
    let mut scalars = "WITH c0 AS (SELECT 1 AS a)".to_owned();
    (1..60).for_each(|at| {
        let from = at - 1;
        write!(unions, ", c{at} AS (SELECT * FROM c{from} UNION ALL SELECT * FROM c{from})").unwrap();
        write!(joins, ", c{at} AS (SELECT x.a FROM c{from} x, c{from} y)").unwrap();
        write!(scalars, ", c{at} AS (SELECT (SELECT a FROM c{from}) + (SELECT a FROM c{from}) AS a)")
            .unwrap();
    });
    check(vec![
        ("unions", format!("{unions} SELECT * FROM c59"), Refused("tables and subqueries")),
        ("joins", format!("{joins} SELECT * FROM c59"), Refused("tables and subqueries")),
        ("scalar subqueries", format!("{scalars} SELECT * FROM c59"), Refused("tables and subqueries")),
        ("sums", doubled("b + b AS b"), Refused(written)),
        ("sums in a filter", levels(60, "b + b AS b") + " SELECT 1" + &last(60) + " WHERE b > 0", Refused(written)),
        ("sums through aggregates", doubled("max(b) + max(b) AS b"), Refused(written)),
        ("products in windows", doubled("sum(b) OVER (ORDER BY b) * b AS b"), Ends),
        ("texts", doubled("a || a AS a"), Refused(written)),
        ("arrays", doubled("[a, a] AS a"), Refused(written)),
        ("structs", doubled("named_struct('x', a, 'y', a) AS a"), Refused("would make a type")),
        ("CASE", doubled("CASE WHEN b > 1 THEN b ELSE b END AS b"), Refused(written)),
        ("levels of sums", levels(60, &chain("b", " + 1", 100, " AS b")) + " SELECT *" + &last(60), Refused("levels")),
        ("14 doublings in a filter", levels(14, "b + b AS b") + " SELECT b" + &last(14) + " WHERE b > 0", Ends),
        ("14 doublings of a text", levels(14, "a || a AS a") + " SELECT length(a)" + &last(14), Ends),
        (
            "a recursive text",
            "WITH RECURSIVE t AS (SELECT arrow_cast('x', 'LargeUtf8') AS a, 1 AS n UNION ALL SELECT a || a, n + 1 FROM t WHERE n < 60) SELECT max(length(a)) FROM t".to_owned(),
            Ends,
        ),
        (
            "a recursive concat",
            "WITH RECURSIVE t AS (SELECT arrow_cast('x', 'LargeUtf8') AS a, 1 AS n UNION ALL SELECT arrow_cast(concat(a, a), 'LargeUtf8'), n + 1 FROM t WHERE n < 60) SELECT max(length(a)) FROM t".to_owned(),
            Ends,
        ),
        (
            "a recursive list",
            "WITH RECURSIVE t AS (SELECT [1] AS a, 1 AS n UNION ALL SELECT array_concat(a, a), n + 1 FROM t WHERE n < 60) SELECT max(array_length(a)) FROM t".to_owned(),
            Ends,
        ),
        (
            "recursive rows",
            "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t, generate_series(1, 100) WHERE n < 60) SELECT count(*) FROM t".to_owned(),
            Ends,
        ),
    ])
    .await;
}

/// What is made of nothing, and what is held to be sorted, grouped or joined.
#[tokio::test(flavor = "multi_thread")]
async fn great_results_are_refused_or_streamed() {
    let exhausted = "--memory-limit";
    let series = "generate_series(1, 40000000)";
    check(vec![
        ("repeat", "SELECT repeat('x', 2000000000)".to_owned(), Refused("at most")),
        ("a repeat of each row", "SELECT repeat(origin, 1000000000) FROM weather".to_owned(), Refused("at most")),
        ("range", "SELECT range(0, 100000000000)".to_owned(), Refused("at most")),
        ("a range of each row", "SELECT range(0, wind_dir * 100000000) FROM weather".to_owned(), Refused("at most")),
        ("array_repeat", "SELECT array_repeat(temp, 1000000000) FROM weather".to_owned(), Refused("at most")),
        ("lpad", "SELECT lpad(origin, 2000000000) FROM weather".to_owned(), Refused("at most")),
        ("series", "SELECT count(*) FROM generate_series(1, 1000000000000)".to_owned(), Refused("at most 100000000")),
        ("a series that streams", format!("SELECT count(*) FROM {series}"), Answered),
        ("many rows", "SELECT value FROM generate_series(1, 20000000)".to_owned(), Answered),
        ("array_agg", format!("SELECT array_length(array_agg(value)) FROM {series}"), Refused(exhausted)),
        ("string_agg", format!("SELECT length(string_agg(value::text, ',')) FROM {series}"), Refused(exhausted)),
        ("median", format!("SELECT median(value) FROM {series}"), Refused(exhausted)),
        ("a hash join", format!("SELECT count(*) FROM {series} a JOIN {series} b ON a.value = b.value"), Refused(exhausted)),
        ("a cross join", format!("SELECT sum(a.value + b.value) FROM {series} a CROSS JOIN {series} b"), Refused(exhausted)),
        ("a window over all", format!("SELECT max(s) FROM (SELECT sum(value) OVER () AS s FROM {series})"), Refused(exhausted)),
        ("a window to the end", format!("SELECT max(s) FROM (SELECT sum(value) OVER (ORDER BY value ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS s FROM {series})"), Refused(exhausted)),
        ("a sort that spills", "SELECT count(*) FROM (SELECT value FROM generate_series(1, 20000000) ORDER BY value % 1000 LIMIT 19999999)".to_owned(), Ends),
        ("groups", "SELECT count(*) FROM (SELECT value, count(*) FROM generate_series(1, 20000000) GROUP BY value)".to_owned(), Ends),
        ("unnested lists beside a text", "SELECT max(length(t)) FROM (SELECT unnest(range(0, 1000000)) AS n, repeat('x', 60000) AS t)".to_owned(), Ends),
        ("a join that compares", format!("SELECT count(*) FROM {series} a JOIN {series} b ON a.value + b.value < 0"), Refused("at most 10000000")),
        ("a text beside each row", "SELECT max(length(t)) FROM generate_series(1, 1000000), (SELECT repeat('x', 60000) AS t)".to_owned(), Ends),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_given_back() {
    let mut server = small_server().await;
    for _ in 0..3 {
        let status =
            run(&mut server, "SELECT median(value) FROM generate_series(1, 100000000)").await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    }
    for _ in 0..100 {
        if server.serving.memory().held() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} bytes are still held", server.serving.memory().held());
}

/// A query that makes rows without end of few gives way to others, and stops when its client leaves.
#[tokio::test(flavor = "multi_thread")]
async fn work_without_end_stops_when_its_client_leaves() {
    let mut server = small_server().await;
    for sql in [
        "SELECT count(*) FROM generate_series(1, 100000000) a CROSS JOIN generate_series(1, 100000000) b",
        "SELECT count(*) FROM (SELECT 1 AS k FROM generate_series(1, 1000000)) a JOIN (SELECT 1 AS k FROM generate_series(1, 1000000)) b ON a.k = b.k",
        "SELECT count(*) FROM generate_series(1, 100000) a JOIN generate_series(1, 100000000) b ON a.value > b.value + 1",
        "SELECT count(*) FROM (SELECT unnest(range(0, value % 1000)) FROM generate_series(1, 100000000))",
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n FROM t) SELECT count(*) FROM t",
    ] {
        // As many as there are workers, and more.
        for _ in 0..4 {
            let left = tokio::time::timeout(Duration::from_millis(500), run(&mut server, sql)).await;
            if let Ok(Err(status)) = left {
                assert_eq!(status.code(), Code::ResourceExhausted, "{sql}: {status:?}");
            }
        }
        let answer = tokio::time::timeout(SOON, server.sql("SELECT * FROM weather")).await;
        assert_eq!(answer.expect(sql).unwrap().num_rows(), 24, "{sql}");
    }
    let done = server.begin_to_stop();
    tokio::time::timeout(SOON, done).await.unwrap().unwrap().unwrap();
}
