//! The log as OpenLineage events: what each entry becomes, and that no consumer misses or mixes up any of
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use catalog::Author;
use catalog::ingest::{Input, Request, Rows};
use catalog::registry::{Observations, SeenExperiment, SeenRun};
use feature::Sequence;
use futures::TryStreamExt;
use lineage::openlineage::Event;
use serde_json::{Value, json};
use serving::emission::{Emission, EmissionOptions, FileSink, Refusal, Sink};
use serving::{HistoricalRequest, Kind, LineageRequest, Query, RefreshRequest, Serving};

use super::super::fixture;
use super::super::stores::{author, count, files, folder, ingest, memory, spine};
use super::super::tables::table;
use super::scenario::built;

/// A consumer that keeps what it takes, and refuses as told.
#[derive(Clone, Default)]
struct Consumer {
    taken: Arc<Mutex<Vec<Event>>>,
    /// Answers to come, last first; when there are none left, everything is taken.
    refusals: Arc<Mutex<Vec<Option<Refusal>>>>,
}

impl Consumer {
    fn refusing(refusals: impl IntoIterator<Item = Option<Refusal>>) -> Self {
        let consumer = Self::default();
        consumer.refusals.lock().unwrap().extend(refusals);
        consumer
    }

    fn taken(&self) -> Vec<Event> {
        self.taken.lock().unwrap().clone()
    }
}

#[async_trait]
impl Sink for Consumer {
    fn place(&self) -> &str {
        "consumer"
    }

    async fn send(&mut self, event: &Event) -> Result<(), Refusal> {
        if let Some(Some(refusal)) = self.refusals.lock().unwrap().pop() {
            return Err(refusal);
        }
        self.taken.lock().unwrap().push(event.clone());
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Refusal> {
        Ok(())
    }
}

fn not_now() -> Option<Refusal> {
    Some(Refusal::NotNow { why: "busy".to_owned(), after: None })
}

fn from(sequence: u64) -> EmissionOptions {
    EmissionOptions { from: Some(Sequence(sequence)), ..EmissionOptions::default() }
}

fn kept(cursor: &Path) -> EmissionOptions {
    EmissionOptions { cursor: Some(cursor.to_owned()), ..EmissionOptions::default() }
}

async fn emission(serving: &Serving, consumer: &Consumer, options: EmissionOptions) -> Emission {
    Emission::open(serving, Box::new(consumer.clone()), options).await.unwrap()
}

async fn events(serving: &Serving, options: EmissionOptions) -> Vec<Event> {
    let consumer = Consumer::default();
    emission(serving, &consumer, options).await.drain(None).await.unwrap();
    consumer.taken()
}

fn parsed(events: &[Event]) -> Vec<Value> {
    events.iter().map(|event| serde_json::from_str(&event.json).unwrap()).collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

/// The run events of a job, as they came.
fn of_job<'a>(events: &'a [Value], job: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event.pointer("/job/name").is_some_and(|name| name == job)).collect()
}

