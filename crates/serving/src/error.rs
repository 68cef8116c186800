//! What can go wrong when features leave, by what the caller can do about it.

use datafusion::common::DataFusionError;
use engine::OverSpillLimit;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Mend the request; the message says how.
    Invalid,
    /// Name something that exists; the message names the nearest.
    NotFound,
    /// Mend the data: too many of a batch's rows were rejected.
    Refused,
    /// It is not allowed.
    Forbidden,
    /// Something in the store was changed or is gone.
    Damaged,
    /// Ask for less at once, or let the process take more memory.
    Exhausted,
    /// Try again.
    Unavailable,
    /// A fault of ours.
    Internal,
}

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    message: String,
    denied: Option<Box<str>>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), denied: None }
    }

    /// What policies keep from whoever asks; `asked` is what was asked for.
    pub(crate) fn denial(asked: impl Into<Box<str>>, message: impl Into<String>) -> Self {
        Self { kind: Kind::Forbidden, message: message.into(), denied: Some(asked.into()) }
    }

    /// What was asked for, where policies denied it: `weather@1.temp`, `weather@1.*`.
    pub(crate) fn denied(&self) -> Option<&str> {
        self.denied.as_deref()
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    fn spilled(over: &OverSpillLimit) -> Self {
        let then = "ask for less at once, read the answer while rows are still being sent, or let more wait on disk (`lineament serve --spill-limit`)";
        Self::new(Kind::Exhausted, format!("{over}; {then}"))
    }

    pub(crate) fn internal(what: &str, error: impl std::fmt::Display) -> Self {
        Self::new(Kind::Internal, format!("{what}: {error}"))
    }
}

impl From<catalog::Error> for Error {
    fn from(error: catalog::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&catalog::Error> for Error {
    fn from(error: &catalog::Error) -> Self {
        let kind = match error {
            catalog::Error::Invalid(_) => Kind::Invalid,
            catalog::Error::NotFound(_) => Kind::NotFound,
            catalog::Error::Refused(_) => Kind::Refused,
            catalog::Error::Contended(_) => Kind::Unavailable,
            catalog::Error::Internal(_) => Kind::Internal,
            catalog::Error::Damaged { .. } => Kind::Damaged,
            catalog::Error::Shared(error) => return Self::from(&**error),
            catalog::Error::Storage(error) => return storage(error),
        };
        Self::new(kind, error.to_string())
    }
}

fn storage(error: &storage::Error) -> Error {
    let kind = match error {
        storage::Error::NotAStore { .. } | storage::Error::Location { .. } => Kind::NotFound,
        storage::Error::Corrupt { .. } | storage::Error::Newer { .. } => Kind::Damaged,
        storage::Error::Unavailable(object_store::Error::NotFound { path, .. }) => {
            return Error::new(Kind::Damaged, format!("the object `{path}` is gone from the store"));
        }
        storage::Error::Unknown { .. } | storage::Error::Unavailable(_) => Kind::Unavailable,
        storage::Error::Refused { .. } => Kind::Forbidden,
        storage::Error::Invalid { .. } => Kind::Invalid,
    };
    Error::new(kind, error.to_string())
}

/// What DataFusion says after it has listed every signature that it tried, and asked to be told of a bug.
const NO_SUCH_CALL: &str = "No function matches the given name and argument types";

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        if let Some((_, said)) = error.strip_backtrace().split_once(NO_SUCH_CALL) {
            return Self::new(Kind::Invalid, lowered(&format!("{NO_SUCH_CALL}{said}")));
        }
        match error.find_root() {
            DataFusionError::External(cause) => {
                if let Some(known) = cause.downcast_ref::<catalog::Error>() {
                    return known.into();
                }
                if let Some(denied) = cause.downcast_ref::<engine::access::Denied>() {
                    return Self::denial(denied.asked.as_str(), denied.to_string());
                }
                // What befell rows on their way in.
                if let Some(known) = cause.downcast_ref::<Self>() {
                    return Self {
                        denied: known.denied.clone(),
                        ..Self::new(known.kind, known.message.clone())
                    };
                }
                if let Some(over) = cause.downcast_ref::<OverSpillLimit>() {
                    return Self::spilled(over);
                }
                Self::new(Kind::Internal, cause.to_string())
            }
            DataFusionError::Plan(message) => {
                let kind = if message.contains("is not allowed: SQL here can only read")
                    || ["DDL", "DML", "Statement"]
                        .iter()
                        .any(|kind| message.starts_with(&format!("{kind} not supported:")))
                {
                    Kind::Forbidden
                } else if message.starts_with("there is no ") {
                    Kind::NotFound
                } else {
                    Kind::Invalid
                };
                Self::new(kind, message.clone())
            }
            DataFusionError::SchemaError(error, _) => Self::new(Kind::Invalid, lowered(&error.to_string())),
            DataFusionError::SQL(error, _) => Self::new(Kind::Invalid, lowered(&error.to_string())),
            // Wrong types are the caller's, though the planner calls some of them its own fault.
            DataFusionError::Internal(message)
                if message.contains("failed to match any signature")
                    || message.contains("Failed to coerce types") =>
            {
                let told = message.split("\nThis issue was likely caused").next().unwrap_or(message);
                Self::new(Kind::Invalid, lowered(told.trim_end_matches('.')))
            }
            DataFusionError::NotImplemented(message) => Self::new(Kind::Invalid, message.clone()),
            DataFusionError::ResourcesExhausted(message) => Self::new(
                Kind::Exhausted,
                format!(
                    "{}; ask for less at once, or let the program take more memory (`lineament serve --memory-limit`)",
                    lowered(message)
                ),
            ),
            DataFusionError::Execution(message) if message.contains("data file `") => {
                Self::new(Kind::Damaged, message.clone())
            }
            DataFusionError::Execution(message) => Self::new(Kind::Invalid, message.clone()),
            DataFusionError::ArrowError(error, _) => match OverSpillLimit::of(&error.to_string()) {
                Some(over) => Self::spilled(&over),
                None => Self::new(Kind::Invalid, lowered(&error.to_string())),
            },
            other => match OverSpillLimit::of(&other.to_string()) {
                Some(over) => Self::spilled(&over),
                None => Self::new(Kind::Internal, other.strip_backtrace()),
            },
        }
    }
}

/// Messages begin in lower case, so that they can follow a colon.
fn lowered(message: &str) -> String {
    let mut characters = message.chars();
    match (characters.next(), characters.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(characters).collect()
        }
        _ => message.to_owned(),
    }
}
