//! What can be mended without a copy of the store: checkpoints, which the log gives again.

use std::collections::BTreeSet;

use object_store::ObjectStoreExt;
use object_store::path::Path;
use storage::Store;

use super::checkpoints::{Descriptions, parts};
use super::report::{Harm, StoreVerification};
use super::unavailable;
use crate::error::Result;

/// Removes checkpoints that are damaged or hold a wrong state, descriptions first, so that no reader finds one of which a
/// table is gone.
///
/// Where anything of the log is wrong nothing is removed: a checkpoint may then be all that is left of it.
pub(super) async fn mend(
    store: &Store,
    descriptions: &Descriptions,
    report: &mut StoreVerification,
) -> Result<()> {
    let of_log = |object: &str| object.starts_with("log/");
    let cut = |harm: &Harm, object: &str| matches!(harm, Harm::Log { .. }) && of_log(object);
    let ahead = descriptions.newest() > report.head;
    if ahead || report.faults.iter().any(|fault| fault.harms.iter().any(|harm| cut(harm, &fault.object))) {
        report.notes.push(
            "nothing was mended: the log is damaged, and checkpoints may help to restore it".to_owned(),
        );
        return Ok(());
    }
    let faulty: BTreeSet<String> = report
        .faults
        .iter()
        .map(|fault| fault.object.clone())
        .filter(|object| object.starts_with("checkpoints/"))
        .collect();
    if faulty.is_empty() {
        return Ok(());
    }
    let mut removed: BTreeSet<String> =
        faulty.iter().filter(|object| object.ends_with(".json")).cloned().collect();
    for description in descriptions.all() {
        if parts(description).any(|part| faulty.contains(part.path().as_ref())) {
            removed.insert(descriptions.object_of(description));
        }
    }
    for object in removed.iter().chain(faulty.difference(&removed)) {
        match store.objects().delete(&Path::from(object.as_str())).await {
            // A table that was missing is gone with those who named it.
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(unavailable(error)),
        }
    }
    for fault in report.faults.iter_mut().filter(|fault| faulty.contains(&fault.object)) {
        fault.mended = true;
    }
    for object in removed.difference(&faulty) {
        report.notes.push(format!("{object} was removed too: it named a damaged table"));
    }
    Ok(())
}
