//! A store that is opened from a checkpoint is the store that its log tells of, or the log is folded.

mod history;
mod later_fields;

use std::collections::BTreeSet;

use feature::{Sequence, Timestamp};
use futures::StreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::prelude::*;
use storage::Clock;
use storage::log::Appended;

use super::*;
use crate::catalog::fold;
use crate::state::producers::{Place, Standing};
use crate::state::{ViewVersion, Which};
use history::{History, choices, created, entry_after, id};

/// Everything that a state answers, as text.
fn answers(state: &State) -> String {
    let mut text = Vec::new();
    let mut say = |line: String| text.push(line);
    say(format!("{:?} {:?} {:?}", state.store, state.hash, state.head));
    state.entities().for_each(|version| say(format!("{version:?}")));
    state.services().for_each(|version| say(format!("{version:?}")));
    let views: Vec<&ViewVersion> = state.views().collect();
    for version in &views {
        say(format!("{version:?}"));
        for at in 0..=state.head.sequence.0 {
            let batches = state.batches_of(version, Sequence(at));
            say(format!("{} at {at}: {batches:?}", version.version));
            let name = version.definition.name.as_str();
            let in_force = state.view("default", name, None, Sequence(at)).map(|version| version.version);
            say(format!("in force at {at}: {in_force:?}"));
        }
        say(format!("{:?} {:?}", state.runs_of_line(version.line), state.last_compaction(version.view)));
    }
    say(format!("{:?} {:?}", state.expiry().expired(), state.expiry().deleted()));
    for one in state.erasures().all() {
        say(format!("{one:?}"));
        assert!(one.record.gone.iter().all(|path| state.erasures().took(path)));
        for replaced in &one.record.replaced {
            let before = crate::records::Object { path: replaced.before.clone(), ..replaced.after.clone() };
            assert_eq!(state.erasures().in_force(&before), &replaced.after);
        }
    }
    for version in &views {
        let before = |at| state.expiry().before(version.view, Sequence(at));
        say(format!("{:?}", (0..=state.head.sequence.0).map(before).collect::<Vec<_>>()));
    }
    for batch in state.batches() {
        say(format!("{:?}", state.expiry().gone(batch.record.batch)));
        assert_eq!(state.batch(batch.record.batch).map(|found| &found.record), Some(&batch.record));
        for source in &batch.record.sources {
            assert!(state.has_source(batch.line, source.digest));
        }
        say(format!("{batch:?}"));
    }
    state.batch_origins(|origin| say(format!("{origin:?}")));
    let every = state.batches().map(|batch| batch.record.batch).collect();
    let until = state.head.sequence;
    let spans = [None, Some(Sequence(until.0 / 2))].map(|after| Which::Between { after, until });
    for which in spans.into_iter().chain([Which::These(&every)]) {
        let mut counted = Vec::new();
        state.count_batches(which, |batch| counted.push(format!("{batch:?}")));
        counted.sort();
        say(counted.join("\n"));
    }
    for set in state.training_sets() {
        assert!(state.training_set(set.record.training_set).is_some());
        say(format!("{set:?}"));
    }
    // Those of one entry are of different things, and in no order.
    let mut moved: Vec<String> = state.withdrawals().all().iter().map(|moved| format!("{moved:?}")).collect();
    moved.sort();
    say(moved.join("\n"));
    for refused in state.refused() {
        let known = refused
            .record
            .sources
            .iter()
            .map(|source| state.has_refused(refused.record.version, source.digest));
        say(format!("{refused:?} {:?}", known.collect::<Vec<_>>()));
    }
    say(format!("{:?} {:?}", state.verifications(), state.reads()));
    // As for what was withdrawn.
    let mut held: Vec<String> = state.quarantine().all().iter().map(|held| format!("{held:?}")).collect();
    held.sort();
    say(held.join("\n"));
    for held in state.quarantine().all() {
        assert!(state.quarantine().of(held.batch.record.batch).is_some());
        assert!(
            held.batch.record.sources.iter().all(|source| state.has_source(held.batch.line, source.digest))
        );
    }
    state.compactions().for_each(|compaction| say(format!("{compaction:?}")));
    for (view, producer, last) in state.producers() {
        let standing =
            |number| state.part_standing(view, producer, Place { epoch: last.place.epoch, number });
        let standings: Vec<Standing> = (1..=last.place.number + 2).map(standing).collect();
        say(format!("{view} {producer} {last:?} {standings:?}"));
    }
    let registry = state.registry();
    say(format!("{:?} {:?} {:?}", registry.links(), registry.aliases(), registry.uses()));
    say(format!("{:?} {:?}", registry.passes(), registry.measured()));
    for link in registry.links() {
        say(format!(
            "{:?} {:?}",
            registry.find(&link.external),
            registry.external(feature::RunId::from(link.id))
        ));
    }
    say(format!("{:?} {:?}", state.policies().all(), state.samples().all()));
    say(format!("{:?}", state.mended().all()));
    say(format!("{:?}", state.spines().all()));
    for alert in state.alerts().all() {
        let told = |cause: &String| state.alerts().told(&alert.record.rule, cause);
        assert!(alert.record.causes.iter().all(told));
        say(format!("{alert:?}"));
        for sink in &alert.record.sinks {
            let id = alert.record.alert;
            for at in [state.head.sequence, alert.by.sequence.next()] {
                say(format!(
                    "{:?} {:?}",
                    state.alerts().on_its_way(id, sink, at),
                    state.alerts().rests_until(sink, at)
                ));
            }
        }
    }
    for sink in ["log", "sink_0", "sink_1", "sink_2"] {
        let sender = history::id(60, 0);
        let due = |now: i64| {
            let due = state.alerts().due_for(sink, sender, feature::Timestamp(now));
            due.map(|alert| alert.record.alert.to_string()).collect::<Vec<_>>()
        };
        say(format!("{} {:?} {:?}", state.alerts().open(sink), due(0), due(i64::MAX)));
    }
    (0..4).for_each(|rule| say(format!("{:?}", state.alerts().through(&format!("rule_{rule}")))));
    registry.experiments().for_each(|seen| say(format!("{seen:?}")));
    registry.runs().for_each(|seen| say(format!("{seen:?}")));
    registry.models().for_each(|seen| say(format!("{seen:?}")));
    registry.model_versions().for_each(|seen| say(format!("{seen:?}")));
    registry.deployments().for_each(|seen| say(format!("{seen:?}")));
    (0..3).for_each(|alias| say(registry.authority(&format!("http://other:{alias}"))));
    for line in state.log().iter() {
        say(format!("{line:?} {:?}", state.request(&format!("key {}", line.by.sequence))));
    }
    text.join("\n")
}

