//! How the rows of a batch are cut into files: by time, and by buckets of the key.

use std::collections::HashSet;

/// How a batch is laid out. The defaults are fit for most; tests make them small.
///
/// The batch itself decides the cut: the finest partitions (day, month, year, all time) that hold on average at
/// least the target of rows, each then cut into as many buckets as bring its files nearest to the target. So small
/// batches stay one file, large ones have a file for each core that reads them, and no cut makes small files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Rows that a file should have: a million decodes in a few tens of milliseconds a column, which is enough work
    /// for one core, and lets one footer with its page index serve many reads.
    pub target_rows: usize,
    /// Bytes in memory that a file should have; it lowers the rows for wide views, for a file is built in memory.
    pub target_bytes: usize,
    /// Most rows of a page. A sparse point-in-time read decodes whole pages, so small ones pay: in measurements on
    /// ten million rows, pages of 2,000 made reads of 0.1 % of the rows in clusters four times faster than
    /// decoding everything, pages of 20,000 hardly at all; the whole scan did not suffer, and the page index stays
    /// below half a percent of the file. At 500 rows, scattered reads became slower than the scan.
    pub page_rows: usize,
    pub compression: Compression,
    /// Longest time that a partition should span, in microseconds, however few rows it then has; none where rows alone decide. Rows that are
    /// kept for a while only come to lie with others of their age, so that a file is of old rows alone soon after the first of them is old.
    pub longest_partition: Option<i64>,
}

/// How the pages of features and text keys are compressed. Integer and time columns of keys are not: packed as
/// differences in sort order they are a few bits a row already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    /// Parquet's LZ4_RAW. In the same measurements Zstandard files were a quarter smaller and took twice as long to
    /// read.
    Lz4,
    /// Zstandard at its level 1.
    Zstd,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            target_rows: 1 << 20,
            target_bytes: 512 << 20,
            page_rows: 2048,
            compression: Compression::Lz4,
            longest_partition: None,
        }
    }
}

/// Partitions that a batch or a merge is cut into at most for the sake of their length.
pub(super) const MOST_SHORT_PARTITIONS: usize = 512;

/// The buckets of one partition of one batch at most.
const MOST_BUCKETS: usize = 1 << 16;

impl Layout {
    /// Rows that a file should have when all rows take so many bytes in memory.
    pub(super) fn rows_per_file(&self, rows: usize, bytes: usize) -> usize {
        let row = bytes.div_ceil(rows.max(1)).max(1);
        self.target_rows.min(self.target_bytes / row).max(1)
    }
}

/// The power of two that brings the files nearest to the target: they get 0.75 to 1.5 times as many rows, as far as
/// the keys spread.
pub(super) fn buckets(rows: usize, rows_per_file: usize) -> u32 {
    let files = rows.saturating_mul(2).div_ceil(rows_per_file.saturating_mul(3).max(1));
    files.clamp(1, MOST_BUCKETS).next_power_of_two() as u32
}

/// The length of the time partitions of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Granularity {
    All,
    Year,
    Month,
    Day,
}

/// A time partition: the instants from `from` to before `until`, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Partition {
    pub from: i64,
    pub until: i64,
}

const DAY: i64 = 86_400_000_000;

impl Granularity {
    /// The finest whose partitions hold at least so many rows on average, or the coarsest that is no longer than asked for, whichever is finer.
    pub fn of(times: &[i64], rows_per_file: usize, longest: Option<i64>) -> Self {
        let mut days = HashSet::new();
        let mut last = None;
        for time in times {
            let day = time.div_euclid(DAY);
            if last != Some(day) {
                days.insert(day);
                last = Some(day);
            }
        }
        for granularity in [Self::Day, Self::Month, Self::Year] {
            let mut partitions: Vec<Partition> =
                days.iter().map(|day| granularity.partition(day.saturating_mul(DAY))).collect();
            partitions.sort_unstable();
            partitions.dedup();
            let short = granularity.is_long_enough(longest) && partitions.len() <= MOST_SHORT_PARTITIONS;
            if short || times.len() / partitions.len().max(1) >= rows_per_file {
                return granularity;
            }
        }
        Self::All
    }

    /// Whether its partitions are as long as is asked for, or longer; none of a finer one has to be. Days are, where even those are too long.
    pub fn is_long_enough(self, longest: Option<i64>) -> bool {
        longest.is_some_and(|longest| match self {
            Self::All => false,
            Self::Year => true,
            Self::Month => longest < 366 * DAY,
            Self::Day => longest < 31 * DAY,
        })
    }

    /// The partition that an instant lies in. Those at both ends of time are cut short.
    pub fn partition(self, time: i64) -> Partition {
        let day = time.div_euclid(DAY);
        let (year, month) = year_and_month(day);
        let (from, until) = match self {
            Self::All => return Partition { from: i64::MIN, until: i64::MAX },
            Self::Year => (first_day(year, 1), first_day(year + 1, 1)),
            Self::Month if month == 12 => (first_day(year, 12), first_day(year + 1, 1)),
            Self::Month => (first_day(year, month), first_day(year, month + 1)),
            Self::Day => (day, day + 1),
        };
        Partition { from: from.saturating_mul(DAY), until: until.saturating_mul(DAY) }
    }

