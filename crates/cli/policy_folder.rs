//! The policies beside definitions: every `.cedar` in their folder's `policies`.

use std::path::Path;

use feature::policy::PolicyFile;
use serving::Result;

use crate::definitions_folder::with_ending;
use crate::session::file_error;

/// The policies of a folder of definitions; none where it has no `policies` or nothing is in it: then the store's stay as they are.
pub fn beside(definitions: &Path) -> Result<Option<Vec<PolicyFile>>> {
    let folder = definitions.join("policies");
    if !folder.is_dir() {
        return Ok(None);
    }
    let files = of(&folder)?;
    Ok((!files.is_empty()).then_some(files))
}

/// Every `.cedar` of a folder, by its bare name and in the order of the names.
pub fn of(folder: &Path) -> Result<Vec<PolicyFile>> {
    let mut files = Vec::new();
    for path in with_ending(folder, "cedar")? {
        let text = std::fs::read_to_string(&path).map_err(|error| file_error(&path, error))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        files.push(PolicyFile { name, text });
    }
    Ok(files)
}
