//! A feature view as a SQL table: the surviving observations at a snapshot.
//!
//! Per (key, `valid_at`), and per occurrence where the view has one, the latest known row counts; a retraction that is latest
//! leaves nothing.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use catalog::VisibleFile;
use catalog::state::ViewVersion;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, Result};
use datafusion::datasource::provider_as_source;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlanBuilder, TableType, col, lit};
use datafusion::physical_plan::ExecutionPlan;
use feature::{FeatureType, Sequence};

use crate::data_files::DataFiles;
use crate::history::HistoryTable;
use crate::point_in_time::Output;

#[derive(Debug, Clone)]
pub struct FeatureViewTable {
    version: Arc<ViewVersion>,
    files: Arc<Vec<VisibleFile>>,
    data: DataFiles,
    sequence: Sequence,
    schema: SchemaRef,
}

impl FeatureViewTable {
    pub fn new(
        version: Arc<ViewVersion>,
        files: Arc<Vec<VisibleFile>>,
        data: DataFiles,
        sequence: Sequence,
    ) -> Self {
        let mut fields: Vec<Field> = version
            .keys()
            .iter()
            .map(|key| Field::new(key.name.as_str(), key.data_type.arrow(), false))
            .collect();
        if let Some(occurrence) = &version.definition.occurrence {
            fields.push(Field::new(occurrence.name.as_str(), occurrence.data_type.arrow(), true));
        }
        fields.push(Field::new("valid_at", FeatureType::Timestamp.arrow(), false));
        for feature in &version.definition.features {
            fields.push(Field::new(feature.name.as_str(), feature.data_type.arrow(), true));
        }
        Self { version, files, data, sequence, schema: Arc::new(Schema::new(fields)) }
    }

    pub fn version(&self) -> &Arc<ViewVersion> {
        &self.version
    }

    pub fn files(&self) -> &Arc<Vec<VisibleFile>> {
        &self.files
    }

    pub fn data(&self) -> &DataFiles {
        &self.data
    }

    /// The snapshot that the table shows.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// Every row, with what the log knows of it.
    pub fn history(&self) -> HistoryTable {
        HistoryTable::new(self.version.clone(), self.files.clone(), self.data.clone(), self.sequence)
    }

    /// What a column of this table is.
    pub fn output(&self, name: &str) -> Option<Output> {
        if name == "valid_at" {
            return Some(Output::ValidAt);
        }
        if let Some(key) = self.version.keys().iter().position(|key| key.name.as_str() == name) {
            return Some(Output::Key(key));
        }
        let view = &self.version.definition;
        if view.occurrence.as_ref().is_some_and(|occurrence| occurrence.name.as_str() == name) {
            return Some(Output::Occurrence);
        }
        view.features.iter().position(|feature| feature.name.as_str() == name).map(Output::Feature)
    }
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

#[async_trait]
impl TableProvider for FeatureViewTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut same: Vec<Expr> = self.version.keys().iter().map(|key| column(key.name.as_str())).collect();
        if let Some(occurrence) = &self.version.definition.occurrence {
            same.push(column(occurrence.name.as_str()));
        }
        same.push(column("valid_at"));
        let newest_first =
            ["known_at", "sequence", "row"].map(|name| column(name).sort(false, false)).to_vec();
        let rank = row_number().partition_by(same).order_by(newest_first).build()?.alias("_rank");
        let columns: Vec<Expr> = match projection {
            Some(projection) => {
                projection.iter().map(|index| column(self.schema.field(*index).name())).collect()
            }
            None => self.schema.fields().iter().map(|field| column(field.name())).collect(),
        };
        let source = provider_as_source(Arc::new(self.history()));
        let plan = LogicalPlanBuilder::scan("history", source, None)?
            .window(vec![rank])?
            .filter(col("_rank").eq(lit(1u64)).and(column("retracted").is_false()))?
            .project(columns)?
            .limit(0, limit)?
            .build()?;
        session.create_physical_plan(&plan).await
    }
}
