//! A store as it was at one sequence: what a query sees, from its planning to its last row.

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use catalog::state::{State, ViewVersion};
use catalog::{Catalog, VisibleFile};
use datafusion::catalog::TableProvider;
use datafusion::common::{DataFusionError, Result, plan_datafusion_err};
use feature::Sequence;
use feature::name::{nearest, split_project};

use crate::access::{AccessRelations, ClosedTable, Denied, Guard, Guards};
use crate::data_files::DataFiles;
use crate::feature_view::FeatureViewTable;

/// The lineage graph as relations. This crate knows that there is one, and not how it is read from the log.
#[async_trait]
pub trait LineageRelations: Send + Sync {
    /// `from_kind`, `from`, `from_label`, `to_kind`, `to`, `to_label`, `edge`, `rows`, `cells`, `role`, `sequence`: every edge at a snapshot.
    async fn edges(&self, snapshot: &Snapshot) -> Result<RecordBatch>;

    /// `kind`, `id`, `problem`, `since`, `blocks`: what the log says of references that lead nowhere, worst first.
    async fn dangling(&self, snapshot: &Snapshot) -> Result<RecordBatch>;

    /// `batch`, `kept_for`, `deployments`, `model_versions`, `training_sets`, `path`: every batch, with what needs it.
    async fn retention(&self, snapshot: &Snapshot) -> Result<RecordBatch>;

    /// What is kept and needs the named thing.
    ///
    /// # Errors
    /// A name of nothing, or of several things.
    async fn kept_by(&self, snapshot: &Snapshot, name: &str) -> Result<RecordBatch>;

    /// Features, views and services that have these words, the best first, as far as the asker of the snapshot may see them.
    ///
    /// # Errors
    /// Words that are none.
    async fn search(&self, snapshot: &Snapshot, words: &str) -> Result<RecordBatch>;

    /// What would be touched if the named thing were wrong or gone.
    ///
    /// # Errors
    /// A name of nothing, or of several things.
    async fn impact(&self, snapshot: &Snapshot, name: &str) -> Result<RecordBatch>;
}

#[derive(Clone)]
pub struct Snapshot {
    pub catalog: Catalog,
    pub state: Arc<State>,
    pub sequence: Sequence,
    pub files: DataFiles,
    pub lineage: Option<Arc<dyn LineageRelations>>,
    pub access: Option<Arc<dyn AccessRelations>>,
    /// What is kept from the asker; none where nothing is governed, and for the store's own work.
    pub guards: Option<Arc<dyn Guards>>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({})", self.sequence)
    }
}

impl Snapshot {
    /// The snapshot at a sequence of a state that has read at least that far.
    pub fn new(catalog: Catalog, state: Arc<State>, sequence: Sequence, files: DataFiles) -> Self {
        Self { catalog, state, sequence, files, lineage: None, access: None, guards: None }
    }

    /// The version of a view in force here, or the one of that number.
    ///
    /// # Errors
    /// Names the nearest view, or the versions that there are.
    pub fn version(&self, project: &str, view: &str, number: Option<u32>) -> Result<Arc<ViewVersion>> {
        if let Some(version) = self.state.view(project, view, number, self.sequence) {
            return Ok(Arc::new(version.clone()));
        }
        if let (Some(number), Some(latest)) = (number, self.state.view(project, view, None, self.sequence)) {
            // Numbers begin with 1 and leave none out.
            let has = match latest.number {
                1 => format!("{view}@1 alone"),
                2 => format!("{view}@1 and {view}@2"),
                newest => format!("{view}@1 to {view}@{newest}"),
            };
            return Err(plan_datafusion_err!("feature view `{view}` has no version {number}; it has {has}"));
        }
        let asked = if project == "default" { view.to_owned() } else { format!("{project}.{view}") };
        let known: Vec<String> = self.state.views_in_force(self.sequence).map(table_name).collect();
        let hint = match nearest(&asked, known.iter().map(String::as_str)) {
            Some(near) => format!(" (did you mean `{near}`?)"),
            None => String::new(),
        };
        let list = if known.is_empty() { "none is defined".to_owned() } else { known.join(", ") };
        Err(plan_datafusion_err!("there is no feature view `{asked}`{hint}; feature views: {list}"))
    }

    pub async fn table(&self, version: Arc<ViewVersion>) -> Result<Arc<FeatureViewTable>> {
        let guard = self.guard(&version)?;
        let files = Arc::new(self.visible_files(&version).await?);
        let table = FeatureViewTable::new(version, files, self.files.clone(), self.sequence);
        Ok(Arc::new(table.guarded(guard)))
    }

    /// The same where a table is looked up by its name: listings look up all of them, and what may not be read fails when it is.
    pub async fn named_table(&self, version: Arc<ViewVersion>) -> Result<Arc<dyn TableProvider>> {
        let error = match self.table(version.clone()).await {
            Ok(table) => return Ok(table),
            Err(error) => error,
        };
        let Some(denied) = Denied::of(&error) else { return Err(error) };
        let table = FeatureViewTable::new(version, Arc::default(), self.files.clone(), self.sequence);
        Ok(Arc::new(ClosedTable::new(table.schema(), denied.clone())))
    }

    /// What is kept from the asker of a version; none where nothing is.
    ///
    /// # Errors
    /// [`Denied`](crate::access::Denied) where the view may not be read at all.
    pub fn guard(&self, version: &ViewVersion) -> Result<Option<Arc<Guard>>> {
        match &self.guards {
            Some(guards) => guards.of(version),
            None => Ok(None),
        }
    }

    pub async fn visible_files(&self, version: &ViewVersion) -> Result<Vec<VisibleFile>> {
        self.catalog
            .files(&self.state, version, self.sequence)
            .await
            .map_err(|error| DataFusionError::External(Box::new(error)))
    }
}

/// What a feature view is called in SQL: `weather`, `fraud.weather`.
pub fn table_name(view: &ViewVersion) -> String {
    let definition = &view.definition;
    if definition.project == feature::Name::default_project() {
        definition.name.to_string()
    } else {
        format!("{}.{}", definition.project, definition.name)
    }
}

/// `fraud.weather@2` in its parts; the project is `default` where none is named.
pub fn split_name(text: &str) -> Option<(String, String, Option<u32>)> {
    let (project, view) = split_project(text);
    let (view, number) = match view.split_once('@') {
        Some((view, number)) => (view, Some(number.parse().ok()?)),
        None => (view, None),
    };
    Some((project.to_owned(), view.to_owned(), number))
}
