//! The leaderboard that flips: a leaky training set wins offline and loses in production.
//!
//! The model is one SQL `GROUP BY`: rates by scheduled hour, carrier and last departure delay in twenty quantile bins of
//! the training months, smoothed by fifty rows of the mean. Its score is the area under the ROC curve, ties counted
//! half, in whole numbers up to the last division.

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};
use catalog::Author;
use serving::{Error, Kind, Query, Result, Serving, TrainingSet};

use crate::table::aligned;

/// `{trained_on}` and `{fed_with}` are `leaky` or `honest`.
const AUC: &str = "
WITH frame AS (
    SELECT h.month, h.hour, h.carrier, h.dep_delay AS honest, l.dep_delay AS leaky,
           CASE WHEN h.arr_delay > 30 THEN 1 ELSE 0 END AS late
    FROM session.honest h JOIN session.leaky l ON l.flight_id = h.flight_id
    WHERE h.arr_delay IS NOT NULL),
train AS (SELECT *, {trained_on} AS x FROM frame WHERE month <= 9),
test AS (SELECT *, {fed_with} AS x FROM frame WHERE month >= 10),
ordered AS (
    SELECT x, row_number() OVER (ORDER BY x) AS position, count(*) OVER () AS n FROM train WHERE x IS NOT NULL),
edges AS (
    SELECT x AS edge FROM ordered JOIN (SELECT unnest(range(1, 20)) AS k) ON position = (k * n + 19) / 20),
bins AS (
    SELECT v.x, count(e.edge) AS bin
    FROM (SELECT x FROM train UNION SELECT x FROM test) v LEFT JOIN edges e ON e.edge < v.x
    WHERE v.x IS NOT NULL GROUP BY v.x),
mean AS (SELECT CAST(sum(late) AS DOUBLE) / count(*) AS mean FROM train),
rates AS (
    SELECT hour, carrier, bin, (late + 50 * mean) / (n + 50) AS rate
    FROM (SELECT t.hour, t.carrier, coalesce(b.bin, -1) AS bin, sum(t.late) AS late, count(*) AS n
          FROM train t LEFT JOIN bins b ON b.x = t.x GROUP BY t.hour, t.carrier, coalesce(b.bin, -1))
    CROSS JOIN mean),
scored AS (
    SELECT t.late, coalesce(r.rate, m.mean) AS rate
    FROM (SELECT t.late, t.hour, t.carrier, coalesce(b.bin, -1) AS bin FROM test t LEFT JOIN bins b ON b.x = t.x) t
    CROSS JOIN mean m
    LEFT JOIN rates r ON r.hour = t.hour AND r.carrier = t.carrier AND r.bin = t.bin),
groups AS (SELECT rate, sum(late) AS pos, count(*) - sum(late) AS neg FROM scored GROUP BY rate),
stacked AS (SELECT pos, neg, sum(neg) OVER (ORDER BY rate) - neg AS below FROM groups)
SELECT CAST(sum(pos * (2 * below + neg)) AS BIGINT) AS twice_wins, CAST(2 * sum(pos) * sum(neg) AS BIGINT) AS twice_pairs
FROM stacked";

/// Prints the two by two table.
pub async fn show(
    serving: &Serving,
    honest: &TrainingSet,
    leaky: &TrainingSet,
    author: &Author,
) -> Result<()> {
    let session = serving.session(author).await?;
    session.register("honest", honest.schema.clone(), honest.batches.clone())?;
    session.register("leaky", leaky.schema.clone(), leaky.batches.clone())?;
    let score = async |trained_on: &str, fed_with: &str| -> Result<f64> {
        let sql = AUC.replace("{trained_on}", trained_on).replace("{fed_with}", fed_with);
        let batches = serving.retrieve_in(&session, Query::sql(sql), author).await?.collect().await?;
        let wrong = || Error::new(Kind::Internal, "the score has another shape");
        let row = batches.iter().find(|batch| batch.num_rows() == 1).ok_or_else(wrong)?;
        let whole = |column: usize| -> Result<f64> {
            let number = arrow::compute::cast(row.column(column), &DataType::Int64).map_err(|_| wrong())?;
            Ok(number.as_primitive::<Int64Type>().value(0) as f64)
        };
        Ok(whole(0)? / whole(1)?)
    };
    let leaky_offline = score("leaky", "leaky").await?;
    let leaky_production = score("leaky", "honest").await?;
    let honest_score = score("honest", "honest").await?;

    println!(
        "\n  The leaderboard: \"more than 30 minutes late\", trained on January to September, tested on October to December,"
    );
    println!("  by a model that is one GROUP BY. Area under the ROC curve:\n");
    let line = |name: &str, offline: f64, production: f64| {
        vec![name.to_owned(), format!("{offline:.4}"), format!("{production:.4}")]
    };
    let head = ["training set", "offline", "in production"].map(str::to_owned).to_vec();
    let lines = [
        head,
        line("leaky (no limit on known_at)", leaky_offline, leaky_production),
        line("correct in time", honest_score, honest_score),
    ];
    for line in aligned(&lines, &[false, true, true]).lines() {
        println!("  {line}");
    }
    let flips = leaky_offline > honest_score && leaky_production < honest_score;
    if flips {
        println!(
            "\n  By the offline score you would have shipped the worse model: the leaky one wins by {:.4} where it can see",
            leaky_offline - honest_score
        );
        println!(
            "  the future, and loses by {:.4} where it cannot. The honest one scores the same in both.",
            honest_score - leaky_production
        );
    }
    Ok(())
}
