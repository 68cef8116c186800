//! What a pass over an MLflow server found: what was taken into the log, and what does not agree.

use feature::TrainingSetId;
use serde::Serialize;
use serving::LastTrackingPass;

use super::SYSTEM;

#[derive(Clone, Debug, Serialize)]
pub struct PassReport {
    /// Which server.
    pub authority: String,
    /// When it was asked, RFC 3339.
    pub at: String,
    /// Experiments, runs, models, model versions and aliases that it has.
    pub found: u64,
    /// Uses of training sets that the store had not been told of. Taken, as are the next three.
    pub linked: Vec<RunUse>,
    /// Aliases that mean another version than before.
    pub moved: Vec<Moved>,
    /// Models with another name than before.
    pub renamed: Vec<Renamed>,
    /// What it has no more, though it was known not to be gone.
    pub gone: Vec<Gone>,
    /// Uses of training sets that this store does not have.
    pub foreign: Vec<RunUse>,
    /// Uses that the store knows of runs that MLflow has, and that MLflow does not name.
    pub unnamed: Vec<RunUse>,
    pub seconds: f64,
}

/// That a run used a training set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunUse {
    pub training_set: TrainingSetId,
    /// `mlflow;<authority>;<experiment id>;<run id>`
    pub run: String,
}

/// An alias that means another version than before; none for no version.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    pub model: String,
    pub alias: String,
    pub version: Option<String>,
}

/// A model that has another name than before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Renamed {
    pub before: String,
    pub now: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gone {
    /// `experiment`, `run`, `model` or `model_version`.
    pub kind: &'static str,
    pub id: String,
}

impl RunUse {
    pub fn of(training_set: TrainingSetId, authority: &str, experiment: &str, run: &str) -> Self {
        Self { training_set, run: format!("{SYSTEM};{authority};{experiment};{run}") }
    }
}

impl PassReport {
    /// How many things were taken into the log.
    pub fn taken(&self) -> usize {
        self.linked.len() + self.moved.len() + self.renamed.len() + self.gone.len()
    }

    /// How many links the one side has and the other has not.
    pub fn disagreeing(&self) -> usize {
        self.foreign.len() + self.unnamed.len()
    }

    /// What the status of a process tells of it.
    pub fn last(&self) -> LastTrackingPass {
        LastTrackingPass {
            authority: self.authority.clone(),
            at: Some(self.at.clone()),
            found: self.found,
            gone: self.gone.len() as u64,
            linked: self.linked.len() as u64,
            foreign: self.foreign.len() as u64,
            moved: self.moved.len() as u64,
            failures: 0,
            error: None,
            seconds: self.seconds,
        }
    }
}
