//! The law of refreshing: whatever came in whatever steps, a derived view holds what its query gives, and no more is written than
//! is new.

use arrow::array::RecordBatch;
use catalog::ingest::{Claim, Input, Request, Rows};
use proptest::collection::vec;
use proptest::prelude::*;
use serving::{RefreshRequest, Serving};

use super::super::cases;
use super::super::coverage::Coverage;
use super::super::fixture;
use super::super::stores::{claimed, count, files, ingest, memory, select};
use super::super::tables::table;
use super::super::values::{Value, read};

const AIRPORT: &str =
    "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n";
const WEATHER: &str = "kind = \"feature_view\"\nname = \"weather\"\nentity = \"airport\"\n[time]\n\
     valid_at = \"hour\"\nknown_at = { column = \"published\" }\n\
     [[features]]\nname = \"temp\"\ntype = \"float64\"\n";

/// Row by row, by aggregate over what survives, and over another derived view.
const QUERIES: [(&str, &str); 3] = [
    (
        "celsius",
        "SELECT origin, valid_at, known_at, (temp - 32) / 1.8 AS v FROM history('weather') WHERE temp > 20",
    ),
    (
        "highest",
        "SELECT origin, max(valid_at) AS valid_at, max(known_at) AS known_at, max(temp) AS v FROM history('weather') GROUP BY origin",
    ),
    ("doubled", "SELECT origin, valid_at, known_at, 2 * v AS v FROM history('celsius')"),
];

fn derived(name: &str, sql: &str) -> String {
    format!(
        "kind = \"feature_view\"\nname = \"{name}\"\nentity = \"airport\"\n[time]\nvalid_at = \"valid_at\"\n\
         known_at = {{ column = \"known_at\" }}\n[derived]\nsql = \"{sql}\"\n[[features]]\nname = \"v\"\ntype = \"float64\"\n"
    )
}

/// Airport, hour of the event, hours until it was known, temperature.
type Row = (u8, u32, u32, Option<i8>);

