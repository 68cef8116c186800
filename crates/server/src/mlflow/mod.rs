//! An MLflow server, asked once, or now and then, for what it knows: runs, models, aliases become entries of the log.
//!
//! Nothing is written there, and nobody who reads or writes here waits for it.

mod client;
mod known;
mod pass;
mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::Author;
use catalog::records::Evidence;
use catalog::registry::Deployment;
use serving::{Error, Kind, LastTrackingPass, Result, Serving};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use client::Client;
use known::Known;
use pass::Pass;
pub use report::{Gone, Moved, PassReport, Renamed, RunUse};

/// Its name in the log.
const SYSTEM: &str = "mlflow";

/// A server, and how it is asked.
#[derive(Clone, Debug)]
pub struct MlflowOptions {
    /// `http://tracking:5000`; user and password may stand in it.
    pub address: String,
    /// Sent as a bearer token.
    pub token: Option<String>,
    /// Aliases that stand for a deployment, each with its environment: where one moves, the deployment named like its model
    /// serves the new version from then on.
    pub deployed: Vec<(String, String)>,
}

/// Follows one MLflow server.
pub struct Follower {
    serving: Serving,
    client: Client,
    author: Author,
    deployed: Vec<(String, String)>,
}

impl Follower {
    /// # Errors
    /// `Invalid` for an address or a token that cannot be one. The server need not answer yet.
    pub fn new(serving: Serving, options: MlflowOptions, author: Author) -> Result<Self> {
        let client = Client::new(&options.address, options.token.as_deref())?;
        Ok(Self { serving, client, author, deployed: options.deployed })
    }

    /// Makes a pass now and each time, until `stop` is told. One that fails changes nothing in what is known; the next begins
    /// anew.
    pub async fn run(self, every: Duration, stop: Arc<Notify>) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.notified() => return,
            }
            // Cut off, a pass leaves what it told so far; the next tells the rest.
            let outcome = tokio::select! {
                outcome = self.pass() => outcome,
                () = stop.notified() => return,
            };
            let last = match outcome {
                Ok(report) => {
                    let last = report.last();
                    tracing::info!(
                        found = last.found,
                        gone = last.gone,
                        linked = last.linked,
                        foreign = last.foreign,
                        moved = last.moved,
                        "{}: reconciled",
                        last.authority
                    );
                    last
                }
                Err(error) => {
                    tracing::warn!(%error, "MLflow could not be reconciled; it is asked again");
                    let before = self.serving.last_tracking_pass().unwrap_or_default();
                    LastTrackingPass {
                        authority: self.client.authority().to_owned(),
                        failures: before.failures + 1,
                        error: Some(error.to_string()),
                        ..before
                    }
                }
            };
            self.serving.note_tracking_pass(last);
        }
    }

    /// Asks the server once, tells the store what it did not know, and says what does not agree.
    ///
    /// # Errors
    /// `Unavailable` where the server does not answer, or not as MLflow does; whatever keeps the store from taking what it is told.
    pub async fn pass(&self) -> Result<PassReport> {
        let started = Instant::now();
        let state = self.serving.catalog().refresh().await?;
        let authority = self.client.authority();
        let known = Known::of(&state, authority);
        let now = self.serving.catalog().store().clock().now();
        let pass = Pass::over(&self.client, &known, now).await?;
        for seen in pass.observations(authority) {
            self.serving.observe(seen, &self.author).await?;
        }
        let (mut linked, mut foreign) = (Vec::new(), Vec::new());
        for used in &pass.uses {
            if known.uses.contains(&(used.training_set, used.run.clone())) {
                continue;
            }
            let named = RunUse::of(used.training_set, authority, &used.experiment, &used.run);
            let told = self
                .serving
                .record_use(used.training_set, &named.run, used.role, used.how, &self.author)
                .await;
            match told {
                Ok(_) => linked.push(named),
                // A set of another store.
                Err(error) if error.kind() == Kind::NotFound => foreign.push(named),
                Err(error) => return Err(error),
            }
        }
        let moved = pass.moved(&known);
        for alias in &moved {
            for (_, environment) in self.deployed.iter().filter(|(deployed, _)| *deployed == alias.alias) {
                self.deploy(alias, environment).await?;
            }
        }
        let unnamed = pass.unnamed(&known).into_iter();
        let unnamed = unnamed.map(|(set, experiment, run)| RunUse::of(set, authority, experiment, run));
        Ok(PassReport {
            authority: authority.to_owned(),
            at: now.to_string(),
            found: pass.complete().found,
            linked,
            moved,
            renamed: pass.renamed(),
            gone: pass.newly_gone(&known),
            foreign,
            unnamed: unnamed.collect(),
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    async fn deploy(&self, alias: &Moved, environment: &str) -> Result<()> {
        let wanted = Deployment {
            name: alias.model.clone(),
            environment: Some(environment.to_owned()),
            model_version: alias.version.clone(),
            evidence: Some(Evidence::Alias),
            ..Deployment::default()
        };
        match self.serving.deploy(wanted, &self.author).await {
            // The alias went, and what it stood for was never told of.
            Err(error) if error.kind() == Kind::NotFound && alias.version.is_none() => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

/// An alias and its environment, written `champion=production`.
///
/// # Errors
/// `Invalid` for what is not written so.
pub fn deployed(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((alias, environment)) if !alias.trim().is_empty() && !environment.trim().is_empty() => {
            Ok((alias.trim().to_owned(), environment.trim().to_owned()))
        }
        _ => Err(Error::new(
            Kind::Invalid,
            format!("`{text}` is no alias with its environment; write champion=production"),
        )),
    }
}
