//! The Flight service: each call read, answered by `serving`, and logged.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use catalog::Author;
use feature::Name;
use futures::{Stream, StreamExt};
use serving::{Query, Serving};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Response, Status, Streaming};

use crate::actions;
use crate::admission::{Admission, Work, ticket_is_work};
use crate::answer::{Answer, DEPRECATED};
use crate::call::{Call, Rows, announced_rows, reads_at};
use crate::callers::Caller;
use crate::endpoints::Planned;
use crate::exchange::{exchange, of_named_spine};
use crate::flight_sql;
use crate::flight_sql::session::Session;
use crate::metrics::Metrics;
use crate::put::put;
use crate::request::{self, Wanted};
use crate::running::RunningQueries;
use crate::sealed::Seals;
use crate::sealed_statements;
use crate::status;
use crate::stream_put;
use crate::upload::Upload;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub struct Flight {
    serving: Serving,
    author: Author,
    seals: Seals,
    running: RunningQueries,
    admission: Admission,
    metrics: Metrics,
}

impl Flight {
    /// `author` is what entries say of their writer beside the principal, who is the caller. `seals` seal what is given out.
    pub fn new(
        serving: Serving,
        author: Author,
        seals: Seals,
        admission: Admission,
        metrics: Metrics,
    ) -> Self {
        Self { serving, author, seals, running: RunningQueries::default(), admission, metrics }
    }

    fn call<T>(&self, method: &'static str, request: &Request<T>) -> Result<Call, Status> {
        let Some(caller) = request.extensions().get::<Caller>() else {
            return Err(status::internal("nobody is known to call", "the call came without its caller"));
        };
        let (principal, roles) = (caller.principal.clone(), caller.roles.clone());
        let claims = caller.claims.clone();
        let author = Author { principal, roles, claims, ..self.author.clone() };
        Call::begin(method, &author, request.metadata(), &self.metrics)
    }

    /// What a descriptor names, with sealed tickets for its rows.
    async fn info(
        &self,
        descriptor: FlightDescriptor,
        author: &Author,
        session: &Session,
    ) -> Result<FlightInfo, Status> {
        let info = self.plan(&descriptor, author, session).await?.info(descriptor)?;
        sealed_statements::seal_info(&self.seals, &author.principal, info)
    }

    /// The columns of what a descriptor names, and the ticket for its rows.
    async fn plan(
        &self,
        descriptor: &FlightDescriptor,
        author: &Author,
        session: &Session,
    ) -> Result<Planned, Status> {
        let descriptor = sealed_statements::open_descriptor(&self.seals, &author.principal, descriptor)?;
        let query = match request::descriptor(&descriptor)? {
            Wanted::FlightSql(command) => {
                let (schema, ticket) = flight_sql::info(&self.serving, *command, author, session).await?;
                return Ok(Planned::whole(schema, ticket));
            }
            Wanted::Sql(text) => request::sql(text)?,
            Wanted::View(name) => request::view(&name)?,
            Wanted::Json(text) => match request::json("the command", text.as_bytes())? {
                request::Ticket::Sql(statement) => statement.query()?,
                request::Ticket::TrainingSet(id) => {
                    let set = self.serving.stretches(id).await.map_err(|error| status::of(&error))?;
                    return Ok(Planned::training_set(id, &set));
                }
                request::Ticket::Diff(_)
                | request::Ticket::Audit(_)
                | request::Ticket::Stretch(_)
                | request::Ticket::HistoricalFeatures(_) => {
                    return Err(status::invalid(
                        "this is planned by being made: give the command to DoGet as its ticket",
                    ));
                }
            },
        };
        let query = query.with_spines(&session.tables);
        let schema = self.serving.describe(&query).await.map_err(|error| status::of(&error))?;
        Ok(Planned::whole(schema, request::ticket(&query)))
    }

