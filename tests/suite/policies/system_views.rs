//! System views, table functions, lineage and reports: who may not see a value or a row learns nothing of it from any of them.
//!
//! The store has canaries: texts and numbers that only hidden rows, masked and denied features and other people's statements have, and
//! counts that only who sees all rows can know. Everything that can be asked is asked by a guest and searched for them; asked by
//! an analyst, every canary is found, so that the search can fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use catalog::compaction::Eagerness;
use catalog::ingest::stream::Target;
use catalog::records::{Object, PassedBy, RaisedAlert, Record, Sampled};
use catalog::state::ViewVersion;
use catalog::state::producers::Place;
use catalog::{Author, Intent};
use feature::TrainingSetId;
use feature::definition::Measure;
use feature::digest::{HashAlgorithm, hash};
use feature::quality::{Finding, Judged, Verdict};
use futures::TryStreamExt;
use serving::{
    BiasRequest, CompactRequest, DiffRequest, DriftRequest, ExplainRequest, ExplainValueRequest,
    HistoricalRequest, Kind, LineageRequest, Query, RetainRequest, RollbackRequest, Serving,
};
use storage::environment::{TestClock, mint};

use super::{govern, with_role};
use crate::suite::stores::{author, files, ingest, instant, memory, rows, spine};
use crate::suite::tables::table;

const DEFINITIONS: [(&str, &str); 3] = [
    (
        "airport.toml",
        "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n",
    ),
    (
        "weather.toml",
        "kind = \"feature_view\"\nname = \"weather\"\nentity = \"airport\"\n[time]\nvalid_at = \"valid_at\"\nknown_at = \"assumed\"\n\
         [quality]\nbaseline = { batches = 1 }\n\
         [[features]]\nname = \"temp\"\ntype = \"int64\"\n[[features]]\nname = \"sky\"\ntype = \"string\"\n\
         [[features]]\nname = \"secret\"\ntype = \"int64\"\n",
    ),
    (
        "notes.toml",
        "kind = \"feature_view\"\nname = \"notes\"\nentity = \"airport\"\n[time]\nvalid_at = \"valid_at\"\nknown_at = \"assumed\"\n\
         [quality]\nbaseline = { batches = 1 }\n\
         [[features]]\nname = \"note\"\ntype = \"string\"\n[[features]]\nname = \"length\"\ntype = \"int64\"\n",
    ),
];

