//! What is written once and must be read for ever: an entry with each type of record, and a whole store.
//!
//! `LINEAMENT_BLESS=1` writes golden files that are missing. None is ever overwritten: a change that needs that breaks
//! every store there is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use catalog::records::{
    AliasObserved, AuthorityAliased, BatchCommitted, BatchHit, BatchRefused, BatchRestored, BatchWithdrawn,
    Compacted, DeploymentChanged, DeploymentMeasured, Described, EntityDefined, Evidence, ExperimentObserved,
    ExternalLinked, How, Kind, KnownAtSource, Lifecycle, ModelObserved, ModelVersionObserved, Object,
    PoliciesApplied, ReadsRecorded, Reconciled, Record, RecordError, Role, RunObserved, Selected,
    ServiceDefined, SourceFile, StoreCreated, Subject, TrainingSetRecorded, UseRecorded, Verdict, Verified,
    VersionRestored, VersionWithdrawn, ViewVersionDefined,
};
use catalog::state::{Applied, Provenance, State};
use feature::definition::{Definition, Definitions, canonical, parse_files};
use feature::digest::{Digest, HashAlgorithm, digest_batches, hash};
use feature::policy::PolicyFile;
use feature::{Id, RunId, Sequence, Timestamp, TrainingSetId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serving::{ExplainRequest, HistoricalRequest};
use storage::Store;
use storage::entry::{Entry, RawRecord, RequestKey, digest};

use super::fixture;
use super::stores::{author, files, ingest, instant, rows, select, spine};
use super::tables::table;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden").join(name)
}

/// Whether a golden file is missing and shall be written.
fn to_be_made(path: &Path) -> bool {
    let bless = std::env::var_os("LINEAMENT_BLESS").is_some();
    assert!(path.exists() || bless, "{} is missing", path.display());
    !path.exists()
}

// ------------------------------------------------------------------------------------------------------------ records

fn id<I: std::str::FromStr<Err: std::fmt::Debug>>(number: u32) -> I {
    format!("01890a5d-ac96-774b-bcce-{number:012}").parse().unwrap()
}

fn digest_of(text: &str) -> Digest {
    hash(HashAlgorithm::Blake3, text.as_bytes())
}

fn object(path: &str) -> Object {
    Object { path: path.to_owned(), bytes: path.len() as u64 * 100, digest: digest_of(path) }
}

fn definitions() -> Definitions {
    let texts = [
        (
            "airport.toml",
            "kind = \"entity\"\nname = \"airport\"\ntags = [\"place\"]\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n",
        ),
        (
            "weather.toml",
            "kind = \"feature_view\"\nname = \"weather\"\nentity = \"airport\"\nttl = \"3h\"\n\
             [time]\nvalid_at = \"time_hour\"\nknown_at = { delay = \"30m\" }\n\
             [[features]]\nname = \"temp\"\ntype = \"float64\"\nunit = \"degF\"\nrange = [-40, 130]\n",
        ),
        (
            "delay.toml",
            "kind = \"feature_service\"\nname = \"delay\"\nowner = \"operations\"\nfeatures = [\"weather@1.temp\"]\n",
        ),
    ];
    let mut definitions = parse_files(files(&texts)).unwrap();
    let entity = definitions.entities[0].definition.clone();
    for view in &mut definitions.views {
        view.definition.keys = view.definition.resolve_keys(&entity).unwrap();
    }
    definitions
}

