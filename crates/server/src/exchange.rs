//! A spine goes up, its features come down; or a table to audit, and what was found in it.

use catalog::Author;
use serving::{AuditRequest, GivenSpine, HistoricalRequest, Memory, Serving, Spine, SpoolWriter};
use tonic::Status;
use tracing::Instrument;

use crate::answer::Answer;
use crate::call::Rows;
use crate::request::{self, Exchange, Wanted};
use crate::status;
use crate::upload::{Received, Rest, UpTo, Upload};

/// Of the memory limit, the share that a spine may take to be held as a whole.
const SHARE: u64 = 8;

/// Answers an exchange: the features of the spine, then the report.
pub async fn exchange(
    serving: &Serving,
    upload: Upload,
    author: &Author,
    counted: &Rows,
) -> Result<Answer, Status> {
    let Wanted::Json(text) = request::descriptor(&upload.descriptor)? else {
        return Err(status::invalid(
            "an exchange needs the command {\"historical_features\": {\"features\": [\"view.feature\"]}} as its descriptor",
        ));
    };
    let wanted = match request::json("the command", text.as_bytes())? {
        Exchange::HistoricalFeatures(wanted) => wanted,
        Exchange::Audit(wanted) => return audit(serving, upload, wanted, author, counted).await,
    };
    if wanted.spine.is_some() || wanted.spine_sql.is_some() {
        upload.receive_nothing().await?;
        return of_named_spine(serving, wanted, author).await;
    }
    request::note("the name of the training set", wanted.name.as_ref())?;
    let memory = serving.memory();
    match upload.receive_up_to(in_memory(memory), counted, memory).await? {
        UpTo::All(Received { schema, batches, held }) => {
            let spine = Some(Spine { schema, batches }.into());
            let stream = serving.historical_stream(spine, wanted, author).await;
            Ok(Answer::historical(stream.map_err(|error| status::of(&error))?).beside(held))
        }
        UpTo::More(rest) => {
            let spool = serving.spool(rest.schema().clone());
            let (spool, rows) = spool.map_err(|error| status::of(&error))?;
            tokio::spawn(take_in(*rest, spool).in_current_span());
            let spine = Some(GivenSpine::Streamed(rows));
            let stream = serving.historical_stream(spine, wanted, author).await;
            Ok(Answer::historical(stream.map_err(|error| status::of(&error))?))
        }
    }
}

/// Bytes of a spine that are waited for before anything is done: one that is not longer is held in memory as a whole.
pub fn in_memory(memory: &Memory) -> u64 {
    memory.limit() / SHARE
}

/// Takes in what a client sends, as fast as it likes, until it has sent all.
async fn take_in(mut rest: Rest, mut spool: SpoolWriter) {
    loop {
        match spool.unless_left(rest.next()).await {
            // Its answer has ended, and the client may not know yet.
            None => return rest.drain().await,
            Some(Ok(None)) => return spool.finish(),
            Some(Ok(Some(batch))) => match spool.push(batch).await {
                Ok(true) => {}
                Ok(false) => return rest.drain().await,
                Err(error) => {
                    spool.fail(error);
                    return rest.drain().await;
                }
            },
            Some(Err(error)) => {
                spool.fail(error);
                return rest.drain().await;
            }
        }
    }
}

/// Features for a spine of which no rows are sent: one that was ingested before, or one that a query gives; then the report.
pub async fn of_named_spine(
    serving: &Serving,
    wanted: HistoricalRequest,
    author: &Author,
) -> Result<Answer, Status> {
    request::note("the name of the training set", wanted.name.as_ref())?;
    if let Some(text) = &wanted.spine_sql {
        request::sql(text.as_str())?;
    }
    let stream = serving.historical_stream(None, wanted, author).await;
    Ok(Answer::historical(stream.map_err(|error| status::of(&error))?))
}

/// A table goes up, and the cells that are not what was knowable come down, then the report.
async fn audit(
    serving: &Serving,
    upload: Upload,
    wanted: AuditRequest,
    author: &Author,
    counted: &Rows,
) -> Result<Answer, Status> {
    let Received { schema, batches, held } = upload.receive(counted, serving.memory()).await?;
    let audit = serving
        .audit_table(Spine { schema, batches }, wanted, true, author)
        .await
        .map_err(|error| status::of(&error))?;
    Answer::batches(audit.schema, audit.batches).holding(held)?.with_report(&audit.report)
}
