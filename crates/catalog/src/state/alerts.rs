//! Alerts: which were raised, what became of each on its way, and whose turn it is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use feature::{AlertId, SenderId, Sequence, Timestamp};

use super::registry::{Noted, told};
use super::{ApplyError, Provenance, State, repeated, unresolved};
use crate::records::{AlertDelivery, AlertsRaised, DeliveryOutcome, RaisedAlert, Record};

/// An alert with the entry that raised it.
#[derive(Clone, Debug)]
pub struct Alert {
    pub record: RaisedAlert,
    pub by: Arc<Provenance>,
}

/// How far an alert is on its way to a sink.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OnItsWay {
    pub standing: Standing,
    /// Attempts that were begun.
    pub attempts: u32,
    /// What was in the way last, or why it was dropped.
    pub why: Option<String>,
    /// When it is tried again.
    pub again_at: Option<Timestamp>,
    /// When the last attempt ended.
    pub ended_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    #[default]
    Waiting,
    /// An attempt was begun, and has not ended or nobody knows how.
    Sending,
    /// The last attempt failed, and another will be made.
    Failed,
    Delivered,
    Dropped,
}

impl Standing {
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sending => "sending",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
            Self::Dropped => "dropped",
        }
    }

    pub fn is_over(self) -> bool {
        matches!(self, Self::Delivered | Self::Dropped)
    }
}

/// Who sends to a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub sender: SenderId,
    pub until: Timestamp,
}

/// A sink as the log knows it.
#[derive(Clone, Debug, Default)]
struct SinkNow {
    turn: Option<Turn>,
    /// It is left alone until then.
    rests_until: Option<Timestamp>,
    /// How often in a row it took nothing.
    failures: u32,
    /// Places of alerts that are still to be delivered.
    open: BTreeSet<usize>,
}

/// All alerts.
#[derive(Clone, Debug, Default)]
pub struct Alerts {
    raised: Vec<Noted<AlertsRaised>>,
    steps: Vec<Noted<AlertDelivery>>,
    /// In the order of the log.
    all: Vec<Alert>,
    places: HashMap<AlertId, usize>,
    /// Rule and cause.
    causes: HashSet<(String, String)>,
    through: BTreeMap<String, Sequence>,
    sinks: BTreeMap<String, SinkNow>,
    /// Alerts that are put off by themselves, by sink.
    again_at: HashMap<(AlertId, String), Timestamp>,
    /// Steps of each alert, by their places.
    steps_of: HashMap<AlertId, Vec<usize>>,
}

impl Alerts {
    /// In the order of the log.
    pub fn all(&self) -> &[Alert] {
        &self.all
    }

    pub fn find(&self, alert: AlertId) -> Option<&Alert> {
        self.all.get(*self.places.get(&alert)?)
    }

    /// The entry up to which a rule was asked; none where it never was.
    pub fn through(&self, rule: &str) -> Option<Sequence> {
        self.through.get(rule).copied()
    }

    /// Whether a rule told of a cause before.
    pub fn told(&self, rule: &str, cause: &str) -> bool {
        self.causes.contains(&(rule.to_owned(), cause.to_owned()))
    }

    /// The alerts that a sender may send to a sink now, in their order; none while it is another's turn, or the sink is left alone.
    pub fn due_for(&self, sink: &str, sender: SenderId, now: Timestamp) -> impl Iterator<Item = &Alert> {
        let is_free = |known: &&SinkNow| {
            let taken = known.turn.is_some_and(|turn| turn.sender != sender && turn.until > now);
            !taken && known.rests_until.is_none_or(|until| until <= now)
        };
        let open = self.sinks.get(sink).filter(is_free).into_iter().flat_map(|known| &known.open);
        open.filter_map(|place| self.all.get(*place)).filter(move |alert| {
            let again_at = self.again_at.get(&(alert.record.alert, sink.to_owned()));
            again_at.is_none_or(|again_at| *again_at <= now)
        })
    }

    /// How many alerts are still to be delivered to a sink.
    pub fn open(&self, sink: &str) -> usize {
        self.sinks.get(sink).map_or(0, |known| known.open.len())
    }

    /// How often in a row a sink took nothing, whatever it was offered.
    pub fn failures(&self, sink: &str) -> u32 {
        self.sinks.get(sink).map_or(0, |known| known.failures)
    }

