//! Training sets with rows of a key. What is left of them is proved before anything goes: the set is made again as it was recorded, and then
//! over the spine without the rows, which gives the leaves by which it is proved from then on.

use catalog::State;
use catalog::erasure::TypedKey;
use catalog::records::{ErasedSet, Replaced, Replacement};
use feature::{BodyId, TrainingSetId};
use lineage::Manifest;
use storage::environment;

use super::spines::rows_of;
use crate::error::{Error, Kind, Result};
use crate::historical::columns;
use crate::rebuilding::Differing;
use crate::retrieve::Serving;

/// A set, and what was written in the place of its manifest.
pub(super) struct FoundSet {
    pub record: ErasedSet,
    pub name: Option<String>,
    /// None for a dry run.
    pub replaced: Option<Replaced>,
    /// The object of its spine, which goes.
    pub spine: String,
}

impl Serving {
    pub(super) async fn sets_of(&self, state: &State, key: &TypedKey, writes: bool) -> Result<Vec<FoundSet>> {
        let mut found = Vec::new();
        for set in state.training_sets() {
            let id = set.record.training_set;
            let object = state.erasures().in_force(&set.record.manifest);
            let manifest = self.catalog().object(object).await?;
            let manifest: Manifest = serde_json::from_slice(&manifest)
                .map_err(|error| Error::new(Kind::Damaged, format!("`{}`: {error}", object.path)))?;
            let Some(spine) = self.open_spine(&manifest.spine.object).await? else {
                let gone = &manifest.spine.object.path;
                return Err(Error::new(
                    Kind::Damaged,
                    format!(
                        "the spine `{gone}` of training set {id} is gone; `lineament verify` says more. Nothing is erased"
                    ),
                ));
            };
            let Some(of_key) = rows_of(&spine, key).await? else { continue };
            let mut record = ErasedSet {
                training_set: id,
                rows: of_key.rows,
                blocks: of_key.blocks.into_iter().collect(),
                digest: None,
            };
            let name = set.record.name.clone();
            let gone = manifest.spine.object.path.clone();
            let mut replaced = None;
            if writes {
                let left = self.write_without(&spine, key, &manifest.spine).await?;
                let mut after = Manifest { spine: left, ..manifest.clone() };
                if self.is_as_recorded(&manifest).await {
                    record.digest = self.take_what_is_left(&mut after, &record.blocks).await?;
                }
                replaced = Some(self.replace(&after, id, object.path.clone()).await?);
            }
            found.push(FoundSet { record, name, replaced, spine: gone });
        }
        Ok(found)
    }

    /// Whether a set is made again as it was recorded. One that is not loses its rows all the same, and is proved by nothing then.
    async fn is_as_recorded(&self, manifest: &Manifest) -> bool {
        let made = async {
            let rebuilding = self.rebuilding(manifest.clone(), 0..manifest.spine.rows).await?;
            rebuilding.run(None, Differing::GoesOn).await
        };
        match made.await {
            Ok(Some(found)) => found.digest.digest.to_string() == manifest.digest,
            Ok(None) => false,
            Err(error) => {
                tracing::warn!(training_set = %manifest.id, %error, "a training set that loses rows cannot be made again");
                false
            }
        }
    }

    /// Gives a manifest the digests of what is left: blocks without rows of the key keep theirs.
    async fn take_what_is_left(&self, manifest: &mut Manifest, blocks: &[u64]) -> Result<Option<String>> {
        let rebuilding = self.rebuilding(manifest.clone(), 0..manifest.spine.rows).await?;
        let Some(found) = rebuilding.run(None, Differing::GoesOn).await? else { return Ok(None) };
        let left = columns(&found.digest);
        let untouched = |block: &usize| !blocks.contains(&(*block as u64));
        for (before, after) in manifest.columns.iter().zip(&left) {
            let mut others = (0..before.leaves.len()).filter(untouched);
            if before.name != after.name
                || others.any(|block| before.leaves.get(block) != after.leaves.get(block))
            {
                return Err(Error::internal(
                    "a training set cannot lose its rows",
                    "blocks without one would change",
                ));
            }
        }
        let digest = found.digest.digest.to_string();
        manifest.columns = left;
        manifest.digest.clone_from(&digest);
        Ok(Some(digest))
    }

    async fn replace(&self, manifest: &Manifest, id: TrainingSetId, before: String) -> Result<Replaced> {
        let bytes = serde_json::to_vec(manifest)
            .map_err(|error| Error::internal("a manifest cannot be written", error))?;
        let path = format!("training_sets/{id}/{}.json", environment::mint::<BodyId>());
        let after = self.catalog().put_object(path, bytes.into()).await?;
        let of = Replacement::TrainingSet { training_set: id, digest: manifest.digest.clone() };
        Ok(Replaced { before, after, of })
    }
}
