//! The types that a statement wants its parameters to have.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::deep_stack::with_deep_stack;

/// The types by placeholder, as `$1`. One that stands beside nothing of a type, or beside things of several, has none.
pub fn parameter_types(plan: &LogicalPlan) -> Result<BTreeMap<String, DataType>> {
    let mut found: BTreeMap<String, Option<DataType>> = BTreeMap::new();
    with_deep_stack(|| {
        plan.apply_with_subqueries(|node| {
            // How many rows to give or to leave out: a whole number, which the planner does not say.
            let untold = matches!(node, LogicalPlan::Limit(_)).then_some(DataType::Int64);
            node.apply_expressions(|expression| {
                expression.apply(|part| {
                    if let Expr::Placeholder(Placeholder { id, field }) = part {
                        let told = field.as_ref().map(|field| field.data_type().clone());
                        if let Some(told) = told.or_else(|| untold.clone()) {
                            let known = found.entry(id.clone()).or_insert_with(|| Some(told.clone()));
                            if known.as_ref() != Some(&told) {
                                *known = None;
                            }
                        }
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })
    })?;
    Ok(found.into_iter().filter_map(|(name, told)| Some((name, told?))).collect())
}
