//! Small files of neighbouring batches are written anew as few large ones, and no answer changes. `docs/compaction.md` says why.

mod candidates;
pub(crate) mod input;
mod merging;
pub(crate) mod proof;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use feature::digest::ContentDigest;
use feature::{CompactionId, Id, Sequence, VersionId};
use storage::environment;
use storage::manifest::{self, DataFile};
use storage::partition::Layout;

pub use candidates::Eagerness;
pub use proof::{Checked, check};

use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome};
use crate::error::{Error, Result};
use crate::records::Compacted;
use crate::retention;
use crate::state::{Run, State, ViewVersion};

/// Neighbouring runs of a line that are worth merging.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// That all of the batches were written under, as `weather@2`.
    pub version: String,
    /// How many batches of the line come before them.
    pub place: usize,
    /// How many batches they are.
    pub batches: usize,
    pub runs: usize,
    pub files: usize,
    pub rows: u64,
    pub bytes: u64,
    written_under: VersionId,
    line: VersionId,
}

/// What came of a candidate.
#[derive(Clone, Debug)]
pub struct Merge {
    pub of: Candidate,
    /// Of the new files.
    pub files: usize,
    pub bytes: u64,
    /// Of the entry; none where another compaction was faster, and what was written here is nobody's.
    pub sequence: Option<Sequence>,
}

/// What is worth merging of the line that a version belongs to, in the order of the log. Nothing overlaps.
///
/// # Errors
/// Manifests that cannot be read.
pub async fn candidates(
    catalog: &Catalog,
    state: &State,
    version: &ViewVersion,
    eagerness: Eagerness,
    layout: &Layout,
) -> Result<Vec<Candidate>> {
    candidates::of_line(catalog, state, version.line, eagerness, layout).await
}

/// Writes the rows of a candidate into new files, proves that they are what they were, and puts them in the place of the old ones.
///
/// # Errors
/// Those of the storage; `Damaged` and `Corrupt` where a file is not what its manifest says. Nothing is replaced then.
pub async fn merge(
    catalog: &Catalog,
    author: &Author,
    state: &State,
    candidate: &Candidate,
    layout: &Layout,
) -> Result<Merge> {
    let (runs, version) = (candidate.runs_in(state), state.view_version(candidate.written_under));
    let (Some(runs), Some(version)) = (runs, version) else {
        return Ok(Merge { of: candidate.clone(), files: 0, bytes: 0, sequence: None });
    };
    // Minted before the first object that it names.
    let compaction: CompactionId = environment::mint();
    let layout = &retention::layout(state, version.view, layout);
    let inputs = merging::inputs(catalog, state, version, &runs).await?;
    let files = merging::write(catalog, version, &inputs, layout, &|_| ()).await?;
    let name = format!("manifests/{compaction}.parquet");
    let manifest = catalog.put_object(name, manifest::encode(&files)?).await?;
    let held: Vec<_> = runs.iter().flat_map(Run::batches).collect();
    let (Some(first), Some(last)) = (held.first(), held.last()) else {
        return Err(Error::internal("a candidate cannot be merged", "it has no batch"));
    };
    let replaces = runs.iter().filter_map(|run| match run {
        Run::Batch(_) => None,
        Run::Compacted(one, _) => Some(one.record.compaction),
    });
    let record = Compacted {
        compaction,
        view: version.view,
        version: version.version,
        first: first.record.batch,
        last: last.record.batch,
        batches: held.len() as u64,
        place: candidate.place as u64,
        replaces: replaces.collect(),
        after: None,
        erased: state.erasures().last_of(version.view),
        rows: files.iter().map(|file| file.rows).sum(),
        manifest,
    };
    let outcome = catalog
        .commit(author, None, |state| {
            // Another may have merged some of the runs meanwhile. Else only the fence moves.
            // What was read before an erasure may hold what is gone.
            let erased = state.erasures().last_of(record.view) != record.erased;
            if erased || !candidate.stands_in(state, &record) {
                return Ok(Intent::Done(()));
            }
            let after = state.last_compaction(record.view);
            Ok(Intent::Append(vec![Compacted { after, ..record.clone() }.into()]))
        })
        .await?;
    Ok(Merge {
        of: candidate.clone(),
        files: files.len(),
        bytes: files.iter().map(|file| file.bytes).sum(),
        sequence: match outcome {
            Outcome::Committed(sequence) => Some(sequence),
            Outcome::Done(()) => None,
        },
    })
}

impl Candidate {
    /// The runs that it is of; none where they are others by now.
    fn runs_in<'a>(&self, state: &'a State) -> Option<Vec<Run<'a>>> {
        let mut place = 0;
        let mut found = Vec::new();
        for run in state.runs_of_line(self.line) {
            let end = place + run.batches().len();
            if place >= self.place && end <= self.place + self.batches {
                found.push(run);
            }
            place = end;
        }
        let batches: usize = found.iter().map(|run| run.batches().len()).sum();
        (batches == self.batches && !found.is_empty()).then_some(found)
    }

    fn stands_in(&self, state: &State, record: &Compacted) -> bool {
        let Some(runs) = self.runs_in(state) else { return false };
        let compacted = runs.iter().filter_map(|run| match run {
            Run::Batch(_) => None,
            Run::Compacted(one, _) => Some(one.record.compaction),
        });
        runs.len() == self.runs && compacted.eq(record.replaces.iter().copied())
    }
}

/// What a piece is known by, whatever files its rows lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PieceKey(uuid::Uuid, i64, i64, u32, u32, ContentDigest);

impl PieceKey {
    fn of(piece: &manifest::Piece) -> Self {
        Self(piece.batch.uuid(), piece.from, piece.until, piece.bucket, piece.buckets, piece.digest)
    }
}

/// The pieces of some files, each once, with all of its rows there.
fn whole_pieces<'a>(files: impl Iterator<Item = &'a Arc<DataFile>>) -> Vec<manifest::Piece> {
    let mut places = std::collections::HashMap::new();
    let mut pieces: Vec<manifest::Piece> = Vec::new();
    for piece in files.flat_map(|file| &file.pieces) {
        let place = *places.entry(PieceKey::of(piece)).or_insert(pieces.len());
        match pieces.get_mut(place) {
            Some(known) => known.rows += piece.rows,
            None => pieces.push(piece.clone()),
        }
    }
    pieces
}
