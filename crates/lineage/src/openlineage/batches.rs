//! Batches: one run of `ingest.<view>` each, which ended well or was refused.

use catalog::records::{BatchCommitted, BatchRefused, Derivation, SourceFile};
use catalog::state::ViewVersion;
use feature::BatchId;
use feature::definition::KnownAt;
use serde_json::{Value, json};

use super::Telling;
use super::datasets::owners;
use super::event::{Dataset, RunOf, RunState};
use super::facet::{Facet, Facets, error, job_type, known};
use super::naming::view_name;

/// What both kinds of batch say of how they came in.
struct Offered<'a> {
    batch: BatchId,
    rows: u64,
    rejected: u64,
    sources: &'a [SourceFile],
}

impl Telling<'_> {
    pub(super) fn batch_committed(&mut self, body: &BatchCommitted) {
        let Some(version) = self.state.view_version(body.version) else { return };
        let offered = Offered {
            batch: body.batch,
            rows: body.rows + body.rejected,
            rejected: body.rejected,
            sources: &body.sources,
        };
        let facet = known(json!({
            "id": body.batch,
            "version": version.label(),
            "digest": body.digest,
            "rows": body.rows,
            "rejected": body.rejected,
            "knownAt": body.known_at,
            "steps": self.steps(body.batch),
        }));
        let mut run = self.ingest_run(version, body.batch, facet);
        let inputs = match &body.derivation {
            Some(derivation) => {
                run.job = self.namespace.named(format!("derive.{}", view_name(version)));
                self.parents(derivation)
            }
            None => self.sources(version, &offered, true),
        };
        let mut output = self.view(version, self.by.sequence);
        self.run_event(RunState::Start, self.minted(body.batch), &run, &inputs, &[]);
        let statistics = match self.material.profiles.get(&body.batch) {
            Some(profile) => {
                output.facets = output.facets.with(Facet::QUALITY, profile.metrics());
                profile.statistics()
            }
            None => json!({ "rowCount": body.rows }),
        };
        output.of_this_run = output.of_this_run.with(Facet::OUTPUT_STATISTICS, statistics);
        output.facets = output.facets.with_some(Facet::COLUMN_LINEAGE, self.derived_columns(version, body));
        self.run_event(RunState::Complete, self.by.committed_at, &run, &inputs, &[output]);
    }

    pub(super) fn batch_refused(&mut self, body: &BatchRefused) {
        let Some(version) = self.state.view_version(body.version) else { return };
        let offered =
            Offered { batch: body.batch, rows: body.rows, rejected: body.rejected, sources: &body.sources };
        let facet = known(json!({
            "id": body.batch,
            "version": version.label(),
            "rows": 0,
            "rejected": body.rejected,
            "steps": self.steps(body.batch),
        }));
        let mut run = self.ingest_run(version, body.batch, facet);
        let inputs = self.sources(version, &offered, false);
        self.run_event(RunState::Start, self.minted(body.batch), &run, &inputs, &[]);
        let message = format!(
            "{} of {} rows were rejected, more than `{}` bears, so none was taken",
            body.rejected,
            body.rows,
            version.label()
        );
        run.run_facets = run.run_facets.with(Facet::ERROR, error(&message));
        self.run_event(RunState::Fail, self.by.committed_at, &run, &inputs, &[]);
    }

    fn ingest_run(&self, version: &ViewVersion, batch: BatchId, facet: Value) -> RunOf {
        RunOf {
            id: batch.to_string(),
            run_facets: self.run_facets().with(Facet::BATCH, facet),
            job: self.namespace.named(format!("ingest.{}", view_name(version))),
            job_facets: Facets::default()
                .with(Facet::JOB_TYPE, job_type("JOB"))
                .with_some(Facet::JOB_OWNERSHIP, owners(&version.definition.about)),
        }
    }

    fn steps(&self, batch: BatchId) -> Option<&[String]> {
        let body = self.material.bodies.get(&batch)?;
        (!body.steps.is_empty()).then_some(body.steps.as_slice())
    }

    /// The body of `columnLineage` of a derived view, where its refresh told what each column comes from. Columns that the
    /// query does not give, as a `known_at` that is the time of arrival, are none of it.
    fn derived_columns(&self, version: &ViewVersion, body: &BatchCommitted) -> Option<Value> {
        let lineage = self.material.bodies.get(&body.batch)?.derived.as_ref()?.lineage.as_ref()?;
        let view = &version.definition;
        let mut columns: Vec<&str> = version.keys().iter().map(|key| key.name.as_str()).collect();
        columns.extend(view.occurrence.iter().map(|occurrence| occurrence.name.as_str()));
        columns.push("valid_at");
        if matches!(view.time.known_at, KnownAt::Column(_)) {
            columns.push("known_at");
        }
        columns.extend(view.features.iter().map(|feature| feature.name.as_str()));
        // A query of a derived view has no rows of a caller.
        Some(self.lineage_of(&columns, lineage, &self.namespace.named(view_name(version))))
    }

    /// What a derived view was made of, as it was read.
    fn parents(&self, derivation: &Derivation) -> Vec<Dataset> {
        let versions = derivation.parents.iter().filter_map(|parent| self.state.view_version(parent.version));
        versions.map(|version| self.view(version, derivation.sequence)).collect()
    }

    /// Where the rows came from. Bytes and digests are known of files; where some origins were none, which is
    /// which is not.
    fn sources(&self, version: &ViewVersion, offered: &Offered<'_>, taken: bool) -> Vec<Dataset> {
        let origins = self.material.bodies.get(&offered.batch).map(|body| body.origins.as_slice());
        let origins = origins.unwrap_or_default();
        let files = if origins.len() == offered.sources.len() { offered.sources } else { &[] };
        let mut inputs: Vec<Dataset> = Vec::with_capacity(origins.len());
        for (place, origin) in origins.iter().enumerate() {
            let named = self.namespace.named(format!("sources/{origin}"));
            let file = files.get(place);
            // Files of one name in several folders are one dataset here: the last one's facets stand.
            inputs.retain(|input| input.named != named);
            let kind = if file.is_some() { "FILE" } else { "STREAM" };
            let facets = Facets::default()
                .with(Facet::DATASET_TYPE, json!({ "datasetType": kind }))
                .with_some(Facet::VERSION, file.map(|file| json!({ "datasetVersion": file.digest })));
            let mut input = Dataset::new(named, facets);
            let statistics = file.map(|file| json!({ "size": file.bytes, "fileCount": 1 }));
            input.of_this_run = input.of_this_run.with_some(Facet::INPUT_STATISTICS, statistics);
            inputs.push(input);
        }
        // Rows are counted by batch, so what held of them is said of a source only where it is the only one.
        if let [input] = inputs.as_mut_slice() {
            let facets = std::mem::take(&mut input.of_this_run);
            input.of_this_run = facets.with(Facet::ASSERTIONS, assertions(version, offered, taken));
        }
        inputs
    }
}

/// The body of `dataQualityAssertions`: whether all rows were accepted, and whether enough were.
fn assertions(version: &ViewVersion, offered: &Offered<'_>, taken: bool) -> Value {
    let borne = version.definition.reject_above.unwrap_or(1.0);
    let actual = format!("{} of {} rows", offered.rejected, offered.rows);
    json!({ "assertions": [
        {
            "assertion": "custom_rows_accepted",
            "success": offered.rejected == 0,
            "severity": "warn",
            "description": "Every row fits the definition of the view.",
            "expected": "0 rows rejected",
            "actual": actual,
        },
        {
            "assertion": "custom_reject_above",
            "success": taken,
            "severity": "error",
            "description": "No greater share of the rows is rejected than the view bears.",
            "expected": borne.to_string(),
            "actual": actual,
        },
    ] })
}
