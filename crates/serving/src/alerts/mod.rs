//! Alerts: rules that look at the log and at how things stand, and messages on their way to sinks.
//!
//! The log is the queue. Rules are asked about each entry once, what they find is put on record, and each step on the way to a sink is
//! too; so a restart loses nothing, and several servers share the work. `docs/alerts.md` says what is promised.

mod delivery;
mod entries;
mod message;
mod standing;

use std::sync::Arc;
use std::time::Duration;

use async_recursion::async_recursion;
use async_trait::async_trait;
use catalog::alerts::{self, Found};
use catalog::following::entries_between;
use catalog::records::RaisedAlert;
use catalog::{Author, State};
use feature::definition::alerts::{Alerts, Condition, Rule};
use feature::policy::Action;
use feature::{AlertId, Name, SenderId, Sequence, Timestamp};
use storage::environment;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::emission::Refusal;
use crate::error::{Error, Kind, Result};
use crate::reconcile::Problem;
use crate::retrieve::Serving;

pub use message::Message;

/// How often the end of the log is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Entries that are read at once.
const PART: u64 = 1_000;

/// One end of the way.
#[async_trait]
pub trait Receiver: Send + Sync {
    /// Hands over a message, for the `attempt`th time, at an instant of this machine's clock.
    async fn receive(&self, message: &Message, attempt: u32, at: Timestamp) -> Result<(), Refusal>;

    /// The longest that this takes.
    fn takes(&self) -> Duration;
}

/// Rules at work for one store, by one process.
pub struct Alerting {
    serving: Serving,
    author: Author,
    rules: Alerts,
    receivers: Vec<(Name, Box<dyn Receiver>)>,
    sender: SenderId,
    /// Told when something was raised.
    raised: Notify,
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub raised: usize,
    pub delivered: usize,
    /// To how many sinks something is still to be delivered, each alert counted.
    pub open: usize,
}

/// Where this process stands.
#[derive(Default)]
struct Looked {
    /// Each entry up to this one was looked at.
    until: Option<Sequence>,
    /// When how things stand was looked at last, and the objects of the store.
    stood: Option<Instant>,
    objects: Option<Instant>,
}

impl Alerting {
    /// # Errors
    /// `Invalid` for a sink without a receiver.
    pub fn new(
        serving: Serving,
        rules: Alerts,
        receivers: Vec<(Name, Box<dyn Receiver>)>,
        author: Author,
    ) -> Result<Self> {
        for sink in &rules.sinks {
            if !receivers.iter().any(|(name, _)| *name == sink.name) {
                return Err(Error::new(Kind::Invalid, format!("the sink `{}` has no receiver", sink.name)));
            }
        }
        let sender = environment::random();
        Ok(Self { serving, author, rules, receivers, sender, raised: Notify::new() })
    }

