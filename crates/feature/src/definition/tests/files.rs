//! Definition files checked against one another.

use super::*;

fn files(files: &[(&str, &str)]) -> Result<Definitions, String> {
    let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    parse_files(files.iter().map(owned).collect()).map_err(|errors| errors.to_string())
}

const VISIT: &str = "kind = \"feature_view\"\nname = \"visits\"\nentity = \"airport\"\n[time]\nvalid_at = \"t\"\nknown_at = \"arrival\"\n[[features]]\nname = \"n\"\ntype = \"int32\"\n";

#[test]
fn the_demo_is_one_whole() {
    let mut files: Vec<(String, String)> = demo_files().into_iter().collect();
    let definitions = parse_files(files.clone()).unwrap_or_else(|errors| panic!("{errors}"));
    let names: Vec<&str> = definitions.views.iter().map(|view| view.definition.name.as_str()).collect();
    assert_eq!(names, ["departures", "leg", "plane", "weather"]);
    assert_eq!(definitions.entities.len(), 2);
    assert_eq!(definitions.services.len(), 1);
    assert_eq!(definitions.unresolved, []);
    for view in &definitions.views {
        assert_eq!(view.definition.keys.len(), 1, "keys are resolved");
    }
    files.reverse();
    assert_eq!(parse_files(files).unwrap(), definitions, "the order of files does not matter");
}

#[test]
fn references_that_only_a_store_knows_are_handed_on() {
    let service = "kind = \"feature_service\"\nname = \"s\"\nfeatures = [\n  \"visits.n\",\n  \"visits@2.m\",\n  \"visit.n\",\n  \"fraud.visits.*\",\n  \"zebra.n\",\n]\n";
    let found = files(&[("e.toml", ENTITY), ("s.toml", service), ("v.toml", VISIT)]).unwrap();
    let handed: Vec<(String, Option<&str>, usize)> = found
        .unresolved
        .iter()
        .map(|one| (one.reference.to_string(), one.nearest.as_deref(), one.line))
        .collect();
    assert_eq!(
        handed,
        [
            ("visits@2.m".to_owned(), None, 5),
            ("visit.n".to_owned(), Some("visits"), 6),
            ("fraud.visits.*".to_owned(), Some("visits"), 7),
            ("zebra.n".to_owned(), None, 8),
        ]
    );
    assert_eq!(
        found.unresolved[1].error("there is no feature view `visit`").to_string(),
        "s.toml:6:3: `features` holds \"visit.n\", but there is no feature view `visit` (did you mean `visits`?)"
    );
}

#[test]
fn projects_keep_names_apart() {
    let other = |text: &str| text.replacen("name =", "project = \"other\"\nname =", 1);
    let entity = ENTITY.to_owned();
    let found = files(&[
        ("a.toml", &entity),
        ("b.toml", VISIT),
        ("c.toml", &other(&entity)),
        ("d.toml", &other(VISIT)),
    ])
    .unwrap();
    assert_eq!((found.entities.len(), found.views.len()), (2, 2));
    let missing = files(&[("a.toml", &entity), ("d.toml", &other(VISIT))]).unwrap_err();
    assert_eq!(
        missing,
        "d.toml:4:10: `entity` is \"airport\", and no file defines such an entity; none is defined in project `other`; correct the name, or add a file with kind = \"entity\" and name = \"airport\""
    );
}

#[test]
fn a_broken_file_does_not_make_others_look_wrong() {
    let errors =
        files(&[("a.toml", &ENTITY.replace("\"string\"", "\"text\"")), ("b.toml", VISIT)]).unwrap_err();
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(
        errors
            .starts_with("a.toml:10:8: key `origin`: `type`: `text` is not a type (did you mean `string`?)"),
        "{errors}"
    );
    assert_eq!(files(&[]), Ok(Definitions::default()));
}

#[test]
fn the_examples_of_the_documentation_are_valid() {
    let text = std::fs::read_to_string(repository("docs/definitions.md")).unwrap();
    let examples: Vec<&str> =
        text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 4);
    let named =
        examples.iter().enumerate().map(|(number, text)| (format!("{number}.toml"), (*text).to_owned()));
    let definitions = parse_files(named.collect()).unwrap_or_else(|errors| panic!("{errors}"));
    let found = (definitions.entities.len(), definitions.views.len(), definitions.services.len());
    assert_eq!(found, (1, 2, 1));
    // Windows' line ends and a byte order mark are nothing to complain of.
    let windows = format!("\u{feff}{}", examples[1].replace('\n', "\r\n"));
    let Ok(Definition::FeatureView(read)) = parse("view.toml", &windows) else { panic!() };
    let same = definitions.views.iter().find(|view| view.definition.name == read.name);
    let view = same.unwrap().definition.clone();
    assert_eq!(FeatureView { keys: view.keys.clone(), ..read }, view);
}
