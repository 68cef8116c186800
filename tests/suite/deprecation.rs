//! Deprecation: a model in force is not surprised, everybody else is told in time, and who had no right to say so is named.

use std::collections::BTreeSet;
use std::path::Path;

use catalog::Author;
use catalog::Intent;
use catalog::records::{Deprecable, Deprecated, DeprecatedKind, DeprecationStep, Record, Role};
use catalog::registry::Deployment;
use catalog::state::Stage;
use feature::{Id, TrainingSetId};
use serving::{DeprecateRequest, DeprecationReport, HistoricalRequest, Kind, Serving};
use storage::environment::{TestClock, mint};

use super::evidence::story::{Story, tell};
use super::fixture;
use super::policies::{govern, with_role};
use super::stores::{author, files, folder, instant, select, spine};
use super::tables::table;

const CLOSED: &str = "2013-04-01T00:00:00Z";
const WITHDRAWN: &str = "2013-05-01T00:00:00Z";

fn of_version(node: &str) -> DeprecateRequest {
    DeprecateRequest {
        node: node.to_owned(),
        reason: "too wide a range".to_owned(),
        closed_on: Some("2013-04-01".to_owned()),
        withdrawn_on: Some("2013-05-01".to_owned()),
        ..DeprecateRequest::default()
    }
}

async fn deprecate(serving: &Serving, node: &str, by: &Author) -> DeprecationReport {
    serving.deprecate(&of_version(node), by).await.unwrap()
}

/// The store of the story, and its clock a month later.
async fn reopened(path: &Path) -> (Story, Serving, TestClock) {
    let story = tell(path).await;
    let clock = fixture::later();
    let serving = folder(path, &clock).await;
    (story, serving, clock)
}

async fn retrieve(
    serving: &Serving,
    features: &str,
    role: Role,
) -> serving::Result<serving::HistoricalReport> {
    let mut request = HistoricalRequest::new([features]);
    request.role = role;
    let spine = spine(vec![table(fixture::SPINE).slice(0, 3)]);
    serving.historical(spine, request, &author()).await.map(|set| set.report)
}

fn stage(serving: &Serving, label: &str) -> Option<Stage> {
    let state = serving.catalog().state();
    let version = state.views().find(|version| version.label() == label)?;
    state.deprecation_of(version, state.head.sequence).map(|(_, stage)| stage)
}

async fn replays(serving: &Serving, set: TrainingSetId) {
    let (report, _) = serving.replay(set, &author()).await.unwrap();
    assert!(report.require_equal("").is_ok());
}