    /// Looks and sends until it is told to stop; an attempt that runs then ends first.
    #[async_recursion]
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        let looking = self.look_for_ever(stop.clone());
        let sending = self
            .receivers
            .iter()
            .map(|(sink, receiver)| self.send_for_ever(sink.as_str(), receiver.as_ref(), stop.clone()));
        tokio::join!(looking, futures::future::join_all(sending));
    }

    /// One look at everything, and what is due sent; what fails is tried again for as long as `patience`.
    ///
    /// # Errors
    /// Those of the store.
    #[async_recursion]
    pub async fn pass(&self, patience: Duration) -> Result<Passed> {
        let mut passed = Passed { raised: self.look(&mut Looked::default()).await?, ..Passed::default() };
        let until = Instant::now() + patience;
        let (_never, stop) = watch::channel(false);
        loop {
            for (sink, receiver) in &self.receivers {
                passed.delivered += self.send_due(sink.as_str(), receiver.as_ref(), &stop).await?;
            }
            let state = self.serving.catalog().refresh().await?;
            passed.open = self.receivers.iter().map(|(sink, _)| state.alerts().open(sink.as_str())).sum();
            if passed.open == 0 || Instant::now() + LOOK_EVERY > until {
                return Ok(passed);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look_for_ever(&self, mut stop: watch::Receiver<bool>) {
        let mut looked = Looked::default();
        loop {
            // Cut off, a look has told nothing, and the next tells it.
            let outcome = tokio::select! {
                outcome = self.look(&mut looked) => outcome,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, "rules of alerts could not be asked; they are asked again");
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Asks all rules about what is new, and then about how things stand. How many alerts were raised.
    async fn look(&self, looked: &mut Looked) -> Result<usize> {
        if looked.until.is_none() {
            self.begin_new().await?;
        }
        let mut raised = 0;
        loop {
            let state = self.serving.catalog().refresh().await?;
            let head = state.head.sequence;
            let after = looked.until.unwrap_or_else(|| self.begin(&state));
            let until = head.min(Sequence(after.0.saturating_add(PART)));
            let entries = entries_between(self.serving.catalog(), after, until).await?;
            let mut found = Vec::new();
            for rule in &self.rules.rules {
                let asked = state.alerts().through(rule.name.as_str()).unwrap_or(head);
                let new = entries.iter().filter(|entry| entry.by.sequence > asked);
                found.extend(entries::of_entries(rule, new, &state));
            }
            raised += self.tell(found, until).await?;
            looked.until = Some(until);
            if until == head {
                // Last, since it may take long and may fail: what happened is told before.
                let found = self.standing(&state, looked).await;
                if !found.is_empty() {
                    raised += self.tell(found, head).await?;
                }
                return Ok(raised);
            }
        }
    }

    /// Puts on record that rules which never were asked begin at the head: of what was before it they tell nothing, however far back
    /// the others go on.
    async fn begin_new(&self) -> Result<()> {
        let state = self.serving.catalog().refresh().await?;
        let rules = self.rules.rules.iter().map(|rule| rule.name.to_string());
        let new: Vec<String> = rules.filter(|rule| state.alerts().through(rule).is_none()).collect();
        if new.is_empty() {
            return Ok(());
        }
        let found = Found { rules: new, through: state.head.sequence, alerts: Vec::new() };
        alerts::raise(self.serving.catalog(), &found, &self.author).await?;
        Ok(())
    }

    /// The entry after which some rule was not asked yet.
    fn begin(&self, state: &State) -> Sequence {
        let known = |rule: &Rule| state.alerts().through(rule.name.as_str());
        self.rules.rules.iter().filter_map(known).min().unwrap_or(state.head.sequence)
    }

    async fn tell(&self, found: Vec<RaisedAlert>, through: Sequence) -> Result<usize> {
        let rules = self.rules.rules.iter().map(|rule| rule.name.to_string()).collect();
        let found = Found { rules, through, alerts: found };
        let raised = alerts::raise(self.serving.catalog(), &found, &self.author).await?;
        if raised > 0 {
            tracing::info!(raised, "alerts were raised");
            self.raised.notify_waiters();
        }
        Ok(raised)
    }

    /// What rules say of how things stand, where it is time to look. Where a rule cannot be asked the log of this process says so, and
    /// the others are.
    async fn standing(&self, state: &State, looked: &mut Looked) -> Vec<RaisedAlert> {
        let every = duration(self.rules.every);
        if looked.stood.is_some_and(|stood| stood.elapsed() < every) {
            return Vec::new();
        }
        // Before the attempt: what fails is not tried again each second.
        looked.stood = Some(Instant::now());
        let now = self.serving.catalog().store().clock().now();
        let mut found = Vec::new();
        for rule in &self.rules.rules {
            if let Condition::Freshness { after } = rule.on {
                found.extend(standing::stale(rule, after, state, now));
            }
        }
        if self.rules.rules.iter().any(standing::needs_graph) {
            found.extend(self.of_graph(now, looked).await);
        }
        found
    }

    /// What rules say of the lineage graph, and of the objects of the store where it is time to look.
    async fn of_graph(&self, now: Timestamp, looked: &mut Looked) -> Vec<RaisedAlert> {
        let (state, graph) = match self.serving.graph(None).await {
            Ok(found) => found,
            Err(error) => {
                self.not_asked(standing::needs_graph, &error);
                return Vec::new();
            }
        };
        let dangling = lineage::dangling(&state, &graph);
        let mut problems: Vec<Problem> = dangling.iter().cloned().map(Problem::from).collect();
        if self.is_time_for_objects(looked) {
            looked.objects = Some(Instant::now());
            match self.serving.reconcile(false).await {
                Ok(report) => problems = report.problems,
                Err(error) => {
                    self.not_asked(
                        |rule| matches!(rule.on, Condition::Dangling { objects: Some(_), .. }),
                        &error,
                    );
                }
            }
        }
        let mut found = Vec::new();
        for rule in &self.rules.rules {
            match rule.on {
                Condition::MissingLineage { after } => {
                    found.extend(standing::unlinked(rule, after, &dangling, &state, now));
                }
                Condition::Dangling { deployed, .. } => {
                    found.extend(standing::dangling(rule, deployed, &problems, &state));
                }
                _ => {}
            }
        }
        found
    }

    /// Tells the log of this process which rules could not be asked, or not wholly.
    fn not_asked(&self, which: impl Fn(&Rule) -> bool, error: &Error) {
        for rule in self.rules.rules.iter().filter(|rule| which(rule)) {
            tracing::warn!(%error, rule = %rule.name, "a rule could not be asked how things stand; it is asked again");
        }
    }

    fn is_time_for_objects(&self, looked: &Looked) -> bool {
        let wanted = self.rules.rules.iter().filter_map(|rule| match rule.on {
            Condition::Dangling { objects, .. } => objects,
            _ => None,
        });
        let often = wanted.map(duration).min();
        often.is_some_and(|often| looked.objects.is_none_or(|last| last.elapsed() >= often))
    }
}

impl Serving {
    /// Says that an alert need not be delivered to the sinks that it has not reached. To how many it was still to go.
    ///
    /// # Errors
    /// `NotFound` for an alert that is not known; `Invalid` for one that is nowhere on its way, and for no reason; `Forbidden` where
    /// the author may not govern the store.
    #[async_recursion]
    pub async fn drop_alert(
        &self,
        alert: AlertId,
        reason: &str,
        author: &Author,
    ) -> Result<(usize, Sequence)> {
        let state = self.catalog().refresh().await?;
        let allowed = self.require_govern(&state, author);
        let words = || format!("drop alert {alert}");
        self.on_record(author, Action::Govern, None, words, allowed).await?;
        let sender = environment::random();
        Ok(alerts::drop_alert(self.catalog(), alert, sender, reason, author).await?)
    }
}

fn duration(span: feature::Span) -> Duration {
    Duration::from_micros(u64::try_from(span.micros()).unwrap_or(0))
}

/// A file of rules.
///
/// # Errors
/// `Invalid` with all that is wrong, each with its line.
pub fn read_rules(file: &str, text: &str) -> Result<Arc<Alerts>> {
    feature::definition::parse_alerts(file, text)
        .map(Arc::new)
        .map_err(|errors| Error::new(Kind::Invalid, errors.to_string()))
}
