//! A spine goes up, its features come down.

use catalog::Author;
use serving::{Serving, Spine, TrainingSet};
use tonic::Status;

use crate::answer::Answer;
use crate::call::Rows;
use crate::request::{self, Exchange, Wanted};
use crate::status;
use crate::upload::{Received, Upload};

/// Answers an exchange: the features of the spine, then the report. Rows are counted as they go down, not up.
pub async fn exchange(serving: &Serving, upload: Upload, author: &Author) -> Result<Answer, Status> {
    let Wanted::Json(text) = request::descriptor(&upload.descriptor)? else {
        return Err(status::invalid(
            "an exchange needs the command {\"historical_features\": {\"features\": [\"view.feature\"]}} as its descriptor",
        ));
    };
    let Exchange::HistoricalFeatures(wanted) = request::json("the command", text.as_bytes())?;
    request::note("the name of the training set", wanted.name.as_ref())?;
    let Received { schema, batches, held } = upload.receive(&Rows::default(), serving.memory()).await?;
    let set = serving
        .historical(Spine { schema, batches }, wanted, author)
        .await
        .map_err(|error| status::of(&error))?;
    let TrainingSet { schema, batches, report } = set;
    Answer::batches(schema, batches).holding(held)?.with_report(&report)
}
