//! Rows of a recorded set made again: what its manifest says is looked up anew, and a block of 65,536 rows is given when its columns have
//! given the leaves that the manifest has of them. Neither the spine nor the answer is held; a block that waits for its proof waits on
//! disk where memory is short.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use engine::features::{self, Resolved};
use engine::point_in_time::exec;
use engine::{Session, SpoolWriter};
use feature::digest::{BLOCK_ROWS, TableDigest};
use futures::{StreamExt, TryStreamExt};
use lineage::Manifest;

use crate::column_edges::SPINE;
use crate::digesting::Digesting;
use crate::erased_rows;
use crate::error::{Error, Kind, Result};
use crate::historical::{LookedUp, hex};
use crate::retrieve::{Emit, Serving};

/// Some blocks of a set that are about to be made again.
pub(crate) struct Rebuilding {
    serving: Serving,
    pub manifest: Arc<Manifest>,
    pub session: Session,
    pub resolved: Resolved,
    plan: LogicalPlan,
    physical: Arc<dyn ExecutionPlan>,
    /// Blocks of the set that come before the rows.
    first_block: usize,
}

/// A block that is not as it was recorded, and the first column of it that is not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Differs {
    block: usize,
    column: String,
}

/// What becomes of a block that is not as it was recorded. Its rows are not given, nor are those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Differing {
    /// The rest is made again too, so that all that differs can be told.
    GoesOn,
    Fails,
}

/// Whoever takes the rows.
pub(crate) struct Taker<'a> {
    pub emit: &'a mut Emit,
    /// Rows that he has been given.
    pub rows: u64,
}

impl Serving {
    /// Plans to make the rows again, which are whole blocks of the set or end with it.
    ///
    /// # Errors
    /// A spine that was changed or is gone.
    pub(crate) async fn rebuilding(&self, manifest: Manifest, rows: Range<u64>) -> Result<Rebuilding> {
        let (session, mut resolved) = self.as_recorded(&manifest, |_| true).await?;
        resolved.null_reasons = manifest.null_reasons;
        let spine = self.stored_spine(&manifest).await?;
        let first_block = usize::try_from(rows.start).unwrap_or(usize::MAX) / BLOCK_ROWS;
        let plan = features::plan(session.scan(SPINE, spine.table(rows)?)?, &manifest.spine.at, &resolved)?;
        let plan = erased_rows::hidden(plan, &manifest)?;
        let physical = session.prepare(&plan).await?;
        let (serving, manifest) = (self.clone(), Arc::new(manifest));
        Ok(Rebuilding { serving, manifest, session, resolved, plan, physical, first_block })
    }
}

impl Rebuilding {
    pub fn serving(&self) -> &Serving {
        &self.serving
    }

    pub fn schema(&self) -> SchemaRef {
        self.physical.schema()
    }

    /// Makes the rows again, and gives them block by block as they are proved. What they are, without its batches; none where the taker
    /// left.
    ///
    /// # Errors
    /// Data that was changed or is gone; `Damaged` where a block differs and [`Differing::Fails`].
    pub async fn run(
        &self,
        mut taker: Option<&mut Taker<'_>>,
        differing: Differing,
    ) -> Result<Option<LookedUp>> {
        let schema = self.schema();
        let table = TableDigest::new(self.session.snapshot().state.hash, &schema)
            .map_err(|error| Error::new(Kind::Invalid, format!("the spine cannot be digested: {error}")))?;
        let mut digesting = Digesting::begin(table);
        let mut block = Block { number: 0, rows: 0, differs: None };
        let mut waiting = match taker {
            Some(_) => Some(self.serving.spool(schema.clone())?),
            None => None,
        };
        let mut rows = self.session.run(self.physical.clone())?;
        loop {
            let next = match &taker {
                Some(taker) => taker.emit.unless_left(rows.next()).await,
                None => Some(rows.next().await),
            };
            let Some(next) = next else { return Ok(None) };
            let Some(batch) = next else { break };
            for part in block.cut(&batch?) {
                digesting.add(part.clone()).await?;
                block.rows += part.num_rows();
                if let (Some((writer, _)), None) = (&mut waiting, &block.differs) {
                    writer.push(part).await?;
                }
                if block.rows == BLOCK_ROWS {
                    let recorded = self.first_block + block.number;
                    let found = digesting
                        .look(|table| {
                            differing_column(&self.manifest, recorded, block.number, table.leaves())
                        })
                        .await?;
                    if !self.end(&mut block, found, &mut waiting, taker.as_deref_mut(), differing).await? {
                        return Ok(None);
                    }
                }
            }
        }
        drop(rows);
        let digest = digesting.finish().await?;
        if block.rows > 0 {
            let recorded = self.first_block + block.number;
            let found = differing_column(&self.manifest, recorded, block.number, digest.leaves());
            if !self.end(&mut block, found, &mut waiting, taker, differing).await? {
                return Ok(None);
            }
        }
        let reports = exec::find(&self.physical).map(exec::PointInTimeExec::reports).unwrap_or_default();
        Ok(Some(LookedUp { schema, batches: Vec::new(), digest, reports, plan: self.plan.clone() }))
    }

