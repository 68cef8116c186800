//! Who may do what: the words in which it is asked and answered. How policies are written is known to the crate `policy`,
//! which the other crates meet through [`Policies`] alone.

mod asker;
mod decision;
mod mask;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use asker::{Asker, Purpose, UnknownPurpose};
pub use decision::{Decision, RowFilter};
pub use mask::{Mask, MaskError, MaskKey};

use crate::definition::{Feature, FeatureView};
use crate::name::Name;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// See values, by whatever call.
    Read,
    /// Bring rows in.
    Ingest,
    /// Define or change a feature view.
    Apply,
    /// Take a batch or a version away, or bring it back.
    Withdraw,
    /// Announce that a version will go, and let it go.
    Deprecate,
    /// Let somebody else's breaking change of a feature view pass.
    Approve,
    /// Erase an entity: its bytes go, for good.
    Erase,
    /// Keep what a view is part of, whatever else would let it go, or let it go again.
    Hold,
    /// Change the policies themselves.
    Govern,
}

impl Action {
    pub const ALL: [Self; 9] = [
        Self::Read,
        Self::Ingest,
        Self::Apply,
        Self::Withdraw,
        Self::Deprecate,
        Self::Approve,
        Self::Erase,
        Self::Hold,
        Self::Govern,
    ];

    /// As policies name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Ingest => "ingest",
            Self::Apply => "apply",
            Self::Withdraw => "withdraw",
            Self::Deprecate => "deprecate",
            Self::Approve => "approve",
            Self::Erase => "erase",
            Self::Hold => "hold",
            Self::Govern => "govern",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == text)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What it is to be done to.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    Project(&'a Name),
    View(&'a FeatureView),
    Feature(&'a FeatureView, &'a Feature),
}

impl fmt::Display for Resource<'_> {
    /// `default`, `default.weather`, `default.weather.temp`: as policies name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Project(project) => write!(f, "{project}"),
            Self::View(view) => write!(f, "{}.{}", view.project, view.name),
            Self::Feature(view, feature) => write!(f, "{}.{}.{}", view.project, view.name, feature.name),
        }
    }
}

/// One file of policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFile {
    pub name: String,
    pub text: String,
}

/// Policies, ready to decide.
pub trait Policies: fmt::Debug + Send + Sync {
    /// What the asker may do. It never fails: what cannot be decided is denied, and the decision says so.
    fn decide(&self, asker: &Asker, action: Action, resource: Resource<'_>) -> Decision;

    /// The policies, by the ids that decisions name them by.
    fn ids(&self) -> Vec<String>;

    /// Every filter of rows that some decision may have.
    fn row_filters(&self) -> Vec<RowFilter>;
}

/// How policies are written.
pub trait PolicyLanguage: fmt::Debug + Send + Sync {
    /// # Errors
    /// All that is wrong with the files, a line each, with file, line, column and advice.
    fn compile(&self, files: &[PolicyFile]) -> Result<Arc<dyn Policies>, String>;
}

#[cfg(test)]
mod tests;
