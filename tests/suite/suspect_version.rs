//! A version that is suspect is held back by a rollback: no new retrieval reads it by its view's name, what was made with it says so and is
//! proved as before, and an undo lets it go.

use catalog::records::Verdict;
use feature::TrainingSetId;
use serde_json::json;
use serving::{
    ExplainRequest, ExplainValueRequest, Explanation, HistoricalRequest, RollbackRequest, Serving,
};
use storage::environment::TestClock;

use super::stores::{author, files, ingest, instant, memory, rows, spine};
use super::tables::table;

const ENTITY: &str =
    "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n";
const WEATHER: &str = "kind = \"feature_view\"\nname = \"weather\"\nentity = \"airport\"\n[time]\n\
     valid_at = \"hour\"\nknown_at = { delay = \"1h\" }\n[[features]]\nname = \"temp\"\ntype = \"float64\"\n";
const WIND: &str = "[[features]]\nname = \"wind\"\ntype = \"int64\"\n";

async fn apply(serving: &Serving, weather: &str) {
    let definitions = files(&[("airport.toml", ENTITY), ("weather.toml", weather)]);
    serving.apply_for(definitions, Some("it changed"), &author()).await.unwrap();
}

async fn record(serving: &Serving, feature: &str) -> serving::Result<TrainingSetId> {
    let asked = spine(vec![table("origin string | at timestamp\nJFK | 2024-01-03T00:00:00Z")]);
    let made = serving.historical(asked, HistoricalRequest::new([feature]), &author()).await?;
    Ok(made.report.training_set.unwrap())
}

async fn explain(serving: &Serving, set: TrainingSetId) -> Explanation {
    serving.explain(ExplainRequest::new(set, 0, "temp"), &author()).await.unwrap()
}

async fn roll_back(serving: &Serving, undo: bool, reason: Option<&str>) -> Option<String> {
    let reason = reason.map(str::to_owned);
    let request = RollbackRequest { node: "weather@2".to_owned(), undo, derived: false, reason };
    serving.rollback(&request, &author()).await.unwrap().in_force_after
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_version_is_held_and_let_go() {
    let serving = memory(&TestClock::new(instant("2024-02-01T00:00:00Z"))).await;
    apply(&serving, WEATHER).await;
    let first = table("origin string | hour timestamp | temp float64\nJFK | 2024-01-01T08:00:00Z | 60");
    ingest(&serving, rows("weather", vec![first])).await.unwrap();
    apply(&serving, &format!("{WEATHER}{WIND}")).await;
    let second = table(
        "origin string | hour timestamp | temp float64 | wind int64\nJFK | 2024-01-02T08:00:00Z | 61 | 7",
    );
    ingest(&serving, rows("weather", vec![second])).await.unwrap();
    let suspect = record(&serving, "weather.temp").await.unwrap();
    let told = explain(&serving, suspect).await;
    assert_eq!((told.reference.as_str(), told.withdrawn), ("weather@2.temp", None));

    // Told first, then done.
    assert_eq!(roll_back(&serving, false, None).await.as_deref(), Some("weather@1"));
    record(&serving, "weather.wind").await.unwrap();
    roll_back(&serving, false, Some("its wind may be in knots")).await;

    let held = record(&serving, "weather.temp").await.unwrap();
    let told = explain(&serving, held).await;
    assert_eq!((told.reference.as_str(), told.withdrawn), ("weather@1.temp", None));
    let refused = record(&serving, "weather.wind").await.unwrap_err();
    assert!(refused.to_string().contains("`weather@1` has no feature `wind`"), "{refused}");
    assert_eq!(serving.prove(suspect, &author()).await.unwrap().verdict, Verdict::Equal);
    let told = explain(&serving, suspect).await;
    assert_eq!(told.reference, "weather@2.temp");
    let why = told.withdrawn.unwrap();
    assert!(
        why.starts_with("by tester at sequence ") && why.ends_with(": its wind may be in knots"),
        "{why}"
    );
    // Whoever names the number is told, too.
    let asked = ExplainValueRequest {
        feature: "weather@2.wind".to_owned(),
        key: [("origin".to_owned(), json!("JFK"))].into(),
        at: instant("2024-01-03T00:00:00Z"),
        known_by: None,
        sequence: None,
        exhaustive: false,
    };
    let told = serving.explain_value(asked, &author()).await.unwrap();
    assert_eq!((told.value.as_deref(), told.withdrawn), (Some("7"), Some(why)));

    roll_back(&serving, true, Some("it is in miles")).await;
    let back = record(&serving, "weather.wind").await.unwrap();
    assert_eq!(serving.prove(back, &author()).await.unwrap().verdict, Verdict::Equal);
    let told = explain(&serving, suspect).await;
    assert_eq!((told.reference.as_str(), told.withdrawn), ("weather@2.temp", None));
    assert_eq!(serving.prove(held, &author()).await.unwrap().verdict, Verdict::Equal);
}
