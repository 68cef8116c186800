//! A declared share of what passes by, on its way out or in, is profiled as it passes and compared with the baseline.
//!
//! ```text
//! retrieval ──► Portion ──┐
//!                         ├──► Passing: one profile a version and way ──► judge: baseline, verdict, record
//! stream    ──► Portion ──┘
//! ```
//!
//! Whose rows are in the share is told by the hash of the key ([`feature::sampling`]), so that it is the same entities at all times.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use feature::profile::BatchProfile;
use feature::quality::{self, Judged, Judging};
use feature::sampling::{rows_of, rows_of_share};
use feature::{SampleId, Sequence, Timestamp, VersionId, ViewId};
use storage::environment;

use crate::author::Author;
use crate::catalog::{Catalog, Intent};
use crate::erasure;
use crate::error::{Error, Result};
use crate::quality::baseline;
use crate::records::{PassedBy, Record, Sampled};
use crate::state::{State, ViewVersion};

/// Values that a sample needs before it is compared, where the view declares nothing.
const LEAST_ROWS: u64 = 30;
/// How often in a row a sample is compared in vain before what was gathered is let go.
const MOST_FAILURES: u32 = 10;

/// Some of what passed by of a version.
#[derive(Clone, Debug)]
pub struct Portion {
    /// Of the entities.
    pub share: f64,
    pub from: Timestamp,
    pub until: Timestamp,
    /// The entry that whoever saw the first of it had read the log to: what a later one erased may be in it.
    pub seen: Sequence,
    /// Rows that passed by, those of the share among them.
    pub passed: u64,
    /// Of the rows of the share.
    pub profile: BatchProfile,
}

impl Portion {
    /// Nothing yet.
    pub fn empty(version: &ViewVersion, share: f64, at: Timestamp, seen: Sequence) -> Self {
        let profile = BatchProfile::of(&version.definition.features);
        Self { share, from: at, until: at, seen, passed: 0, profile }
    }

    /// Takes in rows: their keys in the order and types of the version's, and those features of it that they have.
    ///
    /// # Errors
    /// Where a column has another type than is declared.
    pub fn add(
        &mut self,
        version: &ViewVersion,
        keys: &[ArrayRef],
        features: &[(&str, ArrayRef)],
        at: Timestamp,
    ) -> Result<()> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::internal("sampling what passes by", format!("`{}`: {error}", version.label()))
        };
        self.passed += keys.first().map_or(0, |key| key.len()) as u64;
        self.until = self.until.max(at);
        let rows = rows_of_share(keys, self.share).map_err(|error| failed(&error))?;
        if rows.is_empty() || features.is_empty() {
            return Ok(());
        }
        let mut fields = Vec::with_capacity(features.len());
        let mut columns = Vec::with_capacity(features.len());
        for (name, column) in features {
            fields.push(Field::new(*name, column.data_type().clone(), true));
            columns.push(rows_of(column, &rows).map_err(|error| failed(&error))?);
        }
        let chosen = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
        self.profile.add(&chosen.map_err(|error| failed(&error))?).map_err(|error| failed(&error))
    }

    /// Takes in rows as validation accepts them.
    ///
    /// # Errors
    /// Those of [`Self::add`].
    pub fn add_accepted(&mut self, version: &ViewVersion, rows: &RecordBatch, at: Timestamp) -> Result<()> {
        let column = |name: &str| rows.column_by_name(name).cloned();
        let keys: Vec<ArrayRef> = version.keys().iter().filter_map(|key| column(key.name.as_str())).collect();
        let features = version.definition.features.iter();
        let features: Vec<(&str, ArrayRef)> = features
            .filter_map(|feature| Some((feature.name.as_str(), column(feature.name.as_str())?)))
            .collect();
        self.add(version, &keys, &features, at)
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        self.share = self.share.max(other.share);
        self.from = self.from.min(other.from);
        self.until = self.until.max(other.until);
        self.seen = self.seen.min(other.seen);
        self.passed += other.passed;
        self.profile
            .merge(&other.profile)
            .map_err(|error| Error::internal("portions of one version do not fit each other", error))
    }
}

