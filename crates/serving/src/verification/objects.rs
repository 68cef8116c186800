//! The objects that the log names, and those that these name: manifests, data files, training sets, spines and what
//! lies beside.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_recursion::async_recursion;
use bytes::Bytes;
use catalog::records::{BatchCommitted, Compacted, Object, SpineKept, TrainingSetRecorded};
use feature::digest::{Digest, HashAlgorithm, TableDigest, hash};
use feature::profile::BatchProfile;
use feature::{BatchId, SampleId, Sequence};
use futures::{StreamExt, TryStreamExt};
use lineage::Manifest;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use storage::manifest::{self, DataFile};
use storage::{Store, partition};
use tokio::sync::Semaphore;

use super::chain::RecordedTrainingSet;
use super::condemned::{Owner, Replacement};
use super::inventory::Inventory;
use super::report::{Fault, Harm, StoreVerification, VerifyProgress};
use super::unavailable;
use crate::error::{Error, Result};

/// An object that an entry names.
pub(super) struct Reference {
    pub sequence: Sequence,
    pub object: Object,
    pub role: Role,
}

pub(super) enum Role {
    /// `keys` are the columns of the view's keys; none where the log could not be folded so far.
    Manifest {
        record: Box<BatchCommitted>,
        keys: Option<Vec<String>>,
    },
    /// As of a manifest; its files hold rows of several batches.
    Compaction {
        record: Box<Compacted>,
        keys: Option<Vec<String>>,
    },
    Quarantine {
        batch: BatchId,
        rejected: u64,
    },
    BatchBody(BatchId),
    Profile(BatchId),
    SampleProfile(SampleId),
    Mended {
        batch: BatchId,
        rows: u64,
    },
    TrainingSet(Box<TrainingSetRecorded>),
    Reads {
        reads: u64,
    },
    KeptSpine(Box<SpineKept>),
    Observation,
    MaskKey,
    /// What is left of a manifest of which something was erased.
    Left {
        owner: Owner,
        rows: u64,
        /// Of the pieces of a batch.
        digest: Option<Digest>,
        keys: Option<Vec<String>>,
        /// Of a compaction: its entry, its record and its batches.
        merged: Option<Box<(Sequence, Compacted, BTreeSet<BatchId>)>>,
    },
    /// What is left of a training set; its record with the digest of that.
    LeftSet(Box<TrainingSetRecorded>),
    /// An object of which only the bytes are looked at.
    Plain,
}

/// What the log says of the files of a manifest.
struct Said {
    owner: Owner,
    rows: u64,
    /// Of the pieces, where they are those of one batch.
    digest: Option<Digest>,
    keys: Option<Vec<String>>,
}

/// A data file that a manifest names.
pub(super) struct FileOf {
    pub owner: Owner,
    sequence: Sequence,
    /// That have rows in it.
    pub batches: Vec<BatchId>,
    keys: Option<Arc<[String]>>,
    file: DataFile,
}

impl FileOf {
    /// The greatest valid_at of its rows.
    pub fn newest(&self) -> Option<i64> {
        self.file.valid_at_range().map(|(_, newest)| newest)
    }
}

/// What came of looking at a reference.
#[derive(Default)]
pub(super) struct Found {
    pub faults: Vec<Fault>,
    pub files: Vec<FileOf>,
    /// What is not there, which may be right.
    pub missing: Option<(Owner, Fault)>,
    /// What lies in other files since.
    pub replacement: Option<Replacement>,
}

/// What came of looking at a data file.
pub(super) enum Looked {
    /// It is not there, which may be right.
    Missing(Fault),
    Found(Vec<Fault>),
}

impl Found {
    fn name_files(
        &mut self,
        owner: Owner,
        sequence: Sequence,
        files: Vec<DataFile>,
        keys: Option<Vec<String>>,
    ) {
        let keys: Option<Arc<[String]>> = keys.map(Into::into);
        self.files.extend(files.into_iter().map(|file| {
            let batches: BTreeSet<BatchId> = file.pieces.iter().map(|piece| piece.batch).collect();
            FileOf { owner, sequence, batches: batches.into_iter().collect(), keys: keys.clone(), file }
        }));
    }
}

/// Why a data file is a fault that is not there.
pub(super) const MISSING: &str = "it is missing";

/// Looks at objects.
pub(super) struct Checker {
    store: Store,
    inventory: Arc<Inventory>,
    full: bool,
    /// Each holds the bytes of a whole file.
    large: Semaphore,
    looked_at: AtomicU64,
    bytes: AtomicU64,
    progress: Arc<dyn Fn(VerifyProgress) + Send + Sync>,
}

