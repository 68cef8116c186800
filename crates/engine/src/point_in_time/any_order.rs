//! An optimizer rule: a point-in-time join whose rows end in an aggregate need not keep the spine's order.
//!
//! The order is kept wherever a query's rows could show it: at its end, under a limit, under an aggregate that asks for it.

use std::any::Any;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, InputOrderMode, replace_children_if_necessary};

use super::exec::PointInTimeExec;

#[derive(Debug)]
pub struct AnyOrder;

impl PhysicalOptimizerRule for AnyOrder {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        relax(plan, true)
    }

    fn name(&self) -> &str {
        "point_in_time_any_order"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `ordered`: whether somebody above may see the order of the plan's rows.
fn relax(plan: Arc<dyn ExecutionPlan>, ordered: bool) -> Result<Arc<dyn ExecutionPlan>> {
    let node: &dyn Any = plan.as_ref();
    // A limit may stand within a filter too, and the rows that it lets through are the first ones.
    let below = if plan.fetch().is_some() {
        true
    } else if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        let insensitive =
            aggregate.aggr_expr().iter().all(|function| function.order_sensitivity().is_insensitive());
        !(insensitive && *aggregate.input_order_mode() == InputOrderMode::Linear)
    } else if node.is::<ProjectionExec>()
        || node.is::<FilterExec>()
        || node.is::<CoalescePartitionsExec>()
        || node.is::<CooperativeExec>()
        || node.is::<RepartitionExec>()
    {
        ordered
    } else {
        true
    };
    let plan = if !ordered && let Some(join) = node.downcast_ref::<PointInTimeExec>() {
        Arc::new(join.in_any_order())
    } else {
        plan
    };
    let children = plan.children().into_iter().cloned().collect::<Vec<_>>();
    if children.is_empty() {
        return Ok(plan);
    }
    let relaxed = children.into_iter().map(|child| relax(child, below)).collect::<Result<Vec<_>>>()?;
    replace_children_if_necessary(plan, relaxed)
}
