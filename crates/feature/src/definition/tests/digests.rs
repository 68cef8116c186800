//! The digest: blind to words and order of keys, awake to everything that could change an answer.

use super::canonical::{canonical_json, digest};
use super::*;

#[test]
fn digests_are_pinned() {
    let entity = entity(ENTITY);
    assert_eq!(digest(&entity), "blake3:8d6e7caa4ec32c3eca1ceb76a8bfc1a93350cdfdf9f63d2d99cda76c809c3a5b");
    assert_eq!(
        String::from_utf8(canonical_json(&entity)).unwrap(),
        r#"{"keys":[{"name":"origin","type":"string"},{"name":"terminal","type":"int8"}],"kind":"entity","name":"airport","project":"default"}"#
    );
    assert_eq!(
        digest(&view(VIEW)),
        "blake3:2932538737f59fb12fcbe038b6592408b640e8639881e4c44d6e76f95771ad20"
    );
}

/// VIEW with its tables and the keys inside them the other way round, other comments, and every word for people gone.
fn shuffled() -> String {
    let mut sections: Vec<Vec<&str>> = vec![Vec::new()];
    for line in VIEW.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') {
            sections.push(Vec::new());
        }
        sections.last_mut().unwrap().push(line);
    }
    let mut text = String::from("# nothing here matters\n");
    let top = sections.remove(0);
    let mut lines: Vec<&str> = top.into_iter().rev().collect();
    // Features keep their order among themselves, for it is that of the table's columns.
    let (features, mut others): (Vec<_>, Vec<_>) =
        sections.into_iter().partition(|section| section[0].contains("features"));
    others.reverse();
    for section in features.into_iter().chain(others) {
        lines.push(section[0]);
        lines.extend(section[1..].iter().rev());
    }
    for line in lines {
        if !["description", "owner", "tags"].iter().any(|word| line.starts_with(word)) {
            text.push_str(line);
            text.push_str("   # why not\n");
        }
    }
    text
}

#[test]
fn what_means_the_same_has_one_digest() {
    let wanted = digest(&view(VIEW));
    assert_eq!(digest(&view(&shuffled())), wanted);
    let resolved = view(VIEW).resolve_keys(&entity(ENTITY)).unwrap();
    assert_eq!(digest(&FeatureView { keys: resolved, ..view(VIEW) }), wanted);
    for (before, after) in [
        ("project = \"default\"\n", ""),
        ("ttl = \"3h\"", "ttl = \"180m\""),
        ("reject_above = 0.01\n", ""),
        ("[time]\n", "[retention]\nkeep = \"400d\"\nunused_sets = \"90d\"\n\n[time]\n"),
        ("range = [0, 200.5]", "range = [-0.0, 200.50]"),
        ("[\"0\", 99.5]", "[0, \"99.50\"]"),
        ("2013-01-01T00:00:00-05:00", "\"2013-01-01T05:00:00Z\""),
        ("18446744073709551615", "\"18446744073709551615\""),
        ("files = \"../weather/*.parquet\"", "files = \"elsewhere.csv\""),
        ("format = \"parquet\"\n", ""),
        ("Wind speed", "Speed of the wind"),
        ("owner = \"weather-desk\"\n", "hypothesis = \"wind explains delays\"\n"),
        ("column = \"reading_no\"", "column = 'reading_no'"),
    ] {
        assert!(VIEW.contains(before), "{before}");
        assert_eq!(digest(&view(&VIEW.replace(before, after))), wanted, "{before} → {after}");
    }
}

#[test]
fn what_could_change_an_answer_changes_the_digest() {
    let mut seen = std::collections::BTreeSet::from([digest(&view(VIEW))]);
    for (before, after) in [
        ("name = \"weather\"", "name = \"climate\""),
        ("project = \"default\"", "project = \"other\""),
        ("entity = \"airport\"", "entity = \"city\""),
        ("ttl = \"3h\"", "ttl = \"4h\""),
        ("ttl = \"3h\"\n", ""),
        ("valid_at = \"time_hour\"", "valid_at = \"hour\""),
        ("{ delay = \"30m\" }", "{ delay = \"31m\" }"),
        ("{ delay = \"30m\" }", "{ column = \"known\" }"),
        ("{ delay = \"30m\" }", "\"arrival\""),
        ("{ delay = \"30m\" }", "\"assumed\""),
        ("America/New_York", "America/Chicago"),
        ("\"earlier\"", "\"later\""),
        ("\"airport_code\"", "\"code\""),
        ("name = \"reading\"", "name = \"read_no\""),
        ("type = \"int64\"", "type = \"int32\""),
        ("column = \"reading_no\"", "column = \"no\""),
        ("name = \"wind_speed\"", "name = \"wind\""),
        ("type = \"float64\"", "type = \"float32\""),
        ("unit = \"mph\"", "unit = \"knot\""),
        ("unit = \"mph\"\n", ""),
        ("column = \"wind\"", "column = \"ws\""),
        ("range = [0, 200.5]", "range = [0, 201]"),
        ("range = [0, 200.5]", "range = [\"\", 200.5]"),
        ("range = [0, 200.5]\n", ""),
        ("nullable = false", "nullable = true"),
        ("nan = false", "nan = true"),
        ("default = 0.0", "default = 0.5"),
        ("default = 0.0\n", ""),
        ("[\"clear\", \"cloudy\"]", "[\"clear\", \"cloudy\", \"fog\"]"),
        ("name = \"calm_when_clear\"", "name = \"calm\""),
        ("wind_speed < 100", "wind_speed < 90"),
        ("reading_no IS NOT NULL", "true"),
        ("where = \"reading_no IS NOT NULL\"\n", ""),
        ("[[features]]\nname = \"automatic\"\ntype = \"bool\"\ndefault = false\n", ""),
    ] {
        assert!(VIEW.contains(before), "{before}");
        let changed = view(&VIEW.replacen(before, after, 1));
        assert!(seen.insert(digest(&changed)), "{before} → {after} has a digest that was seen before");
    }
    let mut turned = view(VIEW);
    turned.features.reverse();
    assert!(seen.insert(digest(&turned)), "the order of features is that of the table's columns");
}

#[test]
fn kinds_do_not_share_digests() {
    let entities = [ENTITY, &ENTITY.replace("int8", "int16"), &ENTITY.replace("\"terminal\"", "\"gate\"")];
    let mut seen = std::collections::BTreeSet::new();
    for text in entities {
        assert!(seen.insert(digest(&entity(text))));
    }
    assert_eq!(digest(&entity(ENTITY)), digest(&entity(&ENTITY.replace("An airport", "Airports"))));
    for text in
        [SERVICE, &SERVICE.replace("weather@3", "weather@4"), &SERVICE.replace("\"delay\"", "\"late\"")]
    {
        assert!(seen.insert(digest(&parse("service.toml", text).unwrap())));
    }
    // Feast's colon means the same as a dot.
    let dotted = parse("service.toml", &SERVICE.replace("plane:seats", "plane.seats")).unwrap();
    assert!(!seen.insert(digest(&dotted)));
}
