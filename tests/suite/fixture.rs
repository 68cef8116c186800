//! A small store with one of everything, and the questions whose answers must not change.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use catalog::Catalog;
use catalog::ingest::{Claim, Input, Request, Rows};
use catalog::records::Verdict;
use feature::TrainingSetId;
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, path::Path as ObjectPath};
use serving::{ExplainRequest, HistoricalRequest, Kind, Serving};
use storage::environment::TestClock;
use storage::{Clock, Store};

use super::stores::{author, claimed, files, folder, ingest, instant, select, spine};
use super::tables::table;

pub const DEFINITIONS: [(&str, &str); 4] = [
    (
        "airport.toml",
        r#"
kind = "entity"
name = "airport"

[[keys]]
name = "origin"
type = "string"
"#,
    ),
    ("weather.toml", WEATHER),
    (
        "departures.toml",
        r#"
kind = "feature_view"
name = "departures"
entity = "airport"

[time]
valid_at = "sched_dep"
known_at = { column = "dep" }

[[features]]
name = "dep_delay"
type = "int32"
unit = "minute"
range = [-180, 2880]

[[features]]
name = "carrier"
type = "string"
default = "none"
"#,
    ),
    (
        "late_flights.toml",
        r#"
kind = "feature_service"
name = "late_flights"
features = ["weather.temp", "departures.dep_delay"]
"#,
    ),
];

const WEATHER: &str = r#"
kind = "feature_view"
name = "weather"
entity = "airport"
description = "Hourly weather"
ttl = "90d"
reject_above = 0.25

[time]
valid_at = "time_hour"
known_at = { delay = "30m" }

[[features]]
name = "temp"
type = "float64"
unit = "degF"
range = [-40, 130]
nan = false

[[features]]
name = "visib"
type = "float64"
unit = "mile"
nullable = false

[[features]]
name = "sky"
type = "string"
one_of = ["clear", "cloudy", "rain"]
"#;

/// The next version of `weather`, which has one feature more.
const HUMID: &str = "
[[features]]
name = \"humid\"
type = \"float64\"
unit = \"percent\"
range = [0, 100]
";

/// The last row is above the range.
const FIRST_WEATHER: &str = "
    origin string | time_hour timestamp  | temp float64 | visib float64 | sky string
    EWR           | 2013-01-01T05:00:00Z | 39.02        | 10            | clear
    EWR           | 2013-01-01T06:00:00Z | 39.92        | 10            | cloudy
    EWR           | 2013-01-01T07:00:00Z | null         | 8             | cloudy
    JFK           | 2013-01-01T05:00:00Z | 37.04        | 10            | clear
    JFK           | 2013-01-01T06:00:00Z | 37.94        | 9.5           | null
    JFK           | 2013-01-01T07:00:00Z | 939.2        | 9             | rain";

const FIRST_DEPARTURES: &str = "
    origin string | sched_dep timestamp  | dep timestamp        | dep_delay int32 | carrier string
    EWR           | 2013-01-01T06:10:00Z | 2013-01-01T06:15:00Z | 5               | UA
    EWR           | 2013-01-01T06:40:00Z | 2013-01-01T08:40:00Z | 120             | B6
    JFK           | 2013-01-01T06:00:00Z | 2013-01-01T05:58:00Z | -2              | AA";

const CORRECTED_WEATHER: &str = "
    origin string | time_hour timestamp  | temp float64 | visib float64 | sky string
    EWR           | 2013-01-01T06:00:00Z | 38.12        | 10            | rain
    JFK           | 2013-01-01T06:00:00Z | 36.5         | 9.5           | rain";

const HUMID_WEATHER: &str = "
    origin string | time_hour timestamp  | temp float64 | visib float64 | sky string | humid float64
    EWR           | 2013-01-02T05:00:00Z | 30.92        | 10            | clear      | 45.5
    JFK           | 2013-01-02T05:00:00Z | 32           | 10            | clear      | NaN";

const ALL_WRONG_WEATHER: &str = "
    origin string | time_hour timestamp  | temp float64 | visib float64 | sky string | humid float64
    EWR           | 2013-01-03T05:00:00Z | 30.92        | null          | clear      | 45.5
    null          | 2013-01-03T05:00:00Z | 32           | 10            | snow       | 40";

