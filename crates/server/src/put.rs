//! Rows that come in to stay: into a feature view, and as parameters of a prepared statement.

use std::sync::Arc;

use arrow_flight::PutResult;
use arrow_flight::sql::{Command, CommandStatementIngest, DoPutUpdateResult};
use arrow_flight::sql::{TableExistsOption, TableNotExistOption};
use catalog::Author;
use catalog::ingest::{Claim, Input, Report, Request, Rows as InputRows};
use prost::Message;
use serving::Serving;
use tonic::Status;

use crate::call::Rows;
use crate::flight_sql::prepared;
use crate::reports;
use crate::request::{self, Ingest, Put, Wanted};
use crate::status;
use crate::upload::{Received, Upload};

/// Answers an upload.
pub async fn put(
    serving: &Serving,
    upload: Upload,
    author: &Author,
    counted: &Rows,
) -> Result<PutResult, Status> {
    let ingest = match request::descriptor(&upload.descriptor)? {
        Wanted::View(view) => Ingest { view, key: None, claim: None, steps: Vec::new() },
        Wanted::Json(text) => {
            let Put::Ingest(ingest) = request::json("the command", text.as_bytes())?;
            ingest
        }
        Wanted::Sql(_) => {
            return Err(status::invalid(
                "rows cannot be put into SQL text; name a feature view by the descriptor's path, or send the command {\"ingest\": {\"view\": \"…\"}}",
            ));
        }
        Wanted::FlightSql(command) => return flight_sql(serving, *command, upload, author, counted).await,
    };
    let report = take(serving, ingest, upload, author, counted).await?;
    Ok(PutResult { app_metadata: reports::json(&reports::ingest(&report))?.into() })
}

async fn take(
    serving: &Serving,
    ingest: Ingest,
    upload: Upload,
    author: &Author,
    counted: &Rows,
) -> Result<Report, Status> {
    ingest.verify()?;
    let Received { schema, batches, held } = upload.receive(counted, serving.memory()).await?;
    let mut request =
        Request::new(ingest.view, Input::Rows(InputRows::from_batches("rows", schema, batches)));
    request.key = ingest.key;
    request.claim = ingest.claim.map(|claim| match claim {
        request::Claim::BackFill => Claim::BackFill,
        request::Claim::Correction => Claim::Correction,
    });
    let mut author = author.clone();
    author.steps = ingest.steps;
    let report = serving.ingest(request, &author, Arc::new(|_| {})).await;
    drop(held);
    report.map_err(|error| status::of(&error))
}

async fn flight_sql(
    serving: &Serving,
    command: Command,
    upload: Upload,
    author: &Author,
    counted: &Rows,
) -> Result<PutResult, Status> {
    let app_metadata = match command {
        Command::CommandPreparedStatementQuery(query) => {
            prepared::bind(&query, upload.receive(counted, serving.memory()).await?)?.encode_to_vec()
        }
        Command::CommandStatementIngest(command) => {
            let report = take(serving, ingest_of(command)?, upload, author, counted).await?;
            let record_count = i64::try_from(report.rows).unwrap_or(i64::MAX);
            DoPutUpdateResult { record_count }.encode_to_vec()
        }
        Command::CommandStatementUpdate(_) | Command::CommandPreparedStatementUpdate(_) => {
            return Err(status::unsupported(
                "statements that change something are not supported: SQL here can only read; definitions change by `lineament.apply`, rows come in by DoPut into a feature view",
            ));
        }
        other => {
            return Err(status::unsupported(format!(
                "rows cannot be put by {} here",
                short(other.type_url())
            )));
        }
    };
    Ok(PutResult { app_metadata: app_metadata.into() })
}

/// Flight SQL's bulk ingest, as far as it is the same: rows that are appended to a feature view that exists.
fn ingest_of(command: CommandStatementIngest) -> Result<Ingest, Status> {
    if let Some(options) = &command.table_definition_options
        && (options.if_exists() != TableExistsOption::Append
            || options.if_not_exist() == TableNotExistOption::Create)
    {
        return Err(status::unsupported(
            "bulk ingest can only append to a feature view that is defined (mode `append`); define views by `lineament apply`",
        ));
    }
    if command.temporary || command.transaction_id.is_some() {
        return Err(status::unsupported(
            "bulk ingest into temporary tables or in transactions is not supported",
        ));
    }
    let view = match command.schema.filter(|schema| !schema.is_empty()) {
        Some(project) => format!("{project}.{}", command.table),
        None => command.table,
    };
    Ok(Ingest { view, key: None, claim: None, steps: Vec::new() })
}

/// A message's name without the address before it.
pub fn short(type_url: &str) -> &str {
    type_url.rsplit('.').next().unwrap_or(type_url)
}
