//! The proof that a store creates an object only where none is: some accept the condition and ignore it, and a
//! log on one of those loses entries without a word.

use bytes::Bytes;
use feature::CommitId;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::environment;
use crate::error::{Error, Result};

/// Keys raced for. A store that broke the promise on nine keys of ten would pass by luck once in 10⁸ probes.
const KEYS: usize = 8;
/// Concurrent creates of one key.
const RACERS: usize = 16;
/// Keys that may end without a winner: after a fault a client may call its own success a loss.
const INCONCLUSIVE: usize = 4;

/// Races concurrent creates on fresh keys under `probe/` and requires exactly one winner each, whose bytes are
/// kept, also against one more create afterwards. The keys are deleted again; one that cannot be deleted does no harm.
///
/// # Errors
/// `Refused` says what the store did wrong; `Unavailable` where it could not be asked.
pub async fn prove_put_if_absent(objects: &dyn ObjectStore) -> Result<()> {
    let mut inconclusive = 0;
    let mut proved = 0;
    while proved < KEYS {
        let key = Path::from(format!("probe/{}", environment::random::<CommitId>()));
        let verdict = race(objects, &key).await;
        // A log needs no right to delete, so a failure here proves nothing.
        let _ = objects.delete(&key).await;
        if verdict? {
            proved += 1;
        } else {
            inconclusive += 1;
            if inconclusive > INCONCLUSIVE {
                return Err(Error::Refused {
                    why: format!(
                        "{RACERS} concurrent creates of one new key were all told that the object exists, {inconclusive} times over; \
                         see whether it is overloaded, or use another"
                    ),
                });
            }
        }
    }
    Ok(())
}

/// False where nobody won, so that nothing was shown.
async fn race(objects: &dyn ObjectStore, key: &Path) -> Result<bool> {
    let bodies: Vec<Bytes> = (0..RACERS).map(|racer| format!("racer {racer} of {key}").into()).collect();
    let answers = join_all(bodies.iter().map(|body| create(objects, key, body))).await;
    let mut winners = Vec::new();
    for (racer, answer) in answers.into_iter().enumerate() {
        if answer? {
            winners.push(racer);
        }
    }
    let winner = match winners.as_slice() {
        [] => return Ok(false),
        [winner] => *winner,
        _ => {
            return Err(Error::Refused {
                why: format!(
                    "it ignores put-if-absent: {} of {RACERS} concurrent creates of one key succeeded, where one may; \
                     commits would overwrite each other (S3-compatible servers need `If-None-Match: *`)",
                    winners.len()
                ),
            });
        }
    };
    if create(objects, key, &Bytes::from_static(b"late")).await? {
        return Err(Error::Refused {
            why: "it ignores put-if-absent: it created an object where one was; commits would overwrite each other".to_owned(),
        });
    }
    let kept = objects.get(key).await?.bytes().await?;
    if kept != bodies[winner] {
        return Err(Error::Refused {
            why: "it ignores put-if-absent: a create that it refused replaced the bytes of the one that it accepted".to_owned(),
        });
    }
    Ok(true)
}

/// Whether the store says that this create made the object.
async fn create(objects: &dyn ObjectStore, key: &Path, body: &Bytes) -> Result<bool> {
    match objects.put_opts(key, body.clone().into(), PutOptions::from(PutMode::Create)).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
            Ok(false)
        }
        Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
            Err(Error::Refused { why: "it does not offer put-if-absent".to_owned() })
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