impl Checker {
    pub fn new(
        store: Store,
        inventory: Arc<Inventory>,
        full: bool,
        progress: Arc<dyn Fn(VerifyProgress) + Send + Sync>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            store,
            inventory,
            full,
            large: Semaphore::new(cores),
            looked_at: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            progress,
        }
    }

    pub fn looked_at(&self) -> u64 {
        self.looked_at.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn count(&self) {
        let objects = self.looked_at.fetch_add(1, Ordering::Relaxed) + 1;
        (self.progress)(VerifyProgress { objects, of: self.inventory.others().max(objects) });
    }

    /// The bytes of an object if they are so many and give this digest; else why not.
    async fn read(&self, path: &str, length: u64, digest: Digest) -> Result<Result<Bytes, String>> {
        let found = match self.store.objects().get(&Path::from(path)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(Err("it is missing".to_owned())),
            Err(error) => return Err(unavailable(error)),
        };
        if found.meta.size != length {
            return Ok(Err(format!("it has {} bytes, and {length} were written", found.meta.size)));
        }
        let bytes = found.bytes().await.map_err(unavailable)?;
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let given = hash(digest.algorithm(), &bytes);
        if given != digest {
            return Ok(Err(format!("it was altered: its bytes give {given}, and {digest} was written")));
        }
        Ok(Ok(bytes))
    }

    /// As [`Self::read`], for metadata, which is read always.
    async fn metadata(&self, path: &str, length: u64, digest: Digest) -> Result<Result<Bytes, String>> {
        self.inventory.name(path);
        self.count();
        self.read(path, length, digest).await
    }

    /// An object of which only the bytes are looked at: its size, and its digest where contents are read. Gives the bytes
    /// that were read.
    #[async_recursion]
    pub async fn whole(
        &self,
        path: &str,
        length: u64,
        digest: Digest,
    ) -> Result<Result<Option<Bytes>, String>> {
        self.count();
        match self.inventory.size(&self.store, path, Some(length)).await? {
            None => return Ok(Err("it is missing".to_owned())),
            Some(size) if size != length => {
                return Ok(Err(format!("it has {size} bytes, and {length} were written")));
            }
            Some(_) => {}
        }
        if !self.full {
            return Ok(Ok(None));
        }
        let _permit = self.large.acquire().await.map_err(|error| Error::internal("the store", error))?;
        Ok(self.read(path, length, digest).await?.map(Some))
    }

    #[async_recursion]
    pub async fn reference(&self, reference: Reference) -> Result<Found> {
        let Reference { sequence, object, role } = reference;
        let fault = |why: String| Fault::new(&object.path, why).at(sequence);
        let mut found = Found::default();
        match role {
            Role::Manifest { record, keys } => {
                let owner = Owner::Batch(record.batch);
                let said = Said { owner, rows: record.rows, digest: Some(record.digest), keys };
                let wrong = self.manifest(sequence, &object, said, &mut found).await?;
                let harm = Harm::Batch { batch: record.batch };
                found.faults.extend(wrong.map(|why| fault(why).harming(harm)));
            }
            Role::Compaction { record, keys } => {
                let owner = Owner::Compaction(record.compaction);
                let said = Said { owner, rows: record.rows, digest: None, keys };
                let wrong = self.manifest(sequence, &object, said, &mut found).await?;
                // Its files say which batches lie between the first and the last.
                let held = found.files.iter().flat_map(|file| file.batches.iter().copied()).collect();
                found.replacement = Some(Replacement::of(sequence, &record, held));
                let harms = [record.first, record.last].map(|batch| Harm::Batch { batch });
                let harmed = |why| harms.into_iter().fold(fault(why), Fault::harming);
                found.faults.extend(wrong.map(harmed));
            }
            Role::TrainingSet(record) => {
                let harm = Harm::TrainingSet { training_set: record.training_set };
                let wrong = self.training_set(sequence, &object, &record, &mut found).await?;
                found.faults.extend(wrong.map(|why| fault(why).harming(harm)));
            }
            Role::Quarantine { batch, rejected } => {
                let wrong = match self.whole(&object.path, object.bytes, object.digest).await? {
                    Ok(None) => None,
                    Ok(Some(bytes)) => quarantined(bytes, rejected),
                    Err(why) => Some(why),
                };
                found.faults.extend(wrong.map(|why| fault(why).harming(Harm::RejectedRows { batch })));
            }
            Role::Reads { reads } => {
                let wrong = match self.whole(&object.path, object.bytes, object.digest).await? {
                    Ok(None) => None,
                    Ok(Some(bytes)) => rows_differ(bytes, reads),
                    Err(why) => Some(why),
                };
                found.faults.extend(wrong.map(|why| fault(why).harming(Harm::Reads)));
            }
            Role::BatchBody(batch) => {
                let wrong = self.json(&object).await?;
                found.faults.extend(wrong.map(|why| fault(why).harming(Harm::Origins { batch })));
            }
            Role::Profile(batch) => {
                let wrong = match self.whole(&object.path, object.bytes, object.digest).await? {
                    Ok(None) => None,
                    Ok(Some(bytes)) => BatchProfile::from_json(&bytes).err().map(|error| error.to_string()),
                    Err(why) => Some(why),
                };
                found.faults.extend(wrong.map(|why| fault(why).harming(Harm::Profile { batch })));
            }
            Role::SampleProfile(sample) => {
                let wrong = match self.whole(&object.path, object.bytes, object.digest).await? {
                    Ok(None) => None,
                    Ok(Some(bytes)) => BatchProfile::from_json(&bytes).err().map(|error| error.to_string()),
                    Err(why) => Some(why),
                };
                found.faults.extend(wrong.map(|why| fault(why).harming(Harm::SampleProfile { sample })));
            }
            Role::Mended { batch, rows } => {
                let wrong = match self.whole(&object.path, object.bytes, object.digest).await? {
                    Ok(None) => None,
                    Ok(Some(bytes)) => rows_differ(bytes, rows),
                    Err(why) => Some(why),
                };
                found.faults.extend(wrong.map(|why| fault(why).harming(Harm::RejectedRows { batch })));
            }
            Role::KeptSpine(record) => {
                let wrong = match self.whole(&object.path, object.bytes, object.digest).await? {
                    Ok(None) => None,
                    Ok(Some(bytes)) => {
                        spine_differs(bytes, &record.digest, record.rows, object.digest.algorithm())
                    }
                    Err(why) => Some(why),
                };
                let (owner, harm) = (Owner::KeptSpine(record.spine), Harm::KeptSpine { spine: record.spine });
                found.missing = wrong.map(|why| (owner, fault(why).harming(harm)));
            }
            Role::Left { owner, rows, digest, keys, merged } => {
                let said = Said { owner, rows, digest, keys };
                let wrong = self.manifest(sequence, &object, said, &mut found).await?;
                let mut harms = Vec::new();
                if let Owner::Batch(batch) = owner {
                    harms.push(Harm::Batch { batch });
                }
                if let Some((at, record, held)) = merged.map(|merged| *merged) {
                    harms.extend([record.first, record.last].map(|batch| Harm::Batch { batch }));
                    found.replacement = Some(Replacement::of(at, &record, held));
                }
                let harmed = |why| harms.into_iter().fold(fault(why), Fault::harming);
                found.faults.extend(wrong.map(harmed));
            }
            Role::LeftSet(record) => {
                let harm = Harm::TrainingSet { training_set: record.training_set };
                let wrong = self.training_set(sequence, &object, &record, &mut found).await?;
                found.faults.extend(wrong.map(|why| fault(why).harming(harm)));
            }
            Role::Plain => {
                let wrong = self.whole(&object.path, object.bytes, object.digest).await?.err();
                found.faults.extend(wrong.map(fault));
            }
            Role::MaskKey => {
                let wrong = self.whole(&object.path, object.bytes, object.digest).await?.err();
                found.faults.extend(wrong.map(|why| fault(why).harming(Harm::MaskKey)));
            }
            Role::Observation => {
                let wrong = self.json(&object).await?;
                found.faults.extend(wrong.map(|why| fault(why).harming(Harm::Observation)));
            }
        }
        Ok(found)
    }

    async fn json(&self, object: &Object) -> Result<Option<String>> {
        Ok(match self.whole(&object.path, object.bytes, object.digest).await? {
            Ok(None) => None,
            Ok(Some(bytes)) => serde_json::from_slice::<serde_json::Value>(&bytes)
                .err()
                .map(|error| format!("it was written as it is, and is no JSON: {error}")),
            Err(why) => Some(why),
        })
    }

    /// What is wrong with a manifest; its files are to be looked at after it.
    async fn manifest(
        &self,
        sequence: Sequence,
        object: &Object,
        said: Said,
        found: &mut Found,
    ) -> Result<Option<String>> {
        let bytes = match self.metadata(&object.path, object.bytes, object.digest).await? {
            Ok(bytes) => bytes,
            Err(why) => return Ok(Some(why)),
        };
        let files = match manifest::decode(&object.path, &bytes) {
            Ok(files) => files,
            Err(storage::Error::Corrupt { why, .. } | storage::Error::Newer { why, .. }) => {
                return Ok(Some(why));
            }
            Err(error) => return Err(catalog::Error::from(error).into()),
        };
        let rows: u64 = files.iter().map(|file| file.rows).sum();
        let pieces = said.digest.map(|said| (partition::batch_digest(said.algorithm(), &files), said));
        let wrong = match pieces {
            _ if rows != said.rows => {
                Some(format!("its files have {rows} rows, and the log says {}", said.rows))
            }
            Some((pieces, said)) if pieces != said => {
                Some(format!("its pieces give {pieces}, and the log says {said}"))
            }
            _ => None,
        };
        found.name_files(said.owner, sequence, files, said.keys);
        Ok(wrong)
    }

    /// What is wrong with a data file.
    #[async_recursion]
    pub async fn data_file(&self, named: FileOf) -> Result<Looked> {
        let FileOf { sequence, batches, keys, file, .. } = named;
        self.count();
        let path = file.path.clone();
        let found = self.inventory.size(&self.store, &path, Some(file.bytes)).await?;
        let wrong = match found {
            None => vec![MISSING.to_owned()],
            Some(size) if size != file.bytes => {
                vec![format!("it has {size} bytes, and its manifest says {}", file.bytes)]
            }
            Some(_) if !self.full => Vec::new(),
            Some(_) => self.contents(file, keys).await?,
        };
        let fault = |why| {
            let fault = Fault::new(&path, why).at(sequence);
            let harms = batches.iter().map(|batch| Harm::Batch { batch: *batch });
            harms
                .fold(fault, Fault::harming)
                .advising("restore it from a copy of the store; until then its rows cannot be read")
        };
        // It may go while it is looked at, too.
        if let [one] = wrong.as_slice()
            && one == MISSING
        {
            return Ok(Looked::Missing(fault(MISSING.to_owned())));
        }
        Ok(Looked::Found(wrong.into_iter().map(fault).collect()))
    }

    async fn contents(&self, file: DataFile, keys: Option<Arc<[String]>>) -> Result<Vec<String>> {
        let _permit = self.large.acquire().await.map_err(|error| Error::internal("the store", error))?;
        let bytes = match self.store.objects().get(&Path::from(file.path.as_str())).await {
            Ok(found) => found.bytes().await.map_err(unavailable)?,
            Err(object_store::Error::NotFound { .. }) => return Ok(vec![MISSING.to_owned()]),
            Err(error) => return Err(unavailable(error)),
        };
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let looked =
            tokio::task::spawn_blocking(move || partition::disagreements(&file, keys.as_deref(), &bytes));
        looked.await.map_err(|error| Error::internal("a data file could not be looked at", error))
    }

    /// What is wrong with the manifest of a training set; what is wrong with its spine is added.
    async fn training_set(
        &self,
        sequence: Sequence,
        object: &Object,
        record: &TrainingSetRecorded,
        found: &mut Found,
    ) -> Result<Option<String>> {
        let bytes = match self.metadata(&object.path, object.bytes, object.digest).await? {
            Ok(bytes) => bytes,
            Err(why) => return Ok(Some(why)),
        };
        let manifest: Manifest = match serde_json::from_slice(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => return Ok(Some(format!("it is no manifest of a training set: {error}"))),
        };
        let said = (manifest.id, manifest.sequence, manifest.rows, manifest.digest.as_str());
        if said != (record.training_set, record.sequence, record.rows, record.digest.as_str()) {
            return Ok(Some("it tells of its training set what the log does not".to_owned()));
        }
        let spine = &manifest.spine;
        let wrong = match self.whole(&spine.object.path, spine.object.bytes, spine.object.digest).await? {
            Ok(None) => None,
            Ok(Some(bytes)) => {
                spine_differs(bytes, &spine.digest, spine.rows, spine.object.digest.algorithm())
            }
            Err(why) => Some(why),
        };
        let harm = Harm::TrainingSet { training_set: record.training_set };
        found.faults.extend(wrong.map(|why| Fault::new(&spine.object.path, why).at(sequence).harming(harm)));
        Ok(None)
    }
}

