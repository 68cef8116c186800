//! The table functions: `historical_features((SELECT …), features => […])`, `history('weather')`,
//! `at_sequence('weather', 7)`, `impact('weather@1')`, `kept_by('weather@1')` and `access('weather.temp', principal => 'ann')`; and the earlier versions of tables.
//!
//! DataFusion's own table functions get neither subqueries nor named arguments, and cannot wait for anything. So
//! a statement's calls are collected before it is planned, what they need is read from the store, and the planner finds
//! it ready.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, ObjectName, Query, Statement, TableAlias, TableFactor, TypedString,
    Value, Visitor,
};
use feature::Span;
use feature::name::nearest;

use super::time_travel::{Earlier, Tables, normalized};
use super::walk::walk;
use super::{access_call, asof_join};
use crate::access::AccessQuestion;
use crate::features::{self, Request, Resolved};
use crate::history::HistoryTable;
use crate::point_in_time::Cut;
use crate::snapshot::{Snapshot, split_name};
use crate::spines;

const FEATURES: &str = "historical_features";
const HISTORY: &str = "history";
const AT_SEQUENCE: &str = "at_sequence";
/// Calls that ask the lineage graph one thing, by a text.
const GRAPH: [&str; 3] = [IMPACT, KEPT_BY, SEARCH];
const IMPACT: &str = "impact";
const KEPT_BY: &str = "kept_by";
const ACCESS: &str = "access";
const SEARCH: &str = "search";

