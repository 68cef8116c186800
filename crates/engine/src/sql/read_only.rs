//! What comes in as SQL can only read.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, plan_err};
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;

/// Refuses statements that do anything but read, before they are planned.
///
/// # Errors
/// Names what is allowed.
pub fn verify_statement(statement: &Statement) -> Result<()> {
    let reads = match statement {
        Statement::Statement(statement) => matches!(
            statement.as_ref(),
            ast::Statement::Query(_)
                | ast::Statement::ShowTables { .. }
                | ast::Statement::ShowColumns { .. }
                | ast::Statement::ShowVariable { .. }
                | ast::Statement::ShowFunctions { .. }
                | ast::Statement::ExplainTable { .. }
        ),
        Statement::Explain(explain) => return verify_statement(&explain.statement),
        _ => false,
    };
    if reads {
        return Ok(());
    }
    let text = statement.to_string();
    let verb: Vec<&str> = text.split_whitespace().take(2).collect();
    plan_err!(
        "`{} …` is not allowed: SQL here can only read (SELECT, EXPLAIN, SHOW); definitions change by `lineament apply`, rows come in by `lineament ingest`",
        verb.join(" ")
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
