//! Feature references of a retrieval: what is asked for, resolved to versions, and planned over a spine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::DataType;
use catalog::state::{ServiceVersion, ViewVersion};
use datafusion::common::{
    Column, DFSchema, DataFusionError, Result, TableReference, plan_datafusion_err, plan_err,
};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder};
use feature::name::nearest;
use feature::{Reference, Span};

use crate::feature_view::{FeatureViewTable, null_reason_of};
use crate::point_in_time::plan::{PointInTime, Right, Rule};
use crate::point_in_time::{Cut, Direction};
use crate::snapshot::{Snapshot, table_name};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// References (`weather.temp`, `weather@3.temp`, `weather.*`) and names of feature services, in order.
    pub features: Vec<String>,
    /// `weather__temp` in place of `temp`.
    pub full_feature_names: bool,
    /// A ttl for this retrieval alone, by view: `weather`, `fraud.cards`.
    pub ttl: BTreeMap<String, Span>,
    pub cut: Cut,
    /// Whether each feature has a column beside it that says why it is null.
    pub null_reasons: bool,
}

impl Request {
    pub fn new(features: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            features: features.into_iter().map(Into::into).collect(),
            full_feature_names: false,
            ttl: BTreeMap::new(),
            cut: Cut::Row,
            null_reasons: false,
        }
    }
}

/// One feature, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedFeature {
    /// Position in [`Resolved::views`].
    pub view: usize,
    /// Position in the version's features.
    pub feature: usize,
    /// As it was asked for; a service gives its own reference.
    pub asked: String,
    /// `weather@3.temp`
    pub reference: String,
    /// The column it becomes.
    pub output: String,
}

#[derive(Clone, Debug)]
pub struct ResolvedView {
    pub table: Arc<FeatureViewTable>,
    pub ttl: Option<Span>,
}

/// A request with every name resolved to a version at a snapshot.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub views: Vec<ResolvedView>,
    pub features: Vec<ResolvedFeature>,
    /// The services that were asked for.
    pub services: Vec<ServiceVersion>,
    pub cut: Cut,
    /// Whether each feature has a column beside it that says why it is null.
    pub null_reasons: bool,
}

/// Resolves what is asked for.
///
/// # Errors
/// Unknown views, versions and features, with the nearest that there are; two features of one name; a ttl of
/// zero or for a view that is not asked for.
pub async fn resolve(snapshot: &Snapshot, request: &Request) -> Result<Resolved> {
    let (asked, services) = expand_services(snapshot, &request.features)?;
    if asked.is_empty() {
        return plan_err!("no features are asked for; name some, as in 'weather.temp', or a feature service");
    }
    let mut resolved = Resolved {
        views: Vec::new(),
        features: Vec::new(),
        services,
        cut: request.cut,
        null_reasons: request.null_reasons,
    };
    let mut positions: HashMap<feature::VersionId, usize> = HashMap::new();
    for (asked, reference) in asked {
        let version =
            snapshot.version(reference.project.as_str(), reference.view.as_str(), reference.version)?;
        let view = match positions.get(&version.version) {
            Some(view) => *view,
            None => {
                let ttl = match request.ttl.iter().find(|(named, _)| names(named, &version)) {
                    Some((_, ttl)) if ttl.micros() == 0 => {
                        return plan_err!(
                            "the ttl given for `{}` is zero, with which nothing is found; leave it out, or give a length of time, as in 2h",
                            version.definition.name
                        );
                    }
                    Some((_, ttl)) => Some(*ttl),
                    None => version.definition.ttl,
                };
                let table = snapshot.table(version.clone()).await?;
                resolved.views.push(ResolvedView { table, ttl });
                positions.insert(version.version, resolved.views.len() - 1);
                resolved.views.len() - 1
            }
        };
        let known = &version.definition.features;
        let chosen: Vec<usize> = match &reference.feature {
            None => (0..known.len()).collect(),
            Some(name) => match known.iter().position(|feature| feature.name == *name) {
                Some(position) => vec![position],
                None => {
                    let names: Vec<&str> = known.iter().map(|feature| feature.name.as_str()).collect();
                    return plan_err!(
                        "`{asked}`: feature view `{}` has no feature `{name}`{}; it has {}",
                        version.label(),
                        did_you_mean(name.as_str(), &names),
                        names.join(", ")
                    );
                }
            },
        };
        for feature in chosen {
            let name = &known[feature].name;
            let output = if request.full_feature_names {
                format!("{}__{name}", version.definition.name)
            } else {
                name.to_string()
            };
            resolved.features.push(ResolvedFeature {
                view,
                feature,
                asked: asked.clone(),
                reference: format!("{}.{name}", version.label()),
                output,
            });
        }
    }
    for view in request.ttl.keys() {
        if !resolved.views.iter().any(|resolved| names(view, resolved.table.version())) {
            let asked: Vec<&str> =
                resolved.views.iter().map(|view| view.table.version().definition.name.as_str()).collect();
            return plan_err!(
                "a ttl is given for `{view}`{}, but none of its features is asked for; leave it out, or give it for a view that is: {}",
                did_you_mean(view, &asked),
                asked.join(", ")
            );
        }
    }
    refuse_same_names(&resolved, request.full_feature_names)?;
    Ok(resolved)
}

