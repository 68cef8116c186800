//! An open store: its state, kept up with the log, and the one way to append to it.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use feature::digest::{Digest, HashAlgorithm, hash};
use feature::{BatchId, CommitId, Id, Sequence, StoreId};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use storage::entry::{Entry, RawRecord, RequestKey};
use storage::environment;
use storage::log::Appended;
use storage::manifest::{self, DataFile};
use storage::{Store, conformance};
use tokio::sync::OnceCell;

use crate::author::Author;
use crate::error::{Error, Result};
use crate::records::{Object, Record, StoreCreated};
use crate::registry::introduction;
use crate::state::{Applied, Batch, Provenance, State, ViewVersion};

/// A handle to an open store; cheap to clone, shared by everything that reads or writes it.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    state: RwLock<Arc<State>>,
    /// Only one task of this process folds or appends at a time; others would only lose races to it.
    turn: tokio::sync::Mutex<()>,
    manifests: RwLock<HashMap<BatchId, Arc<Vec<DataFile>>>>,
    proved: OnceCell<()>,
}

/// A file that counts for a view at a snapshot, with the batch that it holds.
#[derive(Clone, Debug)]
pub struct VisibleFile {
    pub file: DataFile,
    pub batch: Arc<Batch>,
}

/// What a commit wants to append, decided on the newest state.
pub enum Intent<T> {
    /// Append these records.
    Append(Vec<Record>),
    /// The wish is granted already; nothing is appended.
    Done(T),
}

/// How a commit ended.
#[derive(Debug)]
pub enum Outcome<T> {
    /// Appended at this sequence.
    Committed(Sequence),
    Done(T),
}

/// The idempotency key of a request, bound to what it asks.
#[derive(Clone, Debug)]
pub struct RequestBinding {
    pub key: String,
    pub digest: Digest,
}

/// How far the head of the log may be ahead of this machine's clock.
const CLOCK_TOLERANCE_MICROS: i64 = 5 * 60 * 1_000_000;
/// How many lost races a commit bears before it gives up.
const ATTEMPTS: u32 = 1_000;
/// The pause after a first lost race, and the longest: about one put of a local disk, and some puts of a bucket.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

impl Catalog {
    /// Makes a new store: proves that its object storage creates only where nothing is, and writes the first entry.
    pub async fn create(store: Store, author: &Author) -> Result<Self> {
        store.initialize().await?;
        conformance::prove_put_if_absent(store.objects().as_ref()).await?;
        let id: StoreId = environment::mint();
        let record = Record::from(StoreCreated {
            store: id,
            hash: HashAlgorithm::Blake3,
            format: storage::entry::FORMAT,
            put_if_absent_proved: true,
        });
        let entry = Entry {
            format: storage::entry::FORMAT,
            store: id,
            sequence: Sequence::ZERO,
            previous: None,
            commit: environment::random(),
            committed_at: store.clock().now(),
            principal: author.principal.clone(),
            program: author.program.clone(),
            request: None,
            run: author.run.clone(),
            experiment: author.experiment.clone(),
            records: vec![raw(&record)?],
        };
        let bytes = entry.encode()?;
        match store.log().append(Sequence::ZERO, bytes).await? {
            Appended::Committed | Appended::Lost => Self::open(store).await,
        }
    }

