//! `lineament test`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use catalog::ingest::{Input, Request};
use clap::Args;
use feature::definition::Definitions;
use feature::{Span, Timestamp};
use serde::Deserialize;
use serving::{
    Error, ExplainRequest, Explanation, HistoricalRequest, Kind, RefreshRequest, Result, Serving, Spine,
    TrainingSet,
};

use crate::session::{Place, file_error};
use crate::table::grouped;
use crate::{definitions_folder, retrieve};

/// Test definitions: fixture rows in, expected rows out, each test in memory
#[derive(Args)]
pub struct Arguments {
    /// The folder of definitions. Each folder in its folder `tests` is a test
    #[arg(default_value = "features")]
    folder: PathBuf,
    /// Only tests whose name has this in it
    #[arg(long, default_value = "")]
    only: String,
}

/// What a test asks: `test.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    features: Vec<String>,
    at: Option<String>,
    #[serde(default)]
    full_feature_names: bool,
    #[serde(default)]
    ttl: BTreeMap<String, Span>,
    #[serde(default, with = "feature::time::rfc3339::option")]
    known_by: Option<Timestamp>,
    /// Fixture rows that are rejected, by view; none where a view is not named.
    #[serde(default)]
    rejected: BTreeMap<String, u64>,
}

/// The files of a test.
struct Fixture {
    name: String,
    question: Question,
    /// By view, in the order of the files' names.
    given: Vec<(String, PathBuf)>,
    spine: PathBuf,
    expected: PathBuf,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let mut definitions = definitions_folder::read(&arguments.folder)?;
    // A test is of rows, one by one; how many of a batch may be wrong says nothing of two rows made up.
    for declared in &mut definitions.views {
        declared.definition.reject_above = None;
    }
    let fixtures = fixtures(&arguments.folder.join("tests"), &arguments.only)?;
    let mut failed = 0;
    for fixture in &fixtures {
        let started = Instant::now();
        let faults = match test(place, &definitions, fixture).await {
            Ok(faults) => faults,
            Err(error) => vec![error.to_string()],
        };
        let verdict = if faults.is_empty() { "ok" } else { "FAILED" };
        println!("{verdict:<6}  {} ({} ms)", fixture.name, started.elapsed().as_millis());
        for fault in &faults {
            println!("        {}", fault.replace('\n', "\n        "));
        }
        failed += usize::from(!faults.is_empty());
    }
    let total = fixtures.len();
    println!("{} passed, {failed} failed", total - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn fixtures(folder: &Path, only: &str) -> Result<Vec<Fixture>> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        let name = name_of(&path);
        if path.is_dir() && name.contains(only) {
            found.push(fixture(&path, name)?);
        }
    }
    if found.is_empty() {
        let which = if only.is_empty() { String::new() } else { format!(" with `{only}` in its name") };
        return Err(Error::new(
            Kind::NotFound,
            format!(
                "`{}` has no test{which}: a folder with test.toml, a file of rows for each view (weather.csv), spine.csv and expected.csv",
                folder.display()
            ),
        ));
    }
    Ok(found)
}

fn fixture(folder: &Path, name: String) -> Result<Fixture> {
    let (mut question, mut spine, mut expected) = (None, None, None);
    let mut given = Vec::new();
    for path in entries(folder)? {
        let file = name_of(&path);
        let stem = file.split('.').next().unwrap_or_default().to_owned();
        let place = match (file.as_str(), stem.as_str()) {
            ("test.toml", _) => &mut question,
            (_, "spine") => &mut spine,
            (_, "expected") => &mut expected,
            _ => {
                given.push((stem, path));
                continue;
            }
        };
        if let Some(other) = place.replace(path.clone()) {
            return Err(Error::new(
                Kind::Invalid,
                format!("`{}` and `{}` say the same of one test; keep one", other.display(), path.display()),
            ));
        }
    }
    let lacking =
        |file: &str| Error::new(Kind::NotFound, format!("the test `{}` has no {file}", folder.display()));
    let path = question.ok_or_else(|| lacking("test.toml"))?;
    let text = std::fs::read_to_string(&path).map_err(|error| file_error(&path, error))?;
    let question = toml::from_str(&text)
        .map_err(|error| Error::new(Kind::Invalid, format!("`{}`: {error}", path.display())))?;
    Ok(Fixture {
        name,
        question,
        given,
        spine: spine.ok_or_else(|| lacking("spine.csv"))?,
        expected: expected.ok_or_else(|| lacking("expected.csv"))?,
    })
}

