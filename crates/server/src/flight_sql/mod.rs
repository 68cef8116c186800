//! Flight SQL: statements, prepared statements and what tools ask about the store.
//!
//! Commands are told apart here and not by arrow-flight's `FlightSqlService`: its uploads take the network's stream, which cannot be
//! checked before it is decoded, and it has no GetSchema.

pub mod cancel;
mod keys;
pub mod metadata;
pub mod prepared;
mod server_info;
pub mod session;

use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::sql::{Command, CommandStatementQuery, ProstMessageExt, TicketStatementQuery};
use catalog::Author;
use prost::Message;
use serving::{Query, Serving};
use tonic::Status;

use crate::answer::Answer;
use crate::call::reads_at;
use crate::flight_sql::session::Session;
use crate::put::short;
use crate::request::{self, Handle};
use crate::status;

/// What a command's rows will look like, and the ticket that fetches them.
pub async fn info(
    serving: &Serving,
    command: Command,
    author: &Author,
    session: &Session,
) -> Result<(SchemaRef, Vec<u8>), Status> {
    match command {
        Command::CommandStatementQuery(statement) => {
            let query = statement_query(statement)?.with_spines(&session.tables);
            let schema = describe(serving, &query).await?;
            let handle = Handle { sql: query.text().to_owned(), prepared: None, parameters: None };
            let handle = TicketStatementQuery { statement_handle: handle.write()?.into() };
            Ok((schema, handle.as_any().encode_to_vec()))
        }
        Command::CommandPreparedStatementQuery(statement) => {
            let query = Handle::read(&statement.prepared_statement_handle)?.query()?;
            let query = query.with_spines(&session.tables);
            let schema = describe(serving, &query).await?;
            Ok((schema, statement.as_any().encode_to_vec()))
        }
        other => {
            // The command itself is the ticket.
            let ticket = other.clone().into_any().encode_to_vec();
            let Some(schema) = metadata::schema(&other, serving, author).await? else {
                return Err(unknown(&other));
            };
            Ok((schema, ticket))
        }
    }
}

/// The rows of a command or of a ticket.
pub async fn rows(
    serving: &Serving,
    command: Command,
    author: &Author,
    session: &Session,
) -> Result<Answer, Status> {
    let query = match command {
        Command::TicketStatementQuery(ticket) => Handle::read(&ticket.statement_handle)?.query()?,
        Command::CommandPreparedStatementQuery(statement) => {
            Handle::read(&statement.prepared_statement_handle)?.query()?
        }
        Command::CommandStatementQuery(statement) => statement_query(statement)?,
        other => {
            return match metadata::rows(&other, serving, author).await? {
                Some(batch) => Ok(Answer::batches(batch.schema(), vec![batch])),
                None => Err(unknown(&other)),
            };
        }
    };
    let query = query.with_spines(&session.tables);
    let retrieval = serving.retrieve(query, author).await.map_err(|error| status::of(&error))?;
    reads_at(retrieval.sequence, None);
    Ok(Answer::retrieval(retrieval))
}

async fn describe(serving: &Serving, query: &Query) -> Result<SchemaRef, Status> {
    serving.describe(query).await.map_err(|error| status::of(&error))
}

fn statement_query(statement: CommandStatementQuery) -> Result<Query, Status> {
    if statement.transaction_id.is_some_and(|id| !id.is_empty()) {
        return Err(status::unsupported("transactions are not supported: queries here only read"));
    }
    request::sql(statement.query)
}

fn unknown(command: &Command) -> Status {
    let why = match command {
        Command::CommandGetXdbcTypeInfo(_) => "types are Arrow's own, without a table of XDBC types",
        Command::CommandStatementSubstraitPlan(_) => "plans are written in SQL, not in Substrait",
        _ => "statements, prepared statements, catalogs, schemas, tables, table types, keys and SQL info are",
    };
    status::unsupported(format!(
        "the Flight SQL command {} is not supported: {why}",
        short(command.type_url())
    ))
}

/// A schema as an encapsulated IPC message.
pub fn schema_message(schema: &Schema) -> Result<bytes::Bytes, Status> {
    let options = arrow::ipc::writer::IpcWriteOptions::default();
    let message: arrow_flight::IpcMessage = arrow_flight::SchemaAsIpc::new(schema, &options)
        .try_into()
        .map_err(|error| status::encoding(&error))?;
    Ok(message.0)
}
