//! The check of a pack, from the pack alone.

use std::collections::BTreeMap;

use async_recursion::async_recursion;
use bytes::Bytes;
use feature::Sequence;
use lineage::graph::Node;
use serde::Serialize;
use serde_json::Value;

use super::contents::{Contents, Source, derive, packed};
use super::entries::{self, LOG};
use super::signing::PublicKey;
use super::statement::{FileDigest, STATEMENT, Sealed, Statement};
use super::{PUBLIC_KEY, damaged};
use crate::error::{Kind, Result};

/// What the check of a pack found.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// As the statement has it; empty where that cannot be read.
    pub subject: String,
    pub sequence: Option<Sequence>,
    pub entries: usize,
    pub files: usize,
    /// The key that signed it; none where it is not signed.
    pub signed_by: Option<String>,
    /// What is wrong, each with the file that it is in. Empty: all holds.
    pub problems: Vec<String>,
}

impl Verification {
    pub fn holds(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Checks a pack: the signature (by `key`, or by the key in the pack where none is given), the digest of every file, the chain of the
/// log, the objects that entries name, and that all that is stated follows from the log and the manifests.
#[async_recursion]
pub async fn verify(files: &BTreeMap<String, Vec<u8>>, key: Option<&PublicKey>) -> Verification {
    let mut found = Verification {
        subject: String::new(),
        sequence: None,
        entries: 0,
        files: files.len(),
        signed_by: None,
        problems: Vec::new(),
    };
    let sealed = match files.get(STATEMENT) {
        Some(bytes) => Sealed::open(bytes),
        None => Err(damaged(format!("`{STATEMENT}` is missing; this folder is no evidence"))),
    };
    let sealed = match sealed {
        Ok(sealed) => sealed,
        Err(error) => {
            found.problems.push(error.to_string());
            return found;
        }
    };
    let statement = &sealed.statement;
    let about = &statement.predicate.about;
    found.subject = format!("{} {}", about.kind.replace('_', " "), about.label);
    found.sequence = Some(statement.predicate.sequence);
    match check_signature(&sealed, files, key) {
        Ok(key) => found.signed_by = key.map(|key| key.id()),
        Err(error) => found.problems.push(error.to_string()),
    }
    check_files(statement, files, &mut found.problems);
    match derived(statement, files, &mut found).await {
        Ok(contents) => compare(statement, files, &contents, &mut found.problems),
        Err(error) => found.problems.push(error.to_string()),
    }
    found
}

fn check_signature(
    sealed: &Sealed,
    files: &BTreeMap<String, Vec<u8>>,
    key: Option<&PublicKey>,
) -> Result<Option<PublicKey>> {
    let own = match files.get(PUBLIC_KEY) {
        None => None,
        Some(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            let own =
                PublicKey::from_pem(&text).map_err(|error| damaged(format!("`{PUBLIC_KEY}`: {error}")))?;
            if own.pem().as_bytes() != bytes {
                return Err(damaged(format!("`{PUBLIC_KEY}` was altered: it is not written as a key is")));
            }
            Some(own)
        }
    };
    let key = match (key, own) {
        (Some(key), _) => key.clone(),
        (None, Some(own)) => own,
        (None, None) if sealed.is_signed() => {
            return Err(damaged(format!(
                "`{STATEMENT}` is signed, but `{PUBLIC_KEY}` is missing: give the signer's key by --public-key"
            )));
        }
        (None, None) => return Ok(None),
    };
    sealed.check(&key)?;
    Ok(Some(key))
}

/// Every file is as stated, and every file is stated.
fn check_files(statement: &Statement, files: &BTreeMap<String, Vec<u8>>, problems: &mut Vec<String>) {
    for (name, stated) in &statement.predicate.files {
        match files.get(name) {
            None => problems.push(format!("`{name}` is missing, and `{STATEMENT}` names it")),
            Some(bytes) => {
                let found = FileDigest::of(bytes);
                if found != *stated {
                    problems.push(format!(
                        "`{name}` was altered: it has {} bytes with SHA-256 {}, and `{STATEMENT}` says {} with {}",
                        found.bytes, found.sha256, stated.bytes, stated.sha256
                    ));
                }
            }
        }
    }
    for name in files.keys().filter(|name| *name != STATEMENT) {
        if !statement.predicate.files.contains_key(name) {
            problems.push(format!("`{name}` is not named by `{STATEMENT}`: it was added"));
        }
    }
}

/// What the pack must say, from its log and its objects.
async fn derived(
    statement: &Statement,
    files: &BTreeMap<String, Vec<u8>>,
    found: &mut Verification,
) -> Result<Contents> {
    let Some(lines) = files.get(LOG) else {
        return Err(damaged(format!("`{LOG}` is missing: without the log nothing can be checked")));
    };
    let entries: Vec<Bytes> = entries::split(lines)?;
    found.entries = entries.len();
    let state = entries::fold(&entries).await.map_err(|error| damaged(format!("`{LOG}`: {error}")))?;
    let stated = &statement.predicate;
    let head = [
        ("store", stated.store.to_string(), state.store.to_string()),
        ("sequence", stated.sequence.to_string(), state.head.sequence.to_string()),
        ("head", stated.head.to_string(), state.head.digest.to_string()),
        ("committed_at", stated.committed_at.clone(), state.head.committed_at.to_string()),
    ];
    for (what, stated, found) in head {
        if stated != found {
            return Err(damaged(format!(
                "`{LOG}` ends with {what} {found}, and `{STATEMENT}` says {stated}: an entry was altered, added or taken away"
            )));
        }
    }
    let about = match stated.about.kind.as_str() {
        "model_version" => stated.about.id.parse().ok().map(Node::ModelVersion),
        "training_set" => stated.about.id.parse().ok().map(Node::TrainingSet),
        _ => None,
    };
    let Some(about) = about else {
        return Err(damaged(format!(
            "`{STATEMENT}` is about the {} `{}`; evidence is of a model version or of a training set",
            stated.about.kind, stated.about.id
        )));
    };
    derive(&state, &about, Source::Pack(files)).await.map_err(|error| match error.kind() {
        Kind::NotFound | Kind::Invalid => damaged(format!("`{STATEMENT}` is about the wrong thing: {error}")),
        _ => error,
    })
}

fn compare(
    statement: &Statement,
    files: &BTreeMap<String, Vec<u8>>,
    contents: &Contents,
    problems: &mut Vec<String>,
) {
    let (_, _, label) = &contents.about;
    if statement.predicate.about.label != *label {
        let stated = &statement.predicate.about.label;
        problems.push(format!("`{STATEMENT}` is about `{stated}`, which the log calls `{label}`"));
    }
    if statement.subject != contents.subjects {
        let shown = |subjects: &[super::statement::Subject]| {
            let each = |subject: &super::statement::Subject| {
                let digests: Vec<String> =
                    subject.digest.iter().map(|(name, digest)| format!("{name}:{digest}")).collect();
                format!("{} {}", subject.name, digests.join(" "))
            };
            subjects.iter().map(each).collect::<Vec<_>>().join(", ")
        };
        problems.push(format!(
            "`{STATEMENT}` has the subjects {}; the log and the manifests say {}",
            shown(&statement.subject),
            shown(&contents.subjects)
        ));
    }
    for (name, table) in &contents.tables {
        let Some(bytes) = files.get(name) else {
            // What the statement names and the folder lacks has been told.
            if !statement.predicate.files.contains_key(name) {
                problems.push(format!("`{name}` is missing from the folder and from the statement"));
            }
            continue;
        };
        match serde_json::from_slice::<Value>(bytes) {
            Err(error) => problems.push(format!("`{name}` cannot be read: {error}")),
            Ok(stated) => {
                if let Some(difference) = difference(&stated, table, "") {
                    problems.push(format!("`{name}`{difference}"));
                }
            }
        }
    }
    let listed = statement.predicate.files.keys().filter(|name| name.starts_with("objects/"));
    for name in listed {
        if !contents.objects.keys().any(|path| packed(path) == *name) {
            problems.push(format!("`{name}` is not named by anything in the pack"));
        }
    }
}

/// The first place where what stands in a file is not what follows from the log. What only a later program derives is passed over.
fn difference(stated: &Value, derived: &Value, path: &str) -> Option<String> {
    match (stated, derived) {
        (Value::Object(stated), Value::Object(derived)) => stated.iter().find_map(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match derived.get(key) {
                Some(derived) => difference(value, derived, &path),
                None => Some(format!(": {path} follows from nothing in the log")),
            }
        }),
        (Value::Array(stated), Value::Array(derived)) => {
            if stated.len() != derived.len() {
                let (stated, derived) = (stated.len(), derived.len());
                return Some(format!(
                    ": {path}[] has {stated} rows, and the log and the manifests give {derived}"
                ));
            }
            stated.iter().zip(derived).enumerate().find_map(|(place, (stated, derived))| {
                difference(stated, derived, &format!("{path}[{place}]"))
            })
        }
        (stated, derived) if stated == derived => None,
        (stated, derived) => {
            Some(format!(": {path} is {stated}, and the log and the manifests say {derived}"))
        }
    }
}