/// What happens: rows come, or views are refreshed; one of them, or all; all of it, or what is new.
#[derive(Clone, Debug)]
enum Step {
    Rows(Vec<Row>),
    Refresh { view: Option<usize>, full: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let row = (0..3u8, 0..24u32, 0..5u32, prop::option::weighted(0.9, 0..60i8));
    prop_oneof![
        2 => vec(row, 1..6).prop_map(Step::Rows),
        1 => (prop::option::of(0..QUERIES.len()), any::<bool>())
            .prop_map(|(view, full)| Step::Refresh { view, full }),
    ]
}

fn rows(rows: &[Row]) -> RecordBatch {
    let mut text = "origin string | hour timestamp | published timestamp | temp float64\n".to_owned();
    for (airport, hour, later, temp) in rows {
        let temp = temp.map_or_else(|| "null".to_owned(), |temp| temp.to_string());
        let known = hour + later;
        text.push_str(&format!(
            "A{airport} | 2024-01-01T{hour:02}:00:00Z | 2024-01-0{}T{:02}:00:00Z | {temp}\n",
            1 + known / 24,
            known % 24
        ));
    }
    table(&text)
}

/// Origin, valid_at, known_at, value; the last row of equal times.
type Observation = (Option<Value>, Option<Value>, Option<Value>, Option<Value>);

async fn observations(serving: &Serving, sql: &str) -> Vec<Observation> {
    let (_, batches) = select(serving, sql).await.unwrap();
    let mut all = Vec::new();
    for batch in &batches {
        let columns: Vec<_> = batch.columns().iter().map(read).collect();
        let cell = |column: usize, row: usize| columns[column][row].clone();
        let observation = |row| (cell(0, row), cell(1, row), cell(2, row), cell(3, row));
        all.extend((0..batch.num_rows()).map(observation));
    }
    all
}

async fn history(steps: &[Step], coverage: &mut Coverage) -> Result<(), String> {
    let clock = fixture::clock();
    let serving = memory(&clock).await;
    let texts: Vec<(String, String)> = QUERIES
        .iter()
        .map(|(name, sql)| (format!("{name}.toml"), derived(name, sql)))
        .chain([
            ("airport.toml".to_owned(), AIRPORT.to_owned()),
            ("weather.toml".to_owned(), WEATHER.to_owned()),
        ])
        .collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    serving.apply(files(&texts), &super::super::stores::author()).await.map_err(|error| error.to_string())?;
    for step in steps.iter().chain([&Step::Refresh { view: None, full: false }]) {
        clock.advance("1h".parse().unwrap());
        match step {
            Step::Rows(of) => {
                let batch = rows(of);
                let input = Input::Rows(Rows::from_batches("station", batch.schema(), vec![batch]));
                let request = claimed(Request::new("weather", input), Claim::BackFill);
                ingest(&serving, request).await.map_err(|error| error.to_string())?;
            }
            Step::Refresh { view, full } => {
                let view = view.map(|view| QUERIES[view].0.to_owned());
                let request = RefreshRequest { view, full: *full };
                let author = super::super::stores::author();
                let reports = serving.refresh(&request, &author).await.map_err(|error| error.to_string())?;
                for report in reports {
                    coverage
                        .saw_if(report.since.is_some() && report.rows > 0, "a refresh of what came since");
                    coverage.saw_if(report.since.is_none() && report.rows > 0, "a refresh of everything");
                    coverage.saw_if(report.computed > report.rows, "rows that the view had already");
                    coverage.saw_if(report.sequence.is_none(), "a refresh with nothing new");
                }
            }
        }
    }
    for (name, sql) in QUERIES {
        // Of the query's rows and of the view's, the last of one identity; an identity that the query gives no more stays in the view.
        let order = "ORDER BY origin, valid_at, known_at";
        let wanted =
            observations(&serving, &format!("SELECT origin, valid_at, known_at, v FROM ({sql}) {order}"))
                .await;
        let held = observations(
            &serving,
            &format!(
                "SELECT origin, valid_at, known_at, v FROM history('{name}') {order}, sequence, \"row\""
            ),
        )
        .await;
        let last = |all: &[Observation]| {
            let mut kept: Vec<Observation> = Vec::new();
            for one in all {
                match kept.last_mut().filter(|kept| (&kept.0, &kept.1, &kept.2) == (&one.0, &one.1, &one.2)) {
                    Some(kept) => *kept = one.clone(),
                    None => kept.push(one.clone()),
                }
            }
            kept
        };
        let held_last = last(&held);
        for one in &wanted {
            let same =
                wanted.iter().filter(|other| (&other.0, &other.1, &other.2) == (&one.0, &one.1, &one.2));
            // Of several values for one identity any may be the last.
            if !same.clone().any(|other| held_last.contains(other)) {
                return Err(format!("{name} lacks {one:?} of {wanted:#?}; it holds {held:#?}"));
            }
        }
        let given = |one: &Observation| {
            wanted.iter().any(|other| (&other.0, &other.1, &other.2) == (&one.0, &one.1, &one.2))
        };
        if name != "highest" && !held_last.iter().all(given) {
            return Err(format!("{name} holds what its query does not give: {held:#?}, not {wanted:#?}"));
        }
    }
    // Everything that a derived batch was made of is in its record.
    let parents = count(&serving, "SELECT count(*) FROM lineament.edges WHERE edge = 'derives'").await;
    let derived =
        count(&serving, "SELECT count(*) FROM lineament.batches WHERE feature_view <> 'weather'").await;
    if (parents == 0) != (derived == 0) {
        return Err(format!("{derived} batches are derived, and {parents} edges say so"));
    }
    Ok(())
}

#[test]
fn a_derived_view_holds_what_its_query_gives() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut coverage = Coverage::default();
    cases::run("refresh", 100, &vec(step(), 1..8), |steps| {
        runtime.block_on(history(steps, &mut coverage))?;
        Ok(1)
    });
    coverage.require(
        10,
        [
            "a refresh of what came since",
            "a refresh of everything",
            "rows that the view had already",
            "a refresh with nothing new",
        ],
    );
}
