//! A query session over one snapshot.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use catalog::{CacheUse, Catalog};
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider, SchemaProvider, TableProvider,
};
use datafusion::common::{DataFusionError, Result, not_impl_err, plan_err};
use datafusion::datasource::MemTable;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use feature::Sequence;
use feature::name::nearest;
use object_store::ObjectStore;
use tokio::sync::Semaphore;

use crate::Memory;
use crate::access::AccessRelations;
use crate::column_lineage::{Traced, trace};
use crate::data_files::DataFiles;
use crate::longest_read::LongestRead;
use crate::point_in_time::any_order::AnyOrder;
use crate::snapshot::{LineageRelations, Snapshot, split_name, table_name};
use crate::spool::{SpoolWriter, spool};
use crate::sql::{self, LineamentQueryPlanner, TableFunctions};
use crate::system;

/// The catalog that all names live in, for tools that ask.
pub const CATALOG: &str = "store";
/// The schema of the system views.
pub const SYSTEM_SCHEMA: &str = "lineament";
/// The schema of tables that live as long as their session.
pub const SESSION_SCHEMA: &str = "session";

/// Statements that are planned at once. A plan takes memory that no pool counts.
const PLANNED_AT_ONCE: usize = 8;

/// Of the memory limit, the share that the rows of an upload may take while they wait to be looked up.
const SPOOL_SHARE: u64 = 8;

/// What all sessions of a process share.
#[derive(Clone)]
pub struct Engine {
    catalog: Catalog,
    files: DataFiles,
    memory: Memory,
    planning: Arc<Semaphore>,
    lineage: Option<Arc<dyn LineageRelations>>,
    access: Option<Arc<dyn AccessRelations>>,
}

impl Engine {
    /// Queries may take half of the machine's memory.
    pub fn new(catalog: Catalog) -> Self {
        let files = DataFiles::new(catalog.store());
        let planning = Arc::new(Semaphore::new(PLANNED_AT_ONCE));
        Self { catalog, files, memory: Memory::default(), planning, lineage: None, access: None }
    }

    /// The same with the lineage graph among its tables.
    pub fn with_lineage(self, lineage: Arc<dyn LineageRelations>) -> Self {
        Self { lineage: Some(lineage), ..self }
    }

    /// The same with who can tell what somebody may do.
    pub fn with_access(self, access: Arc<dyn AccessRelations>) -> Self {
        Self { access: Some(access), ..self }
    }

