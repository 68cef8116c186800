//! Sampling bias: whether the entities and values of a spine are those that are served.
//!
//! The served population has each entity as often as it was met there; the spine has it once a row. What is measured is a function of
//! both counts, and of the profiles of both ([`super::measure`]).

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use super::distribution::{Distribution, Group, LEAST_EXPECTED};
use super::measures::CHANCE;
use super::significance::chi_square_p;
use crate::definition::quality::{Measure, Quality, Thresholds};

/// How often each entity is met, by its canonical key.
pub type Entities = HashMap<Vec<u8>, u64>;

/// What of a feature tells of a bias.
pub const MEASURES: [Measure; 5] =
    [Measure::Psi, Measure::JensenShannon, Measure::Wasserstein, Measure::ChiSquare, Measure::NullRate];

/// The entities of a spine beside those that are served.
#[derive(Clone, Debug, PartialEq)]
pub struct Population {
    /// Of each entity; those that are served are the baseline. In the order of the hash of their keys, on which nothing bears.
    all: Vec<Group>,
}

impl Population {
    pub fn of(served: &Entities, spine: &Entities) -> Self {
        let count = |of: &Entities, key: &[u8]| of.get(key).copied().unwrap_or_default();
        let alone = spine.keys().filter(|key| !served.contains_key(*key));
        let mut all: Vec<(u64, &Vec<u8>)> =
            served.keys().chain(alone).map(|key| (xxh3_64(key), key)).collect();
        all.sort_unstable();
        let group = |key: &[u8]| Group { baseline: count(served, key), batch: count(spine, key) };
        Self { all: all.into_iter().map(|(_, key)| group(key)).collect() }
    }

    fn entities(&self, of: impl Fn(&Group) -> bool) -> u64 {
        self.all.iter().filter(|group| of(group)).count() as u64
    }

    /// Different entities that are served.
    pub fn served(&self) -> u64 {
        self.entities(|group| group.baseline > 0)
    }

    /// Different entities of the spine.
    pub fn in_spine(&self) -> u64 {
        self.entities(|group| group.batch > 0)
    }

    /// Different entities of the spine that are served.
    pub fn shared(&self) -> u64 {
        self.entities(|group| group.baseline > 0 && group.batch > 0)
    }

    /// The share of the spine's rows whose entity is not served; none of no rows.
    pub fn unserved(&self) -> Option<f64> {
        let rows: u64 = self.all.iter().map(|group| group.batch).sum();
        let strange: u64 = self.all.iter().filter(|group| group.baseline == 0).map(|group| group.batch).sum();
        (rows > 0).then(|| strange as f64 / rows as f64)
    }

    /// The share of served entities that the spine has no row of; none where nothing is served.
    pub fn left_out(&self) -> Option<f64> {
        let served = self.served();
        (served > 0).then(|| (served - self.shared()) as f64 / served as f64)
    }

    /// The Jensen-Shannon distance to base 2 of the shares of entities.
    pub fn jensen_shannon(&self) -> Option<f64> {
        let both =
            self.all.iter().any(|group| group.baseline > 0) && self.all.iter().any(|group| group.batch > 0);
        both.then(|| Distribution { groups: self.all.clone() }.jensen_shannon())
    }

    /// Cohen's w of the spine's rows against the served entities' shares, 0 where chance alone gives as much with p ≥ 0.0001. Entities are
    /// taken together, in the order of the hash of their keys, until five rows are expected of them; none where that gives no two groups.
    pub fn entity_share(&self) -> Option<f64> {
        let groups = self.pooled();
        let (statistic, freedom, rows) = Distribution { groups }.chi_square();
        if freedom == 0 || rows == 0 {
            return None;
        }
        let chance = chi_square_p(statistic, freedom);
        Some(if chance < CHANCE { (statistic / rows as f64).sqrt() } else { 0.0 })
    }

    fn pooled(&self) -> Vec<Group> {
        let known = || self.all.iter().filter(|group| group.baseline > 0);
        let served: u64 = known().map(|group| group.baseline).sum();
        let rows: u64 = known().map(|group| group.batch).sum();
        let expected = |baseline: u64| baseline as f64 / served.max(1) as f64 * rows as f64;
        let mut groups: Vec<Group> = Vec::new();
        let mut open = Group { baseline: 0, batch: 0 };
        for group in known() {
            open.baseline += group.baseline;
            open.batch += group.batch;
            if expected(open.baseline) >= LEAST_EXPECTED {
                groups.push(std::mem::replace(&mut open, Group { baseline: 0, batch: 0 }));
            }
        }
        // What is left is too little for a group of its own.
        if let Some(last) = groups.last_mut() {
            last.baseline += open.baseline;
            last.batch += open.batch;
        }
        groups
    }
}

