//! Explain against a reference: who wins, and how many lose for each reason; and that few files are opened where many are.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::Int64Array;
use catalog::records::{BatchCommitted, KnownAtSource, Record};
use catalog::state::ViewVersion;
use catalog::{Catalog, Intent};
use feature::digest::HashAlgorithm;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::collection::vec;
use proptest::option;
use serde_json::json;
use serving::{CompactRequest, ExplainRequest, ExplainValueRequest, Kind, Serving};
use storage::environment::{self, TestClock};
use storage::manifest;
use storage::partition::{self, Columns, Layout, Target};

use super::cases;
use super::coverage::Coverage;
use super::one_view::{
    BEGINNING, Case, ENTITY, Limit, Set, Step, UNIT, Value, World, batch_of, case, counts, times, value,
    winner,
};
use super::stores::{author, files, instant, memory};
use feature::{BatchId, BodyId, FileId, Sequence, Timestamp};

const CASES: usize = 80;

/// Key, time, limit, how far back in the log, and which version.
type Question = (u8, u8, Option<u8>, u8, u8);

fn at(units: u8) -> Timestamp {
    Timestamp(BEGINNING + i64::from(units) * UNIT)
}

/// Losers by reason, as docs/audit.md says.
fn losers(world: &World, set: &Set) -> BTreeMap<String, u64> {
    let (key, asked) = (set.rows[0].0.unwrap(), i64::from(set.rows[0].1.unwrap()));
    let won = winner(&world.history, set, 0);
    let cut = match set.limit {
        Limit::By(units) => i64::from(units),
        Limit::Row => asked,
        Limit::None => i64::MAX,
    };
    let mut reasons = BTreeMap::new();
    for seen in world.history.iter().filter(|seen| seen.row.key == key && seen.line == set.version.line) {
        let reason = if seen.sequence > set.sequence {
            "after_sequence"
        } else if !counts(&set.version, seen) {
            "other_version"
        } else if seen.known_at() > cut {
            "not_yet_known"
        } else if seen.valid_at() > asked {
            "later"
        } else if set.ttl.is_some_and(|ttl| seen.valid_at() < asked - i64::from(ttl)) {
            "expired"
        } else {
            match won {
                Some(won) if won.received == seen.received => continue,
                Some(won) if seen.valid_at() < won.valid_at() => "older",
                Some(won) if seen.known_at() < won.known_at() => "corrected",
                _ => "tie",
            }
        };
        *reasons.entry(reason.to_owned()).or_default() += 1;
    }
    reasons
}

fn shown(value: &Value) -> String {
    match value {
        Value::X(x, _) => format!("{x:?}"),
        Value::Y(y) => y.to_string(),
        Value::Z(z) => (*z).to_owned(),
    }
}

async fn check(case: &Case, questions: &[Question]) -> Result<Coverage, String> {
    let mut coverage = Coverage::default();
    let mut world = World::new(case).await;
    for step in &case.steps {
        match step {
            Step::Ingest(rows) => world.ingest(rows).await,
            Step::Define(shape) => world.define(shape).await,
            Step::Ask(ask) => world.ask(case, ask).await,
        }
    }
    let head = world.serving.catalog().refresh().await.unwrap().head.sequence;
    for (key, time, known_by, back, number) in questions {
        // A version that was there at the sequence.
        let sequence = Sequence(head.0.saturating_sub(u64::from(*back)).max(2));
        let state = world.serving.catalog().state();
        let Some(there) = state.view("default", "v", None, sequence) else { continue };
        let version = world.versions[usize::from(*number) % there.number as usize].clone();
        let set = Set {
            id: "01890000-0000-7000-8000-000000000000".parse().unwrap(),
            sequence: sequence.0,
            ttl: version.shape.ttl,
            limit: known_by.map_or(Limit::Row, Limit::By),
            features: vec!['x', 'y'],
            rows: vec![(Some(*key), Some(*time), 0)],
            version,
        };
        for feature in ['x', 'y'] {
            let request = ExplainValueRequest {
                feature: format!("v@{}.{feature}", set.version.number),
                key: BTreeMap::from([("k".to_owned(), json!(key))]),
                at: at(*time),
                known_by: known_by.map(at),
                sequence: Some(sequence),
                exhaustive: false,
            };
            let found =
                world.serving.explain_value(request, &author()).await.map_err(|error| error.to_string())?;
            let expected = value(&world.history, &set, 0, feature).map(|value| shown(&value));
            // Numbers are written in their own width.
            let number =
                |text: &Option<String>| text.as_ref().map(|text| text.parse::<f64>().unwrap().to_bits());
            let reasons = losers(&world, &set);
            let won = winner(&world.history, &set, 0);
            if number(&found.value) != number(&expected)
                || found.losers_by_reason != reasons
                || found.winner.as_ref().map(|winner| winner.sequence.0) != won.map(|won| won.sequence)
                || found.unopened_files != 0
            {
                return Err(format!(
                    "{found:#?}\nexpected {expected:?}, {reasons:?}, {won:?}\n{set:?}\n{:#?}",
                    world.history
                ));
            }
            for reason in reasons.keys() {
                coverage.saw(reason);
            }
            coverage.saw(found.null_reason.unwrap_or_else(|| "found".to_owned()));
        }
    }
    // A cell of a recorded set has the same explanation as its value has.
    for set in world.sets.iter().take(3) {
        for row in 0..set.rows.len().min(6) {
            let cell = ExplainRequest::new(set.id, row as u64, "y");
            let cell = world.serving.explain(cell, &author()).await.map_err(|error| error.to_string())?;
            let expected = value(&world.history, set, row, 'y').map(|value| shown(&value));
            if cell.value != expected {
                return Err(format!("{cell:#?}\nexpected {expected:?}\n{set:?}\n{:#?}", world.history));
            }
            coverage.saw("a cell");
        }
    }
    Ok(coverage)
}

