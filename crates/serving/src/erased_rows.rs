//! Rows of a stored spine that are erased: all of their columns are null, and a column beside them says so. Of a set that is made again of it
//! their features are null too, without default.

use arrow::array::{Array, AsArray, RecordBatch};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit, when};
use lineage::Manifest;

use crate::error::Result;

/// The column of a stored spine that says which of its rows are erased. It is no column of the set.
pub(crate) const MARK: &str = "_erased";
/// Why the features of such a row are null.
pub(crate) const REASON: &str = "erased";

/// Whether a spine column is the mark, and not one that a client called so.
pub(crate) fn is_mark(manifest: &Manifest, column: &str) -> bool {
    column == MARK && manifest.columns.iter().all(|known| known.name != MARK)
}

/// Whether the first row of a set's spine is erased.
pub(crate) fn is_erased(manifest: &Manifest, spine: &RecordBatch) -> bool {
    let marked = spine.column_by_name(MARK).filter(|_| is_mark(manifest, MARK));
    let marked = marked.and_then(|column| column.as_boolean_opt());
    marked.is_some_and(|marked| !marked.is_empty() && marked.is_valid(0) && marked.value(0))
}

/// The plan of a set over its spine, without the mark and without what erased rows would get. One over a spine of which nothing is erased is
/// as it was.
///
/// # Errors
/// None that is known: the columns are the plan's own.
pub(crate) fn hidden(plan: LogicalPlan, manifest: &Manifest) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    let Some(mark) = columns.iter().find(|column| is_mark(manifest, &column.name)).cloned() else {
        return Ok(plan);
    };
    let mark = Expr::Column(mark);
    let mut shown = Vec::with_capacity(columns.len());
    for column in columns {
        let name = column.name.clone();
        if is_mark(manifest, &name) {
            continue;
        }
        let value = Expr::Column(column);
        let is_feature = manifest.references.iter().any(|reference| reference.output == name);
        let value = if is_feature {
            when(mark.clone().is_not_true(), value).end()?
        } else if manifest.says_why_null(&name) {
            when(mark.clone().is_true(), lit(REASON)).otherwise(value)?
        } else {
            value
        };
        shown.push(value.alias(name));
    }
    Ok(LogicalPlanBuilder::from(plan).project(shown)?.build()?)
}