/// What passed by since it was judged last.
#[derive(Debug, Default)]
pub struct Passing {
    /// Whether somebody judges what is gathered; else nothing is.
    begun: AtomicBool,
    waiting: Mutex<BTreeMap<(VersionId, PassedBy), Portion>>,
    /// How often in a row what waits could not be compared.
    failures: Mutex<BTreeMap<(VersionId, PassedBy), u32>>,
}

/// What of that which waits is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// What has values enough to be compared.
    Enough,
    /// All of it: nothing comes any more.
    All,
}

impl Passing {
    /// From here on samples are gathered, for whoever says so judges them now and then.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    pub fn is_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Takes in a portion, to what waits of the same.
    ///
    /// # Errors
    /// `Internal` where the portions are of different features.
    pub fn add(&self, version: VersionId, of: PassedBy, portion: &Portion) -> Result<()> {
        if !self.is_begun() || portion.passed == 0 {
            return Ok(());
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.get_mut(&(version, of)) {
            Some(known) => known.merge(portion),
            None => {
                waiting.insert((version, of), portion.clone());
                Ok(())
            }
        }
    }

    /// Takes out what is due. What was never in the share of anybody goes on to wait, and is told with the next that is.
    fn take(&self, state: &State, due: Due) -> Vec<((VersionId, PassedBy), Portion)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = |version: VersionId, portion: &Portion| {
            let rules = state.view_version(version).and_then(|version| version.definition.quality.as_ref());
            let least = rules.and_then(|rules| rules.least_rows).unwrap_or(LEAST_ROWS);
            portion.profile.rows >= least.max(1)
        };
        let due = |version: VersionId, portion: &Portion| match due {
            Due::Enough => enough(version, portion),
            Due::All => portion.profile.rows > 0,
        };
        let mut taken = Vec::new();
        waiting.retain(|(version, of), portion| {
            let goes = due(*version, portion);
            if goes {
                taken.push(((*version, *of), portion.clone()));
            }
            !goes
        });
        taken
    }

    /// Notes whether what was taken could be compared. Whether it is to wait for another time.
    fn compared(&self, of: (VersionId, PassedBy), well: bool) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let before = failures.remove(&of).unwrap_or(0);
        let again = !well && before + 1 < MOST_FAILURES;
        if again {
            failures.insert(of, before + 1);
        }
        again
    }
}

/// Tells the log of this process, and nobody else: that something was not looked at is no reason to keep it from who asked for it.
pub fn not_sampled(error: &dyn std::fmt::Display) {
    tracing::warn!(%error, "what passed by was not sampled");
}

/// The share of a version's streamed rows that is sampled; none where nothing is.
pub fn of_streams(version: &ViewVersion) -> Option<f64> {
    let share = version.definition.sampling.as_ref()?.streams?;
    (share > 0.0).then_some(share)
}

/// Compares what is due with the baselines of its versions, and writes it to the log: one entry for all. Gives what was written. What
/// cannot be compared, as its baseline is not there, is told the log of this process, and waits for another time; the rest is written.
/// What may have values of an entity that was erased since is let go.
///
/// # Errors
/// Those of [`Catalog::commit`]; what was not written waits on.
pub async fn judge(catalog: &Catalog, due: Due, author: &Author) -> Result<Vec<Sampled>> {
    let state = catalog.refresh().await?;
    let taken = catalog.passing().take(&state, due);
    let mut compared = Vec::with_capacity(taken.len());
    for ((id, of), portion) in taken {
        let Some(version) = state.view_version(id) else { continue };
        if is_erased(&state, version.view, portion.seen) {
            continue;
        }
        let judged = compare(catalog, &state, version, of, &portion).await;
        let again = catalog.passing().compared((id, of), judged.is_ok());
        match judged {
            Ok(judged) => compared.push(((id, of), portion, judged)),
            Err(error) => {
                let (label, rows) = (version.label(), portion.profile.rows);
                let then = if again { "it waits for another time" } else { "it is let go" };
                tracing::warn!(%error, version = %label, rows, "a sample could not be compared; {then}");
                if again {
                    catalog.passing().add(id, of, &portion)?;
                }
            }
        }
    }
    if compared.is_empty() {
        return Ok(Vec::new());
    }
    let written = write(catalog, &state, &compared, author).await;
    if written.is_err() {
        for ((version, of), portion, _) in &compared {
            catalog.passing().add(*version, *of, portion)?;
        }
    }
    written
}

