//! All definition files of a folder, checked against one another.

use std::collections::{BTreeMap, BTreeSet};

use super::checks::Problem;
use super::errors::{DefinitionError, DefinitionErrors};
use super::keys::key_problems;
use super::parse::page::Page;
use super::parse::table::{did_you_mean, listed};
use super::parse::{located, read};
use super::{Definition, Entity, FeatureService, FeatureView};
use crate::name::{Name, nearest};
use crate::reference::Reference;

/// A definition and the file in which it stands; a source's `files` are relative to that file's folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared<T> {
    pub file: String,
    pub definition: T,
}

/// What a folder declares, each list by project and name. The keys of the views are resolved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Definitions {
    pub entities: Vec<Declared<Entity>>,
    pub views: Vec<Declared<FeatureView>>,
    pub services: Vec<Declared<FeatureService>>,
    /// References of services that this folder alone cannot vouch for: to views that it does not have, and to versions of
    /// views by number.
    pub unresolved: Vec<Unresolved>,
}

/// A reference that only a store can resolve.
#[derive(Clone, Debug, PartialEq)]
pub struct Unresolved {
    pub project: Name,
    pub service: Name,
    pub reference: Reference,
    /// The view of the folder with the nearest name, where the folder has no view of this name.
    pub nearest: Option<String>,
    /// Where it stands.
    pub file: String,
    pub line: usize,
    pub column: Option<usize>,
}

type Found<'t> = (Page<'t>, Definition);

/// Reads definition files, given as name and text in any order, and checks them against one another: names that come twice,
/// unknown entities, keys and features. All errors of all files come together.
pub fn parse_files(mut files: Vec<(String, String)>) -> Result<Definitions, DefinitionErrors> {
    files.sort();
    let mut errors = Vec::new();
    let mut found: Vec<Found<'_>> = Vec::new();
    // A file with errors may define what others name, so that nothing can be called unknown then.
    let mut broken = false;
    for (file, text) in &files {
        let mut page = Page::new(file, text);
        let definition = read(&mut page, text);
        let problems = page.take_errors();
        broken |= !problems.is_empty();
        match definition {
            Some(definition) if problems.is_empty() => found.push((page, definition)),
            _ => errors.extend(problems),
        }
    }
    doubled(&found, &mut errors);
    let mut definitions = Definitions::default();
    for (page, definition) in &found {
        let file = page.file().to_owned();
        match definition {
            Definition::Entity(entity) => {
                definitions.entities.push(Declared { file, definition: entity.clone() });
            }
            Definition::FeatureView(view) => {
                let view = resolved(view, page, &found, broken, &mut errors);
                definitions.views.push(Declared { file, definition: view });
            }
            Definition::FeatureService(service) => {
                let unresolved = references(service, page, &found, &mut errors);
                definitions.unresolved.extend(unresolved);
                definitions.services.push(Declared { file, definition: service.clone() });
            }
        }
    }
    if !errors.is_empty() {
        return Err(DefinitionErrors::new(errors));
    }
    definitions
        .entities
        .sort_by_key(|entity| (entity.definition.project.clone(), entity.definition.name.clone()));
    definitions.views.sort_by_key(|view| (view.definition.project.clone(), view.definition.name.clone()));
    definitions
        .services
        .sort_by_key(|service| (service.definition.project.clone(), service.definition.name.clone()));
    Ok(definitions)
}

