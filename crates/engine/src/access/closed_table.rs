//! A feature view that its asker may not read: its columns are no secret, its rows are.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::Denied;

/// What stands for such a view where tables are looked up by name, so that listings of all tables and columns have it too.
#[derive(Debug)]
pub struct ClosedTable {
    schema: SchemaRef,
    denied: Denied,
}

impl ClosedTable {
    pub fn new(schema: SchemaRef, denied: Denied) -> Self {
        Self { schema, denied }
    }

    pub fn denied(&self) -> &Denied {
        &self.denied
    }
}

#[async_trait]
impl TableProvider for ClosedTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Err(DataFusionError::from(self.denied.clone()))
    }
}
