//! The Flight service: each call read, answered by `serving`, and logged.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use catalog::Author;
use catalog::records::Verdict;
use feature::Name;
use futures::{Stream, StreamExt};
use serving::{Query, Serving};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::actions;
use crate::answer::Answer;
use crate::call::{Call, Rows, announced_rows};
use crate::callers::Caller;
use crate::exchange::exchange;
use crate::flight_sql;
use crate::put::put;
use crate::request::{self, Wanted};
use crate::sealed::Seals;
use crate::sealed_statements;
use crate::status;
use crate::upload::Upload;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub struct Flight {
    serving: Serving,
    author: Author,
    seals: Seals,
}

impl Flight {
    /// `author` is what entries say of their writer beside the principal, who is the caller. `seals` seal what is given out.
    pub fn new(serving: Serving, author: Author, seals: Seals) -> Self {
        Self { serving, author, seals }
    }

    fn call<T>(&self, method: &'static str, request: &Request<T>) -> Result<Call, Status> {
        let Some(caller) = request.extensions().get::<Caller>() else {
            return Err(status::internal("nobody is known to call", "the call came without its caller"));
        };
        let author = Author { principal: caller.principal.clone(), ..self.author.clone() };
        Call::begin(method, &author, request.metadata())
    }

    /// The columns of what a descriptor names, and the ticket for its rows.
    async fn plan(
        &self,
        descriptor: &FlightDescriptor,
        author: &Author,
    ) -> Result<(SchemaRef, Vec<u8>), Status> {
        let descriptor = sealed_statements::open_descriptor(&self.seals, &author.principal, descriptor)?;
        let query = match request::descriptor(&descriptor)? {
            Wanted::FlightSql(command) => return flight_sql::info(&self.serving, *command, author).await,
            Wanted::Sql(text) => request::sql(text)?,
            Wanted::View(name) => request::view(&name)?,
            Wanted::Json(text) => match request::json("the command", text.as_bytes())? {
                request::Ticket::Sql(text) => request::sql(text)?,
                request::Ticket::TrainingSet(_) => {
                    return Err(status::invalid(
                        "a training set is planned by being rebuilt: give this command to DoGet as its ticket",
                    ));
                }
                request::Ticket::Diff(_) | request::Ticket::Audit(_) => {
                    return Err(status::invalid(
                        "a diff or an audit is planned by being made: give this command to DoGet as its ticket",
                    ));
                }
            },
        };
        let schema = self.serving.describe(&query).await.map_err(|error| status::of(&error))?;
        Ok((schema, request::ticket(&query)))
    }

    async fn rows(&self, ticket: &[u8], author: &Author) -> Result<Answer, Status> {
        let ticket = sealed_statements::open_ticket(&self.seals, &author.principal, ticket)?;
        let query = match request::command(&ticket)? {
            Wanted::FlightSql(command) => return flight_sql::rows(&self.serving, *command, author).await,
            Wanted::Json(text) => match request::json("the ticket", text.as_bytes())? {
                request::Ticket::Sql(text) => request::sql(text)?,
                request::Ticket::TrainingSet(id) => {
                    let (report, set) =
                        self.serving.replay(id, author).await.map_err(|error| status::of(&error))?;
                    if report.verdict != Verdict::Equal {
                        let columns: Vec<&str> =
                            report.differences.iter().map(|difference| difference.column.as_str()).collect();
                        return Err(status::status(
                            Code::DataLoss,
                            format!(
                                "the training set {id} cannot be rebuilt as it was (columns that differ: {}), so its rows are not given; the action `lineament.replay` reports on it",
                                columns.join(", ")
                            ),
                        ));
                    }
                    let held = Arc::new(self.serving.memory().reserve("training set"));
                    return Answer::batches(set.schema, set.batches).holding(held)?.with_report(&report);
                }
                request::Ticket::Diff(wanted) => {
                    let diff = self.serving.diff(wanted, true, author).await;
                    let diff = diff.map_err(|error| status::of(&error))?;
                    let held = Arc::new(self.serving.memory().reserve("diff"));
                    return Answer::batches(diff.schema, diff.batches)
                        .holding(held)?
                        .with_report(&diff.report);
                }
                request::Ticket::Audit(wanted) => {
                    let audit = self.serving.audit_set(wanted, true, author).await;
                    let audit = audit.map_err(|error| status::of(&error))?;
                    let held = Arc::new(self.serving.memory().reserve("audit"));
                    return Answer::batches(audit.schema, audit.batches)
                        .holding(held)?
                        .with_report(&audit.report);
                }
            },
            Wanted::Sql(_) | Wanted::View(_) => {
                return Err(status::invalid(
                    "the ticket is not one that this server gives out; to run a query by DoGet alone, send {\"sql\": \"SELECT …\"}",
                ));
            }
        };
        let retrieval = self.serving.retrieve(query, author).await.map_err(|error| status::of(&error))?;
        Ok(Answer::retrieval(retrieval))
    }

