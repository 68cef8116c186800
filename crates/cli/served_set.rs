//! A recorded training set as a running server gives it: its endpoints read side by side, its rows in their order.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::decode::DecodedPayload;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightClient, FlightDescriptor, Ticket};
use catalog::Author;
use clap::Args;
use feature::TrainingSetId;
use futures::{FutureExt, StreamExt};
use serde::Deserialize;
use serving::{Error, ExportedRows, Kind, Result};
use tokio::sync::{mpsc, oneshot};
use tonic::Code;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::session::file_error;

/// The greatest message that comes back.
const MESSAGE_BYTES: usize = 64 << 20;
/// Streams that are read at once.
const READERS: usize = 4;
/// Batches of one that may wait until those before it were taken. A batch is some 2 MiB.
const AHEAD: usize = 4;

/// A server in place of the store.
#[derive(Args)]
pub struct ServerOptions {
    /// Read from this running server, side by side, in place of the store: grpc://host:port or grpc+tls://host:port
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// The token by which that server knows its caller
    #[arg(long, env = "LINEAMENT_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A PEM file that vouches for the certificate of that server
    #[arg(long, env = "LINEAMENT_TLS_ROOT_CERTS", value_name = "FILE")]
    tls_root_certs: Option<PathBuf>,
}

/// A set of which no row was read yet.
pub struct ServedSet {
    pub rows: u64,
    schema: SchemaRef,
    id: TrainingSetId,
    tickets: Vec<Ticket>,
    service: FlightServiceClient<Channel>,
    headers: MetadataMap,
}

/// What comes of an endpoint.
enum Piece {
    Rows(RecordBatch),
    Report(StretchTold),
}

/// The part of an endpoint's report that is read here.
#[derive(Deserialize)]
struct StretchTold {
    digest: String,
    rows: u64,
    from: u64,
    until: u64,
}

