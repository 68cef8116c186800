//! The views of column edges lie in one object a subject: a condition on the subject leaves all others unread.

use feature::TrainingSetId;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serving::{HistoricalRequest, Kind, Serving};

use super::super::fixture;
use super::super::stores::{author, count, files, ingest, memory, rows, select, spine};
use super::super::tables::table;

const DEFINITIONS: [(&str, &str); 2] = [
    (
        "airport.toml",
        "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n",
    ),
    (
        "weather.toml",
        "kind = \"feature_view\"\nname = \"weather\"\nentity = \"airport\"\n[time]\nvalid_at = \"valid_at\"\n\
         known_at = \"assumed\"\n[[features]]\nname = \"temp\"\ntype = \"float64\"\n",
    ),
];

async fn record(serving: &Serving, hour: u32) -> TrainingSetId {
    let asked = table(&format!("origin string | at timestamp\nJFK | 2013-01-01T{hour:02}:00:00Z\n"));
    let request = HistoricalRequest::new(["weather.temp"]);
    let set = serving.historical(spine(vec![asked]), request, &author()).await.unwrap();
    set.report.training_set.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_on_the_set_reads_its_manifest_alone() {
    let serving = memory(&fixture::clock()).await;
    serving.apply(files(&DEFINITIONS), &author()).await.unwrap();
    let text = "origin string | valid_at timestamp | temp float64\nJFK | 2013-01-01T08:00:00Z | 30\n";
    ingest(&serving, rows("weather", vec![table(text)])).await.unwrap();
    let (kept, gone) = (record(&serving, 9).await, record(&serving, 10).await);
    let manifest = Path::from(format!("training_sets/{gone}/manifest.json"));
    serving.catalog().store().objects().delete(&manifest).await.unwrap();

    let (columns, edges) = ("lineament.training_set_columns", "lineament.column_edges");
    for (view, condition, expected) in [
        (columns, format!("training_set = '{kept}'"), 3),
        (columns, format!("training_set IN ('{kept}', 'none') AND feature = 'temp'"), 1),
        // The spine's two, and the feature's value, keys and times of both sides.
        (edges, format!("subject_kind = 'training_set' AND subject = '{kept}'"), 8),
        (edges, format!("subject = '{kept}' AND kind = 'direct'"), 3),
        (edges, "subject_kind IN ('batch', 'read')".to_owned(), 0),
    ] {
        let sql = format!("SELECT count(*) FROM {view} WHERE {condition}");
        assert_eq!(count(&serving, &sql).await, expected, "{sql}");
    }
    for view in [columns, edges] {
        // All are read where nothing is said of them.
        let error = select(&serving, &format!("SELECT * FROM {view}")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
        assert!(error.to_string().contains(&gone.to_string()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spine_that_is_a_query_has_the_sources_of_the_query() {
    let serving = memory(&fixture::clock()).await;
    serving.apply(files(&DEFINITIONS), &author()).await.unwrap();
    let text = "origin string | valid_at timestamp | temp float64\nJFK | 2013-01-01T08:00:00Z | 30\n";
    ingest(&serving, rows("weather", vec![table(text)])).await.unwrap();
    let record = async |sql: &str| {
        let spine_sql = Some(sql.to_owned());
        let request = HistoricalRequest { spine_sql, ..HistoricalRequest::new(["weather.temp"]) };
        let stream = serving.historical_stream(None, request, &author()).await.unwrap();
        stream.rows.try_collect::<Vec<_>>().await.unwrap();
        stream.report.await.unwrap().training_set.unwrap()
    };
    let set = record("SELECT origin, valid_at AS at, 2 * temp AS label FROM weather WHERE temp > 7").await;
    // Beside those of a spine that is sent: label comes from temp, at from valid_at, and all went through the filter.
    for (condition, expected) in [
        ("output = 'label' AND feature_view = 'weather' AND \"column\" = 'temp' AND kind = 'direct'", 1),
        ("output = 'at' AND \"column\" = 'valid_at' AND subtype = 'IDENTITY'", 1),
        ("output IN ('origin', 'at', 'label') AND \"column\" = 'temp' AND subtype = 'FILTER'", 3),
        ("output = 'label' AND given = 'spine'", 1),
    ] {
        let sql =
            format!("SELECT count(*) FROM lineament.column_edges WHERE subject = '{set}' AND {condition}");
        assert_eq!(count(&serving, &sql).await, expected, "{sql}");
    }
    // What reads no features leaves no read to name.
    let of_log = "SELECT 'JFK' AS origin, committed_at AS at FROM lineament.log ORDER BY sequence LIMIT 1";
    let set = record(of_log).await;
    assert!(serving.manifest(set).await.unwrap().spine.query.is_none());
}
