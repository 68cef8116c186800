//! From logical to physical: the gate that every execution passes.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::source_as_provider;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use crate::data_files::DataFiles;
use crate::feature_view::{FeatureViewTable, read_from};
use crate::point_in_time::Lookup;
use crate::point_in_time::exec::{PointInTimeExec, Side};
use crate::point_in_time::plan::{PointInTime, Rule};

/// Plans queries, and lets nothing through that does more than read.
#[derive(Debug)]
pub struct LineamentQueryPlanner {
    files: DataFiles,
    reports_why: bool,
}

impl LineamentQueryPlanner {
    /// `reports_why`: whether point-in-time joins are asked for reports that say why values are null.
    pub fn new(files: DataFiles, reports_why: bool) -> Self {
        Self { files, reports_why }
    }
}

#[async_trait]
impl QueryPlanner for LineamentQueryPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        super::verify_read_only(plan)?;
        super::limits::verify_constants(plan)?;
        let extension = PointInTimePlanner { files: self.files.clone(), reports_why: self.reports_why };
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(extension)]);
        super::accounted::account(planner.create_physical_plan(plan, session).await?)
    }
}

struct PointInTimePlanner {
    files: DataFiles,
    reports_why: bool,
}

#[async_trait]
impl ExtensionPlanner for PointInTimePlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<PointInTime>() else { return Ok(None) };
        let (Some(left), Some(spine)) = (logical_inputs.first(), physical_inputs.first()) else {
            return internal_err!("a point-in-time join lost its spine");
        };
        let mut inputs = vec![spine.clone()];
        let mut sides = Vec::with_capacity(node.rights.len());
        for ((right, logical), physical) in
            node.rights.iter().zip(&logical_inputs[1..]).zip(&physical_inputs[1..])
        {
            let at = planner.create_physical_expr(&right.at, left.schema(), session, context)?;
            match &right.rule {
                Rule::FeatureView { keys, ttl, cut } => {
                    let Some(table) = scanned(logical) else {
                        return internal_err!(
                            "the feature view of a point-in-time join was planned away: {logical}"
                        );
                    };
                    if let Some(guard) = table.guard() {
                        let columns = logical.schema().fields().iter().map(|field| read_from(field.name()));
                        guard.allow(table.version(), columns)?;
                    }
                    let mut outputs = Vec::new();
                    for field in logical.schema().fields() {
                        let Some(output) = table.output(field.name()) else {
                            return internal_err!("`{}` is not a column of a feature view", field.name());
                        };
                        outputs.push(output);
                    }
                    let keys = keys
                        .iter()
                        .map(|key| planner.create_physical_expr(key, left.schema(), session, context))
                        .collect::<Result<_>>()?;
                    let lookup = Lookup {
                        version: table.version().clone(),
                        files: table.files().clone(),
                        direction: right.direction,
                        ttl: *ttl,
                        cut: *cut,
                        outputs,
                        guard: table.guard().cloned(),
                        reports_why: self.reports_why,
                    };
                    sides.push(Side::View { lookup, keys, at });
                }
                Rule::Plain { keys, time } => {
                    let mut compiled = Vec::with_capacity(keys.len());
                    for (one, other) in keys {
                        compiled.push((
                            planner.create_physical_expr(one, left.schema(), session, context)?,
                            planner.create_physical_expr(other, logical.schema(), session, context)?,
                        ));
                    }
                    let time = planner.create_physical_expr(time, logical.schema(), session, context)?;
                    inputs.push(physical.clone());
                    sides.push(Side::Plain {
                        input: inputs.len() - 1,
                        keys: compiled,
                        at,
                        time,
                        direction: right.direction,
                    });
                }
            }
        }
        let schema = Arc::new(UserDefinedLogicalNodeCore::schema(node).as_arrow().clone());
        Ok(Some(Arc::new(PointInTimeExec::new(inputs, sides, self.files.clone(), schema))))
    }
}

/// The feature view under what the optimizer may have put around its scan.
fn scanned(plan: &LogicalPlan) -> Option<FeatureViewTable> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => scanned(&alias.input),
        LogicalPlan::Projection(projection) => scanned(&projection.input),
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source).ok()?;
            provider.downcast_ref::<FeatureViewTable>().cloned()
        }
        _ => None,
    }
}
