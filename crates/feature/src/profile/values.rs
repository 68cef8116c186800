//! Which values there are and how often: exact up to 256 different ones, beyond that a sample with exact counts.
//!
//! Kept are the 256 values of the least hash. A value that is among those of the whole is among those of each part that
//! has it, so that its count is exact however the parts are merged. Where there are more, what is kept is a sample of the
//! different values in which each is as likely as any other, and the number of all is estimated.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64;

use super::distinct::Registers;

/// Different values that are kept.
pub const KEPT: usize = 256;

/// XXH3-64 with seed 0. Two values of one hash count as one.
#[inline]
pub(super) fn hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub hash: u64,
    /// As people read it, at most 64 characters.
    pub text: String,
    pub count: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Values {
    kept: HashMap<u64, (u64, String), BuildHasherDefault<OwnHash>>,
    /// The greatest hash that is kept, once there is no more room.
    greatest: Option<u64>,
    /// Once there were more values than are kept.
    registers: Option<Registers>,
}

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        self.kept == other.kept && self.registers == other.registers
    }
}

impl Values {
    /// Takes in a value, of which `text` is made only if it is kept.
    #[inline]
    pub(super) fn add(&mut self, hash: u64, text: impl FnOnce() -> String) {
        if let (Some(greatest), Some(registers)) = (self.greatest, &mut self.registers)
            && hash > greatest
        {
            registers.add(hash);
            return;
        }
        if let Some((count, _)) = self.kept.get_mut(&hash) {
            *count += 1;
            return;
        }
        self.insert(hash, 1, text);
    }

    /// Takes in a value that is not kept yet.
    fn insert(&mut self, hash: u64, count: u64, text: impl FnOnce() -> String) {
        if self.kept.len() < KEPT && self.registers.is_none() {
            self.kept.insert(hash, (count, text()));
            if self.kept.len() == KEPT {
                self.greatest = self.kept.keys().max().copied();
            }
            return;
        }
        let kept = &self.kept;
        let registers = self.registers.get_or_insert_with(|| {
            let mut registers = Registers::default();
            kept.keys().for_each(|hash| registers.add(*hash));
            registers
        });
        registers.add(hash);
        let Some(greatest) = self.greatest.filter(|greatest| hash < *greatest) else { return };
        self.kept.remove(&greatest);
        self.kept.insert(hash, (count, text()));
        self.greatest = self.kept.keys().max().copied();
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if let Some(theirs) = &other.registers {
            let kept = &self.kept;
            let registers = self.registers.get_or_insert_with(|| {
                let mut registers = Registers::default();
                kept.keys().for_each(|hash| registers.add(*hash));
                registers
            });
            registers.merge(theirs);
        }
        for (hash, (count, text)) in &other.kept {
            if let Some(registers) = &mut self.registers {
                registers.add(*hash);
            }
            if let Some((known, _)) = self.kept.get_mut(hash) {
                *known += count;
            } else if self.kept.len() < KEPT {
                self.kept.insert(*hash, (*count, text.clone()));
                if self.kept.len() == KEPT {
                    self.greatest = self.kept.keys().max().copied();
                }
            } else {
                self.insert(*hash, *count, || text.clone());
            }
        }
    }

    /// Whether every value is kept.
    pub fn is_exact(&self) -> bool {
        self.registers.is_none()
    }

    /// The greatest hash up to which every value is kept, with its exact count; none where all are.
    pub fn kept_until(&self) -> Option<u64> {
        self.registers.as_ref().and(self.greatest)
    }

    /// How many different values there are: exact where [`Self::is_exact`], else within some 2.3 %.
    pub fn distinct(&self) -> u64 {
        match &self.registers {
            Some(registers) => (registers.estimate().round() as u64).max(self.kept.len() as u64 + 1),
            None => self.kept.len() as u64,
        }
    }

    /// The kept values, the most frequent first, equally frequent ones by their text.
    pub fn frequent(&self) -> Vec<Value> {
        let mut values = self.kept();
        values.sort_by(|one, other| (other.count, &one.text).cmp(&(one.count, &other.text)));
        values
    }

    /// By their hash.
    pub(super) fn kept(&self) -> Vec<Value> {
        let value = |(hash, (count, text)): (&u64, &(u64, String))| Value {
            hash: *hash,
            text: text.clone(),
            count: *count,
        };
        let mut values: Vec<Value> = self.kept.iter().map(value).collect();
        values.sort_by_key(|value| value.hash);
        values
    }

    pub(super) fn registers(&self) -> Option<&Registers> {
        self.registers.as_ref()
    }

    /// How often the value of a hash is there; none where it is not kept.
    pub fn count_of(&self, hash: u64) -> Option<u64> {
        self.kept.get(&hash).map(|(count, _)| *count)
    }

    /// None of more values than are kept.
    pub(super) fn from_parts(values: Vec<Value>, registers: Option<Registers>) -> Option<Self> {
        if values.len() > KEPT {
            return None;
        }
        let kept: HashMap<_, _, _> =
            values.into_iter().map(|value| (value.hash, (value.count, value.text))).collect();
        let greatest = (kept.len() == KEPT).then(|| kept.keys().max().copied()).flatten();
        Some(Self { kept, greatest, registers })
    }
}

/// Keys that are hashes already.
#[derive(Clone, Debug, Default)]
struct OwnHash(u64);

impl Hasher for OwnHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}
