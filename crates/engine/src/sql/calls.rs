//! The table functions: `historical_features((SELECT …), features => […])` and `history('weather')`.
//!
//! DataFusion's own table functions get neither subqueries nor named arguments, and cannot wait for anything. So
//! a statement's calls are collected before it is planned, what they need is read from the store, and the planner finds
//! it ready.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::{Result, plan_datafusion_err, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, Query, Statement, TableFactor, Value, Visit,
    Visitor,
};
use feature::Span;

use super::asof_join;
use crate::features::{self, Request, Resolved};
use crate::history::HistoryTable;
use crate::point_in_time::Cut;
use crate::snapshot::{Snapshot, split_name};

const FEATURES: &str = "historical_features";
const HISTORY: &str = "history";

/// The calls of a statement, as they are written.
#[derive(Debug, Default)]
pub struct Calls {
    features: Vec<FeaturesCall>,
    history: Vec<String>,
    error: Option<String>,
}

#[derive(Clone, Debug)]
struct FeaturesCall {
    spine: Box<Query>,
    at: Option<String>,
    request: Request,
}

/// What the calls of a statement need, read from the store.
#[derive(Debug, Default)]
pub struct Prepared {
    features: HashMap<String, Resolved>,
    history: HashMap<String, Arc<HistoryTable>>,
}

/// Collects the calls of a statement.
pub fn collect(statement: &Statement) -> Result<Calls> {
    let mut calls = Calls::default();
    let _ = statement.visit(&mut calls);
    match calls.error.take() {
        Some(error) => plan_err!("{error}"),
        None => Ok(calls),
    }
}

