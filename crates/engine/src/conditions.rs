//! Conditions over one row: SQL expressions of definitions, compiled once and evaluated a batch at a time.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use catalog::{Condition, Conditions};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::physical_expr::PhysicalExpr;

use crate::sql;

/// Compiles conditions with DataFusion.
#[derive(Default)]
pub struct SqlConditions;

/// The longest condition, in bytes: one looks at the columns of one row.
const TEXT_BYTES: usize = 16 << 10;

struct Compiled {
    expression: Arc<dyn PhysicalExpr>,
}

impl Conditions for SqlConditions {
    fn compile(&self, sql: &str, schema: &Schema) -> Result<Arc<dyn Condition>, String> {
        if sql.len() > TEXT_BYTES {
            return Err(format!("it has {} bytes; at most {TEXT_BYTES} are allowed", sql.len()));
        }
        sql::verify_text(sql).map_err(|error| error.to_string())?;
        sql::with_deep_stack(|| compile(sql, schema))
    }
}

fn compile(sql: &str, schema: &Schema) -> Result<Arc<dyn Condition>, String> {
    let state = sql::bound_functions(SessionContext::new().state());
    let state = state.map_err(|error| error.strip_backtrace())?;
    let context = SessionContext::new_with_state(state);
    let schema = DFSchema::try_from(schema.clone()).map_err(|error| error.strip_backtrace())?;
    let expression = context.parse_sql_expr(sql, &schema).map_err(|error| error.strip_backtrace())?;
    refuse(&expression)?;
    let expression =
        context.create_physical_expr(expression, &schema).map_err(|error| error.strip_backtrace())?;
    let kind = expression.data_type(schema.as_arrow()).map_err(|error| error.strip_backtrace())?;
    if !matches!(kind, DataType::Boolean | DataType::Null) {
        return Err(format!("it gives {kind}, not true or false"));
    }
    Ok(Arc::new(Compiled { expression }))
}

/// A row is judged by itself, and gets the same verdict whenever it is judged.
fn refuse(expression: &Expr) -> Result<(), String> {
    let mut refused = None;
    let walked = expression.apply(|part| {
        refused = match part {
            Expr::AggregateFunction(_) | Expr::WindowFunction(_) => {
                Some("it looks at more than one row".to_owned())
            }
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => {
                Some("it holds a subquery".to_owned())
            }
            Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
                Some(format!("`{}` gives another value each time", call.func.name()))
            }
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        Ok(TreeNodeRecursion::Stop)
    });
    walked.map_err(|error| error.strip_backtrace())?;
    refused.map_or(Ok(()), Err)
}

impl Condition for Compiled {
    fn evaluate(&self, rows: &RecordBatch) -> Result<BooleanArray, String> {
        let value = sql::with_deep_stack(|| self.expression.evaluate(rows));
        let value = value.map_err(|error| error.strip_backtrace())?;
        let array = value.into_array(rows.num_rows()).map_err(|error| error.strip_backtrace())?;
        let array = cast(&array, &DataType::Boolean).map_err(|error| error.to_string())?;
        Ok(array.as_boolean().clone())
    }
}
