//! The folder of definitions: every `.toml` in it, sources found from where their file lies.

use std::path::{Path, PathBuf};

use feature::definition::{Definitions, parse_files};
use serving::{Error, Kind, Result};

use crate::session::file_error;

/// Reads a folder's definitions. Patterns of sources become absolute, so that a later ingest finds them from anywhere.
pub fn read(folder: &Path) -> Result<Definitions> {
    let mut files = Vec::new();
    for path in with_ending(folder, "toml")? {
        let text = std::fs::read_to_string(&path).map_err(|error| file_error(&path, error))?;
        files.push((path.display().to_string(), text));
    }
    if files.is_empty() {
        return Err(Error::new(
            Kind::NotFound,
            format!(
                "`{}` holds no definitions (.toml); `lineament init --from data.parquet --key user_id --time ts` writes a first one",
                folder.display()
            ),
        ));
    }
    let mut definitions =
        parse_files(files).map_err(|errors| Error::new(Kind::Invalid, errors.to_string()))?;
    for declared in &mut definitions.views {
        let Some(source) = &mut declared.definition.source else { continue };
        let base = Path::new(&declared.file).parent().unwrap_or(Path::new("."));
        let joined = base.join(&source.files);
        let absolute = std::path::absolute(&joined).map_err(|error| file_error(&joined, error))?;
        source.files = simplified(&absolute);
    }
    Ok(definitions)
}

/// The files in a folder whose names end so, in their order.
pub fn with_ending(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| file_error(folder, error))? {
        let path = entry.map_err(|error| file_error(folder, error))?.path();
        if path.extension().is_some_and(|its| its == ending) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// `a/b/../c` as `a/c`; nothing is looked up, since the last part may be a pattern.
fn simplified(path: &Path) -> String {
    let mut parts: Vec<std::path::Component<'_>> = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir
                if matches!(parts.last(), Some(std::path::Component::Normal(_))) =>
            {
                parts.pop();
            }
            std::path::Component::CurDir => {}
            part => parts.push(part),
        }
    }
    parts.iter().collect::<std::path::PathBuf>().display().to_string()
}
