//! Processes that share one store: each has a handle of its own, a clock of its own that jumps, and is killed at any
//! moment.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use catalog::compaction::Eagerness;
use catalog::ingest::stream::Target;
use catalog::ingest::{Claim, Input, Request, Rows};
use catalog::state::producers::{CommittedPart, Place};
use catalog::{Author, Catalog};
use datafusion::common::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use feature::digest::Digest;
use feature::{Horizon, Name, Sequence, Timestamp, TrainingSetId};
use futures::TryStreamExt;
use serving::{
    Bounds, CompactRequest, GivenSpine, HistoricalReport, HistoricalRequest, Kind, Serving, SweepRequest,
};
use storage::environment::TestClock;
use storage::{SplitMix, Store};

use super::faulty_store::{BEGINNER, Connection, Objects};
use super::planted::{Plant, spoiled};
use crate::suite::stores::{files, spine};
use crate::suite::tables::table;

pub const PROCESSES: u64 = 3;
/// Operations of each.
const OPERATIONS: u64 = 5;
/// A keyed request is sent again so often where its outcome is not known.
const REPEATS: u64 = 4;

/// How an operation ended, for who asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Acknowledged. Its entry must be there, where it appends one.
    Done,
    /// Nothing of it happened.
    Failed,
    /// It may have happened, once.
    Unknown,
}

/// One operation, which bears its name as the principal of its entry.
#[derive(Clone, Debug)]
pub struct Operation {
    pub name: String,
    pub appends: bool,
    pub outcome: Outcome,
}

/// What the processes did and saw.
#[derive(Default)]
pub struct History {
    pub operations: Mutex<Vec<Operation>>,
    /// Heads as each life of a process saw them, in its order.
    pub heads: Mutex<Vec<(String, Sequence, Digest)>>,
    pub training_sets: Mutex<Vec<TrainingSetId>>,
    /// Parts that were acknowledged: the operation that sent them, their numbers, and where they were said to be.
    pub parts: Mutex<Vec<(String, u64, CommittedPart)>>,
    /// Where sweeps began.
    pub horizons: Mutex<Vec<Horizon>>,
    /// Handles that were open when all ended.
    pub open: Mutex<Vec<(Serving, Connection)>>,
}

const DEFINITIONS: [(&str, &str); 2] = [
    (
        "airport.toml",
        "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n",
    ),
    (
        "weather.toml",
        "kind = \"feature_view\"\nname = \"weather\"\nentity = \"airport\"\n[time]\nvalid_at = \"time_hour\"\n\
         known_at = { delay = \"30m\" }\n[[features]]\nname = \"temp\"\ntype = \"float64\"\nrange = [-40, 130]\n",
    ),
];

const BEGIN: &str = "2013-02-01T00:00:00Z";

pub fn author(name: &str) -> Author {
    Author { principal: name.to_owned(), program: "simulation 1".to_owned(), ..Author::default() }
}

fn store(connection: &Connection, clock: &TestClock) -> Store {
    Store::over("simulated", Arc::new(connection.clone()), clock.clone().into())
}

/// A clock that is ahead of all others.
pub fn afterwards() -> TestClock {
    TestClock::new("2013-03-01T00:00:00Z".parse::<Timestamp>().unwrap())
}

fn clock() -> TestClock {
    TestClock::new(BEGIN.parse::<Timestamp>().unwrap())
}

/// Makes the store, before anything fails.
pub async fn begin(objects: &Arc<Objects>) {
    let connection = Connection::new(objects.clone(), 0, BEGINNER, 0, 0);
    connection.calm();
    let catalog = Catalog::create(store(&connection, &clock()), &author("begin")).await.unwrap();
    Serving::new(catalog).apply(files(&DEFINITIONS), &author("begin")).await.unwrap();
}

/// One process and all its lives.
pub async fn run(objects: Arc<Objects>, history: Arc<History>, seed: u64, process: u64, rough: u64) {
    let mut chance = SplitMix::new(seed ^ (process + 1) << 32);
    let clock = clock();
    let (mut life, mut number) = (0, 0);
    let mut serving: Option<(Serving, Connection)> = None;
    while number < OPERATIONS {
        let (open, connection) = match serving.take() {
            Some(open) => open,
            None => {
                life += 1;
                let connection = Connection::new(objects.clone(), seed, process, life, rough);
                if life > 40 {
                    connection.calm();
                }
                match Catalog::open(store(&connection, &clock)).await {
                    Ok(catalog) => (Serving::new(catalog), connection),
                    Err(error) => {
                        objects.note(format!("p{process}.{life} cannot open: {error}"));
                        connection.wait(100).await;
                        continue;
                    }
                }
            }
        };
        number += 1;
        jump(&clock, &mut chance);
        let name = format!("p{process} operation {number}");
        let kind = chance.below(13);
        let dies = (chance.below(6) == 0).then(|| chance.below(3_000));
        let work = operation(&objects, &history, &open, &connection, kind, &name, chance.next());
        let outcome = match dies {
            None => Some(work.await),
            Some(after) => {
                tokio::select! {
                    biased;
                    outcome = work => Some(outcome),
                    () = tokio::time::sleep(Duration::from_millis(after)) => None,
                }
            }
        };
        let head = open.catalog().state().head.clone();
        history.heads.lock().unwrap().push((format!("p{process}.{life}"), head.sequence, head.digest));
        // What cleans up, or streams, does it in a name of its own.
        let appends = kind < 8;
        let ended = outcome.clone().unwrap_or(Outcome::Unknown);
        objects.note(format!("p{process}.{life} {name} ({kind}): {ended:?}"));
        history.operations.lock().unwrap().push(Operation { name, appends, outcome: ended });
        if outcome.is_none() {
            connection.kill();
        } else {
            serving = Some((open, connection));
        }
    }
    history.open.lock().unwrap().extend(serving);
}

