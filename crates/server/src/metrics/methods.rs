//! Calls by method: how many, how they ended, how long they took, what they moved.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;

use super::seconds;

type Of<T> = Family<[(&'static str, &'static str); 1], T>;
type Outcomes = Family<[(&'static str, &'static str); 2], Counter>;
type Durations = Family<[(&'static str, &'static str); 1], Histogram, fn() -> Histogram>;

/// A method of Flight, or whatever else a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method(usize);

const METHODS: [&str; 11] = [
    "Handshake",
    "ListFlights",
    "GetFlightInfo",
    "PollFlightInfo",
    "GetSchema",
    "DoGet",
    "DoPut",
    "DoExchange",
    "DoAction",
    "ListActions",
    "other",
];

impl Method {
    /// Of a path, as `/arrow.flight.protocol.FlightService/DoGet`, or of the name alone.
    pub fn of(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        Self(METHODS.iter().position(|method| *method == name).unwrap_or(METHODS.len() - 1))
    }
}

/// What is counted of one method.
#[derive(Clone)]
pub struct MethodMetrics {
    method: &'static str,
    ended: Outcomes,
    pub running: Gauge,
    /// Until the first message of the answer, in seconds.
    pub first_byte: Histogram,
    /// Until the end of the answer, in seconds.
    pub whole: Histogram,
    pub received_bytes: Counter,
    pub sent_bytes: Counter,
    pub received_rows: Counter,
    pub sent_rows: Counter,
}

impl MethodMetrics {
    /// Counts a call that has ended so.
    pub fn ended(&self, code: Code) {
        self.ended.get_or_create(&[("method", self.method), ("code", code_name(code))]).inc();
    }
}

pub struct Methods(Vec<MethodMetrics>);

impl Methods {
    pub fn register(registry: &mut Registry) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(seconds());
        let (ended, running) = (Outcomes::default(), Of::<Gauge>::default());
        let (first, whole) =
            (Durations::new_with_constructor(histogram), Durations::new_with_constructor(histogram));
        let [received_bytes, sent_bytes, received_rows, sent_rows]: [Of<Counter>; 4] = Default::default();
        registry.register("calls", "Calls that have ended, by method and gRPC code", ended.clone());
        registry.register("calls_running", "Calls that have begun and not ended", running.clone());
        registry.register_with_unit(
            "call_first_byte",
            "From the begin of a call to the first message of its answer",
            Unit::Seconds,
            first.clone(),
        );
        registry.register_with_unit(
            "call_duration",
            "From the begin of a call to the end of its answer",
            Unit::Seconds,
            whole.clone(),
        );
        let bytes = |registry: &mut Registry, name, help, of: &Of<Counter>| {
            registry.register_with_unit(name, help, Unit::Bytes, of.clone());
        };
        bytes(registry, "received", "gRPC messages that clients sent", &received_bytes);
        bytes(registry, "sent", "gRPC messages that were sent to clients", &sent_bytes);
        registry.register("received_rows", "Rows that clients sent", received_rows.clone());
        registry.register("sent_rows", "Rows that were sent to clients", sent_rows.clone());
        let of = |method| {
            let label = [("method", method)];
            // Those that have never been called are shown too, as zero.
            drop(ended.get_or_create_owned(&[("method", method), ("code", code_name(Code::Ok))]));
            MethodMetrics {
                method,
                ended: ended.clone(),
                running: running.get_or_create_owned(&label),
                first_byte: first.get_or_create_owned(&label),
                whole: whole.get_or_create_owned(&label),
                received_bytes: received_bytes.get_or_create_owned(&label),
                sent_bytes: sent_bytes.get_or_create_owned(&label),
                received_rows: received_rows.get_or_create_owned(&label),
                sent_rows: sent_rows.get_or_create_owned(&label),
            }
        };
        Self(METHODS.into_iter().map(of).collect())
    }

    pub fn running(&self) -> i64 {
        self.0.iter().map(|method| method.running.get()).sum()
    }

    pub fn of(&self, method: Method) -> &MethodMetrics {
        &self.0[method.0]
    }
}

/// As the specification of gRPC writes it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
