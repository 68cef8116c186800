//! What was computed of rows that their view keeps no longer stays, and what was computed of others goes on.

use catalog::ingest::Claim;
use serving::{RefreshReport, RefreshRequest, RetainRequest, Serving};
use storage::environment::TestClock;

use super::super::stores::{author, claimed, count, files, ingest, instant, memory, rows};
use super::super::sweep::at_once;
use super::super::tables::table;

const AIRPORT: &str =
    "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n";
const WEATHER: &str = "kind = \"feature_view\"\nname = \"weather\"\nentity = \"airport\"\nttl = \"7d\"\n[time]\n\
     valid_at = \"hour\"\nknown_at = { column = \"published\" }\n\
     [[features]]\nname = \"rain\"\ntype = \"int64\"\n[retention]\nkeep = \"30d\"\n";

fn monthly(parent: &str) -> String {
    format!(
        "kind = \"feature_view\"\nname = \"monthly\"\nentity = \"airport\"\n[time]\nvalid_at = \"month\"\n\
         known_at = \"arrival\"\n[derived]\nsql = \"SELECT origin, date_trunc('month', valid_at) AS month, \
         sum(rain) AS rain FROM {parent} GROUP BY 1, 2\"\n[[features]]\nname = \"rain\"\ntype = \"int64\"\n"
    )
}

/// The same with the time at which the newest of the rows was known: a late one makes another row of the same observation.
fn known(parent: &str) -> String {
    monthly(parent)
        .replace("known_at = \"arrival\"", "known_at = { column = \"known_at\" }")
        .replace("AS month, ", "AS month, max(known_at) AS known_at, ")
}

/// The clock stands on June 11th, when rows of before May 12th are too old.
async fn opened(monthly: &str) -> Serving {
    let clock = TestClock::new(instant("2024-06-11T00:00:00Z"));
    let serving = memory(&clock).await;
    let definitions = [("airport.toml", AIRPORT), ("weather.toml", WEATHER), ("monthly.toml", monthly)];
    serving.apply(files(&definitions), &author()).await.unwrap();
    serving
}

async fn rained(serving: &Serving, days: &[(&str, &str, i64)]) {
    let mut text = "origin string | hour timestamp | published timestamp | rain int64".to_owned();
    for (day, known, rain) in days {
        text += &format!("\nEWR | 2024-{day}T00:00:00Z | 2024-{known}T01:00:00Z | {rain}");
    }
    let request = claimed(rows("weather", vec![table(&text)]), Claim::BackFill);
    ingest(serving, request).await.unwrap();
}

async fn refreshed(serving: &Serving, full: bool) -> RefreshReport {
    let request = RefreshRequest { view: Some("monthly".to_owned()), full };
    serving.refresh(&request, &author()).await.unwrap().remove(0)
}

/// The rain of May and of June.
async fn months(serving: &Serving) -> (i64, i64) {
    let of = async |order: &str| {
        count(serving, &format!("SELECT rain FROM monthly ORDER BY valid_at {order} LIMIT 1")).await
    };
    (of("ASC").await, of("DESC").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregate_of_rows_that_expired_in_part_stays() {
    for definition in [monthly("history('weather')"), known("history('weather')")] {
        let serving = opened(&definition).await;
        rained(&serving, &[("05-03", "05-03", 1), ("05-20", "05-20", 2), ("06-05", "06-05", 4)]).await;
        assert_eq!(refreshed(&serving, false).await.rows, 2);
        assert_eq!(months(&serving).await, (3, 4));
        serving.retain(&RetainRequest::default(), &author()).await.unwrap();
        assert_eq!(count(&serving, "SELECT count(*) FROM weather").await, 2);

        // Nothing came for May, and of June nothing expired.
        rained(&serving, &[("06-08", "06-08", 8)]).await;
        let report = refreshed(&serving, false).await;
        assert_eq!((report.rows, report.kept, report.vanished), (1, 1, None), "{report:?}");
        assert_eq!(months(&serving).await, (3, 12));

        // Also when the rows are gone, and when something comes late for what has expired in part.
        serving.sweep(&at_once(&serving), &author()).await.unwrap();
        rained(&serving, &[("05-25", "06-09", 16), ("06-09", "06-09", 32)]).await;
        for full in [false, true] {
            let report = refreshed(&serving, full).await;
            assert_eq!((report.rows, report.kept), (u64::from(!full), 1), "{report:?}");
            assert_eq!(months(&serving).await, (3, 44));
        }
    }
}

/// What a table had of them by the last refresh nobody can ask it: all that is held stays.
#[tokio::test(flavor = "multi_thread")]
async fn over_a_table_all_that_is_held_stays() {
    let serving = opened(&monthly("weather")).await;
    rained(&serving, &[("05-03", "05-03", 1), ("05-20", "05-20", 2)]).await;
    assert_eq!(refreshed(&serving, false).await.rows, 1);
    serving.retain(&RetainRequest::default(), &author()).await.unwrap();
    rained(&serving, &[("06-08", "06-08", 8)]).await;
    let report = refreshed(&serving, false).await;
    assert_eq!((report.rows, report.kept), (1, 1), "{report:?}");
    assert_eq!(months(&serving).await, (3, 8));
    rained(&serving, &[("06-09", "06-09", 32)]).await;
    let report = refreshed(&serving, false).await;
    assert_eq!((report.rows, report.kept), (0, 2), "{report:?}");
    assert_eq!(months(&serving).await, (3, 8));
}
