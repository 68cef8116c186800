//! Rejected rows that are mended: each is open in one place, whatever becomes of the batch that has it, and is no measure for others.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use catalog::ingest::{Claim, Input, Report, Request, Rows};
use feature::BatchId;
use serving::{RollbackRequest, Serving};
use storage::environment::TestClock;

use super::stores::{author, count, files, ingest, instant, memory, rows};
use super::tables::table;

const ENTITY: &str =
    "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n";
const VIEW: &str = "kind = \"feature_view\"\nname = \"weather\"\nentity = \"airport\"\n\
    [time]\nvalid_at = \"hour\"\nknown_at = \"assumed\"\n\
    [[features]]\nname = \"temp\"\ntype = \"float64\"\nrange = [-40, 130]\n";
const OPEN: &str = "SELECT count(*) FROM (SELECT DISTINCT batch, origin, \"row\" FROM lineament.rejected_rows \
    WHERE mended_by IS NULL) AS open";

async fn store(more: &str) -> Serving {
    let serving = memory(&TestClock::new(instant("2024-02-01T00:00:00Z"))).await;
    let view = format!("{VIEW}{more}");
    serving.apply(files(&[("airport.toml", ENTITY), ("weather.toml", &view)]), &author()).await.unwrap();
    serving
}

/// A day of temperatures, of which two are none.
fn day(day: u32) -> RecordBatch {
    let mut text = "origin string | hour timestamp | temp float64\n".to_owned();
    for hour in 0..24 {
        let temp = if hour < 2 { 451 } else { 50 + hour };
        text.push_str(&format!("JFK | 2024-01-{day:02}T{hour:02}:00:00Z | {temp}\n"));
    }
    table(&text)
}

/// Rejected rows as they are written out, with other temperatures.
async fn mended(serving: &Serving, batch: BatchId, temps: &[&str]) -> serving::Result<Report> {
    let rejected = serving.rejected_rows(batch, &author()).await.unwrap().rows;
    let mut columns: Vec<ArrayRef> = rejected.columns().to_vec();
    let place = rejected.schema().index_of("temp").unwrap();
    columns[place] = Arc::new(StringArray::from(temps.to_vec()));
    let rows = RecordBatch::try_new(rejected.schema(), columns).unwrap();
    let input = Input::Rows(Rows::from_batches("mended", rows.schema(), vec![rows]));
    serving.mend(batch, input, Some(Claim::BackFill), &author(), Arc::new(|_| ())).await
}

async fn left(serving: &Serving, batch: BatchId) -> usize {
    serving.rejected_rows(batch, &author()).await.unwrap().rows.num_rows()
}

