//! What of tickets and of Flight SQL's messages is sealed on its way out, and opened on its way in.
//!
//! Sealed is what holds SQL: tickets of queries, and the handles of prepared statements. A ticket that anybody could write by hand
//! is not: that of a recorded training set holds its id alone, outlives the server, and is looked at anew each time that it comes.

use std::borrow::Cow;

use arrow_flight::sql::{
    ActionCreatePreparedStatementResult, Any, CommandPreparedStatementQuery, DoPutPreparedStatementResult,
    ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{FlightDescriptor, FlightInfo, PutResult};
use bytes::Bytes;
use prost::Message;
use tonic::Status;

use crate::request::{self, Wanted};
use crate::sealed::{Sealed, Seals, is_sealed};
use crate::status;

/// Seals the tickets of an answer to GetFlightInfo, and says how long they count.
pub fn seal_info(seals: &Seals, principal: &str, mut info: FlightInfo) -> Result<FlightInfo, Status> {
    for endpoint in &mut info.endpoint {
        let Some(ticket) = &mut endpoint.ticket else { continue };
        if !holds_sql(&ticket.ticket)? {
            continue;
        }
        ticket.ticket = seals.seal(Sealed::Ticket, principal, &ticket.ticket)?.into();
        let expires = seals.expiry(Sealed::Ticket).micros();
        let until = endpoint.expiration_time.get_or_insert_default();
        until.seconds = expires.div_euclid(1_000_000);
        until.nanos = i32::try_from(expires.rem_euclid(1_000_000) * 1_000).unwrap_or_default();
    }
    Ok(info)
}

fn holds_sql(ticket: &[u8]) -> Result<bool, Status> {
    if let Ok(any) = Any::decode(ticket)
        && (any.is::<TicketStatementQuery>() || any.is::<CommandPreparedStatementQuery>())
    {
        return Ok(true);
    }
    let Wanted::Json(text) = request::command(ticket)? else { return Ok(false) };
    Ok(matches!(request::json("the ticket", text.as_bytes())?, request::Ticket::Sql(_)))
}

/// A ticket as the rest of the server reads it. One that a client wrote by hand passes as it is.
///
/// # Errors
/// Those of [`Seals::open`]; `INVALID_ARGUMENT` for a ticket that only this server gives out, and did not.
pub fn open_ticket<'a>(seals: &Seals, principal: &str, ticket: &'a [u8]) -> Result<Cow<'a, [u8]>, Status> {
    if is_sealed(ticket) {
        return Ok(seals.open(Sealed::Ticket, principal, ticket)?.into());
    }
    if Any::decode(ticket).is_ok_and(|any| any.is::<TicketStatementQuery>()) {
        return Err(status::invalid(
            "the ticket is not one that this server gives out: ask for the query's FlightInfo; to run a query by DoGet alone, send {\"sql\": \"SELECT …\"}",
        ));
    }
    open_command(seals, principal, ticket)
}

/// A descriptor as the rest of the server reads it.
///
/// # Errors
/// Those of [`Seals::open`].
pub fn open_descriptor<'a>(
    seals: &Seals,
    principal: &str,
    descriptor: &'a FlightDescriptor,
) -> Result<Cow<'a, FlightDescriptor>, Status> {
    Ok(match open_command(seals, principal, &descriptor.cmd)? {
        Cow::Borrowed(_) => Cow::Borrowed(descriptor),
        Cow::Owned(command) => Cow::Owned(FlightDescriptor { cmd: command.into(), ..descriptor.clone() }),
    })
}

/// Opens the handle in the command of a prepared statement.
fn open_command<'a>(seals: &Seals, principal: &str, command: &'a [u8]) -> Result<Cow<'a, [u8]>, Status> {
    let Ok(any) = Any::decode(command) else { return Ok(command.into()) };
    if !any.is::<CommandPreparedStatementQuery>() {
        return Ok(command.into());
    }
    let read: CommandPreparedStatementQuery = unpacked(&any)?;
    let handle = seals.open(Sealed::Handle, principal, &read.prepared_statement_handle)?;
    let opened = CommandPreparedStatementQuery { prepared_statement_handle: handle.into() };
    Ok(opened.as_any().encode_to_vec().into())
}

/// Seals the handle of a statement that was prepared.
pub fn seal_prepared(seals: &Seals, principal: &str, answer: &[u8]) -> Result<Vec<u8>, Status> {
    let any = Any::decode(answer).map_err(|error| status::internal("a statement was not prepared", error))?;
    let mut prepared: ActionCreatePreparedStatementResult = unpacked(&any)?;
    prepared.prepared_statement_handle = sealed(seals, principal, &prepared.prepared_statement_handle)?;
    Ok(prepared.as_any().encode_to_vec())
}

/// Seals the handle of a statement that parameters were bound to.
pub fn seal_bound(seals: &Seals, principal: &str, answer: PutResult) -> Result<PutResult, Status> {
    let mut bound = DoPutPreparedStatementResult::decode(answer.app_metadata)
        .map_err(|error| status::internal("parameters were not bound", error))?;
    if let Some(handle) = &mut bound.prepared_statement_handle {
        *handle = sealed(seals, principal, handle)?;
    }
    Ok(PutResult { app_metadata: bound.encode_to_vec().into() })
}

fn sealed(seals: &Seals, principal: &str, handle: &[u8]) -> Result<Bytes, Status> {
    Ok(seals.seal(Sealed::Handle, principal, handle)?.into())
}

fn unpacked<M: ProstMessageExt>(any: &Any) -> Result<M, Status> {
    any.unpack().ok().flatten().ok_or_else(|| {
        status::invalid(format!(
            "the Flight SQL command cannot be read: it is no {}",
            any.type_url.rsplit('.').next().unwrap_or_default()
        ))
    })
}
