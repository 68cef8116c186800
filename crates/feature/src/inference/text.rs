//! The definitions as TOML, with comments for the person who goes on from there.

use std::fmt::Write;

use super::{Inference, Watched, is_date, is_naive, is_nanos, is_text};
use crate::datatype::FeatureType;
use crate::definition::{FileFormat, Literal};

/// A string of TOML, on one line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn literal(literal: &Literal) -> String {
    match literal {
        Literal::Text(text) => quoted(text),
        other => other.to_string(),
    }
}

/// Text on one line, as a comment needs it.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

pub(super) fn entity(inference: &Inference) -> String {
    let mut toml = String::new();
    let mut line = |text: &str| {
        toml.push_str(text);
        toml.push('\n');
    };
    line("kind = \"entity\"");
    line(&format!("name = \"{}\"", inference.entity));
    line("# description = \"…\"  who or what it is");
    for key in keys(inference) {
        line("");
        line("[[keys]]");
        line(&format!("name = \"{}\"", key.name));
        line(&format!("type = \"{}\"", key.data_type));
    }
    toml
}

fn keys(inference: &Inference) -> &[Watched] {
    inference.columns.get(..inference.keys.len()).unwrap_or_default()
}

fn features(inference: &Inference) -> &[Watched] {
    inference.columns.get(inference.keys.len()..).unwrap_or_default()
}

pub(super) fn view(inference: &Inference) -> String {
    let mut toml = String::new();
    // Writing to a string cannot fail.
    let _ = write_view(inference, &mut toml);
    toml
}

fn write_view(inference: &Inference, toml: &mut String) -> std::fmt::Result {
    let time = inference.schema.field(inference.time);
    writeln!(
        toml,
        "# Inferred from {} rows. What is observed is not what is possible: correct it.",
        inference.rows
    )?;
    writeln!(toml, "kind = \"feature_view\"")?;
    writeln!(toml, "name = \"{}\"", inference.view)?;
    writeln!(toml, "entity = \"{}\"", inference.entity)?;
    writeln!(toml, "# ttl = \"7d\"  how far a retrieval looks back; for ever where it is left out")?;
    writeln!(toml, "\n[time]\nvalid_at = {}", quoted(time.name()))?;
    writeln!(
        toml,
        "# When could a value first have been known? In place of \"assumed\", which takes it as known at valid_at:"
    )?;
    writeln!(toml, "# {{ column = \"published_at\" }}, {{ delay = \"30m\" }} or \"arrival\".")?;
    writeln!(toml, "known_at = \"assumed\"")?;
    if is_naive(time.data_type()) {
        writeln!(toml, "# The times carry no zone, and are refused until one is declared:")?;
        writeln!(toml, "# zone = \"America/New_York\"\n# repeated_hour = \"refuse\"")?;
    }
    let mapped: Vec<&Watched> =
        keys(inference).iter().filter(|key| key.name.as_str() != column(inference, key)).collect();
    if !mapped.is_empty() {
        writeln!(toml, "\n[keys]")?;
        for key in mapped {
            writeln!(toml, "{} = {}", key.name, quoted(column(inference, key)))?;
        }
    }
    for feature in features(inference) {
        write_feature(feature, column(inference, feature), toml)?;
    }
    if let Some((files, format)) = &inference.files {
        writeln!(toml, "\n[source]\nfiles = {}", quoted(files))?;
        if let Some(format) = format {
            let format = match format {
                FileFormat::Parquet => "parquet",
                FileFormat::Csv => "csv",
                FileFormat::Arrow => "arrow",
            };
            writeln!(toml, "format = \"{format}\"")?;
        }
    }
    Ok(())
}

fn column<'i>(inference: &'i Inference, watched: &Watched) -> &'i str {
    inference.schema.field(watched.index).name()
}

