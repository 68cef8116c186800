//! What lies in a store: what of it goes, and why the rest stays.

use std::collections::BTreeMap;

use async_recursion::async_recursion;
use catalog::State;
use feature::{Horizon, Sequence, Span, Timestamp};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use storage::Store;
use storage::store::Unfinished;

use super::Bounds;
use super::checkpoints;
use super::kinds::{FOLDERS, Kind, id_of};
use super::named::{KeptSpine, Named};
use crate::error::{Error, Result};

/// Something that may go.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub kind: Kind,
    pub bytes: u64,
    pub why: Why,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Object(Path),
    Unfinished(Unfinished),
}

/// Why something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// No entry names it.
    Unnamed(Horizon),
    /// Its rows lie in other files since this compaction.
    Replaced(Sequence),
    /// All of its rows are too old to count, and nothing that is kept needs them. Whether an earlier sweep said so.
    Expired { said: bool },
    /// Nobody could ask for it by its digest since then.
    Dropped(Timestamp),
    /// It is a copy of what the log says, and there are newer ones.
    OldCheckpoint,
    /// Whoever wrote it has gone, and nobody looks at it.
    Left,
}

impl Why {
    pub fn text(self) -> &'static str {
        match self {
            Self::Unnamed(_) => "no entry names it",
            Self::Replaced(_) => "a compaction replaced it",
            Self::Expired { .. } => {
                "its view keeps such old rows no longer, and nothing that is kept needs them"
            }
            Self::Dropped(_) => "no training set was made of it, and nobody put it up again",
            Self::OldCheckpoint => "there are two newer checkpoints",
            Self::Left => "whoever wrote it was stopped",
        }
    }
}

impl Candidate {
    /// None of a file that never became an object.
    pub fn object(&self) -> Option<Path> {
        match &self.place {
            Place::Object(path) => Some(path.clone()),
            Place::Unfinished(_) => None,
        }
    }

    pub fn unfinished(&self) -> Option<Unfinished> {
        match &self.place {
            Place::Object(_) => None,
            Place::Unfinished(file) => Some(file.clone()),
        }
    }

    /// Whether an earlier sweep condemned it, or nobody could ever name it.
    pub fn is_condemned_by(&self, state: &State) -> bool {
        match self.why {
            Why::Unnamed(id) => state.sweeps().condemns(id),
            Why::Replaced(at) => Some(at) <= state.sweeps().compacted(),
            Why::Expired { said } => said,
            Why::Dropped(_) | Why::OldCheckpoint | Why::Left => true,
        }
    }
}

/// How many of something, and their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub objects: u64,
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// All that was looked at.
#[derive(Default)]
pub(super) struct Listed {
    pub condemned: Vec<Candidate>,
    /// What stays, by kind and by what keeps it.
    pub kept: BTreeMap<(Kind, String), Count>,
}

impl Listed {
    #[async_recursion]
    pub async fn of(
        store: &Store,
        named: &Named,
        bounds: Bounds,
        now: Timestamp,
        grace: Span,
    ) -> Result<Self> {
        let mut found = Self::default();
        let objects = store.objects();
        for (folder, kind) in FOLDERS {
            let mut listed = objects.list(Some(&Path::from(folder)));
            while let Some(object) = listed.try_next().await.map_err(unavailable)? {
                found.judge(kind, object, named, bounds);
            }
        }
        let until = Timestamp(now.micros().saturating_sub(grace.micros()));
        let is_old = |object: &ObjectMeta| object.last_modified.timestamp_micros() <= until.micros();
        let mut probes = objects.list(Some(&Path::from("probe")));
        while let Some(object) = probes.try_next().await.map_err(unavailable)? {
            if is_old(&object) {
                found.goes(Kind::Probe, Why::Left, object);
            } else {
                found.stays(Kind::Probe, "younger than the grace", object.size);
            }
        }
        let checkpoints = checkpoints::old(store).await?;
        for object in checkpoints.old {
            if is_old(&object) {
                found.goes(Kind::Checkpoint, Why::OldCheckpoint, object);
            } else {
                found.stays(Kind::Checkpoint, "younger than the grace", object.size);
            }
        }
        for object in checkpoints.kept {
            found.stays(Kind::Checkpoint, checkpoints.why, object.size);
        }
        for file in store.unfinished().await.map_err(catalog::Error::from)? {
            if file.modified <= until {
                let (kind, bytes, why) = (Kind::Unfinished, file.bytes, Why::Left);
                found.condemned.push(Candidate { kind, bytes, why, place: Place::Unfinished(file) });
            } else {
                found.stays(Kind::Unfinished, "younger than the grace", file.bytes);
            }
        }
        Ok(found)
    }

    fn judge(&mut self, kind: Kind, object: ObjectMeta, named: &Named, bounds: Bounds) {
        let path = object.location.as_ref();
        if let Some(kept) = named.kept_spine(path).filter(|_| !named.names(path)) {
            let size = object.size;
            return match kept {
                KeptSpine::Dropped(at) if at <= bounds.dropped => {
                    self.goes(Kind::KeptSpine, Why::Dropped(at), object);
                }
                KeptSpine::Dropped(_) => {
                    self.stays(
                        Kind::KeptSpine,
                        "it was dropped, and a read that began before may need it",
                        size,
                    );
                }
                KeptSpine::Kept => {
                    self.stays(Kind::KeptSpine, "a client put it up and may ask for it by its digest", size);
                }
            };
        }
        if named.names(path) {
            match named.replaced(path) {
                Some(at) if Some(at) <= bounds.compacted => self.goes(kind, Why::Replaced(at), object),
                _ if named.expired(path).is_some() => {
                    let said = named.expired(path) == Some(true);
                    self.goes(kind, Why::Expired { said }, object);
                }
                Some(_) => self.stays(kind, "a compaction replaced it less than the grace ago", object.size),
                None => self.stays(kind, keeper(kind), object.size),
            }
            return;
        }
        match id_of(path) {
            Some(id) if id < bounds.before => self.goes(kind, Why::Unnamed(id), object),
            Some(_) => self.stays(kind, "no entry names it, and it is younger than the grace", object.size),
            None => self.stays(kind, "its name has no id, so nobody knows what it is", object.size),
        }
    }

    fn goes(&mut self, kind: Kind, why: Why, object: ObjectMeta) {
        let (bytes, place) = (object.size, Place::Object(object.location));
        self.condemned.push(Candidate { kind, bytes, why, place });
    }

    fn stays(&mut self, kind: Kind, why: &str, bytes: u64) {
        self.kept.entry((kind, why.to_owned())).or_default().add(bytes);
    }
}

/// What keeps what is named.
fn keeper(kind: Kind) -> &'static str {
    match kind {
        Kind::Data => "a batch or a compaction in force lies in it",
        Kind::Manifest => "an entry names it; of what was replaced it says what was first written",
        Kind::Spine => "a training set is made again of it",
        _ => "an entry names it",
    }
}

fn unavailable(error: object_store::Error) -> Error {
    catalog::Error::from(storage::Error::from(error)).into()
}
