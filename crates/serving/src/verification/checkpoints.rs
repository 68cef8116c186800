//! Checkpoints: descriptions, the tables that they name, and the states that these hold.

use std::collections::{BTreeMap, BTreeSet};

use async_recursion::async_recursion;
use catalog::checkpoint;
use feature::Sequence;
use feature::digest::{HashAlgorithm, hash};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use storage::checkpoint::{self as objects, Checkpoint, Part};
use storage::{Checkpoint as Description, Store};

use super::inventory::{Inventory, entry_object};
use super::objects::Checker;
use super::report::{Fault, Harm, StoreVerification};
use super::unavailable;
use crate::error::Result;

/// Tables that are read at a time.
const AT_A_TIME: usize = 4;

/// The descriptions that are whole, and what is to be said of others.
pub(super) struct Descriptions {
    by_sequence: BTreeMap<Sequence, Vec<Description>>,
    pub faults: Vec<Fault>,
    pub notes: Vec<String>,
}

impl Descriptions {
    #[async_recursion]
    pub async fn read(store: &Store, inventory: &Inventory) -> Result<Self> {
        let mut found = Self { by_sequence: BTreeMap::new(), faults: Vec::new(), notes: Vec::new() };
        for sequence in objects::list(store).await.map_err(catalog::Error::from)? {
            let (sound, _) = objects::describe(store, sequence).await.map_err(catalog::Error::from)?;
            let names: Vec<String> = sound.iter().map(name_of).collect();
            for name in &names {
                inventory.name(name);
            }
            found.others(store, inventory, sequence, &names).await?;
            for description in sound {
                let Some(why) = not_comparable(&description) else {
                    found.by_sequence.entry(sequence).or_default().push(description);
                    continue;
                };
                found.notes.push(format!("{}: {why}: it was not compared", name_of(&description)));
                // What it names is no orphan.
                for part in parts(&description) {
                    inventory.name(part.path().as_ref());
                }
            }
        }
        Ok(found)
    }

    /// The descriptions that are not whole: damaged, or of a form to come.
    async fn others(
        &mut self,
        store: &Store,
        inventory: &Inventory,
        sequence: Sequence,
        sound: &[String],
    ) -> Result<()> {
        let folder = Path::from(format!("checkpoints/{:020}", sequence.0));
        let listed = store.objects().list_with_delimiter(Some(&folder)).await.map_err(unavailable)?;
        for object in listed.objects {
            let path = object.location;
            if path.extension() != Some("json") || sound.iter().any(|name| *name == path.as_ref()) {
                continue;
            }
            inventory.name(path.as_ref());
            let bytes = match store.objects().get(&path).await {
                Ok(found) => found.bytes().await.map_err(unavailable)?,
                Err(object_store::Error::NotFound { .. }) => continue,
                Err(error) => return Err(unavailable(error)),
            };
            let name = path.filename().and_then(|name| name.strip_suffix(".json")).unwrap_or_default();
            if HashAlgorithm::ALL.iter().any(|algorithm| hash(*algorithm, &bytes).hex() == name) {
                self.notes
                    .push(format!("{path} has a form that this program does not know: it was not compared"));
            } else {
                let why = "it is damaged: its bytes do not give the digest in its name";
                self.faults.push(checkpoint_fault(path.as_ref(), why));
            }
        }
        Ok(())
    }

    /// Those of the state right after an entry.
    pub fn of_entry(&self, sequence: Sequence) -> impl Iterator<Item = &Description> {
        self.by_sequence.get(&sequence).into_iter().flatten()
    }

    pub fn newest(&self) -> Option<Sequence> {
        self.by_sequence.keys().next_back().copied()
    }

    pub fn all(&self) -> impl Iterator<Item = &Description> {
        self.by_sequence.values().flatten()
    }

    /// Where a description lies.
    pub fn object_of(&self, checkpoint: &Description) -> String {
        name_of(checkpoint)
    }
}

/// What a program of another version wrote, of which this one cannot tell whether it is right; none where it can.
fn not_comparable(description: &Description) -> Option<String> {
    let (format, known) = (description.format, checkpoint::FORMAT);
    if !checkpoint::is_known(format) {
        return Some(format!("it has format {format} of the fold, and this program knows {known}"));
    }
    checkpoint::says_less(description)
}

/// A description is named by the digest of its bytes, which are what is written of it.
fn name_of(checkpoint: &Checkpoint) -> String {
    let bytes = serde_json::to_vec(checkpoint).unwrap_or_default();
    let digest = hash(checkpoint.entry.algorithm(), &bytes);
    format!("checkpoints/{:020}/{}.json", checkpoint.sequence.0, digest.hex())
}

pub(super) fn parts(checkpoint: &Checkpoint) -> impl Iterator<Item = &Part> {
    checkpoint.segments.iter().flat_map(|segment| &segment.parts).chain(&checkpoint.whole)
}

fn checkpoint_fault(object: &str, why: impl Into<String>) -> Fault {
    Fault::new(object, why)
        .harming(Harm::Opening)
        .advising("`lineament verify --mend` removes the checkpoint; the log gives it again")
}

/// Looks at every table that a description names: that it is there, and, where contents are read, its digest.
pub(super) async fn verify_parts(
    checker: &Checker,
    descriptions: &Descriptions,
    report: &mut StoreVerification,
) -> Result<()> {
    let mut all: BTreeMap<String, Part> = BTreeMap::new();
    for part in descriptions.all().flat_map(parts) {
        all.insert(part.path().to_string(), part.clone());
    }
    let mut looked = futures::stream::iter(all)
        .map(|(path, part)| async move {
            let (bytes, digest) = (part.bytes, part.digest);
            Ok::<_, crate::Error>((checker.whole(&path, bytes, digest).await?.err(), path))
        })
        .buffered(AT_A_TIME);
    while let Some((wrong, path)) = looked.try_next().await? {
        report.faults.extend(wrong.map(|why| checkpoint_fault(&path, why)));
    }
    // A later entry may be missing, or all of the log.
    let head = report.head;
    let next = head.map_or(Sequence::ZERO, Sequence::next);
    for checkpoint in descriptions.all().filter(|checkpoint| Some(checkpoint.sequence) > head) {
        let why = format!(
            "it is of entry {}, and the log was cut: {} is missing",
            checkpoint.sequence,
            entry_object(next)
        );
        // Not to be mended: it is a trace of what was lost.
        report.faults.push(
            Fault::new(name_of(checkpoint), why).harming(Harm::Log { sequence: next }).advising(
                "restore the entries that are missing from a copy of the store; write nothing before",
            ),
        );
    }
    Ok(())
}

/// Whether the tables of each checkpoint hold the state that its description names; but for those of later programs.
pub(super) async fn verify_states(
    store: &Store,
    descriptions: &Descriptions,
    later: &BTreeSet<String>,
    report: &mut StoreVerification,
) -> Result<()> {
    for description in descriptions.all() {
        let known = |part: &Part| report.faults.iter().any(|fault| fault.object == part.path().as_ref());
        if later.contains(&name_of(description)) || parts(description).any(known) {
            continue;
        }
        let why = match checkpoint::load(store, description).await {
            Ok(state) => {
                let held = checkpoint::state_digest(&state)?;
                if held == description.state {
                    continue;
                }
                format!("it names the state {}, and its tables hold {held}", description.state)
            }
            Err(why) => format!("its tables hold no state: {why}"),
        };
        report.faults.push(checkpoint_fault(&name_of(description), why));
    }
    Ok(())
}
