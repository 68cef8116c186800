//! The sweep: what nobody needs any more is condemned by an entry of the log, and deleted after it. `docs/sweep.md` says why that is safe.

mod checkpoints;
mod kinds;
mod listed;
mod named;
mod report;

use std::collections::BTreeMap;

use async_recursion::async_recursion;
use catalog::records::{Found, Record, RetentionSet, SpinesDropped, Swept};
use catalog::{Author, Intent, Outcome, State};
use feature::{Horizon, Sequence, Span, Timestamp};
use futures::StreamExt;
use object_store::path::Path;
use storage::environment;

use crate::error::{Error, Kind, Result};
use crate::retain::Deletions;
use crate::retrieve::Serving;
use listed::{Candidate, Listed};
use named::Named;

pub use report::{SweepGroup, SweepReport};

/// The most batches, and the most spines, that one entry names.
const MOST_NAMED: usize = 50_000;

/// How a store is swept.
#[derive(Clone, Debug, Default)]
pub struct SweepRequest {
    /// Say what would go, and write and delete nothing.
    pub dry_run: bool,
    /// How long something has been of no use before it goes, in place of what the log has set. Not less than the longest read.
    pub grace: Option<Span>,
    /// What may be condemned, in place of what the grace and this machine's clock give. That a sweep is safe rests on no clock, so
    /// tests sweep what was begun a moment ago.
    pub bounds: Option<Bounds>,
    /// How many batches, and how many spines, one entry names at most, in place of 50,000: tests make it small.
    pub most_named: Option<usize>,
}

/// What may be condemned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What nobody names goes where its id is less.
    pub before: Horizon,
    /// What a compaction up to this one replaced goes.
    pub compacted: Option<Sequence>,
    /// Rows that expired by an entry up to this one go, as far as nothing that is kept needs them.
    pub expired: Option<Sequence>,
    /// Spines that were put up last at this instant or before, and that no training set was made of, are dropped: nobody can ask for them
    /// any more.
    pub kept: Timestamp,
    /// Spines that were dropped at this instant or before go.
    pub dropped: Timestamp,
}

/// May spoil what is recorded of a sweep: tests see by it that the suite notices.
pub type Planted<'a> = &'a (dyn Fn(&mut Swept) + Sync);

impl Serving {
    /// Condemns what nobody needs, and deletes it. Nothing is deleted before the entry that condemns it is in the log, and nothing can be
    /// named after it. What a sweep that was stopped left over is deleted by the next.
    ///
    /// # Errors
    /// `Invalid` for a grace that is less than the longest read. `Damaged` where a manifest cannot be read: what it names is not known then, and
    /// nothing is swept. `Unavailable` where the storage fails; what was condemned and is there still is deleted by the next sweep.
    #[async_recursion]
    pub async fn sweep(&self, request: &SweepRequest, author: &Author) -> Result<SweepReport> {
        self.sweep_planted(request, author, &|_| ()).await
    }

