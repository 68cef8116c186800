//! Entities.

use super::page::Page;
use super::table::Table;
use super::{Header, header, note};
use crate::definition::checks;
use crate::definition::vocabulary::{ENTITY, Shape, Vocabulary};
use crate::definition::{Entity, Key};
use crate::name::Name;

pub(super) fn entity(table: &Table<'_>, page: &mut Page<'_>) -> Option<Entity> {
    let Header { project, name, about } = header(table, page);
    let keys = keys(table, page);
    // What could not be read has been noted: what stands in for it is seen by the checks alone.
    let unread = Name::default_project;
    let entity = Entity {
        project: project.unwrap_or_else(unread),
        name: name.unwrap_or_else(unread),
        keys: keys.clone().unwrap_or_default(),
        about,
    };
    if keys.is_some() {
        note(page, checks::entity(&entity));
    }
    page.is_clean().then_some(entity)
}

/// The keys that could be read; none where there is none.
fn keys(table: &Table<'_>, page: &mut Page<'_>) -> Option<Vec<Key>> {
    let Some(value) = table.get("keys") else {
        table.missing("keys", page);
        return None;
    };
    page.mark("keys", value.span());
    let tables = table.tables("keys", "key", inside("keys")?, &ENTITY.family(), page)?;
    let mut keys = Vec::new();
    for table in &tables {
        for key in ["name", "type"] {
            match table.get(key) {
                Some(value) => page.mark(format!("keys.{}.{key}", keys.len()), value.span()),
                None => table.missing(key, page),
            }
        }
        if let (Some(name), Some(data_type)) = (table.name("name", page), table.parsed("type", page)) {
            keys.push(Key { name, data_type });
        }
    }
    if keys.is_empty() && !tables.is_empty() { None } else { Some(keys) }
}

fn inside(key: &str) -> Option<&'static Vocabulary> {
    match ENTITY.word(key)?.shape {
        Shape::Table(words) | Shape::Tables(words) => Some(words),
        _ => None,
    }
}
