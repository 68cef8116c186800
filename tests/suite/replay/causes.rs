//! A replay that differs says what made it differ.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use catalog::Intent;
use catalog::records::{Record, TrainingSetRecorded, Verdict};
use feature::{Sequence, TrainingSetId};
use futures::StreamExt;
use serving::{HistoricalRequest, Manifest, Serving};
use storage::environment::{self, TestClock};

use super::super::one_view::{ENTITY, batch_of, times};
use super::super::stores::{author, files, ingest, instant, memory, rows, spine};

const VIEW: &str = "kind = \"feature_view\"\nname = \"v\"\nentity = \"thing\"\n[time]\nvalid_at = \"ts\"\nknown_at = { column = \"ts\" }\n[[features]]\nname = \"x\"\ntype = \"float64\"\n";

fn table(time: i64, x: f64) -> RecordBatch {
    batch_of(vec![
        ("k", Arc::new(Int64Array::from(vec![1]))),
        ("ts", times([Some(time)].into_iter())),
        ("x", Arc::new(Float64Array::from(vec![x]))),
    ])
}

/// Records a manifest as that of another set: what a store says that differs from what it holds.
async fn record(serving: &Serving, mut manifest: Manifest) -> TrainingSetId {
    let id: TrainingSetId = environment::mint();
    manifest.id = id;
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let object = serving
        .catalog()
        .put_object(format!("training_sets/{id}/manifest.json"), bytes.into())
        .await
        .unwrap();
    let record = Record::from(TrainingSetRecorded {
        training_set: id,
        sequence: manifest.sequence,
        name: None,
        selected: None,
        rows: manifest.rows,
        columns: manifest.columns.len() as u32,
        digest: manifest.digest.clone(),
        manifest: object,
    });
    let intent = |_: &catalog::State| Ok(Intent::Append(vec![record.clone()]));
    serving.catalog().commit::<()>(&author(), None, intent).await.unwrap();
    id
}

#[tokio::test]
async fn the_batches_that_made_it_differ_are_named() {
    let clock = TestClock::new(instant("2024-02-01T00:00:00Z"));
    let serving = memory(&clock).await;
    serving.apply(files(&[("thing.toml", ENTITY), ("v.toml", VIEW)]), &author()).await.unwrap();
    let mut batches = Vec::new();
    for (time, x) in [(1, 1.0), (2, 2.0)] {
        let report = ingest(&serving, rows("v", vec![table(time, x)])).await.unwrap();
        batches.push((report.sequence.unwrap(), report.batch.unwrap()));
    }
    let asked = batch_of(vec![
        ("k", Arc::new(Int64Array::from(vec![1, 1]))),
        ("at", times([Some(1), Some(9)].into_iter())),
    ]);
    let set =
        serving.historical(spine(vec![asked]), HistoricalRequest::new(["v.x"]), &author()).await.unwrap();
    let manifest = serving.manifest(set.report.training_set.unwrap()).await.unwrap();
    let (equal, _) = serving.replay(manifest.id, &author()).await.unwrap();
    assert_eq!((equal.verdict, equal.entries.len(), equal.note), (Verdict::Equal, 0, None));

    // As if the second batch had come after the snapshot.
    let mut early = manifest.clone();
    early.sequence = Sequence(batches[1].0.0 - 1);
    let (report, _) = serving.replay(record(&serving, early).await, &author()).await.unwrap();
    assert_eq!((report.verdict, report.note), (Verdict::Differs, None));
    let differences: Vec<_> = report.differences.iter().map(|found| found.column.as_str()).collect();
    assert_eq!(differences, ["x"]);
    let named: Vec<_> = report.entries.iter().map(|entry| (entry.sequence, entry.batch)).collect();
    // The first batch answers the row that the second answered before.
    assert_eq!(named, [(Some(batches[0].0), batches[0].1), (Some(batches[1].0), batches[1].1)]);
    assert!(
        report.entries[0].why.contains("answered 1 rows") && report.entries[0].why.contains("answers 2"),
        "{:?}",
        report.entries
    );
    assert!(report.entries[1].why.contains("does not at sequence"), "{:?}", report.entries);

    // As if a batch had been there that no entry brings, and as if the second had not counted.
    let mut other = manifest.clone();
    let stranger: feature::BatchId = environment::mint();
    other.views[0].batches = vec![batches[0].1, stranger];
    other.digest = other.digest.replace(|sign: char| sign.is_ascii_digit(), "0");
    let (report, _) = serving.replay(record(&serving, other).await, &author()).await.unwrap();
    let named: Vec<_> = report.entries.iter().map(|entry| (entry.sequence, entry.batch)).collect();
    assert_eq!(named, [(None, stranger), (Some(batches[1].0), batches[1].1)]);

    // As if a value had been another: no batch is to blame.
    let mut value = manifest.clone();
    value.digest = value.digest.replace(|sign: char| sign.is_ascii_digit(), "0");
    value.columns[2].digest = value.columns[2].digest.replace('a', "b");
    let (report, _) = serving.replay(record(&serving, value).await, &author()).await.unwrap();
    assert!(report.entries.is_empty());
    assert!(report.note.as_ref().is_some_and(|note| note.contains("the same batches")), "{:?}", report.note);

    // A diff and an audit do not go on from what is not as it was recorded.
    let mut leaf = manifest.clone();
    leaf.digest = leaf.digest.replace(|sign: char| sign.is_ascii_digit(), "0");
    for column in &mut leaf.columns {
        column.digest = column.digest.chars().rev().collect();
        column.leaves = column.leaves.iter().map(|leaf| leaf.chars().rev().collect()).collect();
    }
    let wrong = record(&serving, leaf).await;
    let diff =
        serving.diff(serving::DiffRequest::new(manifest.id, wrong), false, &author()).await.unwrap_err();
    let audit = serving.audit_set(serving::AuditSetRequest::new(wrong), false, &author()).await.unwrap_err();
    for error in [diff, audit] {
        assert_eq!(error.kind(), serving::Kind::Damaged);
        assert!(error.to_string().contains("lineament replay"), "{error}");
    }
}

