//! How the log is read: forward, by number, and checked as a chain.

use bytes::Bytes;
use feature::digest::{Digest, hash};
use feature::{Sequence, StoreId, Timestamp};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;

use super::{FOLDER, Log, path, sequence_of};
use crate::entry::{Entry, digest};
use crate::error::{Error, Result};

/// Entries asked for at once when many are expected.
const WIDEST: u64 = 32;
/// Entries that are held at a time by who reads the whole log.
const PART: usize = 4_096;
/// How often entries that came wrong over a network are asked for again.
const AGAIN: u32 = 2;

impl Log {
    /// One entry and its digest, checked for itself alone; `None` where the log does not reach so far.
    ///
    /// # Errors
    /// `Corrupt` or `Newer` where the object is no entry that this program can read.
    pub async fn read(&self, sequence: Sequence) -> Result<Option<(Entry, Digest)>> {
        let Some(bytes) = self.read_bytes(sequence).await? else { return Ok(None) };
        let entry = Entry::decode(sequence, &bytes)?;
        let digest = digest(entry.algorithm()?, &bytes);
        self.settle().await?;
        Ok(Some((entry, digest)))
    }

    /// Every entry after `head` (all of them for `None`) in order, with its digest, as one whole chain; `head` itself
    /// is read again and must have kept its digest. In local files the entries are durable when this returns.
    ///
    /// The chain shows every alteration but one: that of the newest entry, whose digest no other holds yet. Who has
    /// seen its digest before (as `head`, in a checkpoint, on a replica) finds that too.
    ///
    /// # Errors
    /// `Corrupt` names the sequence that was altered or is missing; `Newer` that which another program wrote.
    pub async fn entries_after(&self, head: Option<(Sequence, Digest)>) -> Result<Vec<(Entry, Digest)>> {
        // Who follows the log asks for the head and one more; who opens it expects many. A list of a long log
        // takes long, so only who opens it asks for one.
        let width = if head.is_some() { 2 } else { WIDEST };
        let asked = Asked { width, lists: head.is_none(), most: usize::MAX, vouched: true };
        self.entries_by(head, asked).await
    }

    /// The next part of the log, of some thousand entries, for who reads all of it and needs each entry once;
    /// and whether more may come. `head` is the last entry of the part before.
    ///
    /// # Errors
    /// As [`Self::entries_after`].
    pub async fn next_entries(
        &self,
        head: Option<(Sequence, Digest)>,
    ) -> Result<(Vec<(Entry, Digest)>, bool)> {
        // The last entry of a part was not seen by anybody before.
        let asked = Asked { width: WIDEST, lists: true, most: PART, vouched: false };
        let entries = self.entries_by(head, asked).await?;
        let more = entries.len() >= PART;
        Ok((entries, more))
    }

    /// As [`Self::entries_after`], for who knows of `head` from a checkpoint and expects many entries after
    /// it. A hole is told from the end by the next 32 numbers, and not by a list of the whole log.
    ///
    /// # Errors
    /// As [`Self::entries_after`].
    pub async fn entries_after_checkpoint(
        &self,
        sequence: Sequence,
        digest: Digest,
    ) -> Result<Vec<(Entry, Digest)>> {
        let asked = Asked { width: WIDEST, lists: false, most: usize::MAX, vouched: true };
        self.entries_by(Some((sequence, digest)), asked).await
    }

    /// What came altered over a network once comes whole the next time; what lies altered in the storage does not.
    async fn entries_by(
        &self,
        head: Option<(Sequence, Digest)>,
        asked: Asked,
    ) -> Result<Vec<(Entry, Digest)>> {
        let mut again = if self.is_remote { AGAIN } else { 0 };
        loop {
            match self.entries_once(head, asked).await {
                Err(Error::Corrupt { .. } | Error::Newer { .. }) if again > 0 => again -= 1,
                done => return done,
            }
        }
    }

    async fn entries_once(
        &self,
        head: Option<(Sequence, Digest)>,
        Asked { mut width, lists, most, vouched }: Asked,
    ) -> Result<Vec<(Entry, Digest)>> {
        let mut chain = Chain { head, vouched, again: None, last: None, found: Vec::new() };
        let mut next = head.map_or(Sequence::ZERO, |(sequence, _)| sequence);
        loop {
            let window = self.window(next, width).await?;
            let mut later = false;
            let mut end = None;
            for (offset, bytes) in (0..width).zip(window) {
                let sequence = Sequence(next.0 + offset);
                match bytes {
                    Some(bytes) if end.is_none() => self.accept(&mut chain, sequence, &bytes).await?,
                    Some(_) => later = true,
                    None => end = end.or(Some(sequence)),
                }
            }
            next = match end {
                None if chain.found.len() >= most => break,
                None => Sequence(next.0 + width),
                Some(end) if head.is_some_and(|(head, _)| head == end) => {
                    return Err(Error::corrupt_entry(
                        end,
                        format!("log entry {end} was read before and is missing now"),
                    ));
                }
                Some(end) if later || (lists && self.lists_later_than(end).await?) => {
                    // The entries may have been appended after this one was asked for.
                    if self.read_bytes(end).await?.is_none() {
                        let why = format!(
                            "log entry {end} is missing, though later entries are there; entries are never deleted"
                        );
                        return Err(Error::corrupt_entry(end, why));
                    }
                    end
                }
                Some(_) => break,
            };
            width = (width * 2).min(WIDEST);
        }
        if let Some((newest, digest)) = chain.found.last() {
            self.confirm(newest.sequence, *digest).await?;
            self.settle().await?;
        }
        Ok(chain.found)
    }

