//! Feature views.

use toml::de::DeValue;

use super::page::Page;
use super::table::{Table, read_name, type_name};
use super::{Header, feature, header, note};
use crate::definition::checks;
use crate::definition::vocabulary::{KNOWN_AT, KNOWN_AT_WORDS, SAMPLING, Shape, VIEW, Vocabulary};
use crate::definition::{
    Check, Derived, FeatureView, FileFormat, KeySource, KnownAt, Occurrence, RepeatedHour, Retention, Source,
    TimeRule,
};
use crate::name::{Name, nearest};
use crate::time::Span;

/// Reads a view and notes what is wrong with it. The checks between parts go over those that could be read, so that a file
/// with one wrong feature still hears of its doubled names.
pub(super) fn view(table: &Table<'_>, page: &mut Page<'_>) -> Option<FeatureView> {
    let Header { project, name, about } = header(table, page);
    for key in ["entity", "ttl", "reject_above", "keys", "features"] {
        if let Some(value) = table.get(key) {
            page.mark(key, value.span());
        }
    }
    for key in ["entity", "time", "features"] {
        if table.get(key).is_none() {
            table.missing(key, page);
        }
    }
    let entity = table.name("entity", page);
    let ttl = table.parsed::<Span>("ttl", page);
    let reject_above = table.number("reject_above", page);
    let hypothesis = table.text("hypothesis", page);
    let time = table.table("time", inside("time")?, &VIEW.family(), page).map(|time| self::time(time, page));
    let keys = keys(table, page);
    let occurrence = occurrence(table, page);
    let features = features(table, page);
    let checks = checks(table, page);
    let source = source(table, page);
    let derived = derived(table, page);
    let quality = super::quality::quality(table, page);
    let sampling = super::sampling::sampling(table, &SAMPLING, &VIEW.family(), page);
    let retention = retention(table, page);

    // What could not be read has been noted: what stands in for it is seen by the checks alone.
    let unread = Name::default_project;
    let view = FeatureView {
        project: project.unwrap_or_else(unread),
        name: name.unwrap_or_else(unread),
        entity: entity.unwrap_or_else(unread),
        ttl,
        time: time.unwrap_or_else(unread_time),
        occurrence,
        keys,
        features: features.clone().unwrap_or_default(),
        checks,
        source,
        derived,
        reject_above,
        quality,
        sampling,
        retention,
        hypothesis,
        about,
    };
    let mut problems = checks::view(&view);
    if features.is_none() {
        problems.retain(|problem| problem.path != "features");
    }
    note(page, problems);
    page.is_clean().then_some(view)
}

fn retention(table: &Table<'_>, page: &mut Page<'_>) -> Option<Retention> {
    page.mark("retention", table.get("retention")?.span());
    let mut table = table.table("retention", inside("retention")?, &VIEW.family(), page)?;
    table.label = "[retention]: ".to_owned();
    if let Some(value) = table.get("keep") {
        page.mark("retention.keep", value.span());
    } else {
        table.label.clear();
        table.missing("keep", page);
        table.label = "[retention]: ".to_owned();
    }
    let unused_sets = table.parsed::<Span>("unused_sets", page);
    Some(Retention { keep: table.parsed::<Span>("keep", page)?, unused_sets })
}

fn unread_time() -> TimeRule {
    TimeRule {
        valid_at: String::new(),
        known_at: KnownAt::Assumed,
        zone: None,
        repeated_hour: RepeatedHour::Refuse,
    }
}

fn inside(key: &str) -> Option<&'static Vocabulary> {
    match VIEW.word(key)?.shape {
        Shape::Table(words) | Shape::Tables(words) => Some(words),
        _ => None,
    }
}

