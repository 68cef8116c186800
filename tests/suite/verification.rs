//! Verification of a whole store: a sound one holds, and of every damage the object is named, whatever byte it is.
//!
//! `LINEAMENT_CASES` flips every byte of every object; without it a sample of each.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};

use catalog::Catalog;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use serving::{Harm, Serving, StoreVerification, VerifyRequest, verify_store};

use super::cases::on_all_cores;
use super::fixture::{self, Fixture, copy_in_memory};

type Objects = BTreeMap<String, Vec<u8>>;

/// Bytes of each object that are flipped, and more at its ends.
const SAMPLE: usize = 24;
const FULL: VerifyRequest = VerifyRequest { full: true, mend: false };
const QUICK: VerifyRequest = VerifyRequest { full: false, mend: false };
const MEND: VerifyRequest = VerifyRequest { full: true, mend: true };

/// One of everything, with a checkpoint of its middle and one of its newest entry.
async fn store() -> (Fixture, Objects) {
    let folder = tempfile::tempdir().unwrap();
    let fixture = fixture::make(folder.path()).await;
    let objects = fixture::objects(folder.path());
    let log: Vec<&String> = objects.keys().filter(|object| object.starts_with("log/")).collect();
    let half: Objects = objects
        .iter()
        .filter(|(object, _)| !object.starts_with("log/") || *object <= log[log.len() / 2])
        .map(|(object, bytes)| (object.clone(), bytes.clone()))
        .collect();
    let half = checkpointed(half).await;
    let whole = half.into_iter().chain(objects).collect();
    (fixture, checkpointed(whole).await)
}

async fn checkpointed(objects: Objects) -> Objects {
    let folder = tempfile::tempdir().unwrap();
    fixture::write_objects(folder.path(), &objects);
    let store = storage::Store::open(folder.path().to_str().unwrap(), fixture::later().into()).unwrap();
    Catalog::open(store).await.unwrap().checkpoint().await.unwrap();
    fixture::objects(folder.path())
}

async fn verify(memory: InMemory, request: VerifyRequest) -> StoreVerification {
    let store = fixture::over(memory, fixture::later().into());
    verify_store(&store, request, Arc::new(|_| {})).await.unwrap()
}

async fn verify_objects(objects: &Objects, request: VerifyRequest) -> StoreVerification {
    verify(copy_in_memory(objects).await, request).await
}

#[tokio::test]
async fn a_sound_store_holds_and_all_of_it_is_looked_at() {
    let (_, objects) = store().await;
    for request in [QUICK, FULL] {
        let found = verify_objects(&objects, request).await;
        assert_eq!(found.faults, []);
        assert_eq!(found.notes, Vec::<String>::new());
        assert_eq!((found.orphans.as_slice(), found.orphan_objects), (&[][..], 0));
        assert!(found.holds());
        let log = objects.keys().filter(|object| object.starts_with("log/")).count();
        let described =
            objects.keys().filter(|object| object.starts_with("checkpoints/") && object.ends_with(".json"));
        assert_eq!(found.entries, log as u64);
        assert_eq!(found.objects, (objects.len() - log - described.count()) as u64, "each once");
        assert_eq!((found.batches, found.training_sets), (4, 2));
        assert_eq!(found.checkpoints, if request.full { 2 } else { 1 });
    }
    let quick = verify_objects(&objects, QUICK).await;
    let full = verify_objects(&objects, FULL).await;
    assert!(quick.bytes < full.bytes / 2, "{} and {}", quick.bytes, full.bytes);
}

/// A store of an earlier version of the program, as it lies in the repository.
#[tokio::test]
async fn golden_stores_hold() {
    let golden =
        |name: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden").join(name);
    let found = verify_objects(&fixture::objects(&golden("store-v1")), FULL).await;
    assert_eq!(found.faults, []);
    assert_eq!((found.entries, found.batches, found.training_sets), (12, 4, 2));
    assert_eq!(found.orphan_objects, 0);
    // Nothing vouches for the newest entry there.
    assert!(found.notes.len() == 1 && found.notes[0].contains("newest entry, 11"), "{:?}", found.notes);
}

