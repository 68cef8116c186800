//! Cases: what policies should decide, in a file beside them.
//!
//! ```toml
//! [[case]]
//! name = "analysts see rounded delays"
//! principal = "ann"
//! roles = ["analyst"]
//! purpose = "train"
//! feature = "flights.dep_delay"
//! expect = "mask round:10"
//! ```

use std::collections::BTreeMap;

use feature::Reference;
use feature::definition::FeatureView;
use feature::name::{nearest, split_project};
use feature::policy::{Action, Asker, Decision, Policies, Purpose, Resource};
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    case: Vec<Written>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Option<String>,
    #[serde(default)]
    principal: String,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    claims: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    purpose: Purpose,
    #[serde(default = "read")]
    action: String,
    /// `weather.temp`, or `weather` for the view.
    feature: String,
    expect: String,
    /// A policy that must be among those that decided.
    by: Option<String>,
}

fn read() -> String {
    Action::Read.as_str().to_owned()
}

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub asker: Asker,
    pub action: Action,
    pub reference: String,
    /// `allow`, `deny`, `mask null`, `rows origin = 'JFK'`, or the last two joined by `; `.
    pub expect: String,
    pub by: Option<String>,
}

/// What became of a case.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub case: Case,
    pub decision: Decision,
    /// What was decided, in the words of `expect`.
    pub decided: String,
    pub passed: bool,
}

/// # Errors
/// What is wrong with the file.
pub fn parse(file: &str, text: &str) -> Result<Vec<Case>, String> {
    let File { case } = toml::from_str(text).map_err(|error| format!("{file}: {error}"))?;
    if case.is_empty() {
        return Err(format!("{file}: it holds no [[case]]"));
    }
    let cases = case.into_iter().enumerate().map(|(place, case)| {
        let Some(action) = Action::parse(&case.action) else {
            let known = Action::ALL.map(Action::as_str);
            let meant = nearest(&case.action, known).map(|near| format!(" (did you mean `{near}`?)"));
            return Err(format!(
                "{file}: case {}: `{}` is not an action{}; actions are {}",
                place + 1,
                case.action,
                meant.unwrap_or_default(),
                known.join(", ")
            ));
        };
        let name = case.name.unwrap_or_else(|| format!("case {}", place + 1));
        let Written { principal, roles, claims, purpose, feature, expect, by, .. } = case;
        let asker = Asker { principal, roles, claims, purpose };
        Ok(Case { name, asker, action, reference: feature, expect: expect.trim().to_owned(), by })
    });
    cases.collect()
}

/// Decides a case over the views that there are.
///
/// # Errors
/// A view or feature that there is not.
pub fn decide(policies: &dyn Policies, case: &Case, views: &[FeatureView]) -> Result<Outcome, String> {
    let wrong = |why: String| format!("{}: {why}", case.name);
    // A view stands there by its name alone.
    let (view, feature) = match case.reference.parse::<Reference>() {
        Ok(Reference { project, view, feature, .. }) => ((project, view), feature),
        Err(_) => {
            let (project, view) = split_project(&case.reference);
            let name = |text: &str| text.parse::<feature::Name>().map_err(|error| wrong(error.to_string()));
            ((name(project)?, name(view)?), None)
        }
    };
    let known = views.iter().map(|known| known.name.as_str());
    let Some(found) = views.iter().find(|known| known.project == view.0 && known.name == view.1) else {
        let meant = nearest(view.1.as_str(), known).map(|near| format!(" (did you mean `{near}`?)"));
        return Err(wrong(format!("there is no feature view `{}`{}", view.1, meant.unwrap_or_default())));
    };
    let decision = match &feature {
        None => policies.decide(&case.asker, case.action, Resource::View(found)),
        Some(name) => {
            let Some(feature) = found.features.iter().find(|known| known.name == *name) else {
                let known = found.features.iter().map(|known| known.name.as_str());
                let meant = nearest(name.as_str(), known).map(|near| format!(" (did you mean `{near}`?)"));
                return Err(wrong(format!(
                    "`{}` has no feature `{name}`{}",
                    found.name,
                    meant.unwrap_or_default()
                )));
            };
            Decision::of_feature(policies, &case.asker, case.action, found, feature)
        }
    };
    let decided = decision.told();
    let by = case.by.as_ref().is_none_or(|by| decision.policies.contains(by));
    let passed = decided == case.expect && by;
    Ok(Outcome { case: case.clone(), decision, decided, passed })
}