/// What could be read of the rule; the rest has been noted.
fn time(mut table: Table<'_>, page: &mut Page<'_>) -> TimeRule {
    table.label = "[time]: ".to_owned();
    for key in ["zone", "repeated_hour"] {
        if let Some(value) = table.get(key) {
            page.mark(format!("time.{key}"), value.span());
        }
    }
    if table.get("valid_at").is_none() {
        table.label.clear();
        table.missing("valid_at", page);
        table.label = "[time]: ".to_owned();
    }
    let valid_at = table.text("valid_at", page);
    let known_at = known_at(&table, page);
    let zone = table.text("zone", page);
    let choices = [
        ("refuse", RepeatedHour::Refuse),
        ("earlier", RepeatedHour::Earlier),
        ("later", RepeatedHour::Later),
    ];
    let repeated_hour = table.choice("repeated_hour", &choices, page).unwrap_or_default();
    let unread = unread_time();
    TimeRule {
        valid_at: valid_at.unwrap_or(unread.valid_at),
        known_at: known_at.unwrap_or(unread.known_at),
        zone,
        repeated_hour,
    }
}

/// The four ways in which a view may say when its values could have been known.
const FOUR: &str = "the four choices are { column = \"published_at\" } (a source column says it), { delay = \"30m\" } (so long after valid_at), \"arrival\" (when the store took it in) and \"assumed\" (nobody knows: taken as valid_at, and marked so)";

fn known_at(table: &Table<'_>, page: &mut Page<'_>) -> Option<KnownAt> {
    let Some(value) = table.get("known_at") else {
        let message = format!(
            "[time] needs `known_at`, when the values could first have been known, so that no training row sees them earlier; {FOUR}; write for example known_at = {{ delay = \"30m\" }}"
        );
        page.wrong(table.span.clone(), message);
        return None;
    };
    match value.get_ref() {
        DeValue::String(text) => match text.as_ref() {
            "arrival" => Some(KnownAt::Arrival),
            "assumed" => Some(KnownAt::Assumed),
            other => {
                let hint = match nearest(&other.to_lowercase(), KNOWN_AT_WORDS.iter().map(|(word, _)| *word))
                {
                    Some(word) => format!("write known_at = \"{word}\""),
                    None if other.parse::<Span>().is_ok() => {
                        format!("for a delay write known_at = {{ delay = \"{other}\" }}")
                    }
                    None => format!("for a source column write known_at = {{ column = \"{other}\" }}"),
                };
                page.wrong(value.span(), format!("[time]: `known_at` is \"{other}\"; {hint}; {FOUR}"));
                None
            }
        },
        DeValue::Table(entries) => {
            let span = value.span();
            let inner = Table::open(
                &KNOWN_AT,
                &[&KNOWN_AT],
                "[time]: known_at: ".to_owned(),
                span.clone(),
                entries,
                page,
            );
            match (inner.get("column").is_some(), inner.get("delay").is_some()) {
                (true, false) => inner.text("column", page).map(KnownAt::Column),
                (false, true) => inner.parsed("delay", page).map(KnownAt::Delay),
                (true, true) => {
                    page.wrong(
                        span,
                        "[time]: `known_at` has both column and delay; keep the one that says when the values were known",
                    );
                    None
                }
                // A key that is not known has been noted.
                (false, false) if !entries.is_empty() => None,
                (false, false) => {
                    page.wrong(span, format!("[time]: `known_at` is empty; {FOUR}"));
                    None
                }
            }
        }
        other => {
            let message =
                format!("[time]: `known_at` is {}, {}; {FOUR}", page.shown(value.span()), type_name(other));
            page.wrong(value.span(), message);
            None
        }
    }
}

