//! The envelope of an event, and the times in it.

use std::fmt;

use feature::{Id, Sequence, Timestamp};
use serde_json::{Map, Value, json};

use super::facet::Facets;
use super::naming::Named;
use super::{PRODUCER, Telling};

const SCHEMA: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json";

/// One OpenLineage event. Its place in the log is (`sequence`, `part`): events of one store are ordered by
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub sequence: Sequence,
    /// Which of the entry's events it is, from 0 on.
    pub part: usize,
    /// Which of the entry's records it tells of, from 0 on.
    pub record: usize,
    /// What it tells, for people: `COMPLETE of ingest.weather, run 0198…`.
    pub about: String,
    /// Compact JSON on one line.
    pub json: String,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} of sequence {} ({})", self.part, self.sequence, self.about)
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunState {
    Start,
    Complete,
    Fail,
    Abort,
    /// Tells more of a run, whatever its state.
    Other,
}

impl RunState {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Complete => "COMPLETE",
            Self::Fail => "FAIL",
            Self::Abort => "ABORT",
            Self::Other => "OTHER",
        }
    }
}

/// A dataset of an event, with its facets.
#[derive(Clone, Debug)]
pub(super) struct Dataset {
    pub named: Named,
    pub facets: Facets,
    /// `inputFacets` or `outputFacets`, by where it stands.
    pub of_this_run: Facets,
}

impl Dataset {
    pub fn new(named: Named, facets: Facets) -> Self {
        Self { named, facets, of_this_run: Facets::default() }
    }

    fn json(&self, facets_of_this_run: &str) -> Value {
        let mut dataset = Map::new();
        dataset.insert("namespace".to_owned(), self.named.namespace.clone().into());
        dataset.insert("name".to_owned(), self.named.name.clone().into());
        dataset.insert("facets".to_owned(), self.facets.json());
        if !self.of_this_run.is_empty() {
            dataset.insert(facets_of_this_run.to_owned(), self.of_this_run.json());
        }
        Value::Object(dataset)
    }
}

/// A run of a job: what its events have in common.
#[derive(Clone, Debug)]
pub(super) struct RunOf {
    pub id: String,
    pub run_facets: Facets,
    pub job: Named,
    pub job_facets: Facets,
}

impl Telling<'_> {
    pub(super) fn run_event(
        &mut self,
        state: RunState,
        at: Timestamp,
        run: &RunOf,
        inputs: &[Dataset],
        outputs: &[Dataset],
    ) {
        let inputs: Vec<Value> = inputs.iter().map(|input| input.json("inputFacets")).collect();
        let outputs: Vec<Value> = outputs.iter().map(|output| output.json("outputFacets")).collect();
        let mut job = run.job.json();
        job["facets"] = run.job_facets.json();
        let event = json!({
            "eventType": state.name(),
            "eventTime": self.instant(at),
            "run": { "runId": run.id, "facets": run.run_facets.json() },
            "job": job,
            "inputs": inputs,
            "outputs": outputs,
            "producer": PRODUCER,
            "schemaURL": format!("{SCHEMA}#/$defs/RunEvent"),
        });
        self.push(format!("{} of {}, run {}", state.name(), run.job.name, run.id), &event);
    }

    pub(super) fn dataset_event(&mut self, at: Timestamp, dataset: &Dataset) {
        let event = json!({
            "eventTime": self.instant(at),
            "dataset": dataset.json("facets"),
            "producer": PRODUCER,
            "schemaURL": format!("{SCHEMA}#/$defs/DatasetEvent"),
        });
        self.push(format!("dataset {}", dataset.named.name), &event);
    }

    fn push(&mut self, about: String, event: &Value) {
        let (sequence, record) = (self.by.sequence, self.place);
        let part = self.earlier + self.events.len();
        self.events.push(Event { sequence, part, record, about, json: event.to_string() });
    }

    /// An instant as RFC 3339; one that the calendar of four-digit years does not have is that of the entry.
    pub(super) fn instant(&self, at: Timestamp) -> String {
        let text = at.to_string();
        let fits = text.ends_with('Z') && text.as_bytes().get(4) == Some(&b'-');
        if fits { text } else { self.by.committed_at.to_string() }
    }

    /// When an id was minted, which is when its work began: a UUID of version 7 holds it. Never after the
    /// entry.
    pub(super) fn minted(&self, id: impl Id) -> Timestamp {
        let uuid = id.uuid();
        if uuid.get_version_num() != 7 {
            return self.by.committed_at;
        }
        let millis = i64::try_from(uuid.as_u128() >> 80).unwrap_or(i64::MAX);
        Timestamp(millis.saturating_mul(1000)).min(self.by.committed_at)
    }
}
