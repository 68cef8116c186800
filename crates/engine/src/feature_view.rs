//! A feature view as a SQL table: the surviving observations at a snapshot.
//!
//! Per (key, `valid_at`), and per occurrence where the view has one, the latest known row counts; a retraction that is latest
//! leaves nothing.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use catalog::VisibleFile;
use catalog::state::ViewVersion;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use feature::{FeatureType, Sequence};

use crate::access::Guard;
use crate::data_files::DataFiles;
use crate::history::{HistoryTable, guarded_conditions, left_of};
use crate::point_in_time::Output;
use crate::scan::{self, Predicate, Wanted, taken_over_guarded};

/// Ends the name of the column that says why a feature is null. No feature's name has a space.
const NULL_REASON: &str = " null reason";

/// The column that says why a feature is null, in [`FeatureViewTable::with_null_reasons`].
pub fn null_reason_of(feature: &str) -> String {
    format!("{feature}{NULL_REASON}")
}

/// The column of the version that a column of its table is read from.
pub fn read_from(column: &str) -> &str {
    column.strip_suffix(NULL_REASON).unwrap_or(column)
}

#[derive(Debug, Clone)]
pub struct FeatureViewTable {
    version: Arc<ViewVersion>,
    files: Arc<Vec<VisibleFile>>,
    data: DataFiles,
    sequence: Sequence,
    schema: SchemaRef,
    /// What is kept from the asker.
    guard: Option<Arc<Guard>>,
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
        Self { version, files, data, sequence, schema: Arc::new(Schema::new(fields)), guard: None }
    }

    /// The same with a column beside each feature that says why it is null. Only a point-in-time join can say it: the table is for its
    /// right side, and has no rows of its own.
    pub fn with_null_reasons(self) -> Self {
        let mut fields: Vec<_> = self.schema.fields().iter().cloned().collect();
        for feature in &self.version.definition.features {
            let name = null_reason_of(feature.name.as_str());
            fields.push(Arc::new(Field::new(name, DataType::Utf8, true)));
        }
        Self { schema: Arc::new(Schema::new(fields)), ..self }
    }

    /// The same with something kept from the asker.
    pub fn guarded(self, guard: Option<Arc<Guard>>) -> Self {
        Self { guard, ..self }
    }

    /// What is kept from the asker; none where nothing is.
    pub fn guard(&self) -> Option<&Arc<Guard>> {
        self.guard.as_ref()
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
        let (version, files) = (self.version.clone(), self.files.clone());
        HistoryTable::new(version, files, self.data.clone(), self.sequence).guarded(self.guard.clone())
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
        let feature = read_from(name);
        let place = view.features.iter().position(|known| known.name.as_str() == feature)?;
        Some(if feature == name { Output::Feature(place) } else { Output::NullReason(place) })
    }
}

#[async_trait]
impl TableProvider for FeatureViewTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Rows of which one survives have their keys, time and occurrence in common: a condition on these alone holds for all of them or
    /// for none, so that it may come first. One on a feature may not: it would let a row survive that was corrected.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let in_common = |name: &str| {
            !matches!(self.output(name), None | Some(Output::Feature(_) | Output::NullReason(_)))
        };
        let guard = self.guard.as_deref();
        Ok(filters.iter().map(|filter| taken_over_guarded(filter, guard, in_common)).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(projection) => Arc::new(self.schema.project(projection)?),
            None => self.schema.clone(),
        };
        // The join reads the files itself.
        if schema.fields().iter().any(|field| read_from(field.name()) != field.name()) {
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let conditions = guarded_conditions(&self.version, self.guard.as_deref(), &schema, filters)?;
        if self.files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let history = self.history();
        let predicate = Predicate::compile(session, history.stored(), &conditions, str::to_owned)?;
        let predicate = predicate.map(Arc::new);
        let files = left_of(&self.version, &self.files, predicate.as_deref());
        let wanted = Wanted {
            version: self.version.clone(),
            data: self.data.clone(),
            history: history.stored().clone(),
            pruned: self.files.len() - files.len(),
            files,
            predicate,
            schema,
            limit,
            guard: self.guard.clone(),
        };
        scan::plan(wanted, session.config().target_partitions())
    }
}
