//! Policies as records: applied, in force, changed and lifted.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use catalog::records::{How, Role};
use catalog::registry::{Observations, SeenModelVersion};
use feature::Sequence;
use feature::policy::{Action, Asker, Purpose};
use object_store::ObjectStoreExt;
use serving::{HistoricalRequest, Kind};

use super::{apply, govern, with_role};
use crate::suite::column_lineage::store;
use crate::suite::stores::{author, files, ingest, rows, select, spine};
use crate::suite::tables::table;

#[tokio::test]
async fn policies_are_in_force_from_their_entry_on_and_until_they_are_lifted() {
    let serving = store::with(|_, rows| rows).await;
    let read = || select_as(&serving, "SELECT count(*) FROM weather", "guest");
    assert!(read().await.is_ok(), "nothing is governed yet");
    govern(&serving, "").await;
    let head = serving.catalog().state().head.sequence;
    let denied = read().await.unwrap_err();
    assert_eq!(denied.kind(), Kind::Forbidden);
    assert_eq!(
        denied.to_string(),
        "`weather@1` may not be read by `ann`: no policy permits it; ask whoever governs the store"
    );
    // The same again is no entry.
    govern(&serving, "").await;
    assert_eq!(serving.catalog().state().head.sequence, head);
    // Earlier snapshots are no way round: the policies are those of now.
    let earlier = select_as(&serving, "SELECT * FROM at_sequence('weather', 3)", "guest").await;
    assert_eq!(earlier.unwrap_err().kind(), Kind::Forbidden);
    assert!(select(&serving, "SELECT * FROM weather").await.is_ok(), "the tester may read");
    let refused = serving.lift_policies("no more", &with_role("guest")).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Forbidden);
    // Why stands in the log for ever, so that there must be something.
    for nothing in ["", " \t\n"] {
        let refused = serving.lift_policies(nothing, &author()).await.unwrap_err();
        assert!(refused.to_string().contains("say why"), "{refused}");
    }
    serving.lift_policies("a mistake", &author()).await.unwrap();
    assert!(read().await.is_ok());
    let asker = Asker { principal: "ann".to_owned(), ..Asker::default() };
    let ruling =
        async |at: u64| serving.ruling("weather", &asker, Action::Read, Some(Sequence(at))).await.unwrap();
    let (before, then, after) = (ruling(head.0 - 1).await, ruling(head.0).await, ruling(head.0 + 1).await);
    assert_eq!([before.policies, then.policies, after.policies], [None, Some(1), None]);
    assert_eq!([before.view.allowed, then.view.allowed, after.view.allowed], [true, false, true]);
}

async fn select_as(
    serving: &serving::Serving,
    sql: &str,
    role: &str,
) -> serving::Result<Vec<arrow::array::RecordBatch>> {
    serving.retrieve(serving::Query::sql(sql), &with_role(role)).await?.collect().await
}

#[tokio::test]
async fn wrong_policies_are_not_applied() {
    let serving = store::with(|_, rows| rows).await;
    let head = serving.catalog().state().head.sequence;
    for (text, told) in [
        ("permit(principal, action, resource)", "base.cedar:1:36"),
        ("// nothing", "would be allowed to anybody"),
        ("permit(principal == User::\"eve\", action, resource);", "could not change them again"),
        ("@rows(\"temp > 3\") permit(principal, action, resource);", "fits the keys of no feature view"),
        (
            "@rows(\"upper(origin) = 'JFK'\") permit(principal, action, resource);",
            "may only compare keys with constants",
        ),
        ("@rows(\"origin\") permit(principal, action, resource);", "not true or false"),
    ] {
        let error = apply(&serving, text, &author()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{text}");
        assert!(error.to_string().contains(told), "{text}\n{error}");
    }
    assert_eq!(serving.catalog().state().head.sequence, head);
}

#[tokio::test]
async fn who_may_not_govern_ingest_or_withdraw_does_not() {
    let serving = store::with(|_, rows| rows).await;
    govern(&serving, "permit(principal, action == Action::\"read\", resource);").await;
    let guest = with_role("guest");
    let change = apply(&serving, "permit(principal, action, resource);", &guest).await;
    assert_eq!(change.unwrap_err().kind(), Kind::Forbidden);
    let rows = crate::suite::tables::table(store::TABLES[3].1);
    let request = crate::suite::stores::rows("weather", vec![rows]);
    let refused = serving.ingest(request, &guest, std::sync::Arc::new(|_| ())).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Forbidden);
    assert!(refused.to_string().contains("may not ingest `default.weather`"), "{refused}");
    // However the view is named, by whichever way in.
    for (project, view) in
        [("default", "default.weather"), ("fraud", "default.weather"), ("default", "weather")]
    {
        let target = catalog::ingest::stream::Target {
            project: project.parse().unwrap(),
            view: view.to_owned(),
            producer: "station".to_owned(),
            claim: None,
        };
        let refused = serving.open_stream(target, &guest).await.err().unwrap();
        assert_eq!(refused.kind(), Kind::Forbidden, "{project} {view}: {refused}");
    }
    let batch = serving.catalog().state().batches().next().unwrap().record.batch;
    let request = serving::RollbackRequest {
        node: batch.to_string(),
        undo: false,
        derived: false,
        reason: Some("no".to_owned()),
    };
    let refused = serving.rollback(&request, &guest).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Forbidden, "{refused}");
    let request = serving::RollbackRequest {
        node: "weather@1".to_owned(),
        undo: false,
        derived: false,
        reason: Some("no".to_owned()),
    };
    // It is the last version: that is told of, or that it is not allowed, and neither is done.
    assert!(serving.rollback(&request, &guest).await.is_err());
}

