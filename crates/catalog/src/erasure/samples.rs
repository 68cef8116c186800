//! Profiles of what passed by. Its rows are not kept, so that nobody can tell which of the values are a key's: they go whole, and what the
//! comparison found stays.

use std::collections::{BTreeMap, BTreeSet};

use feature::{VersionId, ViewId};

use super::key::{EntityKey, TypedKey};
use crate::error::Result;
use crate::state::State;

/// One entry names so many.
const AT_ONCE: usize = 50_000;

/// The profiles of samples of some views whose share the key is in, by their paths, and how many more there are than one entry can name.
///
/// # Errors
/// None that is known.
pub fn sampled(state: &State, key: &EntityKey, views: &BTreeSet<ViewId>) -> Result<(Vec<String>, u64)> {
    let mut keys: BTreeMap<VersionId, Option<TypedKey>> = BTreeMap::new();
    let (mut found, mut more) = (Vec::new(), 0);
    for sample in state.samples().all() {
        let (record, path) = (&sample.record, &sample.record.profile.path);
        if !views.contains(&record.view) || state.erasures().took(path) {
            continue;
        }
        let typed = keys.entry(record.version).or_insert_with(|| {
            let version = state.view_version(record.version)?;
            key.typed(version.keys())
        });
        let Some(typed) = typed else { continue };
        if !typed.is_in_share(record.share)? {
            continue;
        }
        if found.len() < AT_ONCE {
            found.push(path.clone());
        } else {
            more += 1;
        }
    }
    Ok((found, more))
}
