//! Reconciliation: what models stand on is there, and what is not is named, the deployed first.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use catalog::records::Lifecycle;
use catalog::registry::{Deployment, Observations, SeenAlias, SeenModelVersion, SeenRun};
use serving::{Problem, ReconcileReport, Serving};

use super::evidence::story::tell;
use super::fixture;
use super::stores::{author, folder, select};

/// Kind, problem and what stands on it.
fn lines(problems: &[Problem]) -> Vec<String> {
    let line = |problem: &Problem| {
        format!("{} | {} | {}", problem.kind, problem.problem, problem.blocks.as_deref().unwrap_or("–"))
    };
    problems.iter().map(line).collect()
}

/// What the log tells of the story: a run that looked at the first set's data and nothing more came of it.
const OF_STORY: [&str; 1] =
    ["model_version | the run that made it used no training set that is known here | model_version"];

async fn reconcile(path: &Path, deep: bool) -> ReconcileReport {
    folder(path, &fixture::later()).await.reconcile(deep).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_are_gone_or_altered_are_named() {
    let root = tempfile::tempdir().unwrap();
    let story = tell(root.path()).await;
    let head = story.serving.catalog().state().head.sequence;
    for deep in [false, true] {
        let report = story.serving.reconcile(deep).await.unwrap();
        assert_eq!(lines(&report.problems), OF_STORY);
        assert_eq!((report.broken, report.deployed(), report.sequence), (0, 0, head));
    }
    let last = story.serving.last_reconciliation().unwrap();
    assert_eq!((last.problems, last.broken, last.deep), (1, 0, true));
    assert_eq!(story.serving.catalog().refresh().await.unwrap().head.sequence, head, "it only reads");

    let kept = fixture::objects(root.path());
    let files = |kind: &str| kept.keys().filter(|name| name.starts_with(kind)).cloned().collect::<Vec<_>>();
    let state = story.serving.catalog().state();
    let manifest = story.serving.manifest(story.train).await.unwrap();
    let batch = state.batch(manifest.views[0].batches[0]).unwrap();
    let data = story.serving.catalog().batch_files(batch).await.unwrap()[0].path.clone();
    let cases = [
        ("data_file", data),
        ("manifest", batch.record.manifest.path.clone()),
        ("spine", manifest.spine.object.path.clone()),
        ("manifest", state.training_set(story.train).unwrap().record.manifest.path.clone()),
        ("body", batch.record.body.clone().unwrap().path),
    ];
    for (kind, path) in cases {
        let file = root.path().join(&path);
        std::fs::remove_file(&file).unwrap();
        let report = reconcile(root.path(), false).await;
        let first = &report.problems[0];
        assert_eq!(
            (first.kind, &first.id, first.blocks.as_deref()),
            (kind, &path, Some("deployment")),
            "{report:?}"
        );
        assert!(first.problem.contains("is gone from the store"), "{}", first.problem);
        assert!(report.broken >= 1 && report.deployed() >= 1);

        let mut bytes = kept[&path].clone();
        bytes.push(0);
        std::fs::write(&file, &bytes).unwrap();
        let report = reconcile(root.path(), false).await;
        assert_eq!(report.problems[0].id, path, "{report:?}");

        // The same size, another byte.
        bytes.pop();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let deep = reconcile(root.path(), true).await;
        assert_eq!((deep.problems[0].kind, &deep.problems[0].id), (kind, &path), "{deep:?}");
        assert_eq!(deep.problems[0].blocks.as_deref(), Some("deployment"));
        // Manifests are read in any case: they say what else to look for.
        let shallow = reconcile(root.path(), false).await;
        assert_eq!(shallow.broken > 0, kind == "manifest", "{shallow:?}");
        std::fs::write(&file, &kept[&path]).unwrap();
    }
    assert_eq!(lines(&reconcile(root.path(), true).await.problems), OF_STORY);

    // What nothing refers to is not looked for.
    let unused = files("spines/").into_iter().chain(files("data/")).count();
    assert!(unused > 0);
    std::fs::write(root.path().join("spines/stray.parquet"), b"stray").unwrap();
    assert_eq!(lines(&reconcile(root.path(), true).await.problems), OF_STORY);
}

async fn observe(serving: &Serving, seen: Observations) {
    serving.observe(seen, &author()).await.unwrap();
}

async fn dangling(serving: &Serving) -> Vec<String> {
    let sql = "SELECT kind, id, problem, blocks FROM lineament.dangling";
    let (_, batches) = select(serving, sql).await.unwrap();
    let options = FormatOptions::default().with_null("–");
    let row = |batch: &RecordBatch, row: usize| -> String {
        let cell = |column: &arrow::array::ArrayRef| {
            ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string()
        };
        batch.columns().iter().map(cell).collect::<Vec<_>>().join(" | ")
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |at| row(batch, at))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_knows_to_be_gone_dangles_the_deployed_first() {
    let root = tempfile::tempdir().unwrap();
    let story = tell(root.path()).await;
    let serving = &story.serving;
    let before = serving.catalog().state().head.sequence;
    let gone = |lifecycle| SeenModelVersion {
        model: "delay".to_owned(),
        version: "1".to_owned(),
        lifecycle: Some(lifecycle),
        ..SeenModelVersion::default()
    };
    let seen = Observations {
        runs: vec![
            SeenRun { id: "train-1".to_owned(), lifecycle: Some(Lifecycle::Deleted), ..SeenRun::default() },
            SeenRun { id: "idle".to_owned(), name: Some("idle".to_owned()), ..SeenRun::default() },
        ],
        model_versions: vec![
            gone(Lifecycle::Gone),
            SeenModelVersion {
                model: "delay".to_owned(),
                version: "3".to_owned(),
                ..SeenModelVersion::default()
            },
        ],
        ..Observations::default()
    };
    observe(serving, seen).await;
    let state = serving.catalog().state();
    let registry = state.registry();
    let at = state.head.sequence;
    let model = |version: &str| {
        registry.runs().next().and(registry.model_versions().find_map(|(id, _)| {
            let now = registry.model_version_at(id, at)?;
            (now.version == version).then_some(id.to_string())
        }))
    };
    let (one, two, three) = (model("1").unwrap(), model("2").unwrap(), model("3").unwrap());
    let deployment = registry.deployments().next().unwrap().0;
    let (train, idle) = (registry.run("train-1").unwrap(), registry.run("idle").unwrap());
    let mut found = dangling(serving).await;
    let worst: Vec<String> = found.drain(..4).collect();
    let mut expected = [
        "alias | delay@champion | it means a model version that its registry does not have any more | deployment".to_owned(),
        format!("deployment | {deployment} | it serves a model version that its registry does not have any more | deployment"),
        format!("model_version | {one} | its registry does not have it any more | deployment"),
        format!("run | {train} | its tracking server has deleted it | deployment"),
    ];
    expected.sort();
    assert_eq!(worst, expected);
    assert_eq!(
        found,
        [
            format!(
                "model_version | {two} | the run that made it used no training set that is known here | model_version"
            ),
            format!("model_version | {three} | no run is named that made it | model_version"),
            format!("run | {idle} | it used no training set, wrote no batch and made no model | –"),
        ]
    );
    // The pass has the same and more.
    let report = serving.reconcile(false).await.unwrap();
    assert_eq!((report.problems.len(), report.deployed()), (7, 4));
    // It was otherwise before.
    assert!(before < at && select(serving, "SELECT count(*) FROM lineament.dangling").await.is_ok());

    // What came back does not dangle, nor does what is served no more.
    let again = Observations { model_versions: vec![gone(Lifecycle::Active)], ..Observations::default() };
    observe(serving, again).await;
    assert_eq!(dangling(serving).await.len(), 4);
    let end = Deployment { name: "delay-api".to_owned(), model_version: None, ..Deployment::default() };
    serving.deploy(end, &author()).await.unwrap();
    assert!(dangling(serving).await.iter().all(|line| !line.ends_with("| deployment")));
    // A set that no run used.
    let alias = SeenAlias { model: "delay".to_owned(), alias: "champion".to_owned(), version: None };
    observe(serving, Observations { aliases: vec![alias], ..Observations::default() }).await;
    let spine = super::stores::spine(vec![super::tables::table(fixture::SPINE)]);
    let request = serving::HistoricalRequest::new(["weather.temp"]);
    let set = serving.historical(spine, request, &author()).await.unwrap().report.training_set.unwrap();
    let line = format!("training_set | {set} | no run used it | training_set");
    assert!(dangling(serving).await.contains(&line));
}
