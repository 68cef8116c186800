//! An object that is too large for one request: put in parts from a file, and digested on the way.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use feature::digest::BytesDigest;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt};

use crate::error::Error;
use crate::records::Object;
use crate::{Catalog, Result};

/// The bytes of a part. Storages want 5 MiB at least, all parts but the last alike, and take some thousands of them.
const PART_BYTES: usize = 16 << 20;

impl Catalog {
    /// Writes an object that an entry will name, from a file. It is whole and durable when this returns; after an error it is whole or not
    /// there, and nobody's. One of the same path is replaced.
    ///
    /// # Errors
    /// The file cannot be read; those of the object storage.
    pub async fn put_file(&self, path: String, file: PathBuf) -> Result<Object> {
        let objects = self.store().objects();
        let mut upload =
            objects.put_multipart(&Path::from(path.as_str())).await.map_err(storage::Error::from)?;
        match put_parts(upload.as_mut(), file, BytesDigest::new(self.state().hash)).await {
            Ok((bytes, digest)) => {
                upload.complete().await.map_err(storage::Error::from)?;
                Ok(Object { path, bytes, digest: digest.finish() })
            }
            Err(error) => {
                // What was sent is nobody's; a storage that does not take it back sweeps it by its own rule.
                if let Err(left) = upload.abort().await {
                    tracing::warn!(path, error = %left, "parts of an object that failed are still there");
                }
                Err(error)
            }
        }
    }
}

async fn put_parts(
    upload: &mut dyn MultipartUpload,
    file: PathBuf,
    mut digest: BytesDigest,
) -> Result<(u64, BytesDigest)> {
    let mut bytes = 0;
    let mut reading = None;
    loop {
        let file = file.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut reading = match reading {
                Some(reading) => reading,
                None => File::open(&file)?,
            };
            let mut part = Vec::new();
            reading.by_ref().take(PART_BYTES as u64).read_to_end(&mut part)?;
            digest.update(&part);
            Ok::<_, std::io::Error>((reading, part, digest))
        });
        let read = read.await.map_err(|error| Error::Internal(format!("reading a file stopped: {error}")))?;
        let (opened, part, digested) =
            read.map_err(|error| Error::Internal(format!("an object's file cannot be read: {error}")))?;
        (reading, digest) = (Some(opened), digested);
        let length = part.len();
        if length > 0 || bytes == 0 {
            upload.put_part(part.into()).await.map_err(storage::Error::from)?;
        }
        bytes += length as u64;
        if length < PART_BYTES {
            return Ok((bytes, digest));
        }
    }
}

#[cfg(test)]
mod tests {
    use feature::Timestamp;
    use feature::digest::hash;
    use storage::environment::TestClock;
    use storage::{Clock, Store};

    use super::*;
    use crate::Author;

    #[tokio::test]
    async fn a_file_becomes_an_object_with_the_digest_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let store =
            Store::open("memory://", Clock::from(TestClock::new(Timestamp(1_700_000_000_000_000)))).unwrap();
        let catalog = Catalog::create(store, &Author::default()).await.unwrap();
        for bytes in [0, 1, PART_BYTES - 1, PART_BYTES, 2 * PART_BYTES + 5] {
            let content: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
            let file = folder.path().join("file");
            std::fs::write(&file, &content).unwrap();
            let object = catalog.put_file(format!("spines/{bytes}"), file).await.unwrap();
            assert_eq!((object.bytes, object.digest), (bytes as u64, hash(catalog.state().hash, &content)));
            assert_eq!(catalog.object(&object).await.unwrap(), content);
        }
        let gone = catalog.put_file("spines/gone".to_owned(), folder.path().join("gone")).await.unwrap_err();
        assert!(gone.to_string().contains("cannot be read"), "{gone}");
        let left = catalog.store().objects().head(&Path::from("spines/gone")).await;
        assert!(matches!(left, Err(object_store::Error::NotFound { .. })), "{left:?}");
    }
}