/// Every type of record, with every field that may be left out there once and left out once.
fn records() -> Vec<Vec<Record>> {
    let Definitions { entities, views, services, .. } = definitions();
    let (entity, view, service) = (&entities[0].definition, &views[0].definition, &services[0].definition);
    let entity_json = Definition::Entity(entity.clone()).to_json();
    let service_json = Definition::FeatureService(service.clone()).to_json();
    let view_json = |description: Option<&str>| {
        let mut view = view.clone();
        view.about.description = description.map(str::to_owned);
        Definition::FeatureView(view).to_json()
    };
    let view_version = |version, number| ViewVersionDefined {
        view: id(2),
        version: id(version),
        number,
        line: id(11),
        entity: id(1),
        entity_version: id(10),
        digest: canonical::digest(view),
        definition: view_json(None),
    };
    let batch = |number: u32, known_at| BatchCommitted {
        batch: id(number),
        view: id(2),
        version: id(11),
        rows: 26_114,
        rejected: 0,
        known_at,
        manifest: object(&format!("manifests/{number}.parquet")),
        digest: digest_of(&format!("batch {number}")),
        quarantine: None,
        sources: Vec::new(),
        body: None,
        derivation: None,
    };
    let refused = |number: u32| BatchRefused {
        batch: id(number),
        view: id(2),
        version: id(11),
        rows: 100,
        rejected: 40,
        quarantine: object(&format!("quarantine/{number}/rejected.parquet")),
        sources: Vec::new(),
        body: None,
    };
    let source = SourceFile { digest: digest_of("weather.parquet"), bytes: 155_686 };
    let verified = |verdict, digest: &str| Verified {
        training_set: id(40),
        verdict,
        digest: format!("lmt1:{}", digest_of(digest)),
        at: instant("2013-07-09T12:30:00.000001Z"),
    };
    vec![
        vec![
            StoreCreated { store: id(0), hash: HashAlgorithm::Blake3, format: 1, put_if_absent_proved: true }
                .into(),
        ],
        vec![
            EntityDefined {
                entity: id(1),
                version: id(10),
                number: 1,
                digest: canonical::digest(entity),
                definition: entity_json.clone(),
            }
            .into(),
        ],
        vec![view_version(11, 1).into(), view_version(12, 2).into()],
        vec![
            ServiceDefined {
                service: id(3),
                version: id(13),
                number: 1,
                digest: canonical::digest(service),
                definition: service_json.clone(),
            }
            .into(),
        ],
        vec![
            Described {
                subject: Subject::FeatureView,
                version: id(11),
                definition: view_json(Some("Hourly weather, \"as measured\" – °F")),
            }
            .into(),
            Described { subject: Subject::Entity, version: id(10), definition: entity_json }.into(),
            Described { subject: Subject::FeatureService, version: id(13), definition: service_json }.into(),
        ],
        vec![
            BatchCommitted {
                rejected: 1,
                quarantine: Some(object("quarantine/20/rejected.parquet")),
                sources: vec![source.clone()],
                body: Some(object("bodies/20.json")),
                ..batch(20, KnownAtSource::Delay)
            }
            .into(),
        ],
        [KnownAtSource::Column, KnownAtSource::Arrival, KnownAtSource::Assumed]
            .into_iter()
            .zip(21..)
            .map(|(known_at, number)| batch(number, known_at).into())
            .collect(),
        vec![
            BatchRefused { sources: vec![source], body: Some(object("bodies/30.json")), ..refused(30) }
                .into(),
            refused(31).into(),
        ],
        vec![
            TrainingSetRecorded {
                training_set: id(40),
                sequence: Sequence(7),
                rows: 336_776,
                columns: 12,
                digest: format!("lmt1:{}", digest_of("set")),
                manifest: object("training_sets/40/manifest.json"),
                name: None,
                selected: None,
            }
            .into(),
        ],
        vec![ReadsRecorded { reads: 3, object: object("reads/50.parquet") }.into()],
        vec![verified(Verdict::Equal, "set").into(), verified(Verdict::Differs, "other").into()],
        vec![
            TrainingSetRecorded {
                training_set: id(41),
                sequence: Sequence(10),
                rows: 3,
                columns: 2,
                digest: format!("lmt1:{}", digest_of("named")),
                manifest: object("training_sets/41/manifest.json"),
                name: Some("flights of 2013".to_owned()),
                selected: Some(vec![Selected {
                    version: id(11),
                    features: vec!["temp".to_owned()],
                    hits: vec![BatchHit { batch: id(20), rows: 2 }],
                }]),
            }
            .into(),
        ],
    ]
    .into_iter()
    .chain(registry())
    .collect()
}

