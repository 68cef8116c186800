//! Fields of records that this program does not know: a later one wrote them. The log keeps them and a checkpoint cannot, so it says which its
//! writer passed over, and who knows one of them folds the log instead.

use std::sync::Arc;

use feature::Sequence;
use serde_json::Value;
use storage::checkpoint::Unread;
use storage::entry::RawRecord;

use super::State;
use crate::records::Record;

/// Where a body has fields that the record which was read of it has not; `*` is any place in a list.
///
/// # Errors
/// None that is known: what was read can be written.
pub(crate) fn passed_over(body: &Value, record: &Record) -> serde_json::Result<Vec<String>> {
    let mut found = Vec::new();
    // So are nearly all, and two texts cost less than a second tree.
    if serde_json::to_string(body)? == record.text()? {
        return Ok(found);
    }
    let known = record.body()?;
    if known != *body {
        compare("", body, &known, &mut found);
        found.sort_unstable();
        found.dedup();
    }
    Ok(found)
}

fn compare(at: &str, body: &Value, known: &Value, found: &mut Vec<String>) {
    match (body, known) {
        (Value::Object(body), Value::Object(known)) => {
            for (name, value) in body {
                let place = format!("{at}/{name}");
                match known.get(name) {
                    Some(known) => compare(&place, value, known, found),
                    None if is_left_out(value) => {}
                    None => found.push(place),
                }
            }
        }
        (Value::Array(body), Value::Array(known)) => {
            let place = format!("{at}/*");
            body.iter().zip(known).for_each(|(value, known)| compare(&place, value, known, found));
        }
        _ => {}
    }
}

/// Whether a field with this value may as well be left out, as records leave it out.
fn is_left_out(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Whether this program does not know a field either.
pub(crate) fn is_unread_here(one: &Unread) -> bool {
    let Ok(body) = serde_json::from_str::<Value>(&one.body) else { return false };
    let Ok(record) = Record::decode(one.number, &body) else { return false };
    passed_over(&body, &record).is_ok_and(|fields| fields.contains(&one.field))
}

impl State {
    /// Fields of records that this program does not know, each with the first entry that has it.
    pub fn unread(&self) -> &[Unread] {
        &self.unread
    }

    /// Notes what the bodies of an entry have that its records have not.
    ///
    /// # Errors
    /// Those of [`passed_over`].
    pub(crate) fn note_unread(
        &mut self,
        sequence: Sequence,
        bodies: &[RawRecord],
        records: &[Record],
    ) -> serde_json::Result<()> {
        for (raw, record) in bodies.iter().zip(records) {
            for field in passed_over(&raw.body, record)? {
                if self.unread.iter().any(|one| one.number == raw.number && one.field == field) {
                    continue;
                }
                let body = serde_json::to_string(&raw.body)?;
                let one = Unread { number: raw.number, field, sequence, body };
                Arc::make_mut(&mut self.unread).push(one);
            }
        }
        Ok(())
    }

    /// What the writer of the checkpoint that this state was read from had passed over.
    pub(crate) fn with_unread(self, unread: Vec<Unread>) -> Self {
        Self { unread: Arc::new(unread), ..self }
    }
}

#[cfg(test)]
mod tests {
    use feature::digest::{HashAlgorithm, hash};
    use feature::{BatchId, ViewId};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::records::{PartRun, StreamPartsCommitted};

    #[test]
    fn fields_are_found_at_any_depth() {
        let run = PartRun {
            producer: "station".to_owned(),
            epoch: 1,
            first: 1,
            last: 1,
            rows: 1,
            rejected: 0,
            digest: hash(HashAlgorithm::Blake3, b"1"),
            parts: Vec::new(),
        };
        let record = StreamPartsCommitted {
            batch: BatchId::from(Uuid::from_u128(1)),
            view: ViewId::from(Uuid::from_u128(2)),
            runs: vec![run.clone(), run],
        };
        let mut body = Record::from(record).body().unwrap();
        let read = |body: &Value| passed_over(body, &Record::decode(16, body).unwrap()).unwrap();
        assert_eq!(read(&body), Vec::<String>::new());
        for left_out in [json!(null), json!([]), json!({}), json!(false)] {
            body["zone"] = left_out;
            assert_eq!(read(&body), Vec::<String>::new(), "{body}");
        }
        for said in [json!(true), json!(0), json!(""), json!([0]), json!({ "name": null })] {
            body["zone"] = said;
            assert_eq!(read(&body), ["/zone"], "{body}");
        }
        body["zone"] = json!({ "name": "EST" });
        for run in 0..2 {
            body["runs"][run]["site"] = json!(run);
        }
        assert_eq!(read(&body), ["/runs/*/site", "/zone"]);
        let told = |field: &str| Unread {
            number: 16,
            field: field.to_owned(),
            sequence: Sequence(7),
            body: body.to_string(),
        };
        assert!(is_unread_here(&told("/zone")) && is_unread_here(&told("/runs/*/site")));
        assert!(!is_unread_here(&told("/runs")) && !is_unread_here(&told("/runs/*/first")));
    }
}
