//! `lineament evidence-key`

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serving::{Error, Kind, Result, SigningKey};

/// Make a key to sign evidence with
#[derive(Args)]
pub struct Arguments {
    /// The file of the private key; the public one goes beside it, with .pub at its end
    file: PathBuf,
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let (key, text) = SigningKey::generate()?;
    let mut public = arguments.file.clone().into_os_string();
    public.push(".pub");
    let public = PathBuf::from(public);
    create(&arguments.file, 0o600, &text)?;
    create(&public, 0o644, &key.public().pem())?;
    println!("private key: {} (whoever has it can sign; it is not encrypted)", arguments.file.display());
    println!("public key:  {} (give it to those who check)", public.display());
    println!("id:          {}", key.public().id());
    Ok(ExitCode::SUCCESS)
}

/// Never over a file that is there: it may be somebody's only key.
fn create(path: &Path, mode: u32, text: &str) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written
        .map_err(|error| Error::new(Kind::Invalid, format!("`{}` cannot be made: {error}", path.display())))
}