async fn roll_back(serving: &Serving, batch: BatchId, undo: bool) {
    let reason = Some("mended wrongly".to_owned());
    let request = RollbackRequest { node: batch.to_string(), undo, derived: false, reason };
    serving.rollback(&request, &author()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_withdrawn_batch_mended_is_open_again() {
    let serving = store("").await;
    let first = ingest(&serving, rows("weather", vec![day(1)])).await.unwrap().batch.unwrap();
    let second = mended(&serving, first, &["45.1", "45.2"]).await.unwrap().batch.unwrap();
    assert_eq!((left(&serving, first).await, count(&serving, OPEN).await), (0, 0));
    let before = serving.catalog().state().head.sequence.0;
    roll_back(&serving, second, false).await;
    assert_eq!((left(&serving, first).await, count(&serving, OPEN).await), (2, 2));
    // As it was, before that.
    let then = format!(
        "SELECT count(*) FROM at_sequence('lineament.rejected_rows', {before}) WHERE mended_by IS NULL"
    );
    assert_eq!(count(&serving, &then).await, 0);
    assert_eq!(mended(&serving, first, &["45.1", "45.2"]).await.unwrap().mended, 2);
    assert_eq!(left(&serving, first).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rejected_again_is_open_once() {
    let serving = store("").await;
    let first = ingest(&serving, rows("weather", vec![day(1)])).await.unwrap().batch.unwrap();
    let report = mended(&serving, first, &["45.1", "cold"]).await.unwrap();
    assert_eq!((report.rows, report.rejected, report.mended), (1, 1, 1));
    let second = report.batch.unwrap();
    assert_eq!((left(&serving, first).await, left(&serving, second).await), (0, 1));
    assert_eq!(count(&serving, OPEN).await, 1);
    let rows = serving.rejected_rows(second, &author()).await.unwrap().rows;
    let schema = rows.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names[..3], ["rejected_origin", "rejected_row", "rejected_for"]);
    assert_eq!(names.len(), 6, "{names:?}");
    // What was accepted is open again where it was rejected first; what was rejected again stays where it is.
    roll_back(&serving, second, false).await;
    assert_eq!((left(&serving, first).await, left(&serving, second).await), (1, 1));
    roll_back(&serving, second, true).await;
    // Refused whole, it is open in what was refused.
    let refused = mended(&serving, second, &["cold"]).await.unwrap_err();
    assert!(refused.to_string().contains("1 of 1 rows were rejected"), "{refused}");
    assert_eq!((left(&serving, second).await, count(&serving, OPEN).await), (0, 1));
    let third = serving.catalog().state().refused().last().unwrap().record.batch;
    assert_eq!(mended(&serving, third, &["32"]).await.unwrap().mended, 1);
    assert_eq!(count(&serving, OPEN).await, 0);
    assert_eq!(count(&serving, "SELECT count(*) FROM weather").await, 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mend_is_not_judged_by_what_a_whole_batch_is_and_is_no_baseline() {
    let checks = "[quality]\non_fail = \"quarantine\"\nleast_rows = 1\nbaseline = { batches = 1 }\n[quality.checks]\n\
        volume = { fail = 2 }\nschema = { fail = 0 }\nwasserstein = {}\nnull_rate = {}\n\
        psi = {}\nout_of_range = {}\nspread = {}\nseasonal_mean = {}\nseasonal_rows = {}\n";
    let serving = store(checks).await;
    let first = ingest(&serving, rows("weather", vec![day(1)])).await.unwrap().batch.unwrap();
    let report = mended(&serving, first, &["45.1", "45.2"]).await.unwrap();
    assert!(!report.quarantined, "{:?}", report.judged);
    let next = ingest(&serving, rows("weather", vec![day(2)])).await.unwrap();
    assert!(!next.quarantined, "{:?}", next.judged);
    assert_eq!(next.judged.unwrap().baseline_rows, 22);
}

fn write(folder: &Path, text: &str) -> std::path::PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join("hours.csv");
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_rows_of_files_of_one_name_are_told_apart() {
    let serving = store("").await;
    let root = tempfile::tempdir().unwrap();
    let text = |origin: &str| format!("origin,hour,temp\n{origin},2024-01-01T08:00:00Z,451\n");
    let paths =
        vec![write(&root.path().join("a"), &text("JFK")), write(&root.path().join("b"), &text("LGA"))];
    let good = root.path().join("good.csv");
    std::fs::write(&good, "origin,hour,temp\nEWR,2024-01-01T08:00:00Z,30\n").unwrap();
    let paths = [paths, vec![good]].concat();
    let request = Request::new("weather", Input::Files { paths, format: None });
    let batch = ingest(&serving, request).await.unwrap().batch.unwrap();
    let names = "SELECT count(*) FROM lineament.rejected_rows WHERE origin IN ('a/hours.csv', 'b/hours.csv')";
    assert_eq!((left(&serving, batch).await, count(&serving, names).await), (2, 2));
    assert_eq!(mended(&serving, batch, &["31", "32"]).await.unwrap().mended, 2);
    assert_eq!(count(&serving, "SELECT count(*) FROM weather").await, 3);
}
