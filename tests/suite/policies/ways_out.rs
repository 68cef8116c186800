//! Every way that a value leaves by: SQL, retrieval, replay, explanation, audit, comparison, lineage.

use arrow::array::{Array, AsArray, RecordBatch};
use catalog::Author;
use feature::{AsOf, Sequence, TrainingSetId};
use futures::TryStreamExt;
use serving::{
    AuditRequest, ExplainValueRequest, HistoricalRequest, Kind, Query, RefreshRequest, Serving, TrainingSet,
};

use super::{govern, with_role};
use crate::suite::column_lineage::store;
use crate::suite::stores::{author, count, files, spine};
use crate::suite::tables::table;

/// A guest sees JFK alone, no `visib`, coarse `temp`, hashed `sky`, and may not read `carrier`.
const POLICIES: &str = "
@id(\"jfk\") @rows(\"origin = 'JFK'\")
permit(principal in Role::\"guest\", action == Action::\"read\", resource is View);
permit(principal in Role::\"guest\", action == Action::\"read\", resource is Feature);
@mask(\"null\") permit(principal in Role::\"guest\", action, resource == Feature::\"default.weather.visib\");
@mask(\"round:10\") permit(principal in Role::\"guest\", action, resource == Feature::\"default.weather.temp\");
@mask(\"hash\") permit(principal in Role::\"guest\", action, resource == Feature::\"default.weather.sky\");
@id(\"no-carriers\")
forbid(principal in Role::\"guest\", action, resource == Feature::\"default.departures.carrier\");
permit(principal in Role::\"analyst\", action == Action::\"read\", resource);
";

const SPINE: &str = "
    origin string | at timestamp
    JFK           | 2013-01-01T06:30:00Z
    EWR           | 2013-01-01T06:30:00Z
    null          | 2013-01-01T06:30:00Z
    BOS           | 2013-01-01T06:30:00Z";

async fn governed() -> Serving {
    let serving = store::with(|_, rows| rows).await;
    // Planes have no origin: of them a guest sees nothing.
    govern(&serving, POLICIES).await;
    serving
}

async fn read(serving: &Serving, sql: &str, by: &Author) -> serving::Result<Vec<RecordBatch>> {
    serving.retrieve(Query::sql(sql), by).await?.collect().await
}

async fn refusal(serving: &Serving, sql: &str) -> String {
    let error = read(serving, sql, &with_role("guest")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Forbidden, "{error}");
    error.to_string()
}

async fn retrieved(serving: &Serving, features: &[&str], by: &Author) -> serving::Result<TrainingSet> {
    let request = HistoricalRequest::new(features.iter().copied());
    serving.historical(spine(vec![table(SPINE)]), request, by).await
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_columns_are_refused_by_name_with_the_policy() {
    let serving = governed().await;
    for sql in [
        "SELECT * FROM departures",
        "SELECT count(carrier) FROM departures",
        "SELECT delay FROM departures WHERE carrier = 'UA'",
        "SELECT carrier FROM history('departures')",
        "SELECT origin FROM history('departures') WHERE carrier IS NULL",
        "SELECT f.carrier FROM weather w ASOF JOIN departures f MATCH_CONDITION (w.valid_at >= f.valid_at) ON w.origin = f.origin",
    ] {
        let told = refusal(&serving, sql).await;
        assert!(
            told.starts_with(
                "`departures@1.carrier` may not be read: the policy `no-carriers` forbids it; leave it out"
            ),
            "{sql}\n{told}"
        );
    }
    let told = refusal(&serving, "SELECT seats FROM planes").await;
    assert!(told.contains("the policy `jfk` shows rows where `origin = 'JFK'`"), "{told}");
    assert!(read(&serving, "SELECT delay FROM departures", &with_role("guest")).await.is_ok());
    let error = retrieved(&serving, &["departures.carrier"], &with_role("guest")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Forbidden);
}

#[tokio::test(flavor = "multi_thread")]
async fn retrieval_shows_what_may_be_seen_and_says_what_is_hidden() {
    let serving = governed().await;
    let features = ["weather.temp", "weather.visib", "weather.sky", "departures.delay"];
    let set = retrieved(&serving, &features, &with_role("guest")).await.unwrap();
    let batch = &set.batches[0];
    let ints = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<arrow::datatypes::Int64Type>();
    let temp = ints("temp");
    assert_eq!(temp.iter().collect::<Vec<_>>(), [None, None, None, None], "JFK has none at six");
    assert_eq!(ints("visib").null_count(), 4);
    assert_eq!(ints("delay").iter().collect::<Vec<_>>(), [Some(-2), None, None, None]);
    let sky = batch.column_by_name("sky").unwrap().as_string::<i32>();
    assert_eq!((sky.value(0).len(), sky.null_count()), (32, 3));
    assert_ne!(sky.value(0), "rain");
    let nulls = |output: &str| {
        let found = set.report.features.iter().find(|found| found.output == output).unwrap();
        let nulls = found.nulls.iter().map(|(reason, cells)| format!("{reason} {cells}"));
        nulls.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(nulls("visib"), "hidden 4");
    assert_eq!(nulls("temp"), "hidden 2, null_at_source 1, null_key_or_time 1");
    // An airport that there is not is no other than one that is hidden.
    assert_eq!(nulls("delay"), "hidden 2, null_key_or_time 1");
    // Beside each cell it is said as it is counted; and there is no word of a column that may not be read.
    let mut request = HistoricalRequest::new(features);
    request.null_reasons = true;
    let guest = with_role("guest");
    let beside = serving.historical(spine(vec![table(SPINE)]), request.clone(), &guest).await.unwrap();
    for found in &beside.report.features {
        let column = beside.batches[0].column_by_name(&format!("{}__null_reason", found.output)).unwrap();
        let mut said = std::collections::BTreeMap::new();
        for reason in column.as_string::<i32>().iter().flatten() {
            *said.entry(reason.to_owned()).or_insert(0u64) += 1;
        }
        assert_eq!(said, found.nulls, "{}", found.output);
    }
    request.features = vec!["departures.carrier".to_owned()];
    let refused = serving.historical(spine(vec![table(SPINE)]), request, &guest).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Forbidden);
    let manifest = serving.manifest(set.report.training_set.unwrap()).await.unwrap();
    let policy = manifest.policy.unwrap();
    assert_eq!((policy.number, policy.principal.as_str()), (1, "ann"));
    assert_eq!(policy.views[0].rows, [("jfk".to_owned(), "origin = 'JFK'".to_owned())]);
    assert_eq!(policy.views[0].masks["temp"], "round:10");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_made_again_as_it_was_shown_or_not_at_all() {
    let serving = governed().await;
    let features = ["weather.temp", "weather.visib", "weather.sky"];
    let masked = retrieved(&serving, &features, &with_role("guest")).await.unwrap();
    let masked = masked.report.training_set.unwrap();
    let whole = retrieved(&serving, &features, &with_role("analyst")).await.unwrap();
    let whole = whole.report.training_set.unwrap();
    // As recorded, also for those who may see more.
    for by in [with_role("guest"), with_role("analyst"), author()] {
        let (report, _) = serving.replay(masked, &by).await.unwrap();
        assert_eq!(report.digest, report.rebuilt);
    }
    let (report, _) = serving.replay(whole, &with_role("analyst")).await.unwrap();
    assert_eq!(report.digest, report.rebuilt);
    let guest = with_role("guest");
    let told = |error: serving::Error| {
        assert_eq!(error.kind(), Kind::Forbidden, "{error}");
        assert!(error.to_string().contains("with less it would be another set"), "{error}");
    };
    told(serving.replay(whole, &guest).await.err().unwrap());
    told(serving.stretch(whole, 0..4, &guest).await.err().unwrap());
    told(serving.diff(serving::DiffRequest::new(masked, whole), false, &guest).await.err().unwrap());
    // A stretch that somebody else had rebuilt is at hand, and is not given either.
    serving.stretch(whole, 0..4, &with_role("analyst")).await.unwrap();
    told(serving.stretch(whole, 0..4, &guest).await.err().unwrap());
}

/// Who may read all but carriers and planes.
const CLERKS: &str = "
permit(principal in Role::\"clerk\", action == Action::\"read\", resource);
forbid(principal in Role::\"clerk\", action, resource == Feature::\"default.departures.carrier\");
forbid(principal in Role::\"clerk\", action, resource == View::\"default.planes\");
";

/// A retrieval whose spine a query gives.
async fn queried(serving: &Serving, sql: &str, by: &Author) -> serving::Result<(TrainingSetId, u64)> {
    let spine_sql = Some(sql.to_owned());
    let request = HistoricalRequest { spine_sql, ..HistoricalRequest::new(["weather.temp"]) };
    let stream = serving.historical_stream(None, request, by).await?;
    stream.rows.try_collect::<Vec<_>>().await?;
    let report = stream.report.await.unwrap();
    Ok((report.training_set.unwrap(), report.rows))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_gives_a_spine_of_what_its_asker_may_see() {
    let serving = store::with(|_, rows| rows).await;
    govern(&serving, &format!("{POLICIES}{CLERKS}")).await;
    let (guest, analyst) = (with_role("guest"), with_role("analyst"));
    let carriers = "SELECT origin, valid_at AS at, carrier FROM departures";
    let error = queried(&serving, carriers, &guest).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Forbidden, "{error}");
    let told = error.to_string();
    assert!(told.starts_with("the query of the spine: `departures@1.carrier` may not be read"), "{told}");
    // Once, by the words of the query.
    serving.flush(&author()).await.unwrap();
    let denied = "SELECT count(*) FROM lineament.access_decisions WHERE decision = 'denied'";
    assert_eq!(count(&serving, denied).await, 1);

    // The rows of JFK, and made again as they were shown.
    let seen = "SELECT origin, valid_at AS at, delay FROM departures";
    let (masked, rows) = queried(&serving, seen, &guest).await.unwrap();
    assert_eq!(rows, 2);
    for by in [&guest, &analyst] {
        let (report, _) = serving.replay(masked, by).await.unwrap();
        assert_eq!(report.digest, report.rebuilt);
    }
    let manifest = serving.manifest(masked).await.unwrap();
    let filtered = manifest.policy.unwrap().views;
    assert_eq!(filtered.len(), 2);
    assert!(filtered.iter().all(|view| view.rows.len() == 1), "{filtered:?}");

    // A clerk may see all that was looked up, and is given the sets whose spines show no more than that.
    let clerk = with_role("clerk");
    let planes = "SELECT w.origin, w.valid_at AS at, p.many FROM weather w CROSS JOIN (SELECT count(*) AS many FROM planes) p";
    let asked = [(seen, None), (carriers, Some("`departures@1.carrier`")), (planes, Some("`planes@1`"))];
    for (query, denied) in asked {
        let (whole, _) = queried(&serving, query, &analyst).await.unwrap();
        serving.replay(whole, &analyst).await.unwrap();
        let refused = serving.manifest_for(whole, &clerk).await.err();
        let told = refused.map(|error| (error.kind(), error.to_string()));
        assert_eq!(told.is_some(), denied.is_some(), "{query}: {told:?}");
        let Some(((kind, told), denied)) = told.zip(denied) else { continue };
        assert_eq!(kind, Kind::Forbidden, "{told}");
        assert!(told.contains(denied), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explanations_tell_no_more_than_queries() {
    let serving = governed().await;
    let request = |feature: &str, origin: &str| -> ExplainValueRequest {
        let json = serde_json::json!({
            "feature": feature, "key": { "origin": origin }, "at": "2013-01-01T06:30:00Z"
        });
        serde_json::from_value(json).unwrap()
    };
    let guest = with_role("guest");
    let hidden = serving.explain_value(request("weather.temp", "EWR"), &guest).await.unwrap();
    assert_eq!(hidden.null_reason.as_deref(), Some("hidden"));
    assert!(hidden.winner.is_none() && hidden.losers.is_empty() && hidden.losers_by_reason.is_empty());
    // An airport that there is not is no other than one that is hidden.
    let unknown = serving.explain_value(request("weather.temp", "XXX"), &guest).await.unwrap();
    assert_eq!(unknown.null_reason, hidden.null_reason);
    let masked = serving.explain_value(request("weather.visib", "JFK"), &guest).await.unwrap();
    assert_eq!((masked.value, masked.null_reason.as_deref()), (None, Some("hidden")));
    assert!(masked.winner.unwrap().value.is_none());
    let denied = serving.explain_value(request("departures.carrier", "JFK"), &guest).await.unwrap_err();
    assert_eq!(denied.kind(), Kind::Forbidden);
    let whole = serving.explain_value(request("weather.visib", "JFK"), &author()).await.unwrap();
    assert_eq!(whole.value.as_deref(), Some("4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn audits_are_no_oracle() {
    let serving = governed().await;
    let rows = table(
        "
        origin string | at timestamp         | visib int64
        JFK           | 2013-01-01T06:30:00Z | 4",
    );
    let request = AuditRequest::new(["weather.visib"]);
    let refused = serving.audit_table(spine(vec![rows]), request, false, &with_role("guest")).await;
    let error = refused.err().unwrap();
    assert_eq!(error.kind(), Kind::Forbidden);
    assert!(error.to_string().contains("is masked"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_and_counts_do_not_tell_of_hidden_rows() {
    let serving = governed().await;
    for sql in [
        "EXPLAIN ANALYZE SELECT temp FROM weather WHERE origin = 'EWR'",
        "EXPLAIN ANALYZE SELECT temp FROM history('weather') WHERE origin = 'EWR'",
        "EXPLAIN SELECT temp FROM weather WHERE origin = 'EWR'",
    ] {
        let batches = read(&serving, sql, &with_role("guest")).await.unwrap();
        let mut text = String::new();
        for batch in &batches {
            for column in batch.columns() {
                text.extend(column.as_string::<i32>().iter().flatten());
            }
        }
        for told in ["files=", "files_pruned", "files_read", "rows_read", "rows_pruned"] {
            assert!(!text.contains(told), "{sql} tells {told}:\n{text}");
        }
        assert!(text.contains("weather@1"), "{text}");
    }
    // A condition that fails on some values does not tell of rows that it never meets: temp - 41 is zero at EWR alone.
    let sql = "SELECT 1 / (temp - 41) AS x FROM history('weather') WHERE 100 / (temp - 41) < 0";
    read(&serving, sql, &with_role("guest")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn derived_views_are_not_made_of_what_is_hidden() {
    let serving = store::with(|_, rows| rows).await;
    let definition = r#"
kind = "feature_view"
name = "warm"
entity = "airport"
[time]
valid_at = "valid_at"
known_at = "arrival"
[derived]
sql = "SELECT origin, valid_at, temp FROM weather"
[[features]]
name = "temp"
type = "int64"
"#;
    serving.apply(files(&[store::DEFINITIONS[0], ("warm.toml", definition)]), &author()).await.unwrap();
    let more = "
permit(principal in Role::\"guest\", action == Action::\"ingest\", resource);
permit(principal in Role::\"reader\", action == Action::\"read\", resource == View::\"default.warm\");
permit(principal in Role::\"reader\", action == Action::\"read\", resource == Feature::\"default.warm.temp\");
";
    govern(&serving, &format!("{POLICIES}{more}")).await;
    let request = RefreshRequest { view: Some("warm".to_owned()), full: false };
    let error = serving.refresh(&request, &with_role("guest")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Forbidden);
    assert!(error.to_string().contains("needs all of `weather@1`"), "{error}");
    serving.refresh(&request, &author()).await.unwrap();
    // The query is told to whoever sees what it reads, too: the view alone is not enough.
    for (by, told) in [(with_role("reader"), false), (with_role("analyst"), true), (author(), true)] {
        let json = serde_json::json!({
            "feature": "warm.temp", "key": { "origin": "JFK" }, "at": "2013-03-01T00:00:00Z"
        });
        let request: ExplainValueRequest = serde_json::from_value(json).unwrap();
        let explained = serving.explain_value(request, &by).await.unwrap();
        assert_eq!(explained.value.as_deref(), Some("38"), "{:?}", by.roles);
        assert_eq!(explained.winner.unwrap().sql.is_some(), told, "{:?}", by.roles);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_as_it_was_is_shown_by_the_policies_of_now() {
    let serving = governed().await;
    let guest = with_role("guest");
    let query = |from: &str| format!("SELECT temp, visib, sky, origin FROM {from} ORDER BY valid_at");
    // There was no policy at either.
    for (at, temps) in [(store::EARLY, vec![Some(40), None]), (5, vec![Some(40), None, Some(40)])] {
        let as_of = Some(AsOf::Sequence(Sequence(at)));
        let then = Query::sql(query("weather")).with_as_of(as_of);
        let then = serving.retrieve(then, &guest).await.unwrap().collect().await.unwrap();
        let named = query(&format!("at_sequence('weather', {at})"));
        let named = read(&serving, &named, &guest).await.unwrap();
        assert_eq!(shown(&then), shown(&named), "{at}");
        let rows = shown(&then);
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), temps, "{at}");
        for (_, visib, sky, origin) in rows {
            assert_eq!((visib, sky.len(), origin.as_str()), (None, 32, "JFK"), "{at}");
        }
        let mut request = HistoricalRequest::new(["weather.temp", "weather.visib", "weather.sky"]);
        request.as_of = as_of;
        request.record = false;
        let set = serving.historical(spine(vec![table(SPINE)]), request, &guest).await.unwrap();
        let column = |name: &str| set.batches[0].column_by_name(name).unwrap();
        assert_eq!(column("visib").null_count(), 4, "{at}");
        let sky = column("sky").as_string::<i32>();
        assert_eq!((sky.value(0).len(), sky.null_count()), (32, 3), "{at}");
    }
    // Nor is what may not be read to be had from before.
    let as_of = Some(AsOf::Sequence(Sequence(5)));
    let denied = Query::sql("SELECT carrier FROM departures").with_as_of(as_of);
    let error = serving.retrieve(denied, &guest).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Forbidden);
}

/// `temp`, `visib`, `sky` and `origin` of each row.
fn shown(batches: &[RecordBatch]) -> Vec<(Option<i64>, Option<i64>, String, String)> {
    let mut rows = Vec::new();
    for batch in batches {
        let ints = |place: usize| batch.column(place).as_primitive::<arrow::datatypes::Int64Type>();
        let texts = |place: usize| batch.column(place).as_string::<i32>();
        let optional = |place: usize, row: usize| ints(place).is_valid(row).then(|| ints(place).value(row));
        for row in 0..batch.num_rows() {
            let (sky, origin) = (texts(2).value(row).to_owned(), texts(3).value(row).to_owned());
            rows.push((optional(0, row), optional(1, row), sky, origin));
        }
    }
    rows
}
