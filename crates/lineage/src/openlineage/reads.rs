//! Ad-hoc reads: one run of `query.<kind>` each, with the views that it read and without an output.

use std::collections::{BTreeSet, HashMap};

use catalog::records::ReadsRecorded;
use catalog::state::ViewVersion;
use feature::{Sequence, Timestamp};
use serde_json::json;

use super::Telling;
use super::event::{RunOf, RunState};
use super::facet::{Facet, Facets, error, job_type, known};

/// A read as it was recorded: a row of `reads/{id}.parquet`, without its statement and its edges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRead {
    pub id: String,
    /// By which call, as `sql`; earlier programs did not record it.
    pub kind: Option<String>,
    pub at: Timestamp,
    pub principal: String,
    pub program: String,
    pub run: Option<String>,
    pub experiment: Option<String>,
    /// The newest snapshot that rows were read from.
    pub sequence: Sequence,
    /// `weather@2.temp`, …; `weather@2.*` where only the number of rows counts.
    pub columns: Vec<String>,
    pub rows: u64,
    pub micros: u64,
    pub failed: bool,
    /// What its columns could not be traced through, and why.
    pub untraced: Option<String>,
}

impl Telling<'_> {
    pub(super) fn reads_recorded(&mut self, body: &ReadsRecorded) {
        let Some(reads) = self.material.reads.get(&body.object.path) else { return };
        let views: HashMap<String, &ViewVersion> =
            self.state.views().map(|version| (version.label(), version)).collect();
        for read in reads {
            self.read(read, &views);
        }
    }

    fn read(&mut self, read: &RecordedRead, views: &HashMap<String, &ViewVersion>) {
        let facet = known(json!({
            "principal": read.principal,
            "run": read.run,
            "experiment": read.experiment,
            "snapshot": read.sequence,
            "columns": read.columns,
            "rows": read.rows,
            "untraced": read.untraced,
        }));
        let job = read.kind.as_ref().map_or_else(|| "query".to_owned(), |kind| format!("query.{kind}"));
        let mut run = RunOf {
            id: read.id.clone(),
            run_facets: self.facets_of_run(&read.program, read.run.as_deref()).with(Facet::READ, facet),
            job: self.namespace.named(job),
            job_facets: Facets::default().with(Facet::JOB_TYPE, job_type("QUERY")),
        };
        let labels = read.columns.iter().filter_map(|column| column.rsplit_once('.'));
        let labels: BTreeSet<&str> = labels.map(|(label, _)| label).collect();
        let versions = labels.into_iter().filter_map(|label| views.get(label).copied());
        let inputs = self.views_read(versions, read.sequence);
        let began = read.at.min(self.by.committed_at);
        let took = i64::try_from(read.micros).unwrap_or(i64::MAX);
        let ended = Timestamp(read.at.micros().saturating_add(took)).min(self.by.committed_at);
        self.run_event(RunState::Start, began, &run, &inputs, &[]);
        if !read.failed {
            self.run_event(RunState::Complete, ended, &run, &inputs, &[]);
            return;
        }
        // What it failed of may hold values of rows.
        let message = format!("it failed after {} rows; lineament.reads tells of what", read.rows);
        run.run_facets = run.run_facets.with(Facet::ERROR, error(&message));
        self.run_event(RunState::Fail, ended, &run, &inputs, &[]);
    }
}
