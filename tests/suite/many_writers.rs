//! Many writers of one store, each with a handle of its own: all of them get on, and who loses a race writes nothing twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use catalog::ingest::Claim;
use catalog::{Author, Catalog};
use feature::Sequence;
use futures::TryStreamExt;
use object_store::ObjectStore;
use serving::{Serving, VerifyRequest, verify_store};
use storage::Store;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::fixture;
use super::stores::{claimed, files, rows};
use super::tables::table;

const WRITERS: usize = 32;
/// Each writer goes on until all have landed so many: whoever starves has the others against it until it has lost so many races
/// that its commit fails.
const COMMITS: usize = 1;

const DEFINITIONS: [(&str, &str); 2] = [
    ("thing.toml", "kind = \"entity\"\nname = \"thing\"\n[[keys]]\nname = \"k\"\ntype = \"int64\"\n"),
    (
        "v.toml",
        "kind = \"feature_view\"\nname = \"v\"\nentity = \"thing\"\n[time]\nvalid_at = \"ts\"\n\
         known_at = { delay = \"1s\" }\n[[features]]\nname = \"x\"\ntype = \"float64\"\n",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn all_writers_of_a_store_in_memory_get_on() {
    let store = Store::open("memory://", fixture::clock().into()).unwrap();
    all_get_on(|| store.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_writers_of_a_store_in_a_folder_get_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    all_get_on(|| Store::open(path, fixture::clock().into()).unwrap()).await;
}

async fn all_get_on(open: impl Fn() -> Store) {
    let catalog = Catalog::create(open(), &author("begin")).await.unwrap();
    Serving::new(catalog).apply(files(&DEFINITIONS), &author("begin")).await.unwrap();
    let begin = Arc::new(Barrier::new(WRITERS));
    let behind = Arc::new(AtomicUsize::new(WRITERS));
    let mut running = JoinSet::new();
    for writer in 0..WRITERS {
        let serving = Serving::new(Catalog::open(open()).await.unwrap());
        // A handle's first commit proves its storage, which takes longer than many commits.
        commit(&serving, writer, 0).await;
        let (begin, behind) = (begin.clone(), behind.clone());
        running.spawn(async move {
            begin.wait().await;
            let mut landed = Vec::new();
            while behind.load(Ordering::SeqCst) > 0 {
                // One that loses a thousand races in a row is an error.
                let at = commit(&serving, writer, landed.len() + 1).await;
                landed.push(at);
                if landed.len() == COMMITS {
                    behind.fetch_sub(1, Ordering::SeqCst);
                }
            }
            (writer, landed)
        });
    }
    let mut landed = vec![Vec::new(); WRITERS];
    // The others end with one that fails.
    while let Some(one) = running.join_next().await {
        let (writer, of_one) = one.unwrap();
        landed[writer] = of_one;
    }
    let all: usize = landed.iter().map(Vec::len).sum();
    println!("{WRITERS} writers made {all} entries until each had made {COMMITS}");
    assert!(landed.iter().all(|of_one| of_one.len() >= COMMITS));
    check(open(), &landed).await;
}

/// What was acknowledged is there, once, and nothing else is.
async fn check(store: Store, landed: &[Vec<Sequence>]) {
    let state = Catalog::open_from_log(store.clone()).await.unwrap().state();
    let sequences: BTreeSet<Sequence> = landed.iter().flatten().copied().collect();
    assert_eq!(sequences.len(), landed.iter().map(Vec::len).sum::<usize>(), "one is told to two writers");
    let batches = WRITERS + sequences.len();
    assert_eq!(state.batches().count(), batches);
    assert!(state.batches().all(|batch| batch.record.rows == 1));
    // The first two made the store and its definitions.
    assert_eq!(state.head.sequence, Sequence(batches as u64 + 1));
    for (writer, of_one) in landed.iter().enumerate() {
        let name = format!("writer {writer}");
        let entries = state.log().iter().filter(|line| line.by.principal == name);
        assert_eq!(entries.count(), 1 + of_one.len(), "{name}");
    }
    let told = state.batches().filter(|batch| sequences.contains(&batch.by.sequence));
    assert_eq!(told.count(), sequences.len());
    let objects = store.objects();
    let paths: Vec<String> =
        objects.list(None).map_ok(|object| object.location.to_string()).try_collect().await.unwrap();
    for folder in ["data/", "manifests/", "profiles/", "bodies/"] {
        let written = paths.iter().filter(|path| path.starts_with(folder)).count();
        assert_eq!(written, batches, "{folder}");
    }
    let request = VerifyRequest { full: true, mend: false };
    let found = verify_store(&store, request, Arc::new(|_| ())).await.unwrap();
    assert_eq!(found.faults, []);
    assert_eq!((found.orphans.as_slice(), found.orphan_objects), (&[][..], 0));
}

/// A row that no other commit brings.
async fn commit(serving: &Serving, writer: usize, number: usize) -> Sequence {
    let (minute, second) = (number / 60, number % 60);
    let time = format!("2013-01-01T00:{minute:02}:{second:02}Z");
    let text = format!("k int64 | ts timestamp | x float64\n{writer} | {time} | 1.5");
    let request = claimed(rows("v", vec![table(&text)]), Claim::BackFill);
    let name = format!("writer {writer}");
    serving.ingest(request, &author(&name), Arc::new(|_| ())).await.unwrap().sequence.unwrap()
}

fn author(name: &str) -> Author {
    Author { principal: name.to_owned(), program: "suite 1".to_owned(), ..Author::default() }
}
