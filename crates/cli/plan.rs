//! `lineament plan`

use std::path::PathBuf;
use std::process::ExitCode;

use catalog::plan::{Action, Plan};
use catalog::policies::PolicyChange;
use clap::Args;
use feature::evolution::Effect;
use serving::Result;

use crate::session::Place;
use crate::{definitions_folder, policy_folder};

/// Show what definitions would change, without changing anything
#[derive(Args)]
pub struct Arguments {
    /// The folder of definitions
    #[arg(default_value = "features")]
    folder: PathBuf,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let definitions = definitions_folder::read(&arguments.folder)?;
    let serving = place.open().await?;
    let plan = serving.plan_definitions(&definitions).await?;
    print(&plan);
    let policies = match policy_folder::beside(&arguments.folder)? {
        Some(files) => Some(serving.plan_policies(&files, &definitions).await?),
        None => None,
    };
    if let Some(change) = &policies {
        println!("{change}");
    }
    if plan.is_empty() && policies.is_none_or(|change| matches!(change, PolicyChange::Keep { .. })) {
        println!("nothing to do");
    } else {
        if plan.effect() == Effect::Breaking {
            println!("plan {}", plan.digest);
        }
        println!("`lineament apply {}` does this as one entry of the log", arguments.folder.display());
    }
    Ok(ExitCode::SUCCESS)
}

pub fn print(plan: &Plan) {
    for planned in &plan.changes {
        if !matches!(planned.action, Action::Keep { .. }) {
            println!("{planned}");
        }
    }
    let kept = plan.changes.iter().filter(|planned| matches!(planned.action, Action::Keep { .. })).count();
    if kept > 0 {
        println!("  {kept} unchanged");
    }
}
