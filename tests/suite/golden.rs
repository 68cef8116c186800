//! What is written once and must be read for ever: an entry with each type of record, and a whole store.
//!
//! `LINEAMENT_BLESS=1` writes golden files that are missing. None is ever overwritten: a change that needs that breaks
//! every store there is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use catalog::records::{
    AlertDelivery, AlertsRaised, AliasObserved, AuthorityAliased, BatchCommitted, BatchDropped, BatchHit,
    BatchQuarantined, BatchRefused, BatchReleased, BatchRestored, BatchWithdrawn, Compacted, DeliveryBegun,
    DeliveryEnded, DeliveryOutcome, DeploymentChanged, DeploymentMeasured, Deprecable, Deprecated,
    DeprecatedKind, DeprecationAdvanced, DeprecationRevoked, DeprecationStep, Described, EntityDefined,
    Erased, ErasedSet, Evidence, ExperimentObserved, ExternalLinked, Found, HeldKind, HoldLifted, HoldPlaced,
    How, Kind, KnownAtSource, Lifecycle, ModelObserved, ModelVersionObserved, Object, PartRun, PassedBy,
    PlanApplied, PlanApproved, PlanDeclined, PlanProposed, PlannedChange, PoliciesApplied, RaisedAlert,
    ReadsRecorded, Reconciled, Record, RecordError, Replaced, Replacement, RetentionSet, Role, RowsDeleted,
    RowsExpired, RowsMended, RunObserved, Sampled, Selected, ServiceDefined, SourceFile, SpineKept,
    SpineUsed, SpinesDropped, StoreCreated, StreamPart, StreamPartsCommitted, Subject, Swept,
    TrainingSetRecorded, UseRecorded, Verdict, Verified, VersionRestored, VersionWithdrawn,
    ViewVersionDefined,
};
use catalog::state::{Applied, Provenance, State};
use feature::definition::{Definition, Definitions, Measure, canonical, parse_files};
use feature::digest::{Digest, HashAlgorithm, digest_batches, hash};
use feature::evolution::Effect;
use feature::policy::PolicyFile;
use feature::quality::{self, Finding, Judged};
use feature::{Id, RunId, Sequence, Timestamp, TrainingSetId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serving::{ExplainRequest, HistoricalRequest};
use storage::Store;
use storage::entry::{Entry, RawRecord, RequestKey, digest};

use super::fixture;
use super::stores::{author, files, ingest, instant, rows, select, spine};
use super::tables::table;

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden").join(name)
}

/// Whether a golden file is missing and shall be written.
pub fn to_be_made(path: &Path) -> bool {
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
    .chain(kept())
    .chain(kept_back())
    .chain(governed())
    .chain(sampled_and_mended())
    .chain(expired())
    .chain(put_up())
    .chain(deprecated())
    .chain(changed())
    .chain(alerted())
    .chain(erased())
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
                erased: None,
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
                erased: None,
                rows: 104_456,
                manifest: object("manifests/81.parquet"),
            }
            .into(),
        ],
        vec![
            batch(24, KnownAtSource::Arrival).into(),
            refused(32).into(),
            StreamPartsCommitted {
                batch: id(24),
                view: id(2),
                runs: vec![
                    parts("station-7", 1, &[(26_000, 2), (100, 0)]),
                    parts("station-8", 1, &[(14, 1)]),
                ],
            }
            .into(),
            StreamPartsCommitted {
                batch: id(32),
                view: id(2),
                runs: vec![parts("station-7", 3, &[(0, 40)])],
            }
            .into(),
        ],
    ]
}

fn refused(number: u32) -> BatchRefused {
    BatchRefused {
        batch: id(number),
        view: id(2),
        version: id(11),
        rows: 100,
        rejected: 40,
        quarantine: object(&format!("quarantine/{number}/rejected.parquet")),
        sources: Vec::new(),
        body: None,
    }
}

/// Parts of a producer's first epoch from a number on, by their accepted and rejected rows.
fn parts(producer: &str, first: u64, rows: &[(u64, u64)]) -> PartRun {
    let part = |(number, (rows, rejected)): (u64, &(u64, u64))| StreamPart {
        digest: digest_of(&format!("{producer} {number}")),
        rows: *rows,
        rejected: *rejected,
    };
    let parts: Vec<StreamPart> = (first..).zip(rows).map(part).collect();
    PartRun {
        producer: producer.to_owned(),
        epoch: 1,
        first,
        last: first + parts.len() as u64 - 1,
        rows: parts.iter().map(|part| part.rows).sum(),
        rejected: parts.iter().map(|part| part.rejected).sum(),
        digest: parts[parts.len() - 1].digest,
        parts,
    }
}

