//! Two profiles of one feature, cut into the same groups.

use std::collections::BTreeMap;

use crate::profile::{FeatureProfile, Numbers, Values};

/// A group of values, and how many of each profile are in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    pub baseline: u64,
    pub batch: u64,
}

/// How the values of a batch and of its baseline lie in the same groups.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    pub groups: Vec<Group>,
}

/// Groups that the baseline's numbers are cut into, as even as its bins allow.
const TENTHS: usize = 10;

/// What stands for a group without values, so that its logarithm is finite.
const LEAST_SHARE: f64 = 0.0001;

/// Rows that chi-square expects at least in a group of several values.
pub(super) const LEAST_EXPECTED: f64 = 5.0;
/// The standard error of an estimate of how many different values there are.
const DISTINCT_ERROR: f64 = 0.023;

impl Distribution {
    /// Groups by the tenths of the baseline for numbers, open at both ends; by value for categories, and by ranges of their hashes where there are
    /// more than a profile keeps. None where there are no values, or too few of such for two groups.
    pub fn of(baseline: &FeatureProfile, batch: &FeatureProfile) -> Option<Self> {
        let groups = match (&baseline.numbers, &batch.numbers) {
            (Some(baseline), Some(batch)) => by_tenths(baseline, batch),
            _ => by_value(baseline, batch)?,
        };
        let found = Self { groups };
        let (baseline, batch) = found.totals();
        (baseline > 0 && batch > 0).then_some(found)
    }

    fn totals(&self) -> (u64, u64) {
        self.groups
            .iter()
            .fold((0, 0), |(baseline, batch), group| (baseline + group.baseline, batch + group.batch))
    }

    /// Shares of the baseline and of the batch.
    pub fn shares(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let (baseline, batch) = self.totals();
        self.groups
            .iter()
            .map(move |group| (group.baseline as f64 / baseline as f64, group.batch as f64 / batch as f64))
    }

    /// Population stability index: Σ (q − p) ln (q / p), shares below 0.0001 taken as that.
    pub fn psi(&self) -> f64 {
        let term = |(p, q): (f64, f64)| {
            let (p, q) = (p.max(LEAST_SHARE), q.max(LEAST_SHARE));
            (q - p) * (q / p).ln()
        };
        self.shares().map(term).sum()
    }

    /// What PSI is to be expected by chance alone, twice over: its mean is (groups − 1) (1/n + 1/m).
    pub fn psi_by_chance(&self) -> f64 {
        let (baseline, batch) = self.totals();
        2.0 * (self.groups.len() as f64 - 1.0) * (1.0 / baseline as f64 + 1.0 / batch as f64)
    }

    /// Jensen-Shannon distance to the base 2: 0 where the shares are the same, 1 where no group has values of both.
    pub fn jensen_shannon(&self) -> f64 {
        let part = |share: f64, middle: f64| if share > 0.0 { share * (share / middle).log2() } else { 0.0 };
        let divergence: f64 = self
            .shares()
            .map(|(p, q)| {
                let middle = (p + q) / 2.0;
                part(p, middle) + part(q, middle)
            })
            .sum();
        (divergence / 2.0).max(0.0).sqrt()
    }

    /// Pearson's statistic of the batch against the baseline's shares, over the groups that the baseline has, with its degrees
    /// of freedom and the rows of the batch in them.
    pub fn chi_square(&self) -> (f64, usize, u64) {
        let known = || self.groups.iter().filter(|group| group.baseline > 0);
        let baseline: u64 = known().map(|group| group.baseline).sum();
        let rows: u64 = known().map(|group| group.batch).sum();
        let term = |group: &Group| {
            let expected = group.baseline as f64 / baseline as f64 * rows as f64;
            (group.batch as f64 - expected).powi(2) / expected
        };
        let statistic = if rows == 0 { 0.0 } else { known().map(term).sum() };
        (statistic, known().count().saturating_sub(1), rows)
    }

    /// The share of the batch in groups that the baseline lacks.
    pub fn new_share(&self) -> f64 {
        self.shares().filter(|(p, _)| *p == 0.0).map(|(_, q)| q).sum()
    }
}

fn by_tenths(baseline: &Numbers, batch: &Numbers) -> Vec<Group> {
    // Both have the same bins, so that a bin of one is a bin of the other or none of it.
    let mut bins: BTreeMap<u64, Group> = BTreeMap::new();
    let mut add = |numbers: &Numbers, of_batch: bool| {
        for bin in numbers.bins() {
            let group = bins.entry(ascending(bin.least)).or_insert(Group { baseline: 0, batch: 0 });
            let side = if of_batch { &mut group.batch } else { &mut group.baseline };
            *side += bin.count;
        }
    };
    add(baseline, false);
    add(batch, true);
    let total: u64 = bins.values().map(|group| group.baseline).sum();
    let mut groups = vec![Group { baseline: 0, batch: 0 }];
    let (mut before, mut until) = (0u64, 1);
    for bin in bins.into_values() {
        // The next group begins with the first bin of the baseline after its tenth is full.
        if bin.baseline > 0 && before * TENTHS as u64 >= until as u64 * total {
            groups.push(Group { baseline: 0, batch: 0 });
            until = (before * TENTHS as u64 / total.max(1)) as usize + 1;
        }
        if let Some(last) = groups.last_mut() {
            last.baseline += bin.baseline;
            last.batch += bin.batch;
        }
        before += bin.baseline;
    }
    groups
}

