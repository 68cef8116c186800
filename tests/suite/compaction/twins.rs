//! Two stores of one log: one as it was written, the other merged in random ways. At every sequence every table, every history, every
//! explanation and every set that was recorded or is recorded now is the same of both.

use std::collections::BTreeMap;

use catalog::Catalog;
use catalog::compaction::Eagerness;
use catalog::records::Verdict;
use engine::Engine;
use feature::Sequence;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use serving::{CompactRequest, ExplainValueRequest, Serving};
use storage::Store;

use crate::suite::cases;
use crate::suite::coverage::Coverage;
use crate::suite::point_in_time::checks::{Asked, request};
use crate::suite::point_in_time::scenario::{Ask, How, ask};
use crate::suite::point_in_time::world::{World, beginning, layout};
use crate::suite::replay::histories::{History, Step, history, lived};
use crate::suite::stores::{author, spine};
use crate::suite::sweep::at_once;
use crate::suite::values::{Value, read};

#[derive(Clone, Debug)]
struct Case {
    history: History,
    /// How the other store is merged, one after the other: the cut of the files, whether levels alone are, and whether what was
    /// replaced is swept.
    merges: Vec<(u8, bool, bool)>,
    /// What is recorded in both at the end.
    asks: Vec<Ask>,
}

fn case() -> impl Strategy<Value = Case> {
    let recorded = || ask(Just(How::Call { record: true }).boxed());
    (
        history(),
        vec((0..8u8, prop::bool::weighted(0.2), prop::bool::weighted(0.7)), 1..3),
        vec(recorded(), 1..3),
    )
        .prop_map(|(mut history, merges, asks)| {
            // One store stays as it was written.
            for view in &mut history.views {
                view.first.compacted = None;
            }
            for (_, step) in &mut history.steps {
                if let Step::Ingest(_, batch) | Step::Race(_, _, batch) | Step::SweepRace(_, _, batch) = step
                {
                    batch.compacted = None;
                }
            }
            Case { history, merges, asks }
        })
}

/// A store of the same objects.
async fn twin(of: &Store) -> Store {
    let copy = InMemory::new();
    let objects: Vec<_> = of.objects().list(None).try_collect().await.unwrap();
    for object in objects {
        let bytes = of.objects().get(&object.location).await.unwrap().bytes().await.unwrap();
        copy.put(&object.location, bytes.into()).await.unwrap();
    }
    Store::over("twin", std::sync::Arc::new(copy), of.clock().clone())
}

/// What a query gives at a sequence, in any order.
async fn selected(engine: &Engine, at: Sequence, sql: &str) -> Result<Vec<String>, String> {
    let asked = async {
        let session = engine.session(engine.snapshot(Some(at)).await?)?;
        let plan = session.plan(sql).await?;
        session.run(session.prepare(&plan).await?)?.try_collect::<Vec<_>>().await
    };
    let batches = asked.await.map_err(|error| format!("{sql} at {at}: {error}"))?;
    let mut found = Vec::new();
    for batch in &batches {
        let columns: Vec<_> = batch.columns().iter().map(read).collect();
        found.extend((0..batch.num_rows()).map(|row| {
            let values: Vec<_> = columns.iter().map(|column| &column[row]).collect();
            format!("{values:?}")
        }));
    }
    found.sort();
    Ok(found)
}

/// What an explanation says, but for where the rows lie, and for rows that are too old to count, which may be gone.
fn told(serialized: Json) -> Json {
    match serialized {
        Json::Object(fields) => fields
            .into_iter()
            .filter(|(name, _)| !["file", "row", "past_retention"].contains(&name.as_str()))
            .map(|(name, value)| (name, told(value)))
            .collect(),
        Json::Array(values) => values
            .into_iter()
            .filter(|value| value.get("reason") != Some(&json!("past_retention")))
            .map(told)
            .collect(),
        other => other,
    }
}

/// Some keys of a view, as they are asked for.
async fn keys(engine: &Engine, names: &[String], label: &str) -> Result<Vec<BTreeMap<String, Json>>, String> {
    let list: Vec<String> =
        names.iter().map(|name| format!("CAST(\"{name}\" AS VARCHAR) AS \"{name}\"")).collect();
    let sql = format!("SELECT DISTINCT {} FROM history('{label}')", list.join(", "));
    let failed = |error: datafusion::common::DataFusionError| format!("{sql}: {error}");
    let session = engine.session(engine.snapshot(None).await.map_err(failed)?).map_err(failed)?;
    let plan = session.plan(&sql).await.map_err(failed)?;
    let plan = session.prepare(&plan).await.map_err(failed)?;
    let batches: Vec<_> = session.run(plan).map_err(failed)?.try_collect().await.map_err(failed)?;
    let mut found = Vec::new();
    for batch in &batches {
        let columns: Vec<_> = batch.columns().iter().map(read).collect();
        found.extend((0..batch.num_rows()).map(|row| {
            let part = |column: &Vec<Option<Value>>| match &column[row] {
                Some(Value::Text(text)) => json!(text),
                _ => Json::Null,
            };
            names.iter().cloned().zip(columns.iter().map(part)).collect()
        }));
    }
    found.sort_by_key(|key: &BTreeMap<String, Json>| format!("{key:?}"));
    found.truncate(2);
    Ok(found)
}

