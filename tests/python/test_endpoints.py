"""Several endpoints of one set, read side by side and given in their order, whatever order they come in."""

import json
import threading
import time
from collections.abc import Iterator

import pyarrow
import pyarrow.flight as flight
import pytest
from lineament.endpoints import AHEAD, READERS, SetReader
from lineament.errors import Damaged

ROWS = 100
BATCHES = 12
ENDPOINTS = 7
SCHEMA = pyarrow.schema([("row", pyarrow.int64())])


class Stretches(flight.FlightServerBase):
    """Gives a set in stretches, the earlier the slower."""

    def __init__(self) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self.slow, self.fails, self.wrong = True, None, None
        self.given = dict.fromkeys(range(ENDPOINTS), 0)
        self.left = threading.Event()

    def get_flight_info(self, context, descriptor):
        assert json.loads(descriptor.command) == {"training_set": "one"}
        endpoints = [flight.FlightEndpoint(str(number).encode(), []) for number in range(ENDPOINTS)]
        return flight.FlightInfo(SCHEMA, descriptor, endpoints, ENDPOINTS * BATCHES * ROWS, -1)

    def do_get(self, context, ticket):
        number = int(ticket.ticket)
        first = number * BATCHES * ROWS

        def stretch() -> Iterator[tuple[pyarrow.RecordBatch, bytes] | pyarrow.RecordBatch]:
            for batch in range(BATCHES):
                if context.is_cancelled():
                    self.left.set()
                    return
                if self.fails == (number, batch):
                    raise flight.FlightServerError("the stretch is damaged")
                if self.slow:
                    time.sleep(0.002 * (ENDPOINTS - number))
                self.given[number] += 1
                rows = range(first + batch * ROWS, first + (batch + 1) * ROWS)
                yield pyarrow.record_batch([pyarrow.array(rows, pyarrow.int64())], schema=SCHEMA)
            report = {
                "training_set": "one",
                "digest": "lmt1:other" if self.wrong == number else "lmt1:digest",
                "rows": ENDPOINTS * BATCHES * ROWS,
                "from": first,
                "until": first + BATCHES * ROWS,
                "verdict": "equal",
            }
            yield pyarrow.record_batch([pyarrow.array([], pyarrow.int64())], schema=SCHEMA), json.dumps(report).encode()

        return flight.GeneratorStream(SCHEMA, stretch())


@pytest.fixture
def server() -> Iterator[Stretches]:
    with Stretches() as server:
        yield server


@pytest.fixture
def reader(server) -> Iterator[SetReader]:
    with flight.connect(f"grpc://127.0.0.1:{server.port}") as client:
        reader = SetReader(client, flight.FlightCallOptions(), "one")
        yield reader
        reader.cancel()


def read(reader: SetReader) -> tuple[list[int], dict]:
    rows, report = [], None
    while True:
        try:
            chunk = reader.read_chunk()
        except StopIteration:
            return rows, report
        if chunk.data is not None:
            assert report is None, "the report comes last"
            rows += chunk.data.column(0).to_pylist()
        if chunk.app_metadata is not None:
            report = json.loads(chunk.app_metadata.to_pybytes())


def test_they_come_in_order(reader):
    rows, report = read(reader)
    assert (reader.schema, reader.total) == (SCHEMA, len(rows))
    assert rows == list(range(ENDPOINTS * BATCHES * ROWS))
    assert (report["verdict"], report["digest"], report["rows"]) == ("equal", "lmt1:digest", len(rows))
    with pytest.raises(StopIteration):
        reader.read_chunk()


def test_no_more_is_read_ahead_than_a_few_batches(server, reader):
    """Who reads nothing is ahead of nothing for long: some batches wait here, and gRPC holds a few more of what is this small."""
    server.slow = False
    reader.read_chunk()
    time.sleep(0.5)
    waiting = sum(waiting.qsize() for waiting in reader._waiting)
    assert waiting <= READERS * AHEAD
    begun = [number for number, given in server.given.items() if given]
    assert begun == list(range(READERS)), "those after wait for their turn"
    assert read(reader)[0][-1] == ENDPOINTS * BATCHES * ROWS - 1


def test_a_failure_comes_where_it_stands(server, reader):
    server.fails = (5, 3)
    rows = 0
    with pytest.raises(flight.FlightServerError, match="the stretch is damaged"):
        while True:
            rows += reader.read_chunk().data.num_rows
    assert rows >= 5 * BATCHES * ROWS


def test_stretches_of_other_sets_are_refused(server, reader):
    server.wrong = 4
    with pytest.raises(Damaged, match="do not belong together"):
        read(reader)


def test_who_leaves_leaves_no_thread(server, reader):
    reader.read_chunk()
    reader.cancel()
    for _ in range(200):
        if not any(thread.name.startswith("lineament-endpoint") for thread in threading.enumerate()):
            return
        time.sleep(0.05)
    raise AssertionError("threads still read for somebody who has left")
