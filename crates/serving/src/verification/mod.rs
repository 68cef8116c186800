//! Verification of a whole store: is every object what was written?
//!
//! It opens nothing, so that a damaged store can be looked at too, and reads no row to anybody. It goes the way of the
//! references: the log as a chain and as a fold, the checkpoints beside it, the objects that its records name, the data
//! files that manifests name, the spines of training sets. What is found wrong is named, with what it harms and what to do;
//! what nobody names is told of and is no fault.

mod chain;
mod checkpoints;
mod condemned;
mod inventory;
mod mending;
mod objects;
mod report;

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use storage::Store;

pub use report::{Fault, Harm, Orphan, StoreVerification, VerifyProgress};

use crate::error::{Error, Result};
use chain::Walk;
use checkpoints::Descriptions;
use condemned::{Absent, Missing};
use inventory::Inventory;
use objects::{Checker, FileOf, Looked, Reference};

/// How a store is verified.
#[derive(Clone, Copy, Debug, Default)]
pub struct VerifyRequest {
    /// Read the contents of all objects too. Without, only metadata is read: log, manifests and descriptions; of the other
    /// objects the size.
    pub full: bool,
    /// Remove damaged checkpoints, where the log is whole and so gives them again. Nothing else is ever removed.
    pub mend: bool,
}

/// Entries of the log that are looked at before the objects that they name are.
const ENTRIES: u64 = 1_024;
/// Objects that are looked at a time. The few that are large are bounded apart.
const OBJECTS: usize = 32;

/// Verifies a store.
///
/// # Errors
/// `NotFound` where there is no store. `Unavailable` where the storage fails: what it cannot give now is neither right nor
/// wrong. What is wrong with the store is no error, but stands in the answer.
pub async fn verify_store(
    store: &Store,
    request: VerifyRequest,
    progress: Arc<dyn Fn(VerifyProgress) + Send + Sync>,
) -> Result<StoreVerification> {
    let inventory = Arc::new(Inventory::list(store).await?);
    if inventory.newest_entry().is_none() && !store.is_initialized().await.map_err(catalog::Error::from)? {
        return Err(catalog::Error::from(storage::Error::not_a_store(store.location())).into());
    }
    let descriptions = Descriptions::read(store, &inventory).await?;
    let checker = Checker::new(store.clone(), inventory.clone(), request.full, progress);
    let mut report = StoreVerification::of(store.location(), request.full);
    report.faults.extend(descriptions.faults.iter().cloned());
    report.notes.extend(descriptions.notes.iter().cloned());

    let mut walk = Walk::new(store, &inventory, &descriptions, request.full);
    let mut absent = Absent::default();
    loop {
        let more = walk.entries(ENTRIES, &mut report).await?;
        let references = std::mem::take(&mut walk.references);
        look_at(&checker, references, &mut absent, &mut report).await?;
        if !more {
            break;
        }
    }
    walk.conclude(&mut report);
    let mut bound = std::mem::take(&mut walk.bound);
    if report.faults.iter().any(Fault::is_missing) {
        bound.join(condemned::bound_since(store, report.head).await?);
    }
    // What was erased is not there, as it should be.
    report.faults.retain(|fault| !(fault.is_missing() && bound.erases(&fault.object)));
    report.faults.extend(absent.faults(store, bound, report.head).await?);
    checkpoints::verify_parts(&checker, &descriptions, &mut report).await?;
    if request.full {
        checkpoints::verify_states(store, &descriptions, &walk.of_later_programs, &mut report).await?;
    }
    objects::name_harmed_sets(&checker, &walk.training_sets, &mut report).await?;
    report.objects = checker.looked_at();
    report.bytes = checker.bytes();
    let (orphans, unnamed) = inventory.orphans(store).await?;
    report.orphans = orphans;
    report.orphan_objects = unnamed;
    report.sort();
    if request.mend {
        mending::mend(store, &descriptions, &mut report).await?;
    }
    Ok(report)
}

/// Looks at what the log names, and then at the data files that the manifests among it name.
async fn look_at(
    checker: &Checker,
    references: Vec<Reference>,
    absent: &mut Absent,
    report: &mut StoreVerification,
) -> Result<()> {
    let mut files: Vec<FileOf> = Vec::new();
    let mut looked = futures::stream::iter(references)
        .map(|reference| async move { checker.reference(reference).await })
        .buffered(OBJECTS);
    while let Some(found) = looked.try_next().await? {
        report.faults.extend(found.faults);
        files.extend(found.files);
        if let Some((owner, fault)) = found.missing {
            absent.missing(Missing { owner, batches: Vec::new(), newest: None, fault });
        }
        if let Some(replacement) = found.replacement {
            absent.replaced(replacement);
        }
    }
    drop(looked);
    let mut looked = futures::stream::iter(files)
        .map(|file| async move {
            let (owner, batches, newest) = (file.owner, file.batches.clone(), file.newest());
            Ok::<_, Error>((owner, batches, newest, checker.data_file(file).await?))
        })
        .buffered(OBJECTS);
    while let Some((owner, batches, newest, looked)) = looked.try_next().await? {
        match looked {
            Looked::Missing(fault) => absent.missing(Missing { owner, batches, newest, fault }),
            Looked::Found(faults) => report.faults.extend(faults),
        }
    }
    Ok(())
}

/// A failure of the storage, which says nothing of what it holds.
fn unavailable(error: object_store::Error) -> Error {
    catalog::Error::from(storage::Error::from(error)).into()
}
