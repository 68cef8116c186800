//! What is altered in a pack is found, whoever altered it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use feature::digest::{HashAlgorithm, hash};
use proptest::prelude::*;
use serde_json::{Value, json};
use serving::verify_evidence;

use super::super::cases;
use super::super::coverage::Coverage;
use super::story::{key, of, tell};

type Files = BTreeMap<String, Vec<u8>>;

async fn pack(signed: bool) -> Files {
    let root = tempfile::tempdir().unwrap();
    let key = signed.then(key);
    tell(root.path()).await.serving.evidence(&of("delay/1"), key.as_ref()).await.unwrap().files
}

/// A thousand places in all files of a pack, signed and not: each is found, and the file is named.
#[test]
fn any_altered_byte_is_found() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let packs = [true, false].map(|signed| runtime.block_on(pack(signed)));
    let names: Vec<&String> = packs[0].keys().collect();
    let strategy = (any::<bool>(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..=255u8);
    let mut coverage = Coverage::default();
    let tried = cases::run("altered packs", 1_000, &strategy, |(signed, name, place, mask)| {
        let mut files = packs[usize::from(!signed)].clone();
        let name = name.get(&names).as_str();
        let Some(bytes) = files.get_mut(name) else { return Ok(0) };
        let place = place.index(bytes.len());
        bytes[place] ^= mask;
        let found = runtime.block_on(verify_evidence(&files, None));
        let named = format!("`{name}`");
        if !found.problems.iter().any(|problem| problem.contains(&named)) {
            return Err(format!("byte {place} of {name}, xor {mask}: {:?}", found.problems));
        }
        coverage.saw(name);
        Ok(1)
    });
    assert!(tried >= 1_000, "only {tried} tries");
    coverage.require(5, names);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_gone_added_cut_or_swapped_are_named() {
    let whole = pack(true).await;
    let names: Vec<String> = whole.keys().cloned().collect();
    for (place, name) in names.iter().enumerate() {
        let mut gone = whole.clone();
        gone.remove(name);
        let mut cut = whole.clone();
        let bytes = cut.get_mut(name).unwrap();
        bytes.pop();
        let mut longer = whole.clone();
        longer.get_mut(name).unwrap().push(b'\n');
        let mut swapped = whole.clone();
        let others = names[place..].iter().chain(&names[..place]);
        let other = others.into_iter().find(|other| whole[*other] != whole[name]).unwrap();
        swapped.insert(name.clone(), whole[other].clone());
        swapped.insert(other.clone(), whole[name].clone());
        for (what, files) in [("gone", gone), ("cut", cut), ("longer", longer), ("swapped", swapped)] {
            // Two files that say the same may stand for each other.
            if files == whole {
                continue;
            }
            let found = verify_evidence(&files, None).await;
            let named = |problem: &String| {
                problem.contains(&format!("`{name}`")) || problem.contains("statement.json")
            };
            assert!(found.problems.iter().any(named), "{name} {what}: {:?}", found.problems);
        }
    }
    let mut added = whole;
    added.insert("graph2.json".to_owned(), b"{}".to_vec());
    let found = verify_evidence(&added, None).await;
    assert_eq!(found.problems, ["`graph2.json` is not named by `statement.json`: it was added"]);
    let found = verify_evidence(&Files::new(), None).await;
    assert_eq!(found.problems, ["`statement.json` is missing; this folder is no evidence"]);
}

fn sha256(bytes: &[u8]) -> String {
    hash(HashAlgorithm::Sha256, bytes).to_string().trim_start_matches("sha256:").to_owned()
}

/// Writes a statement that agrees with the files as they now are. Only who holds the key can do that to a signed pack.
fn restate(files: &mut Files, edit: impl Fn(&mut Value)) {
    let mut envelope: Value = serde_json::from_slice(&files["statement.json"]).unwrap();
    let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    let mut statement: Value = serde_json::from_slice(&payload).unwrap();
    for (name, digest) in statement["predicate"]["files"].as_object_mut().unwrap() {
        *digest = json!({ "bytes": files[name].len(), "sha256": sha256(&files[name]) });
    }
    edit(&mut statement);
    envelope["payload"] = STANDARD.encode(statement.to_string()).into();
    files.insert("statement.json".to_owned(), format!("{envelope}\n").into_bytes());
}

fn edit_json(files: &mut Files, name: &str, edit: impl Fn(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&files[name]).unwrap();
    edit(&mut value);
    files.insert(name.to_owned(), format!("{value:#}\n").into_bytes());
}

/// A maker who lies is found by what the log and the manifests say.
#[tokio::test(flavor = "multi_thread")]
async fn lies_of_the_maker_are_told_from_the_truth() {
    let honest = pack(false).await;
    let mut same = honest.clone();
    restate(&mut same, |_| ());
    assert_eq!(same, honest, "without a lie the statement is the same");
    let problems = async |files: &Files| verify_evidence(files, None).await.problems;

    let mut files = honest.clone();
    edit_json(&mut files, "graph.json", |graph| {
        let edges = graph["edges"].as_array_mut().unwrap();
        let hit = edges.iter_mut().find(|edge| edge["cells"].is_u64()).unwrap();
        hit["cells"] = 1_000.into();
    });
    restate(&mut files, |_| ());
    let found = problems(&files).await;
    assert!(found.len() == 1 && found[0].starts_with("`graph.json`: edges["), "{found:?}");
    assert!(found[0].contains("].cells is 1000, and the log and the manifests say "), "{found:?}");

    let mut files = honest.clone();
    edit_json(&mut files, "runs.json", |runs| runs["uses"] = json!([]));
    restate(&mut files, |_| ());
    assert_eq!(
        problems(&files).await,
        ["`runs.json`: uses[] has 0 rows, and the log and the manifests give 3"]
    );

    let mut files = honest.clone();
    edit_json(&mut files, "definitions.json", |versions| versions[0]["praise"] = "good".into());
    restate(&mut files, |_| ());
    assert_eq!(problems(&files).await, ["`definitions.json`: [0].praise follows from nothing in the log"]);

    let mut files = honest.clone();
    restate(&mut files, |statement| {
        statement["subject"][1]["digest"]["lmt1_blake3"] = "00".repeat(32).into()
    });
    let found = problems(&files).await;
    assert!(found.len() == 1 && found[0].contains("the log and the manifests say"), "{found:?}");

    let manifest = honest.keys().find(|name| name.starts_with("objects/training_sets/")).unwrap();
    let mut files = honest.clone();
    let text = String::from_utf8(files[manifest].clone()).unwrap().replacen("\"rows\":", "\"rows\":1", 1);
    files.insert(manifest.clone(), text.into_bytes());
    restate(&mut files, |_| ());
    assert_eq!(
        problems(&files).await,
        [format!("`{manifest}` was altered: it does not give the digest that the log holds")]
    );

    // An entry that was edited breaks the chain; one that was taken from the end is not what was stated.
    let mut files = honest.clone();
    let log = String::from_utf8(files["log.jsonl"].clone()).unwrap();
    files.insert(
        "log.jsonl".to_owned(),
        log.replacen("\"principal\":\"tester\"", "\"principal\":\"nobody\"", 3).into_bytes(),
    );
    restate(&mut files, |_| ());
    let found = problems(&files).await;
    assert!(found.len() == 1 && found[0].contains("was altered"), "{found:?}");
    let mut files = honest.clone();
    let shorter = log.trim_end().rsplit_once('\n').unwrap().0;
    files.insert("log.jsonl".to_owned(), format!("{shorter}\n").into_bytes());
    restate(&mut files, |_| ());
    let found = problems(&files).await;
    assert!(found.len() == 1 && found[0].contains("an entry was altered, added or taken away"), "{found:?}");

    let mut files = honest.clone();
    restate(&mut files, |statement| statement["predicate"]["about"]["label"] = "delay/7".into());
    let found = problems(&files).await;
    assert_eq!(found, ["`statement.json` is about `delay/7`, which the log calls `delay/1`"]);
}
