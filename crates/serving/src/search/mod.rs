//! Features, views and services found by words: by name, tag, unit, owner, use and description, whatever was mistyped.
//!
//! The index is made of the folded state, and kept until a name or a use changes. What an asker may not see is not found, and changes
//! nothing in what is found.

mod documents;
mod index;
mod words;

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, Float64Array, RecordBatch, UInt32Array, UInt64Array};
use async_recursion::async_recursion;
use catalog::Author;
use catalog::state::Naming;
use datafusion::common::DataFusionError;
use engine::Snapshot;
use feature::Sequence;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::graph::{Graphs, table, texts};
use crate::retrieve::Serving;

use documents::Document;
pub use documents::{FoundKind, Thing};
use index::{Hit, Index, Wanted};

/// What is given where nothing else is said.
const USUAL: usize = 20;
/// What is given at most, and what SQL gives.
const MOST: usize = 1_000;
/// What has less than this share of the best score is not what was looked for.
const NEAR_THE_BEST: f32 = 0.4;
/// Uses that are listed of one thing.
const LISTED: usize = 20;

/// What is looked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchRequest {
    /// `wind speed`, `weather.temp`, `tag:pii owner:ann`.
    pub words: String,
    /// Of one kind alone.
    #[serde(default)]
    pub kind: Option<FoundKind>,
    /// How many at most; 20 where it is left out, and never more than 1,000.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// What was found, the best first.
#[derive(Clone, Debug, Serialize)]
pub struct SearchReport {
    pub sequence: Sequence,
    pub found: Vec<Found>,
    /// Whether that is all.
    pub complete: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    #[serde(flatten)]
    pub thing: Thing,
    /// Models, deployments, services and named training sets that have it; the first twenty.
    pub uses: Vec<String>,
    /// Where the words stand.
    pub matched: Vec<&'static str>,
    pub score: f32,
}

/// What is found by words: all documents and their index.
struct Findable {
    documents: Vec<Document>,
    index: Index,
}

/// The index of the head that was made last.
#[derive(Default)]
pub(crate) struct Searches(Mutex<Option<(Naming, Arc<Findable>)>>);

impl Graphs {
    async fn findable(&self, snapshot: &Snapshot) -> catalog::Result<Arc<Findable>> {
        let (state, at) = (&snapshot.state, snapshot.sequence);
        let naming = state.naming();
        let is_head = at == state.head.sequence;
        let kept = || self.searches.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, findable)) = kept().as_ref().filter(|(known, _)| is_head && *known == naming) {
            return Ok(findable.clone());
        }
        let graph = self.of(&snapshot.catalog, state, at).await?;
        let (documents, index) = documents::all(state, &graph, at);
        let findable = Arc::new(Findable { documents, index });
        if is_head {
            *kept() = Some((naming, findable.clone()));
        }
        Ok(findable)
    }
}

impl Findable {
    /// What the asker may see of what has the words, and whether that is all.
    fn find(
        &self,
        snapshot: &Snapshot,
        wanted: &Wanted,
        kind: Option<FoundKind>,
        most: usize,
    ) -> (Vec<Found>, bool) {
        let mut found: Vec<Found> = Vec::new();
        // Judged by what may be seen alone: what may not must not show in what is left out either.
        let mut best: Option<Hit> = None;
        let shown = |document: u32, place: u32| {
            self.documents.get(document as usize).is_some_and(|found| found.shows(snapshot, place as usize))
        };
        for hit in self.index.find(wanted, shown) {
            if let Some(best) = best
                && (hit.words < best.words || hit.score < NEAR_THE_BEST * best.score)
            {
                break;
            }
            let Some(document) = self.documents.get(hit.document as usize) else { continue };
            if kind.is_some_and(|kind| kind != document.thing.kind) || !document.is_visible(snapshot) {
                continue;
            }
            if found.len() == most {
                return (found, false);
            }
            best = best.or(Some(hit));
            found.push(told(snapshot, document, &hit));
        }
        (found, true)
    }
}

fn told(snapshot: &Snapshot, document: &Document, hit: &Hit) -> Found {
    Found {
        thing: document.thing.clone(),
        uses: document.uses(snapshot).take(LISTED).map(str::to_owned).collect(),
        matched: hit.fields().map(index::Field::name).collect(),
        score: hit.score,
    }
}

impl Serving {
    /// Finds features, views and services by words, the best first.
    ///
    /// All words must stand in a thing, and where nothing has all of them, what has most is found. What policies keep from the author is
    /// not found.
    ///
    /// # Errors
    /// `Invalid` for no words, for too many, and for a place to look in that is none.
    #[async_recursion]
    pub async fn search(&self, request: &SearchRequest, author: &Author) -> Result<SearchReport> {
        let wanted =
            Wanted::from_str(&request.words).map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
        let snapshot = self.snapshot_for(None, author).await?;
        let findable = self.graphs.findable(&snapshot).await?;
        let most = request.limit.unwrap_or(USUAL).min(MOST);
        let (found, complete) = findable.find(&snapshot, &wanted, request.kind, most);
        Ok(SearchReport { sequence: snapshot.sequence, found, complete })
    }
}

/// What is found in a snapshot, as rows.
pub(crate) async fn relation(
    graphs: &Graphs,
    snapshot: &Snapshot,
    words: &str,
) -> std::result::Result<RecordBatch, DataFusionError> {
    let wanted = Wanted::from_str(words).map_err(|error| DataFusionError::Plan(error.to_string()))?;
    let findable =
        graphs.findable(snapshot).await.map_err(|error| DataFusionError::External(Box::new(error)))?;
    let (found, _) = findable.find(snapshot, &wanted, None, MOST);
    let all = || found.iter();
    let joined = |texts: &[String]| (!texts.is_empty()).then(|| texts.join(", "));
    let ranks: ArrayRef = Arc::new((1..=found.len() as u64).collect::<UInt64Array>());
    table(vec![
        ("rank", ranks),
        ("kind", texts(all().map(|one| Some(one.thing.kind.name().to_owned())))),
        ("name", texts(all().map(|one| Some(one.thing.name.clone())))),
        ("version", Arc::new(all().map(|one| one.thing.version).collect::<UInt32Array>())),
        ("unit", texts(all().map(|one| one.thing.unit.clone()))),
        ("owner", texts(all().map(|one| one.thing.owner.clone()))),
        ("tags", texts(all().map(|one| joined(&one.thing.tags)))),
        ("description", texts(all().map(|one| one.thing.description.clone()))),
        ("uses", texts(all().map(|one| joined(&one.uses)))),
        ("matched", texts(all().map(|one| Some(one.matched.join(", "))))),
        ("score", Arc::new(all().map(|one| f64::from(one.score)).collect::<Float64Array>())),
    ])
}
