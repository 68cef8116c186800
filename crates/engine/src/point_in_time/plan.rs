//! The point-in-time join as a node of a logical plan.
//!
//! The left input is kept row for row and in order; each right input adds its columns, null where nothing matched. A
//! right side that is a feature view stands there as a scan of it, so that projections reach it and lineage sees
//! it; the scan itself never runs: the operator reads the view's files as the match needs them.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef};
use datafusion::common::{DFSchema, DFSchemaRef, Result, TableReference, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use feature::Span;

use super::{Cut, Direction};

/// How a right side is matched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd)]
pub enum Rule {
    /// A feature view, by its version's whole rule. `keys` are the left expressions, in the order of the entity's keys.
    FeatureView { keys: Vec<Expr>, ttl: Option<Span>, cut: Cut },
    /// Any plan, by one time column: the nearest row wins, the last among equals.
    Plain { keys: Vec<(Expr, Expr)>, time: Expr },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd)]
pub struct Right {
    pub plan: LogicalPlan,
    /// The left expression that the right side's time is compared with.
    pub at: Expr,
    pub direction: Direction,
    pub rule: Rule,
}

/// `left`, with what each right side knew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointInTime {
    pub left: LogicalPlan,
    pub rights: Vec<Right>,
    schema: DFSchemaRef,
}

impl PointInTime {
    pub fn new(left: LogicalPlan, rights: Vec<Right>) -> Result<Self> {
        if rights.is_empty() {
            return plan_err!("a point-in-time join needs at least one right side");
        }
        let mut fields: Vec<(Option<TableReference>, FieldRef)> = qualified(left.schema(), false);
        for right in &rights {
            fields.extend(qualified(right.plan.schema(), true));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, left.schema().metadata().clone())?);
        Ok(Self { left, rights, schema })
    }
}

fn qualified(schema: &DFSchema, nullable: bool) -> Vec<(Option<TableReference>, FieldRef)> {
    schema
        .iter()
        .map(|(qualifier, field)| {
            let field = if nullable && !field.is_nullable() {
                Arc::new(Field::clone(field).with_nullable(true))
            } else {
                Arc::clone(field)
            };
            (qualifier.cloned(), field)
        })
        .collect()
}

impl Hash for PointInTime {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.left.hash(state);
        self.rights.hash(state);
    }
}

impl PartialOrd for PointInTime {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.left, &self.rights).partial_cmp(&(&other.left, &other.rights))
    }
}

impl UserDefinedLogicalNodeCore for PointInTime {
    fn name(&self) -> &str {
        "PointInTime"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        std::iter::once(&self.left).chain(self.rights.iter().map(|right| &right.plan)).collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let mut expressions = Vec::new();
        for right in &self.rights {
            expressions.push(right.at.clone());
            match &right.rule {
                Rule::FeatureView { keys, .. } => expressions.extend(keys.iter().cloned()),
                Rule::Plain { keys, time } => {
                    for (left, right) in keys {
                        expressions.extend([left.clone(), right.clone()]);
                    }
                    expressions.push(time.clone());
                }
            }
        }
        expressions
    }

    fn with_exprs_and_inputs(&self, expressions: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut inputs = inputs.into_iter();
        let mut expressions = expressions.into_iter();
        let mut next = || expressions.next().map(unaliased);
        let missing = || datafusion::common::plan_datafusion_err!("a point-in-time join lost an expression");
        let Some(left) = inputs.next() else { return plan_err!("a point-in-time join lost its left side") };
        let mut rights = Vec::with_capacity(self.rights.len());
        for (right, plan) in self.rights.iter().zip(inputs) {
            let plan = without_pushed(plan, &right.plan);
            let at = next().ok_or_else(missing)?;
            let rule = match &right.rule {
                Rule::FeatureView { keys, ttl, cut } => Rule::FeatureView {
                    keys: keys.iter().map(|_| next().ok_or_else(missing)).collect::<Result<_>>()?,
                    ttl: *ttl,
                    cut: *cut,
                },
                Rule::Plain { keys, .. } => {
                    let mut pairs = Vec::with_capacity(keys.len());
                    for _ in keys {
                        pairs.push((next().ok_or_else(missing)?, next().ok_or_else(missing)?));
                    }
                    Rule::Plain { keys: pairs, time: next().ok_or_else(missing)? }
                }
            };
            rights.push(Right { plan, at, direction: right.direction, rule });
        }
        Self::new(left, rights)
    }

