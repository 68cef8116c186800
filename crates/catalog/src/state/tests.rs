//! What the fold refuses by itself, whoever wrote the entry: a writer looks before it appends, and this holds where one did not.

use feature::digest::hash;
use uuid::Uuid;

use super::*;

fn digest_of(text: &str) -> Digest {
    hash(HashAlgorithm::Blake3, text.as_bytes())
}

fn by(sequence: u64) -> Provenance {
    Provenance {
        sequence: Sequence(sequence),
        committed_at: Timestamp(sequence as i64),
        principal: "ada".to_owned(),
        program: "test".to_owned(),
        run: None,
        experiment: None,
    }
}

/// An entry of this sequence under a key for this content.
fn keyed<'a>(sequence: u64, key: &'a str, content: &str, records: &'a [Record]) -> Applied<'a> {
    let request = Some((key, digest_of(content)));
    Applied { by: by(sequence), digest: digest_of(&sequence.to_string()), request, records }
}

#[test]
fn an_entry_that_repeats_a_request_key_is_not_folded() {
    let store = StoreId::from(Uuid::from_u128(1));
    let blake3 = HashAlgorithm::Blake3;
    let created: [Record; 1] =
        [StoreCreated { store, hash: blake3, format: 1, put_if_absent_proved: true }.into()];
    let object =
        crate::records::Object { path: "reads/1.parquet".to_owned(), bytes: 1, digest: digest_of("1") };
    let reads: [Record; 1] = [ReadsRecorded { reads: 1, object }.into()];
    let first = Applied { by: by(0), digest: digest_of("0"), request: None, records: &created };
    let mut folded = State::begin(&first).unwrap();
    folded.apply_entry(&keyed(1, "load", "one", &reads)).unwrap();
    let answered = Some(Request { digest: digest_of("one"), sequence: Sequence(1) });
    assert_eq!(folded.request("load"), answered);
    // Also where the key stands in a checkpoint, and not among what came since.
    let tables = folded.tables_after(None).unwrap();
    let opened = State::from_tables(folded.store, folded.hash, &tables).unwrap();
    assert!(opened.requests.is_empty());
    for state in [&folded, &opened] {
        // The same request, and the key for something else: the first answer stands either way.
        for content in ["one", "another"] {
            let mut next = state.clone();
            let error = next.apply_entry(&keyed(2, "load", content, &reads)).unwrap_err();
            assert!(matches!(&error, ApplyError::Repeated { what: "the request key", .. }), "{error}");
            assert_eq!(error.to_string(), "entry 2 repeats the request key load");
            assert_eq!(next.request("load"), answered);
            assert_eq!((next.head.sequence, next.log().iter().count()), (Sequence(1), 2));
        }
        let mut next = state.clone();
        next.apply_entry(&keyed(2, "load again", "one", &reads)).unwrap();
        assert_eq!((next.head.sequence, next.request("load")), (Sequence(2), answered.clone()));
    }
}
