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

/// Compiles conditions with DataFusion.
#[derive(Default)]
pub struct SqlConditions;

struct Compiled {
    expression: Arc<dyn PhysicalExpr>,
}

impl Conditions for SqlConditions {
    fn compile(&self, sql: &str, schema: &Schema) -> Result<Arc<dyn Condition>, String> {
        let context = SessionContext::new();
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
        let value = self.expression.evaluate(rows).map_err(|error| error.strip_backtrace())?;
        let array = value.into_array(rows.num_rows()).map_err(|error| error.strip_backtrace())?;
        let array = cast(&array, &DataType::Boolean).map_err(|error| error.to_string())?;
        Ok(array.as_boolean().clone())
    }
}
