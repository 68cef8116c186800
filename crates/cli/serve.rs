//! `lineament serve`

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use catalog::Author;
use clap::{Args, ValueEnum};
use server::mlflow::Follower;
use server::openlineage::Emitter;
use server::{AccessOptions, AdmissionLimits, HttpOptions, ServeOptions, Server, Telemetry};
use serving::{Error, Kind, OpaqueReads, ReadRecords, Result, Serving};
use tokio::sync::Notify;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, filter::Targets};

use crate::access::Access;
use crate::alerts;
use crate::emit::Told;
use crate::session::{PROGRAM, Place};
use crate::stream_groups::StreamGroups;
use crate::tracking::Tracking;

/// Serve the store over Arrow Flight
#[derive(Args)]
pub struct Arguments {
    /// The address to listen at. One that other machines reach needs --tls-cert, --tls-key, and one of --tokens, --jwt-jwks and
    /// --jwt-key
    #[arg(long, default_value = "127.0.0.1")]
    host: std::net::IpAddr,
    /// The port; 0 takes any that is free
    #[arg(long, default_value_t = 8815)]
    port: u16,
    /// Memory that all queries and uploads together may hold, as 512M or 4G; what goes over it is refused, or waits on disk. Not
    /// said: half of the machine's
    #[arg(long, env = "LINEAMENT_MEMORY_LIMIT", value_parser = bytes)]
    memory_limit: Option<u64>,
    /// How much of that one statement or retrieval may hold, as 1G. Not said: all of it
    #[arg(long, env = "LINEAMENT_QUERY_MEMORY", value_parser = bytes)]
    query_memory: Option<u64>,
    /// How much a query may write to disk where memory is short, in the machine's folder for temporary files (TMPDIR): its sorts, and
    /// a spine that is sent faster than its features are read. Not said: four times --memory-limit
    #[arg(long, env = "LINEAMENT_SPILL_LIMIT", value_parser = bytes)]
    spill_limit: Option<u64>,
    /// What is done with a query whose columns cannot be traced to their sources, as a recursive one: it is answered and recorded
    /// with what stood in the way, or it is refused
    #[arg(long, value_enum, default_value_t = Opaque::Record)]
    opaque_reads: Opaque,
    /// When a read is on record: with those of two seconds, which a server that is killed loses, or before its answer ends, which costs
    /// each answer an entry of the log, shared by those that end at the same time
    #[arg(long, env = "LINEAMENT_READ_RECORDS", value_enum, default_value_t = Recorded::Flushed)]
    read_records: Recorded,
    /// How often to check that all that training sets and models refer to is there, as 30m or 1h; `never` to leave it to
    /// `lineament reconcile`
    #[arg(long, env = "LINEAMENT_RECONCILE_EVERY", default_value = "1h", value_parser = schedule)]
    reconcile_every: Schedule,
    /// How often to look whether small files are worth merging, as 5m or 1h; `never` to leave it to `lineament compact`
    #[arg(long, env = "LINEAMENT_COMPACT_EVERY", default_value = "10m", value_parser = schedule)]
    compact_every: Schedule,
    /// How often to let rows go that their views keep no longer, and to delete what nobody needs any more, as 1h or 1d; `never` to leave it
    /// to `lineament retain` and `lineament sweep`
    #[arg(long, env = "LINEAMENT_SWEEP_EVERY", default_value = "1d", value_parser = schedule)]
    sweep_every: Schedule,
    /// How often the shares that definitions declare of what is read and streamed (`[sampling]`) are compared with their baselines, as 20s
    /// or 1m; `never` samples nothing
    #[arg(long, env = "LINEAMENT_SAMPLE_EVERY", default_value = "20s", value_parser = schedule)]
    sample_every: Schedule,
    /// Tell of what the rules of this file are about, while serving (docs/alerts.md)
    #[arg(long, env = "LINEAMENT_ALERTS", value_name = "FILE")]
    alerts: Option<std::path::PathBuf>,
    #[command(flatten, next_help_heading = "Queue")]
    queue: Queue,
    #[command(flatten, next_help_heading = "Streams")]
    streams: StreamGroups,
    #[command(flatten, next_help_heading = "Metrics and health")]
    watched: Watched,
    /// Serve until standard input ends, as well as until told to stop: a program that started the server and is gone, however it
    /// went, leaves none behind
    #[arg(long)]
    until_stdin_ends: bool,
    /// Send the log as OpenLineage events to this file or address while serving
    #[arg(long, env = "LINEAMENT_OPENLINEAGE", value_name = "FILE|URL")]
    openlineage: Option<String>,
    #[command(flatten, next_help_heading = "Who may call")]
    access: Access,
    #[command(flatten, next_help_heading = "OpenLineage")]
    told: Told,
    #[command(flatten, next_help_heading = "MLflow")]
    followed: Followed,
}

