//! Rows that are kept for as long as their view says, and then go: first they count no more, by one entry, and later the sweep deletes the
//! files that have no other rows. `docs/retention.md` says why that is safe.

mod deletions;
mod report;

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use async_recursion::async_recursion;
use catalog::records::RowsExpired;
use catalog::state::ViewVersion;
use catalog::{Author, State, retention};
use engine::Session;
use engine::access::Sights;
use feature::name::split_project;
use feature::policy::Action;
use feature::{Timestamp, ViewId};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

pub(crate) use deletions::{Ages, Deletions, Keeping};
pub use report::{ExpiredBatch, KeptRows, RetainReport, RetainedView};

use crate::error::{Error, Kind, Result};
use crate::retrieve::Serving;

/// What is to be kept no longer.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetainRequest {
    /// As `weather` or `fraud.weather`; all views that declare it where none is named.
    pub view: Option<String>,
    /// Say what would go and what stays, and write nothing.
    pub dry_run: bool,
}

impl Serving {
    /// Lets rows that are older than their view keeps them count no more, by one entry for all views. No data is touched: what nothing
    /// that is kept needs is deleted by a later sweep.
    ///
    /// # Errors
    /// `NotFound` for a view that is not there, `Invalid` for one that keeps its rows for ever; `Forbidden` for who may not take a
    /// view's rows away, or asks what would go of one that they may not read.
    #[async_recursion]
    pub async fn retain(&self, request: &RetainRequest, author: &Author) -> Result<RetainReport> {
        let action = if request.dry_run { Action::Read } else { Action::Withdraw };
        let words = || match &request.view {
            Some(view) => format!("retain {view}"),
            None => "retain".to_owned(),
        };
        self.on_record(author, action, None, words, self.retained(request, author)).await
    }

    async fn retained(&self, request: &RetainRequest, author: &Author) -> Result<RetainReport> {
        let (state, graph) = self.graph(None).await?;
        let shown = self.snapshot_for(Some(state.head.sequence), author).await?;
        let sights = Sights::of_snapshot(&shown);
        let session = self.engine.session(self.engine.snapshot(Some(state.head.sequence)).await?)?;
        let now = self.catalog().store().clock().now();
        let mut views = Vec::new();
        let mut records = Vec::new();
        let mut untold = Vec::new();
        for version in declaring(&state, request.view.as_deref())? {
            let Some(declared) = &version.definition.retention else { continue };
            if request.dry_run {
                if let Err(denied) = shown.guard(version) {
                    if request.view.is_some() {
                        return Err(denied.into());
                    }
                    continue;
                }
                // Rows of all versions are counted together.
                let mut versions = state.views().filter(|one| one.view == version.view);
                if !versions.all(|one| sights.of(one).counts()) {
                    untold.push(version.label());
                    continue;
                }
            } else {
                self.require(&state, author, Action::Withdraw, &version.definition).await?;
            }
            let last = state.expiry().before(version.view, state.head.sequence);
            let before = declared.before(now).max(last.unwrap_or(Timestamp(i64::MIN)));
            let mut batches = Vec::new();
            for of_line in lines(&state, version.view) {
                for (batch, rows) in old_rows(&session, of_line, before).await? {
                    batches.push(ExpiredBatch { batch, version: of_line.label(), rows });
                }
            }
            if !batches.is_empty() {
                records.push(RowsExpired { view: version.view, before, keep: declared.keep });
            }
            let keeping = Keeping::of(&state, &graph, now);
            let ages = Ages::of(self.catalog(), &state, version.view, before, &keeping).await?;
            views.push(RetainedView::new(version, declared, before, batches, &ages, &keeping));
        }
        let sequence = match request.dry_run {
            true => None,
            false => retention::expire(self.catalog(), &records, author).await?,
        };
        let (grace, dry_run) = (state.sweeps().retention().grace, request.dry_run);
        Ok(RetainReport { dry_run, sequence, grace, views, untold })
    }
}

/// The versions in force of the views that say how long they keep their rows.
fn declaring<'a>(state: &'a State, view: Option<&str>) -> Result<Vec<&'a ViewVersion>> {
    let head = state.head.sequence;
    let Some(view) = view else {
        return Ok(state
            .views_in_force(head)
            .filter(|version| version.definition.retention.is_some())
            .collect());
    };
    let (project, name) = split_project(view);
    let found = state.view(project, name, None, head);
    let found =
        found.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no feature view `{view}`")))?;
    if found.definition.retention.is_none() {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "`{view}` keeps its rows for ever; say for how long in its definition, as in [retention] keep = \"400d\", and apply it"
            ),
        ));
    }
    Ok(vec![found])
}

/// Of each line of a view the newest version, for which all of its batches count.
fn lines(state: &State, view: ViewId) -> impl Iterator<Item = &ViewVersion> {
    let mut newest = BTreeMap::new();
    for version in state.views().filter(|version| version.view == view) {
        let of_line = newest.entry(version.line).or_insert(version);
        if version.number > of_line.number {
            *of_line = version;
        }
    }
    newest.into_values()
}

/// How many rows of each batch count and are valid before an instant.
async fn old_rows(session: &Session, version: &ViewVersion, before: Timestamp) -> Result<Vec<(String, u64)>> {
    let sql = format!(
        "SELECT batch, count(*) AS rows FROM history('{}') WHERE valid_at < arrow_cast({}, 'Timestamp(Microsecond, Some(\"UTC\"))') \
         GROUP BY batch ORDER BY batch",
        version.label(),
        before.micros()
    );
    let physical = session.prepare(&session.plan(&sql).await?).await?;
    let answer: Vec<RecordBatch> = session.run(physical)?.try_collect().await?;
    let mut found = Vec::new();
    for rows in &answer {
        let names = arrow::compute::cast(rows.column(0), &arrow::datatypes::DataType::Utf8)
            .map_err(|error| Error::internal("batches cannot be named", error))?;
        let (names, counts) = (names.as_string::<i32>(), rows.column(1).as_primitive::<Int64Type>());
        for (name, count) in names.iter().zip(counts.values()) {
            found.push((name.unwrap_or_default().to_owned(), u64::try_from(*count).unwrap_or(0)));
        }
    }
    Ok(found)
}

/// The views of which something does not count any more, at a sequence.
pub(crate) fn with_expired_rows(state: &State) -> BTreeSet<ViewId> {
    state.expiry().expired().iter().map(|one| one.record.view).collect()
}
