//! What can go wrong with stored bytes, by what the caller can do about it.

use feature::{CommitId, Sequence};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing at this place is a store, and something else is there or nothing at all.
    #[error(
        "{location} is not a Lineament store: it has no log/00000000000000000000.json; choose an empty folder to create one"
    )]
    NotAStore { location: String },
    /// The address of a store cannot be used as it is written.
    #[error("{location}: {why}")]
    Location { location: String, why: String },
    /// An object of the store is not what was written. `sequence` is that of the log entry, where it is one.
    #[error("{object}: {why}")]
    Corrupt { object: String, sequence: Option<Sequence>, why: String },
    /// An object has a format that this program does not know yet.
    #[error("{object} was written by a newer Lineament: {why}; upgrade this program to open the store")]
    Newer { object: String, why: String },
    /// The entry may or may not have been written, and nobody can say now. Nothing that it names may be deleted;
    /// the same request may be sent again under the same key.
    #[error(
        "it is not known whether log entry {sequence} (commit {commit}) was written: {source}; nothing was deleted, ask again with the same request key"
    )]
    Unknown {
        sequence: Sequence,
        commit: CommitId,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The object storage failed or refused; what was asked for did not happen.
    #[error("the object storage failed: {0}")]
    Unavailable(#[from] object_store::Error),
    /// The object storage does not keep a promise that the log needs, so nothing is written to it.
    #[error("this object storage cannot hold a store: {why}")]
    Refused { why: String },
    /// What was to be written breaks the format; a program error of the caller.
    #[error("{what} cannot be written: {why}")]
    Invalid { what: String, why: String },
}

impl Error {
    pub fn not_a_store(location: impl Into<String>) -> Self {
        Self::NotAStore { location: location.into() }
    }

    /// An object other than a log entry is not what was written.
    pub fn corrupt(object: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Corrupt { object: object.into(), sequence: None, why: why.into() }
    }

    pub(crate) fn corrupt_entry(sequence: Sequence, why: impl Into<String>) -> Self {
        let object = crate::log::object_name(sequence);
        Self::Corrupt { object, sequence: Some(sequence), why: why.into() }
    }

    pub(crate) fn location(location: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Location { location: location.into(), why: why.into() }
    }
}
