//! Definitions as JSON, the form that stands in log entries.

use serde_json::Value;

use super::parse::table::did_you_mean;
use super::{About, Definition, checks};
use crate::name::{Name, nearest};

/// JSON that is not a definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("this JSON is not a definition: {0}")]
    Shape(String),
    #[error(
        "this JSON holds `{path}`, which this program does not know{hint}; it may come from a later version of the program"
    )]
    Unknown { path: String, hint: String },
    #[error("the {kind} `{name}` of this JSON is not valid: {why}")]
    Invalid { kind: &'static str, name: String, why: String },
}

impl Definition {
    /// `entity`, `feature_view` or `feature_service`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Entity(_) => "entity",
            Self::FeatureView(_) => "feature_view",
            Self::FeatureService(_) => "feature_service",
        }
    }

    pub fn project(&self) -> &Name {
        match self {
            Self::Entity(entity) => &entity.project,
            Self::FeatureView(view) => &view.project,
            Self::FeatureService(service) => &service.project,
        }
    }

    pub fn name(&self) -> &Name {
        match self {
            Self::Entity(entity) => &entity.name,
            Self::FeatureView(view) => &view.name,
            Self::FeatureService(service) => &service.name,
        }
    }

    pub fn about(&self) -> &About {
        match self {
            Self::Entity(entity) => &entity.about,
            Self::FeatureView(view) => &view.about,
            Self::FeatureService(service) => &service.about,
        }
    }

    /// The whole definition with its `kind`; `from_json` gives it back.
    pub fn to_json(&self) -> Value {
        // Names are text and numbers are finite, so that this cannot fail.
        serde_json::to_value(self).unwrap_or(Value::Null)
    }

    /// Reads what `to_json` wrote. A key that is not known is refused, for leaving it out could change the meaning; so is
    /// whatever `parse` would refuse.
    pub fn from_json(json: &Value) -> Result<Self, RecordError> {
        let definition: Self =
            serde_json::from_value(json.clone()).map_err(|why| RecordError::Shape(why.to_string()))?;
        if let Some((path, hint)) = unknown(json, &definition.to_json(), "") {
            return Err(RecordError::Unknown { path, hint });
        }
        definition.checked()
    }

    /// The same of JSON as text.
    pub fn from_text(text: &str) -> Result<Self, RecordError> {
        let shape = |why: serde_json::Error| RecordError::Shape(why.to_string());
        let definition: Self = serde_json::from_str(text).map_err(shape)?;
        // Where it gives the same text, nothing was read past.
        if serde_json::to_string(&definition).is_ok_and(|same| same == text) {
            return definition.checked();
        }
        Self::from_json(&serde_json::from_str(text).map_err(shape)?)
    }

    fn checked(self) -> Result<Self, RecordError> {
        let problems = match &self {
            Self::Entity(entity) => checks::entity(entity),
            Self::FeatureView(view) => checks::view(view),
            Self::FeatureService(service) => checks::service(service),
        };
        match problems.into_iter().next() {
            Some(problem) => Err(RecordError::Invalid {
                kind: self.kind(),
                name: self.name().to_string(),
                why: problem.message,
            }),
            None => Ok(self),
        }
    }
}

/// The first key that was read past: it stands in what was given, and not in what was understood.
fn unknown(given: &Value, understood: &Value, path: &str) -> Option<(String, String)> {
    match (given, understood) {
        (Value::Object(given), Value::Object(understood)) => {
            for (key, value) in given {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match understood.get(key) {
                    Some(known) => {
                        if let Some(found) = unknown(value, known, &path) {
                            return Some(found);
                        }
                    }
                    // Left out and empty mean the same.
                    None if value.is_null() || value.as_array().is_some_and(Vec::is_empty) => {}
                    None => {
                        let near = nearest(key, understood.keys().map(String::as_str));
                        return Some((path, did_you_mean(near)));
                    }
                }
            }
            None
        }
        (Value::Array(given), Value::Array(understood)) => {
            given.iter().zip(understood).enumerate().find_map(|(number, (given, understood))| {
                unknown(given, understood, &format!("{path}[{number}]"))
            })
        }
        _ => None,
    }
}
