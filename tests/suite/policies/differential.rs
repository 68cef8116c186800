//! What is kept from an asker is as if it were not there: random queries on a governed store give what they give of a store that has
//! only what the asker may see, errors and all.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use proptest::prelude::*;
use serving::Serving;

use super::{govern, with_role};
use crate::suite::cases;
use crate::suite::column_lineage::generator::{Generator, Query};
use crate::suite::column_lineage::store;

/// Of 10,000 that are asked for (`LINEAMENT_CASES`), so many are tried by themselves.
const USUAL: usize = 400;

const POLICIES: &str = "
@rows(\"origin <> 'LGA' AND origin IN ('JFK', 'LGA')\")
permit(principal in Role::\"guest\", action == Action::\"read\", resource)
when { resource is View && resource.entity == \"airport\" };
@rows(\"tailnum <> 'N2'\")
permit(principal in Role::\"guest\", action == Action::\"read\", resource)
when { resource is View && resource.entity == \"plane\" };
permit(principal in Role::\"guest\", action == Action::\"read\", resource is Feature);
@mask(\"null\") permit(principal in Role::\"guest\", action == Action::\"read\", resource == Feature::\"default.weather.visib\");
@mask(\"round:10\") permit(principal in Role::\"guest\", action == Action::\"read\", resource)
when { resource is Feature && [\"temp\", \"delay\"].contains(resource.name) };
";

/// A table as the guest sees it.
fn seen(view: &str, rows: RecordBatch) -> RecordBatch {
    let key = rows.column(0).as_string::<i32>();
    let kept: BooleanArray = key
        .iter()
        .map(|key| Some(if view == "planes" { key != Some("N2") } else { key == Some("JFK") }))
        .collect();
    let rows = filter_record_batch(&rows, &kept).unwrap();
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| -> ArrayRef {
        match field.name().as_str() {
            "visib" => new_null_array(column.data_type(), column.len()),
            "temp" | "delay" => Arc::new(
                column
                    .as_primitive::<Int64Type>()
                    .iter()
                    .map(|value| value.map(|value| (value.abs() + 5) / 10 * 10 * value.signum()))
                    .collect::<Int64Array>(),
            ),
            _ => column.clone(),
        }
    });
    let columns = columns.collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

/// The rows as texts; in the order of the texts where none was asked for. Of an error its words.
async fn answer(serving: &Serving, query: &Query) -> Result<Vec<String>, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let read = serving::Query::sql(query.text.clone());
    let rows = serving.retrieve(read, &with_role("guest")).await.map_err(|error| told(&error))?;
    let batches: Vec<RecordBatch> = rows.stream.try_collect().await.map_err(|error| told(&error))?;
    let options = FormatOptions::default().with_null("null");
    let mut all = Vec::new();
    for batch in &batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            all.push(cells.join(" | "));
        }
    }
    if !query.ordered {
        all.sort();
    }
    Ok(all)
}

#[test]
fn a_governed_store_answers_as_one_that_has_no_more() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().thread_stack_size(64 << 20).enable_all().build().unwrap();
    let (governed, plain) = runtime.block_on(async {
        let governed = store::with(|_, rows| rows).await;
        govern(&governed, POLICIES).await;
        (governed, store::with(seen).await)
    });
    let (mut answers, mut rows, mut wrong) = (0, 0, Vec::new());
    cases::run("policies", USUAL, &any::<u64>(), |seed| {
        let query = Generator::new(*seed).query();
        let (one, other) =
            runtime.block_on(async { (answer(&governed, &query).await, answer(&plain, &query).await) });
        match (&one, &other) {
            (Ok(one), Ok(other)) => {
                answers += 1;
                rows += other.len();
                if one != other {
                    wrong.push(format!("{}\n  governed {one:?}\n  plain    {other:?}", query.text));
                }
            }
            // What DataFusion cannot plan it cannot plan of either.
            (Err(_), Err(_)) => {}
            _ => wrong.push(format!("{}\n  governed {one:?}\n  plain    {other:?}", query.text)),
        }
        if wrong.len() > 3 { Err(wrong.join("\n")) } else { Ok(1) }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(answers > USUAL * 3 / 4 && rows > USUAL, "{answers} answers of {rows} rows tell nothing");
    // And not because both show all.
    let ask = |text: &str| Query { text: text.to_owned(), ordered: true };
    let count = ask("SELECT count(*), count(visib), max(temp) FROM weather");
    assert_eq!(runtime.block_on(answer(&governed, &count)).unwrap(), ["3 | 0 | 40"]);
}
