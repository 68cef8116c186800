//! What a merged file is, and that merging says and does what it should.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use catalog::compaction::Eagerness;
use catalog::ingest::Claim;
use catalog::state::Run;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serving::{CompactRequest, Kind, Serving};
use storage::partition::{Layout, piece_of_rows, reproduces};

use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::suite::fixture::{self, DEFINITIONS};
use crate::suite::stores::{author, claimed, count, files, ingest, memory, rows};
use crate::suite::tables::table;

/// A store with so many batches of weather, every third of which corrects the one before, and one of them in a version of its own.
pub async fn weather(batches: usize) -> Serving {
    let clock = fixture::clock();
    let serving = memory(&clock).await;
    serving.apply(files(&DEFINITIONS[..2]), &author()).await.unwrap();
    for number in 0..batches {
        clock.advance("1h".parse().unwrap());
        let hour = if number % 3 == 2 { number - 1 } else { number };
        let text = format!(
            "origin string | time_hour timestamp  | temp float64 | visib float64 | sky string
             EWR           | 2013-01-01T{hour:02}:00:00Z | {number}.5    | 10            | clear
             JFK           | 2013-01-01T{hour:02}:00:00Z | null         | 9             | rain"
        );
        let request = rows("weather", vec![table(&text)]);
        let claim = if number % 3 == 2 { Claim::Correction } else { Claim::BackFill };
        ingest(&serving, claimed(request, claim)).await.unwrap();
    }
    serving
}

pub fn everything() -> CompactRequest {
    CompactRequest { eagerness: Eagerness::Everything, ..CompactRequest::all(None) }
}

