//! Files that a compaction replaced go, and no answer, no proof and no report changes by it.

use catalog::ingest::Claim;
use catalog::records::Verdict;
use serving::{HistoricalRequest, Kind, SweepRequest};

use super::{another, at_once, delete, gone, paths, set, sweep, verified};
use crate::suite::compaction::files::{everything, weather};
use crate::suite::fixture;
use crate::suite::stores::{author, claimed, count, files, ingest, memory, rows, select, spine};
use crate::suite::tables::table;

const ROWS: &str = "
    origin string | time_hour timestamp  | temp float64 | visib float64 | sky string
    EWR           | 2013-01-01T02:00:00Z | 1.5          | 10            | clear";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_compaction_replaced_goes_and_all_else_stays_as_it_was() {
    let serving = weather(6).await;
    let asked = "
        origin string | at timestamp
        EWR           | 2013-01-01T09:00:00Z
        JFK           | 2013-01-01T04:00:00Z";
    let request = HistoricalRequest::new(["weather.temp", "weather.sky"]);
    let made = serving.historical(spine(vec![table(asked)]), request, &author()).await.unwrap();
    let set = made.report.training_set.unwrap();
    let first = paths(&serving, "data").await;
    serving.compact(&everything(), &author()).await.unwrap();
    assert_eq!(paths(&serving, "data").await.len(), first.len() + 1);

    let dry = serving.sweep(&SweepRequest { dry_run: true, ..at_once(&serving) }, &author()).await.unwrap();
    assert_eq!((dry.sequence, gone(&dry, "data")), (None, 6), "{dry:?}");
    assert_eq!(paths(&serving, "data").await.len(), first.len() + 1, "a dry run deletes nothing");

    let before = serving.catalog().state().head.sequence;
    let report = sweep(&serving).await.unwrap();
    assert_eq!((report.sequence, gone(&report, "data")), (Some(before.next()), 6), "{report:?}");
    assert_eq!(report.total().0, 6, "only data files: what tells of them stays: {report:?}");
    let left = paths(&serving, "data").await;
    assert_eq!((left.len(), left.is_disjoint(&first)), (1, true));
    assert_eq!(paths(&serving, "manifests").await.len(), 7);

    for serving in [serving.clone(), another(&serving).await] {
        verified(&serving).await;
        assert_eq!(count(&serving, "SELECT count(*) FROM history('weather')").await, 12);
        let (replayed, _) = serving.replay(set, &author()).await.unwrap();
        assert_eq!(replayed.verdict, Verdict::Equal);
        assert_eq!(serving.check_compactions(None).await.unwrap()[0].1.rows, 12);
        let problems = serving.reconcile(true).await.unwrap().problems;
        assert!(problems.iter().all(|wrong| wrong.problem == "no run used it"), "{problems:?}");
    }
    // The next finds nothing, and writes nothing.
    let head = serving.catalog().refresh().await.unwrap().head.sequence;
    let again = sweep(&serving).await.unwrap();
    assert_eq!((again.sequence, again.total()), (None, (0, 0)), "{again:?}");
    assert_eq!(serving.catalog().refresh().await.unwrap().head.sequence, head);
    assert_eq!(count(&serving, "SELECT objects FROM lineament.sweeps").await, 6);
}

/// A view that dates what is known by a rule, so that rows which overlap what is there have to say what they are.
const RULED: [(&str, &str); 2] = [
    ("thing.toml", "kind = \"entity\"\nname = \"thing\"\n[[keys]]\nname = \"k\"\ntype = \"string\"\n"),
    (
        "v.toml",
        "kind = \"feature_view\"\nname = \"v\"\nentity = \"thing\"\n[time]\nvalid_at = \"ts\"\n\
         known_at = { delay = \"1s\" }\n[[features]]\nname = \"x\"\ntype = \"float64\"\n",
    ),
];