    /// Ends a block: its rows are given if it is proved, and all before it were. False where the taker left.
    async fn end(
        &self,
        block: &mut Block,
        found: Option<String>,
        waiting: &mut Option<(SpoolWriter, SendableRecordBatchStream)>,
        taker: Option<&mut Taker<'_>>,
        differing: Differing,
    ) -> Result<bool> {
        if let (Some(column), None) = (found, &block.differs) {
            let differs = Differs { block: self.first_block + block.number, column };
            if differing == Differing::Fails {
                return Err(self.refused(&differs, block.rows));
            }
            block.differs = Some(differs);
        }
        let mut there = true;
        if let (Some((_, proved)), Some(taker), None) = (waiting, taker, &block.differs) {
            there = taker.give(proved, block.rows).await?;
        }
        (block.number, block.rows) = (block.number + 1, 0);
        Ok(there)
    }

    fn refused(&self, differs: &Differs, rows: usize) -> Error {
        let (id, first) = (self.manifest.id, differs.block * BLOCK_ROWS);
        Error::new(
            Kind::Damaged,
            format!(
                "the training set {id} cannot be rebuilt as it was recorded: column `{}` differs in rows {first} to {}; `lineament replay {id}` says more",
                differs.column,
                (first + rows).saturating_sub(1),
            ),
        )
    }
}

impl Taker<'_> {
    /// False where he left.
    async fn give(&mut self, rows: &mut SendableRecordBatchStream, count: usize) -> Result<bool> {
        let mut given = 0;
        while given < count {
            let Some(batch) = rows.try_next().await? else {
                return Err(Error::new(Kind::Internal, "rows that waited for their proof are gone"));
            };
            given += batch.num_rows();
            self.rows += batch.num_rows() as u64;
            if !self.emit.send(Ok(batch)).await {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The block that is being made.
struct Block {
    /// The first is 0.
    number: usize,
    /// Rows of it that have come.
    rows: usize,
    differs: Option<Differs>,
}

impl Block {
    /// A batch in parts that end where blocks end.
    fn cut(&self, batch: &RecordBatch) -> Vec<RecordBatch> {
        let (mut from, mut room, mut parts) = (0, BLOCK_ROWS - self.rows, Vec::new());
        while from < batch.num_rows() {
            let rows = room.min(batch.num_rows() - from);
            parts.push(batch.slice(from, rows));
            (from, room) = (from + rows, BLOCK_ROWS);
        }
        parts
    }
}

/// The first column whose leaf is not the recorded one; `*` where there are other columns. `place` is the block's among those that were made.
fn differing_column<'a>(
    manifest: &Manifest,
    recorded: usize,
    place: usize,
    made: impl Iterator<Item = (&'a str, &'a str, &'a [[u8; 32]])>,
) -> Option<String> {
    let mut columns = manifest.columns.iter();
    for (name, data_type, leaves) in made {
        let Some(column) = columns.next() else { return Some("*".to_owned()) };
        let leaf = leaves.get(place).map(hex);
        let same = column.name == name
            && column.data_type == data_type
            && leaf.is_some()
            && column.leaves.get(recorded) == leaf.as_ref();
        if !same {
            return Some(column.name.clone());
        }
    }
    columns.next().map(|column| column.name.clone())
}
