//! What an object is, by its name.

use feature::{Horizon, Id};

/// Kinds of objects that a sweep looks at. Of all others it knows nothing, and leaves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Data,
    Manifest,
    Body,
    Reads,
    Quarantine,
    Profile,
    TrainingSet,
    Spine,
    /// A spine that was put up by itself, to be asked for by its digest.
    KeptSpine,
    Checkpoint,
    /// A key of the proof of put-if-absent.
    Probe,
    /// A local file that never became an object.
    Unfinished,
}

/// The folders whose objects have an id, and what lies in each.
pub(super) const FOLDERS: [(&str, Kind); 8] = [
    ("data", Kind::Data),
    ("manifests", Kind::Manifest),
    ("bodies", Kind::Body),
    ("reads", Kind::Reads),
    ("quarantine", Kind::Quarantine),
    ("profiles", Kind::Profile),
    ("training_sets", Kind::TrainingSet),
    ("spines", Kind::Spine),
];

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Manifest => "manifest",
            Self::Body => "body",
            Self::Reads => "reads",
            Self::Quarantine => "quarantine",
            Self::Profile => "profile",
            Self::TrainingSet => "training_set",
            Self::Spine => "spine",
            Self::KeptSpine => "kept_spine",
            Self::Checkpoint => "checkpoint",
            Self::Probe => "probe",
            Self::Unfinished => "unfinished",
        }
    }
}

/// The id in a name, of a file or of the folder that it lies in; none where there is none, or none that has a time in it.
pub(super) fn id_of(path: &str) -> Option<Horizon> {
    let named = |part: &str| part.split('.').next()?.parse().ok();
    let id: Horizon = path.rsplit('/').find_map(named)?;
    (id.uuid().get_version_num() == 7).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_names() {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        for path in [
            format!("data/019f/v1/all/b0of1/{id}.parquet"),
            format!("quarantine/{id}/rejected.parquet"),
            format!("bodies/{id}.json"),
        ] {
            assert_eq!(id_of(&path).map(|id| id.to_string()).as_deref(), Some(id), "{path}");
        }
        // What is random says nothing of when.
        assert_eq!(id_of("probe/f47ac10b-58cc-4372-a567-0e02b2c3d479"), None);
        assert_eq!(id_of("spines/lmt1-blake3-00ff.parquet"), None);
    }
}