    /// The chain says of each entry but the last that it came as it was written. Of the last nobody does: over a network it is asked for
    /// once more, and counts where it comes the same.
    async fn confirm(&self, newest: Sequence, digest: Digest) -> Result<()> {
        if !self.is_remote {
            return Ok(());
        }
        let again = self.read_bytes(newest).await?;
        if again.is_some_and(|again| hash(digest.algorithm(), &again) == digest) {
            return Ok(());
        }
        let why =
            format!("log entry {newest}, the newest, came as two different ones: it is altered on its way");
        Err(Error::corrupt_entry(newest, why))
    }

    async fn window(&self, from: Sequence, width: u64) -> Result<Vec<Option<Bytes>>> {
        futures::stream::iter((0..width).map(|offset| self.read_bytes(Sequence(from.0 + offset))))
            .buffered(WIDEST as usize)
            .try_collect()
            .await
    }

    /// A hint: a list may lag behind, so what it leaves out proves nothing.
    async fn lists_later_than(&self, end: Sequence) -> Result<bool> {
        let mut listed = self.objects.list_with_offset(Some(&Path::from(FOLDER)), &path(end));
        while let Some(object) = listed.next().await {
            if sequence_of(&object?.location).is_some_and(|sequence| sequence > end) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn accept(&self, chain: &mut Chain, sequence: Sequence, bytes: &Bytes) -> Result<()> {
        if let Some((_, expected)) = chain.head.filter(|(head, _)| *head == sequence) {
            let actual = hash(expected.algorithm(), bytes);
            if actual != expected {
                let why = format!(
                    "log entry {sequence} was altered: its digest was {expected} when it was read before and is {actual} now"
                );
                return Err(Error::corrupt_entry(sequence, why));
            }
            // What it says is known; it is read again only where something follows it.
            chain.again = Some((sequence, expected, bytes.clone()));
            return Ok(());
        }
        if let Some((sequence, digest, bytes)) = chain.again.take() {
            let Entry { store, committed_at, .. } = Entry::decode(sequence, &bytes)?;
            chain.last = Some(Last { sequence, digest, store, committed_at });
        }
        let entry = Entry::decode(sequence, bytes)?;
        let digest = digest(entry.algorithm()?, bytes);
        if let Some(last) = &chain.last {
            if entry.previous != Some(last.digest) {
                return Err(self.broken_link(chain, last, &entry, digest).await?);
            }
            if entry.store != last.store {
                let why = format!(
                    "log entry {sequence} is of store {}, and the entry before it of store {}; two stores were mixed",
                    entry.store, last.store
                );
                return Err(Error::corrupt_entry(sequence, why));
            }
            if entry.committed_at <= last.committed_at {
                let why = format!(
                    "log entry {sequence} is dated {}, which is not after the entry before it ({})",
                    entry.committed_at, last.committed_at
                );
                return Err(Error::corrupt_entry(sequence, why));
            }
        }
        chain.last = Some(Last { sequence, digest, store: entry.store, committed_at: entry.committed_at });
        chain.found.push((entry, digest));
        Ok(())
    }

    /// Either of two entries that do not fit may have been altered; the next but one tells which.
    async fn broken_link(&self, chain: &Chain, last: &Last, entry: &Entry, digest: Digest) -> Result<Error> {
        let (before, sequence) = (last.sequence, entry.sequence);
        let expected = entry.previous.map_or_else(|| "none".to_owned(), |expected| expected.to_string());
        let actual = last.digest;
        let known = chain.vouched && chain.head.is_some_and(|(head, _)| head == before);
        let after = sequence.next();
        let witness = match self.read_bytes(after).await? {
            Some(bytes) => Entry::decode(after, &bytes).ok(),
            None => None,
        };
        let newest = witness.is_none();
        let later_altered = known || witness.is_some_and(|witness| witness.previous != Some(digest));
        if later_altered {
            let why = format!(
                "log entry {sequence} was altered: it expects digest {expected} of entry {before}, which gives {actual}"
            );
            return Ok(Error::corrupt_entry(sequence, why));
        }
        let mut why = format!(
            "log entry {before} was altered: entry {sequence} expects digest {expected}, its bytes give {actual}"
        );
        if newest {
            why.push_str(&format!("; or else entry {sequence} was, the newest, which no other vouches for"));
        }
        Ok(Error::corrupt_entry(before, why))
    }
}

/// How a part of the log is asked for.
#[derive(Clone, Copy)]
struct Asked {
    /// Entries asked for at once, to begin with.
    width: u64,
    /// Whether a list is to tell a hole from the end.
    lists: bool,
    /// Enough, where the log does not end before.
    most: usize,
    /// Whether the digest of the head is known to be right, and not only what its bytes gave a moment ago.
    vouched: bool,
}

/// What was read so far.
struct Chain {
    /// The entry that the caller has read before.
    head: Option<(Sequence, Digest)>,
    vouched: bool,
    /// That entry, with its digest and its bytes, as it was read again.
    again: Option<(Sequence, Digest, Bytes)>,
    last: Option<Last>,
    found: Vec<(Entry, Digest)>,
}

/// What the next entry must follow.
struct Last {
    sequence: Sequence,
    digest: Digest,
    store: StoreId,
    committed_at: Timestamp,
}
