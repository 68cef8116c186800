//! Policies over Flight: planned, applied and lifted, as definitions are.

use std::collections::BTreeMap;

use catalog::Author;
use catalog::policies::PolicyChange;
use feature::Sequence;
use feature::definition::{Definitions, parse_files};
use feature::policy::PolicyFile;
use serde::Deserialize;
use serde_json::{Value, json};
use serving::Serving;
use tonic::Status;

use crate::actions::of_a_size;
use crate::reports;
use crate::request;
use crate::status;

/// Names and texts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Files {
    files: BTreeMap<String, String>,
    /// Definitions that are not applied yet, so that policies may come first: nothing new is open in between.
    #[serde(default)]
    definitions: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lift {
    reason: String,
}

/// The action `lineament.plan_policies`.
pub async fn plan(serving: &Serving, body: &[u8]) -> Result<Vec<u8>, Status> {
    let (files, beside) = files("lineament.plan_policies", body)?;
    let change = serving.plan_policies(&files, &beside).await.map_err(|error| status::of(&error))?;
    reports::json(&told(&change, &files, None))
}

/// The action `lineament.apply_policies`.
pub async fn apply(serving: &Serving, body: &[u8], author: &Author) -> Result<Vec<u8>, Status> {
    let (files, beside) = files("lineament.apply_policies", body)?;
    let applied = serving.apply_policies(&files, &beside, author).await;
    let (change, sequence) = applied.map_err(|error| status::of(&error))?;
    reports::json(&told(&change, &files, sequence))
}

/// The action `lineament.lift_policies`.
pub async fn lift(serving: &Serving, body: &[u8], author: &Author) -> Result<Vec<u8>, Status> {
    let Lift { reason } = request::json("the body of `lineament.lift_policies`", body)?;
    let sequence = serving.lift_policies(&reason, author).await.map_err(|error| status::of(&error))?;
    reports::json(&json!({ "sequence": sequence }))
}

fn files(action: &str, body: &[u8]) -> Result<(Vec<PolicyFile>, Definitions), Status> {
    of_a_size(body, "policies are applied whole, so that they have to be shorter")?;
    let Files { files, definitions } = request::json(&format!("the body of `{action}`"), body)?;
    let definitions = parse_files(definitions.into_iter().collect())
        .map_err(|errors| status::invalid(errors.to_string()))?;
    Ok((files.into_iter().map(|(name, text)| PolicyFile { name, text }).collect(), definitions))
}

fn told(change: &PolicyChange, files: &[PolicyFile], sequence: Option<Sequence>) -> Value {
    let none = Vec::new();
    let all: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    let (number, added, changed, removed) = match change {
        PolicyChange::First { .. } => (1, &all, &none, &none),
        PolicyChange::Other { number, added, changed, removed } => (*number, added, changed, removed),
        PolicyChange::Keep { number } => (*number, &none, &none, &none),
    };
    json!({
        "number": number,
        "added": added,
        "changed": changed,
        "removed": removed,
        "text": change.to_string(),
        "sequence": sequence,
    })
}
