//! Damage to every object of a small store: it is an error that names the object, or it changes no answer. Never is
//! there a wrong answer, and never a panic.
//!
//! The store is made in a folder. Most damage is done to its objects in memory, where a store is opened in a
//! millisecond; some of each kind also in the folder, through the files and the program.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use catalog::Catalog;
use futures::FutureExt;
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, path::Path as ObjectPath};
use serving::{Kind, Serving};
use storage::Store;

use super::cases::on_all_cores;
use super::fixture::{self, Fixture, Question, copy_in_memory};
use super::stores::author;

/// Objects up to this size have every byte flipped, larger ones a sample and both ends.
const SMALL: usize = 1000;
const SAMPLE: usize = 300;
const ENDS: usize = 16;
/// After these of the flips everything is asked; after the others a few of the questions that read the object, in turn.
const ALL_ASKED_EVERY: usize = 40;

#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u8),
    Truncate(usize),
    Append,
    Delete,
    /// With another object of its kind, which gets this one's bytes.
    Swap(String),
}

#[derive(Clone, Debug)]
struct Case {
    object: String,
    damage: Damage,
    /// Asks everything, or where in the list of its readers to begin.
    begin: Option<usize>,
}

/// Chance that is the same each time.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

struct World {
    objects: BTreeMap<String, Vec<u8>>,
    answers: Vec<(Question, String)>,
    /// Questions whose answer needs an object, by object: those that fail when it is gone. A question that does not
    /// need an object gets the same bytes whatever is done to it.
    readers: BTreeMap<String, Vec<usize>>,
    newest: String,
}

fn kind_of(object: &str) -> &str {
    object.split('/').next().unwrap()
}

/// Where damage may go unnoticed, for it changes no answer; and why that is so.
fn harmless(world: &World, object: &str) -> Option<&'static str> {
    if object == world.newest {
        return Some(
            "the newest entry of the log, whose digest no other holds yet: only who read it before finds that",
        );
    }
    if kind_of(object) == "reads" {
        return Some("what ad-hoc reads left behind: this version writes it and never reads it back");
    }
    if kind_of(object) == "bodies" && world.readers.get(object).is_none_or(Vec::is_empty) {
        return Some("the origin of a batch that was refused: only cells are explained, and it has none");
    }
    None
}

/// What a damaged object may be called: its path; a log entry by its number.
fn names(message: &str, object: &str) -> bool {
    let Some(sequence) = object.strip_prefix("log/").and_then(|name| name.strip_suffix(".json")) else {
        return message.contains(object);
    };
    let sequence: u64 = sequence.parse().unwrap();
    message.starts_with(object) || message.starts_with(&format!("the log is damaged at sequence {sequence}:"))
}

fn store(memory: InMemory) -> Store {
    fixture::over(memory, fixture::later().into())
}

