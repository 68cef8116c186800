//! `lineament policy`: test, explain, list and lift.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use feature::Sequence;
use feature::policy::{Action, Asker, Decision};
use policy::cases;
use serving::{Error, Kind, Result};

use crate::session::{Place, file_error};
use crate::{definitions_folder, policy_folder};

/// Test policies, ask what they decide, and take them out of force
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Decide the cases of a folder's policies, without a store
    Test(Test),
    /// What somebody may do with a feature view, now or at a sequence, and by which policies
    Explain(Explain),
    /// Every version of the policies
    List,
    /// The schema that policies are held against
    Schema,
    /// Take all policies out of force, so that everybody may do everything
    Lift(Lift),
}

#[derive(Args)]
struct Test {
    /// The folder of definitions; its policies are in `policies`, their cases in `policies/*.toml`
    #[arg(default_value = "features")]
    folder: PathBuf,
}

#[derive(Args)]
struct Explain {
    /// `weather`, `weather@2`, `fraud.cards`
    view: String,
    /// Whom it is about; the local user where nobody is named
    #[arg(long, value_name = "PRINCIPAL")]
    who: Option<String>,
    /// read, ingest, apply, withdraw, deprecate, approve, erase or hold
    #[arg(long, default_value = "read")]
    action: String,
    /// By the policies that were in force there
    #[arg(long)]
    at: Option<u64>,
}

#[derive(Args)]
struct Lift {
    /// Why; goes into the log
    #[arg(long)]
    reason: String,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    match arguments.verb {
        Verb::Test(arguments) => test(&arguments),
        Verb::Explain(arguments) => explain(place, arguments).await,
        Verb::List => list(place).await,
        Verb::Schema => {
            println!("{}", policy::SCHEMA.trim());
            Ok(ExitCode::SUCCESS)
        }
        Verb::Lift(arguments) => {
            let serving = place.open().await?;
            let sequence = serving.lift_policies(&arguments.reason, &place.author()).await?;
            println!("no policies are in force from sequence {sequence} on: everybody may do everything");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn test(arguments: &Test) -> Result<ExitCode> {
    let invalid = |why: String| Error::new(Kind::Invalid, why);
    let folder = arguments.folder.join("policies");
    let files = policy_folder::of(&folder)?;
    let compiled = policy::compile(&files).map_err(|errors| invalid(errors.to_string()))?;
    let definitions = definitions_folder::read(&arguments.folder)?;
    let views: Vec<_> = definitions.views.into_iter().map(|declared| declared.definition).collect();
    let paths = definitions_folder::with_ending(&folder, "toml")?;
    if paths.is_empty() {
        return Err(Error::new(
            Kind::NotFound,
            format!(
                "`{}` holds no cases (.toml); write [[case]] with principal, roles, purpose, feature and expect",
                folder.display()
            ),
        ));
    }
    let (mut passed, mut failed) = (0, 0);
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(|error| file_error(&path, error))?;
        let name = path.display().to_string();
        for case in cases::parse(&name, &text).map_err(invalid)? {
            let outcome =
                cases::decide(&compiled, &case, &views).map_err(|why| invalid(format!("{name}: {why}")))?;
            if outcome.passed {
                passed += 1;
                continue;
            }
            failed += 1;
            println!("{name}: {}: expected `{}`, decided `{}`", case.name, case.expect, outcome.decided);
            match &case.by {
                Some(by) if outcome.decided == case.expect => {
                    println!("    by {}, not by `{by}`", by_of(&outcome.decision))
                }
                _ => println!("    by {}", by_of(&outcome.decision)),
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn by_of(decision: &Decision) -> String {
    if !decision.allowed {
        return decision.denied_by();
    }
    decision.policies.join(", ")
}

async fn explain(place: &Place, arguments: Explain) -> Result<ExitCode> {
    let Some(action) = Action::parse(&arguments.action) else {
        let known = Action::ALL.map(Action::as_str).join(", ");
        return Err(Error::new(
            Kind::Invalid,
            format!("`{}` is not an action; actions are {known}", arguments.action),
        ));
    };
    let serving = place.open().await?;
    let local = place.author().asker();
    let principal = arguments.who.unwrap_or_else(|| local.principal.clone());
    let asker = Asker { principal, ..local };
    let ruling = serving.ruling(&arguments.view, &asker, action, arguments.at.map(Sequence)).await?;
    match ruling.policies {
        None => println!(
            "at sequence {} nothing is governed: `{}` may {action} all of `{}`",
            ruling.sequence, asker.principal, arguments.view
        ),
        Some(number) => {
            println!(
                "policies@{number}, at sequence {}: `{}` ({}; to {}), action {action}",
                ruling.sequence,
                asker.principal,
                if asker.roles.is_empty() { "no roles".to_owned() } else { asker.roles.join(", ") },
                asker.purpose
            );
            println!("  {}: {}, by {}", arguments.view, ruling.view.told(), by_of(&ruling.view));
            if ruling.view.allowed {
                for (feature, decision) in &ruling.features {
                    println!("  {feature}: {}, by {}", decision.told(), by_of(decision));
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(place: &Place) -> Result<ExitCode> {
    let serving = place.open().await?;
    let state = serving.catalog().state();
    if state.policies().all().is_empty() {
        println!("no policies were ever applied: everybody may do everything");
    }
    for applied in state.policies().all() {
        let record = &applied.record;
        let names: Vec<&str> = record.files.iter().map(|file| file.name.as_str()).collect();
        let what = if names.is_empty() { "lifted".to_owned() } else { names.join(", ") };
        println!(
            "policies@{} at sequence {} ({}, {}): {what}{}",
            record.number,
            applied.by.sequence,
            applied.by.committed_at,
            applied.by.principal,
            record.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default()
        );
    }
    Ok(ExitCode::SUCCESS)
}
