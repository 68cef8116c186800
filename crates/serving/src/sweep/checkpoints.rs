//! Checkpoints that are older than the newest two. A checkpoint is a copy of what the log says, so that none is condemned by an entry; two are
//! kept so that whoever reads one while another is written finds it whole.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use storage::Store;
use storage::checkpoint::{self, Part};

use crate::error::Result;

/// Sequences of which the checkpoints stay.
const KEPT: usize = 2;

/// The objects of checkpoints.
pub(super) struct Checkpoints {
    pub old: Vec<ObjectMeta>,
    pub kept: Vec<ObjectMeta>,
    pub why: &'static str,
}

/// Which are of no use. Descriptions come first, so that no reader finds one of which a table is gone.
pub(super) async fn old(store: &Store) -> Result<Checkpoints> {
    let sequences = checkpoint::list(store).await.map_err(catalog::Error::from)?;
    let mut needed: BTreeSet<String> = BTreeSet::new();
    let mut sound = 0;
    let mut unreadable = false;
    for sequence in &sequences {
        if sound == KEPT {
            break;
        }
        let (found, passed_over) =
            checkpoint::describe(store, *sequence).await.map_err(catalog::Error::from)?;
        unreadable |= !passed_over.is_empty();
        sound += usize::from(!found.is_empty());
        let folder = format!("checkpoints/{:020}/", sequence.0);
        if !found.is_empty() {
            needed.insert(folder);
        }
        for description in found {
            let segments = description.segments.iter().flat_map(|segment| &segment.parts);
            needed.extend(segments.chain(&description.whole).map(|part: &Part| part.path().to_string()));
        }
    }
    let mut all: Vec<ObjectMeta> = store
        .objects()
        .list(Some(&Path::from("checkpoints")))
        .try_collect()
        .await
        .map_err(|error| crate::Error::from(catalog::Error::from(storage::Error::from(error))))?;
    // What a description of another form names is not known.
    if unreadable || sound < KEPT {
        let why = if unreadable {
            "one of the newest cannot be read: `lineament verify --mend` removes what is damaged"
        } else {
            "it is one of the newest two"
        };
        return Ok(Checkpoints { old: Vec::new(), kept: all, why });
    }
    all.sort_by_key(|object| object.location.extension() != Some("json"));
    let is_needed = |object: &ObjectMeta| {
        let path = object.location.as_ref();
        let folder = path.rfind('/').map(|end| &path[..=end]).unwrap_or_default();
        needed.contains(path) || needed.contains(folder)
    };
    let (kept, old) = all.into_iter().partition(is_needed);
    Ok(Checkpoints { old, kept, why: "the newest two need it" })
}