    /// The name of a partition's folder: `2013`, `2013-05`, `2013-05-17`, `all`. `time` is any instant in it.
    pub fn name(self, time: i64) -> String {
        let day = time.div_euclid(DAY);
        let (year, month) = year_and_month(day);
        match self {
            Self::All => "all".to_owned(),
            Self::Year => format!("{year:04}"),
            Self::Month => format!("{year:04}-{month:02}"),
            Self::Day => format!("{year:04}-{month:02}-{:02}", day - first_day(year, month) + 1),
        }
    }
}

/// Days from 1970-01-01 to the first of a month, in the Gregorian calendar carried on both ways.
fn first_day(year: i64, month: i64) -> i64 {
    // Years are counted from March, so that the leap day is the last of its year; then the months before have
    // 153 days in every five.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    year * 365 + leap_days + (153 * month + 2) / 5 - 719_468
}

/// The year and month (1 to 12) of a day counted from 1970-01-01.
fn year_and_month(day: i64) -> (i64, i64) {
    // A Gregorian year has 365.2425 days on average: the guess is off by one at most.
    let mut year = 1970 + (day as i128 * 10_000).div_euclid(3_652_425) as i64;
    while first_day(year, 1) > day {
        year -= 1;
    }
    while first_day(year + 1, 1) <= day {
        year += 1;
    }
    let mut month = (day - first_day(year, 1)) / 31 + 1;
    while month < 12 && first_day(year, month + 1) <= day {
        month += 1;
    }
    (year, month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_those_of_the_calendar() {
        // Checked against GNU date.
        for (time, day, from, until) in [
            (0, "1970-01-01", 0, 365),
            (-1, "1969-12-31", -365, 0),
            (951_782_400_000_000, "2000-02-29", 10_957, 11_323),
            (1_357_034_400_000_000, "2013-01-01", 15_706, 16_071),
            (1_356_998_399_999_999, "2012-12-31", 15_340, 15_706),
            (4_107_542_400_000_000, "2100-03-01", 47_482, 47_847),
            (-62_167_219_200_000_000, "0000-01-01", -719_528, -719_162),
            (-62_167_219_200_000_001, "-001-12-31", -719_893, -719_528),
        ] {
            assert_eq!(Granularity::Day.name(time), day);
            let expected = Partition { from: from * DAY, until: until * DAY };
            assert_eq!(Granularity::Year.partition(time), expected, "{day}");
        }
        let may = 1_368_000_000_000_000;
        assert_eq!(Granularity::Month.name(may), "2013-05");
        let expected = Partition { from: 15_826 * DAY, until: 15_857 * DAY };
        assert_eq!(Granularity::Month.partition(may), expected);
        assert_eq!(Granularity::Year.name(may), "2013");
        assert_eq!(Granularity::All.name(may), "all");
    }

    #[test]
    fn every_instant_lies_in_its_partition_and_partitions_meet() {
        let mut time = i64::MIN;
        let mut checked = 0;
        while time < i64::MAX {
            for granularity in [Granularity::Day, Granularity::Month, Granularity::Year, Granularity::All] {
                let partition = granularity.partition(time);
                assert!(partition.from <= time && time < partition.until, "{granularity:?} {time}");
                assert_eq!(granularity.name(partition.from.max(time)), granularity.name(time));
                if partition.until < i64::MAX {
                    assert_eq!(granularity.partition(partition.until).from, partition.until);
                    assert_ne!(granularity.name(partition.until), granularity.name(time));
                }
            }
            checked += 1;
            time = time.saturating_add(7_777_777_777_777_777);
        }
        assert!(checked > 2000);
    }

    #[test]
    fn the_batch_decides_the_layout() {
        let days = |days: i64, rows: usize| (0..rows as i64).map(|i| i % days * DAY).collect::<Vec<_>>();
        assert_eq!(Granularity::of(&[], 10, None), Granularity::All);
        assert_eq!(Granularity::of(&days(1, 9), 10, None), Granularity::All);
        assert_eq!(Granularity::of(&days(1, 10), 10, None), Granularity::Day);
        assert_eq!(Granularity::of(&days(59, 500), 10, None), Granularity::Month);
        assert_eq!(Granularity::of(&days(365, 1000), 1000, None), Granularity::Year);
        assert_eq!(Granularity::of(&days(366, 1000), 1000, None), Granularity::All);
        // Short ones come before full ones, but for very many.
        let longest = |days: i64| Some(days * DAY);
        assert_eq!(Granularity::of(&days(59, 59), 1000, longest(40)), Granularity::Month);
        assert_eq!(Granularity::of(&days(59, 59), 1000, longest(400)), Granularity::Year);
        assert_eq!(Granularity::of(&days(59, 59), 1000, longest(30)), Granularity::Day);
        assert_eq!(Granularity::of(&days(59, 59), 1000, Some(1)), Granularity::Day);
        assert_eq!(Granularity::of(&days(59, 590), 10, longest(40)), Granularity::Day);
        assert_eq!(Granularity::of(&days(600, 600), 1000, longest(1)), Granularity::Month);
        for (rows, expected) in [(0, 1), (1, 1), (15, 1), (16, 2), (30, 2), (31, 4), (60, 4), (61, 8)] {
            assert_eq!(buckets(rows, 10), expected, "{rows}");
        }
        assert_eq!(buckets(usize::MAX, 1), 1 << 16);
        let layout = Layout { target_rows: 100, target_bytes: 1000, ..Layout::default() };
        assert_eq!(layout.rows_per_file(10, 50), 100);
        assert_eq!(layout.rows_per_file(10, 1000), 10);
        assert_eq!(layout.rows_per_file(1, 1_000_000), 1);
        assert_eq!(layout.rows_per_file(0, 0), 100);
    }
}
