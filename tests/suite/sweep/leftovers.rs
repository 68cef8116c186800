//! Old checkpoints, keys of the probe, and local files that never became objects.

use std::fs;
use std::time::Duration;

use catalog::Catalog;
use serving::{Serving, SweepRequest};
use storage::{Clock, Store};

use super::{gone, paths, set, sweep, verified};
use crate::suite::fixture::DEFINITIONS;
use crate::suite::stores::{author, files};

/// By a clock that goes, since the ages of these are what the storage says.
async fn opened(address: &str) -> Serving {
    let store = Store::open(address, Clock::System).unwrap();
    let serving = Serving::new(Catalog::open_or_create(store, &author()).await.unwrap());
    serving.apply(files(&DEFINITIONS[..2]), &author()).await.unwrap();
    set(&serving, "50ms", "50ms").await;
    serving
}

async fn later() {
    tokio::time::sleep(Duration::from_millis(80)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_checkpoints_the_newest_two_stay() {
    let serving = opened("memory://").await;
    for grace in ["51ms", "52ms", "53ms", "54ms"] {
        set(&serving, grace, "50ms").await;
        serving.catalog().checkpoint().await.unwrap();
    }
    let description = |path: &String| path.ends_with(".json");
    assert_eq!(paths(&serving, "checkpoints").await.iter().filter(|path| description(path)).count(), 4);
    later().await;
    let head = serving.catalog().state().head.sequence;
    let report = sweep(&serving).await.unwrap();
    assert!(gone(&report, "checkpoint") >= 2, "{report:?}");
    // Nothing depends on them, so that no entry is needed.
    assert_eq!((report.sequence, serving.catalog().refresh().await.unwrap().head.sequence), (None, head));
    let left = paths(&serving, "checkpoints").await;
    assert_eq!(left.iter().filter(|path| description(path)).count(), 2, "{left:?}");
    assert_eq!(verified(&serving).await.checkpoints, 2);
    let opened = Catalog::open(serving.catalog().store().clone()).await.unwrap();
    assert!(opened.passed_over().is_empty() && opened.last_checkpoint().is_some());
    assert_eq!(gone(&sweep(&serving).await.unwrap(), "checkpoint"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_process_left_goes() {
    let folder = tempfile::tempdir().unwrap();
    let serving = opened(folder.path().to_str().unwrap()).await;
    let unfinished = folder.path().join("log/00000000000000000009.json#123");
    let probe = folder.path().join("probe/f47ac10b-58cc-4372-a567-0e02b2c3d479");
    fs::create_dir_all(probe.parent().unwrap()).unwrap();
    for path in [&unfinished, &probe] {
        fs::write(path, "what is left").unwrap();
    }
    let grace = SweepRequest { grace: Some("1h".parse().unwrap()), ..SweepRequest::default() };
    let report = serving.sweep(&grace, &author()).await.unwrap();
    assert_eq!(report.total().0, 0, "{report:?}");
    later().await;
    let report = serving.sweep(&SweepRequest::default(), &author()).await.unwrap();
    assert_eq!((gone(&report, "unfinished"), gone(&report, "probe")), (1, 1), "{report:?}");
    assert!(!unfinished.exists() && !probe.exists());
    verified(&serving).await;
}