/// What holds for a measure of the entities: its name, and above which it warns and fails.
pub const OF_ENTITIES: [(&str, Thresholds); 4] = [
    ("entity_share", Thresholds { warn: Some(0.5), fail: Some(2.0) }),
    ("entity_jensen_shannon", Thresholds { warn: None, fail: None }),
    ("unserved", Thresholds { warn: Some(0.05), fail: Some(0.5) }),
    // Few of many are no bias by themselves.
    ("left_out", Thresholds { warn: None, fail: None }),
];

/// What holds for a measure of a feature: what the view declares of its checks, else the default. A spine is chosen, and a batch comes as it
/// is, so that less is borne.
pub fn thresholds(rules: Option<&Quality>, feature: &str, measure: Measure) -> Thresholds {
    let declared = rules.and_then(|rules| rules.declared(Some(feature), measure));
    declared.unwrap_or_else(|| {
        let (warn, fail) = match measure {
            Measure::Psi => (Some(0.25), Some(2.0)),
            Measure::Wasserstein => (Some(0.5), Some(3.0)),
            Measure::ChiSquare => (Some(0.5), Some(2.0)),
            Measure::NullRate => (Some(0.1), Some(0.45)),
            _ => (None, None),
        };
        Thresholds { warn, fail }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entities(counts: impl IntoIterator<Item = (u32, u64)>) -> Entities {
        counts.into_iter().map(|(key, count)| (key.to_le_bytes().to_vec(), count)).collect()
    }

    #[test]
    fn entities_are_counted() {
        let population =
            Population::of(&entities([(1, 12), (2, 12), (3, 6)]), &entities([(1, 5), (3, 1), (9, 4)]));
        assert_eq!((population.served(), population.in_spine(), population.shared()), (3, 3, 2));
        assert_eq!((population.unserved(), population.left_out()), (Some(0.4), Some(1.0 / 3.0)));
        let nobody = Population::of(&entities([]), &entities([(1, 2)]));
        assert_eq!((nobody.unserved(), nobody.left_out(), nobody.entity_share()), (Some(1.0), None, None));
        assert_eq!(
            (nobody.jensen_shannon(), Population::of(&entities([(1, 1)]), &entities([])).unserved()),
            (None, None)
        );
    }

    #[test]
    fn a_spine_like_what_is_served_has_no_bias_and_one_that_prefers_has() {
        let served = || entities((0..1_000).map(|key| (key, 12)));
        let alike = Population::of(&served(), &entities((0..1_000).map(|key| (key, 3 + u64::from(key % 3)))));
        assert_eq!(alike.entity_share(), Some(0.0));
        // Two in three rows are of one entity in ten.
        let prefers = |key: u32| if key.is_multiple_of(10) { 20 } else { 1 };
        let biased = Population::of(&served(), &entities((0..1_000).map(|key| (key, prefers(key)))));
        assert!(biased.entity_share().unwrap() > 1.0, "{:?}", biased.entity_share());
        assert_eq!((biased.unserved(), biased.left_out()), (Some(0.0), Some(0.0)));
        // A sample of some, each once, is none: of a thousand entities two hundred, by chance.
        let some = Population::of(
            &served(),
            &entities((0..1_000).filter(|key| key * 7_919 % 5 == 0).map(|key| (key, 1))),
        );
        assert_eq!(some.entity_share(), Some(0.0));
        assert_eq!(some.left_out(), Some(0.8));
    }

    #[test]
    fn at_a_known_point() {
        // 60 and 40 of 100 against a half each: (0.1² / 0.5) · 2 · 100 = 4, and p = 0.0455.
        let served = entities([(1, 50), (2, 50)]);
        let population = Population::of(&served, &entities([(1, 60), (2, 40)]));
        assert_eq!(population.entity_share(), Some(0.0));
        // A hundred times as many: the same w, and no chance any more.
        let many = Population::of(&served, &entities([(1, 6_000), (2, 4_000)]));
        assert!((many.entity_share().unwrap() - 0.2).abs() < 1e-12, "{:?}", many.entity_share());
    }
}
