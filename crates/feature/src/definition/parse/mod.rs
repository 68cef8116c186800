//! From the text of a definition file to a definition, or to everything that is wrong with it.
//!
//! The document is walked by hand, and not by derived code, so that the messages are ours: each says the line, the key, the
//! value, what is allowed and what to write instead, and all of a file's errors come together.

use toml::de::{DeTable, DeValue};

use super::checks::Problem;
use super::errors::{DefinitionError, DefinitionErrors};
use super::vocabulary::{ENTITY, KINDS, SERVICE, VIEW, Vocabulary};
use super::{About, Definition};
use crate::name::{Name, nearest};
use page::Page;
use table::{Table, did_you_mean, listed};

mod alerts;
mod entity;
mod feature;
pub(super) mod page;
mod quality;
mod sampling;
mod service;
pub(super) mod table;
mod view;

pub use alerts::parse_alerts;

/// Reads one definition file. `file_name` is for messages alone.
///
/// A view's keys are then those that the file names; `FeatureView::resolve_keys` fills in the rest.
/// A text that is not TOML gives its errors of TOML; once it is, all others.
pub fn parse(file_name: &str, text: &str) -> Result<Definition, DefinitionErrors> {
    let mut page = Page::new(file_name, text);
    match read(&mut page, text) {
        Some(definition) if page.is_clean() => Ok(definition),
        _ => Err(DefinitionErrors::new(page.take_errors())),
    }
}

/// Reads one file onto a page, whose places then say where its parts stand. None only where the page holds errors.
pub(super) fn read(page: &mut Page<'_>, text: &str) -> Option<Definition> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !is_toml(page, &errors) {
        return None;
    }
    let top = document.get_ref();
    let words = kind(top, page)?;
    let mut table = Table::open(words, &words.family(), String::new(), 0..0, top, page);
    table.span = top.get("kind").map_or(0..0, |kind| kind.span());
    if std::ptr::eq(words, &ENTITY) {
        entity::entity(&table, page).map(Definition::Entity)
    } else if std::ptr::eq(words, &VIEW) {
        view::view(&table, page).map(Definition::FeatureView)
    } else {
        service::service(&table, page).map(Definition::FeatureService)
    }
}

/// Notes what keeps a text from being TOML; whether nothing does.
fn is_toml(page: &mut Page<'_>, errors: &[toml::de::Error]) -> bool {
    for error in errors {
        let start = error.span().map_or(0, |span| span.start);
        let message = syntax(error.message(), page.line(start));
        page.wrong(error.span().unwrap_or(0..0), message);
    }
    errors.is_empty()
}

/// Notes the problems of a definition that has been built.
pub(super) fn note(page: &mut Page<'_>, problems: Vec<Problem>) {
    for error in located(page, problems) {
        page.push(error);
    }
}

/// Problems with the places where their parts stand.
pub(super) fn located(page: &Page<'_>, problems: Vec<Problem>) -> Vec<DefinitionError> {
    let mut errors = Vec::new();
    for Problem { path, message, first } in problems {
        let first = first.map(|path| page.part_error(&path, "").line);
        let first = first.map(|line| format!(" (the first stands in line {line})")).unwrap_or_default();
        errors.push(page.part_error(&path, format!("{message}{first}")));
    }
    errors
}

/// Which of the three kinds this is; a missing or misspelt kind is noted, and guessed where that is possible, so that the
/// rest of the file can be checked too.
fn kind(top: &DeTable<'_>, page: &mut Page<'_>) -> Option<&'static Vocabulary> {
    let guess = if top.contains_key("entity") || top.contains_key("time") || top.contains_key("source") {
        Some(("feature_view", &VIEW))
    } else if top.contains_key("keys") {
        Some(("entity", &ENTITY))
    } else if top.get("features").is_some_and(|features| {
        features.get_ref().as_array().is_some_and(|all| all.iter().any(|one| one.get_ref().is_str()))
    }) {
        Some(("feature_service", &SERVICE))
    } else {
        None
    };
    let all = listed(KINDS.iter().map(|(kind, _)| *kind));
    let Some(value) = top.get("kind") else {
        let guessed =
            guess.map(|(kind, _)| format!("; this looks like kind = \"{kind}\"")).unwrap_or_default();
        page.wrong(
            0..0,
            format!("`kind` is missing, which says what this file defines: one of {all}{guessed}"),
        );
        return guess.map(|(_, words)| words);
    };
    let DeValue::String(text) = value.get_ref() else {
        let shown = page.shown(value.span());
        page.wrong(value.span(), format!("`kind` is {shown}; write one of {all} in quotes"));
        return guess.map(|(_, words)| words);
    };
    if let Some((_, words)) = KINDS.iter().find(|(kind, _)| *kind == text.as_ref()) {
        return Some(words);
    }
    let folded = text.to_lowercase().replace([' ', '-'], "_");
    let near = match folded.as_str() {
        "view" | "features" => Some("feature_view"),
        "service" => Some("feature_service"),
        other => nearest(other, KINDS.iter().map(|(kind, _)| *kind)),
    };
    page.wrong(value.span(), format!("`kind` is \"{text}\"{}; it is one of {all}", did_you_mean(near)));
    KINDS
        .iter()
        .find(|(kind, _)| Some(*kind) == near)
        .map(|(_, words)| *words)
        .or(guess.map(|(_, words)| words))
}

/// Name, project and the words for people.
struct Header {
    project: Option<Name>,
    name: Option<Name>,
    about: About,
}

fn header(table: &Table<'_>, page: &mut Page<'_>) -> Header {
    for key in ["name", "project"] {
        if let Some(value) = table.get(key) {
            page.mark(key, value.span());
        }
    }
    if table.get("name").is_none() {
        table.missing("name", page);
    }
    let project = if table.get("project").is_some() {
        table.name("project", page)
    } else {
        Some(Name::default_project())
    };
    Header { project, name: table.name("name", page), about: about(table, page) }
}

fn about(table: &Table<'_>, page: &mut Page<'_>) -> About {
    About {
        description: table.text("description", page),
        owner: table.text("owner", page),
        tags: table.texts("tags", page).unwrap_or_default(),
    }
}

/// TOML's own errors, with what newcomers most often meant.
fn syntax(message: &str, line: &str) -> String {
    let what = format!("this is not TOML: {message}, in the line `{line}`");
    let bare = line
        .split_once('=')
        .map(|(key, value)| (key.trim(), value.split('#').next().unwrap_or_default().trim()));
    match bare {
        _ if message.starts_with("duplicate key") => {
            let key = bare.map_or(line, |(key, _)| key);
            if key.starts_with('[') {
                format!(
                    "{what}; a table stands once: several of a kind are written with two brackets, [[features]]"
                )
            } else {
                format!("{what}; `{key}` is given twice in this table: remove one")
            }
        }
        Some((key, value))
            if value.starts_with(|first: char| first.is_ascii_alphanumeric())
                && !value.contains(['"', '\'', '[', '{']) =>
        {
            format!("{what}; text stands in quotes: {key} = \"{value}\"")
        }
        Some((key, "")) => format!("{what}; write a value after {key} =, or remove the line"),
        None if line.contains(':') => format!("{what}; TOML joins key and value by =, not by a colon"),
        _ => format!("{what}; write key = value, with text in quotes, and tables as [time] or [[features]]"),
    }
}
