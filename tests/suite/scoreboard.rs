//! The scoreboard is what the batches are: at every sequence, for whoever asks first and for whoever asks later, and in a store that was opened
//! from a checkpoint. What it is held against is counted by SQL, batch by batch, of other views.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use catalog::Author;
use catalog::registry::{Observations, SeenModelVersion};
use serving::{HistoricalRequest, QuarantineAction, QuarantineRequest, Serving};
use storage::environment::TestClock;

use super::stores::{author, count, files, folder, ingest, instant, rows, select, spine};
use super::tables::table;

const ENTITY: &str =
    "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n";
const VIEW: &str = "kind = \"feature_view\"\nname = \"weather\"\nentity = \"airport\"\nreject_above = 0.5\n\
    [time]\nvalid_at = \"hour\"\nknown_at = { delay = \"1h\" }\n\
    [[features]]\nname = \"temp\"\ntype = \"float64\"\nrange = [-100, 200]\n\
    [quality]\non_fail = \"quarantine\"\nleast_rows = 10\n[quality.checks]\nwasserstein = { warn = 1, fail = 3 }\nvolume = {}\n";

/// A day of temperatures.
fn day(day: u32, temp: impl Fn(u32) -> f64) -> RecordBatch {
    let mut text = "origin string | hour timestamp | temp float64\n".to_owned();
    for hour in 0..24 {
        text.push_str(&format!("JFK | 2024-01-{day:02}T{hour:02}:00:00Z | {}\n", temp(hour)));
    }
    table(&text)
}

fn usual(hour: u32) -> f64 {
    60.0 + f64::from(hour % 12)
}

/// Each row as a line.
async fn lines(serving: &Serving, sql: &str) -> Vec<String> {
    let (_, batches) = select(serving, sql).await.unwrap();
    let options = FormatOptions::default().with_null("–");
    let mut lines = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let cell = |column: &arrow::array::ArrayRef| {
                ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string()
            };
            lines.push(batch.columns().iter().map(cell).collect::<Vec<_>>().join(" | "));
        }
    }
    lines
}

