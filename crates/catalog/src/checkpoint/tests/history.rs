//! Histories of a store, made from numbers: every kind of record, in every order that the fold accepts.

use std::collections::{BTreeMap, HashMap};

use feature::definition::{Definition, Entity, FeatureView, canonical, parse_files};
use feature::digest::{Digest, HashAlgorithm, hash};
use feature::{CommitId, DeprecationId, Sequence, StoreId, Timestamp, VersionId};
use proptest::prelude::*;
use storage::entry::{Entry, FORMAT, RawRecord, RequestKey, digest};
use uuid::Uuid;

use crate::catalog::fold;
use crate::records::*;
use crate::state::{State, Withdrawable};

/// Choices of one record: its kind, and a number for what there is to choose in it.
pub type Choice = (u8, u32);

pub fn choices(most: usize) -> impl Strategy<Value = Vec<Vec<Choice>>> {
    let records = proptest::collection::vec((0..34u8, any::<u32>()), 1..5);
    proptest::collection::vec(records, 1..most)
}

/// Entries of one log, in order, with their bytes' digests.
pub struct History {
    pub entries: Vec<(Entry, Digest)>,
}

impl History {
    pub fn of(choices: &[Vec<Choice>]) -> Self {
        let mut log = Writer::default();
        log.append(vec![created()], None);
        for entry in choices {
            let records: Vec<Record> = entry.iter().filter_map(|choice| log.record(*choice)).collect();
            let key = entry
                .first()
                .filter(|(_, number)| number.is_multiple_of(3))
                .map(|_| format!("key {}", log.entries.len()));
            let mut records = records;
            let parts = log.parts(&records);
            records.extend(parts);
            let mended = log.mended(&records);
            records.extend(mended);
            log.append(records, key);
        }
        Self { entries: log.entries }
    }

    /// The states after each entry.
    pub fn states(&self) -> Vec<State> {
        let mut state = None;
        let mut states = Vec::new();
        for (entry, digest) in &self.entries {
            fold(&mut state, entry, *digest).unwrap();
            states.push(state.clone().unwrap());
        }
        states
    }
}

pub fn id<I: From<Uuid>>(kind: u128, number: usize) -> I {
    I::from(Uuid::from_u128((kind << 64) + number as u128))
}

pub fn created() -> Record {
    let store = id(0, 0);
    StoreCreated { store, hash: HashAlgorithm::Blake3, format: 1, put_if_absent_proved: true }.into()
}

/// The entry after another, with these records.
pub fn entry_after(
    last: Option<&(Entry, Digest)>,
    records: &[Record],
    key: Option<String>,
) -> (Entry, Digest) {
    let sequence = last.map_or(Sequence::ZERO, |(last, _)| last.sequence.next());
    let entry = Entry {
        format: FORMAT,
        store: id::<StoreId>(0, 0),
        sequence,
        previous: last.map(|(_, digest)| *digest),
        commit: id::<CommitId>(99, sequence.0 as usize),
        committed_at: Timestamp(sequence.0 as i64 * 1_000),
        principal: format!("writer {}", sequence.0 % 3),
        program: "history".to_owned(),
        request: key.map(|key| RequestKey { digest: text_digest(&key), key }),
        run: (sequence.0 % 4 == 1).then(|| format!("run-{}", sequence.0)),
        experiment: (sequence.0 % 5 == 1).then(|| "experiment".to_owned()),
        records: records
            .iter()
            .map(|record| RawRecord { number: record.number(), body: record.body().unwrap() })
            .collect(),
    };
    let bytes = entry.encode().unwrap();
    let digest = digest(HashAlgorithm::Blake3, &bytes);
    (Entry::decode(sequence, &bytes).unwrap(), digest)
}

fn text_digest(text: &str) -> Digest {
    hash(HashAlgorithm::Blake3, text.as_bytes())
}

fn object(path: String) -> Object {
    Object { digest: text_digest(&path), bytes: path.len() as u64, path }
}

pub fn definitions() -> (Entity, FeatureView) {
    let entity = "kind = \"entity\"\nname = \"thing\"\n[[keys]]\nname = \"k\"\ntype = \"int64\"\n";
    let view = "kind = \"feature_view\"\nname = \"v\"\nentity = \"thing\"\n[time]\nvalid_at = \"t\"\nknown_at = \"arrival\"\n\
         [[features]]\nname = \"a\"\ntype = \"float64\"\n[[features]]\nname = \"b\"\ntype = \"float64\"\n";
    let files = [("thing.toml", entity), ("v.toml", view)];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
    let definitions = parse_files(files).unwrap_or_else(|errors| panic!("{errors}"));
    let entity = definitions.entities[0].definition.clone();
    let mut view = definitions.views[0].definition.clone();
    view.keys = view.resolve_keys(&entity).unwrap();
    (entity, view)
}

