//! What comes in as SQL can only read.

use std::ops::ControlFlow;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, plan_err};
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Visitor};

use super::walk::walk;

/// Refuses statements that do anything but read, before they are planned.
///
/// # Errors
/// Names what is allowed.
pub fn verify_statement(statement: &Statement) -> Result<()> {
    match statement {
        Statement::Statement(statement) => {
            let mut writing = Writing { found: None };
            walk(statement, &mut writing);
            writing.found.map_or(Ok(()), |found| refuse(&found))
        }
        Statement::Explain(explain) => verify_statement(&explain.statement),
        other => refuse(&first_words(&other.to_string())),
    }
}

/// What a statement does beside reading, at any depth: `WITH gone AS (DELETE …) SELECT …` is a query.
struct Writing {
    found: Option<String>,
}

impl Visitor for Writing {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &ast::Statement) -> ControlFlow<()> {
        let reads = matches!(
            statement,
            ast::Statement::Query(_)
                | ast::Statement::ShowTables { .. }
                | ast::Statement::ShowColumns { .. }
                | ast::Statement::ShowVariable { .. }
                | ast::Statement::ShowFunctions { .. }
                | ast::Statement::ExplainTable { .. }
        );
        if reads {
            return ControlFlow::Continue(());
        }
        self.found = Some(first_words(&statement.to_string()));
        ControlFlow::Break(())
    }

    fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<()> {
        if select.into.is_none() {
            return ControlFlow::Continue(());
        }
        self.found = Some("SELECT … INTO".to_owned());
        ControlFlow::Break(())
    }
}

fn first_words(text: &str) -> String {
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

fn refuse(what: &str) -> Result<()> {
    plan_err!(
        "`{what} …` is not allowed: SQL here can only read (SELECT, EXPLAIN, SHOW); definitions change by `lineament apply`, rows come in by `lineament ingest`"
    )
}

/// Refuses plans that hold anything but reading, at any depth.
pub fn verify(plan: &LogicalPlan) -> Result<()> {
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(plan)?;
    let mut refused = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Copy(_) | LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) | LogicalPlan::Statement(_) =
            node
        {
            refused = Some(node.display().to_string());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    match refused {
        Some(node) => plan_err!("`{node}` is not allowed: SQL here can only read (SELECT, EXPLAIN, SHOW)"),
        None => Ok(()),
    }
}
