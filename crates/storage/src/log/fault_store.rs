//! A store that fails by chance, and by the same chance again under the same seed.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::splitmix::SplitMix;

/// What can happen to a create or a get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    None,
    /// Nothing happened, and the answer is an error.
    BeforeApply,
    /// It happened, and the answer is an error.
    AfterApply,
    /// It happened, and the answer is that the object exists (a client that sent it twice).
    OursCalledLost,
    /// Nothing happened, and the answer is that the object exists (409).
    NothingCalledLost,
    /// The answer is an error at once; it happens later.
    LateApply,
    /// It happens, and the answer takes its time.
    Delay,
    /// The bytes that are read come back cut short.
    Cut,
    /// The object is said to be absent, as it was a moment ago.
    NotYet,
    /// The entry comes with another principal.
    Altered,
    /// The entry comes as one of another commit.
    OfAnother,
}

const PUT_FAULTS: [Fault; 6] = [
    Fault::BeforeApply,
    Fault::AfterApply,
    Fault::OursCalledLost,
    Fault::NothingCalledLost,
    Fault::LateApply,
    Fault::Delay,
];
const GET_FAULTS: [Fault; 3] = [Fault::BeforeApply, Fault::Delay, Fault::Cut];

#[derive(Clone, Debug)]
pub(crate) struct FaultStore {
    pub inner: Arc<InMemory>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    random: SplitMix,
    /// Faults in a hundred operations, and outages in a thousand puts.
    puts: u64,
    gets: u64,
    /// Gets that fail in a row from now on: faults of a network come in bursts.
    outage: u64,
    /// Faults that come next, before chance decides again.
    script: Vec<Fault>,
    history: Vec<(&'static str, String, Fault)>,
}

impl FaultStore {
    pub fn new(seed: u64, puts: u64, gets: u64) -> Self {
        let state = State {
            random: SplitMix::new(seed),
            puts,
            gets,
            outage: 0,
            script: Vec::new(),
            history: Vec::new(),
        };
        Self { inner: Arc::new(InMemory::new()), state: Arc::new(Mutex::new(state)) }
    }

    /// No chance: these faults come for the next operations, in this order, and then none.
    pub fn scripted(faults: &[Fault]) -> Self {
        let store = Self::new(0, 0, 0);
        store.state.lock().unwrap().script = faults.iter().rev().copied().collect();
        store
    }

    /// The same faults over objects that are there.
    pub fn over(self, inner: Arc<InMemory>) -> Self {
        Self { inner, ..self }
    }

    /// What happened to each operation, in order.
    pub fn history(&self) -> Vec<(&'static str, String, Fault)> {
        self.state.lock().unwrap().history.clone()
    }

    /// The fault for the next operation, and how long it is on its way.
    fn draw(&self, operation: &'static str, path: &Path) -> (Fault, Duration) {
        let mut state = self.state.lock().unwrap();
        let is_put = operation == "put";
        let (share, faults): (u64, &[Fault]) =
            if is_put { (state.puts, &PUT_FAULTS) } else { (state.gets, &GET_FAULTS) };
        if is_put && state.random.below(1_000) < share {
            state.outage = 2 + state.random.below(10);
        }
        let fault = match state.script.pop() {
            Some(fault) => fault,
            None if !is_put && state.outage > 0 => {
                state.outage -= 1;
                Fault::BeforeApply
            }
            None if state.random.below(100) < share => {
                faults[state.random.below(faults.len() as u64) as usize]
            }
            None => Fault::None,
        };
        let longest = if fault == Fault::Delay { 5_000_000 } else { 2_000 };
        let on_its_way = Duration::from_micros(state.random.below(longest));
        state.history.push((operation, path.to_string(), fault));
        (fault, on_its_way)
    }
}

fn broken() -> Error {
    Error::Generic { store: "fault", source: "the connection was reset".into() }
}

fn exists(path: &Path) -> Error {
    Error::AlreadyExists { path: path.to_string(), source: "409".into() }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultStore")
    }
}

#[async_trait::async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let (fault, on_its_way) = self.draw("put", location);
        tokio::time::sleep(on_its_way).await;
        match fault {
            Fault::None | Fault::Delay | Fault::Cut | Fault::NotYet | Fault::Altered | Fault::OfAnother => {
                self.inner.put_opts(location, payload, opts).await
            }
            Fault::BeforeApply => Err(broken()),
            Fault::AfterApply => {
                let _ = self.inner.put_opts(location, payload, opts).await;
                Err(broken())
            }
            Fault::OursCalledLost => {
                let _ = self.inner.put_opts(location, payload, opts).await;
                Err(exists(location))
            }
            Fault::NothingCalledLost => Err(exists(location)),
            Fault::LateApply => {
                let (inner, location) = (self.inner.clone(), location.clone());
                let late = Duration::from_millis(1 + on_its_way.as_micros() as u64 / 2);
                tokio::spawn(async move {
                    tokio::time::sleep(late).await;
                    let _ = inner.put_opts(&location, payload, opts).await;
                });
                Err(broken())
            }
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (fault, on_its_way) = self.draw("get", location);
        tokio::time::sleep(on_its_way).await;
        if fault == Fault::BeforeApply {
            return Err(broken());
        }
        if fault == Fault::NotYet {
            return Err(Error::NotFound { path: location.to_string(), source: "404".into() });
        }
        let found = self.inner.get_opts(location, options).await?;
        if !matches!(fault, Fault::Cut | Fault::Altered | Fault::OfAnother) {
            return Ok(found);
        }
        let (meta, attributes) = (found.meta.clone(), found.attributes.clone());
        let bytes = found.bytes().await?;
        let text = || String::from_utf8_lossy(&bytes).into_owned();
        let half: bytes::Bytes = match fault {
            Fault::Altered => text().replace("\"principal\":\"", "\"principal\":\"x").into(),
            Fault::OfAnother => {
                let other: feature::CommitId = crate::environment::random();
                let at = text().find("\"commit\":\"").unwrap() + 10;
                let mut text = text();
                text.replace_range(at..at + 36, &other.to_string());
                text.into()
            }
            _ => bytes.slice(..bytes.len() / 2),
        };
        let payload =
            object_store::GetResultPayload::Stream(Box::pin(futures::stream::iter([Ok(half.clone())])));
        Ok(GetResult { payload, range: 0..half.len() as u64, meta, attributes })
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, opts).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
