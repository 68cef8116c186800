//! A list that only grows and is cloned often: all but its end is shared.

use std::sync::Arc;

const CHUNK: usize = 32;

#[derive(Clone, Debug)]
pub(super) struct Chunked<T> {
    /// Each of [`CHUNK`].
    full: Arc<Vec<Arc<[T]>>>,
    end: Vec<T>,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self { full: Arc::default(), end: Vec::new() }
    }
}

impl<T> Chunked<T> {
    pub fn push(&mut self, item: T) {
        self.end.push(item);
        if self.end.len() == CHUNK {
            let chunk: Arc<[T]> = std::mem::take(&mut self.end).into();
            Arc::make_mut(&mut self.full).push(chunk);
        }
    }

    pub fn len(&self) -> usize {
        self.full.len() * CHUNK + self.end.len()
    }

    pub fn get(&self, at: usize) -> Option<&T> {
        match self.full.get(at / CHUNK) {
            Some(chunk) => chunk.get(at % CHUNK),
            None => self.end.get(at - self.full.len() * CHUNK),
        }
    }

    /// How many of the first ones hold; all that do come before all that do not.
    pub fn partition_point(&self, holds: impl Fn(&T) -> bool) -> usize {
        let chunks = self.full.partition_point(|chunk| chunk.last().is_some_and(&holds));
        let within = self.full.get(chunks).map_or(&self.end[..], |chunk| chunk);
        chunks * CHUNK + within.partition_point(holds)
    }

    pub fn iter_from(&self, from: usize) -> impl Iterator<Item = &T> {
        (from..self.len()).filter_map(|at| self.get(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_list_that_was_pushed() {
        let mut list = Chunked::default();
        for length in 0..200usize {
            let all: Vec<usize> = list.iter_from(0).copied().collect();
            assert_eq!((all, list.len()), ((0..length).collect(), length));
            for bound in [0, 1, 31, 32, 33, 63, 64, 65, 150, 300] {
                assert_eq!(list.partition_point(|item| *item < bound), bound.min(length));
                assert_eq!(list.get(bound).copied(), (bound < length).then_some(bound));
                assert_eq!(list.iter_from(bound).count(), length.saturating_sub(bound));
            }
            let before = list.clone();
            list.push(length);
            assert_eq!(before.len(), length);
        }
    }
}
