//! Bytes that nobody meant: whatever reads bytes from outside gets what it is made for, altered at random.
//!
//! Each target runs in a process of its own with a limit on its memory, so that a panic in any thread, an abort, a read
//! without end and unbounded memory all are failures, with the number of the case. The cases are the same each time;
//! `LINEAMENT_CASES` asks for more, and `LINEAMENT_FUZZED='csv 17 18' … suite::fuzzing::run_target --ignored` runs one.

mod alteration;
mod targets;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::cases::asked_for;
use targets::Target;

/// Address space of a process: the programs, their threads' stacks, and no more than some hundred MiB for a case.
const KIB: u64 = 6 << 20;
/// A case takes milliseconds; whatever is not done after this does not end.
const PATIENCE: Duration = Duration::from_secs(120);
const FUZZED: &str = "LINEAMENT_FUZZED";
const PROGRESS: &str = "LINEAMENT_FUZZED_PROGRESS";

/// Runs cases of a target in a process, and says which one ended it.
fn in_a_process(target: &str, cases: u64) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let progress = folder.path().join("case");
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -v {KIB} && exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "suite::fuzzing::run_target", "--ignored", "--nocapture"])
        .env(FUZZED, format!("{target} 0 {cases}"))
        .env(PROGRESS, &progress)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let ended = std::fs::read_to_string(&progress).unwrap_or_default();
    if output.status.success() && ended == cases.to_string() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = said.lines().rev().take(30).collect();
    Err(format!(
        "{target}: case {ended} ended the process ({}, signal {:?}); run it alone with {FUZZED}='{target} {ended} {}'\n{}",
        output.status,
        output.status.signal(),
        ended.parse::<u64>().unwrap_or(0) + 1,
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    ))
}

/// Ends the process where our own code panics, in any thread. Decoders that are not ours may; it must not get out of the call.
fn end_with_a_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.location().is_none_or(|place| !place.file().contains("/registry/")) {
            before(panic);
            std::process::abort();
        }
    }));
}

#[test]
#[ignore = "the body of the processes that the other tests start"]
fn run_target() {
    let asked = std::env::var(FUZZED).unwrap();
    let [name, from, until] = asked.split(' ').collect::<Vec<_>>()[..] else { panic!("{FUZZED}={asked}") };
    let (from, until): (u64, u64) = (from.parse().unwrap(), until.parse().unwrap());
    let progress = std::env::var_os(PROGRESS);
    let report = |case: u64| {
        if let Some(path) = &progress {
            std::fs::write(Path::new(path), case.to_string()).unwrap();
        }
    };
    end_with_a_panic();
    let at = Arc::new(AtomicU64::new(from));
    let watched = at.clone();
    std::thread::spawn(move || {
        loop {
            let before = watched.load(Ordering::Relaxed);
            std::thread::sleep(PATIENCE);
            assert_ne!(before, watched.load(Ordering::Relaxed), "case {before} does not end");
        }
    });
    let target = Target::named(name);
    for case in from..until {
        report(case);
        at.store(case, Ordering::Relaxed);
        target.run(case);
    }
    target.finish();
    report(until);
}

fn fuzz(target: &str, usual: usize) {
    in_a_process(target, asked_for(usual) as u64).unwrap();
}

#[test]
fn log_entries() {
    fuzz("entry", 20_000);
}

#[test]
fn manifests() {
    fuzz("manifest", 5_000);
}

#[test]
fn checkpoints() {
    fuzz("checkpoint", 2_000);
}

#[test]
fn definitions() {
    fuzz("definitions", 5_000);
}

#[test]
fn csv_files() {
    fuzz("csv", 5_000);
}

#[test]
fn parquet_files() {
    fuzz("parquet", 3_000);
}

#[test]
fn arrow_files() {
    fuzz("arrow", 5_000);
}

/// What none of the targets does: the tests above fail for each way of ending badly.
#[test]
fn a_process_that_ends_badly_is_noticed() {
    for (target, why) in [("panics", "case 3 "), ("panics_elsewhere", "case 3 "), ("takes_memory", "case 3 ")]
    {
        let said = in_a_process(target, 10).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
}
