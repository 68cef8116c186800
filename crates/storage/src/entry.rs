//! An entry of the log and its bytes. `docs/format.md` specifies them; `testdata/golden/log-*.json` pins them.

use bytes::Bytes;
use feature::digest::{Digest, HashAlgorithm, hash};
use feature::{CommitId, Sequence, StoreId, Timestamp};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::log::object_name;

/// The format of entries that this program writes; it reads no later one.
pub const FORMAT: u32 = 1;

/// Bytes that an entry may have at most. What is larger belongs in an object beside the log.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The greatest integer that every JSON reader keeps.
const MAX_INTEGER: u64 = 1 << 53;

/// One atomic change of a store. Its fields stand in the bytes in this order; optional ones are left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    pub format: u32,
    pub store: StoreId,
    pub sequence: Sequence,
    /// The digest of the exact bytes of the entry before; `None` in the first alone.
    pub previous: Option<Digest>,
    /// Random, so that a writer tells its own entry from another's.
    pub commit: CommitId,
    /// Later than that of the entry before, whatever the writer's clock said.
    pub committed_at: Timestamp,
    /// The login of whoever asked.
    pub principal: String,
    /// Name and version of the program that wrote it.
    pub program: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiment: Option<String>,
    pub records: Vec<RawRecord>,
}

/// The idempotency key of a request, bound to the digest of what it asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestKey {
    pub key: String,
    pub digest: Digest,
}

/// A record whose meaning is not this crate's to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRecord {
    #[serde(rename = "type")]
    pub number: u32,
    pub body: Value,
}

impl Entry {
    /// The entry's bytes: compact JSON in UTF-8.
    ///
    /// # Errors
    /// `Invalid` for an integer above 2^53, for more than [`MAX_BYTES`], another format than [`FORMAT`], or a first entry
    /// that names one before it (or a later that names none).
    pub fn encode(&self) -> Result<Bytes> {
        let invalid = |why: String| Error::Invalid { what: format!("log entry {}", self.sequence), why };
        if self.format != FORMAT {
            return Err(invalid(format!("its format is {}, and this program writes {FORMAT}", self.format)));
        }
        if let Some(why) = self.misplaced() {
            return Err(invalid(why));
        }
        let bytes = serde_json::to_vec(self).map_err(|error| invalid(error.to_string()))?;
        if let Some(number) = large_integer(&bytes) {
            return Err(invalid(format!(
                "it holds the integer {number}, and JSON readers keep none above 2^53"
            )));
        }
        if bytes.len() > MAX_BYTES {
            return Err(invalid(format!("it has {} bytes, and {MAX_BYTES} are allowed", bytes.len())));
        }
        Ok(bytes.into())
    }

    /// Reads the bytes found where the entry with this sequence belongs.
    ///
    /// # Errors
    /// `Newer` for a later format or a field that this program does not know, `Corrupt` for anything else that
    /// is not such an entry. Both name the object.
    pub fn decode(sequence: Sequence, bytes: &[u8]) -> Result<Self> {
        let corrupt = |why: String| Error::corrupt_entry(sequence, why);
        let newer = |why: String| Error::Newer { object: object_name(sequence), why };
        let unreadable =
            |error: serde_json::Error| corrupt(format!("log entry {sequence} cannot be read: {error}"));

        let format = serde_json::from_slice::<Format>(bytes).map_err(unreadable)?.format;
        if format > u64::from(FORMAT) {
            return Err(newer(format!("its format is {format}, and this program reads up to {FORMAT}")));
        }
        if format != u64::from(FORMAT) {
            return Err(corrupt(format!("log entry {sequence} claims format {format}, which never was")));
        }
        if let Some(number) = large_integer(bytes) {
            return Err(corrupt(format!(
                "log entry {sequence} holds the integer {number}, and 2^53 is the greatest allowed"
            )));
        }
        let stored: Stored = serde_json::from_slice(bytes).map_err(unreadable)?;
        if let Some(field) = stored.unknown.keys().next() {
            return Err(newer(format!("it has the field `{field}`, which this program does not know")));
        }
        let entry = Self {
            format: FORMAT,
            store: stored.store,
            sequence: stored.sequence,
            previous: stored.previous,
            commit: stored.commit,
            committed_at: stored.committed_at,
            principal: stored.principal,
            program: stored.program,
            request: stored.request,
            run: stored.run,
            experiment: stored.experiment,
            records: stored.records,
        };
        if entry.sequence != sequence {
            return Err(corrupt(format!(
                "log entry {sequence} was altered: it says that it is entry {}",
                entry.sequence
            )));
        }
        match entry.misplaced() {
            Some(why) => Err(corrupt(format!("log entry {sequence} was altered: {why}"))),
            None => Ok(entry),
        }
    }