    /// The same with another limit.
    pub fn with_memory(self, memory: Memory) -> Self {
        Self { memory, ..self }
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Memory and disk for something beside queries.
    pub fn environment(&self) -> Result<Arc<RuntimeEnv>> {
        runtime(&self.memory)
    }

    /// Where rows wait between their sender and a query: in memory up to a share of the limit, else on disk.
    pub fn spool(&self, schema: SchemaRef) -> Result<(SpoolWriter, SendableRecordBatchStream)> {
        let share = usize::try_from(self.memory.query_limit() / SPOOL_SHARE).unwrap_or(usize::MAX);
        Ok(spool(self.environment()?, schema, share))
    }

    /// How the cache of data files' footers is used.
    pub fn footer_cache(&self) -> CacheUse {
        self.files.footer_cache()
    }

    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The store as of its newest entry, or as of an earlier sequence.
    pub async fn snapshot(&self, at: Option<Sequence>) -> Result<Snapshot> {
        let state = self.catalog.refresh().await.map_err(external)?;
        let head = state.head.sequence;
        let sequence = at.unwrap_or(head);
        if sequence > head {
            return Err(DataFusionError::Plan(format!(
                "the log ends at sequence {head}; there is no {sequence} yet"
            )));
        }
        let snapshot = Snapshot::new(self.catalog.clone(), state, sequence, self.files.clone());
        Ok(Snapshot { lineage: self.lineage.clone(), access: self.access.clone(), ..snapshot })
    }

    /// A session that uses all cores. Rows come in any order that their query does not fix.
    pub fn session(&self, snapshot: Snapshot) -> Result<Session> {
        Session::new(self, snapshot, SessionConfig::new(), Order::Free)
    }

    /// A session whose plans are one partition from end to end, so that rows stay in the order of their source and the
    /// same plan gives the same rows in the same order each time. Its joins report why values are null.
    pub fn ordered_session(&self, snapshot: Snapshot) -> Result<Session> {
        let config = SessionConfig::new().with_target_partitions(1);
        Session::new(self, snapshot, config, Order::OfTheSpine)
    }
}

fn external(error: catalog::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Whether rows that end in an aggregate may come in another order than the spine's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    OfTheSpine,
    Free,
}

/// A plan that is ready to run.
#[derive(Clone)]
pub struct Prepared {
    pub physical: Arc<dyn ExecutionPlan>,
    pub traced: Arc<Traced>,
}

/// Plans and runs queries over one snapshot.
pub struct Session {
    state: SessionState,
    snapshot: Snapshot,
    temporary: Arc<MemorySchemaProvider>,
    planning: Arc<Semaphore>,
    longest: LongestRead,
}

impl Session {
    fn new(engine: &Engine, snapshot: Snapshot, config: SessionConfig, order: Order) -> Result<Self> {
        let config = config
            .with_default_catalog_and_schema(CATALOG, "default")
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true)
            .set_bool("datafusion.sql_parser.collect_spans", false)
            // DataFusion would drop the ORDER BY of a spine and of the system views, for both stand in a FROM.
            .set_bool("datafusion.sql_parser.enable_subquery_sort_elimination", false);
        let runtime = runtime(&engine.memory)?;
        let temporary = Arc::new(MemorySchemaProvider::new());
        let catalogs = Arc::new(MemoryCatalogProviderList::new());
        let provider = StoreCatalog { snapshot: snapshot.clone(), temporary: temporary.clone() };
        datafusion::catalog::CatalogProviderList::register_catalog(
            catalogs.as_ref(),
            CATALOG.to_owned(),
            Arc::new(provider),
        );
        let planner = LineamentQueryPlanner::new(engine.files.clone(), order == Order::OfTheSpine);
        let mut builder = SessionStateBuilder::new_with_default_features()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_catalog_list(catalogs)
            .with_query_planner(Arc::new(planner));
        if order == Order::Free {
            builder = builder.with_physical_optimizer_rule(Arc::new(AnyOrder));
        }
        let mut state = sql::bound_functions(builder.build())?;
        // now() and its kin are bound once, when the session begins.
        state.mark_start_execution();
        let longest = LongestRead::beginning(&snapshot.state);
        Ok(Self { state, snapshot, temporary, planning: engine.planning.clone(), longest })
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Plans a statement that reads.
    ///
    /// # Errors
    /// Whatever is wrong with it, statements that do more than read among it, and those that are too long, deep or wide.
    pub async fn plan(&self, text: &str) -> Result<LogicalPlan> {
        // Never closed.
        let _permit = self.planning.acquire().await;
        sql::on_deep_stack(self.plan_text(text)).await
    }

    async fn plan_text(&self, text: &str) -> Result<LogicalPlan> {
        sql::verify_text(text)?;
        let mut statement = sql::parse(text, &self.state.config().options().sql_parser)?;
        sql::verify_statement(&statement)?;
        let inner = innermost(&mut statement);
        let mut planners = self.state.clone();
        if let Some(inner) = inner {
            sql::verify_relations(inner)?;
            sql::verify_all_read(inner)?;
            sql::fold_asof_joins(inner);
            let prepared = sql::collect(inner)?.prepare(&self.snapshot, &self.state).await?;
            planners = SessionStateBuilder::new_from_existing(planners)
                .with_relation_planners(vec![Arc::new(TableFunctions { prepared })])
                .build();
        }
        let plan = planners.statement_to_plan(statement).await.map_err(|error| self.name_nearest(error))?;
        sql::verify_read_only(&plan)?;
        sql::verify_plan(&plan)?;
        Ok(plan)
    }

