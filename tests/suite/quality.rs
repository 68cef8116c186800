//! What batches are compared with, and what is told of their values.

use arrow::array::RecordBatch;
use catalog::ingest::Report;
use catalog::records::{How, Role};
use catalog::registry::{Deployment, Observations, SeenModelVersion};
use feature::definition::{Baseline, Measure};
use feature::quality::{Judged, Verdict};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serving::{DriftReport, DriftRequest, HistoricalRequest, Kind, Serving};
use storage::environment::TestClock;

use super::stores::{author, count, files, ingest, instant, memory, rows, select, spine};
use super::tables::table;

const ENTITY: &str =
    "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n";

/// A view of temperatures; `more` says how its batches are judged.
fn view(name: &str, more: &str) -> String {
    format!(
        "kind = \"feature_view\"\nname = \"{name}\"\nentity = \"airport\"\n[time]\nvalid_at = \"hour\"\n\
         known_at = \"assumed\"\n[[features]]\nname = \"temp\"\ntype = \"float64\"\n{more}"
    )
}

/// A day of temperatures, each twice.
fn day(day: u32, coldest: u32) -> RecordBatch {
    let mut text = "origin string | hour timestamp | temp float64\n".to_owned();
    for hour in 0..24 {
        text.push_str(&format!("JFK | 2024-01-{day:02}T{hour:02}:00:00Z | {}\n", coldest + hour % 12));
    }
    table(&text)
}

const WARM: u32 = 60;
const COLD: u32 = 15;

async fn apply(serving: &Serving, more: &str) {
    let text = view("weather", more);
    let folder = [("airport.toml", ENTITY), ("weather.toml", text.as_str())];
    serving.apply(files(&folder), &author()).await.unwrap();
}

async fn take(serving: &Serving, number: u32, coldest: u32) -> Report {
    ingest(serving, rows("weather", vec![day(number, coldest)])).await.unwrap()
}

/// A version of the model `delay` that was trained on one row of a day.
async fn train(serving: &Serving, version: &str, number: u32) {
    let asked = table(&format!("origin string | at timestamp\nJFK | 2024-01-{number:02}T12:30:00Z"));
    let request = HistoricalRequest::new(["weather.temp"]);
    let set = serving.historical(spine(vec![asked]), request, &author()).await.unwrap().report;
    let run = format!("fit-{version}");
    let seen = SeenModelVersion {
        model: "delay".to_owned(),
        version: version.to_owned(),
        run: Some(run.clone()),
        ..SeenModelVersion::default()
    };
    let seen = Observations { model_versions: vec![seen], ..Observations::default() };
    serving.observe(seen, &author()).await.unwrap();
    let set = set.training_set.unwrap();
    serving.record_use(set, &run, Role::Train, How::Explicit, &author()).await.unwrap();
}

async fn deploy(serving: &Serving, model_version: Option<&str>) {
    let model_version = model_version.map(str::to_owned);
    let deployment = Deployment { name: "api".to_owned(), model_version, ..Deployment::default() };
    serving.deploy(deployment, &author()).await.unwrap();
}

async fn drift(serving: &Serving, baseline: Option<Baseline>) -> serving::Result<DriftReport> {
    let request = DriftRequest { view: "weather".to_owned(), batch: None, baseline };
    serving.drift(&request, &author()).await
}

