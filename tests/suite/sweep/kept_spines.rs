//! Spines that clients put up: kept while somebody may ask for them, dropped by an entry, gone a longest read later.

use arrow::compute::concat_batches;
use catalog::records::Verdict;
use futures::TryStreamExt;
use serving::{HistoricalRequest, Kind, Serving, SpineReport, SweepReport, SweepRequest};
use storage::environment::TestClock;

use super::{another, at_once, gone, paths, sweep, verified};
use crate::suite::compaction::files::weather;
use crate::suite::stores::{author, claimed, files, ingest, instant, memory, rows, spine};
use crate::suite::tables::table;

const ASKED: &str = "
    origin string | at timestamp
    EWR           | 2013-01-01T09:00:00Z
    JFK           | 2013-01-01T04:00:00Z";

async fn put_up(serving: &Serving) -> SpineReport {
    serving.ingest_spine(spine(vec![table(ASKED)]), &author()).await.unwrap()
}

/// The training set that is made of a spine by its digest.
async fn of_digest(serving: &Serving, digest: &str) -> serving::Result<feature::TrainingSetId> {
    let mut request = HistoricalRequest::new(["weather.temp"]);
    request.spine = Some(digest.to_owned());
    let made = serving.historical_stream(None, request, &author()).await?;
    let _: Vec<_> = made.rows.try_collect().await?;
    Ok(made.report.await.unwrap().training_set.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_nobody_needs_goes_and_one_of_a_training_set_stays() {
    let serving = weather(2).await;
    let first = put_up(&serving).await;
    assert!(!first.repeated && put_up(&serving).await.repeated);
    assert_eq!(paths(&serving, "spines").await.len(), 1, "the same rows are written once");
    verified(&serving).await;

    // Dropped: nobody can ask for it, and its object is there still, for who reads it.
    let report = sweep(&serving).await.unwrap();
    assert_eq!((report.dropped, gone(&report, "kept_spine")), (1, 0), "{report:?}");
    assert_eq!(paths(&serving, "spines").await.len(), 1);
    for serving in [&serving, &another(&serving).await] {
        let error = of_digest(serving, &first.spine).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
        assert!(error.to_string().contains("ingest it"), "{error}");
    }
    let report = sweep(&serving).await.unwrap();
    assert_eq!((report.dropped, gone(&report, "kept_spine")), (0, 1), "{report:?}");
    assert_eq!(paths(&serving, "spines").await.len(), 0);
    assert_eq!(verified(&serving).await.orphan_objects, 0);

    // Put up anew it is another, and a training set's from the first on.
    assert!(!put_up(&serving).await.repeated);
    let set = of_digest(&serving, &first.spine).await.unwrap();
    for _ in 0..2 {
        let report = sweep(&serving).await.unwrap();
        assert_eq!((report.dropped, gone(&report, "kept_spine")), (0, 0), "{report:?}");
    }
    for serving in [&serving, &another(&serving).await] {
        assert_eq!(serving.replay(set, &author()).await.unwrap().0.verdict, Verdict::Equal);
        of_digest(serving, &first.spine).await.unwrap();
    }
    verified(&serving).await;
}

/// Very many are dropped by several entries, the oldest first.
#[tokio::test(flavor = "multi_thread")]
async fn one_entry_drops_so_many_at_most() {
    let serving = weather(2).await;
    for hour in 3..6 {
        let text = format!("origin string | at timestamp\nEWR | 2013-01-01T0{hour}:00:00Z");
        serving.ingest_spine(spine(vec![table(&text)]), &author()).await.unwrap();
    }
    let told = |report: &SweepReport| (report.dropped, report.more, gone(report, "kept_spine"));
    let few = async |dry_run: bool| {
        let request = SweepRequest { dry_run, most_named: Some(2), ..at_once(&serving) };
        told(&serving.sweep(&request, &author()).await.unwrap())
    };
    assert_eq!(few(true).await, (2, true, 0));
    assert_eq!(few(false).await, (2, true, 0));
    let dropped = serving.catalog().state();
    let dropped = dropped.spines().all().iter().map(|spine| spine.dropped.is_some());
    assert_eq!(dropped.collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(few(false).await, (1, false, 2));
    assert_eq!(few(false).await, (0, false, 1));
    verified(&serving).await;
}

/// Who has begun to make a training set of one that is dropped meanwhile is told so; nothing of the set counts. Its rows are several
/// batches, more than go ahead of a reader: a set is on record as soon as its last row was given.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_one_that_was_dropped_meanwhile_does_not_count() {
    let serving = weather(2).await;
    let few = table(ASKED);
    let many = concat_batches(&few.schema(), std::iter::repeat_n(&few, 20_000)).unwrap();
    let put_up = async || serving.ingest_spine(spine(vec![many.clone()]), &author()).await.unwrap();
    let kept = put_up().await;
    let mut request = HistoricalRequest::new(["weather.temp"]);
    request.spine = Some(kept.spine.clone());
    let begun = serving.historical_stream(None, request, &author()).await.unwrap();
    let other = another(&serving).await;
    assert_eq!(sweep(&other).await.unwrap().dropped, 1);
    assert_eq!(gone(&sweep(&other).await.unwrap(), "kept_spine"), 1);
    // What was read of it is read; what would have to be made again of it is not recorded.
    let rows: serving::Result<Vec<_>> = begun.rows.try_collect().await;
    let error = rows.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(error.to_string().contains("put its rows up again"), "{error}");
    assert_eq!(serving.catalog().refresh().await.unwrap().training_sets().count(), 0);
    put_up().await;
    of_digest(&serving, &kept.spine).await.unwrap();
    verified(&serving).await;
}

/// By the clock: a week after it was put up last it is dropped, and a day later it goes. Who puts it up again in time keeps it.
#[tokio::test(flavor = "multi_thread")]
async fn its_age_begins_anew_when_it_is_put_up_again() {
    let clock = TestClock::new(instant("2013-02-01T00:00:00Z"));
    let serving = memory(&clock).await;
    let definitions = [
        ("a.toml", "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n"),
        (
            "w.toml",
            "kind = \"feature_view\"\nname = \"weather\"\nentity = \"airport\"\n[time]\nvalid_at = \"time_hour\"\nknown_at = \"arrival\"\n\
             [[features]]\nname = \"temp\"\ntype = \"float64\"\n",
        ),
    ];
    serving.apply(files(&definitions), &author()).await.unwrap();
    let text = "origin string | time_hour timestamp | temp float64\n EWR | 2013-01-01T02:00:00Z | 1.5";
    ingest(&serving, claimed(rows("weather", vec![table(text)]), catalog::ingest::Claim::BackFill))
        .await
        .unwrap();
    let aged = |days: u32| {
        let (serving, clock) = (serving.clone(), clock.clone());
        async move {
            clock.advance(format!("{days}d").parse().unwrap());
            serving.sweep(&SweepRequest::default(), &author()).await.unwrap()
        }
    };
    let told = |report: &SweepReport| (report.dropped, gone(report, "kept_spine"));
    let entries = || async { serving.catalog().refresh().await.unwrap().head.sequence };
    put_up(&serving).await;
    let before = entries().await;
    assert_eq!(told(&aged(2).await), (0, 0));
    assert!(put_up(&serving).await.repeated);
    assert_eq!(entries().await, before, "it is young, and nothing is said again");
    assert_eq!(told(&aged(4).await), (0, 0));
    assert!(put_up(&serving).await.repeated);
    assert_eq!(entries().await, before.next(), "it was put up long ago, and again now");
    assert_eq!(told(&aged(6).await), (0, 0));
    assert_eq!(told(&aged(1).await), (1, 0));
    assert_eq!(told(&aged(0).await), (0, 0), "a read that began before may need it");
    assert_eq!(told(&aged(1).await), (0, 1));
    assert!(!put_up(&serving).await.repeated);
    verified(&serving).await;
}
