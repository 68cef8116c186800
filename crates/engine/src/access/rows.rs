//! Which rows of a view may be seen: a condition over the keys of its entity.
//!
//! Over keys alone, since of the rows of one key and time one survives: a condition on a value would let one come up again that
//! was corrected. And of comparisons alone, which cannot fail.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, not, nullif};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use catalog::state::ViewVersion;
use datafusion::common::{DFSchema, Result};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use feature::policy::RowFilter;

use super::Denied;
use crate::point_in_time::cast_key;
use crate::scan::is_plain;
use crate::sql;

/// The longest filter, in bytes.
const TEXT_BYTES: usize = 16 << 10;

/// A compiled filter.
#[derive(Clone, Debug)]
pub struct VisibleRows {
    filters: Vec<RowFilter>,
    /// All of them, over the keys by their names; comparisons of columns and constants alone.
    condition: Expr,
    compiled: Arc<dyn PhysicalExpr>,
    /// The keys.
    schema: SchemaRef,
}

impl PartialEq for VisibleRows {
    fn eq(&self, other: &Self) -> bool {
        self.schema == other.schema && self.condition == other.condition
    }
}

impl VisibleRows {
    /// # Errors
    /// [`Denied`]: a filter that does not fit the version's keys lets nothing be seen.
    pub fn compile(version: &ViewVersion, filters: &[RowFilter]) -> Result<Self> {
        let keys = version.keys().iter();
        let fields: Vec<Field> =
            keys.map(|key| Field::new(key.name.as_str(), key.data_type.arrow(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let mut condition: Option<Expr> = None;
        for filter in filters {
            let one = parsed(&filter.sql, &schema).map_err(|why| {
                Denied::version(
                    version,
                    format!(
                        "`{}` may not be read: the policy `{}` shows rows where `{}`, which is not a condition over its keys: {why}",
                        version.label(),
                        filter.policy,
                        filter.sql
                    ),
                )
            })?;
            condition = Some(match condition {
                Some(others) => others.and(one),
                None => one,
            });
        }
        let condition = condition.unwrap_or_else(|| datafusion::logical_expr::lit(true));
        let named = DFSchema::try_from(schema.as_ref().clone())?;
        let compiled = SessionContext::new().create_physical_expr(condition.clone(), &named)?;
        Ok(Self { filters: filters.to_vec(), condition, compiled, schema })
    }

    pub fn filters(&self) -> &[RowFilter] {
        &self.filters
    }

    /// Over the keys by their names.
    pub fn condition(&self) -> &Expr {
        &self.condition
    }

    /// Whether rows with these keys may be seen; keys are cast to their types where those hold them.
    pub fn sees(&self, keys: &[ArrayRef]) -> Result<BooleanArray> {
        let rows = keys.first().map_or(0, |key| key.len());
        let mut columns = Vec::with_capacity(keys.len());
        for (field, key) in self.schema.fields().iter().zip(keys) {
            columns.push(cast_key(field.name(), key, field.data_type())?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let seen = self.compiled.evaluate(&batch)?.into_array(rows)?;
        let seen = cast(&seen, &DataType::Boolean)?;
        let seen = seen.as_boolean();
        // What is not known to be seen is not.
        Ok(seen.iter().map(|seen| Some(seen == Some(true))).collect())
    }

    /// The keys, null where their rows may not be seen; and how many rows these are that have keys.
    pub fn hide(&self, keys: &mut [ArrayRef]) -> Result<u64> {
        let seen = self.sees(keys)?;
        let hidden = not(&seen)?;
        let whole = |row: &usize| keys.iter().all(|key| key.is_valid(*row));
        let rows = (0..hidden.len()).filter(|row| hidden.value(*row)).filter(whole).count();
        for key in keys {
            *key = nullif(key, &hidden)?;
        }
        Ok(rows as u64)
    }
}

/// Whether a filter is one over the keys of a version.
///
/// # Errors
/// Why it is not.
pub fn check_filter(version: &ViewVersion, filter: &RowFilter) -> Result<(), String> {
    let keys = version.keys().iter();
    let fields: Vec<Field> =
        keys.map(|key| Field::new(key.name.as_str(), key.data_type.arrow(), true)).collect();
    parsed(&filter.sql, &Schema::new(fields)).map(drop)
}

fn parsed(text: &str, keys: &Schema) -> Result<Expr, String> {
    if text.len() > TEXT_BYTES {
        return Err(format!("it has {} bytes; at most {TEXT_BYTES} are allowed", text.len()));
    }
    sql::verify_text(text).map_err(|error| error.to_string())?;
    let told = |error: datafusion::common::DataFusionError| error.strip_backtrace();
    sql::with_deep_stack(|| {
        let context = SessionContext::new();
        let schema = Arc::new(DFSchema::try_from(keys.clone()).map_err(told)?);
        let expression = context.parse_sql_expr(text, &schema).map_err(told)?;
        let simplify = ExprSimplifier::new(SimplifyContext::builder().with_schema(schema.clone()).build());
        let expression = simplify.coerce(expression, &schema).map_err(told)?;
        let expression = simplify.simplify(expression).map_err(told)?;
        let kind = datafusion::logical_expr::ExprSchemable::get_type(&expression, schema.as_ref());
        let kind = kind.map_err(told)?;
        if !matches!(kind, DataType::Boolean | DataType::Null) {
            return Err(format!("it gives {kind}, not true or false"));
        }
        if !is_plain(&expression) {
            return Err(
                "it may only compare keys with constants, and join that by AND, OR and NOT".to_owned()
            );
        }
        Ok(expression)
    })
}
