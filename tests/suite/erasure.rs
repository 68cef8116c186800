//! An entity that is erased is nowhere, nothing else is another than before, and what was made of it says what is left.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::StringArray;
use arrow::util::pretty::pretty_format_batches;
use catalog::Catalog;
use catalog::records::{Erased, Verdict};
use catalog::sampling::Due;
use feature::key::key_hashes;
use feature::{Sequence, TrainingSetId};
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serving::{
    EraseReport, EraseRequest, ExplainRequest, HistoricalRequest, Kind, RefreshRequest, RollbackRequest,
    Serving,
};
use storage::environment::{self, TestClock};

use super::compaction::files::everything;
use super::stalling::stopped_before_deleting;
use super::stores::{author, count, files, ingest, instant, memory, rows, select, spine};
use super::sweep::{at_once, verified};
use super::tables::table;

const SHOP: &str = "kind = \"entity\"\nname = \"shop\"\n[[keys]]\nname = \"shop\"\ntype = \"string\"\n";
const VISITS: &str = "kind = \"feature_view\"\nname = \"visits\"\nentity = \"shop\"\n[time]\nvalid_at = \"day\"\n\
     known_at = { column = \"counted_at\" }\n[[features]]\nname = \"visitors\"\ntype = \"int64\"\nrange = [0, 1000]\n\
     default = 7\n[[features]]\nname = \"note\"\ntype = \"string\"\n[sampling]\nreads = 1.0\n";
const SALES: &str = "kind = \"feature_view\"\nname = \"sales\"\nentity = \"shop\"\n[time]\nvalid_at = \"day\"\n\
     known_at = { column = \"counted_at\" }\n[[features]]\nname = \"amount\"\ntype = \"float64\"\n";

const REGION: &str = "kind = \"entity\"\nname = \"region\"\n[[keys]]\nname = \"region\"\ntype = \"string\"\n";
/// Of another entity, made of the rows of all shops.
const TOTALS: &str = "kind = \"feature_view\"\nname = \"totals\"\nentity = \"region\"\n[time]\nvalid_at = \"valid_at\"\n\
     known_at = { column = \"known_at\" }\n[derived]\nsql = \"SELECT 'north' AS region, valid_at, max(known_at) AS known_at, \
     sum(visitors) AS visitors FROM history('visits') GROUP BY valid_at\"\n[[features]]\nname = \"visitors\"\ntype = \"int64\"\n";

/// The key, and a value that no other entity has.
const KEY: &str = "ZEBRA77";
const VALUE: &str = "quagga4711";

async fn shops() -> Serving {
    let clock = TestClock::new(instant("2024-06-01T00:00:00Z"));
    let serving = memory(&clock).await;
    let definitions = [("shop.toml", SHOP), ("visits.toml", VISITS), ("sales.toml", SALES)];
    serving.apply(files(&definitions), &author()).await.unwrap();
    for day in ["04-10", "04-20", "05-03", "05-20"] {
        ingest(&serving, rows("visits", vec![visits(day)])).await.unwrap();
    }
    let sales = format!(
        "shop string | day timestamp        | counted_at timestamp | amount float64
         {KEY}       | 2024-04-10T00:00:00Z | 2024-04-10T20:00:00Z | 12.5
         OTHER       | 2024-04-10T00:00:00Z | 2024-04-10T20:00:00Z | 13.5"
    );
    ingest(&serving, rows("sales", vec![table(&sales)])).await.unwrap();
    serving
}

fn visits(day: &str) -> arrow::array::RecordBatch {
    table(&format!(
        "shop string | day timestamp        | counted_at timestamp | visitors int64 | note string
         ANOTHER     | 2024-{day}T00:00:00Z | 2024-{day}T20:00:00Z | 1              | plain
         OTHER       | 2024-{day}T00:00:00Z | 2024-{day}T20:00:00Z | 2              | null
         {KEY}       | 2024-{day}T00:00:00Z | 2024-{day}T20:00:00Z | 3              | {VALUE}"
    ))
}

