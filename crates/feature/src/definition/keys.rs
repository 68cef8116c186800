//! Which source columns hold the keys: known only once the view meets its entity.

use super::checks::{Problem, clashes};
use super::parse::table::{did_you_mean, listed};
use super::{Entity, FeatureView, KeySource};
use crate::name::nearest;

/// A view that does not fit its entity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("feature view `{view}`: {problem}")]
pub struct KeyError {
    view: String,
    problem: String,
}

impl FeatureView {
    /// The source column of each key, in the entity's order; a key that the view does not name has its own name there.
    ///
    /// Refuses a column for a key that the entity lacks, and features or an occurrence named like a key. Resolving what is
    /// resolved already changes nothing.
    pub fn resolve_keys(&self, entity: &Entity) -> Result<Vec<KeySource>, KeyError> {
        if let Some(first) = key_problems(self, entity).into_iter().next() {
            return Err(KeyError { view: self.name.to_string(), problem: first.message });
        }
        let mut sources = Vec::new();
        for key in &entity.keys {
            let declared = self.keys.iter().find(|source| source.key == key.name);
            let column = declared.map_or_else(|| key.name.to_string(), |source| source.column.clone());
            sources.push(KeySource { key: key.name.clone(), column });
        }
        Ok(sources)
    }
}

/// Everything in which a view does not fit its entity.
pub(super) fn key_problems(view: &FeatureView, entity: &Entity) -> Vec<Problem> {
    let keys: Vec<&str> = entity.keys.iter().map(|key| key.name.as_str()).collect();
    let mut problems = Vec::new();
    for source in &view.keys {
        let key = source.key.as_str();
        if !keys.contains(&key) {
            let near = nearest(key, keys.iter().copied());
            // The two sides of the line are easily taken for one another.
            let turned = keys.iter().find(|known| **known == source.column);
            let hint = match (near, turned) {
                (_, Some(known)) => format!("; the entity's key stands on the left: {known} = \"{key}\""),
                (near, None) => format!("{}; its keys are {}", did_you_mean(near), listed(&keys)),
            };
            problems.push(Problem {
                path: format!("keys.{key}"),
                message: format!("[keys]: `{key}` is not a key of entity `{}`{hint}", entity.name),
                first: None,
            });
        }
    }
    clashes(view, &keys, &mut problems);
    problems
}
