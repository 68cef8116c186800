//! The mistakes of newcomers at ingest and retrieval, each with the exact message that it gets, and proof that none of
//! them loses anything. `testdata/mistakes/*.toml` holds them; `definitions.toml` there is tested in `feature`.
//!
//! With `LINEAMENT_BLESS=1` messages that changed are written to those files, to be read in the diff.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use catalog::ingest::{Claim, Input, Request, Rows};
use feature::Span;
use serde::Deserialize;
use serving::{ExplainRequest, HistoricalRequest, Serving};
use storage::{Clock, Store};

use super::fixture::{self, Fixture, Question};
use super::stores::{author, ingest, instant, select, spine};
use super::tables::table;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mistakes {
    mistakes: Vec<Mistake>,
}

/// What is done: one of `ingest`, `retrieve`, `sql`, `explain` and `program`. `{folder}` stands for where the files lie.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mistake {
    mistake: String,
    message: String,
    /// What the message must name: the column, the value, the nearest valid name, and what to do next.
    names: Vec<String>,
    next: String,
    /// Whether the refusal is an entry of the log, for its rejected rows can be listed.
    #[serde(default)]
    refused: bool,

    /// The view that `rows` or `files` are ingested into.
    ingest: Option<String>,
    claim: Option<String>,
    key: Option<String>,
    /// Of an ingest, or the spine of a retrieval.
    rows: Option<String>,
    /// The features that are asked for.
    retrieve: Option<Vec<String>>,
    at: Option<String>,
    #[serde(default)]
    ttl: BTreeMap<String, Span>,
    known_by: Option<String>,
    #[serde(default)]
    ignore_known_at: bool,
    sql: Option<String>,
    /// A column and a row of the training set.
    explain: Option<(String, u64)>,
    /// Arguments of the program, which is run where the files lie.
    program: Option<Vec<String>>,
    #[serde(default)]
    files: Vec<File>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    text: Option<String>,
    /// Written as Parquet.
    rows: Option<String>,
    /// How many bytes of it are there.
    first_bytes: Option<usize>,
}

fn testdata(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(file)
}

/// The store that the mistakes are made on, and what it answers.
struct Before {
    fixture: Fixture,
    objects: BTreeMap<String, Vec<u8>>,
    answers: Vec<(Question, String)>,
    head: feature::Sequence,
}

async fn before() -> Before {
    let folder = tempfile::tempdir().unwrap();
    let fixture = fixture::make(folder.path()).await;
    let objects = fixture::objects(folder.path());
    let serving = open_copy(&objects).await;
    let head = serving.catalog().state().head.sequence;
    let mut answers = Vec::new();
    for question in fixture::questions(&fixture) {
        let answer = fixture::ask(&serving, &question).await.unwrap();
        answers.push((question, answer));
    }
    Before { fixture, objects, answers, head }
}

async fn open(folder: &Path) -> Serving {
    let store = Store::open(folder.to_str().unwrap(), Clock::System).unwrap();
    fixture::open(store).await.unwrap()
}

/// The same, in memory.
async fn open_copy(objects: &BTreeMap<String, Vec<u8>>) -> Serving {
    let memory = fixture::copy_in_memory(objects).await;
    fixture::open(fixture::over(memory, Clock::System)).await.unwrap()
}