/// What is told of experiments, runs, models and deployments.
fn registry() -> Vec<Vec<Record>> {
    let linked = |number, kind, external_id: &str, how| ExternalLinked {
        id: id::<RunId>(number).uuid(),
        kind,
        system: "mlflow".to_owned(),
        authority: "http://tracking:5000".to_owned(),
        external_id: external_id.to_owned(),
        how,
    };
    let seen_at = instant("2013-07-09T12:30:00Z");
    let run = RunObserved {
        run: id(61),
        experiment: None,
        parent: None,
        name: None,
        status: None,
        started_at: None,
        ended_at: None,
        lifecycle: None,
        seen_at,
        body: None,
    };
    let version = ModelVersionObserved {
        model_version: id(64),
        model: id(63),
        version: "3".to_owned(),
        run: None,
        created_at: None,
        status: None,
        lifecycle: None,
        seen_at,
        body: None,
    };
    let deployment = DeploymentChanged {
        deployment: id(65),
        name: "delay-api".to_owned(),
        environment: "production".to_owned(),
        model_version: None,
        service: None,
        endpoint: None,
        from: seen_at,
        evidence: Evidence::Declared,
    };
    vec![
        vec![
            linked(60, Kind::Experiment, "3", How::Thread).into(),
            linked(61, Kind::Run, "ab12", How::Thread).into(),
            linked(62, Kind::Run, "cd34", How::Environment).into(),
            linked(63, Kind::Model, "delay", How::Reconciliation).into(),
            linked(64, Kind::ModelVersion, "delay/3/1373373000", How::Reconciliation).into(),
            AuthorityAliased {
                authority: "http://tracking:5000".to_owned(),
                alias: "http://10.0.0.7:5000".to_owned(),
            }
            .into(),
        ],
        vec![
            ExperimentObserved {
                experiment: id(60),
                name: Some("delays".to_owned()),
                hypothesis: Some("Weather explains delays".to_owned()),
                owner: Some("operations".to_owned()),
                lifecycle: Some(Lifecycle::Active),
                seen_at,
                body: Some(object("bodies/60.json")),
            }
            .into(),
            ExperimentObserved {
                experiment: id(60),
                name: None,
                hypothesis: None,
                owner: None,
                lifecycle: Some(Lifecycle::Deleted),
                seen_at,
                body: None,
            }
            .into(),
        ],
        vec![
            RunObserved {
                experiment: Some(id(60)),
                parent: Some(id(62)),
                name: Some("night 7".to_owned()),
                status: Some("FINISHED".to_owned()),
                started_at: Some(instant("2013-07-09T12:00:00Z")),
                ended_at: Some(instant("2013-07-09T12:20:00Z")),
                lifecycle: Some(Lifecycle::Active),
                body: Some(object("bodies/61.json")),
                ..run.clone()
            }
            .into(),
            RunObserved { lifecycle: Some(Lifecycle::Gone), ..run }.into(),
        ],
        vec![
            ModelObserved { model: id(63), name: "delay".to_owned(), lifecycle: None, seen_at }.into(),
            ModelVersionObserved {
                run: Some(id(61)),
                created_at: Some(seen_at),
                status: Some("READY".to_owned()),
                lifecycle: Some(Lifecycle::Active),
                body: Some(object("bodies/64.json")),
                ..version.clone()
            }
            .into(),
            version.into(),
            AliasObserved {
                model: id(63),
                alias: "champion".to_owned(),
                model_version: Some(id(64)),
                seen_at,
                previous_seen_at: Some(instant("2013-07-09T12:00:00Z")),
            }
            .into(),
            AliasObserved {
                model: id(63),
                alias: "challenger".to_owned(),
                model_version: None,
                seen_at,
                previous_seen_at: None,
            }
            .into(),
        ],
        vec![
            DeploymentChanged {
                model_version: Some(id(64)),
                service: Some("delay".to_owned()),
                endpoint: Some("https://delay.example.org".to_owned()),
                evidence: Evidence::Alias,
                ..deployment.clone()
            }
            .into(),
            deployment.into(),
        ],
        vec![
            Reconciled {
                system: "mlflow".to_owned(),
                authority: "http://tracking:5000".to_owned(),
                seen_at,
                found: 5,
                gone: 1,
            }
            .into(),
        ],
        vec![
            DeploymentMeasured {
                deployment: id(65),
                model_version: Some(id(64)),
                from: seen_at,
                until: instant("2013-07-10T12:30:00Z"),
                body: object("bodies/65.json"),
            }
            .into(),
            DeploymentMeasured {
                deployment: id(65),
                model_version: None,
                from: seen_at,
                until: instant("2013-07-11T12:30:00Z"),
                body: object("bodies/66.json"),
            }
            .into(),
        ],
        [Role::Train, Role::Validate, Role::Test, Role::Score, Role::Unknown]
            .into_iter()
            .zip([How::Explicit, How::Pending, How::Tag, How::Artifact, How::Thread])
            .map(|(role, how)| UseRecorded { training_set: id(41), run: id(61), role, how }.into())
            .collect(),
        vec![
            BatchWithdrawn { batch: id(21), reason: "a sensor read °C".to_owned() }.into(),
            VersionWithdrawn { version: id(12), reason: "too wide a range".to_owned() }.into(),
        ],
        vec![
            BatchRestored { batch: id(21), reason: "it was °F".to_owned() }.into(),
            VersionRestored { version: id(12), reason: "it was right".to_owned() }.into(),
        ],
        vec![
            Compacted {
                compaction: id(80),
                view: id(2),
                version: id(11),
                first: id(20),
                last: id(21),
                batches: 2,
                place: 0,
                replaces: Vec::new(),
                after: None,
                rows: 52_228,
                manifest: object("manifests/80.parquet"),
            }
            .into(),
        ],
        vec![
            Compacted {
                compaction: id(81),
                view: id(2),
                version: id(11),
                first: id(20),
                last: id(23),
                batches: 4,
                place: 0,
                replaces: vec![id(80)],
                after: Some(Sequence(22)),
                rows: 104_456,
                manifest: object("manifests/81.parquet"),
            }
            .into(),
        ],
        vec![
            PoliciesApplied {
                number: 1,
                digest: digest_of("policies"),
                files: vec![PolicyFile {
                    name: "base.cedar".to_owned(),
                    text: "permit(principal, action, resource);\n".to_owned(),
                }],
                key: object("policies/82.key"),
                reason: None,
            }
            .into(),
        ],
        vec![
            PoliciesApplied {
                number: 2,
                digest: digest_of("none"),
                files: Vec::new(),
                key: object("policies/82.key"),
                reason: Some("they were too strict".to_owned()),
            }
            .into(),
        ],
    ]
}

