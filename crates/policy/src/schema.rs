//! What policies can speak of.

use std::str::FromStr;
use std::sync::OnceLock;

use cedar_policy::{CedarSchemaError, Schema};

/// The schema that policies are held against, in Cedar's own words.
pub const SCHEMA: &str = r#"
// Who asks. Roles and groups come from the token's claims (without a server, from the command line); every other
// claim is a tag with its values: principal.hasTag("department") && principal.getTag("department").contains("risk")
entity Role;
entity Group;
entity User in [Role, Group] = { "name": String } tags Set<String>;

// What is asked for: Project::"default", View::"default.weather", Feature::"default.weather.temp".
// A feature has its view's tags too.
entity Project;
entity View in [Project] = {
  "name": String, "project": String, "entity": String, "tags": Set<String>, "owner"?: String,
};
entity Feature in [View, Project] = {
  "name": String, "view": String, "project": String, "type": String, "unit"?: String,
  "tags": Set<String>, "owner"?: String,
};

// What for.
entity Purpose enum ["explore", "train", "serve"];

action "read" appliesTo { principal: [User], resource: [View, Feature], context: { "purpose": Purpose } };
action "ingest", "apply", "withdraw", "deprecate", "approve", "erase", "hold"
  appliesTo { principal: [User], resource: [View], context: { "purpose": Purpose } };
action "govern" appliesTo { principal: [User], resource: [Project], context: { "purpose": Purpose } };
"#;

/// The same, parsed once.
///
/// # Errors
/// None, as the tests show: the text is a constant.
pub fn schema() -> Result<&'static Schema, String> {
    static PARSED: OnceLock<Result<Schema, String>> = OnceLock::new();
    let parse = || Schema::from_str(SCHEMA).map_err(|error: CedarSchemaError| error.to_string());
    PARSED.get_or_init(parse).as_ref().map_err(Clone::clone)
}