pub const SPINE: &str = "
    origin string | at timestamp         | arr_delay int32
    EWR           | 2013-01-01T06:45:00Z | 11
    JFK           | 2013-01-01T06:45:00Z | -25
    EWR           | 2013-01-01T09:00:00Z | null
    LGA           | 2013-01-01T09:00:00Z | 4
    null          | 2013-01-01T09:00:00Z | 5
    EWR           | 2013-02-20T00:00:00Z | 6
    JFK           | 2013-02-20T00:00:00Z | 7
    JFK           | 2012-12-31T00:00:00Z | 8";

/// The key of the request that brought the first weather.
pub const KEY: &str = "weather-2013-01-01";

/// What is in the store beside what the definitions say.
#[derive(Clone, Copy, Debug)]
pub struct Fixture {
    /// Of both views and of one.
    pub sets: [TrainingSetId; 2],
}

/// The clock of the store's making.
pub fn clock() -> TestClock {
    TestClock::new(instant("2013-02-01T00:00:00Z"))
}

/// The clock of those who open it.
pub fn later() -> TestClock {
    TestClock::new(instant("2013-03-01T00:00:00Z"))
}

/// Makes the store in a folder: definitions, three batches over two views, a correction, a refused batch, training sets, a
/// verification and reads. The newest entry is of reads, which no answer depends on.
pub async fn make(path: &Path) -> Fixture {
    let clock = clock();
    let tick = || clock.advance("1h".parse().unwrap());
    let serving = folder(path, &clock).await;
    serving.apply(files(&DEFINITIONS), &author()).await.unwrap();
    tick();
    let mut first = rows_of("weather", "station", FIRST_WEATHER);
    first.key = Some(KEY.to_owned());
    assert_eq!(ingest(&serving, first).await.unwrap().rejected, 1);
    tick();
    ingest(&serving, rows_of("departures", "tower", FIRST_DEPARTURES)).await.unwrap();
    tick();
    let correction = claimed(rows_of("weather", "archive", CORRECTED_WEATHER), Claim::Correction);
    ingest(&serving, correction).await.unwrap();
    tick();
    let next = format!("{WEATHER}{HUMID}");
    serving.apply(files(&[DEFINITIONS[0], ("weather.toml", &next)]), &author()).await.unwrap();
    ingest(&serving, rows_of("weather", "new station", HUMID_WEATHER)).await.unwrap();
    let refused =
        ingest(&serving, rows_of("weather", "broken station", ALL_WRONG_WEATHER)).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    tick();
    let mut sets = Vec::new();
    for (rows, features) in [(8, vec!["weather.*", "departures.*"]), (3, vec!["weather@1.temp"])] {
        let spine = spine(vec![table(SPINE).slice(0, rows)]);
        let set = serving.historical(spine, HistoricalRequest::new(features), &author()).await.unwrap();
        sets.push(set.report.training_set.unwrap());
        tick();
    }
    let (replayed, _) = serving.replay(sets[0], &author()).await.unwrap();
    assert_eq!(replayed.verdict, Verdict::Equal);
    tick();
    select(&serving, "SELECT origin, temp FROM weather").await.unwrap();
    serving.flush(&author()).await.unwrap();
    assert_eq!(serving.catalog().state().log().last().unwrap().records, [(31, "reads_recorded")]);
    Fixture { sets: [sets[0], sets[1]] }
}

/// Rows from a place of this name.
fn rows_of(view: &str, origin: &str, text: &str) -> Request {
    let rows = table(text);
    Request::new(view, Input::Rows(Rows::from_batches(origin, rows.schema(), vec![rows])))
}

/// Opens a store that exists.
pub async fn open(store: Store) -> serving::Result<Serving> {
    Ok(Serving::new(Catalog::open(store).await?))
}

/// A copy of a store's objects in memory, where opening takes a millisecond.
pub async fn copy_in_memory(objects: &BTreeMap<String, Vec<u8>>) -> InMemory {
    let memory = InMemory::new();
    for (object, bytes) in objects {
        memory.put(&ObjectPath::from(object.as_str()), bytes.clone().into()).await.unwrap();
    }
    memory
}

