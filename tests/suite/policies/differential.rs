//! What is kept from an asker is as if it were not there: random queries on a governed store give what they give of a store that has
//! only what the asker may see, and fail where they fail there. Their plans tell no more, with the counts of a run or without.

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

/// Queries that are tried by themselves; 10,000 with `LINEAMENT_CASES=50000`.
const USUAL: usize = 400;

/// One in so many is explained too.
const EXPLAINED: u64 = 8;

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

/// What a plan tells once it ran: its nodes, and whole numbers that are of rows, files and pages. Times and bytes are of the machine.
fn numbers_of(plan: &[String]) -> Vec<String> {
    let of_the_machine = |name: &str| {
        ["time", "elapsed", "bytes", "spill", "memory", "batches"].iter().any(|word| name.contains(word))
    };
    let mut told = Vec::new();
    // Which task gets a batch is chance, and so is how many rows each keeps of what it got.
    let by_chance = |node: &str| {
        ["mode=Partial", "RepartitionExec", "LocalLimitExec", "fetch="].iter().any(|part| node.contains(part))
    };
    for line in plan.iter().flat_map(|row| row.lines()) {
        let (node, metrics) = line.split_once("metrics=[").unwrap_or((line, ""));
        let metrics = if by_chance(node) { "" } else { metrics };
        let metrics = metrics.trim_end_matches([']', ' ', '|']).split(", ");
        let counted: Vec<&str> = metrics
            .filter(|metric| metric.split_once('=').is_some_and(|(name, _)| !of_the_machine(name)))
            .collect();
        told.push(format!("{} {}", node.trim_end(), counted.join(", ")));
    }
    told
}

#[test]
fn a_governed_store_answers_as_one_that_has_no_more() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().thread_stack_size(64 << 20).enable_all().build().unwrap();
    // The third has nothing to hide and hides it all the same.
    let (governed, plain, emptied) = runtime.block_on(async {
        let governed = store::with(|_, rows| rows).await;
        govern(&governed, POLICIES).await;
        let emptied = store::with(seen).await;
        govern(&emptied, POLICIES).await;
        (governed, store::with(seen).await, emptied)
    });
    let (mut answers, mut rows, mut plans, mut wrong) = (0, 0, 0, Vec::new());
    cases::run("policies", USUAL, &any::<u64>(), |seed| {
        let query = Generator::wide(*seed).query();
        if seed % EXPLAINED == 0 {
            for verb in ["EXPLAIN", "EXPLAIN ANALYZE"] {
                let asked = Query { text: format!("{verb} {}", query.text), ordered: true };
                let told = |answer: &Result<Vec<String>, String>| {
                    answer.as_ref().map(|plan| numbers_of(plan)).map_err(|_| ())
                };
                let ask = || {
                    runtime
                        .block_on(async { (answer(&governed, &asked).await, answer(&emptied, &asked).await) })
                };
                // A side that turns out not to be needed may have been read by then or not. What tells more tells it each time.
                let (mut one, mut other) = ask();
                for _ in 0..8 {
                    if told(&one) == told(&other) {
                        break;
                    }
                    (one, other) = ask();
                }
                plans += u64::from(one.is_ok());
                if told(&one) != told(&other) {
                    wrong.push(format!(
                        "{}\n  governed {:#?}\n  emptied {:#?}",
                        asked.text,
                        told(&one),
                        told(&other)
                    ));
                }
            }
        }
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
    println!("{answers} answers of {rows} rows and {plans} plans are the same");
    assert!(answers > USUAL * 3 / 4 && rows > USUAL / 2, "{answers} answers of {rows} rows tell nothing");
    assert!(plans > USUAL as u64 / EXPLAINED, "{plans} plans tell nothing");
    // And not because both show all.
    let ask = |text: &str| Query { text: text.to_owned(), ordered: true };
    let count = ask("SELECT count(*), count(visib), max(temp) FROM weather");
    assert_eq!(runtime.block_on(answer(&governed, &count)).unwrap(), ["3 | 0 | 40"]);
}
