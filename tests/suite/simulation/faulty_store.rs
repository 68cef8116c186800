//! Objects in memory behind a network that a seed drives: each process has a connection of its own, on which answers are
//! late, wrong or never come.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use catalog::records::Record;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use storage::SplitMix;
use storage::entry::Entry;
use tokio::time::Instant;

use super::planted::Plant;
use super::uploads::Upload;

/// What can happen on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    None,
    /// Nothing happened, and the answer is an error.
    BeforeEffect,
    /// It happened, and the answer is an error.
    AfterEffect,
    /// It happened, and the answer is that the object exists.
    OursCalledLost,
    /// Nothing happened, and the answer is that the object exists.
    Conflict,
    /// The answer is an error at once; it happens much later.
    LateEffect,
    /// It happens, and takes long.
    Slow,
    /// Half of the bytes come.
    Cut,
    /// One byte comes as another.
    Flipped,
    /// What was written of late is not listed.
    Lagging,
    /// A part of an upload is acknowledged and lost.
    PartLost,
}

const PUTS: [Fault; 6] = [
    Fault::BeforeEffect,
    Fault::AfterEffect,
    Fault::OursCalledLost,
    Fault::Conflict,
    Fault::LateEffect,
    Fault::Slow,
];
const GETS: [Fault; 4] = [Fault::BeforeEffect, Fault::Slow, Fault::Cut, Fault::Flipped];
const DELETES: [Fault; 3] = [Fault::BeforeEffect, Fault::AfterEffect, Fault::Slow];
const LISTS: [Fault; 3] = [Fault::BeforeEffect, Fault::Slow, Fault::Lagging];

/// The one storage, and all that happened to it.
#[derive(Debug)]
pub struct Objects {
    pub inner: InMemory,
    pub plant: Option<Plant>,
    begun: Instant,
    trace: Mutex<Vec<String>>,
    violations: Mutex<Vec<String>>,
    faults: Mutex<Vec<(&'static str, Fault)>>,
    /// Written so lately that a lagging list leaves it out.
    fresh: Mutex<Vec<(Instant, String)>>,
}

impl Objects {
    pub fn new(plant: Option<Plant>) -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            plant,
            begun: Instant::now(),
            trace: Mutex::default(),
            violations: Mutex::default(),
            faults: Mutex::default(),
            fresh: Mutex::default(),
        })
    }

    pub fn note(&self, what: String) {
        let at = self.begun.elapsed().as_millis();
        self.trace.lock().unwrap().push(format!("{at:>8} ms  {what}"));
    }

    pub fn violated(&self, what: String) {
        self.note(format!("VIOLATED: {what}"));
        self.violations.lock().unwrap().push(what);
    }

    pub fn trace(&self) -> Vec<String> {
        self.trace.lock().unwrap().clone()
    }

    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap().clone()
    }

    pub fn faults(&self) -> Vec<(&'static str, Fault)> {
        self.faults.lock().unwrap().clone()
    }

    /// What an entry names is there, whole, at the moment in which the entry is.
    async fn check_entry(&self, location: &Path, bytes: &Bytes) {
        let Some(sequence) = location.filename().and_then(|name| name.strip_suffix(".json")) else { return };
        let Ok(entry) = Entry::decode(feature::Sequence(sequence.parse().unwrap()), bytes) else { return };
        for raw in &entry.records {
            let record = Record::decode(raw.number, &raw.body).unwrap();
            for (_, object) in record.objects() {
                let found = self.inner.get(&Path::from(object.path.as_str())).await;
                let Ok(found) = found else {
                    self.violated(format!(
                        "entry {} names {}, which is not there",
                        entry.sequence, object.path
                    ));
                    continue;
                };
                let bytes = found.bytes().await.unwrap();
                let files = if object.path.starts_with("manifests/") {
                    storage::manifest::decode(&object.path, &bytes).unwrap_or_default()
                } else {
                    Vec::new()
                };
                for file in files {
                    let size =
                        self.inner.head(&Path::from(file.path.as_str())).await.ok().map(|meta| meta.size);
                    if size != Some(file.bytes) {
                        self.violated(format!(
                            "entry {} shows {}, which is not whole",
                            entry.sequence, file.path
                        ));
                    }
                }
            }
        }
    }
}