/// The rows of a Parquet file, in parts. Damaged pages panic; of what is read here the digest was right.
fn batches(bytes: Bytes) -> Result<impl Iterator<Item = Result<arrow::array::RecordBatch, String>>, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("it is not a readable Parquet file ({error})");
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| unreadable(&error))?;
    let reader = builder.with_batch_size(16_384).build().map_err(|error| unreadable(&error))?;
    Ok(reader.map(move |batch| batch.map_err(|error| format!("it cannot be decoded ({error})"))))
}

/// Whether a quarantine file is not of so many rejected rows. A row is there once for each of its reasons.
fn quarantined(bytes: Bytes, rejected: u64) -> Option<String> {
    let count = || -> Result<u64, String> {
        let mut rows = BTreeSet::new();
        for batch in batches(bytes)? {
            let batch = batch?;
            let lacks = |name: &str| format!("it has no column `{name}`");
            let origins = batch.column_by_name("origin").ok_or_else(|| lacks("origin"))?;
            let numbers = batch.column_by_name("row").ok_or_else(|| lacks("row"))?;
            let options = arrow::util::display::FormatOptions::default();
            let text = |column| arrow::util::display::ArrayFormatter::try_new(column, &options);
            let (origins, numbers) = (text(origins), text(numbers));
            let (Ok(origins), Ok(numbers)) = (origins, numbers) else { return Err(lacks("row")) };
            for row in 0..batch.num_rows() {
                rows.insert((origins.value(row).to_string(), numbers.value(row).to_string()));
            }
        }
        Ok(rows.len() as u64)
    };
    match count() {
        Ok(found) if found == rejected => None,
        Ok(found) => Some(format!("it has {found} rejected rows, and the log says {rejected}")),
        Err(why) => Some(why),
    }
}

