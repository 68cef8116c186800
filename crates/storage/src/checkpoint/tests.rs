//! Checkpoints among faults: what is found is what somebody wrote whole, of the log as it is.

use std::sync::{Arc, Mutex};

use feature::digest::HashAlgorithm;
use feature::{CommitId, StoreId};
use futures::StreamExt;
use object_store::memory::InMemory;
use uuid::Uuid;

use super::*;
use crate::environment::Clock;
use crate::log::Appended;
use crate::log::fault_store::FaultStore;
use crate::log::simulation::next_entry;
use crate::splitmix::SplitMix;

const ALGORITHM: HashAlgorithm = HashAlgorithm::Blake3;

/// The table of a test: the digests of the entries of a range.
fn table(digests: &[Digest]) -> Bytes {
    digests.iter().map(|digest| format!("{digest}\n")).collect::<String>().into()
}

fn checkpoint(digests: &[Digest], segments: Vec<Segment>) -> Checkpoint {
    let all = table(digests);
    Checkpoint {
        format: 1,
        store: StoreId::from(Uuid::from_u128(7)),
        sequence: Sequence(digests.len() as u64 - 1),
        entry: digests[digests.len() - 1],
        state: hash(ALGORITHM, &all),
        program: "test".to_owned(),
        blocks: Vec::new(),
        segments,
        whole: Vec::new(),
        unread: Vec::new(),
    }
}

/// Writes a checkpoint of these entries, on the one before where there is one.
async fn write(store: &Store, digests: &[Digest], before: Option<&Checkpoint>) -> Result<Checkpoint> {
    let before = before.filter(|before| (before.sequence.0 as usize) < digests.len() - 1);
    let from = before.map_or(0, |before| before.sequence.0 as usize + 1);
    let sequence = Sequence(digests.len() as u64 - 1);
    let bytes = table(&digests[from..]);
    let part = put_part(store, sequence, "entries", (digests.len() - from) as u64, bytes, ALGORITHM).await?;
    let mut segments = before.map(|before| before.segments.clone()).unwrap_or_default();
    segments.push(Segment { from: Sequence(from as u64), until: sequence, parts: vec![part] });
    let written = checkpoint(digests, segments);
    publish(store, &written).await?;
    Ok(written)
}

/// The newest checkpoint of which every part is whole, with the state that it holds.
async fn newest(store: &Store) -> Result<Option<(Checkpoint, Bytes)>> {
    for sequence in list(store).await? {
        'candidates: for checkpoint in describe(store, sequence).await?.0 {
            let mut state = Vec::new();
            for part in checkpoint.segments.iter().flat_map(|segment| &segment.parts) {
                match read_part(store, part).await {
                    Ok(bytes) => state.extend_from_slice(&bytes),
                    Err(_) => continue 'candidates,
                }
            }
            return Ok(Some((checkpoint, state.into())));
        }
    }
    Ok(None)
}

#[derive(Debug, Default)]
struct Seen {
    written: Vec<Checkpoint>,
    failed: usize,
    found: usize,
    damaged: usize,
}

