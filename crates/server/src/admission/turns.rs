//! Whose turn it is: who runs, who waits, and who is next. Pure: no clock, no task, no lock.
//!
//! Of all principals that wait, the one with the fewest queries running is next; among equals the one that was let in longest
//! ago. So a thousand requests of one hold up another's by no more than what runs already. Within a principal the first that came
//! is the first. A principal that has as many running as one may have waits for its own, and holds up nobody else.

use std::collections::{BTreeMap, VecDeque};

/// Names one that waits.
pub type Ticket = u64;

/// What becomes of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It runs at once.
    Runs,
    /// It waits.
    Waits,
    /// It waits in the place of the last that came of whoever has most waiting.
    Displaces(Ticket),
    /// There is no place to wait.
    Refused,
}

pub struct Turns {
    max_running: usize,
    /// Of one principal.
    max_each: usize,
    max_waiting: usize,
    running: usize,
    waiting: usize,
    /// Principals that run or wait.
    principals: BTreeMap<String, Principal>,
    /// Counts those that were let in.
    let_in: u64,
}

#[derive(Default)]
struct Principal {
    running: usize,
    waiting: VecDeque<Ticket>,
    /// When it was let in last, by the count of all that were.
    last: u64,
}

impl Turns {
    /// At least one runs, and of each principal.
    pub fn new(max_running: usize, max_each: usize, max_waiting: usize) -> Self {
        Self {
            max_running: max_running.max(1),
            max_each: max_each.max(1),
            max_waiting,
            running: 0,
            waiting: 0,
            principals: BTreeMap::new(),
            let_in: 0,
        }
    }

    pub fn running(&self) -> usize {
        self.running
    }

    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// One comes. `room` says whether there is memory for one more; where none runs, one is let in whatever it says.
    pub fn arrive(&mut self, principal: &str, ticket: Ticket, room: bool) -> Arrival {
        let may = self.principals.get(principal).is_none_or(|of| of.running < self.max_each);
        if may && self.next_principal().is_none() && self.free(room) {
            self.run(principal);
            return Arrival::Runs;
        }
        let mut displaced = None;
        if self.waiting >= self.max_waiting {
            match self.displace(principal) {
                Some(last) => displaced = Some(last),
                None => return Arrival::Refused,
            }
        }
        self.principals.entry(principal.to_owned()).or_default().waiting.push_back(ticket);
        self.waiting += 1;
        displaced.map_or(Arrival::Waits, Arrival::Displaces)
    }

    /// Lets the next one in, where there is one and a place for it.
    pub fn next(&mut self, room: bool) -> Option<Ticket> {
        if !self.free(room) {
            return None;
        }
        let name = self.next_principal()?.clone();
        let ticket = self.principals.get_mut(&name)?.waiting.pop_front()?;
        self.waiting -= 1;
        self.run(&name);
        Some(ticket)
    }

    /// One that ran has ended.
    pub fn end(&mut self, principal: &str) {
        if let Some(of) = self.principals.get_mut(principal).filter(|of| of.running > 0) {
            of.running -= 1;
            self.running -= 1;
        }
        self.forget(principal);
    }

    /// One that waits does not any more. False where it does not wait: it was let in or displaced.
    pub fn give_up(&mut self, principal: &str, ticket: Ticket) -> bool {
        let Some(of) = self.principals.get_mut(principal) else { return false };
        let Some(place) = of.waiting.iter().position(|waits| *waits == ticket) else { return false };
        of.waiting.remove(place);
        self.waiting -= 1;
        self.forget(principal);
        true
    }

    /// The same with nobody waiting.
    pub fn without_waiting(mut self) -> Self {
        self.principals.retain(|_, of| {
            of.waiting.clear();
            of.running > 0
        });
        self.waiting = 0;
        self
    }

    /// Whose turn it is of those that wait and may have one more running.
    fn next_principal(&self) -> Option<&String> {
        let waits = |of: &&Principal| !of.waiting.is_empty() && of.running < self.max_each;
        let waiting = self.principals.iter().filter(|(_, of)| waits(of));
        waiting.min_by_key(|(_, of)| (of.running, of.last)).map(|(name, _)| name)
    }

    fn free(&self, room: bool) -> bool {
        self.running < self.max_running && (room || self.running == 0)
    }

    fn run(&mut self, principal: &str) {
        self.let_in += 1;
        self.running += 1;
        let of = self.principals.entry(principal.to_owned()).or_default();
        of.running += 1;
        of.last = self.let_in;
    }

    /// Takes the last that came from whoever has most waiting, where that is two more than the principal has: of two that have as
    /// many, neither gains a place by it.
    fn displace(&mut self, principal: &str) -> Option<Ticket> {
        let has = self.principals.get(principal).map_or(0, |of| of.waiting.len());
        let (_, most) = self.principals.iter_mut().max_by_key(|(_, of)| of.waiting.len())?;
        if most.waiting.len() < has + 2 {
            return None;
        }
        let last = most.waiting.pop_back();
        self.waiting -= usize::from(last.is_some());
        last
    }

    /// One that neither runs nor waits leaves nothing behind.
    fn forget(&mut self, principal: &str) {
        if self.principals.get(principal).is_some_and(|of| of.running == 0 && of.waiting.is_empty()) {
            self.principals.remove(principal);
        }
    }
}

#[cfg(test)]
mod tests;
