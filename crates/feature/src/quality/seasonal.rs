//! Anomalies with the weekday and the hour in mind: a batch beside those of the same hour of the week, or of the same weekday.

use std::collections::BTreeMap;

use crate::profile::BatchProfile;

const MICROS_OF_AN_HOUR: i64 = 3_600_000_000;
const MICROS_OF_A_DAY: i64 = 24 * MICROS_OF_AN_HOUR;
/// A batch of rows within so long is of an hour, and within so much of a day; a longer one is of neither.
const OF_AN_HOUR: i64 = 3 * MICROS_OF_AN_HOUR;
const OF_A_DAY: i64 = 36 * MICROS_OF_AN_HOUR;
/// So many batches of one slot tell what is usual there.
const LEAST_PEERS: usize = 4;
/// What makes the median of absolute deviations the standard deviation of normal numbers.
const OF_NORMAL: f64 = 1.482_602_218_505_602;

/// The slot of the week that a batch is of, by the middle of its times in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    /// From 0 to 167, Thursday first.
    HourOfWeek(i64),
    HourOfDay(i64),
    Weekday(i64),
}

/// The slots that a batch is of, the narrowest first.
fn slots(batch: &BatchProfile) -> Vec<Slot> {
    let Some((first, last)) = batch.valid_at else { return Vec::new() };
    let length = last.micros().saturating_sub(first.micros());
    let middle = first.micros() + length / 2;
    let (day, hour) = (middle.div_euclid(MICROS_OF_A_DAY), middle.div_euclid(MICROS_OF_AN_HOUR));
    if length <= OF_AN_HOUR {
        vec![Slot::HourOfWeek(hour.rem_euclid(168)), Slot::HourOfDay(hour.rem_euclid(24))]
    } else if length <= OF_A_DAY {
        vec![Slot::Weekday(day.rem_euclid(7))]
    } else {
        Vec::new()
    }
}

/// What is usual of one number of each batch, slot by slot.
pub(super) struct Season {
    medians: BTreeMap<Slot, f64>,
    /// A standard deviation of what is left of the numbers when the median of their slot is taken away.
    spread: f64,
}

impl Season {
    /// Of the numbers of a baseline's batches; none where no slot has enough of them. `least` is a spread below which nothing counts.
    pub fn of(
        baseline: &[BatchProfile],
        number: impl Fn(&BatchProfile) -> Option<f64>,
        least: f64,
    ) -> Option<Self> {
        let mut by_slot: BTreeMap<Slot, Vec<f64>> = BTreeMap::new();
        for batch in baseline {
            let Some(number) = number(batch) else { continue };
            for slot in slots(batch) {
                by_slot.entry(slot).or_default().push(number);
            }
        }
        by_slot.retain(|_, numbers| numbers.len() >= LEAST_PEERS);
        let medians: BTreeMap<Slot, f64> =
            by_slot.into_iter().filter_map(|(slot, numbers)| Some((slot, median(numbers)?))).collect();
        let left = baseline.iter().filter_map(|batch| {
            let usual = slots(batch).into_iter().find_map(|slot| medians.get(&slot).copied())?;
            Some((number(batch)? - usual).abs())
        });
        let spread = (median(left.collect())? * OF_NORMAL).max(least);
        (spread > 0.0).then_some(Self { medians, spread })
    }

    /// How many standard deviations a batch's number is from what is usual in its slot; none where too few batches are of that.
    pub fn distance(&self, batch: &BatchProfile, number: f64) -> Option<f64> {
        let usual = slots(batch).into_iter().find_map(|slot| self.medians.get(&slot).copied())?;
        Some((number - usual).abs() / self.spread)
    }
}

fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let upper = *numbers.get(numbers.len() / 2)?;
    let lower = *numbers.get((numbers.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn batch(from_hour: i64, hours: i64, rows: u64) -> BatchProfile {
        let at = |hour: i64| Timestamp(hour * MICROS_OF_AN_HOUR);
        BatchProfile {
            rows,
            valid_at: Some((at(from_hour), at(from_hour + hours))),
            ..BatchProfile::default()
        }
    }

    fn rows(batch: &BatchProfile) -> Option<f64> {
        Some(batch.rows as f64)
    }

    /// Days of some weeks: five of a thousand rows and two of three hundred.
    fn days(weeks: i64) -> Vec<BatchProfile> {
        let usual = |day: i64| if day % 7 >= 5 { 300 } else { 1_000 };
        (0..7 * weeks).map(|day| batch(day * 24, 23, usual(day) + (day * 13 % 5) as u64)).collect()
    }

    #[test]
    fn a_quiet_weekday_is_told_from_a_weekend() {
        let season = Season::of(&days(5), rows, 0.0).unwrap();
        let distance =
            |day: i64, rows: u64| season.distance(&batch(day * 24, 23, rows), rows as f64).unwrap();
        assert!(distance(36, 1_001) < 3.0 && distance(40, 301) < 3.0);
        // Saturday's rows on a Tuesday, and a Tuesday's on a Saturday.
        assert!(distance(36, 300) > 100.0 && distance(40, 1_000) > 100.0);
    }

    #[test]
    fn hours_have_slots_of_their_own() {
        let load = |hour: i64| if hour % 24 < 6 { 10 } else { 500 };
        let hours: Vec<BatchProfile> =
            (0..24 * 28).map(|hour| batch(hour, 1, load(hour) + (hour * 7 % 5) as u64)).collect();
        let season = Season::of(&hours, rows, 0.0).unwrap();
        let night = batch(24 * 29 + 3, 1, 500);
        assert!(season.distance(&night, 500.0).unwrap() > 100.0);
        assert!(season.distance(&night, 12.0).unwrap() < 3.0);
        // Of five days no hour of the week is known, but each hour of the day.
        let few = Season::of(&hours[..24 * 5], rows, 0.0).unwrap();
        assert!(few.distance(&night, 500.0).unwrap() > 100.0);
    }

    #[test]
    fn too_few_batches_and_long_ones_tell_nothing() {
        assert!(Season::of(&days(3), rows, 0.0).is_none());
        let season = Season::of(&days(5), rows, 0.0).unwrap();
        assert_eq!(season.distance(&batch(0, 24 * 30, 1_000), 1_000.0), None);
        assert_eq!(season.distance(&BatchProfile::default(), 1.0), None);
        // All alike: a spread of nothing would make everything an anomaly.
        let same: Vec<BatchProfile> = (0..35).map(|day| batch(day * 24, 23, 100)).collect();
        assert!(Season::of(&same, rows, 0.0).is_none());
        assert_eq!(Season::of(&same, rows, 10.0).unwrap().distance(&batch(0, 23, 130), 130.0), Some(3.0));
    }
}