async fn compare(
    catalog: &Catalog,
    state: &State,
    version: &ViewVersion,
    of: PassedBy,
    portion: &Portion,
) -> Result<Judged> {
    let rules = version.definition.quality.clone().unwrap_or_default();
    let at = match of {
        PassedBy::Reads => state.head.sequence,
        PassedBy::Streams => before(state, version, portion.from),
    };
    let compared = baseline(catalog, state, version, &rules.baseline(), at).await?;
    let compared: Vec<BatchProfile> = compared.into_iter().map(|(_, profile)| profile).collect();
    quality::judge(&rules, Judging::Sample, &portion.profile, &compared, portion.until)
        .map_err(|error| Error::internal("a sample cannot be compared with its baseline", error))
}

async fn write(
    catalog: &Catalog,
    state: &State,
    compared: &[((VersionId, PassedBy), Portion, Judged)],
    author: &Author,
) -> Result<Vec<Sampled>> {
    let mut samples: Vec<Sampled> = Vec::with_capacity(compared.len());
    let mut seen: Vec<Sequence> = Vec::with_capacity(compared.len());
    for ((version, of), portion, judged) in compared {
        let Some(version) = state.view_version(*version) else { continue };
        let sample: SampleId = environment::mint();
        let bytes = portion.profile.to_json();
        let profile = catalog.put_object(format!("profiles/{sample}.json"), bytes.into()).await?;
        samples.push(Sampled {
            sample,
            view: version.view,
            version: version.version,
            of: *of,
            share: portion.share,
            from: portion.from,
            until: portion.until,
            passed: portion.passed,
            rows: portion.profile.rows,
            profile,
            judged: judged.clone(),
        });
        seen.push(portion.seen);
    }
    let mut written: Vec<Sampled> = Vec::new();
    catalog
        .commit::<()>(author, None, |state| {
            let all = samples.iter().zip(&seen);
            let stays = all.filter(|(sample, seen)| !is_erased(state, sample.view, **seen));
            written = stays.map(|(sample, _)| sample.clone()).collect();
            if written.is_empty() {
                return Ok(Intent::Done(()));
            }
            Ok(Intent::Append(written.iter().cloned().map(Record::from).collect()))
        })
        .await?;
    let is_written = |sample: &Sampled| written.iter().any(|one| one.sample == sample.sample);
    let left = samples.iter().filter(|sample| !is_written(sample));
    let left: Vec<&str> = left.map(|sample| sample.profile.path.as_str()).collect();
    if let Err(error) = erasure::delete_paths(catalog, left.into_iter()).await {
        tracing::warn!(%error, "profiles that no entry names were not deleted; a sweep deletes them");
    }
    Ok(written)
}

/// Whether values of the view were erased after an entry.
fn is_erased(state: &State, view: ViewId, seen: Sequence) -> bool {
    state.erasures().last_of(view).is_some_and(|last| last > seen)
}