fn rows_differ(bytes: Bytes, rows: u64) -> Option<String> {
    let count = || -> Result<u64, String> {
        batches(bytes)?.try_fold(0, |rows, batch| Ok(rows + batch?.num_rows() as u64))
    };
    match count() {
        Ok(found) if found == rows => None,
        Ok(found) => Some(format!("it has {found} rows, and the log says {rows}")),
        Err(why) => Some(why),
    }
}

fn spine_differs(bytes: Bytes, digest: &str, rows: u64, algorithm: HashAlgorithm) -> Option<String> {
    let digested = || -> Result<(u64, String), String> {
        let unreadable =
            |error: &dyn std::fmt::Display| format!("it is not a readable Parquet file ({error})");
        let schema = ParquetRecordBatchReaderBuilder::try_new(bytes.clone())
            .map_err(|error| unreadable(&error))?
            .schema()
            .clone();
        let mut table = TableDigest::new(algorithm, &schema).map_err(|error| unreadable(&error))?;
        for batch in batches(bytes)? {
            table.update(&batch?).map_err(|error| unreadable(&error))?;
        }
        let finished = table.finish();
        Ok((finished.rows, finished.digest.to_string()))
    };
    match digested() {
        Ok((found, given)) if found == rows && given == digest => None,
        Ok((found, given)) => {
            Some(format!("it has {found} rows that give {given}, and its manifest says {rows} and {digest}"))
        }
        Err(why) => Some(why),
    }
}

