//! What is wrong with policies, and where: told as of definitions, which they lie beside.

use cedar_policy::ffi::DetailedError;
use feature::definition::DefinitionError;
use feature::policy::PolicyFile;

/// At a byte of a file.
pub fn at(file: &PolicyFile, byte: usize, message: impl Into<String>) -> DefinitionError {
    let before = file.text.get(..byte).unwrap_or(&file.text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    DefinitionError { file: file.name.clone(), line, column: Some(column), message: message.into() }
}

/// What Cedar says, with its advice.
pub fn of_cedar(file: &PolicyFile, error: &DetailedError) -> DefinitionError {
    let place = error.source_locations.first();
    let mut message = without_ids(&error.message);
    if let Some(label) = place.and_then(|place| place.label.as_ref()) {
        message.push_str(&format!(": {label}"));
    }
    if let Some(help) = &error.help {
        message.push_str(&format!("; {help}"));
    }
    at(file, place.map_or(0, |place| place.loc.start), message)
}

/// Cedar begins what it says of a policy with the id, which here is a number that nobody gave it.
fn without_ids(message: &str) -> String {
    let told = message.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, "));
    told.map_or(message, |(_, told)| told).to_owned()
}
