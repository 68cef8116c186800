//! Random logs of batches, training sets, runs, models and deployments, without a store.

use std::collections::{BTreeMap, BTreeSet};

use catalog::State;
use catalog::records::{
    BatchCommitted, BatchHit, DeploymentChanged, Derivation, EntityDefined, Evidence, ExternalLinked, How,
    Kind, KnownAtSource, ModelObserved, ModelVersionObserved, Object, Parent, Record, Role, Selected,
    SourceFile, StoreCreated, TrainingSetRecorded, UseRecorded, ViewVersionDefined,
};
use catalog::state::{Applied, Provenance};
use feature::definition::{Definition, parse_files};
use feature::digest::{Digest, HashAlgorithm, hash};
use feature::{Id, RunId, Sequence, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::stores::files;

pub const FEATURES: [&str; 3] = ["a", "b", "c"];
pub const PEOPLE: [&str; 2] = ["ada", "bob"];

/// A batch: the view that it belongs to, its source file, who wrote it, and for which run.
#[derive(Clone, Debug)]
pub struct Batch {
    pub view: usize,
    pub source: usize,
    pub person: usize,
    pub run: Option<usize>,
    /// Earlier batches that its rows were made of, if its view is derived.
    pub made_of: Vec<usize>,
    /// Whether it says which feature bears on which.
    pub traced: bool,
}

/// What a training set took of a view: which features, and how many rows each batch of the view answered.
#[derive(Clone, Debug)]
pub struct Taken {
    pub view: usize,
    pub features: Vec<usize>,
    /// By the place of the batch among all; batches of other views answer nothing.
    pub hits: Vec<(usize, u64)>,
}

#[derive(Clone, Debug)]
pub struct History {
    pub views: usize,
    /// By view, if it is derived: which feature of what it is made of bears on which of its own, or on its rows.
    pub bears_on: Vec<Vec<(usize, Option<usize>)>>,
    pub runs: usize,
    pub batches: Vec<Batch>,
    pub sets: Vec<Vec<Taken>>,
    pub uses: Vec<(usize, usize, Role)>,
    /// The run that made each model version.
    pub models: Vec<Option<usize>>,
    /// What each deployment served, one after the other.
    pub deployments: Vec<Vec<Option<usize>>>,
}

pub fn history() -> impl Strategy<Value = History> {
    (1..4usize, 1..5usize, 1..5usize).prop_flat_map(|(views, runs, models)| {
        let made_of = prop_oneof![1 => Just(Vec::new()), 2 => vec(0..8usize, 1..4)];
        let batch = (0..views, 0..4usize, 0..PEOPLE.len(), prop::option::of(0..runs), made_of, any::<bool>());
        let batch = batch.prop_map(|(view, source, person, run, made_of, traced)| Batch {
            view,
            source,
            person,
            run,
            made_of,
            traced,
        });
        let bears_on = vec((0..FEATURES.len(), prop::option::weighted(0.8, 0..FEATURES.len())), 0..5);
        let taken =
            (0..views, prop::sample::subsequence(vec![0, 1, 2], 1..=3), vec((0..8usize, 1..100u64), 0..6));
        let taken = taken.prop_map(|(view, features, hits)| Taken { view, features, hits });
        let role =
            prop::sample::select(vec![Role::Train, Role::Validate, Role::Test, Role::Score, Role::Unknown]);
        (
            vec(bears_on, views),
            vec(batch, 1..9),
            vec(vec(taken, 1..4), 1..6),
            vec((0..6usize, 0..runs, role), 0..8),
            vec(prop::option::weighted(0.8, 0..runs), models),
            vec(vec(prop::option::weighted(0.7, 0..models), 1..4), 0..4),
        )
            .prop_map(move |(bears_on, batches, sets, uses, models, deployments)| {
                History { views, bears_on, runs, batches, sets, uses, models, deployments }.tidy()
            })
    })
}

pub fn id<I: From<uuid::Uuid>>(kind: u128, number: usize) -> I {
    I::from(uuid::Uuid::from_u128(0x0189_0a5d_ac96_774b_bcce_0000_0000_0000 + (kind << 40) + number as u128))
}

pub const VERSION: u128 = 1;
pub const BATCH: u128 = 2;
pub const SET: u128 = 3;
pub const RUN: u128 = 4;
pub const MODEL_VERSION: u128 = 5;
pub const DEPLOYMENT: u128 = 6;
const MODEL: u128 = 7;

pub fn source(number: usize) -> Digest {
    hash(HashAlgorithm::Blake3, format!("source {number}").as_bytes())
}

fn object(path: String) -> Object {
    Object { digest: hash(HashAlgorithm::Blake3, path.as_bytes()), bytes: 1, path }
}

impl History {
    /// Each set takes a view once, and each batch answers it once; only what exists is referred to.
    fn tidy(mut self) -> Self {
        let views: Vec<usize> = self.batches.iter().map(|batch| batch.view).collect();
        for (number, batch) in self.batches.iter_mut().enumerate() {
            // Views are made of those before them.
            batch.made_of.retain(|of| *of < number && views[*of] < batch.view);
            batch.made_of.sort_unstable();
            batch.made_of.dedup();
        }
        for set in &mut self.sets {
            let mut seen = Vec::new();
            set.retain(|taken| {
                let new = !seen.contains(&taken.view);
                seen.push(taken.view);
                new
            });
            for taken in set {
                let mut seen = Vec::new();
                taken.hits.retain(|(batch, _)| {
                    let of_view = self.batches.get(*batch).is_some_and(|batch| batch.view == taken.view);
                    let new = !seen.contains(batch);
                    seen.push(*batch);
                    of_view && new
                });
            }
        }
        let sets = self.sets.len();
        self.uses.retain(|(set, ..)| *set < sets);
        // A deployment begins with a model.
        self.deployments.retain(|changes| changes[0].is_some());
        self
    }

    /// The state that the log of it folds into.
    pub fn state(&self) -> State {
        let mut log = Log::default();
        log.append(
            "ada",
            None,
            vec![
                StoreCreated {
                    store: id(0, 0),
                    hash: HashAlgorithm::Blake3,
                    format: 1,
                    put_if_absent_proved: true,
                }
                .into(),
            ],
        );
        log.append("ada", None, self.definitions());
        let link = |number| ExternalLinked {
            id: id::<RunId>(RUN, number).uuid(),
            kind: Kind::Run,
            system: "lineament".to_owned(),
            authority: String::new(),
            external_id: format!("run-{number}"),
            how: How::Explicit,
        };
        log.append("ada", None, (0..self.runs).map(|run| link(run).into()).collect());
        for (number, batch) in self.batches.iter().enumerate() {
            let record = BatchCommitted {
                batch: id(BATCH, number),
                view: id(9, batch.view),
                version: id(VERSION, batch.view),
                rows: 100,
                rejected: 0,
                known_at: KnownAtSource::Column,
                manifest: object(format!("manifests/{number}.parquet")),
                digest: source(number),
                quarantine: None,
                sources: vec![SourceFile { digest: source(batch.source), bytes: 1 }],
                body: None,
                derivation: self.derivation(batch),
                profile: None,
                judged: None,
            };
            log.append(PEOPLE[batch.person], batch.run, vec![record.into()]);
        }
        for (number, taken) in self.sets.iter().enumerate() {
            log.append("ada", None, vec![self.set(number, taken).into()]);
        }
        for (set, run, role) in &self.uses {
            let used = UseRecorded {
                training_set: id(SET, *set),
                run: id(RUN, *run),
                role: *role,
                how: How::Explicit,
            };
            log.append("ada", None, vec![used.into()]);
        }
        log.append("ada", None, self.models());
        for step in 0..self.deployments.iter().map(Vec::len).max().unwrap_or(0) {
            for (number, changes) in self.deployments.iter().enumerate() {
                let Some(serves) = changes.get(step) else { continue };
                let change = DeploymentChanged {
                    deployment: id(DEPLOYMENT, number),
                    name: format!("place-{number}"),
                    environment: "production".to_owned(),
                    model_version: serves.map(|model| id(MODEL_VERSION, model)),
                    service: None,
                    endpoint: None,
                    from: Timestamp(step as i64),
                    evidence: Evidence::Declared,
                };
                log.append("ada", None, vec![change.into()]);
            }
        }
        log.state.unwrap()
    }

    /// A derived view reads of each view that it is made of the features that bear on something, and the first.
    fn derivation(&self, batch: &Batch) -> Option<Derivation> {
        if batch.made_of.is_empty() {
            return None;
        }
        let pairs = &self.bears_on[batch.view];
        let read: BTreeSet<usize> = pairs.iter().map(|(from, _)| *from).chain([0]).collect();
        let name = |feature: usize| FEATURES[feature].to_owned();
        let bears_on = || {
            let mut bears_on: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (from, to) in pairs {
                let to = to.map_or_else(|| Parent::ROWS.to_owned(), name);
                bears_on.entry(name(*from)).or_default().push(to);
            }
            bears_on
        };
        let of_view = |view: usize| Parent {
            version: id(VERSION, view),
            features: read.iter().copied().map(name).collect(),
            bears_on: batch.traced.then(bears_on),
            batches: batch
                .made_of
                .iter()
                .filter(|of| self.batches[**of].view == view)
                .map(|of| id(BATCH, *of))
                .collect(),
        };
        let parents = (0..self.views).map(of_view).filter(|parent| !parent.batches.is_empty()).collect();
        Some(Derivation { sequence: Sequence(1), since: None, row_preserving: false, parents })
    }

    fn definitions(&self) -> Vec<Record> {
        let entity = "kind = \"entity\"\nname = \"thing\"\n[[keys]]\nname = \"k\"\ntype = \"int64\"\n";
        let features: String = FEATURES
            .iter()
            .map(|name| format!("[[features]]\nname = \"{name}\"\ntype = \"float64\"\n"))
            .collect();
        let mut texts = vec![("thing.toml".to_owned(), entity.to_owned())];
        for view in 0..self.views {
            let text = format!(
                "kind = \"feature_view\"\nname = \"view_{view}\"\nentity = \"thing\"\n[time]\nvalid_at = \"t\"\nknown_at = {{ delay = \"1h\" }}\n{features}"
            );
            texts.push((format!("view_{view}.toml"), text));
        }
        let texts: Vec<(&str, &str)> =
            texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let mut definitions = parse_files(files(&texts)).unwrap();
        let entity = definitions.entities[0].definition.clone();
        let mut records = vec![Record::from(EntityDefined {
            entity: id(8, 0),
            version: id(8, 1),
            number: 1,
            digest: "entity".to_owned(),
            definition: Definition::Entity(entity.clone()).to_json(),
        })];
        for (number, view) in definitions.views.iter_mut().enumerate() {
            view.definition.keys = view.definition.resolve_keys(&entity).unwrap();
            let record = ViewVersionDefined {
                view: id(9, number),
                version: id(VERSION, number),
                number: 1,
                line: id(VERSION, number),
                entity: id(8, 0),
                entity_version: id(8, 1),
                digest: format!("view {number}"),
                definition: Definition::FeatureView(view.definition.clone()).to_json(),
            };
            records.push(record.into());
        }
        records
    }

    fn set(&self, number: usize, taken: &[Taken]) -> TrainingSetRecorded {
        let selected = |taken: &Taken| Selected {
            version: id(VERSION, taken.view),
            features: taken.features.iter().map(|feature| FEATURES[*feature].to_owned()).collect(),
            hits: taken
                .hits
                .iter()
                .map(|(batch, rows)| BatchHit { batch: id(BATCH, *batch), rows: *rows })
                .collect(),
        };
        TrainingSetRecorded {
            training_set: id(SET, number),
            sequence: Sequence(1),
            rows: 100,
            columns: 3,
            digest: format!("lmt1:{number}"),
            manifest: object(format!("training_sets/{number}/manifest.json")),
            name: None,
            selected: Some(taken.iter().map(selected).collect()),
        }
    }

    fn models(&self) -> Vec<Record> {
        let linked = |uuid, kind, external_id| ExternalLinked {
            id: uuid,
            kind,
            system: "lineament".to_owned(),
            authority: String::new(),
            external_id,
            how: How::Explicit,
        };
        let model: feature::ModelId = id(MODEL, 0);
        let seen_at = Timestamp(0);
        let mut records = vec![
            linked(model.uuid(), Kind::Model, "delay".to_owned()).into(),
            ModelObserved { model, name: "delay".to_owned(), lifecycle: None, seen_at }.into(),
        ];
        for (number, run) in self.models.iter().enumerate() {
            let version: feature::ModelVersionId = id(MODEL_VERSION, number);
            records.push(linked(version.uuid(), Kind::ModelVersion, format!("delay/{number}")).into());
            let seen = ModelVersionObserved {
                model_version: version,
                model,
                version: number.to_string(),
                run: run.map(|run| id(RUN, run)),
                created_at: None,
                status: None,
                lifecycle: None,
                seen_at,
                body: None,
            };
            records.push(seen.into());
        }
        records
    }
}

#[derive(Default)]
struct Log {
    state: Option<State>,
    next: u64,
}

impl Log {
    fn append(&mut self, person: &str, run: Option<usize>, records: Vec<Record>) {
        let entry = Applied {
            by: Provenance {
                sequence: Sequence(self.next),
                committed_at: Timestamp(self.next as i64),
                principal: person.to_owned(),
                program: "suite 1".to_owned(),
                run: run.map(|run| format!("run-{run}")),
                experiment: None,
            },
            digest: source(self.next as usize),
            request: None,
            records: &records,
        };
        match &mut self.state {
            Some(state) => state.apply_entry(&entry).unwrap(),
            None => self.state = Some(State::begin(&entry).unwrap()),
        }
        self.next += 1;
    }
}
