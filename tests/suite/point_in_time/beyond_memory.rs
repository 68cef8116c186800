//! A spine that is more than a share of the memory goes by in parts, as it comes. The answer, its digest and what is recorded of it are
//! those of a spine that is held as a whole; and what was recorded is made again the same way.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use catalog::ingest::Claim;
use catalog::records::Verdict;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use engine::Memory;
use futures::TryStreamExt;
use proptest::prelude::*;
use serving::{ExplainRequest, GivenSpine, HistoricalReport, HistoricalRequest, Kind, Serving, Spine};
use storage::environment::TestClock;

use crate::suite::cases;
use crate::suite::stores::{author, claimed, count, files, ingest, instant, memory, rows};

const KEYS: i64 = 60;
const DAY: i64 = 86_400_000_000;
/// The least that a limit may be. A spine is whole up to a quarter of it.
const LIMIT: u64 = 64 << 20;

/// What a random spine is made of.
#[derive(Clone, Debug)]
struct Draw {
    seed: u64,
    rows: usize,
    /// Bytes of the text that each row carries along.
    carried: usize,
    /// Rows of a batch as it comes, in their turns.
    batches: Vec<usize>,
    /// By time, as most are; else in no order.
    by_time: bool,
}

fn draw() -> impl Strategy<Value = Draw> {
    let batches = prop::collection::vec(1usize..6_000, 1..5);
    (any::<u64>(), 20usize..48, 500usize..8_000, batches, any::<bool>()).prop_map(
        |(seed, mebibytes, carried, batches, by_time)| Draw {
            seed,
            rows: (mebibytes << 20) / carried,
            carried,
            batches,
            by_time,
        },
    )
}

fn times(micros: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    let start = instant("2025-01-01T00:00:00Z").micros();
    let times = micros.map(|at| at.map(|at| start + at));
    Arc::new(TimestampMicrosecondArray::from_iter(times).with_timezone("UTC"))
}

impl Draw {
    fn number(&self, row: usize, salt: u64) -> u64 {
        let mut state = self.seed ^ (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (salt << 56);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state ^ (state >> 27)
    }

    fn spine(&self) -> Spine {
        let rows = 0..self.rows;
        let key = |row| {
            (!self.number(row, 1).is_multiple_of(40))
                .then(|| (self.number(row, 2) % (KEYS as u64 + 5)) as i64)
        };
        let at = |row| {
            let any = if self.by_time {
                row as i64 * 200 * DAY / self.rows as i64
            } else {
                (self.number(row, 3) % (200 * DAY as u64)) as i64
            };
            (!self.number(row, 4).is_multiple_of(50)).then_some(any)
        };
        let text = |row| {
            let letter = char::from(b'a' + (self.number(row, 5) % 26) as u8);
            format!("{row} {}", letter.to_string().repeat(self.carried))
        };
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("user_id", Arc::new(Int64Array::from_iter(rows.clone().map(key)))),
            ("at", times(rows.clone().map(at))),
            ("note", Arc::new(StringArray::from_iter_values(rows.map(text)))),
        ];
        let whole = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        )
        .unwrap();
        let (mut from, mut batches) = (0, Vec::new());
        for size in self.batches.iter().cycle() {
            if from == self.rows {
                break;
            }
            let size = (*size).min(self.rows - from);
            batches.push(whole.slice(from, size));
            from += size;
        }
        Spine { schema: whole.schema(), batches }
    }
}

async fn store() -> Serving {
    let serving = memory(&TestClock::new(instant("2026-01-01T00:00:00Z"))).await;
    let user = "kind = \"entity\"\nname = \"user\"\n[[keys]]\nname = \"user_id\"\ntype = \"int64\"\n";
    let view = "kind = \"feature_view\"\nname = \"acts\"\nentity = \"user\"\nttl = \"20d\"\n[time]\nvalid_at = \"at_time\"\n\
                known_at = { delay = \"1h\" }\n[[features]]\nname = \"amount\"\ntype = \"int64\"\n[[features]]\nname = \"word\"\ntype = \"string\"\n\
                default = \"none\"\n";
    serving.apply(files(&[("user.toml", user), ("acts.toml", view)]), &author()).await.unwrap();
    for batch in 0..3 {
        let mine = (0..2_000i64).filter(|row| row % 3 == batch);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("user_id", Arc::new(Int64Array::from_iter_values(mine.clone().map(|row| row * 7 % KEYS)))),
            ("at_time", times(mine.clone().map(|row| Some(row * 200 * DAY / 2_000)))),
            (
                "amount",
                Arc::new(Int64Array::from_iter(mine.clone().map(|row| (row % 11 > 0).then_some(row)))),
            ),
            (
                "word",
                Arc::new(StringArray::from_iter(
                    mine.map(|row| (row % 5 > 0).then(|| format!("word {}", row % 9))),
                )),
            ),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        );
        ingest(&serving, claimed(rows("acts", vec![batch.unwrap()]), Claim::BackFill)).await.unwrap();
    }
    serving
}

