use super::*;
use crate::definition::{Definition, parse};

const VIEW: &str = r#"
kind = "feature_view"
name = "weather"
entity = "airport"
ttl = "3h"
reject_above = 0.01
description = "Hourly weather"

[time]
valid_at = "time_hour"
known_at = { delay = "30m" }
zone = "UTC"

[keys]
origin = "code"

[occurrence]
name = "reading"
type = "int64"

[[features]]
name = "temp"
type = "float64"
unit = "degF"
range = [-60, 130]
default = 0

[[features]]
name = "sky"
type = "string"
one_of = ["clear", "cloudy"]
description = "How it looks"

[[features]]
name = "seen"
type = "date"
range = ["1999-01-01", ""]

[[checks]]
name = "warm"
sql = "temp > 0"

[source]
files = "weather.parquet"
where = "ok"
"#;

const ENTITY: &str =
    "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n";

fn view(text: &str) -> FeatureView {
    match parse("view.toml", text) {
        Ok(Definition::FeatureView(view)) => view,
        other => panic!("{other:?}"),
    }
}

fn entity(text: &str) -> Entity {
    match parse("entity.toml", text) {
        Ok(Definition::Entity(entity)) => entity,
        other => panic!("{other:?}"),
    }
}

/// What replacing a part of the text changes, as the name of the change and lines for people.
fn change(before: &str, after: &str) -> (&'static str, Vec<String>) {
    assert!(VIEW.contains(before), "{before}");
    let entity = entity(ENTITY);
    shown(&compare(&view(VIEW), &view(&VIEW.replacen(before, after, 1)), &entity, &entity))
}

fn shown(change: &Change) -> (&'static str, Vec<String>) {
    let lines = |differences: &[Difference]| differences.iter().map(ToString::to_string).collect();
    match change {
        Change::Same => ("same", Vec::new()),
        Change::AboutOnly => ("about", Vec::new()),
        Change::SameLine(differences) => ("same line", lines(differences)),
        Change::NewLine(differences) => ("new line", lines(differences)),
    }
}

#[test]
fn each_part_has_its_rule() {
    let snow = "[[features]]\nname = \"snow\"\ntype = \"int32\"\nunit = \"mm\"\n\n[[checks]]";
    let cases: Vec<(&str, &str, &str, &[&str])> = vec![
        ("Hourly", "Hourly", "same", &[]),
        ("\nkind", "# said once more\nkind", "same", &[]),
        ("Hourly", "Daily", "about", &[]),
        ("How it looks", "How it seems", "about", &[]),
        ("weather.parquet", "w.csv", "about", &[]),
        ("reject_above = 0.01\n", "", "about", &[]),
        ("\n[time]", "\n[retention]\nkeep = \"400d\"\n\n[time]", "about", &[]),
        ("\"3h\"", "\"6h\"", "same line", &["ttl 3h → 6h"]),
        ("ttl = \"3h\"\n", "", "same line", &["ttl 3h → none"]),
        ("[-60, 130]", "[-60, 140]", "same line", &["feature `temp`: range −60…130 → −60…140"]),
        ("[-60, 130]", "[\"\", 130]", "same line", &["feature `temp`: range −60…130 → …130"]),
        ("range = [-60, 130]\n", "", "same line", &["feature `temp`: range −60…130 → none"]),
        (
            "\"1999-01-01\"",
            "\"1998-01-01\"",
            "same line",
            &["feature `seen`: range 1999-01-01… → 1998-01-01…"],
        ),
        ("\"cloudy\"]", "\"fog\"]", "same line", &["feature `sky`: one_of clear, cloudy → clear, fog"]),
        ("default = 0", "default = -1.5", "same line", &["feature `temp`: default 0 → −1.5"]),
        (
            "default = 0",
            "nullable = false\ndefault = 0",
            "same line",
            &["feature `temp`: nullable true → false"],
        ),
        ("default = 0", "nan = false\ndefault = 0", "same line", &["feature `temp`: nan true → false"]),
        ("default = 0", "column = \"t\"\ndefault = 0", "same line", &["feature `temp`: column temp → t"]),
        ("temp > 0", "temp > 1", "same line", &["check warm: temp > 0 → warm: temp > 1"]),
        ("\"warm\"", "\"hot\"", "same line", &["check none → hot: temp > 0", "check warm: temp > 0 → none"]),
        ("where = \"ok\"\n", "", "same line", &["source where ok → none"]),
        ("[[checks]]", snow, "same line", &["feature `snow`: added, int32, mm"]),
        (
            "name = \"sky\"",
            "name = \"clouds\"",
            "same line",
            &["feature `clouds`: added, string", "feature `sky`: removed, was string"],
        ),
        ("entity = \"airport\"", "entity = \"city\"", "new line", &["entity airport → city"]),
        ("\"code\"", "\"iata\"", "new line", &["source of keys origin = code → origin = iata"]),
        ("\"time_hour\"", "\"hour\"", "new line", &["valid_at time_hour → hour"]),
        ("zone = \"UTC\"", "", "new line", &["zone UTC → none"]),
        (
            "zone = \"UTC\"",
            "zone = \"UTC\"\nrepeated_hour = \"later\"",
            "new line",
            &["repeated_hour refuse → later"],
        ),
        ("{ delay = \"30m\" }", "\"assumed\"", "new line", &["known_at delay 30m → assumed"]),
        ("{ delay = \"30m\" }", "{ column = \"k\" }", "new line", &["known_at delay 30m → column k"]),
        ("\"reading\"", "\"r\"", "new line", &["occurrence reading int64 from reading → r int64 from r"]),
        ("float64", "float32", "new line", &["feature `temp`: type float64 → float32"]),
        ("degF", "degC", "new line", &["feature `temp`: unit degF → degC"]),
        ("unit = \"degF\"\n", "", "new line", &["feature `temp`: unit degF → none"]),
    ];
    for (before, after, kind, lines) in cases {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        assert_eq!(change(before, after), (kind, lines), "{before} → {after}");
    }
}

