//! Checkpoints as objects: the folded state in Parquet files, and a description that names them by digest.
//!
//! ```text
//! checkpoints/{sequence:020}/{table}-{digest}.parquet     one table, of some range of the log
//! checkpoints/{sequence:020}/{digest}.json                the description, written last
//! ```
//!
//! Every object is named by the digest of its bytes. So two writers of one checkpoint write the same objects
//! or other ones, never one over another; an object that was damaged is found by its name, and mended by
//! whoever writes it again. A checkpoint is a copy of what the log says: one that is missing or damaged costs
//! time and nothing else.

mod part_bytes;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use feature::digest::{Digest, HashAlgorithm, hash};
use feature::{Sequence, StoreId};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store::Store;

pub use part_bytes::{PartBytes, open_part};

const FOLDER: &str = "checkpoints";

/// No JSON reader keeps a greater one.
const MAX_SEQUENCE: u64 = 1 << 53;

/// Bytes that a description may have at most: a million entries need some 100 KiB.
const MAX_DESCRIPTION_BYTES: u64 = 64 << 20;

/// What a checkpoint holds, and what it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The number of the fold's format: what the tables are and how the state digest is made.
    pub format: u32,
    pub store: StoreId,
    /// The last entry that was folded.
    pub sequence: Sequence,
    /// The digest of that entry, which links the checkpoint to the log.
    pub entry: Digest,
    /// The digest of the state after that entry.
    pub state: Digest,
    /// Name and version of the program that wrote it.
    pub program: String,
    /// Digests of the state's whole blocks of entries, in order.
    pub blocks: Vec<Digest>,
    /// Tables that hold what the log said, by ranges of it: without a gap, the first from entry 0.
    pub segments: Vec<Segment>,
    /// Tables that hold the state at `sequence` and change with it.
    pub whole: Vec<Part>,
    /// What the log says in fields that the writer did not know, and no table holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<Unread>,
}

/// A field of a kind of record that the writer of a checkpoint did not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unread {
    /// The kind of record.
    pub number: u32,
    /// Where it stands in the body: `/runs/*/site`.
    pub field: String,
    /// The first entry that has it.
    pub sequence: Sequence,
    /// The body that has it there, as JSON: a reader sees by it whether it knows the field.
    pub body: String,
}

/// What a range of the log said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    pub from: Sequence,
    /// The last entry of the range.
    pub until: Sequence,
    /// Tables without rows are left out.
    pub parts: Vec<Part>,
}

/// One table, in one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub table: String,
    /// The sequence of the checkpoint that it was written for, which may be an earlier one.
    pub written: Sequence,
    pub rows: u64,
    pub bytes: u64,
    pub digest: Digest,
}

impl Part {
    /// Where it lies.
    pub fn path(&self) -> Path {
        Path::from(format!("{}/{}-{}.parquet", folder(self.written), self.table, self.digest.hex()))
    }
}

/// The sequences that have a checkpoint or the beginning of one, newest first. A hint: a list may lag behind.
pub async fn list(store: &Store) -> Result<Vec<Sequence>> {
    let listed = store.objects().list_with_delimiter(Some(&Path::from(FOLDER))).await?;
    let mut sequences: Vec<Sequence> = listed.common_prefixes.iter().filter_map(sequence_of).collect();
    sequences.sort_unstable_by(|one, other| other.cmp(one));
    Ok(sequences)
}

/// The descriptions at a sequence that are whole; of each other one, why it is passed over.
pub async fn describe(store: &Store, sequence: Sequence) -> Result<(Vec<Checkpoint>, Vec<String>)> {
    let prefix = Path::from(folder(sequence));
    let listed = store.objects().list_with_delimiter(Some(&prefix)).await?;
    let (mut sound, mut passed_over) = (Vec::new(), Vec::new());
    let mut objects: Vec<_> =
        listed.objects.into_iter().filter(|object| object.location.extension() == Some("json")).collect();
    objects.sort_unstable_by(|one, other| one.location.cmp(&other.location));
    for object in objects {
        let path = object.location;
        if object.size > MAX_DESCRIPTION_BYTES {
            passed_over.push(format!("{path} has {} bytes", object.size));
            continue;
        }
        let bytes = match read(store, &path).await {
            Ok(bytes) => bytes,
            Err(error) => {
                passed_over.push(format!("{path} cannot be read: {error}"));
                continue;
            }
        };
        match decode(&path, sequence, &bytes) {
            Ok(checkpoint) => sound.push(checkpoint),
            Err(why) => passed_over.push(format!("{path} {why}")),
        }
    }
    Ok((sound, passed_over))
}

