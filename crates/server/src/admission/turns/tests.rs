use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

#[test]
fn one_with_a_thousand_requests_starves_nobody() {
    let mut turns = Turns::new(2, 2, 1_000);
    for ticket in 0..1_002 {
        assert_ne!(turns.arrive("busy", ticket, true), Arrival::Refused);
    }
    assert_eq!(turns.arrive("busy", 2_000, true), Arrival::Refused);
    // The queue is full, and all of it is of one: the newcomer takes the place of the last of them.
    assert_eq!(turns.arrive("other", 3_000, true), Arrival::Displaces(1_001));
    turns.end("busy");
    assert_eq!(turns.next(true), Some(3_000), "the next place is the newcomer's");
    turns.end("busy");
    assert_eq!(turns.next(true), Some(2), "of its own the first that came");
    assert_eq!((turns.running(), turns.waiting()), (2, 998));
}

#[test]
fn without_memory_one_runs_at_a_time() {
    let mut turns = Turns::new(8, 8, 8);
    assert_eq!(turns.arrive("a", 1, false), Arrival::Runs);
    assert_eq!(turns.arrive("a", 2, false), Arrival::Waits);
    assert_eq!(turns.next(false), None);
    turns.end("a");
    assert_eq!(turns.next(false), Some(2));
    // Who comes now does not pass those who wait.
    assert_eq!(turns.arrive("a", 3, false), Arrival::Waits);
    assert_eq!(turns.arrive("a", 4, true), Arrival::Waits);
    assert_eq!(turns.next(true), Some(3));
}

#[test]
fn one_that_runs_as_many_as_it_may_holds_up_nobody() {
    let mut turns = Turns::new(4, 2, 8);
    assert_eq!(turns.arrive("a", 1, true), Arrival::Runs);
    assert_eq!(turns.arrive("a", 2, true), Arrival::Runs);
    assert_eq!(turns.arrive("a", 3, true), Arrival::Waits);
    assert_eq!(turns.next(true), None);
    assert_eq!(turns.arrive("b", 4, true), Arrival::Runs);
    turns.end("a");
    assert_eq!(turns.next(true), Some(3));
}

#[derive(Clone, Debug)]
enum Step {
    Arrive(u8),
    End(Index),
    GiveUp(Index),
    Room(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..5_u8).prop_map(Step::Arrive),
        3 => any::<Index>().prop_map(Step::End),
        1 => any::<Index>().prop_map(Step::GiveUp),
        1 => any::<bool>().prop_map(Step::Room),
    ];
    prop::collection::vec(step, 1..300)
}

/// What a slow and plain reading of the rules holds of all that go through.
#[derive(Default)]
struct Model {
    running: Vec<(String, Ticket)>,
    waiting: Vec<(String, Ticket)>,
    last: HashMap<String, usize>,
    let_in: usize,
}

impl Model {
    fn lets_in(&mut self, name: &str, ticket: Ticket) {
        self.let_in += 1;
        self.last.insert(name.to_owned(), self.let_in);
        self.running.push((name.to_owned(), ticket));
    }

    fn runs_of(&self, name: &str) -> usize {
        self.running.iter().filter(|(of, _)| of == name).count()
    }

    fn waits_of(&self, name: &str) -> usize {
        self.waiting.iter().filter(|(of, _)| of == name).count()
    }

    /// Checks that it was fair to let this one in, and does so.
    fn chosen(&mut self, ticket: Ticket, max_each: usize) -> Result<(), TestCaseError> {
        let place = self.waiting.iter().position(|(_, waits)| *waits == ticket);
        let Some(place) = place else { return Err(TestCaseError::fail("it did not wait")) };
        let name = self.waiting[place].0.clone();
        let first = self.waiting.iter().find(|(of, _)| *of == name);
        prop_assert_eq!(first.map(|(_, first)| *first), Some(ticket), "not the first of its own");
        let mine = self.runs_of(&name);
        prop_assert!(mine < max_each, "{} runs as many as it may", name);
        for (other, _) in &self.waiting {
            prop_assert!(mine <= self.runs_of(other), "{} runs fewer than {}", other, name);
        }
        self.waiting.remove(place);
        self.lets_in(&name, ticket);
        Ok(())
    }
}

