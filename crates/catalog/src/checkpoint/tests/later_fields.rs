//! Fields that a later program added to records: this one passes over them, and neither takes a checkpoint of the other for more than it is.

use arrow::array::{ArrayRef, AsArray, StringArray};
use serde_json::json;
use storage::checkpoint::Unread;

use super::history::{History, created, entry_after};
use super::*;

/// The same entry, whose first record has a field more.
fn with((mut entry, _): (Entry, Digest), field: &str) -> (Entry, Digest) {
    entry.records[0].body[field] = json!("EWR");
    let digest = storage::entry::digest(HashAlgorithm::Blake3, &entry.encode().unwrap());
    (entry, digest)
}

fn reads() -> crate::records::Record {
    let digest = feature::digest::hash(HashAlgorithm::Blake3, b"1");
    let object = crate::records::Object { path: "reads/1.parquet".to_owned(), bytes: 1, digest };
    crate::records::ReadsRecorded { reads: 1, object }.into()
}

/// Records that have a row in a checkpoint and one that has none, and a field that comes twice.
fn history() -> History {
    let first = with(entry_after(None, &[created()], None), "region");
    let second = entry_after(Some(&first), &[reads()], None);
    let third = with(entry_after(Some(&second), &[reads()], None), "site");
    let fourth = with(entry_after(Some(&third), &[reads()], None), "site");
    History { entries: vec![first, second, third, fourth] }
}

#[test]
fn a_checkpoint_says_what_its_writer_did_not_know() {
    let history = history();
    let state = history.states().pop().unwrap();
    let told: Vec<_> =
        state.unread().iter().map(|one| (one.number, one.field.as_str(), one.sequence.0)).collect();
    assert_eq!(told, [(1, "/region", 0), (31, "/site", 2)]);
    block_on(async {
        let store = store();
        append(&store, &history.entries).await;
        let middle = history.states().swap_remove(1);
        let first = write(&store, Arc::new(middle), None, "test").await.unwrap();
        assert_eq!(first.unread, state.unread()[..1]);
        let (found, passed_over) = opened(&store).await;
        assert_eq!(passed_over, []);
        // Who goes on from it says it again, with what came since.
        let caught_up = caught_up(found.unwrap());
        assert_eq!(caught_up.unread(), state.unread());
        assert_eq!(state_digest(&caught_up).unwrap(), state_digest(&state).unwrap());
        let second = write(&store, Arc::new(caught_up), Some(&first), "test").await.unwrap();
        assert_eq!(second.unread, state.unread());
        let (found, passed_over) = opened(&store).await;
        assert_eq!(passed_over, []);
        assert_eq!(found.unwrap().checkpoint, second);
        // One of a program that did not even know what this one does.
        let known = Unread { field: "/reads".to_owned(), ..second.unread[1].clone() };
        let earlier = Checkpoint { unread: vec![known], ..second };
        let why = open(&store, earlier).await.unwrap().map(|_| ()).unwrap_err();
        assert!(why.contains("did not know the field `/reads` of record 31, which entry 2 has"), "{why}");
    });
}

#[test]
fn tables_that_say_more_than_is_known_are_not_taken() {
    let state = history().states().pop().unwrap();
    let mut tables = state.tables_after(None).unwrap();
    assert!(State::from_tables(state.store, state.hash, &tables).is_ok());
    let rows = tables.of(Table::Records).clone();
    let bodies = rows.column(2).as_string::<i32>().iter().flatten();
    let bodies: ArrayRef = Arc::new(StringArray::from_iter_values(
        bodies.map(|body| body.replacen('{', "{\"site\":\"EWR\",", 1)),
    ));
    let columns = vec![rows.column(0).clone(), rows.column(1).clone(), bodies];
    tables.set(Table::Records, RecordBatch::try_new(rows.schema(), columns).unwrap());
    let why = State::from_tables(state.store, state.hash, &tables).map(|_| ()).unwrap_err();
    assert!(why.contains("knew the field `/site` of record 31, which this program does not"), "{why}");
}
