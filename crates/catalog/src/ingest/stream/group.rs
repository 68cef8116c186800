//! One group: parts that came together, sorted into those that are due and those that were answered before,
//! staged side by side and committed by one entry.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use feature::ViewId;

use super::super::resolve;
use super::first_answers::FirstAnswers;
use super::part_records::records;
use super::queue::Queued;
use super::staging::{ForVersion, StagedVersion, Staging, stage_version};
use crate::catalog::{Catalog, Intent, Outcome};
use crate::conditions::Conditions;
use crate::error::Error;
use crate::state::producers::{LastPart, Place, Standing, follows};
use crate::state::{State, ViewVersion};

/// How often a group is tried again where others were in its way or the storage failed.
const ATTEMPTS: u32 = 8;
/// The pause after a first failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// Commits the parts of one author, and answers each of them.
pub async fn commit(catalog: &Catalog, conditions: &Arc<dyn Conditions>, parts: Vec<Queued>) {
    let mut answers = FirstAnswers::new(catalog);
    let mut waiting = parts;
    let mut failures = 0;
    while !waiting.is_empty() {
        let failure = match catalog.refresh().await {
            Ok(state) => {
                let (due, later) = sort(&state, waiting, &mut answers).await;
                let (rest, failure) = commit_due(catalog, conditions, &state, due).await;
                waiting = rest;
                waiting.extend(later);
                failure
            }
            Err(error) => Some(error),
        };
        let Some(error) = failure else { continue };
        failures += 1;
        if failures == ATTEMPTS || !may_pass(&error) {
            let error = Arc::new(error);
            for part in waiting {
                part.answer(Err(Error::Shared(error.clone())));
            }
            return;
        }
        tokio::time::sleep(FIRST_PAUSE * 2u32.pow(failures)).await;
    }
}

/// Whether the same may succeed a moment later. What may have landed is found there, and answered as
/// committed.
fn may_pass(error: &Error) -> bool {
    use storage::Error::{Unavailable, Unknown};
    matches!(error, Error::Contended(_) | Error::Storage(Unavailable(_) | Unknown { .. }))
}

/// Parts that are due, and those that cannot be told before these are committed. The others are answered.
async fn sort(
    state: &State,
    parts: Vec<Queued>,
    answers: &mut FirstAnswers<'_>,
) -> (Vec<Queued>, Vec<Queued>) {
    let (mut due, mut later) = (Vec::new(), Vec::new());
    let mut reached: HashMap<(ViewId, String), Place> = HashMap::new();
    for part in parts {
        let stream = (part.view, part.target.producer.clone());
        let standing = match reached.get(&stream) {
            Some(last) if follows(Some(*last), part.place) => Standing::Next,
            Some(_) => {
                later.push(part);
                continue;
            }
            None => state.part_standing(part.view, &part.target.producer, part.place),
        };
        match standing {
            Standing::Next => {
                reached.insert(stream, part.place);
                due.push(part);
            }
            Standing::Committed(at) => {
                let answer = answers.of(state, &part, at).await;
                part.answer(answer);
            }
            Standing::Refused(why) => part.answer(Err(Error::Invalid(why))),
        }
    }
    (due, later)
}

/// Stages and commits parts that are due. Those that are to be sorted again come back; where it was a
/// failure, with it.
async fn commit_due(
    catalog: &Catalog,
    conditions: &Arc<dyn Conditions>,
    state: &State,
    due: Vec<Queued>,
) -> (Vec<Queued>, Option<Error>) {
    let Some(author) = due.first().map(|part| part.author.clone()) else { return (Vec::new(), None) };
    let versions = by_version(state, due);
    let staging = versions.into_iter().map(|one| stage_version(catalog, conditions, &author, one));
    let (mut staged, mut rest, mut failure, mut whole) = (Vec::new(), Vec::new(), None, true);
    for one in futures::future::join_all(staging).await {
        match one {
            Staging::Ready(one) => staged.push(*one),
            Staging::Faulty(parts) => {
                whole = false;
                rest.extend(parts);
            }
            Staging::Failed(parts, error) => {
                whole = false;
                failure = Some(error);
                rest.extend(parts);
            }
        }
    }
    if !whole {
        // What follows a part that failed may not be taken without it.
        rest.extend(staged.into_iter().flat_map(StagedVersion::into_parts));
        return (rest, failure);
    }
    if staged.is_empty() {
        return (Vec::new(), None);
    }
    let records = records(&staged);
    let lasts = lasts(state, &staged);
    let outcome = catalog
        .commit(&author, None, |state| {
            // Whatever was decided on an earlier state is looked at again, on the one that the entry will
            // follow.
            let same_version = |one: &StagedVersion| {
                let ViewVersion { definition, version, .. } = &one.version;
                let now = state.view(
                    definition.project.as_str(),
                    definition.name.as_str(),
                    None,
                    state.head.sequence,
                );
                now.is_some_and(|now| now.version == *version)
            };
            let untouched =
                lasts.iter().all(|(view, producer, last)| state.last_part(*view, producer) == *last);
            if untouched && staged.iter().all(same_version) {
                Ok(Intent::Append(records.clone()))
            } else {
                Ok(Intent::Done(()))
            }
        })
        .await;
    match outcome {
        Ok(Outcome::Committed(sequence)) => {
            for one in staged {
                one.acknowledge(catalog, sequence);
            }
            (Vec::new(), None)
        }
        Ok(Outcome::Done(())) => (staged.into_iter().flat_map(StagedVersion::into_parts).collect(), None),
        Err(error) => (staged.into_iter().flat_map(StagedVersion::into_parts).collect(), Some(error)),
    }
}

/// Parts by the version in force of their views and by claim. Those of one producer lie together, in their
/// order.
fn by_version(state: &State, due: Vec<Queued>) -> Vec<ForVersion> {
    let mut groups: Vec<ForVersion> = Vec::new();
    for part in due {
        let known = groups
            .iter_mut()
            .find(|group| group.version.view == part.view && group.claim == part.target.claim);
        if let Some(group) = known {
            group.parts.push(part);
            continue;
        }
        match resolve(state, &part.target.project, &part.target.view) {
            Ok(version) if version.view == part.view => {
                groups.push(ForVersion { version, claim: part.target.claim, parts: vec![part] });
            }
            Ok(version) => {
                let label = version.label();
                part.answer(Err(Error::Invalid(format!(
                    "`{label}` is another view than the stream was opened for; open it again"
                ))));
            }
            Err(error) => part.answer(Err(error)),
        }
    }
    for group in &mut groups {
        let mut ranks: HashMap<String, usize> = HashMap::new();
        for part in &group.parts {
            let next = ranks.len();
            ranks.entry(part.target.producer.clone()).or_insert(next);
        }
        group.parts.sort_by_key(|part| ranks.get(&part.target.producer).copied());
    }
    groups
}

/// What each producer had committed when its parts were found to be due.
fn lasts(state: &State, staged: &[StagedVersion]) -> Vec<(ViewId, String, Option<LastPart>)> {
    let mut lasts = BTreeMap::new();
    for (part, _) in staged.iter().flat_map(|one| &one.parts) {
        let producer = &part.target.producer;
        let last = || state.last_part(part.view, producer);
        lasts.entry((part.view, producer.clone())).or_insert_with(last);
    }
    lasts.into_iter().map(|((view, producer), last)| (view, producer, last)).collect()
}
