//! One pass over an MLflow server: what it says now, held against what was known before.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use catalog::records::{How, Lifecycle, Role};
use catalog::registry::{
    Complete, Observations, SeenAlias, SeenExperiment, SeenModel, SeenModelVersion, SeenRun,
};
use feature::{Timestamp, TrainingSetId};
use serving::Result;

use super::SYSTEM;
use super::client::{Client, Experiment, Model, ModelVersion, Run, Tag};
use super::known::Known;
use super::report::{Gone, Moved, Renamed};

const PARENT: &str = "mlflow.parentRunId";
const COMMIT: &str = "mlflow.source.git.commit";
const CONTEXT: &str = "mlflow.data.context";
/// The tag of sets that were retrieved before their run began.
const PENDING: &str = "lineament.training_sets";
/// The source type of our dataset inputs.
const SOURCE_TYPE: &str = "lineament";
/// MLflow cuts values at these lengths without a word; one of exactly this length may be cut.
const TAG_CUT: usize = 8_000;
const PARAM_CUT: usize = 6_000;
/// Things of one entry of the log.
const AT_A_TIME: usize = 200;

/// What a server said at one time.
#[derive(Debug)]
pub struct Pass {
    pub seen_at: Timestamp,
    pub previous_seen_at: Option<Timestamp>,
    pub experiments: Vec<SeenExperiment>,
    pub runs: Vec<SeenRun>,
    pub models: Vec<SeenModel>,
    pub model_versions: Vec<SeenModelVersion>,
    /// One for each alias that there is, and one without a version for each that is gone.
    pub aliases: Vec<SeenAlias>,
    pub uses: Vec<Used>,
}

/// A training set that a run names.
#[derive(Clone, Debug, PartialEq)]
pub struct Used {
    pub training_set: TrainingSetId,
    /// The run's own id.
    pub run: String,
    pub experiment: String,
    pub role: Role,
    /// A tag that our client puts on a new run; else an input, which anyone may have written.
    pub how: How,
}

impl Pass {
    /// Asks the server. Of the runs, those are kept that name a training set, that made a model version, that were
    /// known before, and their parents.
    ///
    /// # Errors
    /// `Unavailable` where it does not answer, or not as MLflow does. Nothing is taken for gone then.
    pub async fn over(client: &Client, known: &Known, seen_at: Timestamp) -> Result<Self> {
        let mut pass = Self::new(seen_at, known.seen_at);
        pass.experiments = client.experiments().await?.into_iter().map(experiment).collect();
        pass.registry(client, known).await?;
        pass.runs(client, known).await?;
        let there: BTreeSet<&str> = pass.experiments.iter().map(|seen| seen.id.as_str()).collect();
        let gone: Vec<String> =
            known.experiments.iter().filter(|id| !there.contains(id.as_str())).cloned().collect();
        pass.experiments.extend(gone.into_iter().map(|id| SeenExperiment {
            id,
            lifecycle: Some(Lifecycle::Gone),
            ..SeenExperiment::default()
        }));
        Ok(pass)
    }

    fn new(seen_at: Timestamp, previous_seen_at: Option<Timestamp>) -> Self {
        Self {
            seen_at,
            previous_seen_at,
            experiments: Vec::new(),
            runs: Vec::new(),
            models: Vec::new(),
            model_versions: Vec::new(),
            aliases: Vec::new(),
            uses: Vec::new(),
        }
    }

    async fn registry(&mut self, client: &Client, known: &Known) -> Result<()> {
        let models = client.models().await?;
        let mut versions = Vec::new();
        for listed in client.model_versions().await? {
            versions.push(model_version(client, listed).await?);
        }
        self.compare_registry(known, &models, versions);
        Ok(())
    }