/// Every dataset of an event.
fn datasets(event: &Value) -> Vec<&Value> {
    let mut found: Vec<&Value> = event.get("dataset").into_iter().collect();
    for side in ["inputs", "outputs"] {
        found.extend(event.get(side).and_then(Value::as_array).into_iter().flatten());
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_run_starts_once_and_ends_once_and_no_name_holds_a_version() {
    let root = tempfile::tempdir().unwrap();
    fixture::make(root.path()).await;
    let serving = folder(root.path(), &fixture::later()).await;
    let taken = events(&serving, EmissionOptions::default()).await;
    let told = parsed(&taken);
    let mut runs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event in &told {
        if event.get("run").is_some() {
            runs.entry(text(event, "/run/runId")).or_default().push(text(event, "/eventType"));
            let job = text(event, "/job/name");
            assert!(!job.contains('@'), "{job}");
        }
        for dataset in datasets(event) {
            let (namespace, name) = (text(dataset, "/namespace"), text(dataset, "/name"));
            assert!(namespace.starts_with("lineament://") && !name.contains('@'), "{namespace} {name}");
        }
    }
    // Four batches, one refused, two sets, one replay.
    assert_eq!(runs.len(), 8);
    for (run, states) in &runs {
        assert!(matches!(states.as_slice(), ["START", "COMPLETE" | "FAIL"]), "{run}: {states:?}");
    }
    // Events come in the order of the log.
    let places: Vec<_> = taken.iter().map(|event| (event.sequence, event.part)).collect();
    assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{places:?}");

    let refused =
        of_job(&told, "ingest.weather").into_iter().find(|event| event["eventType"] == "FAIL").unwrap();
    assert_eq!(
        text(refused, "/run/facets/errorMessage/message"),
        "2 of 2 rows were rejected, more than `weather@2` bears, so none was taken"
    );
    assert_eq!(refused["outputs"], Value::Array(Vec::new()));
    assert_eq!(
        refused.pointer("/inputs/0/inputFacets/dataQualityAssertions/assertions/1/success"),
        Some(&false.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_tells_its_schema_version_and_statistics() {
    let root = tempfile::tempdir().unwrap();
    fixture::make(root.path()).await;
    let serving = folder(root.path(), &fixture::later()).await;
    let told = parsed(&events(&serving, EmissionOptions::default()).await);
    let ingests = of_job(&told, "ingest.weather");
    let first = ingests.iter().find(|event| event["eventType"] == "COMPLETE").unwrap();
    let output = &first["outputs"][0];
    assert_eq!(output["name"], "weather");
    let sequence = first.pointer("/run/facets/lineament_entry/sequence").unwrap();
    assert_eq!(text(output, "/facets/version/datasetVersion"), format!("weather@1#{sequence}"));
    let fields: Vec<&str> = output
        .pointer("/facets/schema/fields")
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field["name"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["origin", "valid_at", "known_at", "temp", "visib", "sky"]);
    // Five rows of six: the one at 939 degrees was rejected. Worked out by hand from the fixture's rows.
    let metrics = output.pointer("/facets/dataQualityMetrics").unwrap();
    assert_eq!(metrics["rowCount"], 5);
    let temp = &metrics["columnMetrics"]["temp"];
    assert_eq!((&temp["nullCount"], &temp["count"]), (&1.into(), &4.into()));
    assert_eq!((temp["min"].as_f64(), temp["max"].as_f64()), (Some(37.04), Some(39.92)));
    let sky = &metrics["columnMetrics"]["sky"];
    assert_eq!((&sky["nullCount"], sky.get("min")), (&1.into(), None));
    // Keys are somebody's.
    assert!(metrics["columnMetrics"].get("origin").is_none());
    assert_eq!(output.pointer("/outputFacets/outputStatistics/rowCount"), Some(&5.into()));
    assert_eq!(first.pointer("/run/facets/lineament_batch/rejected"), Some(&1.into()));
    assert_eq!(text(first, "/inputs/0/name"), "sources/station");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_set_tells_where_each_column_comes_from() {
    let serving = memory(&fixture::clock()).await;
    let set = built(&serving).await;
    let told = parsed(&events(&serving, EmissionOptions::default()).await);
    let retrieved = of_job(&told, "retrieve.delays");
    assert_eq!(retrieved.len(), 2);
    let complete = retrieved[1];
    assert_eq!(text(complete, "/run/runId"), set.to_string());
    let output = &complete["outputs"][0];
    assert_eq!(output["name"], "training_sets/delays");
    assert_eq!(output.pointer("/facets/version/datasetVersion"), Some(&set.to_string().into()));
    let namespace = output["namespace"].as_str().unwrap();
    let temp = output.pointer("/facets/columnLineage/fields/temp/inputFields").unwrap().as_array().unwrap();
    let edges: BTreeSet<(String, String, String)> = temp
        .iter()
        .flat_map(|field| {
            assert_eq!(field["namespace"], namespace);
            field["transformations"].as_array().unwrap().iter().map(|transformation| {
                let kind = format!("{} {}", text(transformation, "/type"), text(transformation, "/subtype"));
                (text(field, "/name").to_owned(), text(field, "/field").to_owned(), kind)
            })
        })
        .collect();
    let expected = [
        ("spines/delays", "at", "INDIRECT SORT"),
        ("spines/delays", "origin", "INDIRECT JOIN"),
        ("weather", "known_at", "INDIRECT SORT"),
        ("weather", "origin", "INDIRECT JOIN"),
        ("weather", "temp", "DIRECT IDENTITY"),
        ("weather", "valid_at", "INDIRECT SORT"),
    ];
    let expected = expected.map(|(name, field, kind)| (name.to_owned(), field.to_owned(), kind.to_owned()));
    assert_eq!(edges, expected.into());
    // What a column says it comes from is among the inputs, with that column in its schema.
    for field in temp {
        let named = |input: &&Value| input["name"] == field["name"];
        let input = complete["inputs"].as_array().unwrap().iter().find(named).unwrap();
        let fields = input.pointer("/facets/schema/fields").unwrap().as_array().unwrap();
        assert!(fields.iter().any(|known| known["name"] == field["field"]), "{field} in {input}");
    }
    // The version that was read is the one that the last load wrote.
    let loads = of_job(&told, "ingest.weather");
    let written = loads.last().unwrap().pointer("/outputs/0/facets/version/datasetVersion");
    assert_eq!(complete.pointer("/inputs/1/facets/version/datasetVersion"), written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_derived_batch_tells_where_each_column_comes_from() {
    let serving = memory(&fixture::clock()).await;
    built(&serving).await;
    let celsius = "
        kind = \"feature_view\"
        name = \"celsius\"
        entity = \"airport\"
        [time]
        valid_at = \"hour\"
        known_at = { column = \"known_at\" }
        [derived]
        sql = \"SELECT origin, valid_at AS hour, known_at, (temp - 32) / 1.8 AS c, 1 AS one FROM history('weather') WHERE visib > 1\"
        [[features]]
        name = \"degrees\"
        type = \"float64\"
        column = \"c\"
        [[features]]
        name = \"one\"
        type = \"int64\"";
    let definitions = [fixture::DEFINITIONS.as_slice(), &[("celsius.toml", celsius)]].concat();
    serving.apply(files(&definitions), &author()).await.unwrap();
    let request = RefreshRequest { view: Some("celsius".to_owned()), full: false };
    assert!(serving.refresh(&request, &author()).await.unwrap()[0].batch.is_some());
    let told = parsed(&events(&serving, EmissionOptions::default()).await);
    let derived = of_job(&told, "derive.celsius");
    let output = &derived.last().unwrap()["outputs"][0];
    let edges = |of: Option<&Value>| -> BTreeSet<(String, String)> {
        let fields = of.and_then(Value::as_array).unwrap_or_else(|| panic!("no columnLineage in {output}"));
        let edges = fields.iter().flat_map(|field| {
            assert_eq!(text(field, "/name"), "weather");
            let kinds = field["transformations"].as_array().unwrap().iter();
            kinds.map(|kind| (text(field, "/field").to_owned(), text(kind, "/subtype").to_owned()))
        });
        edges.collect()
    };
    let expected = |edges: &[(&str, &str)]| -> BTreeSet<(String, String)> {
        edges.iter().map(|(field, kind)| ((*field).to_owned(), (*kind).to_owned())).collect()
    };
    let of =
        |column: &str| edges(output.pointer(&format!("/facets/columnLineage/fields/{column}/inputFields")));
    // By the names of the view, not of its query.
    assert_eq!(of("degrees"), expected(&[("temp", "TRANSFORMATION")]));
    assert_eq!(of("valid_at"), expected(&[("valid_at", "IDENTITY")]));
    assert_eq!(of("known_at"), expected(&[("known_at", "IDENTITY")]));
    assert_eq!(of("origin"), expected(&[("origin", "IDENTITY")]));
    assert_eq!(of("one"), expected(&[]));
    assert_eq!(edges(output.pointer("/facets/columnLineage/dataset")), expected(&[("visib", "FILTER")]));
    // What came since is read alone, and its columns come from the same.
    let rows = table(
        "origin string | time_hour timestamp  | temp float64 | visib float64 | sky string
         SEA           | 2013-02-01T05:00:00Z | 39.02        | 10            | clear",
    );
    let rows = Rows::from_batches("station", rows.schema(), vec![rows]);
    ingest(&serving, Request::new("weather", Input::Rows(rows))).await.unwrap();
    assert!(serving.refresh(&request, &author()).await.unwrap()[0].since.is_some());
    let told = parsed(&events(&serving, EmissionOptions::default()).await);
    let again = of_job(&told, "derive.celsius");
    assert_eq!(again.len(), 4);
    let lineage = "/outputs/0/facets/columnLineage";
    assert_eq!(again[3].pointer(lineage), again[1].pointer(lineage));
}

fn with_reads(options: EmissionOptions) -> EmissionOptions {
    EmissionOptions { reads: true, ..options }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_told_where_they_are_asked_for() {
    let serving = memory(&fixture::clock()).await;
    built(&serving).await;
    let reader = Author { principal: "reader".to_owned(), run: Some("exploration".to_owned()), ..author() };
    let read = async |sql: &str| -> serving::Result<Vec<_>> {
        serving.retrieve(Query::sql(sql), &reader).await?.stream.try_collect().await
    };
    read("SELECT origin, temp FROM weather WHERE visib > 1").await.unwrap();
    read("SELECT count(*) FROM departures").await.unwrap();
    read("SELECT CAST(sky AS INT) FROM weather").await.unwrap_err();
    let mut request = HistoricalRequest::new(["weather.temp"]);
    request.record = false;
    serving.historical(spine(vec![table(fixture::SPINE)]), request, &reader).await.unwrap();
    serving.flush(&author()).await.unwrap();

    let without = events(&serving, EmissionOptions::default()).await;
    let all = events(&serving, with_reads(EmissionOptions::default())).await;
    let (told, others): (Vec<Event>, Vec<Event>) =
        all.iter().cloned().partition(|event| event.about.contains(" of query."));
    assert_eq!(others, without);
    // The same bytes whenever they are asked for.
    assert_eq!(events(&serving, with_reads(EmissionOptions::default())).await, all);
    let told = parsed(&told);
    let seen: Vec<_> =
        told.iter().map(|event| (text(event, "/job/name"), text(event, "/eventType"))).collect();
    let ended = |job, end| [(job, "START"), (job, end)];
    let expected = [
        ended("query.sql", "COMPLETE"),
        ended("query.sql", "COMPLETE"),
        ended("query.sql", "FAIL"),
        ended("query.historical_features", "COMPLETE"),
    ];
    assert_eq!(seen, expected.concat());
    // A read's id is its run, and each has one of its own.
    let runs: BTreeSet<&str> = told.iter().map(|event| text(event, "/run/runId")).collect();
    assert_eq!(runs.len(), 4);
    for run in &runs {
        let found = format!("SELECT count(*) FROM lineament.reads WHERE read = '{run}'");
        assert_eq!(count(&serving, &found).await, 1);
    }
    let facet = |event: usize| told[event].pointer("/run/facets/lineament_read").unwrap();
    assert_eq!((text(facet(1), "/principal"), text(facet(1), "/run")), ("reader", "exploration"));
    assert_eq!(facet(1)["columns"], json!(["weather@1.origin", "weather@1.temp", "weather@1.visib"]));
    assert_eq!((&facet(3)["columns"], &facet(3)["rows"]), (&json!(["departures@1.*"]), &1.into()));
    for event in &told {
        assert_eq!(event["outputs"], json!([]));
        let inputs = event["inputs"].as_array().unwrap();
        assert_eq!(inputs.len(), 1, "{event}");
        let version = text(&inputs[0], "/facets/version/datasetVersion");
        assert!(version.starts_with(&format!("{}@", text(&inputs[0], "/name"))), "{version}");
    }
    // Values stay out of it, also those that an error names.
    let message = text(&told[5], "/run/facets/errorMessage/message");
    assert_eq!(message, "it failed after 0 rows; lineament.reads tells of what");

    // A consumer that refuses midway is told of the rest.
    let folder = tempfile::tempdir().unwrap();
    let options = || with_reads(kept(&folder.path().join("cursor")));
    let never = Some(Refusal::Never { why: "no".to_owned() });
    let refusals = std::iter::once(never).chain(std::iter::repeat_n(None, without.len() + 3));
    let consumer = Consumer::refusing(refusals);
    emission(&serving, &consumer, options()).await.drain(None).await.unwrap_err();
    assert_eq!(consumer.taken().len(), without.len() + 3);
    emission(&serving, &consumer, options()).await.drain(None).await.unwrap();
    assert_eq!(consumer.taken(), all);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_models_and_deployments_hang_together() {
    let serving = memory(&fixture::clock()).await;
    let set = built(&serving).await;
    let parent = "4f1c9d0e5b6a47c8a9b0c1d2e3f40516";
    let run = "mlflow;http://tracking:5000;7;0123456789ABCDEF0123456789abcdef";
    let seen = |status: Option<&str>| Observations {
        system: Some("mlflow".to_owned()),
        authority: "http://tracking:5000".to_owned(),
        experiments: vec![SeenExperiment {
            id: "7".to_owned(),
            name: Some("delays".to_owned()),
            ..SeenExperiment::default()
        }],
        runs: vec![SeenRun {
            id: "0123456789ABCDEF0123456789abcdef".to_owned(),
            experiment: Some("7".to_owned()),
            parent: Some(parent.to_owned()),
            status: status.map(str::to_owned),
            ..SeenRun::default()
        }],
        ..Observations::default()
    };
    serving.observe(seen(Some("RUNNING")), &author()).await.unwrap();
    let by = Author { run: Some(run.to_owned()), ..author() };
    let mut request = HistoricalRequest::new(["weather.temp"]);
    request.name = Some("again".to_owned());
    serving.historical(spine(vec![table(fixture::SPINE)]), request, &by).await.unwrap();
    serving.observe(seen(Some("FAILED")), &author()).await.unwrap();
    let told = parsed(&events(&serving, EmissionOptions::default()).await);

    let retrieved = of_job(&told, "retrieve.again");
    let facet = retrieved[1].pointer("/run/facets/parent").unwrap();
    assert_eq!(text(facet, "/run/runId"), "01234567-89ab-cdef-0123-456789abcdef");
    assert_eq!(
        (text(facet, "/job/namespace"), text(facet, "/job/name")),
        ("http://tracking:5000", "experiment.delays")
    );
    assert_eq!(text(&facet["root"], "/run/runId"), "4f1c9d0e-5b6a-47c8-a9b0-c1d2e3f40516");
    let states = |id: &str| -> Vec<&str> {
        let of_run = |event: &&Value| event.pointer("/run/runId").is_some_and(|run| run == id);
        told.iter().filter(of_run).map(|event| text(event, "/eventType")).collect()
    };
    assert_eq!(states("01234567-89ab-cdef-0123-456789abcdef"), ["START", "OTHER", "FAIL"]);
    assert_eq!(states("4f1c9d0e-5b6a-47c8-a9b0-c1d2e3f40516"), ["START"]);

    // The run that was told of by name: it used the set, and made the model that is deployed.
    let trained = of_job(&told, "runs");
    let used = trained.iter().find(|event| event.pointer("/run/facets/lineament_use").is_some()).unwrap();
    assert_eq!(text(used, "/inputs/0/name"), "training_sets/delays");
    assert_eq!(text(used, "/run/facets/lineament_use/trainingSet"), set.to_string());
    let made = trained
        .iter()
        .find(|event| event["outputs"].as_array().is_some_and(|made| !made.is_empty()))
        .unwrap();
    assert_eq!(made["run"]["runId"], used["run"]["runId"]);
    assert_eq!(text(made, "/outputs/0/name"), "models/delay");
    assert_eq!(text(made, "/outputs/0/facets/datasetType/datasetType"), "MODEL");
    let deployed = told.iter().find(|event| {
        event.pointer("/dataset/name").is_some_and(|name| name == "deployments/production/delay-api")
    });
    let deployed = deployed.unwrap();
    assert_eq!(text(deployed, "/dataset/facets/lineament_deployment/model/name"), "models/delay");
    assert_eq!(text(deployed, "/dataset/facets/lifecycleStateChange/lifecycleStateChange"), "CREATE");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_entry_gives_the_same_bytes_whenever_it_is_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let serving = folder(root.path(), &fixture::clock()).await;
    let along = Consumer::default();
    let mut following = emission(&serving, &along, EmissionOptions::default()).await;
    built(&serving).await;
    following.drain(None).await.unwrap();
    // Other words for what was told already: the state at the head says them of the earlier entries too.
    let described = fixture::DEFINITIONS
        .map(|(name, text)| (name, text.replace("Hourly weather", "Weather, by the hour")));
    let described: Vec<(&str, &str)> = described.iter().map(|(name, text)| (*name, text.as_str())).collect();
    serving.apply(files(&described), &author()).await.unwrap();
    following.drain(None).await.unwrap();
    let documented =
        |events: &[Event], words: &str| events.iter().filter(|event| event.json.contains(words)).count();
    assert!(documented(&along.taken(), "Hourly weather") > 1);
    assert_eq!(documented(&along.taken(), "Weather, by the hour"), 1);

    let again = folder(root.path(), &fixture::later()).await;
    let all = events(&again, EmissionOptions::default()).await;
    assert_eq!(all, along.taken());
    // From any sequence, what is told is the end of the whole.
    let head = again.catalog().state().head.sequence.0;
    for first in 0..=head + 1 {
        let tail: Vec<Event> = all.iter().filter(|event| event.sequence.0 >= first).cloned().collect();
        assert_eq!(events(&again, from(first)).await, tail, "from {first}");
    }
    let beyond = Emission::open(&again, Box::new(Consumer::default()), from(head + 2)).await.err().unwrap();
    assert_eq!(beyond.kind(), Kind::Invalid);
    assert!(beyond.to_string().contains(&format!("begin at {} or earlier", head + 1)), "{beyond}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_comes_and_goes_misses_nothing() {
    let serving = memory(&fixture::clock()).await;
    built(&serving).await;
    let all = events(&serving, EmissionOptions::default()).await;
    let root = tempfile::tempdir().unwrap();
    // It fails at each event once, at each third for good: then the sender ends and begins again at the
    // cursor.
    for give_up in 1..all.len() {
        let cursor = root.path().join(format!("{give_up}.cursor"));
        let consumer = Consumer::default();
        let mut begun = 0;
        loop {
            begun += 1;
            assert!(begun <= all.len() + 1, "it does not come to an end");
            let before = consumer.taken().len();
            {
                let mut refusals = consumer.refusals.lock().unwrap();
                refusals.clear();
                refusals.push(not_now());
                refusals.extend((0..give_up).map(|_| None));
            }
            let mut sending = emission(&serving, &consumer, kept(&cursor)).await;
            match sending.drain(Some(Duration::ZERO)).await {
                Ok(_) => break,
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Unavailable);
                    assert!(error.to_string().contains("entries behind"), "{error}");
                    assert_eq!(consumer.taken().len(), before + give_up);
                }
            }
        }
        assert_eq!(consumer.taken(), all, "giving up after {give_up}");
    }
    // One that is only slow is waited for.
    let slow = Consumer::refusing([None, not_now(), None, not_now(), not_now()]);
    emission(&serving, &slow, EmissionOptions::default()).await.drain(None).await.unwrap();
    assert_eq!(slow.taken(), all);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_consumer_will_never_take_stops_the_sender_and_is_named() {
    let serving = memory(&fixture::clock()).await;
    built(&serving).await;
    let all = events(&serving, EmissionOptions::default()).await;
    let never = Some(Refusal::Never { why: "it answered 422: no such field".to_owned() });
    let consumer = Consumer::refusing([never, None, None]);
    let mut sending = emission(&serving, &consumer, EmissionOptions::default()).await;
    let error = sending.drain(None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    let said = error.to_string();
    let third = &all[2];
    for part in [
        format!("does not take event {} of sequence {}", third.part, third.sequence),
        third.about.clone(),
        "422: no such field".to_owned(),
        format!("--from {}", third.sequence.0 + 1),
    ] {
        assert!(said.contains(&part), "{part} is not in: {said}");
    }
    assert_eq!(consumer.taken(), all[..2]);
    // Mended, it gets that one and the rest.
    sending.drain(None).await.unwrap();
    assert_eq!(consumer.taken(), all);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_is_sent_and_a_stop_keeps_the_place() {
    let root = tempfile::tempdir().unwrap();
    let serving = memory(&fixture::clock()).await;
    built(&serving).await;
    let cursor = root.path().join("cursor");
    let path = root.path().join("events.jsonl");
    let sink = Box::new(FileSink::open(&path).unwrap());
    let mut sending = Emission::open(&serving, sink, kept(&cursor)).await.unwrap();
    let stop = Arc::new(tokio::sync::Notify::new());
    let stopped = stop.clone();
    let follower = tokio::spawn(async move {
        sending.follow(async move { stopped.notified().await }).await.unwrap();
        sending.lag()
    });
    let lines = || std::fs::read_to_string(&path).unwrap().lines().count();
    let wait_for = async |count: usize| {
        for _ in 0..600 {
            if lines() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{count} events were expected, and {} came", lines());
    };
    let before = events(&serving, EmissionOptions::default()).await.len();
    wait_for(before).await;
    let rows = super::super::stores::rows(
        "departures",
        vec![table(
            "
            origin string | sched_dep timestamp  | dep timestamp        | dep_delay int32 | carrier string
            EWR           | 2013-01-01T06:10:00Z | 2013-01-01T06:15:00Z | 5               | UA",
        )],
    );
    ingest(&serving, rows).await.unwrap();
    wait_for(before + 2).await;
    stop.notify_one();
    assert_eq!(follower.await.unwrap().entries, 0);
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&cursor).unwrap()).unwrap();
    assert_eq!(kept["sequence"], serving.catalog().state().head.sequence.0 + 1);
    let whole: Vec<String> =
        events(&serving, EmissionOptions::default()).await.into_iter().map(|event| event.json).collect();
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().collect::<Vec<_>>(), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_something_else_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let serving = memory(&fixture::clock()).await;
    let cursor = root.path().join("cursor");
    emission(&serving, &Consumer::default(), kept(&cursor)).await.drain(None).await.unwrap();
    let other = memory(&fixture::clock()).await;
    let refused = async |serving: &Serving, why: &str| {
        let error =
            Emission::open(serving, Box::new(Consumer::default()), kept(&cursor)).await.err().unwrap();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(why), "{why}: {error}");
    };
    refused(&other, "is of store").await;
    let text = std::fs::read_to_string(&cursor).unwrap();
    std::fs::write(&cursor, text.replace("consumer", "another")).unwrap();
    refused(&serving, "is of another, not of consumer").await;
    std::fs::write(&cursor, text.replace("\"format\":1", "\"format\":2")).unwrap();
    refused(&serving, "has format 2").await;
    std::fs::write(&cursor, "").unwrap();
    refused(&serving, "is none").await;
    let wrong = EmissionOptions { authority: Some("a/b".to_owned()), ..EmissionOptions::default() };
    let error = Emission::open(&serving, Box::new(Consumer::default()), wrong).await.err().unwrap();
    assert!(error.to_string().contains("`a/b` is no authority"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_around_a_node_are_those_of_what_it_came_from_and_led_to() {
    let serving = memory(&fixture::clock()).await;
    let set = built(&serving).await;
    // Nothing came of these, and nothing of what follows came from them.
    let rows = table(
        "origin string | time_hour timestamp  | temp float64 | visib float64 | sky string
         SEA           | 2013-02-01T05:00:00Z | 39.02        | 10            | clear",
    );
    let rows = Rows::from_batches("station", rows.schema(), vec![rows]);
    ingest(&serving, Request::new("weather", Input::Rows(rows))).await.unwrap();
    let mut alone = HistoricalRequest::new(["weather.visib"]);
    alone.name = Some("alone".to_owned());
    serving.historical(spine(vec![table(fixture::SPINE)]), alone, &author()).await.unwrap();
    let all = events(&serving, EmissionOptions::default()).await;

    let request = |node: &str, up| LineageRequest { node: node.to_owned(), up, depth: None, sequence: None };
    let both = |node: &str| [request(node, true), request(node, false)];
    let around = serving.events_around(&both(&set.to_string()), None).await.unwrap();
    assert!(around.complete);
    // The same bytes that a consumer of all gets, in the same order.
    let mut whole = all.iter();
    for event in &around.events {
        assert!(whole.any(|sent| sent == event), "{event} is not sent, or in another order");
    }
    let told = parsed(&around.events);
    let jobs: BTreeSet<&str> = told.iter().filter_map(|event| event.pointer("/job/name")?.as_str()).collect();
    assert_eq!(jobs, BTreeSet::from(["ingest.weather", "retrieve.delays", "runs"]));
    // Two batches answered, of the three that there are.
    assert_eq!(of_job(&told, "ingest.weather").len(), 4);
    assert_eq!(of_job(&parsed(&all), "ingest.weather").len(), 6);
    let named: BTreeSet<&str> =
        told.iter().filter_map(|event| event.pointer("/dataset/name")?.as_str()).collect();
    assert_eq!(named, BTreeSet::from(["deployments/production/delay-api", "models/delay", "weather"]));

    // Up alone there is neither model nor deployment; with no step there is the set alone.
    let up = serving.events_around(&[request(&set.to_string(), true)], None).await.unwrap();
    assert!(up.events.iter().all(|event| !event.json.contains("delay-api")));
    assert!(up.events.iter().any(|event| event.json.contains("ingest.weather")));
    let near = LineageRequest { depth: Some(0), ..request(&set.to_string(), true) };
    let near = serving.events_around(&[near], Some("shop")).await.unwrap();
    assert!(!near.complete);
    let near = parsed(&near.events);
    assert_eq!(near.len(), 2);
    assert!(near.iter().all(|event| text(event, "/job/namespace") == "lineament://shop"));

    // As of the entry of the set, its model is not there yet.
    let then = serving.catalog().state().training_set(set).unwrap().by.sequence;
    let early = both(&set.to_string()).map(|request| LineageRequest { sequence: Some(then), ..request });
    let early = serving.events_around(&early, None).await.unwrap();
    assert!(early.events.iter().all(|event| event.sequence <= then));
    assert!(early.events.iter().any(|event| event.sequence == then));

    let unknown = serving.events_around(&both("nothing"), None).await.unwrap_err();
    assert_eq!(unknown.kind(), Kind::NotFound);
    let wrong = serving.events_around(&both(&set.to_string()), Some("a b")).await.unwrap_err();
    assert_eq!(wrong.kind(), Kind::Invalid);
}
