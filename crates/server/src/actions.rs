//! Actions: what is neither a query nor an upload.

use arrow_flight::ActionType;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, Any, ProstMessageExt,
};
use catalog::Author;
use catalog::records::{How, Role};
use catalog::registry::{Deployment, Observations};
use feature::name::nearest;
use feature::{AlertId, HoldId, TrainingSetId};
use prost::Message;
use serde::Deserialize;
use serde_json::{Map, Value};
use serving::{
    AuditSetRequest, BiasRequest, DeprecateRequest, DiffRequest, EraseRequest, ExplainRequest,
    ExplainValueRequest, LineageRequest, QuarantineRequest, RefreshRequest, RetainRequest, RollbackRequest,
    SearchRequest, Serving,
};
use tonic::{Code, Status};

use crate::admission::Work;
use crate::endpoints;
use crate::flight_sql::session::{self, Change, Session};
use crate::flight_sql::{cancel, prepared};
use crate::policies;
use crate::reports;
use crate::request;
use crate::running::RunningQueries;
use crate::sealed::Seals;
use crate::status;
use crate::stream_put;

pub const CREATE_PREPARED: &str = "CreatePreparedStatement";
const CLOSE_PREPARED: &str = "ClosePreparedStatement";
const RENEW: &str = "RenewFlightEndpoint";

/// What an action is to the queue; none passes at once.
type Turn = Option<Work>;
const AT_ONCE: Turn = None;
/// It reads rows, or walks all that there is.
const READS: Turn = Some(Work::Reads);
const WRITES: Turn = Some(Work::Writes);

