//! A recorded training set, of which only some columns and blocks are made again; each is proved by its leaf in the manifest.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{Field, Schema};
use catalog::Author;
use catalog::state::{State, ViewVersion};
use engine::access::Guard;
use engine::column_lineage::Traced;
use engine::features::{self, Resolved};
use engine::point_in_time::{Cut, Direction, Lookup, NullReason, SpineOrder, Winner, micros, winners};
use engine::{Reserved, Session};
use feature::digest::{BLOCK_ROWS, TableDigest};
use feature::{Sequence, Span, TrainingSetId, VersionId};
use lineage::Manifest;
use lineage::manifest::ReferenceManifest;

use crate::erased_rows;
use crate::error::{Error, Kind, Result};
use crate::historical::columns as manifest_columns;
use crate::looked_at::looked_at;
use crate::replay::cut_of;
use crate::retrieve::Serving;

/// A set with its spine at hand.
pub(crate) struct RecordedSet {
    pub manifest: Manifest,
    /// All of its rows, in the set's order.
    pub spine: RecordBatch,
    pub session: Session,
}

/// Some of the blocks of 65,536 rows that a set has, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub numbers: Vec<usize>,
    rows: usize,
}

impl Blocks {
    pub fn new(numbers: Vec<usize>, rows: usize) -> Self {
        Self { numbers, rows }
    }

    pub fn all(rows: usize) -> Self {
        Self::new((0..rows.div_ceil(BLOCK_ROWS)).collect(), rows)
    }

    /// The rows of each, in the set's numbers.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.numbers
            .iter()
            .map(|number| (number * BLOCK_ROWS).min(self.rows)..((number + 1) * BLOCK_ROWS).min(self.rows))
    }
}

/// The observation that won for each of some rows of a set, in one of its views.
pub(crate) struct Winners {
    pub version: Arc<ViewVersion>,
    pub sequence: Sequence,
    pub cut: Cut,
    pub ttl: Option<Span>,
    /// In microseconds, floored; none where the row has no time.
    pub at: Vec<Option<i64>>,
    pub found: Vec<Result<Winner, NullReason>>,
}

impl RecordedSet {
    pub fn reference(&self, output: &str) -> Option<&ReferenceManifest> {
        self.manifest.references.iter().find(|known| known.output == output)
    }

    /// The trace of reading some of its features again.
    pub fn looked_at(&self, read: impl Fn(&ReferenceManifest) -> bool) -> Result<Traced> {
        let references: Vec<&ReferenceManifest> =
            self.manifest.references.iter().filter(|reference| read(reference)).collect();
        let versions: Vec<Arc<ViewVersion>> =
            references.iter().map(|reference| self.view_version(reference.version)).collect::<Result<_>>()?;
        let features = references.iter().zip(&versions).map(|(reference, version)| {
            (&**version, self.manifest.sequence, &*reference.feature, &*reference.output)
        });
        Ok(looked_at(features))
    }

    pub fn state(&self) -> &State {
        &self.session.snapshot().state
    }

    pub fn view_version(&self, id: VersionId) -> Result<Arc<ViewVersion>> {
        let version = self.state().view_version(id).cloned().map(Arc::new);
        version.ok_or_else(|| Error::new(Kind::Damaged, format!("the store knows no version {id}")))
    }

    /// The time column of the spine.
    pub fn at(&self) -> Result<&ArrayRef> {
        column(&self.spine, &self.manifest.spine.at)
    }
}

pub(crate) fn column<'a>(spine: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    let found = spine.column_by_name(name);
    found.ok_or_else(|| Error::new(Kind::Damaged, format!("the stored spine has no column `{name}`")))
}

/// Rows of a spine, ordered as a version's files are met.
/// Keys that are hidden stand in no group.
pub(crate) async fn order_of(
    version: &ViewVersion,
    spine: &RecordBatch,
    at: &ArrayRef,
    guard: Option<&Guard>,
) -> Result<SpineOrder> {
    let mut keys = Vec::with_capacity(version.keys().len());
    let mut types = Vec::with_capacity(version.keys().len());
    for key in version.keys() {
        keys.push(column(spine, key.name.as_str())?.clone());
        types.push(key.data_type.arrow());
    }
    if let Some(rows) = guard.and_then(|guard| guard.rows()) {
        rows.hide(&mut keys)?;
    }
    let names = version.keys().iter().map(|key| key.name.to_string());
    let keys: Vec<(String, ArrayRef)> = names.zip(keys).collect();
    Ok(SpineOrder::new(&keys, &types, &micros(at)?).await?)
}

impl Serving {
    /// Opens a recorded set: its manifest and its spine, both checked by their digests.
    ///
    /// # Errors
    /// `Forbidden` where the author may see less than it shows.
    pub(crate) async fn recorded(
        &self,
        id: TrainingSetId,
        held: &Reserved,
        author: &Author,
    ) -> Result<RecordedSet> {
        let manifest = self.manifest(id).await?;
        self.require_as_recorded(&manifest, author).await?;
        let (session, _) = self.as_recorded(&manifest, |_| false).await?;
        let spine = self.whole_spine(&session, &manifest, held).await?;
        let bytes: usize = spine.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        // Once more, for the batches are put together.
        held.grow(bytes as u64)?;
        let spine = concat_batches(&spine.schema, &spine.batches).map_err(|error| {
            Error::new(Kind::Exhausted, format!("the spine of {id} is too large: {error}"))
        })?;
        Ok(RecordedSet { manifest, spine, session })
    }

