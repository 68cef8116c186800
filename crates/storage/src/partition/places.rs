//! Where the rows of many files go when they are merged: how a run is cut by time and by key, told from manifests alone.

use arrow::array::{ArrayRef, BooleanArray};
use feature::key::{KeyError, bucket_of_rows};

use super::layout::{Granularity, Layout, MOST_SHORT_PARTITIONS, Partition, buckets};
use crate::manifest::DataFile;

/// What one new file of a run is for: a partition of time, and a bucket of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) granularity: Granularity,
    pub(super) partition: Partition,
    pub bucket: u32,
    pub buckets: u32,
}

/// Neighbouring places whose rows are read at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Holds the rows of all of them, of these files.
    pub whole: Place,
    pub places: Vec<Place>,
}

/// How files are cut whose rows, so wide in memory on average, are written anew: the finest partitions that would be full, then buckets. The
/// places hold every row of the files, each in exactly one; one may come to hold none.
pub fn places(files: &[&DataFile], row_bytes: usize, layout: &Layout) -> Vec<Place> {
    let (rows, rows_per_file) = sizes(files, row_bytes, layout);
    if rows == 0 {
        return Vec::new();
    }
    let most = rows / rows_per_file;
    let full =
        [Granularity::Day, Granularity::Month, Granularity::Year].into_iter().find_map(|granularity| {
            let most = match granularity.is_long_enough(layout.longest_partition) {
                true => most.max(MOST_SHORT_PARTITIONS),
                false => most,
            };
            Some((granularity, partitions(files, granularity, most)?))
        });
    let (granularity, partitions) =
        full.unwrap_or_else(|| (Granularity::All, vec![Granularity::All.partition(0)]));
    let buckets = buckets(rows / partitions.len().max(1), rows_per_file);
    let mut places = Vec::with_capacity(partitions.len() * buckets as usize);
    for partition in partitions {
        places.extend((0..buckets).map(|bucket| Place { granularity, partition, bucket, buckets }));
    }
    places
}

/// The places of files, [`places`], by what is read at once. Short partitions have few rows each, and a file from before they were asked for
/// reaches into hundreds of them. So those are read together that have about as many rows as one file should, as far as manifests tell: a
/// file is then read no more often than if it were cut into full ones.
pub fn stretches(files: &[&DataFile], row_bytes: usize, layout: &Layout) -> Vec<Stretch> {
    let places = places(files, row_bytes, layout);
    let (_, rows_per_file) = sizes(files, row_bytes, layout);
    let mut expected = vec![0u64; places.len()];
    for file in files {
        let here = || places.iter().map(move |place| place.may_hold(file));
        let number = here().filter(|here| *here).count() as u64;
        let each = file.rows.div_ceil(number.max(1));
        for (rows, _) in expected.iter_mut().zip(here()).filter(|(_, here)| *here) {
            *rows = rows.saturating_add(each);
        }
    }
    let mut found: Vec<Stretch> = Vec::new();
    let mut rows = 0u64;
    for (place, expected) in places.into_iter().zip(expected) {
        rows = rows.saturating_add(expected);
        match found.last_mut().filter(|_| place.buckets == 1 && rows <= rows_per_file as u64) {
            Some(last) => {
                last.whole.partition.until = place.partition.until;
                last.places.push(place);
            }
            None => {
                rows = expected;
                found.push(Stretch { whole: place, places: vec![place] });
            }
        }
    }
    found
}

/// The rows of all files, and those that a new one should have.
fn sizes(files: &[&DataFile], row_bytes: usize, layout: &Layout) -> (usize, usize) {
    let rows: u64 = files.iter().map(|file| file.rows).sum();
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    (rows, layout.rows_per_file(rows, row_bytes.saturating_mul(rows)))
}

/// The partitions that the files' times reach into, ascending; none where they are more than so many, or a file does not tell.
fn partitions(files: &[&DataFile], granularity: Granularity, most: usize) -> Option<Vec<Partition>> {
    let mut found: Vec<Partition> = Vec::new();
    for file in files.iter().filter(|file| file.rows > 0) {
        let (least, greatest) = file.valid_at_range()?;
        let mut partition = granularity.partition(least);
        loop {
            if let Err(place) = found.binary_search(&partition) {
                found.insert(place, partition);
            }
            if found.len() > most {
                return None;
            }
            if greatest < partition.until {
                break;
            }
            partition = granularity.partition(partition.until);
        }
    }
    Some(found).filter(|found| !found.is_empty())
}

impl Place {
    /// Whether rows of a file may belong here.
    pub fn may_hold(&self, file: &DataFile) -> bool {
        let times = file
            .valid_at_range()
            .is_none_or(|(least, greatest)| least < self.partition.until && self.partition.from <= greatest);
        // A bucket of few is the top bits of a bucket of many.
        let keys = if file.buckets <= self.buckets {
            self.bucket / (self.buckets / file.buckets.max(1)) == file.bucket
        } else {
            file.bucket / (file.buckets / self.buckets) == self.bucket
        };
        times && keys
    }

