//! An open store: its state, kept up with the log, and the one way to append to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use feature::digest::{Digest, HashAlgorithm, hash};
use feature::{BatchId, CommitId, CompactionId, Id, Sequence, StoreId};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use storage::entry::{Entry, RawRecord, RequestKey};
use storage::environment;
use storage::log::Appended;
use storage::manifest::{self, DataFile};
use storage::{Checkpoint, Store, conformance};
use tokio::sync::OnceCell;

use crate::author::Author;
use crate::cache_use::{CacheUse, Questions};
use crate::checkpoint::{self, Checked, PassedOver};
use crate::error::{Error, Result};
use crate::records::{Object, Record, StoreCreated};
use crate::registry::introduction;
use crate::sampling::Passing;
use crate::scoreboard::Scoreboards;
use crate::state::{Applied, Batch, Compaction, Provenance, Run, State, ViewVersion};
use crate::visible_file::{FileBatches, VisibleFile};

/// A handle to an open store; cheap to clone, shared by everything that reads or writes it.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

/// Files, and the path of the manifest that named them: an erasure puts another in its place.
type ByPath<F> = (String, Arc<[F]>);

struct Inner {
    store: Store,
    state: RwLock<Arc<State>>,
    /// Only one task of this process folds or appends at a time; others would only lose races to it.
    turn: tokio::sync::Mutex<()>,
    manifests: RwLock<Manifests>,
    manifests_asked: Questions,
    /// The files of compactions, with all of their batches, and the manifest that says so: an erasure puts another in its place.
    runs: RwLock<HashMap<CompactionId, ByPath<VisibleFile>>>,
    proved: OnceCell<()>,
    checkpoints: Mutex<Checkpoints>,
    /// Held by the task that writes a checkpoint.
    writing: Arc<tokio::sync::Mutex<()>>,
    passing: Passing,
    scoreboards: Scoreboards,
}

/// The manifests that this process has read, and their bytes as stored.
#[derive(Default)]
struct Manifests {
    /// With the manifest that says so: an erasure puts another in its place.
    files: HashMap<BatchId, ByPath<Arc<DataFile>>>,
    bytes: u64,
}

/// What this process knows of the store's checkpoints.
#[derive(Default)]
struct Checkpoints {
    /// The one that the store was opened from, or that was written last.
    last: Option<Arc<Checkpoint>>,
    /// The head when one was begun last, whatever came of it.
    begun: Option<Sequence>,
    /// Found when the store was opened.
    passed_over: Vec<PassedOver>,
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

/// Name and version of this program, as a checkpoint keeps it.
const PROGRAM: &str = concat!("lineament ", env!("CARGO_PKG_VERSION"));
/// How far the head of the log may be ahead of this machine's clock.
const CLOCK_TOLERANCE_MICROS: i64 = 5 * 60 * 1_000_000;
/// How many lost races a commit bears before it gives up.
const ATTEMPTS: u32 = 1_000;
/// The pause after a first lost race, and the longest: about one put of a local disk, and some puts of a bucket.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// A checkpoint is due after so many entries, or so many records: about what is folded in the time that one
/// takes to be read.
const ENTRIES_DUE: usize = 1_000;
const RECORDS_DUE: usize = 10_000;
/// How often a state that is to replace the newest catches up with it beside those who append.
const ROUNDS: usize = 4;
/// The state rests on tables again when what was folded since is this part of it.
const REST_SHARE: u64 = 8;

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

    /// Opens a store: from its newest checkpoint that is sound, else by folding its log. What was passed over
    /// is said as a warning and by [`Self::passed_over`].
    ///
    /// # Errors
    /// `NotAStore` where there is no log; `Damaged` or `Corrupt` where the entries after the checkpoint, or
    /// all of them, are not what was written.
    pub async fn open(store: Store) -> Result<Self> {
        let mut passed_over = Vec::new();
        let opened = checkpoint::newest(&store, &mut passed_over).await?;
        for passed in &passed_over {
            tracing::warn!(sequence = passed.sequence.0, "a checkpoint was passed over: {}", passed.why);
        }
        let catalog = match opened {
            Some(opened) => {
                let mut state = Some(opened.state);
                for (entry, digest) in opened.entries {
                    fold(&mut state, &entry, digest)?;
                }
                let last = Some(Arc::new(opened.checkpoint));
                Self::over(store, state, Checkpoints { last, begun: None, passed_over })?
            }
            None => {
                let state = folded_log(&store).await?;
                Self::over(store, state, Checkpoints { passed_over, ..Checkpoints::default() })?
            }
        };
        catalog.checkpoint_if_due(&catalog.state());
        Ok(catalog)
    }

