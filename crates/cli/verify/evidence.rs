//! `lineament verify FOLDER`: evidence, without the store.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use serving::{Error, Kind, PublicKey, Result, verify_evidence};

use super::DAMAGED;
use crate::session::file_error;
use crate::table::grouped;

pub async fn run(folder: &Path, public_key: Option<&Path>) -> Result<ExitCode> {
    let key = match public_key {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| file_error(path, error))?;
            let read = PublicKey::from_pem(&text);
            Some(read.map_err(|error| Error::new(Kind::Invalid, format!("`{}`: {error}", path.display())))?)
        }
    };
    let mut files = BTreeMap::new();
    read(folder, "", &mut files)?;
    let found = verify_evidence(&files, key.as_ref()).await;
    if !found.holds() {
        for problem in &found.problems {
            println!("wrong: {problem}");
        }
        println!("{} does not hold: {} wrong", folder.display(), grouped(found.problems.len() as u64));
        return Ok(ExitCode::from(DAMAGED));
    }
    let sequence = found.sequence.map(|sequence| sequence.to_string()).unwrap_or_default();
    println!(
        "holds: {} as of sequence {sequence}; {} entries and {} files checked",
        found.subject,
        grouped(found.entries as u64),
        grouped(found.files as u64)
    );
    match (&found.signed_by, public_key) {
        (None, _) => println!("not signed: it agrees with itself, and nothing tells who made it"),
        (Some(id), Some(_)) => println!("signed by {id}, the key that you gave"),
        (Some(id), None) => {
            println!("signed by {id}, the key in the folder; give the signer's own by --public-key");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The files below a folder, by their path with `/` in between.
fn read(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(|error| file_error(folder, error))? {
        let entry = entry.map_err(|error| file_error(folder, error))?;
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().map_err(|error| file_error(&path, error))?;
        if kind.is_dir() {
            read(&path, &format!("{name}/"), files)?;
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).map_err(|error| file_error(&path, error))?;
            files.insert(name, bytes);
        } else {
            // A link leads out of what is checked.
            let why =
                format!("`{}` is neither a file nor a folder; evidence holds nothing else", path.display());
            return Err(Error::new(Kind::Damaged, why));
        }
    }
    Ok(())
}
