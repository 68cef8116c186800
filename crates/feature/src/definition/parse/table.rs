//! Reading one table of TOML by hand, so that every message says which key, which value and what to write instead.

use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::page::Page;
use crate::definition::naming::valid_name;
use crate::definition::vocabulary::{FOREIGN, Shape, Vocabulary};
use crate::name::{Name, nearest};
use crate::time::Span;

pub(super) struct Table<'t> {
    words: &'static Vocabulary,
    /// What messages about this table begin with: nothing, or ``feature `temp`: ``.
    pub label: String,
    pub span: Range<usize>,
    entries: &'t DeTable<'t>,
}

type Value<'t> = &'t Spanned<DeValue<'t>>;

impl<'t> Table<'t> {
    /// Opens a table and notes its unknown keys. `family`: the tables among which a misplaced key may belong.
    pub fn open(
        words: &'static Vocabulary,
        family: &[&'static Vocabulary],
        label: String,
        span: Range<usize>,
        entries: &'t DeTable<'t>,
        page: &mut Page<'_>,
    ) -> Self {
        for (key, _) in entries.iter() {
            if words.word(key.get_ref()).is_none() {
                page.wrong(key.span(), format!("{label}{}", unknown_key(key.get_ref(), words, family)));
            }
        }
        Self { words, label, span, entries }
    }

    pub fn get(&self, key: &str) -> Option<Value<'t>> {
        self.entries.get(key)
    }

    /// Notes that a key is missing, unless a misspelling of it has been noted already.
    pub fn missing(&self, key: &'static str, page: &mut Page<'_>) {
        let misspelt = self
            .entries
            .keys()
            .filter(|written| self.words.word(written.get_ref()).is_none())
            .any(|written| meant(written.get_ref(), self.words.keys()) == Some(key));
        if let (Some(word), false) = (self.words.word(key), misspelt) {
            let write = match word.shape {
                Shape::Table(_) | Shape::Tables(_) | Shape::Named(_) => {
                    format!("write {}", word.example)
                }
                _ => format!("write {key} = {}", word.example),
            };
            let message =
                format!("{}{} needs `{key}`, {}; {write}", self.label, self.words.table, word.meaning);
            page.wrong(self.span.clone(), message);
        }
    }

    /// Notes that a value is of the wrong kind.
    pub fn mistyped(&self, key: &str, value: Value<'t>, page: &mut Page<'_>) {
        let word = self.words.word(key);
        let example = word.map_or("…", |word| word.example);
        let shown = page.shown(value.span());
        let write = match (word.map(|word| word.shape), value.get_ref()) {
            // Most often only the quotes are missing, or too many.
            (Some(Shape::Table(_) | Shape::Tables(_) | Shape::Named(_)), _) => format!("write {example}"),
            (Some(Shape::Bool), DeValue::String(text)) if matches!(text.as_ref(), "true" | "false") => {
                format!("write it without quotes: {key} = {text}")
            }
            (Some(Shape::Text), DeValue::Integer(_) | DeValue::Boolean(_)) => {
                format!("write it in quotes: {key} = \"{shown}\"")
            }
            (Some(Shape::Span), DeValue::Integer(number)) => match spans(number.as_str()) {
                Some(span) => format!(
                    "write a number with its unit, in quotes: {key} = \"{span}\" if seconds are meant"
                ),
                None if key == "ttl" => {
                    format!(
                        "leave it out to look back for ever, or write a number with its unit: ttl = {example}"
                    )
                }
                None => format!("write a number with its unit, in quotes: {key} = {example}"),
            },
            (Some(Shape::References | Shape::Texts), DeValue::String(_)) => {
                format!("write a list: {key} = [{shown}]")
            }
            _ => format!("write for example {key} = {example}"),
        };
        let message = format!("{}`{key}` is {shown}, {}; {write}", self.label, type_name(value.get_ref()));
        page.wrong(value.span(), message);
    }

    /// Text that is not empty.
    pub fn text(&self, key: &'static str, page: &mut Page<'_>) -> Option<String> {
        let value = self.get(key)?;
        match value.get_ref().as_str() {
            Some(text) if text.trim().is_empty() => {
                let example = self.words.word(key).map_or("…", |word| word.example);
                let message = format!(
                    "{}`{key}` is empty; leave it out, or write for example {key} = {example}",
                    self.label
                );
                page.wrong(value.span(), message);
                None
            }
            Some(text) => Some(text.to_owned()),
            None => {
                self.mistyped(key, value, page);
                None
            }
        }
    }

    pub fn texts(&self, key: &'static str, page: &mut Page<'_>) -> Option<Vec<String>> {
        let value = self.get(key)?;
        let texts: Option<Vec<String>> = value.get_ref().as_array().and_then(|values| {
            values.iter().map(|value| value.get_ref().as_str().map(str::to_owned)).collect()
        });
        if texts.is_none() {
            self.mistyped(key, value, page);
        }
        texts
    }

