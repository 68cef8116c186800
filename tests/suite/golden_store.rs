//! A whole store as the second version of the program wrote it, with what the first did not have: manifests of small blocks that tell keys by
//! their hashes, merged files and a sweep of what they replaced, parts of streams, a batch that was taken back and one that waits, a spine that was
//! put up, a checkpoint. It must open for ever.
//!
//! `LINEAMENT_BLESS=1` writes it where it is missing, and never over what is there.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use catalog::ingest::Claim;
use catalog::ingest::stream::{Acknowledged, Target};
use catalog::records::Verdict;
use catalog::state::producers::Place;
use feature::digest::{Digest, digest_batches};
use feature::{Name, Sequence, TrainingSetId};
use futures::TryStreamExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};
use serving::{
    HistoricalRequest, QuarantineAction, QuarantineRequest, RollbackRequest, Serving, VerifyRequest,
    verify_store,
};
use storage::Store;
use storage::manifest::BLOCK_BYTES;

use super::compaction::files::everything;
use super::fixture;
use super::golden::{golden, to_be_made};
use super::stores::{author, claimed, count, files, folder, ingest, rows, select, spine};
use super::sweep::at_once;
use super::tables::table;

const DEFINITIONS: [(&str, &str); 3] = [
    (
        "airport.toml",
        "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n",
    ),
    (
        "weather.toml",
        "kind = \"feature_view\"\nname = \"weather\"\nentity = \"airport\"\n\
         [time]\nvalid_at = \"time_hour\"\nknown_at = { delay = \"30m\" }\n\
         [[features]]\nname = \"temp\"\ntype = \"float64\"\n[[features]]\nname = \"sky\"\ntype = \"string\"\n\
         [quality]\non_fail = \"quarantine\"\nleast_rows = 10\n[quality.checks]\nwasserstein = { fail = 3 }\n",
    ),
    (
        "visits.toml",
        "kind = \"feature_view\"\nname = \"visits\"\nentity = \"airport\"\n\
         [time]\nvalid_at = \"seen\"\nknown_at = \"arrival\"\n\
         [[features]]\nname = \"visitors\"\ntype = \"int64\"\n",
    ),
];

/// Of the last hours of the third day.
const CORRECTED: &str = "
    origin string | time_hour timestamp  | temp float64 | sky string
    EWR           | 2013-01-03T18:00:00Z | null         | rain
    JFK           | 2013-01-03T19:00:00Z | 12.5         | rain";

const SPINE: &str = "
    origin string | at timestamp
    EWR           | 2013-01-01T06:45:00Z
    JFK           | 2013-01-02T05:45:00Z
    LGA           | 2013-01-03T09:00:00Z
    EWR           | 2013-02-20T00:00:00Z
    JFK           | 2013-02-20T00:00:00Z";

const FEATURES: [&str; 3] = ["weather.temp", "weather.sky", "visits.visitors"];

/// What the store answers, for ever.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Answers {
    head: Sequence,
    head_digest: Digest,
    /// The entry of the newest checkpoint.
    checkpoint: Sequence,
    /// One before the correction was taken back, and one of a spine that was put up, after that.
    training_sets: Vec<TrainingSetId>,
    /// Of the rebuilt training sets.
    digests: Vec<String>,
    /// The content digest of each answer.
    answers: Vec<(String, String)>,
}

/// A day of weather around a temperature.
fn day(day: u32, level: f64) -> RecordBatch {
    let mut text = "origin string | time_hour timestamp | temp float64 | sky string\n".to_owned();
    for hour in 0..20 {
        let origin = if hour % 2 == 0 { "EWR" } else { "JFK" };
        let sky = if hour % 7 == 0 { "null" } else { "clear" };
        let temp = level + f64::from(hour % 10);
        text.push_str(&format!("{origin} | 2013-01-{day:02}T{hour:02}:00:00Z | {temp} | {sky}\n"));
    }
    table(&text)
}

/// Parts of the one producer's stream of visits.
async fn send(serving: &Serving, numbers: RangeInclusive<u64>) -> Vec<Acknowledged> {
    let target = Target {
        project: Name::default_project(),
        view: "visits".to_owned(),
        producer: "station-7".to_owned(),
        claim: None,
    };
    let stream = serving.open_stream(target, &author()).await.unwrap();
    let mut pending = Vec::new();
    for number in numbers {
        let text = format!(
            "origin string | seen timestamp | visitors int64
             EWR | 2013-01-04T0{number}:00:00Z | {number}
             JFK | 2013-01-04T0{number}:30:00Z | {}",
            number * 10
        );
        pending.push(stream.send(Place { epoch: 1, number }, table(&text)).await.unwrap());
    }
    let mut told = Vec::new();
    for part in pending {
        told.push(part.acknowledged().await.unwrap());
    }
    told
}

