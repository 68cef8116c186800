//! Which situations a random test has met. A test that never meets what it is for proves nothing, so it says what it
//! must have met, and fails where that was too rare.

use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub struct Coverage(BTreeMap<String, u64>);

impl Coverage {
    pub fn saw(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    pub fn saw_if(&mut self, holds: bool, what: &str) {
        if holds {
            self.saw(what);
        }
    }

    pub fn merge(&mut self, other: Self) {
        for (what, count) in other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    /// Fails unless each of these was met so often.
    pub fn require(&self, least: u64, wanted: impl IntoIterator<Item = impl Into<String>>) {
        let count = |what: &String| self.0.get(what).copied().unwrap_or(0);
        let wanted: Vec<String> = wanted.into_iter().map(Into::into).collect();
        let rare: Vec<&String> = wanted.iter().filter(|what| count(what) < least).collect();
        assert!(rare.is_empty(), "met less than {least} times: {rare:?}\nof {:#?}", self.0);
    }
}

#[test]
#[should_panic(expected = "met less than 2 times: [\"once\", \"never\"]")]
fn what_was_too_rare_is_named() {
    let mut coverage = Coverage::default();
    for what in ["twice", "once", "twice"] {
        coverage.saw(what);
    }
    coverage.require(2, ["twice", "once", "never"]);
}