    /// An unknown table's error, with the nearest table that there is.
    fn name_nearest(&self, error: DataFusionError) -> DataFusionError {
        let DataFusionError::Plan(message) = error.find_root() else { return error };
        let asked = message.strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found"));
        let Some(asked) = asked else { return error };
        let asked = asked.strip_prefix(&format!("{CATALOG}.")).unwrap_or(asked);
        let asked = asked.strip_prefix("default.").unwrap_or(asked);
        let mut known: Vec<String> =
            self.snapshot.state.views_in_force(self.snapshot.sequence).map(table_name).collect();
        let views = known.len();
        known.extend(system::names().map(|name| format!("{SYSTEM_SCHEMA}.{name}")));
        let hint = match nearest(asked, known.iter().map(String::as_str)) {
            // Quoted as a whole it is one name, and not a schema's table.
            Some(near) if near == asked => {
                format!(" (did you mean {near}, without quotes around the whole?)")
            }
            Some(near) => format!(" (did you mean `{near}`?)"),
            None => String::new(),
        };
        let list = if views == 0 { "none is defined yet".to_owned() } else { known[..views].join(", ") };
        DataFusionError::Plan(format!(
            "there is no table `{asked}`{hint}; feature views: {list}; what the log knows is in {SYSTEM_SCHEMA}.*"
        ))
    }

    /// A table that lives as long as this session, as `session.{name}`.
    pub fn register(&self, name: &str, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
        self.register_table(name, Arc::new(MemTable::try_new(schema, vec![batches])?))
    }

    /// The same for a table that is made already.
    pub fn register_table(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        self.temporary.register_table(name.to_owned(), table)?;
        Ok(())
    }

    /// The memory and the disk that this session's queries take.
    pub fn environment(&self) -> &Arc<RuntimeEnv> {
        self.state.runtime_env()
    }