impl Visitor for Calls {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        let read = match call_of(factor) {
            Some((FEATURES, args)) => parse_features(args).map(|call| self.features.push(call)),
            Some((HISTORY, args)) => parse_history(args).map(|view| self.history.push(view)),
            _ => Ok(()),
        };
        if let Err(error) = read {
            self.error = Some(error);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

impl Calls {
    /// Resolves names and reads manifests.
    pub async fn prepare(&self, snapshot: &Snapshot) -> Result<Prepared> {
        let mut prepared = Prepared::default();
        for call in &self.features {
            let resolved = features::resolve(snapshot, &call.request).await?;
            prepared.features.insert(key_of(&call.request), resolved);
        }
        for view in &self.history {
            let Some((project, name, number)) = split_name(view) else {
                return plan_err!(
                    "history('{view}'): write the name of a feature view, as weather or weather@2"
                );
            };
            let version = snapshot.version(&project, &name, number)?;
            let table = snapshot.table(version).await?;
            prepared.history.insert(view.clone(), Arc::new(table.history()));
        }
        Ok(prepared)
    }
}

fn key_of(request: &Request) -> String {
    format!("{request:?}")
}

/// Plans what DataFusion's planner does not know: ASOF JOIN and our table functions.
#[derive(Debug)]
pub struct TableFunctions {
    pub prepared: Prepared,
}

impl RelationPlanner for TableFunctions {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let alias = match &relation {
            TableFactor::Table { alias, .. } => alias.clone(),
            _ => None,
        };
        match call_of(&relation) {
            Some((FEATURES, args)) => {
                let call = parse_features(args).map_err(|error| plan_datafusion_err!("{error}"))?;
                let Some(resolved) = self.prepared.features.get(&key_of(&call.request)) else {
                    return plan_err!("{FEATURES} cannot stand here");
                };
                let spine = context.plan(TableFactor::Derived {
                    lateral: false,
                    subquery: call.spine,
                    alias: None,
                    sample: None,
                })?;
                let at = features::time_column(spine.schema(), call.at.as_deref())?;
                let plan = features::plan(spine, &at, resolved)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
            }
            Some((HISTORY, args)) => {
                let view = parse_history(args).map_err(|error| plan_datafusion_err!("{error}"))?;
                let Some(table) = self.prepared.history.get(&view) else {
                    return plan_err!("{HISTORY} cannot stand here");
                };
                let plan =
                    LogicalPlanBuilder::scan(HISTORY, provider_as_source(table.clone()), None)?.build()?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
            }
            _ => Ok(match asof_join::plan(relation, context)? {
                Ok(planned) => RelationPlanning::Planned(Box::new(planned)),
                Err(relation) => RelationPlanning::Original(Box::new(relation)),
            }),
        }
    }
}

/// The name and arguments of a call of ours.
fn call_of(factor: &TableFactor) -> Option<(&'static str, &[FunctionArg])> {
    let TableFactor::Table { name: ObjectName(parts), args: Some(args), .. } = factor else { return None };
    let [part] = parts.as_slice() else { return None };
    let name = part.as_ident()?;
    let known = [FEATURES, HISTORY].into_iter().find(|known| name.value.eq_ignore_ascii_case(known))?;
    Some((known, &args.args))
}

const FEATURES_USAGE: &str = "write historical_features((SELECT … FROM …), features => ['weather.temp', …]); it also takes \
     at => 'column', full_feature_names => true, ttl => ['weather=2h'], known_by => '2013-07-01T00:00:00Z'";

fn parse_features(args: &[FunctionArg]) -> Result<FeaturesCall, String> {
    let wrong = |why: String| format!("{why}; {FEATURES_USAGE}");
    let mut spine = None;
    let mut at = None;
    let mut request = Request::new(Vec::<String>::new());
    for arg in args {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Subquery(query))) if spine.is_none() => {
                spine = Some(query.clone());
            }
            FunctionArg::Named {
                name: Ident { value: name, .. }, arg: FunctionArgExpr::Expr(value), ..
            } => match name.as_str() {
                "features" => {
                    request.features =
                        texts(value).ok_or_else(|| wrong("features is not a list of texts".to_owned()))?
                }
                "at" => at = Some(text(value).ok_or_else(|| wrong("at is not a text".to_owned()))?),
                "full_feature_names" => {
                    request.full_feature_names = truth(value)
                        .ok_or_else(|| wrong("full_feature_names is not true or false".to_owned()))?;
                }
                "ttl" => {
                    let texts = texts(value).ok_or_else(|| wrong("ttl is not a list of texts".to_owned()))?;
                    request.ttl = ttls(&texts).map_err(wrong)?;
                }
                "known_by" => {
                    let instant = text(value).ok_or_else(|| wrong("known_by is not a text".to_owned()))?;
                    let instant: feature::Timestamp =
                        instant.parse().map_err(|error| wrong(format!("known_by: {error}")))?;
                    request.cut = Cut::Instant(instant);
                }
                other => return Err(wrong(format!("historical_features has no argument `{other}`"))),
            },
            other => {
                return Err(wrong(format!("`{other}` is not an argument that historical_features takes")));
            }
        }
    }
    let spine = spine.ok_or_else(|| wrong("historical_features lacks its spine".to_owned()))?;
    if request.features.is_empty() {
        return Err(wrong("historical_features lacks its features".to_owned()));
    }
    Ok(FeaturesCall { spine, at, request })
}

/// `weather=2h`, one a view.
pub fn ttls(texts: &[String]) -> Result<BTreeMap<String, Span>, String> {
    let mut ttls = BTreeMap::new();
    for text in texts {
        let (view, span) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is not a view and a length of time, as in weather=2h"))?;
        ttls.insert(view.trim().to_owned(), span.trim().parse::<Span>().map_err(|error| error.to_string())?);
    }
    Ok(ttls)
}

fn parse_history(args: &[FunctionArg]) -> Result<String, String> {
    match args {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))] => text(value),
        _ => None,
    }
    .ok_or_else(|| "history takes one text, the name of a feature view: history('weather')".to_owned())
}

fn text(value: &Expr) -> Option<String> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn truth(value: &Expr) -> Option<bool> {
    match value {
        Expr::Value(value) => match value.value {
            Value::Boolean(truth) => Some(truth),
            _ => None,
        },
        _ => None,
    }
}

fn texts(value: &Expr) -> Option<Vec<String>> {
    match value {
        Expr::Array(array) => array.elem.iter().map(text).collect(),
        Expr::Value(_) => Some(vec![text(value)?]),
        _ => None,
    }
}