    /// Some columns of a recorded set in some of its blocks, made again and compared with the leaves of the manifest.
    ///
    /// # Errors
    /// `Damaged` where a block is not as recorded.
    pub(crate) async fn rebuilt(
        &self,
        set: &RecordedSet,
        names: &[&str],
        blocks: &Blocks,
        held: &Reserved,
    ) -> Result<RecordBatch> {
        let wanted = |output: &str| names.contains(&output);
        let any_feature = set.manifest.references.iter().any(|reference| wanted(&reference.output));
        let resolved = match any_feature {
            true => Some(self.as_recorded(&set.manifest, |reference| wanted(&reference.output)).await?.1),
            false => None,
        };
        let spine = needed(set, names, resolved.as_ref())?;
        let parts: Vec<RecordBatch> =
            blocks.ranges().map(|rows| spine.slice(rows.start, rows.end - rows.start)).collect();
        let (schema, batches, digest) = match &resolved {
            Some(resolved) => {
                let rows = set.session.rows("spine", spine.schema(), parts)?;
                let plan = features::plan(rows, &set.manifest.spine.at, resolved)?;
                let plan = erased_rows::hidden(plan, &set.manifest)?;
                let physical = set.session.prepare(&plan).await?;
                let found = self.run_digested(&set.session, plan, physical).await?;
                (found.schema, found.batches, found.digest)
            }
            None => {
                let wrong = |error: feature::digest::DigestError| {
                    Error::new(Kind::Invalid, format!("the rows cannot be digested: {error}"))
                };
                let mut table = TableDigest::new(set.state().hash, &spine.schema()).map_err(wrong)?;
                for part in &parts {
                    table.update(part).map_err(wrong)?;
                }
                (spine.schema(), parts, table.finish())
            }
        };
        let bytes: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        held.grow(2 * bytes as u64)?;
        let rebuilt = manifest_columns(&digest);
        for name in names {
            let recorded = set.manifest.columns.iter().find(|column| column.name == *name);
            let made = rebuilt.iter().find(|column| column.name == *name);
            let (Some(recorded), Some(made)) = (recorded, made) else {
                return Err(Error::new(
                    Kind::Damaged,
                    format!("the training set {} has no column `{name}`", set.manifest.id),
                ));
            };
            for (place, number) in blocks.numbers.iter().enumerate() {
                if recorded.leaves.get(*number) != made.leaves.get(place)
                    || recorded.data_type != made.data_type
                {
                    return Err(Error::new(
                        Kind::Damaged,
                        format!(
                            "the training set {} cannot be rebuilt as it was recorded: column `{name}` differs in rows {} to {}; `lineament replay {}` says more",
                            set.manifest.id,
                            number * BLOCK_ROWS,
                            ((number + 1) * BLOCK_ROWS).min(set.spine.num_rows()).saturating_sub(1),
                            set.manifest.id
                        ),
                    ));
                }
            }
        }
        let whole = concat_batches(&schema, &batches)
            .map_err(|error| Error::new(Kind::Exhausted, format!("the rows are too large: {error}")))?;
        let places = names
            .iter()
            .map(|name| schema.index_of(name))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::internal("a column was lost", error))?;
        whole.project(&places).map_err(|error| Error::internal("columns cannot be picked", error))
    }

    /// Which observation won for some rows of a set, in one of its views.
    pub(crate) async fn winners_of(
        &self,
        set: &RecordedSet,
        version: VersionId,
        rows: &UInt32Array,
    ) -> Result<Winners> {
        let version = set.view_version(version)?;
        let snapshot = set.session.snapshot();
        let files = Arc::new(snapshot.visible_files(&version).await?);
        let ttl =
            set.manifest.views.iter().find(|view| view.version == version.version).and_then(|view| view.ttl);
        let cut = cut_of(&set.manifest);
        let mut columns = Vec::with_capacity(version.keys().len());
        let mut fields = Vec::with_capacity(version.keys().len());
        let picked = |column: &ArrayRef| {
            take(column, rows, None).map_err(|error| Error::internal("rows cannot be picked", error))
        };
        for key in version.keys() {
            let key_column = picked(column(&set.spine, key.name.as_str())?)?;
            fields.push(Field::new(key.name.as_str(), key_column.data_type().clone(), true));
            columns.push(key_column);
        }
        let at = picked(set.at()?)?;
        let spine = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .map_err(|error| Error::internal("keys cannot be put together", error))?;
        let guard = snapshot.guard(&version)?;
        let order = Arc::new(order_of(&version, &spine, &at, guard.as_deref()).await?);
        let lookup = Lookup {
            version: version.clone(),
            files,
            direction: Direction::AtOrBefore,
            ttl,
            cut,
            outputs: Vec::new(),
            guard: None,
            reports_why: true,
        };
        let found = winners(&snapshot.files, &lookup, &order).await?;
        Ok(Winners {
            version,
            sequence: set.manifest.sequence,
            cut,
            ttl,
            at: micros(&at)?.iter().collect(),
            found,
        })
    }
}

/// The columns of the spine that are asked for or looked up by.
fn needed(set: &RecordedSet, names: &[&str], resolved: Option<&Resolved>) -> Result<RecordBatch> {
    let mut wanted: Vec<&str> = names.to_vec();
    wanted.push(erased_rows::MARK);
    if let Some(resolved) = resolved {
        wanted.push(&set.manifest.spine.at);
        for view in &resolved.views {
            wanted.extend(view.table.version().keys().iter().map(|key| key.name.as_str()));
        }
    }
    let schema = set.spine.schema();
    let places: Vec<usize> = (0..schema.fields().len())
        .filter(|place| wanted.contains(&schema.field(*place).name().as_str()))
        .collect();
    set.spine.project(&places).map_err(|error| Error::internal("columns cannot be picked", error))
}
