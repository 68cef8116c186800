//! Rows that their view keeps no longer: they count no more, what nothing needs of them goes, and who still counted on it is told.

use catalog::records::{How, Role, TrainingSetRecorded, Verdict};
use catalog::registry::{Deployment, Observations, SeenModelVersion};
use catalog::{Intent, Outcome};
use feature::{Sequence, TrainingSetId};
use serving::{CompactRequest, HistoricalRequest, Kind, RetainRequest, Serving, VerifyRequest};
use storage::environment;

use super::{another, at_once, delete, gone, paths, set, sweep, verified};
use crate::suite::stores::{author, count, files, ingest, instant, memory, rows, spine};
use crate::suite::tables::table;

const SHOP: &str = "kind = \"entity\"\nname = \"shop\"\n[[keys]]\nname = \"shop\"\ntype = \"string\"\n";
const VISITS: &str = "kind = \"feature_view\"\nname = \"visits\"\nentity = \"shop\"\nttl = \"7d\"\n[time]\nvalid_at = \"day\"\n\
     known_at = { column = \"counted_at\" }\n[[features]]\nname = \"visitors\"\ntype = \"int64\"\n\
     [retention]\nkeep = \"30d\"\n";

/// A batch each of April, of the last of April to the 3rd of May, and of the end of May; the clock stands on June 1st.
async fn shops(view: &str) -> Serving {
    let clock = environment::TestClock::new(instant("2024-06-01T00:00:00Z"));
    let serving = memory(&clock).await;
    serving.apply(files(&[("shop.toml", SHOP), ("visits.toml", view)]), &author()).await.unwrap();
    for days in [["04-10", "04-20"], ["04-30", "05-03"], ["05-20", "05-28"]] {
        ingest(&serving, rows("visits", vec![visits(&days)])).await.unwrap();
    }
    serving
}

fn visits(days: &[&str]) -> arrow::array::RecordBatch {
    let mut text = "shop string | day timestamp | counted_at timestamp | visitors int64".to_owned();
    for (number, day) in days.iter().enumerate() {
        for shop in ["A", "B"] {
            text += &format!("\n{shop} | 2024-{day}T00:00:00Z | 2024-{day}T20:00:00Z | {number}");
        }
    }
    table(&text)
}

async fn retain(serving: &Serving) -> serving::RetainReport {
    serving.retain(&RetainRequest::default(), &author()).await.unwrap()
}

