//! Small files are merged, on request or now and then.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_recursion::async_recursion;
use catalog::compaction::{self, Candidate, Checked, Eagerness, Merge};
use catalog::state::ViewVersion;
use catalog::{Author, State};
use feature::name::split_project;
use storage::partition::Layout;

use crate::error::{Error, Kind, Result};
use crate::retrieve::Serving;

/// What is to be merged.
#[derive(Clone, Debug)]
pub struct CompactRequest {
    /// As `weather` or `fraud.weather`; all views where none is named.
    pub view: Option<String>,
    pub eagerness: Eagerness,
    /// How the new files are cut.
    pub layout: Layout,
}

impl CompactRequest {
    /// All that can be merged, of one view or of all.
    pub fn all(view: Option<String>) -> Self {
        Self { view, eagerness: Eagerness::All, layout: Layout::default() }
    }

    /// What has grown by a level: what is done now and then.
    pub fn levels() -> Self {
        Self { eagerness: Eagerness::Levels, ..Self::all(None) }
    }
}

/// Passes over a line: what is merged makes the neighbours of the next.
const PASSES: usize = 64;

impl Serving {
    /// What would be merged at first; what that makes may be merged again.
    ///
    /// # Errors
    /// `NotFound` where the view is not there; those of the storage.
    #[async_recursion]
    pub async fn compaction_candidates(&self, request: &CompactRequest) -> Result<Vec<Candidate>> {
        let state = self.catalog().refresh().await?;
        let mut found = Vec::new();
        for version in lines(&state, request.view.as_deref())? {
            let (eagerness, layout) = (request.eagerness, &request.layout);
            found.extend(compaction::candidates(self.catalog(), &state, &version, eagerness, layout).await?);
        }
        Ok(found)
    }

    /// Merges until there is nothing that is worth it. No answer changes by it.
    ///
    /// # Errors
    /// As [`Self::compaction_candidates`]; `Damaged` where a file is not what was written: it stays where it is.
    #[async_recursion]
    pub async fn compact(&self, request: &CompactRequest, author: &Author) -> Result<Vec<Merge>> {
        let catalog = self.catalog();
        let mut done = Vec::new();
        let state = catalog.refresh().await?;
        for version in lines(&state, request.view.as_deref())? {
            for _ in 0..PASSES {
                let state = catalog.refresh().await?;
                let (eagerness, layout) = (request.eagerness, &request.layout);
                let found = compaction::candidates(catalog, &state, &version, eagerness, layout).await?;
                if found.is_empty() {
                    break;
                }
                for candidate in found {
                    done.push(compaction::merge(catalog, author, &state, &candidate, layout).await?);
                }
            }
        }
        Ok(done)
    }

    /// Proves again what was merged and is read: of one view, or of all. By version, what was found right.
    ///
    /// # Errors
    /// `Damaged` names what is not what was written.
    #[async_recursion]
    pub async fn check_compactions(&self, view: Option<&str>) -> Result<Vec<(String, Checked)>> {
        let catalog = self.catalog();
        let state = catalog.refresh().await?;
        let mut found = Vec::new();
        for version in lines(&state, view)? {
            for run in state.runs_of_line(version.line) {
                if let catalog::state::Run::Compacted(one, _) = run {
                    let label = state.view_version(one.record.version).map(ViewVersion::label);
                    let checked = compaction::check(catalog, &state, one).await?;
                    found.push((label.unwrap_or_default(), checked));
                }
            }
        }
        Ok(found)
    }
}

/// A version of each line of a view, or of all views.
fn lines(state: &Arc<State>, view: Option<&str>) -> Result<Vec<ViewVersion>> {
    let named = view.map(split_project);
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for version in state.views() {
        let definition = &version.definition;
        let wanted = named.is_none_or(|(project, name)| {
            definition.project.as_str() == project && definition.name.as_str() == name
        });
        if wanted && seen.insert(version.line) {
            found.push(version.clone());
        }
    }
    match view.filter(|_| found.is_empty()) {
        Some(view) => Err(Error::new(Kind::NotFound, format!("there is no feature view `{view}`"))),
        None => Ok(found),
    }
}
