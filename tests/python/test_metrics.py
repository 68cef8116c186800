"""What the server says of itself over HTTP, read by Prometheus' own parsers."""

import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import lineament
import pyarrow.flight as flight
import pytest
import readings
from object_storage import s3
from program import Server, fails
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

FORMS = {
    "text/plain; version=0.0.4; charset=utf-8": ("text/plain", parser.text_string_to_metric_families),
    "application/openmetrics-text; version=1.0.0; charset=utf-8": (
        "application/openmetrics-text; version=1.0.0",
        openmetrics.text_string_to_metric_families,
    ),
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Iterator[Server]:
    store = tmp_path_factory.mktemp("watched") / "store"
    scheduled = ("--http", "127.0.0.1:0", "--reconcile-every", "1s")
    with Server(store, *scheduled) as server, lineament.connect(server.url) as client:
        client.apply(readings.DEFINITIONS)
        client.ingest("reading", readings.rows())
        training_set = client.get_historical_features(readings.spine(), ["reading.value"])
        assert client.replay(training_set).equal
        with pytest.raises(lineament.InvalidRequest):
            client.sql("SELECT nowhere FROM reading")
        # The first pass that knows of the set.
        until = time.monotonic() + 60
        while (last := client.status()["reconciliation"]) is None or last["problems"] == 0:
            assert time.monotonic() < until, server.said()
            time.sleep(0.1)
        yield server


def ask(url: str, accept: str = "*/*") -> tuple[int, str, str]:
    request = urllib.request.Request(url, headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers["Content-Type"], refused.read().decode()


def scrape(server: Server, kind: str) -> dict[tuple, float]:
    accept, parse = FORMS[kind]
    code, said, text = ask(f"{server.http}/metrics", accept)
    assert (code, said) == (200, kind)
    families = list(parse(text))
    assert len({family.name for family in families}) == len(families), "a name is given twice"
    for family in families:
        assert family.documentation, family.name
        assert family.type != "unknown", family.name
    samples = [sample for family in families for sample in family.samples]
    for sample in samples:
        assert sample.name.startswith(("lineament_", "process_")), sample
        assert set(sample.labels) <= {"method", "code", "reason", "cache", "le", "version"}, sample
    return {(sample.name, *sorted(sample.labels.items())): sample.value for sample in samples}


@pytest.mark.parametrize("kind", FORMS)
def test_a_scrape_is_what_prometheus_reads(watched, kind):
    found = scrape(watched, kind)

    def of(name: str, **labels: str) -> float:
        return found[(name, *sorted(labels.items()))]

    rows = readings.spine().num_rows
    assert of("lineament_calls_total", method="DoExchange", code="OK") == 1
    assert of("lineament_calls_total", method="DoGet", code="INVALID_ARGUMENT") >= 1
    assert of("lineament_sent_rows_total", method="DoExchange") == rows
    assert of("lineament_received_rows_total", method="DoExchange") == rows
    assert of("lineament_received_rows_total", method="DoPut") == readings.rows().num_rows
    assert of("lineament_received_bytes_total", method="DoPut") > readings.rows().nbytes / 2
    assert of("lineament_call_duration_seconds_count", method="DoExchange") == 1
    assert of("lineament_call_duration_seconds_bucket", method="DoExchange", le="+Inf") == 1
    assert 0 < of("lineament_call_first_byte_seconds_sum", method="DoExchange") < 60
    assert of("lineament_queries_running") == 0
    assert of("lineament_queries_refused_total", reason="queue_full") == 0
    assert of("lineament_memory_reserved_bytes") == 0
    assert of("lineament_log_sequence") >= 4
    # The set that nobody used; what is not asked counts nought.
    assert of("lineament_reconciliation_problems") == 1
    assert of("lineament_reconciliation_deployed") == of("lineament_reconciliation_failures_total") == 0
    assert abs(of("lineament_last_reconciliation_timestamp_seconds") - time.time()) < 600
    assert of("lineament_mlflow_passes_total") == of("lineament_last_mlflow_pass_timestamp_seconds") == 0
    assert of("process_resident_memory_bytes") > 1e6
    assert of("process_cpu_seconds_total") > 0
    assert of("lineament_build_info", version=lineament.__version__) == 1


def test_a_spine_that_is_a_query_is_not_sent(watched):
    query = "SELECT sensor, known_at AS at, value AS label FROM history('reading') ORDER BY known_at, sensor"

    def received() -> dict[tuple, float]:
        found = scrape(watched, next(iter(FORMS)))
        return {key: count for key, count in found.items() if key[0].startswith("lineament_received_")}

    with lineament.connect(watched.url) as client:
        rows = client.sql(query).to_arrow()
        before = received()
        training_set = client.get_historical_features(query, ["reading.grade"], record=False)
        batches = client.stream(query, ["reading.grade"], record=False)
        assert training_set.num_rows == sum(batch.num_rows for batch in batches) == rows.num_rows > 0
        after = received()
    more = {key: count - before[key] for key, count in after.items() if count != before[key]}
    # Two requests, by their texts.
    assert list(more) == [("lineament_received_bytes_total", ("method", "DoGet"))], more
    assert 2 * len(query) < sum(more.values()) < 2 * len(query) + 500


def test_health_is_told(watched):
    for path in ("healthz", "readyz"):
        assert ask(f"{watched.http}/{path}")[0] == 200
    assert ask(f"{watched.http}/elsewhere")[0] == 404


def test_it_is_off_unless_asked_for(server):
    assert server.http is None


def test_other_machines_are_kept_out_unless_that_is_said(tmp_path):
    said = fails(tmp_path / "store", "serve", "--port", 0, "--http", "0.0.0.0:0")
    assert "--http-exposed" in said
    assert "--http" in fails(tmp_path / "store", "serve", "--port", 0, "--http-exposed")
    with Server(tmp_path / "store", "--http", "0.0.0.0:0", "--http-exposed") as server:
        assert ask(f"{server.http.replace('0.0.0.0', '127.0.0.1')}/healthz")[0] == 200


def test_limits_are_the_programs_arguments(tmp_path):
    arguments = ("--http", "127.0.0.1:0", "--max-running", 3, "--max-queued", 7, "--max-wait", "2s")
    with Server(tmp_path / "store", *arguments) as server:
        found = scrape(server, next(iter(FORMS)))
        assert found[("lineament_queries_running_limit",)] == 3
        assert found[("lineament_queries_waiting_limit",)] == 7
    assert "0" in fails(tmp_path / "store", "serve", "--max-running", 0)


def test_a_store_that_is_gone_makes_it_unready(tmp_path):
    """The process lives, and is not to be given calls."""
    with s3(tmp_path) as bucket, Server(f"{bucket.address}/gone", "--http", "127.0.0.1:0") as server:
        assert ask(f"{server.http}/readyz")[0] == 200
        bucket.stop()
        until = time.monotonic() + 30
        while ask(f"{server.http}/readyz")[0] == 200:
            assert time.monotonic() < until, "it says that it is ready, and its store is gone"
            time.sleep(0.2)
        code, _, text = ask(f"{server.http}/readyz")
        assert code == 503
        assert "features" not in text, "where the store lies is not for everybody"
        assert ask(f"{server.http}/healthz")[0] == 200
        server.kill()


def test_one_too_many_is_told_when_to_come_back(tmp_path):
    """Its place is taken by a stream that nobody reads to its end."""
    arguments = ("--http", "127.0.0.1:0", "--max-running", 1, "--max-queued", 0)
    with Server(tmp_path / "store", *arguments) as server, lineament.connect(server.url) as client:
        endless = b'{"sql": "SELECT a.value FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 1000000) b"}'
        with flight.connect(server.url) as other:
            reader = other.do_get(flight.Ticket(endless))
            assert reader.read_chunk().data.num_rows > 0
            with pytest.raises(lineament.Busy, match="1 running, 0 waiting of at most 0") as refused:
                client.sql("SELECT 1")
            assert isinstance(refused.value, lineament.Unavailable)
            assert 0 < refused.value.retry_after <= 30
            client.status()
            reader.cancel()
        until = time.monotonic() + 20
        while scrape(server, next(iter(FORMS)))[("lineament_queries_running",)]:
            assert time.monotonic() < until, "it still runs, and its client is gone"
            time.sleep(0.05)
        assert client.sql("SELECT 1 AS one").to_arrow()["one"].to_pylist() == [1]
