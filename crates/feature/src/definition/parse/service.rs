//! Feature services.

use toml::de::DeValue;

use super::page::Page;
use super::table::Table;
use super::{Header, header, note};
use crate::definition::FeatureService;
use crate::definition::checks;
use crate::definition::vocabulary::{READ_SAMPLING, SERVICE};
use crate::name::Name;
use crate::reference::Reference;

pub(super) fn service(table: &Table<'_>, page: &mut Page<'_>) -> Option<FeatureService> {
    let Header { project, name, about } = header(table, page);
    let features = references(table, page);
    let sampling = super::sampling::sampling(table, &READ_SAMPLING, &SERVICE.family(), page);
    // What could not be read has been noted: what stands in for it is seen by the checks alone.
    let unread = Name::default_project;
    let service = FeatureService {
        project: project.unwrap_or_else(unread),
        name: name.unwrap_or_else(unread),
        features: features.clone().unwrap_or_default(),
        sampling,
        about,
    };
    if features.is_some() {
        note(page, checks::service(&service));
    }
    page.is_clean().then_some(service)
}

/// The references that could be read; none where there is none.
fn references(table: &Table<'_>, page: &mut Page<'_>) -> Option<Vec<Reference>> {
    let Some(value) = table.get("features") else {
        table.missing("features", page);
        return None;
    };
    page.mark("features", value.span());
    let DeValue::Array(values) = value.get_ref() else {
        table.mistyped("features", value, page);
        return None;
    };
    let mut references = Vec::new();
    for value in values.iter() {
        let DeValue::String(text) = value.get_ref() else {
            table.mistyped("features", value, page);
            return None;
        };
        page.mark(format!("features.{}", references.len()), value.span());
        match text.parse::<Reference>() {
            Ok(reference) => references.push(reference),
            Err(why) => {
                let all = if text.contains(['.', ':']) {
                    String::new()
                } else {
                    format!("; for all features of a view `{text}` write \"{text}.*\"")
                };
                page.wrong(value.span(), format!("`features`: {why}{all}"));
            }
        }
    }
    if references.is_empty() && !values.is_empty() { None } else { Some(references) }
}
