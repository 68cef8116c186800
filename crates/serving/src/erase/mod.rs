//! The erasure of an entity: what holds some of its values is written anew without, one entry puts that in the place of the old, and only then
//! is the old deleted. `docs/erasure.md` says why that is safe.

mod report;
mod sets;
mod spines;
mod target;

use std::collections::{BTreeMap, BTreeSet};

use async_recursion::async_recursion;
use catalog::records::{Erased, Replaced};
use catalog::{Author, State, erasure};
use feature::policy::Action;
use feature::{ErasureId, Sequence, ViewId};
use serde::{Deserialize, Serialize};
use storage::environment;
use storage::partition::Layout;

pub use report::{DerivedBatch, EraseReport, ErasedBatch, ErasedTrainingSet};

use crate::error::{Error, Kind, Result};
use crate::retrieve::Serving;
use target::Target;

/// What is to be erased.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EraseRequest {
    /// `plane`, `fraud.card`.
    pub entity: String,
    /// The text of each of its key columns.
    pub key: BTreeMap<String, String>,
    /// Why; it stands in the log for ever, and so it names nobody. Needed but for a dry run.
    #[serde(default)]
    pub reason: Option<String>,
    /// What whoever keeps such requests calls this one.
    #[serde(default)]
    pub request: Option<String>,
    /// Say what would go, and write nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// How often it is looked anew at a store in which others write meanwhile.
const ATTEMPTS: usize = 8;
/// The longest name of a request.
const REQUEST_BYTES: usize = 200;

impl Serving {
    /// Erases an entity: no object of the store holds a value of its rows after it. Rows that come later count.
    ///
    /// # Errors
    /// `NotFound` for an entity that is not there; `Invalid` for a key that it cannot have, and for no reason; `Forbidden` for who may not erase
    /// from one of its views; `Damaged` where something cannot be read: nothing is erased then; `Unavailable` where others were faster each time,
    /// and where something is erased and could not be deleted yet.
    #[async_recursion]
    pub async fn erase(&self, request: &EraseRequest, author: &Author) -> Result<EraseReport> {
        // Whose rows were to go does not stand in the log.
        let words = || format!("erase {}", request.entity);
        self.on_record(author, Action::Erase, None, words, self.erased(request, author)).await
    }