/// Whether the temperatures were found to lie elsewhere.
fn drifted(judged: &Judged) -> bool {
    let found = |measure| judged.findings.iter().any(|finding| finding.measure == measure);
    assert_eq!(judged.verdict == Verdict::Pass, judged.findings.is_empty(), "{judged:?}");
    found(Measure::Wasserstein)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deployed_model_was_trained_on_is_a_baseline() {
    let serving = memory(&TestClock::new(instant("2024-03-01T00:00:00Z"))).await;
    apply(&serving, "").await;
    take(&serving, 1, WARM).await;
    take(&serving, 2, COLD).await;
    train(&serving, "1", 1).await;
    train(&serving, "2", 2).await;
    deploy(&serving, Some("delay/1")).await;
    apply(&serving, "[quality]\nleast_rows = 10\nbaseline = { model = \"delay\" }\n").await;

    // Like what the model knows, and then not: whatever came before it.
    for (number, coldest, drifts) in [(3, WARM, false), (4, COLD, true), (5, COLD, true)] {
        let judged = take(&serving, number, coldest).await.judged.unwrap();
        assert_eq!((judged.baseline_batches, judged.baseline_rows), (1, 24), "the day of its training set");
        assert_eq!(drifted(&judged), drifts, "{judged:?}");
    }
    let measured = drift(&serving, None).await.unwrap();
    assert_eq!((measured.baseline_batches, measured.baseline_rows), (1, 24));
    let far = measured.measures.iter().find(|one| one.measure == Measure::Wasserstein.name()).unwrap();
    assert!(far.verdict == Verdict::Warn && far.value > 10.0, "{far:?}");
    let latest = drift(&serving, Some(Baseline::Batches(1))).await.unwrap();
    assert!(latest.measures.iter().all(|one| one.verdict == Verdict::Pass), "{latest:?}");

    // Another version serves, and knows other days.
    deploy(&serving, Some("delay/2")).await;
    for (number, coldest, drifts) in [(6, COLD, false), (7, WARM, true)] {
        let judged = take(&serving, number, coldest).await.judged.unwrap();
        assert_eq!((judged.baseline_batches, drifted(&judged)), (1, drifts), "{judged:?}");
    }
    // Of a model that is deployed nowhere, all versions count.
    deploy(&serving, None).await;
    let measured = drift(&serving, Some(Baseline::Model("delay".to_owned()))).await.unwrap();
    assert_eq!((measured.baseline_batches, measured.baseline_rows), (2, 48));
    let unknown = drift(&serving, Some(Baseline::Model("dely".to_owned()))).await.unwrap_err();
    assert_eq!(unknown.kind(), Kind::NotFound, "{unknown}");
}

/// Profiles lie in one object a batch: a condition on what the log knows leaves those of other views unread.
#[tokio::test(flavor = "multi_thread")]
async fn a_condition_on_the_view_reads_its_profiles_alone() {
    let serving = memory(&TestClock::new(instant("2024-03-01T00:00:00Z"))).await;
    let (weather, sea) = (view("weather", ""), view("sea", ""));
    let all = [("airport.toml", ENTITY), ("weather.toml", weather.as_str()), ("sea.toml", sea.as_str())];
    serving.apply(files(&all), &author()).await.unwrap();
    take(&serving, 1, WARM).await;
    let gone = ingest(&serving, rows("sea", vec![day(1, COLD)])).await.unwrap().batch.unwrap();
    let profile = {
        let state = serving.catalog().refresh().await.unwrap();
        state.batch(gone).unwrap().record.profile.clone().unwrap().path
    };
    serving.catalog().store().objects().delete(&Path::from(profile.clone())).await.unwrap();

    for (asked, expected) in [
        ("count(*) FROM lineament.profiles WHERE feature_view = 'weather'", 1),
        (
            "count(*) FROM lineament.profiles WHERE feature_view = 'weather' AND version = 1 AND \"nulls\" = 0",
            1,
        ),
        ("count(*) FROM lineament.profiles WHERE feature_view IN ('wether')", 0),
        ("count(*) FROM lineament.profile_bins WHERE feature_view = 'weather'", 12),
        ("CAST(sum(\"count\") AS BIGINT) FROM lineament.profile_bins WHERE feature_view = 'weather'", 24),
    ] {
        assert_eq!(count(&serving, &format!("SELECT {asked}")).await, expected, "{asked}");
    }
    for view in ["lineament.profiles", "lineament.profile_bins"] {
        // All are read where nothing is said of them.
        let error = select(&serving, &format!("SELECT * FROM {view}")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
        assert!(error.to_string().contains(&profile), "{error}");
    }
}
