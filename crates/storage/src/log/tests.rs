use std::time::Duration;

use feature::CommitId;
use feature::digest::Digest;
use object_store::memory::InMemory;
use object_store::{PutMode, PutPayload};

use super::fault_store::{Fault, FaultStore};
use super::simulation::next_entry;
use super::*;
use crate::entry::Entry;
use crate::environment;

fn log_over(objects: impl ObjectStore) -> Log {
    Log::new(Arc::new(objects), None, false)
}

pub(crate) fn entry_after(head: Option<&(Entry, Digest)>) -> Entry {
    next_entry(head, environment::random(), 0)
}

/// A log of so many entries.
async fn filled(length: usize) -> (Arc<InMemory>, Log, Vec<(Entry, Digest)>) {
    let objects = Arc::new(InMemory::new());
    let log = Log::new(objects.clone(), None, false);
    let mut last = None;
    for _ in 0..length {
        let entry = entry_after(last.as_ref());
        assert_eq!(log.append(entry.sequence, entry.encode().unwrap()).await.unwrap(), Appended::Committed);
        last = log.read(entry.sequence).await.unwrap();
    }
    let entries = log.entries_after(None).await.unwrap();
    assert_eq!(entries.len(), length);
    (objects, log, entries)
}

async fn overwrite(objects: &InMemory, sequence: u64, bytes: impl Into<PutPayload>) {
    objects.put(&path(Sequence(sequence)), bytes.into()).await.unwrap();
}

fn corrupt(error: &Error) -> (u64, String) {
    match error {
        Error::Corrupt { sequence: Some(sequence), .. } => (sequence.0, error.to_string()),
        _ => panic!("{error}"),
    }
}

#[test]
fn names_are_matched_exactly() {
    assert_eq!(object_name(Sequence(17)), "log/00000000000000000017.json");
    assert_eq!(sequence_of(&Path::from("log/00000000000000000017.json")), Some(Sequence(17)));
    for name in [
        "log/17.json",
        "log/000000000000000000017.json",
        "log/+0000000000000000017.json",
        "log/00000000000000000017.json.bak",
        "log/00000000000000000017.checkpoint.json",
        "log/00000000000000000017",
        "log/sub/00000000000000000017.json",
        "log2/00000000000000000017.json",
        "checkpoints/00000000000000000017.json",
        "log/99999999999999999999.json",
        "00000000000000000017.json",
    ] {
        assert_eq!(sequence_of(&Path::from(name)), None, "{name}");
    }
}

#[tokio::test]
async fn entries_are_read_from_any_head() {
    let (_, log, entries) = filled(150).await;
    for start in [0, 1, 31, 32, 33, 63, 64, 100, 148, 149] {
        let (entry, digest) = &entries[start];
        let after = log.entries_after(Some((entry.sequence, *digest))).await.unwrap();
        assert_eq!(after, entries[start + 1..]);
    }
    assert_eq!(log.read(Sequence(40)).await.unwrap().as_ref(), Some(&entries[40]));
    assert_eq!(log.read(Sequence(150)).await.unwrap(), None);
    let (_, empty, none) = filled(0).await;
    assert!(none.is_empty() && empty.read(Sequence::ZERO).await.unwrap().is_none());
}

