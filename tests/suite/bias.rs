//! The population that a training set is compared with is the one that a retrieval would give something of.

use serving::{BiasRequest, HistoricalRequest};
use storage::environment::TestClock;

use super::stores::{author, files, ingest, instant, memory, rows, spine};
use super::tables::table;

const ENTITY: &str =
    "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n";
const VIEW: &str = "kind = \"feature_view\"\nname = \"weather\"\nentity = \"airport\"\n\
    [time]\nvalid_at = \"hour\"\nknown_at = \"assumed\"\n[[features]]\nname = \"temp\"\ntype = \"float64\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn whose_last_observation_is_a_retraction_is_not_served() {
    let serving = memory(&TestClock::new(instant("2024-02-01T00:00:00Z"))).await;
    serving.apply(files(&[("airport.toml", ENTITY), ("weather.toml", VIEW)]), &author()).await.unwrap();
    let observed = table(
        "origin string | hour timestamp | temp float64 | _retracted bool
         JFK | 2024-01-01T01:00:00Z | 10 | false
         LGA | 2024-01-01T01:00:00Z | 20 | false
         EWR | 2024-01-01T01:00:00Z | 30 | false
         JFK | 2024-01-01T02:00:00Z | null | true
         EWR | 2024-01-01T02:00:00Z | null | true
         EWR | 2024-01-01T03:00:00Z | 31 | false",
    );
    ingest(&serving, rows("weather", vec![observed])).await.unwrap();
    let asked = "origin string | at timestamp
         LGA | 2024-01-01T01:30:00Z
         LGA | 2024-01-01T01:30:00Z
         LGA | 2024-01-01T01:30:00Z
         LGA | 2024-01-01T04:00:00Z";
    let request = HistoricalRequest::new(["weather.temp"]);
    let set = serving.historical(spine(vec![table(asked)]), request, &author()).await.unwrap();
    let training_set = set.report.training_set.unwrap();
    let population = async |request: BiasRequest| {
        let mut report = serving.bias(&request, &author()).await.unwrap();
        report.views.remove(0)
    };
    let late = Some(instant("2024-01-01T04:00:00Z"));
    let view = population(BiasRequest { training_set, at: late, moments: None }).await;
    assert_eq!((view.served_entities, view.shared_entities, view.served_rows), (2, 1, 2));
    // Three parts of the spine in four are of a moment at which all three are served.
    let view = population(BiasRequest { training_set, at: None, moments: Some(4) }).await;
    assert_eq!((view.served_entities, view.served_rows, view.moments.len()), (3, 3 * 3 + 2, 2));
}
