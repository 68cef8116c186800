//! Messages on their way to one sink: begun on record, sent, and what came of it on record before the next.

use std::time::Duration;

use catalog::alerts::{self, Attempt};
use catalog::records::{DeliveryEnded, DeliveryOutcome};
use feature::Timestamp;
use tokio::sync::watch;

use super::{Alerting, LOOK_EVERY, Message, Receiver};
use crate::emission::Refusal;
use crate::error::Result;

/// The pause after a first failure, and the longest; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The same for an alert that its receiver refuses: somebody must mend something first.
const FIRST_REFUSED: Duration = Duration::from_secs(60);
const LONGEST_REFUSED: Duration = Duration::from_secs(3_600);
/// The longest that a receiver may ask to be left alone.
const LONGEST_ASKED: Duration = Duration::from_secs(3_600);
/// What others wait beyond two attempts before they believe that a sender is gone.
const MARGIN: Duration = Duration::from_secs(5);
/// How long the outcome of an attempt is tried to be put on record once the process stops.
const LAST: Duration = Duration::from_secs(5);

impl Alerting {
    pub(super) async fn send_for_ever(
        &self,
        sink: &str,
        receiver: &dyn Receiver,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            let raised = self.raised.notified();
            if let Err(error) = self.send_due(sink, receiver, &stop).await {
                tracing::warn!(%error, sink, "alerts could not be sent; it is tried again");
            }
            tokio::select! {
                () = raised => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            if *stop.borrow() {
                return;
            }
        }
    }

    /// Sends what is due, until nothing is or it is told to stop. How many were delivered.
    pub(super) async fn send_due(
        &self,
        sink: &str,
        receiver: &dyn Receiver,
        stop: &watch::Receiver<bool>,
    ) -> Result<usize> {
        let catalog = self.serving.catalog();
        let now = catalog.store().clock().now();
        // Looked at without asking the log: who looks for what is new does that each second.
        if catalog.state().alerts().due_for(sink, self.sender, now).next().is_none() {
            return Ok(0);
        }
        let mut delivered = 0;
        let mut next = self.step(sink, receiver, None, stop).await?;
        while let Some(attempt) = next {
            let message = Message::of(&attempt.alert, catalog.state().store)?;
            let now = catalog.store().clock().now();
            let outcome = receiver.receive(&message, attempt.number, now).await;
            delivered += usize::from(outcome.is_ok());
            let ended = ended(&attempt, outcome, catalog.store().clock().now());
            if let Some(why) = &ended.why {
                let (alert, attempt) = (ended.alert, attempt.number);
                tracing::warn!(%alert, sink, attempt, "an alert was not delivered: {why}");
            }
            next = self.put_on_record(sink, receiver, &ended, stop).await?;
        }
        Ok(delivered)
    }

    /// What is not on record is sent again by the next, so this is tried until it is.
    async fn put_on_record(
        &self,
        sink: &str,
        receiver: &dyn Receiver,
        ended: &DeliveryEnded,
        stop: &watch::Receiver<bool>,
    ) -> Result<Option<Attempt>> {
        let mut pause = FIRST_PAUSE;
        let mut stopping: Option<tokio::time::Instant> = None;
        loop {
            let error = match self.step(sink, receiver, Some(ended), stop).await {
                Ok(next) => return Ok(next),
                Err(error) => error,
            };
            if *stop.borrow() && stopping.get_or_insert_with(tokio::time::Instant::now).elapsed() > LAST {
                return Err(error);
            }
            tracing::warn!(%error, sink, "what became of an alert could not be recorded; it is tried again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn step(
        &self,
        sink: &str,
        receiver: &dyn Receiver,
        ended: Option<&DeliveryEnded>,
        stop: &watch::Receiver<bool>,
    ) -> Result<Option<Attempt>> {
        let catalog = self.serving.catalog();
        let turn = receiver.takes() * 2 + MARGIN;
        let until = later(catalog.store().clock().now(), turn);
        let until = (!*stop.borrow()).then_some(until);
        Ok(alerts::step(catalog, sink, self.sender, ended, until, &self.author).await?)
    }
}

fn ended(attempt: &Attempt, outcome: Result<(), Refusal>, now: Timestamp) -> DeliveryEnded {
    let alert = attempt.alert.record.alert;
    let failed = |why: String, pause: Duration, of_alert: bool| DeliveryEnded {
        alert,
        outcome: DeliveryOutcome::Failed,
        why: Some(why),
        again_at: Some(later(now, pause)),
        of_alert,
    };
    match outcome {
        Ok(()) => DeliveryEnded {
            alert,
            outcome: DeliveryOutcome::Delivered,
            why: None,
            again_at: None,
            of_alert: false,
        },
        Err(Refusal::NotNow { why, after }) => {
            let pause = grown(FIRST_PAUSE, attempt.failures.saturating_add(1), LONGEST_PAUSE);
            failed(why, after.map_or(pause, |asked| asked.min(LONGEST_ASKED).max(pause)), false)
        }
        Err(Refusal::Never { why }) => {
            failed(why, grown(FIRST_REFUSED, attempt.number, LONGEST_REFUSED), true)
        }
    }
}

/// Twice as long after each attempt.
fn grown(first: Duration, attempt: u32, longest: Duration) -> Duration {
    let factor = 1u32.checked_shl(attempt.saturating_sub(1)).filter(|_| attempt <= 16);
    factor.map_or(longest, |factor| (first * factor).min(longest))
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    Timestamp(now.micros().saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest() {
        let pauses: Vec<u64> =
            (1..=11).map(|attempt| grown(FIRST_PAUSE, attempt, LONGEST_PAUSE).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(grown(FIRST_PAUSE, u32::MAX, LONGEST_PAUSE), LONGEST_PAUSE);
    }
}