    fn compare_registry(&mut self, known: &Known, models: &[Model], versions: Vec<SeenModelVersion>) {
        let by_number: BTreeMap<(String, String), String> = versions
            .iter()
            .map(|seen| ((seen.model.clone(), seen.version.clone()), seen.id.clone().unwrap_or_default()))
            .collect();
        let names: BTreeSet<&str> = models.iter().map(|model| model.name.as_str()).collect();
        let mut versions: BTreeMap<String, SeenModelVersion> =
            versions.into_iter().map(|seen| (seen.id.clone().unwrap_or_default(), seen)).collect();
        let mut renamed: BTreeSet<String> = BTreeSet::new();
        for before in &known.model_versions {
            if versions.contains_key(before) {
                continue;
            }
            let Some((model, number, created)) = parts(before) else { continue };
            // The same number and time under another name, which nobody knew: the model was renamed.
            let same = |id: &&String| {
                !known.model_versions.contains(*id)
                    && parts(id).is_some_and(|(_, other, at)| (other, at) == (number, created))
            };
            let now: Vec<String> = versions.keys().filter(same).cloned().collect();
            match now.as_slice() {
                [now] if !names.contains(model) => {
                    if let Some(version) = versions.get_mut(now) {
                        version.renamed_from = Some(model.to_owned());
                    }
                    renamed.insert(model.to_owned());
                }
                _ => {
                    let gone = SeenModelVersion {
                        id: Some(before.clone()),
                        model: model.to_owned(),
                        version: number.to_owned(),
                        lifecycle: Some(Lifecycle::Gone),
                        ..SeenModelVersion::default()
                    };
                    versions.insert(before.clone(), gone);
                }
            }
        }
        self.model_versions = versions.into_values().collect();
        self.models = models
            .iter()
            .map(|model| SeenModel {
                id: model.name.clone(),
                name: Some(model.name.clone()),
                lifecycle: Some(Lifecycle::Active),
            })
            .collect();
        let gone = |id: &&String| !names.contains(id.as_str()) && !renamed.contains(*id);
        self.models.extend(known.models.iter().filter(gone).map(|id| SeenModel {
            id: id.clone(),
            name: None,
            lifecycle: Some(Lifecycle::Gone),
        }));
        for model in models {
            for alias in &model.aliases {
                // One that was set between the two listings is for the next pass.
                let key = (model.name.clone(), alias.version.clone());
                let Some(version) = by_number.get(&key) else { continue };
                self.aliases.push(SeenAlias {
                    model: model.name.clone(),
                    alias: alias.alias.clone(),
                    version: Some(version.clone()),
                });
            }
        }
        let there: BTreeSet<(String, String)> =
            self.aliases.iter().map(|seen| (seen.model.clone(), seen.alias.clone())).collect();
        for ((model, alias), version) in &known.aliases {
            let key = (model.clone(), alias.clone());
            if version.is_some() && !there.contains(&key) && !renamed.contains(model) {
                self.aliases.push(SeenAlias { model: key.0, alias: key.1, version: None });
            }
        }
    }

    async fn runs(&mut self, client: &Client, known: &Known) -> Result<()> {
        let made = self.model_versions.iter().filter_map(|version| version.run.clone());
        let mut wanted: BTreeSet<String> = made.chain(known.runs.iter().cloned()).collect();
        let mut found: BTreeMap<String, SeenRun> = BTreeMap::new();
        let mut uses = Vec::new();
        let mut take = |run: Run, all: bool, found: &mut BTreeMap<String, SeenRun>| {
            let named = uses_of(&run);
            if (all || !named.is_empty()) && !found.contains_key(&run.info.run_id) {
                uses.extend(named);
                found.insert(run.info.run_id.clone(), seen_run(run));
            }
        };
        let experiments: Vec<&str> = self.experiments.iter().map(|seen| seen.id.as_str()).collect();
        client
            .each_run(&experiments, |run| {
                let is_wanted = wanted.contains(&run.info.run_id);
                take(run, is_wanted, &mut found);
            })
            .await?;
        // Those that the search did not give, and the parents of all, one by one: to say that one is gone, it is
        // asked for.
        loop {
            wanted.extend(found.values().filter_map(|run| run.parent.clone()));
            let missing: Vec<String> = wanted.iter().filter(|id| !found.contains_key(*id)).cloned().collect();
            if missing.is_empty() {
                break;
            }
            for id in missing {
                match client.run(&id).await? {
                    Some(run) => take(run, true, &mut found),
                    None => {
                        let gone = SeenRun {
                            id: id.clone(),
                            lifecycle: Some(Lifecycle::Gone),
                            ..SeenRun::default()
                        };
                        found.insert(id.clone(), gone);
                    }
                }
                // Whatever the server calls it: it was asked for once.
                wanted.remove(&id);
            }
        }
        self.runs = found.into_values().collect();
        self.uses = uses;
        Ok(())
    }

