//! Evidence from the command line.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use super::story::tell;

fn lineament(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineament"));
    command.current_dir(folder).args(arguments);
    // The store was made in 2013, by a clock of the tests.
    command.args(["--store", "store"]).output().unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_is_made_signed_checked_and_found_altered() {
    let root = tempfile::tempdir().unwrap();
    tell(&root.path().join("store")).await;
    let run = |arguments: &[&str]| {
        let output = lineament(root.path(), arguments);
        (output.status.code(), said(&output))
    };

    let (code, text) = run(&["evidence-key", "auditor.key"]);
    assert_eq!(code, Some(0), "{text}");
    let mode = |name: &str| std::fs::metadata(root.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("auditor.key"), mode("auditor.key.pub")), (0o600, 0o644));
    let (code, text) = run(&["evidence-key", "auditor.key"]);
    assert_eq!(code, Some(1), "a key is never written over: {text}");

    let make = ["evidence", "delay/1", "--out", "pack", "--key", "auditor.key"];
    let (code, text) = run(&make);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("evidence for delay/1 as of sequence") && text.contains("signed by sha256:"),
        "{text}"
    );
    let (code, text) = run(&make);
    assert!(code == Some(1) && text.contains("`pack` is not empty"), "{text}");

    let (code, text) = run(&["verify", "pack", "--public-key", "auditor.key.pub"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("holds: model version delay/1") && text.contains("the key that you gave"),
        "{text}"
    );
    let (code, text) = run(&["verify", "pack", "--public-key", "auditor.key"]);
    assert!(code == Some(1) && text.contains("must begin with -----BEGIN PUBLIC KEY-----"), "{text}");

    let graph = root.path().join("pack/graph.json");
    let bytes = std::fs::read_to_string(&graph).unwrap();
    std::fs::write(&graph, bytes.replacen("\"cells\": ", "\"cells\": 1", 1)).unwrap();
    let (code, text) = run(&["verify", "pack"]);
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("wrong: `graph.json` was altered"), "{text}");
    std::fs::write(&graph, bytes).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", root.path().join("pack/more.json")).unwrap();
    let (code, text) = run(&["verify", "pack"]);
    assert!(code == Some(4) && text.contains("neither a file nor a folder"), "{text}");

    let (code, text) = run(&["reconcile", "--deep"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = run(&["reconcile", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["broken"]), (Some(0), &0.into()), "{text}");
}