    /// Opens a store by folding its whole log, whatever checkpoints there are.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_from_log(store: Store) -> Result<Self> {
        let state = folded_log(&store).await?;
        Self::over(store, state, Checkpoints::default())
    }

    fn over(store: Store, state: Option<State>, checkpoints: Checkpoints) -> Result<Self> {
        let Some(state) = state else { return Err(storage::Error::not_a_store(store.location()).into()) };
        let inner = Inner {
            store,
            state: RwLock::new(Arc::new(state)),
            turn: tokio::sync::Mutex::new(()),
            manifests: RwLock::default(),
            manifests_asked: Questions::default(),
            runs: RwLock::default(),
            proved: OnceCell::new(),
            checkpoints: Mutex::new(checkpoints),
            writing: Arc::default(),
            passing: Passing::default(),
            scoreboards: Scoreboards::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What is sampled of that which passes by in this process.
    pub fn passing(&self) -> &Passing {
        &self.inner.passing
    }

    pub(crate) fn scoreboards(&self) -> &Scoreboards {
        &self.inner.scoreboards
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
        self.checkpoint_if_due(&next);
        Ok(next)
    }

    /// The checkpoint that the state was opened from, or the last that this process wrote since.
    pub fn last_checkpoint(&self) -> Option<Arc<Checkpoint>> {
        self.checkpoints().last.clone()
    }

    /// Checkpoints that were found when the store was opened and could not be used.
    pub fn passed_over(&self) -> Vec<PassedOver> {
        self.checkpoints().passed_over.clone()
    }

    /// Writes a checkpoint of the newest state; the last one where nothing came after it.
    ///
    /// # Errors
    /// Those of the storage. Nothing depends on a checkpoint, so a failure harms nothing.
    pub async fn checkpoint(&self) -> Result<Arc<Checkpoint>> {
        let state = self.refresh().await?;
        let _writing = self.inner.writing.lock().await;
        self.write_checkpoint(state).await
    }

    /// Waits until the checkpoint that is being written in the background, if any, is there or has failed.
    pub async fn checkpoint_written(&self) {
        drop(self.inner.writing.lock().await);
    }

    /// Folds the whole log and compares with the last checkpoint; none where there is no checkpoint that
    /// could be used.
    ///
    /// # Errors
    /// Those of the log; `Internal` where the checkpoint cannot be read any more.
    pub async fn check_checkpoint(&self) -> Result<Option<Checked>> {
        let Some(checkpoint) = self.last_checkpoint() else { return Ok(None) };
        let sequence = checkpoint.sequence;
        let Some(folded) = folded_until(&self.inner.store, sequence).await? else { return Ok(None) };
        if folded.head.sequence != sequence {
            return Err(Error::Invalid(format!(
                "the log ends at sequence {}, before its checkpoint {sequence}; it was cut",
                folded.head.sequence
            )));
        }
        let held = checkpoint::load(&self.inner.store, &checkpoint).await;
        let held = held.map_err(|why| Error::internal("the checkpoint cannot be read any more", why))?;
        let (held, folded) = (checkpoint::state_digest(&held)?, checkpoint::state_digest(&folded)?);
        Ok(Some(Checked { sequence, named: checkpoint.state, held, folded }))
    }

    async fn write_checkpoint(&self, state: Arc<State>) -> Result<Arc<Checkpoint>> {
        let last = self.last_checkpoint();
        if let Some(last) = last.as_ref().filter(|last| last.sequence >= state.head.sequence) {
            return Ok(last.clone());
        }
        let written = checkpoint::write(&self.inner.store, state, last.as_deref(), PROGRAM).await?;
        let written = Arc::new(written);
        self.checkpoints().last = Some(written.clone());
        Ok(written)
    }

    /// Replaces the newest state by an equal one that rests on a checkpoint, as if the store had been opened
    /// from it. A commit copies what was folded since; without this a process that runs for long would copy
    /// ever more.
    async fn rest_on(&self, checkpoint: &Checkpoint) -> Result<()> {
        let rested = checkpoint::load(&self.inner.store, checkpoint).await;
        let rested =
            rested.map_err(|error| Error::internal("the state cannot rest on its checkpoint", error))?;
        let mut next = Some(rested);
        // Nobody else reads or appends while the turn is taken: what came since the checkpoint is folded before, and what came meanwhile.
        for _ in 0..ROUNDS {
            if !self.fold_newer(&mut next).await? {
                break;
            }
        }
        let _turn = self.inner.turn.lock().await;
        self.fold_newer(&mut next).await?;
        if let Some(next) = next.filter(|next| next.head.sequence >= self.state().head.sequence) {
            *write(&self.inner.state) = Arc::new(next);
        }
        Ok(())
    }

    /// Folds what the log has after a state that came from a checkpoint; false where it has nothing.
    async fn fold_newer(&self, state: &mut Option<State>) -> Result<bool> {
        let Some(head) = state.as_ref().map(|state| state.head.clone()) else { return Ok(false) };
        let entries = self.inner.store.log().entries_after_checkpoint(head.sequence, head.digest).await?;
        let any = !entries.is_empty();
        for (entry, digest) in entries {
            fold(state, &entry, digest)?;
            tokio::task::yield_now().await;
        }
        Ok(any)
    }

    /// Begins to write a checkpoint in the background where enough was folded since the last.
    fn checkpoint_if_due(&self, state: &Arc<State>) {
        let passed_over = {
            let mut checkpoints = self.checkpoints();
            let last = checkpoints.last.as_ref().map(|last| last.sequence);
            let (entries, records) = state.folded_after(last.max(checkpoints.begun));
            if entries < ENTRIES_DUE && records < RECORDS_DUE {
                return;
            }
            checkpoints.begun = Some(state.head.sequence);
            checkpoints.passed_over.clone()
        };
        let Ok(turn) = self.inner.writing.clone().try_lock_owned() else { return };
        let (catalog, state) = (self.clone(), state.clone());
        tokio::spawn(async move {
            let _turn = turn;
            let head = state.head.sequence;
            match checkpoint::newest_sequence(&catalog.inner.store, &passed_over).await {
                // Another process was faster.
                Ok(Some(newest)) if newest.0 + ENTRIES_DUE as u64 > head.0 => return,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the checkpoints cannot be listed"),
            }
            let written = match catalog.write_checkpoint(state.clone()).await {
                Ok(written) => written,
                Err(error) => {
                    tracing::warn!(%error, "no checkpoint could be written; opening takes longer");
                    return;
                }
            };
            tracing::debug!(sequence = written.sequence.0, "a checkpoint was written");
            // It reads the checkpoint once; a commit copies each time what was folded since.
            let (folded, _) = state.folded_after(None);
            if (folded as u64).saturating_mul(REST_SHARE) < head.0 {
                return;
            }
            if let Err(error) = catalog.rest_on(&written).await {
                tracing::warn!(%error, "the state stays in memory as it is");
            }
        });
    }

    fn checkpoints(&self) -> std::sync::MutexGuard<'_, Checkpoints> {
        self.inner.checkpoints.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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
            // Whoever was too slow is told so; that the entry would not fold would tell nobody what to do.
            if let Some(why) = records.iter().find_map(|record| state.fenced(record)) {
                return Err(Error::Contended(why));
            }
            let entry = self.next_entry(&state, author, request, &records)?;
            let bytes = entry.encode()?;
            let next = folded(&state, &entry, storage::entry::digest(state.hash, &bytes))?;
            match self.inner.store.log().append(entry.sequence, bytes).await? {
                Appended::Committed => {
                    let next = Arc::new(next);
                    *write(&self.inner.state) = next.clone();
                    self.checkpoint_if_due(&next);
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
    ///
    /// # Errors
    /// `NotFound` where rows that the snapshot has are gone: those that are there are never taken for all. Manifests that cannot be read.
    pub async fn files(
        &self,
        state: &State,
        version: &ViewVersion,
        at: Sequence,
    ) -> Result<Vec<VisibleFile>> {
        if let Some(gone) = state.gone_of(version, at) {
            return Err(Error::gone(version, at, gone));
        }
        let before = state.expiry().before(version.view, at);
        let mut files = Vec::new();
        for run in state.runs_of_line(version.line) {
            let counts = |batch: &&Arc<Batch>| state.counts(batch, version, at);
            let counted: Vec<Arc<Batch>> = run.batches().iter().filter(counts).cloned().collect();
            if !counted.is_empty() {
                let of_run = self.run_files(state, run, &counted).await?;
                files.extend(of_run.into_iter().filter_map(|file| file.since(before)));
            }
        }
        Ok(files)
    }

    /// The files of a run that are there, with those of its batches that count.
    pub async fn run_files(
        &self,
        state: &State,
        run: Run<'_>,
        counted: &[Arc<Batch>],
    ) -> Result<Vec<VisibleFile>> {
        let mut files = self.all_run_files(run, counted).await?;
        files.retain(|visible| !state.expiry().is_gone(&visible.file));
        Ok(files)
    }

    /// The same with those that are gone.
    pub async fn all_run_files(&self, run: Run<'_>, counted: &[Arc<Batch>]) -> Result<Vec<VisibleFile>> {
        match run {
            Run::Batch(batch) => {
                let files = self.batch_files(batch).await?;
                Ok(files.iter().map(|file| VisibleFile::of_one(file.clone(), batch.clone())).collect())
            }
            Run::Compacted(compaction, batches) => {
                let whole = self.compaction_files(compaction, batches).await?;
                if counted.len() == batches.len() {
                    return Ok(whole.to_vec());
                }
                let some = |file: &VisibleFile| VisibleFile::of_several(file.file.clone(), counted);
                Ok(whole.iter().filter_map(some).collect())
            }
        }
    }

    /// The manifest of a compaction, checked against the digest in the log, and that its files hold no others than these batches.
    pub(crate) async fn compaction_files(
        &self,
        compaction: &Compaction,
        batches: &[Arc<Batch>],
    ) -> Result<Arc<[VisibleFile]>> {
        let id = compaction.record.compaction;
        let manifest = &self.in_force(&compaction.record.manifest);
        if let Some((path, files)) = read(&self.inner.runs).get(&id)
            && *path == manifest.path
        {
            return Ok(files.clone());
        }
        let bytes = self.object(manifest).await?;
        let mut files = Vec::new();
        for file in manifest::decode(&manifest.path, &bytes)? {
            let whole = VisibleFile::of_several(Arc::new(file), batches);
            let whole = whole
                .filter(|file| !matches!(&file.batches, FileBatches::Several(some) if some.is_partial()));
            files.push(whole.ok_or_else(|| {
                storage::Error::corrupt(
                    &manifest.path,
                    "it has files of other batches than its compaction holds",
                )
            })?);
        }
        let files: Arc<[VisibleFile]> = files.into();
        write(&self.inner.runs).insert(id, (manifest.path.clone(), files.clone()));
        Ok(files)
    }

    /// The manifest of a batch, checked against the digest in the log.
    pub async fn batch_files(&self, batch: &Batch) -> Result<Arc<[Arc<DataFile>]>> {
        let manifest = self.in_force(&batch.record.manifest);
        if let Some((path, files)) = read(&self.inner.manifests).files.get(&batch.record.batch)
            && *path == manifest.path
        {
            self.inner.manifests_asked.hit();
            return Ok(files.clone());
        }
        self.inner.manifests_asked.miss();
        let bytes = self.object(&manifest).await?;
        let files = manifest::decode(&manifest.path, &bytes)?;
        let files: Arc<[Arc<DataFile>]> = files.into_iter().map(Arc::new).collect();
        let mut manifests = write(&self.inner.manifests);
        if manifests.files.insert(batch.record.batch, (manifest.path, files.clone())).is_none() {
            manifests.bytes += bytes.len() as u64;
        }
        Ok(files)
    }

    /// How the cache of manifests is used; its bytes are those that were read.
    pub fn manifest_cache(&self) -> CacheUse {
        let manifests = read(&self.inner.manifests);
        self.inner.manifests_asked.with(manifests.files.len(), manifests.bytes)
    }

    /// What is read where an entry names this object: another one, if something of it was erased since.
    pub fn in_force(&self, object: &Object) -> Object {
        self.state().erasures().in_force(object).clone()
    }

    /// The bytes of an object that an entry names, checked against its digest; of what lies in its place, if something of it was erased.
    pub async fn object(&self, object: &Object) -> Result<bytes::Bytes> {
        let object = &self.in_force(object);
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

/// The fold of the whole log; none where there is no log.
async fn folded_log(store: &Store) -> Result<Option<State>> {
    folded_until(store, Sequence(u64::MAX)).await
}

/// The fold of the log up to a sequence, or to its end where that comes first.
async fn folded_until(store: &Store, last: Sequence) -> Result<Option<State>> {
    let mut state: Option<State> = None;
    loop {
        let head = state.as_ref().map(|state| (state.head.sequence, state.head.digest));
        let (entries, more) = store.log().next_entries(head).await?;
        for (entry, digest) in entries {
            if entry.sequence > last {
                return Ok(state);
            }
            fold(&mut state, &entry, digest)?;
        }
        if !more {
            return Ok(state);
        }
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
    // It was made of records of this program, so that none has a field that is not known.
    apply(&mut next, entry, digest).map_err(|error| Error::internal("the entry would not fold", error))?;
    next.ok_or_else(|| Error::internal("the entry would not fold", "no state"))
}

/// Longer after each lost race, and different for each writer, so that those who raced once do not race again.
async fn pause(lost: u32, commit: &CommitId) {
    let longest = LONGEST_PAUSE.min(FIRST_PAUSE * 2u32.saturating_pow(lost.min(16)));
    let share = u32::from(commit.uuid().as_bytes()[0]);
    tokio::time::sleep(longest * share / 255).await;
}

/// The state with one entry more, and the entry's records.
pub(crate) fn fold(state: &mut Option<State>, entry: &Entry, digest: Digest) -> Result<Vec<Record>> {
    let records = apply(state, entry, digest)?;
    if let Some(state) = state {
        let noted = state.note_unread(entry.sequence, &entry.records, &records);
        noted.map_err(|error| Error::internal("a record cannot be compared with its body", error))?;
    }
    Ok(records)
}

/// As [`fold`], but for the fields that this program does not know.
fn apply(state: &mut Option<State>, entry: &Entry, digest: Digest) -> Result<Vec<Record>> {
    let records = decoded(entry)?;
    let applied = Applied {
        by: provenance(entry),
        digest,
        request: entry.request.as_ref().map(|request| (request.key.as_str(), request.digest)),
        records: &records,
    };
    let result = match state {
        Some(state) => state.apply_entry(&applied),
        None => State::begin(&applied).map(|begun| *state = Some(begun)),
    };
    result.map_err(|error| Error::apply(entry.sequence, &error))?;
    Ok(records)
}

/// The records of an entry.
pub(crate) fn decoded(entry: &Entry) -> Result<Vec<Record>> {
    let records = entry.records.iter().map(|raw| Record::decode(raw.number, &raw.body));
    records.collect::<Result<Vec<_>, _>>().map_err(|error| Error::record(entry.sequence, &error))
}

pub(crate) fn provenance(entry: &Entry) -> Provenance {
    Provenance {
        sequence: entry.sequence,
        committed_at: entry.committed_at,
        principal: entry.principal.clone(),
        program: entry.program.clone(),
        run: entry.run.clone(),
        experiment: entry.experiment.clone(),
    }
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
