//! `lineament verify`: the whole store.

use std::process::ExitCode;

use feature::Span;
use serving::{Fault, Result, StoreVerification, VerifyRequest, verify_store};

use super::{Arguments, DAMAGED};
use crate::progress;
use crate::report;
use crate::session::Place;
use crate::table::grouped;

/// Orphans that are shown; `--format json` has more.
const SHOWN: usize = 20;

pub async fn run(place: &Place, arguments: &Arguments) -> Result<ExitCode> {
    let store = place.unopened()?;
    let request = VerifyRequest { full: arguments.full, mend: arguments.mend };
    let (bar, looked_at) = progress::objects("verifying");
    let found = verify_store(&store, request, looked_at).await;
    bar.finish_and_clear();
    let found = found?;
    report::print(&found, arguments.format, print)?;
    Ok(if found.holds() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}

fn print(found: &StoreVerification) {
    for fault in &found.faults {
        print_fault(fault);
    }
    for note in &found.notes {
        println!("note: {note}");
    }
    for orphan in found.orphans.iter().take(SHOWN) {
        let age = Span::from_micros(orphan.age_seconds.saturating_mul(1_000_000));
        let age = age.map_or_else(|| format!("{} s", orphan.age_seconds), |age| age.to_string());
        let bytes = grouped(orphan.bytes);
        println!("note: nothing names {} ({bytes} bytes, {age} old)", orphan.object);
    }
    if found.orphan_objects > SHOWN as u64 {
        println!("note: nothing names {} more objects", grouped(found.orphan_objects - SHOWN as u64));
    }
    let left = found.faults.iter().filter(|fault| !fault.mended).count();
    let looked = format!(
        "{} entries, {} batches, {} training sets, {} checkpoints, {} objects{}",
        grouped(found.entries),
        grouped(found.batches),
        grouped(found.training_sets),
        grouped(found.checkpoints),
        grouped(found.objects),
        if found.full { ", with all contents" } else { ", of contents the size alone (--full reads them)" }
    );
    if left == 0 {
        println!("holds: {looked}");
    } else {
        println!("{} does not hold: {} wrong; {looked}", found.location, grouped(left as u64));
    }
    if let (Some(head), Some(digest)) = (found.head, found.head_digest) {
        println!("newest entry {head}: {digest}");
    }
}

fn print_fault(fault: &Fault) {
    println!("{}: {}: {}", if fault.mended { "mended" } else { "wrong" }, fault.object, fault.why);
    for harm in &fault.harms {
        println!("  harms {harm}");
    }
    if !fault.mended {
        println!("  {}", fault.advice);
    }
}
