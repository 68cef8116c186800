//! Steps whose dates have come, taken by whoever meets them first.

use std::collections::{BTreeMap, BTreeSet};

use async_recursion::async_recursion;
use catalog::Author;
use catalog::deprecation::{self, DueStep};
use catalog::records::DeprecationStep;
use catalog::state::State;
use feature::policy::Action;
use feature::{DeprecationId, Sequence};
use lineage::Graph;
use serde::Serialize;

use super::Uses;
use crate::error::{Error, Result};
use crate::retrieve::Serving;

/// How often it is looked again at what is in use, where others write meanwhile. A later pass takes what is left.
const LOOKS: usize = 5;

/// What came of the dates that are past.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DueReport {
    pub taken: Vec<StepTaken>,
    /// Withdrawals that wait, because a model in force stands on the thing.
    pub put_off: Vec<PutOff>,
}

#[derive(Clone, Debug, Serialize)]
pub struct StepTaken {
    /// `weather@1`
    pub of: String,
    /// `closed` or `withdrawn`.
    pub step: &'static str,
    /// RFC 3339.
    pub due: String,
    pub sequence: Sequence,
}

#[derive(Clone, Debug, Serialize)]
pub struct PutOff {
    pub of: String,
    /// RFC 3339.
    pub due: String,
    /// `delay-api in production (delay/3)`
    pub deployments: Vec<String>,
}

impl Serving {
    /// Takes the steps of deprecations whose dates have come. What a model in force stands on is closed to others and not withdrawn, unless
    /// somebody says why it is to be all the same.
    ///
    /// # Errors
    /// Those of the log; `Forbidden` for who may not deprecate what they withdraw despite its use.
    #[async_recursion]
    pub async fn advance_deprecations(&self, despite: Option<&str>, author: &Author) -> Result<DueReport> {
        let mut report = DueReport::default();
        // One instant for all looks: what comes due meanwhile was not looked up, and waits for the next pass.
        let now = self.catalog().store().clock().now();
        for _ in 0..LOOKS {
            let state = self.catalog().refresh().await?;
            let due = deprecation::due(&state, now);
            if due.is_empty() {
                report.put_off.clear();
                return Ok(report);
            }
            let (state, graph) = self.graph(None).await?;
            let kept = in_use(&state, &graph, &due);
            if despite.is_some() {
                let in_use: Vec<&DueStep> =
                    due.iter().filter(|step| kept.contains_key(&step.deprecation)).collect();
                let words = || "withdraw what is in use".to_owned();
                let allowed = self.may_withdraw(&state, &in_use, author);
                self.on_record(author, Action::Deprecate, None, words, allowed).await?;
            }
            let ids: BTreeSet<DeprecationId> = kept.keys().copied().collect();
            let at = graph.sequence();
            let (taken, sequence) =
                deprecation::advance(self.catalog(), at, now, &ids, despite, author).await?;
            for (step, sequence) in taken.iter().filter_map(|step| Some((step, sequence?))) {
                let (of, due, step) = (label(&state, step), step.due.to_string(), step.step.name());
                report.taken.push(StepTaken { of, step, due, sequence });
            }
            let state = self.catalog().state();
            let left = deprecation::due(&state, now);
            let waits = |step: &&DueStep| kept.contains_key(&step.deprecation);
            report.put_off = left
                .iter()
                .filter(waits)
                .map(|step| PutOff {
                    of: label(&state, step),
                    due: step.due.to_string(),
                    deployments: kept.get(&step.deprecation).cloned().unwrap_or_default(),
                })
                .collect();
            if left.iter().all(|step| waits(&step)) {
                return Ok(report);
            }
        }
        Ok(report)
    }

    /// # Errors
    /// `Forbidden` for who may not deprecate one of the things.
    async fn may_withdraw(&self, state: &State, steps: &[&DueStep], author: &Author) -> Result<()> {
        for step in steps {
            if let Err(why) = self.right_of(state, step.of, author).await? {
                return Err(Error::denial(label(state, step), format!("what is in use stays: {why}")));
            }
        }
        Ok(())
    }
}

fn label(state: &State, step: &DueStep) -> String {
    state.label_of(step.of).unwrap_or_else(|| step.of.id.to_string())
}

/// Of those that are to be withdrawn: the deployments in force that stand on them.
fn in_use(state: &State, graph: &Graph, due: &[DueStep]) -> BTreeMap<DeprecationId, Vec<String>> {
    let withdrawn = due.iter().filter(|step| step.step == DeprecationStep::Withdrawn);
    let uses = withdrawn.map(|step| {
        let deployments = Uses::of(state, graph, step.of).deployments(graph);
        (step.deprecation, deployments)
    });
    uses.filter(|(_, deployments)| !deployments.is_empty()).collect()
}
