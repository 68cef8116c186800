//! What clients are handed to fetch rows with: a ticket for each endpoint, read side by side or one after the other.

use std::ops::Range;

use arrow::datatypes::SchemaRef;
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, RenewFlightEndpointRequest, Ticket};
use feature::TrainingSetId;
use prost::Message;
use serving::Stretches;
use tonic::Status;

use crate::sealed::Seals;
use crate::sealed_statements;
use crate::status;

/// An answer that is planned: its columns, and a ticket for each of its parts, in their order.
pub struct Planned {
    pub schema: SchemaRef,
    tickets: Vec<Vec<u8>>,
    /// How many rows there will be, where that is known.
    rows: Option<u64>,
}

impl Planned {
    /// An answer that is read in one piece.
    pub fn whole(schema: SchemaRef, ticket: Vec<u8>) -> Self {
        Self { schema, tickets: vec![ticket], rows: None }
    }

    /// A recorded set, a ticket for each stretch of its rows. They hold the id and the rows alone, so that they give the same rows
    /// whenever they are read, and survive the server.
    pub fn training_set(id: TrainingSetId, set: &Stretches) -> Self {
        let ticket = |rows: &Range<u64>| {
            let stretch = serde_json::json!({ "training_set": id, "from": rows.start, "until": rows.end });
            serde_json::json!({ "stretch": stretch }).to_string().into_bytes()
        };
        Self {
            schema: set.schema.clone(),
            tickets: set.stretches.iter().map(ticket).collect(),
            rows: Some(set.rows),
        }
    }

    /// As it is told to clients. Endpoints have no location: the rows are here.
    pub fn info(self, descriptor: FlightDescriptor) -> Result<FlightInfo, Status> {
        let info =
            FlightInfo::new().try_with_schema(&self.schema).map_err(|error| status::encoding(&error))?;
        let mut info = info.with_descriptor(descriptor).with_ordered(true);
        if let Some(rows) = self.rows {
            info = info.with_total_records(i64::try_from(rows).unwrap_or(-1));
        }
        Ok(self.tickets.into_iter().fold(info, |info, ticket| info.with_endpoint(endpoint(ticket))))
    }
}

/// An endpoint of this server. What is sealed of its ticket on its way out expires; that of a recorded set does not.
fn endpoint(ticket: Vec<u8>) -> FlightEndpoint {
    FlightEndpoint::new().with_ticket(Ticket::new(ticket))
}

/// The same endpoint for a longer time.
///
/// # Errors
/// A body that is not the message that Flight says, or an endpoint without a ticket.
pub fn renew(body: &[u8], seals: &Seals, principal: &str) -> Result<Vec<u8>, Status> {
    let wanted = RenewFlightEndpointRequest::decode(body).map_err(|error| {
        status::invalid(format!(
            "the body of the action `RenewFlightEndpoint` is not the message that Flight says: {error}"
        ))
    })?;
    let ticket = wanted.endpoint.and_then(|endpoint| endpoint.ticket);
    let ticket = ticket
        .ok_or_else(|| status::invalid("the endpoint has no ticket, so that there is nothing to renew"))?;
    let opened = sealed_statements::open_ticket(seals, principal, &ticket.ticket)?;
    let info = FlightInfo::new().with_endpoint(endpoint(opened.into_owned()));
    let renewed = sealed_statements::seal_info(seals, principal, info)?.endpoint.pop();
    Ok(renewed.unwrap_or_default().encode_to_vec())
}
