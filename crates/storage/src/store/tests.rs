use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode};

use super::address::Service;
use super::*;
use crate::environment;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    (folder, path)
}

fn open(address: impl AsRef<std::ffi::OsStr>) -> Result<Store> {
    Store::open(address.as_ref().to_str().unwrap(), Clock::System)
}

fn refusal(address: impl AsRef<std::ffi::OsStr>) -> String {
    open(address).unwrap_err().to_string()
}

#[test]
fn addresses_are_read_as_written() {
    for (text, service, root, shown) in [
        ("s3://bucket", Service::S3, "", "s3://bucket"),
        ("s3://bucket/", Service::S3, "", "s3://bucket"),
        ("s3://bucket/a/b/", Service::S3, "a/b", "s3://bucket/a/b"),
        ("gs://bucket/a%20b", Service::Gcs, "a b", "gs://bucket/a%20b"),
        ("az://container/a", Service::Azure, "a", "az://container/a"),
        (
            "az://c@account.blob.core.windows.net/a",
            Service::Azure,
            "a",
            "az://c@account.blob.core.windows.net/a",
        ),
    ] {
        let Address::Remote { service: found, url, root: at } = Address::parse(text).unwrap() else {
            panic!("{text}")
        };
        assert_eq!((found, at.as_ref()), (service, root), "{text}");
        assert_eq!(address::printable(&url), shown);
    }
    for text in ["store", "./store", "/tmp/a b", "a:b", "C:store", "s3x:foo"] {
        assert_eq!(Address::parse(text).unwrap(), Address::Folder(text.into()));
    }
    assert_eq!(Address::parse("file:///tmp/a%20b").unwrap(), Address::Folder("/tmp/a b".into()));
    assert_eq!(Address::parse("file://localhost/tmp").unwrap(), Address::Folder("/tmp".into()));
    for text in ["memory://", "memory:///"] {
        assert_eq!(Address::parse(text).unwrap(), Address::Memory);
    }
}

#[test]
fn wrong_addresses_say_what_is_allowed() {
    let allowed = "a store is at the path of a folder, or at file://, s3://, gs://, az:// or memory://";
    for (text, says) in [
        ("", allowed),
        ("  ", allowed),
        ("s4://bucket", "the scheme s4:// is not known (did you mean s3://?)"),
        ("http://host/store", allowed),
        ("S3://bucket", "not known"),
        ("s3:bucket", "write s3:// with two slashes"),
        ("memory:", "write memory:// with two slashes"),
        ("s3://", "s3://"),
        ("s3:///path", "s3://"),
        ("memory://name", "write memory://"),
        ("file://host/path", "begins with /"),
        ("s3://bucket/a?region=x", "come from the environment"),
        ("s3://bucket/a#b", "come from the environment"),
        ("s3://bucket/a/../../%2e%2e%2fb", "s3://bucket"),
        ("a\0b", "zero byte"),
    ] {
        let result = Store::open(text, Clock::System);
        if text.contains("..") {
            // A URL resolves its own dots, and an escaped one is refused or is part of a name.
            if let Ok(store) = result {
                assert!(!store.location().contains("/../"), "{}", store.location());
            }
            continue;
        }
        let message = result.unwrap_err().to_string();
        assert!(message.contains(says), "{text}: {message}");
    }
}

#[test]
fn credentials_are_refused_and_never_shown() {
    for text in [
        "s3://AKIAKEY:planted-secret@bucket/a",
        "s3://planted-secret@bucket/a",
        "gs://user:planted-secret@bucket",
        "az://c:planted-secret@account.blob.core.windows.net/a",
        "s3://bucket/a?token=planted-secret",
        "s5://user:planted-secret@bucket/a?sig=planted-secret",
        "http://user:planted-secret@host",
        "s3://user:planted-secret@",
    ] {
        let error = Store::open(text, Clock::System).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("planted-secret"), "{error:?}");
    }
}

#[tokio::test]
async fn a_local_store_begins_with_initialize() {
    let (_guard, base) = folder();
    let path = base.join("new folder/store#1%20é");
    let store = open(&path).unwrap();
    assert_eq!(store.location(), path.to_str().unwrap());
    assert!(!store.is_initialized().await.unwrap());
    assert!(!base.join("new folder").exists(), "opening makes nothing");

    store.initialize().await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(!store.is_initialized().await.unwrap());
    crate::conformance::prove_put_if_absent(store.objects().as_ref()).await.unwrap();
    open(&path).unwrap();

    let entry = crate::log::tests::entry_after(None);
    store.log().append(entry.sequence, entry.encode().unwrap()).await.unwrap();
    store.initialize().await.unwrap();
    let again = open(format!("file://{}", base.join("new%20folder/store%231%2520é").display())).unwrap();
    assert!(again.is_initialized().await.unwrap());
    assert_eq!(again.log().entries_after(None).await.unwrap()[0].0, entry);
    assert_eq!(again.location(), path.to_str().unwrap());
}

