//! What is wrong with policies, and where.

use std::fmt;

use cedar_policy::ffi::DetailedError;
use feature::policy::PolicyFile;

/// One thing that is wrong in one file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyError {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub message: String,
}

impl PolicyError {
    /// At a byte of a file.
    pub(crate) fn at(file: &PolicyFile, byte: usize, message: impl Into<String>) -> Self {
        let before = file.text.get(..byte).unwrap_or(&file.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Self { file: file.name.clone(), line, column, message: message.into() }
    }

    /// What Cedar says, with its advice.
    pub(crate) fn of_cedar(file: &PolicyFile, error: &DetailedError) -> Self {
        let place = error.source_locations.first();
        let mut message = without_ids(&error.message);
        if let Some(label) = place.and_then(|place| place.label.as_ref()) {
            message.push_str(&format!(": {label}"));
        }
        if let Some(help) = &error.help {
            message.push_str(&format!("; {help}"));
        }
        Self::at(file, place.map_or(0, |place| place.loc.start), message)
    }
}

/// Cedar begins what it says of a policy with the id, which here is a number that nobody gave it.
fn without_ids(message: &str) -> String {
    let told = message.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, "));
    told.map_or(message, |(_, told)| told).to_owned()
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

impl std::error::Error for PolicyError {}

/// All that is wrong, at least one, by file and place. It is shown as one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyErrors(Vec<PolicyError>);

impl PolicyErrors {
    pub(crate) fn new(mut errors: Vec<PolicyError>) -> Self {
        errors.sort();
        errors.dedup();
        Self(errors)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, PolicyError> {
        self.0.iter()
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyErrors {}
