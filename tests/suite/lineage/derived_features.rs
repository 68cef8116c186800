//! The law of derived features: the graph leads from one feature to another if, and only if, a change of the one can
//! change the other.

use std::collections::BTreeSet;

use catalog::ingest::{Claim, Input, Request, Rows};
use lineage::graph::{Graph, Node, Relation};
use serving::{RefreshRequest, Serving};

use super::super::fixture;
use super::super::stores::{author, claimed, files, ingest, memory, select};
use super::super::tables::table;
use super::super::values::{Value, read};

const AIRPORT: &str =
    "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n";

const SOURCES: [(&str, &str); 4] =
    [("temp", "float64"), ("hum", "float64"), ("sky", "string"), ("wind", "float64")];

/// Derived views: query, and features with what of `weather` each follows from.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static str, &'static [&'static str])]);

const CASES: [Case; 10] = [
    (
        "celsius",
        "SELECT origin, valid_at, known_at, (temp - 32) / 1.8 AS degrees, 'c' AS unit
         FROM history('weather') WHERE hum > 50",
        &[("degrees", "float64", &["temp", "hum"]), ("unit", "string", &["hum"])],
    ),
    (
        "moved",
        "SELECT sky AS origin, valid_at, known_at, wind FROM history('weather')",
        &[("wind", "float64", &["sky", "wind"])],
    ),
    (
        "daily",
        "SELECT origin, date_trunc('day', valid_at) + INTERVAL '1 day' AS valid_at, max(known_at) AS known_at,
                max(temp) AS warmest, count(*) AS n
         FROM history('weather') GROUP BY 1, 2",
        &[("warmest", "float64", &["temp"]), ("n", "int64", &[])],
    ),
    (
        "felt",
        "SELECT origin, valid_at, known_at, CASE WHEN wind > 5 THEN temp ELSE hum END AS felt, sky
         FROM history('weather')",
        &[("felt", "float64", &["wind", "temp", "hum"]), ("sky", "string", &["sky"])],
    ),
    (
        "ranked",
        "SELECT origin, valid_at, known_at, temp,
                CAST(row_number() OVER (PARTITION BY origin ORDER BY hum) AS BIGINT) AS place
         FROM history('weather')",
        &[("place", "int64", &["hum"]), ("temp", "float64", &["temp"])],
    ),
    // Over another derived view: by its values, and by its rows alone.
    (
        "twice",
        "SELECT origin, valid_at, known_at, 2 * degrees AS twice FROM history('celsius')",
        &[("twice", "float64", &["temp", "hum"])],
    ),
    (
        "damp",
        "SELECT origin, valid_at, known_at, 'damp' AS word FROM history('celsius')",
        &[("word", "string", &["hum"])],
    ),
    (
        "damp_wind",
        "SELECT w.origin, w.valid_at, w.known_at, w.wind FROM history('weather') w
         JOIN history('celsius') c ON w.origin = c.origin AND w.valid_at = c.valid_at",
        &[("wind", "float64", &["wind", "hum"])],
    ),
    (
        "sum",
        "SELECT w.origin, w.valid_at, w.known_at, w.wind + f.felt AS sum, f.sky FROM history('weather') w
         JOIN history('felt') f ON w.origin = f.origin AND w.valid_at = f.valid_at",
        &[("sum", "float64", &["wind", "temp", "hum"]), ("sky", "string", &["sky"])],
    ),
    // Over two that are derived.
    (
        "both",
        "SELECT t.origin, t.valid_at, t.known_at, t.twice, r.place FROM history('twice') t
         JOIN history('ranked') r ON t.origin = r.origin AND t.valid_at = r.valid_at",
        &[("twice", "float64", &["temp", "hum"]), ("place", "int64", &["hum"])],
    ),
];

fn features(features: impl IntoIterator<Item = (&'static str, &'static str)>) -> String {
    let each = |(name, kind)| format!("[[features]]\nname = \"{name}\"\ntype = \"{kind}\"\n");
    features.into_iter().map(each).collect()
}