async fn record(serving: &Serving, shops: &[&str]) -> TrainingSetId {
    let mut asked = "shop string | at timestamp | label string".to_owned();
    for shop in shops {
        asked += &format!("\n{shop} | 2024-05-28T21:00:00Z | of {shop}");
    }
    let request = HistoricalRequest::new(["visits.visitors", "visits.note", "sales.amount"]);
    let made = serving.historical(spine(vec![table(&asked)]), request, &author()).await.unwrap();
    made.report.training_set.unwrap()
}

fn request() -> EraseRequest {
    EraseRequest {
        entity: "shop".to_owned(),
        key: BTreeMap::from([("shop".to_owned(), KEY.to_owned())]),
        reason: Some("it was asked for".to_owned()),
        request: Some("case 17".to_owned()),
        dry_run: false,
    }
}

async fn erase(serving: &Serving) -> EraseReport {
    serving.erase(&request(), &author()).await.unwrap()
}

/// Objects in which a word stands: as their bytes are, or in a cell of a table, also as the bytes of a bound or the hash of a key.
async fn with_word(serving: &Serving, word: &str) -> Vec<String> {
    let objects = serving.catalog().store().objects();
    let listed: Vec<ObjectMeta> = objects.list(None).try_collect().await.unwrap();
    let hex: String = word.bytes().map(|byte| format!("{byte:02x}")).collect();
    let hash = key_hashes(&[Arc::new(StringArray::from(vec![word]))]).unwrap()[0].to_string();
    let mut found = Vec::new();
    for object in listed {
        let bytes = objects.get(&object.location).await.unwrap().bytes().await.unwrap();
        let mut holds = bytes.windows(word.len()).any(|part| part == word.as_bytes());
        if object.location.as_ref().ends_with(".parquet") {
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
            let batches: Vec<_> = reader.map(|batch| batch.unwrap()).collect();
            let shown = pretty_format_batches(&batches).unwrap().to_string();
            holds |= shown.contains(word) || shown.contains(&hex) || shown.contains(&hash);
        }
        if holds {
            found.push(object.location.to_string());
        }
    }
    found
}

/// What a view has at each sequence, without the rows that match nothing of a condition.
async fn history(serving: &Serving, view: &str, until: Sequence, condition: &str) -> Vec<Option<String>> {
    let mut found = Vec::new();
    for at in 0..=until.0 {
        let sql = format!("SELECT * FROM at_sequence('{view}', {at}) {condition} ORDER BY shop, valid_at");
        let answer = select(serving, &sql).await.ok();
        found.push(answer.map(|(_, batches)| pretty_format_batches(&batches).unwrap().to_string()));
    }
    found
}