    async fn flights(&self) -> Result<Vec<FlightInfo>, Status> {
        let catalog = self.serving.catalog();
        let state = catalog.refresh().await.map_err(|error| status::of(&error.into()))?;
        let mut flights = Vec::new();
        for version in state.views_in_force(state.head.sequence) {
            let view = &version.definition;
            let name = if view.project == Name::default_project() {
                view.name.to_string()
            } else {
                format!("{}.{}", view.project, view.name)
            };
            let query = Query::view(&name);
            let schema = self.serving.describe(&query).await.map_err(|error| status::of(&error))?;
            flights.push(flight_info(
                &schema,
                request::ticket(&query),
                FlightDescriptor::new_path(vec![name]),
            )?);
        }
        Ok(flights)
    }
}

/// One endpoint without a location: the rows are here.
fn flight_info(
    schema: &SchemaRef,
    ticket: Vec<u8>,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo, Status> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
    let info = FlightInfo::new().try_with_schema(schema).map_err(|error| status::encoding(&error))?;
    Ok(info.with_endpoint(endpoint).with_descriptor(descriptor).with_ordered(true))
}

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;
    type DoExchangeStream = Answers<FlightData>;

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(status::unsupported("there are no logins yet: connect without user and password"))
    }

    async fn list_flights(
        &self,
        request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        let call = self.call("ListFlights", &request)?;
        let flights = call
            .stream(async |author: &Author, _: &Rows| {
                if !request.get_ref().expression.is_empty() {
                    return Err(status::invalid("criteria are not supported: all feature views are listed"));
                }
                let flights = self.flights().await?.into_iter();
                let sealed: Vec<_> = flights
                    .map(|info| sealed_statements::seal_info(&self.seals, &author.principal, info))
                    .collect();
                Ok(futures::stream::iter(sealed))
            })
            .await?;
        Ok(Response::new(flights))
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let call = self.call("GetFlightInfo", &request)?;
        let descriptor = request.into_inner();
        let info = call
            .answer(async |author: &Author, _: &Rows| {
                let (schema, ticket) = self.plan(&descriptor, author).await?;
                let info = flight_info(&schema, ticket, descriptor)?;
                sealed_statements::seal_info(&self.seals, &author.principal, info)
            })
            .await?;
        Ok(Response::new(info))
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(status::unsupported("PollFlightInfo is not supported; use GetFlightInfo, which answers at once"))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let call = self.call("GetSchema", &request)?;
        let schema = call
            .answer(async |author: &Author, _: &Rows| {
                let (schema, _) = self.plan(request.get_ref(), author).await?;
                let options = arrow::ipc::writer::IpcWriteOptions::default();
                SchemaResult::try_from(SchemaAsIpc::new(&schema, &options))
                    .map_err(|error| status::encoding(&error))
            })
            .await?;
        Ok(Response::new(schema))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let call = self.call("DoGet", &request)?;
        let ticket = request.into_inner().ticket;
        let rows = call
            .stream(async |author: &Author, counted: &Rows| {
                Ok(self.rows(&ticket, author).await?.encode(counted.clone()))
            })
            .await?;
        Ok(Response::new(rows))
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let call = self.call("DoPut", &request)?;
        let announced = announced_rows(request.metadata())?;
        let messages = request.into_inner();
        let result = call
            .answer(async |author: &Author, counted: &Rows| {
                let mut upload = Upload::begin(messages, announced).await?;
                let opened =
                    sealed_statements::open_descriptor(&self.seals, &author.principal, &upload.descriptor)?;
                let Cow::Owned(statement) = opened else {
                    return put(&self.serving, upload, author, counted).await;
                };
                upload.descriptor = statement;
                let bound = put(&self.serving, upload, author, counted).await?;
                sealed_statements::seal_bound(&self.seals, &author.principal, bound)
            })
            .await?;
        Ok(Response::new(futures::stream::iter([Ok(result)]).boxed()))
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        let call = self.call("DoExchange", &request)?;
        let announced = announced_rows(request.metadata())?;
        let messages = request.into_inner();
        let rows = call
            .stream(async |author: &Author, counted: &Rows| {
                let upload = Upload::begin(messages, announced).await?;
                Ok(exchange(&self.serving, upload, author).await?.encode(counted.clone()))
            })
            .await?;
        Ok(Response::new(rows))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let call = self.call("DoAction", &request)?;
        let Action { r#type, body } = request.into_inner();
        let result = call
            .answer(async |author: &Author, _: &Rows| {
                match actions::act(&self.serving, &r#type, &body, author).await? {
                    Some(prepared) if r#type == actions::CREATE_PREPARED => {
                        sealed_statements::seal_prepared(&self.seals, &author.principal, &prepared).map(Some)
                    }
                    answer => Ok(answer),
                }
            })
            .await?;
        let results = result.into_iter().map(|body| Ok(arrow_flight::Result { body: body.into() }));
        Ok(Response::new(futures::stream::iter(results.collect::<Vec<_>>()).boxed()))
    }

    async fn list_actions(
        &self,
        request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        let call = self.call("ListActions", &request)?;
        let types = call
            .stream(async |_: &Author, _: &Rows| {
                Ok(futures::stream::iter(actions::types().map(Ok).collect::<Vec<_>>()))
            })
            .await?;
        Ok(Response::new(types))
    }
}
