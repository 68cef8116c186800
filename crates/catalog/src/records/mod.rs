//! Records: what an entry of the log can say. Each has a number, for ever.
//!
//! A record's body is frozen once shipped: fields may be added as optional ones, never renamed, removed or given
//! another meaning; a number is never reused. These types stand apart from the ones that the program runs on
//! (`State` and what it holds), so that those stay free to change.
//!
//! | number | record | since |
//! | --- | --- | --- |
//! | 1 | [`StoreCreated`] | 0.1 |
//! | 10 | [`EntityDefined`] | 0.1 |
//! | 11 | [`ViewVersionDefined`] | 0.1 |
//! | 12 | [`ServiceDefined`] | 0.1 |
//! | 13 | [`Described`] | 0.1 |
//! | 14 | [`VersionWithdrawn`] | 0.1 |
//! | 15 | [`VersionRestored`] | 0.1 |
//! | 16 | [`StreamPartsCommitted`] | 0.2 |
//! | 20 | [`BatchCommitted`] | 0.1 |
//! | 21 | [`BatchRefused`] | 0.1 |
//! | 24 | [`BatchWithdrawn`] | 0.1 |
//! | 25 | [`BatchRestored`] | 0.1 |
//! | 30 | [`TrainingSetRecorded`] | 0.1 |
//! | 31 | [`ReadsRecorded`] | 0.1 |
//! | 32 | [`Verified`] | 0.1 |
//! | 33 | [`SpineKept`] | 0.2 |
//! | 34 | [`SpinesDropped`] | 0.2 |
//! | 35 | [`SpineUsed`] | 0.2 |
//! | 40 | [`ExternalLinked`] | 0.1 |
//! | 41 | [`AuthorityAliased`] | 0.1 |
//! | 42 | [`ExperimentObserved`] | 0.1 |
//! | 43 | [`RunObserved`] | 0.1 |
//! | 44 | [`ModelObserved`] | 0.1 |
//! | 45 | [`ModelVersionObserved`] | 0.1 |
//! | 46 | [`AliasObserved`] | 0.1 |
//! | 47 | [`DeploymentChanged`] | 0.1 |
//! | 48 | [`UseRecorded`] | 0.1 |
//! | 49 | [`Reconciled`] | 0.1 |
//! | 50 | [`DeploymentMeasured`] | 0.1 |
//! | 60 | [`Compacted`] | 0.2 |
//! | 61 | [`Swept`] | 0.2 |
//! | 62 | [`RetentionSet`] | 0.2 |
//! | 63 | [`HoldPlaced`] | 0.2 |
//! | 64 | [`HoldLifted`] | 0.2 |
//! | 65 | [`RowsExpired`] | 0.2 |
//! | 66 | [`RowsDeleted`] | 0.2 |
//! | 67 | [`Erased`] | 0.2 |
//! | 70 | [`BatchQuarantined`] | 0.2 |
//! | 71 | [`BatchReleased`] | 0.2 |
//! | 72 | [`BatchDropped`] | 0.2 |
//! | 73 | [`Deprecated`] | 0.2 |
//! | 74 | [`DeprecationAdvanced`] | 0.2 |
//! | 75 | [`DeprecationRevoked`] | 0.2 |
//! | 76 | [`PlanProposed`] | 0.2 |
//! | 77 | [`PlanApproved`] | 0.2 |
//! | 78 | [`PlanDeclined`] | 0.2 |
//! | 79 | [`PlanApplied`] | 0.2 |
//! | 80 | [`PoliciesApplied`] | 0.2 |
//! | 83 | [`Sampled`] | 0.2 |
//! | 84 | [`RowsMended`] | 0.2 |
//! | 81 | [`AlertsRaised`] | 0.2 |
//! | 82 | [`AlertDelivery`] | 0.2 |

mod alerts;
mod batches;
mod changes;
mod compactions;
mod definitions;
mod deprecations;
mod erasures;
mod holds;
mod mended;
mod objects;
mod policies;
mod quality;
mod registry;
mod retention;
mod retrievals;
mod samples;
mod spines;
mod streams;
mod sweeps;
mod withdrawals;

pub use alerts::{AlertDelivery, AlertsRaised, DeliveryBegun, DeliveryEnded, DeliveryOutcome, RaisedAlert};
pub use batches::{BatchCommitted, BatchRefused, Derivation, KnownAtSource, Parent, SourceFile};
pub use changes::{PlanApplied, PlanApproved, PlanDeclined, PlanProposed, PlannedChange};
pub use compactions::Compacted;
pub use definitions::{Described, EntityDefined, ServiceDefined, StoreCreated, Subject, ViewVersionDefined};
pub use deprecations::{
    Deprecable, Deprecated, DeprecatedKind, DeprecationAdvanced, DeprecationRevoked, DeprecationStep,
};
pub use erasures::{Erased, ErasedSet, Replaced, Replacement};
pub use holds::{HeldKind, HoldLifted, HoldPlaced};
pub use mended::RowsMended;
pub use objects::Named;
pub use policies::PoliciesApplied;
pub use quality::{BatchDropped, BatchQuarantined, BatchReleased};
pub use registry::{
    AliasObserved, AuthorityAliased, DeploymentChanged, DeploymentMeasured, Evidence, ExperimentObserved,
    ExternalLinked, How, Kind, Lifecycle, ModelObserved, ModelVersionObserved, Reconciled, Role, RunObserved,
    UseRecorded,
};
pub use retention::{RowsDeleted, RowsExpired};
pub use retrievals::{BatchHit, ReadsRecorded, Selected, TrainingSetRecorded, Verdict, Verified};
pub use samples::{PassedBy, Sampled};
pub use spines::{SpineKept, SpineUsed, SpinesDropped};
pub use streams::{PartRun, StreamPart, StreamPartsCommitted};
pub use sweeps::{Found, RetentionSet, Swept};
pub use withdrawals::{BatchRestored, BatchWithdrawn, VersionRestored, VersionWithdrawn};

