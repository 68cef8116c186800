//! Rows that come in to stay: into a feature view, and as parameters of a prepared statement.

use std::sync::Arc;

use arrow_flight::PutResult;
use arrow_flight::sql::{Command, CommandStatementIngest, DoPutUpdateResult};
use arrow_flight::sql::{TableExistsOption, TableNotExistOption};
use catalog::Author;
use catalog::ingest::{Input, Report, Request, Rows as InputRows};
use prost::Message;
use serving::{GivenSpine, Serving, Spine, SpineReport};
use tonic::{Code, Status};

use crate::call::Rows;
use crate::exchange;
use crate::flight_sql::metadata::CATALOG;
use crate::flight_sql::prepared;
use crate::flight_sql::session::{Change, Session};
use crate::reports;
use crate::request::{self, Ingest, Put, Wanted};
use crate::status;
use crate::upload::{Received, UpTo, Upload};

/// Where the tables of a session are.
const TEMPORARY_SCHEMA: &str = "session";

/// Answers an upload; it may change the session.
pub async fn put(
    serving: &Serving,
    upload: Upload,
    author: &Author,
    counted: &Rows,
    session: &Session,
) -> Result<(PutResult, Change), Status> {
    let ingest = match request::descriptor(&upload.descriptor)? {
        Wanted::View(view) => Ingest { view, key: None, claim: None, steps: Vec::new() },
        Wanted::Json(text) => match request::json("the command", text.as_bytes())? {
            Put::Ingest(ingest) => ingest,
            Put::Spine(_) => {
                let report = keep(serving, upload, author, counted).await?;
                let result = PutResult { app_metadata: reports::json(&report)?.into() };
                return Ok((result, Change::None));
            }
            Put::Mend(mended) => {
                let Received { schema, batches, held } = upload.receive(counted, serving.memory()).await?;
                let input = Input::Rows(InputRows::from_batches("rows", schema, batches));
                let claim = mended.claim.map(Into::into);
                let report = serving.mend(mended.batch, input, claim, author, Arc::new(|_| {})).await;
                drop(held);
                let report = report.map_err(|error| status::of(&error))?;
                let result = PutResult { app_metadata: reports::json(&reports::ingest(&report))?.into() };
                return Ok((result, Change::None));
            }
            Put::Stream(_) => {
                return Err(status::internal("the upload was not told apart", "it is a stream"));
            }
        },
        Wanted::Sql(_) => {
            return Err(status::invalid(
                "rows cannot be put into SQL text; name a feature view by the descriptor's path, or send the command {\"ingest\": {\"view\": \"…\"}}",
            ));
        }
        Wanted::FlightSql(command) => {
            return flight_sql(serving, *command, upload, author, counted, session).await;
        }
    };
    let report = take(serving, ingest, upload, author, counted).await?;
    Ok((PutResult { app_metadata: reports::json(&reports::ingest(&report))?.into() }, Change::None))
}

async fn keep(
    serving: &Serving,
    upload: Upload,
    author: &Author,
    counted: &Rows,
) -> Result<SpineReport, Status> {
    let memory = serving.memory();
    let report = match upload.receive_up_to(exchange::in_memory(memory), counted, memory).await? {
        UpTo::All(Received { schema, batches, held }) => {
            let report = serving.ingest_spine(Spine { schema, batches }, author).await;
            drop(held);
            report
        }
        UpTo::More(rest) => serving.ingest_spine(GivenSpine::Streamed(rest.into_stream()), author).await,
    };
    report.map_err(|error| status::of(&error))
}

async fn take(
    serving: &Serving,
    ingest: Ingest,
    upload: Upload,
    author: &Author,
    counted: &Rows,
) -> Result<Report, Status> {
    ingest.verify()?;
    let Received { schema, batches, held } = upload.receive(counted, serving.memory()).await?;
    let mut request =
        Request::new(ingest.view, Input::Rows(InputRows::from_batches("rows", schema, batches)));
    request.key = ingest.key;
    request.claim = ingest.claim.map(Into::into);
    let mut author = author.clone();
    author.steps = ingest.steps;
    let report = serving.ingest(request, &author, Arc::new(|_| {})).await;
    drop(held);
    report.map_err(|error| status::of(&error))
}