/// Whether this is the name of a version's view; a view outside the default project is named with its project.
fn names(view: &str, version: &ViewVersion) -> bool {
    table_name(version) == view.strip_prefix("default.").unwrap_or(view)
}

/// A reference, and the words that it was asked for by.
type AskedFor = (String, Reference);

/// What is asked for as references, and the services among it.
fn expand_services(snapshot: &Snapshot, features: &[String]) -> Result<(Vec<AskedFor>, Vec<ServiceVersion>)> {
    let (mut expanded, mut services) = (Vec::new(), Vec::new());
    for asked in features {
        if let Some(service) = service_of(snapshot, asked) {
            let references = service.definition.features.iter();
            expanded.extend(references.map(|reference| (reference.to_string(), reference.clone())));
            services.push(service.clone());
        } else if asked.contains(['.', ':']) {
            let reference = asked.parse::<Reference>().map_err(|error| plan_datafusion_err!("{error}"))?;
            expanded.push((asked.clone(), reference));
        } else {
            return Err(no_service(snapshot, asked));
        }
    }
    Ok((expanded, services))
}

/// The services among what is asked for.
pub fn services<'a>(snapshot: &'a Snapshot, features: &[String]) -> Vec<&'a ServiceVersion> {
    features.iter().filter_map(|asked| service_of(snapshot, asked)).collect()
}

/// The service of a name, `delay` or `fraud.delay`. Where a view of the default project is called as the project is, its feature
/// is meant.
fn service_of<'a>(snapshot: &'a Snapshot, asked: &str) -> Option<&'a ServiceVersion> {
    let (project, name) = match asked.split_once('.') {
        Some((project, name)) if snapshot.version("default", project, None).is_err() => {
            (project.parse().ok()?, name)
        }
        Some(_) => return None,
        None => (feature::Name::default_project(), asked),
    };
    snapshot.state.service(&project, &name.parse().ok()?, snapshot.sequence)
}

/// What is asked for is no service; often it is half of a reference.
fn no_service(snapshot: &Snapshot, asked: &str) -> DataFusionError {
    let project = feature::Name::default_project();
    let in_force = || snapshot.state.views_in_force(snapshot.sequence);
    if let Some(view) = in_force().find(|view| {
        view.definition.project == project
            && view.definition.name.as_str() == asked.split('@').next().unwrap_or(asked)
    }) {
        let example = view.definition.features.first().map_or("feature", |feature| feature.name.as_str());
        return plan_datafusion_err!(
            "`{asked}` is a feature view; ask for one of its features, as in {asked}.{example}, or for all of them: {asked}.*"
        );
    }
    let of: Vec<String> = in_force()
        .filter(|view| view.definition.features.iter().any(|feature| feature.name.as_str() == asked))
        .map(|view| format!("{}.{asked}", table_name(view)))
        .collect();
    if !of.is_empty() {
        return plan_datafusion_err!(
            "`{asked}` is not a feature service; it is a feature, so write its feature view before it: {}",
            of.join(" or ")
        );
    }
    let services: BTreeSet<String> = snapshot
        .state
        .services()
        .filter(|service| service.by.sequence <= snapshot.sequence)
        .map(|service| match service.definition.project.as_str() {
            "default" => service.definition.name.to_string(),
            project => format!("{project}.{}", service.definition.name),
        })
        .collect();
    let services: Vec<&str> = services.iter().map(String::as_str).collect();
    plan_datafusion_err!(
        "`{asked}` is not a feature service{}; name a service, or a feature as view.feature",
        did_you_mean(asked, &services)
    )
}

