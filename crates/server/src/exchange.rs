//! A spine goes up, its features come down; or a table to audit, and what was found in it.

use catalog::Author;
use serving::{AuditRequest, Serving, Spine, TrainingSet};
use tonic::Status;

use crate::answer::Answer;
use crate::call::{Rows, reads_at};
use crate::request::{self, Exchange, Wanted};
use crate::status;
use crate::upload::{Received, Upload};

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
    request::note("the name of the training set", wanted.name.as_ref())?;
    let Received { schema, batches, held } = upload.receive(counted, serving.memory()).await?;
    let set = serving
        .historical(Spine { schema, batches }, wanted, author)
        .await
        .map_err(|error| status::of(&error))?;
    let TrainingSet { schema, batches, report } = set;
    reads_at(report.sequence, report.training_set);
    Answer::batches(schema, batches).holding(held)?.with_report(&report)
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
