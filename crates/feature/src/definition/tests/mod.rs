use std::collections::BTreeMap;

use super::*;

mod digests;
mod files;
mod json;
mod mistakes;
mod schema;

/// A view that uses every word there is.
pub(super) const VIEW: &str = r#"
# hourly weather
kind = "feature_view"
name = "weather"
project = "default"
entity = "airport"
ttl = "3h"
reject_above = 0.01
description = "Hourly weather at the airport of departure"
owner = "weather-desk"
tags = ["weather", "hourly"]

[time]
valid_at = "time_hour"
known_at = { delay = "30m" }
zone = "America/New_York"
repeated_hour = "earlier"

[keys]
origin = "airport_code"

[occurrence]
name = "reading"
type = "int64"
column = "reading_no"

[[features]]
name = "wind_speed"
type = "float64"
unit = "mph"
column = "wind"
range = [0, 200.5]
nullable = false
nan = false
default = 0.0
description = "Wind speed"
owner = "wind-desk"
tags = ["wind"]

[[features]]
name = "sky"
type = "string"
one_of = ["clear", "cloudy"]
default = "clear"

[[features]]
name = "temp"
type = "float32"
range = [-60, ""]

[[features]]
name = "rain"
type = "decimal(6,2)"
range = ["0", 99.5]

[[features]]
name = "serial"
type = "uint64"
range = [1, 18446744073709551615]
default = 9007199254740993

[[features]]
name = "calibrated"
type = "timestamp"
range = [2013-01-01T00:00:00-05:00, ""]

[[features]]
name = "founded"
type = "date"
default = 1939-10-15

[[features]]
name = "automatic"
type = "bool"
default = false

[[checks]]
name = "calm_when_clear"
sql = "sky <> 'clear' OR wind_speed < 100"

[source]
files = "../weather/*.parquet"
format = "parquet"
where = "reading_no IS NOT NULL"
"#;

pub(super) const ENTITY: &str = r#"
kind = "entity"
name = "airport"
description = "An airport"
owner = "flight-operations"
tags = ["place"]

[[keys]]
name = "origin"
type = "string"

[[keys]]
name = "terminal"
type = "int8"
"#;

pub(super) const SERVICE: &str = r#"
kind = "feature_service"
name = "delay"
project = "flights"
description = "What a model of delay may know"
features = ["weather.temp", "weather@3.wind_speed", "fraud.cards.*", "plane:seats"]
"#;

/// A folder inside the repository.
pub(super) fn repository(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Compares with a file of the repository. With UPDATE_GOLDEN=1 it is written instead, to be read before it is committed.
pub(super) fn golden(path: &str, found: &str) {
    let file = repository(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, found).unwrap();
    }
    let wanted = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(wanted == found, "{path} differs from what the code makes; it makes:\n{found}");
}

pub(super) fn view(text: &str) -> FeatureView {
    match parse("view.toml", text) {
        Ok(Definition::FeatureView(view)) => view,
        other => panic!("{other:?}"),
    }
}

pub(super) fn entity(text: &str) -> Entity {
    match parse("entity.toml", text) {
        Ok(Definition::Entity(entity)) => entity,
        other => panic!("{other:?}"),
    }
}

/// The definitions of the demo, by file name.
pub(super) fn demo_files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for file in std::fs::read_dir(repository("testdata/nycflights13/features")).unwrap() {
        let path = file.unwrap().path();
        // Tests of the definitions stand beside them.
        if path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        files.insert(name, std::fs::read_to_string(&path).unwrap());
    }
    files
}

