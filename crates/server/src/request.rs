//! What a descriptor, a ticket or a command asks for.

use arrow_flight::FlightDescriptor;
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::sql::{Any, Command};
use feature::{BatchId, TrainingSetId};
use prost::Message;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serving::{AuditRequest, AuditSetRequest, DiffRequest, HistoricalRequest, Parameters, Query, SQL_BYTES};
use tonic::Status;

use crate::reports;
use crate::statement::{self, Statement};
use crate::status;

const FLIGHT_SQL: &str = "type.googleapis.com/arrow.flight.protocol.sql.";
/// The longest command or ticket. SQL within one has a limit of its own.
const COMMAND_BYTES: usize = 4 << 20;
/// The longest name of a feature view, with its project and version.
const NAME_BYTES: usize = 256;
/// The longest text that goes into the log as it is: a key, a step, the name of a training set.
const NOTE_BYTES: usize = 512;
/// The steps that an ingest may name.
const STEPS: usize = 100;

/// What the bytes of a command or ticket are.
#[derive(Debug)]
pub enum Wanted {
    /// A Flight SQL message.
    FlightSql(Box<Command>),
    /// JSON, not read yet.
    Json(String),
    /// SQL text.
    Sql(String),
    /// A path: the name of a feature view.
    View(String),
}

/// A ticket in JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ticket {
    Sql(Statement),
    TrainingSet(TrainingSetId),
    Stretch(Stretch),
    HistoricalFeatures(HistoricalRequest),
    Diff(DiffRequest),
    Audit(AuditSetRequest),
}

/// Some rows of a recorded set, as GetFlightInfo deals it out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stretch {
    pub training_set: TrainingSetId,
    pub from: u64,
    pub until: u64,
}

/// A command in JSON that rows are sent with.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Put {
    Ingest(Ingest),
    /// A spine, to be asked for by its digest.
    Spine(KeptSpine),
    /// Rejected rows of a batch, mended.
    Mend(Mend),
    /// Parts of a producer, each committed and acknowledged, until the client ends.
    Stream(StreamOf),
}

/// Whose rejected rows were mended.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mend {
    pub batch: BatchId,
    pub claim: Option<Claim>,
}

/// A producer's stream into a view.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamOf {
    pub view: String,
    pub producer: String,
    pub claim: Option<Claim>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptSpine {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ingest {
    pub view: String,
    pub key: Option<String>,
    pub claim: Option<Claim>,
    #[serde(default)]
    pub steps: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    BackFill,
    Correction,
}

impl From<Claim> for catalog::ingest::Claim {
    fn from(claim: Claim) -> Self {
        match claim {
            Claim::BackFill => Self::BackFill,
            Claim::Correction => Self::Correction,
        }
    }
}

/// A command in JSON that rows are exchanged by.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Exchange {
    HistoricalFeatures(HistoricalRequest),
    Audit(AuditRequest),
}

/// Tells what a descriptor is.
pub fn descriptor(descriptor: &FlightDescriptor) -> Result<Wanted, Status> {
    let path = match descriptor.r#type() {
        DescriptorType::Path => true,
        DescriptorType::Cmd => false,
        DescriptorType::Unknown => descriptor.cmd.is_empty(),
    };
    if !path {
        return command(&descriptor.cmd);
    }
    match descriptor.path.as_slice() {
        [view] if !view.is_empty() => Ok(Wanted::View(view.clone())),
        parts => Err(status::invalid(format!(
            "the descriptor's path has {} parts; it must have one, the name of a feature view, as `weather` or `weather@1`",
            parts.len()
        ))),
    }
}