/// Makes the store in a folder. The newest entry is of reads, which no answer depends on. Gives the training sets, and the sequence before the
/// correction was taken back.
async fn make(path: &Path) -> (Vec<TrainingSetId>, Sequence) {
    let clock = fixture::clock();
    let tick = || clock.advance("1h".parse().unwrap());
    let serving = folder(path, &clock).await;
    serving.apply(files(&DEFINITIONS), &author()).await.unwrap();
    for (number, level) in [(1, 50.0), (2, 51.0), (3, 50.5)] {
        tick();
        let mut request = rows("weather", vec![day(number, level)]);
        request.key = Some(format!("weather-{number}"));
        ingest(&serving, request).await.unwrap();
    }
    tick();
    assert!(ingest(&serving, rows("weather", vec![day(4, 900.0)])).await.unwrap().quarantined);
    tick();
    let correction = claimed(rows("weather", vec![table(CORRECTED)]), Claim::Correction);
    let corrected = ingest(&serving, correction).await.unwrap().batch.unwrap();
    tick();
    send(&serving, 1..=2).await;
    tick();
    send(&serving, 3..=3).await;
    tick();
    let request = HistoricalRequest::new(FEATURES);
    let made = serving.historical(spine(vec![table(SPINE)]), request, &author()).await.unwrap();
    let mut sets = vec![made.report.training_set.unwrap()];
    tick();
    let before = serving.catalog().refresh().await.unwrap().head.sequence;
    let reason = Some("it was right at first".to_owned());
    let request = RollbackRequest { node: corrected.to_string(), reason, ..RollbackRequest::default() };
    serving.rollback(&request, &author()).await.unwrap();
    tick();
    assert!(!serving.compact(&everything(), &author()).await.unwrap().is_empty());
    tick();
    assert!(serving.sweep(&at_once(&serving), &author()).await.unwrap().total().0 > 0);
    tick();
    let kept = serving.ingest_spine(spine(vec![table(SPINE)]), &author()).await.unwrap();
    let mut request = HistoricalRequest::new(FEATURES);
    request.spine = Some(kept.spine);
    let made = serving.historical_stream(None, request, &author()).await.unwrap();
    let _: Vec<RecordBatch> = made.rows.try_collect().await.unwrap();
    sets.push(made.report.await.unwrap().training_set.unwrap());
    tick();
    serving.catalog().checkpoint().await.unwrap();
    ingest(&serving, rows("weather", vec![day(5, 50.0)])).await.unwrap();
    tick();
    select(&serving, "SELECT origin, temp FROM weather").await.unwrap();
    serving.flush(&author()).await.unwrap();
    (sets, before)
}

/// Questions about the rows themselves, column by column: tables may get more of them.
fn questions(before: Sequence) -> Vec<String> {
    vec![
        "SELECT origin, valid_at, temp, sky FROM weather ORDER BY origin, valid_at".to_owned(),
        format!("SELECT origin, valid_at, temp, sky FROM at_sequence('weather', {before}) ORDER BY origin, valid_at"),
        "SELECT origin, valid_at, known_at, retracted, sequence, temp, sky FROM history('weather') \
         ORDER BY origin, valid_at, known_at"
            .to_owned(),
        "SELECT origin, valid_at, known_at, sequence, visitors FROM history('visits') ORDER BY origin, valid_at"
            .to_owned(),
        "SELECT status, count(*) AS batches FROM lineament.batches GROUP BY status ORDER BY status".to_owned(),
    ]
}

async fn answers(serving: &Serving, training_sets: Vec<TrainingSetId>, questions: Vec<String>) -> Answers {
    let state = serving.catalog().state();
    let mut answers = Vec::new();
    for sql in questions {
        let (schema, batches) = select(serving, &sql).await.unwrap();
        let digest = digest_batches(state.hash, &schema, &batches).unwrap().digest;
        answers.push((sql, digest.to_string()));
    }
    let request = HistoricalRequest { record: false, ..HistoricalRequest::new(FEATURES) };
    let set = serving.historical(spine(vec![table(SPINE)]), request, &author()).await.unwrap();
    answers.push((FEATURES.join(", "), set.report.digest));
    let digest = |id: &TrainingSetId| state.training_set(*id).unwrap().record.digest.clone();
    let checkpoint = serving.catalog().last_checkpoint().unwrap();
    Answers {
        head: state.head.sequence,
        head_digest: state.head.digest,
        checkpoint: checkpoint.sequence,
        digests: training_sets.iter().map(digest).collect(),
        training_sets,
        answers,
    }
}

async fn open(folder: &Path) -> Serving {
    let store = Store::open(folder.to_str().unwrap(), fixture::later().into()).unwrap();
    fixture::open(store).await.unwrap()
}

