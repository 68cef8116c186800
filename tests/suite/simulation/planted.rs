//! Faults that are planted on purpose, each one that some system had: a checker that never fails proves nothing.

use bytes::Bytes;
use catalog::records::Swept;
use feature::digest::{HashAlgorithm, hash};
use object_store::path::Path;

/// What is wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// No put-if-absent: an entry replaces the one that is there.
    Overwrites,
    /// "It exists" is taken as a lost race, though the entry is the writer's own.
    ExistsTakenAsLost,
    /// After an ambiguous answer nobody reads back: it is taken for a failure.
    NoReadBack,
    /// An entry is there before the data that it names.
    DataAfterEntry,
    /// A put that stored half of the bytes counts as done.
    HalfWritten,
    /// An upload in parts of which half was stored counts as whole.
    HalfUploaded,
    /// A store that acknowledges and does not write.
    AcknowledgedUnwritten,
    /// Files that no entry names yet are swept, by age alone.
    SweptByAge,
    /// An entry is deleted, so that its number is given again.
    NumberReused,
    /// Who lost a race goes on with the state from before it.
    StaleAfterLoss,
    /// What was asked under a key is not looked up: a repeat is done again.
    KeyIgnored,
    /// What a producer has committed is not looked up: a part that is sent again is taken again.
    PartTakenAgain,
    /// An entry in the middle of the log is rewritten.
    Rewritten,
    /// A checkpoint names another state than the log gives.
    WrongCheckpoint,
    /// The fold does not refuse what a sweep took from a slow writer: its entry sets no fence.
    FenceUnchecked,
    /// What a compaction replaced is deleted, and no entry says that it may.
    SweptUnsaid,
    /// An entry that was altered on its way comes altered alike the next time, so that asking again shows nothing.
    AlteredAlike,
}

pub const PLANTS: [Plant; 17] = [
    Plant::Overwrites,
    Plant::ExistsTakenAsLost,
    Plant::NoReadBack,
    Plant::DataAfterEntry,
    Plant::HalfWritten,
    Plant::HalfUploaded,
    Plant::AcknowledgedUnwritten,
    Plant::SweptByAge,
    Plant::NumberReused,
    Plant::StaleAfterLoss,
    Plant::KeyIgnored,
    Plant::PartTakenAgain,
    Plant::Rewritten,
    Plant::WrongCheckpoint,
    Plant::FenceUnchecked,
    Plant::SweptUnsaid,
    Plant::AlteredAlike,
];

/// A description with another digest of its state, under the name that its bytes give; none for other objects.
pub fn wrong_checkpoint(location: &Path, bytes: &Bytes) -> Option<(Bytes, Path)> {
    let mut description: storage::Checkpoint = serde_json::from_slice(bytes).ok()?;
    description.state = description.entry;
    let forged = Bytes::from(serde_json::to_vec(&description).ok()?);
    let (folder, _) = location.as_ref().rsplit_once('/')?;
    let digest = hash(HashAlgorithm::Blake3, &forged);
    Some((forged, Path::from(format!("{folder}/{}.json", digest.hex()))))
}

/// What the entry of a sweep does not say, though it goes by it.
pub fn spoiled(plant: Option<Plant>, record: &mut Swept) {
    match plant {
        Some(Plant::FenceUnchecked) => {
            record.before = "00000000-0000-0000-0000-000000000000".parse().unwrap();
        }
        Some(Plant::SweptUnsaid) => record.compacted = None,
        _ => {}
    }
}

/// Makes an entry one of another commit.
pub fn of_another(entry: &mut [u8]) {
    let name = b"\"commit\":\"";
    if let Some(at) = entry.windows(name.len()).position(|window| window == name) {
        let digit = &mut entry[at + name.len()];
        *digit = if *digit == b'0' { b'1' } else { b'0' };
    }
}
