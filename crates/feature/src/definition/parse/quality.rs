//! The `[quality]` table of a view.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::page::Page;
use super::table::{Table, read_name};
use crate::definition::quality::{Baseline, Measure, OnFail, Quality, Thresholds};
use crate::definition::vocabulary::{BASELINE, CHECKS, FEATURE_CHECKS, QUALITY, THRESHOLDS, VIEW};
use crate::time::Timestamp;

/// What could be read of it; the rest has been noted.
pub(super) fn quality(table: &Table<'_>, page: &mut Page<'_>) -> Option<Quality> {
    if let Some(value) = table.get("quality") {
        page.mark("quality", value.span());
    }
    let mut table = table.table("quality", &QUALITY, &VIEW.family(), page)?;
    table.label = "[quality]: ".to_owned();
    let on_fail = [("admit", OnFail::Admit), ("quarantine", OnFail::Quarantine)];
    let features = named(&table, page);
    let checks = table.table("checks", &CHECKS, &QUALITY.family(), page);
    Some(Quality {
        baseline: baseline(&table, page),
        on_fail: table.choice("on_fail", &on_fail, page).unwrap_or_default(),
        least_rows: count(&table, "least_rows", page),
        checks: checks.map(|checks| measures(checks, "[quality.checks]: ", page)).unwrap_or_default(),
        features,
    })
}

/// A whole number from 1.
fn count(table: &Table<'_>, key: &'static str, page: &mut Page<'_>) -> Option<u64> {
    let number = table.number(key, page)?;
    if number >= 1.0 && number.fract() == 0.0 && number <= f64::from(u32::MAX) {
        return Some(number as u64);
    }
    if let Some(value) = table.get(key) {
        let message = format!("{}`{key}` is {number}; write a whole number from 1", table.label);
        page.wrong(value.span(), message);
    }
    None
}

fn baseline(table: &Table<'_>, page: &mut Page<'_>) -> Option<Baseline> {
    let span = table.get("baseline")?.span();
    let mut inner = table.table("baseline", &BASELINE, &[&BASELINE], page)?;
    inner.label = "[quality]: baseline: ".to_owned();
    let has = |key: &str| inner.get(key).is_some();
    match (has("batches"), has("from") || has("until"), has("model")) {
        (true, false, false) => count(&inner, "batches", page)
            .and_then(|batches| u32::try_from(batches).ok())
            .map(Baseline::Batches),
        (false, true, false) => {
            for key in ["from", "until"] {
                if inner.get(key).is_none() {
                    inner.missing(key, page);
                }
            }
            let (from, until) = (time(&inner, "from", page), time(&inner, "until", page));
            let (from, until) = (from?, until?);
            if until <= from {
                page.wrong(
                    span,
                    format!(
                        "[quality]: `baseline` ends at {until}, before it begins; `until` is not part of it"
                    ),
                );
                return None;
            }
            Some(Baseline::Between { from, until })
        }
        (false, false, true) => inner.text("model", page).map(Baseline::Model),
        _ => {
            page.wrong(
                span,
                "[quality]: `baseline` is one of three: { batches = 30 } (the latest that count), { from = \"2013-06-01T00:00:00Z\", until = \"2013-09-01T00:00:00Z\" } (batches of that time) and { model = \"delay\" } (what the deployed versions of a model were trained on)",
            );
            None
        }
    }
}

/// An instant, with or without quotes.
fn time(table: &Table<'_>, key: &'static str, page: &mut Page<'_>) -> Option<Timestamp> {
    let value = table.get(key)?;
    if let DeValue::Datetime(written) = value.get_ref() {
        return match written.to_string().parse() {
            Ok(time) => Some(time),
            Err(why) => {
                page.wrong(value.span(), format!("{}`{key}`: {why}", table.label));
                None
            }
        };
    }
    table.parsed(key, page)
}

/// The tables of single features.
fn named(
    table: &Table<'_>,
    page: &mut Page<'_>,
) -> BTreeMap<crate::name::Name, BTreeMap<Measure, Thresholds>> {
    let mut found = BTreeMap::new();
    let Some(value) = table.get("features") else { return found };
    let DeValue::Table(entries) = value.get_ref() else {
        table.mistyped("features", value, page);
        return found;
    };
    for (feature, value) in entries.iter() {
        page.mark(format!("quality.features.{}", feature.get_ref()), feature.span());
        let label = format!("[quality.features.{}]: ", feature.get_ref());
        let name = match read_name(feature.get_ref()) {
            Ok(name) => name,
            Err(why) => {
                page.wrong(feature.span(), format!("{label}{why}"));
                continue;
            }
        };
        let DeValue::Table(inner) = value.get_ref() else {
            page.wrong(
                value.span(),
                format!("{label}write a table, such as {name} = {{ psi = {{ warn = 0.2 }} }}"),
            );
            continue;
        };
        let opened =
            Table::open(&FEATURE_CHECKS, &QUALITY.family(), label.clone(), value.span(), inner, page);
        found.insert(name, measures(opened, &label, page));
    }
    found
}

fn measures(mut table: Table<'_>, label: &str, page: &mut Page<'_>) -> BTreeMap<Measure, Thresholds> {
    table.label = label.to_owned();
    let mut found = BTreeMap::new();
    for measure in Measure::ALL {
        let Some(mut inner) = table.table(measure.name(), &THRESHOLDS, &[&THRESHOLDS], page) else {
            continue;
        };
        inner.label = format!("{label}`{}`: ", measure.name());
        let mut limit = |key: &'static str| {
            let number = inner.number(key, page)?;
            if number.is_finite() && number >= 0.0 {
                return Some(number);
            }
            if let Some(value) = inner.get(key) {
                page.wrong(
                    value.span(),
                    format!("{}`{key}` is {number}; no measure is below 0", inner.label),
                );
            }
            None
        };
        found.insert(measure, Thresholds { warn: limit("warn"), fail: limit("fail") });
    }
    found
}
