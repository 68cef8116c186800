//! Facets: the named parts of an event, each with a schema of its own.

use serde_json::{Map, Value, json};

use super::PRODUCER;

/// A kind of facet: its key, and the schema that it follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facet {
    key: &'static str,
    schema: &'static str,
    /// The version of the schema; ours are not at OpenLineage's address.
    version: Version,
}

#[derive(Clone, Copy, Debug)]
enum Version {
    Official(&'static str),
    Ours(&'static str),
}

const fn official(key: &'static str, schema: &'static str, version: &'static str) -> Facet {
    Facet { key, schema, version: Version::Official(version) }
}

const fn ours(key: &'static str, schema: &'static str, version: &'static str) -> Facet {
    Facet { key, schema, version: Version::Ours(version) }
}

impl Facet {
    pub const SCHEMA: Self = official("schema", "SchemaDatasetFacet", "1-2-0");
    pub const VERSION: Self = official("version", "DatasetVersionDatasetFacet", "1-0-1");
    pub const COLUMN_LINEAGE: Self = official("columnLineage", "ColumnLineageDatasetFacet", "1-2-0");
    pub const DATASET_OWNERSHIP: Self = official("ownership", "OwnershipDatasetFacet", "1-0-1");
    pub const DOCUMENTATION: Self = official("documentation", "DocumentationDatasetFacet", "1-1-0");
    pub const TAGS: Self = official("tags", "TagsDatasetFacet", "1-0-0");
    pub const LIFECYCLE: Self = official("lifecycleStateChange", "LifecycleStateChangeDatasetFacet", "1-0-1");
    pub const DATASET_TYPE: Self = official("datasetType", "DatasetTypeDatasetFacet", "1-0-1");
    pub const STORAGE: Self = official("storage", "StorageDatasetFacet", "1-0-1");
    pub const QUALITY: Self = official("dataQualityMetrics", "DataQualityMetricsDatasetFacet", "1-0-0");
    pub const ASSERTIONS: Self =
        official("dataQualityAssertions", "DataQualityAssertionsDatasetFacet", "1-1-0");
    pub const OUTPUT_STATISTICS: Self =
        official("outputStatistics", "OutputStatisticsOutputDatasetFacet", "1-0-2");
    pub const INPUT_STATISTICS: Self =
        official("inputStatistics", "InputStatisticsInputDatasetFacet", "1-0-0");
    pub const JOB_TYPE: Self = official("jobType", "JobTypeJobFacet", "2-0-4");
    pub const JOB_OWNERSHIP: Self = official("ownership", "OwnershipJobFacet", "1-0-1");
    pub const PARENT: Self = official("parent", "ParentRunFacet", "1-2-0");
    pub const ENGINE: Self = official("processing_engine", "ProcessingEngineRunFacet", "1-1-1");
    pub const ERROR: Self = official("errorMessage", "ErrorMessageRunFacet", "1-0-1");

    pub const ENTRY: Self = ours("lineament_entry", "LineamentEntryRunFacet", "1-0-0");
    pub const BATCH: Self = ours("lineament_batch", "LineamentBatchRunFacet", "1-0-0");
    pub const READ: Self = ours("lineament_read", "LineamentReadRunFacet", "1-0-0");
    pub const USE: Self = ours("lineament_use", "LineamentUseRunFacet", "1-0-0");
    pub const TRAINING_SET: Self = ours("lineament_trainingSet", "LineamentTrainingSetDatasetFacet", "1-0-0");
    pub const DEPLOYMENT: Self = ours("lineament_deployment", "LineamentDeploymentDatasetFacet", "1-0-0");

    fn schema_url(self) -> String {
        let Self { schema, .. } = self;
        match self.version {
            Version::Official(version) => {
                format!("https://openlineage.io/spec/facets/{version}/{schema}.json#/$defs/{schema}")
            }
            Version::Ours(version) => format!("urn:lineament:facets:{version}:{schema}"),
        }
    }
}

/// The facets of one thing, by key.
#[derive(Clone, Debug, Default)]
pub(super) struct Facets(Map<String, Value>);

impl Facets {
    pub fn with(mut self, facet: Facet, body: Value) -> Self {
        let mut fields = Map::new();
        fields.insert("_producer".to_owned(), PRODUCER.into());
        fields.insert("_schemaURL".to_owned(), facet.schema_url().into());
        if let Value::Object(body) = body {
            fields.extend(body);
        }
        self.0.insert(facet.key.to_owned(), Value::Object(fields));
        self
    }

    pub fn with_some(self, facet: Facet, body: Option<Value>) -> Self {
        match body {
            Some(body) => self.with(facet, body),
            None => self,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn json(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

/// The body of `jobType`.
pub(super) fn job_type(kind: &str) -> Value {
    json!({ "processingType": "BATCH", "integration": "LINEAMENT", "jobType": kind })
}

/// The body of `processing_engine`: a program by name and version, as `lineament 0.1.0`.
pub(super) fn engine(program: &str) -> Value {
    let (name, version) = program.rsplit_once(' ').unwrap_or(("lineament", program));
    json!({ "name": name, "version": version })
}

/// The body of `errorMessage`.
pub(super) fn error(message: &str) -> Value {
    json!({ "message": message, "programmingLanguage": "Rust" })
}

/// Leaves out what is null.
pub(super) fn known(mut body: Value) -> Value {
    if let Value::Object(fields) = &mut body {
        fields.retain(|_, value| !value.is_null());
    }
    body
}