/// What was written so far, as far as later records need it.
#[derive(Default)]
struct Writer {
    entries: Vec<(Entry, Digest)>,
    minted: usize,
    entity: Option<(Entity, VersionId, u32)>,
    views: Vec<View>,
    services: u32,
    service: Option<VersionId>,
    batches: Vec<feature::BatchId>,
    sets: Vec<feature::TrainingSetId>,
    experiments: Vec<feature::ExperimentId>,
    runs: Vec<feature::RunId>,
    models: Vec<feature::ModelId>,
    versions: Vec<feature::ModelVersionId>,
    deployments: Vec<feature::DeploymentId>,
    /// Whether a batch or version is withdrawn, and the entry that moved it last.
    moved: HashMap<Withdrawable, (bool, usize)>,
    /// Batches in the order of the log: view, line and version of each.
    written: Vec<(usize, VersionId, VersionId, feature::BatchId)>,
    /// Batches in quarantine, as in `written`.
    held: Vec<(usize, VersionId, VersionId, feature::BatchId)>,
    /// View, line, and the batches of the line from one to before another.
    compacted: Vec<(usize, VersionId, std::ops::Range<usize>, feature::CompactionId)>,
    last_compaction: BTreeMap<usize, Sequence>,
    /// Holds that were not lifted.
    holds: Vec<feature::HoldId>,
    policies: u32,
    /// Batches of which rows were rejected, of earlier entries.
    rejected: Vec<feature::BatchId>,
    /// Rows that are valid before this do not count, by view.
    expired: BTreeMap<usize, i64>,
    deleted: bool,
    /// The last erasure of each view, and how many there are.
    erased: BTreeMap<usize, Sequence>,
    erasures: u32,
    put_up: Vec<PutUp>,
    /// Deprecations that stand, with the steps that were taken.
    deprecated: Vec<(DeprecationId, Deprecable, u32)>,
    /// What was deprecated and is not any more, and the entry that ended it.
    revoked: Vec<(Deprecable, usize)>,
    /// The entry that applied a plan last.
    applied: Option<usize>,
    /// Plans that were proposed, and the entry that said something of each last.
    proposed: HashMap<u32, usize>,
    /// Alerts that were raised.
    alerts: Vec<feature::AlertId>,
    /// What producers committed last, by view: epoch and number.
    producers: HashMap<(feature::ViewId, u64), (u64, u64)>,
}

/// A spine that was put up.
struct PutUp {
    record: SpineKept,
    used: bool,
    dropped: bool,
    /// The entry that spoke of it last.
    last: usize,
}

/// A feature view and its versions.
#[derive(Clone)]
struct View {
    name: usize,
    /// Each with its line.
    versions: Vec<(VersionId, VersionId)>,
}

fn pick<T: Clone>(of: &[T], choice: u32) -> Option<T> {
    of.get(choice as usize % of.len().max(1)).cloned()
}

impl Writer {
    fn append(&mut self, records: Vec<Record>, key: Option<String>) {
        let entry = entry_after(self.entries.last(), &records, key);
        self.entries.push(entry);
    }

    fn mint<I: From<Uuid>>(&mut self, scattered: u32) -> I {
        self.minted += 1;
        // Ids need not come in the order of the log.
        id(u128::from(scattered % 4) + 1, self.minted)
    }

    fn link<I: feature::Id>(&mut self, kind: Kind, choice: u32) -> (I, Record) {
        let id: I = self.mint(choice);
        let linked = ExternalLinked {
            id: id.uuid(),
            kind,
            system: "mlflow".to_owned(),
            authority: format!("http://tracking:{}", choice % 2),
            external_id: format!("{}", self.minted),
            how: How::Tag,
        };
        (id, linked.into())
    }

    fn view(&self, name: usize, choice: u32, described: bool) -> serde_json::Value {
        let (_, mut view) = definitions();
        view.name = format!("view_{name}").parse().unwrap();
        if choice.is_multiple_of(3) {
            view.features.pop();
        }
        if described {
            view.about.description = Some(format!("described {choice}"));
        }
        Definition::FeatureView(view).to_json()
    }

