//! Who asks and what for, as Cedar's entities.

use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy, Request, RestrictedExpression,
};
use feature::definition::About;
use feature::policy::{Action, Asker, Resource};

/// The types that the schema names.
pub struct Types {
    user: EntityTypeName,
    role: EntityTypeName,
    group: EntityTypeName,
    project: EntityTypeName,
    view: EntityTypeName,
    feature: EntityTypeName,
    purpose: EntityTypeName,
    action: EntityTypeName,
    /// Attributes that a policy names: no other can be asked for.
    named: BTreeSet<&'static str>,
    /// Whether a policy asks for claims.
    claims: bool,
}

/// What a policy may ask for of who asks and of what is asked for, by the schema.
const ATTRIBUTES: [&str; 8] = ["entity", "name", "owner", "project", "tags", "type", "unit", "view"];

/// A request, with what it is about.
pub struct Asked {
    pub request: Request,
    pub entities: Entities,
    /// Who asks, and all that they are in.
    pub principals: HashSet<EntityUid>,
    pub action: EntityUid,
}

/// The claim whose values are groups.
const GROUPS: &str = "groups";

impl Types {
    /// For requests that these policies decide.
    ///
    /// # Errors
    /// A policy that has no JSON.
    pub fn new<'a>(policies: impl Iterator<Item = &'a Policy>) -> Result<Self, String> {
        let kind = |name: &str| name.parse::<EntityTypeName>().map_err(|error| error.to_string());
        let (mut named, mut claims) = (BTreeSet::new(), false);
        for policy in policies {
            // However a name is written in Cedar, with escapes too, it stands there as it is.
            let json = policy.to_json().map_err(|error| error.to_string())?.to_string();
            let has = |name: &str| json.contains(&format!("\"{name}\""));
            named.extend(ATTRIBUTES.into_iter().filter(|name| has(name)));
            claims |= has("hasTag") || has("getTag");
        }
        Ok(Self {
            user: kind("User")?,
            role: kind("Role")?,
            group: kind("Group")?,
            project: kind("Project")?,
            view: kind("View")?,
            feature: kind("Feature")?,
            purpose: kind("Purpose")?,
            action: kind("Action")?,
            named,
            claims,
        })
    }

    /// The request, and the entities that it is about.
    ///
    /// # Errors
    /// What Cedar refuses of them.
    pub fn request(&self, asker: &Asker, action: Action, resource: Resource<'_>) -> Result<Asked, String> {
        let mut principals = self.parents(asker);
        let user = self.user(asker, principals.clone())?;
        principals.insert(user.uid());
        let action = uid(&self.action, action.as_str());
        let of = self.resource(resource)?;
        let purpose = uid(&self.purpose, asker.purpose.as_str());
        let context = [("purpose".to_owned(), RestrictedExpression::new_entity_uid(purpose))];
        let context = Context::from_pairs(context).map_err(|error| error.to_string())?;
        let request = Request::new(user.uid(), action.clone(), of.uid(), context, None)
            .map_err(|error| error.to_string())?;
        let entities = Entities::from_entities([user, of], None).map_err(|error| error.to_string())?;
        Ok(Asked { request, entities, principals, action })
    }

    /// The roles and groups of who asks.
    fn parents(&self, asker: &Asker) -> HashSet<EntityUid> {
        let roles = asker.roles.iter().map(|role| uid(&self.role, role));
        let groups = asker.claims.get(GROUPS).into_iter().flatten();
        let groups = groups.map(|group| uid(&self.group, group));
        roles.chain(groups).collect()
    }

    fn user(&self, asker: &Asker, parents: HashSet<EntityUid>) -> Result<Entity, String> {
        let name = self.named.contains("name").then(|| ("name".to_owned(), text(&asker.principal)));
        let attributes = name.into_iter();
        let claims = asker.claims.iter().filter(|_| self.claims);
        let tags = claims.map(|(name, values)| (name.clone(), texts(values)));
        Entity::new_with_tags(uid(&self.user, &asker.principal), attributes, parents, tags)
            .map_err(|error| error.to_string())
    }

    fn resource(&self, resource: Resource<'_>) -> Result<Entity, String> {
        let id = resource.to_string();
        let mut attributes: HashMap<String, RestrictedExpression> = HashMap::new();
        let mut set = |name: &'static str, value: &dyn Fn() -> RestrictedExpression| {
            if self.named.contains(name) {
                attributes.insert(name.to_owned(), value());
            }
        };
        let (kind, parents) = match resource {
            Resource::Project(_) => (&self.project, HashSet::new()),
            Resource::View(view) => {
                set("name", &|| text(view.name.as_str()));
                set("project", &|| text(view.project.as_str()));
                set("entity", &|| text(view.entity.as_str()));
                set("tags", &|| texts(&view.about.tags));
                if let Some(owner) = &view.about.owner {
                    set("owner", &|| text(owner));
                }
                (&self.view, HashSet::from([uid(&self.project, view.project.as_str())]))
            }
            Resource::Feature(view, feature) => {
                set("name", &|| text(feature.name.as_str()));
                set("view", &|| text(view.name.as_str()));
                set("project", &|| text(view.project.as_str()));
                set("type", &|| text(&feature.data_type.to_string()));
                if let Some(unit) = &feature.unit {
                    set("unit", &|| text(unit));
                }
                let About { owner, tags, .. } = &feature.about;
                let tags: Vec<String> = tags.iter().chain(&view.about.tags).cloned().collect();
                set("tags", &|| texts(&tags));
                if let Some(owner) = owner.as_ref().or(view.about.owner.as_ref()) {
                    set("owner", &|| text(owner));
                }
                let view_id = Resource::View(view).to_string();
                let parents = [uid(&self.view, &view_id), uid(&self.project, view.project.as_str())];
                (&self.feature, HashSet::from(parents))
            }
        };
        Entity::new(uid(kind, &id), attributes, parents).map_err(|error| error.to_string())
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn texts(values: &[String]) -> RestrictedExpression {
    RestrictedExpression::new_set(values.iter().map(|value| text(value)))
}