#[test]
fn values_are_explained_as_the_reference_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut coverage = Coverage::default();
    let question = (0..3u8, 0..28u8, option::weighted(0.3, 0..30u8), 0..8u8, 0..6u8);
    cases::run("explain", CASES, &(case(), vec(question, 1..12)), |(case, questions)| {
        coverage.merge(runtime.block_on(check(case, questions))?);
        Ok(1)
    });
    coverage.require(
        10,
        [
            "after_sequence",
            "other_version",
            "not_yet_known",
            "later",
            "expired",
            "older",
            "corrected",
            "found",
        ],
    );
    coverage.require(3, ["tie"]);
    coverage.require(10, ["unknown_entity", "null_at_source", "retracted", "a cell"]);
}

/// How many batches the store of the test below has.
const BATCHES: i64 = 600;

const MANY: &str = "kind = \"feature_view\"\nname = \"v\"\nentity = \"thing\"\n[time]\nvalid_at = \"ts\"\nknown_at = { column = \"seen\" }\n[[features]]\nname = \"x\"\ntype = \"int64\"\n";

/// Batches of one entry.
const OF_AN_ENTRY: usize = 1_000;

/// Writes batches of two rows each, many in one entry: batch n has the entity 0, which all have, and the entity n, which
/// no other has. The files of some entries are written side by side.
async fn write_batches(serving: &Serving, batches: i64) {
    let state = serving.catalog().state();
    let version = state.view("default", "v", None, state.head.sequence).unwrap().clone();
    let all: Vec<i64> = (1..=batches).collect();
    let parts: Vec<Vec<i64>> = all.chunks(OF_AN_ENTRY).map(<[i64]>::to_vec).collect();
    let written = futures::stream::iter(parts).map(|part| {
        let (catalog, version, algorithm) = (serving.catalog().clone(), version.clone(), state.hash);
        let write = async move {
            let mut records = Vec::new();
            for n in part {
                records.push(Record::from(write_batch(&catalog, &version, algorithm, n).await));
            }
            records
        };
        async { tokio::spawn(write).await.unwrap() }
    });
    let mut written = std::pin::pin!(written.buffered(4));
    while let Some(records) = written.next().await {
        let intent = |_: &catalog::State| Ok(Intent::Append(records.clone()));
        serving.catalog().commit::<()>(&author(), None, intent).await.unwrap();
    }
}