/// The batches one by one, through a spool as an upload takes.
fn spooled(serving: &Serving, spine: &Spine) -> SendableRecordBatchStream {
    let (mut writer, rows) = serving.spool(spine.schema.clone()).unwrap();
    let batches = spine.batches.clone();
    tokio::spawn(async move {
        for batch in batches {
            match writer.push(batch).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return writer.fail(error),
            }
        }
        writer.finish();
    });
    rows
}

async fn ask(
    serving: &Serving,
    spine: GivenSpine,
    request: HistoricalRequest,
) -> (SchemaRef, RecordBatch, HistoricalReport) {
    let stream = serving.historical_stream(Some(spine), request, &author()).await.unwrap();
    let batches: Vec<RecordBatch> = stream.rows.try_collect().await.unwrap();
    let report = stream.report.await.unwrap();
    (stream.schema.clone(), concat_batches(&stream.schema, &batches).unwrap(), report)
}

/// What a report says of the answer, and not of when it was given.
fn said(report: &HistoricalReport) -> serde_json::Value {
    let mut said = serde_json::to_value(report).unwrap();
    for of_the_asking in ["training_set", "seconds", "sequence"] {
        said.as_object_mut().unwrap().remove(of_the_asking);
    }
    said
}

async fn parts_are_the_whole(draw: Draw) -> Result<(), TestCaseError> {
    let serving = store().await;
    let spine = draw.spine();
    let request = HistoricalRequest::new(["acts.*"]);
    let (schema, whole, expected) = ask(&serving, spine.clone().into(), request.clone()).await;
    let little = Memory::new(LIMIT);
    let small = serving.clone().with_memory(little.clone());
    let rows = spooled(&small, &spine);
    let (found_schema, found, report) = ask(&small, GivenSpine::Streamed(rows), request.clone()).await;
    prop_assert_eq!(&found_schema, &schema);
    prop_assert!(found == whole, "the rows differ");
    prop_assert_eq!(said(&report), said(&expected));
    prop_assert_eq!(little.held(), 0, "all that was charged is given back");

    // Both are on record alike, and each is made again from what was kept of its spine.
    let mut manifests = Vec::new();
    for report in [&report, &expected] {
        let id = report.training_set.unwrap();
        let (replayed, _) = serving.replay(id, &author()).await.unwrap();
        prop_assert_eq!(&replayed.rebuilt, &report.digest);
        manifests.push(serving.manifest(id).await.unwrap());
    }
    prop_assert_eq!(&manifests[0].spine.digest, &manifests[1].spine.digest);
    prop_assert_eq!(manifests[0].spine.rows, manifests[1].spine.rows);
    prop_assert_eq!(&manifests[0].columns, &manifests[1].columns);
    prop_assert_eq!(&manifests[0].views, &manifests[1].views);
    prop_assert_eq!(&manifests[0].lineage, &manifests[1].lineage);

    // Kept by its content, it is the same again; a second time nothing is written.
    for (kept, repeated) in [(&small, false), (&serving, true)] {
        let given = match repeated {
            false => GivenSpine::Streamed(spooled(kept, &spine)),
            true => spine.clone().into(),
        };
        let kept = kept.ingest_spine(given, &author()).await.unwrap();
        prop_assert_eq!((&kept.spine, kept.repeated), (&manifests[0].spine.digest, repeated));
    }
    let mut by_digest = request;
    by_digest.spine = Some(manifests[0].spine.digest.clone());
    let stream = small.historical_stream(None, by_digest, &author()).await.unwrap();
    let again: Vec<RecordBatch> = stream.rows.try_collect().await.unwrap();
    prop_assert!(concat_batches(&schema, &again).unwrap() == whole, "the rows of the kept spine differ");
    prop_assert_eq!(said(&stream.report.await.unwrap()), said(&expected));
    prop_assert_eq!(little.held(), 0);
    Ok(())
}