    fn define_view(&mut self, choice: u32) -> Option<Record> {
        let entity_version = self.entity.as_ref()?.1;
        let version: VersionId = self.mint(choice);
        let name = choice as usize % 3;
        if !self.views.iter().any(|view| view.name == name) {
            self.views.push(View { name, versions: Vec::new() });
        }
        let definition = self.view(name, choice, false);
        let View { versions, .. } = self.views.iter_mut().find(|view| view.name == name)?;
        let line =
            pick(versions, choice / 7).filter(|_| choice.is_multiple_of(2)).map_or(version, |(_, line)| line);
        versions.push((version, line));
        let (number, digest) = (versions.len() as u32, format!("view {choice}"));
        let defined = ViewVersionDefined {
            view: id(50, name),
            version,
            number,
            line,
            entity: id(51, 0),
            entity_version,
            digest,
            definition,
        };
        Some(defined.into())
    }

    fn some_version(&self, choice: u32) -> Option<(usize, VersionId)> {
        let View { name, versions } = pick(&self.views, choice)?;
        Some((name, pick(&versions, choice / 5)?.0))
    }

    fn batch(&mut self, choice: u32) -> Option<Record> {
        let (name, version) = self.some_version(choice)?;
        let parent = pick(&self.batches, choice / 3).filter(|_| choice.is_multiple_of(11));
        let batch = self.mint(choice);
        self.batches.push(batch);
        let line = self.views.iter().flat_map(|view| &view.versions).find(|one| one.0 == version)?.1;
        self.written.push((name, line, version, batch));
        let known_at =
            [KnownAtSource::Column, KnownAtSource::Delay, KnownAtSource::Arrival, KnownAtSource::Assumed];
        let sources = (0..choice % 4).map(|source| SourceFile {
            digest: text_digest(&format!("source {} {source}", choice % 100)),
            bytes: u64::from(choice),
        });
        let committed = BatchCommitted {
            batch,
            view: id(50, name),
            version,
            rows: u64::from(choice) * 1_000,
            rejected: u64::from(choice % 2),
            known_at: pick(&known_at, choice)?,
            manifest: object(format!("manifests/{choice}.parquet")),
            digest: text_digest(&format!("batch {choice}")),
            quarantine: (choice % 2 == 1).then(|| object(format!("quarantine/{choice}/rejected.parquet"))),
            sources: sources.collect(),
            body: (choice % 3 == 1).then(|| object(format!("bodies/{choice}.json"))),
            derivation: parent.map(|parent| Derivation {
                sequence: Sequence(0),
                since: choice.is_multiple_of(2).then_some(Sequence(0)),
                row_preserving: choice.is_multiple_of(3),
                parents: vec![Parent {
                    version,
                    features: vec!["a".to_owned()],
                    batches: vec![parent],
                    bears_on: choice
                        .is_multiple_of(5)
                        .then(|| BTreeMap::from([("a".to_owned(), vec!["a".to_owned()])])),
                }],
            }),
            profile: (choice % 4 != 3).then(|| object(format!("profiles/{choice}.json"))),
            judged: (choice % 4 == 1).then(|| feature::quality::Judged {
                verdict: feature::quality::Verdict::Warn,
                baseline_batches: u64::from(choice % 7),
                baseline_rows: u64::from(choice),
                checks: 12,
                drift: Some(f64::from(choice % 1_000_000) / 1e6),
                age_hours: None,
                findings: Vec::new(),
            }),
        };
        Some(committed.into())
    }

    /// Parts of streams that some of an entry's batches hold, committed or refused.
    fn parts(&mut self, records: &[Record]) -> Vec<Record> {
        let mut parts = Vec::new();
        for record in records {
            let (batch, view, number) = match record {
                Record::BatchCommitted(body) => (body.batch, body.view, body.rows / 1_000),
                Record::BatchQuarantined(body) => {
                    (body.batch.batch, body.batch.view, body.batch.rows / 1_000)
                }
                Record::BatchRefused(body) => (body.batch, body.view, self.minted as u64),
                _ => continue,
            };
            let runs = (0..number % 4).map(|producer| self.run(view, producer, number));
            let runs: Vec<PartRun> = runs.collect();
            parts.extend((!runs.is_empty()).then(|| StreamPartsCommitted { batch, view, runs }.into()));
        }
        parts
    }

    /// Rejected rows of earlier batches that some of an entry's batches have.
    fn mended(&mut self, records: &[Record]) -> Vec<Record> {
        let mut mended = Vec::new();
        for record in records {
            let (batch, number, rejected) = match record {
                Record::BatchCommitted(body) => (body.batch, body.rows / 1_000, body.quarantine.is_some()),
                Record::BatchQuarantined(body) => {
                    (body.batch.batch, body.batch.rows / 1_000, body.batch.quarantine.is_some())
                }
                Record::BatchRefused(body) => {
                    self.rejected.push(body.batch);
                    continue;
                }
                _ => continue,
            };
            if let Some(of) = pick(&self.rejected, number as u32).filter(|_| number % 2 == 0) {
                let list = object(format!("quarantine/{number}/mended.parquet"));
                let again = number.is_multiple_of(4).then_some(1);
                mended.push(RowsMended { batch, of, rows: number % 5, again, mended: list }.into());
            }
            if rejected {
                self.rejected.push(batch);
            }
        }
        mended
    }