    /// Rows at hand as a plan.
    ///
    /// # Errors
    /// Two columns of one name.
    pub fn rows(&self, name: &str, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<LogicalPlan> {
        self.scan(name, Arc::new(MemTable::try_new(schema, vec![batches])?))
    }

    /// A table as a plan.
    ///
    /// # Errors
    /// Two columns of one name.
    pub fn scan(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<LogicalPlan> {
        let schema = table.schema();
        for (position, field) in schema.fields().iter().enumerate() {
            if schema.fields().iter().take(position).any(|earlier| earlier.name() == field.name()) {
                return plan_err!("the {name} has two columns named `{}`; rename one", field.name());
            }
        }
        let source = datafusion::datasource::provider_as_source(table);
        LogicalPlanBuilder::scan(name, source, None)?.build()
    }

    /// The plan as it will run.
    pub async fn prepare(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        let _permit = self.planning.acquire().await;
        sql::on_deep_stack(async {
            let physical = self.state.create_physical_plan(plan).await?;
            sql::verify_physical(&physical)?;
            Ok(physical)
        })
        .await
    }

    /// The plan as it will run, and what each of its columns comes from.
    pub async fn prepare_traced(&self, plan: &LogicalPlan) -> Result<Prepared> {
        let _permit = self.planning.acquire().await;
        sql::on_deep_stack(async {
            if let LogicalPlan::Explain(explain) = plan {
                // DataFusion gives what is refused as a row of the answer, and it is an error.
                self.state.create_physical_plan(&explain.plan).await?;
            }
            let (traced, optimised) = self.optimise(plan)?;
            let physical = self.state.query_planner().create_physical_plan(&optimised, &self.state).await?;
            sql::verify_physical(&physical)?;
            Ok(Prepared { physical, traced: Arc::new(traced) })
        })
        .await
    }

    /// What each column comes from, and the plan after the optimiser, whose scans have the columns alone that are read. In the steps of
    /// `SessionState::optimize`, so that the plan can be seen between analysis and optimisation.
    pub(crate) fn optimise(&self, plan: &LogicalPlan) -> Result<(Traced, LogicalPlan)> {
        if let LogicalPlan::Explain(_) = plan {
            return Ok((trace(plan), self.state.optimize(plan)?));
        }
        let options = self.state.config_options();
        let analysed = self.state.analyzer().execute_and_check(plan.clone(), options, |_, _| {})?;
        let traced = trace(&analysed);
        let optimised = self.state.optimizer().optimize(analysed, &self.state, |_, _| {})?;
        Ok((traced.held_against(&optimised), optimised))
    }

    /// Runs a plan. Its rows end with an error where they take longer than the store allows a read to last.
    pub fn run(&self, plan: Arc<dyn ExecutionPlan>) -> Result<SendableRecordBatchStream> {
        Ok(self.longest.bound(execute_stream(plan, Arc::new(TaskContext::from(&self.state)))?))
    }
}

/// The statement proper, under any EXPLAIN of DataFusion's own.
fn innermost(
    statement: &mut datafusion::sql::parser::Statement,
) -> Option<&mut datafusion::sql::sqlparser::ast::Statement> {
    match statement {
        datafusion::sql::parser::Statement::Statement(statement) => Some(statement),
        datafusion::sql::parser::Statement::Explain(explain) => innermost(&mut explain.statement),
        _ => None,
    }
}

/// Projects are schemas; so are the system views and the session's own tables.
#[derive(Debug)]
struct StoreCatalog {
    snapshot: Snapshot,
    temporary: Arc<MemorySchemaProvider>,
}

impl CatalogProvider for StoreCatalog {
    fn schema_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .snapshot
            .state
            .views_in_force(self.snapshot.sequence)
            .map(|view| view.definition.project.to_string())
            .chain(["default".to_owned(), SYSTEM_SCHEMA.to_owned()])
            .collect();
        if !self.temporary.table_names().is_empty() {
            names.push(SESSION_SCHEMA.to_owned());
        }
        names.sort();
        names.dedup();
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            SYSTEM_SCHEMA => Some(Arc::new(SystemSchema { snapshot: self.snapshot.clone() })),
            SESSION_SCHEMA => Some(self.temporary.clone()),
            _ if self.schema_names().iter().any(|known| known == name) => {
                Some(Arc::new(ProjectSchema { snapshot: self.snapshot.clone(), project: name.to_owned() }))
            }
            _ => None,
        }
    }
}

/// The feature views of a project: `weather`, and `"weather@1"` for a version that is not in force.
#[derive(Debug)]
struct ProjectSchema {
    snapshot: Snapshot,
    project: String,
}

#[async_trait]
impl SchemaProvider for ProjectSchema {
    fn table_names(&self) -> Vec<String> {
        self.snapshot
            .state
            .views_in_force(self.snapshot.sequence)
            .filter(|view| view.definition.project.as_str() == self.project)
            .map(|view| view.definition.name.to_string())
            .collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some((view, number)) = self.parts(name) else { return Ok(None) };
        match self.snapshot.version(&self.project, &view, number) {
            Ok(version) => Ok(Some(self.snapshot.named_table(version).await?)),
            // The names of CTEs and table functions come by here too, so that an unknown one is no error yet.
            Err(_) if number.is_none() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.parts(name)
            .is_some_and(|(view, number)| self.snapshot.version(&self.project, &view, number).is_ok())
    }
}

impl ProjectSchema {
    /// View and version. The project is the schema's; a name that holds another, `"fraud.weather"`, is none here.
    fn parts(&self, name: &str) -> Option<(String, Option<u32>)> {
        if name.contains('.') {
            return None;
        }
        split_name(name).map(|(_, view, number)| (view, number))
    }
}

#[derive(Debug)]
struct SystemSchema {
    snapshot: Snapshot,
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        system::names().map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        system::table(&self.snapshot, name).await
    }

    fn table_exist(&self, name: &str) -> bool {
        system::names().any(|known| known == name)
    }
}

/// Where queries run: in memory that all of them share, and without object stores.
fn runtime(memory: &Memory) -> Result<Arc<RuntimeEnv>> {
    RuntimeEnvBuilder::new()
        .with_object_store_registry(Arc::new(NoObjectStores))
        .with_memory_pool(memory.pool_of_query())
        .with_max_temp_directory_size(memory.spill_limit())
        .build_arc()
}

/// No query may reach an object by its address.
#[derive(Debug)]
struct NoObjectStores;

impl ObjectStoreRegistry for NoObjectStores {
    fn register_store(&self, _: &url::Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        Some(store)
    }

    fn get_store(&self, url: &url::Url) -> Result<Arc<dyn ObjectStore>> {
        not_impl_err!("queries read feature views, never objects by their address ({url})")
    }
}

/// Runs a query that touches nothing but what it is given; for the system views.
pub(crate) fn bare_context() -> SessionContext {
    SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1))
}
