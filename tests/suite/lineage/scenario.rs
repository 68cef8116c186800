//! From a file to a deployment and back, on a real store, through the same functions that all callers use.

use std::sync::Arc;

use catalog::Author;
use catalog::ingest::{Input, Request, Rows};
use catalog::records::{How, Role};
use catalog::registry::{Deployment, Observations, SeenExperiment, SeenModelVersion, SeenRun};
use serving::{HistoricalRequest, Kind, LineageRequest, Serving};

use super::super::fixture;
use super::super::stores::{author, count, files, folder, memory, select, spine};
use super::super::tables::table;
use super::super::values::{Value, read};

const WEATHER: &str = "
    origin string | time_hour timestamp  | temp float64 | visib float64 | sky string
    EWR           | 2013-01-01T05:00:00Z | 39.02        | 10            | clear
    JFK           | 2013-01-01T05:00:00Z | 37.04        | 10            | clear";

const LATER_WEATHER: &str = "
    origin string | time_hour timestamp  | temp float64 | visib float64 | sky string
    EWR           | 2013-01-01T08:00:00Z | 30.92        | 10            | clear";

fn by(run: Option<&str>) -> Author {
    Author { run: run.map(str::to_owned), ..author() }
}

async fn load(serving: &Serving, text: &str, run: Option<&str>) {
    let rows = table(text);
    let rows = Rows::from_batches("station", rows.schema(), vec![rows]);
    let request = Request::new("weather", Input::Rows(rows));
    serving.ingest(request, &by(run), Arc::new(|_| ())).await.unwrap();
}