    pub fn boolean(&self, key: &'static str, page: &mut Page<'_>) -> Option<bool> {
        let value = self.get(key)?;
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.mistyped(key, value, page);
        }
        boolean
    }

    /// A number, written with or without decimals.
    pub fn number(&self, key: &'static str, page: &mut Page<'_>) -> Option<f64> {
        let value = self.get(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.mistyped(key, value, page);
        }
        number
    }

    /// Text that reads as a `T`, whose own error says what is wrong with it.
    pub fn parsed<T: FromStr<Err: std::fmt::Display>>(
        &self,
        key: &'static str,
        page: &mut Page<'_>,
    ) -> Option<T> {
        let value = self.get(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.mistyped(key, value, page);
            return None;
        };
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(why) => {
                page.wrong(value.span(), format!("{}`{key}`: {why}", self.label));
                None
            }
        }
    }

    pub fn name(&self, key: &'static str, page: &mut Page<'_>) -> Option<Name> {
        let value = self.get(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.mistyped(key, value, page);
            return None;
        };
        match read_name(text) {
            Ok(name) => Some(name),
            Err(why) => {
                page.wrong(value.span(), format!("{}`{key}`: {why}", self.label));
                None
            }
        }
    }

    /// One of a few words.
    pub fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&'static str, T)],
        page: &mut Page<'_>,
    ) -> Option<T> {
        let value = self.get(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.mistyped(key, value, page);
            return None;
        };
        if let Some((_, chosen)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*chosen);
        }
        let words = choices.iter().map(|(word, _)| *word);
        let message = format!(
            "{}`{key}` is \"{text}\"{}; it is one of {}",
            self.label,
            did_you_mean(nearest(&text.to_lowercase(), words.clone())),
            listed(words)
        );
        page.wrong(value.span(), message);
        None
    }

    /// A table inside this one.
    pub fn table(
        &self,
        key: &'static str,
        words: &'static Vocabulary,
        family: &[&'static Vocabulary],
        page: &mut Page<'_>,
    ) -> Option<Table<'t>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(entries) => {
                Some(Table::open(words, family, String::new(), value.span(), entries, page))
            }
            _ => {
                self.mistyped(key, value, page);
                None
            }
        }
    }

    /// Tables inside this one, written `[[key]]`. `singular`: what one of them is called in messages.
    pub fn tables(
        &self,
        key: &'static str,
        singular: &str,
        words: &'static Vocabulary,
        family: &[&'static Vocabulary],
        page: &mut Page<'_>,
    ) -> Option<Vec<Table<'t>>> {
        let value = self.get(key)?;
        let DeValue::Array(values) = value.get_ref() else {
            if matches!(value.get_ref(), DeValue::Table(_)) {
                let message = format!(
                    "{}`{key}` is one table, but there may be several; write [[{key}]] with two brackets, one for each {singular}",
                    self.label
                );
                page.wrong(value.span(), message);
            } else {
                self.mistyped(key, value, page);
            }
            return None;
        };
        let mut tables = Vec::new();
        for (number, value) in values.iter().enumerate() {
            let DeValue::Table(entries) = value.get_ref() else {
                self.mistyped(key, value, page);
                return None;
            };
            let name = entries.get("name").and_then(|name| name.get_ref().as_str());
            let label = match name {
                Some(name) => format!("{singular} `{name}`: "),
                None => format!("{singular} {}: ", number + 1),
            };
            tables.push(Table::open(words, family, label, value.span(), entries, page));
        }
        Some(tables)
    }

    pub fn entries(&self) -> &'t DeTable<'t> {
        self.entries
    }
}

/// Reads a name; the error ends with one that would do.
pub(in crate::definition) fn read_name(text: &str) -> Result<Name, String> {
    text.parse::<Name>().map_err(|why| {
        let why = why.to_string();
        if why.ends_with("would do") { why } else { format!("{why}; `{}` would do", valid_name(text)) }
    })
}

/// The key that a written one most likely means.
fn meant(written: &str, keys: impl Iterator<Item = &'static str> + Clone) -> Option<&'static str> {
    let folded = written.to_lowercase().replace('-', "_");
    let foreign = FOREIGN.iter().find(|(word, _)| *word == folded).map(|(_, ours)| *ours);
    foreign.filter(|ours| keys.clone().any(|key| key == *ours)).or_else(|| nearest(&folded, keys))
}

/// A number of seconds as it is written here; none for nothing.
fn spans(seconds: &str) -> Option<Span> {
    let micros = seconds.parse::<i64>().ok()?.checked_mul(1_000_000)?;
    Span::from_micros(micros).filter(|span| *span != Span::ZERO)
}

fn unknown_key(key: &str, words: &'static Vocabulary, family: &[&'static Vocabulary]) -> String {
    let elsewhere = |wanted: &str| {
        family.iter().find(|other| !std::ptr::eq(**other, words) && other.word(wanted).is_some()).copied()
    };
    let what = format!("`{key}` is not a key of {}", words.table);
    if let Some(other) = elsewhere(key) {
        return format!("{what}; it belongs {}", other.place);
    }
    let allowed = format!("; its keys are {}", listed(words.keys()));
    if let Some(meant) = meant(key, words.keys()) {
        return format!("{what}{}{allowed}", did_you_mean(Some(meant)));
    }
    let others = family.iter().flat_map(|other| other.keys()).collect::<Vec<_>>();
    if let Some((meant, other)) =
        meant(key, others.iter().copied()).and_then(|meant| Some((meant, elsewhere(meant)?)))
    {
        return format!("{what} (did you mean `{meant}`, which belongs {}?){allowed}", other.place);
    }
    format!("{what}{allowed}")
}

pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// ` (did you mean `x`?)`, or nothing.
pub(in crate::definition) fn did_you_mean(name: Option<&str>) -> String {
    name.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

/// `a, b and c`, or `none`.
pub(in crate::definition) fn listed<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match (items.pop(), items.is_empty()) {
        (None, _) => "none".to_owned(),
        (Some(only), true) => only,
        (Some(last), false) => format!("{} and {last}", items.join(", ")),
    }
}
