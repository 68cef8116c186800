//! What reads bytes from outside, and the bytes that it is made for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use catalog::records::Record;
use catalog::state::{Provenance, State};
use feature::definition::parse_files;
use feature::digest::{HashAlgorithm, hash};
use feature::{Sequence, Timestamp};
use parquet::arrow::ArrowWriter;
use serving::Serving;
use storage::entry::Entry;
use storage::{SplitMix, Store};
use tokio::runtime::Runtime;

use super::super::fixture::{self, copy_in_memory};
use super::super::stores::{self, files, ingest, rows};
use super::super::tables::table;
use super::alteration::altered;

const AIRPORT: &str =
    "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n";
const WEATHER: &str = "kind = \"feature_view\"\nname = \"weather\"\nentity = \"airport\"\nttl = \"3h\"\nreject_above = 1.0\n\
    [time]\nvalid_at = \"at\"\nknown_at = \"arrival\"\n[keys]\norigin = \"origin\"\n\
    [[features]]\nname = \"temp\"\ntype = \"float64\"\nrange = [-40, 130]\n\
    [[features]]\nname = \"sky\"\ntype = \"string\"\n";
const ROWS: &str = "
    origin string | at timestamp         | temp float64 | sky string
    JFK           | 2013-01-01T10:00:00Z | 40.5         | clear
    JFK           | 2013-01-01T11:00:00Z | -1.0         | a sky of more than twelve letters
    LGA           | 2013-01-01T10:00:00Z | null         | clouds
    EWR           | 2013-01-01T12:30:00Z | 1e3          | null";

/// Something that reads bytes.
pub struct Target {
    corpus: Vec<Vec<u8>>,
    read: Box<dyn Fn(u64, Vec<u8>)>,
    /// What must still be so when all was read.
    finish: Box<dyn Fn()>,
}

impl Target {
    pub fn named(name: &str) -> Self {
        match name {
            "entry" => entry(),
            "manifest" => manifest(),
            "checkpoint" => checkpoint(),
            "definitions" => definitions(),
            "csv" => of_rows("csv", vec![b"origin,at,temp,sky\nJFK,2013-01-01T10:00:00Z,40.5,clear\n\"LGA\",2013-01-01T10:00:00-05:00,,\"a,b\"\n".to_vec()]),
            "parquet" => of_rows("parquet", vec![as_parquet(&table(ROWS))]),
            "arrow" => of_rows("arrow", as_arrow(&table(ROWS))),
            "panics" => Self::new(vec![Vec::new()], |case, _| assert_ne!(case, 3)),
            "panics_elsewhere" => Self::new(vec![Vec::new()], |case, _| {
                drop(std::thread::spawn(move || assert_ne!(case, 3)).join());
            }),
            "takes_memory" => Self::new(vec![Vec::new()], |case, _| {
                if case == 3 {
                    drop(std::hint::black_box(vec![1u8; 16 << 30]));
                }
            }),
            other => panic!("there is no target {other}"),
        }
    }

    fn new(corpus: Vec<Vec<u8>>, read: impl Fn(u64, Vec<u8>) + 'static) -> Self {
        Self { corpus, read: Box::new(read), finish: Box::new(|| {}) }
    }

    /// The case of this number: the first are the corpus as it is.
    pub fn run(&self, case: u64) {
        let unaltered = usize::try_from(case).ok().and_then(|case| self.corpus.get(case)).cloned();
        let bytes = unaltered.unwrap_or_else(|| altered(&self.corpus, &mut SplitMix::new(case)));
        (self.read)(case, bytes);
    }

    pub fn finish(&self) {
        (self.finish)();
    }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden")
}

/// The objects of the golden store under a folder.
fn golden_objects(folder: &str) -> Vec<Vec<u8>> {
    let all = fixture::objects(&golden().join("store-v1")).into_iter();
    all.filter(|(name, _)| name.starts_with(folder)).map(|(_, bytes)| bytes).collect()
}