/// Tells what the bytes of a command or a ticket are.
pub fn command(bytes: &[u8]) -> Result<Wanted, Status> {
    if let Ok(any) = Any::decode(bytes)
        && any.type_url.starts_with(FLIGHT_SQL)
    {
        let command = Command::try_from(any)
            .map_err(|error| status::invalid(format!("the Flight SQL command cannot be read: {error}")))?;
        return Ok(Wanted::FlightSql(Box::new(command)));
    }
    if bytes.len() > COMMAND_BYTES {
        return Err(status::invalid(format!(
            "the command has {} bytes; at most {COMMAND_BYTES} are allowed",
            bytes.len()
        )));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| status::invalid("the command is neither a Flight SQL command nor UTF-8 text"))?;
    if text.trim().is_empty() {
        return Err(status::invalid(
            "the command is empty; it must be SQL text, JSON or a Flight SQL command",
        ));
    }
    let text = text.to_owned();
    Ok(if text.trim_start().starts_with('{') { Wanted::Json(text) } else { Wanted::Sql(text) })
}

/// Reads JSON; `what` names it in errors.
pub fn json<T: DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, Status> {
    serde_json::from_slice(text).map_err(|error| status::invalid(format!("{what} cannot be read: {error}")))
}

/// A query of SQL text. All SQL of clients passes here. How deep it is, its planning tells; how long, is told before anything
/// else looks at it.
pub fn sql(text: impl Into<String>) -> Result<Query, Status> {
    let text = text.into();
    if text.len() > SQL_BYTES {
        return Err(status::invalid(format!(
            "the SQL text has {} bytes; at most {SQL_BYTES} are allowed: send many values as the rows of a spine or an upload, not as text",
            text.len()
        )));
    }
    Ok(Query::sql(text))
}

/// Refuses a text that would go into the log, where nothing is ever taken away, and is too long for it.
pub fn note(what: &str, text: Option<&String>) -> Result<(), Status> {
    match text {
        Some(text) if text.len() > NOTE_BYTES => Err(status::invalid(format!(
            "{what} has {} bytes; at most {NOTE_BYTES} are allowed: it is kept in the log as it is",
            text.len()
        ))),
        _ => Ok(()),
    }
}

impl Ingest {
    /// Refuses what is too long to be kept.
    pub fn verify(&self) -> Result<(), Status> {
        note("the name of the feature view", Some(&self.view))?;
        note("the key of the ingest", self.key.as_ref())?;
        if self.steps.len() > STEPS {
            return Err(status::invalid(format!(
                "the ingest names {} steps; at most {STEPS} are allowed",
                self.steps.len()
            )));
        }
        self.steps.iter().try_for_each(|step| note("a step of the ingest", Some(step)))
    }
}

/// All of a feature view.
pub fn view(name: &str) -> Result<Query, Status> {
    if name.len() > NAME_BYTES {
        return Err(status::invalid(format!(
            "the name of a feature view has {} bytes; at most {NAME_BYTES} are allowed",
            name.len()
        )));
    }
    Ok(Query::view(name))
}

/// The ticket that runs a query: JSON, as in `docs/flight.md`.
pub fn ticket(query: &Query) -> Vec<u8> {
    serde_json::json!({ "sql": statement::written(query) }).to_string().into_bytes()
}

/// The handle of a Flight SQL statement. It holds all that there is to know, so that the server keeps nothing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handle {
    /// The statement as it will run.
    pub sql: String,
    /// The statement as it was prepared, where parameters were bound since: other parameters may be bound next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepared: Option<String>,
    /// The values that were bound, by name, for the record of the read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Parameters>,
}

impl Handle {
    pub fn read(bytes: &[u8]) -> Result<Self, Status> {
        json("the statement's handle", bytes)
    }

    pub fn write(&self) -> Result<Vec<u8>, Status> {
        reports::json(self)
    }

    pub fn query(self) -> Result<Query, Status> {
        let length = self.parameters.as_ref().map_or(0, |named| serde_json::json!(named).to_string().len());
        if length > SQL_BYTES {
            return Err(status::invalid(format!(
                "the parameters in the statement's handle have {length} bytes as JSON; at most {SQL_BYTES} are allowed"
            )));
        }
        Ok(sql(self.sql)?.with_parameters(self.parameters))
    }
}