/// The records as a log: whatever an entry may leave out is in one entry alone.
fn entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut previous = None;
    for (records, number) in records().iter().zip(0u32..) {
        let whole = records.iter().any(|record| record.number() == 20 && records.len() == 1);
        let entry = Entry {
            format: storage::entry::FORMAT,
            store: id(0),
            sequence: Sequence(number.into()),
            previous,
            commit: id(100 + number),
            committed_at: Timestamp(1_373_373_000_000_000 + i64::from(number)),
            principal: "ada".to_owned(),
            program: "lineament 0.1.0".to_owned(),
            request: whole.then(|| RequestKey { key: "load-2013".to_owned(), digest: digest_of("load") }),
            run: whole.then(|| "nightly/42".to_owned()),
            experiment: whole.then(|| "delays".to_owned()),
            records: records
                .iter()
                .map(|record| RawRecord { number: record.number(), body: record.body().unwrap() })
                .collect(),
        };
        previous = Some(digest(HashAlgorithm::Blake3, &entry.encode().unwrap()));
        entries.push(entry);
    }
    entries
}

/// The lines of `records-v1.json`, a JSON list with one entry a line.
fn golden_entries() -> Vec<String> {
    let path = golden("records-v1.json");
    if to_be_made(&path) {
        let lines: Vec<String> = entries()
            .iter()
            .map(|entry| String::from_utf8(entry.encode().unwrap().to_vec()).unwrap())
            .collect();
        std::fs::write(&path, format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text.strip_prefix("[\n").unwrap().strip_suffix("\n]\n").unwrap().split(",\n");
    lines.map(str::to_owned).collect()
}

#[test]
fn records_are_written_as_ever() {
    let golden = golden_entries();
    let entries = entries();
    assert_eq!(golden.len(), entries.len());
    for (line, entry) in golden.iter().zip(&entries) {
        assert_eq!(line, std::str::from_utf8(&entry.encode().unwrap()).unwrap(), "entry {}", entry.sequence);
    }
}

#[test]
fn records_are_read_as_ever() {
    let mut state: Option<State> = None;
    let mut previous = None;
    for ((line, expected), sequence) in golden_entries().iter().zip(records()).zip(0..) {
        let entry = Entry::decode(Sequence(sequence), line.as_bytes()).unwrap();
        assert_eq!(entry.previous, previous);
        let decoded: Vec<Record> =
            entry.records.iter().map(|raw| Record::decode(raw.number, &raw.body).unwrap()).collect();
        assert_eq!(decoded, expected);
        let digest = digest(HashAlgorithm::Blake3, line.as_bytes());
        previous = Some(digest);
        let applied = Applied {
            by: Provenance {
                sequence: entry.sequence,
                committed_at: entry.committed_at,
                principal: entry.principal.clone(),
                program: entry.program.clone(),
                run: entry.run.clone(),
                experiment: entry.experiment.clone(),
            },
            digest,
            request: entry.request.as_ref().map(|request| (request.key.as_str(), request.digest)),
            records: &decoded,
        };
        match &mut state {
            Some(state) => state.apply_entry(&applied).unwrap(),
            None => state = Some(State::begin(&applied).unwrap()),
        }
    }
    assert_eq!(summary(&state.unwrap()), SUMMARY.trim_start());
}

/// What the golden entries fold into.
const SUMMARY: &str = "
store 01890a5d-ac96-774b-bcce-000000000000 at 25
entity airport 1 by 1: origin string
view weather@1 by 2: temp float64, described Some(\"Hourly weather, \\\"as measured\\\" – °F\")
  counts 20 of sequence 5: 26114 rows, 1 rejected, Delay
  counts 21 of sequence 6: 26114 rows, 0 rejected, Column
  counts 22 of sequence 6: 26114 rows, 0 rejected, Arrival
  counts 23 of sequence 6: 26114 rows, 0 rejected, Assumed
view weather@2 by 2: temp float64, described None
  counts 20 of sequence 5: 26114 rows, 1 rejected, Delay
  counts 21 of sequence 6: 26114 rows, 0 rejected, Column
  counts 22 of sequence 6: 26114 rows, 0 rejected, Arrival
  counts 23 of sequence 6: 26114 rows, 0 rejected, Assumed
service delay 1 by 3: weather@1.temp
refused 30: 40 of 100
refused 31: 40 of 100
training set 40 of sequence 7 by 8: 336776 rows
training set 41 of sequence 10 by 11: 3 rows
verified 40 Equal
verified 40 Differs
link 60 by 12: Experiment mlflow:3 at http://tracking:5000, Thread
link 61 by 12: Run mlflow:ab12 at http://tracking:5000, Thread
link 62 by 12: Run mlflow:cd34 at http://tracking:5000, Environment
link 63 by 12: Model mlflow:delay at http://tracking:5000, Reconciliation
link 64 by 12: ModelVersion mlflow:delay/3/1373373000 at http://tracking:5000, Reconciliation
experiment 60 seen 2: Some(\"Weather explains delays\") Some(Deleted)
run 61 seen 2: Some(\"night 7\") Some(\"FINISHED\") Some(Gone), part of Some(\"62\")
run 62 seen 0: None None None, part of None
model version 64 seen 2: 3 Some(\"READY\")
alias champion means Some(\"64\")
alias challenger means None
deployment 65 serves [Some(\"64\"), None]
61 used 41: Train Explicit
61 used 41: Validate Pending
61 used 41: Test Tag
61 used 41: Score Artifact
61 used 41: Unknown Thread
measured Some(\"64\") until 2013-07-10T12:30:00Z
measured None until 2013-07-11T12:30:00Z
pass at 2013-07-09T12:30:00Z: 5 found, 1 gone
withdrawn batch 21 by 20: a sensor read °C
withdrawn version 12 by 20: too wide a range
restored batch 21 by 21: it was °F
restored version 12 by 21: it was right
request load-2013 at Some(5)
log store_created | entity_defined | view_version_defined, view_version_defined | service_defined | described, described, described | batch_committed | batch_committed, batch_committed, batch_committed | batch_refused, batch_refused | training_set_recorded | reads_recorded | verified, verified | training_set_recorded | external_linked, external_linked, external_linked, external_linked, external_linked, authority_aliased | experiment_observed, experiment_observed | run_observed, run_observed | model_observed, model_version_observed, model_version_observed, alias_observed, alias_observed | deployment_changed, deployment_changed | reconciled | deployment_measured, deployment_measured | use_recorded, use_recorded, use_recorded, use_recorded, use_recorded | batch_withdrawn, version_withdrawn | batch_restored, version_restored | compacted | compacted | policies_applied | policies_applied
";

fn summary(state: &State) -> String {
    let number = |id: String| id.rsplit('-').next().unwrap().trim_start_matches('0').to_owned();
    let mut lines = vec![format!("store {} at {}", state.store, state.head.sequence)];
    for entity in state.entities() {
        let keys: Vec<String> =
            entity.definition.keys.iter().map(|key| format!("{} {}", key.name, key.data_type)).collect();
        let (name, by) = (&entity.definition.name, entity.by.sequence);
        lines.push(format!("entity {name} {} by {by}: {}", entity.number, keys.join(", ")));
    }
    for view in state.views() {
        let definition = &view.definition;
        let features: Vec<String> = definition
            .features
            .iter()
            .map(|feature| format!("{} {}", feature.name, feature.data_type))
            .collect();
        let (by, described) = (view.by.sequence, &definition.about.description);
        lines.push(format!(
            "view {} by {by}: {}, described {described:?}",
            view.label(),
            features.join(", ")
        ));
        for batch in state.batches_of(view, state.head.sequence) {
            let record = &batch.record;
            lines.push(format!(
                "  counts {} of sequence {}: {} rows, {} rejected, {:?}",
                number(record.batch.to_string()),
                batch.by.sequence,
                record.rows,
                record.rejected,
                record.known_at
            ));
        }
    }
    for service in state.services() {
        let features: Vec<String> = service.definition.features.iter().map(ToString::to_string).collect();
        let (name, by) = (&service.definition.name, service.by.sequence);
        lines.push(format!("service {name} {} by {by}: {}", service.number, features.join(", ")));
    }
    for refused in state.refused() {
        let record = &refused.record;
        let batch = number(record.batch.to_string());
        lines.push(format!("refused {batch}: {} of {}", record.rejected, record.rows));
    }
    for set in state.training_sets() {
        let (record, by) = (&set.record, set.by.sequence);
        let id = number(record.training_set.to_string());
        lines
            .push(format!("training set {id} of sequence {} by {by}: {} rows", record.sequence, record.rows));
    }
    for verified in state.verifications() {
        let record = &verified.record;
        lines.push(format!("verified {} {:?}", number(record.training_set.to_string()), record.verdict));
    }
    let (registry, head) = (state.registry(), state.head.sequence);
    for link in registry.links() {
        let (id, by) = (number(link.id.to_string()), link.by.sequence);
        lines.push(format!("link {id} by {by}: {:?} {}, {:?}", link.external.kind, link.external, link.how));
    }
    for (id, seen) in registry.experiments() {
        let now = registry.experiment_at(id, head).unwrap();
        let id = number(id.to_string());
        lines.push(format!("experiment {id} seen {}: {:?} {:?}", seen.len(), now.hypothesis, now.lifecycle));
    }
    for (id, seen) in registry.runs() {
        let now = registry.run_at(id, head).unwrap();
        let (id, parent) = (number(id.to_string()), now.parent.map(|id| number(id.to_string())));
        lines.push(format!(
            "run {id} seen {}: {:?} {:?} {:?}, part of {parent:?}",
            seen.len(),
            now.name,
            now.status,
            now.lifecycle
        ));
    }
    for (id, seen) in registry.model_versions() {
        let now = registry.model_version_at(id, head).unwrap();
        let id = number(id.to_string());
        lines.push(format!("model version {id} seen {}: {} {:?}", seen.len(), now.version, now.status));
    }
    for noted in registry.aliases() {
        let version = noted.record.model_version.map(|id| number(id.to_string()));
        lines.push(format!("alias {} means {version:?}", noted.record.alias));
    }
    for (id, changes) in registry.deployments() {
        let serves = changes.iter().map(|noted| noted.record.model_version.map(|id| number(id.to_string())));
        let (id, serves) = (number(id.to_string()), serves.collect::<Vec<_>>());
        lines.push(format!("deployment {id} serves {serves:?}"));
    }
    for noted in registry.uses() {
        let used = &noted.record;
        let (set, run) = (number(used.training_set.to_string()), number(used.run.to_string()));
        lines.push(format!("{run} used {set}: {:?} {:?}", used.role, used.how));
    }
    for noted in registry.measured() {
        let version = noted.record.model_version.map(|id| number(id.to_string()));
        lines.push(format!("measured {version:?} until {}", noted.record.until));
    }
    if let Some(pass) = registry.last_pass("mlflow", "http://tracking:5000") {
        lines.push(format!("pass at {}: {} found, {} gone", pass.seen_at, pass.found, pass.gone));
    }
    for noted in state.withdrawals().all() {
        let what = if noted.withdrawn { "withdrawn" } else { "restored" };
        let id = number(noted.of.to_string());
        lines.push(format!("{what} {} {id} by {}: {}", noted.of.kind(), noted.by.sequence, noted.reason));
    }
    lines.push(format!(
        "request load-2013 at {:?}",
        state.request("load-2013").map(|request| request.sequence.0)
    ));
    let log: Vec<String> = state
        .log()
        .iter()
        .map(|line| line.records.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", "))
        .collect();
    lines.push(format!("log {}\n", log.join(" | ")));
    lines.join("\n")
}

#[test]
fn every_record_number_has_a_golden_line() {
    let golden: BTreeSet<u32> = golden_entries()
        .iter()
        .zip(0..)
        .flat_map(|(line, sequence)| Entry::decode(Sequence(sequence), line.as_bytes()).unwrap().records)
        .map(|record| record.number)
        .collect();
    let known = |number: &u32| !matches!(Record::decode(*number, &Value::Null), Err(RecordError::Unknown(_)));
    let in_code: BTreeSet<u32> = (0..=100_000).filter(known).collect();
    assert_eq!(
        in_code, golden,
        "a type of record was added or is gone: add it to `records` and its line to records-v1.json, and never take one away"
    );
}

// -------------------------------------------------------------------------------------------------------------- store

/// What `store-v1` answers, for ever.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Answers {
    head: Sequence,
    head_digest: Digest,
    training_sets: [TrainingSetId; 2],
    /// Of the rebuilt training sets.
    digests: [String; 2],
    /// The content digest of each answer.
    answers: Vec<(String, String)>,
    cell: Cell,
}

/// Of the explanation of one cell, what no later version may change.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Cell {
    value: Option<String>,
    valid_at: String,
    known_at: String,
    batch: String,
    sequence: Sequence,
    version: String,
    file: String,
    row: u64,
    principal: String,
    origin: Option<String>,
    losers_by_reason: std::collections::BTreeMap<String, u64>,
}

/// Questions about the rows themselves, column by column: tables may get more of them.
const QUESTIONS: [&str; 4] = [
    "SELECT origin, valid_at, temp, visib, sky, humid FROM weather ORDER BY origin, valid_at",
    "SELECT origin, valid_at, temp, visib, sky FROM \"weather@1\" ORDER BY origin, valid_at",
    "SELECT origin, valid_at, dep_delay, carrier FROM departures ORDER BY origin, valid_at",
    "SELECT origin, valid_at, known_at, retracted, sequence, temp, visib, sky, humid FROM history('weather') ORDER BY origin, valid_at, known_at",
];

async fn answers(serving: &serving::Serving, training_sets: [TrainingSetId; 2]) -> Answers {
    let state = serving.catalog().state();
    let mut answers = Vec::new();
    for sql in QUESTIONS {
        let (schema, batches) = select(serving, sql).await.unwrap();
        let digest = digest_batches(state.hash, &schema, &batches).unwrap().digest;
        answers.push((sql.to_owned(), digest.to_string()));
    }
    let features = ["late_flights", "weather.humid", "departures.carrier"];
    let request = HistoricalRequest { record: false, ..HistoricalRequest::new(features) };
    let set = serving.historical(spine(vec![table(fixture::SPINE)]), request, &author()).await.unwrap();
    answers.push((features.join(", "), set.report.digest));
    let request = ExplainRequest::new(training_sets[0], 6, "temp");
    let explained = serving.explain(request, &author()).await.unwrap();
    let winner = explained.winner.unwrap();
    let cell = Cell {
        value: explained.value,
        valid_at: winner.valid_at,
        known_at: winner.known_at,
        batch: winner.batch,
        sequence: winner.sequence,
        version: winner.version,
        file: winner.file,
        row: winner.row,
        principal: winner.principal,
        origin: winner.origin,
        losers_by_reason: explained.losers_by_reason,
    };
    let digests = training_sets.map(|id| state.training_set(id).unwrap().record.digest.clone());
    Answers {
        head: state.head.sequence,
        head_digest: state.head.digest,
        training_sets,
        digests,
        answers,
        cell,
    }
}

async fn open(folder: &Path) -> serving::Result<serving::Serving> {
    fixture::open(Store::open(folder.to_str().unwrap(), fixture::later().into()).unwrap()).await
}

/// The golden store in a folder of its own, and what it must answer.
async fn golden_store() -> (tempfile::TempDir, Answers) {
    let path = golden("store-v1");
    if to_be_made(&path) {
        let made = tempfile::tempdir().unwrap();
        let fixture = fixture::make(made.path()).await;
        let expected = answers(&open(made.path()).await.unwrap(), fixture.sets).await;
        fixture::write_objects(&path, &fixture::objects(made.path()));
        let text = serde_json::to_string_pretty(&expected).unwrap() + "\n";
        std::fs::write(golden("store-v1.json"), text).unwrap();
    }
    let copy = tempfile::tempdir().unwrap();
    fixture::write_objects(copy.path(), &fixture::objects(&path));
    let text = std::fs::read_to_string(golden("store-v1.json")).unwrap();
    (copy, serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn a_store_of_the_first_version_answers_as_ever() {
    let (folder, expected) = golden_store().await;
    let before = fixture::objects(folder.path());
    // Opening reads the whole log as one chain.
    let serving = open(folder.path()).await.unwrap();
    assert_eq!(answers(&serving, expected.training_sets).await, expected);
    assert_eq!(fixture::objects(folder.path()), before, "asking writes nothing");
    for (id, digest) in expected.training_sets.iter().zip(&expected.digests) {
        let (report, _) = serving.replay(*id, &author()).await.unwrap();
        assert_eq!((report.verdict, &report.rebuilt, &report.digest), (Verdict::Equal, digest, digest));
    }
    // Neither is what lies there only read: the store goes on.
    let more = "
        origin string | sched_dep timestamp  | dep timestamp        | dep_delay int32 | carrier string
        LGA           | 2013-02-01T06:10:00Z | 2013-02-01T06:15:00Z | 5               | UA";
    ingest(&serving, rows("departures", vec![table(more)])).await.unwrap();
    for (object, bytes) in &before {
        assert_eq!(std::fs::read(folder.path().join(object)).as_ref().unwrap(), bytes, "{object}");
    }
}

/// An entry that a later program would write after the newest.
fn later_entry(serving: &serving::Serving, record: RawRecord) -> Entry {
    let state = serving.catalog().state();
    Entry {
        format: storage::entry::FORMAT,
        store: state.store,
        sequence: state.head.sequence.next(),
        previous: Some(state.head.digest),
        commit: storage::environment::random(),
        committed_at: instant("2013-03-01T00:00:00Z"),
        principal: "ada".to_owned(),
        program: "lineament 9.0.0".to_owned(),
        request: None,
        run: None,
        experiment: None,
        records: vec![record],
    }
}

#[tokio::test]
async fn an_unknown_record_stops_an_old_program() {
    let folder = tempfile::tempdir().unwrap();
    fixture::make(folder.path()).await;
    let running = open(folder.path()).await.unwrap();
    let entry = later_entry(&running, RawRecord { number: 99, body: serde_json::json!({ "anything": 1 }) });
    let sequence = entry.sequence;
    running.catalog().store().log().append(sequence, entry.encode().unwrap()).await.unwrap();
    let log = fixture::objects(&folder.path().join("log"));
    let opened = open(folder.path()).await.map(drop).unwrap_err();
    let asked = select(&running, QUESTIONS[0]).await.map(drop).unwrap_err();
    let written = running.apply(files(&fixture::DEFINITIONS), &author()).await.map(drop).unwrap_err();
    for error in [opened, asked, written] {
        assert_eq!(error.kind(), serving::Kind::Damaged);
        let message = error.to_string();
        for part in ["record number 99", &format!("sequence {sequence}"), "upgrade"] {
            assert!(message.contains(part), "{message}");
        }
    }
    assert_eq!(fixture::objects(&folder.path().join("log")), log, "nothing is written after it");
}

/// A field that a later program added to a record is passed over, and stays in the log, which nobody writes anew.
#[tokio::test]
async fn an_unknown_field_of_a_record_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = fixture::make(folder.path()).await;
    let serving = open(folder.path()).await.unwrap();
    let verified = Verified {
        training_set: fixture.sets[0],
        verdict: Verdict::Equal,
        digest: "lmt1:none".to_owned(),
        at: instant("2013-03-01T00:00:00Z"),
    };
    let mut body = Record::from(verified).body().unwrap();
    body["witness"] = serde_json::json!({ "name": "later", "of": [1, 2] });
    let entry = later_entry(&serving, RawRecord { number: 32, body });
    let bytes = entry.encode().unwrap();
    serving.catalog().store().log().append(entry.sequence, bytes.clone()).await.unwrap();
    // Read, written after, opened from a checkpoint: it is there as it was.
    serving.apply(files(&[fixture::DEFINITIONS[3]]), &author()).await.unwrap();
    serving.catalog().checkpoint().await.unwrap();
    let again = open(folder.path()).await.unwrap();
    assert_eq!(again.catalog().passed_over(), []);
    assert_eq!(again.catalog().state().verifications().len(), 2);
    let kept = again.catalog().store().log().read_bytes(entry.sequence).await.unwrap().unwrap();
    assert_eq!(kept, bytes);
    assert!(String::from_utf8_lossy(&kept).contains("\"witness\":"));
    let request = serving::VerifyRequest { full: true, mend: false };
    let found = serving::verify_store(again.catalog().store(), request, std::sync::Arc::new(|_| ())).await;
    assert_eq!(found.unwrap().faults, []);
}