impl ServerOptions {
    /// What the server says of a set.
    ///
    /// # Errors
    /// A server that cannot be reached; its own.
    pub async fn open(&self, url: &str, id: TrainingSetId, author: &Author) -> Result<ServedSet> {
        let channel = self.connect(url).await?;
        let service = FlightServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
        let headers = self.headers(author)?;
        let command = serde_json::json!({ "training_set": id }).to_string();
        let info = client(&service, &headers).get_flight_info(FlightDescriptor::new_cmd(command)).await;
        let info = info.map_err(failed)?;
        let rows = u64::try_from(info.total_records).map_err(|_| unknown("does not say how many rows"))?;
        let tickets = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.clone()).collect();
        let schema = info.try_decode_schema().map_err(|_| unknown("does not say which columns"))?;
        Ok(ServedSet { rows, schema: schema.into(), id, tickets, service, headers })
    }

    async fn connect(&self, url: &str) -> Result<Channel> {
        let wrong = |why: &str| Error::new(Kind::Invalid, format!("--server {url}: {why}"));
        let unreachable = |error: &dyn std::error::Error| {
            let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            Error::new(Kind::Unavailable, format!("no server answers at {url}: {cause}"))
        };
        let encrypted = url.strip_prefix("grpc+tls://");
        let address = match (encrypted, url.strip_prefix("grpc://")) {
            (Some(rest), _) => format!("https://{rest}"),
            (None, Some(rest)) => format!("http://{rest}"),
            (None, None) => {
                return Err(wrong(
                    "write it as grpc://host:port, or grpc+tls://host:port where it is encrypted",
                ));
            }
        };
        let mut endpoint = Endpoint::from_shared(address).map_err(|error| wrong(&error.to_string()))?;
        if encrypted.is_some() {
            let Some(path) = &self.tls_root_certs else {
                return Err(wrong("name the PEM file that vouches for its certificate by --tls-root-certs"));
            };
            let pem = std::fs::read(path).map_err(|error| file_error(path, error))?;
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            endpoint = endpoint.tls_config(tls).map_err(|error| wrong(&error.to_string()))?;
        } else if self.token().is_some() && !endpoint.uri().host().is_some_and(stays_here) {
            return Err(wrong("it is not encrypted, so that others could read the token; use grpc+tls://"));
        }
        endpoint.connect().await.map_err(|error| unreachable(&error))
    }

    fn token(&self) -> Option<&str> {
        self.token.as_deref().map(str::trim).filter(|token| !token.is_empty())
    }

    /// Who calls, and what for.
    fn headers(&self, author: &Author) -> Result<MetadataMap> {
        let bearer = self.token().map(|token| format!("Bearer {token}"));
        let said = [
            ("authorization", "the token", bearer),
            ("lineament-run", "the run", author.run.clone()),
            ("lineament-experiment", "the experiment", author.experiment.clone()),
            ("lineament-purpose", "the purpose", Some(author.purpose.to_string())),
        ];
        let mut headers = MetadataMap::new();
        for (name, what, value) in said {
            let Some(value) = value else { continue };
            let value = value.parse::<MetadataValue<Ascii>>().map_err(|_| {
                let why = format!("{what} travels as a header, which takes printable ASCII only");
                Error::new(Kind::Invalid, why)
            })?;
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

impl ServedSet {
    /// Its rows in their order. Where they are not all, the last of them is followed by why.
    pub fn read(self) -> ExportedRows {
        let (rows, received) = mpsc::channel(1);
        let (tell, digest) = oneshot::channel();
        let schema = self.schema.clone();
        tokio::spawn(async move {
            // Whoever left asks for neither.
            match self.relay(&rows).await {
                Ok(digest) => drop(tell.send(digest)),
                Err(error) => drop(rows.send(Err(error)).await),
            }
        });
        let rows = futures::stream::unfold(received, |mut received: mpsc::Receiver<_>| async move {
            let next = received.recv().await?;
            Some((next, received))
        });
        let digest = async move {
            digest.await.map_err(|_| Error::new(Kind::Internal, "the set was not read to its end"))
        };
        ExportedRows { schema, rows: rows.boxed(), digest: digest.boxed() }
    }

    /// Sends the rows of all endpoints off, one endpoint after the other while the next are being read. Gives the digest of the set.
    async fn relay(self, rows: &mpsc::Sender<Result<RecordBatch>>) -> Result<String> {
        let damaged = |why: &str| {
            Error::new(Kind::Damaged, format!("the training set {} {why}; export it again", self.id))
        };
        let mut tickets = self.tickets.iter();
        let mut open: VecDeque<mpsc::Receiver<Result<Piece>>> = VecDeque::new();
        let (mut came, mut digest): (u64, Option<String>) = (0, None);
        loop {
            let more = READERS - open.len();
            open.extend(tickets.by_ref().take(more).map(|ticket| self.begin(ticket.clone())));
            let Some(mut pieces) = open.pop_front() else { break };
            let (first, mut report) = (came, None);
            while let Some(piece) = pieces.recv().await {
                match piece? {
                    Piece::Rows(batch) => {
                        came += batch.num_rows() as u64;
                        if rows.send(Ok(batch)).await.is_err() {
                            return Err(damaged("was left before its end"));
                        }
                    }
                    Piece::Report(told) => report = Some(told),
                }
            }
            let Some(StretchTold { digest: of, rows: all, from, until }) = report else {
                return Err(damaged("came without a report of its rows, so that they may not be all"));
            };
            let same = digest.as_ref().is_none_or(|digest| *digest == of);
            if !same || (all, from, until) != (self.rows, first, came) {
                return Err(damaged("came in stretches that do not belong together"));
            }
            digest = Some(of);
        }
        digest.filter(|_| came == self.rows).ok_or_else(|| damaged("did not come whole"))
    }

    /// Begins to read an endpoint.
    fn begin(&self, ticket: Ticket) -> mpsc::Receiver<Result<Piece>> {
        let (pieces, received) = mpsc::channel(AHEAD);
        let client = client(&self.service, &self.headers);
        tokio::spawn(async move {
            if let Err(error) = read_endpoint(client, ticket, &pieces).await {
                // Whoever left asks for none.
                drop(pieces.send(Err(error)).await);
            }
        });
        received
    }
}

async fn read_endpoint(
    mut client: FlightClient,
    ticket: Ticket,
    pieces: &mpsc::Sender<Result<Piece>>,
) -> Result<()> {
    let mut messages = client.do_get(ticket).await.map_err(failed)?.into_inner();
    while let Some(message) = messages.next().await {
        let message = message.map_err(failed)?;
        let told = message.app_metadata();
        let rows = match message.payload {
            DecodedPayload::RecordBatch(batch) if batch.num_rows() > 0 => Some(Piece::Rows(batch)),
            _ => None,
        };
        let report = if told.is_empty() {
            None
        } else {
            let told = serde_json::from_slice::<StretchTold>(&told);
            Some(Piece::Report(told.map_err(|_| unknown("gives another report than is known here"))?))
        };
        for piece in rows.into_iter().chain(report) {
            if pieces.send(Ok(piece)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn client(service: &FlightServiceClient<Channel>, headers: &MetadataMap) -> FlightClient {
    let mut client = FlightClient::new_from_inner(service.clone());
    *client.metadata_mut() = headers.clone();
    client
}

/// Whether calls to it do not leave this machine.
fn stays_here(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// What the server says, by what the caller can do about it.
fn failed(error: FlightError) -> Error {
    let status = match error {
        FlightError::Tonic(status) => status,
        other => {
            return Error::new(Kind::Internal, format!("what the server sent cannot be read: {other}"));
        }
    };
    let kind = match status.code() {
        Code::InvalidArgument | Code::Unimplemented => Kind::Invalid,
        Code::NotFound => Kind::NotFound,
        Code::FailedPrecondition => Kind::Refused,
        Code::PermissionDenied | Code::Unauthenticated => Kind::Forbidden,
        Code::DataLoss => Kind::Damaged,
        Code::ResourceExhausted => Kind::Exhausted,
        Code::Internal => Kind::Internal,
        _ => Kind::Unavailable,
    };
    Error::new(kind, status.message())
}

fn unknown(what: &str) -> Error {
    Error::new(Kind::Internal, format!("the server {what}; is it a Lineament server of this version?"))
}