    /// Opens a store and folds its log.
    pub async fn open(store: Store) -> Result<Self> {
        let mut state: Option<State> = None;
        for (entry, digest) in store.log().entries_after(None).await? {
            fold(&mut state, &entry, digest)?;
        }
        let Some(state) = state else { return Err(storage::Error::not_a_store(store.location()).into()) };
        let inner = Inner {
            store,
            state: RwLock::new(Arc::new(state)),
            turn: tokio::sync::Mutex::new(()),
            manifests: RwLock::new(HashMap::new()),
            proved: OnceCell::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Opens the store at this place, and makes it first where there is none yet.
    pub async fn open_or_create(store: Store, author: &Author) -> Result<Self> {
        if store.is_initialized().await? {
            Self::open(store).await
        } else {
            Self::create(store, author).await
        }
    }

    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The state as last read. It never changes; a newer one replaces it.
    pub fn state(&self) -> Arc<State> {
        read(&self.inner.state).clone()
    }

    /// Reads the log to its end and returns the state there.
    pub async fn refresh(&self) -> Result<Arc<State>> {
        let _turn = self.inner.turn.lock().await;
        self.catch_up().await
    }

    async fn catch_up(&self) -> Result<Arc<State>> {
        let current = self.state();
        let head = (current.head.sequence, current.head.digest);
        let entries = self.inner.store.log().entries_after(Some(head)).await?;
        if entries.is_empty() {
            return Ok(current);
        }
        let mut next = Some((*current).clone());
        for (entry, digest) in entries {
            fold(&mut next, &entry, digest)?;
        }
        let Some(next) = next else { return Ok(current) };
        let next = Arc::new(next);
        *write(&self.inner.state) = next.clone();
        Ok(next)
    }

    /// Appends one entry: the one way in for every record. `intent` looks at the newest state and says what to append; it is
    /// asked again after each lost race, so it must check there whatever it relies on. A request that was
    /// answered before under the same key gives its first answer, and is refused if it asks for something else.
    ///
    /// # Errors
    /// Those of `intent`, those of the storage; `Unknown` where it cannot be told whether the entry landed: ask
    /// again with the same key. `Internal` where the records could not be folded: such an entry is never written, for
    /// nobody could open the store again.
    ///
    /// A run or an experiment that the author names for the first time is made known by an entry of its own before.
    pub async fn commit<T>(
        &self,
        author: &Author,
        request: Option<&RequestBinding>,
        intent: impl FnMut(&State) -> Result<Intent<T>>,
    ) -> Result<Outcome<T>> {
        self.prove_once().await?;
        if !introduction(&self.state(), author)?.is_empty() {
            self.append(author, None, |state| {
                let records = introduction(state, author)?;
                Ok(if records.is_empty() { Intent::Done(()) } else { Intent::Append(records) })
            })
            .await?;
        }
        self.append(author, request, intent).await
    }

    async fn append<T>(
        &self,
        author: &Author,
        request: Option<&RequestBinding>,
        mut intent: impl FnMut(&State) -> Result<Intent<T>>,
    ) -> Result<Outcome<T>> {
        let _turn = self.inner.turn.lock().await;
        let mut state = self.catch_up().await?;
        for lost in 0..ATTEMPTS {
            if let Some(sequence) = answered(&state, request)? {
                return Ok(Outcome::Committed(sequence));
            }
            let records = match intent(&state)? {
                Intent::Append(records) => records,
                Intent::Done(answer) => return Ok(Outcome::Done(answer)),
            };
            let entry = self.next_entry(&state, author, request, &records)?;
            let bytes = entry.encode()?;
            let next = folded(&state, &entry, storage::entry::digest(state.hash, &bytes))?;
            match self.inner.store.log().append(entry.sequence, bytes).await? {
                Appended::Committed => {
                    *write(&self.inner.state) = Arc::new(next);
                    return Ok(Outcome::Committed(entry.sequence));
                }
                Appended::Lost => {
                    pause(lost, &entry.commit).await;
                    state = self.catch_up().await?;
                }
            }
        }
        Err(Error::Contended(format!("{ATTEMPTS} other writers were faster each time; try again")))
    }

    async fn prove_once(&self) -> Result<()> {
        let objects = self.inner.store.objects();
        self.inner
            .proved
            .get_or_try_init(|| async { conformance::prove_put_if_absent(objects.as_ref()).await })
            .await?;
        Ok(())
    }

    fn next_entry(
        &self,
        state: &State,
        author: &Author,
        request: Option<&RequestBinding>,
        records: &[Record],
    ) -> Result<Entry> {
        let wall = self.inner.store.clock().now();
        let head = &state.head;
        if head.committed_at.0 - wall.0 > CLOCK_TOLERANCE_MICROS {
            return Err(Error::Contended(format!(
                "the newest entry of the log is dated {}, but this machine's clock says {wall}; set the clock right",
                head.committed_at
            )));
        }
        Ok(Entry {
            format: storage::entry::FORMAT,
            store: state.store,
            sequence: head.sequence.next(),
            previous: Some(head.digest),
            commit: environment::random(),
            committed_at: wall.max(feature::Timestamp(head.committed_at.0 + 1)),
            principal: author.principal.clone(),
            program: author.program.clone(),
            request: request.map(|request| RequestKey { key: request.key.clone(), digest: request.digest }),
            run: author.run.clone(),
            experiment: author.experiment.clone(),
            records: records.iter().map(raw).collect::<Result<_>>()?,
        })
    }

    /// The files of a version at a sequence, in the order of the log.
    pub async fn files(
        &self,
        state: &State,
        version: &ViewVersion,
        at: Sequence,
    ) -> Result<Vec<VisibleFile>> {
        let mut files = Vec::new();
        for batch in state.batches_of(version, at) {
            for file in self.batch_files(&batch).await?.iter() {
                files.push(VisibleFile { file: file.clone(), batch: batch.clone() });
            }
        }
        Ok(files)
    }

    /// The manifest of a batch, checked against the digest in the log.
    pub async fn batch_files(&self, batch: &Batch) -> Result<Arc<Vec<DataFile>>> {
        if let Some(files) = read(&self.inner.manifests).get(&batch.record.batch) {
            return Ok(files.clone());
        }
        let bytes = self.object(&batch.record.manifest).await?;
        let files = Arc::new(manifest::decode(&batch.record.manifest.path, &bytes)?);
        write(&self.inner.manifests).insert(batch.record.batch, files.clone());
        Ok(files)
    }

    /// The bytes of an object that an entry names, checked against its digest.
    pub async fn object(&self, object: &Object) -> Result<bytes::Bytes> {
        let bytes = self
            .inner
            .store
            .objects()
            .get(&Path::from(object.path.as_str()))
            .await
            .map_err(storage::Error::from)?
            .bytes()
            .await
            .map_err(storage::Error::from)?;
        if hash(object.digest.algorithm(), &bytes) != object.digest {
            return Err(storage::Error::corrupt(
                &object.path,
                "its bytes do not give the digest that the log holds; it was changed after it was written",
            )
            .into());
        }
        Ok(bytes)
    }

    /// Writes an object that an entry will name. It is durable when this returns.
    pub async fn put_object(&self, path: String, bytes: bytes::Bytes) -> Result<Object> {
        let digest = hash(self.state().hash, &bytes);
        let length = bytes.len() as u64;
        self.inner
            .store
            .objects()
            .put(&Path::from(path.as_str()), bytes.into())
            .await
            .map_err(storage::Error::from)?;
        Ok(Object { path, bytes: length, digest })
    }
}

/// The sequence at which this request was answered before, if it was.
fn answered(state: &State, request: Option<&RequestBinding>) -> Result<Option<Sequence>> {
    let Some(request) = request else { return Ok(None) };
    match state.request(&request.key) {
        None => Ok(None),
        Some(answer) if answer.digest == request.digest => Ok(Some(answer.sequence)),
        Some(answer) => Err(Error::Invalid(format!(
            "the request key `{}` was used at sequence {} for other content; a key stands for one request only: choose another",
            request.key, answer.sequence
        ))),
    }
}

/// The state with an entry that is yet to be written.
fn folded(state: &State, entry: &Entry, digest: Digest) -> Result<State> {
    let mut next = Some(state.clone());
    fold(&mut next, entry, digest).map_err(|error| Error::internal("the entry would not fold", error))?;
    next.ok_or_else(|| Error::internal("the entry would not fold", "no state"))
}

/// Longer after each lost race, and different for each writer, so that those who raced once do not race again.
async fn pause(lost: u32, commit: &CommitId) {
    let longest = LONGEST_PAUSE.min(FIRST_PAUSE * 2u32.saturating_pow(lost.min(16)));
    let share = u32::from(commit.uuid().as_bytes()[0]);
    tokio::time::sleep(longest * share / 255).await;
}

fn fold(state: &mut Option<State>, entry: &Entry, digest: Digest) -> Result<()> {
    let records = entry
        .records
        .iter()
        .map(|raw| Record::decode(raw.number, &raw.body))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::record(entry.sequence, &error))?;
    let applied = Applied {
        by: Provenance {
            sequence: entry.sequence,
            committed_at: entry.committed_at,
            principal: entry.principal.clone(),
            program: entry.program.clone(),
            run: entry.run.clone(),
            experiment: entry.experiment.clone(),
        },
        digest,
        request: entry.request.as_ref().map(|request| (request.key.as_str(), request.digest)),
        records: &records,
    };
    let result = match state {
        Some(state) => state.apply_entry(&applied),
        None => State::begin(&applied).map(|begun| *state = Some(begun)),
    };
    result.map_err(|error| Error::apply(entry.sequence, &error))
}

fn raw(record: &Record) -> Result<RawRecord> {
    let body = record.body().map_err(|error| Error::internal("a record cannot be written as JSON", error))?;
    Ok(RawRecord { number: record.number(), body })
}

/// A panic elsewhere leaves these locks poisoned but their content whole: it is replaced in one step.
fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}
