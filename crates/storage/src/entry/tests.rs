use super::*;
use serde_json::json;

const FULL: &[u8] = include_bytes!("../../../../testdata/golden/log-entry-v1.json");
const FIRST: &[u8] = include_bytes!("../../../../testdata/golden/log-entry-first-v1.json");

fn first() -> Entry {
    Entry {
        format: FORMAT,
        store: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        sequence: Sequence::ZERO,
        previous: None,
        commit: "9f2c1f2e-7e9b-4a5e-8d55-0c6f6a1b7c11".parse().unwrap(),
        committed_at: "2013-01-01T00:00:00Z".parse().unwrap(),
        principal: "ada".to_owned(),
        program: "lineament 0.1.0".to_owned(),
        request: None,
        run: None,
        experiment: None,
        records: vec![RawRecord { number: 1, body: json!({"hash": "blake3", "format": 1}) }],
    }
}

fn full() -> Entry {
    Entry {
        sequence: Sequence(1),
        previous: Some(digest(HashAlgorithm::Blake3, FIRST)),
        commit: "0b8a4c57-33cf-4cf1-9c1d-6d3fbd9b2a02".parse().unwrap(),
        committed_at: "2013-01-01T00:00:00.000001Z".parse().unwrap(),
        principal: "Grace \"the Admiral\" 😀\n".to_owned(),
        request: Some(RequestKey {
            key: "load-2013-01".to_owned(),
            digest: digest(HashAlgorithm::Blake3, b"request"),
        }),
        run: Some("nightly/42".to_owned()),
        experiment: Some("delays".to_owned()),
        records: vec![
            RawRecord {
                number: 10,
                body: json!({"z": 1, "a": [true, null, 0.5, -3], "most": 9_007_199_254_740_992u64}),
            },
            RawRecord { number: 4_294_967_295, body: json!({}) },
        ],
        ..first()
    }
}

#[test]
fn golden_entries_keep_their_bytes() {
    for (golden, entry) in [(FIRST, first()), (FULL, full())] {
        let bytes = entry.encode().unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(golden));
        assert_eq!(Entry::decode(entry.sequence, golden).unwrap(), entry);
    }
}

#[test]
fn the_hash_is_that_of_the_store() {
    assert_eq!(first().algorithm().unwrap(), HashAlgorithm::Blake3);
    assert_eq!(full().algorithm().unwrap(), HashAlgorithm::Blake3);
    let mut other = first();
    other.records[0].body = json!({"hash": HashAlgorithm::Sha256});
    assert_eq!(other.algorithm().unwrap(), HashAlgorithm::Sha256);
    other.records[0].body = json!({"hash": "md5"});
    assert!(other.algorithm().is_err());
}

/// Reads the full entry with one piece of its text replaced.
fn with(from: &str, to: &str) -> Error {
    let text = std::str::from_utf8(FULL).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from}");
    Entry::decode(Sequence(1), text.replace(from, to).as_bytes()).unwrap_err()
}