/// How many queries run and wait.
#[derive(Args, Clone)]
struct Queue {
    /// Queries, uploads and the like that run at once, until their answers are sent; further ones wait, by fair turns of those who
    /// ask. Not said: 8 for each core, and at least 32
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_running: Option<u32>,
    /// Of these, those of one caller. Not said: all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_running_each: Option<u32>,
    /// Those that may wait; further ones are refused. Not said: 1000
    #[arg(long, value_name = "N")]
    max_queued: Option<u32>,
    /// How long one may wait before it is refused. Not said: 1m
    #[arg(long, value_name = "SPAN", value_parser = period)]
    max_wait: Option<std::time::Duration>,
    /// How long one that reads may take, from its turn until its answer has been sent, which a slow reader delays. Not said: for ever
    #[arg(long, value_name = "SPAN", value_parser = period)]
    max_time: Option<std::time::Duration>,
}

impl Queue {
    fn limits(&self) -> AdmissionLimits {
        let otherwise = AdmissionLimits::default();
        let max_running = self.max_running.map_or(otherwise.max_running, |many| many as usize);
        AdmissionLimits {
            max_running,
            max_each: self.max_running_each.map_or(max_running, |many| many as usize),
            max_queued: self.max_queued.map_or(otherwise.max_queued, |many| many as usize),
            max_wait: self.max_wait.unwrap_or(otherwise.max_wait),
            max_time: self.max_time,
        }
    }
}

/// Where the server is watched.
#[derive(Args, Clone)]
struct Watched {
    /// Answer /metrics, /healthz and /readyz over HTTP at this address, as 127.0.0.1:9464; port 0 takes any that is free
    #[arg(long, env = "LINEAMENT_HTTP", value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    /// Let the address of --http be one that other machines reach. There are no logins: anybody there sees what the server counts
    #[arg(long, env = "LINEAMENT_HTTP_EXPOSED", requires = "http")]
    http_exposed: bool,
}

impl Watched {
    fn options(&self) -> Option<HttpOptions> {
        Some(HttpOptions { address: self.http?, exposed: self.http_exposed })
    }
}

/// A tracking server that is asked now and then what it knows while the store is served.
#[derive(Args, Clone)]
struct Followed {
    /// Ask this MLflow server what it knows of runs, models and aliases, as http://tracking:5000, and take it into the log.
    /// Nothing is written there
    #[arg(long, env = "LINEAMENT_MLFLOW", value_name = "URL")]
    mlflow: Option<String>,
    #[command(flatten)]
    tracking: Tracking,
    /// How often MLflow is asked, as 1m or 1h
    #[arg(long, default_value = "5m", value_parser = period, value_name = "SPAN")]
    mlflow_every: std::time::Duration,
}

#[derive(Clone, Copy, ValueEnum)]
enum Opaque {
    Record,
    Refuse,
}