#[tokio::test]
async fn the_chain_names_the_altered_entry() {
    for (length, altered, piece, blamed) in [
        // An altered field shows in the next entry's expectation.
        (40, 17, "principal", 17),
        (40, 0, "principal", 0),
        (3, 1, "principal", 1),
        (2, 0, "principal", 0),
        // An altered expectation is told from it by the entry after.
        (40, 17, "previous", 17),
        (40, 38, "previous", 38),
        // The newest has no entry after it, so both are named.
        (40, 39, "previous", 38),
        (40, 17, "sequence", 17),
        (40, 17, "json", 17),
        (40, 39, "json", 39),
        (40, 17, "newline", 17),
    ] {
        let (objects, log, entries) = filled(length).await;
        let mut entry = entries[altered].0.clone();
        let text = String::from_utf8(entry.encode().unwrap().to_vec()).unwrap();
        let bytes = match piece {
            "principal" => text.replace("writer", "author"),
            "previous" => {
                entry.previous = Some(entries[5].1);
                String::from_utf8(entry.encode().unwrap().to_vec()).unwrap()
            }
            "sequence" => text.replace(&format!("\"sequence\":{altered}"), "\"sequence\":3"),
            "newline" => text.clone() + "\n",
            _ => text[1..].to_owned(),
        };
        assert_ne!(bytes, text);
        overwrite(&objects, altered as u64, bytes).await;
        let (sequence, message) = corrupt(&log.entries_after(None).await.unwrap_err());
        assert_eq!(sequence, blamed, "{length} {altered} {piece}: {message}");
        assert!(message.contains(&format!("log entry {blamed} ")), "{message}");
        if piece == "principal" {
            let (_, actual) = crate::entry::Entry::decode(
                Sequence(sequence),
                &log.read_bytes(Sequence(sequence)).await.unwrap().unwrap(),
            )
            .map(|entry| {
                (entry.clone(), crate::entry::digest(entry.algorithm().unwrap(), &entry.encode().unwrap()))
            })
            .unwrap();
            let expected = entries[altered].1;
            let says = format!(
                "log entry {altered} was altered: entry {} expects digest {expected}, its bytes give {actual}",
                altered + 1
            );
            assert!(message.contains(&says), "{message}");
            assert_eq!(message.contains("or else entry"), altered + 2 == length, "{message}");
        }
    }
}