#[tokio::test]
async fn a_tag_counts_as_soon_as_it_is_there() {
    let serving = store::with(|_, rows| rows).await;
    govern(
        &serving,
        "permit(principal, action == Action::\"read\", resource) unless { resource.tags.contains(\"pii\") };",
    )
    .await;
    select_as(&serving, "SELECT temp FROM weather", "guest").await.unwrap();
    let head = serving.catalog().state().head.sequence;
    let (name, text) = store::DEFINITIONS[2];
    let tagged = text.replace("entity = \"airport\"", "entity = \"airport\"\ntags = [\"pii\"]");
    serving
        .apply(crate::suite::stores::files(&[store::DEFINITIONS[0], (name, &tagged)]), &author())
        .await
        .unwrap();
    let refused = select_as(&serving, "SELECT temp FROM weather", "guest").await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Forbidden, "the version is the same, and what is said of it is not");
    // Then it could be read, for the tag was not there.
    let (before, now) = (head, serving.catalog().state().head.sequence);
    assert!(now > before);
    let asker = Asker { principal: "ann".to_owned(), ..Asker::default() };
    let allowed = async |at| {
        let ruling = serving.ruling("weather", &asker, Action::Read, Some(at)).await.unwrap();
        (ruling.policies, ruling.view.allowed)
    };
    assert_eq!(allowed(before).await, (Some(1), true));
    assert_eq!(allowed(now).await, (Some(1), false));
    let told = async |at: Sequence| {
        let sql = format!("SELECT decision FROM access('weather.temp', principal => 'ann', at => {at})");
        let (_, batches) = select(&serving, &sql).await.unwrap();
        batches[0].column(0).as_string::<i32>().value(0).to_owned()
    };
    assert_eq!((told(before).await, told(now).await), ("allow".to_owned(), "deny".to_owned()));
    // Described once more, back again: what was said in between is found in the log.
    serving.apply(crate::suite::stores::files(&store::DEFINITIONS), &author()).await.unwrap();
    assert_eq!((told(before).await, told(now).await), ("allow".to_owned(), "deny".to_owned()));
    assert_eq!(told(serving.catalog().state().head.sequence).await, "allow");
}

/// Taking a tag off, and changing what views belong to or are listed in, is to change the views.
#[tokio::test]
async fn who_may_not_apply_a_view_changes_nothing_around_it() {
    let serving = store::with(|_, rows| rows).await;
    let files = crate::suite::stores::files;
    let (name, text) = store::DEFINITIONS[2];
    let tagged = text.replace("entity = \"airport\"", "entity = \"airport\"\ntags = [\"pii\"]");
    serving.apply(files(&[store::DEFINITIONS[0], (name, &tagged)]), &author()).await.unwrap();
    govern(
        &serving,
        "permit(principal in Role::\"author\", action == Action::\"apply\", resource) unless { resource.tags.contains(\"pii\") };",
    )
    .await;
    let bert = with_role("author");
    let described = |text: &str| format!("description = \"other words\"\n{text}");
    let (airport, plane) = (described(store::DEFINITIONS[0].1), described(store::DEFINITIONS[1].1));
    let of_weather = "kind = \"feature_service\"\nname = \"warm\"\nfeatures = [\"weather.temp\"]\n";
    let of_planes = "kind = \"feature_service\"\nname = \"wide\"\nfeatures = [\"planes.seats\"]\n";
    let nobodys = "kind = \"entity\"\nname = \"gate\"\n[[keys]]\nname = \"gate\"\ntype = \"string\"\n";
    for (number, (text, lacks)) in [
        // The view as it would be has no tag.
        (text, "may not apply `default.weather`"),
        (airport.as_str(), "may not apply `default.weather`"),
        (of_weather, "may not apply `default.weather`"),
        (nobodys, "may not govern `default`"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut folder = vec![("one.toml", text)];
        if text != airport {
            folder.insert(0, store::DEFINITIONS[0]);
        }
        let refused = serving.apply(files(&folder), &bert).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Forbidden, "{text}\n{refused}");
        assert!(refused.to_string().contains(lacks), "{text}\n{refused}");
        assert_eq!(serving.reads_waiting().0, number + 1, "it is on record");
    }
    // What is left as it is needs no right.
    for text in [plane.as_str(), of_planes] {
        serving.apply(files(&[store::DEFINITIONS[0], ("one.toml", text)]), &bert).await.unwrap();
    }
}

