use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions,
    PutPayload, PutResult,
};

use super::*;
use crate::durable_local::DurableLocal;

type Answer<T> = object_store::Result<T>;

/// How a store breaks the promise.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    /// The condition is not looked at.
    Ignored,
    /// It is looked at before the write and not with it, so that a race has several winners.
    CheckedFirst,
    /// One winner is told, and every loser's bytes are written over it all the same.
    LosersOverwrite,
    /// A race has one winner; the condition is forgotten once the key was read.
    ForgottenLater,
    NotOffered,
    /// Every create is told that it lost, the winner's too.
    AllCalledLost,
    /// The first two keys' winners are told that they lost, as after a retry inside of the client.
    FirstCalledLost,
    Down,
}

#[derive(Debug)]
struct Broken {
    inner: InMemory,
    flaw: Flaw,
    creates: AtomicUsize,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Broken")
    }
}

fn exists() -> object_store::Error {
    object_store::Error::AlreadyExists { path: "probe".to_owned(), source: "412".into() }
}

#[async_trait::async_trait]
impl ObjectStore for Broken {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Answer<PutResult> {
        assert_eq!(opts.mode, PutMode::Create);
        let number = self.creates.fetch_add(1, Ordering::SeqCst);
        let overwrite = PutOptions::from(PutMode::Overwrite);
        match self.flaw {
            Flaw::Ignored => self.inner.put_opts(location, payload, overwrite).await,
            Flaw::CheckedFirst => {
                let free = self.inner.head(location).await.is_err();
                tokio::task::yield_now().await;
                if free { self.inner.put_opts(location, payload, overwrite).await } else { Err(exists()) }
            }
            Flaw::LosersOverwrite => match self.inner.put_opts(location, payload.clone(), opts).await {
                Ok(made) => Ok(made),
                Err(error) => {
                    self.inner.put_opts(location, payload, overwrite).await?;
                    Err(error)
                }
            },
            Flaw::ForgottenLater if number % (RACERS + 1) == RACERS => {
                self.inner.put_opts(location, payload, overwrite).await
            }
            Flaw::ForgottenLater => self.inner.put_opts(location, payload, opts).await,
            Flaw::NotOffered => Err(object_store::Error::NotImplemented {
                operation: "create".to_owned(),
                implementer: "Broken".to_owned(),
            }),
            Flaw::AllCalledLost => {
                let _ = self.inner.put_opts(location, payload, opts).await;
                Err(exists())
            }
            Flaw::FirstCalledLost => match self.inner.put_opts(location, payload, opts).await {
                Ok(_) if number < 2 * RACERS => Err(exists()),
                answer => answer,
            },
            Flaw::Down => {
                Err(object_store::Error::Generic { store: "Broken", source: "connection refused".into() })
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Answer<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Answer<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Answer<Path>>) -> BoxStream<'static, Answer<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Answer<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Answer<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Answer<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

async fn probe(flaw: Flaw) -> (Result<()>, usize) {
    let store = Broken { inner: InMemory::new(), flaw, creates: AtomicUsize::new(0) };
    let proved = prove_put_if_absent(&store).await;
    let left: Vec<ObjectMeta> = store.inner.list(None).try_collect().await.unwrap();
    (proved, left.len())
}

#[tokio::test]
async fn a_store_that_keeps_the_promise_is_proved_and_left_clean() {
    let memory = InMemory::new();
    prove_put_if_absent(&memory).await.unwrap();
    assert_eq!(memory.list(None).try_collect::<Vec<_>>().await.unwrap(), []);

    let folder = tempfile::tempdir().unwrap();
    let local = DurableLocal::new(folder.path().canonicalize().unwrap().join("store"));
    local.create_root().await.unwrap();
    let local: Arc<dyn ObjectStore> = Arc::new(local);
    prove_put_if_absent(&local).await.unwrap();
    assert_eq!(local.list(None).try_collect::<Vec<_>>().await.unwrap(), []);
}

#[tokio::test]
async fn a_store_that_breaks_the_promise_is_refused_every_time() {
    for (flaw, says) in [
        (Flaw::Ignored, "16 of 16 concurrent creates of one key succeeded"),
        (Flaw::CheckedFirst, "concurrent creates of one key succeeded"),
        (Flaw::LosersOverwrite, "replaced the bytes"),
        (Flaw::ForgottenLater, "created an object where one was"),
        (Flaw::NotOffered, "does not offer put-if-absent"),
        (Flaw::AllCalledLost, "all told that the object exists"),
    ] {
        for _ in 0..100 {
            let (proved, left) = probe(flaw).await;
            let error = proved.unwrap_err();
            assert!(matches!(error, Error::Refused { .. }), "{flaw:?}: {error}");
            assert!(error.to_string().contains(says), "{flaw:?}: {error}");
            assert_eq!(left, 0, "{flaw:?}");
        }
    }
}

#[tokio::test]
async fn doubt_is_neither_proof_nor_refusal() {
    probe(Flaw::FirstCalledLost).await.0.unwrap();
    let error = probe(Flaw::Down).await.0.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
}
