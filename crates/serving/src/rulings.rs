//! `access('weather.temp', principal => 'ann', at => TIMESTAMP '…')`: what somebody could do, by the policies and the definitions of
//! then, and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array, UInt64Array};
use arrow::datatypes::TimestampMicrosecondType;
use async_trait::async_trait;
use catalog::recorded_reads::decode;
use catalog::{Catalog, State, descriptions};
use datafusion::common::{DataFusionError, Result, plan_datafusion_err, plan_err};
use engine::access::{AccessQuestion, AccessRelations, Moment};
use engine::{Snapshot, split_name};
use feature::name::nearest;
use feature::policy::{Action, Asker, Decision, Resource};
use feature::{Sequence, Timestamp};

use crate::access::Governance;
use crate::graph::{table, texts};

/// The claim whose values are groups.
const GROUPS: &str = "groups";

/// What somebody was last seen with.
struct Seen {
    roles: Vec<String>,
    at: Timestamp,
}

/// One decision, of the view (without a feature) or of a feature.
struct Ruled {
    feature: Option<String>,
    decision: Decision,
}

#[async_trait]
impl AccessRelations for Governance {
    async fn access(&self, snapshot: &Snapshot, question: &AccessQuestion) -> Result<RecordBatch> {
        let (catalog, state) = (&snapshot.catalog, &snapshot.state);
        let at = sequence_of(snapshot, question.at)?;
        let earlier = Snapshot { sequence: at, ..snapshot.clone() };
        let (version, feature) = named(&earlier, &question.reference)?;
        let view = descriptions::of_view(catalog, state, &version, at).await.map_err(external)?;
        let then = state.log().iter().find(|line| line.by.sequence == at).map(|line| line.by.committed_at);
        let moment = match question.at {
            Moment::Instant(instant) => instant,
            Moment::Snapshot | Moment::Sequence(_) => then.unwrap_or(Timestamp(i64::MAX)),
        };
        let seen = match question.roles {
            Some(_) => None,
            None => last_seen(catalog, state, &question.principal, moment).await?,
        };
        let roles =
            question.roles.clone().or(seen.as_ref().map(|seen| seen.roles.clone())).unwrap_or_default();
        let groups = (!question.groups.is_empty()).then(|| (GROUPS.to_owned(), question.groups.clone()));
        let asker = Asker {
            principal: question.principal.clone(),
            roles,
            claims: BTreeMap::from_iter(groups),
            purpose: question.purpose,
        };
        let applied = state.policies().in_force(at);
        let in_force = match applied {
            Some(applied) => Some(self.in_force(catalog, applied).await.map_err(external)?.policies),
            None => None,
        };
        let decide = |of: Option<&feature::definition::Feature>| match (&in_force, of) {
            (None, _) => Decision::unrestricted(),
            (Some(policies), None) => policies.decide(&asker, question.action, Resource::View(&view)),
            (Some(policies), Some(feature)) => {
                Decision::of_feature(policies.as_ref(), &asker, question.action, &view, feature)
            }
        };
        let mut ruled = Vec::new();
        if feature.is_none() {
            ruled.push(Ruled { feature: None, decision: decide(None) });
        }
        // Other actions are on views as a whole.
        if question.action == Action::Read {
            let wanted = |name: &str| feature.as_deref().is_none_or(|feature| feature == name);
            for feature in view.features.iter().filter(|known| wanted(known.name.as_str())) {
                let decision = decide(Some(feature));
                ruled.push(Ruled { feature: Some(feature.name.to_string()), decision });
            }
        }
        let label = if view.project == feature::Name::default_project() {
            view.name.to_string()
        } else {
            format!("{}.{}", view.project, view.name)
        };
        let number = applied.map(|applied| u64::from(applied.record.number));
        let why = |decision: &Decision| match (number, decision.allowed) {
            (None, _) => "nothing was governed".to_owned(),
            (Some(_), false) => decision.denied_by(),
            (Some(_), true) => format!("permitted by `{}`", decision.policies.join("`, `")),
        };
        let all = || ruled.iter();
        let same = |text: String| texts(all().map(|_| Some(text.clone())));
        let instant = |time: Option<Timestamp>| -> ArrayRef {
            let times: TimestampMicrosecondArray = all().map(|_| time.map(Timestamp::micros)).collect();
            Arc::new(times.with_timezone("UTC"))
        };
        let roles = asker.roles.join(", ");
        table(vec![
            ("feature_view", same(label)),
            ("version", Arc::new(UInt32Array::from_iter_values(all().map(|_| version.number)))),
            ("feature", texts(all().map(|ruled| ruled.feature.clone()))),
            ("action", same(question.action.to_string())),
            ("principal", same(asker.principal.clone())),
            ("roles", texts(all().map(|_| Some(roles.clone()).filter(|roles| !roles.is_empty())))),
            ("roles_seen_at", instant(seen.map(|seen| seen.at))),
            ("purpose", same(asker.purpose.to_string())),
            ("decision", texts(all().map(|ruled| Some(ruled.decision.told())))),
            ("why", texts(all().map(|ruled| Some(why(&ruled.decision))))),
            ("policies", Arc::new(all().map(|_| number).collect::<UInt64Array>())),
            ("sequence", Arc::new(UInt64Array::from_iter_values(all().map(|_| at.0)))),
            ("committed_at", instant(then)),
        ])
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The last entry by then.
fn sequence_of(snapshot: &Snapshot, at: Moment) -> Result<Sequence> {
    match at {
        Moment::Snapshot => Ok(snapshot.sequence),
        Moment::Sequence(sequence) if sequence > snapshot.sequence => {
            plan_err!("the log ends at sequence {}; there is no {sequence} yet", snapshot.sequence)
        }
        Moment::Sequence(sequence) => Ok(sequence),
        Moment::Instant(instant) => {
            let by_then = |line: &&catalog::state::LogLine| {
                line.by.sequence <= snapshot.sequence && line.by.committed_at <= instant
            };
            let last = snapshot.state.log().iter().filter(by_then).map(|line| line.by.sequence).max();
            last.ok_or_else(|| {
                plan_datafusion_err!("the store was made after {instant}; nobody could read it then")
            })
        }
    }
}

/// The version, and the feature where one is named: `weather`, `weather@2`, `fraud.cards`, `weather@2.temp`.
fn named(snapshot: &Snapshot, reference: &str) -> Result<(Arc<catalog::state::ViewVersion>, Option<String>)> {
    let of_view = split_name(reference);
    if let Some((project, view, number)) = &of_view
        && let Ok(version) = snapshot.version(project, view, *number)
    {
        return Ok((version, None));
    }
    if let Some((view, feature)) = reference.rsplit_once('.')
        && let Some((project, view, number)) = split_name(view)
        && let Ok(version) = snapshot.version(&project, &view, number)
    {
        let known = || version.definition.features.iter().map(|feature| feature.name.as_str());
        if !known().any(|known| known == feature) {
            let hint = nearest(feature, known())
                .map(|near| format!(" (did you mean `{near}`?)"))
                .unwrap_or_default();
            return plan_err!(
                "there is no feature `{feature}` in `{}`{hint}; it has {}",
                version.label(),
                known().collect::<Vec<_>>().join(", ")
            );
        }
        return Ok((version.clone(), Some(feature.to_owned())));
    }
    match of_view {
        Some((project, view, number)) => {
            snapshot.version(&project, &view, number).map(|version| (version, None))
        }
        None => plan_err!(
            "`{reference}` is neither a feature view nor a feature, as weather, weather@2 or weather.temp"
        ),
    }
}

/// The roles that a principal read with last by a moment. Reads that wait for their flush are not on record yet.
async fn last_seen(
    catalog: &Catalog,
    state: &State,
    principal: &str,
    moment: Timestamp,
) -> Result<Option<Seen>> {
    // A read is written to the log after it was asked, with others of some seconds: what comes in one entry is not older than the entry before.
    let recorded = state.reads();
    let after = recorded.iter().position(|reads| reads.by.committed_at >= moment);
    let until = after.map_or(recorded.len(), |after| after + 1);
    for reads in recorded.iter().take(until).rev() {
        let bytes = catalog.object(&reads.record.object).await.map_err(external)?;
        let damaged = |error| DataFusionError::ParquetError(Box::new(error));
        let mut found: Option<Seen> = None;
        for batch in decode(bytes, &["at", "principal", "roles"]).map_err(damaged)? {
            let batch = batch.map_err(damaged)?;
            let text =
                |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            let times = batch.column_by_name("at");
            let times = times.and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
            let (Some(principals), Some(roles), Some(times)) = (text("principal"), text("roles"), times)
            else {
                continue;
            };
            for ((name, roles), at) in principals.iter().zip(roles).zip(times) {
                let at = Timestamp(at.unwrap_or(i64::MAX));
                let later = found.as_ref().is_none_or(|found| at >= found.at);
                if name == Some(principal) && at <= moment && later {
                    found = Some(Seen { roles: listed(roles), at });
                }
            }
        }
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn listed(roles: Option<&str>) -> Vec<String> {
    roles.map(|roles| roles.split(", ").map(str::to_owned).collect()).unwrap_or_default()
}
