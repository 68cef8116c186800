//! What a view's retention says of itself.

use std::collections::BTreeMap;

use catalog::state::ViewVersion;
use feature::definition::Retention;
use feature::{BatchId, Sequence, Span, Timestamp};
use serde::Serialize;

use super::deletions::{Ages, Keeping};

/// What does not count any more, or would not.
#[derive(Clone, Debug, Serialize)]
pub struct RetainReport {
    pub dry_run: bool,
    /// Where it stands in the log; none where nothing was written.
    pub sequence: Option<Sequence>,
    /// For how long files that hold only such rows stay at least, before a sweep deletes them.
    pub grace: Span,
    pub views: Vec<RetainedView>,
    /// Views of which some rows are hidden from who asks what would go: no numbers of them are told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<String>,
}

/// The old rows of one view.
#[derive(Clone, Debug, Serialize)]
pub struct RetainedView {
    /// The version in force, which says how long rows are kept.
    pub version: String,
    pub keep: Span,
    /// Rows that are valid before this do not count.
    pub before: Timestamp,
    /// The batches whose rows counted up to now.
    pub batches: Vec<ExpiredBatch>,
    /// Of `batches`, in all.
    pub rows: u64,
    /// Files of old rows alone that nothing that is kept needs, rows that expired before among them.
    pub files: u64,
    pub file_rows: u64,
    pub bytes: u64,
    /// Files with old rows that stay.
    pub kept: Vec<KeptRows>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ExpiredBatch {
    pub batch: String,
    pub version: String,
    /// That counted up to now.
    pub rows: u64,
}

/// Files with old rows that stay for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptRows {
    /// `hold`, `deployment`, `model_version`, `training_set`, or `younger_rows`, which lie in the same files.
    pub kept_for: String,
    /// From the set of a batch to what is kept; empty for `younger_rows`.
    pub path: String,
    pub batches: u64,
    pub files: u64,
    /// Of the files, with younger ones.
    pub rows: u64,
    pub bytes: u64,
}

impl RetainedView {
    pub(super) fn new(
        version: &ViewVersion,
        declared: &Retention,
        before: Timestamp,
        batches: Vec<ExpiredBatch>,
        ages: &Ages,
        keeping: &Keeping<'_>,
    ) -> Self {
        let mut found: BTreeMap<BatchId, (String, String)> = BTreeMap::new();
        let mut keeper = |batch: BatchId| {
            let found = found.entry(batch).or_insert_with(|| {
                let keeper = keeping.keeper(version.view, batch, before);
                let told = keeper.map(|keeper| (keeper.kept_for.to_string(), keeping.way(&keeper)));
                told.unwrap_or_default()
            });
            found.clone()
        };
        let mut kept: BTreeMap<(String, String), (BTreeMap<_, ()>, KeptRows)> = BTreeMap::new();
        for staying in &ages.staying {
            let (kept_for, path) = match staying.young {
                true => ("younger_rows".to_owned(), String::new()),
                false => keeper(staying.batch),
            };
            let (of, rows) = kept.entry((kept_for.clone(), path.clone())).or_insert_with(|| {
                (BTreeMap::new(), KeptRows { kept_for, path, batches: 0, files: 0, rows: 0, bytes: 0 })
            });
            of.insert(staying.batch, ());
            rows.batches = of.len() as u64;
            rows.files += 1;
            rows.rows += staying.rows;
            rows.bytes += staying.bytes;
        }
        Self {
            version: version.label(),
            keep: declared.keep,
            before,
            rows: batches.iter().map(|batch| batch.rows).sum(),
            batches,
            files: ages.files,
            file_rows: ages.rows,
            bytes: ages.bytes,
            kept: kept.into_values().map(|(_, rows)| rows).collect(),
        }
    }
}