/// That versions and weeks are what the batches are, at each of these sequences in this order.
async fn verify_versions(serving: &Serving, sequences: impl Iterator<Item = u64>) {
    for at in sequences {
        let told = format!(
            "SELECT feature_view, version, week, batches, quarantined, refused, \"rows\", rejected, last_batch_at \
             FROM at_sequence('lineament.quality', {at}) ORDER BY 1, 2, 3"
        );
        let counted = format!(
            "SELECT feature_view, version, date_trunc('week', committed_at) AS week, count(*) FILTER (WHERE status <> 'refused'), \
             count(*) FILTER (WHERE status = 'quarantined'), count(*) FILTER (WHERE status = 'refused'), sum(\"rows\"), sum(rejected), \
             max(committed_at) FILTER (WHERE status <> 'refused') \
             FROM at_sequence('lineament.batches', {at}) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        );
        assert_eq!(lines(serving, &told).await, lines(serving, &counted).await, "at sequence {at}");
    }
}

/// That experiments and models are what the batches are that they wrote and used.
async fn verify_consumers(serving: &Serving) {
    let used = "JOIN lineament.training_set_hits h ON h.training_set = u.training_set JOIN lineament.batches b ON b.batch = h.batch";
    let of_models = format!(
        "m.name || '/' || m.version AS who FROM lineament.model_versions m JOIN lineament.uses u ON u.run = m.run {used}"
    );
    let of_experiments = format!(
        "e.external_id AS who FROM lineament.experiments e JOIN lineament.runs r ON r.experiment = e.experiment \
         JOIN lineament.uses u ON u.run = r.run {used}"
    );
    let written = "b.experiment AS who FROM lineament.batches b WHERE b.experiment IS NOT NULL".to_owned();
    for (who, told, batches) in [
        ("label", "quality_by_model WHERE feature_view IS NOT NULL", of_models),
        ("name", "quality_by_experiment WHERE role = 'used'", of_experiments),
        ("name", "quality_by_experiment WHERE role = 'wrote'", written),
    ] {
        let sql = format!(
            "SELECT {who}, feature_view, version, week, batches, \"rows\", rejected FROM lineament.{told} ORDER BY 1, 2, 3, 4"
        );
        let counted = format!(
            "SELECT who, feature_view, version, week, count(*), sum(\"rows\"), sum(rejected) FROM \
             (SELECT DISTINCT b.batch, b.feature_view, b.version, date_trunc('week', b.committed_at) AS week, b.\"rows\", b.rejected, \
             {batches}) GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
        );
        let found = lines(serving, &sql).await;
        assert!(!found.is_empty(), "{told}");
        assert_eq!(found, lines(serving, &counted).await, "{told}");
    }
}

async fn batches(serving: &Serving, lines: &str) -> i64 {
    count(serving, &format!("SELECT sum(batches) FROM lineament.{lines}")).await
}

/// Who trains a model for an experiment.
fn trainer() -> Author {
    Author { run: Some("train-1".to_owned()), experiment: Some("delays".to_owned()), ..author() }
}

/// A training set of the trainer's, of these moments.
async fn train(serving: &Serving, moments: &[&str]) {
    let mut text = "origin string | at timestamp\n".to_owned();
    moments.iter().for_each(|moment| text.push_str(&format!("JFK | {moment}\n")));
    let request = HistoricalRequest::new(["weather.temp"]);
    serving.historical(spine(vec![table(&text)]), request, &trainer()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_what_the_batches_are_whoever_asks_and_whenever() {
    let (root, clock) = (tempfile::tempdir().unwrap(), TestClock::new(instant("2024-02-01T00:00:00Z")));
    let serving = folder(root.path(), &clock).await;
    serving.apply(files(&[("airport.toml", ENTITY), ("weather.toml", VIEW)]), &author()).await.unwrap();
    ingest(&serving, rows("weather", vec![day(1, usual)])).await.unwrap();
    let writer = Author { experiment: Some("delays".to_owned()), ..author() };
    let second = rows("weather", vec![day(2, usual)]);
    serving.ingest(second, &writer, Arc::new(|_| ())).await.unwrap();
    let celsius = day(3, |hour| (usual(hour) - 32.0) / 1.8);
    let held = ingest(&serving, rows("weather", vec![celsius])).await.unwrap();
    assert!(held.quarantined);
    ingest(&serving, rows("weather", vec![day(4, |_| 1_000.0)])).await.unwrap_err();
    // From here on what is told is what came since.
    let head = serving.catalog().state().head.sequence.0;
    verify_versions(&serving, (1..=head).rev()).await;

    clock.advance("7d".parse().unwrap());
    let (batch, reason) = (held.batch.unwrap(), "the sensor was right".to_owned());
    let release = QuarantineRequest { batch, action: QuarantineAction::Release, reason, back_fill: true };
    serving.end_quarantine(&release, &author()).await.unwrap();
    let hot = day(5, |hour| if hour == 7 { 1_000.0 } else { usual(hour) });
    ingest(&serving, rows("weather", vec![hot])).await.unwrap();
    // Two sets that share a day.
    train(&serving, &["2024-01-01T10:00:00Z"]).await;
    train(&serving, &["2024-01-01T12:00:00Z", "2024-01-02T12:00:00Z", "2024-01-03T12:00:00Z"]).await;
    let delay = |version: &str, run: Option<&str>| SeenModelVersion {
        model: "delay".to_owned(),
        version: version.to_owned(),
        run: run.map(str::to_owned),
        ..SeenModelVersion::default()
    };
    let model_versions = vec![delay("1", Some("train-1")), delay("2", None)];
    let seen = Observations { model_versions, ..Observations::default() };
    serving.observe(seen, &author()).await.unwrap();
    let head = serving.catalog().state().head.sequence.0;
    verify_versions(&serving, 1..=head).await;
    verify_consumers(&serving).await;
    assert_eq!(count(&serving, "SELECT sum(failed) FROM lineament.quality").await, 1);
    assert_eq!(batches(&serving, "quality_by_model WHERE label = 'delay/1'").await, 3);
    assert_eq!(batches(&serving, "quality_by_experiment WHERE role = 'used'").await, 3);
    assert_eq!(batches(&serving, "quality_by_experiment WHERE role = 'wrote'").await, 1);
    let unknown = "SELECT count(*) FROM lineament.quality_by_model \
                   WHERE label = 'delay/2' AND feature_view IS NULL AND batches = 0 AND NOT lineage_complete";
    assert_eq!(count(&serving, unknown).await, 1);

    serving.catalog().checkpoint().await.unwrap();
    let asked = ["quality", "quality_by_experiment", "quality_by_model"];
    let asked = asked.map(|view| format!("SELECT * FROM lineament.{view}"));
    let opened = folder(root.path(), &clock).await;
    assert!(opened.catalog().last_checkpoint().is_some());
    for all in &asked {
        assert_eq!(lines(&opened, all).await, lines(&serving, all).await, "{all}");
    }
    verify_versions(&opened, (1..=head).rev()).await;
    // A set more for the same run: of a day that lies in the checkpoint, and of one that came since.
    clock.advance("7d".parse().unwrap());
    ingest(&opened, rows("weather", vec![day(6, usual)])).await.unwrap();
    train(&opened, &["2024-01-05T12:00:00Z", "2024-01-06T12:00:00Z"]).await;
    verify_versions(&opened, head..=opened.catalog().state().head.sequence.0).await;
    verify_consumers(&opened).await;
    assert_eq!(batches(&opened, "quality_by_model").await, 5);
    // To one that counted what came before from the log, and now what came since.
    for all in &asked {
        assert_eq!(lines(&opened, all).await, lines(&serving, all).await, "{all}");
    }
}
