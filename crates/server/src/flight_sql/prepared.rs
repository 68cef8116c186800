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
    let (dataset_schema, parameter_schema) = if parameters > 0 {
        unbound(serving, query.text(), parameters, session).await?
    } else {
        let schema = serving.describe(&query).await.map_err(|error| status::of(&error))?;
        (schema_message(&schema)?, Bytes::new())
    };
    let handle = Handle { sql: query.text().to_owned(), prepared: None, parameters: None };
    let prepared_statement_handle = handle.write()?.into();
    Ok(ActionCreatePreparedStatementResult { prepared_statement_handle, dataset_schema, parameter_schema })
}

/// The schemas of the answer and of the parameters, before these are bound: a parameter has no type where the statement does not say it,
/// and then the answer has no schema. What cannot be planned yet may be in order once its parameters are bound, so it is not refused.
async fn unbound(
    serving: &Serving,
    sql: &str,
    parameters: usize,
    session: &Session,
) -> Result<(Bytes, Bytes), Status> {
    let numbered = parameters::numbered(sql).map_err(|error| status::invalid(error.to_string()))?;
    let described = match request::sql(numbered) {
        Ok(query) => serving.describe_unbound(&query.with_spines(&session.tables)).await.ok(),
        // With its numbers it is longer than a statement may be.
        Err(_) => None,
    };
    let types = described.as_ref().map(|described| &described.parameters);
    let field = |number: usize| {
        let name = format!("${number}");
        let told = types.and_then(|types| types.get(&name)).map_or(DataType::Null, parameters::told);
        Field::new(name, told, true)
    };
    let fields: Vec<Field> = (1..=parameters).map(field).collect();
    let all_told = fields.iter().all(|field| *field.data_type() != DataType::Null);
    let dataset = match &described {
        Some(described) if all_told => schema_message(&described.schema)?,
        _ => Bytes::new(),
    };
    Ok((dataset, schema_message(&Schema::new(fields))?))
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