impl From<Opaque> for OpaqueReads {
    fn from(opaque: Opaque) -> Self {
        match opaque {
            Opaque::Record => Self::Record,
            Opaque::Refuse => Self::Refuse,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Recorded {
    Flushed,
    BeforeTheEnd,
}

impl Recorded {
    fn by(self, author: Author) -> ReadRecords {
        match self {
            Self::Flushed => ReadRecords::Flushed,
            Self::BeforeTheEnd => ReadRecords::BeforeTheEnd(author),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Schedule(Option<std::time::Duration>);

/// A span of a second or more, or `never`.
fn schedule(text: &str) -> std::result::Result<Schedule, String> {
    if text == "never" {
        return Ok(Schedule(None));
    }
    match period(text) {
        Ok(span) => Ok(Schedule(Some(span))),
        Err(why) => Err(format!("{why}, or never")),
    }
}

/// A span of a second or more.
pub fn period(text: &str) -> std::result::Result<std::time::Duration, String> {
    let span = text.parse::<feature::Span>().map_err(|error| error.to_string())?;
    match u64::try_from(span.micros()) {
        Ok(micros @ 1_000_000..) => Ok(std::time::Duration::from_micros(micros)),
        _ => Err(format!("`{text}` is too often; write 1s or more")),
    }
}

/// A size: a whole number of bytes, or of K, M, G or T of 1024 each.
pub fn bytes(text: &str) -> std::result::Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; write a whole number with K, M, G or T, as 512M or 4G");
    let text = text.trim().trim_end_matches(['B', 'b']).trim_end_matches('i');
    let (number, unit) = match text.char_indices().last() {
        Some((at, unit)) if unit.is_ascii_alphabetic() => (&text[..at], Some(unit)),
        _ => (text, None),
    };
    let shift = match unit.map(|unit| unit.to_ascii_uppercase()) {
        None => 0,
        Some('K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        Some('T') => 40,
        Some(_) => return Err(wrong()),
    };
    let number: u64 = number.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let filter = EnvFilter::try_from_env("LINEAMENT_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let telemetry =
        Telemetry::from_environment(PROGRAM).map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
    // Spans are sent whatever is logged.
    let spans = telemetry.as_ref().map(|telemetry| {
        let ours = Targets::new().with_target("lineament", tracing::Level::INFO);
        telemetry.layer().with_filter(ours)
    });
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(filter);
    tracing_subscriber::registry().with(spans).with(log).init();
    let serving = place.open_or_create().await?.with_opaque_reads(arguments.opaque_reads.into());
    let serving = serving.with_read_records(arguments.read_records.by(place.author()));
    let serving = serving.with_stream_settings(arguments.streams.settings());
    let address = SocketAddr::new(arguments.host, arguments.port);
    let emitter = match &arguments.openlineage {
        Some(to) => {
            let options = arguments.told.options(to, None);
            Some(Emitter::open(&serving, to, arguments.told.api_key(), options).await?)
        }
        None => None,
    };
    let followed = &arguments.followed;
    let follower = match &followed.mlflow {
        Some(address) => {
            Some(Follower::new(serving.clone(), followed.tracking.options(address), place.author())?)
        }
        None => None,
    };
    let alerting = match &arguments.alerts {
        Some(file) => Some(alerts::alerting(serving.clone(), &alerts::read(file)?, place)?),
        None => None,
    };
    let options = ServeOptions {
        memory_limit: arguments.memory_limit,
        query_memory: arguments.query_memory,
        spill_limit: arguments.spill_limit,
        reconcile_every: arguments.reconcile_every.0,
        compact_every: arguments.compact_every.0,
        sweep_every: arguments.sweep_every.0,
        sample_every: arguments.sample_every.0,
        admission: arguments.queue.limits(),
        http: arguments.watched.options(),
        access: arguments.access.options(),
        ..options(place, address)
    };
    let server = bind(serving, options).await?;
    if let Some(address) = server.http_address() {
        println!("metrics and health on http://{address}");
    }
    println!("listening on {}", server.url());
    let ended = Arc::new(Notify::new());
    let emitting = emitter.map(|emitter| {
        let ended = ended.clone();
        tokio::spawn(emitter.run(async move { ended.notified().await }))
    });
    let left = Arc::new(Notify::new());
    let every = arguments.followed.mlflow_every;
    let following = follower.map(|follower| tokio::spawn(follower.run(every, left.clone())));
    let (stop_alerts, stopped) = tokio::sync::watch::channel(false);
    let alerting = alerting.map(|alerting| tokio::spawn(async move { alerting.run(stopped).await }));
    let ran = match arguments.until_stdin_ends {
        true => server.run(stop_or_end_of_input()).await,
        false => server.run(stop()).await,
    };
    ended.notify_one();
    left.notify_one();
    let _ = stop_alerts.send(true);
    if let Some(following) = following {
        let _ = following.await;
    }
    if let Some(alerting) = alerting {
        // An attempt that runs ends first, so that what came of it is on record.
        let _ = alerting.await;
    }
    if let Some(emitting) = emitting {
        // It ends by itself; that it failed is no reason to say that serving did.
        let _ = emitting.await;
    }
    if let Some(telemetry) = telemetry {
        telemetry.shutdown().await;
    }
    finish(ran)?;
    Ok(ExitCode::SUCCESS)
}

/// A server without what is asked for by arguments.
pub fn options(place: &Place, address: SocketAddr) -> ServeOptions {
    ServeOptions {
        address,
        principal: place.author().principal,
        program: PROGRAM.to_owned(),
        memory_limit: None,
        query_memory: None,
        spill_limit: None,
        reconcile_every: None,
        compact_every: None,
        sweep_every: None,
        sample_every: None,
        admission: AdmissionLimits::default(),
        http: None,
        access: AccessOptions::default(),
    }
}

pub async fn bind(serving: Serving, options: ServeOptions) -> Result<Server> {
    Server::bind(serving, options).await.map_err(|error| Error::new(Kind::Invalid, error.to_string()))
}

pub fn finish(ran: Result<(), server::Error>) -> Result<()> {
    ran.map_err(|error| Error::new(Kind::Unavailable, error.to_string()))
}

/// Done when the user or the system asks the program to stop.
pub async fn stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Done when standard input ends, or as [`stop`].
async fn stop_or_end_of_input() {
    let (ended, end) = tokio::sync::oneshot::channel();
    // A thread of its own: reading cannot be given up, and must not keep the program from its end.
    let reader = std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        let read = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(ended.send(read));
    });
    if let Err(error) = reader {
        tracing::warn!(%error, "standard input is not watched");
        return stop().await;
    }
    tokio::select! {
        _ = end => {}
        () = stop() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Schedule, bytes, schedule};

    #[test]
    fn schedules_are_read() {
        assert_eq!(schedule("1h"), Ok(Schedule(Some(Duration::from_secs(3_600)))));
        assert_eq!(schedule("never"), Ok(Schedule(None)));
        for text in ["", "0s", "5ms", "hourly", "-1h"] {
            assert!(schedule(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, size) in [
            ("1024", 1024),
            ("512M", 512 << 20),
            ("4G", 4 << 30),
            ("4GiB", 4 << 30),
            ("2 k", 2048),
            ("1tb", 1 << 40),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "G", "-1", "4X", "1.5G", "0", "99999999999T", "é"] {
            assert!(bytes(text).unwrap_err().contains("as 512M"), "{text}");
        }
    }
}
