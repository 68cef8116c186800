//! Sums, ends and bins of numbers, in which the order of adding leaves no trace.
//!
//! Numbers are float64. They lie in octaves, by sign and exponent; each octave has 128 bins of equal width, so that a bin is
//! at most 0.8 % of its values wide, whatever they are. Within an octave all numbers have one unit, and so their sum
//! and the sum of their squares are whole numbers, and exact.

use super::exact::{Natural, unscaled};

/// Bins of an octave, by the first bits of the fraction.
pub(super) const BINS: usize = 128;
const FRACTION: u32 = 52;
const BIN_SHIFT: u32 = FRACTION - 7;
/// Sign and exponent.
pub(super) const OCTAVES: usize = 1 << 12;
const NEGATIVE: u16 = 1 << 11;
const EXPONENT: u16 = NEGATIVE - 1;

/// Numbers of one sign and exponent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Octave {
    pub octave: u16,
    pub counts: [u64; BINS],
    /// Of the fractions as whole numbers of 53 bits.
    pub sum: u128,
    /// Of their squares, 128 bits and what is carried beyond.
    pub squares: (u128, u64),
}

impl Octave {
    fn new(octave: u16) -> Self {
        Self { octave, counts: [0; BINS], sum: 0, squares: (0, 0) }
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.sum += other.sum;
        let (low, over) = self.squares.0.overflowing_add(other.squares.0);
        self.squares = (low, self.squares.1 + other.squares.1 + u64::from(over));
    }

    fn is_negative(&self) -> bool {
        self.octave & NEGATIVE != 0
    }

    /// By how many bits the unit of this octave is above the least unit of all.
    fn shift(&self) -> usize {
        usize::from((self.octave & EXPONENT).max(1) - 1)
    }
}

/// What the numbers of a feature are like. Infinite ones are counted, and are in nothing else.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    infinite: u64,
    ends: Option<(f64, f64)>,
    octaves: Vec<Octave>,
    /// Of each sign and exponent, the place in `octaves` and one more.
    places: Vec<u16>,
}

impl PartialEq for Numbers {
    fn eq(&self, other: &Self) -> bool {
        self.infinite == other.infinite && self.ends == other.ends && self.sorted() == other.sorted()
    }
}

/// Numbers from `from` (inclusive) to `until`, away from zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    pub least: f64,
    pub greatest: f64,
    pub count: u64,
}

impl Bin {
    pub fn middle(&self) -> f64 {
        self.least + (self.greatest - self.least) / 2.0
    }
}

