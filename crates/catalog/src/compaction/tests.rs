//! A merge that loses, moves or alters a row is found before it counts.

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, RecordBatch, StringArray, UInt32Array,
};
use arrow::array::{AsArray, TimestampMicrosecondArray};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::{Float64Type, Schema};
use feature::Timestamp;
use feature::definition::parse_files;
use storage::environment::TestClock;
use storage::partition::Merged;
use storage::{Clock, Store};

use super::*;
use crate::conditions::{Condition, Conditions};
use crate::ingest::{Claim, Input, Request, Rows, ingest};
use crate::plan::{Consent, apply};

/// No definition here has one.
struct None;

impl Conditions for None {
    fn compile(&self, sql: &str, _: &Schema) -> Result<Arc<dyn Condition>, String> {
        Err(sql.to_owned())
    }
}

const ENTITY: &str = "kind = \"entity\"\nname = \"thing\"\n[[keys]]\nname = \"k\"\ntype = \"string\"\n";
const VIEW: &str = "kind = \"feature_view\"\nname = \"v\"\nentity = \"thing\"\n[time]\nvalid_at = \"ts\"\n\
                    known_at = { delay = \"1s\" }\n[[features]]\nname = \"x\"\ntype = \"float64\"\n";

/// Three batches of three rows: a back-fill, a correction with a retraction, a back-fill.
async fn three_batches() -> Catalog {
    let clock = TestClock::new(Timestamp(1_700_000_000_000_000));
    let store = Store::open("memory://", Clock::from(clock.clone())).unwrap();
    let author = Author::default();
    let catalog = Catalog::create(store, &author).await.unwrap();
    let files = [("thing.toml", ENTITY), ("v.toml", VIEW)];
    let definitions =
        parse_files(files.map(|(name, text)| (name.to_owned(), text.to_owned())).into()).unwrap();
    apply(&catalog, &definitions, &None, &Consent::default(), &author).await.unwrap();
    for number in 0..3i64 {
        clock.advance("1h".parse().unwrap());
        let times = [1_000_000, 2_000_000, 1_000_000].map(|time| time + number % 2);
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("k", Arc::new(StringArray::from(vec!["a", "a", "b"]))),
            ("ts", Arc::new(TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC"))),
            ("x", Arc::new(Float64Array::from(vec![number as f64, 1.5, 2.5]))),
        ];
        if number == 1 {
            columns.push(("_retracted", Arc::new(BooleanArray::from(vec![false, true, false]))));
        }
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let mut request =
            Request::new("v", Input::Rows(Rows::from_batches("rows", rows.schema(), vec![rows])));
        request.claim = Some(if number == 1 { Claim::Correction } else { Claim::BackFill });
        ingest(&catalog, request, Arc::new(None), &author, Arc::new(|_| ())).await.unwrap();
    }
    catalog
}

async fn planted(catalog: &Catalog, plant: &(dyn Fn(&mut Merged) + Sync)) -> Result<Vec<DataFile>> {
    let state = catalog.refresh().await.unwrap();
    let version = state.view("default", "v", Option::None, state.head.sequence).unwrap();
    let inputs = merging::inputs(catalog, &state, version, &state.runs_of_line(version.line)).await.unwrap();
    merging::write(catalog, version, &inputs, &Layout::default(), plant).await
}

/// The rows with another column in place of one.
fn with(rows: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let mut columns = rows.columns().to_vec();
    columns[rows.schema().index_of(name).unwrap()] = column;
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_planted_fault_is_found() {
    let catalog = three_batches().await;
    let whole = planted(&catalog, &|_| ()).await.unwrap();
    assert_eq!((whole.len(), whole[0].rows, whole[0].pieces.len()), (1, 9, 3));

    let batch_of_another: &(dyn Fn(&mut Merged) + Sync) = &|merged| {
        let ids = merged.rows.column_by_name("_batch").unwrap().as_fixed_size_binary();
        let mut values: Vec<Vec<u8>> = ids.iter().map(|id| id.unwrap().to_vec()).collect();
        values[0] = values[4].clone();
        let ids = FixedSizeBinaryArray::try_from_iter(values.into_iter()).unwrap();
        merged.rows = with(&merged.rows, "_batch", Arc::new(ids));
    };
    let batches_exchanged: &(dyn Fn(&mut Merged) + Sync) = &|merged| {
        let ids = merged.rows.column_by_name("_batch").unwrap().as_fixed_size_binary();
        let mut values: Vec<Vec<u8>> = ids.iter().map(|id| id.unwrap().to_vec()).collect();
        values.swap(0, 6);
        let ids = FixedSizeBinaryArray::try_from_iter(values.into_iter()).unwrap();
        merged.rows = with(&merged.rows, "_batch", Arc::new(ids));
    };
    let row_lost: &(dyn Fn(&mut Merged) + Sync) = &|merged| {
        let kept: BooleanArray = (0..merged.rows.num_rows()).map(|row| Some(row != 5)).collect();
        merged.rows = filter_record_batch(&merged.rows, &kept).unwrap();
        let known = merged.known.values().iter().enumerate().filter(|(row, _)| *row != 5);
        merged.known =
            TimestampMicrosecondArray::from_iter_values(known.map(|(_, time)| *time)).with_timezone("UTC");
    };
    let row_doubled: &(dyn Fn(&mut Merged) + Sync) = &|merged| {
        let rows = UInt32Array::from(vec![0, 1, 2, 3, 4, 5, 6, 7, 7]);
        merged.rows = take_record_batch(&merged.rows, &rows).unwrap();
    };
    let value_altered: &(dyn Fn(&mut Merged) + Sync) = &|merged| {
        let values = merged.rows.column_by_name("x").unwrap().as_primitive::<Float64Type>();
        let altered = values.iter().enumerate().map(|(row, value)| if row == 8 { Some(-0.0) } else { value });
        let altered: Float64Array = altered.collect();
        merged.rows = with(&merged.rows, "x", Arc::new(altered));
    };
    let retraction_forgotten: &(dyn Fn(&mut Merged) + Sync) = &|merged| {
        let none = BooleanArray::from(vec![false; merged.rows.num_rows()]);
        merged.rows = with(&merged.rows, "_retracted", Arc::new(none));
    };
    let arrival_written_down: &(dyn Fn(&mut Merged) + Sync) = &|merged| {
        merged.rows = with(&merged.rows, "known_at", Arc::new(merged.known.clone()));
    };
    for (name, plant) in [
        ("the batch of a row is that of another", batch_of_another),
        ("the batches of two rows are exchanged", batches_exchanged),
        ("a row is lost", row_lost),
        ("a row is there twice, and another is not", row_doubled),
        ("a value is altered", value_altered),
        ("a retraction is forgotten", retraction_forgotten),
        ("the arrival of a batch stands as a time of its own", arrival_written_down),
    ] {
        let error = planted(&catalog, plant).await.map(|files| files.len());
        assert!(matches!(&error, Err(Error::Storage(_))), "{name}: {error:?}");
    }
    // None of it was committed.
    assert_eq!(catalog.refresh().await.unwrap().compactions().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_in_several_files_are_proved_too() {
    let catalog = three_batches().await;
    let state = catalog.refresh().await.unwrap();
    let version = state.view("default", "v", Option::None, state.head.sequence).unwrap();
    let layout = Layout { target_rows: 1, ..Layout::default() };
    let found = candidates(&catalog, &state, version, Eagerness::Everything, &layout).await.unwrap();
    let merged = merge(&catalog, &Author::default(), &state, &found[0], &layout).await.unwrap();
    assert!(merged.sequence.is_some() && merged.files > 1, "{merged:?}");
    let state = catalog.refresh().await.unwrap();
    let compaction = state.compactions().next().unwrap().clone();
    let checked = check(&catalog, &state, &compaction).await.unwrap();
    assert_eq!((checked.pieces, checked.rows, checked.files), (3, 9, merged.files));

    let inputs = merging::inputs(&catalog, &state, version, &state.runs_of_line(version.line)).await.unwrap();
    let lost = merging::write(&catalog, version, &inputs, &layout, &|merged| {
        let ids = merged.rows.column_by_name("_batch").unwrap().as_fixed_size_binary();
        let first = ids.value(0).to_vec();
        let ids =
            FixedSizeBinaryArray::try_from_iter(std::iter::repeat_n(first, merged.rows.num_rows())).unwrap();
        merged.rows = with(&merged.rows, "_batch", Arc::new(ids));
    });
    assert!(lost.await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fold_refuses_what_cannot_be() {
    let catalog = three_batches().await;
    let state = catalog.refresh().await.unwrap();
    let version = state.view("default", "v", Option::None, state.head.sequence).unwrap();
    let layout = Layout::default();
    let found = candidates(&catalog, &state, version, Eagerness::All, &layout).await.unwrap();
    merge(&catalog, &Author::default(), &state, &found[0], &layout).await.unwrap();
    let state = catalog.refresh().await.unwrap();
    let good = Compacted {
        compaction: environment::mint(),
        after: state.last_compaction(version.view),
        replaces: state.compactions().map(|one| one.record.compaction).collect(),
        ..state.compactions().next().unwrap().record.clone()
    };
    let refused = async |record: Compacted, part: &str| {
        let committed = catalog
            .commit::<()>(&Author::default(), Option::None, |_| {
                Ok(Intent::Append(vec![record.clone().into()]))
            })
            .await;
        let error = committed.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(Compacted { after: Option::None, ..good.clone() }, "last compaction is that of").await;
    refused(Compacted { replaces: Vec::new(), ..good.clone() }, "does not name").await;
    let half =
        Compacted { batches: 2, last: state.batches_of_line(version.line)[1].record.batch, ..good.clone() };
    refused(half, "some batches of an earlier compaction and not all").await;
    refused(Compacted { place: 1, batches: 2, ..good.clone() }, "do not stand where it says").await;
    refused(Compacted { place: 2, batches: 2, ..good.clone() }, "the line has 3 batches").await;
    refused(Compacted { batches: 0, ..good.clone() }, "the line has 3 batches").await;
    let again = state.compactions().next().unwrap().record.compaction;
    refused(Compacted { compaction: again, ..good.clone() }, "is there already").await;
    let committed = catalog
        .commit::<()>(&Author::default(), Option::None, |_| Ok(Intent::Append(vec![good.clone().into()])))
        .await;
    assert!(matches!(committed, Ok(Outcome::Committed(_))));
}