/// What is swept and what is held.
fn kept() -> Vec<Vec<Record>> {
    let (week, day) = ("7d".parse().unwrap(), "1d".parse().unwrap());
    let found = vec![Found { kind: "data".to_owned(), objects: 4, bytes: 9_000 }];
    let held = |hold, kind, of| HoldPlaced {
        hold: id(hold),
        kind,
        id: id::<RunId>(of).uuid(),
        reason: "an audit".to_owned(),
    };
    vec![
        vec![
            Swept { before: id(1), compacted: Some(Sequence(22)), grace: week, found }.into(),
            Swept { before: id(2), compacted: None, grace: day, found: Vec::new() }.into(),
        ],
        vec![RetentionSet { grace: week, longest_read: day }.into()],
        vec![
            held(90, HeldKind::Batch, 20).into(),
            held(91, HeldKind::Version, 11).into(),
            held(92, HeldKind::TrainingSet, 40).into(),
            held(93, HeldKind::ModelVersion, 64).into(),
        ],
        vec![HoldLifted { hold: id(91), reason: "it is over".to_owned() }.into()],
    ]
}

/// Rows that are too old, and those that are gone.
fn expired() -> Vec<Vec<Record>> {
    let (before, keep) = (instant("2012-06-01T00:00:00Z"), "400d".parse().unwrap());
    vec![
        vec![RowsExpired { view: id(2), before, keep }.into()],
        vec![RowsDeleted { view: id(2), before, batches: vec![id(20), id(22)] }.into()],
    ]
}

/// An entity that is gone, and another of which nothing was found but what tells of it.
fn erased() -> Vec<Vec<Record>> {
    let replaced =
        |before: &str, after: &str, of| Replaced { before: before.to_owned(), after: object(after), of };
    let whole = Erased {
        erasure: id(120),
        entity: id(1),
        views: vec![id(2)],
        keys: vec![digest_of("a key")],
        secret: object("bodies/121.key"),
        reason: "it was asked for".to_owned(),
        request: Some("case 17".to_owned()),
        seen: Sequence(55),
        rows: 3,
        replaced: vec![
            replaced(
                "manifests/20.parquet",
                "manifests/122.parquet",
                Replacement::Manifest {
                    batch: id(20),
                    version: id(11),
                    rows: 26_000,
                    digest: digest_of("what is left"),
                },
            ),
            replaced(
                "manifests/81.parquet",
                "manifests/123.parquet",
                Replacement::Compaction { compaction: id(81), version: id(11), rows: 104_453 },
            ),
            replaced(
                "quarantine/20/rejected.parquet",
                "quarantine/124/rejected.parquet",
                Replacement::Quarantine { batch: id(20), rejected: 3 },
            ),
            replaced("profiles/20.json", "profiles/125.json", Replacement::Profile { batch: id(20) }),
            replaced(
                "training_sets/40/manifest.json",
                "training_sets/40/126.json",
                Replacement::TrainingSet { training_set: id(40), digest: "lmt1:126".to_owned() },
            ),
            replaced("reads/50.parquet", "reads/127.parquet", Replacement::Reads { reads: 4 }),
        ],
        gone: vec!["data/1.parquet".to_owned(), "spines/1.parquet".to_owned()],
        sets: vec![
            ErasedSet {
                training_set: id(40),
                rows: 2,
                blocks: vec![0, 3],
                digest: Some("lmt1:126".to_owned()),
            },
            ErasedSet { training_set: id(41), rows: 1, blocks: vec![0], digest: None },
        ],
    };
    let bare = Erased {
        erasure: id(130),
        secret: object("bodies/131.key"),
        request: None,
        seen: Sequence(56),
        rows: 0,
        replaced: Vec::new(),
        gone: Vec::new(),
        sets: Vec::new(),
        ..whole.clone()
    };
    vec![vec![whole.into()], vec![bare.into()]]
}

