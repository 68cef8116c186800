//! Writers that race on a failing store, thousands of times over, each time by its seed: whatever happens, what was
//! acknowledged is in the log once, at its sequence, and nothing that was called lost ever is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use feature::digest::{Digest, HashAlgorithm, hash};
use feature::{CommitId, Sequence, StoreId, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::fault_store::{Fault, FaultStore};
use super::{Appended, Log};
use crate::entry::{Entry, FORMAT, RawRecord};
use crate::error::Error;
use crate::splitmix::SplitMix;

const WRITERS: u64 = 4;
const COMMITS: usize = 4;

#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Committed,
    Lost,
    Unknown,
}

#[derive(Clone, Debug)]
struct Attempt {
    writer: u64,
    sequence: Sequence,
    commit: CommitId,
    verdict: Verdict,
}

pub(crate) fn next_entry(head: Option<&(Entry, Digest)>, commit: CommitId, writer: u64) -> Entry {
    Entry {
        format: FORMAT,
        store: StoreId::from(Uuid::from_u128(7)),
        sequence: head.map_or(Sequence::ZERO, |(entry, _)| entry.sequence.next()),
        previous: head.map(|(_, digest)| *digest),
        commit,
        committed_at: Timestamp(head.map_or(0, |(entry, _)| entry.committed_at.0 + 1)),
        principal: format!("writer {writer}"),
        program: "simulation".to_owned(),
        request: None,
        run: None,
        experiment: None,
        records: vec![RawRecord { number: 1, body: json!({}) }],
    }
}

/// One writer: follows the log and appends until it was acknowledged often enough or tried for long.
async fn write(log: Log, writer: u64, seed: u64, attempts: Arc<Mutex<Vec<Attempt>>>) {
    let mut random = SplitMix::new(seed ^ writer.wrapping_mul(0x1234_5678_9abc_def1));
    let mut head: Option<(Entry, Digest)> = None;
    let mut acknowledged = 0;
    for _ in 0..60 {
        if acknowledged == COMMITS {
            break;
        }
        let known = head.as_ref().map(|(entry, digest)| (entry.sequence, *digest));
        match log.entries_after(known).await {
            Ok(entries) => head = entries.into_iter().next_back().or(head),
            // A read that failed or was cut says nothing about the log.
            Err(Error::Unavailable(_) | Error::Corrupt { .. }) => continue,
            Err(error) => panic!("writer {writer}: {error}"),
        }
        let commit = CommitId::from(Uuid::from_u64_pair(random.next(), random.next()));
        let entry = next_entry(head.as_ref(), commit, writer);
        let verdict = match log.append(entry.sequence, entry.encode().unwrap()).await {
            Ok(Appended::Committed) => {
                acknowledged += 1;
                Verdict::Committed
            }
            Ok(Appended::Lost) => Verdict::Lost,
            Err(Error::Unknown { sequence, commit: unknown, .. }) => {
                assert_eq!((sequence, unknown), (entry.sequence, commit));
                Verdict::Unknown
            }
            Err(error) => panic!("writer {writer}: {error}"),
        };
        attempts.lock().unwrap().push(Attempt { writer, sequence: entry.sequence, commit, verdict });
    }
}

#[derive(Debug, Default)]
struct Totals {
    operations: usize,
    faults: BTreeMap<(&'static str, Fault), usize>,
    verdicts: BTreeMap<&'static str, usize>,
    unknown_but_there: usize,
}

/// Runs one seed to its end, checks everything and gives the digest of all that happened.
fn run(seed: u64, totals: &mut Totals) -> Digest {
    // A few seeds are calm, most are rough, some are terrible.
    let rough = [5, 30, 30, 60, 85][(seed % 5) as usize];
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let store = FaultStore::new(seed, rough, 6);
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let entries = runtime.block_on(async {
        let log = Log::new(Arc::new(store.clone()), None, true);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write(log.clone(), writer, seed, attempts.clone())))
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        // Let what is still under way arrive.
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        Log::new(store.inner.clone(), None, false).entries_after(None).await.unwrap()
    });
    let attempts = attempts.lock().unwrap().clone();

    let mut history = String::new();
    for (operation, path, fault) in store.history() {
        totals.operations += 1;
        *totals.faults.entry((operation, fault)).or_default() += 1;
        writeln!(history, "{operation} {path} {fault:?}").unwrap();
    }
    for attempt in &attempts {
        writeln!(history, "{attempt:?}").unwrap();
        let there = entries.iter().filter(|(entry, _)| entry.commit == attempt.commit).collect::<Vec<_>>();
        let at_its_place = matches!(there.as_slice(), [(entry, _)] if entry.sequence == attempt.sequence);
        let (name, right) = match attempt.verdict {
            Verdict::Committed => ("committed", at_its_place),
            Verdict::Lost => ("lost", there.is_empty()),
            Verdict::Unknown => {
                totals.unknown_but_there += there.len();
                ("unknown", there.is_empty() || at_its_place)
            }
        };
        *totals.verdicts.entry(name).or_default() += 1;
        let Attempt { writer, sequence, .. } = attempt;
        assert!(
            right,
            "seed {seed}: writer {writer}, entry {sequence}, {name}, in the log {} times",
            there.len()
        );
    }
    // entries_after proved that there is no gap; here, that nobody's entry is there who never tried.
    for (entry, _) in &entries {
        assert!(attempts.iter().any(|attempt| attempt.commit == entry.commit), "seed {seed}: {entry:?}");
    }
    hash(HashAlgorithm::Blake3, history.as_bytes())
}

#[test]
fn no_acknowledged_entry_is_lost_doubled_or_moved() {
    let mut totals = Totals::default();
    for seed in 0..2_000 {
        run(seed, &mut totals);
    }
    for put in [
        Fault::BeforeApply,
        Fault::AfterApply,
        Fault::OursCalledLost,
        Fault::NothingCalledLost,
        Fault::LateApply,
        Fault::Delay,
    ] {
        let puts: usize =
            totals.faults.iter().filter(|((name, _), _)| *name == "put").map(|(_, count)| count).sum();
        assert!(totals.faults[&("put", put)] * 100 >= puts, "{put:?} is too rare: {totals:?}");
    }
    for get in [Fault::BeforeApply, Fault::Delay, Fault::Cut] {
        let gets: usize =
            totals.faults.iter().filter(|((name, _), _)| *name == "get").map(|(_, count)| count).sum();
        assert!(totals.faults[&("get", get)] * 100 >= gets, "{get:?} is too rare: {totals:?}");
    }
    for verdict in ["committed", "lost", "unknown"] {
        assert!(totals.verdicts[verdict] >= 100, "{verdict} is too rare: {totals:?}");
    }
    assert!(totals.unknown_but_there >= 10, "no unknown entry turned out to be there: {totals:?}");
    println!("{totals:?}");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let mut digests = std::collections::HashSet::new();
    for seed in 0..100 {
        let once = run(seed, &mut Totals::default());
        let again = run(seed, &mut Totals::default());
        assert_eq!(once, again, "seed {seed}");
        digests.insert(once.to_string());
    }
    assert_eq!(digests.len(), 100);
}
