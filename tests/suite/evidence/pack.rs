//! What a pack holds.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serving::{EvidenceRequest, Kind, PublicKey, SigningKey, verify_evidence};

use super::super::fixture;
use super::super::stores::{author, folder, select};
use super::story::{key, of, tell};

fn json(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Value {
    serde_json::from_slice(&files[name]).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The statement within its envelope.
fn statement(files: &BTreeMap<String, Vec<u8>>) -> Value {
    let envelope = json(files, "statement.json");
    assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
    let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_tells_of_a_model_and_holds() {
    let root = tempfile::tempdir().unwrap();
    let story = tell(root.path()).await;
    let head = story.serving.catalog().state().head.sequence;
    let pack = story.serving.evidence(&of("delay@champion"), Some(&key())).await.unwrap();
    assert_eq!((pack.subject.as_str(), pack.sequence), ("delay/1", head));
    assert_eq!(story.serving.catalog().refresh().await.unwrap().head.sequence, head, "evidence only reads");
    let files = &pack.files;

    let found = verify_evidence(files, None).await;
    assert_eq!(found.problems, Vec::<String>::new());
    assert_eq!(found.subject, "model version delay/1");
    assert_eq!((found.entries as u64, found.files), (head.0 + 1, files.len()));
    assert_eq!(found.signed_by, Some(key().public().id()));
    let found = verify_evidence(files, Some(&key().public())).await;
    assert!(found.holds());

    // Subjects are the sets that the model's run used, by their content, and the model.
    let statement = statement(files);
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    let manifest = story.serving.manifest(story.train).await.unwrap();
    let subjects: BTreeMap<&str, &Value> = statement["subject"]
        .as_array()
        .unwrap()
        .iter()
        .map(|subject| (subject["name"].as_str().unwrap(), &subject["digest"]))
        .collect();
    let (train, test) = (format!("training_sets/{}", story.train), format!("training_sets/{}", story.test));
    let names: BTreeSet<&str> = subjects.keys().copied().collect();
    assert_eq!(names, BTreeSet::from(["models/delay/1", train.as_str(), test.as_str()]));
    assert_eq!(
        format!("lmt1:blake3:{}", subjects[train.as_str()]["lmt1_blake3"].as_str().unwrap()),
        manifest.digest
    );

    // Cells are those of the system view.
    let (_, rows) = select(&story.serving, "SELECT sum(cells) FROM lineament.edges WHERE \"edge\" = 'hit'")
        .await
        .unwrap();
    let all = super::super::values::read(rows[0].column(0));
    let graph = json(files, "graph.json");
    let cells: u64 =
        graph["edges"].as_array().unwrap().iter().filter_map(|edge| edge["cells"].as_u64()).sum();
    // The other set has its cells from the same batch; it is no part of this model.
    let other = story.serving.manifest(story.other).await.unwrap();
    let elsewhere: u64 = other.views.iter().flat_map(|view| &view.hits).map(|hit| hit.rows).sum();
    assert!(cells > 0 && elsewhere > 0);
    assert_eq!(Some(super::super::values::Value::Int((cells + elsewhere).into())), all[0]);
    assert!(!graph.to_string().contains(&story.other.to_string()));

    // What else an auditor asks for.
    let of_runs = json(files, "runs.json");
    assert_eq!(of_runs["experiments"][0]["hypothesis"], "weather explains delays");
    let run = |name: &str| {
        let runs = of_runs["runs"].as_array().unwrap();
        runs.iter()
            .find(|run| run["external"]["id"] == name)
            .unwrap_or_else(|| panic!("no run {name}"))
            .clone()
    };
    assert_eq!(run("train-1")["body"]["metrics"]["auc"], 0.7);
    run("load-1");
    assert_eq!(of_runs["uses"].as_array().unwrap().len(), 3);
    let aliases = json(files, "aliases.json");
    assert_eq!(aliases[0]["until_seen_at"], aliases[1]["seen_at"]);
    assert!(aliases[1]["until_seen_at"].is_null() && aliases[1]["not_before"].is_string());
    assert_eq!(
        json(files, "deployments.json")[0]["changes"][0]["model_version"],
        json(files, "models.json")[0]["model_version"]
    );
    assert_eq!(json(files, "models.json").as_array().unwrap().len(), 1);
    assert_eq!(json(files, "verifications.json")[0]["verdict"], "equal");
    let of_files = json(files, "files.json");
    let batches = of_files.as_array().unwrap();
    assert_eq!(batches.len(), 2, "the correction came after the sets");
    for batch in batches {
        assert_eq!(batch["origin"]["steps"][0], "cleaned");
        for file in batch["files"].as_array().unwrap() {
            let stored = std::fs::read(root.path().join(file["path"].as_str().unwrap())).unwrap();
            let digest = feature::digest::hash(feature::digest::HashAlgorithm::Blake3, &stored);
            assert_eq!(file["digest"], digest.to_string());
        }
    }
    let definitions = json(files, "definitions.json");
    let labels: Vec<&str> = definitions
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["view_version"].as_str().unwrap())
        .collect();
    assert_eq!(labels, ["departures@1", "weather@1"]);
    assert!(!json(files, "column_edges.json").as_array().unwrap().is_empty());
    // No rows leave the store: neither values of features nor of spines.
    for (name, bytes) in files {
        assert!(!name.contains("spines/") && !name.contains("data/"), "{name}");
        assert!(!String::from_utf8_lossy(bytes).contains("39.02"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_store_gives_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    let story = tell(root.path()).await;
    let (_, text) = SigningKey::generate().unwrap();
    let key = SigningKey::from_pem(&text).unwrap();
    for subject in ["delay/1".to_owned(), "train".to_owned(), story.other.to_string()] {
        let first = story.serving.evidence(&of(&subject), Some(&key)).await.unwrap();
        let again = folder(root.path(), &fixture::later()).await;
        assert_eq!(again.evidence(&of(&subject), Some(&key)).await.unwrap().files, first.files, "{subject}");
        // Also as of then, when more has come.
        again.replay(story.train, &author()).await.unwrap();
        let then = EvidenceRequest { subject: subject.clone(), sequence: Some(first.sequence) };
        assert_eq!(again.evidence(&then, Some(&key)).await.unwrap().files, first.files, "{subject}");
        let now = again.evidence(&of(&subject), Some(&key)).await.unwrap();
        assert_ne!(now.files["statement.json"], first.files["statement.json"]);
        assert!(verify_evidence(&now.files, Some(&key.public())).await.holds());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signed_is_not_who_was_expected() {
    let root = tempfile::tempdir().unwrap();
    let story = tell(root.path()).await;
    let (stranger, _) = SigningKey::generate().unwrap();
    let pack = story.serving.evidence(&of("delay/1"), Some(&stranger)).await.unwrap();
    assert!(verify_evidence(&pack.files, None).await.holds());
    let found = verify_evidence(&pack.files, Some(&key().public())).await;
    assert_eq!(
        found.problems,
        [format!(
            "`statement.json` is signed by the key {}, not by {}",
            stranger.public().id(),
            key().public().id()
        )]
    );
    let unsigned = story.serving.evidence(&of("delay/1"), None).await.unwrap();
    let found = verify_evidence(&unsigned.files, None).await;
    assert!(found.holds() && found.signed_by.is_none());
    let found = verify_evidence(&unsigned.files, Some(&key().public())).await;
    assert_eq!(found.problems, ["`statement.json` is not signed"]);
    assert!(PublicKey::from_pem("").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_evidence_cannot_be_given_of_is_said() {
    let root = tempfile::tempdir().unwrap();
    let story = tell(root.path()).await;
    for (subject, kind, says) in [
        ("delay/9", Kind::NotFound, "did you mean `delay/1`"),
        ("weather@1", Kind::Invalid, "`weather@1` is a view version; evidence is of a model version"),
        ("delay/2", Kind::Invalid, "no training set leads to the model version delay/2"),
    ] {
        let wrong = story.serving.evidence(&of(subject), None).await.unwrap_err();
        assert_eq!(wrong.kind(), kind, "{wrong}");
        assert!(wrong.to_string().contains(says), "{wrong}");
    }
    let later = EvidenceRequest { subject: "delay/1".to_owned(), sequence: Some(feature::Sequence(1_000)) };
    let wrong = story.serving.evidence(&later, None).await.unwrap_err().to_string();
    assert!(wrong.contains("the log ends at sequence"), "{wrong}");
    // What the store lost cannot be shown.
    let manifest =
        story.serving.catalog().state().training_set(story.test).unwrap().record.manifest.path.clone();
    std::fs::remove_file(root.path().join(&manifest)).unwrap();
    let wrong = story.serving.evidence(&of("delay/1"), None).await.unwrap_err();
    assert_eq!(wrong.kind(), Kind::Damaged);
    assert!(wrong.to_string().contains(&manifest), "{wrong}");
}
