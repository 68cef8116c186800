//! Files of policies: parsed, named, and held against the schema.

use std::collections::BTreeMap;
use std::str::FromStr;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Effect, Policy, PolicyId, PolicySet, ValidationMode, Validator};
use feature::definition::{DefinitionError, DefinitionErrors};
use feature::name::nearest;
use feature::policy::{Mask, PolicyFile};

use crate::errors;
use crate::schema::schema;

/// What a policy can have beside its condition.
const ANNOTATIONS: [&str; 6] = ["id", "mask", "rows", "approval", "description", "owner"];

/// A policy, and what its annotations say.
pub struct Written {
    pub policy: Policy,
    pub mask: Option<Mask>,
    pub rows: Option<String>,
    /// Breaking changes that it permits need somebody else's approval.
    pub approval: bool,
}

/// The policies of all files, by their ids: `@id`, else the file's name without its ending and the place in it, as `base#2`.
///
/// # Errors
/// All that is wrong with them.
pub fn parse(files: &[PolicyFile]) -> Result<BTreeMap<String, Written>, DefinitionErrors> {
    let mut all = BTreeMap::new();
    let mut errors = Vec::new();
    for file in files {
        match of_file(file) {
            Ok(policies) => {
                for (id, written) in policies {
                    if all.insert(id.clone(), written).is_some() {
                        let at = place_of(file, "id", &id);
                        errors.push(errors::at(
                            file,
                            at,
                            format!("a policy `{id}` stands elsewhere too; give one of them another @id"),
                        ));
                    }
                }
            }
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() { Ok(all) } else { Err(DefinitionErrors::new(errors)) }
}

fn of_file(file: &PolicyFile) -> Result<Vec<(String, Written)>, Vec<DefinitionError>> {
    let set = PolicySet::from_str(&file.text).map_err(|errors| {
        errors.iter().map(|error| errors::of_cedar(file, &DetailedError::from(error))).collect::<Vec<_>>()
    })?;
    let mut errors = Vec::new();
    if set.num_of_templates() > 0 {
        errors.push(errors::at(
            file,
            file.text.find('?').unwrap_or(0),
            "templates (?principal, ?resource) are not linked here; write out whom and what the policy is about",
        ));
    }
    match schema() {
        Ok(schema) => {
            let told = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
            errors.extend(
                told.validation_errors().map(|error| errors::of_cedar(file, &DetailedError::from(error))),
            );
            // A policy that can never apply is a mistake, and so is a name in letters that only look alike.
            errors.extend(
                told.validation_warnings()
                    .map(|warning| errors::of_cedar(file, &DetailedError::from(warning))),
            );
        }
        Err(error) => errors.push(errors::at(file, 0, error)),
    }
    let mut policies: Vec<&Policy> = set.policies().collect();
    policies.sort_by_key(|policy| number(policy.id()));
    let stem = file.name.rsplit('/').next().unwrap_or(&file.name);
    let stem = stem.strip_suffix(".cedar").unwrap_or(stem);
    let mut written = Vec::new();
    for (place, policy) in policies.into_iter().enumerate() {
        let id = match policy.annotation("id") {
            Some(id) if !id.trim().is_empty() => id.to_owned(),
            _ => format!("{stem}#{}", place + 1),
        };
        match annotated(file, policy, &id) {
            Ok(policy) => written.push((id, policy)),
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() { Ok(written) } else { Err(errors) }
}

/// Cedar names the policies of a text `policy0` and on.
fn number(id: &PolicyId) -> usize {
    let id: &str = id.as_ref();
    id.trim_start_matches("policy").parse().unwrap_or(usize::MAX)
}

fn annotated(file: &PolicyFile, policy: &Policy, id: &str) -> Result<Written, Vec<DefinitionError>> {
    let mut errors = Vec::new();
    let (mut mask, mut rows, mut approval) = (None, None, false);
    for (name, value) in policy.annotations() {
        let mut wrong = |message: String| {
            errors.push(errors::at(file, place_of(file, name, value), message));
        };
        match name {
            "mask" | "rows" if policy.effect() == Effect::Forbid => {
                wrong(format!("@{name} says how much a permit shows, and this policy forbids"));
            }
            "approval" if policy.effect() == Effect::Forbid => {
                wrong("@approval says what a permit waits for, and this policy forbids".to_owned());
            }
            "approval" if value == "breaking" => approval = true,
            "approval" => wrong(format!(
                "@approval(\"{value}\") means nothing here; @approval(\"breaking\") lets breaking changes wait for somebody else"
            )),
            "mask" => match value.parse::<Mask>() {
                Ok(parsed) => mask = Some(parsed),
                Err(error) => wrong(error.to_string()),
            },
            "rows" if value.trim().is_empty() => {
                wrong("@rows is a condition in SQL over the keys of the entity, as in @rows(\"origin = 'JFK'\")".to_owned());
            }
            "rows" => rows = Some(value.to_owned()),
            known if ANNOTATIONS.contains(&known) => {}
            unknown => {
                let meant = nearest(unknown, ANNOTATIONS)
                    .map(|near| format!(" (did you mean @{near}?)"))
                    .unwrap_or_default();
                wrong(format!(
                    "@{unknown} means nothing here{meant}; a policy can have @id, @mask, @rows, @approval, @description and @owner"
                ));
            }
        }
    }
    if errors.is_empty() {
        Ok(Written { policy: policy.new_id(PolicyId::new(id)), mask, rows, approval })
    } else {
        Err(errors)
    }
}

/// Where an annotation stands: Cedar does not say.
fn place_of(file: &PolicyFile, name: &str, value: &str) -> usize {
    let text = &file.text;
    let written = format!("@{name}");
    let mut places = text.match_indices(&written).map(|(place, _)| place);
    let this = |place: &usize| {
        let rest = text[place + written.len()..].trim_start();
        let rest = rest.strip_prefix('(').map_or(rest, str::trim_start);
        rest.strip_prefix('"').is_some_and(|rest| rest.starts_with(value))
    };
    places.clone().find(this).or_else(|| places.next()).unwrap_or(0)
}
