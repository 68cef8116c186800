//! Runs of tracking systems: who asked and wrote, and what was trained on what.
//!
//! A run that a store has heard of is an OpenLineage run: it starts when it is first heard of, and ends when
//! its system says so. Other events (`OTHER`) add the training sets that it used and the models that it made.

use catalog::records::{ExternalLinked, Kind, UseRecorded};
use catalog::state::registry::RunNow;
use feature::{Id, RunId, Sequence};
use serde_json::{Value, json};

use super::Telling;
use super::event::{Dataset, RunOf, RunState};
use super::facet::{Facet, Facets, engine, error, job_type, known};
use super::naming::{Named, with_dashes};

/// Runs within runs that are looked through for the outermost.
const DEEPEST: usize = 16;

/// A run of a tracking system, as OpenLineage names it.
struct Tracked {
    id: String,
    job: Named,
}

impl Tracked {
    fn json(&self) -> Value {
        json!({ "run": { "runId": self.id }, "job": self.job.json() })
    }
}

impl Telling<'_> {
    /// Facets of the runs that an entry tells of: who did it, with what, and for which other run.
    pub(super) fn run_facets(&self) -> Facets {
        self.facets_of_run(&self.by.program, self.by.run.as_deref())
    }

    /// Facets of a run that the entry's writer may have told for others.
    pub(super) fn facets_of_run(&self, program: &str, run: Option<&str>) -> Facets {
        let by = self.by;
        let entry = known(json!({
            "sequence": by.sequence,
            "committedAt": by.committed_at.to_string(),
            "principal": by.principal,
            "run": by.run,
            "experiment": by.experiment,
        }));
        let run = run.and_then(|run| self.state.registry().run(run));
        Facets::default()
            .with(Facet::ENGINE, engine(program))
            .with(Facet::ENTRY, entry)
            .with_some(Facet::PARENT, run.and_then(|run| self.parent(run)))
    }

    /// The body of `parent`: the run, and the outermost that it is part of.
    fn parent(&self, run: RunId) -> Option<Value> {
        let mut facet = self.tracked(run)?.json();
        if let Some(root) = self.outermost(run).and_then(|root| self.tracked(root)) {
            facet["root"] = root.json();
        }
        Some(facet)
    }

    fn now(&self, run: RunId) -> RunNow {
        self.state.registry().run_at(run, self.by.sequence).unwrap_or_default()
    }

    fn outermost(&self, run: RunId) -> Option<RunId> {
        let mut outer = None;
        let mut at = run;
        for _ in 0..DEEPEST {
            match self.now(at).parent {
                Some(parent) => {
                    outer = Some(parent);
                    at = parent;
                }
                None => break,
            }
        }
        outer
    }

    /// A run and its job are named as of the entry that first told of it, so that both stay.
    fn tracked(&self, run: RunId) -> Option<Tracked> {
        let registry = self.state.registry();
        let link = registry.links().iter().find(|link| link.id == run.uuid())?;
        let first = link.by.sequence;
        let own = || run.to_string();
        let id = if link.external.system == "mlflow" {
            with_dashes(&link.external.id).unwrap_or_else(own)
        } else {
            own()
        };
        let experiment = registry.run_at(run, first).and_then(|now| now.experiment);
        let name = experiment.and_then(|experiment| {
            let name = registry.experiment_at(experiment, first).and_then(|now| now.name);
            name.or_else(|| registry.external(experiment).map(|external| external.id.clone()))
        });
        let namespace = self.namespace.of_external(&link.external);
        let job = name.map_or_else(|| "runs".to_owned(), |name| format!("experiment.{name}"));
        Some(Tracked { id, job: namespace.named(job) })
    }

    fn tracked_run(&self, run: RunId) -> Option<RunOf> {
        let Tracked { id, job } = self.tracked(run)?;
        let parent = self.now(run).parent.and_then(|parent| self.parent(parent));
        let facets = Facets::default().with_some(Facet::PARENT, parent);
        let job_facets = Facets::default().with(Facet::JOB_TYPE, job_type("JOB"));
        Some(RunOf { id, run_facets: facets, job, job_facets })
    }

    pub(super) fn linked(&mut self, body: &ExternalLinked) {
        if body.kind != Kind::Run {
            return;
        }
        let id = RunId::from(body.id);
        let Some(run) = self.tracked_run(id) else { return };
        let began = self.now(id).started_at.unwrap_or(self.by.committed_at);
        self.run_event(RunState::Start, began.min(self.by.committed_at), &run, &[], &[]);
    }

    /// A run's end, once, at the entry that first tells of it.
    pub(super) fn run_observed(&mut self, id: RunId) {
        let now = self.now(id);
        let Some(end) = now.status.as_deref().and_then(ended) else { return };
        let before = self.state.registry().run_at(id, self.before()).unwrap_or_default();
        if before.status.as_deref().and_then(ended).is_some() {
            return;
        }
        let Some(mut run) = self.tracked_run(id) else { return };
        if end == RunState::Fail {
            let message = format!("its system says {}", now.status.as_deref().unwrap_or_default());
            run.run_facets = run.run_facets.with(Facet::ERROR, error(&message));
        }
        let at = now.ended_at.unwrap_or(self.by.committed_at);
        let (inputs, outputs) = (self.used_by(id), self.made_by(id));
        self.run_event(end, at, &run, &inputs, &outputs);
    }

    pub(super) fn used(&mut self, body: &UseRecorded) {
        let Some(mut run) = self.tracked_run(body.run) else { return };
        let Some(set) = self.state.training_set(body.training_set) else { return };
        let input = self.training_set_used(set);
        let facet = json!({ "trainingSet": body.training_set, "role": body.role, "how": body.how });
        run.run_facets = run.run_facets.with(Facet::USE, facet);
        self.run_event(RunState::Other, self.by.committed_at, &run, &[input], &[]);
    }

    pub(super) fn made(&mut self, id: RunId, model: &Dataset) {
        let Some(run) = self.tracked_run(id) else { return };
        self.run_event(RunState::Other, self.by.committed_at, &run, &[], std::slice::from_ref(model));
    }

    fn used_by(&self, run: RunId) -> Vec<Dataset> {
        let mut sets: Vec<Dataset> = Vec::new();
        for noted in self.state.registry().uses() {
            let used = &noted.record;
            let set = self.state.training_set(used.training_set).filter(|_| used.run == run);
            let Some(input) = set.map(|set| self.training_set_used(set)) else { continue };
            // A set of one name that was made again is the same dataset: the last one's facets stand.
            sets.retain(|known| known.named != input.named);
            sets.push(input);
        }
        sets
    }

    fn made_by(&self, run: RunId) -> Vec<Dataset> {
        let at: Sequence = self.by.sequence;
        let registry = self.state.registry();
        let mut models: Vec<Dataset> = Vec::new();
        for (id, _) in registry.model_versions() {
            let Some(now) = registry.model_version_at(id, at) else { continue };
            if now.run != Some(run) {
                continue;
            }
            let Some(model) = self.model_version(id) else { continue };
            models.retain(|known| known.named != model.named);
            models.push(model);
        }
        models
    }
}

/// What a status means, in the words of the systems that are known.
fn ended(status: &str) -> Option<RunState> {
    match status.to_ascii_uppercase().as_str() {
        "FINISHED" | "COMPLETE" | "COMPLETED" | "SUCCESS" | "SUCCEEDED" => Some(RunState::Complete),
        "FAILED" | "FAILURE" | "ERROR" | "CRASHED" => Some(RunState::Fail),
        "KILLED" | "CANCELED" | "CANCELLED" | "ABORTED" | "STOPPED" => Some(RunState::Abort),
        _ => None,
    }
}
