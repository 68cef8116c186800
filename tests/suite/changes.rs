//! Changes of definitions: how grave each is, who would feel it, and what is bound by an approval.

use catalog::Author;
use catalog::plan::{FeltBy, Planned};
use feature::evolution::Effect;
use feature::policy::PolicyFile;
use serving::{HistoricalRequest, Kind, Serving};

use super::evidence::story::tell;
use super::fixture::{self, DEFINITIONS};
use super::policies::{govern, with_role};
use super::stores::{author, count, files, folder, ingest, memory, rows, spine};
use super::tables::table;

/// The definitions of the fixture with other words in `weather`.
fn changed(from: &str, to: &str) -> Vec<(String, String)> {
    let (name, text) = DEFINITIONS[1];
    assert!(text.contains(from), "{from}");
    files(&[DEFINITIONS[0], (name, &text.replacen(from, to, 1)), DEFINITIONS[2], DEFINITIONS[3]])
}

async fn weather(serving: &Serving, definitions: Vec<(String, String)>) -> Planned {
    let plan = serving.plan(definitions).await.unwrap();
    plan.changes.into_iter().find(|planned| planned.name.as_str() == "weather").unwrap()
}

const VISIB: &str =
    "\n[[features]]\nname = \"visib\"\ntype = \"float64\"\nunit = \"mile\"\nnullable = false\n";

