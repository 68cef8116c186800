//! Groups and aggregates, windows among them.

use std::rc::Rc;

use datafusion::logical_expr::expr::{AggregateFunction, GroupingSet, WindowFunction};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Aggregate, Expr, WindowFunctionDefinition};

use super::functions::{self, InWindow};
use super::relations::{Column, Inputs, Set, Walk};
use super::{Influence, Refusal};

impl Walk {
    /// The columns of an aggregate, and the sources of its keys.
    pub fn groups(&mut self, node: &Aggregate, inputs: &Inputs<'_>) -> Result<(Vec<Column>, Set), Refusal> {
        let keys = grouping_set_to_exprlist(&node.group_expr)
            .map_err(|error| Refusal { node: "Aggregate".to_owned(), reason: error.strip_backtrace() })?;
        let mut grouped = Set::new();
        let mut columns = Vec::with_capacity(node.schema.fields().len());
        for key in keys {
            let column = self.column(key, inputs)?;
            self.spend(column.sources.len())?;
            grouped.extend(column.sources.iter().copied());
            columns.push(column);
        }
        if let [Expr::GroupingSet(set)] = node.group_expr.as_slice() {
            // Which of the sets a row belongs to: made of nothing.
            let text = match set {
                GroupingSet::Rollup(_) => "rollup",
                GroupingSet::Cube(_) => "cube",
                GroupingSet::GroupingSets(_) => "grouping sets",
            };
            columns.push(Column { sources: Rc::default(), text: text.into() });
        }
        for expression in &node.aggr_expr {
            columns.push(self.column(expression, inputs)?);
        }
        Ok((columns, grouped))
    }

    pub fn aggregate_function(
        &mut self,
        call: &AggregateFunction,
        inputs: &Inputs<'_>,
    ) -> Result<Rc<Set>, Refusal> {
        let name = call.func.name();
        if !functions::is_aggregate(name) {
            return Err(unknown(name, "aggregate function"));
        }
        self.uses(name);
        let mut sources = self.aggregated(&call.params.args, inputs)?;
        if let Some(filter) = &call.params.filter {
            self.add(&mut sources, filter, inputs, Influence::Filter)?;
        }
        for key in &call.params.order_by {
            self.add(&mut sources, &key.expr, inputs, Influence::Sort)?;
        }
        Ok(Rc::new(sources))
    }

    /// What is computed from all rows of a group; without a column, as in `count(*)`, from the rows themselves.
    fn aggregated(&mut self, args: &[Expr], inputs: &Inputs<'_>) -> Result<Set, Refusal> {
        let mut all = Set::new();
        for arg in args {
            let sources = self.expression(arg, inputs)?;
            self.spend(sources.len())?;
            all.extend(
                sources
                    .iter()
                    .map(|(source, influence)| (*source, influence.max_direct(Influence::Aggregation))),
            );
        }
        if all.is_empty() {
            all.extend(inputs.rows.iter().map(|row| (*row, Influence::Aggregation)));
        }
        Ok(all)
    }

    pub fn window_function(
        &mut self,
        call: &WindowFunction,
        inputs: &Inputs<'_>,
    ) -> Result<Rc<Set>, Refusal> {
        let name = call.fun.name();
        let rule = match &call.fun {
            WindowFunctionDefinition::AggregateUDF(function) => {
                functions::is_aggregate(function.name()).then_some(InWindow::Aggregated)
            }
            WindowFunctionDefinition::WindowUDF(function) => functions::window(function.name()),
        };
        let Some(rule) = rule else { return Err(unknown(name, "window function")) };
        self.uses(name);
        let params = &call.params;
        let mut sources = Set::new();
        match rule {
            InWindow::Aggregated => sources = self.aggregated(&params.args, inputs)?,
            InWindow::Picked => {
                for arg in &params.args {
                    let picked = self.expression(arg, inputs)?;
                    self.spend(picked.len())?;
                    let changed = picked.iter().map(|(source, influence)| {
                        (*source, influence.max_direct(Influence::Transformation))
                    });
                    sources.extend(changed);
                }
            }
            InWindow::Rank => {
                for arg in &params.args {
                    self.add(&mut sources, arg, inputs, Influence::Window)?;
                }
            }
        }
        if let Some(filter) = &params.filter {
            self.add(&mut sources, filter, inputs, Influence::Filter)?;
        }
        for expression in params.partition_by.iter().chain(params.order_by.iter().map(|key| &key.expr)) {
            self.add(&mut sources, expression, inputs, Influence::Window)?;
        }
        if params.order_by.is_empty() && rule != InWindow::Aggregated {
            // Any order of the rows.
            sources.extend(inputs.rows.iter().map(|row| (*row, Influence::Window)));
        }
        Ok(Rc::new(sources))
    }
}

pub fn unknown(name: &str, what: &str) -> Refusal {
    Refusal { node: name.to_owned(), reason: format!("this {what} has no rule") }
}