/// The bits of a number, in the order of numbers.
fn ascending(number: f64) -> u64 {
    let bits = number.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | (1 << 63) }
}

fn by_value(baseline: &FeatureProfile, batch: &FeatureProfile) -> Option<Vec<Group>> {
    let mut groups: BTreeMap<u64, Group> = BTreeMap::new();
    for value in baseline.values.frequent() {
        groups.insert(value.hash, Group { baseline: value.count, batch: 0 });
    }
    for value in batch.values.frequent() {
        groups.entry(value.hash).or_insert(Group { baseline: 0, batch: 0 }).batch += value.count;
    }
    let kept_until = [&baseline.values, &batch.values].into_iter().filter_map(Values::kept_until);
    match kept_until.min() {
        None => Some(groups.into_values().collect()),
        Some(until) => by_ranges(&groups, until, baseline.count(), batch.count()),
    }
}

/// Groups by ranges of hashes, up to the one to which both keep every value, and one of all beyond: exact counts, whatever is kept. A range
/// ends where five rows are expected of it, so that values which all differ make no group each, and one that is new falls into the range of its hash.
fn by_ranges(values: &BTreeMap<u64, Group>, until: u64, baseline: u64, batch: u64) -> Option<Vec<Group>> {
    let expects_enough = |of: u64| of as f64 * batch as f64 >= LEAST_EXPECTED * baseline.max(1) as f64;
    let mut groups: Vec<Group> = Vec::new();
    let mut open = Group { baseline: 0, batch: 0 };
    let mut beyond = Group { baseline, batch };
    for value in values.range(..=until).map(|(_, value)| value) {
        open.baseline += value.baseline;
        open.batch += value.batch;
        if expects_enough(open.baseline) {
            beyond.baseline = beyond.baseline.saturating_sub(open.baseline);
            beyond.batch = beyond.batch.saturating_sub(open.batch);
            groups.push(std::mem::replace(&mut open, Group { baseline: 0, batch: 0 }));
        }
    }
    // What is left of the ranges is too little for a group of its own, and goes with what is beyond; as may that with the last.
    match groups.last_mut() {
        Some(last) if !expects_enough(beyond.baseline) => {
            last.baseline += beyond.baseline;
            last.batch += beyond.batch;
        }
        _ => groups.push(beyond),
    }
    (groups.len() > 1).then_some(groups)
}

/// The share of a batch's values that the baseline lacks; none where the baseline has more than are kept. Where the batch alone has, at least so
/// many: those that are kept, or as many rows as there must be different values beside the baseline's.
pub(super) fn new_share(baseline: &FeatureProfile, batch: &FeatureProfile) -> Option<f64> {
    if !baseline.values.is_exact() {
        return None;
    }
    if batch.values.is_exact() {
        return Some(Distribution::of(baseline, batch)?.new_share());
    }
    let kept = batch.values.frequent();
    let new = kept.iter().filter(|value| baseline.values.count_of(value.hash).is_none());
    let new: u64 = new.map(|value| value.count).sum();
    let different = batch.values.distinct() as f64 * (1.0 - 3.0 * DISTINCT_ERROR);
    let at_least = (new as f64).max(different - baseline.values.distinct() as f64);
    Some(at_least / batch.count().max(1) as f64)
}

/// The first Wasserstein distance of two sets of numbers, each taken as the middle of its bin.
pub(super) fn wasserstein(one: &Numbers, other: &Numbers) -> Option<f64> {
    let (n, m) = (one.count(), other.count());
    if n == 0 || m == 0 {
        return None;
    }
    let mut steps: Vec<(f64, f64)> = Vec::new();
    steps.extend(one.bins().iter().map(|bin| (bin.middle(), bin.count as f64 / n as f64)));
    steps.extend(other.bins().iter().map(|bin| (bin.middle(), -(bin.count as f64) / m as f64)));
    steps.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut distance, mut ahead) = (0.0, 0.0f64);
    for (place, (at, share)) in steps.iter().enumerate() {
        if let Some((before, _)) = place.checked_sub(1).map(|before| steps[before]) {
            distance += ahead.abs() * (at - before);
        }
        ahead += share;
    }
    Some(distance)
}