/// One process: follows the log, appends, and makes checkpoints now and then.
async fn run_writer(store: Store, writer: u64, seed: u64, seen: Arc<Mutex<Seen>>) {
    let mut random = SplitMix::new(seed ^ writer.wrapping_mul(0x1234_5678_9abc_def1));
    let mut known: Vec<(crate::entry::Entry, Digest)> = Vec::new();
    let mut last: Option<Checkpoint> = None;
    for _ in 0..12 {
        let head = known.last().map(|(entry, digest)| (entry.sequence, *digest));
        match store.log().entries_after(head).await {
            Ok(entries) => known.extend(entries),
            Err(Error::Unavailable(_) | Error::Corrupt { .. }) => continue,
            Err(error) => panic!("writer {writer}: {error}"),
        }
        let commit = CommitId::from(Uuid::from_u64_pair(random.next(), random.next()));
        let entry = next_entry(known.last(), commit, writer);
        match store.log().append(entry.sequence, entry.encode().unwrap()).await {
            Ok(Appended::Committed | Appended::Lost) | Err(Error::Unknown { .. }) => {}
            Err(error) => panic!("writer {writer}: {error}"),
        }
        let digests: Vec<Digest> = known.iter().map(|(_, digest)| *digest).collect();
        if !digests.is_empty() && random.below(2) == 0 {
            // At times of an older state, after another process wrote a newer one.
            let length = digests.len() - random.below(3).min(digests.len() as u64 - 1) as usize;
            match write(&store, &digests[..length], last.as_ref()).await {
                Ok(written) => {
                    seen.lock().unwrap().written.push(written.clone());
                    last = Some(written);
                }
                Err(_) => seen.lock().unwrap().failed += 1,
            }
        }
        if let Ok(Some((found, state))) = newest(&store).await {
            seen.lock().unwrap().found += 1;
            assert_eq!(hash(ALGORITHM, &state), found.state, "seed {seed}: a state that nobody wrote");
            let entries = state.split(|byte| *byte == b'\n').count() as u64 - 1;
            assert_eq!(entries, found.sequence.0 + 1, "seed {seed}");
            if random.below(2) == 0 {
                last = Some(found);
            }
        }
    }
}

/// Damages objects of checkpoints, as a disk would.
async fn damage(objects: Arc<InMemory>, seed: u64, seen: Arc<Mutex<Seen>>) {
    let mut random = SplitMix::new(seed ^ 0xdead);
    for _ in 0..4 {
        tokio::time::sleep(std::time::Duration::from_millis(random.below(40))).await;
        let listed = objects.list(Some(&Path::from("checkpoints")));
        let mut paths: Vec<Path> = listed.map(|object| object.unwrap().location).collect().await;
        paths.sort();
        if paths.is_empty() {
            continue;
        }
        let path = &paths[random.below(paths.len() as u64) as usize];
        let mut bytes = objects.get(path).await.unwrap().bytes().await.unwrap().to_vec();
        match random.below(3) {
            0 => bytes.truncate(bytes.len() / 2),
            1 => {
                let place = random.below(bytes.len().max(1) as u64) as usize;
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 4;
                }
            }
            _ => bytes.extend_from_slice(b"more"),
        }
        objects.put(path, bytes.into()).await.unwrap();
        seen.lock().unwrap().damaged += 1;
    }
}

fn run(seed: u64) -> Seen {
    let rough = [5, 30, 30, 60, 85][(seed % 5) as usize];
    let faults = FaultStore::new(seed, rough, 6);
    let seen = Arc::new(Mutex::new(Seen::default()));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let store = Store::over("faults", Arc::new(faults.clone()), Clock::default());
        let mut tasks: Vec<_> = (0..3)
            .map(|writer| tokio::spawn(run_writer(store.clone(), writer, seed, seen.clone())))
            .collect();
        if seed.is_multiple_of(2) {
            tasks.push(tokio::spawn(damage(faults.inner.clone(), seed, seen.clone())));
        }
        for task in tasks {
            task.await.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        let store = Store::over("whole", faults.inner.clone(), Clock::default());
        let log = store.log().entries_after(None).await.unwrap();
        let digests: Vec<Digest> = log.iter().map(|(_, digest)| *digest).collect();
        let written = seen.lock().unwrap().written.clone();
        // Without damage whatever was acknowledged is there, and the newest of it opens.
        let found = newest(&store).await.unwrap();
        if seed % 2 == 1 {
            let acknowledged = written.iter().map(|checkpoint| checkpoint.sequence).max();
            assert!(found.as_ref().map(|(found, _)| found.sequence) >= acknowledged, "seed {seed}");
            for checkpoint in &written {
                let (sound, _) = describe(&store, checkpoint.sequence).await.unwrap();
                assert!(sound.contains(checkpoint), "seed {seed}: {checkpoint:?}");
            }
        }
        // Whatever is found, also what came late from writers who were told that it failed, is the log.
        for sequence in list(&store).await.unwrap() {
            for checkpoint in describe(&store, sequence).await.unwrap().0 {
                let known = &digests[..=sequence.0 as usize];
                assert_eq!(checkpoint.entry, digests[sequence.0 as usize], "seed {seed}");
                assert_eq!(checkpoint.state, hash(ALGORITHM, &table(known)), "seed {seed}");
                for part in checkpoint.segments.iter().flat_map(|segment| &segment.parts) {
                    let read = read_part(&store, part).await;
                    assert!(read.is_ok() || seed.is_multiple_of(2), "seed {seed}: {read:?}");
                }
            }
        }
        if let Some((found, _)) = found {
            let after = store.log().entries_after_checkpoint(found.sequence, found.entry).await.unwrap();
            assert_eq!(after.len(), digests.len() - 1 - found.sequence.0 as usize, "seed {seed}");
        }
    });
    Arc::into_inner(seen).unwrap().into_inner().unwrap()
}