    /// What passed by of a version.
    fn sample(&mut self, choice: u32) -> Option<Record> {
        let (name, version) = self.some_version(choice)?;
        let of = if choice.is_multiple_of(2) { PassedBy::Reads } else { PassedBy::Streams };
        Some(
            Sampled {
                sample: self.mint(choice),
                view: id(50, name),
                version,
                of,
                share: f64::from(choice % 100) / 100.0,
                from: Timestamp(i64::from(choice)),
                until: Timestamp(i64::from(choice) + 7),
                passed: u64::from(choice),
                rows: u64::from(choice / 10),
                profile: object(format!("profiles/sample-{choice}.json")),
                judged: feature::quality::Judged {
                    verdict: feature::quality::Verdict::Pass,
                    baseline_batches: u64::from(choice % 7),
                    baseline_rows: 0,
                    checks: 3,
                    drift: None,
                    age_hours: None,
                    findings: Vec::new(),
                },
            }
            .into(),
        )
    }

    /// What a producer commits next; seldom of another epoch.
    fn run(&mut self, view: feature::ViewId, producer: u64, number: u64) -> PartRun {
        let last = self.producers.entry((view, producer)).or_insert((1, 0));
        *last = if number.is_multiple_of(7) { (last.0 + 1 + number % 3, 0) } else { *last };
        let (epoch, first) = (last.0, last.1 + 1);
        last.1 += 1 + number % 5;
        let part = |place: u64| StreamPart {
            digest: text_digest(&format!("part {epoch} {place}")),
            rows: place,
            rejected: number % 3,
        };
        let parts: Vec<StreamPart> = (first..=last.1).map(part).collect();
        PartRun {
            producer: format!("producer {producer}"),
            epoch,
            first,
            last: last.1,
            rows: parts.iter().map(|part| part.rows).sum(),
            rejected: parts.iter().map(|part| part.rejected).sum(),
            digest: parts[parts.len() - 1].digest,
            parts,
        }
    }

    /// An entity that is gone from a view. No path goes twice.
    fn erasure(&mut self, choice: u32) -> Option<Record> {
        let name = pick(&self.views, choice)?.name;
        let now = self.entries.len() as u64;
        self.erased.insert(name, Sequence(now));
        self.erasures += 1;
        let path = |what: &str, number: u32| format!("{what}/{number}-of-{}.parquet", self.erasures);
        let of = match pick(&self.written, choice) {
            Some((_, _, version, batch)) if choice.is_multiple_of(3) => {
                let digest = text_digest(&format!("left {choice}"));
                Replacement::Manifest { batch, version, rows: u64::from(choice), digest }
            }
            _ => Replacement::Reads { reads: u64::from(choice) },
        };
        let replaced = Replaced { before: path("before", 1), after: object(path("after", 1)), of };
        let set = pick(&self.sets, choice).map(|training_set| ErasedSet {
            training_set,
            rows: u64::from(choice),
            blocks: vec![0, u64::from(choice)],
            digest: choice.is_multiple_of(2).then(|| format!("lmt1:{choice}")),
        });
        let (gone, secret) = (path("data", 2), object(path("bodies", 3)));
        let record = Erased {
            erasure: self.mint(choice),
            entity: id(51, 0),
            views: vec![id(50, name)],
            keys: vec![text_digest(&format!("key {choice}"))],
            secret,
            reason: format!("asked for {choice}"),
            request: choice.is_multiple_of(5).then(|| format!("case {choice}")),
            seen: Sequence(now - 1),
            rows: u64::from(choice),
            replaced: if choice.is_multiple_of(4) { Vec::new() } else { vec![replaced] },
            gone: if choice.is_multiple_of(7) { Vec::new() } else { vec![gone] },
            sets: set.into_iter().collect(),
        };
        Some(record.into())
    }

