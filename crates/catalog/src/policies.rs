//! Policies as definitions: what applying a folder's would change, and making it so.

use std::fmt;

use feature::digest::{Digest, HashAlgorithm, hash};
use feature::policy::{MaskKey, PolicyFile};
use feature::{CommitId, Id, Sequence};
use storage::environment;

use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome};
use crate::error::{Error, Result};
use crate::records::{Object, PoliciesApplied};
use crate::state::{AppliedPolicies, State};
use crate::withdrawal::given_reason;

/// What applying policies would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyChange {
    /// There were none: from now on only what they permit is allowed.
    First {
        files: usize,
    },
    /// By file: those that are new, changed and gone.
    Other {
        number: u32,
        added: Vec<String>,
        changed: Vec<String>,
        removed: Vec<String>,
    },
    Keep {
        number: u32,
    },
}

impl fmt::Display for PolicyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First { files } => {
                write!(f, "+ policies@1 of {files} files: from then on only what they permit is allowed")
            }
            Self::Keep { number } => write!(f, "  policies@{number} unchanged"),
            Self::Other { number, added, changed, removed } => {
                write!(f, "+ policies@{number}:")?;
                for (sign, names) in [("+", added), ("~", changed), ("-", removed)] {
                    for name in names {
                        write!(f, " {sign}{name}")?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// The files in the order of their names, by the names alone: where a folder lies is nobody's business.
pub fn in_order(files: &[PolicyFile]) -> Vec<PolicyFile> {
    let bare = |file: &PolicyFile| {
        let name = file.name.rsplit(['/', '\\']).next().unwrap_or(&file.name);
        PolicyFile { name: name.to_owned(), text: file.text.clone() }
    };
    let mut files: Vec<PolicyFile> = files.iter().map(bare).collect();
    files.sort_by(|one, other| (&one.name, &one.text).cmp(&(&other.name, &other.text)));
    files
}

/// The version of policies: the digest of their names and texts.
pub fn digest(algorithm: HashAlgorithm, files: &[PolicyFile]) -> Digest {
    let mut bytes = Vec::new();
    for file in files {
        for part in [&file.name, &file.text] {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part.as_bytes());
        }
    }
    hash(algorithm, &bytes)
}

/// What applying these files (in order) to this state would do.
pub fn plan(state: &State, files: &[PolicyFile]) -> PolicyChange {
    let last = state.policies().last(state.head.sequence);
    let Some(AppliedPolicies { record, .. }) = last.filter(|applied| !applied.record.files.is_empty()) else {
        return match (last, files.len()) {
            (None, files) => PolicyChange::First { files },
            (Some(last), _) => PolicyChange::Other {
                number: last.record.number + 1,
                added: files.iter().map(|file| file.name.clone()).collect(),
                changed: Vec::new(),
                removed: Vec::new(),
            },
        };
    };
    if record.digest == digest(state.hash, files) {
        return PolicyChange::Keep { number: record.number };
    }
    let of = |name: &str| record.files.iter().find(|known| known.name == name);
    let named = |keep: &dyn Fn(&PolicyFile) -> bool, among: &[PolicyFile]| -> Vec<String> {
        among.iter().filter(|file| keep(file)).map(|file| file.name.clone()).collect()
    };
    PolicyChange::Other {
        number: record.number + 1,
        added: named(&|file| of(&file.name).is_none(), files),
        changed: named(&|file| of(&file.name).is_some_and(|known| known.text != file.text), files),
        removed: named(&|file| !files.iter().any(|new| new.name == file.name), &record.files),
    }
}

/// Applies files, which somebody has compiled before, as one entry; without files, nothing is governed any more.
///
/// # Errors
/// Those of [`Catalog::commit`]; `Invalid` for a reason that is empty or too long.
pub async fn apply(
    catalog: &Catalog,
    files: &[PolicyFile],
    reason: Option<&str>,
    author: &Author,
) -> Result<(PolicyChange, Option<Sequence>)> {
    let reason = reason.map(given_reason).transpose()?;
    let files = in_order(files);
    let state = catalog.refresh().await?;
    let key = match state.policies().last(state.head.sequence) {
        Some(applied) => applied.record.key.clone(),
        None => new_key(catalog).await?,
    };
    let mut change = None;
    let outcome = catalog
        .commit(author, None, |state| {
            let planned = plan(state, &files);
            let keeps = matches!(planned, PolicyChange::Keep { .. });
            let last = state.policies().last(state.head.sequence);
            change = Some(planned);
            if keeps || (files.is_empty() && last.is_none_or(|last| last.record.files.is_empty())) {
                return Ok(Intent::Done(()));
            }
            let record = PoliciesApplied {
                number: last.map_or(1, |last| last.record.number + 1),
                digest: digest(state.hash, &files),
                files: files.clone(),
                // Whoever was faster with the first policies had a key of its own.
                key: last.map_or_else(|| key.clone(), |last| last.record.key.clone()),
                reason: reason.map(str::to_owned),
            };
            Ok(Intent::Append(vec![record.into()]))
        })
        .await?;
    let change = change.ok_or_else(|| Error::Internal("policies were not planned".to_owned()))?;
    Ok(match outcome {
        Outcome::Committed(sequence) => (change, Some(sequence)),
        Outcome::Done(()) => (change, None),
    })
}

/// 244 random bits.
async fn new_key(catalog: &Catalog) -> Result<Object> {
    let parts: [CommitId; 2] = [environment::random(), environment::random()];
    let bytes = parts.iter().flat_map(|part| *part.uuid().as_bytes()).collect::<Vec<u8>>();
    // Minted, so that a fence of the sweep judges it by when it was made.
    let name: CommitId = environment::mint();
    catalog.put_object(format!("policies/{name}.key"), bytes.into()).await
}

/// The secret that values are hashed with.
///
/// # Errors
/// An object that is gone, or was changed.
pub async fn mask_key(catalog: &Catalog, applied: &AppliedPolicies) -> Result<MaskKey> {
    let bytes = catalog.object(&applied.record.key).await?;
    let key = <[u8; 32]>::try_from(bytes.as_ref())
        .map_err(|_| storage::Error::corrupt(&applied.record.key.path, "it is not a key of 32 bytes"))?;
    Ok(MaskKey::new(key))
}
