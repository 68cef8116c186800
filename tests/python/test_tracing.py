"""Spans as a collector receives them: the standard's own messages, over gRPC, from the program as it runs."""

import time
from concurrent import futures

import grpc
import lineament
import pyarrow
import pyarrow.flight as flight
import pytest
import readings
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service
from program import Server, fails

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
OK, ERROR = 0, 2
SERVER = 2


class Collector(service.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans: list[tuple[dict, object]] = []
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        service.add_TraceServiceServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def Export(self, request, _):  # noqa: N802
        for of in request.resource_spans:
            resource = {item.key: item.value.string_value for item in of.resource.attributes}
            self.spans += [(resource, span) for scope in of.scope_spans for span in scope.spans]
        return messages.ExportTraceServiceResponse()

    def named(self, name: str) -> list:
        return [span for _, span in self.spans if span.name == name]


@pytest.fixture
def collector(monkeypatch):
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
    yield collector
    collector.server.stop(None)


def attributes(span) -> dict:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}


def traced(client: flight.FlightClient, ticket: bytes, parent: str) -> pyarrow.Table:
    options = flight.FlightCallOptions(headers=[(b"traceparent", parent.encode())])
    return client.do_get(flight.Ticket(ticket), options).read_all()


def test_a_call_is_a_span_of_its_callers_trace(collector, tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "features")
    with Server(tmp_path / "store") as server:
        with lineament.connect(server.url) as client:
            client.apply(readings.DEFINITIONS)
            client.ingest("reading", readings.rows())
            training_set = client.get_historical_features(readings.spine(), ["reading.value"])
            sequence = client.status()["sequence"]
        with flight.connect(server.url) as plain:
            rows = traced(plain, b'{"sql": "SELECT value FROM reading"}', f"00-{TRACE}-{PARENT}-01")
            traced(plain, b'{"sql": "SELECT 1"}', "nonsense")
            with pytest.raises(pyarrow.ArrowInvalid):
                traced(plain, b'{"sql": "SELECT"}', f"00-{TRACE}-{PARENT}-01")
        # The last are sent when it stops.
        assert server.stop() == 0
    ours = [span for span in collector.named("DoGet") if span.trace_id.hex() == TRACE]
    assert len(ours) == 2
    assert {span.parent_span_id.hex() for span in ours} == {PARENT}
    assert {span.kind for span in ours} == {SERVER}
    good, bad = sorted(ours, key=lambda span: span.status.code)
    assert (good.status.code, bad.status.code) == (OK, ERROR)
    said = attributes(good)
    assert said["rpc.method"] == "DoGet"
    assert said["rpc.grpc.status_code"] == 0
    assert said["sequence"] == sequence
    assert said["rows"] == rows.num_rows > 0
    assert good.end_time_unix_nano > good.start_time_unix_nano
    assert attributes(bad)["rpc.grpc.status_code"] == 3
    # Who names no trace begins one.
    alone = [span for span in collector.named("DoGet") if not span.parent_span_id]
    assert len(alone) == 1
    (retrieval,) = collector.named("DoExchange")
    assert attributes(retrieval)["training_set"] == training_set.id
    assert attributes(retrieval)["sequence"] < sequence
    resources = {resource["service.name"] for resource, _ in collector.spans}
    assert resources == {"features"}
    texts = [str(span) for _, span in collector.spans]
    assert not any("SELECT" in text for text in texts), "what was asked is in the log, and not in spans"


def test_without_a_name_it_is_lineament(collector, tmp_path, monkeypatch):
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    with Server(tmp_path / "store") as server:
        lineament.connect(server.url).status()
    assert {resource["service.name"] for resource, _ in collector.spans} == {"lineament"}
    assert {resource["service.version"] for resource, _ in collector.spans} == {lineament.__version__}


def test_it_is_off_unless_an_endpoint_is_named(collector, tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with Server(tmp_path / "one") as server:
        lineament.connect(server.url).status()
    monkeypatch.delenv("OTEL_SDK_DISABLED")
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    with Server(tmp_path / "two") as server:
        lineament.connect(server.url).status()
    assert collector.spans == []


def test_a_collector_that_is_not_there_holds_nobody_up(tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "500")
    with Server(tmp_path / "store") as server, lineament.connect(server.url) as client:
        client.apply(readings.DEFINITIONS)
        # Far more than the queue holds.
        for _ in range(200):
            client.status()
        until = time.monotonic() + 30
        while "spans are not sent" not in server.said():
            assert time.monotonic() < until, server.said()
            client.status()
            time.sleep(0.1)
        assert server.stop() == 0
        assert server.said().count("spans are not sent") == 1, "it is told once"


def test_what_cannot_be_done_is_said_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    said = fails(tmp_path / "store", "serve", "--port", 0)
    assert "http/protobuf" in said and "4317" in said
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "no address")
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in fails(tmp_path / "store", "serve", "--port", 0)
