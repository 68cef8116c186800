//! Rules of alerts: of what somebody is told, and where. Configuration of whoever serves a store, and no part of the store.

use std::fmt;

use super::quality::Measure;
use crate::name::Name;
use crate::quality::Verdict;
use crate::time::Span;

/// A file of rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Alerts {
    /// How often what stands, rather than what happens, is looked at.
    pub every: Span,
    pub sinks: Vec<Sink>,
    /// Each goes to at least one of the sinks.
    pub rules: Vec<Rule>,
}

/// Where alerts go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    pub name: Name,
    pub to: SinkKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// The log of the process itself.
    Log,
    Webhook {
        address: Address,
        /// The environment variable that holds the key of signatures.
        secret_env: String,
        /// How long a receiver may take for its answer.
        timeout: Span,
    },
}

/// An address, as it is written or where it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Written(String),
    /// In an environment variable, since some addresses are secrets.
    Environment(String),
}

/// Of what somebody is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: Name,
    pub on: Condition,
    /// Of these feature views; of all where there are none.
    pub views: Vec<ViewPattern>,
    /// At least one.
    pub sinks: Vec<Name>,
}

impl Rule {
    /// Whether it is about a feature view.
    pub fn covers(&self, project: &Name, view: &Name) -> bool {
        self.views.is_empty() || self.views.iter().any(|pattern| pattern.covers(project, view))
    }
}

/// `weather`, `fraud.cards`, or `fraud.*` for all of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewPattern {
    pub project: Name,
    pub view: Option<Name>,
}

impl ViewPattern {
    fn covers(&self, project: &Name, view: &Name) -> bool {
        self.project == *project && self.view.as_ref().is_none_or(|wanted| wanted == view)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// A batch had this verdict or a worse one.
    Check {
        least: Verdict,
        /// By one of these measures; by any where there are none.
        measures: Vec<Measure>,
    },
    /// A batch was kept back.
    Quarantine,
    /// A batch was refused, since too many of its rows were rejected.
    Refused,
    /// More versions of a view than these came within the span.
    VersionChurn { more_than: u32, within: Span },
    /// No batch that counts came to a view for this long.
    Freshness { after: Span },
    /// A model version or deployment has no link to what it was made of, this long after it was first seen.
    MissingLineage { after: Span },
    /// What a training set, a model or a deployment refers to is gone, altered or withdrawn.
    Dangling {
        /// Only what a deployment in force stands on.
        deployed: bool,
        /// How often objects are asked for as well; none where the log alone is looked at.
        objects: Option<Span>,
    },
}

impl Condition {
    /// As files, the log and messages have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Check { .. } => "check",
            Self::Quarantine => "quarantine",
            Self::Refused => "refused",
            Self::VersionChurn { .. } => "version_churn",
            Self::Freshness { .. } => "freshness",
            Self::MissingLineage { .. } => "missing_lineage",
            Self::Dangling { .. } => "dangling",
        }
    }
}

impl fmt::Display for ViewPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.view {
            Some(view) if self.project == Name::default_project() => write!(f, "{view}"),
            Some(view) => write!(f, "{}.{view}", self.project),
            None => write!(f, "{}.*", self.project),
        }
    }
}
