//! A declared share of what is retrieved, profiled on its way out and beside it.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::Schema;
use async_recursion::async_recursion;
use catalog::records::{PassedBy, Role, Sampled};
use catalog::sampling::{self, Due, Portion};
use catalog::state::ViewVersion;
use catalog::{Author, Catalog};
use engine::features::{self, Resolved};
use engine::{Session, Snapshot};
use feature::Timestamp;
use feature::policy::Purpose;
use tokio::task::JoinHandle;

use crate::error::Result;
use crate::historical::HistoricalRequest;
use crate::retrieve::Serving;

impl Serving {
    /// From here on what is declared is sampled in this process; whoever says so calls [`Self::judge_samples`] now and then.
    pub fn begin_sampling(&self) {
        self.catalog().passing().begin();
    }

    /// Compares with its baseline what was sampled since the last time, and records it.
    ///
    /// # Errors
    /// Those of [`sampling::judge`]; what was not recorded waits for the next time.
    #[async_recursion]
    pub async fn judge_samples(&self, due: Due, author: &Author) -> Result<Vec<Sampled>> {
        Ok(sampling::judge(self.catalog(), due, author).await?)
    }
}

/// Where the columns of a view are in what is retrieved.
struct OfView {
    version: Arc<ViewVersion>,
    keys: Vec<usize>,
    /// Features by their names in the view.
    features: Vec<(String, usize)>,
    portion: Portion,
}

/// What of a retrieval is sampled.
pub(crate) struct ReadSample {
    catalog: Catalog,
    views: Vec<OfView>,
}

impl ReadSample {
    /// None where nothing is declared of what is asked for, nobody would look at it, or the read is none that a model answers with. Of a
    /// view from which something is kept from this reader nothing is sampled: what is shown of it is not what it is.
    pub fn of(
        session: &Session,
        resolved: &Resolved,
        request: &HistoricalRequest,
        author: &Author,
        output: &Schema,
    ) -> Option<Self> {
        let snapshot = session.snapshot();
        if !snapshot.catalog.passing().is_begun() || !is_live(request, author) {
            return None;
        }
        let by_services = features::services(snapshot, &request.features);
        let at = snapshot.catalog.store().clock().now();
        let mut views = Vec::new();
        for (place, view) in resolved.views.iter().enumerate() {
            let version = view.table.version();
            let services = by_services.iter().filter(|service| {
                let of_view = |reference: &feature::Reference| {
                    let version = &version.definition;
                    reference.project == version.project && reference.view == version.name
                };
                service.definition.features.iter().any(of_view)
            });
            let declared = services.filter_map(|service| service.definition.sampling.as_ref());
            let shares =
                declared.chain(version.definition.sampling.as_ref()).filter_map(|declared| declared.reads);
            let share = shares.fold(0.0, f64::max);
            if share <= 0.0 || !is_open(snapshot, version) {
                continue;
            }
            let keys = version.keys().iter().map(|key| output.index_of(key.name.as_str()).ok());
            let Some(keys) = keys.collect::<Option<Vec<usize>>>() else { continue };
            let of_view = resolved.features.iter().filter(|feature| feature.view == place);
            let features = of_view.filter_map(|feature| {
                let name = version.definition.features.get(feature.feature)?.name.to_string();
                Some((name, output.index_of(&feature.output).ok()?))
            });
            let features = features.collect();
            let portion = Portion::empty(version, share, at, snapshot.sequence);
            views.push(OfView { version: version.clone(), keys, features, portion });
        }
        (!views.is_empty()).then(|| Self { catalog: snapshot.catalog.clone(), views })
    }

    fn add(&mut self, rows: &RecordBatch, at: Timestamp) -> Result<()> {
        for view in &mut self.views {
            let keys = view.keys.iter().zip(view.version.keys()).map(|(place, key)| {
                // A spine may have them in another width, or as a dictionary.
                let column: &ArrayRef = rows.column(*place);
                let declared = key.data_type.arrow();
                if *column.data_type() == declared { Ok(column.clone()) } else { cast(column, &declared) }
            });
            // What is of no type that a key could be was matched with nothing.
            let Ok(keys) = keys.collect::<Result<Vec<ArrayRef>, _>>() else { continue };
            let features =
                view.features.iter().map(|(name, place)| (name.as_str(), rows.column(*place).clone()));
            let features: Vec<(&str, ArrayRef)> = features.collect();
            view.portion.add(&view.version, &keys, &features, at)?;
        }
        Ok(())
    }

    /// Leaves what was gathered to be judged.
    fn finish(self) {
        for view in self.views {
            let added = self.catalog.passing().add(view.version.version, PassedBy::Reads, &view.portion);
            if let Err(error) = added {
                sampling::not_sampled(&error);
            }
        }
    }
}

/// Whether a model may answer with what is read. What is recorded to fit one with is of times that are over, and so is an earlier state.
fn is_live(request: &HistoricalRequest, author: &Author) -> bool {
    let scores = request.role == Role::Score || author.role == Role::Score;
    request.as_of.is_none() && (!request.record || scores || author.purpose == Purpose::Serve)
}

fn is_open(snapshot: &Snapshot, version: &ViewVersion) -> bool {
    matches!(snapshot.guard(version), Ok(None))
}

/// Samples batches in their order, a batch at a time beside what else is done. That something could not be sampled is told to the log of
/// this process, and never to whoever reads.
pub(crate) struct Sampling(Option<JoinHandle<Result<ReadSample>>>);

impl Sampling {
    pub fn begin(sample: Option<ReadSample>) -> Self {
        Self(sample.map(|sample| tokio::spawn(std::future::ready(Ok(sample)))))
    }

    /// Begins to sample a batch once the one before it is done.
    #[async_recursion]
    pub async fn add(&mut self, batch: &RecordBatch) {
        let Some(mut sample) = self.done().await else { return };
        let batch = batch.clone();
        self.0 = Some(tokio::task::spawn_blocking(move || {
            let at = sample.catalog.store().clock().now();
            sample.add(&batch, at)?;
            Ok(sample)
        }));
    }

    #[async_recursion]
    pub async fn finish(mut self) {
        if let Some(sample) = self.done().await {
            sample.finish();
        }
    }

    async fn done(&mut self) -> Option<ReadSample> {
        match self.0.take()?.await {
            Ok(Ok(sample)) => Some(sample),
            Ok(Err(error)) => {
                sampling::not_sampled(&error);
                None
            }
            Err(error) => {
                sampling::not_sampled(&error);
                None
            }
        }
    }
}