/// The golden store in a folder of its own, and what it must answer.
async fn golden_store() -> (tempfile::TempDir, Answers) {
    let path = golden("store-v2");
    if to_be_made(&path) {
        let made = tempfile::tempdir().unwrap();
        let (sets, before) = make(made.path()).await;
        let expected = answers(&open(made.path()).await, sets, questions(before)).await;
        fixture::write_objects(&path, &fixture::objects(made.path()));
        let text = serde_json::to_string_pretty(&expected).unwrap() + "\n";
        std::fs::write(golden("store-v2.json"), text).unwrap();
    }
    let copy = tempfile::tempdir().unwrap();
    fixture::write_objects(copy.path(), &fixture::objects(&path));
    let text = std::fs::read_to_string(golden("store-v2.json")).unwrap();
    (copy, serde_json::from_str(&text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_second_version_answers_as_ever() {
    let (folder, expected) = golden_store().await;
    let before = fixture::objects(folder.path());
    let serving = open(folder.path()).await;
    assert_eq!(serving.catalog().passed_over(), []);
    holds_what_it_is_there_for(&serving, folder.path()).await;
    // All but the last, which is of no table.
    let asked: Vec<String> = expected.answers.iter().map(|(sql, _)| sql.clone()).collect();
    let asked = asked[..asked.len() - 1].to_vec();
    assert_eq!(answers(&serving, expected.training_sets.clone(), asked).await, expected);
    // Three days and the fifth, and before it was taken back the correction of two rows.
    assert_eq!(count(&serving, "SELECT count(*) FROM history('weather')").await, 80);
    assert_eq!(count(&serving, "SELECT count(*) FROM history('visits')").await, 6);
    assert_eq!(fixture::objects(folder.path()), before, "asking writes nothing");
    replays(&serving, &expected).await;
    assert!(serving.catalog().check_checkpoint().await.unwrap().unwrap().holds());
    goes_on(&serving).await;
    for (object, bytes) in &before {
        assert_eq!(std::fs::read(folder.path().join(object)).as_ref().unwrap(), bytes, "{object}");
    }
    replays(&open(folder.path()).await, &expected).await;
}

/// What the first golden store has not.
async fn holds_what_it_is_there_for(serving: &Serving, folder: &Path) {
    let state = serving.catalog().state();
    let numbers: BTreeSet<u32> =
        state.log().iter().flat_map(|line| line.records.iter().map(|(number, _)| *number)).collect();
    let expected = BTreeSet::from([1, 10, 11, 16, 20, 24, 30, 31, 33, 35, 60, 61, 70]);
    assert_eq!(numbers, expected);
    let version = state.view("default", "weather", None, state.head.sequence).unwrap().clone();
    let files = serving.catalog().files(&state, &version, state.head.sequence).await.unwrap();
    assert!(files.iter().all(|visible| visible.file.block_bytes == BLOCK_BYTES));
    assert!(files.iter().all(|visible| visible.file.key_hashes.is_some()));
    let merged = files.iter().find(|visible| visible.file.pieces.len() > 1).unwrap();
    let bytes = Bytes::from(std::fs::read(folder.join(&merged.file.path)).unwrap());
    let parquet = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    assert!(parquet.schema().field_with_name("_batch").is_ok());
    verified(serving).await;
}

async fn verified(serving: &Serving) {
    let request = VerifyRequest { full: true, mend: false };
    let found = verify_store(serving.catalog().store(), request, Arc::new(|_| ())).await.unwrap();
    assert_eq!(found.faults, []);
    assert!(found.checkpoints > 0);
}

async fn replays(serving: &Serving, expected: &Answers) {
    for (id, digest) in expected.training_sets.iter().zip(&expected.digests) {
        let (report, _) = serving.replay(*id, &author()).await.unwrap();
        assert_eq!((report.verdict, &report.rebuilt, &report.digest), (Verdict::Equal, digest, digest));
    }
}

/// Neither is what lies there only read: streams, keys, quarantine and merging go on where they were.
async fn goes_on(serving: &Serving) {
    let told = send(serving, 3..=4).await;
    assert_eq!(told.iter().map(|told| told.repeated).collect::<Vec<_>>(), [true, false]);
    let mut request = rows("weather", vec![day(2, 51.0)]);
    request.key = Some("weather-2".to_owned());
    assert!(ingest(serving, request).await.unwrap().repeated);
    let state = serving.catalog().state();
    let [held] = state.quarantine().all() else { panic!("one batch waits") };
    let (batch, reason) = (held.batch.record.batch, "the sensor was right".to_owned());
    let request = QuarantineRequest { batch, action: QuarantineAction::Release, reason, back_fill: false };
    serving.end_quarantine(&request, &author()).await.unwrap();
    assert!(!serving.compact(&everything(), &author()).await.unwrap().is_empty());
    assert_eq!(count(serving, "SELECT count(*) FROM history('weather')").await, 100);
    assert_eq!(count(serving, "SELECT count(*) FROM history('visits')").await, 8);
    verified(serving).await;
}