#[test]
fn what_is_not_an_entry_is_refused_by_name() {
    for (from, to, says) in [
        (r#""sequence":1"#, r#""sequence":2"#, "says that it is entry 2"),
        (r#""sequence":1"#, r#""sequence":-1"#, "cannot be read"),
        (r#""format":1,"store""#, r#""format":0,"store""#, "format 0"),
        (r#""principal""#, r#""principle""#, "missing field `principal`"),
        (r#""run":"nightly/42""#, r#""run":null"#, "null"),
        (r#""run":"nightly/42""#, r#""run":"a","run":"b""#, "duplicate field `run`"),
        (r#""key":"load-2013-01""#, r#""key":"load-2013-01","more":1"#, "more"),
        (r#""type":10"#, r#""type":10,"more":1"#, "more"),
        (r#""type":10"#, r#""type":4294967296"#, "4294967296"),
        ("9007199254740992", "9007199254740993", "9007199254740993"),
        ("9007199254740992", "-9007199254740993", "-9007199254740993"),
        ("9007199254740992", "99999999999999999999999", "99999999999999999999999"),
        (r#""most""#, "\"most", "cannot be read"),
    ] {
        let message = with(from, to).to_string();
        assert!(message.contains(says), "{to}: {message}");
        assert!(message.contains("log/00000000000000000001.json"), "{message}");
    }
    for length in [0, 1, 20, FULL.len() - 1] {
        let error = Entry::decode(Sequence(1), &FULL[..length]).unwrap_err();
        assert!(matches!(&error, Error::Corrupt { sequence: Some(Sequence(1)), .. }), "{error}");
    }
    let text = std::str::from_utf8(FULL).unwrap();
    let previous = format!("\"previous\":{},", serde_json::to_string(&full().previous).unwrap());
    for (from, to) in [(previous.as_str(), ""), (previous.as_str(), "\"previous\":null,")] {
        assert!(text.contains(from), "{from}");
        let error = Entry::decode(Sequence(1), text.replace(from, to).as_bytes()).unwrap_err();
        assert!(
            error.to_string().contains("previous") || error.to_string().contains("entry before"),
            "{error}"
        );
    }
    let error = Entry::decode(Sequence(0), FULL).unwrap_err();
    assert!(error.to_string().contains("entry 0 was altered"), "{error}");
}

#[test]
fn later_formats_ask_for_a_newer_program() {
    for (from, to, says) in [
        (r#""format":1,"store""#, r#""format":2,"store""#, "its format is 2"),
        (r#""format":1,"store""#, r#""format":2,"shop""#, "its format is 2"),
        (r#""principal""#, r#""region":"eu","principal""#, "`region`"),
    ] {
        let error = with(from, to);
        assert!(matches!(error, Error::Newer { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains("newer Lineament") && message.contains(says), "{message}");
    }
}

#[test]
fn what_cannot_be_read_again_is_not_written() {
    let large = RawRecord { number: 1, body: json!({"n": (1u64 << 53) + 1}) };
    let deep = RawRecord {
        number: 1,
        body: json!({"s": "\\\"99999999999999999999", "n": [1.5e300, -9_007_199_254_740_993i64]}),
    };
    for (entry, says) in [
        (Entry { records: vec![large], ..full() }, "9007199254740993"),
        (Entry { records: vec![deep], ..full() }, "-9007199254740993"),
        (Entry { sequence: Sequence(1 << 60), ..full() }, "1152921504606846976"),
        (Entry { committed_at: Timestamp(i64::MIN), ..full() }, "-9223372036854775808"),
        (Entry { previous: None, ..full() }, "entry before"),
        (Entry { sequence: Sequence::ZERO, ..full() }, "first entry"),
        (Entry { format: 2, ..full() }, "format is 2"),
        (Entry { principal: "x".repeat(MAX_BYTES), ..full() }, "bytes"),
    ] {
        let message = entry.encode().unwrap_err().to_string();
        assert!(message.contains(says), "{message}");
    }
    let fine = Entry { run: Some("99999999999999999999 \" 99999999999999999999".to_owned()), ..full() };
    assert_eq!(Entry::decode(Sequence(1), &fine.encode().unwrap()).unwrap(), fine);
}

#[test]
fn every_flipped_byte_changes_the_digest_or_is_refused() {
    let expected = digest(HashAlgorithm::Blake3, FULL);
    for at in 0..FULL.len() {
        let mut bytes = FULL.to_vec();
        bytes[at] ^= 1;
        assert_ne!(digest(HashAlgorithm::Blake3, &bytes), expected);
        // Must not panic, whatever it says.
        let _ = Entry::decode(Sequence(1), &bytes);
    }
}

proptest::proptest! {
    #[test]
    fn any_entry_reads_back(
        sequence in 1u64..1 << 53,
        at in -(1i64 << 53)..1 << 53,
        principal in ".*",
        key in proptest::option::of(".*"),
        run in proptest::option::of(".*"),
        number in 0u32..,
        integers in proptest::collection::vec(-(1i64 << 53)..1 << 53, 0..5),
        text in ".*",
    ) {
        let entry = Entry {
            sequence: Sequence(sequence),
            committed_at: Timestamp(at),
            principal,
            request: key.map(|key| RequestKey { key, digest: digest(HashAlgorithm::Blake3, b"x") }),
            run,
            experiment: None,
            records: vec![RawRecord { number, body: json!({"integers": integers, "text": text}) }],
            ..full()
        };
        let bytes = entry.encode().unwrap();
        proptest::prop_assert_eq!(Entry::decode(Sequence(sequence), &bytes).unwrap(), entry);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(0u8.., 0..200)) {
        let _ = Entry::decode(Sequence(1), &bytes);
        let _ = large_integer(&bytes);
    }
}
