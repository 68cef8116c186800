//! The JSON form, which stands in log entries and may not change.

use serde_json::Value;

use super::*;

fn pretty(json: &Value) -> String {
    format!("{}\n", serde_json::to_string_pretty(json).unwrap())
}

#[test]
fn json_is_pinned_and_reads_back() {
    let resolved = {
        let view = view(VIEW);
        let keys = view.resolve_keys(&entity(ENTITY)).unwrap();
        FeatureView { keys, ..view }
    };
    for (name, definition) in [
        ("entity", parse("entity.toml", ENTITY).unwrap()),
        ("view", Definition::FeatureView(resolved)),
        ("service", parse("service.toml", SERVICE).unwrap()),
    ] {
        let json = definition.to_json();
        golden(&format!("testdata/golden/definition-{name}.json"), &pretty(&json));
        assert_eq!(Definition::from_json(&json).as_ref(), Ok(&definition));
        // Entries may be written as canonical JSON, which spells numbers and orders keys in its own way.
        let canonical = serde_json_canonicalizer::to_string(&json).unwrap();
        let read: Value = serde_json::from_str(&canonical).unwrap();
        assert_eq!(Definition::from_json(&read).as_ref(), Ok(&definition));
    }
}

#[test]
fn the_demo_reads_back() {
    let files = demo_files();
    assert!(files.len() >= 7, "{:?}", files.keys());
    for (file, text) in &files {
        let definition = parse(file, text).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(Definition::from_json(&definition.to_json()), Ok(definition));
    }
}

/// Changes one place of the view's JSON.
fn changed(path: &str, value: Value) -> Value {
    let mut json = parse("view.toml", VIEW).unwrap().to_json();
    let (holder, key) = path.rsplit_once('/').unwrap();
    json.pointer_mut(holder).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
    json
}

#[test]
fn json_that_is_not_a_definition_is_refused() {
    for (json, message) in [
        (
            changed("/ttll", "3h".into()),
            "this JSON holds `ttll`, which this program does not know (did you mean `ttl`?); it may come from a later version of the program",
        ),
        (
            changed("/features/1/weight_kg", "red".into()),
            "this JSON holds `features[1].weight_kg`, which this program does not know; it may come from a later version of the program",
        ),
        (
            changed("/ttl", "soon".into()),
            "this JSON is not a definition: `soon` is not a length of time: write a whole number and a unit, as in 30m, 7d or 1h30m (units: w d h m s ms us)",
        ),
        (
            changed("/name", "Weather".into()),
            "this JSON is not a definition: `Weather` holds 'W'; a name has only a to z, 0 to 9 and _; `weather` would do",
        ),
        (
            changed("/kind", "view".into()),
            "this JSON is not a definition: unknown variant `view`, expected one of `entity`, `feature_view`, `feature_service`",
        ),
        (
            changed("/ttl", "0s".into()),
            "the feature_view `weather` of this JSON is not valid: `ttl` is \"0s\", so that nothing older than the very instant would be found; leave it out to look back for ever, or write for example ttl = \"1d\"",
        ),
        (
            changed("/features/1/default", 3.into()),
            "the feature_view `weather` of this JSON is not valid: feature `sky`: `default`: 3 is not string, text in quotes; write \"3\"",
        ),
        (
            changed("/features/1/nan", true.into()),
            "the feature_view `weather` of this JSON is not valid: feature `sky`: `nan` says nothing about string: only float32 and float64 have NaN; leave it out",
        ),
        (
            Value::Null,
            "this JSON is not a definition: invalid type: null, expected internally tagged enum Definition",
        ),
    ] {
        assert_eq!(Definition::from_json(&json).unwrap_err().to_string(), message);
    }
    // What is left out and what is empty are the same.
    assert!(Definition::from_json(&changed("/features/1/unit", Value::Null)).is_ok());
}
