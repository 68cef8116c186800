//! Bytes of an entity that go for good. What held some of them is written anew without; one entry says what is read in its place; and only
//! then are the old objects deleted. `docs/erasure.md` says why that is safe.

mod files;
mod key;
mod profiles;
mod reads;
mod rejected;
mod rows;
mod samples;

use feature::digest::{Digest, HashAlgorithm, hash};
use feature::{BodyId, CommitId, Id, Sequence};
use futures::StreamExt;
use object_store::path::Path;
use storage::environment;

pub use key::{EntityKey, TypedKey};
pub use reads::recorded_reads;
pub use rows::{Found, rows_of};
pub use samples::sampled;

use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome};
use crate::error::{Error, Result};
use crate::records::{Erased, Object};
use crate::withdrawal;

/// Says what was erased, if nothing came since that may hold what it erases. None where something did: what was written for it is nobody's
/// then, and the log is to be looked at again.
///
/// # Errors
/// Those of [`Catalog::commit`].
pub async fn commit(catalog: &Catalog, record: &Erased, author: &Author) -> Result<Option<Sequence>> {
    let outcome = catalog
        .commit(author, None, |state| match state.brought_after(record.seen) {
            Some(_) => Ok(Intent::Done(())),
            None => Ok(Intent::Append(vec![record.clone().into()])),
        })
        .await?;
    Ok(match outcome {
        Outcome::Committed(sequence) => Some(sequence),
        Outcome::Done(()) => None,
    })
}

/// The reason, if it can stand in the log.
///
/// # Errors
/// `Invalid` for none, and for one that is too long.
pub fn reason(given: &str) -> Result<&str> {
    withdrawal::given_reason(given)
}

/// What keys of one erasure are hashed with: 244 random bits that nothing else holds.
///
/// # Errors
/// Those of the storage.
pub async fn new_secret(catalog: &Catalog) -> Result<(Object, Vec<u8>)> {
    let parts: [CommitId; 2] = [environment::random(), environment::random()];
    let bytes = parts.iter().flat_map(|part| *part.uuid().as_bytes()).collect::<Vec<u8>>();
    let name: BodyId = environment::mint();
    let object = catalog.put_object(format!("bodies/{name}.key"), bytes.clone().into()).await?;
    Ok((object, bytes))
}

/// The digest by which a key is found again by who has it and the secret.
pub fn digest_of_key(algorithm: HashAlgorithm, secret: &[u8], canonical: &[u8]) -> Digest {
    let inner = hash(algorithm, &[secret, canonical].concat());
    hash(algorithm, &[secret, inner.bytes()].concat())
}

/// Whether an erasure was of a key.
///
/// # Errors
/// A secret that was changed or is gone.
pub async fn is_of(catalog: &Catalog, record: &Erased, canonical: &[u8]) -> Result<bool> {
    let secret = catalog.object(&record.secret).await?;
    let is_same = |digest: &Digest| digest_of_key(digest.algorithm(), &secret, canonical) == *digest;
    Ok(record.keys.iter().any(is_same))
}

/// Deletes what an erasure that is in the log lets go: first what nobody can find without a manifest, then the rest. What was deleted before
/// is no error, so that an erasure that was stopped is ended by who comes next.
///
/// # Errors
/// `Unavailable` where something could not be deleted: nobody reads it, and the next erasure or sweep deletes it.
pub async fn delete(catalog: &Catalog, record: &Erased) -> Result<()> {
    let gone = record.gone.iter().chain(record.replaced.iter().map(|one| &one.before));
    delete_paths(catalog, gone.map(String::as_str)).await
}

/// Deletes what was written for an erasure that did not come about.
///
/// # Errors
/// As of [`delete`].
pub async fn forget(catalog: &Catalog, record: &Erased) -> Result<()> {
    let written = record.replaced.iter().map(|one| one.after.path.as_str());
    delete_paths(catalog, written.chain([record.secret.path.as_str()])).await
}

pub(crate) async fn delete_paths(catalog: &Catalog, paths: impl Iterator<Item = &str>) -> Result<()> {
    let paths: Vec<Path> = paths.map(Path::from).collect();
    let all = paths.len();
    if all == 0 {
        return Ok(());
    }
    let objects = catalog.store().objects();
    let mut deleted = objects.delete_stream(futures::stream::iter(paths.into_iter().map(Ok)).boxed());
    let mut failed = Vec::new();
    while let Some(done) = deleted.next().await {
        match done {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => failed.push(error),
        }
    }
    match failed.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(Error::Contended(format!(
            "some of {all} objects could not be deleted, the first for: {first}; nobody reads them any more, and the next `lineament erase` or \
             `lineament sweep` deletes them"
        ))),
    }
}