fn entry() -> Target {
    let runtime = Runtime::new().unwrap();
    let objects = fixture::objects(&golden().join("store-v1"));
    let state: Arc<State> = runtime.block_on(async {
        let memory = copy_in_memory(&objects).await;
        fixture::open(fixture::over(memory, fixture::later().into())).await.unwrap().catalog().state()
    });
    let by = Arc::new(Provenance {
        sequence: state.head.sequence.next(),
        committed_at: state.head.committed_at,
        principal: "somebody".to_owned(),
        program: "fuzz".to_owned(),
        run: None,
        experiment: None,
    });
    let mut corpus = golden_objects("log/");
    corpus.push(std::fs::read(golden().join("log-entry-first-v1.json")).unwrap());
    corpus.push(std::fs::read(golden().join("log-entry-v1.json")).unwrap());
    // Each record that there is.
    let records = std::fs::read(golden().join("records-v1.json")).unwrap();
    let records: Vec<serde_json::Value> = serde_json::from_slice(&records).unwrap();
    corpus.extend(records.iter().map(|entry| serde_json::to_vec(entry).unwrap()));
    let unaltered = corpus.len() as u64;
    Target::new(corpus, move |case, bytes| {
        let said = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
        let sequence = Sequence(said.and_then(|entry| entry["sequence"].as_u64()).unwrap_or(0));
        assert!(case >= unaltered || Entry::decode(sequence, &bytes).is_ok());
        let Ok(entry) = Entry::decode(sequence, &bytes) else { return };
        let mut state = State::clone(&state);
        for raw in &entry.records {
            let Ok(record) = Record::decode(raw.number, &raw.body) else { continue };
            let _: Vec<_> = record.objects();
            if state.apply(&record, &by).is_err() {
                state = State::clone(&state);
            }
        }
    })
}

fn manifest() -> Target {
    let mut corpus = golden_objects("manifests/");
    for name in ["manifest-v1.parquet", "manifest-v2.parquet", "manifest-v2-key-hashes.parquet"] {
        corpus.push(std::fs::read(golden().join(name)).unwrap());
    }
    Target::new(corpus, |_, bytes| drop(storage::manifest::decode("manifests/fuzzed", &Bytes::from(bytes))))
}

/// One part of a checkpoint is altered and sealed anew, so that what decodes it gets it.
fn checkpoint() -> Target {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let objects = runtime.block_on(async {
        fixture::make(folder.path()).await;
        let store = Store::open(folder.path().to_str().unwrap(), fixture::later().into()).unwrap();
        fixture::open(store).await.unwrap().catalog().checkpoint().await.unwrap();
        fixture::objects(folder.path())
    });
    let is_part = |name: &&String| name.starts_with("checkpoints/");
    let names: Vec<String> = objects.keys().filter(is_part).cloned().collect();
    assert!(names.len() > 5, "{names:?}");
    let corpus = names.iter().map(|name| objects[name].clone()).collect::<Vec<_>>();
    let parts = corpus.clone();
    Target::new(corpus, move |case, bytes| {
        let which = usize::try_from(case).unwrap() % names.len();
        let bytes = if case < names.len() as u64 {
            bytes
        } else {
            altered(&parts[which..=which], &mut SplitMix::new(case))
        };
        let mut objects = objects.clone();
        let description = names.iter().find(|name| name.ends_with(".json")).unwrap();
        let mut text = String::from_utf8(objects.remove(description).unwrap()).unwrap();
        if &names[which] == description {
            text = String::from_utf8_lossy(&bytes).into_owned();
        } else {
            let hex = |bytes: &[u8]| hash(HashAlgorithm::Blake3, bytes).to_string().replace("blake3:", "");
            let (old, new) = (objects.remove(&names[which]).unwrap(), hex(&bytes));
            let sizes = (format!("\"bytes\":{},\"digest\":\"blake3:{}", old.len(), hex(&old)), bytes.len());
            assert!(text.contains(&sizes.0), "{text}");
            text = text.replace(&sizes.0, &format!("\"bytes\":{},\"digest\":\"blake3:{new}", sizes.1));
            objects.insert(names[which].replace(&hex(&old), &new), bytes);
        }
        let folder = description.rsplit_once('/').unwrap().0;
        let digest = hash(HashAlgorithm::Blake3, text.as_bytes()).to_string().replace("blake3:", "");
        objects.insert(format!("{folder}/{digest}.json"), text.into_bytes());
        runtime.block_on(async {
            let store = fixture::over(copy_in_memory(&objects).await, fixture::later().into());
            // One that does not hold is passed over, and the log is folded instead.
            fixture::open(store).await.unwrap();
        });
    })
}

