//! The trace that a call belongs to: W3C's `traceparent` and `tracestate`, from the headers of the call to its span.

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TraceId};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{KeyRef, MetadataMap};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

struct Headers<'a>(&'a MetadataMap);

impl Extractor for Headers<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        let name = |key| match key {
            KeyRef::Ascii(name) => Some(name.as_str()),
            KeyRef::Binary(_) => None,
        };
        self.0.keys().filter_map(name).collect()
    }
}

/// Makes the caller's span the parent of this one, which must not have been entered yet. Gives the trace; none where the caller named
/// none that can be read.
pub fn join(span: &Span, headers: &MetadataMap) -> Option<TraceId> {
    let context = TraceContextPropagator::new().extract(&Headers(headers));
    let trace = context.span().span_context().trace_id();
    if trace == TraceId::INVALID {
        return None;
    }
    // Without an exporter there is nothing that could have a parent.
    let _ = span.set_parent(context);
    Some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(parent: &str) -> Option<String> {
        let mut headers = MetadataMap::new();
        headers.insert("traceparent", parent.parse().unwrap());
        join(&Span::none(), &headers).map(|trace| trace.to_string())
    }

    #[test]
    fn a_trace_is_read_or_there_is_none() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(joined(parent).as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
        for wrong in ["", "00", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "nonsense-a-b-c"] {
            assert_eq!(joined(wrong), None, "{wrong}");
        }
        assert_eq!(join(&Span::none(), &MetadataMap::new()), None);
    }
}