/// The objects that a damage replaces; `None` for one that is gone.
fn damaged(world: &World, case: &Case) -> Vec<(String, Option<Vec<u8>>)> {
    let bytes = &world.objects[&case.object];
    let own = |bytes: Option<Vec<u8>>| vec![(case.object.clone(), bytes)];
    match &case.damage {
        Damage::Flip(position, mask) => {
            let mut flipped = bytes.clone();
            flipped[*position] ^= mask;
            own(Some(flipped))
        }
        Damage::Truncate(length) => own(Some(bytes[..*length].to_vec())),
        Damage::Append => own(Some([bytes.as_slice(), b"{}"].concat())),
        Damage::Delete => own(None),
        Damage::Swap(other) => {
            vec![
                (case.object.clone(), Some(world.objects[other].clone())),
                (other.clone(), Some(bytes.clone())),
            ]
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Found,
    Harmless,
}

/// Opens the store and asks. What is wrong with that is an error of the test.
async fn judge(
    world: &World,
    case: &Case,
    opened: serving::Result<Serving>,
    asked: &[usize],
) -> Result<(Verdict, Vec<usize>), String> {
    let named = |message: &str| {
        names(message, &case.object) || matches!(&case.damage, Damage::Swap(other) if names(message, other))
            // Of two entries that do not fit, the newest is vouched for by nobody: both are named.
            || case.object == world.newest && message.contains(&format!("or else entry {} was", number(&world.newest)))
    };
    let check = |error: &serving::Error, doing: &str| {
        if error.kind() != Kind::Damaged {
            return Err(format!("{case:?}: {doing} fails as {:?}: {error}", error.kind()));
        }
        if !named(&error.to_string()) {
            return Err(format!("{case:?}: {doing} does not name the object: {error}"));
        }
        Ok(())
    };
    let serving = match opened {
        Ok(serving) => serving,
        Err(error) => {
            check(&error, "opening")?;
            return Ok((Verdict::Found, Vec::new()));
        }
    };
    let mut failed = Vec::new();
    for index in asked {
        let (question, expected) = &world.answers[*index];
        match fixture::ask(&serving, question).await {
            Err(error) => {
                check(&error, &format!("{question:?}"))?;
                failed.push(*index);
            }
            // The newest entry tells of itself there and nowhere else.
            Ok(_) if case.object == world.newest && *question == own_line() => {}
            Ok(found) if found == *expected => {}
            Ok(found) => {
                return Err(format!(
                    "{case:?}: {question:?} is answered wrongly\n{found}\nin place of\n{expected}"
                ));
            }
        }
    }
    Ok((if failed.is_empty() { Verdict::Harmless } else { Verdict::Found }, failed))
}

/// The question that shows the log's entries themselves.
fn own_line() -> Question {
    Question::Sql("SELECT * FROM lineament.log".to_owned())
}

fn number(entry: &str) -> u64 {
    entry.trim_start_matches("log/").trim_end_matches(".json").parse().unwrap()
}

async fn in_memory(world: &World, base: &InMemory, case: &Case) -> Result<(Verdict, Vec<usize>), String> {
    let objects = base.fork();
    for (object, bytes) in damaged(world, case) {
        let path = ObjectPath::from(object.as_str());
        match bytes {
            Some(bytes) => drop(objects.put(&path, bytes.into()).await.unwrap()),
            None => objects.delete(&path).await.unwrap(),
        }
    }
    let all: Vec<usize> = (0..world.answers.len()).collect();
    let asked: Vec<usize> = match case.begin {
        None => all,
        Some(begin) => {
            let none = Vec::new();
            let readers = world.readers.get(&case.object).unwrap_or(&none);
            let from = if readers.is_empty() { &all } else { readers };
            from.iter().cycle().skip(begin % from.len()).take(2).copied().collect()
        }
    };
    let work = AssertUnwindSafe(async {
        let opened = fixture::open(store(objects)).await;
        judge(world, case, opened, &asked).await
    });
    work.catch_unwind().await.unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().cloned();
        let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned()));
        Err(format!("{case:?}: panics: {why:?}"))
    })
}

/// Everything but flips: few cases, and after each of them everything is asked.
fn rough_cases(objects: &BTreeMap<String, Vec<u8>>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (object, bytes) in objects {
        let mut add = |damage| cases.push(Case { object: object.clone(), damage, begin: None });
        let length = bytes.len();
        for kept in [0, 1, length / 3, length / 2, length - length.min(8), length - 1] {
            add(Damage::Truncate(kept));
        }
        // Bytes after the end of a data file are beyond what its manifest says, and nobody reads them.
        if kind_of(object) != "data" {
            add(Damage::Append);
        }
        let alike = |other: &&String| kind_of(other) == kind_of(object) && *other > object;
        let of_kind: Vec<&String> = objects.keys().filter(alike).collect();
        // With the next, and with the one farthest away.
        for other in of_kind.first().into_iter().chain(of_kind.last().filter(|_| of_kind.len() > 1)) {
            add(Damage::Swap((*other).clone()));
        }
    }
    cases
}

