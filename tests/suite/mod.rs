//! One module a subject. A file that is not declared here would never run: `every_file_is_declared` notices it.

mod alerts;
mod asof_join;
mod audit;
mod bias;
mod cases;
mod changes;
mod column_lineage;
mod compaction;
mod coverage;
mod damage;
mod deprecation;
mod diff;
mod erasure;
mod evidence;
mod explain;
mod fixture;
mod fuzzing;
mod golden;
mod golden_store;
mod hypothesis;
mod lineage;
mod many_writers;
mod mending;
mod mistakes;
mod one_view;
mod point_in_time;
mod policies;
mod quality;
mod reconcile;
mod replay;
mod scoreboard;
mod simulation;
mod slt;
mod stalling;
mod stores;
mod suspect_version;
mod sweep;
mod table_filters;
mod tables;
mod values;
mod verification;

use std::path::Path;

/// The modules that the text of a file declares.
fn declared(text: &str) -> Vec<&str> {
    let lines = text.lines().map(|line| line.trim_start_matches("pub ").trim_start_matches("pub(super) "));
    lines.filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect()
}

fn undeclared(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("mod.rs")).unwrap();
    let declared = declared(&text);
    let mut missing = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            missing.extend(undeclared(&path));
        }
        // Beside modules lie what they read, as texts of queries.
        let is_module = path.is_dir() || path.extension().is_some_and(|ending| ending == "rs");
        if is_module && name != "mod" && !declared.contains(&name.as_str()) {
            missing.push(path.display().to_string());
        }
    }
    missing
}

#[test]
fn every_file_is_declared() {
    assert_eq!(declared("mod one;\npub(super) mod two;\n// mod three;\nmod four {"), ["one", "two"]);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite");
    assert_eq!(undeclared(&folder), Vec::<String>::new());
}