/// Adds to what is wrong with a batch the training sets that were made of it: a rebuild reads all batches that counted.
pub(super) async fn name_harmed_sets(
    checker: &Checker,
    sets: &[RecordedTrainingSet],
    report: &mut StoreVerification,
) -> Result<()> {
    let harmed = |harm: &Harm| match harm {
        Harm::Batch { batch } => Some(*batch),
        _ => None,
    };
    let batches: BTreeSet<BatchId> =
        report.faults.iter().flat_map(|fault| fault.harms.iter().filter_map(harmed)).collect();
    if batches.is_empty() {
        return Ok(());
    }
    let mut read = futures::stream::iter(sets)
        .map(|set| async move {
            let object = &set.manifest;
            // What is wrong with the manifest itself was said.
            let bytes = checker.read(&object.path, object.bytes, object.digest).await?.ok();
            let manifest = bytes.and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok());
            Ok::<_, Error>((set.id, manifest))
        })
        .buffered(16);
    while let Some((training_set, manifest)) = read.try_next().await? {
        let Some(manifest) = manifest else { continue };
        let counted: BTreeSet<BatchId> =
            manifest.views.iter().flat_map(|view| view.batches.iter().copied()).collect();
        if counted.is_disjoint(&batches) {
            continue;
        }
        for fault in &mut report.faults {
            let of_set = fault.harms.iter().filter_map(harmed).any(|batch| counted.contains(&batch));
            let harm = Harm::TrainingSet { training_set };
            if of_set && !fault.harms.contains(&harm) {
                fault.harms.push(harm);
            }
        }
    }
    Ok(())
}
