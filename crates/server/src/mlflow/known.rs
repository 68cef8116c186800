//! What the store knows of one MLflow server, in that server's words.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use catalog::State;
use catalog::records::{Kind, Lifecycle};
use feature::{Id, RunId, Timestamp, TrainingSetId};

use super::SYSTEM;

/// What was known before a pass. Ids are of what is not known to have gone, where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    pub experiments: BTreeSet<String>,
    pub runs: BTreeSet<String>,
    pub models: BTreeSet<String>,
    /// `<name>/<version>/<creation time in ms>`
    pub model_versions: BTreeSet<String>,
    /// By model and alias the id of the version; none where it was taken away.
    pub aliases: BTreeMap<(String, String), Option<String>>,
    /// Sets that runs used.
    pub uses: HashSet<(TrainingSetId, String)>,
    /// The ids of what is known to have gone, of all kinds.
    pub gone: HashSet<String>,
    /// When the server was asked last.
    pub seen_at: Option<Timestamp>,
}

impl Known {
    pub fn of(state: &State, authority: &str) -> Self {
        let (registry, at) = (state.registry(), state.head.sequence);
        let authority = registry.authority(authority);
        // What is known under several names goes by the last.
        let external = |id: RunId| registry.external(id);
        let mut known = Self::default();
        for link in registry.links() {
            let Some(external) = external(link.id.into()) else { continue };
            if external.system != SYSTEM || external.authority != authority {
                continue;
            }
            let (ids, lifecycle) = match external.kind {
                Kind::Experiment => {
                    let now = registry.experiment_at(link.id.into(), at);
                    (&mut known.experiments, now.and_then(|now| now.lifecycle))
                }
                Kind::Run => {
                    (&mut known.runs, registry.run_at(link.id.into(), at).and_then(|now| now.lifecycle))
                }
                Kind::Model => {
                    (&mut known.models, registry.model_at(link.id.into(), at).and_then(|now| now.lifecycle))
                }
                Kind::ModelVersion => {
                    let now = registry.model_version_at(link.id.into(), at);
                    (&mut known.model_versions, now.and_then(|now| now.lifecycle))
                }
            };
            match lifecycle {
                Some(Lifecycle::Gone) => known.gone.insert(external.id.clone()),
                _ => ids.insert(external.id.clone()),
            };
        }
        let ours = |id: RunId| {
            external(id).filter(|external| external.system == SYSTEM && external.authority == authority)
        };
        for noted in registry.aliases() {
            let record = &noted.record;
            let Some(model) = ours(record.model.uuid().into()) else { continue };
            let version = record.model_version.and_then(|version| external(version.uuid().into()));
            let version = version.map(|version| version.id.clone());
            known.aliases.insert((model.id.clone(), record.alias.clone()), version);
        }
        for noted in registry.uses() {
            if let Some(run) = ours(noted.record.run) {
                known.uses.insert((noted.record.training_set, run.id.clone()));
            }
        }
        for set in state.training_sets() {
            let run = set.by.run.as_deref().and_then(|run| registry.run(run));
            if let Some(run) = run.and_then(ours) {
                known.uses.insert((set.record.training_set, run.id.clone()));
            }
        }
        known.seen_at = registry.last_pass(SYSTEM, &authority).map(|pass| pass.seen_at);
        known
    }
}
