//! How great a plan's expressions become once subqueries are written out, and how deep the plan is.
//!
//! The optimiser puts a subquery's expression wherever its column is named. So `SELECT a + a AS a FROM (SELECT a + a AS a FROM …`
//! doubles at each level, and levels of few operators add up to one expression of many.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, Result};
use datafusion::logical_expr::{Distinct, Expr, Join, JoinType, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;

use super::Limit;

const PARTS: Limit = Limit {
    what: "parts in one expression, with the columns of its subqueries written out",
    most: 100_000,
    instead: "name a column of a subquery less often in the query around it",
};
const DEPTH: Limit = Limit {
    what: "levels in one expression, with the columns of its subqueries written out",
    most: 600,
    instead: "split the statement",
};
/// The optimiser looks at a predicate within another twice, and so at each within it.
const PREDICATES: Limit = Limit {
    what: "comparisons, tests and CASEs within each other, with the columns of its subqueries written out",
    most: 12,
    instead: "compare fewer results of comparisons, or split the statement",
};
const LEVELS: Limit = Limit {
    what: "queries, joins and other steps above each other",
    most: 600,
    instead: "split the statement",
};
const STEPS: Limit =
    Limit { what: "steps above each other as it would run", most: 600, instead: "split the statement" };

/// Constants shorter than this are not counted.
const SHORT: usize = 1 << 10;
const CONSTANTS: Limit = Limit {
    what: "bytes of long constants, each written out for every row that it stands beside,",
    most: 128 << 10,
    instead: "send long texts as rows of a spine or a feature view, and make a series by `FROM generate_series(…)`",
};
/// Where there is one row only.
const CONSTANTS_OF_ONE_ROW: Limit = Limit { most: 64 << 20, ..CONSTANTS };

/// Refuses optimised plans with long constants: they are repeated for each row of a batch, and nothing counts it.
pub fn verify_constants(plan: &LogicalPlan) -> Result<()> {
    let mut joins = false;
    let (mut of_one_row, mut others) = (0u64, 0u64);
    plan.apply_with_subqueries(|node| {
        joins |= matches!(node, LogicalPlan::Join(_));
        let found = if node.inputs().into_iter().all(one_row) { &mut of_one_row } else { &mut others };
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                if let Expr::Literal(value, _) = part {
                    let size = value.size();
                    *found = found.saturating_add(if size > SHORT { size as u64 } else { 0 });
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    if joins {
        others = others.saturating_add(of_one_row);
    }
    CONSTANTS.verify(others)?;
    Ok(CONSTANTS_OF_ONE_ROW.verify(of_one_row)?)
}

/// Whether a plan gives one row at most, whatever is in the store.
fn one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Values(values) => values.values.len() <= 1,
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::SubqueryAlias(_) => plan.inputs().into_iter().all(one_row),
        _ => false,
    }
}

/// Refuses plans whose expressions grow beyond measure, and plans that are too deep.
pub fn verify(plan: &LogicalPlan) -> Result<()> {
    columns(plan, 1)?;
    Ok(())
}

/// Refuses what is too deep to run: each step calls the one below.
pub fn verify_physical(plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    fn depth(plan: &dyn ExecutionPlan) -> u64 {
        1 + plan.children().into_iter().map(|child| depth(child.as_ref())).max().unwrap_or(0)
    }
    Ok(STEPS.verify(depth(plan.as_ref()))?)
}

/// Whether an expression tests what it is made of, or is made into one that does.
fn tests(expression: &Expr) -> bool {
    match expression {
        Expr::BinaryExpr(binary) => binary.op.supports_propagation(),
        Expr::Between(_)
        | Expr::InList(_)
        | Expr::InSubquery(_)
        | Expr::Like(_)
        | Expr::SimilarTo(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_) => true,
        Expr::ScalarFunction(call) => {
            matches!(call.func.name(), "coalesce" | "nvl" | "ifnull" | "nvl2" | "nullif")
        }
        _ => false,
    }
}

/// An expression with the columns of its subqueries written out.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Written {
    parts: u64,
    depth: u64,
    predicates: u64,
}

const PLAIN: Written = Written { parts: 1, depth: 1, predicates: 0 };

impl Written {
    fn or(self, other: Self) -> Self {
        Self {
            parts: self.parts.max(other.parts),
            depth: self.depth.max(other.depth),
            predicates: self.predicates.max(other.predicates),
        }
    }

    fn verify(self) -> Result<()> {
        PARTS.verify(self.parts)?;
        PREDICATES.verify(self.predicates)?;
        Ok(DEPTH.verify(self.depth)?)
    }
}

/// What a node reads: its inputs' schemas and columns.
struct Inputs<'a> {
    of: Vec<(&'a DFSchema, Vec<Written>)>,
    /// No column is more than a column.
    plain: bool,
}

impl Inputs<'_> {
    fn column(&self, column: &Column) -> Written {
        if self.plain {
            return PLAIN;
        }
        let mut found = self.of.iter().filter_map(|(schema, columns)| {
            schema.maybe_index_of_column(column).and_then(|at| columns.get(at)).copied()
        });
        found.next().unwrap_or(PLAIN)
    }

    fn greatest(&self) -> Written {
        self.of.iter().flat_map(|(_, columns)| columns).fold(PLAIN, |most, column| most.or(*column))
    }

    fn write(&self, expression: &Expr) -> Result<Written> {
        if let Expr::Column(column) = expression {
            return Ok(self.column(column));
        }
        let mut written = PLAIN;
        let mut add = |child: &Expr, tested: bool| {
            let child = self.write(child)?;
            written.parts = written.parts.saturating_add(child.parts);
            written.depth = written.depth.max(child.depth.saturating_add(1));
            written.predicates = written.predicates.max(child.predicates + u64::from(tested));
            Ok::<_, DataFusionError>(())
        };
        if let Expr::Case(case) = expression {
            // What is tested is written out again for each result; results within results are not.
            case.expr.iter().try_for_each(|operand| add(operand, true))?;
            for (when, then) in &case.when_then_expr {
                add(when, true)?;
                add(then, false)?;
            }
            case.else_expr.iter().try_for_each(|otherwise| add(otherwise, false))?;
        } else {
            let tests = tests(expression);
            expression.apply_children(|child| {
                add(child, tests)?;
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        written.verify()?;
        Ok(written)
    }
}

/// The columns that a plan gives, in the order of its schema. All that is beneath has been checked.
fn columns(plan: &LogicalPlan, level: u64) -> Result<Vec<Written>> {
    LEVELS.verify(level)?;
    plan.apply_subqueries(|subquery| {
        // Its own inputs are checked as any plan's; what it takes from around it is a column.
        columns(subquery, level + 1)?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    let mut of = Vec::new();
    for input in plan.inputs() {
        of.push((input.schema().as_ref(), columns(input, level + 1)?));
    }
    let plain = of.iter().flat_map(|(_, columns)| columns).all(|column| *column == PLAIN);
    let mut inputs = Inputs { of, plain };
    let mut expressions = Vec::new();
    plan.apply_expressions(|expression| {
        expressions.push(inputs.write(expression)?);
        Ok(TreeNodeRecursion::Continue)
    })?;
    let width = plan.schema().fields().len();
    let greatest = expressions.iter().fold(inputs.greatest(), |most, written| most.or(*written));
    let columns = match plan {
        LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) => expressions,
        LogicalPlan::Window(_) => {
            let mut columns = first(&mut inputs);
            columns.extend(expressions);
            columns
        }
        LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::Distinct(Distinct::All(_)) => first(&mut inputs),
        LogicalPlan::Join(Join {
            join_type: JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full,
            ..
        }) => inputs.of.into_iter().flat_map(|(_, columns)| columns).collect(),
        LogicalPlan::Union(_) => (0..width)
            .map(|at| {
                inputs
                    .of
                    .iter()
                    .filter_map(|(_, columns)| columns.get(at))
                    .fold(PLAIN, |most, column| most.or(*column))
            })
            .collect(),
        _ => Vec::new(),
    };
    // Of what is not known better, any column may be the greatest.
    Ok(if columns.len() == width { columns } else { vec![greatest; width] })
}

fn first(inputs: &mut Inputs<'_>) -> Vec<Written> {
    inputs.of.first_mut().map(|(_, columns)| std::mem::take(columns)).unwrap_or_default()
}