/// The bytes of a part, checked against its digest.
///
/// # Errors
/// `Corrupt` where they are not what was written, `Unavailable` where they cannot be had.
pub async fn read_part(store: &Store, part: &Part) -> Result<Bytes> {
    let path = part.path();
    let bytes = read(store, &path).await?;
    if bytes.len() as u64 != part.bytes || hash(part.digest.algorithm(), &bytes) != part.digest {
        return Err(Error::corrupt(path.as_ref(), "its bytes do not give the digest in its name"));
    }
    Ok(bytes)
}

/// Writes a table of the checkpoint of this sequence. It is durable when this returns.
pub async fn put_part(
    store: &Store,
    sequence: Sequence,
    table: &str,
    rows: u64,
    bytes: Bytes,
    algorithm: HashAlgorithm,
) -> Result<Part> {
    let digest = hash(algorithm, &bytes);
    let part = Part { table: table.to_owned(), written: sequence, rows, bytes: bytes.len() as u64, digest };
    store.objects().put(&part.path(), bytes.into()).await?;
    Ok(part)
}

/// Writes the description, after which readers find the checkpoint. All of its parts are durable by now.
pub async fn publish(store: &Store, checkpoint: &Checkpoint) -> Result<()> {
    let invalid = |why: String| Error::Invalid { what: format!("checkpoint {}", checkpoint.sequence), why };
    let bytes = serde_json::to_vec(checkpoint).map_err(|error| invalid(error.to_string()))?;
    let digest = hash(checkpoint.entry.algorithm(), &bytes);
    let path = Path::from(format!("{}/{}.json", folder(checkpoint.sequence), digest.hex()));
    store.objects().put(&path, bytes.into()).await?;
    Ok(())
}

async fn read(store: &Store, path: &Path) -> Result<Bytes> {
    Ok(store.objects().get(path).await?.bytes().await?)
}

/// A description, if its bytes give its name and say what it must.
fn decode(path: &Path, sequence: Sequence, bytes: &Bytes) -> Result<Checkpoint, String> {
    let name = path.filename().and_then(|name| name.strip_suffix(".json")).unwrap_or_default();
    let whole = HashAlgorithm::ALL.iter().any(|algorithm| hash(*algorithm, bytes).hex() == name);
    if !whole {
        return Err("is damaged: its bytes do not give the digest in its name".to_owned());
    }
    let checkpoint: Checkpoint = serde_json::from_slice(bytes)
        .map_err(|error| format!("has a form that this program does not know ({error})"))?;
    if checkpoint.sequence != sequence {
        return Err(format!("describes the state at {}, not at {sequence}", checkpoint.sequence));
    }
    let mut next = Sequence::ZERO;
    for segment in &checkpoint.segments {
        if segment.from != next || segment.until < segment.from || segment.until > sequence {
            return Err("has segments that are not the log from its beginning".to_owned());
        }
        next = segment.until.next();
    }
    if next != sequence.next() {
        return Err(format!("has segments that do not reach {sequence}"));
    }
    let mut parts = checkpoint.segments.iter().flat_map(|segment| &segment.parts).chain(&checkpoint.whole);
    let named = |part: &Part| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        !part.table.is_empty() && part.table.bytes().all(plain) && part.written <= sequence
    };
    match parts.find(|part| !named(part)) {
        Some(part) => Err(format!("has a part of the table `{}`, which cannot be", part.table)),
        None => Ok(checkpoint),
    }
}

fn folder(sequence: Sequence) -> String {
    format!("{FOLDER}/{:020}", sequence.0)
}

fn sequence_of(folder: &Path) -> Option<Sequence> {
    let digits = folder.as_ref().strip_prefix(FOLDER)?.strip_prefix('/')?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|sequence| *sequence <= MAX_SEQUENCE).map(Sequence)
}
