//! What nobody needs is deleted, nothing else is, and whoever was too slow is told so.

mod expired;
mod kept_spines;
mod leftovers;
mod replaced;
mod stalled;

use std::collections::BTreeSet;
use std::sync::Arc;

use catalog::Catalog;
use catalog::records::RetentionSet;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use serving::{Bounds, Serving, StoreVerification, SweepReport, SweepRequest, VerifyRequest, verify_store};
use storage::environment;

use crate::suite::stores::author;

/// All that can be condemned now: no clock is asked, so that all that is under way was begun before.
pub fn at_once(serving: &Serving) -> SweepRequest {
    let state = serving.catalog().state();
    let compacted = state.compactions().map(|one| one.by.sequence).max();
    let expired = state.expiry().expired().last().map(|one| one.by.sequence);
    let ever = feature::Timestamp(i64::MAX);
    let bounds = Bounds { before: environment::mint(), compacted, expired, kept: ever, dropped: ever };
    SweepRequest { bounds: Some(bounds), ..SweepRequest::default() }
}

async fn sweep(serving: &Serving) -> serving::Result<SweepReport> {
    serving.catalog().refresh().await?;
    serving.sweep(&at_once(serving), &author()).await
}

/// Everything of it is right, read from end to end.
pub async fn verified(serving: &Serving) -> StoreVerification {
    let request = VerifyRequest { full: true, mend: false };
    let found = verify_store(serving.catalog().store(), request, Arc::new(|_| ())).await.unwrap();
    assert_eq!(found.faults, []);
    found
}

async fn paths(serving: &Serving, folder: &str) -> BTreeSet<String> {
    let folder = Path::from(folder);
    let listed: Vec<ObjectMeta> =
        serving.catalog().store().objects().list(Some(&folder)).try_collect().await.unwrap();
    listed.into_iter().map(|object| object.location.to_string()).collect()
}

/// How many objects of a kind went.
fn gone(report: &SweepReport, kind: &str) -> u64 {
    report.gone.iter().filter(|group| group.kind == kind).map(|group| group.objects).sum()
}

async fn another(serving: &Serving) -> Serving {
    Serving::new(Catalog::open(serving.catalog().store().clone()).await.unwrap())
}

async fn set(serving: &Serving, grace: &str, longest_read: &str) {
    let wanted = RetentionSet { grace: grace.parse().unwrap(), longest_read: longest_read.parse().unwrap() };
    catalog::retention::set(serving.catalog(), &wanted, &author()).await.unwrap();
}

async fn delete(serving: &Serving, path: &str) {
    serving.catalog().store().objects().delete(&Path::from(path)).await.unwrap();
}
