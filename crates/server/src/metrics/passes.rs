//! What passes over the store, and over a tracking server, found last, whoever asked for them.

use std::fmt::{Debug, Error, Formatter};

use feature::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Unit;
use serving::Serving;

use super::gauges::{whole, write};

pub struct Passes(Serving);

impl Passes {
    pub fn new(serving: Serving) -> Self {
        Self(serving)
    }
}

impl Debug for Passes {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passes")
    }
}

impl Collector for Passes {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let to = &mut encoder;
        let seconds = Some(&Unit::Seconds);
        let last = self.0.last_reconciliation();
        let at = whole(last.as_ref().map_or(0, |last| since_1970(&last.at)));
        let help = "When the store was reconciled last, since 1970; 0 before the first time";
        write(to, "last_reconciliation_timestamp", help, seconds, &at)?;
        // A number that nobody has counted is not told.
        if let Some(last) = &last {
            let help = "References of training sets, runs, models and deployments that lead nowhere";
            write(to, "reconciliation_problems", help, None, &whole(last.problems))?;
            let help = "Of these problems, those of objects and batches that are gone or altered";
            write(to, "reconciliation_broken", help, None, &whole(last.broken))?;
            let help = "Of these problems, those that a deployment in force stands on";
            write(to, "reconciliation_deployed", help, None, &whole(last.deployed))?;
        }

        let passes = self.0.tracking_passes();
        let made = ConstCounter::new(passes.made);
        write(to, "mlflow_passes", "Times that MLflow was asked what it knows", None, &made)?;
        let failed = ConstCounter::new(passes.failed);
        write(to, "mlflow_failures", "Times that MLflow was asked and the pass failed", None, &failed)?;
        let at = self.0.last_tracking_pass().and_then(|last| last.at);
        let at = whole(at.map_or(0, |at| since_1970(&at)));
        let help = "When the last pass over MLflow that did not fail began, since 1970; 0 before the first";
        write(to, "last_mlflow_pass_timestamp", help, seconds, &at)
    }
}

/// The seconds of a time that this process has written as text.
fn since_1970(at: &str) -> i64 {
    at.parse::<Timestamp>().map_or(0, |at| at.micros() / 1_000_000)
}
