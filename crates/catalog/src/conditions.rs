//! Conditions over one row, written in SQL: the seam through which a query engine is handed in.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::Schema;

/// Compiles conditions. The catalog knows no SQL; `engine` does.
pub trait Conditions: Send + Sync {
    /// # Errors
    /// Why the text is not a deterministic boolean expression over these columns.
    fn compile(&self, sql: &str, schema: &Schema) -> Result<Arc<dyn Condition>, String>;
}

/// A compiled condition.
pub trait Condition: Send + Sync {
    /// One value a row, null where the condition is unknown.
    fn evaluate(&self, rows: &RecordBatch) -> Result<BooleanArray, String>;
}