/// What reconciliation says of a version, and what stands on it.
async fn named(serving: &Serving, label: &str) -> Vec<(String, Option<String>)> {
    let report = serving.reconcile(false).await.unwrap();
    let of = report.problems.into_iter().filter(|problem| problem.id == label);
    of.map(|problem| (problem.problem, problem.blocks)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_in_force_stands_on_is_closed_to_others_and_not_withdrawn() {
    let root = tempfile::tempdir().unwrap();
    let (story, serving, clock) = reopened(root.path()).await;
    let mut request = of_version("weather@1");
    request.instead = Some("departures".to_owned());
    let report = serving.deprecate(&request, &author()).await.unwrap();
    assert_eq!(report.deployments, ["delay-api in production (delay/1)"]);
    assert_eq!((report.training_sets, report.kind, report.without_right), (2, "version", None));
    assert_eq!(
        (report.closed_at.as_deref(), report.withdrawn_at.as_deref()),
        (Some(CLOSED), Some(WITHDRAWN))
    );

    // Announced: whoever reads it is told, and gets it.
    let told = retrieve(&serving, "weather.temp", Role::Train).await.unwrap().deprecations;
    assert_eq!(told.len(), 1);
    assert_eq!(
        told[0].to_string(),
        "weather@1 is deprecated by tester: too wide a range; it is closed to new training sets on 2013-04-01T00:00:00Z, and read \
         no more from 2013-05-01T00:00:00Z on; use departures instead"
    );
    assert!(retrieve(&serving, "departures.carrier", Role::Train).await.unwrap().deprecations.is_empty());
    let sql = serving::Query::sql("SELECT count(*) FROM weather");
    assert_eq!(serving.retrieve(sql, &author()).await.unwrap().deprecations, told);

    // Closed: others are refused, and the model goes on.
    clock.set(instant("2013-04-02T00:00:00Z"));
    let refused = retrieve(&serving, "weather.temp", Role::Train).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid);
    assert!(refused.to_string().ends_with("use departures instead"), "{refused}");
    assert_eq!(stage(&serving, "weather@1"), Some(Stage::Closed), "whoever met the date wrote it down");
    let scored = retrieve(&serving, "weather@1.temp", Role::Score).await.unwrap();
    assert_eq!((scored.deprecations[0].stage, scored.training_set.is_some()), ("closed", true));
    replays(&serving, story.train).await;

    // The second date comes, and the model is in force.
    clock.set(instant("2013-05-02T00:00:00Z"));
    retrieve(&serving, "weather@1.temp", Role::Score).await.unwrap();
    let report = serving.advance_deprecations(None, &author()).await.unwrap();
    assert!(report.taken.is_empty(), "{report:?}");
    assert_eq!(report.put_off.len(), 1);
    assert_eq!(report.put_off[0].deployments, ["delay-api in production (delay/1)"]);
    assert_eq!(stage(&serving, "weather@1"), Some(Stage::Closed));
    let waits =
        format!("it was to be withdrawn on {WITHDRAWN}, and delay-api in production (delay/1) stands on it");
    assert_eq!(named(&serving, "weather@1").await, [(waits, Some("deployment".to_owned()))]);

    // It serves no more, and what is left of it can be made again for ever.
    let none = Deployment { name: "delay-api".to_owned(), ..Deployment::default() };
    serving.deploy(none, &author()).await.unwrap();
    let report = serving.advance_deprecations(None, &author()).await.unwrap();
    assert_eq!((report.taken.len(), report.taken[0].step, report.put_off.len()), (1, "withdrawn", 0));
    assert!(retrieve(&serving, "weather@1.temp", Role::Score).await.is_err());
    assert!(select(&serving, "SELECT count(*) FROM weather").await.is_err());
    replays(&serving, story.train).await;
    assert_eq!(named(&serving, "weather@1").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_use_is_withdrawn_by_who_says_why() {
    let root = tempfile::tempdir().unwrap();
    let (_, serving, clock) = reopened(root.path()).await;
    deprecate(&serving, "weather", &author()).await;
    clock.set(instant("2013-05-02T00:00:00Z"));
    // Both dates are past: the first step is taken whatever is in use, the second with a word.
    let report = serving.advance_deprecations(None, &author()).await.unwrap();
    assert_eq!((report.taken.len(), report.put_off.len()), (1, 1));
    let report = serving.advance_deprecations(Some("the sensor was broken"), &author()).await.unwrap();
    assert_eq!((report.taken.len(), report.put_off.len()), (1, 0));
    let state = serving.catalog().state();
    let one = &state.deprecations().all()[0];
    let steps: Vec<_> = one.steps.iter().map(|(step, _)| (step.step, step.despite.as_deref())).collect();
    let despite = Some("the sensor was broken");
    assert_eq!(steps, [(DeprecationStep::Closed, None), (DeprecationStep::Withdrawn, despite)]);
}

/// What is in use was looked up for what was due then.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_due_after_the_look_is_not_withdrawn_by_it() {
    let root = tempfile::tempdir().unwrap();
    let (_, serving, clock) = reopened(root.path()).await;
    deprecate(&serving, "weather@1", &author()).await;
    let looked = instant("2013-04-02T00:00:00Z");
    clock.set(instant("2013-05-02T00:00:00Z"));
    let (catalog, head) = (serving.catalog(), serving.catalog().state().head.sequence);
    let nothing = BTreeSet::new();
    let taken = catalog::deprecation::advance(catalog, head, looked, &nothing, None, &author()).await;
    let steps: Vec<DeprecationStep> = taken.unwrap().0.iter().map(|taken| taken.step).collect();
    assert_eq!(steps, [DeprecationStep::Closed]);
    assert_eq!(stage(&serving, "weather@1"), Some(Stage::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_score_is_for_models_that_were_trained_on_it() {
    let root = tempfile::tempdir().unwrap();
    let (_, serving, clock) = reopened(root.path()).await;
    let (name, text) = fixture::DEFINITIONS[1];
    let next = format!("{text}\n[[features]]\nname = \"humid\"\ntype = \"float64\"\n");
    serving.apply(files(&[fixture::DEFINITIONS[0], (name, &next)]), &author()).await.unwrap();
    deprecate(&serving, "weather", &author()).await;
    clock.set(instant("2013-04-02T00:00:00Z"));
    // The view goes as a whole, and some version of it was selected.
    assert!(retrieve(&serving, "weather@1.temp", Role::Score).await.is_ok());
    let undo = DeprecateRequest { undo: true, ..of_version("weather") };
    serving.deprecate(&undo, &author()).await.unwrap();
    let later = DeprecateRequest {
        closed_on: Some("2013-06-01".to_owned()),
        withdrawn_on: None,
        ..of_version("weather@2")
    };
    serving.deprecate(&later, &author()).await.unwrap();
    clock.set(instant("2013-06-02T00:00:00Z"));
    assert!(
        retrieve(&serving, "weather@2.humid", Role::Score).await.is_err(),
        "nothing was ever trained on it"
    );
    assert!(retrieve(&serving, "weather@1.temp", Role::Train).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_two_meet_at_once_is_written_down_once() {
    let root = tempfile::tempdir().unwrap();
    let (_, serving, clock) = reopened(root.path()).await;
    deprecate(&serving, "departures", &author()).await;
    clock.set(instant("2013-04-02T00:00:00Z"));
    let other = folder(root.path(), &clock).await;
    let (by_one, by_other) = (author(), Author { principal: "other".to_owned(), ..author() });
    let (one, two) = tokio::join!(
        serving.advance_deprecations(None, &by_one),
        other.advance_deprecations(None, &by_other)
    );
    assert_eq!(one.unwrap().taken.len() + two.unwrap().taken.len(), 1);
    let state = serving.catalog().refresh().await.unwrap();
    assert_eq!(state.deprecations().all()[0].steps.len(), 1);
    let again = serving.advance_deprecations(None, &author()).await.unwrap();
    assert!(again.taken.is_empty() && again.put_off.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_policies_who_is_not_the_owner_is_named() {
    let root = tempfile::tempdir().unwrap();
    let (_, serving, _) = reopened(root.path()).await;
    let (name, text) = fixture::DEFINITIONS[1];
    let owned = text.replace("entity = \"airport\"\n", "entity = \"airport\"\nowner = \"weather-desk\"\n");
    serving.apply(files(&[fixture::DEFINITIONS[0], (name, &owned)]), &author()).await.unwrap();
    let mallory = Author { principal: "mallory".to_owned(), ..author() };
    let report = deprecate(&serving, "weather@1", &mallory).await;
    let why = "its owner is `weather-desk`, and no policies were in force";
    assert_eq!(report.without_right.as_deref(), Some(why));
    let told = format!(
        "it is in use, and mallory deprecated it at sequence {} without right: {why}",
        report.sequence
    );
    assert_eq!(named(&serving, "weather@1").await, [(told, Some("deployment".to_owned()))]);

    // Whoever has the owner's role may, and what nobody uses nobody minds.
    let undo = DeprecateRequest { undo: true, ..of_version("weather@1") };
    serving.deprecate(&undo, &mallory).await.unwrap();
    assert_eq!(deprecate(&serving, "weather@1", &with_role("weather-desk")).await.without_right, None);
    assert_eq!(named(&serving, "weather@1").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_policies_who_may_not_is_refused_and_named_where_it_stands_in_the_log() {
    let root = tempfile::tempdir().unwrap();
    let (_, serving, _) = reopened(root.path()).await;
    govern(
        &serving,
        "permit(principal, action == Action::\"read\", resource);\n\
         permit(principal in Role::\"owner\", action == Action::\"deprecate\", resource in View::\"default.weather\");\n",
    )
    .await;
    let mallory = Author { principal: "mallory".to_owned(), ..author() };
    let refused = serving.deprecate(&of_version("weather@1"), &mallory).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Forbidden);
    assert_eq!(serving.reads_waiting().0, 1, "it is on record");
    assert_eq!(
        refused.to_string(),
        "`mallory` may not deprecate this: `default.weather`: no policy permits it; ask whoever governs the store"
    );
    // Of a service all views that it lists are asked.
    let service = serving.deprecate(&of_version("late_flights"), &with_role("owner")).await.unwrap_err();
    assert!(service.to_string().contains("`default.departures`: no policy permits it"), "{service}");

    // Whoever can write files can write entries; that they had no right shows.
    let state = serving.catalog().refresh().await.unwrap();
    let version = state.views().find(|version| version.label() == "weather@1").unwrap();
    let record = Deprecated {
        deprecation: mint(),
        of: Deprecable { kind: DeprecatedKind::Version, id: version.version.uuid() },
        reason: "no reason".to_owned(),
        closed_at: instant(CLOSED),
        withdrawn_at: None,
        instead: None,
        roles: Vec::new(),
        claims: Default::default(),
    };
    let written = serving
        .catalog()
        .commit::<()>(&mallory, None, |_| Ok(Intent::Append(vec![Record::from(record.clone())])))
        .await;
    assert!(written.is_ok());
    let [(problem, blocks)] = &named(&serving, "weather@1").await[..] else { panic!("one is named") };
    assert!(problem.contains("mallory deprecated it at sequence"), "{problem}");
    assert!(problem.ends_with("without right: `default.weather`: no policy permits it"), "{problem}");
    assert_eq!(blocks.as_deref(), Some("deployment"));

    // Who may, by the policies of then, is not named, though they may not by those of now.
    let undo = DeprecateRequest { undo: true, ..of_version("weather@1") };
    serving.deprecate(&undo, &with_role("owner")).await.unwrap();
    deprecate(&serving, "weather@1", &with_role("owner")).await;
    govern(&serving, "").await;
    assert_eq!(named(&serving, "weather@1").await, []);
}