#[tokio::test]
async fn the_newest_entry_is_held_to_the_digest_that_was_seen() {
    let (objects, log, entries) = filled(3).await;
    let (newest, digest) = entries[2].clone();
    let head = Some((newest.sequence, digest));
    assert!(log.entries_after(head).await.unwrap().is_empty());

    let mut altered = newest.clone();
    altered.principal = "someone else".to_owned();
    overwrite(&objects, 2, altered.encode().unwrap()).await;
    // The chain alone cannot see it.
    log.entries_after(None).await.unwrap();
    let (sequence, message) = corrupt(&log.entries_after(head).await.unwrap_err());
    assert_eq!(sequence, 2);
    assert!(message.contains("when it was read before"), "{message}");

    objects.delete(&path(Sequence(2))).await.unwrap();
    let (sequence, message) = corrupt(&log.entries_after(head).await.unwrap_err());
    assert!(sequence == 2 && message.contains("missing now"), "{message}");

    overwrite(&objects, 2, newest.encode().unwrap()).await;
    let mut stranger = next_entry(Some(&(newest.clone(), entries[0].1)), environment::random(), 0);
    overwrite(&objects, 3, stranger.encode().unwrap()).await;
    let (sequence, message) = corrupt(&log.entries_after(head).await.unwrap_err());
    assert!(sequence == 3 && message.contains("expects digest"), "{message}");
    stranger.previous = Some(digest);
    overwrite(&objects, 3, stranger.encode().unwrap()).await;
    assert_eq!(log.entries_after(head).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_hole_is_told_from_the_end() {
    for (length, missing) in [(40, 17), (40, 0), (3, 1), (100, 32), (200, 150)] {
        let (objects, log, entries) = filled(length).await;
        objects.delete(&path(Sequence(missing))).await.unwrap();
        let (sequence, message) = corrupt(&log.entries_after(None).await.unwrap_err());
        assert_eq!(sequence, missing);
        assert!(message.contains(&format!("log entry {missing} is missing")), "{message}");
        if let Some(before) = missing.checked_sub(4) {
            let (entry, digest) = &entries[before as usize];
            corrupt(&log.entries_after(Some((entry.sequence, *digest))).await.unwrap_err());
        }
    }
    // Behind the window only the list can tell.
    let (objects, log, _) = filled(40).await;
    for missing in 1..39 {
        objects.delete(&path(Sequence(missing))).await.unwrap();
    }
    assert_eq!(corrupt(&log.entries_after(None).await.unwrap_err()).0, 1);
    // What merely lies in the folder is no entry.
    let (objects, log, _) = filled(2).await;
    for name in
        ["log/00000000000000000009.checkpoint.json", "log/9.json", "log/00000000000000000009.json.tmp"]
    {
        objects.put(&Path::from(name), "{}".into()).await.unwrap();
    }
    assert_eq!(log.entries_after(None).await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn entries_that_arrive_while_one_reads_are_no_hole() {
    let store = FaultStore::scripted(&[]);
    let (_, _, entries) = filled(3).await;
    for (entry, _) in &entries {
        overwrite(&store.inner, entry.sequence.0, entry.encode().unwrap()).await;
    }
    let head = Some((Sequence::ZERO, entries[0].1));
    use Fault::{None as Right, NotYet};
    for (head, script, found) in [
        // A later one was there when it was asked for, this one not yet.
        (None, vec![Right, NotYet], 0..3),
        // All but the first came after they were asked for, and before the list.
        (None, vec![Right, NotYet, NotYet], 0..3),
        // Nothing later is known, so this is the end for now.
        (None, vec![Right, Right, NotYet], 0..2),
        (head, vec![Right, NotYet], 1..1),
        (head, vec![Right, Right, NotYet], 1..2),
    ] {
        let reading = FaultStore::scripted(&script).over(store.inner.clone());
        let read = log_over(reading).entries_after(head).await.unwrap();
        assert_eq!(read, entries[found], "{script:?}");
    }
}

/// Over a network an entry may come altered, and be an entry still. Its successor tells of each but the newest, which is asked for
/// again; and what came wrong once is no damage.
#[tokio::test(start_paused = true)]
async fn an_entry_that_comes_altered_is_asked_for_again() {
    let (objects, _, entries) = filled(3).await;
    let reading = |script: &[Fault], is_remote| {
        Log::new(Arc::new(FaultStore::scripted(script).over(objects.clone())), None, is_remote)
    };
    use Fault::{Altered, None as Right};
    for script in [vec![Right, Right, Altered], vec![Altered], vec![Right, Altered, Altered]] {
        let read = reading(&script, true).entries_after(None).await.unwrap();
        assert_eq!(read, entries, "{script:?}");
    }
    let head = Some((Sequence(1), entries[1].1));
    assert_eq!(reading(&[Right, Altered], true).entries_after(head).await.unwrap(), entries[2..]);
    assert_eq!(reading(&[Altered], true).entries_after(head).await.unwrap(), entries[2..]);
    // Without asking again nobody notices.
    let read = reading(&[Right, Right, Altered], false).entries_after(None).await.unwrap();
    assert!(read[..2] == entries[..2] && read[2] != entries[2]);
    // One that comes wrong each time is not taken.
    let always = [Altered, Right].repeat(200);
    let error = reading(&always, true).entries_after(Some((Sequence(2), entries[2].1))).await.unwrap_err();
    assert_eq!(corrupt(&error).0, 2);
}

/// After an ambiguous answer the writer's own entry may come back as another's: it is lost where it comes so twice.
#[tokio::test(start_paused = true)]
async fn ones_own_entry_that_comes_back_altered_is_not_lost() {
    let (_, _, entries) = filled(1).await;
    use Fault::{Altered, None as Right, OfAnother, OursCalledLost};
    for script in [
        vec![OursCalledLost, OfAnother, Right],
        vec![OursCalledLost, Altered, OfAnother, Right],
        vec![OursCalledLost, OfAnother, Altered, Right],
    ] {
        let store = FaultStore::scripted(&script);
        overwrite(&store.inner, 0, entries[0].0.encode().unwrap()).await;
        let log = Log::new(Arc::new(store), None, true);
        let ours = entry_after(entries.last());
        let appended = log.append(ours.sequence, ours.encode().unwrap()).await.unwrap();
        assert_eq!(appended, Appended::Committed, "{script:?}");
    }
    let store = FaultStore::scripted(&[]);
    let theirs = entry_after(entries.last());
    overwrite(&store.inner, 1, theirs.encode().unwrap()).await;
    let ours = entry_after(entries.last());
    let log = Log::new(Arc::new(store), None, true);
    assert_eq!(log.append(ours.sequence, ours.encode().unwrap()).await.unwrap(), Appended::Lost);
}

#[tokio::test]
async fn stores_and_times_that_do_not_fit_are_named() {
    let (objects, log, entries) = filled(3).await;
    let mut mixed = entry_after(entries.last());
    mixed.store = environment::mint();
    overwrite(&objects, 3, mixed.encode().unwrap()).await;
    let (sequence, message) = corrupt(&log.entries_after(None).await.unwrap_err());
    assert!(sequence == 3 && message.contains("two stores were mixed"), "{message}");

    for at in [0, 1, 2] {
        let mut early = entry_after(entries.last());
        early.committed_at = feature::Timestamp(at);
        overwrite(&objects, 3, early.encode().unwrap()).await;
        let (sequence, message) = corrupt(&log.entries_after(None).await.unwrap_err());
        assert!(sequence == 3 && message.contains("not after the entry before it"), "{message}");
        let head = entries.last().map(|(entry, digest)| (entry.sequence, *digest));
        assert_eq!(corrupt(&log.entries_after(head).await.unwrap_err()).0, 3);
    }
}

#[tokio::test]
async fn a_newer_entry_stops_reading_and_loses_races() {
    let (objects, log, entries) = filled(2).await;
    let text = String::from_utf8(entry_after(entries.last()).encode().unwrap().to_vec()).unwrap();
    overwrite(&objects, 2, text.replace("\"format\":1", "\"format\":2")).await;
    let error = log.entries_after(None).await.unwrap_err();
    assert!(matches!(error, Error::Newer { .. }), "{error}");
    assert!(error.to_string().contains("log/00000000000000000002.json"), "{error}");
    let ours = entry_after(entries.last());
    assert_eq!(log.append(ours.sequence, ours.encode().unwrap()).await.unwrap(), Appended::Lost);
}

#[tokio::test]
async fn only_an_entry_at_its_place_is_appended() {
    let (_, log, entries) = filled(1).await;
    let entry = entry_after(entries.last());
    for (sequence, bytes) in [(2, entry.encode().unwrap()), (1, Bytes::from_static(b"{}"))] {
        let error = log.append(Sequence(sequence), bytes).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
    assert_eq!(log.entries_after(None).await.unwrap().len(), 1);
}

/// How an append of a first entry ends under these faults, whether it is stored then, and how many puts it took.
async fn append_under(faults: &[Fault], other_first: bool) -> (Result<Appended>, bool, usize) {
    let store = FaultStore::scripted(faults);
    let ours = entry_after(None);
    if other_first {
        let other = entry_after(None);
        overwrite(&store.inner, 0, other.encode().unwrap()).await;
    }
    let result = log_over(store.clone()).append(ours.sequence, ours.encode().unwrap()).await;
    let stored = match store.inner.get(&path(Sequence::ZERO)).await {
        Ok(found) => found.bytes().await.unwrap() == ours.encode().unwrap(),
        Err(_) => false,
    };
    (result, stored, store.history().iter().filter(|(operation, ..)| *operation == "put").count())
}

#[tokio::test(start_paused = true)]
async fn stored_bytes_decide_and_not_the_answer() {
    use Fault::{AfterApply, BeforeApply, Cut, Delay, NothingCalledLost, OursCalledLost};
    for (faults, puts) in [
        (vec![], 1),
        (vec![AfterApply], 1),
        (vec![OursCalledLost], 1),
        (vec![BeforeApply], 2),
        (vec![NothingCalledLost], 2),
        (vec![Delay], 1),
        (vec![AfterApply, BeforeApply, Cut, BeforeApply], 1),
        (vec![NothingCalledLost, BeforeApply, Fault::None, OursCalledLost], 2),
    ] {
        let (result, stored, sent) = append_under(&faults, false).await;
        assert_eq!((result.unwrap(), stored, sent), (Appended::Committed, true, puts), "{faults:?}");
    }
    for faults in [vec![], vec![BeforeApply], vec![AfterApply], vec![Fault::None, BeforeApply, Cut]] {
        let (result, stored, sent) = append_under(&faults, true).await;
        assert_eq!((result.unwrap(), stored, sent), (Appended::Lost, false, 1), "{faults:?}");
    }
    for (faults, lands) in [
        // It is written, but cannot be read back.
        (vec![AfterApply, BeforeApply, BeforeApply, BeforeApply, BeforeApply], true),
        (vec![OursCalledLost, Cut, BeforeApply, Cut, Cut], true),
        // It is never written, and something of it may still be under way.
        ([BeforeApply, Fault::None].repeat(6), false),
        ([NothingCalledLost, Fault::None].repeat(6), false),
    ] {
        let (result, stored, _) = append_under(&faults, false).await;
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Unknown { sequence: Sequence::ZERO, .. }), "{faults:?}: {error}");
        assert_eq!(stored, lands, "{faults:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_said_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let local = DurableLocal::new(folder.path().canonicalize().unwrap().join("missing"));
    let log = Log::new(Arc::new(local.clone()), Some(local), false);
    let entry = entry_after(None);
    let error = log.append(entry.sequence, entry.encode().unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(object_store::Error::NotFound { .. })), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_append_outlives_its_caller() {
    let store = FaultStore::scripted(&[Fault::BeforeApply, Fault::BeforeApply, Fault::None, Fault::Delay]);
    let log = log_over(store.clone());
    let entry = entry_after(None);
    let append = log.append(entry.sequence, entry.encode().unwrap());
    tokio::time::timeout(Duration::from_micros(1), append).await.unwrap_err();
    assert!(store.inner.get(&path(Sequence::ZERO)).await.is_err(), "it is not there yet");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let stored = store.inner.get(&path(Sequence::ZERO)).await.unwrap().bytes().await.unwrap();
    assert_eq!(stored, entry.encode().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_race_on_local_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("store");
    DurableLocal::new(root.clone()).create_root().await.unwrap();
    let writers: Vec<_> = (0..8u64)
        .map(|writer| {
            // Its own handle, as another process has.
            let local = DurableLocal::new(root.clone());
            let log = Log::new(Arc::new(local.clone()), Some(local), false);
            tokio::spawn(async move {
                let mut acknowledged: Vec<(Sequence, CommitId)> = Vec::new();
                let mut head: Option<(Entry, Digest)> = None;
                while acknowledged.len() < 15 {
                    let known = head.as_ref().map(|(entry, digest)| (entry.sequence, *digest));
                    head = log.entries_after(known).await.unwrap().into_iter().next_back().or(head);
                    let entry = next_entry(head.as_ref(), environment::random(), writer);
                    if log.append(entry.sequence, entry.encode().unwrap()).await.unwrap()
                        == Appended::Committed
                    {
                        acknowledged.push((entry.sequence, entry.commit));
                    }
                }
                acknowledged
            })
        })
        .collect();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    acknowledged.sort();
    let local = DurableLocal::new(root);
    let entries = Log::new(Arc::new(local.clone()), Some(local), false).entries_after(None).await.unwrap();
    let there: Vec<_> = entries.iter().map(|(entry, _)| (entry.sequence, entry.commit)).collect();
    assert_eq!(there, acknowledged);
    assert_eq!(there.len(), 120);
}

#[tokio::test]
async fn an_entry_of_absurd_size_is_not_read() {
    let (objects, log, _) = filled(1).await;
    objects
        .put_opts(&path(Sequence(1)), vec![b' '; MAX_BYTES + 1].into(), PutMode::Create.into())
        .await
        .unwrap();
    let (sequence, message) = corrupt(&log.entries_after(None).await.unwrap_err());
    assert!(sequence == 1 && message.contains("16777217 bytes"), "{message}");
}

#[tokio::test]
async fn a_long_log_is_read_by_parts_as_it_is_whole() {
    async fn by_parts(log: &Log) -> Result<Vec<(Entry, Digest)>> {
        let mut all: Vec<(Entry, Digest)> = Vec::new();
        loop {
            let head = all.last().map(|(entry, digest)| (entry.sequence, *digest));
            let (entries, more) = log.next_entries(head).await?;
            all.extend(entries);
            if !more {
                return Ok(all);
            }
        }
    }
    for length in [1, 4_095, 4_096, 4_097, 4_128] {
        let (_, log, entries) = filled(length).await;
        assert_eq!(by_parts(&log).await.unwrap(), entries, "{length}");
    }
    let (objects, log, entries) = filled(4_200).await;
    // At the end of a part, at the beginning of the next, and within.
    for altered in [4_094, 4_095, 4_096, 4_097, 4_150] {
        let bytes = entries[altered].0.encode().unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap().replace("writer", "author");
        overwrite(&objects, altered as u64, text).await;
        let (sequence, message) = corrupt(&by_parts(&log).await.unwrap_err());
        assert_eq!(sequence, altered as u64, "{message}");
        overwrite(&objects, altered as u64, bytes).await;
    }
    objects.delete(&path(Sequence(4_199 - 60))).await.unwrap();
    assert_eq!(corrupt(&by_parts(&log).await.unwrap_err()).0, 4_199 - 60);
}
