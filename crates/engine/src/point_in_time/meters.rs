//! What a point-in-time join says of itself in `EXPLAIN ANALYZE`.

use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, Time};

/// Counts and times of one join, over all its lanes and views. Times are those of all cores together.
#[derive(Clone, Debug)]
pub struct Meters {
    /// Putting the spine in order.
    pub order_time: Time,
    /// Reading key and time columns and finding the rows that answer.
    pub match_time: Time,
    /// Reading the values of these rows.
    pub fetch_time: Time,
    /// Putting values into the spine's order.
    pub assemble_time: Time,
    /// Files whose keys and times were read, and files that manifests or newer files ruled out.
    pub files_matched: Count,
    pub files_pruned: Count,
    /// Of those that were ruled out, the ones of which no row is within the spine's times and the ttl.
    pub files_out_of_time: Count,
    /// Pages of wanted columns, in files with hits, that were read, and those without a hit that were not.
    pub pages_fetched: Count,
    pub pages_pruned: Count,
    /// Bytes of these pages as they lie in the files, dictionaries and what lies between among them.
    pub bytes_fetched: Count,
    /// Values that were decoded to get at those that were hit, of columns whose encoding gives no single value.
    pub values_decoded: Count,
}

impl Meters {
    pub fn new(metrics: &ExecutionPlanMetricsSet) -> Self {
        let time = |name: &'static str| MetricBuilder::new(metrics).subset_time(name, 0);
        let count = |name: &'static str| MetricBuilder::new(metrics).counter(name, 0);
        Self {
            order_time: time("order_time"),
            match_time: time("match_time"),
            fetch_time: time("fetch_time"),
            assemble_time: time("assemble_time"),
            files_matched: count("files_matched"),
            files_pruned: count("files_pruned"),
            files_out_of_time: count("files_out_of_time"),
            pages_fetched: count("pages_fetched"),
            pages_pruned: count("pages_pruned"),
            bytes_fetched: count("bytes_fetched"),
            values_decoded: count("values_decoded"),
        }
    }
}