fn store() -> Store {
    Store::over("memory", Arc::new(InMemory::new()), Clock::default())
}

async fn append(store: &Store, entries: &[(Entry, Digest)]) {
    for (entry, _) in entries {
        let appended = store.log().append(entry.sequence, entry.encode().unwrap()).await.unwrap();
        assert_eq!(appended, Appended::Committed);
    }
}

async fn opened(store: &Store) -> (Option<Opened>, Vec<PassedOver>) {
    let mut passed_over = Vec::new();
    let opened = newest(store, &mut passed_over).await.unwrap();
    (opened, passed_over)
}

/// The state at the end of the log.
fn caught_up(opened: Opened) -> State {
    let mut state = Some(opened.state);
    for (entry, digest) in &opened.entries {
        fold(&mut state, entry, *digest).unwrap();
    }
    state.unwrap()
}

async fn objects_of(store: &Store) -> Vec<Path> {
    let listed = store.objects().list(Some(&Path::from("checkpoints")));
    let mut paths: Vec<Path> = listed.map(|object| object.unwrap().location).collect().await;
    paths.sort();
    paths
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Choices that use every kind of record.
fn every_kind() -> Vec<Vec<history::Choice>> {
    let order = [
        0, 15, 15, 15, 15, 1, 2, 6, 7, 3, 4, 5, 10, 28, 28, 28, 28, 28, 29, 11, 13, 14, 16, 17, 18, 19, 20,
        21, 22, 24, 25, 24, 24, 24, 24, 25, 25, 26, 26, 23, 8, 9, 12, 23, 23, 27, 27, 27, 27, 27, 27, 30, 30,
        30, 30, 30, 30, 30, 30, 31, 31, 31, 31, 32, 32, 32, 32, 33, 33, 33, 33,
    ];
    let numbered =
        order.iter().zip(0u32..).map(|(kind, number)| vec![(*kind, number), (*kind, number * 7 + 3)]);
    numbered.collect()
}

#[test]
fn the_histories_hold_every_kind_of_record() {
    let mut numbers = BTreeSet::new();
    for round in 0..40u32 {
        let shifted: Vec<Vec<history::Choice>> = every_kind()
            .into_iter()
            .map(|entry| entry.into_iter().map(|(kind, number)| (kind, number + round)).collect())
            .collect();
        let history = History::of(&shifted);
        numbers.extend(
            history.entries.iter().flat_map(|(entry, _)| entry.records.iter().map(|record| record.number)),
        );
    }
    let known: BTreeSet<u32> =
        (0..10_000).filter(|number| crate::records::Record::name_of(*number).is_some()).collect();
    assert_eq!(numbers, known);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// At every sequence the tables give the folded state again, and what comes after folds alike.
    #[test]
    fn tables_are_the_state(choices in choices(14)) {
        let history = History::of(&choices);
        let states = history.states();
        let last = states.last().unwrap();
        let (expected, digest) = (answers(last), state_digest(last).unwrap());
        for state in &states {
            let tables = state.tables_after(None).unwrap();
            let mut again = State::from_tables(state.store, state.hash, &tables).unwrap();
            prop_assert_eq!(&again.tables_after(None).unwrap(), &tables);
            prop_assert_eq!(answers(&again), answers(state));
            for (entry, digest) in &history.entries[state.head.sequence.0 as usize + 1..] {
                let mut next = Some(again);
                fold(&mut next, entry, *digest).unwrap();
                again = next.unwrap();
            }
            prop_assert_eq!(answers(&again), expected.as_str());
            prop_assert_eq!(state_digest(&again).unwrap(), digest);
        }
    }

    /// Checkpoints at any sequences, each on the one before, in any order of opening and writing.
    #[test]
    fn opened_stores_are_folded_stores(choices in choices(40), at in proptest::collection::vec(0..40usize, 1..6)) {
        let history = History::of(&choices);
        let states = history.states();
        block_on(async {
            let store = store();
            let mut at: Vec<usize> = at.into_iter().map(|at| at % states.len()).collect();
            at.sort_unstable();
            at.dedup();
            let (mut before, mut written, mut open): (Option<Checkpoint>, usize, Option<State>) = Default::default();
            for (round, at) in at.into_iter().enumerate() {
                append(&store, &history.entries[written..=at]).await;
                written = at + 1;
                // The next state is folded on what was opened, as in a process that goes on.
                let state = match open {
                    Some(state) if round % 2 == 0 => {
                        let mut next = Some(state);
                        let from = next.as_ref().unwrap().head.sequence.0 as usize + 1;
                        for (entry, digest) in &history.entries[from..=at] {
                            fold(&mut next, entry, *digest).unwrap();
                        }
                        next.unwrap()
                    }
                    _ => states[at].clone(),
                };
                let checkpoint = write(&store, Arc::new(state), before.as_ref(), "test").await.unwrap();
                assert_eq!(checkpoint.state, state_digest(&states[at]).unwrap());
                let (found, passed_over) = opened(&store).await;
                let found = found.unwrap();
                assert_eq!((&found.checkpoint, passed_over), (&checkpoint, Vec::new()));
                assert_eq!(answers(&found.state), answers(&states[at]));
                open = Some(found.state);
                before = Some(checkpoint);
            }
            append(&store, &history.entries[written..]).await;
            let (found, _) = opened(&store).await;
            assert_eq!(answers(&caught_up(found.unwrap())), answers(states.last().unwrap()));
        });
    }
}

/// Longer than some blocks of the digest, and than some segments.
#[test]
fn a_long_log_is_written_in_segments() {
    let mut entries = vec![entry_after(None, &[created()], None)];
    let read = crate::records::ReadsRecorded {
        reads: 1,
        object: crate::records::Object {
            path: "reads/1.parquet".to_owned(),
            bytes: 1,
            digest: feature::digest::hash(HashAlgorithm::Blake3, b"1"),
        },
    };
    while entries.len() < 5_000 {
        let entry = entry_after(entries.last(), &[read.clone().into()], None);
        entries.push(entry);
    }
    let history = History { entries };
    block_on(async {
        let store = store();
        let mut folded: Option<State> = None;
        let (mut before, mut segments): (Option<Checkpoint>, usize) = (None, 0);
        for (entry, digest) in &history.entries {
            append(&store, &[(entry.clone(), *digest)]).await;
            fold(&mut folded, entry, *digest).unwrap();
            if [10, 1_022, 1_023, 1_024, 2_000, 2_047, 2_048, 2_300, 4_900].contains(&entry.sequence.0) {
                let state = folded.clone().unwrap();
                let digest = state_digest(&state).unwrap();
                let checkpoint = write(&store, Arc::new(state), before.as_ref(), "test").await.unwrap();
                assert_eq!(checkpoint.state, digest, "at {}", entry.sequence);
                assert_eq!(checkpoint.blocks.len() as u64, (entry.sequence.0 + 1) / 1_024);
                segments = segments.max(checkpoint.segments.len());
                before = Some(checkpoint);
            }
        }
        assert!((3..8).contains(&segments), "{segments} segments");
        let (found, passed_over) = opened(&store).await;
        let found = found.unwrap();
        assert_eq!((found.checkpoint.sequence, found.entries.len()), (Sequence(4_900), 99));
        assert_eq!(passed_over, []);
        let (state, folded) = (caught_up(found), folded.unwrap());
        assert_eq!(state.tables_after(None).unwrap(), folded.tables_after(None).unwrap());
    });
}

/// Two checkpoints of one store, of all kinds of records, and the state that the log tells.
async fn with_two_checkpoints() -> (Store, State, [Checkpoint; 2]) {
    let history = History::of(&every_kind());
    let states = history.states();
    let store = store();
    append(&store, &history.entries).await;
    let (middle, last) = (states.len() / 2, states.len() - 2);
    let first = write(&store, Arc::new(states[middle].clone()), None, "test").await.unwrap();
    let second = write(&store, Arc::new(states[last].clone()), Some(&first), "test").await.unwrap();
    (store, states.last().unwrap().clone(), [first, second])
}

#[test]
fn a_damaged_object_is_found_and_the_one_before_is_taken() {
    block_on(async {
        let (store, expected, [first, second]) = with_two_checkpoints().await;
        let expected = answers(&expected);
        let objects = store.objects();
        let folder = format!("checkpoints/{:020}/", second.sequence.0);
        let newest: Vec<Path> =
            objects_of(&store).await.into_iter().filter(|path| path.as_ref().starts_with(&folder)).collect();
        assert!(newest.len() > 5, "{newest:?}");
        for path in newest {
            let whole = objects.get(&path).await.unwrap().bytes().await.unwrap();
            let mut damaged: Vec<Option<Vec<u8>>> =
                vec![None, Some(Vec::new()), Some(whole[..whole.len() / 2].to_vec())];
            damaged.push(Some([&whole[..], b" "].concat()));
            // A digest over all of them finds one as it finds another.
            for place in (0..whole.len()).step_by(whole.len() / 48 + 1) {
                let mut bytes = whole.to_vec();
                bytes[place] ^= 1 << (place % 8);
                damaged.push(Some(bytes));
            }
            for bytes in damaged {
                match bytes {
                    None => objects.delete(&path).await.unwrap(),
                    Some(bytes) => drop(objects.put(&path, bytes.into()).await.unwrap()),
                }
                let (found, passed_over) = opened(&store).await;
                let found = found.unwrap();
                assert_eq!(found.checkpoint, first, "{path}");
                // A description that is gone leaves nothing that could be passed over.
                assert!(
                    passed_over.len() == 1 || path.extension() == Some("json"),
                    "{path}: {passed_over:?}"
                );
            }
            objects.put(&path, whole.clone().into()).await.unwrap();
        }
        let (found, passed_over) = opened(&store).await;
        assert_eq!(passed_over, []);
        let found = found.unwrap();
        assert_eq!(found.checkpoint, second);
        assert_eq!(answers(&caught_up(found)), expected);
    });
}

#[test]
fn objects_of_one_table_are_not_taken_for_another() {
    block_on(async {
        let (store, _, [first, second]) = with_two_checkpoints().await;
        let parts = second.segments.iter().flat_map(|segment| &segment.parts).chain(&second.whole);
        let parts: Vec<&Part> = parts.collect();
        for (one, other) in parts.iter().flat_map(|one| parts.iter().map(move |other| (*one, *other))) {
            if one == other {
                continue;
            }
            // Also where the description says so.
            let mut swapped = second.clone();
            let all =
                swapped.segments.iter_mut().flat_map(|segment| &mut segment.parts).chain(&mut swapped.whole);
            let taken = Part { table: one.table.clone(), ..other.clone() };
            let bytes = store.objects().get(&other.path()).await.unwrap().bytes().await.unwrap();
            store.objects().put(&taken.path(), bytes.into()).await.unwrap();
            all.filter(|part| *part == one).for_each(|part| *part = taken.clone());
            let why = open(&store, swapped).await.unwrap().map(|_| ()).unwrap_err();
            assert!(!why.is_empty());
        }
        let (found, _) = opened(&store).await;
        assert_eq!(found.unwrap().checkpoint, second);
        assert!(first.sequence < second.sequence);
    });
}

#[test]
fn what_does_not_fit_is_passed_over_with_the_reason() {
    block_on(async {
        let (store, expected, [first, second]) = with_two_checkpoints().await;
        let other = feature::digest::hash(HashAlgorithm::Blake3, b"another");
        let ahead = Sequence(second.sequence.0 + 50);
        let long = Segment { from: second.sequence.next(), until: ahead, parts: Vec::new() };
        let segments = second.segments.iter().cloned().chain([long]).collect();
        let wrong = [
            (Checkpoint { format: 3, ..second.clone() }, "has format 3 of the fold"),
            (Checkpoint { entry: other, ..second.clone() }, "does not fit the log"),
            // Whoever went on from it would write entries of another store into this log.
            (Checkpoint { store: id(7, 7), ..second.clone() }, "what the log does not"),
            (Checkpoint { sequence: ahead, segments, ..second.clone() }, "does not fit the log"),
        ];
        for (checkpoint, why) in wrong {
            let store = {
                let copy = self::store();
                let mut all = store.objects().list(None);
                while let Some(object) = all.next().await {
                    let path = object.unwrap().location;
                    let bytes = store.objects().get(&path).await.unwrap().bytes().await.unwrap();
                    let description =
                        path.extension() == Some("json") && path.as_ref().starts_with("checkpoints/");
                    let newest = path.as_ref().contains(&format!("{:020}", second.sequence.0));
                    if !(description && newest) {
                        copy.objects().put(&path, bytes.into()).await.unwrap();
                    }
                }
                copy
            };
            objects::publish(&store, &checkpoint).await.unwrap();
            let (found, passed_over) = opened(&store).await;
            let found = found.unwrap();
            assert_eq!(found.checkpoint, first);
            assert_eq!(passed_over.len(), 1, "{passed_over:?}");
            assert!(passed_over[0].why.contains(why), "{passed_over:?}");
            assert_eq!(answers(&caught_up(found)), answers(&expected));
        }
        // Names that look alike are of nobody.
        for name in ["checkpoints/1/x.json", "checkpoints/99999999999999999999/x.json", "checkpoints/x.json"]
        {
            store.objects().put(&Path::from(name), "{}".into()).await.unwrap();
        }
        let (found, passed_over) = opened(&store).await;
        assert_eq!((found.unwrap().checkpoint, passed_over), (second, Vec::new()));
    });
}

/// Somebody who may write to the store may write a checkpoint in which every digest is right and a value is
/// not.
#[test]
fn a_checkpoint_of_a_wrong_state_is_found_by_folding_the_log() {
    block_on(async {
        let (store, _, [_, second]) = with_two_checkpoints().await;
        let catalog = crate::Catalog::open(store.clone()).await.unwrap();
        assert!(catalog.check_checkpoint().await.unwrap().unwrap().holds());
        let state = load(&store, &second).await.unwrap();
        let right = state.tables_after(None).unwrap();
        for table in Table::GROWING.into_iter().filter(|table| *table != Table::Entries) {
            let rows = right.of(table);
            assert!(rows.num_rows() > 1, "{table:?}");
            let parts = second.segments.last().unwrap().clone();
            assert_eq!(second.segments.len(), 1);
            // Without its last row, which nothing else in the tables refers to in a way that opening would
            // see.
            let last = rows.slice(rows.num_rows() - 1, 1);
            let mut fewer = right.clone();
            fewer.set(table, rows.slice(0, rows.num_rows() - 1));
            if table == Table::Batches {
                let profiles = right.of(Table::Profiles);
                let of_last = arrow::compute::kernels::cmp::neq(
                    profiles.column(1),
                    &arrow::array::Scalar::new(last.column(1).clone()),
                );
                let others = arrow::compute::filter_record_batch(profiles, &of_last.unwrap()).unwrap();
                fewer.set(Table::Profiles, others);
            }
            // Profiles lie beside their batches.
            let table = if table == Table::Profiles { Table::Batches } else { table };
            let range = (Sequence::ZERO, second.sequence);
            let line_of = |version| Some(state.view_version(version)?.line);
            let fewer = rows_of(table, &fewer, range, &line_of).unwrap();
            let bytes = table_file::encode(table, &fewer).unwrap();
            let rows = fewer.num_rows() as u64;
            let hash = HashAlgorithm::Blake3;
            let part =
                objects::put_part(&store, second.sequence, table.name(), rows, bytes, hash).await.unwrap();
            let mut segment = parts;
            segment.parts.iter_mut().filter(|of| of.table == part.table).for_each(|of| *of = part.clone());
            let wrong = Checkpoint { segments: vec![segment], ..second.clone() };
            let other = self::store();
            let mut all = store.objects().list(None);
            while let Some(object) = all.next().await {
                let path = object.unwrap().location;
                let bytes = store.objects().get(&path).await.unwrap().bytes().await.unwrap();
                if !(path.as_ref().starts_with("checkpoints/") && path.extension() == Some("json")) {
                    other.objects().put(&path, bytes.into()).await.unwrap();
                }
            }
            objects::publish(&other, &wrong).await.unwrap();
            let catalog = match crate::Catalog::open(other).await {
                Ok(catalog) => catalog,
                // A delivery misses its alert before anybody checks.
                Err(error) => {
                    assert!(
                        error.to_string().contains("which no earlier entry defines"),
                        "{table:?}: {error}"
                    );
                    continue;
                }
            };
            let checked = catalog.check_checkpoint().await.unwrap().unwrap();
            assert_eq!(checked.named, checked.folded);
            assert!(checked.held != checked.folded && !checked.holds(), "{table:?}");
        }
    });
}

#[test]
fn an_altered_log_is_not_opened_by_its_checkpoint() {
    block_on(async {
        let (store, _, [_, second]) = with_two_checkpoints().await;
        let path = Path::from(format!("log/{:020}.json", second.sequence.0));
        let bytes = store.objects().get(&path).await.unwrap().bytes().await.unwrap();
        let altered = String::from_utf8(bytes.to_vec()).unwrap().replace("writer", "Writer");
        store.objects().put(&path, altered.into()).await.unwrap();
        let error = crate::Catalog::open(store).await.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(&format!("log entry {} was altered", second.sequence)), "{error}");
    });
}

