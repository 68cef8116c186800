//! `lineament alerts`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use feature::AlertId;
use feature::definition::alerts::Alerts;
use server::alerts::receivers;
use serving::alerts::{Alerting, Passed, read_rules};
use serving::{Error, Kind, Result, Serving};

use crate::quality::show;
use crate::serve::period;
use crate::session::{Place, file_error};

/// Tell somebody of failed checks, batches kept back, views that wait for data, and references that lead nowhere, by the rules of a file.
/// What was told is in `lineament.alerts`; a server does it all the time (`lineament serve --alerts FILE`)
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Read a file of rules, and say what is wrong with it or what it asks for
    Check { rules: PathBuf },
    /// Ask all rules once, send what is due, and end
    Run {
        rules: PathBuf,
        /// How long to go on trying where something cannot be delivered, as 30s or 5m
        #[arg(long, default_value = "30s", value_parser = period, value_name = "SPAN")]
        patience: Duration,
    },
    /// Show what was raised and where it is
    List {
        /// Only what is still to be delivered
        #[arg(long)]
        open: bool,
        /// Lines to show, the newest first
        #[arg(long, default_value_t = 100)]
        rows: usize,
    },
    /// Say that an alert need not be delivered where it has not arrived
    Drop {
        /// Its id
        alert: AlertId,
        /// Why; it stands in the log for ever
        #[arg(long)]
        reason: String,
    },
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    match arguments.verb {
        Verb::Check { rules } => {
            for rule in &read(&rules)?.rules {
                let sinks: Vec<&str> = rule.sinks.iter().map(feature::Name::as_str).collect();
                let views: Vec<String> = rule.views.iter().map(ToString::to_string).collect();
                let of = if views.is_empty() { String::new() } else { format!(" of {}", views.join(", ")) };
                println!("{}: {}{of}, to {}", rule.name, rule.on.name().replace('_', " "), sinks.join(", "));
            }
            Ok(ExitCode::SUCCESS)
        }
        Verb::Run { rules, patience } => {
            // The sink of type log is this program's own.
            tracing_subscriber::fmt()
                .with_writer(std::io::stderr)
                .with_max_level(tracing::Level::WARN)
                .init();
            let alerting = alerting(place.open().await?, &read(&rules)?, place)?;
            let Passed { raised, delivered, open } = alerting.pass(patience).await?;
            println!("{raised} raised, {delivered} delivered, {open} still to be delivered");
            Ok(if open == 0 { ExitCode::SUCCESS } else { ExitCode::from(3) })
        }
        Verb::List { open, rows } => {
            let wanted = if open { "WHERE status NOT IN ('delivered', 'dropped')" } else { "" };
            let list = format!(
                "SELECT alert, committed_at, rule, sink, status, attempts, again_at, why, summary \
                 FROM lineament.alerts {wanted} ORDER BY sequence DESC, alert, sink"
            );
            show(place, list, rows).await?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Drop { alert, reason } => {
            let (sinks, sequence) = place.open().await?.drop_alert(alert, &reason, &place.author()).await?;
            println!("alert {alert} need not be delivered to {sinks} sinks, from sequence {sequence} on");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The rules of a file.
pub fn read(path: &Path) -> Result<Arc<Alerts>> {
    let text = std::fs::read_to_string(path).map_err(|error| file_error(path, error))?;
    read_rules(&path.display().to_string(), &text)
}

/// Rules with their sinks, keys and addresses from the environment.
pub fn alerting(serving: Serving, rules: &Arc<Alerts>, place: &Place) -> Result<Alerting> {
    let receivers = receivers(rules, |name| std::env::var(name).ok())?;
    if rules.rules.is_empty() {
        return Err(Error::new(
            Kind::Invalid,
            "the file of alerts has no rules; nobody would be told of anything",
        ));
    }
    Alerting::new(serving, Alerts::clone(rules), receivers, place.author())
}