async fn record(serving: &Serving) -> TrainingSetId {
    let asked = "shop string | at timestamp\nA | 2024-04-21T00:00:00Z\nB | 2024-05-28T21:00:00Z";
    let request = HistoricalRequest::new(["visits.visitors"]);
    let made = serving.historical(spine(vec![table(asked)]), request, &author()).await.unwrap();
    made.report.training_set.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_go_and_the_store_is_whole() {
    let serving = shops(VISITS).await;
    let dry = serving.retain(&RetainRequest { dry_run: true, view: None }, &author()).await.unwrap();
    let told = &dry.views[0];
    assert_eq!((dry.sequence, told.rows, told.batches.len()), (None, 6, 2), "{dry:?}");
    assert_eq!(told.before, instant("2024-05-02T00:00:00Z"));
    // Days of their own: of the second batch one file is old, and one is not.
    assert_eq!((told.files, told.file_rows, told.kept.len()), (3, 6, 0), "{dry:?}");
    assert_eq!(count(&serving, "SELECT count(*) FROM visits").await, 12);

    let report = retain(&serving).await;
    assert!(report.sequence.is_some());
    assert_eq!(count(&serving, "SELECT count(*) FROM visits").await, 6);
    assert_eq!(count(&serving, "SELECT count(*) FROM at_sequence('visits', 4)").await, 12);
    assert_eq!(retain(&serving).await.sequence, None, "there is nothing more");
    let dry = serving.sweep(&serving::SweepRequest { dry_run: true, ..at_once(&serving) }, &author()).await;
    assert_eq!(gone(&dry.unwrap(), "data"), 3);
    assert_eq!(paths(&serving, "data").await.len(), 6);
    let swept = sweep(&serving).await.unwrap();
    assert_eq!(gone(&swept, "data"), 3, "{swept:?}");
    assert_eq!(paths(&serving, "data").await.len(), 3);
    for serving in [serving.clone(), another(&serving).await] {
        verified(&serving).await;
        assert_eq!(count(&serving, "SELECT count(*) FROM history('visits')").await, 6);
        let error = crate::suite::stores::select(&serving, "SELECT * FROM at_sequence('visits', 4)").await;
        let error = error.err().unwrap();
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
        assert!(error.to_string().contains("rows that are gone"), "{error}");
        let problems = serving.reconcile(true).await.unwrap().problems;
        assert!(problems.is_empty(), "{problems:?}");
    }
    // A file that is gone and holds a row that counts is a fault all the same.
    let left = paths(&serving, "data").await.into_iter().next().unwrap();
    delete(&serving, &left).await;
    let request = VerifyRequest { full: false, mend: false };
    let found = serving::verify_store(serving.catalog().store(), request, std::sync::Arc::new(|_| ())).await;
    assert_eq!(found.unwrap().faults.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_keeps_its_rows_and_the_way_is_told() {
    let serving = shops(VISITS).await;
    let set_id = record(&serving).await;
    serving.record_use(set_id, "night-7", Role::Train, How::Explicit, &author()).await.unwrap();
    let seen = SeenModelVersion {
        model: "footfall".to_owned(),
        version: "3".to_owned(),
        run: Some("night-7".to_owned()),
        ..SeenModelVersion::default()
    };
    let seen = Observations { model_versions: vec![seen], ..Observations::default() };
    serving.observe(seen, &author()).await.unwrap();
    let deployment = Deployment {
        name: "front".to_owned(),
        model_version: Some("footfall/3".to_owned()),
        ..Deployment::default()
    };
    serving.deploy(deployment, &author()).await.unwrap();
    // What comes after the set nobody needs.
    ingest(&serving, rows("visits", vec![visits(&["04-11"])])).await.unwrap();
    let report = retain(&serving).await;
    let told = &report.views[0];
    assert_eq!((told.rows, told.files, told.kept.len()), (8, 1, 1), "{report:?}");
    let kept = &told.kept[0];
    assert_eq!((kept.kept_for.as_str(), kept.files, kept.rows), ("deployment", 3, 6));
    assert!(kept.path.contains("footfall/3") && kept.path.contains("front"), "{kept:?}");
    let swept = sweep(&serving).await.unwrap();
    assert_eq!(gone(&swept, "data"), 1, "{swept:?}");
    assert_eq!(count(&serving, "SELECT count(*) FROM visits").await, 6, "they do not count all the same");
    for serving in [serving.clone(), another(&serving).await] {
        let (replayed, _) = serving.replay(set_id, &author()).await.unwrap();
        assert_eq!(replayed.verdict, Verdict::Equal);
        verified(&serving).await;
    }
    // A set that is made now does not see the old rows, and so keeps none.
    let later = record(&serving).await;
    let (replayed, _) = serving.replay(later, &author()).await.unwrap();
    assert_eq!(replayed.verdict, Verdict::Equal);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_no_model_keeps_its_rows_for_as_long_as_the_view_says() {
    let serving = shops(&format!("{VISITS}unused_sets = \"1d\"\n")).await;
    let clock = environment::TestClock::new(instant("2024-06-03T00:00:00Z"));
    let set_id = record(&serving).await;
    retain(&serving).await;
    assert_eq!(gone(&sweep(&serving).await.unwrap(), "data"), 0, "it was made a moment ago");
    let later = storage::Store::over("later", serving.catalog().store().objects(), clock.into());
    let later = Serving::new(catalog::Catalog::open(later).await.unwrap());
    assert_eq!(gone(&sweep(&later).await.unwrap(), "data"), 3);
    verified(&later).await;
    let error = later.replay(set_id, &author()).await.unwrap_err();
    assert!(error.to_string().contains("rows that are gone"), "{error}");
    let problems = later.reconcile(true).await.unwrap().problems;
    assert!(problems.iter().any(|wrong| wrong.problem.contains("cannot be made again")), "{problems:?}");
    let missing =
        |wrong: &serving::Problem| wrong.problem.contains("missing") || wrong.problem.contains("gone from");
    assert!(!problems.iter().any(missing), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_keeps_and_lets_go() {
    let serving = shops(VISITS).await;
    let state = serving.catalog().state();
    let batch = state.batches().next().unwrap().record.batch;
    let hold = serving.place_hold(&batch.to_string(), "the regulator's case 17", &author()).await.unwrap();
    let report = retain(&serving).await;
    assert_eq!(report.views[0].kept[0].path, "hold: the regulator's case 17", "{report:?}");
    assert_eq!(gone(&sweep(&serving).await.unwrap(), "data"), 1);
    serving.lift_hold(hold.hold, "closed", &author()).await.unwrap();
    assert_eq!(gone(&sweep(&serving).await.unwrap(), "data"), 2);
    verified(&serving).await;
}

/// Whoever planned a retrieval before rows went, and ends after, is told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_rows_that_went_meanwhile_is_refused() {
    let serving = shops(VISITS).await;
    let slow = record(&serving).await;
    let mine = serving.catalog().state();
    let record = mine.training_set(slow).unwrap().record.clone();
    // As if it were not recorded yet: another store has all but the last entry.
    let serving = shops(VISITS).await;
    let version = serving.catalog().state().view("default", "visits", None, Sequence(4)).unwrap().version;
    retain(&serving).await;
    sweep(&serving).await.unwrap();
    let selected = record.selected.clone().map(|mut selected| {
        selected.iter_mut().for_each(|one| {
            one.version = version;
            one.hits.clear();
        });
        selected
    });
    let append = async |sequence: Sequence| {
        let record = TrainingSetRecorded {
            training_set: environment::mint(),
            selected: selected.clone(),
            sequence,
            ..record.clone()
        };
        serving
            .catalog()
            .commit::<()>(&author(), None, |_| Ok(Intent::Append(vec![record.clone().into()])))
            .await
    };
    let error = append(Sequence(4)).await.err().unwrap();
    assert!(error.to_string().contains("ask again"), "{error}");
    // One batch was there then, and all of it is gone; before the first there was nothing.
    assert!(append(Sequence(2)).await.is_err());
    assert!(matches!(append(Sequence(1)).await, Ok(Outcome::Committed(_))));
    let head = serving.catalog().state().head.sequence;
    assert!(matches!(append(head).await, Ok(Outcome::Committed(_))));
}

/// Merged files are as short as others, and of what is gone in part nothing is moved.
#[tokio::test(flavor = "multi_thread")]
async fn merged_files_of_old_rows_go_too() {
    let serving = shops(VISITS).await;
    let everything =
        CompactRequest { eagerness: catalog::compaction::Eagerness::Everything, ..CompactRequest::all(None) };
    serving.compact(&everything, &author()).await.unwrap();
    sweep(&serving).await.unwrap();
    retain(&serving).await;
    assert_eq!(gone(&sweep(&serving).await.unwrap(), "data"), 3);
    verified(&serving).await;
    serving.check_compactions(None).await.unwrap();
    ingest(&serving, rows("visits", vec![visits(&["05-29"])])).await.unwrap();
    serving.compact(&everything, &author()).await.unwrap();
    sweep(&serving).await.unwrap();
    for serving in [serving.clone(), another(&serving).await] {
        verified(&serving).await;
        serving.check_compactions(None).await.unwrap();
        assert_eq!(count(&serving, "SELECT count(*) FROM visits").await, 8);
        assert_eq!(count(&serving, "SELECT sum(visitors) FROM history('visits')").await, 2 + 2);
    }
}

/// A file of more batches than one entry names goes after several, and what comes after it is not kept waiting.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_very_many_batches_goes_after_several_entries() {
    let serving = shops(VISITS).await;
    for shop in ["C", "D"] {
        let text = format!(
            "shop string | day timestamp | counted_at timestamp | visitors int64\n\
             {shop} | 2024-04-10T00:00:00Z | 2024-04-10T20:00:00Z | 7"
        );
        ingest(&serving, rows("visits", vec![table(&text)])).await.unwrap();
    }
    let everything =
        CompactRequest { eagerness: catalog::compaction::Eagerness::Everything, ..CompactRequest::all(None) };
    serving.compact(&everything, &author()).await.unwrap();
    sweep(&serving).await.unwrap();
    retain(&serving).await;
    // Of the old files one is of the first, the fourth and the fifth batch, one of the first, and one of the second.
    let one = async || {
        let request = serving::SweepRequest { most_named: Some(1), ..at_once(&serving) };
        let report = serving.sweep(&request, &author()).await.unwrap();
        (report.sequence.is_some(), report.more, gone(&report, "data"))
    };
    assert_eq!(one().await, (true, true, 1));
    assert_eq!(one().await, (true, true, 1));
    assert_eq!(one().await, (true, true, 0), "the file is of another batch too, that is not named yet");
    verified(&serving).await;
    assert_eq!(one().await, (true, false, 1));
    assert_eq!(one().await, (false, false, 0));
    let state = serving.catalog().state();
    let named = state.expiry().deleted().iter().flat_map(|one| &one.record.batches);
    assert_eq!(named.count(), 4, "what an entry said is not said again");
    for serving in [serving.clone(), another(&serving).await] {
        verified(&serving).await;
        assert_eq!(count(&serving, "SELECT count(*) FROM history('visits')").await, 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_old_rows_stay_for_the_grace() {
    let serving = shops(VISITS).await;
    retain(&serving).await;
    let by_age = serving::SweepRequest::default();
    assert_eq!(gone(&serving.sweep(&by_age, &author()).await.unwrap(), "data"), 0);
    set(&serving, "3d", "1d").await;
    let clock = environment::TestClock::new(instant("2024-06-05T00:00:00Z"));
    let later = storage::Store::over("later", serving.catalog().store().objects(), clock.into());
    let later = Serving::new(catalog::Catalog::open(later).await.unwrap());
    assert_eq!(gone(&later.sweep(&by_age, &author()).await.unwrap(), "data"), 3);
}
