//! What stands at the bottom of a plan: the tables that are scanned, and the columns of them that something may come from.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::catalog::information_schema::INFORMATION_SCHEMA;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::datasource::{MemTable, source_as_provider};
use datafusion::functions_table::generate_series::GenerateSeriesTable;
use datafusion::logical_expr::TableScan;
use feature::{Sequence, VersionId};

use super::{Refusal, Source};
use crate::feature_view::{FeatureViewTable, read_from};
use crate::history::HistoryTable;
use crate::streamed_rows::StreamedRows;
use crate::system::SystemRelation;

/// What a scan reads.
pub enum Table {
    /// A feature view or its history.
    Features(Features),
    /// Rows that the caller gave, under a name.
    Given(String),
    /// A table that holds no features.
    System(String),
    /// A series that is made of constants.
    Series,
}

/// A version at a sequence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Features {
    pub version: VersionId,
    pub label: String,
    pub sequence: Sequence,
}

impl Features {
    /// A column of it.
    pub fn column(&self, column: &str) -> Source {
        Source::FeatureView {
            version: self.version,
            label: self.label.clone(),
            sequence: self.sequence,
            column: read_from(column).to_owned(),
        }
    }
}

/// The table under a scan, told by what will be read and not by its name.
pub fn table_of(scan: &TableScan) -> Result<Table, Refusal> {
    let refused = |reason: &str| Refusal { node: scan.table_name.to_string(), reason: reason.to_owned() };
    let Ok(provider) = source_as_provider(&scan.source) else {
        return Err(refused("what this table is made of is not known"));
    };
    if let Some(features) = features_of(provider.as_ref()) {
        return Ok(Table::Features(features));
    }
    if let Some(relation) = provider.downcast_ref::<SystemRelation>() {
        return Ok(Table::System(relation.view()));
    }
    if provider.is::<GenerateSeriesTable>() {
        return Ok(Table::Series);
    }
    if provider.is::<MemTable>() || provider.is::<StreamedRows>() {
        return Ok(Table::Given(scan.table_name.table().to_owned()));
    }
    if provider.is::<StreamingTable>() && scan.table_name.schema() == Some(INFORMATION_SCHEMA) {
        return Ok(Table::System(format!("{INFORMATION_SCHEMA}.{}", scan.table_name.table())));
    }
    Err(refused("what this table is made of is not known"))
}

/// The version that a provider shows, if it shows one.
pub fn features_of(provider: &dyn TableProvider) -> Option<Features> {
    let of = |version: &catalog::state::ViewVersion, sequence: Sequence| Features {
        version: version.version,
        label: version.label(),
        sequence,
    };
    if let Some(table) = provider.downcast_ref::<FeatureViewTable>() {
        return Some(of(table.version(), table.sequence()));
    }
    let history = provider.downcast_ref::<HistoryTable>()?;
    Some(of(history.version(), history.sequence()))
}

/// Sources by number, so that sets of them are small.
#[derive(Default)]
pub struct Sources {
    all: Vec<Arc<Source>>,
    numbers: HashMap<Arc<Source>, u32>,
}

impl Sources {
    pub fn number(&mut self, source: Source) -> u32 {
        if let Some(number) = self.numbers.get(&source) {
            return *number;
        }
        let number = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        let source = Arc::new(source);
        self.all.push(source.clone());
        self.numbers.insert(source, number);
        number
    }

    pub fn get(&self, number: u32) -> Option<Arc<Source>> {
        self.all.get(number as usize).cloned()
    }
}