#[test]
fn two_writers_of_one_checkpoint_and_an_older_one_after_it_do_no_harm() {
    block_on(async {
        let history = History::of(&every_kind());
        let states = history.states();
        let store = store();
        append(&store, &history.entries).await;
        let last = states.len() - 1;
        let whole = write(&store, Arc::new(states[last].clone()), None, "test").await.unwrap();
        let once = objects_of(&store).await;
        assert_eq!(write(&store, Arc::new(states[last].clone()), None, "test").await.unwrap(), whole);
        assert_eq!(objects_of(&store).await, once);
        // An older one after the newer, and the newer once more on top of it, in other parts.
        let older = write(&store, Arc::new(states[last - 3].clone()), None, "test").await.unwrap();
        let parted = write(&store, Arc::new(states[last].clone()), Some(&older), "test").await.unwrap();
        assert!(parted != whole && parted.state == whole.state);
        let (found, passed_over) = opened(&store).await;
        let found = found.unwrap();
        assert!(found.checkpoint == whole || found.checkpoint == parted);
        assert_eq!(passed_over, []);
        assert_eq!(answers(&found.state), answers(&states[last]));
    });
}

#[test]
fn a_digest_of_another_hash_is_not_stored_as_ones_own() {
    let sha = feature::digest::hash(HashAlgorithm::Sha256, b"1");
    let object = crate::records::Object { path: "training_sets/1".to_owned(), bytes: 1, digest: sha };
    let set = crate::records::TrainingSetRecorded {
        training_set: id(1, 1),
        sequence: Sequence(0),
        rows: 0,
        columns: 0,
        digest: String::new(),
        manifest: object,
        name: None,
        selected: None,
    };
    let first = entry_after(None, &[created()], None);
    let second = entry_after(Some(&first), &[set.into()], None);
    let state = History { entries: vec![first, second] }.states().pop().unwrap();
    assert_eq!(state.head.committed_at, Timestamp(1_000));
    let error = state.tables_after(None).unwrap_err().to_string();
    assert!(error.contains("is not by the store's hash, blake3"), "{error}");
}