macro_rules! same {
    ($one:expr, $other:expr, $($what:tt)*) => {
        let (one, other) = ($one, $other);
        if one != other {
            return Err(format!("{}\nas written\n{one:#?}\nmerged\n{other:#?}", format!($($what)*)));
        }
    };
}

async fn compare(case: &Case) -> Result<Coverage, String> {
    let clock = beginning();
    let store = Store::over("memory", std::sync::Arc::new(InMemory::new()), clock.clone().into());
    let mut writers = Vec::new();
    for _ in 0..2 {
        writers.push(Serving::new(Catalog::open_or_create(store.clone(), &author()).await.unwrap()));
    }
    let mut world = lived(&case.history, &writers, &clock).await?;
    for writer in &writers {
        writer.flush(&author()).await.unwrap();
    }
    let mut coverage = std::mem::take(&mut world.coverage);
    let other = Serving::new(Catalog::open(twin(&store).await).await.unwrap());
    let head = other.catalog().state().head.sequence;
    let mut merged = 0;
    for (cut, levels, swept) in &case.merges {
        let eagerness = if *levels { Eagerness::Levels } else { Eagerness::Everything };
        let request = CompactRequest { view: None, eagerness, layout: layout(*cut) };
        let done = other.compact(&request, &author()).await.map_err(|error| error.to_string())?;
        merged += done.len();
        if *swept {
            let report = other.sweep(&at_once(&other), &author()).await.map_err(|error| error.to_string())?;
            coverage
                .saw_if(report.gone.iter().any(|gone| gone.kind == "data"), "replaced files that are swept");
        }
        coverage.saw_if(done.iter().any(|merge| merge.files > 1), "a run of several files");
        coverage
            .saw_if(done.iter().any(|merge| merge.of.runs < merge.of.batches), "a run that was merged again");
    }
    coverage.saw_if(merged > 0, "batches that were merged");
    let checked = other.check_compactions(None).await.map_err(|error| error.to_string())?;
    coverage.saw_if(!checked.is_empty(), "a run that was proved again");
    // Once from what the one who merged has in memory, once from the store.
    let reopened = Serving::new(Catalog::open_from_log(other.catalog().store().clone()).await.unwrap());
    let (one, two) = (Engine::new(world.serving.catalog().clone()), Engine::new(reopened.catalog().clone()));
    let state = world.serving.catalog().refresh().await.unwrap();
    let swept = reopened.catalog().refresh().await.unwrap();

    for at in (0..=head.0).map(Sequence) {
        for version in state.views().filter(|version| version.by.sequence <= at) {
            let label = version.label();
            // What retention has deleted nobody can read, and nobody takes the rest for all.
            if let Some(gone) = swept.gone_of(version, at) {
                let refused = selected(&two, at, &format!("SELECT * FROM \"{label}\"")).await;
                if !refused
                    .as_ref()
                    .is_err_and(|why| why.contains(&format!("came at sequence {}", gone.came)))
                {
                    return Err(format!("{label} at {at} lacks rows: {refused:?}"));
                }
                coverage.saw("a snapshot whose rows are gone");
                continue;
            }
            let sql = format!("SELECT * FROM \"{label}\"");
            same!(selected(&one, at, &sql).await?, selected(&two, at, &sql).await?, "{sql} at {at}");
            let mut columns: Vec<String> = version.keys().iter().map(|key| key.name.to_string()).collect();
            columns.extend(version.definition.features.iter().map(|feature| feature.name.to_string()));
            columns.extend(["valid_at", "known_at", "retracted", "sequence", "batch"].map(str::to_owned));
            let list: Vec<String> = columns.iter().map(|name| format!("\"{name}\"")).collect();
            let sql = format!("SELECT {} FROM history('{label}')", list.join(", "));
            same!(selected(&one, at, &sql).await?, selected(&two, at, &sql).await?, "{sql} at {at}");
            // Files and pages are left out by conditions on what the log knows.
            for condition in ["sequence > 4", "known_at <= TIMESTAMP '2024-01-01T00:00:09Z'", "retracted"] {
                let sql =
                    format!("SELECT valid_at, known_at, batch FROM history('{label}') WHERE {condition}");
                same!(selected(&one, at, &sql).await?, selected(&two, at, &sql).await?, "{sql} at {at}");
            }
            let batches = state.batches_of(version, at);
            if let Some(batch) = batches.get(batches.len() / 2) {
                let id = batch.record.batch;
                let sql = format!("SELECT valid_at, sequence FROM history('{label}') WHERE batch = '{id}'");
                same!(selected(&one, at, &sql).await?, selected(&two, at, &sql).await?, "{sql} at {at}");
            }
        }
    }
    explained(&world, &reopened, head).await?;
    for set in state.training_sets() {
        let id = set.record.training_set;
        let (report, _) =
            reopened.replay(id, &author()).await.map_err(|error| format!("replay of {id}: {error}"))?;
        same!(Verdict::Equal, report.verdict, "replay of {id}: {report:?}");
        coverage.saw("a recorded set that is made again from merged files");
    }
    for ask in &case.asks {
        let asked = Asked::new(&world, ask);
        let mut found = Vec::new();
        for serving in [&world.serving, &reopened] {
            let (given, wanted) = (spine(asked.rows.batches.clone()), request(&asked, true));
            let set =
                serving.historical(given, wanted, &author()).await.map_err(|error| error.to_string())?;
            let state = serving.catalog().refresh().await.unwrap();
            let record = state.training_set(set.report.training_set.unwrap()).unwrap().record.clone();
            let hits: Vec<_> =
                record.selected.unwrap().into_iter().map(|view| (view.version, view.hits)).collect();
            found.push((set.report.digest, format!("{hits:?}")));
        }
        same!(&found[0], &found[1], "{ask:?}");
        coverage.saw("rows by batch of a set");
    }
    Ok(coverage)
}

