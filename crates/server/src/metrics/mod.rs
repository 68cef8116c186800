//! What the server counts, in the words of Prometheus and OpenMetrics.
//!
//! Labels are methods, codes, reasons and the names of caches: never what a client sent or who it is.

mod gauges;
mod methods;
mod passes;
mod process;

use std::sync::Arc;

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::exponential_buckets;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use serving::Serving;

use crate::admission::Admission;
use gauges::Gauges;
pub use methods::{Method, MethodMetrics};
use passes::Passes;

/// What OpenMetrics calls itself.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub const PROMETHEUS: &str = prometheus_text::CONTENT_TYPE;

/// From a millisecond to two minutes.
pub fn seconds() -> impl Iterator<Item = f64> {
    exponential_buckets(0.001, 2.0, 18)
}

/// All that a server counts; cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Counted>);

struct Counted {
    registry: Registry,
    /// Apart, for its names have not our prefix.
    process: Registry,
    methods: methods::Methods,
    /// Seconds since 1970; zero before the first.
    last_flush: Gauge,
    flush_failures: Counter,
    reconciliation_failures: Counter,
}

impl Metrics {
    /// Of a server that answers from `serving`; `program` is its name and version, as `lineament 0.1.0`.
    pub fn new(serving: &Serving, admission: &Admission, program: &str) -> Self {
        let mut registry = Registry::with_prefix("lineament");
        let version = program.split_whitespace().last().unwrap_or(program).to_owned();
        registry.register("build", "The program that serves", Info::new(vec![("version", version)]));
        let methods = methods::Methods::register(&mut registry);
        registry.register_with_unit(
            "query_wait",
            "How long those that were let in waited for their turn",
            Unit::Seconds,
            admission.waited().clone(),
        );
        registry.register(
            "queries_refused",
            "Those that were not let in, by reason",
            admission.refused().clone(),
        );
        let (last_flush, flush_failures) = (Gauge::default(), Counter::default());
        registry.register_with_unit(
            "last_flush_timestamp",
            "When the reads that waited were recorded last, since 1970; 0 before the first time",
            Unit::Seconds,
            last_flush.clone(),
        );
        registry.register(
            "flush_failures",
            "Times that the reads that waited could not be recorded; they are kept and tried again",
            flush_failures.clone(),
        );
        let reconciliation_failures = Counter::default();
        registry.register(
            "reconciliation_failures",
            "Times that the store could not be reconciled on its schedule; it is tried again",
            reconciliation_failures.clone(),
        );
        registry.register_collector(Box::new(Gauges::new(serving.clone(), admission.clone())));
        registry.register_collector(Box::new(Passes::new(serving.clone())));
        let process = of_process();
        Self(Arc::new(Counted {
            registry,
            process,
            methods,
            last_flush,
            flush_failures,
            reconciliation_failures,
        }))
    }

    /// Those of a method of Flight.
    pub fn method(&self, method: Method) -> &MethodMetrics {
        self.0.methods.of(method)
    }

    /// Calls that have begun and not ended.
    pub fn calls_running(&self) -> i64 {
        self.0.methods.running()
    }

    /// Reads were recorded at this time, in seconds since 1970.
    pub fn flushed(&self, at: i64) {
        self.0.last_flush.set(at);
    }

    pub fn flush_failed(&self) {
        self.0.flush_failures.inc();
    }

    pub fn reconciliation_failed(&self) {
        self.0.reconciliation_failures.inc();
    }

    /// All of them, as OpenMetrics has them or as Prometheus 0.0.4 does.
    ///
    /// # Errors
    /// None that is known: it is written to memory.
    pub fn text(&self, openmetrics: bool) -> Result<String, std::fmt::Error> {
        let mut written = String::with_capacity(32 << 10);
        if openmetrics {
            text::encode_registry(&mut written, &self.0.registry)?;
            text::encode_registry(&mut written, &self.0.process)?;
            text::encode_eof(&mut written)?;
        } else {
            prometheus_text::encode(&mut written, &self.0.registry)?;
            prometheus_text::encode(&mut written, &self.0.process)?;
        }
        Ok(written)
    }
}

fn of_process() -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(process::ProcessMetrics));
    registry
}
