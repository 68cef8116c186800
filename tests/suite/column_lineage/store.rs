//! The store of these tests: weather in two batches, departures and planes. Every column can be changed.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use serving::Serving;
use storage::environment::TestClock;

use crate::suite::stores::{author, files, ingest, instant, memory, rows};
use crate::suite::tables::table;

pub const DEFINITIONS: [(&str, &str); 5] = [
    (
        "airport.toml",
        "kind = \"entity\"\nname = \"airport\"\n\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n",
    ),
    (
        "plane.toml",
        "kind = \"entity\"\nname = \"plane\"\n\n[[keys]]\nname = \"tailnum\"\ntype = \"string\"\n",
    ),
    (
        "weather.toml",
        r#"
kind = "feature_view"
name = "weather"
entity = "airport"

[time]
valid_at = "valid_at"
known_at = { column = "known_at" }

[[features]]
name = "temp"
type = "int64"

[[features]]
name = "visib"
type = "int64"

[[features]]
name = "sky"
type = "string"
"#,
    ),
    (
        "departures.toml",
        r#"
kind = "feature_view"
name = "departures"
entity = "airport"

[time]
valid_at = "valid_at"
known_at = { column = "known_at" }

[[features]]
name = "delay"
type = "int64"

[[features]]
name = "carrier"
type = "string"
default = "none"

[[features]]
name = "tailnum"
type = "string"
"#,
    ),
    (
        "planes.toml",
        r#"
kind = "feature_view"
name = "planes"
entity = "plane"

[time]
valid_at = "valid_at"
known_at = { column = "known_at" }

[[features]]
name = "seats"
type = "int64"

[[features]]
name = "maker"
type = "string"
"#,
    ),
];

const EARLY_WEATHER: &str = "
    origin string | valid_at timestamp   | known_at timestamp   | temp int64 | visib int64 | sky string
    EWR           | 2013-01-01T05:00:00Z | 2013-01-01T05:10:00Z | 39         | 10          | clear
    EWR           | 2013-01-01T06:00:00Z | 2013-01-01T06:10:00Z | 41         | 9           | cloudy
    JFK           | 2013-01-01T05:00:00Z | 2013-01-01T05:20:00Z | 37         | 10          | clear
    JFK           | 2013-01-01T06:00:00Z | 2013-01-01T06:10:00Z | null       | 4           | rain
    LGA           | 2013-01-01T05:30:00Z | 2013-01-01T07:30:00Z | 35         | null        | null";

const LATE_WEATHER: &str = "
    origin string | valid_at timestamp   | known_at timestamp   | temp int64 | visib int64 | sky string
    EWR           | 2013-01-01T07:00:00Z | 2013-01-01T07:10:00Z | 44         | 7           | rain
    JFK           | 2013-01-01T07:00:00Z | 2013-01-01T07:10:00Z | 38         | 9           | cloudy
    LGA           | 2013-01-01T07:00:00Z | 2013-01-01T07:05:00Z | 36         | 3           | rain";

const DEPARTURES: &str = "
    origin string | valid_at timestamp   | known_at timestamp   | delay int64 | carrier string | tailnum string
    EWR           | 2013-01-01T06:10:00Z | 2013-01-01T06:15:00Z | 5           | UA             | N1
    EWR           | 2013-01-01T06:40:00Z | 2013-01-01T06:55:00Z | 41          | B6             | N2
    EWR           | 2013-01-01T07:00:00Z | 2013-01-01T07:05:00Z | null        | UA             | N1
    JFK           | 2013-01-01T05:30:00Z | 2013-01-01T05:35:00Z | -2          | null           | N3
    JFK           | 2013-01-01T07:30:00Z | 2013-01-01T07:45:00Z | 10          | AA             | null
    LGA           | 2013-01-01T06:00:00Z | 2013-01-01T06:30:00Z | 35          | DL             | N2";

const PLANES: &str = "
    tailnum string | valid_at timestamp   | known_at timestamp   | seats int64 | maker string
    N1             | 2013-01-01T00:00:00Z | 2013-01-01T00:30:00Z | 150         | Airbus
    N2             | 2013-01-01T00:00:00Z | 2013-01-01T00:10:00Z | 10          | Boeing
    N2             | 2013-01-01T06:30:00Z | 2013-01-01T06:35:00Z | 41          | Boeing
    N3             | 2013-01-01T01:00:00Z | 2013-01-01T01:10:00Z | null        | Airbus";

/// The views and their tables, in the order in which they are ingested.
pub const TABLES: [(&str, &str); 4] =
    [("weather", EARLY_WEATHER), ("departures", DEPARTURES), ("planes", PLANES), ("weather", LATE_WEATHER)];

/// The sequence at which the first weather was ingested.
pub const EARLY: u64 = 2;

/// Every column that can be changed: its view and its name.
pub fn columns() -> Vec<(&'static str, String)> {
    let mut all = BTreeSet::new();
    for (view, text) in TABLES {
        all.extend(table(text).schema().fields().iter().map(|field| (view, field.name().clone())));
    }
    all.into_iter().collect()
}

/// The store, with what `change` makes of each table.
pub async fn with(mut change: impl FnMut(&str, RecordBatch) -> RecordBatch) -> Serving {
    let clock = TestClock::new(instant("2013-02-01T00:00:00Z"));
    let serving = memory(&clock).await;
    serving.apply(files(&DEFINITIONS), &author()).await.unwrap();
    for (view, text) in TABLES {
        clock.advance("1h".parse().unwrap());
        let request = rows(view, vec![change(view, table(text))]);
        let report = ingest(&serving, request).await.unwrap();
        assert_eq!(report.rejected, 0, "{view}");
    }
    assert_eq!(serving.catalog().state().head.sequence.0, 5);
    serving
}