/// The connection of one process. Nothing comes through any more when the process is dead.
#[derive(Clone, Debug)]
pub struct Connection {
    objects: Arc<Objects>,
    process: u64,
    life: u64,
    chance: Arc<Mutex<SplitMix>>,
    dead: Arc<AtomicBool>,
    /// Without faults and delays.
    calm: Arc<AtomicBool>,
    /// Faults in a hundred operations.
    rough: u64,
    /// Names of which the next reads are answered wrongly, by a planted fault, and how many.
    forged: Arc<Mutex<HashMap<String, u32>>>,
    /// What an entry came as, to come so once more, by a planted fault.
    echoes: Arc<Mutex<HashMap<String, Bytes>>>,
    /// From this entry on nothing of the log is seen, by a planted fault.
    blind_from: Arc<Mutex<Option<String>>>,
}

/// Moments of different processes are never the same, so that no chance but the seed's decides who is first.
const PROCESSES: u64 = 8;
/// The process that makes the store.
pub const BEGINNER: u64 = PROCESSES - 1;

impl Connection {
    pub fn new(objects: Arc<Objects>, seed: u64, process: u64, life: u64, rough: u64) -> Self {
        let seed = seed.wrapping_mul(1_000_003) ^ (process << 40) ^ (life << 48);
        Self {
            objects,
            process,
            life,
            chance: Arc::new(Mutex::new(SplitMix::new(seed))),
            dead: Arc::default(),
            calm: Arc::default(),
            rough,
            forged: Arc::default(),
            echoes: Arc::default(),
            blind_from: Arc::default(),
        }
    }

    pub fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.objects.note(format!("p{}.{} is killed", self.process, self.life));
    }

    pub fn calm(&self) {
        self.calm.store(true, Ordering::SeqCst);
    }

    pub async fn wait(&self, millis: u64) {
        let at = self.objects.begun.elapsed().as_millis() as u64 + 1 + millis;
        let at = at + (self.process + PROCESSES - at % PROCESSES) % PROCESSES;
        tokio::time::sleep_until(self.objects.begun + Duration::from_millis(at)).await;
    }

    /// Draws a fault and waits for as long as the operation takes on its way.
    pub async fn draw(&self, operation: &'static str, location: &str, faults: &[Fault]) -> (Fault, u64) {
        if self.calm.load(Ordering::SeqCst) || location.starts_with("probe/") {
            return (Fault::None, 0);
        }
        let (fault, millis, bits) = {
            let mut chance = self.chance.lock().unwrap();
            let fault = if chance.below(100) < self.rough {
                faults[chance.below(faults.len() as u64) as usize]
            } else {
                Fault::None
            };
            let longest = if fault == Fault::Slow { 30_000 } else { 60 };
            (fault, chance.below(longest), chance.next())
        };
        self.objects.faults.lock().unwrap().push((operation, fault));
        self.objects.note(format!("p{}.{} {operation} {location} {fault:?}", self.process, self.life));
        self.wait(millis).await;
        if self.dead.load(Ordering::SeqCst) {
            // Whoever asked is gone.
            std::future::pending::<()>().await;
        }
        (fault, bits)
    }

    /// The effect of a put, as a sound storage has it or one with a planted fault.
    pub async fn effect(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let objects = &self.objects;
        let is_log = location.as_ref().starts_with("log/");
        let first = location.as_ref().ends_with("/00000000000000000000.json");
        let bytes = Bytes::from(payload.clone());
        let mut location = location.clone();
        let (mut payload, mut options) = (payload, options);
        match self.plant() {
            Some(Plant::Overwrites) if is_log => options.mode = PutMode::Overwrite,
            Some(Plant::AcknowledgedUnwritten) if is_log && !first => {
                return Ok(PutResult { e_tag: None, version: None });
            }
            Some(Plant::DataAfterEntry) if location.as_ref().starts_with("data/") => {
                let (inner, late) = (objects.inner.clone(), location.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(40)).await;
                    let _ = inner.put_opts(&late, payload, options).await;
                });
                return Ok(PutResult { e_tag: None, version: None });
            }
            Some(Plant::HalfWritten) if location.as_ref().starts_with("data/") => {
                payload = bytes.slice(..bytes.len() / 2).into();
            }
            Some(Plant::SweptByAge) if location.as_ref().starts_with("manifests/") => {
                let staged: Vec<ObjectMeta> =
                    objects.inner.list(Some(&Path::from("data"))).try_collect().await.unwrap();
                for object in staged {
                    objects.inner.delete(&object.location).await.unwrap();
                }
            }
            Some(Plant::WrongCheckpoint) if location.extension() == Some("json") && !is_log => {
                if let Some((forged, name)) = super::planted::wrong_checkpoint(&location, &bytes) {
                    (payload, location) = (forged.into(), name);
                }
            }
            _ => {}
        }
        let done = objects.inner.put_opts(&location, payload, options).await;
        if done.is_ok() {
            objects.fresh.lock().unwrap().push((Instant::now(), location.to_string()));
            if is_log {
                objects.check_entry(&location, &bytes).await;
                if self.plant() == Some(Plant::NumberReused) && !first {
                    let (inner, location) = (objects.inner.clone(), location.clone());
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_secs(5)).await;
                        let _ = inner.delete(&location).await;
                    });
                }
            }
        }
        done
    }

    /// What is planted here; nothing while the store is made.
    pub fn plant(&self) -> Option<Plant> {
        self.objects.plant.filter(|_| self.process != BEGINNER)
    }

    fn forge(&self, location: &Path, reads: u32) {
        self.forged.lock().unwrap().insert(location.to_string(), reads);
    }

    fn is_forged(&self, location: &Path) -> bool {
        let mut forged = self.forged.lock().unwrap();
        let Some(reads) = forged.get_mut(location.as_ref()) else { return false };
        *reads -= 1;
        if *reads == 0 {
            forged.remove(location.as_ref());
        }
        true
    }
}

