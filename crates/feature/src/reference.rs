//! Feature references: `weather.temp`, `weather@3.temp`, `weather.*`, `fraud.weather@3.temp`.
//!
//! Feast's `weather:temp` is read too. Without a version, the one in force at the snapshot is meant; without a
//! project, `default`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{Name, NameError};

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    pub project: Name,
    pub view: Name,
    /// 1 is the first version.
    pub version: Option<u32>,
    /// `None` stands for all features of the version, written `*`.
    pub feature: Option<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("`{0}` is not a feature reference; write view.feature, view@version.feature or view.*")]
    Shape(String),
    #[error("in the feature reference `{reference}`: {source}")]
    Name { reference: String, source: NameError },
    #[error("in the feature reference `{reference}`: `{version}` is not a version; versions are 1, 2, 3, …")]
    Version { reference: String, version: String },
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let shape = || ReferenceError::Shape(text.to_owned());
        let name = |part: &str| {
            part.parse::<Name>().map_err(|source| ReferenceError::Name { reference: text.to_owned(), source })
        };
        let (head, feature) = text.rsplit_once(['.', ':']).ok_or_else(shape)?;
        let (project, view) = match head.split_once('.') {
            Some((project, view)) => (name(project)?, view),
            None => (Name::default_project(), head),
        };
        let (view, version) = match view.split_once('@') {
            Some((view, version)) => {
                let number = version.parse().ok().filter(|number| *number >= 1).ok_or_else(|| {
                    ReferenceError::Version { reference: text.to_owned(), version: version.to_owned() }
                })?;
                (view, Some(number))
            }
            None => (view, None),
        };
        if view.is_empty() || feature.is_empty() {
            return Err(shape());
        }
        let feature = if feature == "*" { None } else { Some(name(feature)?) };
        Ok(Self { project, view: name(view)?, version, feature })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.project != Name::default_project() {
            write!(f, "{}.", self.project)?;
        }
        write!(f, "{}", self.view)?;
        if let Some(version) = self.version {
            write!(f, "@{version}")?;
        }
        match &self.feature {
            Some(feature) => write!(f, ".{feature}"),
            None => f.write_str(".*"),
        }
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;
    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

/// The column beside a feature's that says why it is null.
pub fn null_reason_of(output: &str) -> String {
    format!("{output}{NULL_REASON}")
}

/// The feature's column beside which this one stands and says why it is null.
pub fn with_null_reason(column: &str) -> Option<&str> {
    column.strip_suffix(NULL_REASON)
}

const NULL_REASON: &str = "__null_reason";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_back_as_written() {
        for text in ["weather.temp", "weather@3.temp", "weather.*", "fraud.weather@12.temp"] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
        assert_eq!("weather:temp".parse::<Reference>().unwrap().to_string(), "weather.temp");
        for (text, message) in [
            ("temp", "`temp` is not a feature reference; write view.feature, view@version.feature or view.*"),
            (
                "weather@0.temp",
                "in the feature reference `weather@0.temp`: `0` is not a version; versions are 1, 2, 3, …",
            ),
            (
                "weather.",
                "`weather.` is not a feature reference; write view.feature, view@version.feature or view.*",
            ),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap_err().to_string(), message);
        }
    }
}
