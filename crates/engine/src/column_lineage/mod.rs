//! Column lineage: which columns of which versions each output column of a query comes from, complete or refused.
//!
//! The analysed plan is walked by position: names are resolved there and nothing is optimised yet, so that aliases and self joins
//! cannot confuse it and edges do not change with the optimiser. Each node, expression and function has a rule; what has none
//! refuses the whole, by name, and is never guessed. Then the optimised plan is held against it: a column that its scans read and that
//! no edge names refuses the whole as well.

mod aggregates;
mod expressions;
mod functions;
mod point_in_time;
mod relations;
mod scans;
mod sources;
mod text;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
pub use feature::Influence;
use feature::{Sequence, VersionId};

pub(crate) use sources::features_of;

/// The versions that an optimised plan reads, with their columns.
pub(crate) fn scans_of(plan: &LogicalPlan) -> Vec<Scan> {
    scans::read(plan).scans()
}

/// The name that stands for the rows of a relation, and no column of it: what `count(*)` counts.
pub const ROWS: &str = "*";

/// A column that something comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A column of a feature view version as it was at a sequence; [`ROWS`] for its rows.
    FeatureView { version: VersionId, label: String, sequence: Sequence, column: String },
    /// A column of rows that the caller gave: a spine, or a table of the session.
    Given { table: String, column: String },
}

impl Source {
    pub fn column(&self) -> &str {
        match self {
            Self::FeatureView { column, .. } | Self::Given { column, .. } => column,
        }
    }
}

/// `weather@1.temp`
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FeatureView { label, column, .. } => write!(f, "{label}.{column}"),
            Self::Given { table, column } => write!(f, "{table}.{column}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Shared: a source of one column is often one of many.
    pub source: Arc<Source>,
    pub influence: Influence,
}

/// An output column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub name: String,
    /// What it is computed as, over columns of versions; cut where it is long.
    pub expression: String,
    /// Its own sources. Those of [`Traced::of_all`] come on top.
    pub sources: Vec<Edge>,
}

/// A version that a plan reads, with the columns that it needs of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scan {
    pub version: VersionId,
    /// `weather@1`
    pub label: String,
    /// The snapshot that was read: with time travel not the session's.
    pub sequence: Sequence,
    /// In the order of their names. None where only the number of rows counts.
    pub columns: Vec<String>,
}

/// Why a plan has no column lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The node, function or table that stands in the way.
    pub node: String,
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, self.reason)
    }
}

/// What a plan reads, and what its output is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// In the order of the plan's columns; empty where the lineage is refused. An output without sources is constant.
    pub outputs: Vec<Output>,
    /// Sources of every output column, since they decide which rows there are: filters, keys of joins, groups, order.
    pub of_all: Vec<Edge>,
    /// Sources that only chose rows of a point-in-time join no column of which is given: they are read, and bear on no output.
    pub unused: Vec<Arc<Source>>,
    /// What is read, refused or not.
    pub scans: Vec<Scan>,
    /// The conditions of filters, `HAVING` and `QUALIFY`, over columns of versions.
    pub filters: Vec<String>,
    /// Functions that were called, by their names.
    pub functions: Vec<String>,
    /// Tables that hold no features: `lineament.*`, `information_schema.*`. They are no sources.
    pub system: Vec<String>,
    pub refused: Option<Refusal>,
}

impl Traced {
    /// All edges: those of single outputs, and those of all of them, which have no output.
    pub fn edges(&self) -> impl Iterator<Item = (Option<&Output>, &Edge)> {
        let own = self
            .outputs
            .iter()
            .flat_map(|output| output.sources.iter().map(move |edge| (Some(output), edge)));
        own.chain(self.of_all.iter().map(|edge| (None, edge)))
    }

    /// Takes from the optimised plan what is read in the end. Where that is more than the edges explain, the lineage is refused.
    pub fn held_against(mut self, optimised: &LogicalPlan) -> Self {
        let read = scans::read(optimised);
        if let Some(unexplained) = read.unexplained(&self) {
            self.outputs.clear();
            self.of_all.clear();
            self.unused.clear();
            self.refused = Some(unexplained);
        }
        self.scans = read.scans();
        self
    }
}

