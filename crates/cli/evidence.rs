//! `lineament evidence`

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serving::{Error, EvidenceRequest, Kind, Result, SigningKey};

use crate::session::{Place, file_error};
use crate::table::grouped;

/// Write a folder that shows an auditor what a model or a training set was made of, and can be checked without the store
#[derive(Args)]
pub struct Arguments {
    /// A model version (delay/3, delay@champion) or a training set, by name or id
    subject: String,
    /// The folder to write; it must not exist yet, or be empty
    #[arg(long)]
    out: PathBuf,
    /// The private key to sign with, as `lineament evidence-key` makes one; unsigned where it is left out
    #[arg(long)]
    key: Option<PathBuf>,
    /// As of an earlier sequence
    #[arg(long)]
    sequence: Option<u64>,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let Arguments { subject, out, key, sequence } = arguments;
    let key = match &key {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| file_error(path, error))?;
            let read = SigningKey::from_pem(&text);
            Some(read.map_err(|error| Error::new(Kind::Invalid, format!("`{}`: {error}", path.display())))?)
        }
    };
    refuse_full(&out)?;
    let request = EvidenceRequest { subject, sequence: sequence.map(feature::Sequence) };
    let serving = place.open().await?;
    serving.require_everything(&place.author(), "evidence, which holds the log").await?;
    let evidence = serving.evidence(&request, key.as_ref()).await?;
    for (name, bytes) in &evidence.files {
        write(&out.join(name), bytes)?;
    }
    let bytes: usize = evidence.files.values().map(Vec::len).sum();
    println!(
        "evidence for {} as of sequence {}: {} files, {} bytes in {}",
        evidence.subject,
        evidence.sequence,
        grouped(evidence.files.len() as u64),
        grouped(bytes as u64),
        out.display()
    );
    match &key {
        Some(key) => println!("signed by {}", key.public().id()),
        None => println!("not signed: give --key to say who made it"),
    }
    println!("`lineament verify {}` checks it", out.display());
    Ok(ExitCode::SUCCESS)
}

/// A folder with other files in it would not verify.
fn refuse_full(folder: &Path) -> Result<()> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Error::new(
                Kind::Invalid,
                format!("`{}` is not empty; name a folder that does not exist yet", folder.display()),
            )),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file_error(folder, error)),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| {
        Error::new(Kind::Invalid, format!("`{}` cannot be written: {error}", path.display()))
    })
}
