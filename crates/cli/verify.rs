//! `lineament verify`: the store, or a folder of evidence.

mod evidence;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serving::Result;

use crate::report::Format;
use crate::session::Place;

/// As of all damage.
const DAMAGED: u8 = 4;

/// Check the whole store: log, checkpoints, manifests, files; or a folder of evidence, without any store
#[derive(Args)]
pub struct Arguments {
    /// As `lineament evidence` wrote it; without, the store is checked
    folder: Option<PathBuf>,
    /// The signer's public key, as you have it from them; else the key in the folder, which shows only that the folder is whole
    #[arg(long, requires = "folder")]
    public_key: Option<PathBuf>,
    /// Read all contents too: every block, every row, every table of a checkpoint
    #[arg(long, conflicts_with = "folder")]
    full: bool,
    /// Remove damaged checkpoints, which the log gives again; nothing else is ever removed
    #[arg(long, conflicts_with = "folder")]
    mend: bool,
    #[arg(long, value_enum, default_value_t = Format::Text, conflicts_with = "folder")]
    format: Format,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    match arguments.folder {
        Some(folder) => evidence::run(&folder, arguments.public_key.as_deref()).await,
        None => store::run(place, &arguments).await,
    }
}