/// Of a folder of this machine the files are read when they are asked for, also when a sweep has removed their names; and all at once
/// where many lines are.
#[test]
fn a_store_on_disk_rests_on_the_files_of_its_checkpoint() {
    let history = History::of(&every_kind());
    let states = history.states();
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let path = folder.path().join("store");
        let store = Store::open(path.to_str().unwrap(), Clock::default()).unwrap();
        store.initialize().await.unwrap();
        append(&store, &history.entries).await;
        let (middle, last) = (states.len() / 2, states.len() - 1);
        let first = write(&store, Arc::new(states[middle].clone()), None, "test").await.unwrap();
        write(&store, Arc::new(states[last].clone()), Some(&first), "test").await.unwrap();
        let opened = || async { newest(&store, &mut Vec::new()).await.unwrap().unwrap().state };
        let (alone, together) = (opened().await, opened().await);
        std::fs::remove_dir_all(path.join("checkpoints")).unwrap();
        assert_eq!(answers(&alone), answers(&states[last]));
        assert_eq!(together.batches().count(), states[last].batches().count());
        assert_eq!(answers(&together), answers(&states[last]));
        // Together they are read as the rest is: nothing of what was said is lost to who goes on.
        assert_eq!(together.tables_after(None).unwrap(), states[last].tables_after(None).unwrap());
    });
}

