//! `lineament approve`

use std::process::ExitCode;

use clap::Args;
use serving::{ApprovalReport, Result};

use crate::report::{self, Format};
use crate::session::Place;

/// Approve somebody else's plan that breaks others and waits, or decline it. Plans that wait are in `lineament.proposed_plans`
#[derive(Args)]
pub struct Arguments {
    /// The digest of the plan, or the first of its digits
    plan: String,
    /// Why; it stands in the log for ever
    #[arg(long)]
    reason: String,
    /// Do not let it pass; an approval of the same person counts no more
    #[arg(long)]
    decline: bool,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let Arguments { plan, reason, decline, format } = arguments;
    let report = place.open().await?.approve(&plan, !decline, &reason, &place.author()).await?;
    report::print(&report, format, print)?;
    Ok(ExitCode::SUCCESS)
}

fn print(report: &ApprovalReport) {
    for change in &report.changes {
        println!("{change}");
    }
    println!("proposed by {}: {}", report.proposed_by, report.proposed_for);
    let ApprovalReport { plan, sequence, .. } = report;
    if report.approved {
        println!(
            "plan {plan} is approved, at sequence {sequence}; whoever applies the same definitions now may"
        );
    } else {
        println!("plan {plan} is declined, at sequence {sequence}");
    }
}
