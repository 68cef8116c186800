//! Names of projects, entities, views, services, features and keys.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A valid name: `[a-z][a-z0-9_]{0,62}`, no `__` (it joins view and feature in full names), and none of the
/// four names that a feature view's own columns bear. Parsed once, valid ever after.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// The columns that every feature view has beside its keys and features.
pub const RESERVED: [&str; 4] = ["at", "valid_at", "known_at", "sequence"];

/// The project of whatever names none.
const DEFAULT_PROJECT: &str = "default";

/// The project and the rest of a text that may begin with one: of `fraud.weather@2` it is `fraud` and `weather@2`, of `weather` the
/// default project and all of it. Neither is held against the rules of names.
pub fn split_project(text: &str) -> (&str, &str) {
    text.split_once('.').unwrap_or((DEFAULT_PROJECT, text))
}

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name cannot be empty")]
    Empty,
    #[error("`{0}` is {1} characters long; a name has at most 63")]
    TooLong(String, usize),
    #[error("`{0}` does not begin with a letter from a to z")]
    Start(String),
    #[error("`{name}` holds {character:?}; a name has only a to z, 0 to 9 and _{}", suggestion(.name))]
    Character { name: String, character: char },
    #[error("`{0}` holds `__`, which joins a view's name to a feature's in full names")]
    DoubleUnderscore(String),
    #[error("`{0}` is reserved: every feature view has columns named at, valid_at, known_at and sequence")]
    Reserved(String),
}

/// The name that the text would be after folding case and foreign characters, when that is one.
fn suggestion(text: &str) -> String {
    let mut folded = String::new();
    for character in text.chars() {
        let character = character.to_ascii_lowercase();
        if character.is_ascii_lowercase() || character.is_ascii_digit() {
            folded.push(character);
        } else if !folded.ends_with('_') {
            folded.push('_');
        }
    }
    match Name::from_str(folded.trim_matches('_')) {
        Ok(name) => format!("; `{name}` would do"),
        Err(_) => String::new(),
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some(first) = text.chars().next() else { return Err(NameError::Empty) };
        if let Some(character) =
            text.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_'))
        {
            return Err(NameError::Character { name: text.to_owned(), character });
        }
        if !first.is_ascii_lowercase() {
            return Err(NameError::Start(text.to_owned()));
        }
        if text.len() > 63 {
            return Err(NameError::TooLong(text.to_owned(), text.len()));
        }
        if text.contains("__") {
            return Err(NameError::DoubleUnderscore(text.to_owned()));
        }
        if RESERVED.contains(&text) {
            return Err(NameError::Reserved(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The project of everything that names none.
    #[must_use]
    pub fn default_project() -> Self {
        Self(DEFAULT_PROJECT.to_owned())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

/// The known name that is nearest to a wrong one, for error messages; none when all are far off.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| *distance <= 1 + wrong.len().max(name.len()) / 3)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_once() {
        assert_eq!("wind_speed".parse::<Name>().unwrap().as_str(), "wind_speed");
        for (text, message) in [
            ("", "a name cannot be empty"),
            (
                "Wind Speed",
                "`Wind Speed` holds 'W'; a name has only a to z, 0 to 9 and _; `wind_speed` would do",
            ),
            ("9lives", "`9lives` does not begin with a letter from a to z"),
            ("a__b", "`a__b` holds `__`, which joins a view's name to a feature's in full names"),
            (
                "at",
                "`at` is reserved: every feature view has columns named at, valid_at, known_at and sequence",
            ),
            ("../etc", "`../etc` holds '.'; a name has only a to z, 0 to 9 and _; `etc` would do"),
        ] {
            assert_eq!(text.parse::<Name>().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("tmep", ["temp", "visib"]), Some("temp"));
        assert_eq!(nearest("zzzzzz", ["temp", "visib"]), None);
    }
}