/// Policies name the key of the first ones again, which was made before the fence of any sweep.
#[tokio::test]
async fn policies_may_be_changed_after_a_sweep() {
    let serving = store::with(|_, rows| rows).await;
    govern(&serving, "").await;
    let key = || {
        let state = serving.catalog().state();
        state.policies().last(state.head.sequence).unwrap().record.key.clone()
    };
    let first = key();
    assert_eq!(first.id().unwrap().get_version_num(), 7, "the time of its making is in {}", first.path);
    let objects = serving.catalog().store().objects();
    let nobodys = format!("bodies/{}.json", storage::environment::mint::<feature::BodyId>());
    objects.put(&nobodys.into(), "{}".into()).await.unwrap();
    let swept = serving.sweep(&crate::suite::sweep::at_once(&serving), &author()).await.unwrap();
    assert!(swept.sequence.is_some());
    govern(&serving, "permit(principal, action == Action::\"read\", resource);").await;
    assert_eq!(key(), first);
}

#[tokio::test]
async fn purposes_decide() {
    let serving = store::with(|_, rows| rows).await;
    govern(
        &serving,
        "permit(principal, action == Action::\"read\", resource) when { context.purpose == Purpose::\"train\" };",
    )
    .await;
    let mut guest = with_role("guest");
    let read = async |by: &catalog::Author| {
        serving.retrieve(serving::Query::sql("SELECT temp FROM weather"), by).await.map(|_| ())
    };
    assert_eq!(read(&guest).await.unwrap_err().kind(), Kind::Forbidden);
    guest.purpose = Purpose::Train;
    read(&guest).await.unwrap();
}

#[tokio::test]
async fn a_program_without_policies_shows_nothing_of_a_governed_store() {
    let serving = store::with(|_, rows| rows).await;
    govern(&serving, "").await;
    let other = serving::Serving::new(serving.catalog().clone());
    let refused = other.retrieve(serving::Query::sql("SELECT temp FROM weather"), &author()).await;
    assert_eq!(refused.err().unwrap().kind(), Kind::Forbidden);
}