fn keys(table: &Table<'_>, page: &mut Page<'_>) -> Vec<KeySource> {
    let Some(value) = table.get("keys") else { return Vec::new() };
    let DeValue::Table(entries) = value.get_ref() else {
        let message = "`keys` of a feature view is one table, [keys], with entity key = source column, such as origin = \"airport_code\"; leave it out where the names are the same";
        page.wrong(value.span(), message);
        return Vec::new();
    };
    let mut found = Vec::new();
    for (key, value) in entries.iter() {
        page.mark(format!("keys.{}", key.get_ref()), key.span());
        let name = match read_name(key.get_ref()) {
            Ok(name) => name,
            Err(why) => {
                page.wrong(
                    key.span(),
                    format!(
                        "[keys]: {why}; the entity's key stands on the left, the source's column on the right"
                    ),
                );
                continue;
            }
        };
        match value.get_ref().as_str() {
            Some(column) if !column.is_empty() => {
                found.push((key.span().start, KeySource { key: name, column: column.to_owned() }));
            }
            _ => {
                let shown = page.shown(value.span());
                page.wrong(
                    value.span(),
                    format!("[keys]: `{name}` is {shown}; write the source's column in quotes: {name} = \"{name}\""),
                );
            }
        }
    }
    found.sort_by_key(|(start, _)| *start);
    found.into_iter().map(|(_, source)| source).collect()
}

fn occurrence(table: &Table<'_>, page: &mut Page<'_>) -> Option<Occurrence> {
    let mut table = table.table("occurrence", inside("occurrence")?, &VIEW.family(), page)?;
    for key in ["name", "type"] {
        match table.get(key) {
            Some(value) => page.mark(format!("occurrence.{key}"), value.span()),
            None => table.missing(key, page),
        }
    }
    table.label = "[occurrence]: ".to_owned();
    let name = table.name("name", page);
    let data_type = table.parsed("type", page);
    let column = table.text("column", page);
    let name = name?;
    Some(Occurrence { column: column.unwrap_or_else(|| name.to_string()), name, data_type: data_type? })
}

/// The features that could be read; none where the list as a whole could not.
fn features(table: &Table<'_>, page: &mut Page<'_>) -> Option<Vec<crate::definition::Feature>> {
    let tables = table.tables("features", "feature", inside("features")?, &VIEW.family(), page)?;
    let mut features = Vec::new();
    for table in &tables {
        // By the number among those that could be read, which is how the checks will call it.
        let path = format!("features.{}", features.len());
        features.extend(feature::feature(table, &path, page));
    }
    if features.is_empty() && !tables.is_empty() { None } else { Some(features) }
}

fn checks(table: &Table<'_>, page: &mut Page<'_>) -> Vec<Check> {
    let Some(words) = inside("checks") else { return Vec::new() };
    let mut checks = Vec::new();
    for table in table.tables("checks", "check", words, &VIEW.family(), page).unwrap_or_default() {
        for key in ["name", "sql"] {
            match table.get(key) {
                Some(value) => page.mark(format!("checks.{}.{key}", checks.len()), value.span()),
                None => table.missing(key, page),
            }
        }
        if let (Some(name), Some(sql)) = (table.name("name", page), table.text("sql", page)) {
            checks.push(Check { name, sql });
        }
    }
    checks
}

fn source(table: &Table<'_>, page: &mut Page<'_>) -> Option<Source> {
    let mut table = table.table("source", inside("source")?, &VIEW.family(), page)?;
    if table.get("files").is_none() {
        table.missing("files", page);
    }
    table.label = "[source]: ".to_owned();
    let choices = [("parquet", FileFormat::Parquet), ("csv", FileFormat::Csv), ("arrow", FileFormat::Arrow)];
    let files = table.text("files", page);
    let format = table.choice("format", &choices, page);
    let filter = table.text("where", page);
    Some(Source { files: files?, format, filter })
}

fn derived(table: &Table<'_>, page: &mut Page<'_>) -> Option<Derived> {
    if let Some(value) = table.get("derived") {
        page.mark("derived", value.span());
    }
    let mut table = table.table("derived", inside("derived")?, &VIEW.family(), page)?;
    if table.get("sql").is_none() {
        table.missing("sql", page);
    }
    table.label = "[derived]: ".to_owned();
    Some(Derived { sql: table.text("sql", page)? })
}
