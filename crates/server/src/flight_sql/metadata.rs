//! Catalogs, schemas, tables: what tools list. Taken from `information_schema`, so that they see what SQL sees.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::GetCatalogsBuilder;
use arrow_flight::sql::{Command, CommandGetTables};
use catalog::Author;
use futures::TryStreamExt;
use serving::{Query, Serving};
use tonic::Status;

use super::{keys, server_info};
use crate::status;

/// The one catalog that there is, the project of views without one, and where the system views are.
pub const CATALOG: &str = "store";
pub const DEFAULT_SCHEMA: &str = "default";
pub const SYSTEM_SCHEMA: &str = "lineament";

const SCHEMATA: &str = "SELECT catalog_name, schema_name FROM information_schema.schemata ORDER BY 1, 2";
const TABLES: &str = "SELECT table_catalog, table_schema, table_name, table_type FROM information_schema.tables ORDER BY 1, 2, 3";
/// What tables are: feature views, and views over them or over the log.
const TABLE: &str = "TABLE";
const VIEW: &str = "VIEW";

/// The schema of a listing; none for commands that are no listing of ours.
pub async fn schema(
    command: &Command,
    serving: &Serving,
    author: &Author,
) -> Result<Option<SchemaRef>, Status> {
    Ok(match command {
        Command::CommandGetTables(tables) => Some(tables.clone().into_builder().schema()),
        Command::CommandGetDbSchemas(schemas) => Some(schemas.clone().into_builder().schema()),
        Command::CommandGetPrimaryKeys(_) => Some(keys::primary_schema()),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => Some(keys::foreign_schema()),
        // Small and always the same, so that the listing itself tells.
        other => rows(other, serving, author).await?.map(|batch| batch.schema()),
    })
}

/// The rows of a listing; none for commands that are no listing of ours.
pub async fn rows(
    command: &Command,
    serving: &Serving,
    author: &Author,
) -> Result<Option<RecordBatch>, Status> {
    let built = match command {
        Command::CommandGetCatalogs(_) => {
            let mut catalogs: Vec<String> = listing(serving, author, SCHEMATA)
                .await?
                .into_iter()
                .filter_map(|row| row.into_iter().next())
                .collect();
            catalogs.dedup();
            let mut builder = GetCatalogsBuilder::new();
            for catalog in catalogs {
                builder.append(catalog);
            }
            builder.build()
        }
        Command::CommandGetDbSchemas(wanted) => {
            let mut builder = wanted.clone().into_builder();
            for row in listing(serving, author, SCHEMATA).await? {
                if let [catalog, schema] = row.as_slice() {
                    builder.append(catalog, schema);
                }
            }
            builder.build()
        }
        Command::CommandGetTables(wanted) => return tables(wanted, serving, author).await.map(Some),
        Command::CommandGetPrimaryKeys(wanted) => return keys::primary(wanted, serving).await.map(Some),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => return Ok(Some(keys::foreign())),
        Command::CommandGetTableTypes(wanted) => {
            let mut builder = wanted.into_builder();
            builder.append(TABLE);
            builder.append(VIEW);
            builder.build()
        }
        Command::CommandGetSqlInfo(wanted) => wanted.clone().into_builder(server_info::get()?).build(),
        _ => return Ok(None),
    };
    built.map(Some).map_err(failed)
}

async fn tables(
    wanted: &CommandGetTables,
    serving: &Serving,
    author: &Author,
) -> Result<RecordBatch, Status> {
    let mut builder = wanted.clone().into_builder();
    for row in listing(serving, author, TABLES).await? {
        let [catalog, schema, table, kind] = row.as_slice() else { continue };
        let kind = if kind == "BASE TABLE" { TABLE } else { VIEW };
        let columns = if wanted.include_schema {
            let query = Query::sql(format!("SELECT * FROM {}.{}", quoted(schema), quoted(table)));
            serving.describe(&query).await.map_err(|error| status::of(&error))?
        } else {
            SchemaRef::new(arrow::datatypes::Schema::empty())
        };
        builder.append(catalog, schema, table, kind, &columns).map_err(failed)?;
    }
    builder.build().map_err(failed)
}

/// The rows of a query whose columns are texts.
async fn listing(serving: &Serving, author: &Author, sql: &str) -> Result<Vec<Vec<String>>, Status> {
    let retrieval = serving.retrieve(Query::sql(sql), author).await.map_err(|error| status::of(&error))?;
    let batches: Vec<RecordBatch> =
        retrieval.stream.try_collect().await.map_err(|error| status::of(&error))?;
    let mut rows = Vec::new();
    for batch in batches {
        let mut columns = Vec::with_capacity(batch.num_columns());
        for column in batch.columns() {
            columns.push(cast(column, &DataType::Utf8).map_err(|error| status::encoding(&error))?);
        }
        for at in 0..batch.num_rows() {
            let text = |column: &std::sync::Arc<dyn Array>| column.as_string::<i32>().value(at).to_owned();
            rows.push(columns.iter().map(text).collect());
        }
    }
    Ok(rows)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn failed(error: FlightError) -> Status {
    status::internal("the listing could not be made", error)
}