async fn flight_sql(
    serving: &Serving,
    command: Command,
    upload: Upload,
    author: &Author,
    counted: &Rows,
    session: &Session,
) -> Result<(PutResult, Change), Status> {
    let mut change = Change::None;
    let app_metadata = match command {
        Command::CommandPreparedStatementQuery(query) => {
            prepared::bind(&query, upload.receive(counted, serving.memory()).await?)?.encode_to_vec()
        }
        Command::CommandStatementIngest(command) if command.temporary => {
            let name = temporary(&command, session)?;
            let SpineReport { spine, rows, .. } = keep(serving, upload, author, counted).await?;
            change = Change::Set(session.clone().with_table(name, spine)?);
            let record_count = i64::try_from(rows).unwrap_or(i64::MAX);
            DoPutUpdateResult { record_count }.encode_to_vec()
        }
        Command::CommandStatementIngest(command) => {
            let report = take(serving, ingest_of(command)?, upload, author, counted).await?;
            let record_count = i64::try_from(report.rows).unwrap_or(i64::MAX);
            DoPutUpdateResult { record_count }.encode_to_vec()
        }
        Command::CommandStatementUpdate(_) | Command::CommandPreparedStatementUpdate(_) => {
            return Err(status::unsupported(
                "statements that change something are not supported: SQL here can only read; definitions change by `lineament.apply`, rows come in by DoPut into a feature view",
            ));
        }
        other => {
            return Err(status::unsupported(format!(
                "rows cannot be put by {} here",
                short(other.type_url())
            )));
        }
    };
    Ok((PutResult { app_metadata: app_metadata.into() }, change))
}

/// Flight SQL's bulk ingest, as far as it is the same: rows that are appended to a feature view that exists.
fn ingest_of(command: CommandStatementIngest) -> Result<Ingest, Status> {
    refuse_strange(&command)?;
    if let Some(options) = &command.table_definition_options
        && options.if_exists() != TableExistsOption::Append
    {
        return Err(status::unsupported(
            "bulk ingest can only append to a feature view that is defined (modes `append` and `create_append`); define views by `lineament apply`",
        ));
    }
    let mut ingest = Ingest { view: command.table, key: None, claim: None, steps: Vec::new() };
    if let Some(project) = command.schema.filter(|schema| !schema.is_empty()) {
        ingest.view = format!("{project}.{}", ingest.view);
    }
    for (name, value) in command.options {
        match (name.as_str(), value.as_str()) {
            ("key", _) => ingest.key = Some(value),
            ("claim", "back_fill") => ingest.claim = Some(request::Claim::BackFill),
            ("claim", "correction") => ingest.claim = Some(request::Claim::Correction),
            ("claim", other) => {
                return Err(status::invalid(format!(
                    "the option `claim` of the ingest is `{other}`; it is back_fill or correction"
                )));
            }
            _ => {
                return Err(status::invalid(format!(
                    "the ingest has the option `{name}`, which is not known here; options are `key` and `claim`"
                )));
            }
        }
    }
    Ok(ingest)
}

/// The name of a temporary table, which is a spine that the session calls by a name: `session.{name}`.
fn temporary(command: &CommandStatementIngest, session: &Session) -> Result<String, Status> {
    refuse_strange(command)?;
    let schema = command.schema.as_deref().unwrap_or_default();
    if !(schema.is_empty() || schema == TEMPORARY_SCHEMA) {
        return Err(status::invalid(format!(
            "a temporary table lies in the schema `{TEMPORARY_SCHEMA}`, not in `{schema}`; leave the schema out"
        )));
    }
    let there = session.tables.contains_key(&command.table);
    match command.table_definition_options.map(|options| (options.if_exists(), options.if_not_exist())) {
        Some((TableExistsOption::Append, _)) if there => Err(status::unsupported(
            "a temporary table is not appended to: it is a spine, known by its content; replace it",
        )),
        Some((TableExistsOption::Fail, _)) if there => Err(status::status(
            Code::AlreadyExists,
            format!("this session has a temporary table `{}`; replace it (mode `replace`)", command.table),
        )),
        Some((_, TableNotExistOption::Fail)) if !there => Err(status::status(
            Code::NotFound,
            format!("this session has no temporary table `{}`; create it (mode `create`)", command.table),
        )),
        _ if command.table.is_empty() => Err(status::invalid("the temporary table has no name")),
        _ => {
            request::note("the name of the temporary table", Some(&command.table))?;
            Ok(command.table.clone())
        }
    }
}

/// Refuses what bulk ingest has that means nothing here.
fn refuse_strange(command: &CommandStatementIngest) -> Result<(), Status> {
    if command.transaction_id.as_ref().is_some_and(|id| !id.is_empty()) {
        return Err(status::unsupported(
            "bulk ingest in transactions is not supported: it is one entry of the log",
        ));
    }
    match command.catalog.as_deref() {
        None | Some("" | CATALOG) => Ok(()),
        Some(other) => Err(status::status(
            Code::NotFound,
            format!("there is no catalog `{other}`; the only one is `{CATALOG}`"),
        )),
    }
}

/// A message's name without the address before it.
pub fn short(type_url: &str) -> &str {
    type_url.rsplit('.').next().unwrap_or(type_url)
}
