//! One group: parts that came together, sorted into those that are due and those that were answered before, staged side
//! by side and committed by one entry.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use feature::{BatchId, ViewId};
use storage::environment;
use storage::partition::Layout;

use super::super::knowledge::Knowledge;
use super::super::{Claim, Progress, resolve, stage, write_body};
use super::Acknowledged;
use super::checked_parts::{Offered, Verdict, check_parts};
use super::first_answers::FirstAnswers;
use super::queue::Queued;
use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome};
use crate::conditions::Conditions;
use crate::error::{Error, Result};
use crate::records::{BatchCommitted, BatchRefused, PartRun, Record, StreamPart, StreamPartsCommitted};
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

/// Whether the same may succeed a moment later. What may have landed is found there, and answered as committed.
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

/// Parts for one version under one claim.
struct ForVersion {
    version: ViewVersion,
    claim: Option<Claim>,
    parts: Vec<Queued>,
}

/// Stages and commits parts that are due. Those that are to be sorted again come back; where it was a failure, with it.
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
            Staging::Ready(one) => staged.push(one),
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
            // Whatever was decided on an earlier state is looked at again, on the one that the entry will follow.
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
                one.acknowledge(sequence);
            }
            (Vec::new(), None)
        }
        Ok(Outcome::Done(())) => (staged.into_iter().flat_map(StagedVersion::into_parts).collect(), None),
        Err(error) => (staged.into_iter().flat_map(StagedVersion::into_parts).collect(), Some(error)),
    }
}

/// Parts by the version in force of their views and by claim. Those of one producer lie together, in their order.
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

/// Parts of one version whose files are written.
struct StagedVersion {
    version: ViewVersion,
    parts: Vec<(Queued, Verdict)>,
    committed: Option<BatchCommitted>,
    refused: Option<BatchRefused>,
}

enum Staging {
    Ready(StagedVersion),
    /// Some parts cannot be taken and were answered; the others are to be sorted again.
    Faulty(Vec<Queued>),
    Failed(Vec<Queued>, Error),
}

impl StagedVersion {
    fn into_parts(self) -> impl Iterator<Item = Queued> {
        self.parts.into_iter().map(|(part, _)| part)
    }

    /// The batch that holds a part: of those that were taken, or of those that were refused.
    fn batch_of(&self, verdict: &Verdict) -> Option<BatchId> {
        match verdict.refused {
            true => self.refused.as_ref().map(|refused| refused.batch),
            false => self.committed.as_ref().map(|committed| committed.batch),
        }
    }

    fn acknowledge(self, sequence: feature::Sequence) {
        let label = self.version.label();
        let (committed, refused) = (
            self.committed.as_ref().map(|committed| committed.batch),
            self.refused.as_ref().map(|refused| refused.batch),
        );
        for (part, verdict) in self.parts {
            let batch = if verdict.refused { refused } else { committed };
            let Some(batch) = batch else { continue };
            let answer = Acknowledged {
                place: part.place,
                version: label.clone(),
                sequence,
                batch,
                rows: verdict.rows,
                rejected: verdict.rejected,
                refused: verdict.refused,
                repeated: false,
                examples: verdict.examples,
            };
            part.answer(Ok(answer));
        }
    }
}

