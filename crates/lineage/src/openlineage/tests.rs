//! What needs no store: names, and how column lineage is put together.

use catalog::records::{Object, Record, StoreCreated};
use catalog::state::{Applied, Provenance, State};
use feature::digest::{HashAlgorithm, hash};
use feature::{Influence, Sequence, Timestamp, VersionId};
use serde_json::{Value, json};
use uuid::Uuid;

use super::naming::with_dashes;
use super::*;
use crate::edges::{Edge, Source, carried, looked_up};
use crate::manifest::{ColumnManifest, Knowledge, SpineManifest};

fn id<T: From<Uuid>>(number: u128) -> T {
    T::from(Uuid::from_u128(number))
}

fn by() -> Provenance {
    Provenance {
        sequence: Sequence::ZERO,
        committed_at: Timestamp(1_000_000),
        principal: "ann".to_owned(),
        program: "lineament 0.1.0".to_owned(),
        run: None,
        experiment: None,
    }
}

fn state() -> State {
    let created =
        StoreCreated { store: id(1), hash: HashAlgorithm::Blake3, format: 1, put_if_absent_proved: true };
    let records = [Record::from(created)];
    let digest = hash(HashAlgorithm::Blake3, b"entry");
    State::begin(&Applied { by: by(), digest, request: None, records: &records }).unwrap()
}

fn manifest(columns: &[&str], lineage: Vec<Edge>) -> Manifest {
    let digest = hash(HashAlgorithm::Blake3, b"");
    let column = |name: &&str| ColumnManifest {
        name: (*name).to_owned(),
        data_type: "i64".to_owned(),
        digest: String::new(),
        leaves: Vec::new(),
    };
    Manifest {
        format: 1,
        id: id(2),
        name: None,
        created_at: Timestamp(0),
        created_by: String::new(),
        program: String::new(),
        run: None,
        experiment: None,
        sequence: Sequence::ZERO,
        knowledge: Knowledge::AtRow,
        spine: SpineManifest {
            object: Object { path: String::new(), bytes: 0, digest },
            digest: String::new(),
            rows: 0,
            at: "at".to_owned(),
            query: None,
        },
        references: Vec::new(),
        views: Vec::new(),
        plan: String::new(),
        rows: 0,
        digest: String::new(),
        columns: columns.iter().map(column).collect(),
        lineage,
        target: String::new(),
        null_reasons: false,
        split: None,
        policy: None,
    }
}

fn column_lineage(columns: &[&str], lineage: Vec<Edge>) -> Option<Value> {
    let (state, by, material) = (state(), by(), Material::default());
    let namespace = Namespace::of_store(state.store);
    let telling = Telling {
        namespace: &namespace,
        by: &by,
        state: &state,
        material: &material,
        place: 0,
        earlier: 0,
        events: Vec::new(),
    };
    let spine = namespace.named("spines/s");
    telling.column_lineage(&manifest(columns, lineage), &spine)
}

#[test]
fn one_source_column_is_said_once_with_all_that_it_does() {
    let version: VersionId = id(3);
    let mut edges = looked_up("temp", version, "fraud.weather@2", "temp", &["origin"], "at", true);
    edges.push(carried("origin"));
    let body = column_lineage(&["origin", "temp"], edges).unwrap();
    let fields = body["fields"]["temp"]["inputFields"].as_array().unwrap();
    assert_eq!(fields.len(), 6);
    let valid_at = fields.iter().find(|field| field["field"] == "valid_at").unwrap();
    // The version is not in the name, also where only the label tells it.
    assert_eq!(valid_at["name"], "fraud.weather");
    assert_eq!(
        valid_at["transformations"],
        json!([
            { "type": "INDIRECT", "subtype": "SORT", "masking": false },
            { "type": "INDIRECT", "subtype": "CONDITIONAL", "masking": false },
        ])
    );
    assert!(body.get("dataset").is_none());
}

#[test]
fn what_touches_every_column_is_said_of_the_dataset() {
    let edge = |output: &str, column: &str, kind: Influence| Edge {
        output: output.to_owned(),
        source: Source::Spine { column: column.to_owned() },
        kind,
    };
    let edges = vec![
        edge("a", "a", Influence::Identity),
        edge("a", "key", Influence::Join),
        edge("b", "b", Influence::Identity),
        edge("b", "key", Influence::Join),
        edge("b", "key", Influence::Sort),
    ];
    let body = column_lineage(&["a", "b"], edges).unwrap();
    let dataset = body["dataset"].as_array().unwrap();
    assert_eq!(dataset.len(), 1);
    assert_eq!(
        (&dataset[0]["field"], &dataset[0]["transformations"][0]["subtype"]),
        (&json!("key"), &json!("JOIN"))
    );
    assert_eq!(body["fields"]["a"]["inputFields"].as_array().unwrap().len(), 1);
    // What it does to one column alone stays there.
    let of_b = body["fields"]["b"]["inputFields"].as_array().unwrap();
    assert_eq!(of_b.len(), 2);
    assert_eq!(
        of_b[1]["transformations"],
        json!([{ "type": "INDIRECT", "subtype": "SORT", "masking": false }])
    );
}

#[test]
fn half_of_a_lineage_is_not_told() {
    assert!(column_lineage(&["a", "b"], vec![carried("a")]).is_none());
    assert!(column_lineage(&["a"], vec![carried("a")]).is_some());
}

#[test]
fn run_ids_get_their_dashes_back() {
    let id = with_dashes("0123456789ABCDEF0123456789abcdef");
    assert_eq!(id.as_deref(), Some("01234567-89ab-cdef-0123-456789abcdef"));
    assert_eq!(with_dashes("0123"), None);
    assert_eq!(with_dashes(&"é".repeat(16)), None);
}

#[test]
fn authorities_can_stand_in_an_address() {
    assert_eq!(
        Namespace::of_authority("Features.example.org:8815").unwrap().to_string(),
        "lineament://features.example.org:8815"
    );
    for text in ["", "a b", "a/b", "ann@host", ":80", "host:port", "a:1:2", "host:70000"] {
        assert!(Namespace::of_authority(text).is_err(), "{text}");
    }
}
