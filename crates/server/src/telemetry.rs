//! Spans for OpenTelemetry: sent over OTLP/gRPC where the standard variables say so.
//!
//! Sending is done by a thread of its own, from a queue that forgets spans rather than hold anybody up. A collector that is not
//! there is told of in the log, and nowhere else.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData, SpanExporter};
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::registry::LookupSpan;

use crate::error::{Error, Result};

const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
/// How long the last spans may take to be sent at the end.
const LAST: Duration = Duration::from_secs(3);

/// An exporter of spans that runs.
pub struct Telemetry(SdkTracerProvider);

impl Telemetry {
    /// Reads `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME` and the like, as OpenTelemetry defines them. None where no endpoint
    /// is named, or where `OTEL_SDK_DISABLED` or `OTEL_TRACES_EXPORTER` say that none is wanted. Must be called in a runtime.
    ///
    /// # Errors
    /// `Telemetry` for an endpoint that is no address or wants TLS, and for a protocol other than gRPC.
    pub fn from_environment(program: &str) -> Result<Option<Self>> {
        let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let first = |names: [&str; 2]| names.into_iter().find_map(said);
        let disabled = said("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let unwanted = said("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        if disabled || unwanted || first(ENDPOINTS).is_none() {
            return Ok(None);
        }
        if let Some(protocol) = first(PROTOCOLS).filter(|protocol| protocol != "grpc") {
            return Err(Error::Telemetry(format!(
                "OTEL_EXPORTER_OTLP_PROTOCOL is `{protocol}`, and this server speaks `grpc` alone: name the collector's gRPC port, which is 4317 as a rule"
            )));
        }
        let exporter = Otlp::builder().with_tonic().build().map_err(|error| {
            Error::Telemetry(format!(
                "the spans' collector cannot be spoken to as the variables say: {error}"
            ))
        })?;
        let (name, version) = program.split_once(' ').unwrap_or((program, ""));
        let mut resource = Resource::builder();
        let named = said("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| all.contains("service.name="));
        if said("OTEL_SERVICE_NAME").is_none() && !named {
            resource = resource.with_service_name(name.to_owned());
        }
        let version = opentelemetry::KeyValue::new("service.version", version.to_owned());
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.with_attribute(version).build())
            .with_batch_exporter(Reporting { exporter, failing: AtomicBool::new(false) })
            .build();
        Ok(Some(Self(provider)))
    }

    /// What turns spans of `tracing` into those that are sent.
    pub fn layer<S>(&self) -> OpenTelemetryLayer<S, SdkTracer>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("lineament"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
    }

    /// Sends the last spans, if that can be done in a few seconds.
    pub async fn shutdown(self) {
        let sent = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(LAST)).await;
        if let Ok(Err(error)) = sent {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// An exporter that says when it fails, and when it does not any more: once each, not for each batch.
struct Reporting {
    exporter: Otlp,
    failing: AtomicBool,
}

impl Debug for Reporting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.exporter.fmt(f)
    }
}

impl SpanExporter for Reporting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.exporter.export(batch).await;
        let failed = sent.is_err();
        if self.failing.swap(failed, Ordering::Relaxed) != failed {
            match &sent {
                Err(error) => tracing::warn!(%error, "spans are not sent, and are forgotten"),
                Ok(()) => tracing::warn!("spans are sent again"),
            }
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
