//! One byte of one file is changed: replay finds it and names the file. What is no input of a set cannot change it, and its
//! replay is the same.

use std::collections::{BTreeMap, BTreeSet};

use catalog::records::Verdict;
use feature::TrainingSetId;
use lineage::Manifest;
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, path::Path as ObjectPath};
use proptest::prelude::*;
use serving::{HistoricalRequest, Kind, Serving};

use super::super::cases;
use super::super::coverage::Coverage;
use super::super::fixture::{self, copy_in_memory};
use super::super::stores::{author, files, folder, ingest, instant, rows, spine};
use super::super::tables::table;

/// A store's objects, its sets, and which objects each set was made from.
struct Made {
    objects: BTreeMap<String, Vec<u8>>,
    sets: Vec<(TrainingSetId, BTreeSet<String>)>,
}

/// All that a set rests on: the log up to its own entry, its manifest and spine, and the batches that counted, each with its
/// manifest and its files, whether a cell came from them or not.
async fn inputs(serving: &Serving, id: TrainingSetId) -> BTreeSet<String> {
    let state = serving.catalog().state();
    let set = state.training_set(id).unwrap();
    let manifest: Manifest = serving.manifest(id).await.unwrap();
    let mut inputs: BTreeSet<String> =
        (0..=set.by.sequence.0).map(|sequence| format!("log/{sequence:020}.json")).collect();
    inputs.insert(set.record.manifest.path.clone());
    inputs.insert(manifest.spine.object.path.clone());
    for id in manifest.views.iter().flat_map(|view| &view.batches) {
        let batch = state.batch(*id).unwrap();
        inputs.insert(batch.record.manifest.path.clone());
        inputs
            .extend(serving.catalog().batch_files(batch).await.unwrap().iter().map(|file| file.path.clone()));
    }
    inputs
}

async fn made(folder: &std::path::Path, serving: &Serving, sets: &[TrainingSetId]) -> Made {
    let objects = fixture::objects(folder);
    let mut with_inputs = Vec::new();
    for id in sets {
        let inputs = inputs(serving, *id).await;
        assert!(inputs.iter().all(|input| objects.contains_key(input)), "{inputs:?}");
        with_inputs.push((*id, inputs));
    }
    Made { objects, sets: with_inputs }
}

/// One of everything, in files of one block.
async fn small() -> Made {
    let root = tempfile::tempdir().unwrap();
    let fixture = fixture::make(root.path()).await;
    let serving = folder(root.path(), &fixture::later()).await;
    made(root.path(), &serving, &fixture.sets).await
}

/// Files of many blocks, of which a set needs a few: an hour of one airport of ten thousand hours of two.
async fn wide() -> Made {
    let root = tempfile::tempdir().unwrap();
    let serving = folder(root.path(), &fixture::clock()).await;
    serving.apply(files(&fixture::DEFINITIONS), &author()).await.unwrap();
    let mut text =
        String::from("origin string | time_hour timestamp | temp float64 | visib float64 | sky string\n");
    let mut chance = 7u64;
    for hour in 0..10_000i64 {
        let time = feature::Timestamp(instant("2010-01-01T00:00:00Z").0 + hour * 3_600_000_000);
        for origin in ["EWR", "JFK"] {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let temp = (chance >> 40) as f64 / 16_777_216.0 * 100.0;
            text += &format!("{origin} | {time} | {temp} | {} | clear\n", temp / 7.0);
        }
    }
    ingest(&serving, rows("weather", vec![table(&text)])).await.unwrap();
    let few = spine(vec![table("origin string | at timestamp\nEWR | 2010-06-01T00:45:00Z")]);
    let set = serving.historical(few, HistoricalRequest::new(["weather.temp"]), &author()).await.unwrap();
    let id = set.report.training_set.unwrap();
    // So that the set's own entry is not the newest, which no other vouches for.
    serving.replay(id, &author()).await.unwrap();
    made(root.path(), &serving, &[id]).await
}

