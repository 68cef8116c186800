//! Holds: what must stay because somebody says so, by name.

use async_recursion::async_recursion;
use catalog::records::HeldKind;
use catalog::{Author, holds};
use feature::{HoldId, Id, Sequence};
use lineage::graph::Node;
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::graph::find;
use crate::retrieve::Serving;

/// A hold that was placed or lifted.
#[derive(Clone, Debug, Serialize)]
pub struct HoldReport {
    pub hold: HoldId,
    /// `batch`, `version`, `training_set` or `model_version`.
    pub kind: &'static str,
    pub id: String,
    pub reason: String,
    /// Of the entry.
    pub sequence: Sequence,
}

impl Serving {
    /// Holds a batch, a version of a feature view, a training set or a model version, with all that it needs.
    ///
    /// # Errors
    /// `NotFound` for a name of nothing; `Invalid` for what cannot be held, and for no reason.
    #[async_recursion]
    pub async fn place_hold(&self, name: &str, reason: &str, author: &Author) -> Result<HoldReport> {
        let (state, graph) = self.graph(None).await?;
        let (kind, id) = match graph.node(find(&graph, &state, name)?) {
            Node::Batch(id) => (HeldKind::Batch, id.uuid()),
            Node::ViewVersion(id) => (HeldKind::Version, id.uuid()),
            Node::TrainingSet(id) => (HeldKind::TrainingSet, id.uuid()),
            Node::ModelVersion(id) => (HeldKind::ModelVersion, id.uuid()),
            other => {
                return Err(Error::new(
                    Kind::Invalid,
                    format!(
                        "`{name}` is a {}; what can be held is a batch (its id), a version (weather@2), a training set or a model version (delay/3)",
                        other.kind().replace('_', " ")
                    ),
                ));
            }
        };
        let (hold, sequence) = holds::place(self.catalog(), kind, id, reason, author).await?;
        Ok(HoldReport { hold, kind: kind.name(), id: id.to_string(), reason: reason.to_owned(), sequence })
    }

    /// Lifts a hold. What it held may go as soon as nothing else needs it.
    ///
    /// # Errors
    /// `NotFound` for one that is not known; `Invalid` for one that was lifted, and for no reason.
    #[async_recursion]
    pub async fn lift_hold(&self, hold: HoldId, reason: &str, author: &Author) -> Result<HoldReport> {
        let sequence = holds::lift(self.catalog(), hold, reason, author).await?;
        let state = self.catalog().state();
        let of =
            state.holds().find(hold).map(|found| (found.record.kind.name(), found.record.id.to_string()));
        let (kind, id) = of.unwrap_or_default();
        Ok(HoldReport { hold, kind, id, reason: reason.to_owned(), sequence })
    }
}
