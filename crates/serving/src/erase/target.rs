//! Whose values go: the entity, its views and the key.

use std::collections::BTreeMap;

use catalog::State;
use catalog::erasure::{EntityKey, TypedKey};
use catalog::state::ViewVersion;
use feature::name::{nearest, split_project};
use feature::{EntityId, ViewId};

use super::EraseRequest;
use crate::error::{Error, Kind, Result};

pub(super) struct Target {
    pub entity: EntityId,
    pub key: EntityKey,
    /// As the entity has it now.
    pub typed: TypedKey,
    /// The newest version of each of its views.
    pub versions: BTreeMap<ViewId, ViewVersion>,
    /// As earlier versions have it.
    earlier: Vec<TypedKey>,
}

impl Target {
    /// # Errors
    /// `NotFound` for an entity that is not there, with the nearest; `Invalid` for a key that it cannot have.
    pub fn find(state: &State, request: &EraseRequest) -> Result<Self> {
        let (project, name) = split_project(&request.entity);
        let found = state
            .entities()
            .filter(|one| one.definition.project.as_str() == project && one.definition.name.as_str() == name);
        let Some(entity) = found.max_by_key(|one| one.number) else {
            let names: Vec<&str> = state.entities().map(|one| one.definition.name.as_str()).collect();
            let hint = nearest(name, names.iter().copied());
            let hint = hint.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            return Err(Error::new(Kind::NotFound, format!("there is no entity `{}`{hint}", request.entity)));
        };
        let key = EntityKey::new(request.key.clone());
        let keys = &entity.definition.keys;
        let Some(typed) = key.typed(keys) else {
            let wanted: Vec<String> =
                keys.iter().map(|key| format!("{} ({})", key.name, key.data_type)).collect();
            let given: Vec<&str> = key.columns().collect();
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "the entity `{}` is known by {}, each once and as a value of its type; given is {}",
                    request.entity,
                    wanted.join(", "),
                    if given.is_empty() { "nothing".to_owned() } else { given.join(", ") }
                ),
            ));
        };
        let mut versions: BTreeMap<ViewId, ViewVersion> = BTreeMap::new();
        let mut earlier = Vec::new();
        let of_entity = state.views().filter(|version| {
            version.definition.project == entity.definition.project
                && version.definition.entity == entity.definition.name
        });
        for version in of_entity {
            earlier.extend(key.typed(version.keys()));
            let known = versions.entry(version.view).or_insert_with(|| version.clone());
            if version.number > known.number {
                *known = version.clone();
            }
        }
        Ok(Self { entity: entity.entity, key, typed, versions, earlier })
    }

    /// The key as each version has it.
    pub fn all_typed(&self) -> impl Iterator<Item = &TypedKey> {
        std::iter::once(&self.typed).chain(&self.earlier)
    }
}
