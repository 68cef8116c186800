//! How long a read may last: what it reads may be swept after that, so it fails and says so.

use std::time::{Duration, Instant};

use catalog::State;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use feature::Span;
use futures::StreamExt;

/// The time that a read has, from the moment in which it got its snapshot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongestRead {
    begun: Instant,
    longest: Span,
}

impl LongestRead {
    /// Of a read that begins now.
    pub fn beginning(state: &State) -> Self {
        Self { begun: Instant::now(), longest: state.sweeps().retention().longest_read }
    }

    fn is_over(&self) -> bool {
        let longest = u64::try_from(self.longest.micros()).unwrap_or(0);
        self.begun.elapsed() > Duration::from_micros(longest)
    }

    fn error(&self) -> DataFusionError {
        DataFusionError::External(Box::new(catalog::Error::Contended(format!(
            "this read lasts longer than {}, the longest that the store allows: files that it needs may be swept from then on; read less at \
             once, or allow more (`lineament sweep --set-longest-read`)",
            self.longest
        ))))
    }

    /// The rows, for as long as the read may last. A file that is gone after that is no damage.
    pub fn bound(self, rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
        let schema = rows.schema();
        let bounded = rows.map(move |batch| if self.is_over() { Err(self.error()) } else { batch });
        Box::pin(RecordBatchStreamAdapter::new(schema, bounded))
    }
}