use feature::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An object beside the log, named by an entry: relative path, size and digest of its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    pub path: String,
    pub bytes: u64,
    pub digest: Digest,
}

/// Why a record of an entry cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(
        "record number {0} is unknown to this program; a newer Lineament wrote it: upgrade to open this store"
    )]
    Unknown(u32),
    #[error("record number {number} ({name}) cannot be read: {source}")]
    Body { number: u32, name: &'static str, source: serde_json::Error },
}

macro_rules! records {
    ($($number:literal $variant:ident $name:literal;)*) => {
        /// One record, decoded.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Record {
            $($variant($variant),)*
        }

        impl Record {
            /// The number that stands in the log.
            pub fn number(&self) -> u32 {
                match self { $(Self::$variant(_) => $number,)* }
            }

            /// The record's name, for people.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// The name of a number; none of one that this program does not know.
            pub fn name_of(number: u32) -> Option<&'static str> {
                match number { $($number => Some($name),)* _ => None }
            }

            /// The body as it stands in an entry.
            pub fn body(&self) -> Result<Value, serde_json::Error> {
                match self { $(Self::$variant(body) => serde_json::to_value(body),)* }
            }

            /// The text of its body.
            pub(crate) fn text(&self) -> Result<String, serde_json::Error> {
                match self { $(Self::$variant(body) => serde_json::to_string(body),)* }
            }

            pub fn decode(number: u32, body: &Value) -> Result<Self, RecordError> {
                match number {
                    $($number => $variant::deserialize(body)
                        .map(Self::$variant)
                        .map_err(|source| RecordError::Body { number, name: $name, source }),)*
                    _ => Err(RecordError::Unknown(number)),
                }
            }
        }

        $(impl From<$variant> for Record {
            fn from(body: $variant) -> Self {
                Self::$variant(body)
            }
        })*
    };
}

records! {
    1 StoreCreated "store_created";
    10 EntityDefined "entity_defined";
    11 ViewVersionDefined "view_version_defined";
    12 ServiceDefined "service_defined";
    13 Described "described";
    14 VersionWithdrawn "version_withdrawn";
    15 VersionRestored "version_restored";
    16 StreamPartsCommitted "stream_parts_committed";
    20 BatchCommitted "batch_committed";
    21 BatchRefused "batch_refused";
    24 BatchWithdrawn "batch_withdrawn";
    25 BatchRestored "batch_restored";
    30 TrainingSetRecorded "training_set_recorded";
    31 ReadsRecorded "reads_recorded";
    32 Verified "verified";
    33 SpineKept "spine_kept";
    34 SpinesDropped "spines_dropped";
    35 SpineUsed "spine_used";
    40 ExternalLinked "external_linked";
    41 AuthorityAliased "authority_aliased";
    42 ExperimentObserved "experiment_observed";
    43 RunObserved "run_observed";
    44 ModelObserved "model_observed";
    45 ModelVersionObserved "model_version_observed";
    46 AliasObserved "alias_observed";
    47 DeploymentChanged "deployment_changed";
    48 UseRecorded "use_recorded";
    49 Reconciled "reconciled";
    50 DeploymentMeasured "deployment_measured";
    60 Compacted "compacted";
    61 Swept "swept";
    62 RetentionSet "retention_set";
    63 HoldPlaced "hold_placed";
    64 HoldLifted "hold_lifted";
    65 RowsExpired "rows_expired";
    66 RowsDeleted "rows_deleted";
    67 Erased "erased";
    70 BatchQuarantined "batch_quarantined";
    71 BatchReleased "batch_released";
    72 BatchDropped "batch_dropped";
    73 Deprecated "deprecated";
    74 DeprecationAdvanced "deprecation_advanced";
    75 DeprecationRevoked "deprecation_revoked";
    76 PlanProposed "plan_proposed";
    77 PlanApproved "plan_approved";
    78 PlanDeclined "plan_declined";
    79 PlanApplied "plan_applied";
    80 PoliciesApplied "policies_applied";
    83 Sampled "sampled";
    84 RowsMended "rows_mended";
    81 AlertsRaised "alerts_raised";
    82 AlertDelivery "alert_delivery";
}