fn write_feature(feature: &Watched, column: &str, toml: &mut String) -> std::fmt::Result {
    let seen = &feature.observed;
    writeln!(toml, "\n[[features]]")?;
    writeln!(toml, "name = \"{}\"", feature.name)?;
    writeln!(toml, "type = \"{}\"", feature.data_type)?;
    if column != feature.name.as_str() {
        writeln!(toml, "column = {}", quoted(column))?;
    }
    if let Some((least, greatest)) = seen.range() {
        let (least, greatest) = (literal(&least), literal(&greatest));
        // Time goes on, so that a range of it would refuse tomorrow's rows.
        let time = matches!(feature.data_type, FeatureType::Date | FeatureType::Timestamp);
        let comment = if time { "# " } else { "" };
        let advice = if time { "observed" } else { "observed; widen it to what is possible" };
        writeln!(toml, "{comment}range = [{least}, {greatest}]  # {advice}")?;
    }
    if let Some(texts) = seen.categories() {
        let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
        writeln!(toml, "one_of = [{}]  # observed; add what is possible", texts.join(", "))?;
    }
    if seen.rows > 0 {
        if seen.nulls == 0 {
            writeln!(toml, "nullable = false  # no null observed")?;
        } else {
            let share = 100.0 * seen.nulls as f64 / seen.rows as f64;
            writeln!(
                toml,
                "nullable = true  # {} of {} rows are null ({share:.1} %)",
                seen.nulls, seen.rows
            )?;
        }
        if feature.data_type.is_float() {
            if seen.nans == 0 {
                writeln!(toml, "nan = false  # no NaN observed")?;
            } else {
                writeln!(toml, "nan = true  # {} of {} rows are NaN", seen.nans, seen.rows)?;
            }
        }
    }
    Ok(())
}

pub(super) fn warnings(inference: &Inference) -> Vec<String> {
    let mut warnings = Vec::new();
    let time = inference.schema.field(inference.time);
    let name = one_line(time.name());
    if is_date(time.data_type()) {
        warnings.push(format!(
            "time column `{name}` is a date, which means the start of that day: a day's aggregate dated by its own day leaks, for training rows of that day would see what happened after them; date it by the day after, or declare known_at = {{ delay = \"1d\" }}"
        ));
    }
    if is_naive(time.data_type()) {
        warnings.push(format!(
            "time column `{name}` carries no zone, and naive times are refused at ingest; declare under [time] zone = \"UTC\", or the zone of the clocks that wrote it"
        ));
    }
    if is_text(time.data_type()) {
        warnings.push(format!(
            "time column `{name}` is text: ingest reads 2013-07-09T12:30:00Z, with its zone, and for texts without one needs zone under [time]; a timestamp column is safer"
        ));
    }
    if is_nanos(time.data_type()) && inference.too_fine > 0 {
        warnings.push(format!(
            "time column `{name}` is finer than a microsecond in {} of {} rows, and these will be refused, for rounding could show a row what came after it; round them up in the source",
            inference.too_fine, inference.rows
        ));
    }
    warnings.push(
        "known_at is \"assumed\": values are taken as known at their valid_at; if they were published later, say so under [time], or training sees them too early".to_owned(),
    );
    for key in keys(inference) {
        if key.observed.nulls > 0 {
            warnings.push(format!(
                "key `{}` is null in {} of {} rows, and these will be rejected; leave them out with where = \"… IS NOT NULL\" under [source]",
                one_line(column(inference, key)),
                key.observed.nulls,
                key.observed.rows
            ));
        }
    }
    for watched in &inference.columns {
        let column = column(inference, watched);
        if watched.name.as_str() != column {
            warnings.push(format!("column `{}` is called `{}` in the store", one_line(column), watched.name));
        }
    }
    for feature in features(inference) {
        let field = inference.schema.field(feature.index);
        if is_naive(field.data_type()) {
            warnings.push(format!(
                "feature `{}` holds times without a zone; they are read in the zone of [time]",
                feature.name
            ));
        }
        if feature.observed.infinite > 0 {
            warnings.push(format!(
                "feature `{}` is infinite in {} of {} rows, so that no range is written",
                feature.name, feature.observed.infinite, feature.observed.rows
            ));
        }
    }
    warnings.extend(inference.left_out.iter().map(|text| one_line(text)));
    if inference.rows == 0 {
        warnings.push("there were no rows, so that neither ranges nor null rules are known".to_owned());
    }
    warnings
}
