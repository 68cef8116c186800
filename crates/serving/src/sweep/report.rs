//! What a sweep says of itself.

use std::collections::BTreeMap;

use feature::{Horizon, Sequence, Span};
use serde::Serialize;

use super::Bounds;
use super::kinds::Kind;
use super::listed::{Count, Listed};

/// What went, or would go.
#[derive(Clone, Debug, Serialize)]
pub struct SweepReport {
    pub dry_run: bool,
    pub grace: Span,
    /// What nobody names goes where its id is less.
    pub before: Horizon,
    /// What a compaction up to this one replaced goes; none where none is old enough.
    pub compacted: Option<Sequence>,
    /// Spines that were put up so long ago that nobody can ask for them from here on; their objects go in a later sweep.
    pub dropped: u64,
    /// Whether there is more than one entry may name, of spines or of batches whose rows go: the next sweep goes on.
    pub more: bool,
    /// The entry that condemns it; none where there was nothing, or where it was condemned before.
    pub sequence: Option<Sequence>,
    pub gone: Vec<SweepGroup>,
    pub kept: Vec<SweepGroup>,
}

/// Objects of one kind that go or stay for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SweepGroup {
    pub kind: &'static str,
    pub why: String,
    pub objects: u64,
    pub bytes: u64,
}

impl SweepReport {
    pub(super) fn new(dry_run: bool, grace: Span, bounds: Bounds, listed: &Listed) -> Self {
        let Bounds { before, compacted, .. } = bounds;
        let kept = groups(&listed.kept);
        let (dropped, more, sequence, gone) = (0, false, None, Vec::new());
        let mut report = Self { dry_run, grace, before, compacted, dropped, more, sequence, gone, kept };
        report.went(listed);
        report
    }

    /// What went in the end.
    pub(super) fn went(&mut self, listed: &Listed) {
        let mut gone: BTreeMap<(Kind, String), Count> = BTreeMap::new();
        for candidate in &listed.condemned {
            let counted = gone.entry((candidate.kind, candidate.why.text().to_owned())).or_default();
            counted.objects += 1;
            counted.bytes += candidate.bytes;
        }
        self.gone = groups(&gone);
    }

    /// How many objects went or would go, and their bytes.
    pub fn total(&self) -> (u64, u64) {
        self.gone
            .iter()
            .fold((0, 0), |(objects, bytes), group| (objects + group.objects, bytes + group.bytes))
    }
}

fn groups(counted: &BTreeMap<(Kind, String), Count>) -> Vec<SweepGroup> {
    let group = |((kind, why), count): (&(Kind, String), &Count)| SweepGroup {
        kind: kind.name(),
        why: why.clone(),
        objects: count.objects,
        bytes: count.bytes,
    };
    counted.iter().map(group).collect()
}