#[test]
fn a_view_is_read_whole() {
    let view = view(VIEW);
    assert_eq!(view.ttl.unwrap().to_string(), "3h");
    assert_eq!(view.time.known_at, KnownAt::Delay("30m".parse().unwrap()));
    assert_eq!(view.time.repeated_hour, RepeatedHour::Earlier);
    assert_eq!(view.keys, [KeySource { key: "origin".parse().unwrap(), column: "airport_code".into() }]);
    assert_eq!(view.reject_above, Some(0.01));
    let names: Vec<&str> = view.features.iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names, ["wind_speed", "sky", "temp", "rain", "serial", "calibrated", "founded", "automatic"]);
    let [wind, sky, temp, rain, serial, calibrated, ..] = view.features.as_slice() else { panic!() };
    assert_eq!((wind.column.as_str(), sky.column.as_str()), ("wind", "sky"));
    assert_eq!((wind.nullable, sky.nullable), (false, true));
    assert_eq!(
        (wind.nan, temp.nan, sky.nan),
        (false, true, false),
        "only floats have NaN, and take it unless told"
    );
    assert_eq!(temp.bounds().unwrap(), (Some(Constant::Float(-60.0)), None));
    assert_eq!(rain.bounds().unwrap(), (Some(Constant::Decimal(0)), Some(Constant::Decimal(9950))));
    assert_eq!(serial.default_constant().unwrap(), Some(Constant::Int(9_007_199_254_740_993)));
    assert_eq!(
        calibrated.bounds().unwrap().0,
        Some(Constant::Timestamp("2013-01-01T05:00:00Z".parse().unwrap()))
    );
    assert_eq!(
        sky.accepted().unwrap().unwrap(),
        ["clear", "cloudy"].map(|text| Constant::Text(text.to_owned()))
    );
}

#[test]
fn the_four_ways_of_known_at_are_read() {
    for (written, read) in [
        ("{ column = \"dep_utc\" }", KnownAt::Column("dep_utc".to_owned())),
        ("{ delay = \"1h30m\" }", KnownAt::Delay("90m".parse().unwrap())),
        ("\"arrival\"", KnownAt::Arrival),
        ("\"assumed\"", KnownAt::Assumed),
    ] {
        let view = view(&VIEW.replace("{ delay = \"30m\" }", written));
        assert_eq!(view.time.known_at, read);
        let json = Definition::FeatureView(view.clone()).to_json();
        assert_eq!(Definition::from_json(&json), Ok(Definition::FeatureView(view)));
    }
}

#[test]
fn keys_are_resolved_in_the_order_of_the_entity() {
    let entity = entity(ENTITY);
    let view = view(VIEW);
    let resolved = view.resolve_keys(&entity).unwrap();
    let shown: Vec<String> =
        resolved.iter().map(|source| format!("{}={}", source.key, source.column)).collect();
    assert_eq!(shown, ["origin=airport_code", "terminal=terminal"]);
    let again = FeatureView { keys: resolved.clone(), ..view.clone() };
    assert_eq!(again.resolve_keys(&entity).unwrap(), resolved);

    for (before, after, message) in [
        (
            "origin = \"airport_code\"",
            "orign = \"airport_code\"",
            "feature view `weather`: [keys]: `orign` is not a key of entity `airport` (did you mean `origin`?); its keys are origin and terminal",
        ),
        (
            "origin = \"airport_code\"",
            "airport_code = \"origin\"",
            "feature view `weather`: [keys]: `airport_code` is not a key of entity `airport`; the entity's key stands on the left: origin = \"airport_code\"",
        ),
        (
            "name = \"rain\"",
            "name = \"terminal\"",
            "feature view `weather`: feature `terminal` has the name of a key of the view, and a table has one column of a name; remove it, or rename it and keep column = \"terminal\"",
        ),
        (
            "name = \"reading\"",
            "name = \"terminal\"",
            "feature view `weather`: [occurrence]: `name` is \"terminal\", which is a key of the view already; write another name, and the source's in column",
        ),
    ] {
        let wrong = self::view(&VIEW.replace(before, after));
        assert_eq!(wrong.resolve_keys(&entity).unwrap_err().to_string(), message);
    }
}

#[test]
fn no_text_makes_the_parser_panic() {
    // Each definition with each character missing or replaced: most are errors, all are answers.
    for text in [VIEW, ENTITY, SERVICE] {
        for (start, character) in text.char_indices() {
            for other in ["", "\"", "[", "é", "\0"] {
                let end = start + character.len_utf8();
                let changed = format!("{}{other}{}", &text[..start], &text[end..]);
                if let Err(errors) = parse("file.toml", &changed) {
                    assert!(
                        errors.iter().all(|error| error.line >= 1 && error.line <= text.lines().count() + 1)
                    );
                    assert!(errors.iter().count() >= 1);
                }
            }
        }
    }
}
