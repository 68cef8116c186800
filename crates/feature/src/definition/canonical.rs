//! The digest of a definition: the same for two texts that mean the same, and another wherever an answer could change.
//!
//! BLAKE3 over RFC 8785 canonical JSON of the definition without
//! - `description`, `owner` and `tags`, at every level, and the `hypothesis` of a view;
//! - `reject_above`, `quality`, `sampling` and `retention`, and `files` and `format` of `source`, which say how rows are brought, kept
//!   and looked after, and not what they mean;
//! - those `keys` of a view whose source column has the key's own name. The others are sorted by key.

use serde_json::{Map, Value};

use super::{Definition, Entity, FeatureService, FeatureView};

/// What has a version and so a digest.
pub trait Versioned {
    fn definition(&self) -> Definition;
}

impl Versioned for Entity {
    fn definition(&self) -> Definition {
        Definition::Entity(self.clone())
    }
}

impl Versioned for FeatureView {
    fn definition(&self) -> Definition {
        Definition::FeatureView(self.clone())
    }
}

impl Versioned for FeatureService {
    fn definition(&self) -> Definition {
        Definition::FeatureService(self.clone())
    }
}

impl Versioned for Definition {
    fn definition(&self) -> Definition {
        self.clone()
    }
}

/// `blake3:` and 64 hexadecimal digits. Whether a view's keys are resolved makes no difference.
pub fn digest(definition: &impl Versioned) -> String {
    format!("blake3:{}", blake3::hash(&canonical_json(definition)).to_hex())
}

/// The bytes that are digested.
pub fn canonical_json(definition: &impl Versioned) -> Vec<u8> {
    let mut meaning = definition.definition().to_json();
    for key in ["description", "owner", "tags"] {
        remove_everywhere(&mut meaning, key);
    }
    if let Value::Object(definition) = &mut meaning {
        definition.shift_remove("sampling");
    }
    if let Value::Object(view) = &mut meaning
        && view.get("kind").and_then(Value::as_str) == Some("feature_view")
    {
        without_carriage(view);
    }
    // Every number is finite and every key is text, so that canonical JSON exists.
    serde_json_canonicalizer::to_vec(&meaning).unwrap_or_default()
}

/// Takes out of a view what says only how its rows are brought.
fn without_carriage(view: &mut Map<String, Value>) {
    view.shift_remove("hypothesis");
    view.shift_remove("reject_above");
    view.shift_remove("quality");
    view.shift_remove("retention");
    if let Some(Value::Object(source)) = view.get_mut("source") {
        source.shift_remove("files");
        source.shift_remove("format");
        if source.is_empty() {
            view.shift_remove("source");
        }
    }
    if let Some(Value::Array(keys)) = view.get_mut("keys") {
        keys.retain(|source| source.get("key") != source.get("column"));
        keys.sort_by_key(|source| source.get("key").and_then(Value::as_str).map(str::to_owned));
        if keys.is_empty() {
            view.shift_remove("keys");
        }
    }
}

fn remove_everywhere(json: &mut Value, key: &str) {
    match json {
        Value::Object(map) => {
            map.shift_remove(key);
            for (_, value) in map.iter_mut() {
                remove_everywhere(value, key);
            }
        }
        Value::Array(values) => {
            for value in values {
                remove_everywhere(value, key);
            }
        }
        _ => {}
    }
}