/// What is done to a store.
#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u8),
    Remove,
    Cut(usize),
    Extend,
    Swap(String),
}

fn damages(objects: &Objects) -> Vec<(String, Damage)> {
    let every = std::env::var_os("LINEAMENT_CASES").is_some();
    let mut cases = Vec::new();
    // Of one kind, and with an ending of its own: a table of a checkpoint is nothing like its description.
    let kind = |object: &str| {
        (object.split('/').next().unwrap().to_owned(), object.rsplit('.').next().unwrap().to_owned())
    };
    for (number, (object, bytes)) in objects.iter().enumerate() {
        let mut add = |damage| cases.push((object.clone(), damage));
        add(Damage::Remove);
        add(Damage::Extend);
        for kept in [0, bytes.len() / 2, bytes.len() - 1] {
            add(Damage::Cut(kept));
        }
        let others = objects
            .keys()
            .filter(|other| kind(other) == kind(object) && *other > object && objects[*other] != *bytes);
        others.take(2).for_each(|other| add(Damage::Swap(other.clone())));
        // Every other object begins at another place, so that together the samples meet everything.
        let step = if every { 1 } else { (bytes.len() / SAMPLE).max(1) };
        let begin = if every { 0 } else { number % step };
        for position in (begin..bytes.len()).step_by(step).chain([0, bytes.len() - 1]) {
            add(Damage::Flip(position, 1 << (position % 8)));
        }
    }
    cases
}

async fn damaged(base: &InMemory, objects: &Objects, object: &str, damage: &Damage) -> InMemory {
    let memory = base.fork();
    let put = async |object: &str, bytes: Vec<u8>| {
        memory.put(&ObjectPath::from(object), bytes.into()).await.unwrap();
    };
    let mut bytes = objects[object].clone();
    match damage {
        Damage::Flip(position, mask) => {
            bytes[*position] ^= mask;
            put(object, bytes).await;
        }
        Damage::Remove => memory.delete(&ObjectPath::from(object)).await.unwrap(),
        Damage::Cut(kept) => put(object, bytes[..*kept].to_vec()).await,
        Damage::Extend => {
            bytes.extend(b" ");
            put(object, bytes).await;
        }
        Damage::Swap(other) => {
            put(object, objects[other].clone()).await;
            put(other, bytes).await;
        }
    }
    memory
}

/// Why the verification of a damaged store is wrong; nothing where it names what was damaged.
fn missed(found: &StoreVerification, object: &str, damage: &Damage) -> Option<String> {
    let named =
        |object: &str| found.faults.iter().any(|fault| fault.object == object || fault.why.contains(object));
    // Without its description a checkpoint is none; what it named is left over.
    if matches!(damage, Damage::Remove) && object.starts_with("checkpoints/") && object.ends_with(".json") {
        let folder = object.rsplit_once('/').unwrap().0;
        let left = found.orphans.iter().any(|orphan| orphan.object.starts_with(folder));
        return (!left || !found.holds()).then(|| format!("{:?} {:?}", found.orphans, found.faults));
    }
    let all = match damage {
        Damage::Swap(other) => named(object) && named(other),
        _ => named(object),
    };
    if !all {
        return Some(format!("it is not named: {:#?}", found.faults));
    }
    // Whoever is told of damage is told of this alone.
    let other = found.faults.iter().find(|fault| {
        let swapped = matches!(damage, Damage::Swap(other) if fault.object == *other || fault.why.contains(other.as_str()));
        fault.object != object && !fault.why.contains(object) && !swapped
    });
    if let Some(other) = other {
        return Some(format!("another object is blamed: {other:?}"));
    }
    let empty =
        |fault: &&serving::Fault| fault.harms.is_empty() || fault.advice.is_empty() || fault.why.is_empty();
    found.faults.iter().find(empty).map(|fault| format!("it does not say what is harmed: {fault:?}"))
}

