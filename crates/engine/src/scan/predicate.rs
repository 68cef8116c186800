//! Conditions of a query that a scan takes over.

use std::fmt;
use std::sync::Arc;

use crate::access::Guard;
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{collect_columns, conjunction_opt, reassign_expr_columns};

/// How much of a condition a scan takes over that may look at these columns before its own rule applies.
///
/// It takes over the whole of a condition that compares columns with constants, for these can never fail: where the rule comes
/// first, a row that it drops may not raise an error. Of any other it takes that files and pages may be left unread, and the rows are
/// still filtered above.
pub fn taken_over(condition: &Expr, column: impl Fn(&str) -> bool) -> TableProviderFilterPushDown {
    let columns = condition.column_refs();
    if columns.is_empty() || !columns.iter().all(|named| column(&named.name)) {
        TableProviderFilterPushDown::Unsupported
    } else if is_plain(condition) {
        TableProviderFilterPushDown::Exact
    } else if is_fixed(condition) {
        TableProviderFilterPushDown::Inexact
    } else {
        TableProviderFilterPushDown::Unsupported
    }
}

/// The same where some rows or values are kept from the asker: only what can neither fail nor tell of a veiled column comes before
/// the filter of rows, and nothing else tells which files and pages are read.
pub fn taken_over_guarded(
    condition: &Expr,
    guard: Option<&Guard>,
    column: impl Fn(&str) -> bool,
) -> TableProviderFilterPushDown {
    let Some(guard) = guard else { return taken_over(condition, column) };
    match taken_over(condition, |name| column(name) && !guard.veils(name)) {
        TableProviderFilterPushDown::Inexact if guard.rows().is_some() => {
            TableProviderFilterPushDown::Unsupported
        }
        taken => taken,
    }
}

/// Comparisons of columns and constants, and what is made of them by AND, OR and NOT.
pub fn is_plain(condition: &Expr) -> bool {
    let operand = |expression: &Expr| matches!(expression, Expr::Column(_) | Expr::Literal(..));
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            is_plain(left) && is_plain(right)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let compares = matches!(
                op,
                Operator::Eq
                    | Operator::NotEq
                    | Operator::Lt
                    | Operator::LtEq
                    | Operator::Gt
                    | Operator::GtEq
                    | Operator::IsDistinctFrom
                    | Operator::IsNotDistinctFrom
            );
            compares && operand(left) && operand(right)
        }
        Expr::Not(of) => is_plain(of),
        Expr::IsNull(of) | Expr::IsNotNull(of) => operand(of) || is_plain(of),
        Expr::IsTrue(of)
        | Expr::IsNotTrue(of)
        | Expr::IsFalse(of)
        | Expr::IsNotFalse(of)
        | Expr::IsUnknown(of)
        | Expr::IsNotUnknown(of) => is_plain(of),
        Expr::Between(between) => operand(&between.expr) && operand(&between.low) && operand(&between.high),
        Expr::InList(InList { expr, list, .. }) => {
            operand(expr) && list.iter().all(|value| matches!(value, Expr::Literal(..)))
        }
        Expr::Column(_) | Expr::Literal(..) => true,
        _ => false,
    }
}

/// Whether the condition says the same of a row whenever it is asked, and bounds of its columns tell bounds of what is cast in it.
fn is_fixed(condition: &Expr) -> bool {
    let does_not = condition.exists(|part| {
        Ok(match part {
            Expr::Cast(cast) => !keeps_order(cast.field.data_type()),
            // What it cannot cast becomes null, and bounds know no nulls.
            Expr::TryCast(_) => true,
            _ => matches!(
                part,
                Expr::ScalarSubquery(_)
                    | Expr::InSubquery(_)
                    | Expr::Exists(_)
                    | Expr::SetComparison(_)
                    | Expr::OuterReferenceColumn(..)
                    | Expr::Placeholder(_)
            ),
        })
    });
    !condition.is_volatile() && !does_not.unwrap_or(true)
}

/// Whether a cast to this type leaves values in their order. DataFusion casts the bounds of files and pages, whatever the type: a time of day,
/// or the local time of a zone, begins anew within them.
fn keeps_order(kind: &DataType) -> bool {
    let utc = |zone: &str| matches!(zone, "UTC" | "+00:00");
    match kind {
        DataType::Date32 | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Timestamp(_, zone) => zone.as_deref().is_none_or(utc),
        other => other.is_numeric(),
    }
}

/// The conditions that a scan has taken over, all of which must hold.
#[derive(Clone, Debug)]
pub struct Predicate {
    /// As they were given.
    conditions: Vec<Expr>,
    /// The same over the columns of `schema`.
    compiled: Vec<Arc<dyn PhysicalExpr>>,
    /// Of these, what rows are held against; the others only tell which files and pages there is no need to read.
    rows: Option<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

impl Predicate {
    /// Compiles what [`taken_over`] takes, over columns of the schema; none where there is nothing. What conditions call a column may be
    /// another name than the schema's.
    ///
    /// # Errors
    /// A condition that DataFusion cannot compile.
    pub fn compile(
        session: &dyn Session,
        schema: &SchemaRef,
        conditions: &[Expr],
        column: impl Fn(&str) -> String,
    ) -> Result<Option<Self>> {
        if conditions.is_empty() {
            return Ok(None);
        }
        let named = DFSchema::try_from(schema.as_ref().clone())?;
        let mut compiled = Vec::with_capacity(conditions.len());
        let mut rows = Vec::new();
        for condition in conditions {
            let renamed = condition.clone().transform(|part| {
                Ok(match part {
                    Expr::Column(called) => {
                        Transformed::yes(Expr::Column(Column::new_unqualified(column(&called.name))))
                    }
                    other => Transformed::no(other),
                })
            })?;
            let expression = session.create_physical_expr(renamed.data, &named)?;
            if is_plain(condition) {
                rows.push(expression.clone());
            }
            compiled.push(expression);
        }
        let (conditions, rows) = (conditions.to_vec(), conjunction_opt(rows));
        Ok(Some(Self { conditions, compiled, rows, schema: schema.clone() }))
    }

    /// The schema that the compiled conditions name columns of.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn compiled(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.compiled
    }

    /// Whether rows must have this column to be held against the conditions.
    pub fn looks_at(&self, column: &str) -> bool {
        self.rows
            .as_ref()
            .is_some_and(|rows| collect_columns(rows).iter().any(|named| named.name() == column))
    }

    /// The conditions on rows, for batches of another schema that has the columns; none where rows are all taken.
    pub fn on_rows_of(&self, schema: &Schema) -> Result<Option<RowCondition>> {
        let bound = self.rows.as_ref().map(|rows| reassign_expr_columns(rows.clone(), schema)).transpose()?;
        Ok(bound.map(RowCondition))
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, condition) in self.conditions.iter().enumerate() {
            write!(f, "{}{condition}", if place > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// What each row of a batch is held against.
#[derive(Clone, Debug)]
pub struct RowCondition(Arc<dyn PhysicalExpr>);

impl RowCondition {
    /// The rows that it is true of.
    pub fn filter(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let holds = self.0.evaluate(batch)?.into_array(batch.num_rows())?;
        // A null alone has a type of its own.
        let holds = cast(&holds, &DataType::Boolean)?;
        Ok(filter_record_batch(batch, holds.as_boolean())?)
    }
}
