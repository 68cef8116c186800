//! The relation of alerts: a row for each sink that one goes to.

use std::sync::Arc;

use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use catalog::state::{Alert, OnItsWay, ViewVersion};
use datafusion::common::Result;
use feature::Timestamp;

use super::Columns;
use crate::access::Sights;
use crate::snapshot::Snapshot;

/// An alert on its way to one of its sinks.
type Row<'a> = (&'a Alert, &'a String, OnItsWay);

pub fn alerts(snapshot: &Snapshot) -> Result<RecordBatch> {
    let (state, at) = (&snapshot.state, snapshot.sequence);
    let version = |alert: &Alert| alert.record.version.and_then(|version| state.view_version(version));
    let shown = |alert: &&Alert| {
        alert.by.sequence <= at && version(alert).is_none_or(|version| snapshot.guard(version).is_ok())
    };
    let rows: Vec<Row<'_>> = state
        .alerts()
        .all()
        .iter()
        .filter(shown)
        .flat_map(|alert| alert.record.sinks.iter().map(move |sink| (alert, sink)))
        .map(|(alert, sink)| (alert, sink, state.alerts().on_its_way(alert.record.alert, sink, at)))
        .collect();
    let all = || rows.iter();
    let again_at = |(_, sink, way): &Row<'_>| {
        let rests = (!way.standing.is_over()).then(|| state.alerts().rests_until(sink, at)).flatten();
        way.again_at.max(rests)
    };
    let time = |of: &dyn Fn(&Row<'_>) -> Option<Timestamp>| {
        let times: TimestampMicrosecondArray = all().map(|row| of(row).map(Timestamp::micros)).collect();
        Arc::new(times.with_timezone("UTC"))
    };
    let view = |of: fn(&ViewVersion) -> String| all().map(move |(alert, ..)| version(alert).map(of));
    let sights = Sights::of_snapshot(snapshot);
    // They tell what was measured of features, and how many rows there are.
    let is_told = |alert: &Alert| version(alert).is_none_or(|version| sights.of(version).is_whole());
    let summary = |alert: &Alert| is_told(alert).then(|| alert.record.summary.clone());
    let json =
        |alert: &Alert| alert.record.details.as_ref().filter(|_| is_told(alert)).map(ToString::to_string);
    Columns::default()
        .text("alert", all().map(|(alert, ..)| Some(alert.record.alert)))
        .text("rule", all().map(|(alert, ..)| Some(&alert.record.rule)))
        .text("condition", all().map(|(alert, ..)| Some(&alert.record.condition)))
        .text("sink", all().map(|(_, sink, _)| Some(sink)))
        .text("status", all().map(|(.., way)| Some(way.standing.name())))
        .small("attempts", all().map(|(.., way)| way.attempts))
        .add("again_at", time(&again_at))
        .add("ended_at", time(&|(.., way)| way.ended_at))
        .text("why", all().map(|(.., way)| way.why.clone()))
        .text("summary", all().map(|(alert, ..)| summary(alert)))
        .text("causes", all().map(|(alert, ..)| Some(alert.record.causes.join("\n"))))
        .text("project", view(|version| version.definition.project.to_string()))
        .text("feature_view", view(|version| version.definition.name.to_string()))
        .text("version", view(|version| version.number.to_string()))
        .text("about", all().map(|(alert, ..)| alert.record.about))
        .text("details", all().map(|(alert, ..)| json(alert)))
        .by(all().map(|(alert, ..)| &alert.by))
        .finish()
}