fn definitions() -> Vec<(String, String)> {
    let view = |name: &str, derived: String, features: String| {
        let text = format!(
            "kind = \"feature_view\"\nname = \"{name}\"\nentity = \"airport\"\n[time]\nvalid_at = \"valid_at\"\n\
             known_at = {{ column = \"known_at\" }}\n{derived}{features}"
        );
        (format!("{name}.toml"), text)
    };
    let derived = CASES.iter().map(|(name, sql, outputs)| {
        let sql = format!("[derived]\nsql = \"\"\"{sql}\"\"\"\n");
        view(name, sql, features(outputs.iter().map(|(name, kind, _)| (*name, *kind))))
    });
    let all = files(&[("airport.toml", AIRPORT)]);
    all.into_iter().chain([view("weather", String::new(), features(SOURCES))]).chain(derived).collect()
}

/// Three hours of a day, with other values of the source that is changed in one or two of them.
async fn store(changed: Option<&str>) -> Serving {
    let clock = fixture::clock();
    let serving = memory(&clock).await;
    serving.apply(definitions(), &author()).await.unwrap();
    let mut text =
        "origin string | valid_at timestamp | known_at timestamp | temp float64 | hum float64 | sky string | wind float64\n"
            .to_owned();
    for hour in 0..3 {
        let is_changed = |source: &str, hours: &[usize]| changed == Some(source) && hours.contains(&hour);
        let temp = if is_changed("temp", &[1]) { 99 } else { [50, 59, 51][hour] };
        let hum = if is_changed("hum", &[1, 2]) { [60, 5, 6][hour] } else { [60, 80, 70][hour] };
        let sky = if is_changed("sky", &[1]) { "grey" } else { "blue" };
        let wind = if is_changed("wind", &[1]) { 1 } else { [7, 8, 3][hour] };
        text.push_str(&format!(
            "JFK | 2024-01-01T0{hour}:00:00Z | 2024-01-01T0{hour}:30:00Z | {temp} | {hum} | {sky} | {wind}\n"
        ));
    }
    let batch = table(&text);
    let input = Input::Rows(Rows::from_batches("station", batch.schema(), vec![batch]));
    ingest(&serving, claimed(Request::new("weather", input), Claim::BackFill)).await.unwrap();
    serving.refresh(&RefreshRequest::default(), &author()).await.unwrap();
    serving
}

/// A feature's values with what they belong to.
async fn values(serving: &Serving, view: &str, feature: &str) -> Vec<Vec<Option<Value>>> {
    let sql = format!("SELECT origin, valid_at, known_at, {feature} FROM history('{view}') ORDER BY 1, 2, 3");
    let (_, batches) = select(serving, &sql).await.unwrap();
    let columns: Vec<Vec<Option<Value>>> =
        (0..4).map(|column| batches.iter().flat_map(|batch| read(batch.column(column))).collect()).collect();
    (0..columns[0].len()).map(|row| columns.iter().map(|column| column[row].clone()).collect()).collect()
}

/// What the graph leads to from a feature over what is derived: features, and all those of a version.
fn derived_of(graph: &Graph, feature: u32) -> BTreeSet<u32> {
    let mut reached = BTreeSet::from([feature]);
    let mut open = vec![feature];
    while let Some(place) = open.pop() {
        let is_whole = matches!(graph.node(place), Node::ViewVersion(_));
        for edge in graph.leaving(place) {
            let declares = is_whole && edge.relation == Relation::Declares;
            if (edge.relation == Relation::Derives || declares) && reached.insert(edge.to) {
                open.push(edge.to);
            }
        }
    }
    reached
}

#[tokio::test]
async fn the_graph_leads_from_a_feature_to_those_that_a_change_of_it_changes() {
    let before = store(None).await;
    let (state, graph) = before.graph(None).await.unwrap();
    let place = |name: &str| graph.find(&state, name).unwrap();
    for (source, _) in SOURCES {
        let after = store(Some(source)).await;
        let derived = derived_of(&graph, place(&format!("weather@1.{source}")));
        for (view, _, outputs) in CASES {
            for (output, _, follows_from) in outputs {
                let expected = follows_from.contains(&source);
                let changed = values(&before, view, output).await != values(&after, view, output).await;
                assert_eq!(changed, expected, "a change of {source} in {view}.{output}");
                let leads = derived.contains(&place(&format!("{view}@1.{output}")));
                assert_eq!(leads, expected, "the graph from {source} to {view}.{output}");
            }
        }
    }
}
