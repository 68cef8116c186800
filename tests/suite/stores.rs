//! Stores for tests, in memory and in a folder, and the few calls that every test of them makes.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use catalog::ingest::{Claim, Input, Report, Request, Rows};
use catalog::{Author, Catalog};
use feature::Timestamp;
use futures::TryStreamExt;
use serving::{Query, Serving, Spine};
use storage::Store;
use storage::environment::{Clock, TestClock};

/// Who writes in tests.
pub fn author() -> Author {
    Author { principal: "tester".to_owned(), program: "suite 1".to_owned(), ..Author::default() }
}

pub fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A new store in memory.
pub async fn memory(clock: &TestClock) -> Serving {
    open("memory://", clock.clone().into()).await
}

/// The store in a folder, made where there is none.
pub async fn folder(path: &Path, clock: &TestClock) -> Serving {
    open(path.to_str().unwrap(), clock.clone().into()).await
}

async fn open(address: &str, clock: Clock) -> Serving {
    let store = Store::open(address, clock).unwrap();
    let catalog = Catalog::open_or_create(store, &author()).await.unwrap();
    Serving::new(catalog).with_policies(Arc::new(policy::Cedar))
}

/// Definition files: name and text of each.
pub fn files(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

pub fn rows(view: &str, batches: Vec<RecordBatch>) -> Request {
    let schema = batches[0].schema();
    Request::new(view, Input::Rows(Rows::from_batches("rows", schema, batches)))
}

pub fn claimed(mut request: Request, claim: Claim) -> Request {
    request.claim = Some(claim);
    request
}

pub async fn ingest(serving: &Serving, request: Request) -> serving::Result<Report> {
    serving.ingest(request, &author(), Arc::new(|_| ())).await
}

/// All rows of a query, in the order in which they came.
pub async fn select(serving: &Serving, sql: &str) -> serving::Result<(SchemaRef, Vec<RecordBatch>)> {
    let answer = serving.retrieve(Query::sql(sql), &author()).await?;
    let batches = answer.stream.try_collect().await?;
    Ok((answer.schema, batches))
}

/// The only value of a query.
pub async fn count(serving: &Serving, sql: &str) -> i64 {
    let (_, batches) = select(serving, sql).await.unwrap();
    let values = super::values::read(batches[0].column(0));
    match &values[0] {
        Some(super::values::Value::Int(count)) => i64::try_from(*count).unwrap(),
        other => panic!("{sql} gave {other:?}"),
    }
}

pub fn spine(batches: Vec<RecordBatch>) -> Spine {
    Spine { schema: batches[0].schema(), batches }
}