fn flips(objects: &BTreeMap<String, Vec<u8>>) -> Vec<Case> {
    let mut chance = Chance(20130101);
    let mut cases = Vec::new();
    for (object, bytes) in objects {
        let mut positions: Vec<usize> = if bytes.len() <= SMALL {
            (0..bytes.len()).collect()
        } else {
            let ends = (0..ENDS).chain(bytes.len() - ENDS..bytes.len());
            ends.chain((0..SAMPLE).map(|_| chance.below(bytes.len()))).collect()
        };
        positions.sort_unstable();
        positions.dedup();
        while bytes.len() > SMALL && positions.len() < SAMPLE + 2 * ENDS {
            let position = chance.below(bytes.len());
            if let Err(place) = positions.binary_search(&position) {
                positions.insert(place, position);
            }
        }
        for (index, position) in positions.into_iter().enumerate() {
            let mask = 1 + chance.below(255) as u8;
            let begin = (index % ALL_ASKED_EVERY != 0).then_some(index);
            cases.push(Case { object: object.clone(), damage: Damage::Flip(position, mask), begin });
        }
    }
    cases
}

/// Runs cases on all cores.
fn run(world: &World, cases: &[Case]) -> Result<Vec<(Verdict, Vec<usize>)>, String> {
    let results = Mutex::new(vec![None; cases.len()]);
    let wrong = Mutex::new(Vec::new());
    on_all_cores(0..cases.len() as u64, |next| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let base = copy_in_memory(&world.objects).await;
            while let Some(index) = next() {
                let index = index as usize;
                match in_memory(world, &base, &cases[index]).await {
                    Ok(result) => results.lock().unwrap()[index] = Some(result),
                    Err(why) => wrong.lock().unwrap().push(why),
                }
            }
        });
    });
    let wrong = wrong.into_inner().unwrap();
    if !wrong.is_empty() {
        return Err(format!(
            "{} of {} cases:\n{}",
            wrong.len(),
            cases.len(),
            wrong[..wrong.len().min(20)].join("\n")
        ));
    }
    Ok(results.into_inner().unwrap().into_iter().map(Option::unwrap).collect())
}

struct Made {
    world: World,
    folder: tempfile::TempDir,
    fixture: Fixture,
}

fn world() -> Made {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (fixture, objects, answers) = runtime.block_on(async {
        let fixture = fixture::make(folder.path()).await;
        let objects = fixture::objects(folder.path());
        let serving = fixture::open(store(copy_in_memory(&objects).await)).await.unwrap();
        let mut answers = Vec::new();
        for question in fixture::questions(&fixture) {
            let answer = fixture::ask(&serving, &question).await.unwrap();
            answers.push((question, answer));
        }
        (fixture, objects, answers)
    });
    let newest = objects.keys().rfind(|object| kind_of(object) == "log").unwrap().clone();
    let mut world = World { objects, answers, readers: BTreeMap::new(), newest };
    let deletions: Vec<Case> = world
        .objects
        .keys()
        .map(|object| Case { object: object.clone(), damage: Damage::Delete, begin: None })
        .collect();
    let found = run(&world, &deletions).unwrap();
    for (case, (_, failed)) in deletions.into_iter().zip(found) {
        world.readers.insert(case.object, failed);
    }
    Made { world, folder, fixture }
}

#[test]
fn damage_is_found_by_name_or_changes_no_answer() {
    let Made { world, .. } = world();
    let kinds: Vec<&str> =
        ["bodies", "data", "log", "manifests", "profiles", "quarantine", "reads", "spines", "training_sets"]
            .into();
    let mut there: Vec<&str> = world.objects.keys().map(|object| kind_of(object)).collect();
    there.dedup();
    assert_eq!(there, kinds);

    let mut cases: Vec<Case> = world
        .objects
        .keys()
        .map(|object| Case { object: object.clone(), damage: Damage::Delete, begin: None })
        .collect();
    cases.extend(rough_cases(&world.objects));
    cases.extend(flips(&world.objects));
    let results = run(&world, &cases).unwrap();

    let mut counts: BTreeMap<(&str, &str), [usize; 2]> = BTreeMap::new();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let mut unexpected = Vec::new();
    for (case, (verdict, _)) in cases.iter().zip(&results) {
        let damage = match case.damage {
            Damage::Flip(..) => "flipped",
            Damage::Truncate(_) | Damage::Append => "cut or longer",
            Damage::Delete => "deleted",
            Damage::Swap(_) => "swapped",
        };
        let count = counts.entry((kind_of(&case.object), damage)).or_default();
        count[*verdict as usize] += 1;
        // Of two swapped objects either may be the one that is read.
        let mut reason = harmless(&world, &case.object);
        if let Damage::Swap(other) = &case.damage {
            reason = reason.and(harmless(&world, other));
        }
        match (verdict, reason) {
            (Verdict::Harmless, Some(reason)) => *reasons.entry(reason).or_default() += 1,
            (Verdict::Harmless, None) => unexpected.push(format!("{case:?}")),
            (Verdict::Found, _) => {}
        }
    }
    println!("{:<14} {:<14} {:>6} {:>9}", "object", "damage", "found", "harmless");
    for ((kind, damage), [found, harmless]) in &counts {
        println!("{kind:<14} {damage:<14} {found:>6} {harmless:>9}");
    }
    for (reason, count) in &reasons {
        println!("harmless {count:>6}: {reason}");
    }
    assert!(unexpected.is_empty(), "not found:\n{}", unexpected.join("\n"));
    let found: usize = counts.values().map(|[found, _]| found).sum();
    assert!(cases.len() >= 8_000 && found * 10 >= cases.len() * 8, "{found} of {}", cases.len());
}

