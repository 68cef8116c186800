//! `lineament import`

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::{Args, Subcommand};
use serving::{Error, Kind, Result};

use crate::session::Place;

/// Bring what another feature store defines
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    from: From,
}

#[derive(Subcommand)]
enum From {
    Feast(Feast),
}

/// Bring a Feast repository: its definitions, its file sources, and one retrieval on both, compared cell by cell
///
/// Only Python can read Feast's definitions: the package `lineament.feast` does, in an environment that has Feast too.
#[derive(Args)]
struct Feast {
    /// The folder with feature_store.yaml, or the one above its feature_repo
    repo: PathBuf,
    /// Where the definitions are written
    #[arg(long, default_value = "features")]
    folder: PathBuf,
    /// Bring them to a server that runs, and not to the store
    #[arg(long)]
    url: Option<String>,
    /// Only write the definitions
    #[arg(long, conflicts_with = "url")]
    only_definitions: bool,
    /// About how many rows a view are compared; 0 for none
    #[arg(long, default_value_t = 1000)]
    rows: u64,
    /// The Python of an environment that has Feast and `lineament`; without it the one beside this program, else python3 of the PATH
    #[arg(long, env = "LINEAMENT_PYTHON")]
    python: Option<PathBuf>,
}

/// Prints the names of the packages that are not there.
const MISSING: &str = "
import importlib.util, json
print(json.dumps([name for name in ('lineament', 'feast') if importlib.util.find_spec(name) is None]))
";

pub fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    match arguments.from {
        From::Feast(feast) => feast.run(place),
    }
}

impl Feast {
    fn run(self, place: &Place) -> Result<ExitCode> {
        let program = env::current_exe().map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        let python = self.python.clone().unwrap_or_else(|| beside(&program));
        see_packages(&python)?;
        let mut import = Command::new(&python);
        import.args(["-m", "lineament.feast"]).arg(&self.repo).arg("--folder").arg(&self.folder);
        import.arg("--rows").arg(self.rows.to_string());
        match &self.url {
            Some(url) => import.arg("--url").arg(url),
            None if self.only_definitions => &mut import,
            None => import.arg("--store").arg(&place.store),
        };
        // The store is served by this program, and by no other that the environment has.
        let done = import.env("LINEAMENT_BIN", program).status();
        let done = done.map_err(|error| no_python(&python, &error))?;
        Ok(done.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
    }
}

/// Asks Python for both packages, so that what is missing is said before anything is done.
fn see_packages(python: &Path) -> Result<()> {
    let seen = Command::new(python).args(["-c", MISSING]).stdin(Stdio::null()).output();
    let seen = seen.map_err(|error| no_python(python, &error))?;
    // What else Python prints as it starts stands before it.
    let printed = String::from_utf8_lossy(&seen.stdout);
    let last = printed.lines().last().unwrap_or_default();
    let missing: Option<Vec<String>> = serde_json::from_str(last).ok().filter(|_| seen.status.success());
    let Some(missing) = missing else {
        let said = String::from_utf8_lossy(&seen.stderr);
        let why = said.lines().last().map_or_else(|| seen.status.to_string(), str::to_owned);
        return Err(Error::new(
            Kind::NotFound,
            format!(
                "{} does not say which packages it has: {why}; name the Python of Feast's environment by --python",
                python.display()
            ),
        ));
    };
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join("`, `");
    Err(Error::new(
        Kind::NotFound,
        format!(
            "{} has no package `{missing}`, without which Feast's definitions cannot be read; name the Python of the environment \
                 that the repository is used in by --python, and install `{missing}` there",
            python.display()
        ),
    ))
}

/// The Python of the environment that this program was installed into, where it was.
fn beside(program: &Path) -> PathBuf {
    let beside = program.with_file_name("python");
    if beside.exists() { beside } else { PathBuf::from("python3") }
}

fn no_python(python: &Path, error: &std::io::Error) -> Error {
    Error::new(
        Kind::NotFound,
        format!(
            "{} cannot be run: {error}; name the Python of Feast's environment by --python",
            python.display()
        ),
    )
}
