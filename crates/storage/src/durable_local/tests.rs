use std::os::unix::fs::PermissionsExt;

use futures::TryStreamExt;
use futures::future::join_all;
use object_store::ObjectStoreExt;

use super::file_system::{FileSystem, Kind};
use super::*;

fn fresh() -> (tempfile::TempDir, DurableLocal) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("store");
    (folder, DurableLocal::new(root))
}

async fn ready() -> (tempfile::TempDir, DurableLocal) {
    let (folder, store) = fresh();
    store.create_root().await.unwrap();
    (folder, store)
}

async fn text(store: &DurableLocal, path: &str) -> String {
    let bytes = store.get(&Path::from(path)).await.unwrap().bytes().await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn listed(store: &DurableLocal) -> Vec<String> {
    let mut names: Vec<String> =
        store.list(None).map_ok(|object| object.location.to_string()).try_collect().await.unwrap();
    names.sort();
    names
}

#[tokio::test]
async fn nothing_is_made_before_the_root_is() {
    let (folder, store) = fresh();
    assert!(matches!(store.get(&Path::from("a")).await, Err(object_store::Error::NotFound { .. })));
    assert!(listed(&store).await.is_empty());
    let put = store.put(&Path::from("a/b"), "x".into()).await;
    assert!(matches!(put, Err(object_store::Error::NotFound { .. })), "{put:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    store.create_root().await.unwrap();
    store.create_root().await.unwrap();
    store.put(&Path::from("a/b"), "x".into()).await.unwrap();
    assert_eq!(text(&store, "a/b").await, "x");
    for (path, mode) in [("store", 0o700), ("store/a", 0o700), ("store/a/b", 0o600)] {
        let found = std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{path}");
    }
}

#[tokio::test]
async fn ranges_are_read_as_they_stand_and_never_short() {
    let (_folder, store) = ready().await;
    let path = Path::from("a");
    store.put(&path, "0123456789".into()).await.unwrap();
    let read = store.get_ranges(&path, &[7..10, 0..3, 4..4, 2..9]).await.unwrap();
    assert_eq!(read, ["789", "012", "", "2345678"]);
    for range in [8..11, 10..12, 30..40] {
        let error = store.get_ranges(&path, &[0..1, range]).await.unwrap_err().to_string();
        assert!(error.contains("it ends at byte"), "{error}");
    }
    let absurd = store.get_ranges(&path, &[0..1, 0..u64::MAX]).await.unwrap_err().to_string();
    assert!(absurd.contains("could not read"), "{absurd}");
    let missing = store.get_ranges(&Path::from("b"), &[0..1, 1..2]).await;
    assert!(matches!(missing, Err(object_store::Error::NotFound { .. })), "{missing:?}");
}

#[tokio::test]
async fn create_has_one_winner_among_many_processes() {
    let (_folder, store) = ready().await;
    for key in 0..20 {
        let path = Path::from(format!("log/{key}"));
        // Separate handles know nothing of each other, as processes do not.
        let racers: Vec<_> = (0..32).map(|_| DurableLocal::new(store.writer.root().to_path_buf())).collect();
        let bodies: Vec<String> = (0..32).map(|racer| format!("{key} {racer}")).collect();
        let creates = racers.iter().zip(&bodies).map(|(racer, body)| {
            racer.put_opts(&path, PutPayload::from(body.clone()), PutMode::Create.into())
        });
        let answers = join_all(creates).await;
        let winners: Vec<usize> = (0..32).filter(|&racer| answers[racer].is_ok()).collect();
        assert_eq!(winners.len(), 1);
        assert!(
            answers
                .iter()
                .flat_map(|answer| answer.as_ref().err())
                .all(|error| { matches!(error, object_store::Error::AlreadyExists { .. }) })
        );
        assert_eq!(text(&store, path.as_ref()).await, bodies[winners[0]]);
    }
    assert_eq!(listed(&store).await.len(), 20);
    let files = std::fs::read_dir(store.writer.root().join("log")).unwrap().count();
    assert_eq!(files, 20, "losers leave nothing behind");
}

#[tokio::test]
async fn overwrite_delete_copy_and_rename() {
    let (_folder, store) = ready().await;
    let (a, b) = (Path::from("x/a"), Path::from("y/b"));
    store.put(&a, "one".into()).await.unwrap();
    store.put(&a, "two".into()).await.unwrap();
    assert_eq!(text(&store, "x/a").await, "two");
    store.copy(&a, &b).await.unwrap();
    store.copy(&a, &b).await.unwrap();
    assert!(matches!(store.copy_if_not_exists(&a, &b).await, Err(object_store::Error::AlreadyExists { .. })));
    assert_eq!(text(&store, "y/b").await, "two");
    let files = std::fs::read_dir(store.writer.root().join("y")).unwrap().count();
    assert_eq!(files, 1, "a copy over itself leaves nothing behind");
    store.put(&a, "three".into()).await.unwrap();
    assert_eq!(text(&store, "y/b").await, "two", "a copy is not changed with the original");
    store.rename(&a, &b).await.unwrap();
    assert_eq!(listed(&store).await, ["y/b"]);
    assert_eq!(text(&store, "y/b").await, "three");
    store.delete(&b).await.unwrap();
    assert!(matches!(store.delete(&b).await, Err(object_store::Error::NotFound { .. })));
    assert!(listed(&store).await.is_empty());
    let conditional = PutMode::Update(object_store::UpdateVersion { e_tag: None, version: None });
    let refused = store.put_opts(&a, "x".into(), conditional.into()).await;
    assert!(matches!(refused, Err(object_store::Error::NotImplemented { .. })));
}

#[tokio::test]
async fn parts_appear_together_or_not_at_all() {
    let (_folder, store) = ready().await;
    let path = Path::from("data/big");
    let mut upload = store.put_multipart(&path).await.unwrap();
    let second_first = {
        let first = upload.put_part("hello ".into());
        let second = upload.put_part("world".into());
        second.await.unwrap();
        first
    };
    assert!(listed(&store).await.is_empty());
    let early = upload.complete().await;
    assert!(early.is_err(), "a part is missing");
    second_first.await.unwrap();
    upload.complete().await.unwrap();
    assert_eq!(text(&store, "data/big").await, "hello world");
    assert!(upload.complete().await.is_err());
    assert!(upload.put_part("more".into()).await.is_err());

    let mut aborted = store.put_multipart(&Path::from("data/aborted")).await.unwrap();
    aborted.put_part("x".into()).await.unwrap();
    aborted.abort().await.unwrap();
    let mut dropped = store.put_multipart(&Path::from("data/dropped")).await.unwrap();
    dropped.put_part("x".into()).await.unwrap();
    drop(dropped);
    assert_eq!(listed(&store).await, ["data/big"]);
    assert_eq!(std::fs::read_dir(store.writer.root().join("data")).unwrap().count(), 1);
}

#[tokio::test]
async fn what_a_crashed_writer_left_is_invisible_and_harmless() {
    let (_folder, store) = ready().await;
    let entry = Path::from("log/00000000000000000000.json");
    std::fs::create_dir(store.writer.root().join("log")).unwrap();
    for digits in ["1", "18446744073709551615"] {
        std::fs::write(store.writer.root().join(format!("log/00000000000000000000.json#{digits}")), "ha")
            .unwrap();
    }
    assert!(listed(&store).await.is_empty());
    assert!(store.list_with_delimiter(Some(&Path::from("log"))).await.unwrap().objects.is_empty());
    assert!(store.get(&Path::parse("log/00000000000000000000.json#1").unwrap()).await.is_err());
    assert!(store.put(&Path::parse("log/x#7").unwrap(), "x".into()).await.is_err());
    store.put_opts(&entry, "whole".into(), PutMode::Create.into()).await.unwrap();
    assert_eq!(listed(&store).await, [entry.as_ref()]);
    assert_eq!(text(&store, entry.as_ref()).await, "whole");
}

#[tokio::test]
async fn no_name_leads_out_of_the_root() {
    let (folder, store) = ready().await;
    std::fs::create_dir(folder.path().join("outside")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("outside"), store.writer.root().join("data")).unwrap();
    let through_link = store.put(&Path::from("data/x"), "x".into()).await.unwrap_err().to_string();
    assert!(through_link.contains("symbolic link"), "{through_link}");
    let names = [
        "..",
        "../x",
        "a/../../x",
        "/etc/passwd",
        "%2e%2e/x",
        "..%2Fx",
        "a\\..\\..\\x",
        ".",
        "~/x",
        "con",
        "x#1",
    ];
    for name in names {
        let _ = store.put(&Path::from(name), "x".into()).await;
        if let Ok(path) = Path::parse(name) {
            let _ = store.put(&path, "x".into()).await;
        }
    }
    assert_eq!(std::fs::read_dir(folder.path().join("outside")).unwrap().count(), 0);
    let beside: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside.len(), 2, "{beside:?}");
}

#[tokio::test]
async fn a_folder_that_vanished_is_made_again() {
    let (_folder, store) = ready().await;
    store.put(&Path::from("data/v1/a"), "x".into()).await.unwrap();
    std::fs::remove_dir_all(store.writer.root().join("data")).unwrap();
    store.put(&Path::from("data/v1/b"), "y".into()).await.unwrap();
    assert_eq!(listed(&store).await, ["data/v1/b"]);
}

/// A file system whose directories cannot be synced from some moment on.
#[derive(Debug, Default)]
struct Failing(std::sync::atomic::AtomicBool);

impl FileSystem for Arc<Failing> {
    type File = std::fs::File;
    fn kind(&self, path: &std::path::Path) -> std::io::Result<Option<Kind>> {
        Real.kind(path)
    }
    fn create_directory(&self, path: &std::path::Path) -> std::io::Result<()> {
        Real.create_directory(path)
    }
    fn create_file(&self, path: &std::path::Path) -> std::io::Result<Self::File> {
        Real.create_file(path)
    }
    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        Real.write_at(file, offset, bytes)
    }
    fn sync_file(&self, file: &Self::File) -> std::io::Result<()> {
        Real.sync_file(file)
    }
    fn link(&self, from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
        Real.link(from, to)
    }
    fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
        Real.rename(from, to)
    }
    fn remove(&self, path: &std::path::Path) -> std::io::Result<()> {
        Real.remove(path)
    }
    fn sync_directory(&self, path: &std::path::Path) -> std::io::Result<()> {
        match self.0.load(std::sync::atomic::Ordering::SeqCst) {
            true => Err(std::io::Error::other("the disk is gone")),
            false => Real.sync_directory(path),
        }
    }
}

#[test]
fn after_a_failed_sync_nothing_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let failing = Arc::new(Failing::default());
    let writer = Writer::new(failing.clone(), root.clone());
    writer.create_root().unwrap();
    writer.create(&root.join("log/0"), &"zero".into()).unwrap();
    failing.0.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(matches!(
        writer.create(&root.join("log/1"), &"one".into()),
        Err(Failure::Io { verb: "sync", .. })
    ));
    failing.0.store(false, std::sync::atomic::Ordering::SeqCst);
    for refused in
        [writer.intact(), writer.create(&root.join("log/2"), &"two".into()), writer.settle(&root.join("log"))]
    {
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("could not sync") && message.contains("opened anew"), "{message}");
    }
    let anew = Writer::new(failing, root.clone());
    assert!(matches!(anew.create(&root.join("log/1"), &"one".into()), Err(Failure::Exists(_))));
    anew.create(&root.join("log/2"), &"two".into()).unwrap();
}