/// Traces an analysed plan: one whose names and types are resolved, before the optimiser. What it reads is told by
/// [`Traced::held_against`].
///
/// Nothing here fails: what cannot be traced is refused in [`Traced::refused`].
pub fn trace(analysed: &LogicalPlan) -> Traced {
    let mut walk = relations::Walk::default();
    let mut traced = match walk.output(analysed) {
        Ok((outputs, of_all)) => {
            let mut traced = Traced { outputs, of_all, ..Traced::default() };
            let mut unused = walk.matched();
            let named: HashSet<&Source> = traced.edges().map(|(_, edge)| edge.source.as_ref()).collect();
            unused.retain(|source| !named.contains(source.as_ref()));
            traced.unused = unused;
            traced
        }
        Err(refusal) => Traced { refused: Some(refusal), ..Traced::default() },
    };
    (traced.filters, traced.functions, traced.system) = walk.seen();
    traced
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use arrow::datatypes::DataType;
    use datafusion::catalog::TableProvider;
    use datafusion::catalog::empty::EmptyTable;
    use datafusion::datasource::{MemTable, provider_as_source};
    use datafusion::logical_expr::{LogicalPlanBuilder, Volatility, col, create_udf};

    use super::*;

    fn rows() -> Arc<dyn TableProvider> {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let rows = RecordBatch::try_from_iter([("a", column.clone()), ("b", column)]).unwrap();
        Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap())
    }

    fn scan(table: Arc<dyn TableProvider>, columns: &[usize]) -> LogicalPlanBuilder {
        LogicalPlanBuilder::scan("rows", provider_as_source(table), Some(columns.to_vec())).unwrap()
    }

    #[test]
    fn a_function_that_nobody_knows_refuses_the_whole() {
        let same: datafusion::logical_expr::ScalarFunctionImplementation =
            Arc::new(|args| Ok(args[0].clone()));
        let types = vec![DataType::Int64];
        let function = create_udf("frobnicate", types, DataType::Int64, Volatility::Immutable, same);
        let plan = scan(rows(), &[0, 1]).project([col("b"), function.call(vec![col("a")])]).unwrap();
        let traced = trace(&plan.build().unwrap());
        let refusal = traced.refused.unwrap();
        assert_eq!(refusal.node, "frobnicate");
        assert_eq!(refusal.reason, "this function has no rule");
        assert!(traced.outputs.is_empty() && traced.of_all.is_empty());
    }

    #[test]
    fn a_table_that_is_none_of_ours_refuses_the_whole() {
        let plan = scan(Arc::new(EmptyTable::new(rows().schema())), &[0]).build().unwrap();
        assert_eq!(trace(&plan).refused.unwrap().node, "rows");
    }

    #[test]
    fn a_column_that_is_read_and_not_named_refuses_the_whole() {
        let named = scan(rows(), &[0]).build().unwrap();
        let read = scan(rows(), &[0, 1]).build().unwrap();
        assert_eq!(trace(&named).held_against(&named).refused, None);
        let refusal = trace(&named).held_against(&read).refused.unwrap();
        assert!(refusal.reason.starts_with("scan not explained: `rows.b`"), "{refusal}");
    }

    #[test]
    fn what_is_named_over_and_over_stays_small() {
        // Each level names the one below twice, in each of many columns.
        let mut plan = scan(rows(), &[0, 1]);
        for _ in 0..12 {
            let columns = (0..400).map(|at| {
                (col("a") + col("b"))
                    .alias(["a", "b"].get(at).map_or(format!("c{at}"), |name| (*name).to_owned()))
            });
            plan = plan.project(columns).unwrap();
        }
        let traced = trace(&plan.build().unwrap());
        // Few sources, however often they are named.
        assert_eq!(traced.refused, None);
        assert_eq!(traced.outputs.len(), 400);
        assert!(traced.outputs.iter().all(|output| output.sources.len() == 2));
        assert!(traced.outputs.iter().all(|output| output.expression.len() <= 1_010));
    }
}