    async fn erased(&self, request: &EraseRequest, author: &Author) -> Result<EraseReport> {
        let state = self.catalog().refresh().await?;
        let target = Target::find(&state, request)?;
        self.require_erase(&state, &target, author).await?;
        if request.dry_run {
            let planned = self.plan_erasure(&state, &target, request).await?;
            return self.told(&state, &target, planned, request, None).await;
        }
        check_words(request)?;
        self.finish_erasures(&state).await?;
        // What was asked of the entity a moment ago is to go too.
        self.flush(author).await?;
        for _ in 0..ATTEMPTS {
            let state = self.catalog().refresh().await?;
            let target = Target::find(&state, request)?;
            let planned = self.plan_erasure(&state, &target, request).await?;
            if planned.is_empty() {
                return self.told(&state, &target, planned, request, None).await;
            }
            let record = self.record_of(&state, &target, &planned, request).await?;
            match erasure::commit(self.catalog(), &record, author).await {
                Ok(Some(sequence)) => {
                    erasure::delete(self.catalog(), &record).await?;
                    self.renew_checkpoint().await;
                    return self.told(&state, &target, planned, request, Some(sequence)).await;
                }
                Ok(None) => erasure::forget(self.catalog(), &record).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::new(
            Kind::Unavailable,
            format!(
                "others wrote to the store each of the {ATTEMPTS} times that it was looked through, so that something of the entity may have come; \
                 nothing is erased: ask again when fewer write"
            ),
        ))
    }

    /// Deletes what erasures let go that were stopped before they had deleted it.
    ///
    /// # Errors
    /// `Unavailable` where something cannot be deleted.
    pub(crate) async fn finish_erasures(&self, state: &State) -> Result<()> {
        for one in state.erasures().all() {
            erasure::delete(self.catalog(), &one.record).await?;
        }
        Ok(())
    }

    async fn require_erase(&self, state: &State, target: &Target, author: &Author) -> Result<()> {
        if target.versions.is_empty() {
            return self.require_govern(state, author).await;
        }
        for version in target.versions.values() {
            self.require(state, author, Action::Erase, &version.definition).await?;
        }
        Ok(())
    }

    /// Looks through the store, and writes what is to be read in the place of what it finds, but for a dry run.
    async fn plan_erasure(&self, state: &State, target: &Target, request: &EraseRequest) -> Result<Planned> {
        let (catalog, writes) = (self.catalog(), !request.dry_run);
        // Before the first object that is written for it.
        let erasure: ErasureId = environment::mint();
        let views: BTreeSet<ViewId> = target.versions.keys().copied().collect();
        let layout = Layout::default();
        let rows = erasure::rows_of(catalog, state, &target.key, &views, &layout, writes).await?;
        let (read, reads) =
            erasure::recorded_reads(catalog, state, &target.key, &target.typed, writes).await?;
        let sets = self.sets_of(state, &target.typed, writes).await?;
        let spines = self.kept_spines_of(state, &target.typed).await?;
        let (samples, samples_left) = erasure::sampled(state, &target.key, &views)?;
        let seen = state.head.sequence;
        Ok(Planned { erasure, seen, rows, read, reads, sets, spines, samples, samples_left })
    }

    async fn record_of(
        &self,
        state: &State,
        target: &Target,
        planned: &Planned,
        request: &EraseRequest,
    ) -> Result<Erased> {
        let (secret, bytes) = erasure::new_secret(self.catalog()).await?;
        let mut keys = Vec::new();
        for typed in target.all_typed() {
            let digest = erasure::digest_of_key(state.hash, &bytes, &typed.canonical()?);
            if !keys.contains(&digest) {
                keys.push(digest);
            }
        }
        let sets = planned.sets.iter();
        let mut replaced: Vec<Replaced> = planned.rows.replaced.clone();
        replaced.extend(planned.read.iter().cloned());
        replaced.extend(sets.clone().filter_map(|set| set.replaced.clone()));
        let mut gone = planned.rows.gone.clone();
        gone.extend(sets.clone().map(|set| set.spine.clone()));
        gone.extend(planned.spines.iter().chain(&planned.samples).cloned());
        // Sets that were made of one spine that was put up share its object.
        gone.sort_unstable();
        gone.dedup();
        gone.retain(|path| !state.erasures().took(path));
        Ok(Erased {
            erasure: planned.erasure,
            entity: target.entity,
            views: target.versions.keys().copied().collect(),
            keys,
            secret,
            reason: request.reason.as_deref().unwrap_or_default().trim().to_owned(),
            request: request.request.clone(),
            seen: planned.seen,
            rows: planned.rows.rows(),
            replaced,
            gone,
            sets: sets.map(|set| set.record.clone()).collect(),
        })
    }

    /// Nothing depends on a checkpoint, and none holds a value.
    async fn renew_checkpoint(&self) {
        if let Err(error) = self.catalog().checkpoint().await {
            tracing::warn!(%error, "no checkpoint was written after an erasure");
        }
    }
}

/// What was found, and written in its place.
struct Planned {
    erasure: ErasureId,
    seen: Sequence,
    rows: erasure::Found,
    read: Vec<Replaced>,
    /// Recorded reads that spoke of the key.
    reads: u64,
    sets: Vec<sets::FoundSet>,
    /// Spines that were put up by themselves, by their paths.
    spines: Vec<String>,
    /// Profiles of samples, by their paths, and how many more there are.
    samples: Vec<String>,
    samples_left: u64,
}

impl Planned {
    fn is_empty(&self) -> bool {
        let rows = &self.rows;
        let nothing = rows.batches.is_empty() && rows.rejected == 0 && rows.replaced.is_empty();
        let nothing = nothing && self.reads == 0 && self.sets.is_empty();
        nothing && self.spines.is_empty() && self.samples.is_empty()
    }
}

fn check_words(request: &EraseRequest) -> Result<()> {
    let Some(reason) = &request.reason else {
        return Err(Error::new(
            Kind::Invalid,
            "say why (--reason \"…\"); it stands in the log for ever, and so name nobody in it. A dry run needs no reason",
        ));
    };
    erasure::reason(reason)?;
    let mut values = request.key.values().filter(|value| value.len() > 2);
    let words: Vec<&str> =
        [Some(reason), request.request.as_ref()].into_iter().flatten().map(String::as_str).collect();
    if let Some(named) = values.find(|value| words.iter().any(|words| words.contains(value.as_str()))) {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "`{named}` is of the key, and what is said of an erasure stands in the log for ever; say it without"
            ),
        ));
    }
    if request.request.as_ref().is_some_and(|name| name.trim().is_empty() || name.len() > REQUEST_BYTES) {
        return Err(Error::new(
            Kind::Invalid,
            format!("the request is named in 1 to {REQUEST_BYTES} bytes, or not at all"),
        ));
    }
    Ok(())
}
