//! Clauses that parse, and that DataFusion would leave unread: an answer that ignores what was asked is a wrong one.

use std::ops::ControlFlow;

use datafusion::common::{Result, plan_err};
use datafusion::sql::sqlparser::ast::{
    LimitClause, OrderByKind, Query, Select, Statement, TableFactor, Visitor,
};

use super::walk::walk;

/// Refuses a statement that holds such a clause, at any depth.
///
/// # Errors
/// Names the clause, and what to write in its place.
pub fn verify_all_read(statement: &Statement) -> Result<()> {
    let mut unread = Unread { found: None };
    walk(statement, &mut unread);
    match unread.found {
        Some((clause, instead)) => plan_err!("{clause} is not supported: {instead}"),
        None => Ok(()),
    }
}

struct Unread {
    found: Option<(&'static str, &'static str)>,
}

impl Unread {
    fn refuse(&mut self, clauses: &[(bool, &'static str, &'static str)]) -> ControlFlow<()> {
        match clauses.iter().find(|(there, ..)| *there) {
            Some(&(_, clause, instead)) => {
                self.found = Some((clause, instead));
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        }
    }
}

impl Visitor for Unread {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let filled = query.order_by.as_ref().is_some_and(|order| match &order.kind {
            OrderByKind::Expressions(parts) => parts.iter().any(|part| part.with_fill.is_some()),
            OrderByKind::All(_) => false,
        });
        let limited_by = matches!(
            &query.limit_clause,
            Some(LimitClause::LimitOffset { limit_by, .. }) if !limit_by.is_empty()
        );
        self.refuse(&[
            (limited_by, "LIMIT BY", "write QUALIFY row_number() OVER (PARTITION BY …) <= n"),
            (
                !query.locks.is_empty(),
                "FOR UPDATE",
                "a query sees one snapshot, and there is nothing to lock",
            ),
            (query.for_clause.is_some(), "FOR XML or JSON", "answers are tables; leave it out"),
            (query.settings.is_some(), "SETTINGS", "a query has none; leave it out"),
            (query.format_clause.is_some(), "FORMAT", "the client chooses the format; leave it out"),
            (filled, "WITH FILL", "join with a range of times, as in FROM generate_series(…)"),
        ])
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.refuse(&[
            (select.prewhere.is_some(), "PREWHERE", "write WHERE"),
            (select.top.is_some(), "TOP", "write LIMIT"),
            (!select.connect_by.is_empty(), "CONNECT BY", "write WITH RECURSIVE"),
            (select.value_table_mode.is_some(), "SELECT AS STRUCT or VALUE", "name the columns"),
        ])
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        let (ordinality, partitions, path, sample) = match factor {
            TableFactor::Table { with_ordinality, partitions, json_path, sample, .. } => {
                (*with_ordinality, !partitions.is_empty(), json_path.is_some(), sample.is_some())
            }
            TableFactor::Derived { sample, .. } => (false, false, false, sample.is_some()),
            _ => (false, false, false, false),
        };
        self.refuse(&[
            (sample, "TABLESAMPLE", "choose rows with WHERE, as in WHERE random() < 0.1"),
            (partitions, "PARTITION of a table", "choose rows with WHERE"),
            (ordinality, "WITH ORDINALITY", "write row_number() OVER (…)"),
            (path, "a path after a table", "choose columns after SELECT"),
        ])
    }
}