    /// What is swept, how long things are kept, what is held, and who may see it.
    fn rule(&mut self, choice: u32) -> Option<Record> {
        let (day, week) = ("1d".parse().unwrap(), "7d".parse().unwrap());
        Some(match choice % 8 {
            // Nothing is begun before this.
            0 => Swept { before: id(0, 1), compacted: None, grace: week, found: Vec::new() }.into(),
            1 => RetentionSet { grace: week, longest_read: day }.into(),
            2 => {
                let of = feature::Id::uuid(pick(&self.batches, choice)?);
                let hold = self.mint(choice);
                self.holds.push(hold);
                HoldPlaced { hold, kind: HeldKind::Batch, id: of, reason: format!("looked at {choice}") }
                    .into()
            }
            3 => HoldLifted { hold: self.holds.pop()?, reason: format!("over {choice}") }.into(),
            4 => {
                let name = pick(&self.views, choice)?.name;
                let before = self.expired.entry(name).or_default();
                *before += 1 + i64::from(choice);
                RowsExpired { view: id(50, name), before: Timestamp(*before), keep: week }.into()
            }
            5 => {
                let (name, _, _, batch) = pick(&self.written, choice)?;
                let before = Timestamp(*self.expired.get(&name)?);
                self.deleted = true;
                RowsDeleted { view: id(50, name), before, batches: vec![batch] }.into()
            }
            6 => self.erasure(choice)?,
            _ => {
                self.policies += 1;
                let text = format!("// {choice}\npermit(principal, action, resource);\n");
                let file = feature::policy::PolicyFile { name: "base.cedar".to_owned(), text };
                PoliciesApplied {
                    number: self.policies,
                    digest: text_digest(&format!("policies {choice}")),
                    files: if choice.is_multiple_of(3) { Vec::new() } else { vec![file] },
                    key: object("policies/secret.key".to_owned()),
                    reason: choice.is_multiple_of(2).then(|| format!("because of {choice}")),
                }
                .into()
            }
        })
    }

    /// What will go, its next step, or that it stays.
    fn deprecation(&mut self, choice: u32) -> Option<Record> {
        if choice.is_multiple_of(3) && !self.deprecated.is_empty() {
            let place = choice as usize / 3 % self.deprecated.len();
            let (deprecation, _, taken) = self.deprecated[place];
            if taken == 2 || choice.is_multiple_of(2) {
                // Nothing else is deprecated by an entry that ends a deprecation.
                let ended = self.deprecated.remove(place);
                self.revoked.push((ended.1, self.entries.len()));
                return Some(
                    DeprecationRevoked { deprecation, reason: format!("because of {choice}") }.into(),
                );
            }
            self.deprecated[place].2 += 1;
            let step = if taken == 0 { DeprecationStep::Closed } else { DeprecationStep::Withdrawn };
            let despite = choice.is_multiple_of(5).then(|| format!("all the same {choice}"));
            return Some(DeprecationAdvanced { deprecation, step, despite }.into());
        }
        let (name, version) = self.some_version(choice)?;
        let of = match choice % 2 {
            0 => Deprecable { kind: DeprecatedKind::Version, id: feature::Id::uuid(version) },
            _ => {
                let view: feature::ViewId = id(50, name);
                Deprecable { kind: DeprecatedKind::FeatureView, id: feature::Id::uuid(view) }
            }
        };
        let now = self.entries.len();
        if self.deprecated.iter().any(|(_, known, _)| *known == of) || self.revoked.contains(&(of, now)) {
            return None;
        }
        let deprecation = self.mint(choice);
        self.deprecated.push((deprecation, of, 0));
        Some(
            Deprecated {
                deprecation,
                of,
                reason: format!("because of {choice}"),
                closed_at: Timestamp(i64::from(choice)),
                withdrawn_at: choice.is_multiple_of(5).then_some(Timestamp(i64::from(choice) + 1)),
                instead: choice.is_multiple_of(4).then_some(of),
                roles: (0..choice % 3).map(|role| format!("role {role}")).collect(),
                claims: Default::default(),
            }
            .into(),
        )
    }

    /// What is said of a plan, at most once by an entry, or that it was applied.
    fn change(&mut self, choice: u32) -> Option<Record> {
        let (now, number) = (self.entries.len(), choice % 3);
        let (plan, reason) = (text_digest(&format!("plan {number}")), format!("because of {choice}"));
        let changes = vec![PlannedChange {
            subject: Subject::FeatureView,
            project: "default".parse().unwrap(),
            name: "view_0".parse().unwrap(),
            number: choice,
            effect: feature::evolution::Effect::Breaking,
            differences: vec![format!("other {choice}")],
        }];
        let last = self.proposed.get(&number).copied();
        if last == Some(now) {
            return None;
        }
        if choice.is_multiple_of(5) {
            let applied = self.applied.replace(now);
            let approved_by = (0..choice % 2).map(|who| format!("person {who}")).collect();
            return (applied != Some(now)).then(|| PlanApplied { plan, reason, changes, approved_by }.into());
        }
        self.proposed.insert(number, now);
        Some(match (last, choice % 4) {
            (None, _) | (_, 0) => PlanProposed { plan, reason, changes }.into(),
            (_, 1) => PlanDeclined { plan, reason }.into(),
            _ => PlanApproved { plan, reason, roles: vec!["owner".to_owned()], claims: Default::default() }
                .into(),
        })
    }

