//! All rows of one key, for explaining which of them won and why the others lost.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, new_null_array};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use catalog::VisibleFile;
use catalog::state::{Batch, ViewVersion};
use datafusion::common::{Result, exec_err};
use feature::Timestamp;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use super::SpineOrder;
use super::matching::offset_of;
use crate::data_files::DataFiles;
use crate::row_batches::CountedRows;

/// Files that are read at once. They are small where they are many, and then the store's answers are what takes time.
const FILES_AT_ONCE: usize = 16;

/// A row of the key that is asked about.
#[derive(Clone, Debug)]
pub struct CandidateRow {
    /// Position in the files that were given.
    pub file: usize,
    /// Row in the file.
    pub row: u64,
    pub batch: Arc<Batch>,
    pub valid_at: Timestamp,
    pub known_at: Timestamp,
    pub retracted: bool,
    /// The feature's value as text; none where it is null.
    pub value: Option<String>,
    /// False where the row's batch does not have the feature.
    pub in_batch: bool,
}

/// Every row of one key in these files, in their order.
pub async fn candidates(
    data: &DataFiles,
    version: &Arc<ViewVersion>,
    files: &[VisibleFile],
    key: &[(String, ArrayRef)],
    feature: &str,
) -> Result<Vec<CandidateRow>> {
    let types: Vec<DataType> = version.keys().iter().map(|key| key.data_type.arrow()).collect();
    let spine = SpineOrder::new(key, &types, &Int64Array::from(vec![0])).await?;
    let mut reads = Vec::with_capacity(files.len());
    for (index, file) in files.iter().enumerate() {
        reads.push(rows_of(data, version, file, index, &spine, feature).boxed());
    }
    let found: Vec<Vec<CandidateRow>> = stream::iter(reads).buffered(FILES_AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn rows_of(
    data: &DataFiles,
    version: &Arc<ViewVersion>,
    file: &VisibleFile,
    index: usize,
    spine: &SpineOrder,
    feature: &str,
) -> Result<Vec<CandidateRow>> {
    let keys: Vec<&str> = version.keys().iter().map(|key| key.name.as_str()).collect();
    let mut names = keys.clone();
    names.extend(["valid_at", "known_at", "_retracted", feature]);
    let pages = spine.key_pages(&data.footer(&file.file).await?, version.keys())?;
    let selection = pages.as_ref().map(|pages| pages.selection());
    let counted = CountedRows::read(data, file, &names, selection, true).await?;
    let columns = &counted.columns;
    let mut key_columns = Vec::with_capacity(keys.len());
    for (name, key) in keys.iter().zip(version.keys()) {
        let Some(column) = columns.column_by_name(name) else {
            return exec_err!("data file `{}` has no column `{name}`", file.file.path);
        };
        key_columns.push(arrow::compute::cast(column, &key.data_type.arrow())?);
    }
    let times = |name: &str| {
        columns.column_by_name(name).and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
    };
    let Some(valid_at) = times("valid_at") else {
        return exec_err!("data file `{}` has no column `valid_at`", file.file.path);
    };
    let known_at = times("known_at");
    let offset = offset_of(version, file);
    let retracted = columns.column_by_name("_retracted").and_then(|column| column.as_boolean_opt());
    let stored = columns.column_by_name(feature);
    let values = stored.cloned().unwrap_or_else(|| new_null_array(&DataType::Utf8, columns.num_rows()));
    let options = FormatOptions::default();
    let text = ArrayFormatter::try_new(values.as_ref(), &options)?;
    let mut found = Vec::new();
    for run in spine.keys().runs(&key_columns, columns.num_rows())? {
        for row in run.from..run.until {
            let value = if values.is_null(row) { None } else { Some(text.value(row).try_to_string()?) };
            found.push(CandidateRow {
                file: index,
                row: match (&pages, counted.place(row)) {
                    (Some(pages), place) => u64::from(pages.row(place)),
                    (None, place) => place as u64,
                },
                batch: counted.batch(file, row).clone(),
                valid_at: Timestamp(valid_at.value(row)),
                known_at: match (known_at, offset) {
                    (Some(known), _) => Timestamp(known.value(row)),
                    (None, Some(offset)) => Timestamp(valid_at.value(row).saturating_add(offset)),
                    (None, None) => file.first().by.committed_at,
                },
                retracted: retracted.is_some_and(|retracted| retracted.value(row)),
                value,
                in_batch: stored.is_some(),
            });
        }
    }
    Ok(found)
}