    /// The hash of the chain that this entry is in: the one that the store was created with.
    ///
    /// # Errors
    /// `Corrupt` where the first entry names a hash that this program does not know.
    pub(crate) fn algorithm(&self) -> Result<HashAlgorithm> {
        if let Some(previous) = &self.previous {
            return Ok(previous.algorithm());
        }
        match self.records.first().and_then(|record| record.body.get("hash")) {
            None => Ok(HashAlgorithm::Blake3),
            Some(name) => HashAlgorithm::deserialize(name).map_err(|error| {
                Error::corrupt_entry(self.sequence, format!("the store's hash is unknown: {error}"))
            }),
        }
    }

    fn misplaced(&self) -> Option<String> {
        match (self.sequence == Sequence::ZERO, self.previous.is_none()) {
            (true, false) => Some("it is the first entry and names one before it".to_owned()),
            (false, true) => Some("it does not name the digest of the entry before it".to_owned()),
            _ => None,
        }
    }
}

/// The digest that stands for an entry: of its exact bytes.
pub fn digest(algorithm: HashAlgorithm, bytes: &[u8]) -> Digest {
    hash(algorithm, bytes)
}

/// Whose commit these bytes are, of whatever format; `None` where they are no entry.
pub(crate) fn commit_of(bytes: &[u8]) -> Option<CommitId> {
    #[derive(Deserialize)]
    struct Commit {
        commit: CommitId,
    }
    serde_json::from_slice::<Commit>(bytes).ok().map(|found| found.commit)
}

#[derive(Deserialize)]
struct Format {
    format: u64,
}

/// An entry as it is read; apart from [`Entry`] so that nothing that is missing or unknown passes.
#[derive(Deserialize)]
struct Stored {
    #[serde(rename = "format")]
    _format: IgnoredAny,
    store: StoreId,
    sequence: Sequence,
    #[serde(deserialize_with = "null_or")]
    previous: Option<Digest>,
    commit: CommitId,
    committed_at: Timestamp,
    principal: String,
    program: String,
    #[serde(default, deserialize_with = "never_null")]
    request: Option<RequestKey>,
    #[serde(default, deserialize_with = "never_null")]
    run: Option<String>,
    #[serde(default, deserialize_with = "never_null")]
    experiment: Option<String>,
    records: Vec<RawRecord>,
    #[serde(flatten)]
    unknown: serde_json::Map<String, Value>,
}

/// With this a missing field is an error, as it is not for a plain `Option`.
fn null_or<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

/// What is absent is left out, and never null.
fn never_null<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The first number of this JSON text that is written as an integer and is above 2^53 or below its negative. Told by
/// its text, since a parser makes a float of one that fits no integer.
fn large_integer(json: &[u8]) -> Option<String> {
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => {
                at += 1;
                while let Some(&byte) = json.get(at) {
                    match byte {
                        b'"' => break,
                        b'\\' => at += 2,
                        _ => at += 1,
                    }
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let rest = json.get(at..).unwrap_or_default();
                let length = rest
                    .iter()
                    .position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
                    .unwrap_or(rest.len());
                let (number, _) = rest.split_at(length);
                let digits = number.strip_prefix(b"-").unwrap_or(number);
                if digits.iter().all(u8::is_ascii_digit) {
                    let value = digits.iter().fold(0u64, |value, digit| {
                        value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
                    });
                    if value > MAX_INTEGER {
                        return Some(String::from_utf8_lossy(number).into_owned());
                    }
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests;