    /// The rows of a ticket that was opened.
    async fn rows(&self, ticket: &[u8], author: &Author, session: &Session) -> Result<Answer, Status> {
        let query = match request::command(ticket)? {
            Wanted::FlightSql(command) => {
                return flight_sql::rows(&self.serving, *command, author, session).await;
            }
            Wanted::Json(text) => match request::json("the ticket", text.as_bytes())? {
                request::Ticket::Sql(statement) => statement.query()?,
                request::Ticket::TrainingSet(id) => {
                    let then =
                        "the rest of its rows is not given; the action `lineament.replay` reports on it";
                    let replay = self.serving.replay_stream(id, then, author).await;
                    return Ok(Answer::replay(replay.map_err(|error| status::of(&error))?));
                }
                request::Ticket::Stretch(request::Stretch { training_set, from, until }) => {
                    let stretch = self.serving.stretch(training_set, from..until, author).await;
                    let (rows, report) = stretch.map_err(|error| status::of(&error))?;
                    reads_at(rows.sequence, Some(training_set));
                    return Answer::retrieval(rows).with_report(&report);
                }
                request::Ticket::HistoricalFeatures(wanted) => {
                    return of_named_spine(&self.serving, wanted, author).await;
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
        let query = query.with_spines(&session.tables);
        let retrieval = self.serving.retrieve(query, author).await.map_err(|error| status::of(&error))?;
        reads_at(retrieval.sequence, None);
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
            let planned = Planned::whole(schema, request::ticket(&query));
            flights.push(planned.info(FlightDescriptor::new_path(vec![name]))?);
        }
        Ok(flights)
    }
}

/// An answer that names in a header what of it is deprecated.
fn with_deprecated<T>(mut response: Response<T>, deprecated: Option<MetadataValue<Ascii>>) -> Response<T> {
    if let Some(names) = deprecated {
        response.metadata_mut().insert(DEPRECATED, names);
    }
    response
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
        let (descriptor, session) = (request.into_inner(), call.session.clone());
        let info = call
            .answer(async |author: &Author, _: &Rows| self.info(descriptor, author, &session).await)
            .await?;
        Ok(Response::new(info))
    }

    /// Planning is all that there is to wait for: rows are made as they are read. So the first poll is the last.
    async fn poll_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        let call = self.call("PollFlightInfo", &request)?;
        let (descriptor, session) = (request.into_inner(), call.session.clone());
        let info = call
            .answer(async |author: &Author, _: &Rows| self.info(descriptor, author, &session).await)
            .await?;
        Ok(Response::new(PollInfo { info: Some(info), progress: Some(1.0), ..PollInfo::default() }))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let call = self.call("GetSchema", &request)?;
        let session = call.session.clone();
        let schema = call
            .answer(async |author: &Author, _: &Rows| {
                let Planned { schema, .. } = self.plan(request.get_ref(), author, &session).await?;
                let options = arrow::ipc::writer::IpcWriteOptions::default();
                SchemaResult::try_from(SchemaAsIpc::new(&schema, &options))
                    .map_err(|error| status::encoding(&error))
            })
            .await?;
        Ok(Response::new(schema))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let call = self.call("DoGet", &request)?;
        let (ticket, session) = (request.into_inner().ticket, call.session.clone());
        let opened = sealed_statements::open_ticket(&self.seals, &call.author.principal, &ticket);
        // One that does not open is refused in its turn, as the call that it is.
        let is_work = opened.as_ref().map_or(true, |opened| ticket_is_work(opened));
        let call = call.admitted(&self.admission, is_work.then_some(Work::Reads)).await?;
        let mut deprecated = None;
        let rows = call
            .stream(async |author: &Author, counted: &Rows| {
                let running = self.running.begin(&author.principal, &ticket);
                let opened = opened?;
                let answer = running.or_stopped(self.rows(&opened, author, &session)).await?;
                deprecated = answer.deprecated();
                Ok(running.until_stopped(answer.encode(counted.clone())))
            })
            .await?;
        Ok(with_deprecated(Response::new(rows), deprecated))
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let call = self.call("DoPut", &request)?;
        let announced = announced_rows(request.metadata())?;
        let (messages, session) = (request.into_inner(), call.session.clone());
        let (call, mut upload) =
            call.before(async |_: &Author, _: &Rows| Upload::begin(messages, announced).await).await?;
        // It lasts as long as its client does, so that it takes no place among what ends.
        if let Some(wanted) = stream_put::wanted(&upload.descriptor) {
            let admission = self.admission.clone();
            let results = call
                .stream(async |author: &Author, counted: &Rows| {
                    stream_put::open(&self.serving, wanted?, upload, author, counted, admission).await
                })
                .await?;
            return Ok(Response::new(results));
        }
        let call = call.admitted(&self.admission, Some(Work::Writes)).await?;
        let (result, change) = call
            .answer(async |author: &Author, counted: &Rows| {
                let opened =
                    sealed_statements::open_descriptor(&self.seals, &author.principal, &upload.descriptor)?;
                let Cow::Owned(statement) = opened else {
                    return put(&self.serving, upload, author, counted, &session).await;
                };
                upload.descriptor = statement;
                let (bound, change) = put(&self.serving, upload, author, counted, &session).await?;
                Ok((sealed_statements::seal_bound(&self.seals, &author.principal, bound)?, change))
            })
            .await?;
        let mut response: Response<Self::DoPutStream> =
            Response::new(futures::stream::iter([Ok(result)]).boxed());
        change.tell(response.metadata_mut())?;
        Ok(response)
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        let call = self.call("DoExchange", &request)?;
        let announced = announced_rows(request.metadata())?;
        let messages = request.into_inner();
        let call = call.admitted(&self.admission, Some(Work::Reads)).await?;
        let mut deprecated = None;
        let rows = call
            .stream(async |author: &Author, counted: &Rows| {
                let upload = Upload::begin(messages, announced).await?;
                let answer = exchange(&self.serving, upload, author, counted).await?;
                deprecated = answer.deprecated();
                Ok(answer.encode(counted.clone()))
            })
            .await?;
        Ok(with_deprecated(Response::new(rows), deprecated))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let call = self.call("DoAction", &request)?;
        let (Action { r#type, body }, session) = (request.into_inner(), call.session.clone());
        let call = call.admitted(&self.admission, actions::work(&r#type)).await?;
        let (result, change) = call
            .answer(async |author: &Author, _: &Rows| {
                let own = actions::OwnState { session: &session, running: &self.running, seals: &self.seals };
                let (answer, change) =
                    actions::act_in_session(&self.serving, &r#type, &body, author, &own).await?;
                match answer {
                    Some(prepared) if r#type == actions::CREATE_PREPARED => {
                        let caller = &author.principal;
                        let sealed = sealed_statements::seal_prepared(&self.seals, caller, &prepared)?;
                        Ok((Some(sealed), change))
                    }
                    answer => Ok((answer, change)),
                }
            })
            .await?;
        let results = result.into_iter().map(|body| Ok(arrow_flight::Result { body: body.into() }));
        let mut response: Response<Self::DoActionStream> =
            Response::new(futures::stream::iter(results.collect::<Vec<_>>()).boxed());
        change.tell(response.metadata_mut())?;
        Ok(response)
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