/// The hint at the nearest name, where one is near.
fn did_you_mean(wrong: &str, known: &[&str]) -> String {
    nearest(wrong, known.iter().copied()).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}

fn refuse_same_names(resolved: &Resolved, full_names: bool) -> Result<()> {
    let mut seen: HashMap<&str, &ResolvedFeature> = HashMap::new();
    let view_of = |feature: &ResolvedFeature| &resolved.views[feature.view].table.version().definition.name;
    for feature in &resolved.features {
        let Some(other) = seen.insert(&feature.output, feature) else { continue };
        let ResolvedFeature { reference, output, .. } = feature;
        if other.reference == *reference {
            return plan_err!(
                "`{reference}` is asked for twice, and both would become the column `{output}`; leave one out"
            );
        }
        // Full names would be the same too.
        if full_names || view_of(other) == view_of(feature) {
            return plan_err!(
                "`{}` and `{reference}` would both become the column `{output}`; leave one out, and ask for it in another retrieval",
                other.reference
            );
        }
        return plan_err!(
            "`{}` and `{reference}` would both become the column `{output}`; ask for full feature names, which put the view before the feature",
            other.reference
        );
    }
    Ok(())
}

/// The spine's time column: the one that is named, else `at`, else the only column of times. What is merely called `event_timestamp` is
/// such a column too, and never taken where another could be meant: a wrong time is a leak.
pub fn time_column(spine: &DFSchema, named: Option<&str>) -> Result<String> {
    let has = |name: &str| spine.fields().iter().any(|field| field.name() == name);
    if let Some(name) = named {
        if has(name) {
            return Ok(name.to_owned());
        }
        let names: Vec<&str> = spine.fields().iter().map(|field| field.name().as_str()).collect();
        return plan_err!(
            "the spine has no column `{name}`{}; it has {}",
            did_you_mean(name, &names),
            names.join(", ")
        );
    }
    if has("at") && !has(FEASTS_TIME) {
        return Ok("at".to_owned());
    }
    let times: Vec<&str> = spine
        .fields()
        .iter()
        .filter(|field| {
            field.name() == FEASTS_TIME
                || field.name() == "at"
                || matches!(
                    field.data_type(),
                    DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64
                )
        })
        .map(|field| field.name().as_str())
        .collect();
    match times.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => {
            let columns: Vec<String> = spine
                .fields()
                .iter()
                .map(|field| format!("{} ({})", field.name(), field.data_type()))
                .collect();
            plan_err!(
                "the spine has no time column; add one named `at` that holds timestamps. Its columns: {}",
                columns.join(", ")
            )
        }
        several if has("at") => plan_err!(
            "the spine has several time columns ({}), `{FEASTS_TIME}` beside `at`; say at which of them features are wanted",
            several.join(", ")
        ),
        several => plan_err!(
            "the spine has several time columns ({}); name the one at which features are wanted `at`, or say which it is",
            several.join(", ")
        ),
    }
}

/// What Feast's users call the spine's time.
const FEASTS_TIME: &str = "event_timestamp";