fn write_files(folder: &Path, files: &[File]) {
    for file in files {
        let path = folder.join(&file.name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = match (&file.text, &file.rows) {
            (Some(text), None) => text.trim_start().as_bytes().to_vec(),
            (None, Some(rows)) => {
                let rows = table(rows);
                let mut writer =
                    parquet::arrow::ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
                writer.write(&rows).unwrap();
                writer.into_inner().unwrap()
            }
            _ => panic!("`{}` has text or rows", file.name),
        };
        bytes.truncate(file.first_bytes.unwrap_or(usize::MAX));
        std::fs::write(path, bytes).unwrap();
    }
}

/// Makes the mistake; what it says.
async fn make(mistake: &Mistake, before: &Before, store: &Path, folder: &Path) -> String {
    if let Some(arguments) = &mistake.program {
        return program(arguments, store, folder);
    }
    let serving = open(store).await;
    if let Some(view) = &mistake.ingest {
        let input = match &mistake.rows {
            Some(text) => {
                let rows = table(text);
                Input::Rows(Rows::from_batches("rows", rows.schema(), vec![rows]))
            }
            None => Input::Files {
                paths: mistake.files.iter().map(|file| folder.join(&file.name)).collect(),
                format: None,
            },
        };
        let mut request = Request::new(view, input);
        request.key.clone_from(&mistake.key);
        request.claim = mistake.claim.as_deref().map(|claim| match claim {
            "back_fill" => Claim::BackFill,
            "correction" => Claim::Correction,
            other => panic!("{other} is no claim"),
        });
        return ingest(&serving, request).await.expect_err(&mistake.mistake).to_string();
    }
    if let Some(features) = &mistake.retrieve {
        let mut request = HistoricalRequest::new(features);
        request.at.clone_from(&mistake.at);
        request.ttl.clone_from(&mistake.ttl);
        request.known_by = mistake.known_by.as_deref().map(instant);
        request.ignore_known_at = mistake.ignore_known_at;
        let rows = table(mistake.rows.as_deref().unwrap_or(fixture::SPINE));
        let found = serving.historical(spine(vec![rows]), request, &author()).await;
        return found.expect_err(&mistake.mistake).to_string();
    }
    if let Some(sql) = &mistake.sql {
        return select(&serving, sql).await.expect_err(&mistake.mistake).to_string();
    }
    let (column, row) =
        mistake.explain.clone().unwrap_or_else(|| panic!("{}: nothing is done", mistake.mistake));
    let request = ExplainRequest::new(before.fixture.sets[0], row, column);
    serving.explain(request, &author()).await.expect_err(&mistake.mistake).to_string()
}

fn program(arguments: &[String], store: &Path, folder: &Path) -> String {
    let ran = Command::new(env!("CARGO_BIN_EXE_lineament"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("LINEAMENT_STORE", store)
        .env("USER", "tester")
        .output()
        .unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1), "{arguments:?} said {said}");
    assert!(ran.stdout.is_empty(), "{arguments:?}");
    said.strip_prefix("error: ").unwrap_or_else(|| panic!("{said}")).trim_end().to_owned()
}

/// Nothing is gone: the head of the log and every answer are as before. Of a refusal there is its own entry, and what
/// shows it.
async fn nothing_is_lost(mistake: &Mistake, before: &Before, store: &Path) {
    let name = &mistake.mistake;
    let now = fixture::objects(store);
    for (object, bytes) in &before.objects {
        assert_eq!(now.get(object), Some(bytes), "{name}: {object}");
    }
    let serving = open_copy(&now).await;
    let state = serving.catalog().state();
    if mistake.refused {
        assert_eq!(state.head.sequence, before.head.next(), "{name}");
        assert_eq!(state.log().last().unwrap().records, [(21, "batch_refused")], "{name}");
    } else {
        assert_eq!(state.head.sequence, before.head, "{name}");
    }
    for (question, answer) in &before.answers {
        let shows_refusals = matches!(question, Question::Sql(sql)
            if ["log", "batches", "rejected_rows"].iter().any(|view| sql.ends_with(&format!("lineament.{view}"))));
        let found = fixture::ask(&serving, question).await.unwrap();
        if mistake.refused && shows_refusals {
            let lines: Vec<&str> = found.lines().collect();
            for line in answer.lines() {
                assert!(lines.contains(&line), "{name}: {question:?} lacks {line}");
            }
        } else {
            assert_eq!(&found, answer, "{name}: {question:?}");
        }
    }
}

async fn each_gets_its_message(file: &str, at_least: usize) {
    let path = testdata("mistakes").join(file);
    let mut text = std::fs::read_to_string(&path).unwrap();
    let Mistakes { mistakes } = toml::from_str(&text).unwrap();
    assert!(mistakes.len() >= at_least, "{}", mistakes.len());
    let before = before().await;
    let mut wrong = Vec::new();
    for mistake in &mistakes {
        let store = tempfile::tempdir().unwrap();
        fixture::write_objects(store.path(), &before.objects);
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        write_files(&root, &mistake.files);
        let said =
            make(mistake, &before, store.path(), &root).await.replace(root.to_str().unwrap(), "{folder}");
        if said != mistake.message {
            wrong.push(format!("{}\n  should say {}\n  says       {said}", mistake.mistake, mistake.message));
            let literal = |message: &str| format!("message = '''{message}'''\n");
            text = text.replace(&literal(&mistake.message), &literal(&said));
        }
        for part in mistake.names.iter().chain([&mistake.next]) {
            if !said.contains(part.as_str()) {
                wrong.push(format!("{}\n  does not name {part}\n  but says {said}", mistake.mistake));
            }
        }
        nothing_is_lost(mistake, &before, store.path()).await;
    }
    if std::env::var_os("LINEAMENT_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn each_mistake_at_ingest_gets_its_message_and_loses_nothing() {
    each_gets_its_message("ingest.toml", 20).await;
}

#[tokio::test]
async fn each_mistake_at_retrieval_gets_its_message_and_loses_nothing() {
    each_gets_its_message("retrieval.toml", 20).await;
}