    /// How far an alert was on its way to a sink at a sequence.
    pub fn on_its_way(&self, alert: AlertId, sink: &str, at: Sequence) -> OnItsWay {
        let mut way = OnItsWay::default();
        let steps = self.steps_of.get(&alert).into_iter().flatten();
        let steps = steps.filter_map(|place| self.steps.get(*place));
        for step in steps.filter(|step| step.record.sink == sink && step.by.sequence <= at) {
            if let Some(ended) = step.record.ended.as_ref().filter(|ended| ended.alert == alert)
                && !way.standing.is_over()
            {
                way.standing = match ended.outcome {
                    DeliveryOutcome::Delivered => Standing::Delivered,
                    DeliveryOutcome::Failed => Standing::Failed,
                    DeliveryOutcome::Dropped => Standing::Dropped,
                };
                way.why = ended.why.clone();
                way.again_at = ended.again_at.filter(|_| ended.of_alert);
                way.ended_at = Some(step.by.committed_at);
            }
            if step.record.sending.as_ref().is_some_and(|begun| begun.alert == alert) {
                way.attempts += 1;
                if !way.standing.is_over() {
                    way.standing = Standing::Sending;
                    way.again_at = None;
                }
            }
        }
        way
    }

    /// Until when a sink is left alone, as far as was known at a sequence.
    pub fn rests_until(&self, sink: &str, at: Sequence) -> Option<Timestamp> {
        let steps = self.steps.iter().rev().filter(|step| step.by.sequence <= at && step.record.sink == sink);
        let mut ended = steps.filter_map(|step| step.record.ended.as_ref());
        ended.find(|ended| !ended.of_alert)?.again_at
    }

    pub(super) fn raise(&mut self, record: &AlertsRaised, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        for rule in &record.rules {
            let through = self.through.entry(rule.clone()).or_insert(record.through);
            *through = (*through).max(record.through);
        }
        for alert in &record.alerts {
            let place = self.all.len();
            if self.places.insert(alert.alert, place).is_some() {
                return Err(repeated(by, "alert", alert.alert.to_string()));
            }
            for cause in &alert.causes {
                if !self.causes.insert((alert.rule.clone(), cause.clone())) {
                    return Err(repeated(by, "the cause of an alert,", cause.clone()));
                }
            }
            for sink in &alert.sinks {
                self.sinks.entry(sink.clone()).or_default().open.insert(place);
            }
            self.all.push(Alert { record: alert.clone(), by: by.clone() });
        }
        self.raised.push(Noted { record: record.clone(), by: by.clone() });
        Ok(())
    }

    pub(super) fn step(&mut self, record: &AlertDelivery, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let step = self.steps.len();
        let ended = record.ended.as_ref().map(|ended| ended.alert);
        let begun = record.sending.as_ref().map(|begun| begun.alert);
        for alert in ended.into_iter().chain(begun.filter(|begun| Some(*begun) != ended)) {
            if !self.places.contains_key(&alert) {
                return Err(unresolved(by, "alert", alert.to_string()));
            }
            self.steps_of.entry(alert).or_default().push(step);
        }
        let sink = self.sinks.entry(record.sink.clone()).or_default();
        if let Some(ended) = &record.ended {
            if ended.outcome != DeliveryOutcome::Failed
                && let Some(place) = self.places.get(&ended.alert)
            {
                sink.open.remove(place);
            }
            let of_alert = ended.again_at.filter(|_| ended.of_alert);
            match of_alert {
                Some(again_at) => self.again_at.insert((ended.alert, record.sink.clone()), again_at),
                None => self.again_at.remove(&(ended.alert, record.sink.clone())),
            };
            if !ended.of_alert {
                sink.rests_until = ended.again_at;
            }
            match (ended.outcome, ended.of_alert) {
                (DeliveryOutcome::Failed, false) => sink.failures = sink.failures.saturating_add(1),
                // That one is dropped says nothing of its sink.
                (DeliveryOutcome::Dropped, _) => {}
                _ => sink.failures = 0,
            }
        }
        match &record.sending {
            Some(begun) => sink.turn = Some(Turn { sender: record.sender, until: begun.until }),
            // Whoever comes too late does not end the turn of another.
            None if sink.turn.is_some_and(|turn| turn.sender == record.sender) => sink.turn = None,
            None => {}
        }
        self.steps.push(Noted { record: record.clone(), by: by.clone() });
        Ok(())
    }

    /// Those after a sequence, as records.
    pub(super) fn records_after(&self, after: Option<Sequence>) -> Vec<(Sequence, Record)> {
        let mut records = Vec::new();
        told(&mut records, after, &self.raised);
        told(&mut records, after, &self.steps);
        records
    }
}

impl State {
    pub fn alerts(&self) -> &Alerts {
        &self.alerts
    }
}
