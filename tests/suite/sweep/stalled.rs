//! Who stops in the midst of a write, and goes on after a sweep has taken what was written: it is told to send it again, and nothing of it
//! is there by half.

use catalog::ingest::Claim;
use catalog::registry::{Observations, SeenRun};
use serving::{HistoricalRequest, Kind, Serving};

use super::{another, gone, sweep, verified};
use crate::suite::compaction::files::{everything, weather};
use crate::suite::stalling::{stalling, stopped_before_deleting};
use crate::suite::stores::{author, claimed, count, ingest, rows, select, spine};
use crate::suite::tables::table;

#[derive(Clone, Copy, Debug)]
enum Work {
    Ingest,
    TrainingSet,
    Compaction,
    Reads,
    Observation,
}

const ROWS: &str = "
    origin string | time_hour timestamp  | temp float64 | visib float64 | sky string
    LGA           | 2013-01-01T01:00:00Z | 0.5          | 10            | clear
    LGA           | 2013-01-01T02:00:00Z | 1.5          | 10            | clear
    LGA           | 2013-01-01T03:00:00Z | 2.5          | 10            | clear
    LGA           | 2013-01-01T04:00:00Z | 3.5          | 10            | clear
    LGA           | 2013-01-01T05:00:00Z | 999          | 10            | clear";

async fn work(serving: Serving, what: Work) -> serving::Result<()> {
    match what {
        Work::Ingest => {
            ingest(&serving, claimed(rows("weather", vec![table(ROWS)]), Claim::BackFill)).await.map(drop)
        }
        Work::TrainingSet => {
            let asked = "origin string | at timestamp\n EWR | 2013-01-01T09:00:00Z";
            let request = HistoricalRequest::new(["weather.temp"]);
            serving.historical(spine(vec![table(asked)]), request, &author()).await.map(drop)
        }
        Work::Compaction => serving.compact(&everything(), &author()).await.map(drop),
        Work::Reads => {
            select(&serving, "SELECT * FROM weather").await?;
            serving.flush(&author()).await.map(drop)
        }
        Work::Observation => {
            let params = [("depth".to_owned(), "7".to_owned())].into();
            let run = SeenRun { id: "7".to_owned(), params, ..SeenRun::default() };
            let seen = Observations { runs: vec![run], ..Observations::default() };
            serving.observe(seen, &author()).await.map(drop)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_on_after_a_sweep_is_told_to_send_it_again() {
    for (what, at, kind) in [
        (Work::Ingest, "manifests/", "data"),
        (Work::Ingest, "log/", "manifest"),
        (Work::TrainingSet, "training_sets/", "spine"),
        (Work::TrainingSet, "log/", "training_set"),
        (Work::Compaction, "manifests/", "data"),
        (Work::Compaction, "log/", "manifest"),
        (Work::Reads, "log/", "reads"),
        (Work::Observation, "log/", "body"),
    ] {
        let quick = weather(4).await;
        let (slow, objects) = stalling(&quick, at).await;
        let working = tokio::spawn(work(slow.clone(), what));
        objects.reached.notified().await;
        let report = sweep(&quick).await.unwrap();
        assert!(gone(&report, kind) > 0, "{what:?} at {at}: {report:?}");
        objects.go.notify_one();
        let error = working.await.unwrap().expect_err(&format!("{what:?} at {at} counts after all"));
        assert_eq!(error.kind(), Kind::Unavailable, "{what:?} at {at}: {error}");
        assert!(error.to_string().contains("send it again"), "{what:?} at {at}: {error}");
        verified(&quick).await;
        assert_eq!(count(&quick, "SELECT count(*) FROM history('weather')").await, 8);
        // Sent again, it counts.
        work(slow.clone(), what).await.unwrap_or_else(|error| panic!("{what:?} at {at}, again: {error}"));
        let rows = if matches!(what, Work::Ingest) { 12 } else { 8 };
        for serving in [&quick, &slow, &another(&quick).await] {
            assert_eq!(count(serving, "SELECT count(*) FROM history('weather')").await, rows);
        }
        verified(&quick).await;
        // What the slow one wrote after the sweep goes with the next, and nothing is left that nobody names.
        sweep(&quick).await.unwrap();
        assert_eq!(verified(&quick).await.orphan_objects, 0, "{what:?} at {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_again_of_a_run_may_lie_in_an_old_object() {
    let serving = weather(1).await;
    work(serving.clone(), Work::Observation).await.unwrap();
    // Something to sweep, so that there is a fence.
    serving.catalog().put_object(format!("bodies/{}.json", id()), "{}".into()).await.unwrap();
    assert!(sweep(&serving).await.unwrap().sequence.is_some());
    let params = [("depth".to_owned(), "7".to_owned())].into();
    let run =
        SeenRun { id: "7".to_owned(), params, status: Some("FINISHED".to_owned()), ..SeenRun::default() };
    let seen = Observations { runs: vec![run], ..Observations::default() };
    assert!(serving.observe(seen, &author()).await.unwrap().sequence.is_some());
    verified(&serving).await;
}

fn id() -> feature::BodyId {
    storage::environment::mint()
}

/// The record is there, and the process ends before it has deleted anything.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_sweep_leaves_the_next_one_deletes() {
    let serving = weather(6).await;
    serving.compact(&everything(), &author()).await.unwrap();
    serving.catalog().put_object(format!("bodies/{}.json", id()), "{}".into()).await.unwrap();
    let stopped = stopped_before_deleting(&serving).await;
    let error = sweep(&stopped).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("7 of 7 objects could not be deleted"), "{error}");
    assert_eq!(serving.catalog().refresh().await.unwrap().sweeps().all().len(), 1);
    verified(&serving).await;
    let report = sweep(&serving).await.unwrap();
    // It was condemned before, so that nothing is to be said of it.
    assert_eq!((report.sequence, report.total().0), (None, 7), "{report:?}");
    assert_eq!(verified(&serving).await.orphan_objects, 0);
    assert_eq!(count(&serving, "SELECT count(*) FROM history('weather')").await, 12);
}

/// Two at once, beside writers: each object goes once, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn sweeps_and_writers_may_meet() {
    for _ in 0..10 {
        let one = weather(6).await;
        let other = another(&one).await;
        one.compact(&everything(), &author()).await.unwrap();
        let writer = another(&one).await;
        let writes = async {
            let mut written = 0;
            for _ in 0..8 {
                match work(writer.clone(), Work::Ingest).await {
                    Ok(()) => written += 1,
                    Err(error) => assert_eq!(error.kind(), Kind::Unavailable, "{error}"),
                }
            }
            written
        };
        let (first, second, written) = tokio::join!(sweep(&one), sweep(&other), writes);
        first.unwrap();
        second.unwrap();
        assert_eq!(count(&other, "SELECT count(*) FROM history('weather')").await, 12 + 4 * written);
        verified(&one).await;
    }
}
