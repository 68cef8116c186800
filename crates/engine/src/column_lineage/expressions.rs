//! The walk over expressions: what a value is computed from, and what only decides which value stands.

use std::rc::Rc;

use datafusion::common::Column as Name;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{InSubquery, SetComparison};
use datafusion::logical_expr::{Case, Expr, Subquery};

use super::aggregates::unknown;
use super::functions::{self, Arguments};
use super::relations::{Inputs, Relation, Set, Walk, transformed};
use super::{Influence, Refusal};
use crate::sql::with_deep_stack;

impl Walk {
    /// The sources of an expression. The match has no arm for what it does not name.
    pub fn expression(&mut self, expression: &Expr, inputs: &Inputs<'_>) -> Result<Rc<Set>, Refusal> {
        with_deep_stack(|| self.part(expression, inputs))
    }

    fn part(&mut self, expression: &Expr, inputs: &Inputs<'_>) -> Result<Rc<Set>, Refusal> {
        self.spend(0)?;
        match expression {
            Expr::Alias(alias) => self.expression(&alias.expr, inputs),
            Expr::Column(name) => resolve(name, inputs),
            Expr::OuterReferenceColumn(_, name) => self.resolve_outer(name),
            // Bound parameters are literals by then; an unbound one cannot run.
            Expr::Literal(..) | Expr::Placeholder(_) => Ok(Rc::default()),
            // An element of the list that the function around it walks over.
            Expr::LambdaVariable(_) => Ok(Rc::default()),
            Expr::BinaryExpr(_)
            | Expr::Like(_)
            | Expr::SimilarTo(_)
            | Expr::Not(_)
            | Expr::IsNotNull(_)
            | Expr::IsNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Negative(_)
            | Expr::Between(_)
            | Expr::Cast(_)
            | Expr::TryCast(_)
            | Expr::InList(_)
            | Expr::Lambda(_) => self.computed(expression, inputs),
            Expr::Case(case) => self.case(case, inputs),
            Expr::ScalarFunction(call) => {
                let name = call.func.name();
                let Some(rule) = functions::scalar(name) else { return Err(unknown(name, "function")) };
                self.uses(name);
                match rule {
                    Arguments::Computed => self.computed(expression, inputs),
                    rule => self.chosen(rule, &call.args, inputs),
                }
            }
            Expr::HigherOrderFunction(call) => {
                let name = call.func.name();
                if !functions::is_higher_order(name) {
                    return Err(unknown(name, "function"));
                }
                self.uses(name);
                self.computed(expression, inputs)
            }
            Expr::AggregateFunction(call) => self.aggregate_function(call, inputs),
            Expr::WindowFunction(call) => self.window_function(call, inputs),
            Expr::ScalarSubquery(subquery) => self.scalar_subquery(subquery, inputs),
            Expr::Exists(exists) => {
                let relation = self.subquery(&exists.subquery, inputs)?;
                let mut sources = all(&relation.rows, Influence::Filter);
                sources.extend(relation.of.iter().map(|row| (*row, Influence::Filter)));
                Ok(Rc::new(sources))
            }
            Expr::InSubquery(InSubquery { expr, subquery, .. })
            | Expr::SetComparison(SetComparison { expr, subquery, .. }) => {
                self.compared(expr, subquery, inputs)
            }
            Expr::ScalarVariable(_, names) => Err(Refusal {
                node: names.join("."),
                reason: "a variable of the session has no rule".to_owned(),
            }),
            Expr::GroupingSet(_) => Err(misplaced("GroupingSet")),
            Expr::Unnest(_) => Err(misplaced("Unnest")),
            #[expect(deprecated)]
            Expr::Wildcard { .. } => Err(misplaced("Wildcard")),
        }
    }

    /// All parts of it make the value.
    fn computed(&mut self, expression: &Expr, inputs: &Inputs<'_>) -> Result<Rc<Set>, Refusal> {
        let mut parts = Vec::new();
        let mut refusal = None;
        let _ = expression.apply_children(|child| {
            Ok(match self.expression(child, inputs) {
                Ok(sources) => {
                    parts.push(sources);
                    TreeNodeRecursion::Continue
                }
                Err(error) => {
                    refusal = Some(error);
                    TreeNodeRecursion::Stop
                }
            })
        });
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let mut parts = parts.into_iter().filter(|part| !part.is_empty());
        let Some(first) = parts.next() else { return Ok(Rc::default()) };
        let mut sources = first;
        for part in parts {
            sources = self.with_all(&sources, &part)?;
        }
        Ok(transformed(&sources))
    }

