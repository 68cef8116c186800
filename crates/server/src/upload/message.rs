//! One message of an upload, before it is decoded.
//!
//! The decoder trusts much of what a message says of itself: it reserves the lengths that compressed buffers claim, slices the
//! body where buffers are said to lie, and stops the process where that fails. So all of it is checked here first, against the
//! schema and the bytes that are really there.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::{MessageHeader, MetadataVersion, root_as_message};
use arrow_flight::FlightData;
use serving::Reserved;

use super::Refused;
use super::layout::Layout;
use super::limits::{ROWS, UPLOAD_BYTES};
use super::schema;

/// Checks the messages of one upload, in their order.
pub struct MessageCheck {
    schema: Option<Schema>,
    /// Dictionaries that have come.
    dictionaries: HashSet<i64>,
    /// Bytes of what was admitted and is held, decoded.
    bytes: u64,
    /// Of them, those of rows, and not of dictionaries.
    of_rows: u64,
    /// The memory for them.
    held: Arc<Reserved>,
}

impl MessageCheck {
    pub fn new(held: Arc<Reserved>) -> Self {
        Self { schema: None, dictionaries: HashSet::new(), bytes: 0, of_rows: 0, held }
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

    /// Whether a message can be decoded without harm.
    pub fn admit(&mut self, data: &FlightData) -> Result<(), Refused> {
        let refuse = |why: &str| Err(Refused::Messages(why.to_owned()));
        let message = root_as_message(&data.data_header).map_err(|error| {
            Refused::Messages(format!("a message's header is not Arrow IPC metadata: {error}"))
        })?;
        if !matches!(message.version(), MetadataVersion::V4 | MetadataVersion::V5) {
            return refuse("a message has an old or unknown format; send Arrow IPC metadata version 5");
        }
        match message.header_type() {
            MessageHeader::Schema => {
                let Some(header) = message.header_as_schema() else {
                    return refuse("a schema message has no schema");
                };
                if self.schema.is_some() {
                    return refuse("a second schema was sent; all rows of an upload have one schema");
                }
                schema::verify(header)?;
                self.schema = Some(fb_to_schema(header));
                Ok(())
            }
            MessageHeader::RecordBatch => {
                let Some(schema) = &self.schema else { return refuse("rows were sent before their schema") };
                let Some(batch) = message.header_as_record_batch() else {
                    return refuse("a record batch message has no record batch");
                };
                let mut layout = Layout::of(batch, &data.data_body)?;
                for field in schema.fields() {
                    layout.column(field)?;
                }
                let (rows, bytes) = layout.finish()?;
                // Rows cost something even where they have no bytes, as columns of nulls.
                self.count(bytes + 8 * rows)?;
                self.of_rows += bytes + 8 * rows;
                Ok(())
            }
            MessageHeader::DictionaryBatch => self.dictionary(message.header_as_dictionary_batch(), data),
            other => Err(Refused::Messages(format!(
                "a message of kind {} cannot be sent here; send a schema, dictionaries and record batches",
                other.variant_name().unwrap_or("unknown")
            ))),
        }
    }

    fn dictionary(
        &mut self,
        header: Option<arrow::ipc::DictionaryBatch<'_>>,
        data: &FlightData,
    ) -> Result<(), Refused> {
        let refuse = |why: &str| Err(Refused::Messages(why.to_owned()));
        let Some(schema) = &self.schema else { return refuse("a dictionary was sent before the schema") };
        let Some((id, values, delta)) =
            header.and_then(|header| Some((header.id(), header.data()?, header.isDelta())))
        else {
            return refuse("a dictionary message has no values");
        };
        if delta && !self.dictionaries.contains(&id) {
            return refuse("a dictionary was to be extended that has not come yet");
        }
        let Some(value) = dictionary_values(schema, id) else {
            return Err(Refused::Messages(format!(
                "a dictionary has the id {id}, which no column of the schema has"
            )));
        };
        let mut layout = Layout::of(values, &data.data_body)?;
        layout.column(&value)?;
        let (rows, bytes) = layout.finish()?;
        if rows > ROWS {
            return refuse("a dictionary has too many values");
        }
        self.dictionaries.insert(id);
        self.count(bytes + 8 * rows)
    }

    fn count(&mut self, bytes: u64) -> Result<(), Refused> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > UPLOAD_BYTES {
            return Err(Refused::Messages(format!(
                "the upload has more than {} GiB; send it in several, or ingest files with `lineament ingest`",
                UPLOAD_BYTES >> 30
            )));
        }
        self.held.grow(bytes).map_err(|error| Refused::Memory(serving::Error::from(error)))
    }
}

/// The values of a dictionary as a column, by the id that a field of the schema gives it.
fn dictionary_values(schema: &Schema, id: i64) -> Option<Field> {
    #[allow(deprecated, reason = "an IPC message has nothing else to find a dictionary by")]
    let fields = schema.fields_with_dict_id(id);
    match fields.first()?.data_type() {
        DataType::Dictionary(_, values) => Some(Field::new("", values.as_ref().clone(), true)),
        _ => None,
    }
}