impl Numbers {
    /// Takes in a number; NaN is none.
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        if !value.is_finite() {
            self.infinite += u64::from(value.is_infinite());
            return;
        }
        // Both zeros are one value.
        let value = value + 0.0;
        self.ends = Some(match self.ends {
            Some((least, greatest)) => (least.min(value), greatest.max(value)),
            None => (value, value),
        });
        let bits = value.to_bits();
        let octave = (bits >> FRACTION) as u16;
        let mut fraction = bits & ((1 << FRACTION) - 1);
        let place = self.place(octave);
        let of = &mut self.octaves[place];
        of.counts[(fraction >> BIN_SHIFT) as usize] += 1;
        if octave & EXPONENT != 0 {
            fraction |= 1 << FRACTION;
        }
        of.sum += u128::from(fraction);
        let (low, over) = of.squares.0.overflowing_add(u128::from(fraction) * u128::from(fraction));
        of.squares.0 = low;
        of.squares.1 += u64::from(over);
    }

    fn place(&mut self, octave: u16) -> usize {
        if self.places.is_empty() {
            self.places = vec![0; OCTAVES];
        }
        let place = &mut self.places[usize::from(octave)];
        if *place == 0 {
            self.octaves.push(Octave::new(octave));
            *place = self.octaves.len() as u16;
        }
        usize::from(*place) - 1
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.infinite += other.infinite;
        if let Some((least, greatest)) = other.ends {
            self.ends = Some(match self.ends {
                Some((first, last)) => (first.min(least), last.max(greatest)),
                None => (least, greatest),
            });
        }
        for octave in &other.octaves {
            let place = self.place(octave.octave);
            self.octaves[place].merge(octave);
        }
    }

    /// None where an octave stands twice or is of infinite numbers.
    pub(super) fn from_parts(infinite: u64, ends: Option<(f64, f64)>, octaves: Vec<Octave>) -> Option<Self> {
        let mut numbers = Self { infinite, ends, ..Self::default() };
        for octave in octaves {
            let known = numbers.octaves.iter().any(|known| known.octave == octave.octave);
            if known || usize::from(octave.octave) >= OCTAVES || octave.octave & EXPONENT == EXPONENT {
                return None;
            }
            let place = numbers.place(octave.octave);
            numbers.octaves[place] = octave;
        }
        Some(numbers)
    }

    /// By sign and exponent.
    pub(super) fn sorted(&self) -> Vec<&Octave> {
        let mut sorted: Vec<&Octave> = self.octaves.iter().collect();
        sorted.sort_by_key(|octave| octave.octave);
        sorted
    }

    /// Finite numbers.
    pub fn count(&self) -> u64 {
        self.octaves.iter().flat_map(|octave| octave.counts).sum()
    }

    pub fn infinite(&self) -> u64 {
        self.infinite
    }

    /// Least and greatest finite number.
    pub fn ends(&self) -> Option<(f64, f64)> {
        self.ends
    }

    /// The mean of the finite numbers, within two units of the last place; none of none, or beyond float64.
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let (sum, negative) = self.sum();
        let (f, e) = sum.scaled();
        let (n, scale) = Natural::from(count).scaled();
        let mean = unscaled(f / n, e - scale - UNIT)?;
        Some(if negative { -mean } else { mean })
    }

    /// The standard deviation of the finite numbers as a sample's (by n − 1); none of fewer than two.
    pub fn spread(&self) -> Option<f64> {
        let count = self.count();
        if count < 2 {
            return None;
        }
        let (sum, _) = self.sum();
        let mut squares = Natural::default();
        for octave in &self.octaves {
            let shift = 2 * octave.shift();
            squares.add_shifted(octave.squares.0 as u64, shift);
            squares.add_shifted((octave.squares.0 >> 64) as u64, shift + 64);
            squares.add_shifted(octave.squares.1, shift + 128);
        }
        let n = Natural::from(count);
        // n Σx² − (Σx)² is never below zero, and all of it is exact.
        let (left, _) = n.product(&squares).difference(&sum.product(&sum));
        if left.is_zero() {
            return Some(0.0);
        }
        let (f, e) = left.scaled();
        let (below, scale) = n.product(&Natural::from(count - 1)).scaled();
        let (variance, mut e) = (f / below, e - scale - 2 * UNIT);
        // The root of 2^e is a power of two for even e only.
        let mut variance = variance;
        if e % 2 != 0 {
            variance *= 2.0;
            e -= 1;
        }
        unscaled(variance.sqrt(), e / 2)
    }

    /// The sum in the least unit, and whether it is below zero.
    fn sum(&self) -> (Natural, bool) {
        let (mut above, mut below) = (Natural::default(), Natural::default());
        for octave in &self.octaves {
            let side = if octave.is_negative() { &mut below } else { &mut above };
            side.add_shifted(octave.sum as u64, octave.shift());
            side.add_shifted((octave.sum >> 64) as u64, octave.shift() + 64);
        }
        above.difference(&below)
    }

    /// The bins that are not empty, ascending.
    pub fn bins(&self) -> Vec<Bin> {
        let mut bins = Vec::new();
        for octave in self.sorted() {
            for (bin, count) in octave.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let start = (u64::from(octave.octave) << FRACTION) | ((bin as u64) << BIN_SHIFT);
                let (near, far) = (f64::from_bits(start), f64::from_bits(start + (1 << BIN_SHIFT)));
                // Beyond the greatest number there is no further edge.
                let far = if far.is_finite() { far } else { near };
                let (least, greatest) = if octave.is_negative() { (far, near) } else { (near, far) };
                bins.push(Bin { least, greatest, count: *count });
            }
        }
        bins.sort_by(|one, other| one.least.total_cmp(&other.least));
        bins
    }

    /// The number below which this share of them lies, to within its bin; none of none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let (least, greatest) = self.ends?;
        let wanted = share.clamp(0.0, 1.0) * self.count() as f64;
        let mut before = 0.0;
        for bin in self.bins() {
            let count = bin.count as f64;
            if before + count >= wanted {
                let into = ((wanted - before) / count).clamp(0.0, 1.0);
                return Some((bin.least + (bin.greatest - bin.least) * into).clamp(least, greatest));
            }
            before += count;
        }
        Some(greatest)
    }
}

/// The least unit of all is 2^-1074.
const UNIT: i64 = 1_074;