fn definitions() -> Target {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/nycflights13/features");
    let of_flights = fixture::objects(&folder).into_iter().filter(|(name, _)| name.ends_with(".toml"));
    let mut corpus: Vec<Vec<u8>> = of_flights.map(|(_, text)| text).collect();
    assert!(corpus.len() > 5);
    corpus.extend([AIRPORT, WEATHER].map(|text| text.as_bytes().to_vec()));
    Target::new(corpus, |_, bytes| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let others = files(&[("airport.toml", AIRPORT)]);
        if let Err(errors) = parse_files([others, files(&[("fuzzed.toml", &text)])].concat()) {
            assert!(!errors.to_string().is_empty());
        }
    })
}

/// A file of rows: read, and what can be read taken into a store, whose rows stay sound.
fn of_rows(ending: &'static str, corpus: Vec<Vec<u8>>) -> Target {
    let runtime = Arc::new(Runtime::new().unwrap());
    let clock = storage::environment::TestClock::new("2013-02-01T00:00:00Z".parse::<Timestamp>().unwrap());
    let serving: Serving = runtime.block_on(async {
        let serving = stores::memory(&clock).await;
        let definitions = files(&[("airport.toml", AIRPORT), ("weather.toml", WEATHER)]);
        serving.apply(definitions, &stores::author()).await.unwrap();
        serving
    });
    let folder = tempfile::tempdir().unwrap();
    let (unaltered, at_end) = (corpus.len() as u64, (runtime.clone(), serving.clone()));
    let mut target = Target::new(corpus, move |case, bytes| {
        let path = folder.path().join(format!("rows.{ending}"));
        std::fs::write(&path, bytes).unwrap();
        let read = catalog::ingest::read_file(&path, None);
        assert!(case >= unaltered || read.is_ok());
        let Ok(read) = read else { return };
        if read.batches.iter().all(|batch| batch.num_rows() == 0) {
            return;
        }
        clock.advance("1s".parse().unwrap());
        let taken = runtime.block_on(ingest(&serving, rows("weather", read.batches)));
        assert!(case >= unaltered || taken.is_ok(), "{taken:?}");
    });
    target.finish = Box::new(move || {
        let (runtime, serving) = &at_end;
        let sql =
            "SELECT count(*) FROM history('weather') WHERE (temp < -40 OR temp > 130) AND NOT isnan(temp)";
        assert_eq!(runtime.block_on(stores::count(serving, sql)), 0);
        let sql = "SELECT count(*) FROM history('weather')";
        assert!(runtime.block_on(stores::count(serving, sql)) >= 3);
    });
    target
}

fn as_parquet(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// As a file and as a stream, with each compression.
fn as_arrow(batch: &RecordBatch) -> Vec<Vec<u8>> {
    let codecs = [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)];
    let encoded = codecs.into_iter().flat_map(|codec| {
        let options = IpcWriteOptions::default().try_with_compression(codec).unwrap();
        let (mut file, mut stream) = (Vec::new(), Vec::new());
        let mut writer =
            FileWriter::try_new_with_options(&mut file, &batch.schema(), options.clone()).unwrap();
        writer.write(batch).unwrap();
        writer.finish().unwrap();
        let mut writer = StreamWriter::try_new_with_options(&mut stream, &batch.schema(), options).unwrap();
        writer.write(batch).unwrap();
        writer.finish().unwrap();
        [file, stream]
    });
    encoded.collect()
}