/// Two batches, a training set of each row of the spine, a model of it, and where that serves.
pub(super) async fn built(serving: &Serving) -> feature::TrainingSetId {
    serving.apply(files(&fixture::DEFINITIONS), &author()).await.unwrap();
    load(serving, WEATHER, Some("load-1")).await;
    load(serving, LATER_WEATHER, Some("load-2")).await;
    let spine = spine(vec![table(fixture::SPINE)]);
    let mut request = HistoricalRequest::new(["weather.temp", "weather.sky"]);
    request.name = Some("delays".to_owned());
    let set = serving.historical(spine, request, &by(Some("train-1"))).await.unwrap();
    let set = set.report.training_set.unwrap();
    let seen = Observations {
        experiments: vec![SeenExperiment { id: "delays".to_owned(), ..SeenExperiment::default() }],
        runs: vec![SeenRun {
            id: "train-1".to_owned(),
            experiment: Some("delays".to_owned()),
            metrics: [("auc".to_owned(), 0.7)].into(),
            ..SeenRun::default()
        }],
        model_versions: vec![SeenModelVersion {
            model: "delay".to_owned(),
            version: "1".to_owned(),
            run: Some("train-1".to_owned()),
            ..SeenModelVersion::default()
        }],
        ..Observations::default()
    };
    serving.observe(seen, &author()).await.unwrap();
    let deployment = Deployment {
        name: "delay-api".to_owned(),
        model_version: Some("delay/1".to_owned()),
        ..Deployment::default()
    };
    serving.deploy(deployment, &author()).await.unwrap();
    set
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_deployment_back_to_the_sources() {
    let serving = memory(&fixture::clock()).await;
    let set = built(&serving).await;
    let up = LineageRequest { node: "delay-api".to_owned(), up: true, depth: None, sequence: None };
    let report = serving.lineage(&up, &author()).await.unwrap();
    assert!(report.complete);
    let kinds: Vec<&str> = report.steps.iter().map(|step| step.kind).collect();
    for kind in [
        "deployment",
        "model_version",
        "run",
        "training_set",
        "view_version",
        "feature",
        "batch",
        "principal",
    ] {
        assert!(kinds.contains(&kind), "{kind} is not among {kinds:?}");
    }
    // The loads wrote the batches; nothing else did.
    let runs: Vec<&str> =
        report.steps.iter().filter(|step| step.kind == "run").map(|step| step.label.as_str()).collect();
    assert_eq!(runs, ["train-1", "load-1", "load-2"]);
    let near = LineageRequest { node: "delay-api".to_owned(), up: true, depth: Some(2), sequence: None };
    let cut = serving.lineage(&near, &author()).await.unwrap();
    assert!(!cut.complete && cut.steps.len() == 3, "{cut:?}");
    // Before the model was told of, nobody could have asked.
    let early = LineageRequest { sequence: Some(feature::Sequence(3)), ..near };
    assert_eq!(serving.lineage(&early, &author()).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(count(&serving, "SELECT count(*) FROM lineament.uses").await, 1);
    // Cells are what the manifest counts.
    let manifest = serving.manifest(set).await.unwrap();
    let rows: u64 = manifest.views[0].hits.iter().map(|hit| hit.rows).sum();
    let impact = serving.impact("weather@1", &author()).await.unwrap();
    assert_eq!(impact.cells_from, Some(rows * 2));
    assert_eq!((impact.training_sets, impact.model_versions, impact.deployments), (1, 1, 1));
    let of_loads = [
        serving.impact("load-1", &author()).await.unwrap(),
        serving.impact("load-2", &author()).await.unwrap(),
    ];
    assert_eq!(of_loads.iter().map(|impact| impact.cells_from).sum::<Option<u64>>(), impact.cells_from);
    assert!(of_loads.iter().all(|impact| impact.cells_from > Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_again_appends_nothing() {
    let root = tempfile::tempdir().unwrap();
    let serving = folder(root.path(), &fixture::clock()).await;
    let set = built(&serving).await;
    let head = serving.catalog().state().head.sequence;
    let run = SeenRun {
        id: "train-1".to_owned(),
        experiment: Some("delays".to_owned()),
        metrics: [("auc".to_owned(), 0.7)].into(),
        ..SeenRun::default()
    };
    let seen = Observations { runs: vec![run.clone()], ..Observations::default() };
    assert_eq!(serving.observe(seen, &author()).await.unwrap().sequence, None);
    let told = serving.record_use(set, "train-1", Role::Unknown, How::Explicit, &author()).await.unwrap();
    assert_eq!(told.sequence, None);
    assert_eq!(serving.catalog().state().head.sequence, head);
    // A better metric is news, and is what one sees.
    let better = SeenRun { metrics: [("auc".to_owned(), 0.8)].into(), ..run };
    let seen = Observations { runs: vec![better], ..Observations::default() };
    assert!(serving.observe(seen, &author()).await.unwrap().sequence.is_some());
    let (_, rows) = select(
        &serving,
        "SELECT \"value\" FROM lineament.feature_versions_by_run WHERE feature_versions = 'weather@1' AND metric = 'auc'",
    )
    .await
    .unwrap();
    assert_eq!(read(rows[0].column(0)), [Some(Value::float(0.8))]);
    // Another process reads the same.
    let again = folder(root.path(), &fixture::later()).await;
    let registry = again.catalog().state();
    assert_eq!(registry.registry().uses().len(), 1);
    assert_eq!(again.impact("weather", &author()).await.unwrap().deployments, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_cannot_be_read_are_refused_and_nothing_is_written() {
    let serving = memory(&fixture::clock()).await;
    let set = built(&serving).await;
    let head = serving.catalog().state().head.sequence;
    let wrong =
        serving.record_use(set, "mlflow;x;y", Role::Train, How::Explicit, &author()).await.unwrap_err();
    assert!(wrong.to_string().contains("has 3 parts"), "{wrong}");
    let nan =
        SeenRun { id: "r".to_owned(), metrics: [("auc".to_owned(), f64::NAN)].into(), ..SeenRun::default() };
    let seen = Observations { runs: vec![nan], ..Observations::default() };
    let wrong = serving.observe(seen, &author()).await.unwrap_err();
    assert!(wrong.to_string().contains("metric `auc` of run `r`"), "{wrong}");
    let wrong = serving
        .record_use(
            "0190a5d0-ac96-774b-bcce-000000000000".parse().unwrap(),
            "r",
            Role::Train,
            How::Explicit,
            &author(),
        )
        .await
        .unwrap_err();
    assert_eq!(wrong.kind(), Kind::NotFound);
    let unknown = serving.impact("wether", &author()).await.unwrap_err().to_string();
    assert!(unknown.contains("did you mean"), "{unknown}");
    assert_eq!(serving.catalog().state().head.sequence, head);
    // A run that is called as a model version is.
    let run = SeenRun { id: "delay/1".to_owned(), ..SeenRun::default() };
    let seen = Observations { runs: vec![run], ..Observations::default() };
    serving.observe(seen, &author()).await.unwrap();
    let ambiguous = serving.impact("delay/1", &author()).await.unwrap_err();
    assert_eq!(ambiguous.kind(), Kind::Invalid);
    let words = ambiguous.to_string();
    assert!(words.contains("run:") && words.contains(" or model_version:"), "{words}");
    assert_eq!(serving.impact("model_version:delay/1", &author()).await.unwrap().deployments, 0);
}