proptest! {
    #[test]
    fn limits_hold_and_turns_are_fair(
        steps in steps(),
        (max_running, max_each) in (1..6_usize).prop_flat_map(|many| (Just(many), 1..=many)),
        max_waiting in 0..12_usize,
    ) {
        let mut turns = Turns::new(max_running, max_each, max_waiting);
        let mut model = Model::default();
        let mut room = true;
        for (ticket, step) in steps.into_iter().enumerate() {
            let ticket = ticket as Ticket;
            match step {
                Step::Room(has) => room = has,
                Step::Arrive(of) => {
                    let name = format!("principal {of}");
                    match turns.arrive(&name, ticket, room) {
                        Arrival::Runs => {
                            let passed = model.waiting.iter().any(|(of, _)| model.runs_of(of) < max_each);
                            prop_assert!(!passed, "it passed those who wait");
                            prop_assert!(model.runs_of(&name) < max_each, "it runs more than it may");
                            model.lets_in(&name, ticket);
                        }
                        Arrival::Waits => model.waiting.push((name, ticket)),
                        Arrival::Displaces(last) => {
                            prop_assert_eq!(model.waiting.len(), max_waiting);
                            let place = model.waiting.iter().rposition(|(_, waits)| *waits == last).unwrap();
                            let loser = model.waiting[place].0.clone();
                            let most = model.waiting.iter().map(|(of, _)| model.waits_of(of)).max().unwrap();
                            prop_assert_eq!(model.waits_of(&loser), most);
                            prop_assert!(most >= model.waits_of(&name) + 2);
                            prop_assert!(!model.waiting[place + 1..].iter().any(|(of, _)| *of == loser));
                            model.waiting.remove(place);
                            model.waiting.push((name, ticket));
                        }
                        Arrival::Refused => {
                            prop_assert_eq!(model.waiting.len(), max_waiting);
                            let most = model.waiting.iter().map(|(of, _)| model.waits_of(of)).max();
                            prop_assert!(most.unwrap_or(0) < model.waits_of(&name) + 2);
                        }
                    }
                }
                Step::End(which) if !model.running.is_empty() => {
                    let (name, _) = model.running.remove(which.index(model.running.len()));
                    turns.end(&name);
                }
                Step::GiveUp(which) if !model.waiting.is_empty() => {
                    let (name, waits) = model.waiting.remove(which.index(model.waiting.len()));
                    prop_assert!(turns.give_up(&name, waits));
                    prop_assert!(!turns.give_up(&name, waits));
                }
                Step::End(_) | Step::GiveUp(_) => {}
            }
            while let Some(next) = turns.next(room) {
                model.chosen(next, max_each)?;
            }
            prop_assert_eq!((turns.running(), turns.waiting()), (model.running.len(), model.waiting.len()));
            prop_assert!(turns.running() <= max_running && turns.waiting() <= max_waiting);
            // No place is left empty while somebody waits for it.
            let idle = turns.running() < max_running && (room || turns.running() == 0);
            let could = model.waiting.iter().any(|(of, _)| model.runs_of(of) < max_each);
            prop_assert!(!idle || !could);
            let known: BTreeSet<_> =
                model.running.iter().chain(&model.waiting).map(|(name, _)| name.clone()).collect();
            prop_assert!(turns.principals.keys().eq(known.iter()), "one that is gone left something behind");
        }
    }

    /// Whatever the others do: one that waits and runs nothing is let in after at most one of each other.
    #[test]
    fn nobody_is_passed_twice_by_the_same(
        demands in prop::collection::vec(1..200_usize, 2..6),
        max_running in 1..5_usize,
        ends in prop::collection::vec(any::<Index>(), 600),
    ) {
        let mut turns = Turns::new(max_running, max_running, 10_000);
        let names: Vec<String> = (0..demands.len()).map(|of| format!("principal {of}")).collect();
        let mut running: Vec<usize> = Vec::new();
        let mut owners = Vec::new();
        let mut waits = demands.clone();
        // All of one come before the next does.
        for (of, demand) in demands.iter().enumerate() {
            for _ in 0..*demand {
                owners.push(of);
                if turns.arrive(&names[of], owners.len() as Ticket - 1, true) == Arrival::Runs {
                    running.push(of);
                    waits[of] -= 1;
                }
            }
        }
        let mut passed = vec![0; demands.len()];
        for end in ends {
            if running.is_empty() {
                break;
            }
            turns.end(&names[running.swap_remove(end.index(running.len()))]);
            while let Some(ticket) = turns.next(true) {
                let next = owners[ticket as usize];
                waits[next] -= 1;
                running.push(next);
                for of in 0..demands.len() {
                    let starved = waits[of] > 0 && !running.contains(&of);
                    passed[of] = if starved { passed[of] + 1 } else { 0 };
                    prop_assert!(passed[of] < demands.len(), "{} was passed {} times", names[of], passed[of]);
                }
            }
            prop_assert!(waits.iter().sum::<usize>() == 0 || running.len() == max_running);
        }
    }
}