/// Name, turn and description of each.
const ACTIONS: [(&str, Turn, &str); 39] = [
    (
        "lineament.plan",
        AT_ONCE,
        "what definitions would change; body: {\"files\": {\"weather.toml\": \"…\"}}",
    ),
    (
        "lineament.apply",
        AT_ONCE,
        "applies definitions as one entry of the log; body as of lineament.plan, and for what breaks others {\"reason\": \"…\"} beside",
    ),
    (
        "lineament.approve",
        AT_ONCE,
        "approves somebody else's plan that waits, or declines it; body: {\"plan\": \"<digest>\", \"reason\": \"…\", \"decline\": false}",
    ),
    (
        "lineament.plan_policies",
        AT_ONCE,
        "what applying policies would change; body: {\"files\": {\"base.cedar\": \"…\"}}, and definitions that are not applied yet {\"definitions\": {\"weather.toml\": \"…\"}} beside",
    ),
    (
        "lineament.apply_policies",
        AT_ONCE,
        "applies policies, all of them and whole, as one entry of the log; body as of lineament.plan_policies",
    ),
    (
        "lineament.lift_policies",
        AT_ONCE,
        "takes all policies out of force, so that everybody may do everything; body: {\"reason\": \"…\"}",
    ),
    (
        "lineament.deprecate",
        AT_ONCE,
        "announces that a version, a feature view or a service will go, or takes that back; body: {\"node\": \"weather@1\", \"reason\": \"…\", \"closed_on\": \"2027-01-01\", \"withdrawn_on\": \"2027-03-01\", \"instead\": \"weather@2\", \"undo\": false}",
    ),
    ("lineament.replay", READS, "rebuilds a training set and proves it; body: {\"training_set\": \"<id>\"}"),
    (
        "lineament.explain",
        READS,
        "why one cell of a training set has its value; body: {\"training_set\": \"<id>\", \"row\": 0, \"column\": \"temp\"}",
    ),
    (
        "lineament.explain_value",
        READS,
        "why a feature has its value for an entity at a time; body: {\"feature\": \"weather.temp\", \"key\": {\"origin\": \"JFK\"}, \"at\": \"2013-01-01T10:00:00Z\"}",
    ),
    (
        "lineament.diff",
        READS,
        "what is other in training set b than in a, and why; body: {\"a\": \"<id>\", \"b\": \"<id>\", \"examples\": 3}",
    ),
    (
        "lineament.audit",
        READS,
        "which cells of a training set could not be known at their time; body: {\"training_set\": \"<id>\", \"examples\": 5}",
    ),
    (
        "lineament.refresh",
        WRITES,
        "brings derived feature views up to date; body: {\"view\": \"celsius\", \"full\": false}, all of them without a view",
    ),
    (
        "lineament.last_part",
        AT_ONCE,
        "the last part that a producer committed into a view; body: {\"view\": \"weather\", \"producer\": \"station-7\"}",
    ),
    (
        "lineament.rollback",
        WRITES,
        "takes back a batch or a version, or puts it back; body: {\"node\": \"weather@2\", \"reason\": \"…\", \"undo\": false, \"derived\": false}, without a reason only what it would touch",
    ),
    (
        "lineament.retain",
        WRITES,
        "lets rows go that their views keep no longer; body: {\"view\": \"weather\", \"dry_run\": false}, all views without one",
    ),
    (
        "lineament.erase",
        WRITES,
        "erases an entity from the store, or says what would go; body: {\"entity\": \"plane\", \"key\": {\"tailnum\": \"N1\"}, \"reason\": \"…\", \"dry_run\": false}",
    ),
    (
        "lineament.quarantine",
        WRITES,
        "releases or drops a batch that was kept back; body: {\"batch\": \"<id>\", \"action\": \"release\", \"reason\": \"…\", \"back_fill\": false}",
    ),
    (
        "lineament.hold",
        AT_ONCE,
        "keeps a batch, a version, a training set or a model version with all that it needs; body: {\"node\": \"weather@2\", \"reason\": \"…\"}",
    ),
    (
        "lineament.lift_hold",
        AT_ONCE,
        "lets it go, as far as nothing else needs it; body: {\"hold\": \"<id>\", \"reason\": \"…\"}",
    ),
    (
        "lineament.bias",
        READS,
        "whether the population of a training set is the one that is served; body: {\"training_set\": \"<id>\", \"at\": \"2013-07-01T00:00:00Z\"} or {…, \"moments\": 12}",
    ),
    (
        "lineament.observe",
        AT_ONCE,
        "tells of experiments, runs, models, their versions and aliases; body: {\"experiments\": [{\"id\": \"churn\", \"hypothesis\": \"…\"}], …}, as in docs/lineage.md",
    ),
    (
        "lineament.use",
        AT_ONCE,
        "a run used a training set; body: {\"training_set\": \"<id>\", \"run\": \"…\", \"role\": \"train\", \"how\": \"explicit\"}",
    ),
    (
        "lineament.deploy",
        AT_ONCE,
        "a deployment serves a model version; body: {\"name\": \"…\", \"environment\": \"production\", \"model_version\": \"delay/3\"}",
    ),
    (
        "lineament.lineage",
        READS,
        "what came of something, or where it came from; body: {\"node\": \"weather@1\", \"up\": false, \"depth\": 3}",
    ),
    (
        "lineament.impact",
        READS,
        "cells, training sets, models and deployments that something reaches; body: {\"node\": \"<batch>\"}",
    ),
    (
        "lineament.drop_alert",
        AT_ONCE,
        "an alert need not be delivered where it has not arrived; body: {\"alert\": \"<id>\", \"reason\": \"…\"}",
    ),
    (
        "lineament.search",
        AT_ONCE,
        "features, views and services that have these words, the best first; body: {\"words\": \"wind speed tag:hourly\", \"kind\": \"feature\", \"limit\": 20}",
    ),
    (
        "lineament.manifest",
        AT_ONCE,
        "what a training set was made of, whole enough to ask for the same again; body: {\"training_set\": \"<id>\"}",
    ),
    (
        "lineament.reconcile",
        READS,
        "whether all that training sets, runs, models and deployments refer to is there; body: {\"deep\": false}",
    ),
    ("lineament.status", AT_ONCE, "store, sequence, program and the last reconciliation; body: {}"),
    (CREATE_PREPARED, AT_ONCE, "Flight SQL: prepares a statement"),
    (CLOSE_PREPARED, AT_ONCE, "Flight SQL: forgets a prepared statement"),
    (cancel::CANCEL, AT_ONCE, "Flight: stops what runs of a FlightInfo"),
    (cancel::CANCEL_OLD, AT_ONCE, "Flight SQL: the same, as it was called before"),
    (RENEW, AT_ONCE, "Flight: an endpoint for a longer time"),
    (session::SET, AT_ONCE, "Flight: options of the session: run, experiment, role"),
    (session::GET, AT_ONCE, "Flight: the options of the session"),
    (session::CLOSE, AT_ONCE, "Flight: ends the session"),
];

