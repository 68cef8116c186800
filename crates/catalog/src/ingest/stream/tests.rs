//! Parts are committed once each, in their order, whoever sends them how often.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Schema;
use feature::definition::parse_files;
use feature::digest::{HashAlgorithm, hash};
use feature::profile::BatchProfile;
use feature::{Name, Sequence, ViewId};
use proptest::prelude::*;
use storage::{Clock, SplitMix, Store};
use uuid::Uuid;

use super::*;
use crate::checkpoint::state_digest;
use crate::conditions::{Condition, Conditions};
use crate::plan::{Consent, apply};
use crate::records::{KnownAtSource, PartRun, Record, StreamPart, StreamPartsCommitted};
use crate::state::Provenance;
use crate::state::producers::{Producers, Standing};

/// No definition here has one.
struct None;

impl Conditions for None {
    fn compile(&self, sql: &str, _: &Schema) -> std::result::Result<Arc<dyn Condition>, String> {
        Err(sql.to_owned())
    }
}

const ENTITY: &str = "kind = \"entity\"\nname = \"thing\"\n[[keys]]\nname = \"k\"\ntype = \"string\"\n";

fn view(name: &str, more: &str) -> String {
    format!(
        "kind = \"feature_view\"\nname = \"{name}\"\nentity = \"thing\"\nreject_above = 0.5\n[time]\nvalid_at = \"ts\"\n\
         known_at = {{ delay = \"1s\" }}\n[[features]]\nname = \"x\"\ntype = \"float64\"\nrange = [0, 1000000]\n{more}"
    )
}

async fn define(catalog: &Catalog, files: &[(&str, String)]) {
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect();
    let definitions = parse_files(files).unwrap_or_else(|errors| panic!("{errors}"));
    apply(catalog, &definitions, &None, &Consent::default(), &Author::default()).await.unwrap();
}

async fn catalog() -> Catalog {
    let store = Store::open("memory://", Clock::System).unwrap();
    let catalog = Catalog::create(store, &Author::default()).await.unwrap();
    let files = [("thing.toml", ENTITY.to_owned()), ("v.toml", view("v", "")), ("w.toml", view("w", ""))];
    define(&catalog, &files).await;
    catalog
}

fn streams(catalog: &Catalog, millis: u64) -> Streams {
    let settings = StreamSettings { window: Duration::from_millis(millis), ..StreamSettings::default() };
    Streams::new(catalog.clone(), Arc::new(None), settings)
}

async fn open(streams: &Streams, view: &str, producer: &str) -> ProducerStream {
    let target = Target {
        project: Name::default_project(),
        view: view.to_owned(),
        producer: producer.to_owned(),
        claim: Option::None,
    };
    streams.open(target, Author::default()).await.unwrap()
}