    fn case(&mut self, case: &Case, inputs: &Inputs<'_>) -> Result<Rc<Set>, Refusal> {
        let tested = case.expr.iter().chain(case.when_then_expr.iter().map(|(when, _)| when));
        let results = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
        let mut sources = Rc::default();
        for test in tested {
            let test = self.expression(test, inputs)?;
            sources = self.with(&sources, &test, Influence::Conditional)?;
        }
        for result in results {
            let result = self.expression(result, inputs)?;
            sources = self.with_all(&sources, &transformed(&result))?;
        }
        Ok(sources)
    }

    /// Arguments that are tested, and arguments that may stand.
    fn chosen(&mut self, rule: Arguments, args: &[Expr], inputs: &Inputs<'_>) -> Result<Rc<Set>, Refusal> {
        let mut sources = Rc::default();
        for (at, arg) in args.iter().enumerate() {
            let (tested, stands) = match rule {
                Arguments::Computed => (false, true),
                Arguments::FirstThatIsNotNull => (at + 1 < args.len(), true),
                Arguments::NullIfEqual => (true, at == 0),
                Arguments::OneOfTwo => (at == 0, at > 0),
            };
            let found = self.expression(arg, inputs)?;
            if tested {
                sources = self.with(&sources, &found, Influence::Conditional)?;
            }
            if stands {
                sources = self.with_all(&sources, &transformed(&found))?;
            }
        }
        Ok(sources)
    }

    /// The relation under a subquery, which may name what is around it.
    fn subquery(&mut self, subquery: &Subquery, inputs: &Inputs<'_>) -> Result<Relation, Refusal> {
        let before = self.outer.len();
        self.outer.extend(inputs.scopes());
        let relation = self.relation(&subquery.subquery);
        self.outer.truncate(before);
        relation
    }

    fn scalar_subquery(&mut self, subquery: &Subquery, inputs: &Inputs<'_>) -> Result<Rc<Set>, Refusal> {
        let relation = self.subquery(subquery, inputs)?;
        let [column] = relation.columns.as_slice() else { return Err(misplaced("ScalarSubquery")) };
        self.with_all(&transformed(&column.sources), &relation.rows)
    }

    /// What is compared with the rows of a subquery, and all of those.
    fn compared(
        &mut self,
        expression: &Expr,
        subquery: &Subquery,
        inputs: &Inputs<'_>,
    ) -> Result<Rc<Set>, Refusal> {
        let compared = self.expression(expression, inputs)?;
        let relation = self.subquery(subquery, inputs)?;
        let mut sources = Rc::new(all(&compared, Influence::Filter));
        for column in &relation.columns {
            sources = self.with(&sources, &column.sources, Influence::Filter)?;
        }
        self.with(&sources, &relation.rows, Influence::Filter)
    }

    /// A column of the nearest query around this one that has it.
    fn resolve_outer(&mut self, name: &Name) -> Result<Rc<Set>, Refusal> {
        let found = self.outer.iter().rev().find_map(|scope| {
            let at = scope.schema.maybe_index_of_column(name)?;
            scope.columns.get(at)
        });
        found.map(|column| column.sources.clone()).ok_or_else(|| missing(name))
    }
}

/// A column of one of the inputs. It is found as the plan finds it when it runs.
fn resolve(name: &Name, inputs: &Inputs<'_>) -> Result<Rc<Set>, Refusal> {
    let mut found = inputs.of.iter().filter_map(|(schema, columns)| {
        let at = schema.maybe_index_of_column(name)?;
        columns.get(at)
    });
    match (found.next(), found.next()) {
        (Some(column), None) => Ok(column.sources.clone()),
        (Some(_), Some(_)) => Err(Refusal {
            node: name.flat_name(),
            reason: "both sides of a join have a column of this name".to_owned(),
        }),
        (None, _) => Err(missing(name)),
    }
}

fn missing(name: &Name) -> Refusal {
    Refusal { node: name.flat_name(), reason: "no column of this name stands beneath it".to_owned() }
}

fn misplaced(node: &str) -> Refusal {
    Refusal {
        node: node.to_owned(),
        reason: "an expression of this kind has no rule where it stands".to_owned(),
    }
}

fn all(set: &Set, influence: Influence) -> Set {
    set.iter().map(|(source, _)| (*source, influence)).collect()
}
