//! The log of a large store: views, batches of them, training sets of five views each, models made of the
//! sets, half of them deployed.

#![allow(clippy::unwrap_used, reason = "it stops at the first fault")]
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use catalog::records::{
    BatchCommitted, BatchHit, DeploymentChanged, EntityDefined, Evidence, ExternalLinked, How, Kind,
    KnownAtSource, ModelObserved, ModelVersionObserved, Object, Record, Role, Selected, SourceFile,
    StoreCreated, TrainingSetRecorded, UseRecorded, ViewVersionDefined,
};
use feature::definition::{Definition, parse_files};
use feature::digest::{Digest, HashAlgorithm, hash};
use feature::{Id, ModelId, ModelVersionId, RunId, Sequence, StoreId, Timestamp};

const VIEWS_OF_A_SET: usize = 5;

const VERSION: u128 = 1;
const BATCH: u128 = 2;
const SET: u128 = 3;
pub const RUN: u128 = 4;
pub const MODEL_VERSION: u128 = 5;
const DEPLOYMENT: u128 = 6;
const VIEW: u128 = 7;
const ENTITY: u128 = 8;

/// How much of each.
#[derive(Clone, Copy)]
pub struct LargeStore {
    pub views: usize,
    pub batches: usize,
    pub batches_of_an_entry: usize,
    pub sets: usize,
    pub models: usize,
}

impl LargeStore {
    /// The records of each entry.
    pub fn entries(self) -> impl Iterator<Item = Vec<Record>> {
        let batches = (0..self.batches).step_by(self.batches_of_an_entry).map(move |first| {
            let until = self.batches.min(first + self.batches_of_an_entry);
            (first..until).map(|number| self.batch(number).into()).collect()
        });
        let runs = move || {
            (0..self.models)
                .map(|run| link(id::<RunId>(RUN, run).uuid(), Kind::Run, format!("run-{run}")))
                .collect()
        };
        let sets = (0..self.sets).map(move |number| {
            let used = UseRecorded {
                training_set: id(SET, number),
                run: id(RUN, number % self.models),
                role: Role::Train,
                how: How::Thread,
            };
            vec![self.set(number).into(), used.into()]
        });
        std::iter::once(vec![created()])
            .chain(std::iter::once_with(move || self.definitions()))
            .chain(batches)
            .chain(std::iter::once_with(runs))
            .chain(sets)
            .chain(std::iter::once_with(move || self.models()))
    }

    fn definitions(self) -> Vec<Record> {
        let entity = "kind = \"entity\"\nname = \"thing\"\n[[keys]]\nname = \"k\"\ntype = \"int64\"\n";
        let view = "kind = \"feature_view\"\nname = \"v\"\nentity = \"thing\"\n[time]\nvalid_at = \"t\"\nknown_at = \"arrival\"\n\
             [[features]]\nname = \"a\"\ntype = \"float64\"\n[[features]]\nname = \"b\"\ntype = \"float64\"\n";
        let files = [("thing.toml", entity), ("v.toml", view)];
        let files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
        let definitions = parse_files(files).unwrap_or_else(|errors| panic!("{errors}"));
        let entity = definitions.entities[0].definition.clone();
        let mut view = definitions.views[0].definition.clone();
        view.keys = view.resolve_keys(&entity).unwrap();
        let mut records = vec![Record::from(EntityDefined {
            entity: id(ENTITY, 0),
            version: id(ENTITY, 1),
            number: 1,
            digest: "entity".to_owned(),
            definition: Definition::Entity(entity).to_json(),
        })];
        for number in 0..self.views {
            view.name = format!("view_{number}").parse().unwrap();
            let defined = ViewVersionDefined {
                view: id(VIEW, number),
                version: id(VERSION, number),
                number: 1,
                line: id(VERSION, number),
                entity: id(ENTITY, 0),
                entity_version: id(ENTITY, 1),
                digest: format!("view {number}"),
                definition: Definition::FeatureView(view.clone()).to_json(),
            };
            records.push(defined.into());
        }
        records
    }

