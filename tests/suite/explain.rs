//! Explain against a reference: who wins, and how many lose for each reason; and that few files are opened where many are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::Int64Array;
use proptest::collection::vec;
use proptest::option;
use serde_json::json;
use serving::{ExplainRequest, ExplainValueRequest, Kind};

use super::cases;
use super::coverage::Coverage;
use super::one_view::{
    BEGINNING, Case, ENTITY, Limit, Set, Step, UNIT, Value, World, batch_of, case, counts, times, value,
    winner,
};
use super::stores::{author, files, ingest, instant, memory, rows};
use feature::{Sequence, Timestamp};
use storage::environment::TestClock;

const CASES: usize = 80;

/// Key, time, limit, and how far back in the log.
type Question = (u8, u8, Option<u8>, u8);

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
    for (key, time, known_by, back) in questions {
        // A version that was there at the sequence.
        let sequence = Sequence(head.0.saturating_sub(u64::from(*back)).max(2));
        let state = world.serving.catalog().state();
        let Some(there) = state.view("default", "v", None, sequence) else { continue };
        let version = world.versions[there.number as usize - 1].clone();
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
                feature: format!("v.{feature}"),
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
    let question = (0..3u8, 0..28u8, option::weighted(0.3, 0..30u8), 0..8u8);
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
            "tie",
            "found",
        ],
    );
    coverage.require(10, ["unknown_entity", "null_at_source", "retracted", "a cell"]);
}

/// How many batches the store of the test below has; `LINEAMENT_BATCHES` asks for more, to measure.
const BATCHES: i64 = 600;

/// Batch n has two entities that no other has, and one that all have.
#[tokio::test]
async fn of_many_files_few_are_opened() {
    let batches = std::env::var("LINEAMENT_BATCHES").map_or(BATCHES, |text| text.parse().unwrap());
    let clock = TestClock::new(instant("2024-02-01T00:00:00Z"));
    let serving = memory(&clock).await;
    let view = "kind = \"feature_view\"\nname = \"v\"\nentity = \"thing\"\n[time]\nvalid_at = \"ts\"\nknown_at = { column = \"seen\" }\n[[features]]\nname = \"x\"\ntype = \"int64\"\n";
    let everywhere = view.replace("name = \"v\"", "name = \"w\"");
    let definitions = [("thing.toml", ENTITY), ("v.toml", view), ("w.toml", &everywhere)];
    serving.apply(files(&definitions), &author()).await.unwrap();
    for batch in 0..batches {
        for (name, keys) in [("v", [2 * batch, 2 * batch + 1]), ("w", [0, batch])] {
            let table = batch_of(vec![
                ("k", Arc::new(Int64Array::from(keys.to_vec()))),
                ("ts", times([Some(batch), Some(batch)].into_iter())),
                ("seen", times([Some(batch), Some(batch)].into_iter())),
                ("x", Arc::new(Int64Array::from(vec![batch, batch]))),
            ]);
            ingest(&serving, rows(name, vec![table])).await.unwrap();
        }
    }
    let request = |feature: &str, key: i64, at: i64, exhaustive: bool| ExplainValueRequest {
        feature: feature.to_owned(),
        key: BTreeMap::from([("k".to_owned(), json!(key))]),
        at: Timestamp(BEGINNING + at * UNIT),
        known_by: None,
        sequence: None,
        exhaustive,
    };
    let middle = batches / 2;
    for (what, request) in [
        ("first", request("v.x", 2 * middle, batches, false)),
        ("an entity of one file", request("v.x", 2 * middle, batches, false)),
        ("first", request("w.x", 0, middle, false)),
        ("an entity of all files", request("w.x", 0, middle, false)),
    ] {
        let started = Instant::now();
        let found = serving.explain_value(request, &author()).await.unwrap();
        println!("{what}, of {batches} batches: {:?}", started.elapsed());
        assert_eq!(found.value, Some(middle.to_string()), "{found:?}");
    }
    let one = serving.explain_value(request("v.x", 2 * middle, batches, false), &author()).await.unwrap();
    assert_eq!((one.unopened_files, one.losers_by_reason.len()), (0, 0));

    // The winner is the same however many are opened, and what was not opened is told.
    let some = serving.explain_value(request("w.x", 0, middle, false), &author()).await.unwrap();
    assert!(some.unopened_files > 0 && some.unopened_files < batches as u64, "{}", some.unopened_files);
    assert!(some.losers[0].valid_at > some.losers[9].valid_at || some.losers.len() == 10);
    if batches <= 10 * BATCHES {
        let all = serving.explain_value(request("w.x", 0, middle, true), &author()).await.unwrap();
        assert_eq!((all.unopened_files, &all.value), (0, &some.value));
        let winner = |found: &serving::Explanation| found.winner.as_ref().map(|winner| winner.batch.clone());
        assert_eq!(winner(&all), winner(&some));
        let older = all.losers_by_reason["older"] + u64::from(all.losers_by_reason.contains_key("tie"));
        assert_eq!(older as i64, middle + 1, "{:?}", all.losers_by_reason);
    }
    // Nobody, before anybody, and long before: each says why without opening all.
    let unknown = serving.explain_value(request("v.x", -5, middle, false), &author()).await.unwrap();
    assert_eq!(unknown.null_reason.as_deref(), Some("unknown_entity"));
    let early = serving.explain_value(request("w.x", 0, -1, false), &author()).await.unwrap();
    assert_eq!(early.null_reason.as_deref(), Some("not_yet_known"));
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