    /// How many things the server has, and what it has no more.
    pub fn complete(&self) -> Complete {
        let all = self.experiments.len()
            + self.runs.len()
            + self.models.len()
            + self.model_versions.len()
            + self.aliases.len();
        let gone = self.gone().count() as u64;
        Complete { found: all as u64 - gone, gone }
    }

    /// What the server has no more and was not known to have gone: a run that made a version is asked for each time.
    pub fn newly_gone(&self, known: &Known) -> Vec<Gone> {
        let new = self.gone().filter(|(_, id)| !known.gone.contains(*id));
        new.map(|(kind, id)| Gone { kind, id: id.to_owned() }).collect()
    }

    /// What the server has no more, by kind and id.
    fn gone(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let experiments =
            self.experiments.iter().map(|seen| ("experiment", Some(seen.id.as_str()), seen.lifecycle));
        let runs = self.runs.iter().map(|seen| ("run", Some(seen.id.as_str()), seen.lifecycle));
        let models = self.models.iter().map(|seen| ("model", Some(seen.id.as_str()), seen.lifecycle));
        let versions =
            self.model_versions.iter().map(|seen| ("model_version", seen.id.as_deref(), seen.lifecycle));
        let all = experiments.chain(runs).chain(models).chain(versions);
        let gone = all.filter(|(_, _, lifecycle)| *lifecycle == Some(Lifecycle::Gone));
        gone.filter_map(|(kind, id, _)| Some((kind, id?)))
    }

    /// Models that have another name than before.
    pub fn renamed(&self) -> Vec<Renamed> {
        let renamed = self
            .model_versions
            .iter()
            .filter_map(|seen| Some(Renamed { before: seen.renamed_from.clone()?, now: seen.model.clone() }));
        renamed.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Uses that were known, of runs that the server has and of which it does not name them: set, experiment and run.
    pub fn unnamed<'a>(&'a self, known: &'a Known) -> Vec<(TrainingSetId, &'a str, &'a str)> {
        let named: HashSet<(TrainingSetId, &str)> =
            self.uses.iter().map(|used| (used.training_set, used.run.as_str())).collect();
        let there = self.runs.iter().filter(|seen| seen.lifecycle != Some(Lifecycle::Gone));
        let there: BTreeMap<&str, &SeenRun> = there.map(|seen| (seen.id.as_str(), seen)).collect();
        let mut unnamed = Vec::new();
        for (set, run) in &known.uses {
            if let Some(seen) = there.get(run.as_str())
                && !named.contains(&(*set, run.as_str()))
            {
                unnamed.push((*set, seen.experiment.as_deref().unwrap_or_default(), run.as_str()));
            }
        }
        unnamed.sort_unstable();
        unnamed
    }

    /// Aliases that mean another version than before.
    pub fn moved(&self, known: &Known) -> Vec<Moved> {
        let names: BTreeMap<&str, &str> = self
            .model_versions
            .iter()
            .filter_map(|seen| Some((seen.renamed_from.as_deref()?, seen.model.as_str())))
            .collect();
        let called = |model: &str| names.get(model).copied().unwrap_or(model).to_owned();
        // A version under the new name of its model is the same version.
        let version = |id: &String| match parts(id) {
            Some((model, number, created)) => format!("{}/{number}/{created}", called(model)),
            None => id.clone(),
        };
        let before: BTreeMap<(String, String), Option<String>> = known
            .aliases
            .iter()
            .map(|((model, alias), id)| ((called(model), alias.clone()), id.as_ref().map(version)))
            .collect();
        let moved = |seen: &&SeenAlias| {
            let known = before.get(&(seen.model.clone(), seen.alias.clone()));
            known.cloned().flatten() != seen.version
        };
        let moved = self.aliases.iter().filter(moved);
        moved
            .map(|seen| Moved {
                model: seen.model.clone(),
                alias: seen.alias.clone(),
                version: seen.version.clone(),
            })
            .collect()
    }

