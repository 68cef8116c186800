//! Expressions written out for people: over columns of versions, with what lies between put in.

use std::fmt::{self, Write};
use std::rc::Rc;

use datafusion::common::{Column as Name, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::{BinaryExpr, Case, Expr, SortExpr};

use super::relations::{Column, Inputs, Walk};

/// The longest text, in bytes; what is longer ends in `…`.
const LONGEST: usize = 1_000;

impl Walk {
    pub fn text(&self, expression: &Expr, inputs: &Inputs<'_>) -> String {
        let mut line = Line { text: String::new(), inputs, walk: self };
        if line.write(expression).is_err() {
            line.text.push('…');
        }
        line.text
    }

    /// The text of a column; one that is passed on keeps the text it has.
    pub fn column_text(&self, expression: &Expr, inputs: &Inputs<'_>) -> Rc<str> {
        match expression {
            Expr::Alias(alias) => self.column_text(&alias.expr, inputs),
            Expr::Column(name) => match column(name, inputs) {
                Some(column) => column.text.clone(),
                None => name.name.as_str().into(),
            },
            other => self.text(other, inputs).into(),
        }
    }
}

/// `unnest(x)`
pub fn call(function: &str, text: &str) -> Rc<str> {
    cut(format!("{function}({text})"))
}

/// What a column of a union is.
pub fn either(one: &str, other: &str) -> Rc<str> {
    cut(format!("{one} or {other}"))
}

fn cut(mut text: String) -> Rc<str> {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text.into()
}

fn column<'a>(name: &Name, inputs: &Inputs<'a>) -> Option<&'a Column> {
    inputs.of.iter().find_map(|(schema, columns)| columns.get(schema.maybe_index_of_column(name)?))
}

/// A text under way, which ends with an error where it gets too long.
struct Line<'a> {
    text: String,
    inputs: &'a Inputs<'a>,
    walk: &'a Walk,
}

impl Write for Line<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = LONGEST.saturating_sub(self.text.len());
        if part.len() <= room {
            self.text.push_str(part);
            return Ok(());
        }
        let end = (0..=room).rev().find(|at| part.is_char_boundary(*at)).unwrap_or(0);
        self.text.push_str(part.get(..end).unwrap_or_default());
        Err(fmt::Error)
    }
}