/// The store over these objects.
pub fn over(memory: InMemory, clock: Clock) -> Store {
    Store::over("memory", Arc::new(memory), clock)
}

/// Something to ask.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    Sql(String),
    /// Historical features of [`SPINE`].
    Features(Vec<&'static str>),
    Explain(TrainingSetId, u64, &'static str),
    Replay(TrainingSetId),
}

/// The system views that show nothing of batches that were refused, nor the log itself.
pub const OF_ADMITTED: [&str; 5] = ["entities", "feature_services", "feature_views", "features", "versions"];

/// Questions that between them read all that this version ever reads back. Replays are last, since they write.
pub fn questions(fixture: &Fixture) -> Vec<Question> {
    let mut questions: Vec<Question> = [
        "SELECT * FROM weather",
        "SELECT * FROM \"weather@1\"",
        "SELECT * FROM departures",
        "SELECT * FROM history('weather')",
        "SELECT * FROM history('departures')",
        "SELECT d.*, w.temp FROM departures d ASOF JOIN weather w MATCH_CONDITION (d.valid_at >= w.valid_at) ON d.origin = w.origin",
        "SELECT * FROM lineament.log",
        "SELECT * FROM lineament.batches",
        "SELECT * FROM lineament.rejected_rows",
        "SELECT * FROM lineament.profiles",
        "SELECT * FROM lineament.training_sets",
        "SELECT * FROM lineament.verifications",
    ]
    .map(|sql| Question::Sql(sql.to_owned()))
    .into();
    questions.extend(OF_ADMITTED.map(|view| Question::Sql(format!("SELECT * FROM lineament.{view}"))));
    questions.push(Question::Features(vec!["late_flights", "weather.humid"]));
    // Between them these have candidates of every batch.
    for (row, column) in [(0, "temp"), (2, "temp"), (6, "humid"), (2, "dep_delay"), (3, "carrier")] {
        questions.push(Question::Explain(fixture.sets[0], row, column));
    }
    questions.push(Question::Explain(fixture.sets[1], 1, "temp"));
    questions.extend(fixture.sets.map(Question::Replay));
    questions
}

/// Asks; the answer as text in which everything shows. The order of an answer that has none is left out.
pub async fn ask(serving: &Serving, question: &Question) -> serving::Result<String> {
    match question {
        Question::Sql(sql) => {
            let (schema, batches) = select(serving, sql).await?;
            let mut lines: Vec<String> = batches.iter().flat_map(lines).collect();
            lines.sort();
            Ok(format!("{schema:?}\n{}", lines.join("\n")))
        }
        Question::Features(features) => {
            let request =
                HistoricalRequest { record: false, ..HistoricalRequest::new(features.iter().copied()) };
            let set = serving.historical(spine(vec![table(SPINE)]), request, &author()).await?;
            let lines: Vec<String> = set.batches.iter().flat_map(lines).collect();
            let nulls: Vec<String> = set.report.features.iter().map(|found| format!("{found:?}")).collect();
            Ok(format!("{}\n{}\n{}", set.report.digest, lines.join("\n"), nulls.join("\n")))
        }
        Question::Explain(training_set, row, column) => {
            let request = ExplainRequest::new(*training_set, *row, *column);
            Ok(serde_json::to_string_pretty(&serving.explain(request, &author()).await?).unwrap())
        }
        Question::Replay(id) => {
            let (report, set) = serving.replay(*id, &author()).await?;
            let lines: Vec<String> = set.batches.iter().flat_map(lines).collect();
            Ok(format!("{:?} {} {}\n{}", report.verdict, report.digest, report.rebuilt, lines.join("\n")))
        }
    }
}

fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let columns: Vec<ArrayFormatter<'_>> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    let line =
        |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" | ");
    (0..batch.num_rows()).map(line).collect()
}

/// The files below a folder, by their paths relative to it, with `/` in between.
pub fn objects(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                walk(&path, &format!("{name}/"), found);
            } else {
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, "", &mut found);
    found
}

/// Writes objects as files.
pub fn write_objects(folder: &Path, objects: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in objects {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}