/// Two files that define one thing.
fn doubled(found: &[Found<'_>], errors: &mut Vec<DefinitionError>) {
    let mut seen: BTreeMap<(&str, &Name, &Name), &str> = BTreeMap::new();
    for (page, definition) in found {
        let key = (definition.kind(), definition.project(), definition.name());
        if let Some(first) = seen.get(&key) {
            let kind = definition.kind().replace('_', " ");
            let message = format!(
                "`name`: {kind} `{name}` is defined in {first} already; remove one of the files, or give it another name such as `{name}_2`",
                name = definition.name()
            );
            errors.push(page.part_error("name", message));
        } else {
            seen.insert(key, page.file());
        }
    }
}

/// The view with its keys filled in from its entity.
fn resolved(
    view: &FeatureView,
    page: &Page<'_>,
    found: &[Found<'_>],
    broken: bool,
    errors: &mut Vec<DefinitionError>,
) -> FeatureView {
    let entities: Vec<&Entity> = found
        .iter()
        .filter_map(|(_, definition)| match definition {
            Definition::Entity(entity) if entity.project == view.project => Some(entity),
            _ => None,
        })
        .collect();
    let mut view = view.clone();
    match entities.iter().find(|entity| entity.name == view.entity) {
        Some(entity) => match view.resolve_keys(entity) {
            Ok(keys) => view.keys = keys,
            Err(_) => errors.extend(located(page, key_problems(&view, entity))),
        },
        None if broken => {}
        None => {
            let names: BTreeSet<&str> = entities.iter().map(|entity| entity.name.as_str()).collect();
            let near = nearest(view.entity.as_str(), names.iter().copied());
            let known = if names.is_empty() {
                format!("none is defined in project `{}`", view.project)
            } else {
                format!("those of project `{}` are {}", view.project, listed(&names))
            };
            let message = format!(
                "`entity` is \"{}\", and no file defines such an entity{}; {known}; correct the name, or add a file with kind = \"entity\" and name = \"{}\"",
                view.entity,
                did_you_mean(near),
                view.entity
            );
            errors.push(page.part_error("entity", message));
        }
    }
    view
}

/// Checks a service's references against the folder, and returns those that only a store can resolve.
fn references(
    service: &FeatureService,
    page: &Page<'_>,
    found: &[Found<'_>],
    errors: &mut Vec<DefinitionError>,
) -> Vec<Unresolved> {
    let views: Vec<&FeatureView> = found
        .iter()
        .filter_map(|(_, definition)| match definition {
            Definition::FeatureView(view) => Some(view),
            _ => None,
        })
        .collect();
    let mut unresolved = Vec::new();
    for (number, reference) in service.features.iter().enumerate() {
        let path = format!("features.{number}");
        let view = views.iter().find(|view| view.project == reference.project && view.name == reference.view);
        if let (Some(view), None) = (view, reference.version) {
            errors.extend(located(page, unknown_feature(reference, view, &path)));
            continue;
        }
        let nearest_view = match view {
            Some(_) => None,
            None => {
                let shown: Vec<String> = views.iter().map(|view| shown(view)).collect();
                let wanted = reference.to_string();
                let wanted = wanted.rsplit_once('.').map_or("", |(view, _)| view);
                // The right view in another project is nearer than any misspelling.
                let same =
                    views.iter().find(|view| view.name == reference.view).map(|view| self::shown(view));
                same.or_else(|| nearest(wanted, shown.iter().map(String::as_str)).map(str::to_owned))
            }
        };
        let place = page.part_error(&path, "");
        unresolved.push(Unresolved {
            project: service.project.clone(),
            service: service.name.clone(),
            reference: reference.clone(),
            nearest: nearest_view,
            file: place.file,
            line: place.line,
            column: place.column,
        });
    }
    unresolved
}

/// A view as references name it.
fn shown(view: &FeatureView) -> String {
    if view.project == Name::default_project() {
        view.name.to_string()
    } else {
        format!("{}.{}", view.project, view.name)
    }
}

fn unknown_feature(reference: &Reference, view: &FeatureView, path: &str) -> Vec<Problem> {
    let Some(feature) = &reference.feature else { return Vec::new() };
    let names: Vec<&str> = view.features.iter().map(|feature| feature.name.as_str()).collect();
    if names.contains(&feature.as_str()) {
        return Vec::new();
    }
    let near = nearest(feature.as_str(), names.iter().copied());
    vec![Problem {
        path: path.to_owned(),
        message: format!(
            "`features` holds \"{reference}\", but feature view `{}` has no feature `{feature}`{}; it has {}",
            view.name,
            did_you_mean(near),
            listed(&names)
        ),
        first: None,
    }]
}

impl Unresolved {
    /// The error of this reference, for a store that cannot resolve it either. `why` says what the store lacks.
    #[must_use]
    pub fn error(&self, why: &str) -> DefinitionError {
        let near = did_you_mean(self.nearest.as_deref());
        DefinitionError {
            file: self.file.clone(),
            line: self.line,
            column: self.column,
            message: format!("`features` holds \"{}\", but {why}{near}", self.reference),
        }
    }
}
