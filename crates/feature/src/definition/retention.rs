//! How long a view's rows are kept.

use serde::{Deserialize, Serialize};

use super::FeatureView;
use crate::time::{Span, Timestamp};

/// How long rows are kept, by when they are valid. It is no part of a version: it says what is there, and not what it means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Rows that have been valid for longer than this go. Never less than the view's ttl, so that no retrieval for a time within it
    /// misses a row that it could see.
    pub keep: Span,
    /// How long a training set of which no model is known keeps the rows that it was made of; `None` is for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused_sets: Option<Span>,
}

impl Retention {
    /// Rows that are valid before this go.
    #[must_use]
    pub fn before(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.micros().saturating_sub(self.keep.micros()))
    }

    /// What is wrong with it, as a place in the definition and words for it.
    pub(super) fn problem(&self, view: &FeatureView) -> Option<(&'static str, String)> {
        let Some(ttl) = view.ttl else {
            return Some((
                "retention",
                "[retention]: the view has no `ttl`, so that a retrieval looks back for ever and would miss what is gone; declare \
                 how far it looks back, such as ttl = \"7d\", no longer than `keep`"
                    .to_owned(),
            ));
        };
        (self.keep < ttl).then(|| {
            (
                "retention.keep",
                format!(
                    "[retention]: `keep` is \"{}\", less than the view's `ttl`, \"{ttl}\": retrievals would miss what they look back \
                     to; keep rows for \"{ttl}\" at least",
                    self.keep
                ),
            )
        })
    }
}