/// Plans a retrieval: the spine's columns as they are, then each feature under its output name, in the order asked for; then, where
/// that is asked for, why each is null, in the same order.
///
/// # Errors
/// A key column that the spine lacks; a feature that would have the name of a spine column.
pub fn plan(spine: LogicalPlan, at: &str, resolved: &Resolved) -> Result<LogicalPlan> {
    // Under one name of its own, so that its columns cannot be taken for those of a view.
    let spine = LogicalPlanBuilder::from(spine).alias("spine")?.build()?;
    let schema = spine.schema().clone();
    let find = |name: &str| -> Result<Option<Column>> {
        let mut found = schema.iter().filter(|(_, field)| field.name() == name);
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => plan_err!("the spine has two columns named `{name}`; rename one"),
            (Some(field), None) => Ok(Some(Column::from(field))),
            (None, _) => Ok(None),
        }
    };
    let Some(at) = find(at)? else { return plan_err!("the spine has no column `{at}`") };
    let mut rights = Vec::with_capacity(resolved.views.len());
    let mut aliases = Vec::with_capacity(resolved.views.len());
    for view in &resolved.views {
        let version = view.table.version();
        let mut keys = Vec::with_capacity(version.keys().len());
        for key in version.keys() {
            let Some(column) = find(key.name.as_str())? else {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                let hint = nearest(key.name.as_str(), names.iter().copied())
                    .map(|near| format!(" (did you mean `{near}`? rename it)"))
                    .unwrap_or_default();
                return plan_err!(
                    "the spine has no column `{}`, the key of entity `{}` that `{}` describes{hint}; its columns: {}",
                    key.name,
                    version.definition.entity,
                    version.label(),
                    names.join(", ")
                );
            };
            keys.push(Expr::Column(column));
        }
        let alias = TableReference::bare(version.label());
        let table = match resolved.null_reasons {
            true => Arc::new(FeatureViewTable::clone(&view.table).with_null_reasons()),
            false => view.table.clone(),
        };
        let scan = LogicalPlanBuilder::scan(alias.clone(), provider_as_source(table), None)?.build()?;
        rights.push(Right {
            plan: scan,
            at: Expr::Column(at.clone()),
            direction: Direction::AtOrBefore,
            rule: Rule::FeatureView { keys, ttl: view.ttl, cut: resolved.cut },
        });
        aliases.push(alias);
    }
    let mut columns: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
    for feature in &resolved.features {
        if find(&feature.output)?.is_some() {
            return plan_err!(
                "the spine already has a column `{}`, the name that `{}` would get; ask for full feature names, or rename the spine's column",
                feature.output,
                feature.reference
            );
        }
        let version = resolved.views[feature.view].table.version();
        let name = version.definition.features[feature.feature].name.as_str();
        let column = Column::new(Some(aliases[feature.view].clone()), name);
        columns.push(Expr::Column(column).alias(feature.output.clone()));
    }
    for feature in resolved.features.iter().filter(|_| resolved.null_reasons) {
        let output = ::feature::null_reason_of(&feature.output);
        if find(&output)?.is_some() || resolved.features.iter().any(|other| other.output == output) {
            return plan_err!(
                "there already is a column `{output}`, the name that the null reasons of `{}` would get; rename it, or leave null_reasons out",
                feature.reference
            );
        }
        let version = resolved.views[feature.view].table.version();
        let name = null_reason_of(version.definition.features[feature.feature].name.as_str());
        let column = Column::new(Some(aliases[feature.view].clone()), name);
        columns.push(Expr::Column(column).alias(output));
    }
    let node = LogicalPlan::Extension(Extension { node: Arc::new(PointInTime::new(spine, rights)?) });
    LogicalPlanBuilder::from(node).project(columns)?.build()
}

/// A feature of a recorded retrieval, by the version that it was resolved to.
#[derive(Clone, Debug)]
pub struct Pinned {
    pub asked: String,
    pub version: feature::VersionId,
    pub feature: String,
    pub output: String,
}

/// Makes a recorded resolution whole again; nothing is resolved anew. `ttl` holds the one used for each version.
///
/// # Errors
/// A version or feature that the store no longer knows.
pub async fn resolve_pinned(
    snapshot: &Snapshot,
    pinned: &[Pinned],
    ttl: &HashMap<feature::VersionId, Option<Span>>,
    cut: Cut,
) -> Result<Resolved> {
    let mut resolved =
        Resolved { views: Vec::new(), features: Vec::new(), services: Vec::new(), cut, null_reasons: false };
    let mut positions: HashMap<feature::VersionId, usize> = HashMap::new();
    for pin in pinned {
        let Some(version) = snapshot.state.view_version(pin.version) else {
            return plan_err!("the store knows no feature view version {}", pin.version);
        };
        let view = match positions.get(&pin.version) {
            Some(view) => *view,
            None => {
                let table = snapshot.table(Arc::new(version.clone())).await?;
                resolved.views.push(ResolvedView { table, ttl: ttl.get(&pin.version).copied().flatten() });
                positions.insert(pin.version, resolved.views.len() - 1);
                resolved.views.len() - 1
            }
        };
        let known = &version.definition.features;
        let Some(feature) = known.iter().position(|known| known.name.as_str() == pin.feature) else {
            return plan_err!("`{}` has no feature `{}`", version.label(), pin.feature);
        };
        resolved.features.push(ResolvedFeature {
            view,
            feature,
            asked: pin.asked.clone(),
            reference: format!("{}.{}", version.label(), pin.feature),
            output: pin.output.clone(),
        });
    }
    Ok(resolved)
}