/// What the standards name and this server does not do.
const UNSUPPORTED: [&str; 5] =
    ["CreatePreparedSubstraitPlan", "BeginTransaction", "EndTransaction", "BeginSavepoint", "EndSavepoint"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Files {
    files: Map<String, Value>,
    /// Of an apply.
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Approval {
    plan: String,
    reason: String,
    #[serde(default)]
    decline: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    node: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LiftHold {
    hold: HoldId,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrainingSet {
    training_set: TrainingSetId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Used {
    training_set: TrainingSetId,
    run: String,
    #[serde(default)]
    role: Role,
    #[serde(default)]
    how: How,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Impact {
    node: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DropAlert {
    alert: AlertId,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reconcile {
    #[serde(default)]
    deep: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// What an action waits for its turn for, where it does. One that there is not is answered at once.
pub fn work(name: &str) -> Option<Work> {
    ACTIONS.iter().find(|(known, ..)| *known == name).and_then(|(_, turn, _)| *turn)
}

pub fn types() -> impl Iterator<Item = ActionType> {
    ACTIONS.iter().map(|(name, _, description)| ActionType {
        r#type: (*name).to_owned(),
        description: (*description).to_owned(),
    })
}

/// What a call has beside the store.
pub struct OwnState<'a> {
    pub session: &'a Session,
    pub running: &'a RunningQueries,
    pub seals: &'a Seals,
}

/// Does an action of a call: one about the call's session or its running queries here, any other by [`act`].
pub async fn act_in_session(
    serving: &Serving,
    name: &str,
    body: &[u8],
    author: &Author,
    own: &OwnState<'_>,
) -> Result<(Option<Vec<u8>>, Change), Status> {
    let OwnState { session, running, seals } = own;
    let (answer, change) = match name {
        session::SET => session::set(session, body)?,
        session::GET => session::get(session, body)?,
        session::CLOSE => session::close(body)?,
        cancel::CANCEL | cancel::CANCEL_OLD => {
            (cancel::cancel(name, body, running, &author.principal)?, Change::None)
        }
        RENEW => (endpoints::renew(body, seals, &author.principal)?, Change::None),
        _ => return Ok((act(serving, name, body, author, session).await?, Change::None)),
    };
    Ok((Some(answer), change))
}

/// Does an action. None where there is nothing to answer.
async fn act(
    serving: &Serving,
    name: &str,
    body: &[u8],
    author: &Author,
    session: &Session,
) -> Result<Option<Vec<u8>>, Status> {
    let failed = |error: serving::Error| status::of(&error);
    let report = match name {
        "lineament.plan" => {
            let (files, _) = files(body)?;
            let plan = serving.plan(files).await.map_err(failed)?;
            reports::json(&reports::plan(&plan, None))
        }
        "lineament.apply" => {
            let (files, reason) = files(body)?;
            let applied = serving.apply_for(files, reason.as_deref(), author).await.map_err(failed)?;
            reports::json(&reports::plan(&applied.plan, applied.sequence))
        }
        "lineament.approve" => {
            let Approval { plan, reason, decline } = request::json("the body of `lineament.approve`", body)?;
            let said = serving.approve(&plan, !decline, &reason, author).await;
            reports::json(&said.map_err(failed)?)
        }
        "lineament.plan_policies" => policies::plan(serving, body).await,
        "lineament.apply_policies" => policies::apply(serving, body, author).await,
        "lineament.lift_policies" => policies::lift(serving, body, author).await,
        "lineament.deprecate" => {
            let wanted: DeprecateRequest = request::json("the body of `lineament.deprecate`", body)?;
            reports::json(&serving.deprecate(&wanted, author).await.map_err(failed)?)
        }
        "lineament.replay" => {
            let TrainingSet { training_set } = request::json("the body of `lineament.replay`", body)?;
            reports::json(&serving.prove(training_set, author).await.map_err(failed)?)
        }
        "lineament.manifest" => {
            let TrainingSet { training_set } = request::json("the body of `lineament.manifest`", body)?;
            reports::json(&serving.manifest_for(training_set, author).await.map_err(failed)?)
        }
        "lineament.explain" => {
            let wanted: ExplainRequest = request::json("the body of `lineament.explain`", body)?;
            reports::json(&serving.explain(wanted, author).await.map_err(failed)?)
        }
        "lineament.explain_value" => {
            let wanted: ExplainValueRequest = request::json("the body of `lineament.explain_value`", body)?;
            reports::json(&serving.explain_value(wanted, author).await.map_err(failed)?)
        }
        "lineament.diff" => {
            let wanted: DiffRequest = request::json("the body of `lineament.diff`", body)?;
            reports::json(&serving.diff(wanted, false, author).await.map_err(failed)?.report)
        }
        "lineament.audit" => {
            let wanted: AuditSetRequest = request::json("the body of `lineament.audit`", body)?;
            reports::json(&serving.audit_set(wanted, false, author).await.map_err(failed)?.report)
        }
        "lineament.refresh" => {
            let wanted: RefreshRequest = request::json("the body of `lineament.refresh`", body)?;
            let views = serving.refresh(&wanted, author).await.map_err(failed)?;
            reports::json(&serde_json::json!({ "views": views }))
        }
        "lineament.last_part" => stream_put::last_part(serving, body).await,
        "lineament.rollback" => {
            let wanted: RollbackRequest = request::json("the body of `lineament.rollback`", body)?;
            reports::json(&serving.rollback(&wanted, author).await.map_err(failed)?)
        }
        "lineament.retain" => {
            let wanted: RetainRequest = request::json("the body of `lineament.retain`", body)?;
            reports::json(&serving.retain(&wanted, author).await.map_err(failed)?)
        }
        "lineament.erase" => {
            let wanted: EraseRequest = request::json("the body of `lineament.erase`", body)?;
            reports::json(&serving.erase(&wanted, author).await.map_err(failed)?)
        }
        "lineament.quarantine" => {
            let wanted: QuarantineRequest = request::json("the body of `lineament.quarantine`", body)?;
            reports::json(&serving.end_quarantine(&wanted, author).await.map_err(failed)?)
        }
        "lineament.hold" => {
            let Hold { node, reason } = request::json("the body of `lineament.hold`", body)?;
            reports::json(&serving.place_hold(&node, &reason, author).await.map_err(failed)?)
        }
        "lineament.lift_hold" => {
            let LiftHold { hold, reason } = request::json("the body of `lineament.lift_hold`", body)?;
            reports::json(&serving.lift_hold(hold, &reason, author).await.map_err(failed)?)
        }
        "lineament.bias" => {
            let wanted: BiasRequest = request::json("the body of `lineament.bias`", body)?;
            reports::json(&serving.bias(&wanted, author).await.map_err(failed)?)
        }
        "lineament.lineage" => {
            let wanted: LineageRequest = request::json("the body of `lineament.lineage`", body)?;
            reports::json(&serving.lineage(&wanted, author).await.map_err(failed)?)
        }
        "lineament.impact" => {
            let Impact { node } = request::json("the body of `lineament.impact`", body)?;
            reports::json(&serving.impact(&node, author).await.map_err(failed)?)
        }
        "lineament.drop_alert" => {
            let DropAlert { alert, reason } = request::json("the body of `lineament.drop_alert`", body)?;
            let dropped = serving.drop_alert(alert, &reason, author).await;
            let (sinks, sequence) = dropped.map_err(failed)?;
            reports::json(&serde_json::json!({ "alert": alert, "sinks": sinks, "sequence": sequence }))
        }
        "lineament.search" => {
            let wanted: SearchRequest = request::json("the body of `lineament.search`", body)?;
            reports::json(&serving.search(&wanted, author).await.map_err(failed)?)
        }
        "lineament.observe" => {
            let seen: Observations = request::json("the body of `lineament.observe`", body)?;
            reports::json(&serving.observe(seen, author).await.map_err(failed)?)
        }
        "lineament.use" => {
            let Used { training_set, run, role, how } = request::json("the body of `lineament.use`", body)?;
            let told = serving.record_use(training_set, &run, role, how, author).await;
            reports::json(&told.map_err(failed)?)
        }
        "lineament.deploy" => {
            let wanted: Deployment = request::json("the body of `lineament.deploy`", body)?;
            reports::json(&serving.deploy(wanted, author).await.map_err(failed)?)
        }
        "lineament.reconcile" => {
            let Reconcile { deep } = request::json("the body of `lineament.reconcile`", body)?;
            reports::json(&serving.reconcile(deep).await.map_err(failed)?)
        }
        "lineament.status" => {
            if !body.is_empty() {
                let Nothing {} = request::json("the body of `lineament.status`", body)?;
            }
            let catalog = serving.catalog();
            let state = catalog.refresh().await.map_err(|error| failed(error.into()))?;
            let (last, mlflow) = (serving.last_reconciliation(), serving.last_tracking_pass());
            reports::json(&reports::status(&state, &author.program, last.as_ref(), mlflow.as_ref()))
        }
        CREATE_PREPARED => {
            let wanted: ActionCreatePreparedStatementRequest = unpack(name, body)?;
            Ok(prepared::create(serving, wanted, session).await?.as_any().encode_to_vec())
        }
        CLOSE_PREPARED => {
            // The handle holds all that there is, so there is nothing to forget.
            let _: ActionClosePreparedStatementRequest = unpack(name, body)?;
            return Ok(None);
        }
        _ if UNSUPPORTED.contains(&name) => Err(status::unsupported(format!(
            "the action `{name}` is not supported: queries here only read, one at a time, without transactions"
        ))),
        _ => {
            let known = || ACTIONS.iter().map(|(name, ..)| *name);
            let hint =
                nearest(name, known()).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            let list = known().collect::<Vec<_>>().join(", ");
            Err(status::status(Code::NotFound, format!("there is no action `{name}`{hint}; actions: {list}")))
        }
    };
    report.map(Some)
}

/// The longest body with files.
const FILES_BYTES: usize = 16 << 20;

/// Definition files by name, in the order in which they were sent.
type NamedFiles = Vec<(String, String)>;

/// Definition files, and why they are applied.
fn files(body: &[u8]) -> Result<(NamedFiles, Option<String>), Status> {
    of_a_size(body, "apply the definitions in several parts")?;
    let Files { files, reason } = request::json("the body", body)?;
    let mut texts = Vec::with_capacity(files.len());
    for (name, text) in files {
        match text {
            Value::String(text) => texts.push((name, text)),
            _ => {
                return Err(status::invalid(format!(
                    "the body cannot be read: the file `{name}` is not a text"
                )));
            }
        }
    }
    Ok((texts, reason))
}

/// # Errors
/// A body that is too long for files.
pub fn of_a_size(body: &[u8], advice: &str) -> Result<(), Status> {
    if body.len() > FILES_BYTES {
        return Err(status::invalid(format!(
            "the body has {} bytes; at most {FILES_BYTES} are allowed: {advice}",
            body.len()
        )));
    }
    Ok(())
}

fn unpack<T: ProstMessageExt>(name: &str, body: &[u8]) -> Result<T, Status> {
    let read = Any::decode(body).ok().and_then(|any| any.unpack().ok().flatten());
    read.ok_or_else(|| {
        status::invalid(format!("the body of the action `{name}` is not the message that Flight SQL says"))
    })
}