/// A guest sees one airport of the weather, no sky and no secret; of the notes all rows and no note.
const POLICIES: &str = "
@id(\"jfk\") @rows(\"origin = 'JFK'\")
permit(principal in Role::\"guest\", action == Action::\"read\", resource == View::\"default.weather\");
permit(principal in Role::\"guest\", action == Action::\"read\", resource in View::\"default.notes\");
permit(principal in Role::\"guest\", action == Action::\"read\", resource is Feature);
@mask(\"null\") permit(principal in Role::\"guest\", action == Action::\"read\", resource == Feature::\"default.weather.sky\");
@mask(\"null\") permit(principal in Role::\"guest\", action == Action::\"read\", resource == Feature::\"default.notes.note\");
@id(\"no-secrets\") forbid(principal in Role::\"guest\", action, resource == Feature::\"default.weather.secret\");
permit(principal in Role::\"analyst\", action == Action::\"read\", resource);
";

/// Texts that no guest may come by: of hidden rows, of masked features, of a denied feature, of statements. None is in an id, which are
/// hexadecimal.
const WORDS: [&str; 5] = ["zanzibar", "xanadu", "quivira", "987654", "ultima"];

/// Rows of the second batch, of which all but a few are hidden.
const HIDDEN: usize = 4_211;
const SEEN: usize = 21;

/// `rows` hours at an airport, beginning at an hour of the year.
fn weather(parts: &[(&str, usize)], first: usize, sky: &str, secret: i64) -> RecordBatch {
    let start = instant("2013-01-01T00:00:00Z").micros();
    let (mut origins, mut times, mut temps) = (Vec::new(), Vec::new(), Vec::new());
    for (origin, rows) in parts {
        for row in 0..*rows {
            origins.push(*origin);
            times.push(start + ((first + row) as i64) * 3_600_000_000);
            temps.push((row % 50) as i64);
        }
    }
    let rows = origins.len();
    let times = TimestampMicrosecondArray::from(times).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 5] = [
        ("origin", Arc::new(StringArray::from(origins))),
        ("valid_at", Arc::new(times)),
        ("temp", Arc::new(Int64Array::from(temps))),
        ("sky", Arc::new(StringArray::from(vec![sky; rows]))),
        ("secret", Arc::new(Int64Array::from(vec![secret; rows]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn notes(note: &str, rows: usize, first: usize) -> RecordBatch {
    let start = instant("2013-01-01T00:00:00Z").micros();
    let times: Vec<i64> = (0..rows).map(|row| start + ((first + row) as i64) * 3_600_000_000).collect();
    let columns: [(&str, ArrayRef); 4] = [
        ("origin", Arc::new(StringArray::from(vec!["JFK"; rows]))),
        ("valid_at", Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))),
        ("note", Arc::new(StringArray::from(vec![note; rows]))),
        ("length", Arc::new(Int64Array::from(vec![note.len() as i64; rows]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

struct Story {
    serving: Serving,
    clock: TestClock,
    /// What an analyst recorded.
    whole: TrainingSetId,
    /// What a guest recorded.
    own: TrainingSetId,
    digest: String,
}

async fn story() -> Story {
    let clock = TestClock::new(instant("2013-12-01T00:00:00Z"));
    let serving = memory(&clock).await;
    serving.apply(files(&DEFINITIONS), &author()).await.unwrap();
    for (view, batch) in [
        ("weather", weather(&[("EWR", 1_000), ("JFK", SEEN)], 0, "clear", 5)),
        ("notes", notes("plain", 100, 0)),
        // Everything else than before, so that its checks find something.
        ("weather", weather(&[("EWR", HIDDEN), ("JFK", SEEN)], 2_000, "zanzibar", 987_654)),
        ("notes", notes("xanadu", 100, 200)),
    ] {
        clock.advance("1h".parse().unwrap());
        ingest(&serving, rows(view, vec![batch])).await.unwrap();
    }
    govern(&serving, POLICIES).await;
    clock.advance("1h".parse().unwrap());
    let analyst = Author { principal: "bob".to_owned(), ..with_role("analyst") };
    for sql in [
        "SELECT count(*) FROM weather WHERE sky = 'zanzibar' AND secret = 987654",
        "SELECT note || 'quivira' FROM notes WHERE note = 'xanadu'",
        "SELECT origin, temp FROM history('weather')",
        // It fails on a value, and its error may tell it.
        "SELECT CAST(sky AS BIGINT) FROM weather",
    ] {
        let _ = read(&serving, sql, &analyst).await;
    }
    let set = async |features: &[&str], by: &Author| {
        let rows: String = (0..37)
            .map(|row| format!("\nEWR | 2013-04-{:02}T06:30:00Z", 1 + row % 28))
            .chain((0..5).map(|row| format!("\nJFK | 2013-03-{:02}T06:30:00Z", 20 + row)))
            .collect();
        let rows = table(&format!("origin string | at timestamp{rows}"));
        let request = HistoricalRequest::new(features.iter().copied());
        serving.historical(spine(vec![rows]), request, by).await.unwrap().report
    };
    let whole = set(&["weather.temp", "weather.sky", "weather.secret", "notes.note"], &analyst).await;
    let own = set(&["weather.temp", "weather.sky"], &with_role("guest")).await;
    serving.flush(&author()).await.unwrap();
    let digest = whole.digest.clone();
    Story { serving, clock, whole: whole.training_set.unwrap(), own: own.training_set.unwrap(), digest }
}

async fn read(serving: &Serving, sql: &str, by: &Author) -> serving::Result<Vec<RecordBatch>> {
    serving.retrieve(Query::sql(sql), by).await?.collect().await
}

/// Every cell of an answer as text, by its column.
async fn cells(serving: &Serving, sql: &str, by: &Author) -> Vec<(String, String)> {
    let batches = read(serving, sql, by).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let options = FormatOptions::default();
    let mut all = Vec::new();
    for batch in &batches {
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            let shown = ArrayFormatter::try_new(column.as_ref(), &options).unwrap();
            all.extend((0..batch.num_rows()).map(|row| (field.name().clone(), shown.value(row).to_string())));
        }
    }
    all
}

/// Every number and text of a report, by its field.
fn leaves(name: &str, json: &serde_json::Value, all: &mut Vec<(String, String)>) {
    match json {
        serde_json::Value::Object(fields) => fields.iter().for_each(|(name, value)| leaves(name, value, all)),
        serde_json::Value::Array(items) => items.iter().for_each(|item| leaves(name, item, all)),
        serde_json::Value::String(text) => all.push((name.to_owned(), text.clone())),
        other => all.push((name.to_owned(), other.to_string())),
    }
}

fn report(told: &impl serde::Serialize) -> Vec<(String, String)> {
    let mut all = Vec::new();
    leaves("", &serde_json::to_value(told).unwrap(), &mut all);
    all
}

/// All that somebody is told, by the way that it is asked.
async fn told(story: &Story, by: &Author) -> BTreeMap<String, Vec<(String, String)>> {
    let Story { serving, whole, own, .. } = story;
    let mut all = BTreeMap::new();
    let listed = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'lineament'";
    let views = cells(serving, listed, by).await;
    assert!(views.len() >= 39, "{views:?}");
    for (_, view) in views {
        let view = format!("lineament.{view}");
        all.insert(view.clone(), cells(serving, &format!("SELECT * FROM {view}"), by).await);
    }
    for call in [
        "impact('weather@1')",
        "impact('weather@1.sky')",
        "impact('notes@1')",
        "kept_by('weather@1')",
        "access('weather', principal => 'bob')",
        "information_schema.tables",
        "information_schema.columns",
        "at_sequence('lineament.batches', 5)",
        "at_sequence('lineament.profiles', 5)",
    ] {
        all.insert(call.to_owned(), cells(serving, &format!("SELECT * FROM {call}"), by).await);
    }
    for view in ["weather", "notes"] {
        for verb in ["EXPLAIN", "EXPLAIN ANALYZE", "EXPLAIN VERBOSE"] {
            let sql = format!("{verb} SELECT origin, count(*) FROM history('{view}') GROUP BY origin");
            all.insert(sql.clone(), cells(serving, &sql, by).await);
        }
    }
    let state = serving.catalog().state();
    let mut nodes: Vec<String> = state.batches().map(|batch| batch.record.batch.to_string()).collect();
    nodes.extend(["weather@1", "weather@1.sky", "notes@1.note", "tester"].map(str::to_owned));
    nodes.extend([whole.to_string(), own.to_string()]);
    for node in nodes {
        all.insert(format!("impact {node}"), report(&serving.impact(&node, by).await.unwrap()));
        for up in [true, false] {
            let request = LineageRequest { node: node.clone(), up, depth: None, sequence: None };
            all.insert(format!("lineage {node} {up}"), report(&serving.lineage(&request, by).await.unwrap()));
        }
        let request = RollbackRequest { node: node.clone(), ..RollbackRequest::default() };
        if let Ok(would) = serving.rollback(&request, by).await {
            all.insert(format!("rollback {node}"), report(&would));
        }
    }
    all.insert("quarantined".to_owned(), report(&serving.quarantined(None, by).await.unwrap()));
    for view in ["weather", "notes"] {
        let request = DriftRequest { view: view.to_owned(), ..DriftRequest::default() };
        let drift = serving.drift(&request, by).await;
        all.insert(format!("drift {view}"), drift.map_or_else(|_| Vec::new(), |drift| report(&drift)));
    }
    for set in [whole, own] {
        let manifest = serving.manifest_for(*set, by).await;
        all.insert(format!("manifest {set}"), manifest.map_or_else(|_| Vec::new(), |found| report(&found)));
        let columns = ["temp", "sky"];
        for column in columns {
            let request = ExplainRequest::new(*set, 0, column);
            let explained = serving.explain(request, by).await;
            all.insert(
                format!("explain {set} {column}"),
                explained.map_or_else(|_| Vec::new(), |found| report(&found)),
            );
        }
    }
    all
}

/// Numbers that tell how many rows there are that a guest does not see.
fn counts(story: &Story) -> BTreeSet<String> {
    let rows = [1_000 + SEEN, HIDDEN + SEEN, 1_000 + HIDDEN + 2 * SEEN, 1_000, HIDDEN];
    let mut all: BTreeSet<String> = rows.iter().map(ToString::to_string).collect();
    // Cells of the analyst's set, by version: rows that found something, times features.
    all.extend(["37", "42", "126", "111"].map(str::to_owned));
    all.insert(story.digest.clone());
    all
}

/// Names of columns and fields that count rows or cells.
fn counts_something(field: &str) -> bool {
    ["rows", "cells", "cells_from", "cells_reached", "digest", "nulls", "matched", "distinct_values"]
        .contains(&field)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_can_be_asked_tells_of_what_is_hidden() {
    let story = story().await;
    let counts = counts(&story);
    let found = |all: &BTreeMap<String, Vec<(String, String)>>| {
        let mut found: Vec<String> = Vec::new();
        for (way, told) in all {
            for (field, text) in told {
                let word = WORDS.iter().any(|word| text.contains(word));
                // The spine of a set is the asker's own, and so is the number of its rows.
                let own_set = format!("manifest {}", story.own);
                let own = (way == "lineament.training_sets" || *way == own_set) && field == "rows";
                if word || counts_something(field) && counts.contains(text) && !own {
                    found.push(format!("{way}: {field} = {text}"));
                }
            }
        }
        found
    };
    let analyst = Author { principal: "carol".to_owned(), ..with_role("analyst") };
    let control = found(&told(&story, &analyst).await);
    for way in [
        "lineament.profiles: least = zanzibar",
        "lineament.profiles: frequent = xanadu (100)",
        "lineament.profiles: greatest = 987654",
        "lineament.reads: statement = SELECT count(*)",
        "lineament.reads: rows = 5253",
        "lineament.read_columns: expression",
        "lineament.column_edges: expression",
        "lineament.batches: rows = 4232",
        "lineament.versions: rows = 5253",
        "lineament.feature_views: rows = 5253",
        "lineament.quality: rows = 5253",
        "lineament.training_sets: digest = lmt1:",
        "lineament.training_set_hits: cells = 111",
        "lineament.edges: cells = 111",
        "lineament.edges: rows = 37",
        "impact('weather@1'): cells_from = 126",
        "impact weather@1: cells_from = 126",
        "manifest ",
        "drift weather: rows = 4232",
        "explain ",
        "rollback ",
    ] {
        assert!(
            control.iter().any(|found| found.starts_with(way)),
            "an analyst is not told `{way}`:\n{control:#?}"
        );
    }
    let leaked = found(&told(&story, &with_role("guest")).await);
    assert!(leaked.is_empty(), "{leaked:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_seen_is_still_told() {
    let story = story().await;
    let guest = with_role("guest");
    let ask = async |sql: &str| {
        let cells = cells(&story.serving, sql, &guest).await;
        cells.into_iter().map(|(_, text)| text).collect::<Vec<_>>()
    };
    // Of a view whose rows are all seen they are counted, and what its other features are like is told.
    assert_eq!(
        ask("SELECT DISTINCT \"rows\" FROM lineament.batches WHERE feature_view = 'notes'").await,
        ["100"]
    );
    assert_eq!(ask("SELECT DISTINCT feature FROM lineament.profiles").await, ["length"]);
    assert_eq!(ask("SELECT DISTINCT feature FROM lineament.profile_bins").await, ["length"]);
    assert_eq!(ask("SELECT DISTINCT feature FROM lineament.quality_findings").await, ["length"]);
    // Verdicts are told: whoever reads a view should know whether to trust it.
    let verdicts = "SELECT count(*) FROM lineament.quality WHERE feature_view = 'weather' AND batches > 0";
    assert_ne!(ask(verdicts).await, ["0"]);
    // Own reads and sets are one's own.
    read(&story.serving, "SELECT temp FROM weather WHERE temp = 3", &guest).await.unwrap();
    story.serving.flush(&author()).await.unwrap();
    assert_eq!(
        ask("SELECT statement FROM lineament.reads WHERE principal = 'ann' AND statement IS NOT NULL").await,
        ["SELECT temp FROM weather WHERE temp = 3"]
    );
    let own = format!(
        "SELECT sum(cells) > 0 FROM lineament.training_set_hits WHERE training_set = '{}'",
        story.own
    );
    assert_eq!(ask(&own).await, ["true"]);
    // That others read, and what, is told, and the names of what they made of it are not.
    let of_bob = "SELECT DISTINCT \"columns\" FROM lineament.reads WHERE principal = 'bob' AND \"columns\" LIKE 'notes%'";
    assert_eq!(ask(of_bob).await, ["notes@1.note"]);
    let outputs = "SELECT DISTINCT output FROM lineament.read_columns WHERE output IS NOT NULL AND feature_view = 'notes'";
    assert_eq!(ask(outputs).await, ["(hidden)"]);
    // The edges of what one made oneself are told, and none of what others made of what is hidden.
    let own = [story.own.to_string()];
    assert_eq!(
        ask("SELECT DISTINCT subject FROM lineament.column_edges WHERE subject_kind = 'training_set'").await,
        own
    );
    assert_eq!(ask("SELECT DISTINCT training_set FROM lineament.training_set_columns").await, own);
    let readers = "SELECT DISTINCT r.principal FROM lineament.column_edges c JOIN lineament.reads r ON c.subject = r.read";
    assert_eq!(ask(readers).await, ["ann"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_sets_of_others_are_closed_whole() {
    let story = story().await;
    let (guest, analyst) = (with_role("guest"), with_role("analyst"));
    let Story { serving, whole, own, .. } = &story;
    let refused = |error: serving::Error| {
        assert_eq!(error.kind(), Kind::Forbidden, "{error}");
        assert!(
            error.to_string().contains("`weather@1.secret` may not be read")
                || error.to_string().contains("shows more of"),
            "{error}"
        );
    };
    refused(serving.manifest_for(*whole, &guest).await.err().unwrap());
    refused(serving.explain(ExplainRequest::new(*whole, 0, "temp"), &guest).await.err().unwrap());
    // Also where the answer is that nothing differs.
    refused(serving.diff(DiffRequest::new(*whole, *whole), false, &guest).await.err().unwrap());
    serving.diff(DiffRequest::new(*whole, *whole), false, &analyst).await.unwrap();
    serving.manifest_for(*own, &guest).await.unwrap();
    serving.explain(ExplainRequest::new(*own, 41, "temp"), &guest).await.unwrap();
    for what in ["evidence", "events"] {
        let refused = serving.require_everything(&guest, what).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Forbidden);
        serving.require_everything(&analyst, what).await.unwrap();
    }
}

/// What an answer holds, as text.
async fn texts(serving: &Serving, sql: &str, by: &Author) -> Vec<String> {
    cells(serving, sql, by).await.into_iter().map(|(_, text)| text).collect()
}

fn sampled(version: &ViewVersion, masked: &str, seen: &str) -> Record {
    let finding = |feature: Option<&str>| Finding {
        measure: Measure::Psi,
        feature: feature.map(str::to_owned),
        verdict: Verdict::Fail,
        value: 9.5,
        threshold: 2.0,
    };
    let digest = hash(HashAlgorithm::Blake3, b"");
    Record::from(Sampled {
        sample: mint(),
        view: version.view,
        version: version.version,
        of: PassedBy::Reads,
        share: 1.0,
        from: instant("2013-12-01T05:00:00Z"),
        until: instant("2013-12-01T06:00:00Z"),
        passed: 4_232,
        rows: 4_232,
        profile: Object { path: "profiles/none.json".to_owned(), bytes: 1, digest },
        judged: Judged {
            verdict: Verdict::Fail,
            baseline_batches: 1,
            baseline_rows: 1_021,
            checks: 3,
            drift: Some(9.5),
            age_hours: None,
            findings: vec![finding(None), finding(Some(masked)), finding(Some(seen))],
        },
    })
}

fn alert(version: &ViewVersion) -> RaisedAlert {
    RaisedAlert {
        alert: mint(),
        rule: "fails".to_owned(),
        condition: "check".to_owned(),
        causes: vec![format!("check:{}", version.label())],
        about: None,
        version: Some(version.version),
        summary: "psi of `sky` is 9.500, above 2.000".to_owned(),
        details: Some(serde_json::json!({ "rows": 4_232 })),
        sinks: vec!["one".to_owned()],
    }
}

/// What passes by, alerts, streams and merges tell numbers as batches do.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_beside_batches_tells_no_hidden_numbers() {
    let story = story().await;
    let (serving, guest, analyst) = (&story.serving, with_role("guest"), with_role("analyst"));
    let state = serving.catalog().refresh().await.unwrap();
    let version = |name| state.view("default", name, None, state.head.sequence).unwrap().clone();
    let (weather_view, notes_view) = (version("weather"), version("notes"));
    let records = vec![sampled(&weather_view, "sky", "temp"), sampled(&notes_view, "note", "length")];
    let by = author();
    let written = serving.catalog().commit::<()>(&by, None, |_| Ok(Intent::Append(records.clone())));
    assert!(written.await.is_ok());
    let found = catalog::alerts::Found {
        rules: vec!["fails".to_owned()],
        through: state.head.sequence,
        alerts: vec![alert(&weather_view), alert(&notes_view)],
    };
    assert_eq!(catalog::alerts::raise(serving.catalog(), &found, &author()).await.unwrap(), 2);
    for (view, part) in
        [("weather", weather(&[("JFK", 3)], 7_000, "clear", 5)), ("notes", notes("plain", 3, 7_000))]
    {
        let target = Target {
            project: "default".parse().unwrap(),
            view: view.to_owned(),
            producer: "station".to_owned(),
            claim: None,
        };
        let stream = serving.open_stream(target, &author()).await.unwrap();
        let sent = stream.send(Place { epoch: 1, number: 1 }, part).await.unwrap();
        sent.acknowledged().await.unwrap();
    }
    let everything = CompactRequest { eagerness: Eagerness::Everything, ..CompactRequest::all(None) };
    serving.compact(&everything, &author()).await.unwrap();

    for (numbers, view, to_guest) in [
        ("count(passed) + count(\"rows\") + count(baseline_rows) FROM lineament.samples", "weather", "0"),
        ("count(passed) + count(\"rows\") + count(baseline_rows) FROM lineament.samples", "notes", "3"),
        ("count(drift) + count(findings) FROM lineament.samples", "weather", "0"),
        ("count(drift) + count(findings) FROM lineament.samples", "notes", "0"),
        ("count(*) FROM lineament.sample_findings", "weather", "0"),
        ("count(*) FROM lineament.sample_findings", "notes", "2"),
        ("count(summary) + count(details) FROM lineament.alerts", "weather", "0"),
        ("count(summary) + count(details) FROM lineament.alerts", "notes", "0"),
        ("count(\"rows\") + count(rejected) FROM lineament.producers", "weather", "0"),
        ("count(\"rows\") + count(rejected) FROM lineament.producers", "notes", "2"),
        ("count(\"rows\") FROM lineament.compactions", "weather", "0"),
    ] {
        let sql = format!("SELECT {numbers} WHERE feature_view = '{view}'");
        assert_eq!(texts(serving, &sql, &guest).await, [to_guest], "{sql}");
        assert_ne!(texts(serving, &sql, &analyst).await, ["0"], "{sql}");
    }
    let listed = "SELECT count(*) FROM lineament.alerts";
    assert_eq!(texts(serving, listed, &guest).await, ["2"], "that there is an alert is told");
}

/// Whoever has the digest of a spine may ask for its rows.
#[tokio::test(flavor = "multi_thread")]
async fn digests_of_spines_are_told_to_those_who_put_them_up() {
    let story = story().await;
    let (serving, guest) = (&story.serving, with_role("guest"));
    let rows = |at: &str| spine(vec![table(&format!("origin string | at timestamp\nJFK | {at}"))]);
    let analyst = Author { principal: "bob".to_owned(), ..with_role("analyst") };
    serving.ingest_spine(rows("2013-04-01T00:00:00Z"), &analyst).await.unwrap();
    let told = "SELECT count(*) || ' ' || count(spine) || ' ' || count(\"rows\") FROM lineament.spines";
    assert_eq!(texts(serving, told, &guest).await, ["1 0 0"]);
    let own = serving.ingest_spine(rows("2013-05-01T00:00:00Z"), &guest).await.unwrap();
    assert_eq!(texts(serving, told, &guest).await, ["2 1 1"]);
    let digest = "SELECT spine FROM lineament.spines WHERE spine IS NOT NULL";
    assert_eq!(texts(serving, digest, &guest).await, [own.spine]);
    assert_eq!(texts(serving, told, &analyst).await, ["2 1 1"]);
}

/// Where a row lies in its file counts those before it.
#[tokio::test(flavor = "multi_thread")]
async fn rows_have_no_numbers_where_some_are_hidden() {
    let story = story().await;
    let (serving, guest, analyst) = (&story.serving, with_role("guest"), with_role("analyst"));
    let seen = (2 * SEEN).to_string();
    for (condition, many) in
        [("\"row\" IS NULL", seen.as_str()), ("\"row\" >= 0", "0"), ("\"row\" + 0 >= 0", "0")]
    {
        let sql = format!("SELECT count(*) FROM history('weather') WHERE {condition}");
        assert_eq!(texts(serving, &sql, &guest).await, [many], "{sql}");
    }
    let numbered = "SELECT count(\"row\") FROM history";
    assert_eq!(texts(serving, &format!("{numbered}('weather')"), &guest).await, ["0"]);
    assert_eq!(texts(serving, &format!("{numbered}('notes')"), &guest).await, ["200"]);
    let all = (1_000 + HIDDEN + 2 * SEEN).to_string();
    assert_eq!(texts(serving, &format!("{numbered}('weather')"), &analyst).await, [all]);

    let request = ExplainValueRequest {
        feature: "weather.temp".to_owned(),
        key: BTreeMap::from([("origin".to_owned(), serde_json::json!("JFK"))]),
        at: instant("2013-01-01T12:00:00Z"),
        known_by: None,
        sequence: None,
        exhaustive: false,
    };
    let found = serving.explain_value(request.clone(), &analyst).await.unwrap();
    assert!(found.winner.unwrap().row.is_some());
    let found = serving.explain_value(request, &guest).await.unwrap();
    assert!(found.losers.iter().all(|loser| loser.row.is_none()));
    // The field is there, so that who reads the answer finds null.
    let answer = serde_json::to_value(&found).unwrap();
    assert_eq!(answer["winner"].get("row"), Some(&serde_json::Value::Null), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retrieval_that_is_left_is_on_record_as_a_read() {
    const ROWS: usize = 100_000;
    let story = story().await;
    let (serving, carol) = (&story.serving, Author { principal: "carol".to_owned(), ..with_role("analyst") });
    let start = instant("2013-02-01T00:00:00Z").micros();
    let times: Vec<i64> = (0..ROWS).map(|row| start + row as i64).collect();
    let columns: [(&str, ArrayRef); 2] = [
        ("origin", Arc::new(StringArray::from(vec!["EWR"; ROWS]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))),
    ];
    let rows = spine(vec![RecordBatch::try_from_iter(columns).unwrap()]);
    let sets = serving.catalog().refresh().await.unwrap().training_sets().count();
    let request = HistoricalRequest::new(["weather.secret"]);
    let mut stream = serving.historical_stream(Some(rows.into()), request, &carol).await.unwrap();
    assert!(stream.rows.try_next().await.unwrap().is_some());
    drop(stream);
    // The task that sends ends by itself.
    for _ in 0..2_000 {
        if serving.reads_waiting().0 > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    serving.flush(&author()).await.unwrap();
    let state = serving.catalog().refresh().await.unwrap();
    assert_eq!(state.training_sets().count(), sets);
    let reads = "SELECT count(*) FROM lineament.reads WHERE principal = 'carol' AND kind = 'historical_features' AND \"rows\" > 0";
    assert_eq!(texts(serving, reads, &author()).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn comparing_populations_is_on_record_and_has_a_limit() {
    let story = story().await;
    let (serving, guest) = (&story.serving, with_role("guest"));
    let carol = Author { principal: "carol".to_owned(), ..with_role("analyst") };
    let of = |moments| BiasRequest { training_set: story.whole, at: None, moments: Some(moments) };
    story.clock.advance("1h".parse().unwrap());
    assert_eq!(serving.bias(&of(2), &guest).await.unwrap_err().kind(), Kind::Forbidden);
    for many in [1_001, usize::MAX] {
        let refused = serving.bias(&of(many), &carol).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid);
        assert!(refused.to_string().contains("ask for 1000 at most"), "{refused}");
    }
    serving.bias(&of(2), &carol).await.unwrap();
    serving.flush(&author()).await.unwrap();
    let read = "SELECT principal FROM lineament.reads WHERE kind = 'bias'";
    assert_eq!(texts(serving, read, &author()).await, ["carol"]);
    let denied = "SELECT principal FROM lineament.access_decisions WHERE decision = 'denied'";
    assert_eq!(texts(serving, denied, &author()).await, ["ann"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_of_retention_tells_what_may_be_counted() {
    let clock = TestClock::new(instant("2013-12-01T00:00:00Z"));
    let serving = memory(&clock).await;
    let kept = |text: &str| {
        let text = text.replacen("entity = \"airport\"\n", "entity = \"airport\"\nttl = \"7d\"\n", 1);
        format!("{text}[retention]\nkeep = \"30d\"\n")
    };
    let (of_weather, of_notes) = (kept(DEFINITIONS[1].1), kept(DEFINITIONS[2].1));
    let all = [DEFINITIONS[0], ("weather.toml", of_weather.as_str()), ("notes.toml", of_notes.as_str())];
    serving.apply(files(&all), &author()).await.unwrap();
    let batch = weather(&[("EWR", HIDDEN), ("JFK", SEEN)], 0, "clear", 5);
    ingest(&serving, rows("weather", vec![batch])).await.unwrap();
    ingest(&serving, rows("notes", vec![notes("plain", 100, 0)])).await.unwrap();
    govern(&serving, POLICIES).await;
    let guest = with_role("guest");
    let trial = |view: Option<&str>| RetainRequest { view: view.map(str::to_owned), dry_run: true };
    let named = |report: &serving::RetainReport| {
        let views = report.views.iter().map(|view| (view.version.clone(), view.rows));
        views.collect::<Vec<_>>()
    };
    let told = serving.retain(&trial(None), &with_role("analyst")).await.unwrap();
    assert_eq!((told.views.len(), told.untold.len()), (2, 0));
    let told = serving.retain(&trial(None), &guest).await.unwrap();
    assert_eq!(named(&told), [("notes@1".to_owned(), 100)]);
    assert_eq!(told.untold, ["weather@1"]);

    let closed = "permit(principal in Role::\"guest\", action, resource in View::\"default.notes\");";
    govern(&serving, closed).await;
    let told = serving.retain(&trial(None), &guest).await.unwrap();
    assert_eq!((named(&told), told.untold.len()), (vec![("notes@1".to_owned(), 100)], 0));
    let refused = serving.retain(&trial(Some("weather")), &guest).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Forbidden);
    assert_eq!(serving.reads_waiting().0, 1, "it is on record");
}

/// Listings of all tables and columns go through every view by its name; one that is denied must not break them.
#[tokio::test(flavor = "multi_thread")]
async fn listings_have_what_may_not_be_read_and_it_still_may_not() {
    let story = story().await;
    govern(
        &story.serving,
        "permit(principal in Role::\"guest\", action, resource in View::\"default.notes\");",
    )
    .await;
    let guest = with_role("guest");
    let columns =
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'weather' ORDER BY 1";
    let names: Vec<String> =
        cells(&story.serving, columns, &guest).await.into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["origin", "secret", "sky", "temp", "valid_at"]);
    for sql in [
        "SELECT count(*) FROM weather",
        "SELECT * FROM \"weather@1\"",
        "SELECT 1 FROM notes WHERE EXISTS (SELECT 1 FROM weather)",
        "SELECT n.length FROM notes n ASOF JOIN weather w MATCH_CONDITION (n.valid_at >= w.valid_at) ON n.origin = w.origin",
        "EXPLAIN SELECT * FROM weather",
        "SELECT * FROM history('weather')",
    ] {
        let refused = read(&story.serving, sql, &guest).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Forbidden, "{sql}: {refused}");
        assert!(refused.to_string().starts_with("`weather@1` may not be read by `ann`"), "{sql}: {refused}");
    }
}

/// What is denied is on record as what is allowed is.
#[tokio::test(flavor = "multi_thread")]
async fn denials_are_on_record_with_the_policies() {
    let story = story().await;
    let (serving, guest) = (&story.serving, with_role("guest"));
    story.clock.advance("1h".parse().unwrap());
    read(serving, "SELECT secret FROM weather WHERE secret = 987654", &guest).await.unwrap_err();
    serving.manifest_for(story.whole, &guest).await.unwrap_err();
    let refused = ingest_as(serving, &guest).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Forbidden);
    serving.lift_policies("why not", &guest).await.unwrap_err();
    serving.flush(&author()).await.unwrap();
    let sql = "SELECT action || ' ' || asked || ' ' || policies || ' ' || coalesce(roles, '') FROM lineament.access_decisions \
               WHERE decision = 'denied' ORDER BY 1";
    let denied: Vec<String> =
        cells(serving, sql, &author()).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(
        denied,
        [
            "govern default 1 guest",
            "ingest default.weather 1 guest",
            "read weather@1.secret 1 guest",
            // Of the recorded set the first feature of which it shows more rows.
            "read weather@1.temp 1 guest",
        ]
    );
    // They are no reads; and their statements are for who sees what they are about.
    let reads = "SELECT count(*) FROM lineament.reads WHERE status = 'denied'";
    assert_eq!(cells(serving, reads, &author()).await[0].1, "0");
    let why = "SELECT count(why) FROM lineament.access_decisions WHERE decision = 'denied'";
    let other = Author { principal: "dan".to_owned(), ..with_role("guest") };
    assert_eq!(cells(serving, why, &other).await[0].1, "4");
    // What was allowed while nothing was governed was not decided.
    let before =
        "SELECT count(*) FROM lineament.access_decisions WHERE action = 'ingest' AND decision = 'allowed'";
    assert_eq!(cells(serving, before, &author()).await[0].1, "0");
}

/// By whichever call.
#[tokio::test(flavor = "multi_thread")]
async fn no_denial_passes_without_a_record() {
    let story = story().await;
    let (serving, guest) = (&story.serving, with_role("guest"));
    let folder = tempfile::tempdir().unwrap();
    let exported = serving.export(story.whole, &folder.path().into(), 1_000, &guest, |_, _| {}).await;
    assert_eq!(exported.unwrap_err().kind(), Kind::Forbidden);
    assert_eq!(serving.reads_waiting().0, 1);
    let dropped = serving.drop_alert(mint(), "nobody minds", &guest).await;
    assert_eq!(dropped.unwrap_err().kind(), Kind::Forbidden);
    assert_eq!(serving.reads_waiting().0, 2);
}

async fn ingest_as(serving: &Serving, by: &Author) -> serving::Result<catalog::ingest::Report> {
    serving.ingest(rows("weather", vec![weather(&[("JFK", 1)], 1, "clear", 1)]), by, Arc::new(|_| ())).await
}
