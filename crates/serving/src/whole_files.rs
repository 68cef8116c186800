//! Data files read from end to end. Ordinary reads check the blocks that they touch; a proof checks them all.

use catalog::Catalog;
use feature::digest::hash;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use storage::manifest::{BLOCK_BYTES, DataFile};

use crate::error::{Error, Kind, Result};

/// Blocks that are read at once.
const BLOCKS: usize = 64;

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
    for (at, blocks) in file.blocks.chunks(BLOCKS).enumerate() {
        let from = (at * BLOCKS * BLOCK_BYTES) as u64;
        let until = (from + (blocks.len() * BLOCK_BYTES) as u64).min(file.bytes);
        let bytes = objects.get_range(&path, from..until).await.map_err(failed)?;
        let mut found = bytes.chunks(BLOCK_BYTES);
        for (place, expected) in blocks.iter().enumerate() {
            let block = found.next().unwrap_or_default();
            if hash(expected.algorithm(), block) != *expected {
                let number = at * BLOCKS + place;
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