    /// Which rows belong here, by their keys and valid_at.
    ///
    /// # Errors
    /// Keys of types that no key has.
    pub fn holds(&self, keys: &[ArrayRef], times: &[i64]) -> Result<BooleanArray, KeyError> {
        let within = |time: i64| self.partition.from <= time && time < self.partition.until;
        if self.buckets == 1 {
            return Ok(times.iter().map(|time| Some(within(*time))).collect());
        }
        let buckets = bucket_of_rows(keys, self.buckets)?;
        Ok(buckets
            .iter()
            .zip(times)
            .map(|(bucket, time)| Some(*bucket == self.bucket && within(*time)))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, Int64Array};
    use feature::digest::{HashAlgorithm, hash};
    use feature::key::statistic::{Bounds, StatisticValue};
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::ColumnStatistics;

    fn file(least: i64, greatest: i64, rows: u64) -> DataFile {
        let micros = |time: i64| Some(time.to_le_bytes().to_vec());
        let bounds = Bounds { nulls: 0, nans: 0, least: micros(least), greatest: micros(greatest) };
        assert!(
            StatisticValue::decode(&feature::FeatureType::Timestamp.arrow(), &least.to_le_bytes()).is_ok()
        );
        DataFile {
            id: feature::FileId::from(uuid::Uuid::nil()),
            path: String::new(),
            version: 1,
            from: i64::MIN,
            until: i64::MAX,
            bucket: 0,
            buckets: 1,
            rows,
            bytes: 0,
            key_hashes: None,
            statistics: vec![ColumnStatistics::new("valid_at", bounds)],
            pieces: Vec::new(),
            digest: hash(HashAlgorithm::Blake3, b""),
            block_bytes: 1,
            blocks: Vec::new(),
        }
    }

    const DAY: i64 = 86_400_000_000;

    proptest! {
        #[test]
        fn each_row_has_one_place(
            times in prop::collection::vec((0..900i64, -40..40i64), 1..60),
            target_rows in 1usize..30,
        ) {
            let rows: Vec<(i64, i64)> = times.iter().map(|(day, key)| (day * DAY / 3, *key)).collect();
            let mut files = Vec::new();
            for chunk in rows.chunks(7) {
                let least = chunk.iter().map(|row| row.0).min().unwrap();
                let greatest = chunk.iter().map(|row| row.0).max().unwrap();
                files.push(file(least, greatest, chunk.len() as u64));
            }
            let files: Vec<&DataFile> = files.iter().collect();
            let layout = Layout { target_rows, ..Layout::default() };
            let places = places(&files, 8, &layout);
            for (chunk, file) in rows.chunks(7).zip(&files) {
                let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(chunk.iter().map(|row| row.1)));
                let times: Vec<i64> = chunk.iter().map(|row| row.0).collect();
                let mut held = vec![0; chunk.len()];
                for place in &places {
                    let holds = place.holds(std::slice::from_ref(&keys), &times).unwrap();
                    prop_assert!(place.may_hold(file) || holds.true_count() == 0);
                    held.iter_mut().zip(holds.values().iter()).for_each(|(held, here)| *held += usize::from(here));
                    prop_assert_eq!(holds.null_count(), 0);
                }
                prop_assert!(held.iter().all(|held| *held == 1), "{held:?}");
            }
        }
    }

    /// Files of years that are cut into days are read once for each full file that they give, and not once for each day.
    #[test]
    fn short_partitions_are_read_together() {
        let layout = Layout { target_rows: 100, longest_partition: Some(3 * DAY), ..Layout::default() };
        let wide: Vec<DataFile> = (0..3).map(|_| file(0, 400 * DAY - 1, 200)).collect();
        let wide: Vec<&DataFile> = wide.iter().collect();
        let apart = places(&wide, 8, &layout);
        assert_eq!((apart.len(), apart[0].granularity), (400, Granularity::Day));
        let together = stretches(&wide, 8, &layout);
        // Three rows a day, as far as manifests tell.
        assert_eq!(together.iter().map(|stretch| stretch.places.len()).max(), Some(33));
        assert_eq!(together.len(), 400usize.div_ceil(33));
        let all: Vec<Place> = together.iter().flat_map(|stretch| stretch.places.iter().copied()).collect();
        assert_eq!(all, apart);
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..400));
        let times: Vec<i64> = (0..400).map(|day| day * DAY + 7).collect();
        let holds = |place: &Place| place.holds(std::slice::from_ref(&keys), &times).unwrap().true_count();
        for stretch in &together {
            assert_eq!(holds(&stretch.whole), stretch.places.iter().map(holds).sum::<usize>());
        }
        // Full ones, and buckets, are read one by one.
        let layout = Layout { longest_partition: None, ..layout };
        let full = stretches(&[&file(0, DAY - 1, 500)], 8, &layout);
        assert!(full.len() > 1 && full.iter().all(|stretch| stretch.places == [stretch.whole]), "{full:?}");
    }

    #[test]
    fn partitions_are_full_or_there_is_one() {
        let layout = Layout { target_rows: 100, ..Layout::default() };
        let two_days = [file(0, DAY - 1, 150), file(DAY, DAY + 5, 150)];
        let found = places(&two_days.iter().collect::<Vec<_>>(), 8, &layout);
        assert_eq!(found.iter().map(|place| place.granularity).collect::<Vec<_>>(), [Granularity::Day; 2]);
        // Too few rows for two files.
        let few = [file(0, DAY - 1, 70), file(DAY, DAY + 5, 70)];
        let found = places(&few.iter().collect::<Vec<_>>(), 8, &layout);
        assert_eq!((found.len(), found[0].granularity), (1, Granularity::Month));
        assert!(places(&[], 8, &layout).is_empty());
    }
}