/// Clocks go forward, seldom back, and seldom by more than others bear.
fn jump(clock: &TestClock, chance: &mut SplitMix) {
    let span = match chance.below(20) {
        0 => "4m",
        1 => "10m",
        2 => "1s",
        _ => "10s",
    };
    match chance.below(12) {
        0 => clock.set(BEGIN.parse().unwrap()),
        _ => clock.advance(span.parse().unwrap()),
    }
}

async fn operation(
    objects: &Arc<Objects>,
    history: &History,
    serving: &Serving,
    connection: &Connection,
    kind: u64,
    name: &str,
    bits: u64,
) -> Outcome {
    let author = author(name);
    match kind {
        // Some key is there always, and some batch replaces what another brought.
        0..=5 => {
            let claim = if kind.is_multiple_of(2) { Claim::BackFill } else { Claim::Correction };
            let mut request = rows(bits, claim);
            let keyed = kind < 4;
            let mut outcome = Outcome::Failed;
            for repeat in 0..REPEATS {
                let ignored = objects.plant == Some(Plant::KeyIgnored);
                request.key =
                    keyed.then(|| if ignored { format!("{name}, {repeat}") } else { name.to_owned() });
                let done = serving.ingest(request.clone(), &author, Arc::new(|_| ())).await.map(drop);
                outcome = tell(objects, name, outcome, done);
                // Without a key a repeat would be another request.
                if outcome == Outcome::Done || !keyed {
                    break;
                }
                connection.wait(200).await;
            }
            // The acknowledgement got lost behind this process, and who waits for it asks again.
            if keyed && outcome == Outcome::Done && bits.is_multiple_of(3) {
                if objects.plant == Some(Plant::KeyIgnored) {
                    request.key = Some(format!("{name}, again"));
                }
                let again = serving.ingest(request, &author, Arc::new(|_| ())).await.map(drop);
                tell(objects, name, Outcome::Done, again);
            }
            outcome
        }
        6 => {
            let text = format!(
                "kind = \"feature_view\"\nname = \"view_{}\"\nentity = \"airport\"\n[time]\nvalid_at = \"time\"\n\
                 known_at = \"arrival\"\n[[features]]\nname = \"value\"\ntype = \"int64\"\n",
                name.replace(' ', "_")
            );
            let done = serving.apply(files(&[("view.toml", &text)]), &author).await.map(drop);
            tell(objects, name, Outcome::Failed, done)
        }
        7 => {
            let asked = "
                origin string | at timestamp
                EWR           | 2013-02-01T00:00:00Z
                JFK           | 2013-02-01T00:00:00Z
                LGA           | 2013-01-10T00:00:00Z";
            let asked = spine(vec![table(asked)]);
            let mut request = HistoricalRequest::new(["weather.temp"]);
            let made = if bits.is_multiple_of(4) {
                serving.historical(asked, request, &author).await.map(|made| made.report)
            } else if bits.is_multiple_of(2) {
                // A spine that comes as a stream is uploaded in parts, of which a small one has one.
                let batches = asked.batches.into_iter().map(Ok::<_, DataFusionError>);
                let rows = RecordBatchStreamAdapter::new(asked.schema, futures::stream::iter(batches));
                streamed(serving, Some(GivenSpine::Streamed(Box::pin(rows))), request, &author).await
            } else {
                // Every process puts up the same rows, which somebody sweeps meanwhile; by a name of its own, since it leaves an entry too.
                let putting_up = self::author(&format!("{name}, putting up"));
                let kept = match serving.ingest_spine(asked, &putting_up).await {
                    Ok(kept) => kept,
                    Err(error) => {
                        // What is not known is whether the spine is kept; of the set there is nothing.
                        tell(objects, name, Outcome::Failed, Err(error));
                        return Outcome::Failed;
                    }
                };
                request.spine = Some(kept.spine);
                streamed(serving, None, request, &author).await
            };
            if let Ok(made) = &made {
                history.training_sets.lock().unwrap().extend(made.training_set);
            }
            tell(objects, name, Outcome::Failed, made.map(drop))
        }
        8 => {
            let _ = serving.catalog().checkpoint().await;
            Outcome::Done
        }
        9 => {
            let author = self::author(&format!("{name}, merging"));
            let request = CompactRequest { eagerness: Eagerness::Everything, ..CompactRequest::all(None) };
            tell(objects, name, Outcome::Failed, serving.compact(&request, &author).await.map(drop))
        }
        10 => {
            let author = self::author(&format!("{name}, sweeping"));
            let swept = sweep(objects, history, serving, bits, &author).await;
            tell(objects, name, Outcome::Failed, swept)
        }
        12 => {
            stream(objects, history, serving, connection, name, bits).await;
            Outcome::Done
        }
        _ => {
            let _ = serving.catalog().refresh().await;
            Outcome::Done
        }
    }
}

