//! What can go wrong in the catalog, by what the caller can do about it.

use std::sync::Arc;

use feature::Sequence;

use crate::records::RecordError;
use crate::state::{ApplyError, Gone, ViewVersion};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong; its message says how to make it right.
    #[error("{0}")]
    Invalid(String),
    /// Something that was named does not exist; the message names the nearest that does.
    #[error("{0}")]
    NotFound(String),
    /// The request is right, and others were in its way: try again.
    #[error("{0}")]
    Contended(String),
    /// A fault of ours, or a limit of a library, met while handling valid input.
    #[error("{0}")]
    Internal(String),
    /// Too many rows were rejected: nothing of the batch counts, and the rejected rows can be listed.
    #[error(transparent)]
    Refused(Box<crate::ingest::Refusal>),
    /// The store's log holds something that cannot be.
    #[error("the log is damaged at sequence {sequence}: {why}")]
    Damaged { sequence: Sequence, why: String },
    /// One error that several waited for.
    #[error("{0}")]
    Shared(Arc<Error>),
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl Error {
    pub(crate) fn record(sequence: Sequence, error: &RecordError) -> Self {
        Self::Damaged { sequence, why: error.to_string() }
    }

    pub(crate) fn apply(sequence: Sequence, error: &ApplyError) -> Self {
        Self::Damaged { sequence, why: error.to_string() }
    }

    /// Rows of a snapshot are gone.
    pub fn gone(version: &ViewVersion, at: Sequence, gone: Gone) -> Self {
        let label = version.label();
        Self::NotFound(format!(
            "{label} at sequence {at} has rows that are gone: of what came at sequence {}, those that are valid before {} were deleted by the view's \
             retention, at sequence {}; read it at a later sequence (`SELECT * FROM lineament.expirations`)",
            gone.came, gone.before, gone.at
        ))
    }

    /// Whether it is that an object is not there.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Shared(error) => error.is_missing(),
            Self::Storage(storage::Error::Unavailable(object_store::Error::NotFound { .. })) => true,
            _ => false,
        }
    }

    pub(crate) fn internal(what: &str, error: impl std::fmt::Display) -> Self {
        Self::Internal(format!("{what}: {error}"))
    }
}
