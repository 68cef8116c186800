//! What a derived view holds of rows that its parents keep no longer. It was computed when they were there, and what is computed without them is
//! another value, and no newer one.

use std::collections::HashMap;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::row::{OwnedRow, RowConverter};
use catalog::state::ViewVersion;
use engine::Session;
use engine::derived::DerivedPlan;
use feature::Sequence;
use feature::definition::KnownAt;
use futures::TryStreamExt;

use super::{Typed, columns_of, converted, converter, fault, stored};
use crate::error::Result;

/// Of each observation of a view, whenever it was known, the row that counts last.
pub(super) struct Held<'a> {
    version: &'a ViewVersion,
    columns: Typed,
    /// How many of the columns say what is observed, and when.
    observed: usize,
    observation: RowConverter,
    whole: RowConverter,
    rows: HashMap<OwnedRow, OwnedRow>,
}

impl<'a> Held<'a> {
    /// `rows` are the view's, in the order in which they take each other's place.
    pub fn of(version: &'a ViewVersion, rows: &[RecordBatch]) -> Result<Self> {
        let (mut columns, values) = stored(version);
        // When it was known stands last of what identifies a row.
        let known = usize::from(matches!(version.definition.time.known_at, KnownAt::Column(_)));
        let observed = columns.len() - known;
        columns.extend(values);
        let (observation, whole) = (converter(&columns[..observed])?, converter(&columns)?);
        let mut held = Self { version, columns, observed, observation, whole, rows: HashMap::new() };
        for batch in rows {
            let of_batch = held.rows_of(batch.columns())?;
            held.rows.extend(of_batch);
        }
        Ok(held)
    }

    /// The fresh rows without those of observations that were computed when parents had more rows, and how many these are. Which observations those are
    /// tells the query: of what had come by the `last` refresh it does not give any more what the view holds.
    pub async fn left_alone(
        mut self,
        session: &Session,
        planned: &DerivedPlan,
        last: Option<Sequence>,
        fresh: Vec<RecordBatch>,
    ) -> Result<(Vec<RecordBatch>, u64)> {
        let mut anew = Vec::with_capacity(fresh.len());
        for batch in &fresh {
            anew.push(self.held_of(batch)?);
        }
        if anew.iter().flatten().all(Option::is_none) {
            return Ok((fresh, 0));
        }
        let then = match last {
            Some(last) => planned.until(last)?,
            None => None,
        };
        if let Some(then) = then {
            let physical = session.prepare(&then).await?;
            let given: Vec<RecordBatch> = session.run(physical)?.try_collect().await?;
            for batch in &given {
                let Some((columns, _)) = self.stored(batch)? else { continue };
                for (of, row) in self.rows_of(&columns)? {
                    if self.rows.get(&of) == Some(&row) {
                        self.rows.remove(&of);
                    }
                }
            }
        }
        let mut left = Vec::with_capacity(fresh.len());
        let mut kept = 0;
        for (batch, anew) in fresh.iter().zip(anew) {
            let stays = |of: &Option<OwnedRow>| of.as_ref().is_some_and(|of| self.rows.contains_key(of));
            let goes_on: BooleanArray = anew.iter().map(|of| Some(!stays(of))).collect();
            kept += goes_on.false_count() as u64;
            left.push(filter_record_batch(batch, &goes_on).map_err(fault)?);
        }
        Ok((left, kept))
    }

    /// Of each row that was computed the observation, where the view holds it.
    fn held_of(&self, batch: &RecordBatch) -> Result<Vec<Option<OwnedRow>>> {
        let Some((columns, fits)) = self.stored(batch)? else { return Ok(vec![None; batch.num_rows()]) };
        let of = self.observation.convert_columns(&columns[..self.observed]).map_err(fault)?;
        let held = |(of, fits): (arrow::row::Row<'_>, bool)| {
            let of = of.owned();
            (fits && self.rows.contains_key(&of)).then_some(of)
        };
        Ok(of.iter().zip(fits).map(held).collect())
    }

    /// What a query gave, as the view would store it, and which rows fit.
    fn stored(&self, batch: &RecordBatch) -> Result<Option<(Vec<ArrayRef>, Vec<bool>)>> {
        let places = columns_of(&self.version.definition, batch.schema().as_ref())?;
        Ok(converted(batch, &places.all(), &self.columns))
    }

    /// Observations with their rows.
    fn rows_of(&self, columns: &[ArrayRef]) -> Result<Vec<(OwnedRow, OwnedRow)>> {
        let of = self.observation.convert_columns(&columns[..self.observed]).map_err(fault)?;
        let rows = self.whole.convert_columns(columns).map_err(fault)?;
        Ok(of.iter().zip(rows.iter()).map(|(of, row)| (of.owned(), row.owned())).collect())
    }
}
