//! How an entry gets into the log.

use std::time::Duration;

use bytes::Bytes;
use feature::{CommitId, Id, Sequence};
use object_store::{ObjectStore, PutMode};

use super::{Log, path};
use crate::entry::{Entry, commit_of};
use crate::error::{Error, Result};

/// Creates that are sent at most.
const SENDS: u32 = 6;
/// Looks at the stored bytes after each.
const LOOKS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// How an append ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The entry stands at its sequence, durably.
    Committed,
    /// Another entry stands there, and this one never will.
    Lost,
}

/// What stands at the entry's sequence.
enum Found {
    Ours,
    Another,
    Nothing,
}

impl Log {
    /// Appends an entry, given as its bytes, if no other stands at its sequence.
    ///
    /// Only "created" is taken at its word: after any other answer the stored bytes decide, for a store may say
    /// that the entry exists when it is this very one, and fail after it wrote. This runs to its end also where the
    /// caller stops waiting.
    ///
    /// # Errors
    /// - `Unknown`: the entry may be in the log, now or later. Nothing that it names may be deleted.
    /// - `Unavailable`: the store refused, and the entry is not in the log.
    /// - `Invalid`: the bytes are no entry with this sequence.
    pub async fn append(&self, sequence: Sequence, bytes: impl Into<Bytes>) -> Result<Appended> {
        let bytes = bytes.into();
        let entry = Entry::decode(sequence, &bytes).map_err(|error| Error::Invalid {
            what: format!("log entry {sequence}"),
            why: error.to_string(),
        })?;
        let attempt = Attempt { log: self.clone(), sequence, commit: entry.commit, bytes };
        let unknown = Unknown { sequence, commit: entry.commit };
        match tokio::spawn(attempt.run()).await {
            Ok(appended) => appended,
            // The runtime is shutting down.
            Err(error) => Err(unknown.because(error)),
        }
    }
}

#[derive(Clone, Copy)]
struct Unknown {
    sequence: Sequence,
    commit: CommitId,
}

impl Unknown {
    fn because(self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Unknown { sequence: self.sequence, commit: self.commit, source: Box::new(source) }
    }
}

struct Attempt {
    log: Log,
    sequence: Sequence,
    commit: CommitId,
    bytes: Bytes,
}

impl Attempt {
    async fn run(self) -> Result<Appended> {
        let unknown = Unknown { sequence: self.sequence, commit: self.commit };
        let key = path(self.sequence);
        let mut sends = 0;
        let mut may_be_under_way = false;
        loop {
            let put = self.log.objects.put_opts(&key, self.bytes.clone().into(), PutMode::Create.into());
            let error = match put.await {
                Ok(_) => return Ok(Appended::Committed),
                Err(error) => error,
            };
            sends += 1;
            may_be_under_way |= !is_refusal(&error);
            match self.look().await {
                Ok(Found::Ours) => {
                    return match self.log.settle().await {
                        Ok(()) => Ok(Appended::Committed),
                        Err(error) => Err(unknown.because(error)),
                    };
                }
                Ok(Found::Another) => return Ok(Appended::Lost),
                Ok(Found::Nothing) if !may_be_under_way => return Err(error.into()),
                // A create that timed out may still arrive after everybody looked.
                Ok(Found::Nothing) if sends == SENDS => return Err(unknown.because(error)),
                Ok(Found::Nothing) => self.pause(sends).await,
                Err(look) => return Err(unknown.because(look)),
            }
        }
    }

    /// Reads the key back; an answer that failed or is no entry at all was cut or changed on its way, and is asked for again.
    async fn look(&self) -> Result<Found> {
        let mut looks = 0;
        // What was seen last: over a network ours may come as another's, and hardly twice alike.
        let mut seen: Option<Bytes> = None;
        loop {
            let failure = match self.log.read_bytes(self.sequence).await {
                Ok(None) => return Ok(Found::Nothing),
                Ok(Some(found)) if found == self.bytes => return Ok(Found::Ours),
                Ok(Some(found)) => {
                    let is_another = commit_of(&found).is_some_and(|commit| commit != self.commit);
                    if is_another && (!self.log.is_remote || seen.as_ref() == Some(&found)) {
                        return Ok(Found::Another);
                    }
                    if is_another && seen.is_none() {
                        seen = Some(found);
                        continue;
                    }
                    seen = Some(found);
                    Error::corrupt_entry(
                        self.sequence,
                        "what was read back is neither this entry nor another",
                    )
                }
                Err(error) => error,
            };
            looks += 1;
            if looks == LOOKS {
                return Err(failure);
            }
            self.pause(looks).await;
        }
    }

    /// Longer each time, and different for each entry, so that writers that failed together do not come back together.
    async fn pause(&self, round: u32) {
        let longest = FIRST_PAUSE * 2u32.saturating_pow(round.min(8));
        let commit = self.commit.uuid().into_bytes();
        let share = commit.into_iter().cycle().nth(round as usize).unwrap_or_default();
        tokio::time::sleep(longest / 2 + longest * u32::from(share) / 512).await;
    }
}

/// Whether this answer says that nothing was written and nothing of it is under way.
fn is_refusal(error: &object_store::Error) -> bool {
    use object_store::Error::{
        InvalidPath, NotFound, NotImplemented, NotSupported, PermissionDenied, Unauthenticated,
        UnknownConfigurationKey,
    };
    matches!(
        error,
        InvalidPath { .. }
            | NotFound { .. }
            | NotImplemented { .. }
            | NotSupported { .. }
            | PermissionDenied { .. }
            | Unauthenticated { .. }
            | UnknownConfigurationKey { .. }
    )
}
