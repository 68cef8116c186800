//! A small store with a model that serves, and all that led to it.

use std::path::Path;
use std::sync::Arc;

use catalog::Author;
use catalog::ingest::{Claim, Input, Request, Rows};
use catalog::records::{How, Role};
use catalog::registry::{Deployment, Observations, SeenAlias, SeenExperiment, SeenModelVersion, SeenRun};
use feature::TrainingSetId;
use serving::{EvidenceRequest, HistoricalRequest, Serving, SigningKey};

use super::super::fixture;
use super::super::stores::{author, claimed, files, folder, instant, spine};
use super::super::tables::table;

const WEATHER: &str = "
    origin string | time_hour timestamp  | temp float64 | visib float64 | sky string
    EWR           | 2013-01-01T05:00:00Z | 39.02        | 10            | clear
    JFK           | 2013-01-01T05:00:00Z | 37.04        | 10            | clear";

const CORRECTED: &str = "
    origin string | time_hour timestamp  | temp float64 | visib float64 | sky string
    EWR           | 2013-01-01T05:00:00Z | 38           | 9             | rain";

const DEPARTURES: &str = "
    origin string | sched_dep timestamp  | dep timestamp        | dep_delay int32 | carrier string
    EWR           | 2013-01-01T06:10:00Z | 2013-01-01T06:15:00Z | 5               | UA
    JFK           | 2013-01-01T06:00:00Z | 2013-01-01T05:58:00Z | -2              | AA";

pub struct Story {
    pub serving: Serving,
    /// What the model's run trained and tested with.
    pub train: TrainingSetId,
    pub test: TrainingSetId,
    /// Of a run that no model came from.
    pub other: TrainingSetId,
}

fn by(run: &str) -> Author {
    Author { run: Some(run.to_owned()), ..author() }
}

async fn load(serving: &Serving, view: &str, text: &str, run: &str, claim: Option<Claim>) {
    let rows = table(text);
    let rows = Rows::from_batches("station", rows.schema(), vec![rows]);
    let mut request = Request::new(view, Input::Rows(rows));
    if let Some(claim) = claim {
        request = claimed(request, claim);
    }
    let by = Author { steps: vec!["cleaned".to_owned()], ..by(run) };
    serving.ingest(request, &by, Arc::new(|_| ())).await.unwrap();
}

async fn set(serving: &Serving, name: &str, features: &[&str], rows: usize, run: &str) -> TrainingSetId {
    let mut request = HistoricalRequest::new(features.iter().copied());
    request.name = Some(name.to_owned());
    let spine = spine(vec![table(fixture::SPINE).slice(0, rows)]);
    serving.historical(spine, request, &by(run)).await.unwrap().report.training_set.unwrap()
}

/// Two loads and a correction, three training sets, a run with parameters and metrics, two model versions, an alias that moved,
/// a deployment, and a replay.
pub async fn tell(path: &Path) -> Story {
    let clock = fixture::clock();
    let tick = || clock.advance("1h".parse().unwrap());
    let serving = folder(path, &clock).await;
    serving.apply(files(&fixture::DEFINITIONS), &author()).await.unwrap();
    tick();
    load(&serving, "weather", WEATHER, "load-1", None).await;
    load(&serving, "departures", DEPARTURES, "load-1", None).await;
    tick();
    let train = set(&serving, "train", &["weather.temp", "weather.sky", "departures.*"], 8, "train-1").await;
    let test = set(&serving, "test", &["weather.temp"], 3, "train-1").await;
    let other = set(&serving, "other", &["departures.carrier"], 2, "look-1").await;
    serving.record_use(test, "train-1", Role::Test, How::Explicit, &author()).await.unwrap();
    tick();
    load(&serving, "weather", CORRECTED, "load-2", Some(Claim::Correction)).await;
    let version = |version: &str, run: &str| SeenModelVersion {
        model: "delay".to_owned(),
        version: version.to_owned(),
        run: Some(run.to_owned()),
        source_uri: Some("models:/m-1".to_owned()),
        ..SeenModelVersion::default()
    };
    let alias = |version: &str| SeenAlias {
        model: "delay".to_owned(),
        alias: "champion".to_owned(),
        version: Some(format!("delay/{version}")),
    };
    let seen = Observations {
        experiments: vec![SeenExperiment {
            id: "delays".to_owned(),
            hypothesis: Some("weather explains delays".to_owned()),
            ..SeenExperiment::default()
        }],
        runs: vec![SeenRun {
            id: "train-1".to_owned(),
            experiment: Some("delays".to_owned()),
            params: [("depth".to_owned(), "6".to_owned())].into(),
            metrics: [("auc".to_owned(), 0.7)].into(),
            ..SeenRun::default()
        }],
        model_versions: vec![version("1", "train-1"), version("2", "look-2")],
        aliases: vec![alias("2")],
        ..Observations::default()
    };
    serving.observe(seen, &author()).await.unwrap();
    tick();
    let seen = Observations {
        aliases: vec![alias("1")],
        previous_seen_at: Some(instant("2013-02-01T03:00:00Z")),
        ..Observations::default()
    };
    serving.observe(seen, &author()).await.unwrap();
    let deployment = Deployment {
        name: "delay-api".to_owned(),
        model_version: Some("delay/1".to_owned()),
        ..Deployment::default()
    };
    serving.deploy(deployment, &author()).await.unwrap();
    tick();
    serving.replay(train, &author()).await.unwrap();
    Story { serving, train, test, other }
}

pub fn of(subject: &str) -> EvidenceRequest {
    EvidenceRequest { subject: subject.to_owned(), sequence: None }
}

/// Always the same: that of RFC 8410.
pub fn key() -> SigningKey {
    let text = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    SigningKey::from_pem(text).unwrap()
}