    /// As [`Self::sweep`], with a fault that a test plants.
    ///
    /// # Errors
    /// As [`Self::sweep`].
    #[doc(hidden)]
    pub async fn sweep_planted(
        &self,
        request: &SweepRequest,
        author: &Author,
        planted: Planted<'_>,
    ) -> Result<SweepReport> {
        let catalog = self.catalog();
        let state = catalog.refresh().await?;
        if !request.dry_run {
            self.finish_erasures(&state).await?;
        }
        let retention = state.sweeps().retention();
        let grace = request.grace.unwrap_or(retention.grace);
        check_grace(grace, &retention)?;
        let now = catalog.store().clock().now();
        let longest_read = retention.longest_read;
        let most = request.most_named.unwrap_or(MOST_NAMED);
        let bounds = request.bounds.unwrap_or_else(|| Bounds::by_age(&state, now, grace, longest_read));
        let due = match bounds.expired {
            Some(expired) => {
                let (_, graph) = self.graph(Some(state.head.sequence)).await?;
                Deletions::due(catalog, &state, &graph, Some(expired), now, most).await?
            }
            None => Deletions::default(),
        };
        let mut named = Named::new(due);
        named.read(catalog, &state).await?;
        let mut listed = Listed::of(catalog.store(), &named, bounds, now, grace).await?;
        let mut report = SweepReport::new(request.dry_run, grace, bounds, &listed);
        let idle = |state: &State| {
            let mut spines = state.spines().idle_since(bounds.kept);
            let more = spines.len() > most;
            spines.truncate(most);
            (spines, more)
        };
        let (spines, more_spines) = idle(&state);
        report.dropped = spines.len() as u64;
        report.more = more_spines || named.due().more;
        // Of a file of very many batches each entry names some, and it goes after the last: there may be something to say before anything goes.
        let names_rows = !named.due().is_empty();
        if request.dry_run || (listed.condemned.is_empty() && !names_rows && report.dropped == 0) {
            return Ok(report);
        }
        let is_new = |candidate: &Candidate| !candidate.is_condemned_by(&state);
        let has_new = listed.condemned.iter().any(is_new);
        if has_new || names_rows || report.dropped > 0 {
            let mut record = Swept {
                before: bounds.before,
                compacted: bounds.compacted,
                grace,
                found: found(&listed.condemned),
            };
            planted(&mut record);
            let outcome = catalog
                .commit(author, None, |newer| {
                    let mut records: Vec<Record> = Vec::new();
                    let mut rows = Vec::new();
                    if names_rows {
                        // What came since may need what was to go.
                        let graph = self.graphs.at_head(newer);
                        rows = named.due().still_due(newer, &graph, now).records();
                    }
                    if has_new || !rows.is_empty() {
                        records.push(record.clone().into());
                        records.extend(rows.into_iter().map(Record::from));
                    }
                    // Somebody may have put one up again meanwhile, or made a training set of it.
                    let (spines, _) = idle(newer);
                    if !spines.is_empty() {
                        records.push(SpinesDropped { spines }.into());
                    }
                    Ok(if records.is_empty() { Intent::Done(()) } else { Intent::Append(records) })
                })
                .await?;
            if let Outcome::Committed(sequence) = outcome {
                report.sequence = Some(sequence);
            }
            // Others may have named some of it while we looked. After our entry nobody can.
            let state = catalog.state();
            named.read(catalog, &state).await?;
            listed.condemned.retain(|candidate| !named.needs(candidate, bounds, &state));
            report.went(&listed);
        }
        self.delete(&listed.condemned).await?;
        Ok(report)
    }

    async fn delete(&self, condemned: &[Candidate]) -> Result<()> {
        let store = self.catalog().store();
        let paths: Vec<Path> = condemned.iter().filter_map(Candidate::object).collect();
        let all = paths.len();
        let mut deleted =
            store.objects().delete_stream(futures::stream::iter(paths.into_iter().map(Ok)).boxed());
        let mut failed = Vec::new();
        while let Some(done) = deleted.next().await {
            match done {
                // Another sweep was faster.
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => failed.push(error),
            }
        }
        let unfinished: Vec<_> = condemned.iter().filter_map(Candidate::unfinished).collect();
        store.remove_unfinished(unfinished).await.map_err(catalog::Error::from)?;
        match failed.first() {
            None => Ok(()),
            Some(first) => Err(Error::new(
                Kind::Unavailable,
                format!(
                    "{} of {all} objects could not be deleted, the first for: {first}; they are condemned, and the next sweep deletes them",
                    failed.len()
                ),
            )),
        }
    }
}

impl Bounds {
    /// What has been of no use for so long.
    pub fn by_age(state: &State, now: Timestamp, grace: Span, longest_read: Span) -> Self {
        let before = |span: Span| Timestamp(now.micros().saturating_sub(span.micros()));
        let until = before(grace);
        let old = state.compactions().map(|one| &one.by).filter(|by| by.committed_at <= until);
        let expired = state.expiry().expired().iter().map(|one| &one.by);
        let expired = expired.filter(|by| by.committed_at <= until);
        Self {
            before: environment::horizon(until),
            compacted: old.map(|by| by.sequence).max(),
            expired: expired.map(|by| by.sequence).max(),
            kept: until,
            dropped: before(longest_read),
        }
    }
}

fn check_grace(grace: Span, retention: &RetentionSet) -> Result<()> {
    let longest = retention.longest_read;
    if grace >= longest {
        return Ok(());
    }
    Err(Error::new(
        Kind::Invalid,
        format!(
            "a grace of {grace} is less than the longest read, {longest}: a read that runs would lose its files; set a shorter longest read first \
             (`lineament sweep --set-longest-read`)"
        ),
    ))
}

/// How many of each kind.
fn found(condemned: &[Candidate]) -> Vec<Found> {
    let mut kinds: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
    for candidate in condemned {
        let counted = kinds.entry(candidate.kind.name()).or_default();
        counted.0 += 1;
        counted.1 += candidate.bytes;
    }
    let found = |(kind, (objects, bytes)): (&str, _)| Found { kind: kind.to_owned(), objects, bytes };
    kinds.into_iter().map(found).collect()
}