    /// What the store is told, in the order in which it is told: what others refer to first, and at last that this was
    /// all.
    pub fn observations(&self, authority: &str) -> Vec<Observations> {
        let head = || Observations {
            system: Some(SYSTEM.to_owned()),
            authority: authority.to_owned(),
            how: Some(How::Reconciliation),
            seen_at: Some(self.seen_at),
            previous_seen_at: self.previous_seen_at,
            ..Observations::default()
        };
        let mut all = Vec::new();
        let some = self.experiments.chunks(AT_A_TIME);
        all.extend(some.map(|some| Observations { experiments: some.to_vec(), ..head() }));
        let some = self.runs.chunks(AT_A_TIME);
        all.extend(some.map(|some| Observations { runs: some.to_vec(), ..head() }));
        // Before models: by a version with another model's name the store knows a model again.
        let some = self.model_versions.chunks(AT_A_TIME);
        all.extend(some.map(|some| Observations { model_versions: some.to_vec(), ..head() }));
        let some = self.models.chunks(AT_A_TIME);
        all.extend(some.map(|some| Observations { models: some.to_vec(), ..head() }));
        let some = self.aliases.chunks(AT_A_TIME);
        all.extend(some.map(|some| Observations { aliases: some.to_vec(), ..head() }));
        all.push(Observations { complete: Some(self.complete()), ..head() });
        all
    }
}

fn parts(version: &str) -> Option<(&str, &str, &str)> {
    let (rest, created) = version.rsplit_once('/')?;
    let (model, number) = rest.rsplit_once('/')?;
    Some((model, number, created))
}

fn instant(millis: Option<i64>) -> Option<Timestamp> {
    millis.map(|millis| Timestamp(millis.saturating_mul(1_000)))
}

fn lifecycle(stage: Option<&str>) -> Option<Lifecycle> {
    match stage {
        Some("active") => Some(Lifecycle::Active),
        Some("deleted") => Some(Lifecycle::Deleted),
        _ => None,
    }
}

fn tags(tags: &[Tag]) -> BTreeMap<String, String> {
    tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect()
}

fn experiment(seen: Experiment) -> SeenExperiment {
    SeenExperiment {
        tags: tags(&seen.tags),
        lifecycle: lifecycle(seen.lifecycle_stage.as_deref()),
        id: seen.experiment_id,
        name: seen.name,
        ..SeenExperiment::default()
    }
}

fn seen_run(run: Run) -> SeenRun {
    let Run { info, data, .. } = run;
    let cut = |value: &Tag, most: usize| value.value.chars().count() == most;
    let mut truncated: Vec<String> = Vec::new();
    truncated.extend(data.tags.iter().filter(|tag| cut(tag, TAG_CUT)).map(|tag| format!("tags.{}", tag.key)));
    // Of parameters the bare name; the store shows it beside the value.
    truncated.extend(data.params.iter().filter(|param| cut(param, PARAM_CUT)).map(|param| param.key.clone()));
    let mut tags = tags(&data.tags);
    let (parent, commit) = (tags.get(PARENT).cloned(), tags.get(COMMIT).cloned());
    let mut metrics = BTreeMap::new();
    for metric in data.metrics {
        // One that is no number has no place among numbers, and is told with the tags.
        if metric.value.is_finite() {
            metrics.insert(metric.key, metric.value);
        } else {
            let words = if metric.value.is_nan() { "nan".to_owned() } else { metric.value.to_string() };
            tags.insert(format!("metrics.{}", metric.key), words);
        }
    }
    SeenRun {
        lifecycle: lifecycle(info.lifecycle_stage.as_deref()),
        id: info.run_id,
        experiment: Some(info.experiment_id).filter(|id| !id.is_empty()),
        parent,
        name: info.run_name,
        status: info.status,
        started_at: instant(info.start_time),
        ended_at: instant(info.end_time),
        user: info.user_id,
        source_commit: commit,
        params: data.params.into_iter().map(|param| (param.key, param.value)).collect(),
        metrics,
        tags,
        truncated,
    }
}

/// Training sets that a run names: as dataset inputs, or by the tag of sets that were retrieved before it.
fn uses_of(run: &Run) -> Vec<Used> {
    let mut found: BTreeMap<TrainingSetId, Used> = BTreeMap::new();
    let used = |training_set, role, how| Used {
        training_set,
        run: run.info.run_id.clone(),
        experiment: run.info.experiment_id.clone(),
        role,
        how,
    };
    for input in run.inputs.dataset_inputs.iter().filter(|input| input.dataset.source_type == SOURCE_TYPE) {
        let Ok(id) = input.dataset.digest.parse() else { continue };
        let context = input.tags.iter().find(|tag| tag.key == CONTEXT).map(|tag| tag.value.as_str());
        let role = match context {
            Some("training") => Role::Train,
            Some("validation") => Role::Validate,
            Some("testing") => Role::Test,
            Some("scoring") => Role::Score,
            _ => Role::Unknown,
        };
        found.insert(id, used(id, role, How::Tag));
    }
    let pending = run.data.tags.iter().filter(|tag| tag.key == PENDING);
    for id in pending.flat_map(|tag| tag.value.split(',')).filter_map(|id| id.trim().parse().ok()) {
        let role = found.get(&id).map_or(Role::Unknown, |input| input.role);
        found.insert(id, used(id, role, How::Pending));
    }
    found.into_values().collect()
}

