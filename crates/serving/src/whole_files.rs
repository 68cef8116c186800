//! Data files read from end to end. Ordinary reads check the blocks that they touch; a proof checks them all.

use catalog::Catalog;
use feature::digest::hash;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use storage::manifest::DataFile;

use crate::error::{Error, Kind, Result};

/// Bytes that are read at once, about.
const BYTES: usize = 4 << 20;

/// Compares the size and every block of a file with its manifest.
///
/// # Errors
/// `Damaged` names a file that is gone, has another size, or was altered.
pub(crate) async fn check(catalog: &Catalog, file: &DataFile) -> Result<()> {
    let objects = catalog.store().objects();
    let path = Path::from(file.path.as_str());
    let failed = |error: object_store::Error| Error::from(catalog::Error::from(storage::Error::from(error)));
    let found = objects.head(&path).await.map_err(failed)?.size;
    if found != file.bytes {
        let (path, bytes) = (&file.path, file.bytes);
        let why = format!("data file `{path}` has {found} bytes, and its manifest says {bytes}");
        return Err(Error::new(Kind::Damaged, why));
    }
    let block_bytes = file.block_bytes as usize;
    let at_once = (BYTES / block_bytes).max(1);
    for (at, blocks) in file.blocks.chunks(at_once).enumerate() {
        let from = (at * at_once * block_bytes) as u64;
        let until = (from + (blocks.len() * block_bytes) as u64).min(file.bytes);
        let bytes = objects.get_range(&path, from..until).await.map_err(failed)?;
        let mut found = bytes.chunks(block_bytes);
        for (place, expected) in blocks.iter().enumerate() {
            let block = found.next().unwrap_or_default();
            if hash(expected.algorithm(), block) != *expected {
                let number = at * at_once + place;
                return Err(Error::new(
                    Kind::Damaged,
                    format!(
                        "data file `{}` was altered: block {number} does not give the digest of its manifest",
                        file.path
                    ),
                ));
            }
        }
    }
    Ok(())
}