    fn batch(self, number: usize) -> BatchCommitted {
        let manifest = hex(&digest(format!("manifest {number}")));
        BatchCommitted {
            batch: id(BATCH, number),
            view: id(VIEW, number % self.views),
            version: id(VERSION, number % self.views),
            rows: 1_000,
            rejected: 0,
            known_at: KnownAtSource::Arrival,
            // As long as the names of real ones, and as hard to compress.
            manifest: object(format!("manifests/{}.parquet", &manifest[..36])),
            digest: digest(format!("batch {number}")),
            quarantine: None,
            sources: vec![SourceFile { digest: digest(format!("source {}", number / 3)), bytes: 1 }],
            body: None,
            derivation: None,
            profile: None,
            judged: None,
        }
    }

    /// Of five views, and of each the cells of its first ten batches.
    fn set(self, number: usize) -> TrainingSetRecorded {
        let selected = |place: usize| {
            let view = scattered(number * VIEWS_OF_A_SET + place) % self.views;
            let batches = (view..self.batches).step_by(self.views).take(10);
            Selected {
                version: id(VERSION, view),
                features: vec!["a".to_owned(), "b".to_owned()],
                hits: batches.map(|batch| BatchHit { batch: id(BATCH, batch), rows: 100 }).collect(),
            }
        };
        let mut taken: Vec<Selected> = (0..VIEWS_OF_A_SET).map(selected).collect();
        taken.dedup_by_key(|taken| taken.version);
        TrainingSetRecorded {
            training_set: id(SET, number),
            // All batches are there by then.
            sequence: Sequence(1 + self.batches.div_ceil(self.batches_of_an_entry) as u64),
            rows: 1_000,
            columns: 10,
            digest: format!("lmt1:{number}"),
            manifest: object(format!("training_sets/{number}/manifest.json")),
            name: None,
            selected: Some(taken),
        }
    }

    fn models(self) -> Vec<Record> {
        let model: ModelId = id(9, 0);
        let seen_at = Timestamp(0);
        let mut models = vec![
            link(model.uuid(), Kind::Model, "model".to_owned()),
            ModelObserved { model, name: "model".to_owned(), lifecycle: None, seen_at }.into(),
        ];
        for number in 0..self.models {
            let model_version: ModelVersionId = id(MODEL_VERSION, number);
            models.push(link(model_version.uuid(), Kind::ModelVersion, format!("model/{number}")));
            let seen = ModelVersionObserved {
                model_version,
                model,
                version: number.to_string(),
                run: Some(id(RUN, number)),
                created_at: None,
                status: None,
                lifecycle: None,
                seen_at,
                body: None,
            };
            models.push(seen.into());
            if number % 2 == 0 {
                let deployed = DeploymentChanged {
                    deployment: id(DEPLOYMENT, number),
                    name: format!("place-{number}"),
                    environment: "production".to_owned(),
                    model_version: Some(model_version),
                    service: None,
                    endpoint: None,
                    from: seen_at,
                    evidence: Evidence::Declared,
                };
                models.push(deployed.into());
            }
        }
        models
    }
}

pub fn store_id() -> StoreId {
    id(0, 0)
}

fn created() -> Record {
    let (store, hash) = (store_id(), HashAlgorithm::Blake3);
    StoreCreated { store, hash, format: 1, put_if_absent_proved: true }.into()
}

pub fn id<I: From<uuid::Uuid>>(kind: u128, number: usize) -> I {
    I::from(uuid::Uuid::from_u128((kind << 64) + number as u128))
}

pub fn digest(text: String) -> Digest {
    hash(HashAlgorithm::Blake3, text.as_bytes())
}

fn hex(digest: &Digest) -> String {
    digest.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn object(path: String) -> Object {
    Object { digest: digest(path.clone()), bytes: 1, path }
}

/// A number that looks random and is the same each time.
fn scattered(number: usize) -> usize {
    (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31) as usize
}

fn link(id: uuid::Uuid, kind: Kind, external_id: String) -> Record {
    let (system, authority) = ("lineament".to_owned(), String::new());
    ExternalLinked { id, kind, system, authority, external_id, how: How::Explicit }.into()
}