#[test]
fn causes_of_a_new_line_come_first() {
    let text = VIEW.replace("\"3h\"", "\"6h\"").replace("degF", "degC");
    let entity = entity(ENTITY);
    let Change::NewLine(differences) = compare(&view(VIEW), &view(&text), &entity, &entity) else { panic!() };
    let causes: Vec<bool> = differences.iter().map(Difference::starts_line).collect();
    assert_eq!(causes, [true, false]);
    assert_eq!(differences[0].feature.as_ref().unwrap().as_str(), "temp");
}

#[test]
fn keys_belong_to_the_entity() {
    let old = entity(ENTITY);
    let view = view(VIEW);
    for (before, after, line) in [
        ("\"string\"", "\"int64\"", "keys origin string → origin int64"),
        (
            "type = \"string\"\n",
            "type = \"string\"\n[[keys]]\nname = \"gate\"\ntype = \"int8\"\n",
            "keys origin string → origin string, gate int8",
        ),
    ] {
        let new = entity(&ENTITY.replace(before, after));
        assert_eq!(shown(&compare(&view, &view, &old, &new)), ("new line", vec![line.to_owned()]));
    }
    let described = entity(&ENTITY.replace("[[keys]]", "description = \"x\"\n[[keys]]"));
    assert_eq!(compare(&view, &view, &old, &described), Change::Same);
}

#[test]
fn the_order_of_features_is_a_difference() {
    let old = view(VIEW);
    let mut new = old.clone();
    new.features.swap(0, 1);
    let entity = entity(ENTITY);
    assert_eq!(
        shown(&compare(&old, &new, &entity, &entity)),
        ("same line", vec!["order of features temp, sky, seen → sky, temp, seen".to_owned()])
    );
}

#[test]
fn resolved_keys_make_no_difference() {
    let entity = entity(ENTITY);
    let old = view(&VIEW.replace("[keys]\norigin = \"code\"\n", ""));
    let new = FeatureView { keys: old.resolve_keys(&entity).unwrap(), ..old.clone() };
    assert_ne!(old.keys, new.keys);
    assert_eq!(compare(&old, &new, &entity, &entity), Change::Same);
}

#[test]
fn words_are_shown_too() {
    let text =
        VIEW.replace("Hourly", "Daily").replace("How it looks", "Sky").replace("weather.parquet", "w.csv");
    let text = text.replacen("ttl = ", "hypothesis = \"wind explains delays\"\nttl = ", 1);
    let lines: Vec<String> =
        about_differences(&view(VIEW), &view(&text)).iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "source files weather.parquet → w.csv",
            "description \"Hourly weather\" → \"Daily weather\"",
            "hypothesis none → \"wind explains delays\"",
            "feature `sky`: description \"How it looks\" → \"Sky\"",
        ]
    );
}

#[test]
fn a_feature_that_comes_back_as_another_leaves_the_line() {
    let first = view(VIEW);
    let second = view(&VIEW.replace("name = \"sky\"", "name = \"clouds\""));
    let back = "name = \"sky\"\ntype = \"int32\"\n[[features]]\nname = \"clouds\"";
    let third = view(&VIEW.replace("name = \"sky\"", back));
    let entity = entity(ENTITY);
    assert!(
        matches!(compare(&second, &third, &entity, &entity), Change::SameLine(_)),
        "the last version had no `sky`"
    );
    let conflicts: Vec<String> =
        conflicts_with_line([&first, &second], &third).iter().map(ToString::to_string).collect();
    assert_eq!(conflicts, ["feature `sky`: type string → int32"]);
    assert_eq!(conflicts_with_line([&first, &second], &first), []);
}

#[test]
fn a_line_that_begins_anew_is_never_harmless() {
    let parts = [
        Part::Entity,
        Part::Keys,
        Part::KeySource,
        Part::EventTime,
        Part::Zone,
        Part::RepeatedHour,
        Part::Knowledge,
        Part::Occurrence,
        Part::Derived,
        Part::Type,
        Part::Unit,
    ];
    for part in parts {
        assert!(part.starts_line() && part.effect() > Effect::Harmless, "{part:?}");
    }
    for part in
        [Part::Files, Part::Format, Part::RejectAbove, Part::Quality, Part::Description, Part::Hypothesis]
    {
        assert_eq!(part.effect(), Effect::Harmless, "{part:?}");
    }
}
