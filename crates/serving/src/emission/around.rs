//! The events around one node of the graph: of what it came from, and of what came of it.

use std::collections::HashSet;

use async_recursion::async_recursion;
use catalog::Following;
use lineage::graph::Node;
use lineage::openlineage::{Event, Namespace, Translator, subjects};

use super::material;
use crate::error::{Error, Kind, Result};
use crate::graph::LineageRequest;
use crate::retrieve::Serving;

/// Events around a node, in the order of the log.
#[derive(Clone, Debug)]
pub struct EventsAround {
    pub events: Vec<Event>,
    /// Whether everything was reached.
    pub complete: bool,
}

impl Serving {
    /// The OpenLineage events of all that walks of the graph reach: those that an [`Emission`](super::Emission)
    /// sends of these nodes, the same byte for byte. They name datasets beyond the walk where an event does, as
    /// a training set all its views; these have no events of their own here.
    ///
    /// The log is read from its beginning, since an event tells what was so at its entry.
    ///
    /// # Errors
    /// Those of [`Serving::lineage`]; `Invalid` for an authority that is none.
    #[async_recursion]
    pub async fn events_around(
        &self,
        requests: &[LineageRequest],
        authority: Option<&str>,
    ) -> Result<EventsAround> {
        let mut nodes: HashSet<Node> = HashSet::new();
        let mut complete = true;
        let mut until = None;
        for request in requests {
            let (graph, walk) = self.walk(request).await?;
            complete &= walk.cut_at.is_none();
            until = until.max(Some(graph.sequence()));
            nodes.extend(walk.steps.iter().map(|step| graph.node(step.place).clone()));
        }
        let Some(until) = until else { return Ok(EventsAround { events: Vec::new(), complete }) };
        let namespace = match authority {
            Some(authority) => Namespace::of_authority(authority)
                .map_err(|error| Error::new(Kind::Invalid, error.to_string()))?,
            None => Namespace::of_store(self.catalog().state().store),
        };
        let translator = Translator::new(namespace);
        let mut following = Following::new(self.catalog().clone());
        let mut events = Vec::new();
        while let Some(entry) = following.next().await? {
            if entry.by.sequence > until {
                break;
            }
            let wanted: Vec<bool> = entry
                .records
                .iter()
                .map(|record| {
                    let about = subjects(record);
                    !about.is_empty() && about.iter().all(|node| nodes.contains(node))
                })
                .collect();
            if !wanted.contains(&true) {
                continue;
            }
            let material = material::of(&following, &entry).await?;
            let Some(state) = following.state() else { continue };
            let told = translator.translate(&entry, state, &material);
            events.extend(told.into_iter().filter(|event| wanted.get(event.record) == Some(&true)));
        }
        Ok(EventsAround { events, complete })
    }
}
