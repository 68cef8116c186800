//! The same training set once more, as any Flight client gets it.

use std::time::Instant;

use arrow::array::RecordBatch;
use arrow_flight::{FlightClient, Ticket};
use feature::TrainingSetId;
use feature::digest::{HashAlgorithm, digest_batches};
use futures::TryStreamExt;
use serving::{Error, Kind, Result, TrainingSet};
use tonic::transport::Endpoint;

use crate::table::grouped;

/// The greatest message that comes back.
const MESSAGE_BYTES: usize = 64 << 20;

/// Reads the set through the server and compares digests.
pub async fn read_back(url: &str, id: TrainingSetId, expected: &TrainingSet) -> Result<()> {
    let failed =
        |error: &dyn std::fmt::Display| Error::new(Kind::Unavailable, format!("over Flight: {error}"));
    let address = url.replacen("grpc://", "http://", 1);
    let channel = Endpoint::from_shared(address)
        .map_err(|error| failed(&error))?
        .connect()
        .await
        .map_err(|error| failed(&error))?;
    let service = arrow_flight::flight_service_client::FlightServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES);
    let mut client = FlightClient::new_from_inner(service);
    let started = Instant::now();
    let ticket = Ticket::new(serde_json::json!({ "training_set": id }).to_string());
    let stream = client.do_get(ticket).await.map_err(|error| failed(&error))?;
    let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(|error| failed(&error))?;
    let seconds = started.elapsed().as_secs_f64();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let digest = digest_batches(HashAlgorithm::Blake3, &expected.schema, &batches)
        .map_err(|error| Error::new(Kind::Internal, error.to_string()))?
        .digest
        .to_string();
    println!("  {url}");
    println!(
        "  {} rows read back in {seconds:.2} s, rebuilt on the way; digest {digest}",
        grouped(rows as u64)
    );
    if digest != expected.report.digest {
        return Err(Error::new(
            Kind::Damaged,
            "what came over Flight is not the training set that was recorded",
        ));
    }
    println!("  equal to the one above");
    Ok(())
}