// ----------------------------------------------------------------------------------------------------------- golden file

/// The golden log and checkpoints of it, as each format was written once.
#[test]
fn the_golden_checkpoints_open_for_ever() {
    for format in 1..=FORMAT {
        golden_checkpoint(format);
    }
}

fn golden_checkpoint(format: u32) {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden");
    let text = std::fs::read_to_string(golden.join("records-v1.json")).unwrap();
    let lines: Vec<&str> =
        text.strip_prefix("[\n").unwrap().strip_suffix("\n]\n").unwrap().split(",\n").collect();
    let mut entries = Vec::new();
    for (line, sequence) in lines.iter().zip(0..) {
        let entry = Entry::decode(Sequence(sequence), line.as_bytes()).unwrap();
        entries.push((entry, storage::entry::digest(HashAlgorithm::Blake3, line.as_bytes())));
    }
    let folded = History { entries: entries.clone() }.states();
    let folder = golden.join(format!("checkpoint-v{format}"));
    block_on(async {
        let store = store();
        for (line, (entry, _)) in lines.iter().zip(&entries) {
            let path = Path::from(format!("log/{:020}.json", entry.sequence.0));
            store.objects().put(&path, (*line).to_owned().into()).await.unwrap();
        }
        let bless = format == FORMAT && std::env::var_os("LINEAMENT_BLESS").is_some();
        assert!(folder.exists() || bless, "{} is missing", folder.display());
        if !folder.exists() {
            let middle = write(&store, Arc::new(folded[5].clone()), None, "golden").await.unwrap();
            let last = folded.last().unwrap().clone();
            write(&store, Arc::new(last), Some(&middle), "golden").await.unwrap();
            for path in objects_of(&store).await {
                let bytes = store.objects().get(&path).await.unwrap().bytes().await.unwrap();
                let file = folder.join(path.as_ref());
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, bytes).unwrap();
            }
        }
        let mut files = 0;
        for folder in std::fs::read_dir(folder.join("checkpoints")).unwrap() {
            let folder = folder.unwrap();
            for file in std::fs::read_dir(folder.path()).unwrap() {
                let file = file.unwrap();
                let (of, name) = (folder.file_name(), file.file_name());
                let path = ["checkpoints", of.to_str().unwrap(), name.to_str().unwrap()];
                let bytes = std::fs::read(file.path()).unwrap();
                store.objects().put(&Path::from_iter(path), bytes.into()).await.unwrap();
                files += 1;
            }
        }
        assert!(files > 8);
        let (found, passed_over) = opened(&store).await;
        assert_eq!(passed_over, []);
        let found = found.unwrap();
        assert_eq!(found.checkpoint.format, format);
        let at = found.checkpoint.sequence.0 as usize;
        assert_eq!(answers(&found.state), answers(&folded[at]));
        assert_eq!(found.checkpoint.state, state_digest(&folded[at]).unwrap());
        assert_eq!(answers(&caught_up(found)), answers(folded.last().unwrap()));
    });
}