/// The last batch of a version's data that was there before a time. What streams brought since is what is looked at, and would be its own
/// baseline.
fn before(state: &State, version: &ViewVersion, time: Timestamp) -> Sequence {
    let of_line = state.batches_of_line(version.line).iter();
    let earlier = of_line.filter(|batch| batch.by.committed_at < time);
    earlier.map(|batch| batch.by.sequence).max().unwrap_or(Sequence::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array};

    fn portion(profile_rows: usize) -> Portion {
        let profile = BatchProfile { rows: profile_rows as u64, ..BatchProfile::default() };
        let seen = Sequence(5);
        Portion { share: 0.5, from: Timestamp(3), until: Timestamp(7), seen, passed: 100, profile }
    }

    fn id(number: u128) -> VersionId {
        VersionId::from(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn nothing_is_gathered_before_somebody_judges_it() {
        let passing = Passing::default();
        passing.add(id(1), PassedBy::Reads, &portion(3)).unwrap();
        assert!(passing.waiting.lock().unwrap().is_empty());
        passing.begin();
        passing.add(id(1), PassedBy::Reads, &portion(3)).unwrap();
        passing.add(id(1), PassedBy::Streams, &portion(3)).unwrap();
        let (from, until, seen) = (Timestamp(1), Timestamp(2), Sequence(4));
        let earlier = Portion { from, until, seen, share: 0.1, ..portion(4) };
        passing.add(id(1), PassedBy::Reads, &earlier).unwrap();
        let waiting = passing.waiting.lock().unwrap();
        let reads = &waiting[&(id(1), PassedBy::Reads)];
        assert_eq!((reads.passed, reads.profile.rows, reads.share), (200, 7, 0.5));
        assert_eq!((reads.from, reads.until, waiting.len()), (Timestamp(1), Timestamp(7), 2));
        assert_eq!(reads.seen, Sequence(4));
    }

    #[test]
    fn what_cannot_be_compared_is_let_go_at_last() {
        let passing = Passing::default();
        let (one, other) = ((id(1), PassedBy::Reads), (id(2), PassedBy::Reads));
        for _ in 1..MOST_FAILURES {
            assert!(passing.compared(one, false));
        }
        assert!(passing.compared(other, false), "each for itself");
        assert!(!passing.compared(one, false));
        assert!(passing.compared(one, false), "what comes then waits as before");
        assert!(!passing.compared(one, true));
        assert!(passing.failures.lock().unwrap().keys().eq([&other]));
    }

    #[test]
    fn a_portion_profiles_the_entities_of_its_share_alone() {
        let entity = "kind = \"entity\"\nname = \"thing\"\n[[keys]]\nname = \"k\"\ntype = \"int64\"\n";
        let view = "kind = \"feature_view\"\nname = \"v\"\nentity = \"thing\"\n[time]\nvalid_at = \"t\"\nknown_at = \"arrival\"\n\
             [[features]]\nname = \"a\"\ntype = \"float64\"\n[sampling]\nreads = 0.05\n";
        let files = [("thing.toml", entity), ("v.toml", view)];
        let files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
        let definitions = feature::definition::parse_files(files).unwrap_or_else(|errors| panic!("{errors}"));
        let entity = definitions.entities[0].definition.clone();
        let view = definitions.views[0].definition.clone();
        assert_eq!(view.sampling.and_then(|sampling| sampling.reads), Some(0.05));
        let version = ViewVersion {
            view: uuid::Uuid::nil().into(),
            version: id(1),
            number: 1,
            line: id(1),
            digest: String::new(),
            definition: Arc::new(view),
            entity: Arc::new(entity),
            by: Arc::new(crate::state::Provenance {
                sequence: feature::Sequence(1),
                committed_at: Timestamp(0),
                principal: String::new(),
                program: String::new(),
                run: None,
                experiment: None,
            }),
        };
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values((0..10_000).map(|row| row % 1_000)));
        let a: ArrayRef =
            Arc::new(Float64Array::from_iter_values((0..10_000).map(|row| f64::from(row % 1_000))));
        let mut whole = Portion::empty(&version, 0.05, Timestamp(0), Sequence(1));
        whole.add(&version, std::slice::from_ref(&keys), &[("a", a.clone())], Timestamp(9)).unwrap();
        assert_eq!((whole.passed, whole.until), (10_000, Timestamp(9)));
        // Each entity comes ten times, with all of its rows or none.
        assert_eq!(whole.profile.rows % 10, 0);
        assert!((200..=800).contains(&whole.profile.rows), "{}", whole.profile.rows);
        let mut parts = Portion::empty(&version, 0.05, Timestamp(0), Sequence(1));
        for (from, rows) in [(0, 17), (17, 5_000), (5_017, 4_983)] {
            let (keys, a) = (keys.slice(from, rows), a.slice(from, rows));
            parts.add(&version, &[keys], &[("a", a)], Timestamp(9)).unwrap();
        }
        assert_eq!(parts.profile, whole.profile);
    }
}
