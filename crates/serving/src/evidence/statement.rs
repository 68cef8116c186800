//! What a pack states: an in-toto Statement in a DSSE envelope, `statement.json`.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use feature::digest::{ContentDigest, Digest, HashAlgorithm, hash};
use feature::{Sequence, StoreId};
use serde::{Deserialize, Serialize};

use super::signing::{PublicKey, SigningKey};
use crate::error::{Error, Kind, Result};

/// The file of a pack that holds the statement.
pub const STATEMENT: &str = "statement.json";

pub const FORMAT: u32 = 1;
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "urn:lineament:evidence:1";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    pub subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    pub predicate: Predicate,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// `training_sets/<id>`, `models/<name>/<version>`
    pub name: String,
    pub digest: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predicate {
    pub format: u32,
    pub about: About,
    pub store: StoreId,
    /// The newest entry of the log that the pack knows, its digest, and when it was committed.
    pub sequence: Sequence,
    pub head: Digest,
    pub committed_at: String,
    /// Every other file of the pack.
    pub files: BTreeMap<String, FileDigest>,
}

/// What the pack is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// `model_version` or `training_set`
    pub kind: String,
    pub id: String,
    pub label: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    pub bytes: u64,
    pub sha256: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    keyid: String,
    sig: String,
}

impl FileDigest {
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, sha256: sha256(bytes) }
    }
}

/// In hexadecimal digits, as in-toto has them.
pub fn sha256(bytes: &[u8]) -> String {
    hash(HashAlgorithm::Sha256, bytes).hex()
}

impl Subject {
    /// A training set, by its content. The algorithm's name in a statement has no colon: `lmt1_blake3`.
    pub fn training_set(id: impl std::fmt::Display, digest: &ContentDigest) -> Self {
        let text = digest.to_string();
        let (algorithm, digits) = text.rsplit_once(':').unwrap_or(("lmt1", &text));
        let digest = BTreeMap::from([(algorithm.replace(':', "_"), digits.to_owned())]);
        Self { name: format!("training_sets/{id}"), digest }
    }

    /// A model version, by the bytes of what the store knows of it: the model's own bytes are elsewhere.
    pub fn model_version(label: &str, record: &[u8]) -> Self {
        let digest = BTreeMap::from([("lineament_record_sha256".to_owned(), sha256(record))]);
        Self { name: format!("models/{label}"), digest }
    }
}

impl Statement {
    pub fn new(subject: Vec<Subject>, predicate: Predicate) -> Self {
        let (kind, predicate_type) = (STATEMENT_TYPE.to_owned(), PREDICATE_TYPE.to_owned());
        Self { kind, subject, predicate_type, predicate }
    }

    /// The envelope's bytes, signed if there is a key.
    pub fn seal(&self, key: Option<&SigningKey>) -> Result<Vec<u8>> {
        let payload = json(self)?;
        let signed = signed_bytes(&payload);
        let signatures =
            key.map(|key| Signature { keyid: key.public().id(), sig: STANDARD.encode(key.sign(&signed)) });
        let envelope = Envelope {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: STANDARD.encode(payload),
            signatures: signatures.into_iter().collect(),
        };
        let mut bytes = json(&envelope)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// A statement as it was found.
#[derive(Debug)]
pub struct Sealed {
    pub statement: Statement,
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

impl Sealed {
    /// Opens an envelope. What is in it must stand there byte for byte as this format writes it, so that nothing in it can be
    /// changed and mean the same.
    pub fn open(bytes: &[u8]) -> Result<Self> {
        let wrong = |why: String| Error::new(Kind::Damaged, format!("`{STATEMENT}` {why}"));
        let unreadable = |error: serde_json::Error| wrong(format!("cannot be read: {error}"));
        let envelope: Envelope = serde_json::from_slice(bytes).map_err(unreadable)?;
        let mut again = json(&envelope)?;
        again.push(b'\n');
        if again != bytes {
            return Err(wrong("was altered: it is not written as a pack's statement is".to_owned()));
        }
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(wrong(format!("holds a `{}`, not an in-toto statement", envelope.payload_type)));
        }
        let payload = STANDARD
            .decode(&envelope.payload)
            .map_err(|error| wrong(format!("holds a payload that is no base64: {error}")))?;
        let statement: Statement = serde_json::from_slice(&payload).map_err(unreadable)?;
        if statement.kind != STATEMENT_TYPE || statement.predicate_type != PREDICATE_TYPE {
            return Err(wrong(format!(
                "is a `{}` about `{}`; this program knows `{PREDICATE_TYPE}`: a newer Lineament may check it",
                statement.kind, statement.predicate_type
            )));
        }
        if statement.predicate.format != FORMAT {
            let format = statement.predicate.format;
            return Err(wrong(format!("has format {format}, and this program knows {FORMAT}")));
        }
        if json(&statement)? != payload {
            return Err(wrong("was altered: its payload is not written as a statement is".to_owned()));
        }
        Ok(Self { statement, payload, signatures: envelope.signatures })
    }

    pub fn is_signed(&self) -> bool {
        !self.signatures.is_empty()
    }

    /// Checks that this key, and no other, signed the statement.
    pub fn check(&self, key: &PublicKey) -> Result<()> {
        let wrong = |why: String| Err(Error::new(Kind::Damaged, format!("`{STATEMENT}` {why}")));
        let [signature] = self.signatures.as_slice() else {
            return match self.signatures.len() {
                0 => wrong("is not signed".to_owned()),
                several => wrong(format!("has {several} signatures; a pack has one")),
            };
        };
        if signature.keyid != key.id() {
            return wrong(format!("is signed by the key {}, not by {}", signature.keyid, key.id()));
        }
        let Ok(bytes) = STANDARD.decode(&signature.sig) else {
            return wrong("has a signature that is no base64".to_owned());
        };
        if !key.has_signed(&signed_bytes(&self.payload), &bytes) {
            return wrong("was altered: its signature is not of what it says".to_owned());
        }
        Ok(())
    }
}

/// What DSSE signs: its pre-authentication encoding.
fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::internal("a statement cannot be written", error))
}