/// Whoever edits an entry with care, so that it is an entry still, is found by the chain, and by the number of the entry.
#[tokio::test]
async fn entries_that_were_edited_by_hand_are_named() {
    let Made { world, .. } = tokio::task::spawn_blocking(world).await.unwrap();
    let base = copy_in_memory(&world.objects).await;
    let edits = [
        ("\"principal\":\"tester\"", "\"principal\":\"nobody\""),
        ("\"committed_at\":13", "\"committed_at\":12"),
        ("\"known_at\":\"delay\"", "\"known_at\":\"assumed\""),
        ("\"verdict\":\"equal\"", "\"verdict\":\"differs\""),
        ("\"rows\":", "\"rows\":1"),
        ("\"ttl\":\"12w6d\"", "\"ttl\":\"12w5d\""),
    ];
    let mut edited = vec![0; edits.len()];
    for (object, bytes) in &world.objects {
        if kind_of(object) != "log" || *object == world.newest {
            continue;
        }
        for ((from, to), count) in edits.iter().zip(&mut edited) {
            let text = String::from_utf8(bytes.clone()).unwrap();
            let altered = text.replace(from, to);
            if altered == text {
                continue;
            }
            *count += 1;
            let objects = base.fork();
            objects.put(&ObjectPath::from(object.as_str()), altered.into_bytes().into()).await.unwrap();
            let message = fixture::open(store(objects)).await.map(drop).unwrap_err().to_string();
            let says = format!("{object}: log entry {} ", number(object));
            assert!(message.starts_with(&says), "{from} to {to} in {object}: {message}");
        }
    }
    assert!(edited.iter().all(|count| *count > 0), "{edited:?}");
}

/// What the chain alone cannot show, a program finds that has read the newest entry before.
#[tokio::test]
async fn a_running_program_finds_damage_of_the_newest_entry() {
    let Made { world, .. } = tokio::task::spawn_blocking(world).await.unwrap();
    let base = copy_in_memory(&world.objects).await;
    let path = ObjectPath::from(world.newest.as_str());
    let newest = &world.objects[&world.newest];
    for position in 0..=newest.len() {
        let objects = base.fork();
        let running = Catalog::open(store(objects.fork())).await.unwrap();
        drop(objects);
        let memory = running.store().objects();
        let mut bytes = newest.clone();
        match bytes.get_mut(position) {
            Some(byte) => {
                *byte ^= 1;
                memory.put(&path, bytes.into()).await.unwrap();
            }
            None => memory.delete(&path).await.unwrap(),
        }
        let message = running.refresh().await.unwrap_err().to_string();
        assert!(names(&message, &world.newest), "{position}: {message}");
        assert!(message.contains(&format!("log entry {} ", number(&world.newest))), "{position}: {message}");
    }
}