#[test]
fn every_damage_is_found_and_named() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_, objects) = runtime.block_on(store());
    let cases = damages(&objects);
    let wrong = Mutex::new(Vec::new());
    on_all_cores(0..cases.len() as u64, |next| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let base = copy_in_memory(&objects).await;
            while let Some(case) = next() {
                let (object, damage) = &cases[case as usize];
                let found = verify(damaged(&base, &objects, object, damage).await, FULL).await;
                if let Some(why) = missed(&found, object, damage) {
                    wrong.lock().unwrap().push(format!("{object}, {damage:?}: {why}"));
                }
            }
        });
    });
    let wrong = wrong.into_inner().unwrap();
    println!("{} cases over {} objects", cases.len(), objects.len());
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.len(),
        wrong[..wrong.len().min(10)].join("\n")
    );
    assert!(cases.len() >= 1_000, "{}", cases.len());
}

/// Without contents, what is missing or has another size is found all the same.
#[tokio::test]
async fn what_is_missing_or_cut_is_found_without_reading_contents() {
    let (_, objects) = store().await;
    let base = copy_in_memory(&objects).await;
    let rough = |damage: &Damage| matches!(damage, Damage::Remove | Damage::Extend | Damage::Cut(_));
    for (object, damage) in damages(&objects).into_iter().filter(|(_, damage)| rough(damage)) {
        let found = verify(damaged(&base, &objects, &object, &damage).await, QUICK).await;
        assert_eq!(missed(&found, &object, &damage), None, "{object}, {damage:?}");
    }
}

/// A damaged data file takes its batch with it, and every training set that the batch counted for.
#[tokio::test]
async fn what_a_fault_harms_is_said() {
    let (fixture, objects) = store().await;
    let base = copy_in_memory(&objects).await;
    let serving =
        Serving::new(Catalog::open(fixture::over(base.fork(), fixture::later().into())).await.unwrap());
    let state = serving.catalog().state();
    let batches: Vec<_> = state.batches().cloned().collect();
    let mut sets_of_batches = Vec::new();
    for batch in &batches {
        let file = serving.catalog().batch_files(batch).await.unwrap()[0].path.clone();
        let found = verify(damaged(&base, &objects, &file, &Damage::Remove).await, QUICK).await;
        let [fault] = found.faults.as_slice() else { panic!("{:?}", found.faults) };
        assert_eq!(fault.object, file);
        assert_eq!(fault.sequence, Some(batch.by.sequence));
        assert_eq!(fault.harms[0], Harm::Batch { batch: batch.record.batch });
        let mut expected = Vec::new();
        for id in fixture.sets {
            let manifest = serving.manifest(id).await.unwrap();
            if manifest.views.iter().any(|view| view.batches.contains(&batch.record.batch)) {
                expected.push(Harm::TrainingSet { training_set: id });
            }
        }
        assert_eq!(fault.harms[1..], expected);
        sets_of_batches.push(expected.len());
    }
    // One set reads the first version of the weather alone, the other everything.
    sets_of_batches.sort_unstable();
    assert_eq!((sets_of_batches[0], sets_of_batches[3]), (1, 2), "{sets_of_batches:?}");
}

#[tokio::test]
async fn a_damaged_checkpoint_is_mended_and_nothing_else_is_touched() {
    let (_, objects) = store().await;
    let mut mended = 0;
    for (object, bytes) in objects.iter().filter(|(object, _)| object.starts_with("checkpoints/")) {
        let mut spoilt = objects.clone();
        spoilt.get_mut(object).unwrap()[bytes.len() / 2] ^= 4;
        let memory = copy_in_memory(&spoilt).await;
        let found = verify(memory.fork(), FULL).await;
        assert!(!found.holds(), "{object}");
        let store = fixture::over(memory, fixture::later().into());
        let found = verify_store(&store, MEND, Arc::new(|_| {})).await.unwrap();
        assert!(found.holds() && found.faults.iter().all(|fault| fault.mended), "{:?}", found.faults);
        mended += found.faults.len();
        let after = verify_store(&store, FULL, Arc::new(|_| {})).await.unwrap();
        assert_eq!(after.faults, [], "{object}");
        for (other, bytes) in &objects {
            if !other.starts_with("checkpoints/") {
                let left = store.objects().get(&ObjectPath::from(other.as_str())).await.unwrap();
                assert_eq!(left.bytes().await.unwrap(), *bytes, "{other}");
            }
        }
        let catalog = Catalog::open(store).await.unwrap();
        assert_eq!(catalog.passed_over(), []);
    }
    assert!(mended >= 10, "{mended}");
}