    /// Every left row comes out once and in its place, so the first rows come of the first left rows. (DataFusion puts a limit on every input.)
    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    /// Filters on left columns may go below, since every left row comes out once; filters on right columns may not. (DataFusion
    /// puts what may go below on every input: `without_pushed`.)
    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        self.rights
            .iter()
            .flat_map(|right| right.plan.schema().fields().iter().map(|field| field.name().clone()))
            .collect()
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let mut needed: Vec<Vec<usize>> = Vec::with_capacity(1 + self.rights.len());
        let left_width = self.left.schema().fields().len();
        let mut left: Vec<usize> =
            output_columns.iter().copied().filter(|column| *column < left_width).collect();
        let mut offset = left_width;
        let mut rights = Vec::with_capacity(self.rights.len());
        for right in &self.rights {
            let width = right.plan.schema().fields().len();
            let mut columns: Vec<usize> = output_columns
                .iter()
                .filter(|column| (offset..offset + width).contains(*column))
                .map(|column| column - offset)
                .collect();
            offset += width;
            add_columns(&mut left, self.left.schema(), &right.at)?;
            match &right.rule {
                Rule::FeatureView { keys, .. } => {
                    for key in keys {
                        add_columns(&mut left, self.left.schema(), key)?;
                    }
                }
                Rule::Plain { keys, time } => {
                    for (left_key, right_key) in keys {
                        add_columns(&mut left, self.left.schema(), left_key)?;
                        add_columns(&mut columns, right.plan.schema(), right_key)?;
                    }
                    add_columns(&mut columns, right.plan.schema(), time)?;
                }
            }
            columns.sort_unstable();
            columns.dedup();
            rights.push(columns);
        }
        left.sort_unstable();
        left.dedup();
        needed.push(left);
        needed.extend(rights);
        Some(needed)
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PointInTime: ")?;
        for (index, right) in self.rights.iter().enumerate() {
            if index > 0 {
                write!(f, "; ")?;
            }
            write!(f, "{right}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = self.direction.operator();
        match &self.rule {
            Rule::FeatureView { keys, ttl, cut } => {
                let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "rule=feature view, keys=[{}], match=[{} {operator} valid_at]",
                    keys.join(", "),
                    self.at
                )?;
                match cut {
                    Cut::Row => write!(f, ", known_at<={}", self.at)?,
                    Cut::Instant(instant) => write!(f, ", known_at<={instant}")?,
                    Cut::None => write!(f, ", known_at unlimited")?,
                }
                if let Some(ttl) = ttl {
                    write!(f, ", ttl={ttl}")?;
                }
                Ok(())
            }
            Rule::Plain { keys, time } => {
                let keys: Vec<String> =
                    keys.iter().map(|(left, right)| format!("{left} = {right}")).collect();
                write!(f, "rule=nearest, on=[{}], match=[{} {operator} {time}]", keys.join(", "), self.at)
            }
        }
    }
}

/// A right side as it was, where a filter or a limit was just put on it that is meant for the left side.
fn without_pushed(plan: LogicalPlan, right: &LogicalPlan) -> LogicalPlan {
    match plan {
        LogicalPlan::Filter(filter) if *filter.input == *right => Arc::unwrap_or_clone(filter.input),
        LogicalPlan::Limit(limit) if *limit.input == *right => Arc::unwrap_or_clone(limit.input),
        other => other,
    }
}

/// Rules of the optimizer wrap what they rewrite in an alias; only the expression counts here.
fn unaliased(expression: Expr) -> Expr {
    match expression {
        Expr::Alias(alias) => unaliased(*alias.expr),
        other => other,
    }
}

fn add_columns(needed: &mut Vec<usize>, schema: &DFSchema, expression: &Expr) -> Option<()> {
    for column in expression.column_refs() {
        needed.push(schema.maybe_index_of_column(column)?);
    }
    Some(())
}