impl Line<'_> {
    fn write(&mut self, expression: &Expr) -> fmt::Result {
        match expression {
            Expr::Alias(alias) => self.write(&alias.expr),
            Expr::Column(name) => match column(name, self.inputs) {
                Some(column) => self.inner(&column.text),
                None => self.write_str(&name.name),
            },
            Expr::OuterReferenceColumn(_, name) => {
                let found = self
                    .walk
                    .outer
                    .iter()
                    .rev()
                    .find_map(|scope| scope.columns.get(scope.schema.maybe_index_of_column(name)?));
                match found {
                    Some(column) => self.inner(&column.text),
                    None => self.write_str(&name.name),
                }
            }
            Expr::Literal(value, _) => self.literal(value),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                self.operand(left)?;
                write!(self, " {op} ")?;
                self.operand(right)
            }
            Expr::Not(inner) => self.around("NOT ", inner, ""),
            Expr::Negative(inner) => self.around("-", inner, ""),
            Expr::IsNull(inner) => self.around("", inner, " IS NULL"),
            Expr::IsNotNull(inner) => self.around("", inner, " IS NOT NULL"),
            Expr::IsTrue(inner) => self.around("", inner, " IS TRUE"),
            Expr::IsNotTrue(inner) => self.around("", inner, " IS NOT TRUE"),
            Expr::IsFalse(inner) => self.around("", inner, " IS FALSE"),
            Expr::IsNotFalse(inner) => self.around("", inner, " IS NOT FALSE"),
            Expr::IsUnknown(inner) => self.around("", inner, " IS UNKNOWN"),
            Expr::IsNotUnknown(inner) => self.around("", inner, " IS NOT UNKNOWN"),
            Expr::Like(like) | Expr::SimilarTo(like) => {
                self.operand(&like.expr)?;
                let operator = match (expression, like.case_insensitive) {
                    (Expr::SimilarTo(_), _) => "SIMILAR TO",
                    (_, true) => "ILIKE",
                    (_, false) => "LIKE",
                };
                write!(self, "{} {operator} ", if like.negated { " NOT" } else { "" })?;
                self.operand(&like.pattern)
            }
            Expr::Between(between) => {
                self.operand(&between.expr)?;
                self.write_str(if between.negated { " NOT BETWEEN " } else { " BETWEEN " })?;
                self.operand(&between.low)?;
                self.write_str(" AND ")?;
                self.operand(&between.high)
            }
            Expr::InList(list) => {
                self.operand(&list.expr)?;
                self.write_str(if list.negated { " NOT IN (" } else { " IN (" })?;
                self.list(&list.list)?;
                self.write_str(")")
            }
            Expr::Case(case) => self.case(case),
            Expr::Cast(cast) => self.cast("CAST", &cast.expr, cast.field.data_type()),
            Expr::TryCast(cast) => self.cast("TRY_CAST", &cast.expr, cast.field.data_type()),
            Expr::ScalarFunction(call) if call.func.name() == "||" => match call.args.as_slice() {
                [one, other] => {
                    self.operand(one)?;
                    self.write_str(" || ")?;
                    self.operand(other)
                }
                args => self.call("||", args, false),
            },
            Expr::ScalarFunction(call) => self.call(call.func.name(), &call.args, false),
            Expr::HigherOrderFunction(call) => self.call(call.func.name(), &call.args, false),
            Expr::Lambda(lambda) => {
                write!(self, "({}) -> ", lambda.params.join(", "))?;
                self.write(&lambda.body)
            }
            Expr::LambdaVariable(variable) => self.write_str(&variable.name),
            Expr::AggregateFunction(call) => self.aggregate(call),
            Expr::WindowFunction(call) => self.window(call),
            Expr::ScalarSubquery(_) => self.write_str("(subquery)"),
            Expr::Exists(exists) => {
                self.write_str(if exists.negated { "NOT EXISTS (subquery)" } else { "EXISTS (subquery)" })
            }
            Expr::InSubquery(inside) => {
                self.operand(&inside.expr)?;
                self.write_str(if inside.negated { " NOT IN (subquery)" } else { " IN (subquery)" })
            }
            Expr::SetComparison(comparison) => {
                self.operand(&comparison.expr)?;
                write!(self, " {} {} (subquery)", comparison.op, comparison.quantifier)
            }
            other => write!(self, "{other}"),
        }
    }

    /// A text that was written before, in parentheses where its parts could be taken for those around it.
    fn inner(&mut self, text: &str) -> fmt::Result {
        if text.contains(' ') && !text.ends_with(')') {
            write!(self, "({text})")
        } else {
            self.write_str(text)
        }
    }

    fn operand(&mut self, expression: &Expr) -> fmt::Result {
        let bare = match expression {
            Expr::Alias(alias) => return self.operand(&alias.expr),
            Expr::BinaryExpr(_)
            | Expr::Not(_)
            | Expr::Like(_)
            | Expr::SimilarTo(_)
            | Expr::Between(_)
            | Expr::InList(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::Negative(_) => false,
            Expr::ScalarFunction(call) => call.func.name() != "||",
            _ => true,
        };
        if bare {
            return self.write(expression);
        }
        self.write_str("(")?;
        self.write(expression)?;
        self.write_str(")")
    }

    fn around(&mut self, before: &str, inner: &Expr, after: &str) -> fmt::Result {
        self.write_str(before)?;
        self.operand(inner)?;
        self.write_str(after)
    }

    fn literal(&mut self, value: &ScalarValue) -> fmt::Result {
        match value {
            ScalarValue::Utf8(Some(text))
            | ScalarValue::Utf8View(Some(text))
            | ScalarValue::LargeUtf8(Some(text)) => {
                // No more of a long text than fits is copied.
                let end =
                    (0..=LONGEST.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                write!(self, "'{}'", text.get(..end).unwrap_or_default().replace('\'', "''"))
            }
            value => write!(self, "{value}"),
        }
    }

    fn list(&mut self, expressions: &[Expr]) -> fmt::Result {
        for (at, expression) in expressions.iter().enumerate() {
            if at > 0 {
                self.write_str(", ")?;
            }
            self.write(expression)?;
        }
        Ok(())
    }

    fn call(&mut self, name: &str, args: &[Expr], distinct: bool) -> fmt::Result {
        write!(self, "{name}({}", if distinct { "DISTINCT " } else { "" })?;
        self.list(args)?;
        self.write_str(")")
    }

    fn cast(&mut self, cast: &str, inner: &Expr, to: &impl fmt::Display) -> fmt::Result {
        write!(self, "{cast}(")?;
        self.write(inner)?;
        write!(self, " AS {to})")
    }

    fn case(&mut self, case: &Case) -> fmt::Result {
        self.write_str("CASE")?;
        if let Some(tested) = &case.expr {
            self.around(" ", tested, "")?;
        }
        for (when, then) in &case.when_then_expr {
            self.write_str(" WHEN ")?;
            self.write(when)?;
            self.write_str(" THEN ")?;
            self.write(then)?;
        }
        if let Some(otherwise) = &case.else_expr {
            self.write_str(" ELSE ")?;
            self.write(otherwise)?;
        }
        self.write_str(" END")
    }

    fn aggregate(&mut self, call: &AggregateFunction) -> fmt::Result {
        let params = &call.params;
        write!(self, "{}({}", call.func.name(), if params.distinct { "DISTINCT " } else { "" })?;
        // What counts rows is planned as counting a constant.
        match params.args.as_slice() {
            [Expr::Literal(ScalarValue::Int64(Some(1)), _)] if call.func.name() == "count" => {
                self.write_str("*")?
            }
            args => self.list(args)?,
        }
        self.ordered(" ORDER BY ", &params.order_by)?;
        self.write_str(")")?;
        if let Some(filter) = &params.filter {
            self.write_str(" FILTER (WHERE ")?;
            self.write(filter)?;
            self.write_str(")")?;
        }
        Ok(())
    }

    fn window(&mut self, call: &WindowFunction) -> fmt::Result {
        let params = &call.params;
        self.call(call.fun.name(), &params.args, params.distinct)?;
        self.write_str(" OVER (")?;
        if !params.partition_by.is_empty() {
            self.write_str("PARTITION BY ")?;
            self.list(&params.partition_by)?;
        }
        let before = if params.partition_by.is_empty() { "ORDER BY " } else { " ORDER BY " };
        self.ordered(before, &params.order_by)?;
        self.write_str(")")
    }

    fn ordered(&mut self, before: &str, keys: &[SortExpr]) -> fmt::Result {
        for (at, key) in keys.iter().enumerate() {
            self.write_str(if at == 0 { before } else { ", " })?;
            self.write(&key.expr)?;
            if !key.asc {
                self.write_str(" DESC")?;
            }
        }
        Ok(())
    }
}
