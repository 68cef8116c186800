//! Streams of producers, which come in through the one way for rows.

use std::sync::Arc;

use async_recursion::async_recursion;
use catalog::Author;
use catalog::ingest::stream::{ProducerStream, StreamSettings, Streams, Target};
use catalog::state::producers::LastPart;
use engine::SqlConditions;
use feature::policy::Action;

use crate::error::Result;
use crate::retrieve::Serving;

impl Serving {
    /// The same store with other settings of its streams. What waits in the streams before is committed by
    /// them.
    pub fn with_stream_settings(mut self, settings: StreamSettings) -> Self {
        self.streams = Streams::new(self.catalog().clone(), Arc::new(SqlConditions), settings);
        self
    }

    /// Begins or goes on with a producer's stream; all clones of this share their groups. See
    /// [`catalog::ingest::stream`].
    ///
    /// # Errors
    /// Those of [`Streams::open`].
    #[async_recursion]
    pub async fn open_stream(&self, target: Target, author: &Author) -> Result<ProducerStream> {
        let state = self.catalog().refresh().await?;
        // A view that is not there is told of by the stream.
        if let Ok(version) = catalog::ingest::resolve(&state, &target.project, &target.view) {
            let allowed = self.require(&state, author, Action::Ingest, &version.definition);
            let words = || format!("ingest {} as a stream of {}", target.view, target.producer);
            self.on_record(author, Action::Ingest, None, words, allowed).await?;
        }
        Ok(self.streams.open(target, author.clone()).await?)
    }

    /// What a producer committed last into a view; none before its first part.
    ///
    /// # Errors
    /// Those of [`Streams::last_part`].
    #[async_recursion]
    pub async fn last_part(&self, target: &Target) -> Result<Option<LastPart>> {
        Ok(self.streams.last_part(target).await?)
    }
}