/// Where the log is damaged a checkpoint may be all that is left of it.
#[tokio::test]
async fn nothing_is_mended_beside_a_damaged_log() {
    let (_, mut objects) = store().await;
    for object in objects.keys().cloned().collect::<Vec<_>>() {
        let bytes = objects.get_mut(&object).unwrap();
        if object == "log/00000000000000000003.json" || object.contains("/entries-") {
            let half = bytes.len() / 2;
            bytes[half] ^= 1;
        }
    }
    let memory = copy_in_memory(&objects).await;
    let store = fixture::over(memory, fixture::later().into());
    let found = verify_store(&store, MEND, Arc::new(|_| {})).await.unwrap();
    assert!(!found.holds() && found.faults.iter().all(|fault| !fault.mended), "{:?}", found.faults);
    assert!(found.notes.iter().any(|note| note.contains("nothing was mended")), "{:?}", found.notes);
    for (object, bytes) in &objects {
        let left =
            store.objects().get(&ObjectPath::from(object.as_str())).await.unwrap().bytes().await.unwrap();
        assert_eq!(left, *bytes, "{object}");
    }
}

#[tokio::test]
async fn what_nothing_names_is_told_of_and_is_no_fault() {
    let (_, objects) = store().await;
    let memory = copy_in_memory(&objects).await;
    let left = ["data/lost.parquet", "log/1.json", "manifests/lost.parquet", "notes.txt"];
    for object in left {
        memory.put(&ObjectPath::from(object), "x".into()).await.unwrap();
    }
    let found = verify(memory, FULL).await;
    assert!(found.holds(), "{:?}", found.faults);
    let orphans: Vec<&str> = found.orphans.iter().map(|orphan| orphan.object.as_str()).collect();
    assert_eq!((orphans.as_slice(), found.orphan_objects), (&left[..], 4));
}

#[test]
fn the_program_verifies_a_store() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_, objects) = runtime.block_on(store());
    let folder = tempfile::tempdir().unwrap();
    fixture::write_objects(folder.path(), &objects);
    let run = |arguments: &[&str]| {
        let ran = Command::new(env!("CARGO_BIN_EXE_lineament"))
            .arg("verify")
            .args(arguments)
            .arg("--store")
            .arg(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8(ran.stdout).unwrap() + &String::from_utf8(ran.stderr).unwrap();
        (ran.status.code(), said)
    };
    for arguments in [&[][..], &["--full"]] {
        let (code, said) = run(arguments);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.starts_with("holds: 12 entries, 4 batches, 2 training sets"), "{said}");
    }
    let data = objects.keys().find(|object| object.starts_with("data/")).unwrap();
    let mut bytes = objects[data].clone();
    bytes[100] ^= 1;
    std::fs::write(folder.path().join(data), &bytes).unwrap();
    assert_eq!(run(&[]).0, Some(0), "its size is what it was");
    let (code, said) = run(&["--full"]);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains(&format!("wrong: {data}: ")) && said.contains("harms rows of batch"), "{said}");
    let (code, said) = run(&["--full", "--format", "json"]);
    assert_eq!(code, Some(4));
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["faults"][0]["object"], data.as_str());
    assert_eq!(report["faults"][0]["harms"][0]["kind"], "batch");
    // A store that does not open is looked at too.
    std::fs::remove_file(folder.path().join("log/00000000000000000004.json")).unwrap();
    let (code, said) = run(&[]);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("log/00000000000000000004.json: it is missing"), "{said}");
    let none = tempfile::tempdir().unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_lineament"))
        .args(["verify", "--store"])
        .arg(none.path())
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(1));
}
