//! The JSON Schema of definition files, with which editors complete and check them (as taplo does for TOML).

use serde_json::{Map, Value, json};

use super::vocabulary::{KINDS, KNOWN_AT, KNOWN_AT_WORDS, Shape, Vocabulary, Word};

/// One schema for the three kinds of file, told apart by `kind`. `docs/definition.schema.json` holds it.
pub fn json_schema() -> Value {
    let mut kinds = Map::new();
    let mut choice = Vec::new();
    for (kind, words) in KINDS {
        kinds.insert(kind.to_owned(), table(words));
        choice.push(json!({
            "if": { "properties": { "kind": { "const": kind } } },
            "then": { "$ref": format!("#/definitions/{kind}") },
        }));
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Lineament definition",
        "description": "An entity, a feature view or a feature service.",
        "type": "object",
        "required": ["kind"],
        "properties": { "kind": { "enum": KINDS.map(|(kind, _)| kind) } },
        "allOf": choice,
        "definitions": kinds,
    })
}

fn table(words: &Vocabulary) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for word in words.words {
        let mut shape = shape(word);
        if let Value::Object(shape) = &mut shape {
            shape.insert("description".to_owned(), Value::from(word.meaning));
        }
        properties.insert(word.key.to_owned(), shape);
        if word.required {
            required.push(word.key);
        }
    }
    let mut table = json!({ "type": "object", "additionalProperties": false });
    if let Value::Object(table) = &mut table {
        if !required.is_empty() {
            table.insert("required".to_owned(), Value::from(required));
        }
        table.insert("properties".to_owned(), Value::Object(properties));
    }
    table
}

fn shape(word: &Word) -> Value {
    let name = "^[a-z](?:[a-z0-9]|_(?!_)){0,62}$";
    let reference = "^(?:[a-z][a-z0-9_]*\\.)?[a-z][a-z0-9_]*(?:@[1-9][0-9]*)?[.:](?:\\*|[a-z][a-z0-9_]*)$";
    let span = "^\\s*(?:[0-9]+(?:w|d|h|m|s|ms|us))+\\s*$";
    let constant = json!(["boolean", "number", "string"]);
    match word.shape {
        Shape::Kind(kind) => json!({ "const": kind }),
        Shape::Text => json!({ "type": "string", "minLength": 1 }),
        Shape::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Shape::Name => {
            let not = crate::name::RESERVED;
            json!({ "type": "string", "pattern": name, "not": { "enum": not } })
        }
        Shape::Span => json!({ "type": "string", "pattern": span }),
        Shape::Share => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Shape::Count => json!({ "type": "integer", "minimum": 1 }),
        Shape::Limit => json!({ "type": "number", "minimum": 0 }),
        Shape::Instant => json!({ "type": "string", "minLength": 1 }),
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Type => json!({ "anyOf": [
            { "enum": ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32",
                "float64", "string", "binary", "date", "timestamp"] },
            { "type": "string", "pattern": "^decimal\\(\\s*[0-9]+\\s*,\\s*[0-9]+\\s*\\)$" },
        ] }),
        Shape::Constant => json!({ "type": constant }),
        Shape::Constants => {
            json!({ "type": "array", "minItems": 1, "uniqueItems": true, "items": { "type": constant } })
        }
        Shape::Range => {
            json!({ "type": "array", "minItems": 2, "maxItems": 2, "items": { "type": ["number", "string"] } })
        }
        Shape::KnownAt => {
            let mut inner = table(&KNOWN_AT);
            if let Value::Object(inner) = &mut inner {
                inner.insert("minProperties".to_owned(), Value::from(1));
                inner.insert("maxProperties".to_owned(), Value::from(1));
            }
            json!({ "anyOf": [{ "enum": KNOWN_AT_WORDS.map(|(word, _)| word) }, inner] })
        }
        Shape::Choice(words) => json!({ "enum": words }),
        Shape::References => {
            json!({ "type": "array", "minItems": 1, "uniqueItems": true, "items": { "type": "string", "pattern": reference } })
        }
        Shape::Columns => {
            json!({ "type": "object", "additionalProperties": { "type": "string", "minLength": 1 } })
        }
        Shape::Table(words) => table(words),
        Shape::Named(words) => json!({ "type": "object", "additionalProperties": table(words) }),
        Shape::Tables(words) => json!({ "type": "array", "minItems": 1, "items": table(words) }),
    }
}
