//! Alerts: each cause is told once, whatever fails, stops or runs beside, and what is on its way shows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use catalog::records::PassedBy;
use catalog::registry::{Observations, SeenModelVersion};
use catalog::sampling::{Due, Portion};
use feature::definition::parse_alerts;
use feature::{AlertId, Name, Timestamp};
use serving::alerts::{Alerting, Message, Passed, Receiver};
use serving::emission::Refusal;
use serving::{HistoricalRequest, RollbackRequest, Serving};
use storage::environment::{self, TestClock};

use super::policies::{govern, with_role};
use super::stores::{self, author, files, folder, ingest, instant, memory, rows, select, spine};
use super::tables::table;

const ENTITY: &str =
    "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n";

/// A view whose batches are kept back where they fail; `more` makes another version of it.
fn weather(more: &str) -> String {
    format!(
        "kind = \"feature_view\"\nname = \"weather\"\nentity = \"airport\"\nreject_above = 0.5\n\
         [time]\nvalid_at = \"hour\"\nknown_at = {{ delay = \"1h\" }}\n\
         [[features]]\nname = \"temp\"\ntype = \"float64\"\nrange = [-100, 200]\n{more}\
         [quality]\non_fail = \"quarantine\"\nleast_rows = 10\n[quality.checks]\nwasserstein = {{ warn = 1, fail = 3 }}\nvolume = {{}}\n"
    )
}

/// A day of temperatures.
fn day(day: u32, temp: impl Fn(u32) -> f64) -> RecordBatch {
    let mut text = "origin string | hour timestamp | temp float64\n".to_owned();
    for hour in 0..24 {
        text.push_str(&format!("JFK | 2024-01-{day:02}T{hour:02}:00:00Z | {}\n", temp(hour)));
    }
    table(&text)
}

fn usual(hour: u32) -> f64 {
    60.0 + f64::from(hour % 12)
}

