//! Stopping a query: the action CancelFlightInfo of Flight, and CancelQuery, its forerunner in Flight SQL.

use arrow_flight::sql::{ActionCancelQueryRequest, ActionCancelQueryResult, Any, ProstMessageExt};
use arrow_flight::{CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo};
use prost::Message;
use tonic::{Code, Status};

use crate::running::RunningQueries;
use crate::status;

pub const CANCEL: &str = "CancelFlightInfo";
pub const CANCEL_OLD: &str = "CancelQuery";
/// `CANCELLED` in Flight SQL's own enumeration, which arrow-flight keeps to itself.
const CANCELLED: i32 = 1;

/// Does one of the two.
///
/// # Errors
/// A body that is not the message that the standard says; `NOT_FOUND` where nothing of the query runs.
pub fn cancel(action: &str, body: &[u8], running: &RunningQueries, caller: &str) -> Result<Vec<u8>, Status> {
    if action == CANCEL {
        let wanted = CancelFlightInfoRequest::decode(body).map_err(|error| unreadable(action, &error))?;
        stop(wanted.info, running, caller)?;
        return Ok(CancelFlightInfoResult::new(CancelStatus::Cancelled).encode_to_vec());
    }
    let any = Any::decode(body).map_err(|error| unreadable(action, &error))?;
    let wanted: Option<ActionCancelQueryRequest> =
        any.unpack().map_err(|error| unreadable(action, &error))?;
    let wanted = wanted.ok_or_else(|| unreadable(action, &"it is another message"))?;
    let info = FlightInfo::decode(wanted.info).map_err(|error| unreadable(action, &error))?;
    stop(Some(info), running, caller)?;
    Ok(ActionCancelQueryResult { result: CANCELLED }.as_any().encode_to_vec())
}

/// Stops what runs by any ticket of an answer.
fn stop(info: Option<FlightInfo>, running: &RunningQueries, caller: &str) -> Result<(), Status> {
    let Some(info) = info.filter(|info| !info.endpoint.is_empty()) else {
        return Err(status::invalid(
            "the query to cancel is not named: send the FlightInfo as it was given out",
        ));
    };
    let tickets = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref());
    let stopped: usize = tickets.map(|ticket| running.cancel(caller, &ticket.ticket)).sum();
    if stopped == 0 {
        return Err(status::status(
            Code::NotFound,
            "nothing of this query is running for you: it has ended, or its ticket was not read yet; an answer that is not read takes nothing",
        ));
    }
    tracing::info!(stopped, "cancelled by its caller");
    Ok(())
}

fn unreadable(action: &str, why: &impl std::fmt::Display) -> Status {
    status::invalid(format!(
        "the body of the action `{action}` is not the message that the standard says: {why}"
    ))
}
