//! `lineament demo`: the main job, end to end, on a year of real flights.

mod leaderboard;
mod leaks;
mod over_flight;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use catalog::ingest::{Claim, Input, Request};
use catalog::records::Verdict;
use clap::Args;
use serving::{Error, ExplainRequest, HistoricalRequest, Kind, Result, Serving, TrainingSet};

use crate::session::Place;
use crate::table::{self, grouped};
use crate::{definitions_folder, explain, progress, retrieve, serve};

/// Show everything on real data: a year of flights from New York
#[derive(Args)]
pub struct Arguments {
    /// The folder of the data
    #[arg(long, default_value = "testdata/nycflights13")]
    data: PathBuf,
    /// Leave the server running at the end
    #[arg(long)]
    keep_serving: bool,
    /// The port of the server; 0 takes any that is free
    #[arg(long, default_value_t = 0)]
    port: u16,
}

/// What of a flight is asked about: its keys, its time, what the model may use, and the label.
const SPINE: [&str; 8] = ["flight_id", "origin", "tailnum", "at", "month", "hour", "carrier", "arr_delay"];

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let started = Instant::now();
    let data = find_data(&arguments.data)?;
    let address = if place.store == DEFAULT_STORE { free_folder() } else { place.store.clone() };

    heading(1, "A store");
    let serving = place.open_or_create_at(&address).await?;
    if serving.catalog().state().views().next().is_some() {
        return Err(Error::new(
            Kind::Invalid,
            format!("the store at {address} is in use; the demo wants an empty place: name one by --store"),
        ));
    }
    println!("  {}", serving.catalog().store().location());
    println!("  A folder is enough: no server, no service. Its put-if-absent was proved by a race just now.");

    heading(2, "Definitions");
    let author = place.author();
    let definitions = definitions_folder::read(&data.join("features"))?;
    let applied = serving.apply_definitions(&definitions, None, &author).await?;
    for planned in &applied.plan.changes {
        println!("  {planned}");
    }
    println!("  One entry of the log. Applying the same files again would change nothing.");

    heading(3, "A year of real data, every row validated");
    for view in ["weather", "departures", "leg", "plane"] {
        ingest(&serving, place, view, Input::Source, None).await?;
    }

    heading(4, "A training set: what was known one hour before each departure");
    let spine = retrieve::read_spine(&data.join("flights.parquet"), &SPINE.map(str::to_owned))?;
    let mut request = HistoricalRequest::new(["delay"]);
    request.name = Some("delay".to_owned());
    let honest = serving.historical(spine.clone(), request, &author).await?;
    preview(&honest)?;

    heading(5, "What correctness in time is worth");
    let leaky = leaks::show(&serving, &spine, &honest, &author).await?;
    leaderboard::show(&serving, &honest, &leaky, &author).await?;

    heading(6, "Rebuilt from its id, bit for bit");
    let Some(id) = honest.report.training_set else {
        return Err(Error::new(Kind::Internal, "the training set was not recorded"));
    };
    prove(&serving, id, place).await?;
    println!("  Now 200 corrected weather readings come in …");
    let corrections = vec![data.join("corrections/weather.parquet")];
    let input = Input::Files { paths: corrections, format: None };
    ingest(&serving, place, "weather", input, Some(Claim::Correction)).await?;
    prove(&serving, id, place).await?;

    heading(7, "Why does this cell have its value?");
    // A flight in the evening of the worst day for delays, from the airport that was hit.
    let row = cell_to_explain(&honest)?;
    let request = ExplainRequest::new(id, row, "dep_delay");
    explain::print(&serving.explain(request, &author).await?, "  ");

    heading(8, "Over Arrow Flight");
    let socket = SocketAddr::from(([127, 0, 0, 1], arguments.port));
    let server = serve::bind(serving.clone(), serve::options(place, socket)).await?;
    let url = format!("grpc://{}", server.address());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async move {
        let _ = stopped.await;
    }));
    over_flight::read_back(&url, id, &honest).await?;
    serving.flush(&author).await?;
    println!("\n  All of it took {:.1} s.", started.elapsed().as_secs_f64());

    heading(9, "What to type next");
    next_steps(&address, &url, id, arguments.keep_serving);
    if arguments.keep_serving {
        println!("\n  serving at {url}; stop with Ctrl-C");
        serve::stop().await;
    }
    let _ = stop.send(());
    match running.await {
        Ok(ran) => serve::finish(ran)?,
        Err(error) => return Err(Error::new(Kind::Internal, error.to_string())),
    }
    Ok(ExitCode::SUCCESS)
}

const DEFAULT_STORE: &str = "lineament-store";

/// `lineament-demo`, or the first of `lineament-demo-2`, `-3`, … that is not there yet.
fn free_folder() -> String {
    let mut name = "lineament-demo".to_owned();
    let mut number = 2;
    while Path::new(&name).exists() {
        name = format!("lineament-demo-{number}");
        number += 1;
    }
    name
}

fn find_data(folder: &Path) -> Result<PathBuf> {
    if folder.join("flights.parquet").is_file() {
        return Ok(folder.to_owned());
    }
    Err(Error::new(
        Kind::NotFound,
        format!(
            "`{}` holds no flights.parquet; run the demo from the root of the repository, or name the folder by --data",
            folder.display()
        ),
    ))
}

