//! The point-in-time join as a node of a physical plan. Its inputs are one partition each, and so is its output, which keeps the
//! spine's order unless whoever reads it does not care.

use std::any::Any;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan,
    InputDistributionRequirements, Partitioning, PlanProperties, ReplaceChildrenOptions,
};

use super::meters::Meters;
use super::run::Run;
use super::{Cut, Direction, Lookup, LookupReport};
use crate::data_files::DataFiles;

/// Batches that may wait for the reader.
const BATCHES_AHEAD: usize = 4;

/// Expressions of the left and of the right side that must be equal.
pub type KeyPair = (Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>);

/// A right side, compiled.
#[derive(Clone, Debug)]
pub enum Side {
    View {
        lookup: Lookup,
        keys: Vec<Arc<dyn PhysicalExpr>>,
        at: Arc<dyn PhysicalExpr>,
    },
    /// `input` is the position of the right side among the children.
    Plain {
        input: usize,
        keys: Vec<KeyPair>,
        at: Arc<dyn PhysicalExpr>,
        time: Arc<dyn PhysicalExpr>,
        direction: Direction,
    },
}

#[derive(Debug)]
pub struct PointInTimeExec {
    /// The spine, then the plain right sides.
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    sides: Vec<Side>,
    files: DataFiles,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    reports: Reports,
    keeps_order: bool,
}

/// What each feature view answered, in the order of the views; filled when the operator has run.
pub type Reports = Arc<Mutex<Vec<LookupReport>>>;

impl PointInTimeExec {
    pub fn new(
        inputs: Vec<Arc<dyn ExecutionPlan>>,
        sides: Vec<Side>,
        files: DataFiles,
        schema: SchemaRef,
    ) -> Self {
        let properties = properties(inputs.first(), &schema);
        Self {
            inputs,
            sides,
            files,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
            reports: Arc::default(),
            keeps_order: true,
        }
    }

    /// The same join whose rows come in any order: whole stretches of keys can then leave as soon as they are done.
    pub fn in_any_order(&self) -> Self {
        let properties = Arc::new(properties(None, &self.schema));
        Self { keeps_order: false, properties, ..self.over(self.inputs.clone()) }
    }

    /// The same join over other inputs. Whoever holds the plan as it was must still find the report.
    fn over(&self, inputs: Vec<Arc<dyn ExecutionPlan>>) -> Self {
        let other = Self::new(inputs, self.sides.clone(), self.files.clone(), self.schema.clone());
        let properties = if self.keeps_order {
            other.properties.clone()
        } else {
            Arc::new(properties(None, &self.schema))
        };
        Self { reports: self.reports.clone(), keeps_order: self.keeps_order, properties, ..other }
    }

    /// What each feature view answered, in the order of the views; empty until the operator has run.
    pub fn reports(&self) -> Vec<LookupReport> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the output is like. The spine's columns come first and under the numbers that they have in the spine, so that rows that keep its order are
/// sorted as it is.
fn properties(spine: Option<&Arc<dyn ExecutionPlan>>, schema: &SchemaRef) -> PlanProperties {
    let orderings = spine.map(|spine| spine.properties().equivalence_properties().oeq_class().to_vec());
    PlanProperties::new(
        EquivalenceProperties::new_with_orderings(schema.clone(), orderings.unwrap_or_default()),
        Partitioning::UnknownPartitioning(1),
        EmissionType::Final,
        Boundedness::Bounded,
    )
}

impl DisplayAs for PointInTimeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PointInTimeExec: ")?;
        if !self.keeps_order {
            write!(f, "any order; ")?;
        }
        for (index, side) in self.sides.iter().enumerate() {
            if index > 0 {
                write!(f, "; ")?;
            }
            match side {
                Side::View { lookup, at, .. } => {
                    write!(
                        f,
                        "{}, match=[{at} {} valid_at], columns={}",
                        lookup.version.label(),
                        lookup.direction.operator(),
                        lookup.outputs.len()
                    )?;
                    match lookup.cut {
                        Cut::Row => write!(f, ", known_at<={at}")?,
                        Cut::Instant(instant) => write!(f, ", known_at<={instant}")?,
                        Cut::None => write!(f, ", known_at unlimited")?,
                    }
                    if let Some(ttl) = lookup.ttl {
                        write!(f, ", ttl={ttl}")?;
                    }
                    if let Some(rows) = lookup.visible() {
                        write!(f, ", filter=[{}]", rows.condition())?;
                    } else {
                        write!(f, ", files={}", lookup.files.len())?;
                    }
                }
                Side::Plain { at, time, direction, keys, .. } => {
                    let keys: Vec<String> =
                        keys.iter().map(|(left, right)| format!("{left} = {right}")).collect();
                    write!(
                        f,
                        "nearest, on=[{}], match=[{at} {} {time}]",
                        keys.join(", "),
                        direction.operator()
                    )?;
                }
            }
        }
        Ok(())
    }
}

impl ExecutionPlan for PointInTimeExec {
    fn name(&self) -> &str {
        "PointInTimeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition; self.inputs.len()])
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        (0..self.inputs.len()).map(|input| input == 0 && self.keeps_order).collect()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.inputs.len()]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for side in &self.sides {
            let expressions: Vec<&Arc<dyn PhysicalExpr>> = match side {
                Side::View { keys, at, .. } => keys.iter().chain([at]).collect(),
                Side::Plain { keys, at, time, .. } => {
                    keys.iter().flat_map(|(left, right)| [left, right]).chain([at, time]).collect()
                }
            };
            for expression in expressions {
                if visit(expression)? == TreeNodeRecursion::Stop {
                    return Ok(TreeNodeRecursion::Stop);
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.len() != self.inputs.len() {
            return internal_err!("a point-in-time join has {} inputs", self.inputs.len());
        }
        Ok(Arc::new(self.over(children)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    /// None where they would tell of rows that are hidden.
    fn metrics(&self) -> Option<MetricsSet> {
        let hides = |side: &Side| matches!(side, Side::View { lookup, .. } if lookup.visible().is_some());
        (!self.sides.iter().any(hides)).then(|| self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("a point-in-time join has one partition, not {partition}");
        }
        let run = Run {
            inputs: self.inputs.clone(),
            sides: self.sides.clone(),
            files: self.files.clone(),
            schema: self.schema.clone(),
            reports: self.reports.clone(),
            metrics: self.metrics.clone(),
            meters: Meters::new(&self.metrics),
            keeps_order: self.keeps_order,
            hidden: self.sides.iter().map(|_| AtomicU64::new(0)).collect(),
            context,
        };
        let mut answer = RecordBatchReceiverStream::builder(self.schema.clone(), BATCHES_AHEAD);
        let rows = answer.tx();
        answer.spawn(run.run(rows));
        Ok(answer.build())
    }
}

/// The operator of a plan tree that holds one, for its report.
pub fn find(plan: &Arc<dyn ExecutionPlan>) -> Option<&PointInTimeExec> {
    let node: &dyn Any = plan.as_ref();
    node.downcast_ref::<PointInTimeExec>().or_else(|| plan.children().into_iter().find_map(find))
}