    /// Alerts that are raised, or a step on the way of one.
    fn alert(&mut self, choice: u32) -> Option<Record> {
        let sinks = ["log".to_owned(), format!("sink_{}", choice % 3)];
        if choice.is_multiple_of(3) || self.alerts.is_empty() {
            let alert = self.mint(choice);
            self.alerts.push(alert);
            let raised = RaisedAlert {
                alert,
                rule: format!("rule_{}", choice % 4),
                condition: "check".to_owned(),
                causes: vec![format!("check:{alert}")],
                about: choice.is_multiple_of(2).then_some(Sequence(0)),
                version: None,
                summary: format!("something is wrong with {choice}"),
                details: choice.is_multiple_of(5).then(|| serde_json::json!({ "rows": choice })),
                sinks: sinks.to_vec(),
            };
            let through = Sequence(self.entries.len() as u64 - 1);
            let alerts = if choice.is_multiple_of(7) { Vec::new() } else { vec![raised] };
            if alerts.is_empty() {
                self.alerts.pop();
            }
            return Some(
                AlertsRaised { rules: vec![format!("rule_{}", choice % 4)], through, alerts }.into(),
            );
        }
        let later = |seconds: u32| Timestamp(i64::from(seconds) * 1_000_000);
        let outcome = [DeliveryOutcome::Delivered, DeliveryOutcome::Failed, DeliveryOutcome::Dropped];
        let outcome = pick(&outcome, choice)?;
        let failed = outcome == DeliveryOutcome::Failed;
        let ended = DeliveryEnded {
            alert: pick(&self.alerts, choice / 3)?,
            outcome,
            why: failed.then(|| format!("it answered {choice}")),
            again_at: failed.then(|| later(choice)),
            of_alert: choice.is_multiple_of(2),
        };
        let begun = DeliveryBegun { alert: pick(&self.alerts, choice / 5)?, until: later(choice) };
        let step = AlertDelivery {
            sink: pick(&sinks, choice)?,
            sender: id(60, choice as usize % 2),
            ended: (!choice.is_multiple_of(5)).then_some(ended),
            sending: (choice % 7 < 4).then_some(begun),
        };
        Some(step.into())
    }

    /// A batch that is kept back, or what becomes of one.
    fn quarantine(&mut self, choice: u32) -> Option<Record> {
        if choice.is_multiple_of(2) || self.held.is_empty() {
            let Record::BatchCommitted(batch) = self.batch(choice)? else { return None };
            self.batches.pop();
            self.held.push(self.written.pop()?);
            return Some(BatchQuarantined { batch }.into());
        }
        let held = self.held.remove(choice as usize / 2 % self.held.len());
        let (batch, reason) = (held.3, format!("looked at {choice}"));
        if choice % 4 == 1 {
            return Some(BatchDropped { batch, reason }.into());
        }
        self.batches.push(batch);
        self.written.push(held);
        Some(BatchReleased { batch, reason }.into())
    }

    /// All neighbours of a batch that are of its version.
    fn compaction(&mut self, choice: u32) -> Option<Record> {
        let (name, line, _, _) = *self.written.get(choice as usize % self.written.len().max(1))?;
        let of_line: Vec<_> = self.written.iter().filter(|written| written.1 == line).copied().collect();
        let at = choice as usize / 7 % of_line.len();
        let version = of_line[at].2;
        let from =
            of_line[..at].iter().rposition(|written| written.2 != version).map_or(0, |place| place + 1);
        let until = of_line[at..].iter().position(|written| written.2 != version);
        let until = until.map_or(of_line.len(), |place| at + place);
        let mut replaced: Vec<_> = self
            .compacted
            .extract_if(.., |one| one.1 == line && one.2.start < until && from < one.2.end)
            .collect();
        replaced.sort_by_key(|one| one.2.start);
        let compaction = self.mint(choice);
        self.compacted.push((name, line, from..until, compaction));
        let now = Sequence(self.entries.len() as u64);
        let after = self.last_compaction.insert(name, now);
        let body = Compacted {
            compaction,
            view: id(50, name),
            version,
            first: of_line[from].3,
            last: of_line[until - 1].3,
            batches: (until - from) as u64,
            place: from as u64,
            replaces: replaced.into_iter().map(|one| one.3).collect(),
            after,
            erased: self.erased.get(&name).copied(),
            rows: u64::from(choice),
            manifest: object(format!("manifests/compacted-{choice}.parquet")),
        };
        Some(body.into())
    }

