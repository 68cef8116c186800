//! `lineament emit`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use feature::Sequence;
use server::openlineage::sink;
use serving::emission::{Emission, EmissionOptions, Lag, Sent};
use serving::{Error, Kind, Result};

use crate::serve::stop;
use crate::session::Place;
use crate::table::grouped;

/// Send the log as OpenLineage events to a file or an HTTP consumer, from where the last call ended
#[derive(Args)]
pub struct Arguments {
    /// A file, one event a line, or an address; without a path in it, /api/v1/lineage is added
    #[arg(long)]
    to: String,
    /// Begin at this sequence, whatever the cursor says
    #[arg(long, conflicts_with = "lag")]
    from: Option<u64>,
    #[command(flatten)]
    told: Told,
    /// Go on with what comes, until stopped
    #[arg(long)]
    follow: bool,
    /// Send nothing; say as JSON how far the consumer is behind
    #[arg(long, conflicts_with = "follow")]
    lag: bool,
    /// Seconds that a consumer may stay away before this gives up; with --follow, it never does
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

/// What `emit` and `serve` have in common.
#[derive(Args, Clone)]
pub struct Told {
    /// The file that keeps how far the consumer is. Not said: beside the file of events, with .cursor behind
    /// its name; for an address none, so that it is sent the whole log
    #[arg(long = "cursor", id = "cursor", value_name = "FILE")]
    cursor: Option<PathBuf>,
    /// The name of this store in events, as lineament://NAME. Not said: its id
    #[arg(long = "authority", id = "authority", value_name = "NAME")]
    authority: Option<String>,
    /// Tell of ad-hoc reads as well, each as a run of query.sql, query.explain, …
    #[arg(long = "openlineage-reads", id = "openlineage_reads")]
    reads: bool,
    /// Sent to the consumer as a bearer token
    #[arg(
        long = "openlineage-api-key",
        env = "OPENLINEAGE_API_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    api_key: Option<String>,
}

impl Told {
    pub fn options(&self, to: &str, from: Option<Sequence>) -> EmissionOptions {
        let beside = || (!to.contains("://")).then(|| PathBuf::from(format!("{to}.cursor")));
        EmissionOptions {
            from,
            cursor: self.cursor.clone().or_else(beside),
            authority: self.authority.clone(),
            reads: self.reads,
        }
    }

    pub fn api_key(&self) -> Option<&str> {
        self.api_key.as_deref().filter(|key| !key.is_empty())
    }
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let serving = place.open().await?;
    serving.require_everything(&place.author(), "the log as OpenLineage events").await?;
    let options = arguments.told.options(&arguments.to, arguments.from.map(Sequence));
    let sink = sink(&arguments.to, arguments.told.api_key())?;
    let mut emission = Emission::open(&serving, sink, options).await?.on_trouble(|trouble, lag| {
        eprintln!("{trouble} ({lag})");
    });
    if arguments.lag {
        let lag = serde_json::to_string(&emission.lag())
            .map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        println!("{lag}");
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.follow {
        emission.follow(stop()).await?;
    } else {
        let Sent { events } = emission.drain(Some(Duration::from_secs(arguments.patience))).await?;
        let Lag { next, .. } = emission.lag();
        let (to, events) = (emission.place(), grouped(events));
        println!("sent {events} events to {to}; the next is of sequence {next}");
    }
    Ok(ExitCode::SUCCESS)
}
