//! An object that arrives in parts: staged like any other, visible when it is complete.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};

use super::file_system::FileSystem;
use super::writer::{Failure, Staged, Writer};

#[derive(Debug)]
pub(super) struct Upload<F: FileSystem> {
    writer: Arc<Writer<F>>,
    /// None once completed or aborted.
    staged: Option<Arc<Staged<F::File>>>,
    to: PathBuf,
    /// Where the next part begins.
    offset: u64,
    /// Parts that were begun and are not written.
    missing: Arc<AtomicUsize>,
}

impl<F: FileSystem> Upload<F> {
    pub fn new(writer: Arc<Writer<F>>, staged: Staged<F::File>, to: PathBuf) -> Self {
        Self { writer, staged: Some(Arc::new(staged)), to, offset: 0, missing: Arc::default() }
    }

    fn ended(&self) -> Failure {
        Failure::Refused(format!("the upload of {} was completed or aborted before", self.to.display()))
    }

    /// The staged file, for itself alone: parts that are still being written keep it.
    fn take(&mut self) -> Result<Staged<F::File>, Failure> {
        let staged = self.staged.take().ok_or_else(|| self.ended())?;
        match Arc::try_unwrap(staged) {
            Ok(staged) => Ok(staged),
            Err(staged) => {
                self.staged = Some(staged);
                Err(Failure::Refused(format!("parts of {} are still being written", self.to.display())))
            }
        }
    }
}

#[async_trait::async_trait]
impl<F: FileSystem> MultipartUpload for Upload<F> {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let offset = self.offset;
        self.offset += data.content_length() as u64;
        let Some(staged) = self.staged.clone() else {
            let failure = self.ended();
            return async move { Err(failure.into()) }.boxed();
        };
        self.missing.fetch_add(1, Ordering::SeqCst);
        let (writer, to, missing) = (self.writer.clone(), self.to.clone(), self.missing.clone());
        async move {
            let written = tokio::task::spawn_blocking(move || {
                let written = writer.write_at(&staged.file, offset, &data, &to);
                // Free before the caller hears of it, so that it may complete.
                drop(staged);
                written
            });
            written.await??;
            missing.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let missing = self.missing.load(Ordering::SeqCst);
        if missing > 0 {
            let why = format!("{missing} parts of {} failed or were not written", self.to.display());
            return Err(Failure::Refused(why).into());
        }
        let staged = self.take()?;
        let (writer, to) = (self.writer.clone(), self.to.clone());
        tokio::task::spawn_blocking(move || writer.finish(staged, &to)).await??;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        let staged = self.take()?;
        let writer = self.writer.clone();
        tokio::task::spawn_blocking(move || writer.discard(staged)).await?;
        Ok(())
    }
}

impl<F: FileSystem> Drop for Upload<F> {
    fn drop(&mut self) {
        if let Ok(staged) = self.take() {
            self.writer.discard(staged);
        }
    }
}