/// The entries of a folder by name, without hidden ones.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| file_error(folder, error))? {
        let path = entry.map_err(|error| file_error(folder, error))?.path();
        if !name_of(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What is wrong, in words; nothing where all is as expected.
async fn test(place: &Place, definitions: &Definitions, fixture: &Fixture) -> Result<Vec<String>> {
    let author = place.author();
    let serving = place.open_or_create_at("memory://").await?;
    serving.apply_definitions(definitions, None, &author).await?;
    let mut faults = Vec::new();
    let mut rejected: BTreeMap<&str, u64> = BTreeMap::new();
    for (view, path) in &fixture.given {
        let input = Input::Files { paths: vec![path.clone()], format: None };
        let report = serving.ingest(Request::new(view, input), &author, Arc::new(|_| ())).await?;
        let count = rejected.entry(view).or_default();
        *count += report.rejected;
        if *count > fixture.question.rejected.get(view).copied().unwrap_or(0) {
            faults.extend(report.examples);
        }
    }
    for (view, expected) in &fixture.question.rejected {
        let count = rejected.get(view.as_str()).copied().unwrap_or(0);
        if count != *expected {
            faults.push(format!("{count} rows of `{view}` were rejected; {expected} should be"));
        }
    }
    serving.refresh(&RefreshRequest { view: None, full: false }, &author).await?;
    let question = &fixture.question;
    let mut request = HistoricalRequest::new(question.features.clone());
    request.at.clone_from(&question.at);
    request.full_feature_names = question.full_feature_names;
    request.ttl = question.ttl.clone();
    request.known_by = question.known_by;
    let spine = retrieve::read_spine(&fixture.spine, &[])?;
    let expected = retrieve::read_spine(&fixture.expected, &[])?;
    let answer = serving.historical(spine, request, &author).await?;
    faults.extend(compare(&serving, &answer, &expected, &fixture.expected).await?);
    Ok(faults)
}

/// The cells that are not as expected, with the reason that the store gives for them.
async fn compare(
    serving: &Serving,
    answer: &TrainingSet,
    expected: &Spine,
    path: &Path,
) -> Result<Vec<String>> {
    let whole = |schema, batches: &[RecordBatch]| {
        concat_batches(schema, batches).map_err(|error| Error::new(Kind::Invalid, error.to_string()))
    };
    let found = whole(&answer.schema, &answer.batches)?;
    let wanted = whole(&expected.schema, &expected.batches)?;
    if found.num_rows() != wanted.num_rows() {
        return Ok(vec![format!(
            "the spine has {} rows, and `{}` has {}; it has one for each of the spine's, in its order",
            grouped(found.num_rows() as u64),
            path.display(),
            grouped(wanted.num_rows() as u64)
        )]);
    }
    let mut faults = Vec::new();
    for (field, column) in wanted.schema().fields().iter().zip(wanted.columns()) {
        let name = field.name();
        let Some(actual) = found.column_by_name(name) else {
            let names: Vec<&str> = answer.schema.fields().iter().map(|field| field.name().as_str()).collect();
            let hint = catalog::plan::did_you_mean(name, names.iter().copied());
            faults.push(format!(
                "`{}` has the column `{name}`, which the answer has not{hint}; it has {}",
                path.display(),
                names.join(", ")
            ));
            continue;
        };
        let column = exactly(column, actual.data_type()).map_err(|error| {
            Error::new(Kind::Invalid, format!("`{}`, column `{name}`: {error}", path.display()))
        })?;
        let (found, wanted) = (texts(actual)?, texts(&column)?);
        for (row, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            if found == wanted {
                continue;
            }
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".to_owned());
            let why = why(serving, answer, row, name).await;
            faults.push(format!("row {row}, `{name}`: {}, expected {}{why}", shown(found), shown(wanted)));
        }
    }
    Ok(faults)
}

/// What was written, in the type that the answer has. A value that the type does not hold is an error: it would else be expected as null, or
/// as another number.
fn exactly(column: &ArrayRef, kind: &DataType) -> std::result::Result<ArrayRef, ArrowError> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let held = cast_with_options(column, kind, &strict)?;
    if column.data_type().is_numeric() && kind.is_integer() {
        let back = cast_with_options(&held, column.data_type(), &strict)?;
        let differs = distinct(&back, column)?;
        if let Some(row) = (0..differs.len()).find(|row| differs.value(*row)) {
            let written =
                ArrayFormatter::try_new(column, &FormatOptions::default())?.value(row).try_to_string()?;
            return Err(ArrowError::CastError(format!("row {row}: {written} is no {kind}")));
        }
    }
    Ok(held)
}

/// Cells as text: as many digits as tell a number from all others, so that equal text is an equal value.
fn texts(column: &ArrayRef) -> Result<Vec<Option<String>>> {
    let wrong = |error: ArrowError| Error::new(Kind::Internal, error.to_string());
    let formatter = ArrayFormatter::try_new(column, &FormatOptions::default()).map_err(wrong)?;
    (0..column.len())
        .map(|row| match column.is_null(row) {
            true => Ok(None),
            false => formatter.value(row).try_to_string().map(Some).map_err(wrong),
        })
        .collect()
}

/// Why a cell is what it is; nothing for a column of the spine.
async fn why(serving: &Serving, answer: &TrainingSet, row: usize, column: &str) -> String {
    let Some(id) = answer.report.training_set else { return String::new() };
    let request = ExplainRequest::new(id, row as u64, column);
    match serving.explain(request, &catalog::Author::default()).await {
        Ok(Explanation { winner: Some(winner), .. }) => {
            format!(" (the observation of {}, known at {}, won)", winner.valid_at, winner.known_at)
        }
        Ok(Explanation { null_reason: Some(reason), .. }) => format!(" ({reason})"),
        Ok(_) | Err(_) => String::new(),
    }
}