fn rows(values: &[f64]) -> RecordBatch {
    let times = (0..values.len() as i64).map(|row| 1_000_000 * row).collect::<Vec<_>>();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("k", Arc::new(StringArray::from(vec!["a"; values.len()]))),
        ("ts", Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))),
        ("x", Arc::new(Float64Array::from(values.to_vec()))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn place(epoch: u64, number: u64) -> Place {
    Place { epoch, number }
}

/// All parts of the log, each with its batch's sequence, in its order.
async fn committed(catalog: &Catalog) -> Vec<(Sequence, ViewId, String, Place, StreamPart)> {
    let mut all = Vec::new();
    for (entry, _) in catalog.store().log().entries_after(Option::None).await.unwrap() {
        for raw in &entry.records {
            let Record::StreamPartsCommitted(record) = Record::decode(raw.number, &raw.body).unwrap() else {
                continue;
            };
            for run in record.runs {
                for (part, number) in run.parts.iter().zip(run.first..) {
                    let at = place(run.epoch, number);
                    all.push((entry.sequence, record.view, run.producer.clone(), at, part.clone()));
                }
            }
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_window_are_one_entry_with_one_batch_a_view() {
    let catalog = catalog().await;
    let streams = streams(&catalog, 100);
    let before = catalog.state().head.sequence;
    let mut pending = Vec::new();
    for (view, producer) in [("v", "one"), ("v", "two"), ("w", "one")] {
        let stream = open(&streams, view, producer).await;
        for number in 1..=3 {
            let part = rows(&[number as f64, 1.0]);
            pending.push((view, number, stream.send(place(1, number), part).await.unwrap()));
        }
    }
    let mut batches = BTreeMap::new();
    for (view, number, pending) in pending {
        let told = pending.acknowledged().await.unwrap();
        assert_eq!((told.place, told.rows, told.rejected), (place(1, number), 2, 0));
        assert_eq!((told.version, told.sequence), (format!("{view}@1"), before.next()));
        assert!(!told.repeated && !told.refused);
        batches.entry(view).or_insert_with(BTreeSet::new).insert(told.batch);
    }
    assert!(batches.values().all(|of_view| of_view.len() == 1), "{batches:?}");
    let state = catalog.state();
    assert_eq!(state.head.sequence, before.next());
    let of_batches: Vec<_> =
        state.batches().map(|batch| (batch.record.rows, batch.record.known_at)).collect();
    assert_eq!(of_batches, [(12, KnownAtSource::Arrival), (6, KnownAtSource::Arrival)]);
    assert_eq!(committed(&catalog).await.len(), 9);
    let again = Catalog::open_from_log(catalog.store().clone()).await.unwrap();
    assert_eq!(state_digest(&again.state()).unwrap(), state_digest(&state).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_sent_again_gets_its_first_answer() {
    let catalog = catalog().await;
    let mut first = Vec::new();
    for window in [1, 20] {
        let streams = streams(&catalog, window);
        let stream = open(&streams, "v", "one").await;
        let mut told = Vec::new();
        for number in 1..=4 {
            // Twice at once: the second is answered as the first was.
            let part = rows(&[number as f64, -1.0]);
            let once = stream.send(place(1, number), part.clone()).await.unwrap();
            let twice = stream.send(place(1, number), part).await.unwrap();
            let (once, twice) = (once.acknowledged().await.unwrap(), twice.acknowledged().await.unwrap());
            assert!(twice.repeated);
            assert_eq!((once.sequence, once.batch, once.rows), (twice.sequence, twice.batch, twice.rows));
            assert_eq!((once.rows, once.rejected, once.refused), (1, 1, false));
            told.push((once.sequence, once.batch, once.repeated));
        }
        match first.as_slice() {
            [] => first = told,
            first => {
                assert!(told.iter().all(|(_, _, repeated)| *repeated));
                let same = |(one, other): (&(_, _, _), &(_, _, _))| (one.0, one.1) == (other.0, other.1);
                assert!(first.iter().zip(&told).all(same), "{first:?} {told:?}");
            }
        }
    }
    assert_eq!(catalog.state().batches().map(|batch| batch.record.rows).sum::<u64>(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_old_epochs_and_other_content_are_refused_with_what_is_committed() {
    let catalog = catalog().await;
    let streams = streams(&catalog, 1);
    let stream = open(&streams, "v", "one").await;
    let ask = async |epoch, number, value: f64| {
        stream.send(place(epoch, number), rows(&[value])).await?.acknowledged().await
    };
    let refused = |answer: Result<Acknowledged>, parts: &[&str]| {
        let error = answer.unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    refused(ask(1, 2, 1.0).await, &["leaves a gap", "nothing yet"]);
    for number in 1..=2 {
        ask(1, number, number as f64).await.unwrap();
    }
    refused(ask(1, 4, 1.0).await, &["leaves a gap", "epoch 1, number 2"]);
    refused(ask(1, 1, 7.0).await, &["with other content", "epoch 1, number 2", "epoch 2"]);
    refused(ask(2, 2, 7.0).await, &["leaves a gap"]);
    ask(2, 1, 1.0).await.unwrap();
    refused(ask(1, 3, 1.0).await, &["epoch 1 is over", "epoch 2, number 1"]);
    refused(ask(0, 1, 1.0).await, &["from 1 to"]);
    refused(ask(1, 0, 1.0).await, &["from 1 to"]);
    refused(ask(1, 1 << 54, 1.0).await, &["from 1 to"]);
    let empty = stream.send(place(2, 2), rows(&[])).await.unwrap_err().to_string();
    assert!(empty.contains("it has no rows"), "{empty}");
    let target = Target {
        project: Name::default_project(),
        view: "v".to_owned(),
        producer: "one".to_owned(),
        claim: Option::None,
    };
    assert_eq!(streams.last_part(&target).await.unwrap().unwrap().place, place(2, 1));
    for name in ["", "a\nb", &"x".repeat(257)] {
        let target = Target { producer: name.to_owned(), ..target.clone() };
        assert!(streams.open(target, Author::default()).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_with_too_many_bad_rows_is_refused_and_counts_as_committed() {
    let catalog = catalog().await;
    let streams = streams(&catalog, 100);
    let stream = open(&streams, "v", "one").await;
    let other = open(&streams, "v", "two").await;
    let parts: [&[f64]; 4] = [&[1.0], &[-1.0, -2.0, 3.0], &[4.0, -5.0], &[-6.0]];
    let mut pending = Vec::new();
    for (part, number) in parts.iter().zip(1..) {
        pending.push(stream.send(place(1, number), rows(part)).await.unwrap());
    }
    pending.push(other.send(place(1, 1), rows(&[9.0, 9.5])).await.unwrap());
    let mut told = Vec::new();
    for one in pending {
        let one = one.acknowledged().await.unwrap();
        told.push((one.rows, one.rejected, one.refused, one.examples.len()));
    }
    assert_eq!(
        told,
        [(1, 0, false, 0), (0, 2, true, 2), (1, 1, false, 1), (0, 1, true, 1), (2, 0, false, 0)]
    );
    let state = catalog.state();
    let batch = state.batches().next().unwrap();
    assert_eq!((state.batches().count(), batch.record.rows, batch.record.rejected), (1, 4, 1));
    let [refused] = state.refused() else { panic!("one batch of refused parts") };
    assert_eq!((refused.record.rows, refused.record.rejected), (4, 3));
    let again = stream.send(place(1, 2), rows(parts[1])).await.unwrap().acknowledged().await.unwrap();
    assert_eq!((again.repeated, again.refused, again.rejected), (true, true, 2));
    let whole = Catalog::open_from_log(catalog.store().clone()).await.unwrap();
    assert_eq!(state_digest(&whole.state()).unwrap(), state_digest(&catalog.state()).unwrap());
}

const KEPT_BACK: &str =
    "[quality]\non_fail = \"quarantine\"\nleast_rows = 10\n[quality.checks]\nwasserstein = { fail = 3 }\n";

fn around(level: f64) -> RecordBatch {
    rows(&(0..20).map(|row| level + f64::from(row % 10)).collect::<Vec<_>>())
}

/// Kept back, a part is committed like any other: acknowledged once, in its order, and answered the same when it is sent again. Only
/// its rows count for nobody.
#[tokio::test(flavor = "multi_thread")]
async fn parts_that_fail_their_checks_are_kept_back_and_stay_committed() {
    let catalog = catalog().await;
    define(&catalog, &[("thing.toml", ENTITY.to_owned()), ("v.toml", view("v", KEPT_BACK))]).await;
    let streams = streams(&catalog, 1);
    let stream = open(&streams, "v", "one").await;
    let send = async |number: u64, level: f64| {
        stream.send(place(1, number), around(level)).await.unwrap().acknowledged().await.unwrap()
    };
    let mut told = Vec::new();
    for (number, level) in [(1, 50.0), (2, 51.0), (3, 50.5), (4, 900.0), (5, 50.0)] {
        told.push(send(number, level).await);
    }
    let kept: Vec<bool> = told.iter().map(|told| told.quarantined).collect();
    assert_eq!(kept, [false, false, false, true, false]);
    assert!(told.iter().all(|told| told.rows == 20 && !told.refused && !told.repeated));
    let state = catalog.state();
    assert_eq!(state.batches().count(), 4);
    let held = state.quarantine().of(told[3].batch).unwrap();
    assert!(held.waits(state.head.sequence) && state.batch(told[3].batch).is_none());
    assert_eq!(state.last_part(held.batch.record.view, "one").unwrap().place, place(1, 5));
    // Sent again, before and after it is released, it is answered as at first.
    for released in [false, true] {
        if released {
            let ending = crate::release::Ending::Release { back_fill: false };
            crate::release::end(&catalog, told[3].batch, ending, "it was hot", &Author::default())
                .await
                .unwrap();
            assert!(catalog.state().batch(told[3].batch).is_some());
        }
        let again = send(4, 900.0).await;
        let first = Acknowledged { repeated: true, ..told[3].clone() };
        assert_eq!(again, first, "released: {released}");
    }
    let whole = Catalog::open_from_log(catalog.store().clone()).await.unwrap();
    assert_eq!(state_digest(&whole.state()).unwrap(), state_digest(&catalog.state()).unwrap());
}

/// How many rows come within a window is chance, and no reason to keep them back.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_few_rows_is_no_finding() {
    let catalog = catalog().await;
    let rules = format!("{KEPT_BACK}volume = {{ fail = 2 }}\n");
    define(&catalog, &[("thing.toml", ENTITY.to_owned()), ("v.toml", view("v", &rules))]).await;
    let streams = streams(&catalog, 1);
    let stream = open(&streams, "v", "one").await;
    for number in 1..=6 {
        let part = if number == 6 { rows(&[50.0]) } else { around(50.0) };
        let told = stream.send(place(1, number), part).await.unwrap().acknowledged().await.unwrap();
        assert!(!told.quarantined, "{number}");
        let judged = catalog.state().batch(told.batch).unwrap().record.judged.clone().unwrap();
        assert_eq!(judged.findings, [], "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_the_entities_of_a_stream_is_profiled_and_compared() {
    let catalog = catalog().await;
    let rules = format!("{}[sampling]\nstreams = 0.25\n", KEPT_BACK.replace("quarantine", "admit"));
    define(&catalog, &[("thing.toml", ENTITY.to_owned()), ("v.toml", view("v", &rules))]).await;
    let entities = |level: f64| {
        let count = 400;
        let times = TimestampMicrosecondArray::from_iter_values((0..count).map(|row| row * 1_000_000));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("k", Arc::new(StringArray::from_iter_values((0..count).map(|row| format!("thing {row}"))))),
            ("ts", Arc::new(times.with_timezone("UTC"))),
            ("x", Arc::new(Float64Array::from_iter_values((0..count).map(|row| level + (row % 10) as f64)))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let streams = streams(&catalog, 1);
    let stream = open(&streams, "v", "one").await;
    let send = async |number: u64, level: f64| {
        stream.send(place(1, number), entities(level)).await.unwrap().acknowledged().await.unwrap()
    };
    // Nobody judges yet, so that nothing is gathered.
    send(1, 50.0).await;
    send(2, 50.0).await;
    let judge = async || {
        crate::sampling::judge(&catalog, crate::sampling::Due::Enough, &Author::default()).await.unwrap()
    };
    assert_eq!(judge().await, []);
    catalog.passing().begin();
    send(3, 50.0).await;
    send(4, 50.0).await;
    let usual = judge().await;
    assert_eq!(
        (usual.len(), usual[0].passed, usual[0].judged.verdict),
        (1, 800, feature::quality::Verdict::Pass)
    );
    assert!((120..=280).contains(&usual[0].rows), "{}", usual[0].rows);
    send(5, 300.0).await;
    let moved = judge().await;
    assert_eq!(moved[0].judged.verdict, feature::quality::Verdict::Fail);
    // The same entities, whatever the values.
    assert_eq!((moved[0].passed, moved[0].rows * 2), (400, usual[0].rows));
    let state = catalog.state();
    assert_eq!(state.samples().all().len(), 2);
    let profile = BatchProfile::from_json(&catalog.object(&moved[0].profile).await.unwrap()).unwrap();
    assert_eq!(profile.rows, moved[0].rows);
    assert_eq!(judge().await, []);
    let whole = Catalog::open_from_log(catalog.store().clone()).await.unwrap();
    assert_eq!(state_digest(&whole.state()).unwrap(), state_digest(&state).unwrap());
}

/// One view whose baseline is not there holds up no other, and its sample waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_sample_that_cannot_be_compared_fails_alone() {
    let catalog = catalog().await;
    let sampled = "[sampling]\nstreams = 1.0\n";
    let lost = format!("[quality]\nbaseline = {{ model = \"delay\" }}\n{sampled}");
    let files =
        [("thing.toml", ENTITY.to_owned()), ("v.toml", view("v", &lost)), ("w.toml", view("w", sampled))];
    define(&catalog, &files).await;
    catalog.passing().begin();
    let sample = |name: &str| {
        let state = catalog.state();
        let version = state.view("default", name, Option::None, state.head.sequence).unwrap().clone();
        let (at, seen) = (feature::Timestamp(0), state.head.sequence);
        let mut portion = crate::sampling::Portion::empty(&version, 1.0, at, seen);
        (portion.passed, portion.profile.rows) = (40, 40);
        catalog.passing().add(version.version, crate::records::PassedBy::Streams, &portion).unwrap();
        version.version
    };
    sample("v");
    let fits = sample("w");
    let judge = async || {
        crate::sampling::judge(&catalog, crate::sampling::Due::All, &Author::default()).await.unwrap()
    };
    let judged = judge().await;
    assert_eq!(judged.iter().map(|sampled| sampled.version).collect::<Vec<_>>(), [fits]);
    let head = catalog.state().head.sequence;
    assert_eq!(judge().await, []);
    assert_eq!(catalog.refresh().await.unwrap().head.sequence, head);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_fails_alone_and_what_follows_it_is_a_gap() {
    let catalog = catalog().await;
    let streams = streams(&catalog, 100);
    let (one, two) = (open(&streams, "v", "one").await, open(&streams, "v", "two").await);
    let strange = rows(&[1.0]).project(&[0, 1]).unwrap();
    assert!(one.fit(&strange.schema()).is_err());
    let parts = [
        one.send(place(1, 1), rows(&[1.0])).await.unwrap(),
        one.send(place(1, 2), strange).await.unwrap(),
        one.send(place(1, 3), rows(&[3.0])).await.unwrap(),
        two.send(place(1, 1), rows(&[1.0])).await.unwrap(),
    ];
    let mut told = Vec::new();
    for part in parts {
        told.push(part.acknowledged().await.map(|told| told.rows).map_err(|error| error.to_string()));
    }
    assert_eq!((&told[0], &told[3]), (&Ok(1), &Ok(1)));
    assert!(told[1].as_ref().unwrap_err().contains("does not fit `v@1`"), "{told:?}");
    assert!(told[2].as_ref().unwrap_err().contains("leaves a gap"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_comes_meanwhile_takes_what_was_not_committed() {
    let catalog = catalog().await;
    let streams = streams(&catalog, 50);
    let stream = open(&streams, "v", "one").await;
    let first = stream.send(place(1, 1), rows(&[1.0])).await.unwrap();
    let changed = view("v", "").replace("range = [0, 1000000]", "range = [0, 2000000]");
    define(&catalog, &[("thing.toml", ENTITY.to_owned()), ("v.toml", changed)]).await;
    assert_eq!(first.acknowledged().await.unwrap().version, "v@2");
    let later = stream.send(place(1, 2), rows(&[1_500_000.0])).await.unwrap().acknowledged().await.unwrap();
    assert_eq!((later.version.as_str(), later.rows), ("v@2", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_two_claims_keep_their_order() {
    let catalog = catalog().await;
    let streams = streams(&catalog, 100);
    let arriving = open(&streams, "v", "one").await;
    let target = Target { claim: Some(Claim::BackFill), ..(*arriving.target).clone() };
    let filling = streams.open(target, Author::default()).await.unwrap();
    let mut pending = Vec::new();
    for (number, stream) in (1..).zip([&arriving, &filling, &arriving, &filling]) {
        pending.push(stream.send(place(1, number), rows(&[number as f64])).await.unwrap());
    }
    let mut told = Vec::new();
    for one in pending {
        told.push(one.acknowledged().await.unwrap());
    }
    assert!(told.iter().all(|one| one.sequence == told[0].sequence), "{told:?}");
    assert_eq!((told[0].batch, told[1].batch), (told[2].batch, told[3].batch));
    let state = catalog.state();
    let known: Vec<_> = state.batches().map(|batch| (batch.record.rows, batch.record.known_at)).collect();
    assert_eq!(known, [(2, KnownAtSource::Arrival), (2, KnownAtSource::Delay)]);
    let whole = Catalog::open_from_log(catalog.store().clone()).await.unwrap();
    assert_eq!(state_digest(&whole.state()).unwrap(), state_digest(&state).unwrap());
    // One number is one content, and what it claims is part of that.
    let other = filling.send(place(1, 3), rows(&[3.0])).await.unwrap().acknowledged().await;
    assert!(other.unwrap_err().to_string().contains("with other content"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_more_than_may_wait_waits() {
    let catalog = catalog().await;
    let settings = StreamSettings {
        window: Duration::from_millis(300),
        bytes: usize::MAX,
        waiting_bytes: rows(&[1.0]).get_array_memory_size() * 2,
    };
    let streams = Streams::new(catalog.clone(), Arc::new(None), settings);
    let stream = open(&streams, "v", "one").await;
    let first = stream.send(place(1, 1), rows(&[1.0])).await.unwrap();
    let mut held = vec![first];
    let mut number = 1;
    loop {
        number += 1;
        let sent =
            tokio::time::timeout(Duration::from_millis(20), stream.send(place(1, number), rows(&[1.0])))
                .await;
        match sent {
            Ok(pending) => held.push(pending.unwrap()),
            Err(_) => break,
        }
        assert!(number < 10, "nothing waits");
    }
    for pending in held {
        pending.acknowledged().await.unwrap();
    }
    // What waited was given up; there is room now.
    stream.send(place(1, number), rows(&[1.0])).await.unwrap().acknowledged().await.unwrap();
}

/// Several processes, each of which sends what it likes of three producers, again and again: every part is
/// there once, in order, each row of it, and every acknowledgement names where.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_whatever_how_often_each_part_is_there_once() {
    for seed in 0..6 {
        let catalog = catalog().await;
        let mut senders = Vec::new();
        for process in 0..3u64 {
            let store = catalog.store().clone();
            senders.push(tokio::spawn(async move {
                let own = Catalog::open(store).await.unwrap();
                let streams = streams(&own, 2 * process);
                let mut chance = SplitMix::new(seed << 8 | process);
                let mut told = Vec::new();
                let mut next = BTreeMap::from([(0, 1u64), (1, 1), (2, 1)]);
                for _ in 0..12 {
                    let producer = chance.below(3);
                    let stream =
                        open(&streams, if producer == 2 { "w" } else { "v" }, &format!("p{producer}")).await;
                    // Begins anew, goes on, or leaves a gap.
                    let from = match chance.below(4) {
                        0 => 1,
                        1 => next[&producer] + 1,
                        _ => next[&producer],
                    };
                    let mut pending = Vec::new();
                    for number in from..from + 1 + chance.below(4) {
                        let part = rows(&[number as f64, producer as f64, -1.0, 5.0]);
                        pending.push((number, stream.send(place(1, number), part).await.unwrap()));
                    }
                    for (number, pending) in pending {
                        match pending.acknowledged().await {
                            Ok(one) => {
                                next.insert(producer, number + 1);
                                told.push((producer, number, one));
                            }
                            Err(error) => assert!(error.to_string().contains("leaves a gap"), "{error}"),
                        }
                    }
                }
                told
            }));
        }
        let mut told = Vec::new();
        for sender in senders {
            told.extend(sender.await.unwrap());
        }
        let state = catalog.refresh().await.unwrap();
        let all = committed(&catalog).await;
        let mut reached: BTreeMap<(ViewId, String), u64> = BTreeMap::new();
        for (_, view, producer, at, part) in &all {
            let last = reached.entry((*view, producer.clone())).or_default();
            assert_eq!((at.epoch, at.number), (1, *last + 1), "seed {seed}: {producer}");
            *last += 1;
            assert_eq!((part.rows, part.rejected), (3, 1));
        }
        let taken: u64 = state.batches().map(|batch| batch.record.rows).sum();
        assert_eq!(taken, 3 * all.len() as u64, "seed {seed}");
        for (producer, number, one) in told {
            let there = all
                .iter()
                .find(|(_, _, name, at, _)| *name == format!("p{producer}") && at.number == number)
                .unwrap();
            assert_eq!((there.0, one.rows, one.rejected), (one.sequence, 3, 1), "seed {seed}");
            let batch = state.batch(one.batch).unwrap();
            assert_eq!(batch.by.sequence, one.sequence);
        }
        let whole = Catalog::open_from_log(catalog.store().clone()).await.unwrap();
        assert_eq!(state_digest(&whole.state()).unwrap(), state_digest(&state).unwrap());
    }
}

// ---------------------------------------------------------------------------------------------- the fold

/// What a producer may commit next, in three lines.
#[derive(Default)]
struct Reference {
    last: BTreeMap<u64, (u64, u64)>,
    /// By producer, epoch and number, the record that took it.
    taken: BTreeMap<(u64, u64, u64), usize>,
}

impl Reference {
    fn admits(&self, producer: u64, epoch: u64, first: u64) -> bool {
        match self.last.get(&producer) {
            Some((of, number)) if *of == epoch => first == number + 1,
            Some((of, _)) => epoch > *of && first == 1,
            Option::None => first == 1,
        }
    }
}

fn run(producer: u64, epoch: u64, first: u64, length: u64) -> PartRun {
    let digest = hash(HashAlgorithm::Blake3, format!("{producer} {epoch} {first}").as_bytes());
    PartRun {
        producer: format!("p{producer}"),
        epoch,
        first,
        last: first + length - 1,
        rows: length,
        rejected: 0,
        digest,
        parts: vec![StreamPart { digest, rows: 1, rejected: 0 }; length as usize],
    }
}

fn by(sequence: usize) -> Arc<Provenance> {
    Arc::new(Provenance {
        sequence: Sequence(sequence as u64),
        committed_at: feature::Timestamp(0),
        principal: String::new(),
        program: String::new(),
        run: Option::None,
        experiment: Option::None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// The fold takes what the reference admits, refuses the rest, and knows where each part is.
    #[test]
    fn the_fold_is_its_reference(
        entries in proptest::collection::vec(
            proptest::collection::vec((0..3u64, 1..4u64, 0..4u64, 1..4u64), 1..4),
            1..60,
        )
    ) {
        let view: ViewId = ViewId::from(Uuid::from_u128(7));
        let mut producers = Producers::default();
        let mut reference = Reference::default();
        let batch = |entry: usize| BatchId::from(Uuid::from_u128(entry as u128 + 100));
        for (entry, choices) in entries.iter().enumerate() {
            let mut runs = Vec::new();
            let mut model: BTreeMap<u64, (u64, u64)> = reference.last.clone();
            let mut fits = true;
            for (producer, epoch, step, length) in choices {
                // Mostly what is due; else a repeat, a gap, or an epoch that is over or to come.
                let last = model.get(producer).copied().unwrap_or((*epoch, 0));
                let (epoch, first) = match step {
                    0 => (*epoch, 1),
                    1 => (last.0, last.1 + 2),
                    2 if last.1 > 0 => (last.0, last.1),
                    _ => (last.0, last.1 + 1),
                };
                let so_far = Reference { last: model.clone(), ..Reference::default() };
                fits &= so_far.admits(*producer, epoch, first);
                model.insert(*producer, (epoch, first + length - 1));
                runs.push(run(*producer, epoch, first, *length));
            }
            let record = StreamPartsCommitted { batch: batch(entry), view, runs };
            let mut next = producers.clone();
            prop_assert_eq!(next.take(&record, &by(entry)).is_ok(), fits);
            if !fits {
                continue;
            }
            producers = next;
            reference.last = model;
            for run in &record.runs {
                let producer = run.producer[1..].parse().unwrap();
                for number in run.first..=run.last {
                    prop_assert!(reference.taken.insert((producer, run.epoch, number), entry).is_none());
                }
            }
        }
        for producer in 0..3 {
            let last = reference.last.get(&producer).copied();
            for epoch in 1..5 {
                for number in 1..40 {
                    let standing = producers.standing(view, &format!("p{producer}"), place(epoch, number));
                    let there = reference.taken.get(&(producer, epoch, number));
                    match standing {
                        Standing::Next => prop_assert!(reference.admits(producer, epoch, number)),
                        Standing::Committed(at) => {
                            let entry = *there.unwrap();
                            prop_assert_eq!((at.sequence.0 as usize, at.batch), (entry, batch(entry)));
                        }
                        Standing::Refused(_) => {
                            prop_assert!(!reference.admits(producer, epoch, number));
                            // What is there and is not found belongs to an epoch that is over.
                            prop_assert!(there.is_none() || last.unwrap().0 > epoch);
                        }
                    }
                }
            }
        }
        // What a checkpoint holds of it folds to the same.
        let mut again = Producers::default();
        for (sequence, record) in producers.records_after(Option::None) {
            prop_assert!(record.runs.iter().all(|run| run.parts.is_empty()));
            again.take(&record, &by(sequence.0 as usize)).unwrap();
        }
        prop_assert_eq!(format!("{:?}", again.lasts()), format!("{:?}", producers.lasts()));
    }
}