async fn stage_version(
    catalog: &Catalog,
    conditions: &Arc<dyn Conditions>,
    author: &Author,
    group: ForVersion,
) -> Staging {
    let ForVersion { version, claim, parts } = group;
    let offered: Vec<Offered> =
        parts.iter().map(|part| Offered { origin: part.origin(), rows: part.rows.clone() }).collect();
    let checked = {
        let (version, conditions) = (version.clone(), conditions.clone());
        tokio::task::spawn_blocking(move || check_parts(&version, &offered, conditions.as_ref())).await
    };
    let checked = match checked.map_err(|error| Error::internal("validation stopped", error)) {
        Ok(Ok(checked)) => checked,
        Ok(Err(error)) | Err(error) => return Staging::Failed(parts, error),
    };
    if checked.verdicts.iter().any(Result::is_err) {
        let mut rest = Vec::new();
        for (part, verdict) in parts.into_iter().zip(checked.verdicts) {
            match verdict {
                Ok(_) => rest.push(part),
                Err(error) => part.answer(Err(error)),
            }
        }
        return Staging::Faulty(rest);
    }
    let verdicts: Vec<Verdict> = checked.verdicts.into_iter().flatten().collect();
    let mut producers: Vec<String> =
        parts.iter().map(|part| format!("producer `{}`", part.target.producer)).collect();
    producers.sort();
    producers.dedup();
    let sum = |refused: bool, of: fn(&Verdict) -> u64| -> u64 {
        verdicts.iter().filter(|verdict| verdict.refused == refused).map(of).sum()
    };
    let written = async {
        let body = write_body(catalog, author, &producers, None).await?;
        let mut refused = None;
        if let Some(bytes) = checked.refused {
            let batch: BatchId = environment::mint();
            let quarantine =
                catalog.put_object(format!("quarantine/{batch}/rejected.parquet"), bytes).await?;
            let offered = parts.iter().zip(&verdicts).filter(|(_, verdict)| verdict.refused);
            refused = Some(BatchRefused {
                batch,
                view: version.view,
                version: version.version,
                rows: offered.map(|(part, _)| part.rows.num_rows() as u64).sum(),
                rejected: sum(true, |verdict| verdict.rejected),
                quarantine,
                sources: Vec::new(),
                // An object is named by one record.
                body: if checked.rows.num_rows() == 0 { body.clone() } else { None },
            });
        }
        if checked.rows.num_rows() == 0 {
            return Ok::<_, Error>((None, refused));
        }
        let batch: BatchId = environment::mint();
        let quarantine = match checked.quarantine {
            Some(bytes) => {
                Some(catalog.put_object(format!("quarantine/{batch}/rejected.parquet"), bytes).await?)
            }
            None => None,
        };
        // What a stream brings is known from its arrival, where no column says when and nobody claims another thing.
        let knowledge = Knowledge::of(&version, Some(claim.unwrap_or(Claim::Correction)));
        let rows = knowledge.date(checked.rows);
        let count = rows.num_rows() as u64;
        let staged =
            stage(catalog, &version, batch, rows, &Layout::default(), &|_: Progress| (), count).await?;
        let committed = BatchCommitted {
            batch,
            view: version.view,
            version: version.version,
            rows: count,
            rejected: sum(false, |verdict| verdict.rejected),
            known_at: knowledge.source,
            manifest: staged.manifest,
            digest: staged.digest,
            quarantine,
            sources: Vec::new(),
            body,
            derivation: None,
        };
        Ok((Some(committed), refused))
    };
    match written.await {
        Ok((committed, refused)) => {
            let parts = parts.into_iter().zip(verdicts).collect();
            Staging::Ready(StagedVersion { version, parts, committed, refused })
        }
        Err(error) => Staging::Failed(parts, error),
    }
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

/// The records of one entry: batches, and then what parts they hold. A producer whose parts went into several batches has
/// several records, in the order of its numbers.
fn records(staged: &[StagedVersion]) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for one in staged {
        records.extend(one.committed.clone().map(Record::from));
        records.extend(one.refused.clone().map(Record::from));
    }
    let mut order: Vec<(ViewId, &str, Place, usize, usize)> = Vec::new();
    for (group, one) in staged.iter().enumerate() {
        for (index, (part, _)) in one.parts.iter().enumerate() {
            order.push((part.view, part.target.producer.as_str(), part.place, group, index));
        }
    }
    order.sort_unstable();
    // How often the batch has changed along a producer's parts.
    let mut turns: HashMap<(usize, usize), usize> = HashMap::new();
    let mut before: Option<(ViewId, &str, Option<BatchId>, usize)> = None;
    for (view, producer, _, group, index) in order {
        let batch = staged[group].batch_of(&staged[group].parts[index].1);
        let turn = match before {
            Some((was, who, into, turn)) if (was, who) == (view, producer) => {
                turn + usize::from(into != batch)
            }
            _ => 0,
        };
        turns.insert((group, index), turn);
        before = Some((view, producer, batch, turn));
    }
    let mut held: BTreeMap<(usize, usize, BatchId), StreamPartsCommitted> = BTreeMap::new();
    for (group, one) in staged.iter().enumerate() {
        for (index, (part, verdict)) in one.parts.iter().enumerate() {
            let Some(batch) = one.batch_of(verdict) else { continue };
            let turn = turns.get(&(group, index)).copied().unwrap_or_default();
            let view = one.version.view;
            let record = held.entry((turn, group, batch)).or_insert_with(|| StreamPartsCommitted {
                batch,
                view,
                runs: Vec::new(),
            });
            add(&mut record.runs, part, verdict);
        }
    }
    records.extend(held.into_values().map(Record::from));
    records
}

/// Adds a part to the run that it goes on with, or begins another.
fn add(runs: &mut Vec<PartRun>, part: &Queued, verdict: &Verdict) {
    let single = StreamPart { digest: part.digest, rows: verdict.rows, rejected: verdict.rejected };
    let goes_on = |run: &&mut PartRun| {
        run.producer == part.target.producer
            && run.epoch == part.place.epoch
            && run.last + 1 == part.place.number
    };
    match runs.last_mut().filter(goes_on) {
        Some(run) => {
            run.last = part.place.number;
            run.rows += single.rows;
            run.rejected += single.rejected;
            run.digest = single.digest;
            run.parts.push(single);
        }
        None => runs.push(PartRun {
            producer: part.target.producer.clone(),
            epoch: part.place.epoch,
            first: part.place.number,
            last: part.place.number,
            rows: single.rows,
            rejected: single.rejected,
            digest: single.digest,
            parts: vec![single],
        }),
    }
}
