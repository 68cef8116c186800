//! Rows that come without end: each batch is a part of a producer's stream, committed with others that come
//! at the same time and acknowledged after that, in the order in which they were sent.

mod parts;

use std::pin::Pin;

use arrow_flight::{FlightDescriptor, PutResult};
use catalog::Author;
use catalog::ingest::Claim;
use catalog::ingest::stream::{Acknowledged, Pending, Target};
use feature::Name;
use futures::Stream;
use serde::Deserialize;
use serde_json::{Value, json};
use serving::Serving;
use tokio::sync::mpsc;
use tonic::Status;

use crate::admission::Admission;
use crate::call::Rows;
use crate::reports;
use crate::request::{self, Put, StreamOf, Wanted};
use crate::status;
use crate::upload::Upload;

/// Parts of one stream that were read and not acknowledged. Nothing more is read of its messages while there
/// are so many.
const PENDING: usize = 1_024;

type Results = Pin<Box<dyn Stream<Item = Result<PutResult, Status>> + Send>>;

/// What the reader of a stream hands on to whoever answers it.
enum Read {
    /// A part that waits for its commit.
    Part(Pending),
    /// The stream cannot go on.
    Failed(Status),
}

/// The stream that a descriptor names; none where it names something else.
pub fn wanted(descriptor: &FlightDescriptor) -> Option<Result<StreamOf, Status>> {
    let Ok(Wanted::Json(text)) = request::descriptor(descriptor) else { return None };
    // Whether it is one is seen at its only member; what is wrong within it is told by its own error.
    let members: serde_json::Map<String, Value> = serde_json::from_str(&text).ok()?;
    members.contains_key("stream").then(|| match request::json("the command", text.as_bytes())? {
        Put::Stream(stream) => Ok(stream),
        Put::Ingest(_) | Put::Spine(_) | Put::Mend(_) => {
            Err(status::invalid("the command asks for more than a stream"))
        }
    })
}

/// Begins a stream: one result for each part, after its commit, and an error as the last where it cannot go
/// on.
pub async fn open(
    serving: &Serving,
    wanted: StreamOf,
    upload: Upload,
    author: &Author,
    counted: &Rows,
    admission: Admission,
) -> Result<Results, Status> {
    request::note("the name of the feature view", Some(&wanted.view))?;
    request::note("the name of the producer", Some(&wanted.producer))?;
    let claim = wanted.claim.map(Into::into);
    let target = target(wanted.view, wanted.producer, claim);
    let stream = serving.open_stream(target, author).await.map_err(|error| status::of(&error))?;
    let (sender, receiver) = mpsc::channel(PENDING);
    let reader = parts::Reader {
        stream,
        messages: upload.into_messages(),
        memory: serving.memory().clone(),
        counted: counted.clone(),
        admission,
    };
    tokio::spawn(reader.run(sender));
    Ok(Box::pin(futures::stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        let answer = match receiver.recv().await? {
            Read::Part(pending) => {
                let acknowledged = pending.acknowledged().await;
                acknowledged.map_err(|error| status::of(&serving::Error::from(error))).and_then(result)
            }
            Read::Failed(status) => Err(status),
        };
        // What follows a part that was not taken cannot be taken.
        let rest = answer.is_ok().then_some(receiver);
        Some((answer, rest))
    })))
}

fn target(view: String, producer: String, claim: Option<Claim>) -> Target {
    Target { project: Name::default_project(), view, producer, claim }
}

fn result(acknowledged: Acknowledged) -> Result<PutResult, Status> {
    let Acknowledged {
        place,
        version,
        sequence,
        batch,
        rows,
        rejected,
        refused,
        quarantined,
        repeated,
        examples,
    } = acknowledged;
    let report = json!({
        "epoch": place.epoch,
        "number": place.number,
        "view_version": version,
        "sequence": sequence,
        "batch": batch,
        "rows": rows,
        "rejected": rejected,
        "refused": refused,
        "quarantined": quarantined,
        "repeated": repeated,
        "examples": examples,
    });
    Ok(PutResult { app_metadata: reports::json(&report)?.into() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Producer {
    view: String,
    producer: String,
}

/// The action `lineament.last_part`; zeros where a producer has committed nothing.
pub async fn last_part(serving: &Serving, body: &[u8]) -> Result<Vec<u8>, Status> {
    let Producer { view, producer } = request::json("the body of `lineament.last_part`", body)?;
    let last = serving.last_part(&target(view, producer, None)).await;
    let place = last.map_err(|error| status::of(&error))?.map(|last| last.place);
    let (epoch, number) = place.map_or((0, 0), |place| (place.epoch, place.number));
    reports::json(&json!({ "epoch": epoch, "number": number }))
}
