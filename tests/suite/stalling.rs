//! Processes that stop in the midst of something: objects behind which a test decides when one goes on.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use catalog::Catalog;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use serving::Serving;
use storage::Store;
use tokio::sync::Notify;

/// Objects of a process that stops before it writes one of some folder, until it is let go.
#[derive(Debug)]
pub struct Stalling {
    inner: Arc<dyn ObjectStore>,
    /// The folder.
    at: &'static str,
    armed: AtomicBool,
    pub reached: Notify,
    pub go: Notify,
    /// Nothing can be deleted.
    keeps: AtomicBool,
}

impl fmt::Display for Stalling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a process that stops at {}", self.at)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Stalling {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if location.as_ref().starts_with(self.at) && self.armed.swap(false, Ordering::SeqCst) {
            self.reached.notify_one();
            self.go.notified().await;
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if !self.keeps.load(Ordering::SeqCst) {
            return self.inner.delete_stream(locations);
        }
        let inner = self.inner.clone();
        let deleted = locations.then(move |location| {
            let inner = inner.clone();
            async move {
                let location = location?;
                // Of the proof of put-if-absent nothing is to be left.
                if !location.as_ref().starts_with("probe/") {
                    return Err(Error::Generic { store: "stalling", source: "it was stopped".into() });
                }
                inner.delete(&location).await?;
                Ok(location)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A process of the same store that stops once, before it writes an object of this folder.
pub async fn stalling(serving: &Serving, at: &'static str) -> (Serving, Arc<Stalling>) {
    over(serving, at, false).await
}

/// A process of the same store that is stopped before it deletes anything.
pub async fn stopped_before_deleting(serving: &Serving) -> Serving {
    over(serving, "nowhere/", true).await.0
}

async fn over(serving: &Serving, at: &'static str, keeps: bool) -> (Serving, Arc<Stalling>) {
    let store = serving.catalog().store();
    let objects = Arc::new(Stalling {
        inner: store.objects(),
        at,
        armed: AtomicBool::new(true),
        reached: Notify::new(),
        go: Notify::new(),
        keeps: AtomicBool::new(false),
    });
    let slow = Store::over("slow", objects.clone(), store.clock().clone());
    let serving = Serving::new(Catalog::open(slow).await.unwrap());
    objects.keeps.store(keeps, Ordering::SeqCst);
    (serving, objects)
}