#[tokio::test]
async fn a_folder_of_something_else_is_refused() {
    let (_guard, base) = folder();
    std::fs::write(base.join("notes.txt"), "mine").unwrap();
    let message = refusal(&base);
    assert_eq!(
        message,
        format!(
            "{} is not a Lineament store: it has no log/00000000000000000000.json; choose an empty folder to create one",
            base.display()
        )
    );
    assert!(refusal(base.join("notes.txt")).contains("it is a file, and a store is a folder"));
    assert!(refusal(base.join("notes.txt/below")).contains("a part of the path is a file"));

    for file in ["data/x.parquet", "log/notes.txt", "log/00000000000000000001.json", "log/x#y"] {
        let (_guard, base) = folder();
        std::fs::create_dir_all(base.join(file).parent().unwrap()).unwrap();
        std::fs::write(base.join(file), "x").unwrap();
        assert!(matches!(open(&base), Err(Error::NotAStore { .. })), "{file}");
    }
    // Appeared after the folder was looked at.
    let (_guard, base) = folder();
    let store = open(&base).unwrap();
    std::fs::write(base.join("notes.txt"), "mine").unwrap();
    assert!(matches!(store.initialize().await, Err(Error::NotAStore { .. })));
}

#[tokio::test]
async fn what_a_crash_before_the_first_entry_left_is_no_hindrance() {
    let (_guard, base) = folder();
    for (directory, file) in [("probe", "0190-x"), ("log", "00000000000000000000.json#123")] {
        std::fs::create_dir(base.join(directory)).unwrap();
        std::fs::write(base.join(directory).join(file), "x").unwrap();
    }
    let store = open(&base).unwrap();
    store.initialize().await.unwrap();
    let entry = crate::log::tests::entry_after(None);
    store.log().append(entry.sequence, entry.encode().unwrap()).await.unwrap();
    assert!(open(&base).unwrap().is_initialized().await.unwrap());
}

#[test]
fn links_do_not_lead_out() {
    let (_guard, base) = folder();
    let real = base.join("real");
    std::fs::create_dir(&real).unwrap();
    symlink(&real, base.join("link")).unwrap();
    let message = refusal(base.join("link"));
    assert!(message.contains("symbolic link to") && message.contains("real"), "{message}");
    symlink(base.join("nowhere"), base.join("broken")).unwrap();
    assert!(refusal(base.join("broken")).contains("symbolic link"));
    // Above the store a link is resolved once.
    let below = open(base.join("link/store")).unwrap();
    assert_eq!(below.location(), real.join("store").to_str().unwrap());
    let store = base.join("store");
    std::fs::create_dir(&store).unwrap();
    symlink(&real, store.join("data")).unwrap();
    assert!(refusal(&store).contains("lead out of the store"));
    assert!(refusal(base.join("absent/../store2")).contains("does not exist"));
}

#[test]
fn a_folder_without_rights_is_said_so() {
    let (_guard, base) = folder();
    let closed = base.join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may read everything, so nobody is refused then.
    if std::fs::read_dir(&closed).is_err() {
        assert!(refusal(&closed).contains("cannot be read with this user's rights"));
    }
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    let message = local_message(std::io::ErrorKind::PermissionDenied);
    assert!(message.contains("/somewhere") && message.contains("see who owns it"), "{message}");
}

fn local_message(kind: std::io::ErrorKind) -> String {
    local::unusable(std::path::Path::new("/somewhere"), &kind.into()).to_string()
}

#[tokio::test]
async fn memory_is_shared_by_clones_alone() {
    let clock = environment::TestClock::new(feature::Timestamp(7));
    let store = Store::open("memory://", clock.into()).unwrap();
    assert_eq!((store.location(), store.clock().now()), ("memory://", feature::Timestamp(7)));
    store.initialize().await.unwrap();
    let entry = crate::log::tests::entry_after(None);
    store.log().append(entry.sequence, entry.encode().unwrap()).await.unwrap();
    assert!(store.clone().is_initialized().await.unwrap());
    assert!(!open("memory://").unwrap().is_initialized().await.unwrap());

    let foreign = open("memory://").unwrap();
    foreign.objects().put(&Path::from("data/x"), "x".into()).await.unwrap();
    assert!(matches!(foreign.initialize().await, Err(Error::NotAStore { .. })));
}

#[tokio::test]
async fn a_log_that_lost_its_first_entry_is_not_begun_anew() {
    let store = Store::open("memory://", Clock::System).unwrap();
    let left = Path::from("log/00000000000000000003.json");
    store.objects().put(&left, "x".into()).await.unwrap();
    let error = store.initialize().await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { sequence: Some(Sequence::ZERO), .. }));
    let message = error.to_string();
    assert!(message.contains("log entry 0 is missing, though entry 3 is there"), "{message}");
    assert!(!store.is_initialized().await.unwrap());
}

#[tokio::test]
async fn objects_begin_at_the_root() {
    let (_guard, base) = folder();
    let store = open(&base).unwrap();
    store.initialize().await.unwrap();
    store.objects().put_opts(&Path::from("data/x"), "x".into(), PutMode::Create.into()).await.unwrap();
    assert_eq!(std::fs::read(base.join("data/x")).unwrap(), b"x");
}