async fn write_batch(
    catalog: &Catalog,
    version: &ViewVersion,
    algorithm: HashAlgorithm,
    n: i64,
) -> BatchCommitted {
    let batch: BatchId = environment::mint();
    let table = batch_of(vec![
        ("k", Arc::new(Int64Array::from(vec![0, n]))),
        ("valid_at", times([Some(n), Some(n)].into_iter())),
        ("known_at", times([Some(n), Some(n)].into_iter())),
        ("x", Arc::new(Int64Array::from(vec![n, -n]))),
    ]);
    let columns =
        Columns { keys: vec!["k".to_owned()], occurrence: None, has_known_at: true, has_retracted: false };
    let objects = catalog.store().objects();
    let target = Target { view: version.view, version: version.number, batch, hash: algorithm };
    let mut mint = || environment::mint::<FileId>();
    let files =
        partition::write(&objects, &target, table, &columns, &Layout::default(), &mut mint).await.unwrap();
    let manifest = manifest::encode(&files).unwrap();
    let id: BodyId = environment::mint();
    let manifest = catalog.put_object(format!("manifests/{id}.parquet"), manifest).await.unwrap();
    BatchCommitted {
        batch,
        view: version.view,
        version: version.version,
        rows: 2,
        rejected: 0,
        known_at: KnownAtSource::Column,
        digest: partition::batch_digest(algorithm, &files),
        manifest,
        quarantine: None,
        sources: Vec::new(),
        body: None,
        derivation: None,
        profile: None,
        judged: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_files_few_are_opened() {
    let batches = BATCHES;
    let clock = TestClock::new(instant("2024-02-01T00:00:00Z"));
    let serving = memory(&clock).await;
    serving.apply(files(&[("thing.toml", ENTITY), ("v.toml", MANY)]), &author()).await.unwrap();
    write_batches(&serving, batches).await;
    let ask = |key: i64, at: i64, exhaustive: bool| ExplainValueRequest {
        feature: "v.x".to_owned(),
        key: BTreeMap::from([("k".to_owned(), json!(key))]),
        at: Timestamp(BEGINNING + at * UNIT),
        known_by: None,
        sequence: None,
        exhaustive,
    };
    let middle = batches / 2;
    for (key, at, expected) in [(middle, batches, -middle), (0, middle, middle), (0, batches, batches)] {
        let found = serving.explain_value(ask(key, at, false), &author()).await.unwrap();
        assert_eq!(found.value, Some(expected.to_string()), "{found:?}");
    }
    let one = serving.explain_value(ask(middle, batches, false), &author()).await.unwrap();
    assert_eq!((one.unopened_files, one.losers_by_reason.len()), (0, 0));

    // The winner is the same however many are opened, and what was not opened is told.
    let some = serving.explain_value(ask(0, middle, false), &author()).await.unwrap();
    let opened: u64 = 1 + some.losers_by_reason.values().sum::<u64>();
    assert_eq!((opened, some.unopened_files), (64, batches as u64 - 64));
    let all = serving.explain_value(ask(0, middle, true), &author()).await.unwrap();
    assert_eq!((all.unopened_files, &all.value), (0, &some.value));
    let winner = |found: &serving::Explanation| found.winner.as_ref().map(|winner| winner.batch.clone());
    assert_eq!(winner(&all), winner(&some));
    let expected = BTreeMap::from([
        ("not_yet_known".to_owned(), (batches - middle) as u64),
        ("older".to_owned(), middle as u64 - 1),
    ]);
    assert_eq!(all.losers_by_reason, expected);
    let nearest = |found: &serving::Explanation| -> Vec<String> {
        found.losers.iter().map(|loser| loser.valid_at.clone()).collect()
    };
    assert_eq!(nearest(&all), nearest(&some));
    // Nobody, and before anybody: each says why without opening all.
    let unknown = serving.explain_value(ask(-5, middle, false), &author()).await.unwrap();
    assert_eq!((unknown.null_reason.as_deref(), unknown.unopened_files), (Some("unknown_entity"), 0));
    let early = serving.explain_value(ask(0, 0, false), &author()).await.unwrap();
    assert_eq!((early.null_reason.as_deref(), early.unopened_files), (Some("later"), batches as u64 - 64));

    // Merged, they lie in few files; who has just opened the store reads few manifests.
    serving.compact(&CompactRequest::all(None), &author()).await.unwrap();
    let opened = Serving::new(Catalog::open(serving.catalog().store().clone()).await.unwrap());
    for (key, at, expected) in [(middle, batches, -middle), (0, middle, middle)] {
        let found = opened.explain_value(ask(key, at, false), &author()).await.unwrap();
        assert_eq!((found.value, found.unopened_files), (Some(expected.to_string()), 0));
        let winner = found.winner.unwrap();
        let valid_at = winner.valid_at.parse::<Timestamp>().unwrap();
        assert_eq!(valid_at, Timestamp(BEGINNING + expected.abs() * UNIT));
        let batch: BatchId = winner.batch.parse().unwrap();
        let (state, place) = (opened.catalog().state(), expected.unsigned_abs() as usize - 1);
        let line = state.views().next().unwrap().line;
        assert_eq!(state.batches_of_line(line)[place].record.batch, batch);
    }
}

/// Bounds leave half of the files, whose manifests say that they have other keys: they need not even be there.
#[tokio::test]
async fn files_of_other_keys_are_not_opened() {
    let clock = TestClock::new(instant("2024-02-01T00:00:00Z"));
    let serving = memory(&clock).await;
    serving.apply(files(&[("thing.toml", ENTITY), ("v.toml", MANY)]), &author()).await.unwrap();
    write_batches(&serving, 40).await;
    let ask = |key: i64| ExplainValueRequest {
        feature: "v.x".to_owned(),
        key: BTreeMap::from([("k".to_owned(), json!(key))]),
        at: Timestamp(BEGINNING + 40 * UNIT),
        known_by: None,
        sequence: None,
        exhaustive: true,
    };
    let before = serving.explain_value(ask(7), &author()).await.unwrap();
    let its_file = before.winner.as_ref().unwrap().file.clone();
    let objects = serving.catalog().store().objects();
    let mut removed = 0;
    for object in objects.list(Some(&"data".into())).try_collect::<Vec<_>>().await.unwrap() {
        if object.location.as_ref() != its_file {
            objects.delete(&object.location).await.unwrap();
            removed += 1;
        }
    }
    assert_eq!(removed, 39);
    let after = serving.explain_value(ask(7), &author()).await.unwrap();
    assert_eq!((after.value, after.losers_by_reason), (Some("-7".to_owned()), BTreeMap::new()));
    let error = serving.explain_value(ask(0), &author()).await.unwrap_err();
    assert!(error.to_string().contains("data/"), "{error}");
    let unknown = serving.explain_value(ask(-5), &author()).await.unwrap();
    assert_eq!(unknown.null_reason.as_deref(), Some("unknown_entity"));
}

#[tokio::test]
async fn keys_and_features_that_there_are_not_are_told() {
    let clock = TestClock::new(instant("2024-02-01T00:00:00Z"));
    let serving = memory(&clock).await;
    let view = "kind = \"feature_view\"\nname = \"v\"\nentity = \"thing\"\n[time]\nvalid_at = \"ts\"\nknown_at = \"arrival\"\n[[features]]\nname = \"value\"\ntype = \"int64\"\n";
    serving.apply(files(&[("thing.toml", ENTITY), ("v.toml", view)]), &author()).await.unwrap();
    let ask = |feature: &str, key: serde_json::Value| ExplainValueRequest {
        feature: feature.to_owned(),
        key: serde_json::from_value(key).unwrap(),
        at: at(1),
        known_by: None,
        sequence: None,
        exhaustive: false,
    };
    for (request, kind, part) in [
        (ask("v.valu", json!({ "k": 1 })), Kind::NotFound, "did you mean `value`?"),
        (ask("u.value", json!({ "k": 1 })), Kind::NotFound, "there is no feature view `u`"),
        (ask("v.*", json!({ "k": 1 })), Kind::Invalid, "all features"),
        (ask("value", json!({ "k": 1 })), Kind::Invalid, "not a feature reference"),
        (ask("v.value", json!({})), Kind::Invalid, "the key `k` is missing"),
        (ask("v.value", json!({ "k": 1, "kk": 2 })), Kind::Invalid, "`kk` is no key"),
        (ask("v.value", json!({ "k": "one" })), Kind::Invalid, "is a int64"),
        (
            ExplainValueRequest { sequence: Some(Sequence(99)), ..ask("v.value", json!({ "k": 1 })) },
            Kind::NotFound,
            "99",
        ),
    ] {
        let error = serving.explain_value(request, &author()).await.unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains(part), "{error}, {:?}", error.kind());
    }
    let null = serving.explain_value(ask("v.value", json!({ "k": null })), &author()).await.unwrap();
    assert_eq!((null.null_reason.as_deref(), null.key["k"].as_deref()), (Some("null_key_or_time"), None));
}