/// What is said of a project holds for all of its views and their features, and for those of no other.
#[tokio::test]
async fn a_project_is_allowed_denied_and_masked_as_a_whole() {
    let serving = store::with(|_, rows| rows).await;
    let in_fraud = |text: &str| text.replacen("name = ", "project = \"fraud\"\nname = ", 1);
    let (entity, view) = (in_fraud(store::DEFINITIONS[0].1), in_fraud(store::DEFINITIONS[2].1));
    let folder = [("airport.toml", entity.as_str()), ("weather.toml", view.as_str())];
    serving.apply(files(&folder), &author()).await.unwrap();
    ingest(&serving, rows("fraud.weather", vec![table(store::TABLES[0].1)])).await.unwrap();
    let temps = async |view: &str| {
        let batches = select_as(&serving, &format!("SELECT count(temp) FROM {view}"), "guest").await?;
        Ok::<_, serving::Error>(batches[0].column(0).as_primitive::<Int64Type>().value(0))
    };
    let all = temps("weather").await.unwrap();
    assert_eq!((temps("fraud.weather").await.unwrap(), all), (4, 7));
    let refused = async |view: &str, why: &str| {
        let refused = temps(view).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Forbidden, "{refused}");
        assert!(refused.to_string().contains(why), "{refused}");
    };

    let read = "permit(principal in Role::\"guest\", action == Action::\"read\", resource";
    govern(&serving, &format!("{read} in Project::\"fraud\");")).await;
    assert_eq!(temps("fraud.weather").await.unwrap(), 4);
    refused("weather", "no policy permits it").await;
    refused("fraud.weather f JOIN planes p ON p.valid_at = f.valid_at", "`planes@1` may not be read").await;

    let closed =
        "@id(\"no-fraud\") forbid(principal in Role::\"guest\", action, resource in Project::\"fraud\");";
    govern(&serving, &format!("{read});\n{closed}")).await;
    assert_eq!(temps("weather").await.unwrap(), all);
    refused("fraud.weather", "may not be read by `ann`: the policy `no-fraud` forbids it").await;

    govern(&serving, &format!("{read});\n@mask(\"null\") {read} in Project::\"fraud\");")).await;
    assert_eq!((temps("weather").await.unwrap(), temps("fraud.weather").await.unwrap()), (all, 0));
    for (view, decided) in [("weather", "allow"), ("fraud.weather", "mask null")] {
        let sql = format!(
            "SELECT decision FROM access('{view}.temp', principal => 'ann', roles => ['guest'], purpose => 'train')"
        );
        let (_, batches) = select(&serving, &sql).await.unwrap();
        assert_eq!(batches[0].column(0).as_string::<i32>().value(0), decided, "{view}");
    }
}

/// A hold decides what may be deleted: of a training set and a model it is asked of all views that they were made of.
#[tokio::test]
async fn who_may_not_hold_keeps_nothing_and_lets_nothing_go() {
    let serving = store::with(|_, rows| rows).await;
    let asked = spine(vec![table("origin string | at timestamp\nEWR | 2013-01-01T06:30:00Z")]);
    let request = HistoricalRequest::new(["weather.temp", "departures.delay"]);
    let set = serving.historical(asked, request, &author()).await.unwrap().report.training_set.unwrap();
    let version = |model: &str, run: Option<&str>| SeenModelVersion {
        model: model.to_owned(),
        version: "1".to_owned(),
        run: run.map(str::to_owned),
        ..SeenModelVersion::default()
    };
    let model_versions = vec![version("delay", Some("fit-1")), version("bare", None)];
    let seen = Observations { model_versions, ..Observations::default() };
    serving.observe(seen, &author()).await.unwrap();
    serving.record_use(set, "fit-1", Role::Train, How::Explicit, &author()).await.unwrap();
    govern(
        &serving,
        "permit(principal in Role::\"keeper\", action == Action::\"hold\", resource == View::\"default.weather\");\n\
         permit(principal in Role::\"archivist\", action == Action::\"hold\", resource);",
    )
    .await;
    let (keeper, archivist) = (with_role("keeper"), with_role("archivist"));
    let set = set.to_string();
    let before = serving.reads_waiting().0;
    for (node, lacks) in [
        (set.as_str(), "may not hold `default.departures`"),
        ("delay/1", "may not hold `default.departures`"),
        ("planes@1", "may not hold `default.planes`"),
        ("bare/1", "may not govern `default`"),
    ] {
        let refused = serving.place_hold(node, "mine", &keeper).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Forbidden, "{node}: {refused}");
        assert!(refused.to_string().contains(lacks), "{node}: {refused}");
    }
    assert!(serving.catalog().state().holds().all().is_empty());
    let state = serving.catalog().state();
    let weather = state.view("default", "weather", None, state.head.sequence).unwrap().version;
    let batch = state.batches().find(|batch| batch.record.version == weather).unwrap();
    let batch = batch.record.batch.to_string();
    for node in [batch.as_str(), "weather@1"] {
        let placed = serving.place_hold(node, "mine", &keeper).await.unwrap();
        serving.lift_hold(placed.hold, "closed", &keeper).await.unwrap();
    }
    for node in [set.as_str(), "delay/1"] {
        let placed = serving.place_hold(node, "an audit", &archivist).await.unwrap();
        let refused = serving.lift_hold(placed.hold, "mine", &keeper).await.unwrap_err();
        assert!(refused.to_string().contains("may not hold `default.departures`"), "{node}: {refused}");
        let state = serving.catalog().refresh().await.unwrap();
        assert!(state.holds().find(placed.hold).unwrap().is_in_force(state.head.sequence), "{node}");
        serving.lift_hold(placed.hold, "closed", &archivist).await.unwrap();
    }
    assert_eq!(serving.reads_waiting().0, before + 6, "what was denied is on record");
}