pub fn broken() -> Error {
    Error::Generic { store: "network", source: "the connection was reset".into() }
}

fn exists(location: &Path) -> Error {
    Error::AlreadyExists { path: location.to_string(), source: "it is there".into() }
}

fn absent(location: &Path) -> Error {
    Error::NotFound { path: location.to_string(), source: "it is not there".into() }
}

/// An answer with other bytes.
fn answer(found: (ObjectMeta, object_store::Attributes), bytes: Bytes) -> GetResult {
    let range = 0..bytes.len() as u64;
    let payload = GetResultPayload::Stream(Box::pin(futures::stream::iter([Ok(bytes)])));
    GetResult { payload, range, meta: found.0, attributes: found.1 }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.process)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Connection {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let (fault, bits) = self.draw("put", location.as_ref(), &PUTS).await;
        let is_log = location.as_ref().starts_with("log/");
        let plant = self.plant();
        match fault {
            Fault::BeforeEffect => Err(broken()),
            Fault::AfterEffect => {
                let done = self.effect(location, payload, options).await;
                if is_log && done.is_ok() && plant == Some(Plant::NoReadBack) {
                    self.forge(location, 1);
                    let source = "not allowed".into();
                    return Err(Error::PermissionDenied { path: location.to_string(), source });
                }
                Err(broken())
            }
            Fault::OursCalledLost => {
                let done = self.effect(location, payload, options).await;
                if is_log && done.is_ok() && plant == Some(Plant::ExistsTakenAsLost) {
                    // Who reads it so twice believes it.
                    self.forge(location, 2);
                }
                Err(exists(location))
            }
            Fault::Conflict => Err(exists(location)),
            Fault::LateEffect => {
                let (connection, location) = (self.clone(), location.clone());
                tokio::spawn(async move {
                    connection.wait(1 + bits % 20_000).await;
                    let _ = connection.effect(&location, payload, options).await;
                });
                Err(broken())
            }
            _ => {
                let done = self.effect(location, payload, options).await;
                if is_log && done.is_err() && plant == Some(Plant::StaleAfterLoss) {
                    self.blind_from.lock().unwrap().get_or_insert(location.to_string());
                }
                done
            }
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head { "head" } else { "get" };
        let (fault, bits) = self.draw(operation, location.as_ref(), &GETS).await;
        if fault == Fault::BeforeEffect {
            return Err(broken());
        }
        let is_log = location.as_ref().starts_with("log/");
        let blind = self.blind_from.lock().unwrap().clone();
        if is_log && blind.is_some_and(|from| location.as_ref() >= from.as_str()) {
            return Err(absent(location));
        }
        let forged = self.is_forged(location);
        if forged && self.plant() == Some(Plant::NoReadBack) {
            return Err(absent(location));
        }
        let head = options.head;
        let echo = self.echoes.lock().unwrap().remove(location.as_ref());
        let found = self.objects.inner.get_opts(location, options).await?;
        let wrong = matches!(fault, Fault::Cut | Fault::Flipped);
        if head || !(wrong || forged || echo.is_some()) {
            return Ok(found);
        }
        let parts = (found.meta.clone(), found.attributes.clone());
        if let Some(echo) = echo {
            return Ok(answer(parts, echo));
        }
        let mut bytes = found.bytes().await?.to_vec();
        if forged {
            super::planted::of_another(&mut bytes);
        } else if fault == Fault::Cut {
            bytes.truncate(bytes.len() / 2);
        } else if let Some(place) = (!bytes.is_empty()).then(|| bits as usize % bytes.len()) {
            bytes[place] ^= 1 << (bits >> 61);
        }
        if is_log && fault == Fault::Flipped && self.plant() == Some(Plant::AlteredAlike) {
            self.echoes.lock().unwrap().insert(location.to_string(), bytes.clone().into());
        }
        Ok(answer(parts, bytes.into()))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload::begin(self, location).await?))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let connection = self.clone();
        let deleted = locations.then(move |location| {
            let connection = connection.clone();
            async move {
                let location = location?;
                let (fault, _) = connection.draw("delete", location.as_ref(), &DELETES).await;
                if fault == Fault::BeforeEffect {
                    return Err(broken());
                }
                connection.objects.inner.delete(&location).await?;
                if fault == Fault::AfterEffect { Err(broken()) } else { Ok(location) }
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (connection, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            let name = prefix.as_ref().map(ToString::to_string).unwrap_or_default();
            let (fault, _) = connection.draw("list", &name, &LISTS).await;
            if fault == Fault::BeforeEffect {
                return futures::stream::iter(vec![Err(broken())]).boxed();
            }
            let found = connection.objects.inner.list(prefix.as_ref());
            if fault != Fault::Lagging {
                return found;
            }
            let lately: HashSet<String> = connection.lately();
            found
                .try_filter(move |object| {
                    let there = !lately.contains(object.location.as_ref());
                    futures::future::ready(there)
                })
                .boxed()
        };
        futures::stream::once(listed).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let name = prefix.map(ToString::to_string).unwrap_or_default();
        let (fault, _) = self.draw("list", &name, &LISTS).await;
        if fault == Fault::BeforeEffect {
            return Err(broken());
        }
        let mut found = self.objects.inner.list_with_delimiter(prefix).await?;
        if fault == Fault::Lagging {
            let lately = self.lately();
            found.objects.retain(|object| !lately.contains(object.location.as_ref()));
            found.common_prefixes.pop();
        }
        Ok(found)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.inner.copy_opts(from, to, options).await
    }
}

impl Connection {
    /// What was written within the last five seconds.
    fn lately(&self) -> HashSet<String> {
        let fresh = self.objects.fresh.lock().unwrap();
        let lately = fresh.iter().filter(|(at, _)| at.elapsed() < Duration::from_secs(5));
        lately.map(|(_, name)| name.clone()).collect()
    }
}
