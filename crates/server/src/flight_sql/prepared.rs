//! Prepared statements: planned once, with parameters bound into their handle.

use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, CommandPreparedStatementQuery,
    DoPutPreparedStatementResult,
};
use bytes::Bytes;
use serving::{SQL_BYTES, Serving};
use tonic::Status;

use super::schema_message;
use super::session::Session;
use crate::parameters;
use crate::request::{self, Handle};
use crate::status;
use crate::upload::Received;

/// Prepares a statement: it is planned, and refused here if it is wrong.
pub async fn create(
    serving: &Serving,
    wanted: ActionCreatePreparedStatementRequest,
    session: &Session,
) -> Result<ActionCreatePreparedStatementResult, Status> {
    if wanted.transaction_id.is_some_and(|id| !id.is_empty()) {
        return Err(status::unsupported("transactions are not supported: queries here only read"));
    }
    let query = request::sql(wanted.query)?.with_spines(&session.tables);
    let parameters = parameters::count(query.text()).map_err(|error| status::invalid(error.to_string()))?;
    let described = serving.describe(&query).await;
    let (dataset_schema, parameter_schema) = match described {
        // With placeholders, the schema is a best guess, and there may be none before they are bound.
        _ if parameters > 0 => {
            let fields: Vec<Field> = (1..=parameters)
                .map(|number| Field::new(format!("${number}"), DataType::Null, true))
                .collect();
            (Bytes::new(), schema_message(&Schema::new(fields))?)
        }
        Ok(schema) => (schema_message(&schema)?, Bytes::new()),
        Err(error) => return Err(status::of(&error)),
    };
    let handle = Handle { sql: query.text().to_owned(), prepared: None, parameters: None };
    let prepared_statement_handle = handle.write()?.into();
    Ok(ActionCreatePreparedStatementResult { prepared_statement_handle, dataset_schema, parameter_schema })
}

/// Binds parameters: the answer is the handle of the statement with its values.
pub fn bind(
    statement: &CommandPreparedStatementQuery,
    received: Received,
) -> Result<DoPutPreparedStatementResult, Status> {
    let Handle { sql, prepared, .. } = Handle::read(&statement.prepared_statement_handle)?;
    let prepared = prepared.unwrap_or(sql);
    let prepared = request::sql(prepared)?.text().to_owned();
    let values = concat_batches(&received.schema, &received.batches)
        .map_err(|error| status::invalid(format!("the parameters cannot be read: {error}")))?;
    let bound = parameters::bind(&prepared, &values, SQL_BYTES)
        .map_err(|error| status::invalid(error.to_string()))?;
    let named = parameters::named(&values).map_err(|error| status::invalid(error.to_string()))?;
    let handle = Handle { sql: bound, prepared: Some(prepared), parameters: Some(named) };
    Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle.write()?.into()) })
}
