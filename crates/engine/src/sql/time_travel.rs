//! Tables as they were: `weather FOR SYSTEM_TIME AS OF TIMESTAMP '…'` and `at_sequence('weather', 7)`.
//!
//! Both name the table of an earlier snapshot, and both are the feature view itself: an ASOF JOIN with one follows the
//! version's whole rule. DataFusion drops a table's version without a word, so one that is not resolved here is an error.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Schema, TimestampMicrosecondType};
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, DataFusionError, Result, TableReference, plan_datafusion_err, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, TableFactor, TableVersion, TypedString, Value,
};
use feature::name::split_project;
use feature::{AsOf, FeatureType, Sequence, Timestamp};

use crate::session::{CATALOG, SESSION_SCHEMA, SYSTEM_SCHEMA};
use crate::snapshot::{Snapshot, split_name};
use crate::system;

/// A table of an earlier snapshot, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Earlier {
    pub schema: String,
    pub table: String,
    moment: Moment,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Moment {
    Sequence(Sequence),
    /// An expression that is still to be computed.
    Instant(Box<Expr>),
}

impl fmt::Display for Earlier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.schema != "default" {
            write!(f, "{}.", self.schema)?;
        }
        f.write_str(&self.table)
    }
}

impl Earlier {
    /// `at_sequence('fraud.weather@2', 7)`.
    pub fn at_sequence(name: &str, sequence: u64) -> Self {
        let (schema, table) = split_project(name);
        Self {
            schema: schema.to_owned(),
            table: table.to_owned(),
            moment: Moment::Sequence(Sequence(sequence)),
        }
    }

    /// The table that a factor names with a version, if it has one.
    pub fn of(factor: &TableFactor) -> Option<Result<Self, String>> {
        let TableFactor::Table { name, args, version: Some(version), .. } = factor else { return None };
        let TableVersion::ForSystemTimeAsOf(instant) = version else {
            return Some(Err(format!(
                "`{version}` is not supported: write {name} FOR SYSTEM_TIME AS OF TIMESTAMP '…', or at_sequence('{name}', n)"
            )));
        };
        if args.is_some() {
            return Some(Err(format!("FOR SYSTEM_TIME AS OF stands after a table, and `{name}(…)` is none")));
        }
        let ObjectName(parts) = name;
        let parts: Option<Vec<String>> = parts.iter().map(|part| part.as_ident().map(normalized)).collect();
        let (schema, table) = match parts.as_deref() {
            Some([table]) => ("default", table),
            Some([schema, table]) => (schema.as_str(), table),
            Some([catalog, schema, table]) if catalog == CATALOG => (schema.as_str(), table),
            _ => return Some(Err(format!("`{name}` is not the name of a table"))),
        };
        Some(Ok(Self {
            schema: schema.to_owned(),
            table: table.clone(),
            moment: Moment::Instant(Box::new(instant.clone())),
        }))
    }

    /// Reads what the table was.
    pub async fn resolve(&self, snapshot: &Snapshot, session: &SessionState) -> Result<Resolved> {
        let as_of = match &self.moment {
            Moment::Sequence(sequence) => AsOf::Sequence(*sequence),
            Moment::Instant(expression) => AsOf::Instant(compute(expression, session)?),
        };
        let earlier = snapshot.clone().at(Some(as_of))?;
        let sequence = earlier.sequence;
        let provider = match self.schema.as_str() {
            SYSTEM_SCHEMA => system::table(&earlier, &self.table).await?.ok_or_else(|| {
                plan_datafusion_err!("there is no table `{self}`; SHOW TABLES lists all that there are")
            })?,
            SESSION_SCHEMA | "information_schema" => {
                return plan_err!("`{self}` is not in the log, and so it has no earlier state");
            }
            project => {
                let parts = (!self.table.contains('.')).then(|| split_name(&self.table)).flatten();
                let Some((_, view, number)) = parts else {
                    return plan_err!("`{self}` is not the name of a feature view, as weather or weather@2");
                };
                let version = earlier
                    .version(project, &view, number)
                    .map_err(|error| at_that_time(error, snapshot, sequence))?;
                earlier.table(version).await? as Arc<dyn TableProvider>
            }
        };
        Ok(Resolved { provider, sequence })
    }
}

/// What a name that is not quoted stands for.
pub fn normalized(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// A table of an earlier snapshot.
#[derive(Clone, Debug)]
pub struct Resolved {
    provider: Arc<dyn TableProvider>,
    sequence: Sequence,
}

/// Resolved tables, by what was asked for.
pub type Tables = HashMap<Earlier, Resolved>;

impl Resolved {
    /// A scan under the table's own name. EXPLAIN shows the sequence.
    pub fn scan(&self, asked: &Earlier) -> Result<LogicalPlan> {
        let label = TableReference::bare(format!("{asked} at sequence {}", self.sequence));
        let name = match asked.schema.as_str() {
            "default" => TableReference::bare(asked.table.clone()),
            schema => TableReference::partial(schema, asked.table.clone()),
        };
        LogicalPlanBuilder::scan(label, provider_as_source(self.provider.clone()), None)?.alias(name)?.build()
    }
}

/// The instant that a constant expression gives; a time without a zone is UTC.
fn compute(expression: &Expr, session: &SessionState) -> Result<Timestamp> {
    if let Some(instant) = written(expression) {
        return Ok(instant);
    }
    let wrong = |why: String| {
        plan_datafusion_err!(
            "FOR SYSTEM_TIME AS OF {expression}: {why}; write a constant instant, as TIMESTAMP '2013-07-09T12:30:00Z'"
        )
    };
    let wrapped = |error: DataFusionError| match error.find_root() {
        DataFusionError::SchemaError(error, _) => wrong(error.to_string().trim_end_matches('.').to_owned()),
        other => wrong(other.strip_backtrace()),
    };
    let schema = DFSchema::empty();
    let logical = session.create_logical_expr(&expression.to_string(), &schema).map_err(wrapped)?;
    let physical = session.create_physical_expr(logical, &schema).map_err(wrapped)?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?;
    let value = physical.evaluate(&row).and_then(|value| value.into_array(1)).map_err(wrapped)?;
    let is_time = matches!(
        value.data_type(),
        DataType::Timestamp(..)
            | DataType::Date32
            | DataType::Utf8
            | DataType::Utf8View
            | DataType::LargeUtf8
    );
    if !is_time {
        return Err(wrong(format!("it is {}, and no time", value.data_type())));
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let value = cast_with_options(&value, &FeatureType::Timestamp.arrow(), &strict)
        .map_err(|error| wrong(error.to_string()))?;
    let instant = value.as_primitive::<TimestampMicrosecondType>().iter().next().flatten();
    instant.map(Timestamp).ok_or_else(|| wrong("it is null".to_owned()))
}

/// An instant that is written out, of any year.
fn written(expression: &Expr) -> Option<Timestamp> {
    let value = match expression {
        Expr::Value(value) | Expr::TypedString(TypedString { value, .. }) => value,
        _ => return None,
    };
    match &value.value {
        Value::SingleQuotedString(text) => text.parse().ok(),
        _ => None,
    }
}

/// What is missing may be there today.
fn at_that_time(error: DataFusionError, snapshot: &Snapshot, sequence: Sequence) -> DataFusionError {
    match error {
        DataFusionError::Plan(message) if sequence < snapshot.sequence => {
            DataFusionError::Plan(format!("{message} (as of sequence {sequence})"))
        }
        other => other,
    }
}
