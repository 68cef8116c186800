//! Which nodes of the graph an event is about, so that those around one node can be told alone.

use catalog::records::{Kind, Record, Subject};
use feature::RunId;

use crate::graph::Node;

/// The nodes that the events of a record are about: what it tells of, not all that it mentions. None where a
/// record gives no event, and for a refused batch, from which nothing came.
pub fn subjects(record: &Record) -> Vec<Node> {
    match record {
        Record::ViewVersionDefined(body) => vec![Node::ViewVersion(body.version)],
        Record::Described(body) if body.subject == Subject::FeatureView => {
            vec![Node::ViewVersion(body.version)]
        }
        Record::BatchCommitted(body) => vec![Node::Batch(body.batch)],
        Record::BatchReleased(body) => vec![Node::Batch(body.batch)],
        Record::TrainingSetRecorded(body) => vec![Node::TrainingSet(body.training_set)],
        Record::Verified(body) => vec![Node::TrainingSet(body.training_set)],
        Record::ExternalLinked(body) if body.kind == Kind::Run => vec![Node::Run(RunId::from(body.id))],
        Record::RunObserved(body) => vec![Node::Run(body.run)],
        Record::UseRecorded(body) => vec![Node::Run(body.run), Node::TrainingSet(body.training_set)],
        Record::ModelVersionObserved(body) => vec![Node::ModelVersion(body.model_version)],
        Record::DeploymentChanged(body) => vec![Node::Deployment(body.deployment)],
        Record::BatchRefused(_)
        | Record::BatchWithdrawn(_)
        | Record::BatchRestored(_)
        | Record::BatchQuarantined(_)
        | Record::BatchDropped(_)
        | Record::VersionWithdrawn(_)
        | Record::VersionRestored(_)
        | Record::ExternalLinked(_)
        | Record::StoreCreated(_)
        | Record::EntityDefined(_)
        | Record::ServiceDefined(_)
        | Record::Described(_)
        | Record::ReadsRecorded(_)
        | Record::AuthorityAliased(_)
        | Record::ExperimentObserved(_)
        | Record::ModelObserved(_)
        | Record::AliasObserved(_)
        | Record::Reconciled(_)
        | Record::DeploymentMeasured(_)
        | Record::Compacted(_)
        | Record::StreamPartsCommitted(_)
        | Record::Swept(_)
        | Record::RetentionSet(_)
        | Record::RowsExpired(_)
        | Record::RowsDeleted(_)
        | Record::Erased(_)
        | Record::HoldPlaced(_)
        | Record::HoldLifted(_)
        | Record::SpineKept(_)
        | Record::SpinesDropped(_)
        | Record::SpineUsed(_)
        | Record::Deprecated(_)
        | Record::DeprecationAdvanced(_)
        | Record::DeprecationRevoked(_)
        | Record::PlanProposed(_)
        | Record::PlanApproved(_)
        | Record::PlanDeclined(_)
        | Record::PlanApplied(_)
        | Record::PoliciesApplied(_)
        | Record::AlertsRaised(_)
        | Record::AlertDelivery(_)
        | Record::Sampled(_)
        | Record::RowsMended(_) => Vec::new(),
    }
}