const RULES: &str = "
[[sinks]]
name = \"one\"
type = \"log\"
[[sinks]]
name = \"two\"
type = \"log\"
[[rules]]
name = \"fails\"
on = \"check\"
views = [\"weather\"]
sinks = [\"one\", \"two\"]
[[rules]]
name = \"warns\"
on = \"check\"
verdict = \"warn\"
measures = [\"psi\"]
sinks = [\"one\"]
[[rules]]
name = \"elsewhere\"
on = \"quarantine\"
views = [\"fraud.*\"]
sinks = [\"one\"]
[[rules]]
name = \"kept\"
on = \"quarantine\"
sinks = [\"one\"]
[[rules]]
name = \"refused\"
on = \"refused\"
sinks = [\"one\"]
[[rules]]
name = \"churn\"
on = \"version_churn\"
more_than = 2
within = \"7d\"
sinks = [\"one\"]
[[rules]]
name = \"waits\"
on = \"freshness\"
after = \"30d\"
sinks = [\"one\"]
[[rules]]
name = \"unlinked\"
on = \"missing_lineage\"
after = \"1h\"
sinks = [\"one\"]
[[rules]]
name = \"gone\"
on = \"dangling\"
sinks = [\"one\"]
";

/// What a receiver was given, and what it answers.
#[derive(Clone, Default)]
struct Inbox {
    taken: Arc<Mutex<Vec<Taken>>>,
    answers: Arc<Mutex<VecDeque<Refusal>>>,
    /// So long an answer takes.
    takes: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Taken {
    alert: AlertId,
    rule: String,
    attempt: u32,
    summary: String,
    body: String,
}

impl Inbox {
    fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }

    fn rules(&self) -> BTreeMap<String, usize> {
        let mut rules = BTreeMap::new();
        self.taken().into_iter().for_each(|taken| *rules.entry(taken.rule).or_default() += 1);
        rules
    }

    fn answers(&self, refusal: Refusal) {
        self.answers.lock().unwrap().push_back(refusal);
    }
}

#[async_trait]
impl Receiver for Inbox {
    async fn receive(&self, message: &Message, attempt: u32, _: Timestamp) -> Result<(), Refusal> {
        tokio::time::sleep(self.takes).await;
        if let Some(refusal) = self.answers.lock().unwrap().pop_front() {
            return Err(refusal);
        }
        let Message { alert, rule, summary, body } = message.clone();
        self.taken.lock().unwrap().push(Taken { alert, rule, attempt, summary, body });
        Ok(())
    }

    fn takes(&self) -> Duration {
        Duration::from_secs(10)
    }
}

fn alerting(serving: &Serving, rules: &str, one: &Inbox, two: &Inbox) -> Alerting {
    let rules = parse_alerts("alerts.toml", rules).unwrap_or_else(|errors| panic!("{errors}"));
    let name = |text: &str| text.parse::<Name>().unwrap();
    let receivers: Vec<(Name, Box<dyn Receiver>)> =
        vec![(name("one"), Box::new(one.clone())), (name("two"), Box::new(two.clone()))];
    Alerting::new(serving.clone(), rules, receivers, author()).unwrap()
}

async fn pass(alerting: &Alerting) -> Passed {
    alerting.pass(Duration::ZERO).await.unwrap()
}

async fn apply(serving: &Serving, more: &str) {
    let view = weather(more);
    let files = files(&[("airport.toml", ENTITY), ("weather.toml", &view)]);
    serving.apply_for(files, Some("it changed"), &author()).await.unwrap();
}

fn clock() -> TestClock {
    TestClock::new(instant("2024-02-01T00:00:00Z"))
}

fn not_now() -> Refusal {
    Refusal::NotNow { why: "it answered 503".to_owned(), after: None }
}

/// Status, attempts and why of each alert and sink.
async fn shown(serving: &Serving) -> Vec<String> {
    let sql = "SELECT rule || ' ' || sink || ' ' || status || ' ' || CAST(attempts AS VARCHAR) || ' ' || coalesce(why, '–') AS line \
               FROM lineament.alerts ORDER BY sequence, rule, sink";
    let (_, batches) = select(serving, sql).await.unwrap();
    let mut lines = Vec::new();
    for batch in &batches {
        let column = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
        let column = arrow::array::AsArray::as_string::<i32>(&column).clone();
        lines.extend(column.iter().map(|line| line.unwrap().to_owned()));
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_tells_of_each_cause_once() {
    let (root, clock) = (tempfile::tempdir().unwrap(), clock());
    let serving = folder(root.path(), &clock).await;
    apply(&serving, "").await;
    ingest(&serving, rows("weather", vec![day(1, usual)])).await.unwrap();
    let (one, two) = (Inbox::default(), Inbox::default());
    let first = alerting(&serving, RULES, &one, &two);
    // What was before the first look raises nothing.
    assert_eq!(pass(&first).await, Passed::default());
    ingest(&serving, rows("weather", vec![day(2, |hour| (usual(hour) - 32.0) / 1.8)])).await.unwrap();
    ingest(&serving, rows("weather", vec![day(3, |_| 1_000.0)])).await.unwrap_err();
    for (number, name) in ["a", "b", "c"].iter().enumerate() {
        apply(&serving, &format!("[[features]]\nname = \"{name}\"\ntype = \"float64\"\n")).await;
        clock.advance(format!("{}m", number + 1).parse().unwrap());
    }
    let delay = SeenModelVersion {
        model: "delay".to_owned(),
        version: "1".to_owned(),
        ..SeenModelVersion::default()
    };
    let seen = Observations { model_versions: vec![delay], ..Observations::default() };
    serving.observe(seen, &author()).await.unwrap();
    let wanted = spine(vec![table("origin string | at timestamp\nJFK | 2024-01-01T10:00:00Z")]);
    serving.historical(wanted, HistoricalRequest::new(["weather.temp"]), &author()).await.unwrap();
    let state = serving.catalog().refresh().await.unwrap();
    let batch = state.batches().next().unwrap().record.batch;
    let withdrawn = RollbackRequest {
        node: batch.to_string(),
        undo: false,
        derived: false,
        reason: Some("another station".to_owned()),
    };
    serving.rollback(&withdrawn, &author()).await.unwrap();
    clock.advance("2h".parse().unwrap());
    let second = alerting(&serving, RULES, &one, &two);
    let passed = pass(&second).await;
    let expected =
        [("churn", 1), ("fails", 1), ("gone", 1), ("kept", 1), ("refused", 1), ("unlinked", 1), ("warns", 1)];
    let expected: BTreeMap<String, usize> = expected.map(|(rule, count)| (rule.to_owned(), count)).into();
    assert_eq!(one.rules(), expected, "{:#?}", one.taken());
    assert_eq!(two.rules(), BTreeMap::from([("fails".to_owned(), 1)]));
    assert_eq!(passed, Passed { raised: 7, delivered: 8, open: 0 });
    let said = |rule: &str| one.taken().into_iter().find(|taken| taken.rule == rule).unwrap().summary;
    assert!(said("fails").contains("failed its checks: wasserstein of `temp` is "), "{}", said("fails"));
    assert!(said("warns").contains(": psi of `temp` is "), "{}", said("warns"));
    assert!(said("kept").contains("of 24 rows is kept back: "), "{}", said("kept"));
    assert!(said("refused").contains("was refused: 24 of its 24 rows were rejected"), "{}", said("refused"));
    assert_eq!(said("churn"), "weather@3: 3 versions came within 1w; more than 2 are too many");
    assert!(
        said("unlinked").ends_with("no run is named that made it; a model version stands on it"),
        "{}",
        said("unlinked")
    );
    assert!(said("gone").contains("which tester withdrew: another station"), "{}", said("gone"));
    // Whoever asks again, and the store opened anew: nothing is new.
    drop((first, second));
    let serving = folder(root.path(), &clock).await;
    assert_eq!(pass(&alerting(&serving, RULES, &one, &two)).await, Passed::default());
    // No batch that counts came for too long: once, and again when one came and none after it.
    clock.advance("40d".parse().unwrap());
    for (raised, come) in [(1, true), (0, false)] {
        assert_eq!(pass(&alerting(&serving, RULES, &one, &two)).await.raised, raised);
        if come {
            let all = "origin string | hour timestamp | temp float64 | c float64\nJFK | 2024-01-20T08:00:00Z | 60 | 1";
            ingest(&serving, rows("weather", vec![table(all)])).await.unwrap();
        }
    }
    clock.advance("31d".parse().unwrap());
    assert_eq!(pass(&alerting(&serving, RULES, &one, &two)).await.raised, 1);
    assert_eq!(one.rules()["waits"], 2);
    let ids: BTreeSet<AlertId> = one.taken().iter().map(|taken| taken.alert).collect();
    assert_eq!(ids.len(), one.taken().len(), "none came twice");
}

/// A rule that tells of batches that failed, to one sink.
const FAILS: &str = "
[[sinks]]
name = \"one\"
type = \"log\"
[[rules]]
name = \"fails\"
on = \"check\"
sinks = [\"one\"]
";

async fn store_with_failures(serving: &Serving, first: &Alerting, failures: u32) {
    apply(serving, "").await;
    ingest(serving, rows("weather", vec![day(1, usual)])).await.unwrap();
    pass(first).await;
    for number in 0..failures {
        ingest(serving, rows("weather", vec![day(2 + number, |hour| usual(hour) / 3.0)])).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_again_after_pauses_that_show() {
    let clock = clock();
    let serving = memory(&clock).await;
    let (one, two) = (Inbox::default(), Inbox::default());
    let alerts = alerting(&serving, FAILS, &one, &two);
    store_with_failures(&serving, &alerts, 2).await;
    for _ in 0..2 {
        one.answers(not_now());
    }
    assert_eq!(pass(&alerts).await, Passed { raised: 2, delivered: 0, open: 2 });
    let head = serving.catalog().state().head.sequence;
    assert_eq!(shown(&serving).await, ["fails one failed 1 it answered 503", "fails one waiting 0 –"]);
    // Nothing is asked, and nothing written, before the pause is over; by nobody.
    let other = alerting(&serving, FAILS, &one, &two);
    assert_eq!((pass(&alerts).await.delivered, pass(&other).await.delivered), (0, 0));
    assert_eq!(serving.catalog().refresh().await.unwrap().head.sequence, head);
    clock.advance("1s".parse().unwrap());
    assert_eq!(pass(&alerts).await.delivered, 0);
    clock.advance("1s".parse().unwrap());
    assert_eq!(pass(&alerts).await.delivered, 0, "the second pause is longer");
    clock.advance("1s".parse().unwrap());
    assert_eq!(pass(&other).await, Passed { raised: 0, delivered: 2, open: 0 });
    let taken = one.taken();
    assert_eq!(taken.iter().map(|taken| taken.attempt).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(shown(&serving).await, ["fails one delivered 2 –", "fails one delivered 2 –"]);
    // As it was, at an earlier sequence.
    let state = serving.catalog().state();
    let way = state.alerts().on_its_way(taken[0].alert, "one", head);
    assert_eq!((way.standing.name(), way.attempts), ("failed", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_never_taken_does_not_hold_up_the_others() {
    let clock = clock();
    let serving = memory(&clock).await;
    let (one, two) = (Inbox::default(), Inbox::default());
    let alerts = alerting(&serving, FAILS, &one, &two);
    store_with_failures(&serving, &alerts, 2).await;
    one.answers(not_now());
    assert_eq!(pass(&alerts).await, Passed { raised: 2, delivered: 0, open: 2 });
    clock.advance("1s".parse().unwrap());
    assert_eq!(pass(&alerts).await, Passed { raised: 0, delivered: 2, open: 0 });
    let first = serving.catalog().state().alerts().all()[0].record.alert;
    let taken: Vec<(bool, u32)> =
        one.taken().iter().map(|taken| (taken.alert == first, taken.attempt)).collect();
    assert_eq!(taken, [(false, 1), (true, 2)], "the one that was not tried yet goes before");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_looked_at_holds_up_nothing_else() {
    let (root, clock) = (tempfile::tempdir().unwrap(), clock());
    let serving = folder(root.path(), &clock).await;
    let rules = format!(
        "{FAILS}[[rules]]\nname = \"gone\"\non = \"dangling\"\nobjects = \"1h\"\nsinks = [\"one\"]\n"
    );
    let (one, two) = (Inbox::default(), Inbox::default());
    let alerts = alerting(&serving, &rules, &one, &two);
    store_with_failures(&serving, &alerts, 0).await;
    let wanted = spine(vec![table("origin string | at timestamp\nJFK | 2024-01-01T10:00:00Z")]);
    serving.historical(wanted, HistoricalRequest::new(["weather.temp"]), &author()).await.unwrap();
    let state = serving.catalog().refresh().await.unwrap();
    let manifest = root.path().join(&state.training_sets().next().unwrap().record.manifest.path);
    // Neither there nor gone: the store does not answer.
    std::fs::remove_file(&manifest).unwrap();
    std::os::unix::fs::symlink(&manifest, &manifest).unwrap();
    serving.reconcile(false).await.unwrap_err();
    ingest(&serving, rows("weather", vec![day(2, |hour| usual(hour) / 3.0)])).await.unwrap();
    assert_eq!(pass(&alerts).await, Passed { raised: 1, delivered: 1, open: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_rule_tells_nothing_of_a_long_history() {
    let clock = clock();
    let serving = memory(&clock).await;
    let (one, two) = (Inbox::default(), Inbox::default());
    store_with_failures(&serving, &alerting(&serving, FAILS, &one, &two), 0).await;
    // More than is read at once, and behind it what the new rule must not tell of.
    for version in 0..1_001 {
        let seen = SeenModelVersion {
            model: "delay".to_owned(),
            version: version.to_string(),
            ..SeenModelVersion::default()
        };
        let seen = Observations { model_versions: vec![seen], ..Observations::default() };
        serving.observe(seen, &author()).await.unwrap();
    }
    ingest(&serving, rows("weather", vec![day(2, |hour| usual(hour) / 3.0)])).await.unwrap();
    let rules = format!("{FAILS}[[rules]]\nname = \"new\"\non = \"quarantine\"\nsinks = [\"one\"]\n");
    let alerts = alerting(&serving, &rules, &one, &two);
    assert_eq!(pass(&alerts).await.raised, 1);
    assert_eq!(one.rules(), BTreeMap::from([("fails".to_owned(), 1)]));
    ingest(&serving, rows("weather", vec![day(3, |hour| usual(hour) / 3.0)])).await.unwrap();
    assert_eq!(pass(&alerts).await.raised, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_batches_of_one_look_come_as_one_alert() {
    let clock = clock();
    let serving = memory(&clock).await;
    let (one, two) = (Inbox::default(), Inbox::default());
    let alerts = alerting(&serving, FAILS, &one, &two);
    store_with_failures(&serving, &alerts, 21).await;
    assert_eq!(pass(&alerts).await, Passed { raised: 1, delivered: 1, open: 0 });
    let summary = &one.taken()[0].summary;
    let begins = "21 batches failed their checks or made them warn; the first: weather@1: batch ";
    assert!(summary.starts_with(begins), "{summary}");
    let state = serving.catalog().state();
    let record = &state.alerts().all()[0].record;
    assert!(record.version.is_some() && record.causes.len() == 21, "{record:?}");
    assert_eq!(pass(&alerts).await, Passed::default(), "each was told of");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_drifts_as_it_is_read_is_told_once_until_it_passes() {
    let clock = clock();
    let serving = memory(&clock).await;
    let (one, two) = (Inbox::default(), Inbox::default());
    let alerts = alerting(&serving, FAILS, &one, &two);
    store_with_failures(&serving, &alerts, 0).await;
    serving.begin_sampling();
    let state = serving.catalog().refresh().await.unwrap();
    let version = state.view("default", "weather", None, state.head.sequence).unwrap().clone();
    // A day of what is read, or a row that is too little to tell.
    let read = async |by: f64, rows: usize| {
        let at = instant("2024-02-01T00:00:00Z");
        let mut portion = Portion::empty(&version, 1.0, at, state.head.sequence);
        let day = day(2, |hour| usual(hour) / by);
        portion.add_accepted(&version, &day.slice(0, rows), at).unwrap();
        serving.catalog().passing().add(version.version, PassedBy::Reads, &portion).unwrap();
        assert_eq!(serving.judge_samples(Due::All, &author()).await.unwrap().len(), 1);
    };
    read(1.0, 24).await;
    assert_eq!(pass(&alerts).await.raised, 0);
    read(3.0, 24).await;
    read(3.0, 24).await;
    assert_eq!(pass(&alerts).await, Passed { raised: 1, delivered: 1, open: 0 });
    let said = one.taken()[0].clone();
    let begins = "weather@1: a sample of its reads failed its checks: wasserstein of `temp` is ";
    assert!(said.summary.starts_with(begins), "{}", said.summary);
    assert!(said.body.contains("\"kind\":\"reads\""), "{}", said.body);
    read(3.0, 1).await;
    read(3.0, 24).await;
    assert_eq!(pass(&alerts).await.raised, 0, "it goes on as it was told");
    // A rule that comes meanwhile tells of it once, too.
    let more = format!("{FAILS}[[rules]]\nname = \"new\"\non = \"check\"\nsinks = [\"one\"]\n");
    let alerts = alerting(&serving, &more, &one, &two);
    assert_eq!(pass(&alerts).await.raised, 0);
    read(3.0, 24).await;
    read(3.0, 24).await;
    assert_eq!((pass(&alerts).await.raised, one.rules()["new"]), (1, 1));
    read(1.0, 24).await;
    read(3.0, 24).await;
    assert_eq!(pass(&alerts).await.raised, 2, "it passed in between");
    assert_eq!((one.rules()["fails"], one.rules()["new"]), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_receiver_refuses_does_not_hold_up_the_others_and_can_be_dropped() {
    let clock = clock();
    let serving = memory(&clock).await;
    let (one, two) = (Inbox::default(), Inbox::default());
    let alerts = alerting(&serving, FAILS, &one, &two);
    store_with_failures(&serving, &alerts, 2).await;
    one.answers(Refusal::Never { why: "it answered 400".to_owned() });
    assert_eq!(pass(&alerts).await, Passed { raised: 2, delivered: 1, open: 1 });
    assert_eq!(shown(&serving).await, ["fails one failed 1 it answered 400", "fails one delivered 1 –"]);
    let refused = serving.catalog().state().alerts().all()[0].record.alert;
    assert_ne!(one.taken()[0].alert, refused);
    let none = serving.drop_alert(refused, " ", &author()).await.unwrap_err();
    assert!(none.to_string().contains("say why"), "{none}");
    assert_eq!(serving.drop_alert(refused, "everybody knows", &author()).await.unwrap().0, 1);
    assert_eq!(shown(&serving).await[0], "fails one dropped 1 everybody knows");
    clock.advance("1d".parse().unwrap());
    assert_eq!(pass(&alerts).await, Passed::default());
    let again = serving.drop_alert(refused, "again", &author()).await.unwrap_err();
    assert!(again.to_string().contains("nowhere on its way any more"), "{again}");
    let unknown: AlertId = environment::mint();
    let unknown = serving.drop_alert(unknown, "x", &author()).await.unwrap_err();
    assert!(unknown.to_string().contains("there is no alert"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_died_is_waited_for_and_then_replaced() {
    let clock = clock();
    let serving = memory(&clock).await;
    let (one, two) = (Inbox::default(), Inbox::default());
    let alerts = alerting(&serving, FAILS, &one, &two);
    store_with_failures(&serving, &alerts, 1).await;
    one.answers(not_now());
    pass(&alerts).await;
    clock.advance("1s".parse().unwrap());
    // An attempt that was begun, and whose sender says nothing more.
    let until = Timestamp(environment::Clock::from(clock.clone()).now().micros() + 25_000_000);
    let dead = environment::random();
    let attempt = catalog::alerts::step(serving.catalog(), "one", dead, None, Some(until), &author()).await;
    assert_eq!(attempt.unwrap().unwrap().number, 2);
    assert_eq!(shown(&serving).await, ["fails one sending 2 it answered 503"]);
    clock.advance("24s".parse().unwrap());
    assert_eq!(pass(&alerts).await.delivered, 0, "it is the other's turn");
    clock.advance("2s".parse().unwrap());
    assert_eq!(pass(&alerts).await.delivered, 1);
    assert_eq!(one.taken()[0].attempt, 3);
    assert_eq!(shown(&serving).await, ["fails one delivered 3 –"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_one_raises_and_one_sends() {
    let (root, clock) = (tempfile::tempdir().unwrap(), clock());
    let serving = folder(root.path(), &clock).await;
    let inbox = Inbox { takes: Duration::from_millis(20), ..Inbox::default() };
    store_with_failures(&serving, &alerting(&serving, FAILS, &inbox, &inbox), 0).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut servers = Vec::new();
    for _ in 0..2 {
        let own = folder(root.path(), &clock).await;
        let alerts = alerting(&own, FAILS, &inbox, &inbox);
        let stopped = stopped.clone();
        servers.push(tokio::spawn(async move { alerts.run(stopped).await }));
    }
    const FAILURES: u32 = 12;
    for number in 0..FAILURES {
        ingest(&serving, rows("weather", vec![day(2 + number, |hour| usual(hour) / 3.0)])).await.unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    for _ in 0..300 {
        if inbox.taken().len() >= FAILURES as usize {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // What comes twice would come now.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    stop.send(true).unwrap();
    for server in servers {
        server.await.unwrap();
    }
    let taken = inbox.taken();
    let ids: BTreeSet<AlertId> = taken.iter().map(|taken| taken.alert).collect();
    assert_eq!((taken.len(), ids.len()), (FAILURES as usize, FAILURES as usize));
    assert!(taken.iter().all(|taken| taken.attempt == 1));
    let state = serving.catalog().refresh().await.unwrap();
    assert_eq!((state.alerts().all().len(), state.alerts().open("one")), (FAILURES as usize, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_causes_of_one_look_come_as_one_alert() {
    let clock = clock();
    let serving = memory(&clock).await;
    let many = |from: u32, until: u32| {
        let versions = (from..until).map(|number| SeenModelVersion {
            model: "delay".to_owned(),
            version: number.to_string(),
            ..SeenModelVersion::default()
        });
        Observations { model_versions: versions.collect(), ..Observations::default() }
    };
    let rules = FAILS.replace("on = \"check\"", "on = \"missing_lineage\"");
    let (one, two) = (Inbox::default(), Inbox::default());
    serving.observe(many(0, 30), &author()).await.unwrap();
    clock.advance("2h".parse().unwrap());
    assert_eq!(pass(&alerting(&serving, &rules, &one, &two)).await.raised, 1);
    let taken = one.taken();
    assert!(
        taken[0].summary.starts_with("30 links of lineage are missing; the first: model version "),
        "{}",
        taken[0].summary
    );
    assert!(taken[0].body.contains("\"count\":30"), "{}", taken[0].body);
    serving.observe(many(30, 32), &author()).await.unwrap();
    clock.advance("2h".parse().unwrap());
    assert_eq!(pass(&alerting(&serving, &rules, &one, &two)).await.raised, 2, "the thirty were told of");
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_of_what_may_not_be_read_are_left_out() {
    let clock = clock();
    let serving = memory(&clock).await;
    let (one, two) = (Inbox::default(), Inbox::default());
    let alerts = alerting(&serving, FAILS, &one, &two);
    store_with_failures(&serving, &alerts, 1).await;
    pass(&alerts).await;
    govern(&serving, "permit(principal in Role::\"analyst\", action == Action::\"read\", resource);").await;
    for (role, seen) in [("analyst", 1), ("guest", 0)] {
        let query = serving::Query::sql("SELECT * FROM lineament.alerts");
        let rows = serving.retrieve(query, &with_role(role)).await.unwrap().collect().await.unwrap();
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), seen, "{role}");
    }
    assert_eq!(stores::count(&serving, "SELECT count(*) FROM lineament.alerts").await, 1);
    let alert = serving.catalog().state().alerts().all()[0].record.alert;
    let refused = serving.drop_alert(alert, "I am annoyed", &with_role("analyst")).await.unwrap_err();
    assert_eq!(refused.kind(), serving::Kind::Forbidden, "{refused}");
}