/// Every feature of some keys, at some times and sequences.
async fn explained(world: &World, merged: &Serving, head: Sequence) -> Result<(), String> {
    let swept = merged.catalog().state();
    let state = world.serving.catalog().state();
    let engine = Engine::new(world.serving.catalog().clone());
    for version in state.views() {
        // Keys of bytes are not always text.
        if version.keys().iter().any(|key| key.data_type == feature::FeatureType::Binary) {
            continue;
        }
        let names: Vec<String> = version.keys().iter().map(|key| key.name.to_string()).collect();
        let label = version.label();
        for key in keys(&engine, &names, &label).await? {
            for feature in version.definition.features.iter().take(2) {
                for (sequence, seconds) in [(head, 30), (Sequence(head.0 / 2), 9), (head, 3)] {
                    if sequence < version.by.sequence || swept.gone_of(version, sequence).is_some() {
                        continue;
                    }
                    let at = beginning_and(seconds);
                    let ask = || ExplainValueRequest {
                        feature: format!("{label}.{}", feature.name),
                        key: key.clone(),
                        at,
                        known_by: None,
                        sequence: Some(sequence),
                        exhaustive: true,
                    };
                    let mut found = Vec::new();
                    for serving in [&world.serving, merged] {
                        let said = serving.explain_value(ask(), &author()).await;
                        found.push(match said {
                            Ok(said) => told(serde_json::to_value(said).unwrap()),
                            Err(error) => json!(error.to_string()),
                        });
                    }
                    // As many are listed of each, and of one some were too old. That all are the same their numbers say.
                    let listed =
                        found.iter().filter_map(|said| said["losers"].as_array().map(Vec::len)).min();
                    for said in &mut found {
                        if let (Some(losers), Some(listed)) = (said["losers"].as_array_mut(), listed) {
                            losers.truncate(listed);
                        }
                    }
                    same!(&found[0], &found[1], "{label}.{} of {key:?} at {at} and {sequence}", feature.name);
                }
            }
        }
    }
    Ok(())
}

fn beginning_and(seconds: i64) -> feature::Timestamp {
    let now = beginning();
    now.advance(feature::Span::from_micros(seconds * 1_000_000).unwrap());
    storage::Clock::from(now).now()
}

/// A thousand histories are `LINEAMENT_CASES=67000`.
#[test]
fn nothing_that_can_be_asked_has_another_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut coverage = Coverage::default();
    let usual = 30;
    let cases = cases::run("merged twins", usual, &case(), |case| {
        coverage.merge(runtime.block_on(compare(case))?);
        Ok(1)
    });
    assert!(cases >= usual, "only {cases} histories");
    coverage.require(
        5,
        [
            "batches that were merged",
            "a run of several files",
            "a run that was proved again",
            "a recorded set that is made again from merged files",
            "rows by batch of a set",
            "replaced files that are swept",
        ],
    );
}