/// The calls of a statement, as they are written.
#[derive(Debug, Default)]
pub struct Calls {
    features: Vec<FeaturesCall>,
    history: Vec<String>,
    /// The call, and what it asks about.
    graph: Vec<(&'static str, String)>,
    access: Vec<AccessQuestion>,
    earlier: Vec<Earlier>,
    /// Names that the statement itself defines.
    defined: BTreeSet<String>,
    error: Option<String>,
}

#[derive(Clone, Debug)]
struct FeaturesCall {
    spine: Spine,
    at: Option<String>,
    request: Request,
}

/// Where the rows come from that want features.
#[derive(Clone, Debug)]
enum Spine {
    Query(Box<Query>),
    /// One that was ingested before, by its digest.
    Kept(String),
}

/// What the calls of a statement need, read from the store.
#[derive(Debug, Default)]
pub struct Prepared {
    features: HashMap<String, Resolved>,
    spines: HashMap<String, Arc<dyn TableProvider>>,
    history: HashMap<String, Arc<HistoryTable>>,
    graph: HashMap<(&'static str, String), Arc<MemTable>>,
    access: HashMap<AccessQuestion, Arc<MemTable>>,
    earlier: Tables,
}

/// Collects the calls of a statement.
pub fn collect(statement: &Statement) -> Result<Calls> {
    let mut calls = Calls::default();
    walk(statement, &mut calls);
    if let Some(error) = calls.error.take() {
        return plan_err!("{error}");
    }
    let shadowed = calls.earlier.iter().map(Earlier::to_string).find(|name| calls.defined.contains(name));
    match shadowed {
        Some(name) => plan_err!(
            "`{name}` is defined by WITH in this statement, and only what is in the log has an earlier state; give the WITH another name"
        ),
        None => Ok(calls),
    }
}

impl Visitor for Calls {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(with) = &query.with {
            self.defined.extend(with.cte_tables.iter().map(|table| normalized(&table.alias.name)));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        let read = match (Earlier::of(factor), call_of(factor)) {
            (Some(earlier), _) => earlier.map(|earlier| self.earlier.push(earlier)),
            (None, Some((FEATURES, args))) => parse_features(args).map(|call| self.features.push(call)),
            (None, Some((HISTORY, args))) => parse_history(args).map(|view| self.history.push(view)),
            (None, Some((call @ (IMPACT | KEPT_BY | SEARCH), args))) => {
                parse_node(call, args).map(|name| self.graph.push((call, name)))
            }
            (None, Some((ACCESS, args))) => {
                access_call::parse(args).map(|question| self.access.push(question))
            }
            (None, Some((AT_SEQUENCE, args))) => {
                parse_at_sequence(args).map(|earlier| self.earlier.push(earlier))
            }
            (None, _) => Ok(()),
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
    pub async fn prepare(&self, snapshot: &Snapshot, session: &SessionState) -> Result<Prepared> {
        let mut prepared = Prepared::default();
        for call in &self.features {
            let resolved = features::resolve(snapshot, &call.request).await?;
            prepared.features.insert(key_of(&call.request), resolved);
            if let Spine::Kept(digest) = &call.spine
                && !prepared.spines.contains_key(digest)
            {
                let kept = spines::find(&snapshot.catalog, digest, session.runtime_env()).await?;
                prepared.spines.insert(digest.clone(), kept.table());
            }
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
        for (call, name) in &self.graph {
            let Some(lineage) = &snapshot.lineage else {
                return plan_err!("{call} needs the lineage graph, which this session is without");
            };
            let rows = match *call {
                KEPT_BY => lineage.kept_by(snapshot, name).await?,
                SEARCH => lineage.search(snapshot, name).await?,
                _ => lineage.impact(snapshot, name).await?,
            };
            let table = MemTable::try_new(rows.schema(), vec![vec![rows]])?;
            prepared.graph.insert((*call, name.clone()), Arc::new(table));
        }
        for question in &self.access {
            let Some(access) = &snapshot.access else {
                return plan_err!("{ACCESS} needs the policies, which this session is without");
            };
            let rows = access.access(snapshot, question).await?;
            let table = MemTable::try_new(rows.schema(), vec![vec![rows]])?;
            prepared.access.insert(question.clone(), Arc::new(table));
        }
        for earlier in &self.earlier {
            let table = earlier.resolve(snapshot, session).await?;
            prepared.earlier.insert(earlier.clone(), table);
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
        if let Some(earlier) = Earlier::of(&relation) {
            return self.earlier(earlier, alias);
        }
        match call_of(&relation) {
            Some((AT_SEQUENCE, args)) => self.earlier(parse_at_sequence(args), alias),
            Some((FEATURES, args)) => {
                let call = parse_features(args).map_err(|error| plan_datafusion_err!("{error}"))?;
                let Some(resolved) = self.prepared.features.get(&key_of(&call.request)) else {
                    return plan_err!("{FEATURES} cannot stand here");
                };
                let spine = match call.spine {
                    Spine::Query(subquery) => context.plan(TableFactor::Derived {
                        lateral: false,
                        subquery,
                        alias: None,
                        sample: None,
                    })?,
                    Spine::Kept(digest) => {
                        let Some(table) = self.prepared.spines.get(&digest) else {
                            return plan_err!("{FEATURES} cannot stand here");
                        };
                        let source = provider_as_source(table.clone());
                        LogicalPlanBuilder::scan("spine", source, None)?.build()?
                    }
                };
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
            Some((call @ (IMPACT | KEPT_BY | SEARCH), args)) => {
                let name = parse_node(call, args).map_err(|error| plan_datafusion_err!("{error}"))?;
                let Some(table) = self.prepared.graph.get(&(call, name)) else {
                    return plan_err!("{call} cannot stand here");
                };
                let plan =
                    LogicalPlanBuilder::scan(call, provider_as_source(table.clone()), None)?.build()?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
            }
            Some((ACCESS, args)) => {
                let question = access_call::parse(args).map_err(|error| plan_datafusion_err!("{error}"))?;
                let Some(table) = self.prepared.access.get(&question) else {
                    return plan_err!("{ACCESS} cannot stand here");
                };
                let plan =
                    LogicalPlanBuilder::scan(ACCESS, provider_as_source(table.clone()), None)?.build()?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
            }
            _ => Ok(match asof_join::plan(relation, context)? {
                Ok(planned) => RelationPlanning::Planned(Box::new(planned)),
                Err(relation) => RelationPlanning::Original(Box::new(relation)),
            }),
        }
    }
}

impl TableFunctions {
    fn earlier(
        &self,
        earlier: Result<Earlier, String>,
        alias: Option<TableAlias>,
    ) -> Result<RelationPlanning> {
        let earlier = earlier.map_err(|error| plan_datafusion_err!("{error}"))?;
        let Some(table) = self.prepared.earlier.get(&earlier) else {
            return plan_err!("an earlier state of `{earlier}` cannot stand here");
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(table.scan(&earlier)?, alias))))
    }
}

/// The name and arguments of a call of ours.
fn call_of(factor: &TableFactor) -> Option<(&'static str, &[FunctionArg])> {
    let TableFactor::Table { name: ObjectName(parts), args: Some(args), .. } = factor else { return None };
    let [part] = parts.as_slice() else { return None };
    let name = part.as_ident()?;
    let known = [FEATURES, HISTORY, AT_SEQUENCE, ACCESS]
        .into_iter()
        .chain(GRAPH)
        .find(|known| name.value.eq_ignore_ascii_case(known))?;
    Some((known, &args.args))
}

const FEATURES_USAGE: &str = "write historical_features((SELECT … FROM …), features => ['weather.temp', …]); it also takes \
     spine => 'lmt1:…' in place of the query, at => 'column', full_feature_names => true, ttl => ['weather=2h'], known_by => '2013-07-01T00:00:00Z', null_reasons => true";

const ARGUMENTS: [&str; 7] =
    ["features", "spine", "at", "full_feature_names", "ttl", "known_by", "null_reasons"];

fn parse_features(args: &[FunctionArg]) -> Result<FeaturesCall, String> {
    let wrong = |why: String| format!("{why}; {FEATURES_USAGE}");
    let mut spine = None;
    let mut at = None;
    let mut request = Request::new(Vec::<String>::new());
    let mut given = BTreeSet::new();
    for arg in args {
        let (name, value) = match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Subquery(query))) if spine.is_none() => {
                spine = Some(Spine::Query(query.clone()));
                continue;
            }
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => (normalized(name), value),
            other => {
                return Err(wrong(format!("`{other}` is not an argument that {FEATURES} takes")));
            }
        };
        if !given.insert(name.clone()) {
            return Err(wrong(format!("`{name}` is given twice")));
        }
        match name.as_str() {
            "features" => {
                request.features =
                    texts(value).ok_or_else(|| wrong("features is not a list of texts".to_owned()))?;
            }
            "spine" => {
                let digest = text(value).ok_or_else(|| wrong("spine is not a text".to_owned()))?;
                if spine.replace(Spine::Kept(digest)).is_some() {
                    return Err(wrong("the spine is given twice, as a query and by its digest".to_owned()));
                }
            }
            "at" => at = Some(text(value).ok_or_else(|| wrong("at is not a text".to_owned()))?),
            "full_feature_names" => {
                request.full_feature_names = truth(value)
                    .ok_or_else(|| wrong("full_feature_names is not true or false".to_owned()))?;
            }
            "null_reasons" => {
                request.null_reasons =
                    truth(value).ok_or_else(|| wrong("null_reasons is not true or false".to_owned()))?;
            }
            "ttl" => {
                let texts = texts(value).ok_or_else(|| wrong("ttl is not a list of texts".to_owned()))?;
                request.ttl = ttls(&texts).map_err(wrong)?;
            }
            "known_by" => {
                let instant = instant(value).ok_or_else(|| wrong("known_by is not an instant".to_owned()))?;
                let instant: feature::Timestamp =
                    instant.parse().map_err(|error| wrong(format!("known_by: {error}")))?;
                request.cut = Cut::Instant(instant);
            }
            other => {
                let near = nearest(other, ARGUMENTS)
                    .map(|near| format!(" (did you mean `{near}`?)"))
                    .unwrap_or_default();
                return Err(wrong(format!("{FEATURES} has no argument `{other}`{near}")));
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
        let view = view.trim().to_owned();
        let span = span.trim().parse::<Span>().map_err(|error| error.to_string())?;
        if ttls.insert(view.clone(), span).is_some() {
            return Err(format!("a ttl is given twice for `{view}`"));
        }
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

fn parse_node(call: &str, args: &[FunctionArg]) -> Result<String, String> {
    match args {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))] => text(value),
        _ => None,
    }
    .ok_or_else(|| {
        if call == SEARCH {
            return "search takes one text, the words to look for: search('wind speed')".to_owned();
        }
        let (what, example) = match call {
            KEPT_BY => ("anything that may have to stay", "weather@1"),
            _ => ("anything that data comes from", "weather@1.temp"),
        };
        format!("{call} takes one text, the name or id of {what}: {call}('{example}')")
    })
}

fn parse_at_sequence(args: &[FunctionArg]) -> Result<Earlier, String> {
    let arguments = match args {
        [
            FunctionArg::Unnamed(FunctionArgExpr::Expr(view)),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(sequence)),
        ] => text(view).zip(number(sequence)),
        _ => None,
    };
    let (view, sequence) = arguments.ok_or_else(|| {
        "at_sequence takes the name of a feature view and a sequence of the log: at_sequence('weather', 7)"
            .to_owned()
    })?;
    Ok(Earlier::at_sequence(&view, sequence))
}

pub(super) fn number(value: &Expr) -> Option<u64> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => number.to_string().parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// A text, also one that is said to be a TIMESTAMP.
pub(super) fn instant(value: &Expr) -> Option<String> {
    match value {
        Expr::TypedString(TypedString { value, .. }) => text(&Expr::Value(value.clone())),
        other => text(other),
    }
}

pub(super) fn text(value: &Expr) -> Option<String> {
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

pub(super) fn texts(value: &Expr) -> Option<Vec<String>> {
    match value {
        Expr::Array(array) => array.elem.iter().map(text).collect(),
        Expr::Value(_) => Some(vec![text(value)?]),
        _ => None,
    }
}
