//! One walk through a statement's tree for all who look into it: sqlparser's is generic, and is compiled anew for each visitor, which is
//! thousands of functions.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, Select, Statement, TableFactor, ValueWithSpan, Visit, Visitor,
};

/// Shows a statement to a visitor, until that breaks off.
pub fn walk(statement: &Statement, visitor: &mut dyn Visitor<Break = ()>) {
    let _ = statement.visit(&mut Shown(visitor));
}

struct Shown<'a>(&'a mut dyn Visitor<Break = ()>);

macro_rules! show {
    ($($hook:ident: $node:ty),* $(,)?) => {
        impl Visitor for Shown<'_> {
            type Break = ();

            $(fn $hook(&mut self, node: &$node) -> ControlFlow<()> {
                self.0.$hook(node)
            })*
        }
    };
}

// All hooks that there are, so that none which a visitor has goes unasked.
show! {
    pre_visit_query: Query,
    post_visit_query: Query,
    pre_visit_select: Select,
    post_visit_select: Select,
    pre_visit_relation: ObjectName,
    post_visit_relation: ObjectName,
    pre_visit_table_factor: TableFactor,
    post_visit_table_factor: TableFactor,
    pre_visit_expr: Expr,
    post_visit_expr: Expr,
    pre_visit_statement: Statement,
    post_visit_statement: Statement,
    pre_visit_value: ValueWithSpan,
    post_visit_value: ValueWithSpan,
}