// ------------------------------------------------------------------------------------------------------- in the background

/// Objects in memory, of which none below `checkpoints/` can be written.
#[derive(Debug, Default)]
struct NoCheckpoints(InMemory);

impl std::fmt::Display for NoCheckpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NoCheckpoints")
    }
}

#[async_trait::async_trait]
impl ObjectStore for NoCheckpoints {
    async fn put_opts(
        &self,
        path: &Path,
        payload: object_store::PutPayload,
        options: object_store::PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        if path.as_ref().starts_with("checkpoints/") {
            return Err(object_store::Error::Generic { store: "test", source: "no room".into() });
        }
        self.0.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.0.put_multipart_opts(path, options).await
    }

    async fn get_opts(
        &self,
        path: &Path,
        options: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        self.0.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: futures::stream::BoxStream<'static, object_store::Result<Path>>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(paths)
    }

    fn list(
        &self,
        prefix: Option<&Path>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(
        &self,
        prefix: Option<&Path>,
    ) -> object_store::Result<object_store::ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: object_store::CopyOptions,
    ) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

fn author() -> crate::Author {
    crate::Author {
        principal: "ada".to_owned(),
        program: "test".to_owned(),
        run: None,
        experiment: None,
        how: crate::records::How::Explicit,
        role: crate::records::Role::Unknown,
        ..crate::Author::default()
    }
}

async fn commit(catalog: &crate::Catalog) {
    let digest = feature::digest::hash(HashAlgorithm::Blake3, b"1");
    let object = crate::records::Object { path: "reads/1.parquet".to_owned(), bytes: 1, digest };
    let read = crate::records::ReadsRecorded { reads: 1, object };
    let outcome = catalog
        .commit(&author(), None, |_| Ok(crate::Intent::<()>::Append(vec![read.clone().into()])))
        .await
        .unwrap();
    assert!(matches!(outcome, crate::Outcome::Committed(_)));
}

#[test]
fn a_checkpoint_is_written_after_so_many_entries() {
    block_on(async {
        let store = store();
        let catalog = crate::Catalog::create(store.clone(), &author()).await.unwrap();
        let other = crate::Catalog::open(store.clone()).await.unwrap();
        for _ in 1..999 {
            commit(&catalog).await;
        }
        catalog.checkpoint_written().await;
        assert_eq!((catalog.last_checkpoint(), objects_of(&store).await), (None, Vec::new()));
        commit(&catalog).await;
        catalog.checkpoint_written().await;
        let written = catalog.last_checkpoint().unwrap();
        assert_eq!(written.sequence, Sequence(999));
        let checked = catalog.check_checkpoint().await.unwrap().unwrap();
        assert!(checked.holds() && checked.named == written.state, "{checked:?}");
        // What a commit copies begins anew.
        assert_eq!(catalog.state().folded_after(None), (0, 0));
        commit(&catalog).await;
        assert_eq!(catalog.state().folded_after(None), (1, 1));
        // Who sees that another has written it leaves it at that.
        let objects = objects_of(&store).await;
        other.refresh().await.unwrap();
        other.checkpoint_written().await;
        assert_eq!((other.last_checkpoint(), objects_of(&store).await), (None, objects));
        // And the next process begins with it, and writes the next on top of it.
        let next = crate::Catalog::open(store.clone()).await.unwrap();
        assert_eq!(next.last_checkpoint(), Some(written.clone()));
        for _ in 0..999 {
            commit(&next).await;
        }
        next.checkpoint_written().await;
        assert_eq!(next.last_checkpoint().unwrap().sequence, Sequence(1_999));
        assert_eq!(next.checkpoint().await.unwrap(), next.last_checkpoint().unwrap());
        let folded = crate::Catalog::open_from_log(store.clone()).await.unwrap();
        assert_eq!(folded.state().tables_after(None).unwrap(), next.state().tables_after(None).unwrap());
        // One that was damaged is written anew by who opens the store, once there is enough to fold.
        for path in objects_of(&store).await {
            store.objects().put(&path, "damaged".into()).await.unwrap();
        }
        let mended = crate::Catalog::open(store.clone()).await.unwrap();
        assert_eq!(mended.last_checkpoint(), None);
        assert!(mended.passed_over().len() >= 2, "{:?}", mended.passed_over());
        mended.checkpoint_written().await;
        assert_eq!(mended.last_checkpoint().unwrap().sequence, Sequence(1_999));
        assert!(crate::Catalog::open(store).await.unwrap().last_checkpoint().is_some());
    });
}

#[test]
fn a_failure_to_write_harms_no_commit() {
    block_on(async {
        let store = Store::over("memory", Arc::new(NoCheckpoints::default()), Clock::default());
        let catalog = crate::Catalog::create(store.clone(), &author()).await.unwrap();
        for _ in 0..1_200 {
            commit(&catalog).await;
        }
        catalog.checkpoint_written().await;
        assert_eq!((catalog.last_checkpoint(), catalog.state().head.sequence), (None, Sequence(1_200)));
        assert!(catalog.checkpoint().await.unwrap_err().to_string().contains("no room"));
        let opened = crate::Catalog::open(store).await.unwrap();
        assert_eq!(opened.state().head.sequence, Sequence(1_200));
    });
}
