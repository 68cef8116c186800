//! What a local folder must be like to hold a store.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Component, Path, PathBuf};

use feature::Sequence;

use crate::error::{Error, Result};
use crate::log::object_name;

/// The absolute path with every link above the folder resolved, so that one changed later cannot lead a running
/// program elsewhere. The folder and those above it need not exist.
pub(super) fn resolve(path: &Path) -> Result<PathBuf> {
    let failed = |error: io::Error| unusable(path, &error);
    let absolute = std::path::absolute(path).map_err(failed)?;
    if let Ok(metadata) = fs::symlink_metadata(&absolute)
        && metadata.is_symlink()
    {
        let target = fs::read_link(&absolute).map_err(failed)?;
        return Err(wrong(
            path,
            format!("it is a symbolic link to {}; give that path itself", target.display()),
        ));
    }
    let mut missing = Vec::new();
    let mut above = absolute.as_path();
    loop {
        match fs::canonicalize(above) {
            Ok(resolved) => {
                let mut root = resolved;
                root.extend(missing.into_iter().rev());
                return Ok(root);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let Some(Component::Normal(name)) = above.components().next_back() else {
                    return Err(wrong(path, "it leads through a folder that does not exist".to_owned()));
                };
                missing.push(name);
                let Some(parent) = above.parent() else { return Err(failed(error)) };
                above = parent;
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Whether a store is here or may be made here.
pub(super) fn inspect(root: &Path) -> Result<()> {
    let failed = |error: io::Error| unusable(root, &error);
    match fs::symlink_metadata(root) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(wrong(root, "it is a file, and a store is a folder".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    let mut foreign = false;
    for entry in fs::read_dir(root).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_symlink() {
            return Err(wrong(
                &entry.path(),
                "it is a symbolic link, which could lead out of the store".to_owned(),
            ));
        }
        foreign |= !left_by_a_crash(&entry).map_err(failed)?;
    }
    let first = root.join(object_name(Sequence::ZERO));
    match fs::symlink_metadata(&first) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !foreign => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::not_a_store(root.display().to_string()))
        }
        Err(error) => Err(failed(error)),
    }
}

/// Whether this is what somebody leaves who is stopped before the first entry: nothing that anybody would miss.
fn left_by_a_crash(entry: &DirEntry) -> io::Result<bool> {
    let name = entry.file_name();
    if !entry.file_type()?.is_dir() {
        return Ok(false);
    }
    if name == "probe" {
        return Ok(true);
    }
    if name != "log" {
        return Ok(false);
    }
    for staged in fs::read_dir(entry.path())? {
        let staged = staged?.file_name();
        let digits = staged.to_str().and_then(|name| name.rsplit_once('#')).map(|(_, digits)| digits);
        if !digits
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn wrong(path: &Path, why: String) -> Error {
    Error::location(path.display().to_string(), why)
}

pub(super) fn unusable(path: &Path, error: &io::Error) -> Error {
    let why = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "it cannot be read with this user's rights; see who owns it".to_owned()
        }
        io::ErrorKind::NotADirectory => "a part of the path is a file, and a store is a folder".to_owned(),
        _ => error.to_string(),
    };
    wrong(path, why)
}