async fn verdict(serving: &Serving, set: TrainingSetId) -> Verdict {
    serving.prove(set, &author()).await.unwrap().verdict
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_it_is_left_and_all_else_is_as_it_was() {
    let serving = shops().await;
    // Rejected rows, of a batch that counts or is refused whole.
    let wrong = visits("05-25");
    let negative = table(&format!(
        "shop string | day timestamp        | counted_at timestamp | visitors int64 | note string
         {KEY}       | 2024-05-26T00:00:00Z | 2024-05-26T20:00:00Z | -3             | {VALUE}"
    ));
    let mixed = arrow::compute::concat_batches(&wrong.schema(), [&wrong, &negative]).unwrap();
    drop(ingest(&serving, rows("visits", vec![mixed])).await);
    let affected = record(&serving, &["OTHER", KEY, "ANOTHER"]).await;
    let unaffected = record(&serving, &["OTHER", "ANOTHER"]).await;
    let put_up = table(&format!("shop string | at timestamp\n{KEY} | 2024-05-28T21:00:00Z"));
    let put_up = serving.ingest_spine(spine(vec![put_up]), &author()).await.unwrap().spine;
    select(&serving, &format!("SELECT * FROM visits WHERE shop = '{KEY}'")).await.unwrap();
    serving.flush(&author()).await.unwrap();
    serving.compact(&everything(), &author()).await.unwrap();
    let head = serving.catalog().refresh().await.unwrap().head.sequence;
    let mut before = Vec::new();
    for view in ["visits", "sales"] {
        before.push(history(&serving, view, head, &format!("WHERE shop <> '{KEY}'")).await);
    }
    assert!(before[0].iter().flatten().count() > 4);
    assert!(with_word(&serving, KEY).await.len() > 8, "there is something to erase");

    let dry = EraseRequest { dry_run: true, reason: None, ..request() };
    let told = serving.erase(&dry, &author()).await.unwrap();
    assert_eq!((told.sequence, told.training_sets.len(), told.spines), (None, 1, 1), "{told:?}");
    assert!(told.rows >= 5 && told.rejected >= 1 && told.reads >= 1, "{told:?}");
    assert_eq!(serving.catalog().refresh().await.unwrap().erasures().all().len(), 0);

    let report = erase(&serving).await;
    assert_eq!((report.rows, report.rejected), (told.rows, told.rejected), "{report:?}");
    assert_eq!(report.training_sets[0].training_set, affected);
    assert_eq!(report.training_sets[0].provable, Some(true), "{report:?}");
    assert_eq!(with_word(&serving, KEY).await, Vec::<String>::new());
    assert_eq!(with_word(&serving, VALUE).await, Vec::<String>::new());
    verified(&serving).await;

    // A process that was open, and one that opens the store anew.
    let anew = Serving::new(Catalog::open(serving.catalog().store().clone()).await.unwrap());
    for serving in [&serving, &anew] {
        let mut after = Vec::new();
        for view in ["visits", "sales"] {
            after.push(history(serving, view, head, "").await);
        }
        assert_eq!(after, before);
        assert_eq!(verdict(serving, affected).await, Verdict::EqualMinusErasures);
        assert_eq!(verdict(serving, unaffected).await, Verdict::Equal);
        let (_, set) = serving.replay(affected, &author()).await.unwrap();
        let rows: usize = set.batches.iter().map(arrow::array::RecordBatch::num_rows).sum();
        assert_eq!(rows, 3);
        assert!(set.schema.field_with_name("_erased").is_err());
        // Null, and not the default.
        let visitors = set.batches[0].column_by_name("visitors").unwrap();
        assert!(arrow::array::Array::is_null(visitors, 1));
        let cell = ExplainRequest::new(affected, 1, "visitors");
        let cell = serving.explain(cell, &author()).await.unwrap();
        assert_eq!(cell.null_reason.as_deref(), Some("erased"));
        let problems = serving.reconcile(true).await.unwrap().problems;
        // That no run used the sets is none of it.
        assert!(problems.iter().all(|problem| problem.unlinked), "{problems:?}");
        assert_eq!(count(serving, "SELECT count(*) FROM lineament.erasures").await, 1);
    }
    let asked = HistoricalRequest { spine: Some(put_up), ..HistoricalRequest::new(["visits.visitors"]) };
    let error = serving.historical_stream(None, asked, &author()).await.err().unwrap();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");

    // Again there is nothing, and rows that come later count.
    assert_eq!(erase(&serving).await.sequence, None);
    ingest(&serving, rows("visits", vec![visits("05-30")])).await.unwrap();
    assert_eq!(count(&serving, "SELECT count(*) FROM visits WHERE visitors = 3").await, 1);
    // What was merged is proved by what is left, and is merged on.
    serving.compact(&everything(), &author()).await.unwrap();
    verified(&serving).await;
    serving.sweep(&at_once(&serving), &author()).await.unwrap();
    verified(&serving).await;
    assert_eq!(verdict(&serving, affected).await, Verdict::EqualMinusErasures);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_swept_before_and_a_second_erasure() {
    let serving = shops().await;
    serving.compact(&everything(), &author()).await.unwrap();
    serving.sweep(&at_once(&serving), &author()).await.unwrap();
    let set = record(&serving, &["OTHER", KEY, "ANOTHER"]).await;
    erase(&serving).await;
    assert_eq!(with_word(&serving, KEY).await, Vec::<String>::new());
    assert_eq!(with_word(&serving, VALUE).await, Vec::<String>::new());
    verified(&serving).await;
    let other = BTreeMap::from([("shop".to_owned(), "ANOTHER".to_owned())]);
    serving.erase(&EraseRequest { key: other, ..request() }, &author()).await.unwrap();
    assert_eq!(with_word(&serving, "ANOTHER").await, Vec::<String>::new());
    verified(&serving).await;
    assert_eq!(count(&serving, "SELECT count(*) FROM visits").await, 4);
    assert_eq!(verdict(&serving, set).await, Verdict::EqualMinusErasures);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passed_by_of_it_goes_too() {
    let serving = shops().await;
    serving.begin_sampling();
    let read = async || {
        let asked = format!(
            "shop string | at timestamp
             {KEY}       | 2024-05-28T21:00:00Z
             ANOTHER     | 2024-05-28T21:00:00Z"
        );
        let request = HistoricalRequest { record: false, ..HistoricalRequest::new(["visits.note"]) };
        serving.historical(spine(vec![table(&asked)]), request, &author()).await.unwrap();
    };
    let judge = async || serving.judge_samples(Due::All, &author()).await.unwrap();
    read().await;
    let sampled = judge().await;
    assert_eq!((sampled.len(), sampled[0].rows), (1, 2));
    let profile = sampled[0].profile.path.clone();
    assert!(with_word(&serving, VALUE).await.contains(&profile));
    // Gathered, and not compared yet.
    read().await;
    let dry = EraseRequest { dry_run: true, reason: None, ..request() };
    assert_eq!(serving.erase(&dry, &author()).await.unwrap().samples, 1);
    let report = erase(&serving).await;
    assert_eq!((report.samples, report.samples_left), (1, 0));
    assert_eq!(judge().await, [], "what was gathered before is let go");
    // What passes by from then on is sampled as before.
    read().await;
    assert_eq!(judge().await.len(), 1);
    assert_eq!(with_word(&serving, VALUE).await, Vec::<String>::new());
    assert_eq!(with_word(&serving, KEY).await, Vec::<String>::new());
    assert_eq!(count(&serving, "SELECT count(*) FROM lineament.samples").await, 2);
    verified(&serving).await;
    assert_eq!(erase(&serving).await.samples, 1, "nobody can tell whose values the later one has");
    verified(&serving).await;
    assert_eq!(erase(&serving).await.sequence, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_computed_from_it_for_another_entity_is_named_until_it_is_rolled_back() {
    let serving = shops().await;
    let definitions = [
        ("shop.toml", SHOP),
        ("region.toml", REGION),
        ("visits.toml", VISITS),
        ("sales.toml", SALES),
        ("totals.toml", TOTALS),
    ];
    serving.apply(files(&definitions), &author()).await.unwrap();
    let refresh = async || {
        let request = RefreshRequest { view: Some("totals".to_owned()), full: false };
        serving.refresh(&request, &author()).await.unwrap().remove(0)
    };
    let first = refresh().await;
    assert_eq!((first.rows, count(&serving, "SELECT sum(visitors) FROM totals").await), (4, 4 * 6));
    let named = async || {
        let problems = serving.reconcile(false).await.unwrap().problems;
        problems.into_iter().filter(|one| one.kind == "batch").map(|one| one.id).collect::<Vec<_>>()
    };
    assert_eq!(named().await, Vec::<String>::new());
    let dry = EraseRequest { dry_run: true, reason: None, ..request() };
    for asked in [dry, request()] {
        let report = serving.erase(&asked, &author()).await.unwrap();
        let left: Vec<_> = report.derived_left.iter().map(|one| (one.batch, one.version.as_str())).collect();
        assert_eq!(left, [(first.batch.unwrap(), "totals@1")], "{report:?}");
    }
    let old = first.batch.unwrap().to_string();
    assert_eq!(named().await, std::slice::from_ref(&old));
    // Nothing came, and what is left gives other sums; the earlier ones are in the history.
    assert_eq!(refresh().await.rows, 4);
    assert_eq!(count(&serving, "SELECT sum(visitors) FROM totals").await, 4 * 3);
    assert_eq!(count(&serving, "SELECT max(visitors) FROM history('totals')").await, 6);
    assert_eq!(named().await, std::slice::from_ref(&old));
    let reason = Some("computed from what was erased".to_owned());
    let withdrawn = RollbackRequest { node: old, undo: false, derived: false, reason };
    serving.rollback(&withdrawn, &author()).await.unwrap();
    assert_eq!(refresh().await.rows, 0);
    assert_eq!(count(&serving, "SELECT max(visitors) FROM history('totals')").await, 3);
    assert_eq!(named().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_between_is_looked_at_too() {
    let serving = shops().await;
    let state = serving.catalog().refresh().await.unwrap();
    let version = state.view("default", "visits", None, state.head.sequence).unwrap();
    let (secret, _) = catalog::erasure::new_secret(serving.catalog()).await.unwrap();
    let record = Erased {
        erasure: environment::mint(),
        entity: state.entities().next().unwrap().entity,
        views: vec![version.view],
        keys: Vec::new(),
        secret,
        reason: "it was asked for".to_owned(),
        request: None,
        seen: state.head.sequence,
        rows: 0,
        replaced: Vec::new(),
        gone: Vec::new(),
        sets: Vec::new(),
    };
    ingest(&serving, rows("visits", vec![visits("05-25")])).await.unwrap();
    let committed = catalog::erasure::commit(serving.catalog(), &record, &author()).await.unwrap();
    assert_eq!(committed, None, "rows came that it has not seen");
    erase(&serving).await;
    assert_eq!(with_word(&serving, KEY).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_was_stopped_is_ended_by_who_comes_next() {
    for ends_by_sweep in [false, true] {
        let serving = shops().await;
        let set = record(&serving, &["OTHER", KEY]).await;
        let stopped = stopped_before_deleting(&serving).await;
        let error = stopped.erase(&request(), &author()).await.err().unwrap();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        // Nobody reads it any more.
        assert_eq!(count(&serving, "SELECT count(*) FROM visits WHERE visitors = 3").await, 0);
        verified(&serving).await;
        assert!(!with_word(&serving, KEY).await.is_empty());
        match ends_by_sweep {
            true => drop(serving.sweep(&at_once(&serving), &author()).await.unwrap()),
            false => assert_eq!(erase(&serving).await.sequence, None),
        }
        assert_eq!(with_word(&serving, KEY).await, Vec::<String>::new());
        verified(&serving).await;
        assert_eq!(verdict(&serving, set).await, Verdict::EqualMinusErasures);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_erased_is_said() {
    let serving = shops().await;
    let refused = async |request: EraseRequest, kind: Kind, part: &str| {
        let error = serving.erase(&request, &author()).await.err().unwrap();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    refused(EraseRequest { entity: "shpo".to_owned(), ..request() }, Kind::NotFound, "did you mean `shop`")
        .await;
    refused(EraseRequest { key: BTreeMap::new(), ..request() }, Kind::Invalid, "shop (string)").await;
    refused(EraseRequest { reason: None, ..request() }, Kind::Invalid, "say why").await;
    let named = EraseRequest { reason: Some(format!("{KEY} asked")), ..request() };
    refused(named, Kind::Invalid, "is of the key").await;
    let nobody = BTreeMap::from([("shop".to_owned(), "NOBODY".to_owned())]);
    let report = serving.erase(&EraseRequest { key: nobody, ..request() }, &author()).await.unwrap();
    assert_eq!((report.sequence, report.rows), (None, 0));
}
