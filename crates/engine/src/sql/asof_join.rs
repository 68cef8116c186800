//! `ASOF JOIN … MATCH_CONDITION … ON`, in the form that Snowflake and DataFusion's next version share.
//!
//! DataFusion 55 parses it, but hands only table factors to its extensions, so each such join is first folded into a
//! parenthesised one. Exactly one row comes out for each left row, with nulls where nothing matched.

use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, Result, plan_datafusion_err, plan_err};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlannerContext};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder, Operator,
};
use datafusion::sql::sqlparser::ast::{
    self, Join, JoinConstraint, JoinOperator, Select, Statement, TableFactor, TableWithJoins, VisitMut,
    VisitorMut,
};
use feature::FeatureType;
use std::sync::Arc;

use crate::feature_view::FeatureViewTable;
use crate::point_in_time::plan::{PointInTime, Right, Rule};
use crate::point_in_time::{Cut, Direction};

/// Folds every `A … ASOF JOIN B` of a statement into `(A … ASOF JOIN B)`.
pub fn fold_asof_joins(statement: &mut Statement) {
    let _ = statement.visit(&mut Folding);
}

struct Folding;

impl VisitorMut for Folding {
    type Break = ();

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for from in &mut select.from {
            fold(from, 0);
        }
        ControlFlow::Continue(())
    }

    /// Inside a parenthesised join the last one may stay: it is what the planner is offered.
    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
            fold(table_with_joins, 1);
        }
        ControlFlow::Continue(())
    }
}

fn fold(from: &mut TableWithJoins, keep_last: usize) {
    loop {
        let foldable = from.joins.len().saturating_sub(keep_last);
        let Some(position) = from.joins[..foldable].iter().position(is_asof) else { return };
        let rest = from.joins.split_off(position + 1);
        let inner =
            TableWithJoins { relation: from.relation.clone(), joins: std::mem::take(&mut from.joins) };
        from.relation = TableFactor::NestedJoin { table_with_joins: Box::new(inner), alias: None };
        from.joins = rest;
    }
}

fn is_asof(join: &Join) -> bool {
    matches!(join.join_operator, JoinOperator::AsOf { .. })
}

/// Plans a parenthesised join whose last join is an ASOF JOIN; gives anything else back.
pub fn plan(
    relation: TableFactor,
    context: &mut dyn RelationPlannerContext,
) -> Result<Result<PlannedRelation, TableFactor>> {
    let TableFactor::NestedJoin { mut table_with_joins, alias } = relation else { return Ok(Err(relation)) };
    if !table_with_joins.joins.last().is_some_and(is_asof) {
        return Ok(Err(TableFactor::NestedJoin { table_with_joins, alias }));
    }
    let Some(Join {
        relation: right, join_operator: JoinOperator::AsOf { match_condition, constraint }, ..
    }) = table_with_joins.joins.pop()
    else {
        return plan_err!("ASOF JOIN lost its right side");
    };
    let left = if table_with_joins.joins.is_empty() {
        table_with_joins.relation
    } else {
        TableFactor::NestedJoin { table_with_joins, alias: None }
    };
    let left = context.plan(left)?;
    let right = context.plan(right)?;
    let plan = join(left, right, match_condition, constraint, context)?;
    Ok(Ok(PlannedRelation::new(plan, alias)))
}

fn join(
    left: LogicalPlan,
    right: LogicalPlan,
    match_condition: ast::Expr,
    constraint: JoinConstraint,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let both = left.schema().join(right.schema())?;
    let (at, direction, time) =
        match_of(context.sql_to_expr(match_condition, &both)?, left.schema(), right.schema())?;
    let mut hidden = Vec::new();
    let keys = match constraint {
        JoinConstraint::None => Vec::new(),
        JoinConstraint::On(on) => equalities(context.sql_to_expr(on, &both)?, left.schema(), right.schema())?,
        JoinConstraint::Using(names) => {
            let mut keys = Vec::new();
            for name in names {
                let name = name.to_string();
                let find = |schema: &DFSchema, side: &str| {
                    let found = schema.qualified_field_with_unqualified_name(&name);
                    found.map(|(qualifier, field)| Column::from((qualifier, field))).map_err(|_| {
                        plan_datafusion_err!(
                            "USING ({name}): the {side} side of the ASOF JOIN has no column `{name}`"
                        )
                    })
                };
                let right_key = find(right.schema(), "right")?;
                hidden.push(right_key.clone());
                keys.push((Expr::Column(find(left.schema(), "left")?), Expr::Column(right_key)));
            }
            keys
        }
        JoinConstraint::Natural => return plan_err!("ASOF JOIN cannot be NATURAL; say its keys with ON"),
    };
    let right = match feature_view(&right) {
        Some(table) => {
            let rule = view_rule(&table, keys, &time, direction)?;
            let at = instant(at, left.schema())?;
            Right { plan: right, at, direction, rule }
        }
        None => plain(left.schema(), right, keys, at, time, direction)?,
    };
    let node = LogicalPlan::Extension(Extension { node: Arc::new(PointInTime::new(left, vec![right])?) });
    if hidden.is_empty() {
        return Ok(node);
    }
    // USING shows one column of the name, and it is the left's.
    let shown: Vec<Expr> = node
        .schema()
        .columns()
        .into_iter()
        .filter(|column| !hidden.contains(column))
        .map(Expr::Column)
        .collect();
    LogicalPlanBuilder::from(node).project(shown)?.build()
}

