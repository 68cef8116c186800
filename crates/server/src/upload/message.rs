//! One message of an upload: checked before it is decoded, and its memory taken.

use std::sync::Arc;

use arrow_flight::FlightData;
use catalog::ingest::arrow_messages::{self, Admitted, Limits};
use serde::Deserialize;
use serving::Reserved;

use super::{Refused, UPLOAD_BYTES};

/// Checks the messages of one upload, in their order.
pub struct MessageCheck {
    messages: arrow_messages::MessageCheck,
    /// Bytes of what was admitted and is held, decoded.
    bytes: u64,
    /// Of them, those of rows, and not of dictionaries.
    of_rows: u64,
    /// The memory for them.
    held: Arc<Reserved>,
    /// How many rows their sender has counted, where a message without data says it.
    sent: Option<u64>,
}

/// What a message without data may say.
#[derive(Deserialize)]
struct Said {
    rows: u64,
}

impl MessageCheck {
    pub fn new(held: Arc<Reserved>) -> Self {
        Self {
            messages: arrow_messages::MessageCheck::new(Limits::SENT),
            bytes: 0,
            of_rows: 0,
            held,
            sent: None,
        }
    }

    /// The rows that were admitted so far are held by others: gives back the memory for them.
    pub fn let_go_of_rows(&mut self) {
        let bytes = std::mem::take(&mut self.of_rows);
        self.bytes -= bytes;
        self.held.shrink(bytes);
    }

    /// Bytes of rows that were admitted and are held.
    pub fn of_rows(&self) -> u64 {
        self.of_rows
    }

    /// Hears what a message without data says; what is not meant for us is no matter.
    pub fn said(&mut self, metadata: &[u8]) {
        if let Ok(Said { rows }) = serde_json::from_slice(metadata) {
            self.sent = Some(rows);
        }
    }

    /// How many rows their sender has counted.
    pub fn sent(&self) -> Option<u64> {
        self.sent
    }

    /// Whether a message can be decoded without harm, and there is room for it.
    pub fn admit(&mut self, data: &FlightData) -> Result<(), Refused> {
        match self.messages.admit(&data.data_header, &data.data_body)? {
            Admitted::Schema => Ok(()),
            Admitted::Dictionary(bytes) => self.count(bytes),
            Admitted::Rows(bytes) => {
                self.count(bytes)?;
                self.of_rows += bytes;
                Ok(())
            }
        }
    }

    /// As [`Self::admit`], for an upload without end: the memory of rows is held apart from that of what lasts.
    pub fn admit_part(&mut self, data: &FlightData, rows: &Reserved) -> Result<(), Refused> {
        match self.messages.admit(&data.data_header, &data.data_body)? {
            Admitted::Schema => Ok(()),
            Admitted::Dictionary(bytes) => self.count(bytes),
            Admitted::Rows(bytes) => grow(rows, bytes),
        }
    }

    fn count(&mut self, bytes: u64) -> Result<(), Refused> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > UPLOAD_BYTES {
            return Err(Refused::TooMuch);
        }
        grow(&self.held, bytes)
    }
}

fn grow(held: &Reserved, bytes: u64) -> Result<(), Refused> {
    held.grow(bytes).map_err(|error| Refused::Memory(serving::Error::from(error)))
}