async fn flip(
    made: &Made,
    base: &InMemory,
    object: &str,
    place: usize,
    mask: u8,
) -> Vec<Result<Verdict, serving::Error>> {
    let mut bytes = made.objects[object].clone();
    bytes[place] ^= mask;
    let mut found = Vec::new();
    for (id, _) in &made.sets {
        let objects = base.fork();
        objects.put(&ObjectPath::from(object), bytes.clone().into()).await.unwrap();
        let opened = fixture::open(fixture::over(objects, fixture::later().into())).await;
        found.push(match opened {
            Ok(serving) => serving.replay(*id, &author()).await.map(|(report, _)| report.verdict),
            Err(error) => Err(error),
        });
    }
    found
}

fn is_named(message: &str, object: &str) -> bool {
    let entry = object.strip_prefix("log/").and_then(|name| name.strip_suffix(".json"));
    match entry.and_then(|digits| digits.parse::<u64>().ok()) {
        Some(sequence) => message.contains(object) || message.contains(&format!("log entry {sequence} ")),
        None => message.contains(object),
    }
}

/// Changes a byte of one of these objects, so many times.
fn tries(name: &str, usual: usize, made: &Made, names: &[&String]) -> Coverage {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let base = runtime.block_on(copy_in_memory(&made.objects));
    let strategy = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..=255u8);
    let mut coverage = Coverage::default();
    let tried = cases::run(name, usual, &strategy, |(object, place, mask)| {
        let object = object.get(names).as_str();
        let place = place.index(made.objects[object].len());
        let found = runtime.block_on(flip(made, &base, object, place, *mask));
        for ((id, inputs), found) in made.sets.iter().zip(found) {
            let kind = object.split('/').next().unwrap();
            match (inputs.contains(object), found) {
                (true, Err(error))
                    if error.kind() == Kind::Damaged && is_named(&error.to_string(), object) =>
                {
                    coverage.saw(format!("found in {kind}"));
                    coverage.saw(block(place));
                }
                (true, found) => {
                    return Err(format!(
                        "byte {place} of {object}, from which {id} was made, xor {mask}: {found:?}"
                    ));
                }
                // No input: it is found elsewhere, or it is proved not to matter, for the set is made again the same.
                (false, Ok(Verdict::Equal)) => coverage.saw("is no input, and the set is the same"),
                (false, Err(error)) if error.kind() == Kind::Damaged => {
                    coverage.saw("is no input, and is found")
                }
                (false, found) => {
                    return Err(format!("byte {place} of {object}, no input of {id}, xor {mask}: {found:?}"));
                }
            }
        }
        Ok(1)
    });
    assert!(tried >= usual, "only {tried} tries");
    coverage
}

fn block(place: usize) -> String {
    format!("found in block {}", place / storage::manifest::BLOCK_BYTES as usize)
}

#[test]
fn any_altered_byte_of_an_input_is_found() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let made = runtime.block_on(small());
    let all: Vec<&String> = made.objects.keys().collect();
    let coverage = tries("altered bytes", 1_000, &made, &all);
    let kinds = ["data", "log", "manifests", "spines", "training_sets"];
    coverage.require(20, kinds.map(|kind| format!("found in {kind}")));
    coverage.require(20, ["is no input, and the set is the same", "is no input, and is found"]);
}

/// Ordinary reads check the blocks that they touch. A proof checks whole files.
#[test]
fn altered_bytes_that_no_cell_came_from_are_found_too() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let made = runtime.block_on(wide());
    let data = made.objects.iter().filter(|(name, _)| name.starts_with("data/"));
    let (largest, bytes) = data.max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let block_bytes = storage::manifest::BLOCK_BYTES as usize;
    let blocks = bytes.len() / block_bytes;
    assert!(blocks > 2, "the largest file has {} bytes", bytes.len());
    let coverage = tries("altered bytes of wide files", 200, &made, &[largest]);
    coverage.require(200, ["found in data"]);
    // In each whole block, though the set needs one or two of them.
    let each = (0..blocks).map(|number| block(number * block_bytes));
    coverage.require(200 / blocks as u64 / 4, each);
}