#[tokio::test(flavor = "multi_thread")]
async fn each_change_says_how_grave_it_is() {
    let root = tempfile::tempdir().unwrap();
    let serving = tell(root.path()).await.serving;
    let cases = [
        ("unit = \"degF\"", "unit = \"degC\"", Effect::Breaking),
        ("type = \"float64\"\nunit = \"degF\"", "type = \"float32\"\nunit = \"degF\"", Effect::Breaking),
        (VISIB, "", Effect::Breaking),
        ("ttl = \"90d\"", "ttl = \"30d\"", Effect::Breaking),
        ("nan = false", "nan = false\ndefault = 50.0", Effect::Breaking),
        ("{ delay = \"30m\" }", "{ delay = \"1h\" }", Effect::NeedsBackFill),
        ("nan = false", "nan = false\ncolumn = \"temperature\"", Effect::NeedsBackFill),
        ("one_of = [", "\n[[features]]\nname = \"wind\"\ntype = \"float64\"\n#", Effect::NeedsBackFill),
        ("range = [-40, 130]", "range = [-60, 140]", Effect::Harmless),
        ("nullable = false", "nullable = true", Effect::Harmless),
        ("description = \"Hourly weather\"", "description = \"Weather by the hour\"", Effect::Harmless),
        ("reject_above = 0.25", "reject_above = 0.5", Effect::Harmless),
    ];
    for (from, to, effect) in cases {
        let planned = weather(&serving, changed(from, to)).await;
        assert_eq!(planned.effect(), effect, "{from} → {to}");
        let text = planned.to_string();
        assert_eq!(text.contains("breaking: it needs a reason"), effect == Effect::Breaking, "{text}");
        let applied = serving.apply(changed(from, to), &author()).await;
        // Nothing is left of those that are refused; the others are taken back by applying the first again.
        match effect {
            Effect::Breaking => {
                let refused = applied.unwrap_err();
                assert_eq!(refused.kind(), Kind::Invalid);
                assert!(refused.to_string().contains("it needs a reason"), "{refused}");
            }
            _ => {
                applied.unwrap();
                serving.apply_for(files(&DEFINITIONS), Some("back again"), &author()).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_would_feel_a_change_is_named() {
    let root = tempfile::tempdir().unwrap();
    let serving = tell(root.path()).await.serving;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let all = FeltBy {
        derived_views: Vec::new(),
        training_sets: names(&["test", "train"]),
        model_versions: names(&["delay/1"]),
        deployments: names(&["delay-api in production"]),
    };
    // Of one feature those that were made of it; of what is the view's all.
    let temp = weather(&serving, changed("unit = \"degF\"", "unit = \"degC\"")).await;
    assert_eq!(temp.felt_by, all);
    let sky =
        weather(&serving, changed("one_of = [\"clear\", \"cloudy\", \"rain\"]", "default = \"clear\"")).await;
    assert_eq!(sky.felt_by, FeltBy { training_sets: names(&["train"]), ..all.clone() });
    let visib = weather(&serving, changed(VISIB, "")).await;
    assert_eq!((visib.effect(), &visib.felt_by), (Effect::Breaking, &FeltBy::default()));
    let ttl = weather(&serving, changed("ttl = \"90d\"", "ttl = \"30d\"")).await;
    assert_eq!(ttl.felt_by, all);
    let text = ttl.to_string();
    for line in [
        "read without a pinned version by: late_flights",
        "felt by 2 training sets: test, train",
        "felt by 1 model versions: delay/1",
        "felt by 1 deployments in force: delay-api in production",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let harmless = weather(&serving, changed("range = [-40, 130]", "range = [-60, 140]")).await;
    assert_eq!(harmless.felt_by, FeltBy::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_rows_of_and_nobody_lists_cannot_break() {
    let serving = memory(&fixture::clock()).await;
    serving.apply(files(&DEFINITIONS[..2]), &author()).await.unwrap();
    let (name, text) = DEFINITIONS[1];
    let other = text.replacen("unit = \"degF\"", "unit = \"degC\"", 1);
    let planned = weather(&serving, files(&[DEFINITIONS[0], (name, &other)])).await;
    assert_eq!(planned.effect(), Effect::Harmless);
    serving.apply(files(&[DEFINITIONS[0], (name, &other)]), &author()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_without_rows_is_no_way_round_a_reason() {
    let serving = memory(&fixture::clock()).await;
    serving.apply(files(&DEFINITIONS[..2]), &author()).await.unwrap();
    let seen = "origin string | time_hour timestamp | temp float64 | visib float64 | sky string\n\
                EWR | 2013-01-01T05:00:00Z | 39.02 | 10 | clear";
    ingest(&serving, rows("weather", vec![table(seen)])).await.unwrap();
    let (name, text) = DEFINITIONS[1];
    let only = |text: &str| files(&[DEFINITIONS[0], (name, text)]);
    // The next version begins a line, which is empty; who reads the view by its name is there all the same.
    let later = text.replacen("{ delay = \"30m\" }", "{ delay = \"1h\" }", 1);
    assert_eq!(weather(&serving, only(&later)).await.effect(), Effect::NeedsBackFill);
    serving.apply(only(&later), &author()).await.unwrap();
    for (from, to) in [("unit = \"degF\"", "unit = \"degC\""), (VISIB, "")] {
        let next = later.replacen(from, to, 1);
        assert_eq!(weather(&serving, only(&next)).await.effect(), Effect::Breaking, "{from}");
        let refused = serving.apply(only(&next), &author()).await.unwrap_err();
        assert!(refused.to_string().contains("it needs a reason"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_set_and_a_derived_view_feel_a_change_of_what_has_no_rows() {
    let (name, text) = DEFINITIONS[1];
    let celsius = text.replacen("unit = \"degF\"", "unit = \"degC\"", 1);
    let celsius = files(&[DEFINITIONS[0], (name, &celsius)]);
    let recorded = memory(&fixture::clock()).await;
    recorded.apply(files(&DEFINITIONS[..2]), &author()).await.unwrap();
    let asked = table("origin string | at timestamp\nEWR | 2013-01-02T00:00:00Z");
    let request = HistoricalRequest::new(["weather.temp"]);
    recorded.historical(spine(vec![asked]), request, &author()).await.unwrap();
    assert_eq!(weather(&recorded, celsius.clone()).await.effect(), Effect::Breaking);

    let derived = "kind = \"feature_view\"\nname = \"warm\"\nentity = \"airport\"\n[time]\nvalid_at = \"valid_at\"\n\
         known_at = { column = \"known_at\" }\n[derived]\n\
         sql = \"SELECT origin, valid_at, known_at, temp AS degrees FROM history('weather')\"\n\
         [[features]]\nname = \"degrees\"\ntype = \"float64\"\n";
    let read = memory(&fixture::clock()).await;
    let all = [DEFINITIONS[0], DEFINITIONS[1], ("warm.toml", derived)];
    read.apply(files(&all), &author()).await.unwrap();
    assert_eq!(weather(&read, celsius).await.effect(), Effect::Breaking);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_breaks_by_what_it_loses() {
    let serving = memory(&fixture::clock()).await;
    serving.apply(files(&DEFINITIONS), &author()).await.unwrap();
    let (name, text) = DEFINITIONS[3];
    for (features, effect) in [
        ("[\"weather.temp\", \"departures.dep_delay\", \"weather.sky\"]", Effect::Harmless),
        ("[\"departures.dep_delay\", \"weather.*\"]", Effect::Harmless),
        ("[\"weather.temp\"]", Effect::Breaking),
        ("[\"weather@1.temp\", \"departures.dep_delay\"]", Effect::Breaking),
    ] {
        let other = text.replace("[\"weather.temp\", \"departures.dep_delay\"]", features);
        let plan = serving.plan(files(&[(name, &other)])).await.unwrap();
        assert_eq!(plan.effect(), effect, "{features}");
    }
}

/// An author's breaking changes wait for an owner.
const GUARDED: &str = "permit(principal in Role::\"author\", action == Action::\"read\", resource);\n\
    @approval(\"breaking\") permit(principal in Role::\"author\", action == Action::\"apply\", resource);\n\
    permit(principal in Role::\"owner\", action == Action::\"approve\", resource);\n";

fn named(principal: &str, role: &str) -> Author {
    Author { principal: principal.to_owned(), ..with_role(role) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_of_one_plan_onto_one_state() {
    let root = tempfile::tempdir().unwrap();
    let serving = tell(root.path()).await.serving;
    govern(&serving, GUARDED).await;
    let (bert, ann) = (named("bert", "author"), named("ann", "owner"));
    let celsius = || changed("unit = \"degF\"", "unit = \"degC\"");
    let digest = serving.plan(celsius()).await.unwrap().digest;
    // Words, and where files lie, differ between two people; what it means does not.
    let worded = celsius().into_iter().map(|(name, text)| {
        (name, text.replace("description = \"Hourly weather\"", "description = \"degrees\""))
    });
    assert_eq!(serving.plan(worded.collect()).await.unwrap().digest, digest);
    let kelvin = serving.plan(changed("unit = \"degF\"", "unit = \"K\"")).await.unwrap().digest;
    assert_ne!(kelvin, digest);

    let unknown = serving.approve(&digest.to_string(), true, "fine", &ann).await.unwrap_err();
    assert_eq!(unknown.kind(), Kind::NotFound);
    let waits = serving.apply_for(celsius(), Some("SI"), &bert).await.unwrap_err();
    assert_eq!(waits.kind(), Kind::Forbidden);
    assert!(waits.to_string().contains(&digest.to_string()), "{waits}");
    let short = digest.hex()[..12].to_owned();
    let report = serving.approve(&short, true, "fine", &ann).await.unwrap();
    assert_eq!((report.plan.as_str(), report.proposed_by.as_str()), (digest.to_string().as_str(), "bert"));
    assert_eq!(report.changes, ["feature view weather@2 (breaking): feature `temp`: unit degF → degC"]);

    // Another plan does not pass by it.
    let other = serving.apply_for(changed("unit = \"degF\"", "unit = \"K\""), Some("SI"), &bert).await;
    assert_eq!(other.unwrap_err().kind(), Kind::Forbidden);
    // Nor does the same one onto another state: somebody who may changes the view meanwhile.
    serving.apply(changed("range = [-40, 130]", "range = [-60, 140]"), &author()).await.unwrap();
    let moved = serving.plan(celsius()).await.unwrap().digest;
    assert_ne!(moved, digest);
    assert_eq!(serving.apply_for(celsius(), Some("SI"), &bert).await.unwrap_err().kind(), Kind::Forbidden);
    serving.approve(&moved.to_string(), true, "fine too", &ann).await.unwrap();
    let applied = serving.apply_for(celsius(), Some("SI"), &bert).await.unwrap();
    let state = serving.catalog().state();
    let said = state.changes().applied_at(applied.sequence.unwrap()).unwrap();
    assert_eq!((said.record.plan, &said.record.reason[..]), (moved, "SI"));
    assert_eq!(said.record.approved_by, ["ann"]);
    let again = serving.approve(&moved.to_string(), false, "too late", &ann).await.unwrap_err();
    assert!(again.to_string().starts_with("this plan was applied by bert at sequence "), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_approve_is_on_record() {
    let root = tempfile::tempdir().unwrap();
    tell(root.path()).await;
    let clock = fixture::later();
    let serving = folder(root.path(), &clock).await;
    govern(&serving, GUARDED).await;
    clock.advance("1h".parse().unwrap());
    let celsius = || changed("unit = \"degF\"", "unit = \"degC\"");
    serving.apply_for(celsius(), Some("SI"), &named("bert", "author")).await.unwrap_err();
    let digest = serving.plan(celsius()).await.unwrap().digest.to_string();
    // Its own author, and somebody whom no policy permits it.
    for who in ["bert", "eve"] {
        let refused = serving.approve(&digest, true, "fine", &named(who, "author")).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Forbidden, "{refused}");
    }
    serving.flush(&author()).await.unwrap();
    let denied = "SELECT count(*) FROM lineament.access_decisions \
                  WHERE decision = 'denied' AND action = 'approve' AND asked = 'default.weather'";
    assert_eq!(count(&serving, denied).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_counts_while_its_author_may_approve() {
    let root = tempfile::tempdir().unwrap();
    let serving = tell(root.path()).await.serving;
    govern(&serving, GUARDED).await;
    let (bert, ann) = (named("bert", "author"), named("ann", "owner"));
    let celsius = || changed("unit = \"degF\"", "unit = \"degC\"");
    let digest = serving.plan(celsius()).await.unwrap().digest.to_string();
    serving.apply_for(celsius(), Some("SI"), &bert).await.unwrap_err();
    serving.approve(&digest, true, "fine", &ann).await.unwrap();
    // The owners lose the right before anybody makes use of it.
    let strict = GUARDED.replace("Role::\"owner\"", "Role::\"board\"");
    govern(&serving, &strict).await;
    assert_eq!(serving.apply_for(celsius(), Some("SI"), &bert).await.unwrap_err().kind(), Kind::Forbidden);
    serving.approve(&digest, true, "fine", &named("carla", "board")).await.unwrap();
    serving.apply_for(celsius(), Some("SI"), &bert).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_and_what_was_said_is_there_when_the_store_is_opened_again() {
    let root = tempfile::tempdir().unwrap();
    let serving = tell(root.path()).await.serving;
    govern(&serving, GUARDED).await;
    let celsius = || changed("unit = \"degF\"", "unit = \"degC\"");
    serving.apply_for(celsius(), Some("SI"), &named("bert", "author")).await.unwrap_err();
    let digest = serving.plan(celsius()).await.unwrap().digest.to_string();
    serving.approve(&digest, true, "fine", &named("ann", "owner")).await.unwrap();
    serving.catalog().checkpoint().await.unwrap();
    let other = folder(root.path(), &fixture::later()).await;
    assert!(other.apply_for(celsius(), Some("SI"), &named("bert", "author")).await.is_ok());
}

#[test]
fn an_approval_is_for_breaking_changes_alone() {
    use feature::policy::PolicyLanguage;
    let compile = |text: &str| {
        let file = PolicyFile { name: "base.cedar".to_owned(), text: text.to_owned() };
        policy::Cedar.compile(&[file])
    };
    assert!(compile("@approval(\"breaking\") permit(principal, action, resource);").is_ok());
    for (text, why) in [
        (
            "@approval(\"always\") permit(principal, action, resource);",
            "@approval(\"always\") means nothing here; @approval(\"breaking\") lets breaking changes wait for somebody else",
        ),
        (
            "@approval(\"breaking\") forbid(principal, action, resource);",
            "@approval says what a permit waits for, and this policy forbids",
        ),
    ] {
        let error = compile(text).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}