async fn streamed(
    serving: &Serving,
    spine: Option<GivenSpine>,
    request: HistoricalRequest,
    author: &Author,
) -> serving::Result<HistoricalReport> {
    let made = serving.historical_stream(spine, request, author).await?;
    let _: Vec<RecordBatch> = made.rows.try_collect().await?;
    // Where a row was an error it is said by then.
    Ok(made.report.await.unwrap())
}

/// Two parts of a producer of its own, sent again from the first on until both are acknowledged, and some once more.
async fn stream(
    objects: &Objects,
    history: &History,
    serving: &Serving,
    connection: &Connection,
    name: &str,
    bits: u64,
) {
    // Its entries may be several.
    let author = author(&format!("stream of {name}"));
    let forgotten = objects.plant == Some(Plant::PartTakenAgain);
    let mut rounds = if bits.is_multiple_of(3) { 2 } else { 1 };
    for repeat in 0..REPEATS {
        let target = Target {
            project: Name::default_project(),
            view: "weather".to_owned(),
            producer: if forgotten { format!("{name}, {repeat}") } else { name.to_owned() },
            claim: None,
        };
        let stream = match serving.open_stream(target, &author).await {
            Ok(stream) => stream,
            Err(error) => {
                objects.note(format!("{name}: {:?}: {error}", error.kind()));
                connection.wait(200).await;
                continue;
            }
        };
        let mut pending = Vec::new();
        for number in 1..=2 {
            let part = batch(bits / number);
            pending.push((number, stream.send(Place { epoch: 1, number }, part).await));
        }
        let mut all = true;
        for (number, sent) in pending {
            let told = match sent {
                Ok(pending) => pending.acknowledged().await,
                Err(error) => Err(error),
            };
            match told {
                Ok(told) => {
                    let at = CommittedPart { sequence: told.sequence, batch: told.batch };
                    history.parts.lock().unwrap().push((name.to_owned(), number, at));
                }
                Err(error) => {
                    all = false;
                    tell(objects, name, Outcome::Unknown, Err(error.into()));
                }
            }
        }
        rounds -= u64::from(all);
        if rounds == 0 {
            return;
        }
        connection.wait(200).await;
    }
}

/// Sweeps without a grace what was begun before now, or before an earlier sweep: whatever is under way is slower than that.
async fn sweep(
    objects: &Objects,
    history: &History,
    serving: &Serving,
    bits: u64,
    author: &Author,
) -> serving::Result<()> {
    let state = serving.catalog().refresh().await?;
    let before = {
        let mut horizons = history.horizons.lock().unwrap();
        horizons.push(storage::environment::mint());
        let last = horizons.len() - 1;
        horizons[if bits.is_multiple_of(3) { last / 2 } else { last }]
    };
    let compacted = state.compactions().map(|one| one.by.sequence).max();
    let ever = Timestamp(i64::MAX);
    let bounds = Bounds { before, compacted, expired: None, kept: ever, dropped: ever };
    let request = SweepRequest { bounds: Some(bounds), ..SweepRequest::default() };
    let plant = objects.plant;
    let report = serving.sweep_planted(&request, author, &|record| spoiled(plant, record)).await?;
    objects.note(format!("swept: {:?}", report.gone));
    Ok(())
}

/// Two rows at times that others may have brought too.
fn batch(bits: u64) -> RecordBatch {
    let (day, hour) = (1 + bits % 28, bits / 100 % 24);
    let text = format!(
        "origin string | time_hour timestamp | temp float64
         EWR | 2013-01-{day:02}T{hour:02}:00:00Z | {}
         JFK | 2013-01-{day:02}T{hour:02}:00:00Z | {}",
        bits % 130,
        bits / 7 % 130
    );
    table(&text)
}

fn rows(bits: u64, claim: Claim) -> Request {
    let batch = batch(bits);
    let input = Input::Rows(Rows::from_batches("station", batch.schema(), vec![batch]));
    let mut request = Request::new("weather", input);
    request.claim = Some(claim);
    request
}

/// What an answer means for who asked. Once unknown, only an acknowledgement says more.
fn tell(objects: &Objects, name: &str, before: Outcome, answer: serving::Result<()>) -> Outcome {
    let Err(error) = answer else { return Outcome::Done };
    objects.note(format!("{name}: {:?}: {error}", error.kind()));
    if error.kind() == Kind::Internal {
        objects.violated(format!("{name} is told of a fault of ours: {error}"));
    }
    if before == Outcome::Unknown || error.to_string().contains("it is not known whether") {
        return Outcome::Unknown;
    }
    Outcome::Failed
}