#[test]
fn no_fault_makes_a_checkpoint_of_what_never_was() {
    let mut all = Seen::default();
    for seed in 0..600 {
        let seen = run(seed);
        all.written.extend(seen.written);
        all.failed += seen.failed;
        all.found += seen.found;
        all.damaged += seen.damaged;
    }
    let written = all.written.len();
    let parted = all.written.iter().filter(|checkpoint| checkpoint.segments.len() > 1).count();
    let all = (written, parted, all.failed, all.found, all.damaged);
    assert!(all.0 > 1_000 && all.1 > 100 && all.2 > 100 && all.3 > 1_000 && all.4 > 200, "too rare: {all:?}");
}

#[tokio::test]
async fn descriptions_that_cannot_be_are_passed_over() {
    let store = Store::open("memory://", Clock::System).unwrap();
    let digests: Vec<Digest> = (0..4).map(|number: u8| hash(ALGORITHM, &[number])).collect();
    let sound = write(&store, &digests, None).await.unwrap();
    let segment = sound.segments[0].clone();
    let part = segment.parts[0].clone();
    let with = |segments: Vec<Segment>| Checkpoint { segments, ..sound.clone() };
    let late = Segment { from: Sequence(1), ..segment.clone() };
    let short = Segment { until: Sequence(2), ..segment.clone() };
    let long = Segment { until: Sequence(4), ..segment.clone() };
    let endless = Segment { from: Sequence(4), until: Sequence(u64::MAX), ..segment.clone() };
    let elsewhere = Part { table: "../log/x".to_owned(), ..part.clone() };
    let newer = Part { written: Sequence(9), ..part };
    let wrong = [
        (with(Vec::new()), "do not reach 3"),
        (with(vec![late]), "not the log from its beginning"),
        (with(vec![short]), "do not reach 3"),
        (with(vec![long]), "not the log from its beginning"),
        (with(vec![segment.clone(), endless]), "not the log from its beginning"),
        (with(vec![Segment { parts: vec![elsewhere], ..segment.clone() }]), "which cannot be"),
        (with(vec![Segment { parts: vec![newer], ..segment }]), "which cannot be"),
    ];
    for (checkpoint, why) in &wrong {
        publish(&store, checkpoint).await.unwrap();
        let (found, passed_over) = describe(&store, Sequence(3)).await.unwrap();
        assert_eq!(found, std::slice::from_ref(&sound));
        assert!(passed_over.iter().any(|passed| passed.contains(why)), "{why}: {passed_over:?}");
    }
    let (_, passed_over) = describe(&store, Sequence(3)).await.unwrap();
    assert_eq!(passed_over.len(), wrong.len());
}
