//! What waits for its turn: all that reads or writes rows. What tools ask of the store's shape passes at once.

use arrow_flight::sql::Any;
use prost::Message;

/// Actions that read rows, or walk all that there is.
const WORK: [&str; 9] = [
    "lineament.replay",
    "lineament.explain",
    "lineament.explain_value",
    "lineament.diff",
    "lineament.audit",
    "lineament.refresh",
    "lineament.reconcile",
    "lineament.lineage",
    "lineament.impact",
];

pub fn action_is_work(name: &str) -> bool {
    WORK.contains(&name)
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
        assert!(action_is_work("lineament.replay"));
        assert!(!action_is_work("lineament.status"));
    }
}
