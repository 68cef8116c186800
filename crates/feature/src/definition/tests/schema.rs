//! The JSON Schema, and that it knows every definition that these tests use.

use serde_json::Value;

use super::super::schema::json_schema;
use super::*;

#[test]
fn the_committed_schema_is_what_the_code_makes() {
    let text = serde_json::to_string_pretty(&json_schema()).unwrap();
    golden("docs/definition.schema.json", &format!("{text}\n"));
}

/// Notes properties that the schema does not know, required ones that are missing, and values of another type or outside
/// of an enumeration.
fn check(value: &Value, schema: &Value, path: &str, wrong: &mut Vec<String>) {
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        let fits = |choice: &Value| {
            let mut inner = Vec::new();
            check(value, choice, path, &mut inner);
            inner.is_empty()
        };
        if !choices.iter().any(fits) {
            wrong.push(format!("{path}: none of the choices"));
        }
    }
    if let Some(choices) = schema.get("enum").and_then(Value::as_array)
        && !choices.contains(value)
    {
        wrong.push(format!("{path}: {value} is not in the enumeration"));
    }
    if let Some(wanted) = schema.get("type") {
        let kind = match value {
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
            Value::Null => "null",
        };
        if wanted != kind && !wanted.as_array().is_some_and(|all| all.iter().any(|one| one == kind)) {
            wrong.push(format!("{path}: {kind} where the schema has {wanted}"));
        }
    }
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let path = format!("{path}.{key}");
                match schema
                    .pointer(&format!("/properties/{key}"))
                    .or_else(|| schema.get("additionalProperties"))
                {
                    Some(Value::Bool(false)) => wrong.push(format!("{path}: unknown")),
                    Some(inner) => check(value, inner, &path, wrong),
                    None => {}
                }
            }
            for required in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
                if !entries.contains_key(required.as_str().unwrap()) {
                    wrong.push(format!("{path}: {required} is missing"));
                }
            }
        }
        Value::Array(values) => {
            for (number, value) in values.iter().enumerate() {
                if let Some(items) = schema.get("items") {
                    check(value, items, &format!("{path}[{number}]"), wrong);
                }
            }
        }
        _ => {}
    }
}

fn plain(value: &toml::Value) -> Value {
    match value {
        toml::Value::Table(table) => {
            Value::Object(table.iter().map(|(key, value)| (key.clone(), plain(value))).collect())
        }
        toml::Value::Array(values) => values.iter().map(plain).collect(),
        toml::Value::Datetime(time) => Value::from(time.to_string()),
        toml::Value::String(text) => Value::from(text.as_str()),
        toml::Value::Integer(number) => Value::from(*number),
        toml::Value::Float(number) => Value::from(*number),
        toml::Value::Boolean(value) => Value::from(*value),
    }
}

fn checked(text: &str) -> Vec<String> {
    let schema = json_schema();
    // The toml crate's own values hold no integer beyond i64, and so the test writes these as text, as a definition may.
    let text = text.replace("18446744073709551615", "\"18446744073709551615\"");
    let value = plain(&toml::Value::Table(toml::from_str(&text).unwrap()));
    let kind = value["kind"].as_str().unwrap();
    let mut wrong = Vec::new();
    check(&value, &schema["definitions"][kind], kind, &mut wrong);
    wrong
}

#[test]
fn the_schema_knows_every_sample() {
    let mut samples = vec![VIEW.to_owned(), ENTITY.to_owned(), SERVICE.to_owned()];
    samples.extend(demo_files().into_values());
    for sample in samples {
        assert_eq!(checked(&sample), Vec::<String>::new(), "{sample}");
    }
    for (before, after, found) in [
        ("ttl =", "tll =", "feature_view.tll: unknown"),
        ("unit =", "units =", "feature_view.features[0].units: unknown"),
        ("\"earlier\"", "\"early\"", "feature_view.time.repeated_hour: \"early\" is not in the enumeration"),
        ("valid_at = \"time_hour\"", "", "feature_view.time: \"valid_at\" is missing"),
        ("{ delay = \"30m\" }", "\"30m\"", "feature_view.time.known_at: none of the choices"),
        (
            "nullable = false",
            "nullable = \"no\"",
            "feature_view.features[0].nullable: string where the schema has \"boolean\"",
        ),
    ] {
        assert_eq!(checked(&VIEW.replacen(before, after, 1)), [found]);
    }
}
