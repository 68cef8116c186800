//! One feature of a view.

use toml::Spanned;
use toml::de::DeValue;

use super::about;
use super::page::Page;
use super::table::Table;
use crate::datatype::FeatureType;
use crate::definition::checks::{is_ordered, no_nan, no_range};
use crate::definition::literal::Written;
use crate::definition::{Feature, Literal, Range};

/// Reads the feature in `table`. `path` is where it stands, as in `features.2`.
pub(super) fn feature(table: &Table<'_>, path: &str, page: &mut Page<'_>) -> Option<Feature> {
    page.mark(path, table.span.clone());
    for (key, value) in table.entries().iter() {
        page.mark(format!("{path}.{}", key.get_ref()), value.span());
    }
    for key in ["name", "type"] {
        if table.get(key).is_none() {
            table.missing(key, page);
        }
    }
    let name = table.name("name", page);
    let data_type = table.parsed::<FeatureType>("type", page);
    let unit = table.text("unit", page);
    let column = table.text("column", page);
    let nullable = table.boolean("nullable", page).unwrap_or(true);
    let nan = table.boolean("nan", page);
    let about = about(table, page);
    // Without a type, nothing can be said of constants.
    let (name, data_type) = (name?, data_type?);
    if let (Some(value), false) = (table.get("nan"), data_type.is_float()) {
        page.wrong(value.span(), format!("{}{}", table.label, no_nan(data_type)));
    }
    Some(Feature {
        column: column.unwrap_or_else(|| name.to_string()),
        name,
        data_type,
        unit,
        range: range(table, data_type, page),
        one_of: one_of(table, data_type, page),
        nullable,
        nan: data_type.is_float() && nan.unwrap_or(true),
        default: table.get("default").and_then(|value| constant(table, "default", value, data_type, page)),
        about,
    })
}

fn range(table: &Table<'_>, data_type: FeatureType, page: &mut Page<'_>) -> Option<Range> {
    let value = table.get("range")?;
    if !is_ordered(data_type) {
        let shown = page.shown(value.span());
        page.wrong(value.span(), format!("{}{}", table.label, no_range(data_type, &shown)));
        return None;
    }
    let ends: Option<Vec<&Spanned<DeValue<'_>>>> =
        value.get_ref().as_array().map(|ends| ends.iter().collect());
    let Some([least, greatest]) = ends.as_deref() else {
        let shown = page.shown(value.span());
        let message = format!(
            "{}`range` is {shown}; it is two values, the least and the greatest accepted: write range = [0, 200], or \"\" for an open end",
            table.label
        );
        page.wrong(value.span(), message);
        return None;
    };
    let mut end = |value: &Spanned<DeValue<'_>>| match value.get_ref().as_str() {
        Some("") => None,
        _ => constant(table, "range", value, data_type, page),
    };
    let range = Range { least: end(least), greatest: end(greatest) };
    // Where an end could not be read, that has been said; where both are open, the check will say it.
    let open = |value: &Spanned<DeValue<'_>>| value.get_ref().as_str() == Some("");
    let unread = (range.least.is_none() && !open(least)) || (range.greatest.is_none() && !open(greatest));
    (!unread).then_some(range)
}

fn one_of(table: &Table<'_>, data_type: FeatureType, page: &mut Page<'_>) -> Option<Vec<Literal>> {
    let value = table.get("one_of")?;
    let Some(values) = value.get_ref().as_array() else {
        let shown = page.shown(value.span());
        page.wrong(
            value.span(),
            format!("{}`one_of` is {shown}; write a list: one_of = [{shown}]", table.label),
        );
        return None;
    };
    let mut literals = Vec::new();
    let mut complete = true;
    for value in values.iter() {
        match constant(table, "one_of", value, data_type, page) {
            Some(literal) => literals.push(literal),
            None => complete = false,
        }
    }
    complete.then_some(literals)
}

/// A constant of the type, in its one form.
fn constant(
    table: &Table<'_>,
    key: &str,
    value: &Spanned<DeValue<'_>>,
    data_type: FeatureType,
    page: &mut Page<'_>,
) -> Option<Literal> {
    let wrong = format!("{}`{key}` is {}", table.label, page.shown(value.span()));
    let time;
    let written = match value.get_ref() {
        DeValue::String(text) => Some(Written::Text(text)),
        DeValue::Boolean(value) => Some(Written::Bool(*value)),
        DeValue::Integer(number) => {
            i128::from_str_radix(number.as_str(), number.radix()).ok().map(Written::Int)
        }
        DeValue::Float(number) => {
            number.as_str().parse().ok().map(|value| Written::Float(value, Some(number.as_str())))
        }
        DeValue::Datetime(value) => {
            time = value.to_string();
            Some(Written::Text(&time))
        }
        DeValue::Array(_) | DeValue::Table(_) => None,
    };
    let Some(written) = written else {
        page.wrong(value.span(), format!("{wrong}; write one value of type {data_type}"));
        return None;
    };
    match written.constant(data_type) {
        Ok(constant) => Some(constant.literal(data_type)),
        Err(why) => {
            page.wrong(value.span(), format!("{}`{key}`: {why}", table.label));
            None
        }
    }
}
