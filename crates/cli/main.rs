//! `lineament`: a feature store with experiment tracking and model lineage built into the engine.
//!
//! One file a verb: each parses its arguments, calls one function of `serving`, and prints.

mod access;
mod alerts;
mod apply;
mod approve;
mod audit;
mod bias;
mod checkpoint;
mod compact;
mod decisions;
mod definitions_folder;
mod demo;
mod deploy;
mod deprecate;
mod diff;
mod drift;
mod emit;
mod erase;
mod evidence;
mod evidence_key;
mod experiment;
mod explain;
mod export;
mod hold;
mod impact;
mod import;
mod ingest;
mod init;
mod lineage;
mod measures;
mod memory_limits;
mod model;
mod plan;
mod policy_folder;
mod policy_verbs;
mod profile;
mod progress;
mod quality;
mod quarantine;
mod reconcile;
mod refresh;
mod replay;
mod report;
mod retain;
mod retrieve;
mod rollback;
mod run;
mod search;
mod serve;
mod served_set;
mod session;
mod sql;
mod stream_groups;
mod sweep;
mod table;
mod test_definitions;
mod token;
mod tracking;
mod use_of;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use session::Place;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Stack of a worker: deep expressions are planned by recursion.
const STACK_BYTES: usize = 64 << 20;

/// A feature store with experiment tracking and model lineage built into the engine.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Demo(demo::Arguments),
    Init(init::Arguments),
    Plan(plan::Arguments),
    Apply(apply::Arguments),
    Approve(approve::Arguments),
    Deprecate(deprecate::Arguments),
    Decisions(decisions::Arguments),
    Policy(policy_verbs::Arguments),
    Test(test_definitions::Arguments),
    Ingest(ingest::Arguments),
    Import(import::Arguments),
    Refresh(refresh::Arguments),
    Sql(sql::Arguments),
    Search(search::Arguments),
    Retrieve(retrieve::Arguments),
    Replay(replay::Arguments),
    Explain(explain::Arguments),
    Export(export::Arguments),
    Lineage(lineage::Arguments),
    Impact(impact::Arguments),
    Experiment(experiment::Arguments),
    Run(run::Arguments),
    Use(use_of::Arguments),
    Model(model::Arguments),
    Deploy(deploy::Arguments),
    Diff(diff::Arguments),
    Audit(audit::Arguments),
    Evidence(evidence::Arguments),
    EvidenceKey(evidence_key::Arguments),
    Verify(verify::Arguments),
    Reconcile(reconcile::Arguments),
    Rollback(rollback::Arguments),
    Profile(profile::Arguments),
    Drift(drift::Arguments),
    Bias(bias::Arguments),
    Quality(quality::Arguments),
    Quarantine(quarantine::Arguments),
    Alerts(alerts::Arguments),
    Checkpoint(checkpoint::Arguments),
    Compact(compact::Arguments),
    Retain(retain::Arguments),
    Sweep(sweep::Arguments),
    Erase(erase::Arguments),
    Hold(hold::Arguments),
    Emit(emit::Arguments),
    Serve(Box<serve::Arguments>),
    Token(token::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().thread_stack_size(STACK_BYTES).enable_all().build()
        {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("error: the program cannot start: {error}");
                return ExitCode::FAILURE;
            }
        };
    let place = arguments.place;
    let done = runtime.block_on(async move {
        let done = match arguments.verb {
            Verb::Demo(arguments) => demo::run(&place, arguments).await,
            Verb::Init(arguments) => init::run(arguments),
            Verb::Plan(arguments) => plan::run(&place, arguments).await,
            Verb::Apply(arguments) => apply::run(&place, arguments).await,
            Verb::Approve(arguments) => approve::run(&place, arguments).await,
            Verb::Deprecate(arguments) => deprecate::run(&place, arguments).await,
            Verb::Decisions(arguments) => decisions::run(&place, arguments).await,
            Verb::Policy(arguments) => policy_verbs::run(&place, arguments).await,
            Verb::Test(arguments) => test_definitions::run(&place, arguments).await,
            Verb::Ingest(arguments) => ingest::run(&place, arguments).await,
            Verb::Import(arguments) => import::run(&place, arguments),
            Verb::Refresh(arguments) => refresh::run(&place, arguments).await,
            Verb::Sql(arguments) => sql::run(&place, arguments).await,
            Verb::Search(arguments) => search::run(&place, arguments).await,
            Verb::Retrieve(arguments) => retrieve::run(&place, arguments).await,
            Verb::Replay(arguments) => replay::run(&place, arguments).await,
            Verb::Explain(arguments) => explain::run(&place, arguments).await,
            Verb::Export(arguments) => export::run(&place, arguments).await,
            Verb::Lineage(arguments) => lineage::run(&place, arguments).await,
            Verb::Impact(arguments) => impact::run(&place, arguments).await,
            Verb::Experiment(arguments) => experiment::run(&place, arguments).await,
            Verb::Run(arguments) => run::run(&place, arguments).await,
            Verb::Use(arguments) => use_of::run(&place, arguments).await,
            Verb::Model(arguments) => model::run(&place, arguments).await,
            Verb::Deploy(arguments) => deploy::run(&place, arguments).await,
            Verb::Diff(arguments) => diff::run(&place, arguments).await,
            Verb::Audit(arguments) => audit::run(&place, arguments).await,
            Verb::Evidence(arguments) => evidence::run(&place, arguments).await,
            Verb::EvidenceKey(arguments) => evidence_key::run(arguments),
            Verb::Verify(arguments) => verify::run(&place, arguments).await,
            Verb::Reconcile(arguments) => reconcile::run(&place, arguments).await,
            Verb::Rollback(arguments) => rollback::run(&place, arguments).await,
            Verb::Profile(arguments) => profile::run(&place, arguments).await,
            Verb::Drift(arguments) => drift::run(&place, arguments).await,
            Verb::Bias(arguments) => bias::run(&place, arguments).await,
            Verb::Quality(arguments) => quality::run(&place, arguments).await,
            Verb::Quarantine(arguments) => quarantine::run(&place, arguments).await,
            Verb::Alerts(arguments) => alerts::run(&place, arguments).await,
            Verb::Checkpoint(arguments) => checkpoint::run(&place, arguments).await,
            Verb::Compact(arguments) => compact::run(&place, arguments).await,
            Verb::Retain(arguments) => retain::run(&place, arguments).await,
            Verb::Sweep(arguments) => sweep::run(&place, arguments).await,
            Verb::Erase(arguments) => erase::run(&place, arguments).await,
            Verb::Hold(arguments) => hold::run(&place, arguments).await,
            Verb::Emit(arguments) => emit::run(&place, arguments).await,
            Verb::Serve(arguments) => serve::run(&place, *arguments).await,
            Verb::Token(arguments) => token::run(arguments),
        };
        place.close().await;
        done
    });
    // A task that never gives way must not keep the program from its end.
    runtime.shutdown_background();
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(exit_code(error.kind()))
        }
    }
}

/// 1 asks to mend the request or the data, 2 is the argument parser's, 3 asks to try again, 4 tells of damage, 5 is our fault.
fn exit_code(kind: serving::Kind) -> u8 {
    use serving::Kind;
    match kind {
        Kind::Invalid | Kind::NotFound | Kind::Refused | Kind::Forbidden | Kind::Exhausted => 1,
        Kind::Unavailable => 3,
        Kind::Damaged => 4,
        Kind::Internal => 5,
    }
}