async fn stored(serving: &Serving, path: &str) -> RecordBatch {
    let bytes =
        serving.catalog().store().objects().get(&Path::from(path)).await.unwrap().bytes().await.unwrap();
    ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap().next().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merged_file_has_every_row_and_says_whose_it_is() {
    let serving = weather(9).await;
    let found = serving.compaction_candidates(&CompactRequest::all(None)).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].batches, found[0].files, found[0].rows), (9, 9, 18));
    let before = serving.catalog().refresh().await.unwrap().head.sequence;
    let done = serving.compact(&CompactRequest::all(None), &author()).await.unwrap();
    assert_eq!((done.len(), done[0].files, done[0].sequence), (1, 1, Some(before.next())));

    let state = serving.catalog().refresh().await.unwrap();
    let version = state.view("default", "weather", None, state.head.sequence).unwrap().clone();
    let [visible] =
        serving.catalog().files(&state, &version, state.head.sequence).await.unwrap().try_into().unwrap();
    let rows = stored(&serving, &visible.file.path).await;
    let names: Vec<_> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["origin", "valid_at", "known_at", "temp", "visib", "sky", "_batch"]);
    assert_eq!(rows.column_by_name("_batch").unwrap().data_type(), &DataType::FixedSizeBinary(16));
    // Corrections are known by their arrival, and say no time.
    assert_eq!(rows.column_by_name("known_at").unwrap().null_count(), 6);
    let origins = rows.column(0).as_string::<i32>();
    assert!((0..9).all(|row| origins.value(row) == "EWR") && (9..18).all(|row| origins.value(row) == "JFK"));
    // Each batch's rows, taken out of it, are what was written first.
    assert_eq!(visible.file.pieces.len(), 9);
    for (number, piece) in visible.file.pieces.iter().enumerate() {
        let of = piece_of_rows(&rows, 1, &visible.file.pieces, "").unwrap();
        let mask = of.iter().map(|place| Some(*place as usize == number)).collect();
        let mut part = arrow::compute::filter_record_batch(&rows, &mask).unwrap();
        assert!(reproduces(&part, 1, piece, "").unwrap());
        part = part.slice(0, 1);
        assert!(!reproduces(&part, 1, piece, "").unwrap());
    }
    // An earlier snapshot reads the same file, and not all of its rows.
    let early = serving.catalog().files(&state, &version, feature::Sequence(before.0 - 4)).await.unwrap();
    assert_eq!((early.len(), early[0].batches().len()), (1, 5));
    assert_eq!(count(&serving, "SELECT count(*) FROM history('weather')").await, 18);
    assert_eq!(count(&serving, "SELECT count(*) FROM weather").await, 12);

    // Nothing is left to do, and nothing is written for it.
    assert!(serving.compact(&everything(), &author()).await.unwrap().is_empty());
    let checked = serving.check_compactions(Some("weather")).await.unwrap();
    assert_eq!((checked[0].0.as_str(), checked[0].1.pieces, checked[0].1.rows), ("weather@1", 9, 18));
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_wait_for_eight_and_one_view_can_be_named() {
    let serving = weather(7).await;
    let head = serving.catalog().refresh().await.unwrap().head.sequence;
    assert!(serving.compact(&CompactRequest::levels(), &author()).await.unwrap().is_empty());
    assert_eq!(serving.catalog().refresh().await.unwrap().head.sequence, head);
    assert_eq!(
        serving.compaction_candidates(&CompactRequest::all(Some("weather".into()))).await.unwrap().len(),
        1
    );
    let error = serving.compact(&CompactRequest::all(Some("wether".into())), &author()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("wether"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_with_other_features_stay_apart() {
    let serving = weather(3).await;
    let (name, text) = DEFINITIONS[1];
    let next = format!("{text}\n[[features]]\nname = \"wind\"\ntype = \"float64\"\n");
    serving.apply(files(&[DEFINITIONS[0], (name, &next)]), &author()).await.unwrap();
    for hour in [10, 11] {
        let text = format!(
            "origin string | time_hour timestamp  | temp float64 | visib float64 | sky string | wind float64
             EWR           | 2013-01-01T{hour}:00:00Z | 1.5          | 10            | clear      | null"
        );
        let request = claimed(rows("weather", vec![table(&text)]), Claim::BackFill);
        ingest(&serving, request).await.unwrap();
    }
    let done = serving.compact(&everything(), &author()).await.unwrap();
    assert_eq!(done.iter().map(|merge| merge.of.batches).collect::<Vec<_>>(), [3, 2]);
    let state = serving.catalog().state();
    let version = state.view("default", "weather", None, state.head.sequence).unwrap();
    let runs = state.runs_of_line(version.line);
    assert!(runs.iter().all(|run| matches!(run, Run::Compacted(..))) && runs.len() == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_named_and_stays() {
    let serving = weather(4).await;
    let state = serving.catalog().refresh().await.unwrap();
    let version = state.view("default", "weather", None, state.head.sequence).unwrap().clone();
    let files = serving.catalog().files(&state, &version, state.head.sequence).await.unwrap();
    let path = Path::from(files[2].file.path.as_str());
    let objects = serving.catalog().store().objects();
    let mut bytes = objects.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    objects.put(&path, bytes.into()).await.unwrap();
    let error = serving.compact(&everything(), &author()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged, "{error}");
    assert!(error.to_string().contains(path.as_ref()), "{error}");
    assert_eq!(serving.catalog().refresh().await.unwrap().head.sequence, state.head.sequence);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_are_cut_as_large_batches_are() {
    let serving = weather(12).await;
    let layout = Layout { target_rows: 4, ..Layout::default() };
    let done = serving.compact(&CompactRequest { layout, ..everything() }, &author()).await.unwrap();
    assert!(done[0].sequence.is_some());
    assert!(done[0].files > 1, "{done:?}");
    assert_eq!(count(&serving, "SELECT count(*) FROM history('weather')").await, 24);
    serving.check_compactions(None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_merged_again_with_what_came_after_it() {
    let serving = weather(3).await;
    serving.compact(&everything(), &author()).await.unwrap();
    for hour in [10, 11] {
        let text = format!(
            "origin string | time_hour timestamp  | temp float64 | visib float64 | sky string
             EWR           | 2013-01-01T{hour}:00:00Z | 1.5          | 10            | clear"
        );
        ingest(&serving, claimed(rows("weather", vec![table(&text)]), Claim::BackFill)).await.unwrap();
    }
    let done = serving.compact(&everything(), &author()).await.unwrap();
    assert_eq!((done.len(), done[0].of.runs, done[0].of.batches), (1, 3, 5));
    let state = serving.catalog().state();
    let compactions: Vec<_> = state.compactions().map(|one| &one.record).collect();
    assert_eq!(compactions[1].replaces, [compactions[0].compaction]);
    assert_eq!(count(&serving, "SELECT count(*) FROM history('weather')").await, 8);
    assert_eq!(serving.check_compactions(None).await.unwrap()[0].1.pieces, 5);
}
