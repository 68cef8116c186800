//! What a version of a feature view is to find out: shown by plan, told later without a new version, kept by each version.

use catalog::plan::Action;
use serving::Serving;

use super::fixture::{self, DEFINITIONS};
use super::stores::{author, count, files, memory, select};
use super::values::{Value, read};

/// The definitions of the fixture, with this hypothesis of `weather` and the ttl of its version.
fn definitions(hypothesis: Option<&str>, ttl: &str) -> Vec<(String, String)> {
    let line = hypothesis.map(|text| format!("hypothesis = \"{text}\"\n")).unwrap_or_default();
    let (name, text) = DEFINITIONS[1];
    let weather = text.replacen("ttl = \"90d\"\n", &format!("ttl = \"{ttl}\"\n{line}"), 1);
    assert!(weather.contains(&line) && weather.contains(ttl));
    files(&[DEFINITIONS[0], (name, &weather)])
}

async fn hypotheses(serving: &Serving) -> Vec<Option<Value>> {
    let sql = "SELECT hypothesis FROM lineament.versions WHERE feature_view = 'weather' ORDER BY version";
    let (_, batches) = select(serving, sql).await.unwrap();
    batches.iter().flat_map(|batch| read(batch.column(0))).collect()
}

async fn planned(serving: &Serving, files: Vec<(String, String)>) -> (Action, String) {
    let plan = serving.plan(files).await.unwrap();
    let planned = plan.changes.iter().find(|planned| planned.name.as_str() == "weather").unwrap();
    (planned.action.clone(), planned.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hypothesis_is_planned_told_and_kept() {
    let serving = memory(&fixture::clock()).await;
    let first = definitions(Some("wind explains delays"), "90d");
    let (_, text) = planned(&serving, first.clone()).await;
    assert_eq!(text, "+ feature view weather@1\n    hypothesis: wind explains delays");
    serving.apply(first, &author()).await.unwrap();

    // Other words are no other version; nor is silence.
    for hypothesis in [Some("rain explains delays"), None, Some("wind explains delays")] {
        let (action, text) = planned(&serving, definitions(hypothesis, "90d")).await;
        assert!(matches!(action, Action::Describe { .. }), "{action:?}");
        assert_eq!(text, "~ feature view weather: hypothesis");
        serving.apply(definitions(hypothesis, "90d"), &author()).await.unwrap();
        assert_eq!(hypotheses(&serving).await, [hypothesis.map(Value::text)]);
    }

    let next = definitions(Some("yesterday's wind explains delays"), "1d");
    let (_, text) = planned(&serving, next.clone()).await;
    assert!(text.ends_with("\n    hypothesis: yesterday's wind explains delays"), "{text}");
    assert!(text.starts_with("+ feature view weather@2: ttl "), "{text}");
    serving.apply(next, &author()).await.unwrap();
    let both = ["wind explains delays", "yesterday's wind explains delays"];
    assert_eq!(hypotheses(&serving).await, both.map(|text| Some(Value::text(text))));
    let sql = "SELECT count(*) FROM lineament.feature_views WHERE hypothesis LIKE 'yesterday%'";
    assert_eq!(count(&serving, sql).await, 1);
}
