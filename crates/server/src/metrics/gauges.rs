//! What is looked at when somebody asks: memory, queue, caches, log.

use std::fmt::{Debug, Error, Formatter};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use serving::Serving;

use crate::admission::Admission;

pub struct Gauges {
    serving: Serving,
    admission: Admission,
}

impl Gauges {
    pub fn new(serving: Serving, admission: Admission) -> Self {
        Self { serving, admission }
    }
}

impl Debug for Gauges {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gauges")
    }
}

/// Writes one metric.
pub fn write(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: &(impl EncodeMetric + ?Sized),
) -> Result<(), Error> {
    // What is registered gets its full stop from the registry.
    metric.encode(encoder.encode_descriptor(name, &format!("{help}."), unit, metric.metric_type())?)
}

pub fn whole(number: impl TryInto<i64>) -> ConstGauge<i64> {
    ConstGauge::new(number.try_into().unwrap_or(i64::MAX))
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let to = &mut encoder;
        let (running, waiting) = self.admission.now();
        let limits = self.admission.limits();
        write(to, "queries_running", "Queries, uploads and the like that run", None, &whole(running))?;
        write(to, "queries_running_limit", "Those that may run at once", None, &whole(limits.max_running))?;
        write(to, "queries_waiting", "Those that wait for their turn", None, &whole(waiting))?;
        write(to, "queries_waiting_limit", "Those that may wait", None, &whole(limits.max_queued))?;

        let memory = self.serving.memory();
        let bytes = Some(&Unit::Bytes);
        let (held, limit) = (whole(memory.held()), whole(memory.limit()));
        write(to, "memory_reserved", "Memory that queries and uploads hold together", bytes, &held)?;
        write(to, "memory_limit", "Memory that they may hold", bytes, &limit)?;

        let head = self.serving.catalog().state().head.sequence;
        write(to, "log_sequence", "The newest entry of the log that was read", None, &whole(head.0))?;
        let (reads, taken) = self.serving.reads_waiting();
        write(to, "reads_waiting", "Reads that wait to be recorded in the log", None, &whole(reads))?;
        let help = "What is taken of the queue of reads, from 0 to 1; a full one refuses reads";
        write(to, "reads_queue", help, Some(&Unit::Ratios), &ConstGauge::new(taken))?;

        let caches = self.serving.caches();
        let of = |name| [("cache", name)];
        let mut hits =
            to.encode_descriptor("cache_hits", "Found in the cache.", None, MetricType::Counter)?;
        for (name, cache) in &caches {
            ConstCounter::new(cache.hits).encode(hits.encode_family(&of(*name))?)?;
        }
        let mut misses =
            to.encode_descriptor("cache_misses", "Not found in the cache.", None, MetricType::Counter)?;
        for (name, cache) in &caches {
            ConstCounter::new(cache.misses).encode(misses.encode_family(&of(*name))?)?;
        }
        let mut entries =
            to.encode_descriptor("cache_entries", "What the cache holds.", None, MetricType::Gauge)?;
        for (name, cache) in &caches {
            whole(cache.entries).encode(entries.encode_family(&of(*name))?)?;
        }
        let help = "Bytes of what the cache holds: footers in memory, manifests as they are stored.";
        let mut held = to.encode_descriptor("cache", help, bytes, MetricType::Gauge)?;
        for (name, cache) in &caches {
            whole(cache.bytes).encode(held.encode_family(&of(*name))?)?;
        }
        Ok(())
    }
}