/// Blocks are checked once a process. A file that is cut after that is an error too, and never a panic.
#[tokio::test]
async fn files_that_are_cut_under_a_running_program_are_named() {
    let Made { world, .. } = tokio::task::spawn_blocking(world).await.unwrap();
    let base = copy_in_memory(&world.objects).await;
    for (object, bytes) in world.objects.iter().filter(|(object, _)| kind_of(object) == "data") {
        for kept in [0, bytes.len() / 2, bytes.len() - 1] {
            let serving = fixture::open(store(base.fork())).await.unwrap();
            let asked = world.readers[object].clone();
            for index in &asked {
                assert_eq!(
                    fixture::ask(&serving, &world.answers[*index].0).await.unwrap(),
                    world.answers[*index].1
                );
            }
            let cut = bytes[..kept].to_vec().into();
            serving.catalog().store().objects().put(&ObjectPath::from(object.as_str()), cut).await.unwrap();
            let case = Case { object: object.clone(), damage: Damage::Truncate(kept), begin: None };
            judge(&world, &case, Ok(serving), &asked).await.unwrap();
        }
    }
}

/// A folder whose first entry is gone is not made a new store, whatever else is left of it.
#[tokio::test]
async fn a_store_that_lost_its_beginning_is_not_begun_anew() {
    let Made { world, .. } = tokio::task::spawn_blocking(world).await.unwrap();
    let first = "log/00000000000000000000.json";
    for only_log in [false, true] {
        let mut left = world.objects.clone();
        left.remove(first);
        left.retain(|object, _| !only_log || kind_of(object) == "log");
        let objects = store(copy_in_memory(&left).await);
        let message =
            Catalog::open_or_create(objects.clone(), &author()).await.map(drop).unwrap_err().to_string();
        assert!(
            message.contains("log/00000000000000000000.json") || message.contains("log entry 0"),
            "{message}"
        );
        assert!(!objects.is_initialized().await.unwrap());
    }
}

/// The same in the folder: a few of each kind, by the library and by the program.
#[test]
fn damaged_files_are_named() {
    let Made { world, folder, fixture } = world();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all: Vec<usize> = (0..world.answers.len()).collect();
    let mut by_kind: BTreeMap<&str, usize> = BTreeMap::new();
    for object in world.objects.keys() {
        let count = by_kind.entry(kind_of(object)).or_default();
        *count += 1;
        if *count > 2 {
            continue;
        }
        let length = world.objects[object].len();
        for damage in [Damage::Flip(length / 2, 0x40), Damage::Truncate(length / 2), Damage::Delete] {
            let case = Case { object: object.clone(), damage, begin: None };
            let copy = tempfile::tempdir().unwrap();
            fixture::write_objects(copy.path(), &world.objects);
            spoil(copy.path(), &world, &case);
            let verdict = runtime.block_on(async {
                let opened = match Store::open(copy.path().to_str().unwrap(), fixture::later().into()) {
                    Ok(store) => fixture::open(store).await,
                    // Without its first entry a folder does not even look like a store.
                    Err(error) => {
                        let message = error.to_string();
                        assert!(
                            object.ends_with("/00000000000000000000.json") && message.contains(object),
                            "{message}"
                        );
                        return Verdict::Found;
                    }
                };
                judge(&world, &case, opened, &all).await.unwrap().0
            });
            assert!(verdict == Verdict::Found || harmless(&world, object).is_some(), "{case:?}");
        }
    }
    assert_eq!(by_kind.len(), 9);

    // The program says so too, and its exit code tells damage from mistakes.
    let data = world.objects.keys().find(|object| kind_of(object) == "data").unwrap();
    let entry = "log/00000000000000000003.json";
    for object in [data.as_str(), entry] {
        let case = Case { object: object.to_owned(), damage: Damage::Flip(100, 0x10), begin: None };
        spoil(folder.path(), &world, &case);
        let ran = Command::new(env!("CARGO_BIN_EXE_lineament"))
            .args(["replay", &fixture.sets[0].to_string(), "--store"])
            .arg(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(4), "{said}");
        assert!(said.contains(object), "{said}");
        fixture::write_objects(folder.path(), &world.objects);
    }
}

fn spoil(folder: &Path, world: &World, case: &Case) {
    for (object, bytes) in damaged(world, case) {
        let path = folder.join(object);
        match bytes {
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
    }
}
