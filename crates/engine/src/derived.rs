//! Derived feature views: the query of one, planned and looked through.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::records::{Derivation, Parent};
use catalog::state::ViewVersion;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, plan_err};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Volatility, lit};
use feature::{Sequence, VersionId};

use crate::column_lineage::{self, Refusal, features_of};
use crate::history::HistoryTable;
use crate::session::Session;
use crate::sql::with_deep_stack;

/// The query of a derived view, ready to run.
pub struct DerivedPlan {
    pub plan: LogicalPlan,
    parents: BTreeMap<VersionId, (Arc<ViewVersion>, Vec<String>)>,
    /// Each row is made of one row of one history.
    row_preserving: bool,
    /// It reads histories and no tables: of each row that is read it is known when it came.
    of_histories: bool,
    untraced: Option<Refusal>,
}

/// Plans the query of a derived view over the session's snapshot.
///
/// # Errors
/// What is wrong with the query; functions that give another value each time; a query that reads no feature view.
pub async fn plan(session: &Session, sql: &str) -> Result<DerivedPlan> {
    let plan = session.plan(sql).await?;
    refuse_volatile(&plan)?;
    refuse_foreign(&plan)?;
    let (traced, read) = with_deep_stack(|| session.optimise(&plan))?;
    let mut parents: BTreeMap<VersionId, (Arc<ViewVersion>, Vec<String>)> = BTreeMap::new();
    for scan in column_lineage::scans_of(&read) {
        let Some(version) = session.snapshot().state.view_version(scan.version) else { continue };
        let (version, features) =
            parents.entry(scan.version).or_insert_with(|| (Arc::new(version.clone()), Vec::new()));
        for column in scan.columns {
            let is_feature =
                version.definition.features.iter().any(|feature| feature.name.as_str() == column);
            if is_feature && !features.contains(&column) {
                features.push(column);
            }
        }
    }
    if parents.is_empty() {
        return plan_err!(
            "it reads no feature view; a derived view is made of others, as weather or history('weather')"
        );
    }
    let row_preserving = is_row_preserving(&plan)?;
    let of_histories = reads_histories_alone(&plan)?;
    Ok(DerivedPlan { plan, parents, row_preserving, of_histories, untraced: traced.refused })
}

impl DerivedPlan {
    pub fn parents(&self) -> impl Iterator<Item = &Arc<ViewVersion>> {
        self.parents.values().map(|(version, _)| version)
    }

    /// The same query over those rows alone that came after a sequence; none where a row may depend on others, so that all must be
    /// read again.
    pub fn since(&self, sequence: Sequence) -> Result<Option<LogicalPlan>> {
        if !self.row_preserving {
            return Ok(None);
        }
        self.of_rows_that(came().gt(lit(sequence.0))).map(Some)
    }

    /// The same query over those rows alone that had come by a sequence and count now; none where it reads tables, of whose rows nobody knows what they
    /// took the place of.
    pub fn until(&self, sequence: Sequence) -> Result<Option<LogicalPlan>> {
        if !self.of_histories {
            return Ok(None);
        }
        self.of_rows_that(came().lt_eq(lit(sequence.0))).map(Some)
    }

    /// Whether each row is made of one row, whatever others there are.
    pub fn is_row_preserving(&self) -> bool {
        self.row_preserving
    }

    /// What stands in the way of tracing its columns to their sources; none where nothing does.
    pub fn untraced(&self) -> Option<&Refusal> {
        self.untraced.as_ref()
    }

    fn of_rows_that(&self, condition: Expr) -> Result<LogicalPlan> {
        let narrowed = self.plan.clone().transform_down_with_subqueries(|node| {
            if !matches!(node, LogicalPlan::TableScan(_)) {
                return Ok(Transformed::no(node));
            }
            let filtered = LogicalPlanBuilder::from(node).filter(condition.clone())?.build()?;
            Ok(Transformed::new(filtered, true, TreeNodeRecursion::Jump))
        })?;
        Ok(narrowed.data)
    }

    /// What the rows are made of: every batch of the parents that counts, or those after a sequence. Which features
    /// bear on which is for who traced the query to add.
    pub fn derivation(&self, session: &Session, since: Option<Sequence>) -> Derivation {
        let snapshot = session.snapshot();
        let parent = |(version, features): &(Arc<ViewVersion>, Vec<String>)| Parent {
            version: version.version,
            features: features.clone(),
            batches: snapshot
                .state
                .batches_of(version, snapshot.sequence)
                .iter()
                .filter(|batch| since.is_none_or(|since| batch.by.sequence > since))
                .map(|batch| batch.record.batch)
                .collect(),
            bears_on: None,
        };
        Derivation {
            sequence: snapshot.sequence,
            since,
            row_preserving: self.row_preserving,
            parents: self.parents.values().map(parent).collect(),
        }
    }
}

/// When a row came, as a history says it.
fn came() -> Expr {
    Expr::Column(Column::new_unqualified("sequence"))
}

fn reads_histories_alone(plan: &LogicalPlan) -> Result<bool> {
    let mut only = true;
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => {
                only &= source_as_provider(&scan.source)?.downcast_ref::<HistoryTable>().is_some();
            }
            // A join as of a time reads its views by itself.
            LogicalPlan::Extension(_) => only = false,
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(only)
}

fn refuse_foreign(plan: &LogicalPlan) -> Result<()> {
    let mut foreign = false;
    let mut recursive = None;
    plan.apply_with_subqueries(|node| {
        match node {
            // Told by its name: the rows of its last round are scanned as a table, and are no feature view.
            LogicalPlan::RecursiveQuery(query) => {
                recursive = Some(query.name.clone());
                return Ok(TreeNodeRecursion::Stop);
            }
            LogicalPlan::TableScan(scan) => {
                foreign |= features_of(source_as_provider(&scan.source)?.as_ref()).is_none();
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if let Some(name) = recursive {
        return plan_err!(
            "`{name}` is defined by itself, and what its columns come from cannot be traced; write the query without WITH RECURSIVE"
        );
    }
    if foreign {
        return plan_err!(
            "it reads system views; a derived view is made of feature views, as weather or history('weather')"
        );
    }
    Ok(())
}

/// What a refresh gives must be what a later one would give of the same rows.
fn refuse_volatile(plan: &LogicalPlan) -> Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                if let Expr::ScalarFunction(call) = part
                    && call.func.signature().volatility != Volatility::Immutable
                {
                    found = Some(call.func.name().to_owned());
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    match found {
        Some(name) => plan_err!(
            "`{name}` gives another value each time; what a derived view holds must follow from the rows that it is made of"
        ),
        None => Ok(()),
    }
}

/// Projections and filters over one history, and nothing else.
fn is_row_preserving(plan: &LogicalPlan) -> Result<bool> {
    let mut histories = 0;
    let mut only = true;
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {}
            LogicalPlan::TableScan(scan) => {
                let provider = source_as_provider(&scan.source)?;
                only &= provider.downcast_ref::<HistoryTable>().is_some();
                histories += 1;
            }
            _ => only = false,
        }
        // A window or an aggregate is a node of its own; a subquery reads other rows.
        node.apply_expressions(|expression| {
            only &= !expression.exists(|part| {
                Ok(matches!(part, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_)))
            })?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(only && histories == 1)
}