#[test]
fn a_spine_in_parts_gives_what_it_gives_as_a_whole() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    cases::run("spine_in_parts", 8, &draw(), |draw| {
        let tried = runtime.block_on(parts_are_the_whole(draw.clone()));
        tried.map(|()| 1).map_err(|error| format!("{draw:?}: {error}"))
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spine_in_parts_says_so_and_its_first_rows_leave_before_its_last_have_come() {
    let serving = store().await.with_memory(Memory::new(LIMIT));
    let draw = Draw { seed: 1, rows: 30_000, carried: 1_000, batches: vec![1_000], by_time: true };
    let spine = draw.spine();
    let (mut writer, rows) = serving.spool(spine.schema.clone()).unwrap();
    let mut request = HistoricalRequest::new(["acts.amount"]);
    request.record = false;
    let (most, last) = spine.batches.split_at(28);
    for batch in most {
        assert!(writer.push(batch.clone()).await.unwrap());
    }
    let given = Some(GivenSpine::Streamed(rows));
    let mut stream = serving.historical_stream(given, request, &author()).await.unwrap();
    let first = stream.rows.try_next().await.unwrap().unwrap();
    assert!(first.num_rows() > 0);
    for batch in last {
        assert!(writer.push(batch.clone()).await.unwrap());
    }
    writer.finish();
    let rest: Vec<RecordBatch> = stream.rows.try_collect().await.unwrap();
    let all = first.num_rows() + rest.iter().map(RecordBatch::num_rows).sum::<usize>();
    assert_eq!((all, stream.report.await.unwrap().rows), (30_000, 30_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spine_that_fails_or_is_left_leaves_nothing_behind() {
    let little = Memory::new(LIMIT);
    let serving = store().await.with_memory(little.clone());
    let sets = async || serving.catalog().refresh().await.unwrap().training_sets().count();
    let draw = Draw { seed: 2, rows: 30_000, carried: 1_000, batches: vec![700], by_time: false };
    let spine = draw.spine();
    let request = HistoricalRequest::new(["acts.amount"]);

    // What befell the sender is told as it was.
    let failing = spine.batches.clone().into_iter().map(Ok).chain([Err(
        datafusion::common::DataFusionError::External(Box::new(serving::Error::new(
            Kind::Invalid,
            "a broken row",
        ))),
    )]);
    let rows = RecordBatchStreamAdapter::new(spine.schema.clone(), futures::stream::iter(failing));
    let given = Some(GivenSpine::Streamed(Box::pin(rows)));
    let stream = serving.historical_stream(given, request.clone(), &author()).await.unwrap();
    let error = stream.rows.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Invalid, "a broken row"));
    stream.report.await.unwrap_err();

    // A sender that is gone has not said that it was all.
    let (mut writer, rows) = serving.spool(spine.schema.clone()).unwrap();
    writer.push(spine.batches[0].clone()).await.unwrap();
    drop(writer);
    let given = Some(GivenSpine::Streamed(rows));
    let stream = serving.historical_stream(given, request.clone(), &author()).await.unwrap();
    let error = stream.rows.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.to_string().contains("ended before"), "{error}");

    // A reader that leaves ends it.
    let given = Some(GivenSpine::Streamed(spooled(&serving, &spine)));
    let mut stream = serving.historical_stream(given, request.clone(), &author()).await.unwrap();
    stream.rows.try_next().await.unwrap().unwrap();
    drop(stream);

    // More than the disk may take is refused, with the setting by which it may take more.
    let narrow = serving.clone().with_memory(little.clone().with_spill_limit(1 << 20));
    let (mut writer, rows) = narrow.spool(spine.schema.clone()).unwrap();
    let mut refused = None;
    for batch in &spine.batches {
        if let Err(error) = writer.push(batch.clone()).await {
            refused = Some(error);
            break;
        }
    }
    writer.fail(refused.expect("30 MiB do not fit into 9"));
    let given = Some(GivenSpine::Streamed(rows));
    let error = narrow.historical_stream(given, request, &author()).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted, "{error}");
    assert!(error.to_string().contains("--spill-limit"), "{error}");

    assert_eq!(sets().await, 0);
    given_back(&little).await;
}

/// Rows that hardly compress: two blocks of 65,536 and a part.
fn incompressible() -> Spine {
    const ROWS: usize = 140_000;
    const WORDS: u64 = 20;
    let word = |row: usize, word: u64| {
        (row as u64 * WORDS + word + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) >> 1
    };
    let rows = 0..ROWS;
    let note = |row| (0..WORDS).map(|at| format!("{:016x}", word(row, at))).collect::<String>();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("user_id", Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| row as i64 % (KEYS + 5))))),
        ("at", times(rows.clone().map(|row| Some(row as i64 * 200 * DAY / ROWS as i64)))),
        ("note", Arc::new(StringArray::from_iter_values(rows.map(note)))),
    ];
    let whole = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )
    .unwrap();
    Spine { schema: whole.schema(), batches: vec![whole] }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_set_beyond_memory_is_made_again() {
    let serving = store().await;
    let request = HistoricalRequest::new(["acts.*"]);
    let (schema, whole, report) = ask(&serving, incompressible().into(), request).await;
    let id = report.training_set.unwrap();
    let manifest = serving.manifest(id).await.unwrap();
    assert!(manifest.spine.object.bytes > LIMIT / 2, "{} bytes", manifest.spine.object.bytes);
    let little = Memory::new(LIMIT);
    let small = serving.clone().with_memory(little.clone());

    // As a proof alone, as rows, and as a folder of files.
    let proved = small.prove(id, &author()).await.unwrap();
    assert_eq!((proved.verdict, proved.rows, &proved.rebuilt), (Verdict::Equal, report.rows, &report.digest));
    let replay = small.replay_stream(id, "it ends here", &author()).await.unwrap();
    assert_eq!(replay.schema, schema);
    let rows: Vec<RecordBatch> = replay.rows.try_collect().await.unwrap();
    assert!(concat_batches(&schema, &rows).unwrap() == whole, "the rows differ");
    drop(rows);
    assert_eq!(replay.report.await.unwrap().report.verdict, Verdict::Equal);
    let folder = tempfile::tempdir().unwrap();
    let exported = small.export(id, &folder.path().into(), 60_000, &author(), |_, _| {}).await.unwrap();
    assert_eq!((exported.files, exported.digest), (3, report.digest.clone()));
    given_back(&little).await;

    // Stretch by stretch; cells are explained as elsewhere.
    let stretches = small.stretches(id).await.unwrap();
    let mut rows = Vec::new();
    for stretch in stretches.stretches {
        let (retrieval, report) = small.stretch(id, stretch, &author()).await.unwrap();
        assert_eq!(report.proved_by, "leaves");
        rows.extend(retrieval.stream.try_collect::<Vec<_>>().await.unwrap());
    }
    assert!(concat_batches(&schema, &rows).unwrap() == whole, "the rows of the stretches differ");
    drop(rows);
    for row in [0, 65_536, report.rows - 1] {
        let request = || ExplainRequest::new(id, row, "amount");
        let explained = small.explain(request(), &author()).await.unwrap();
        let elsewhere = serving.explain(request(), &author()).await.unwrap();
        assert_eq!(explained.value, elsewhere.value);
        assert_eq!(explained.key, elsewhere.key);
    }
    given_back(&little).await;

    // Whoever leaves has read what he was given, and proved nothing.
    small.flush(&author()).await.unwrap();
    let before = serving.catalog().refresh().await.unwrap().head.sequence;
    let mut replay = small.replay_stream(id, "it ends here", &author()).await.unwrap();
    let first = replay.rows.try_next().await.unwrap().unwrap();
    drop(replay);
    given_back(&little).await;
    for _ in 0..500 {
        if small.flush(&author()).await.unwrap() > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let after = serving.catalog().refresh().await.unwrap();
    let newer: Vec<_> = after.log().iter().filter(|line| line.by.sequence > before).collect();
    let names: Vec<&str> = newer.iter().flat_map(|line| line.records.iter().map(|(_, name)| *name)).collect();
    assert_eq!(names, ["reads_recorded"]);
    let read = format!(
        "SELECT count(*) FROM lineament.reads WHERE kind = 'training_set' AND statement = 'training_set: {id}' AND rows >= {}",
        first.num_rows()
    );
    assert_eq!(count(&serving, &read).await, 1);

    // Nor is there more on disk than it may take; the file of the others is none of its own.
    let narrow =
        Serving::new(serving.catalog().clone()).with_memory(little.clone().with_spill_limit(1 << 20));
    for error in [
        narrow.prove(id, &author()).await.unwrap_err(),
        narrow.explain(ExplainRequest::new(id, 0, "amount"), &author()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Exhausted, "{error}");
        assert!(error.to_string().contains("--spill-limit"), "{error}");
    }
    given_back(&little).await;
}

async fn given_back(memory: &Memory) {
    for _ in 0..500 {
        if memory.held() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{} bytes are still held", memory.held());
}