/// Policies, and that there are none any more.
fn governed() -> Vec<Vec<Record>> {
    vec![
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

/// What passed by, and rejected rows that were mended.
fn sampled_and_mended() -> Vec<Vec<Record>> {
    let sampled = |number: u32, of, judged| Sampled {
        sample: id(number),
        view: id(2),
        version: id(11),
        of,
        share: 0.05,
        from: instant("2013-07-09T12:30:00Z"),
        until: instant("2013-07-09T12:30:20Z"),
        passed: 26_114,
        rows: 1_302,
        profile: object(&format!("profiles/{number}.json")),
        judged,
    };
    let quiet =
        Judged { drift: None, age_hours: None, findings: Vec::new(), ..judged(quality::Verdict::Pass) };
    let mended = RowsMended {
        batch: id(33),
        of: id(20),
        rows: 1,
        again: None,
        mended: object("quarantine/33/mended.parquet"),
    };
    vec![
        vec![
            sampled(94, PassedBy::Reads, judged(quality::Verdict::Warn)).into(),
            sampled(95, PassedBy::Streams, quiet).into(),
        ],
        vec![batch(33, KnownAtSource::Delay).into(), mended.into()],
    ]
}

/// Spines that clients put up: one of which a training set is made, one that is dropped.
fn put_up() -> Vec<Vec<Record>> {
    let kept = |number: u32, rows| SpineKept {
        spine: id(number),
        digest: format!("lmt1:{}", digest_of(&format!("spine {number}"))),
        rows,
        object: object(&format!("spines/{number}.parquet")),
    };
    vec![
        vec![kept(95, 4).into(), kept(96, 336_776).into()],
        vec![kept(95, 4).into()],
        vec![SpineUsed { spine: id(95), training_set: id(41) }.into()],
        vec![SpinesDropped { spines: vec![id(96)] }.into()],
    ]
}

/// What will go, the steps on its way, and that it stays after all.
fn deprecated() -> Vec<Vec<Record>> {
    let of = |kind, number| Deprecable { kind, id: id::<RunId>(number).uuid() };
    let closed_at = instant("2014-01-01T00:00:00Z");
    let whole = Deprecated {
        deprecation: id(110),
        of: of(DeprecatedKind::Version, 11),
        reason: "too wide a range".to_owned(),
        closed_at,
        withdrawn_at: Some(instant("2014-03-01T00:00:00Z")),
        instead: Some(of(DeprecatedKind::Version, 12)),
        roles: vec!["owner".to_owned()],
        claims: [("groups".to_owned(), vec!["weather".to_owned()])].into(),
    };
    let bare = |deprecation, of, reason: &str| Deprecated {
        deprecation: id(deprecation),
        of,
        reason: reason.to_owned(),
        withdrawn_at: None,
        instead: None,
        roles: Vec::new(),
        claims: Default::default(),
        ..whole.clone()
    };
    let step = |deprecation, step, despite: Option<&str>| DeprecationAdvanced {
        deprecation: id(deprecation),
        step,
        despite: despite.map(str::to_owned),
    };
    vec![
        vec![
            whole.clone().into(),
            bare(111, of(DeprecatedKind::FeatureView, 2), "another source").into(),
            bare(112, of(DeprecatedKind::FeatureService, 3), "nobody asks").into(),
        ],
        vec![
            step(110, DeprecationStep::Closed, None).into(),
            step(111, DeprecationStep::Closed, None).into(),
        ],
        vec![step(110, DeprecationStep::Withdrawn, Some("the model is wrong anyway")).into()],
        vec![DeprecationRevoked { deprecation: id(111), reason: "it stays".to_owned() }.into()],
    ]
}

/// A plan that was proposed, approved and applied, and one that was declined.
fn changed() -> Vec<Vec<Record>> {
    let name = |text: &str| text.parse::<feature::Name>().unwrap();
    let change = PlannedChange {
        subject: Subject::FeatureView,
        project: name("default"),
        name: name("weather"),
        number: 3,
        effect: Effect::Breaking,
        differences: vec!["feature `temp`: unit degF → degC".to_owned()],
    };
    let added = PlannedChange {
        subject: Subject::FeatureService,
        name: name("delay"),
        number: 1,
        effect: Effect::Harmless,
        differences: Vec::new(),
        ..change.clone()
    };
    let reason = || "everybody else reads °C".to_owned();
    let proposed = |plan: &str| PlanProposed {
        plan: digest_of(plan),
        reason: reason(),
        changes: vec![change.clone(), added.clone()],
    };
    vec![
        vec![proposed("one").into(), proposed("other").into()],
        vec![
            PlanApproved {
                plan: digest_of("one"),
                reason: "agreed".to_owned(),
                roles: vec!["owner".to_owned()],
                claims: [("groups".to_owned(), vec!["weather".to_owned()])].into(),
            }
            .into(),
            PlanApproved {
                plan: digest_of("other"),
                reason: "agreed too".to_owned(),
                roles: Vec::new(),
                claims: Default::default(),
            }
            .into(),
        ],
        vec![PlanDeclined { plan: digest_of("other"), reason: "on second thoughts".to_owned() }.into()],
        vec![
            PlanApplied {
                plan: digest_of("one"),
                reason: reason(),
                changes: vec![change.clone()],
                approved_by: vec!["bert".to_owned()],
            }
            .into(),
        ],
        vec![
            PlanApplied {
                plan: digest_of("third"),
                reason: reason(),
                changes: Vec::new(),
                approved_by: Vec::new(),
            }
            .into(),
        ],
    ]
}

/// Alerts that are raised, and each step on their way.
fn alerted() -> Vec<Vec<Record>> {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let alert = RaisedAlert {
        alert: id(100),
        rule: "weather_fails".to_owned(),
        condition: "check".to_owned(),
        causes: texts(&["check:01890a5d-ac96-774b-bcce-000000000027"]),
        about: Some(Sequence(33)),
        version: Some(id(11)),
        summary: "weather@2: a batch failed its checks".to_owned(),
        details: Some(serde_json::json!({ "rows": 24, "verdict": "fail" })),
        sinks: texts(&["on_call", "log"]),
    };
    let many = RaisedAlert {
        alert: id(101),
        rule: "gone".to_owned(),
        condition: "dangling".to_owned(),
        causes: texts(&["dangling:a", "dangling:b"]),
        about: None,
        version: None,
        summary: "2 references lead nowhere".to_owned(),
        details: None,
        sinks: texts(&["log"]),
    };
    let rules = texts(&["weather_fails", "gone"]);
    let sent = |sink: &str, ended: Option<DeliveryEnded>, sending: Option<u32>| AlertDelivery {
        sink: sink.to_owned(),
        sender: id(110),
        ended,
        sending: sending
            .map(|alert| DeliveryBegun { alert: id(alert), until: instant("2013-07-12T12:00:25Z") }),
    };
    let ended =
        |alert: u32, outcome: DeliveryOutcome, why: Option<&str>, again_at: Option<&str>, of_alert| {
            Some(DeliveryEnded {
                alert: id(alert),
                outcome,
                why: why.map(str::to_owned),
                again_at: again_at.map(instant),
                of_alert,
            })
        };
    let again = Some("2013-07-12T12:01:00Z");
    let (failed, delivered, dropped) =
        (DeliveryOutcome::Failed, DeliveryOutcome::Delivered, DeliveryOutcome::Dropped);
    vec![
        vec![AlertsRaised { rules: rules.clone(), through: Sequence(36), alerts: Vec::new() }.into()],
        vec![AlertsRaised { rules, through: Sequence(37), alerts: vec![alert, many] }.into()],
        vec![sent("on_call", None, Some(100)).into(), sent("log", None, Some(100)).into()],
        vec![
            sent("on_call", ended(100, failed, Some("it answered 503"), again, false), None).into(),
            sent("log", ended(100, delivered, None, None, false), Some(101)).into(),
        ],
        vec![sent("log", ended(101, failed, Some("it answered 400"), again, true), None).into()],
        vec![sent("log", ended(101, dropped, Some("everybody knows"), None, true), None).into()],
    ]
}

/// Batches that are kept back, and what becomes of them.
fn kept_back() -> Vec<Vec<Record>> {
    vec![
        vec![
            BatchQuarantined {
                batch: BatchCommitted {
                    profile: Some(object("profiles/27.json")),
                    judged: Some(judged(quality::Verdict::Fail)),
                    ..batch(27, KnownAtSource::Delay)
                },
            }
            .into(),
            BatchQuarantined { batch: batch(28, KnownAtSource::Delay) }.into(),
        ],
        vec![
            BatchReleased { batch: id(27), reason: "the sensor was right".to_owned() }.into(),
            BatchDropped { batch: id(28), reason: "°C, not °F".to_owned() }.into(),
            BatchCommitted {
                profile: Some(object("profiles/29.json")),
                judged: Some(Judged {
                    drift: None,
                    age_hours: None,
                    findings: Vec::new(),
                    ..judged(quality::Verdict::Pass)
                }),
                ..batch(29, KnownAtSource::Delay)
            }
            .into(),
        ],
    ]
}

fn batch(number: u32, known_at: KnownAtSource) -> BatchCommitted {
    BatchCommitted {
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
        profile: None,
        judged: None,
    }
}

fn judged(verdict: quality::Verdict) -> Judged {
    Judged {
        verdict,
        baseline_batches: 30,
        baseline_rows: 2_160,
        checks: 41,
        drift: Some(7.25),
        age_hours: Some(0.5),
        findings: vec![
            Finding {
                measure: Measure::Psi,
                feature: Some("temp".to_owned()),
                verdict: quality::Verdict::Fail,
                value: 7.25,
                threshold: 1.0,
            },
            Finding {
                measure: Measure::Volume,
                feature: None,
                verdict: quality::Verdict::Warn,
                value: 2.5,
                threshold: 2.0,
            },
        ],
    }
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
store 01890a5d-ac96-774b-bcce-000000000000 at 57
entity airport 1 by 1: origin string
view weather@1 by 2: temp float64, described Some(\"Hourly weather, \\\"as measured\\\" – °F\")
  counts 20 of sequence 5: 26114 rows, 1 rejected, Delay
  counts 21 of sequence 6: 26114 rows, 0 rejected, Column
  counts 22 of sequence 6: 26114 rows, 0 rejected, Arrival
  counts 23 of sequence 6: 26114 rows, 0 rejected, Assumed
  counts 24 of sequence 24: 26114 rows, 0 rejected, Arrival
  counts 27 of sequence 30: 26114 rows, 0 rejected, Delay
  counts 29 of sequence 30: 26114 rows, 0 rejected, Delay
  counts 33 of sequence 34: 26114 rows, 0 rejected, Delay
view weather@2 by 2: temp float64, described None
  counts 20 of sequence 5: 26114 rows, 1 rejected, Delay
  counts 21 of sequence 6: 26114 rows, 0 rejected, Column
  counts 22 of sequence 6: 26114 rows, 0 rejected, Arrival
  counts 23 of sequence 6: 26114 rows, 0 rejected, Assumed
  counts 24 of sequence 24: 26114 rows, 0 rejected, Arrival
  counts 27 of sequence 30: 26114 rows, 0 rejected, Delay
  counts 29 of sequence 30: 26114 rows, 0 rejected, Delay
  counts 33 of sequence 34: 26114 rows, 0 rejected, Delay
service delay 1 by 3: weather@1.temp
refused 30: 40 of 100
refused 31: 40 of 100
refused 32: 40 of 100
kept back 27 by 29: released by 30: the sensor was right
kept back 28 by 29: dropped by 30: °C, not °F
sample 94 of reads by 33: 1302 of 26114, Warn
sample 95 of streams by 33: 1302 of 26114, Pass
1 rows of 20 mended by 33 at 34
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
producer station-7 of view 2 committed epoch 1, number 3
producer station-8 of view 2 committed epoch 1, number 1
swept before 1, compacted Some(Sequence(22)), after 1w: 4 objects
swept before 2, compacted None, after 1d: 0 objects
kept for 1w, read for 1d
hold on batch 20: an audit, lifted None
hold on version 11: an audit, lifted Some(\"it is over\")
hold on training_set 40: an audit, lifted None
hold on model_version 64: an audit, lifted None
rows of view 2 before 2012-06-01T00:00:00Z expired by 35
of [\"20\", \"22\"] rows before 2012-06-01T00:00:00Z are gone
erased 3 rows of entity 1 from [\"2\"], 8 objects, sets [\"40\", \"41\"], for case Some(\"case 17\")
erased 0 rows of entity 1 from [\"2\"], 0 objects, sets [], for case None
spine 95 of 4 rows kept 2 times, used by Some(\"41\"), dropped None
spine 96 of 336776 rows kept 1 times, used by None, dropped Some(Sequence(40))
deprecated weather@1: too wide a range, [\"closed\", \"withdrawn\"], revoked None, instead Some(\"weather@2\")
deprecated weather: another source, [\"closed\"], revoked Some(\"it stays\"), instead None
deprecated delay: nobody asks, [], revoked None, instead None
proposed by 45: 2 changes, [(true, \"agreed\")]
proposed by 45: 2 changes, [(true, \"agreed too\"), (false, \"on second thoughts\")]
applied by 48, approved by [\"bert\"]
applied by 49, approved by []
rule weather_fails was asked through Some(37)
rule gone was asked through Some(37)
rule new was asked through None
alert 100 to on_call: failed after 1, Some(\"it answered 503\")
alert 100 to log: delivered after 1, None
alert 101 to log: dropped after 1, Some(\"everybody knows\")
open to on_call: 1
open to log: 0
request load-2013 at Some(5)
log store_created | entity_defined | view_version_defined, view_version_defined | service_defined | described, described, described | batch_committed | batch_committed, batch_committed, batch_committed | batch_refused, batch_refused | training_set_recorded | reads_recorded | verified, verified | training_set_recorded | external_linked, external_linked, external_linked, external_linked, external_linked, authority_aliased | experiment_observed, experiment_observed | run_observed, run_observed | model_observed, model_version_observed, model_version_observed, alias_observed, alias_observed | deployment_changed, deployment_changed | reconciled | deployment_measured, deployment_measured | use_recorded, use_recorded, use_recorded, use_recorded, use_recorded | batch_withdrawn, version_withdrawn | batch_restored, version_restored | compacted | compacted | batch_committed, batch_refused, stream_parts_committed, stream_parts_committed | swept, swept | retention_set | hold_placed, hold_placed, hold_placed, hold_placed | hold_lifted | batch_quarantined, batch_quarantined | batch_released, batch_dropped, batch_committed | policies_applied | policies_applied | sampled, sampled | batch_committed, rows_mended | rows_expired | rows_deleted | spine_kept, spine_kept | spine_kept | spine_used | spines_dropped | deprecated, deprecated, deprecated | deprecation_advanced, deprecation_advanced | deprecation_advanced | deprecation_revoked | plan_proposed, plan_proposed | plan_approved, plan_approved | plan_declined | plan_applied | plan_applied | alerts_raised | alerts_raised | alert_delivery, alert_delivery | alert_delivery, alert_delivery | alert_delivery | alert_delivery | erased | erased
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
    for held in state.quarantine().all() {
        let (id, by) = (number(held.batch.record.batch.to_string()), held.batch.by.sequence);
        let end = held.end.as_ref().map(|end| {
            let what = if end.released { "released" } else { "dropped" };
            format!("{what} by {}: {}", end.by.sequence, end.reason)
        });
        lines.push(format!("kept back {id} by {by}: {}", end.unwrap_or_default()));
    }
    for sample in state.samples().all() {
        let (record, by) = (&sample.record, sample.by.sequence);
        let (id, of) = (number(record.sample.to_string()), record.of.name());
        let (rows, passed) = (record.rows, record.passed);
        lines.push(format!("sample {id} of {of} by {by}: {rows} of {passed}, {:?}", record.judged.verdict));
    }
    for mending in state.mended().all() {
        let (record, by) = (&mending.record, mending.by.sequence);
        let (batch, of) = (number(record.batch.to_string()), number(record.of.to_string()));
        lines.push(format!("{} rows of {of} mended by {batch} at {by}", record.rows));
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
    for (view, producer, last) in state.producers() {
        let view = number(view.to_string());
        lines.push(format!("producer {producer} of view {view} committed {}", last.place));
    }
    for sweep in state.sweeps().all() {
        let Swept { before, compacted, grace, found } = &sweep.record;
        let (before, objects) =
            (number(before.to_string()), found.iter().map(|found| found.objects).sum::<u64>());
        lines.push(format!(
            "swept before {before}, compacted {compacted:?}, after {grace}: {objects} objects"
        ));
    }
    let retention = state.sweeps().retention();
    lines.push(format!("kept for {}, read for {}", retention.grace, retention.longest_read));
    for hold in state.holds().all() {
        let (record, lifted) = (&hold.record, hold.lifted.as_ref().map(|(lifted, _)| &lifted.reason));
        let (kind, of) = (record.kind.name(), number(record.id.to_string()));
        lines.push(format!("hold on {kind} {of}: {}, lifted {lifted:?}", record.reason));
    }
    for one in state.expiry().expired() {
        let view = number(one.record.view.to_string());
        lines
            .push(format!("rows of view {view} before {} expired by {}", one.record.before, one.by.sequence));
    }
    for one in state.expiry().deleted() {
        let batches: Vec<String> = one.record.batches.iter().map(|batch| number(batch.to_string())).collect();
        lines.push(format!("of {batches:?} rows before {} are gone", one.record.before));
    }
    for one in state.erasures().all() {
        let record = &one.record;
        let views: Vec<String> = record.views.iter().map(|view| number(view.to_string())).collect();
        let sets: Vec<String> = record.sets.iter().map(|set| number(set.training_set.to_string())).collect();
        let objects = record.replaced.len() + record.gone.len();
        lines.push(format!(
            "erased {} rows of entity {} from {views:?}, {objects} objects, sets {sets:?}, for case {:?}",
            record.rows,
            number(record.entity.to_string()),
            record.request
        ));
    }
    for spine in state.spines().all() {
        let used = spine.used.as_ref().map(|(used, _)| number(used.training_set.to_string()));
        lines.push(format!(
            "spine {} of {} rows kept {} times, used by {used:?}, dropped {:?}",
            number(spine.record.spine.to_string()),
            spine.record.rows,
            spine.kept.len(),
            spine.dropped.as_ref().map(|by| by.sequence)
        ));
    }
    for one in state.deprecations().all() {
        let of = state.label_of(one.record.of).unwrap();
        let steps: Vec<&str> = one.steps.iter().map(|(step, _)| step.step.name()).collect();
        let revoked = one.revoked.as_ref().map(|(record, _)| &record.reason);
        let instead = one.record.instead.and_then(|of| state.label_of(of));
        lines.push(format!(
            "deprecated {of}: {}, {steps:?}, revoked {revoked:?}, instead {instead:?}",
            one.record.reason
        ));
    }
    for one in state.changes().proposals() {
        let said: Vec<(bool, &str)> =
            one.votes.iter().map(|(vote, _)| (vote.is_approval(), vote.reason())).collect();
        lines.push(format!(
            "proposed by {}: {} changes, {said:?}",
            one.by.sequence,
            one.record.changes.len()
        ));
    }
    for one in state.changes().applied() {
        let at = one.by.sequence;
        assert_eq!(state.changes().applied_at(at).map(|found| &found.record), Some(&one.record));
        lines.push(format!("applied by {at}, approved by {:?}", one.record.approved_by));
    }
    for rule in ["weather_fails", "gone", "new"] {
        let through = state.alerts().through(rule).map(|through| through.0);
        lines.push(format!("rule {rule} was asked through {through:?}"));
    }
    for alert in state.alerts().all() {
        for sink in &alert.record.sinks {
            let id = number(alert.record.alert.to_string());
            let way = state.alerts().on_its_way(alert.record.alert, sink, state.head.sequence);
            let (standing, attempts) = (way.standing.name(), way.attempts);
            lines.push(format!("alert {id} to {sink}: {standing} after {attempts}, {:?}", way.why));
        }
    }
    for sink in ["on_call", "log"] {
        lines.push(format!("open to {sink}: {}", state.alerts().open(sink)));
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
        row: winner.row.unwrap(),
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

/// A field that a later program added to a record is passed over, and stays in the log, which nobody writes anew; checkpoints say that it was.
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
    let verify = async || {
        let request = serving::VerifyRequest { full: true, mend: false };
        let store = again.catalog().store();
        serving::verify_store(store, request, std::sync::Arc::new(|_| ())).await.unwrap()
    };
    assert_eq!(verify().await.faults, []);
    let last = again.catalog().last_checkpoint().unwrap();
    let told: Vec<_> = last.unread.iter().map(|one| (one.number, one.field.as_str(), one.sequence)).collect();
    assert_eq!(told, [(32, "/witness", entry.sequence)]);
    // A program that knows the field folds to another state, of which this one cannot say whether it is right.
    let later = storage::Checkpoint { unread: Vec::new(), state: last.entry, ..(*last).clone() };
    storage::checkpoint::publish(again.catalog().store(), &later).await.unwrap();
    let found = verify().await;
    assert_eq!(found.faults, []);
    let noted = found.notes.iter().filter(|note| note.contains("its writer knew fields of records")).count();
    assert_eq!(noted, 1, "{:?}", found.notes);
}