/// Rows are given as far as they are as recorded: block by block, and none of a block that differs.
#[tokio::test]
async fn rows_before_the_first_block_that_differs_are_given() {
    // More than a server of 64 MiB makes at once.
    const ROWS: usize = 400_000;
    let clock = TestClock::new(instant("2024-02-01T00:00:00Z"));
    let serving = memory(&clock).await;
    serving.apply(files(&[("thing.toml", ENTITY), ("v.toml", VIEW)]), &author()).await.unwrap();
    ingest(&serving, rows("v", vec![table(1, 1.0)])).await.unwrap();
    let asked = batch_of(vec![
        ("k", Arc::new(Int64Array::from(vec![1; ROWS]))),
        ("at", times((0..ROWS).map(|row| Some(row as i64)))),
    ]);
    let set =
        serving.historical(spine(vec![asked]), HistoricalRequest::new(["v.x"]), &author()).await.unwrap();
    let whole = concat_batches(&set.schema, &set.batches).unwrap();
    let manifest = serving.manifest(set.report.training_set.unwrap()).await.unwrap();
    for (differs, given) in [(0, 0), (3, 196_608), (6, 393_216)] {
        let mut other = manifest.clone();
        other.digest = other.digest.replace(|sign: char| sign.is_ascii_digit(), "0");
        let x = &mut other.columns[2];
        x.digest = x.digest.chars().rev().collect();
        x.leaves[differs] = x.leaves[differs].chars().rev().collect();
        let id = record(&serving, other).await;

        let replay = serving.replay_stream(id, "it ends here", &author()).await.unwrap();
        let all: Vec<_> = replay.rows.collect().await;
        let (last, rows) = all.split_last().unwrap();
        let error = last.as_ref().unwrap_err();
        assert_eq!(error.kind(), serving::Kind::Damaged);
        assert!(error.to_string().ends_with("(columns that differ: x), so it ends here"), "{error}");
        let rows: Vec<RecordBatch> = rows.iter().map(|batch| batch.as_ref().unwrap().clone()).collect();
        assert!(concat_batches(&set.schema, &rows).unwrap() == whole.slice(0, given), "{differs}");
        replay.report.await.unwrap_err();
        let report = serving.prove(id, &author()).await.unwrap();
        assert_eq!((report.verdict, report.differences[0].first_block), (Verdict::Differs, Some(differs)));

        // Of a stretch of a set that fits, nothing; of a larger one as much.
        let stretch = serving.stretch(id, 0..ROWS as u64, &author()).await.map(|_| ());
        assert_eq!(stretch.unwrap_err().kind(), serving::Kind::Damaged);
        let small = serving.clone().with_memory(serving::Memory::new(64 << 20));
        let (stretch, _) = small.stretch(id, 0..ROWS as u64, &author()).await.unwrap();
        let all: Vec<_> = stretch.stream.collect().await;
        let (last, rows) = all.split_last().unwrap();
        let error = last.as_ref().unwrap_err().to_string();
        assert!(error.contains(&format!("column `x` differs in rows {given} to")), "{error}");
        assert_eq!(rows.iter().map(|batch| batch.as_ref().unwrap().num_rows()).sum::<usize>(), given);
    }
    assert_eq!(serving.memory().held(), 0);
}