fn heading(number: u32, title: &str) {
    if std::io::stdout().is_terminal() {
        println!("\n\x1b[1;36m{number}  {title}\x1b[0m");
    } else {
        println!("\n{number}  {title}");
    }
}

async fn ingest(
    serving: &Serving,
    place: &Place,
    view: &str,
    input: Input,
    claim: Option<Claim>,
) -> Result<()> {
    let mut request = Request::new(view, input);
    request.claim = claim;
    let (bar, report) = progress::bar(view);
    let done = serving.ingest(request, &place.author(), report).await;
    bar.finish_and_clear();
    let report = done?;
    println!(
        "  {:<13} {:>8} rows accepted, {} rejected{}",
        report.version,
        grouped(report.rows),
        grouped(report.rejected),
        if report.filtered > 0 {
            format!(", {} not taken (where)", grouped(report.filtered))
        } else {
            String::new()
        }
    );
    for example in &report.examples {
        println!("      rejected: {example}");
    }
    Ok(())
}

fn preview(set: &TrainingSet) -> Result<()> {
    let shown: Vec<usize> =
        ["origin", "tailnum", "at", "temp", "wind_speed", "dep_delay", "delay", "seats", "arr_delay"]
            .iter()
            .filter_map(|name| set.schema.index_of(name).ok())
            .collect();
    let wrong = |error: arrow::error::ArrowError| Error::new(Kind::Internal, error.to_string());
    let schema = std::sync::Arc::new(set.schema.project(&shown).map_err(wrong)?);
    let first = set
        .batches
        .iter()
        .map(|batch| batch.slice(batch.num_rows().saturating_sub(6), 6.min(batch.num_rows())));
    let rows =
        first.take(1).map(|batch| batch.project(&shown)).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    let text = table::to_text(&schema, &rows, 6)?;
    for line in text.lines() {
        println!("  {line}");
    }
    println!(
        "  … {} rows × {} columns in {:.2} s, with the record of how it came about",
        grouped(set.report.rows),
        set.schema.fields().len(),
        set.report.seconds
    );
    println!("  digest {}", set.report.digest);
    for feature in ["temp", "dep_delay", "delay", "seats"] {
        let Some(nulls) = set.report.features.iter().find(|known| known.output == feature) else { continue };
        let reasons: Vec<String> =
            nulls.nulls.iter().map(|(reason, count)| format!("{} {reason}", grouped(*count))).collect();
        println!("  nulls of {:<10} {}", feature, reasons.join(", "));
    }
    Ok(())
}

async fn prove(serving: &Serving, id: feature::TrainingSetId, place: &Place) -> Result<()> {
    let report = serving.prove(id, &place.author()).await?;
    match report.verdict {
        Verdict::Equal | Verdict::EqualMinusErasures => {
            println!("  replay {id}\n    equal   {}   {:.2} s", report.rebuilt, report.seconds);
            Ok(())
        }
        Verdict::Differs => Err(Error::new(
            Kind::Internal,
            format!("the replay of {id} differs: {} became {}", report.digest, report.rebuilt),
        )),
    }
}

/// The row with the greatest delay known an hour before: its history shows every way to lose.
fn cell_to_explain(set: &TrainingSet) -> Result<u64> {
    use arrow::array::{Array, AsArray};
    let mut best: Option<(i32, u64)> = None;
    let mut row = 0;
    for batch in &set.batches {
        let column = batch
            .column_by_name("dep_delay")
            .and_then(|column| column.as_primitive_opt::<arrow::datatypes::Int32Type>());
        let Some(delays) = column else {
            return Err(Error::new(Kind::Internal, "the training set has no dep_delay"));
        };
        for index in 0..delays.len() {
            if delays.is_valid(index) && best.is_none_or(|(most, _)| delays.value(index) > most) {
                best = Some((delays.value(index), row));
            }
            row += 1;
        }
    }
    Ok(best.map_or(0, |(_, row)| row))
}

/// By a path from here, where it lies below.
fn this_program() -> String {
    let Ok(program) = std::env::current_exe() else { return "lineament".to_owned() };
    let here = std::env::current_dir().unwrap_or_default();
    program.strip_prefix(&here).unwrap_or(&program).display().to_string()
}

fn next_steps(address: &str, url: &str, id: feature::TrainingSetId, serving: bool) {
    println!("  lineament={}; export LINEAMENT_STORE={address}", this_program());
    println!("  $lineament sql \"SELECT origin, count(*), avg(temp) FROM weather GROUP BY origin\"");
    println!(
        "  $lineament sql \"SELECT f.flight, w.temp FROM (VALUES ('UA1545', 'EWR', TIMESTAMP '2013-07-01 12:00:00')) f(flight, origin, at)"
    );
    println!(
        "                  ASOF JOIN weather w MATCH_CONDITION (f.at >= w.valid_at) ON f.origin = w.origin\""
    );
    println!("  $lineament sql \"SELECT reason, message FROM lineament.rejected_rows\"");
    println!("  $lineament replay {id}");
    if !serving {
        println!("  $lineament serve          # then, from Python (pip install ./python):");
    }
    let url = if serving { url } else { "grpc://127.0.0.1:8815" };
    println!(
        "  python -c \"import lineament; print(lineament.connect('{url}').training_set('{id}').to_df())\""
    );
}