/// The one comparison of MATCH_CONDITION: left expression, direction, right expression.
fn match_of(condition: Expr, left: &DFSchema, right: &DFSchema) -> Result<(Expr, Direction, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left: at, op, right: time }) = condition else {
        return plan_err!(
            "MATCH_CONDITION must be one comparison of the left side's time with the right side's"
        );
    };
    let direction = match op {
        Operator::GtEq => Direction::AtOrBefore,
        Operator::Gt => Direction::Before,
        Operator::LtEq => Direction::AtOrAfter,
        Operator::Lt => Direction::After,
        other => return plan_err!("MATCH_CONDITION requires <, <=, >, or >=, not {other}"),
    };
    if !belongs(&at, left) || !belongs(&time, right) {
        return plan_err!(
            "in MATCH_CONDITION ({at} {op} {time}) the first operand must use only the left side's columns and the second only the right side's; turn it round"
        );
    }
    Ok((*at, direction, *time))
}

fn belongs(expression: &Expr, schema: &DFSchema) -> bool {
    let columns = expression.column_refs();
    !columns.is_empty() && columns.iter().all(|column| schema.has_column(column))
}

fn equalities(on: Expr, left: &DFSchema, right: &DFSchema) -> Result<Vec<(Expr, Expr)>> {
    let mut keys = Vec::new();
    for part in datafusion::logical_expr::utils::split_conjunction_owned(on) {
        let Expr::BinaryExpr(BinaryExpr { left: one, op: Operator::Eq, right: other }) = part else {
            return plan_err!("ON of an ASOF JOIN takes only equalities joined by AND, not `{part}`");
        };
        if belongs(&one, left) && belongs(&other, right) {
            keys.push((*one, *other));
        } else if belongs(&other, left) && belongs(&one, right) {
            keys.push((*other, *one));
        } else {
            return plan_err!("ON of an ASOF JOIN must compare a column of each side, not `{one} = {other}`");
        }
    }
    Ok(keys)
}

/// The feature view that a plan is, directly and under whatever name.
pub fn feature_view(plan: &LogicalPlan) -> Option<FeatureViewTable> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => feature_view(&alias.input),
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source).ok()?;
            provider.downcast_ref::<FeatureViewTable>().cloned()
        }
        _ => None,
    }
}

fn view_rule(
    table: &FeatureViewTable,
    keys: Vec<(Expr, Expr)>,
    time: &Expr,
    direction: Direction,
) -> Result<Rule> {
    let version = table.version();
    let name = &version.definition.name;
    match time {
        Expr::Column(column) if column.name == "valid_at" => {}
        other => {
            return plan_err!(
                "MATCH_CONDITION over the feature view `{name}` must use its `valid_at`, not `{other}`; for plain semantics over any column join history('{name}')"
            );
        }
    }
    let wanted: Vec<&str> = version.keys().iter().map(|key| key.name.as_str()).collect();
    let mut ordered = Vec::with_capacity(wanted.len());
    for key in &wanted {
        let found =
            keys.iter().find(|(_, right)| matches!(right, Expr::Column(column) if column.name == *key));
        let Some((left, _)) = found else {
            return plan_err!(
                "ON must equate all keys of the feature view `{name}` ({}), `{key}` is missing; for plain semantics join history('{name}')",
                wanted.join(", ")
            );
        };
        ordered.push(left.clone());
    }
    if keys.len() != wanted.len() {
        return plan_err!("ON may equate only the keys of the feature view `{name}` ({})", wanted.join(", "));
    }
    let ttl = if direction.looks_back() { version.definition.ttl } else { None };
    Ok(Rule::FeatureView { keys: ordered, ttl, cut: Cut::Row })
}

/// What is compared with `valid_at`. Text becomes an instant, as in any comparison with one; finer times stay as they are.
fn instant(at: Expr, left: &DFSchema) -> Result<Expr> {
    match at.get_type(left)? {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null => Ok(at),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            at.cast_to(&FeatureType::Timestamp.arrow(), left)
        }
        other => plan_err!(
            "MATCH_CONDITION compares `{at}`, which is {other}, with the `valid_at` of a feature view; it must be a timestamp or a date"
        ),
    }
}

fn plain(
    left: &DFSchema,
    right: LogicalPlan,
    keys: Vec<(Expr, Expr)>,
    at: Expr,
    time: Expr,
    direction: Direction,
) -> Result<Right> {
    let schema = right.schema().clone();
    let mut coerced = Vec::with_capacity(keys.len());
    for (one, other) in keys {
        coerced.push(coerce(one, left, other, &schema)?);
    }
    let (at, time) = coerce(at, left, time, &schema)?;
    Ok(Right { plan: right, at, direction, rule: Rule::Plain { keys: coerced, time } })
}

/// Both expressions in one type, so that their values can be compared.
fn coerce(one: Expr, left: &DFSchema, other: Expr, right: &DFSchema) -> Result<(Expr, Expr)> {
    let (one_type, other_type): (DataType, DataType) = (one.get_type(left)?, other.get_type(right)?);
    let Some(common) = comparison_coercion(&one_type, &other_type) else {
        return plan_err!("`{one}` ({one_type}) cannot be compared with `{other}` ({other_type})");
    };
    Ok((one.cast_to(&common, left)?, other.cast_to(&common, right)?))
}