    /// No entry speaks of a spine twice.
    fn spine(&mut self, choice: u32) -> Option<Record> {
        let entry = self.entries.len();
        if choice % 4 < 2 {
            let digest = format!("lmt1:{}", choice / 4 % 3);
            if self.put_up.iter().any(|one| one.last == entry && one.record.digest == digest) {
                return None;
            }
            let mut kept = self.put_up.iter_mut().filter(|one| !one.dropped);
            if let Some(again) = kept.find(|one| one.record.digest == digest) {
                again.last = entry;
                return Some(again.record.clone().into());
            }
            let spine = self.mint(choice);
            let object = object(format!("spines/{spine}.parquet"));
            let record = SpineKept { spine, digest, rows: u64::from(choice), object };
            self.put_up.push(PutUp { record: record.clone(), used: false, dropped: false, last: entry });
            return Some(record.into());
        }
        let training_set = pick(&self.sets, choice);
        let drops = choice % 4 == 2;
        let mut able = self.put_up.iter_mut().filter(|one| one.last != entry && !one.dropped);
        let found = able.find(|one| !(drops && one.used))?;
        let spine = found.record.spine;
        if drops {
            (found.dropped, found.last) = (true, entry);
            return Some(SpinesDropped { spines: vec![spine] }.into());
        }
        let training_set = training_set?;
        (found.used, found.last) = (true, entry);
        Some(SpineUsed { spine, training_set }.into())
    }

    fn set(&mut self, choice: u32) -> Record {
        let training_set = self.mint(choice);
        self.sets.push(training_set);
        let selected = |place: u32| {
            let (_, version) = self.some_version(choice.wrapping_add(place))?;
            let hits = self.batches.iter().take((choice % 3) as usize);
            Some(Selected {
                version,
                features: vec!["a".to_owned(); (choice as usize / 2 + place as usize) % 3],
                hits: hits.map(|batch| BatchHit { batch: *batch, rows: u64::from(choice) }).collect(),
            })
        };
        let said = !choice.is_multiple_of(4);
        let recorded = TrainingSetRecorded {
            training_set,
            // None is made of rows that are gone.
            sequence: Sequence(if self.deleted { self.entries.len() as u64 } else { u64::from(choice % 2) }),
            rows: u64::from(choice),
            columns: choice,
            digest: format!("lmt1:{choice}"),
            manifest: object(format!("training_sets/{choice}/manifest.json")),
            name: choice.is_multiple_of(5).then(|| format!("set \"{choice}\" – ü")),
            selected: said.then(|| (0..choice % 3).filter_map(selected).collect()),
        };
        recorded.into()
    }