async fn model_version(client: &Client, listed: ModelVersion) -> Result<SeenModelVersion> {
    let present = |text: Option<String>| text.filter(|text| !text.is_empty());
    let source = listed.source.unwrap_or_default();
    let of_source = || {
        let id = source.strip_prefix("models:/").filter(|id| id.starts_with("m-"))?;
        id.split('/').next().map(str::to_owned)
    };
    let logged = present(listed.model_id).or_else(of_source);
    let run = match (present(listed.run_id), &logged) {
        (None, Some(logged)) => client.run_of_logged_model(logged).await?,
        (run, _) => run,
    };
    Ok(SeenModelVersion {
        id: Some(format!("{}/{}/{}", listed.name, listed.version, listed.creation_timestamp.unwrap_or(0))),
        run,
        logged_model: logged,
        created_at: instant(listed.creation_timestamp),
        status: listed.status,
        lifecycle: Some(Lifecycle::Active),
        tags: tags(&listed.tags),
        model: listed.name,
        version: listed.version,
        renamed_from: None,
        source_uri: Some(source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(model: &str, number: &str, created: i64) -> SeenModelVersion {
        SeenModelVersion {
            id: Some(format!("{model}/{number}/{created}")),
            model: model.to_owned(),
            version: number.to_owned(),
            lifecycle: Some(Lifecycle::Active),
            ..SeenModelVersion::default()
        }
    }

    fn model(name: &str, aliases: &[(&str, &str)]) -> Model {
        let aliases: Vec<serde_json::Value> = aliases
            .iter()
            .map(|(alias, version)| serde_json::json!({ "alias": alias, "version": version }))
            .collect();
        serde_json::from_value(serde_json::json!({ "name": name, "aliases": aliases })).unwrap()
    }

    fn compared(known: &Known, models: &[Model], versions: Vec<SeenModelVersion>) -> Pass {
        let mut pass = Pass::new(Timestamp(0), None);
        pass.compare_registry(known, models, versions);
        pass
    }

    fn known() -> Known {
        Known {
            models: ["delay".to_owned()].into(),
            model_versions: ["delay/1/10".to_owned(), "delay/2/20".to_owned()].into(),
            aliases: [(("delay".to_owned(), "champion".to_owned()), Some("delay/1/10".to_owned()))].into(),
            ..Known::default()
        }
    }

    #[test]
    fn an_alias_that_moved_or_went_is_told() {
        let versions = || vec![version("delay", "1", 10), version("delay", "2", 20)];
        let pass = compared(&known(), &[model("delay", &[("champion", "2")])], versions());
        let moved = |version: Option<&str>| {
            vec![Moved {
                model: "delay".to_owned(),
                alias: "champion".to_owned(),
                version: version.map(str::to_owned),
            }]
        };
        assert_eq!(pass.moved(&known()), moved(Some("delay/2/20")));
        assert_eq!((pass.complete().found, pass.complete().gone), (4, 0));
        let pass = compared(&known(), &[model("delay", &[])], versions());
        assert_eq!(pass.moved(&known()), moved(None));
        let pass = compared(&known(), &[model("delay", &[("champion", "1")])], versions());
        assert_eq!(pass.moved(&known()), []);
        // Set between the two listings.
        let pass = compared(&known(), &[model("delay", &[("champion", "1"), ("next", "3")])], versions());
        assert!(pass.aliases.iter().all(|seen| seen.alias != "next"));
    }

    #[test]
    fn a_model_that_was_renamed_is_none_that_went() {
        let versions = vec![version("lateness", "1", 10), version("lateness", "2", 20)];
        let pass = compared(&known(), &[model("lateness", &[("champion", "1")])], versions);
        assert_eq!(pass.complete().gone, 0);
        assert!(pass.model_versions.iter().all(|seen| seen.renamed_from.as_deref() == Some("delay")));
        assert_eq!(pass.renamed(), [Renamed { before: "delay".to_owned(), now: "lateness".to_owned() }]);
        assert_eq!(pass.moved(&known()), []);
    }

    #[test]
    fn a_version_that_was_made_again_is_another() {
        let pass =
            compared(&known(), &[model("delay", &[("champion", "1")])], vec![version("delay", "1", 99)]);
        let gone: Vec<&str> = pass
            .model_versions
            .iter()
            .filter(|seen| seen.lifecycle == Some(Lifecycle::Gone))
            .filter_map(|seen| seen.id.as_deref())
            .collect();
        assert_eq!(gone, ["delay/1/10", "delay/2/20"]);
        assert_eq!(pass.moved(&known()).len(), 1);
        let gone = compared(&known(), &[], Vec::new());
        assert_eq!((gone.complete().gone, gone.aliases.len()), (3, 1));
    }

    #[test]
    fn a_use_that_the_server_does_not_name_is_told() {
        let sets = ["01982f5a-7c31-7e90-b1d4-5a7e8c9d0e1f", "01982f5a-7c31-7e90-b1d4-5a7e8c9d0e20"];
        let sets = sets.map(|id| id.parse::<TrainingSetId>().unwrap());
        let uses = ["there", "went", "unseen"].map(|run| (sets[0], run.to_owned()));
        let known = Known {
            uses: uses.into_iter().chain([(sets[1], "there".to_owned())]).collect(),
            gone: ["went".to_owned()].into(),
            ..Known::default()
        };
        let mut pass = Pass::new(Timestamp(0), None);
        let run = |id: &str, lifecycle| SeenRun {
            id: id.to_owned(),
            experiment: Some("7".to_owned()),
            lifecycle: Some(lifecycle),
            ..SeenRun::default()
        };
        pass.runs = vec![run("there", Lifecycle::Deleted), run("went", Lifecycle::Gone)];
        pass.uses = vec![Used {
            training_set: sets[1],
            run: "there".to_owned(),
            experiment: "7".to_owned(),
            role: Role::Train,
            how: How::Tag,
        }];
        assert_eq!(pass.unnamed(&known), [(sets[0], "7", "there")]);
        assert_eq!(pass.newly_gone(&known), []);
        assert_eq!(
            pass.newly_gone(&Known::default()),
            [Gone { kind: "run", id: "went".to_owned() }],
            "it was not known to have gone"
        );
    }

    #[test]
    fn a_run_tells_its_sets_and_what_was_cut() {
        let id = "01982f5a-7c31-7e90-b1d4-5a7e8c9d0e1f";
        let other = "01982f5a-7c31-7e90-b1d4-5a7e8c9d0e20";
        let input = |digest: &str, kind: &str| {
            serde_json::json!({
                "dataset": { "digest": digest, "source_type": kind },
                "tags": [{ "key": CONTEXT, "value": "testing" }],
            })
        };
        let run: Run = serde_json::from_value(serde_json::json!({
            "info": { "run_id": "ab", "experiment_id": "7", "lifecycle_stage": "deleted", "end_time": 5 },
            "data": {
                "metrics": [{ "key": "auc", "value": 0.5 }, { "key": "loss", "value": "-Infinity" }],
                "params": [{ "key": "cut", "value": "é".repeat(PARAM_CUT) }, { "key": "whole" }],
                "tags": [{ "key": PENDING, "value": format!("{other},{id},none") }, { "key": PARENT, "value": "cd" }],
            },
            "inputs": { "dataset_inputs": [input(id, SOURCE_TYPE), input(other, "s3"), input("x", SOURCE_TYPE)] },
        }))
        .unwrap();
        let uses = uses_of(&run);
        let told: Vec<(String, Role, How)> =
            uses.iter().map(|used| (used.training_set.to_string(), used.role, used.how)).collect();
        let expected =
            [(id.to_owned(), Role::Test, How::Pending), (other.to_owned(), Role::Unknown, How::Pending)];
        assert_eq!(told, expected);
        let seen = seen_run(run);
        assert_eq!(seen.truncated, ["cut"]);
        assert_eq!((seen.parent.as_deref(), seen.lifecycle), (Some("cd"), Some(Lifecycle::Deleted)));
        assert_eq!(seen.metrics.keys().collect::<Vec<_>>(), ["auc"]);
        assert_eq!(seen.tags["metrics.loss"], "-inf");
        assert_eq!(seen.ended_at, Some(Timestamp(5_000)));
    }
}