/// Of what was first written its manifests tell, which stay.
#[tokio::test(flavor = "multi_thread")]
async fn an_overlap_with_what_was_replaced_is_refused_all_the_same() {
    let serving = memory(&fixture::clock()).await;
    serving.apply(files(&RULED), &author()).await.unwrap();
    let at = |hour: u32| {
        let text = format!("k string | ts timestamp | x float64\n a | 2013-01-01T{hour:02}:00:00Z | 1.5");
        rows("v", vec![table(&text)])
    };
    for hour in 0..4 {
        ingest(&serving, claimed(at(hour), Claim::BackFill)).await.unwrap();
    }
    serving.compact(&everything(), &author()).await.unwrap();
    assert_eq!(gone(&sweep(&serving).await.unwrap(), "data"), 4);
    for serving in [serving.clone(), another(&serving).await] {
        let error = ingest(&serving, at(2)).await.unwrap_err();
        assert!(error.to_string().contains("already has observations"), "{error}");
    }
    ingest(&serving, at(9)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_are_merged_again_leave_only_the_last() {
    let serving = weather(4).await;
    for _ in 0..3 {
        serving.compact(&everything(), &author()).await.unwrap();
        sweep(&serving).await.unwrap();
        assert_eq!(paths(&serving, "data").await.len(), 1);
        ingest(&serving, claimed(rows("weather", vec![table(ROWS)]), Claim::Correction)).await.unwrap();
    }
    assert_eq!(count(&serving, "SELECT count(*) FROM history('weather')").await, 11);
    verified(&another(&serving).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_files_stay_for_as_long_as_a_read_may_last() {
    let serving = weather(3).await;
    serving.compact(&everything(), &author()).await.unwrap();
    let by_age = SweepRequest::default();
    let report = serving.sweep(&by_age, &author()).await.unwrap();
    assert_eq!((report.sequence, report.total().0), (None, 0), "{report:?}");
    assert!(report.kept.iter().any(|kept| kept.kind == "data" && kept.why.contains("less than the grace")));
    let asked = |grace: &str| SweepRequest { grace: Some(grace.parse().unwrap()), ..by_age.clone() };
    let error = serving.sweep(&asked("23h"), &author()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("less than the longest read"), "{error}");

    // Eight days later.
    let clock = fixture::clock();
    clock.advance("8d".parse().unwrap());
    let store = storage::Store::over("later", serving.catalog().store().objects(), clock.into());
    let later = serving::Serving::new(catalog::Catalog::open(store).await.unwrap());
    let report = later.sweep(&by_age, &author()).await.unwrap();
    assert_eq!(gone(&report, "data"), 3, "{report:?}");
    verified(&later).await;
    // The other process has the old files in mind, and reads the new ones.
    assert_eq!(count(&serving, "SELECT count(*) FROM history('weather')").await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_and_was_not_condemned_is_a_fault_all_the_same() {
    let serving = weather(6).await;
    serving.compact(&everything(), &author()).await.unwrap();
    let replaced = paths(&serving, "data").await;
    ingest(&serving, claimed(rows("weather", vec![table(ROWS)]), Claim::Correction)).await.unwrap();
    // Of the replaced ones one goes before a sweep says that it may.
    let request = serving::VerifyRequest { full: false, mend: false };
    let verify = async || {
        let store = serving.catalog().store();
        serving::verify_store(store, request, std::sync::Arc::new(|_| ())).await.unwrap().faults
    };
    let some = replaced.first().unwrap();
    delete(&serving, some).await;
    let faults = verify().await;
    assert_eq!(faults.iter().map(|fault| &fault.object).collect::<Vec<_>>(), [some]);
    let report = sweep(&serving).await.unwrap();
    assert_eq!(gone(&report, "data"), 5);
    assert_eq!(verify().await, []);
    // What is read still is missed.
    for path in paths(&serving, "data").await {
        delete(&serving, &path).await;
    }
    assert_eq!(verify().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_lasts_too_long_says_so() {
    let serving = weather(2).await;
    set(&serving, "1s", "1us").await;
    let error = select(&serving, "SELECT * FROM weather").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(error.to_string().contains("lasts longer than 1us"), "{error}");
    let asked = "origin string | at timestamp\n EWR | 2013-01-01T09:00:00Z";
    let request = HistoricalRequest::new(["weather.temp"]);
    let made = serving.historical(spine(vec![table(asked)]), request, &author()).await;
    assert_eq!(made.unwrap_err().kind(), Kind::Unavailable);
    set(&serving, "1d", "1h").await;
    select(&serving, "SELECT * FROM weather").await.unwrap();
    // A grace that is less than the longest read is none.
    let wrong =
        catalog::records::RetentionSet { grace: "1m".parse().unwrap(), longest_read: "1h".parse().unwrap() };
    let error = catalog::retention::set(serving.catalog(), &wrong, &author()).await.unwrap_err();
    assert!(error.to_string().contains("less than the longest read"), "{error}");
}