    /// None where nothing is there that such a record could be about.
    fn record(&mut self, (kind, choice): Choice) -> Option<Record> {
        let seen_at = Timestamp(i64::from(choice));
        let record: Record = match kind {
            0 => {
                let (entity, _) = definitions();
                let number = self.entity.as_ref().map_or(0, |(_, _, number)| *number) + 1;
                let version = self.mint(choice);
                self.entity = Some((entity.clone(), version, number));
                EntityDefined {
                    entity: id(51, 0),
                    version,
                    number,
                    digest: canonical::digest(&entity),
                    definition: Definition::Entity(entity).to_json(),
                }
                .into()
            }
            1 | 2 => self.define_view(choice)?,
            3 => {
                self.services += 1;
                let version = self.mint(choice);
                self.service = Some(version);
                let json = serde_json::json!({
                    "kind": "feature_service", "project": "default", "name": "service", "features": ["view_0.a"],
                });
                ServiceDefined {
                    service: id(52, 0),
                    version,
                    number: self.services,
                    digest: format!("service {choice}"),
                    definition: json,
                }
                .into()
            }
            4 => {
                let (name, version) = self.some_version(choice)?;
                let definition = self.view(name, choice, true);
                Described { subject: Subject::FeatureView, version, definition }.into()
            }
            5 => {
                let (mut entity, version, _) = self.entity.clone()?;
                entity.about.description = Some(format!("described {choice}"));
                let definition = Definition::Entity(entity).to_json();
                Described { subject: Subject::Entity, version, definition }.into()
            }
            6..=9 => self.batch(choice)?,
            27 => self.quarantine(choice)?,
            28 => self.rule(choice)?,
            29 => self.sample(choice)?,
            30 => self.spine(choice)?,
            31 => self.deprecation(choice)?,
            32 => self.change(choice)?,
            33 => self.alert(choice)?,
            10 => {
                let (name, version) = self.some_version(choice)?;
                let source = SourceFile { digest: text_digest(&format!("refused {choice}")), bytes: 7 };
                BatchRefused {
                    batch: self.mint(choice),
                    view: id(50, name),
                    version,
                    rows: 10,
                    rejected: 9,
                    quarantine: object(format!("quarantine/{choice}/rejected.parquet")),
                    sources: choice.is_multiple_of(2).then_some(source).into_iter().collect(),
                    body: None,
                }
                .into()
            }
            11 | 12 => self.set(choice),
            13 => ReadsRecorded { reads: 3, object: object(format!("reads/{choice}.parquet")) }.into(),
            14 => {
                let training_set = pick(&self.sets, choice)?;
                let digest = format!("lmt1:{choice}");
                Verified { training_set, verdict: Verdict::Equal, digest, at: seen_at }.into()
            }
            15 => match choice % 4 {
                0 => {
                    let (id, record) = self.link(Kind::Experiment, choice);
                    self.experiments.push(id);
                    record
                }
                1 => {
                    let (id, record) = self.link(Kind::Run, choice);
                    self.runs.push(id);
                    record
                }
                2 => {
                    let (id, record) = self.link(Kind::Model, choice);
                    self.models.push(id);
                    record
                }
                _ => {
                    let (id, record) = self.link(Kind::ModelVersion, choice);
                    self.versions.push(id);
                    record
                }
            },
            16 => {
                let (authority, alias) =
                    ("http://tracking:0".to_owned(), format!("http://other:{}", choice % 3));
                AuthorityAliased { authority, alias }.into()
            }
            17 => ExperimentObserved {
                experiment: pick(&self.experiments, choice)?,
                name: choice.is_multiple_of(2).then(|| format!("experiment {choice}")),
                hypothesis: None,
                owner: None,
                lifecycle: Some(Lifecycle::Active),
                seen_at,
                body: None,
            }
            .into(),
            18 => RunObserved {
                run: pick(&self.runs, choice)?,
                experiment: pick(&self.experiments, choice),
                parent: pick(&self.runs, choice / 2),
                name: Some(format!("run {choice}")),
                status: None,
                started_at: Some(seen_at),
                ended_at: None,
                lifecycle: None,
                seen_at,
                body: choice.is_multiple_of(2).then(|| object(format!("bodies/run-{choice}.json"))),
            }
            .into(),
            19 => {
                let (model, name) = (pick(&self.models, choice)?, format!("model {}", choice % 5));
                ModelObserved { model, name, lifecycle: None, seen_at }.into()
            }
            20 => ModelVersionObserved {
                model_version: pick(&self.versions, choice)?,
                model: pick(&self.models, choice)?,
                version: format!("{choice}"),
                run: pick(&self.runs, choice),
                created_at: None,
                status: None,
                lifecycle: None,
                seen_at,
                body: None,
            }
            .into(),
            21 => AliasObserved {
                model: pick(&self.models, choice)?,
                alias: "champion".to_owned(),
                model_version: pick(&self.versions, choice),
                seen_at,
                previous_seen_at: None,
            }
            .into(),
            22 => {
                let known = pick(&self.deployments, choice).filter(|_| choice.is_multiple_of(2));
                let deployment = known.unwrap_or_else(|| self.mint(choice));
                self.deployments.push(deployment);
                DeploymentChanged {
                    deployment,
                    name: format!("place {}", choice % 2),
                    environment: "production".to_owned(),
                    model_version: pick(&self.versions, choice),
                    service: None,
                    endpoint: None,
                    from: seen_at,
                    evidence: Evidence::Declared,
                }
                .into()
            }
            24 | 25 => {
                let of = match kind {
                    24 => Withdrawable::Batch(pick(&self.batches, choice)?),
                    _ => Withdrawable::Version(self.some_version(choice)?.1),
                };
                let entry = self.entries.len();
                let (withdrawn, last) = self.moved.get(&of).copied().unwrap_or_default();
                // Nothing is moved twice by one entry.
                if last == entry {
                    return None;
                }
                self.moved.insert(of, (!withdrawn, entry));
                of.record(!withdrawn, format!("because of {choice}"))
            }
            26 => self.compaction(choice)?,
            _ => match choice % 3 {
                0 => UseRecorded {
                    training_set: pick(&self.sets, choice)?,
                    run: pick(&self.runs, choice)?,
                    role: Role::Train,
                    how: How::Thread,
                }
                .into(),
                1 => DeploymentMeasured {
                    deployment: pick(&self.deployments, choice)?,
                    model_version: None,
                    from: Timestamp(0),
                    until: seen_at,
                    body: object(format!("bodies/measured-{choice}.json")),
                }
                .into(),
                _ => {
                    let (system, authority) = ("mlflow".to_owned(), "http://tracking:0".to_owned());
                    Reconciled { system, authority, seen_at, found: 3, gone: 1 }.into()
                }
            },
        };
        Some(record)
    }
}
