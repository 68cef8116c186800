//! Arrow IPC messages from outside, before they are decoded.
//!
//! The decoder trusts much of what a message says of itself: it reserves the lengths that compressed buffers claim, slices the
//! body where buffers are said to lie, and stops the process where that fails. So all of it is checked here first, against the
//! schema and the bytes that are really there.

mod files;
mod layout;
mod limits;
mod lz4;
mod schema;

use std::collections::HashSet;

use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::{MessageHeader, MetadataVersion, root_as_message};

pub use files::ArrowRows;
use layout::Layout;
pub use limits::Limits;
pub use lz4::bound as lz4_bound;

/// Why a message was refused. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

/// A message that can be decoded without harm, and the bytes that it takes in memory then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    Schema,
    Dictionary(u64),
    Rows(u64),
}

/// Checks the messages of one stream of rows, in their order.
#[derive(Debug)]
pub struct MessageCheck {
    limits: Limits,
    schema: Option<Schema>,
    /// Dictionaries that have come.
    dictionaries: HashSet<i64>,
}

impl MessageCheck {
    pub fn new(limits: Limits) -> Self {
        Self { limits, schema: None, dictionaries: HashSet::new() }
    }

    /// Whether a message can be decoded without harm.
    ///
    /// # Errors
    /// What is wrong with it, and what to send instead.
    pub fn admit(&mut self, header: &[u8], body: &[u8]) -> Result<Admitted, Refused> {
        let refuse = |why: &str| Err(Refused(why.to_owned()));
        let message = root_as_message(header)
            .map_err(|error| Refused(format!("a message's header is not Arrow IPC metadata: {error}")))?;
        if !matches!(message.version(), MetadataVersion::V4 | MetadataVersion::V5) {
            return refuse("a message has an old or unknown format; send Arrow IPC metadata version 5");
        }
        match message.header_type() {
            MessageHeader::Schema => {
                let Some(header) = message.header_as_schema() else {
                    return refuse("a schema message has no schema");
                };
                if self.schema.is_some() {
                    return refuse("a second schema was sent; all rows of a stream have one schema");
                }
                self.begin(header)?;
                Ok(Admitted::Schema)
            }
            MessageHeader::RecordBatch => {
                let Some(schema) = &self.schema else { return refuse("rows were sent before their schema") };
                let Some(batch) = message.header_as_record_batch() else {
                    return refuse("a record batch message has no record batch");
                };
                let mut layout = Layout::of(batch, body, self.limits)?;
                for field in schema.fields() {
                    layout.column(field)?;
                }
                let (rows, bytes) = layout.finish()?;
                // Rows cost something even where they have no bytes, as columns of nulls.
                Ok(Admitted::Rows(bytes.saturating_add(8 * rows)))
            }
            MessageHeader::DictionaryBatch => self.dictionary(message.header_as_dictionary_batch(), body),
            other => Err(Refused(format!(
                "a message of kind {} cannot be sent here; send a schema, dictionaries and record batches",
                other.variant_name().unwrap_or("unknown")
            ))),
        }
    }

    /// The schema that has come.
    fn schema(&self) -> Option<Schema> {
        self.schema.clone()
    }

    fn begin(&mut self, header: arrow::ipc::Schema<'_>) -> Result<(), Refused> {
        schema::verify(header)?;
        self.schema = Some(fb_to_schema(header));
        Ok(())
    }

    fn dictionary(
        &mut self,
        header: Option<arrow::ipc::DictionaryBatch<'_>>,
        body: &[u8],
    ) -> Result<Admitted, Refused> {
        let refuse = |why: &str| Err(Refused(why.to_owned()));
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
            return Err(Refused(format!("a dictionary has the id {id}, which no column of the schema has")));
        };
        let mut layout = Layout::of(values, body, self.limits)?;
        layout.column(&value)?;
        let (rows, bytes) = layout.finish()?;
        if rows > self.limits.rows {
            return refuse("a dictionary has too many values");
        }
        self.dictionaries.insert(id);
        Ok(Admitted::Dictionary(bytes.saturating_add(8 * rows)))
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
