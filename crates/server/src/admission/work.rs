//! Which tickets wait for their turn: all that read rows. What tools ask of the store's shape passes at once.

use arrow_flight::sql::Any;
use prost::Message;

/// What a call does that waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// It may be ended at any time.
    Reads,
    /// It ends by itself: between its entry and what follows from that it must not be left.
    Writes,
}

/// All tickets are, but for Flight SQL's catalogs, schemas, tables and the like.
pub fn ticket_is_work(ticket: &[u8]) -> bool {
    let shape =
        |any: Any| any.type_url.rsplit('.').next().is_some_and(|command| command.starts_with("CommandGet"));
    !Any::decode(ticket).is_ok_and(shape)
}

#[cfg(test)]
mod tests {
    use arrow_flight::sql::{CommandGetTables, CommandStatementQuery, ProstMessageExt};

    use super::*;

    #[test]
    fn shapes_are_no_work_and_rows_are() {
        assert!(ticket_is_work(br#"{"sql": "SELECT 1"}"#));
        assert!(ticket_is_work(&CommandStatementQuery::default().as_any().encode_to_vec()));
        assert!(!ticket_is_work(&CommandGetTables::default().as_any().encode_to_vec()));
    }
}
