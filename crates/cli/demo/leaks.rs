//! How many training rows would have used a value that nobody could have known yet.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use catalog::Author;
use serving::{Error, HistoricalRequest, Kind, Query, Result, Serving, Spine, TrainingSet};

use crate::table::{aligned, grouped};

/// A view, its key, the feature whose leak is measured, and the name it has in the training set.
const FEATURES: [(&str, &str, &str, &str); 4] = [
    ("weather", "origin", "temp", "temp"),
    ("departures", "origin", "dep_delay", "dep_delay"),
    ("leg", "tailnum", "delay", "delay"),
    ("plane", "tailnum", "seats", "seats"),
];

/// Prints the count a view, and gives the training set that leaks: our own rule without its limit on known_at.
pub async fn show(
    serving: &Serving,
    spine: &Spine,
    honest: &TrainingSet,
    author: &Author,
) -> Result<TrainingSet> {
    let mut request = HistoricalRequest::new(["delay"]);
    request.ignore_known_at = true;
    request.record = false;
    let leaky = serving.historical(spine.clone(), request, author).await?;

    println!(
        "  Most tools join on event time alone. The same rule without its limit on `known_at` would have used,"
    );
    println!(
        "  in this many of the {} rows, a value that nobody could have known yet:\n",
        grouped(honest.report.rows)
    );
    let session = serving.session(author).await?;
    session.register("spine", spine.schema.clone(), spine.batches.clone())?;
    session.register("honest", honest.schema.clone(), honest.batches.clone())?;
    let head = ["feature view", "rows that leak", "feature", "mean leaked", "mean really known"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for (view, key, feature, output) in FEATURES {
        let ttl = session.snapshot().version("default", view, None)?.definition.ttl;
        let since = match ttl {
            Some(ttl) => format!("AND h.valid_at >= s.at - INTERVAL '{} seconds'", ttl.micros() / 1_000_000),
            None => String::new(),
        };
        let sql = format!(
            "SELECT count(*), avg(CAST(h.{feature} AS DOUBLE)), avg(CAST(t.{output} AS DOUBLE)) \
             FROM session.spine s \
             ASOF JOIN history('{view}') h MATCH_CONDITION (s.at >= h.valid_at) ON s.{key} = h.{key} \
             JOIN session.honest t ON t.flight_id = s.flight_id \
             WHERE h.known_at > s.at {since}"
        );
        let batches = serving.retrieve_in(&session, Query::sql(sql), author).await?.collect().await?;
        let (rows, leaked, known) = counted(&batches)?;
        let mean = |mean: Option<f64>| mean.map_or_else(|| "–".to_owned(), |mean| format!("{mean:.2}"));
        lines.push(vec![view.to_owned(), grouped(rows), feature.to_owned(), mean(leaked), mean(known)]);
    }
    for line in aligned(&lines, &[false, true, false, true, true]).lines() {
        println!("  {line}");
    }
    Ok(leaky)
}

fn counted(batches: &[RecordBatch]) -> Result<(u64, Option<f64>, Option<f64>)> {
    let wrong = || Error::new(Kind::Internal, "the count of leaks has another shape");
    let row = batches.iter().find(|batch| batch.num_rows() == 1).ok_or_else(wrong)?;
    let count = arrow::compute::cast(row.column(0), &DataType::Int64).map_err(|_| wrong())?;
    let mean = |column: usize| {
        let values = row.column(column).as_primitive_opt::<Float64Type>()?;
        values.is_valid(0).then(|| values.value(0))
    };
    Ok((count.as_primitive::<Int64Type>().value(0).unsigned_abs(), mean(1), mean(2)))
}
