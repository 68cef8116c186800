"""A plain pyarrow upload that ends before its client has said so: nothing of it may count as all of it.

A client that is killed, or whose deadline passes, resets its upload, and the server sees it. One that fails in Python ends it
as one does that has sent all: pyarrow closes what is collected. Only the number of rows, sent before them, tells these apart.
"""

import subprocess
import sys
import time
from pathlib import Path

import lineament
import pyarrow
import pyarrow.flight as flight
import pytest
from program import Server
from test_kill import DEFINITIONS, ROWS, delivery

# A client that sends rows and does not end its upload. It says when all is sent, and then leaves in one way or another.
CLIENT = """
import json, os, sys, time
import pyarrow, pyarrow.flight as flight

url, rows, what, leave = sys.argv[1:]
table = pyarrow.ipc.open_file(rows).read_all()
if what == "rows":
    descriptor = flight.FlightDescriptor.for_path("tick")
else:
    descriptor = flight.FlightDescriptor.for_command(json.dumps({"historical_features": {"features": ["tick.value"]}}))
client = flight.connect(url)
options = flight.FlightCallOptions(timeout=2) if leave == "deadline" else flight.FlightCallOptions()
if what == "rows":
    writer, reader = client.do_put(descriptor, table.schema, options)
else:
    writer, reader = client.do_exchange(descriptor, options)
    writer.begin(table.schema)
for batch in table.to_batches(max_chunksize=500):
    writer.write_batch(batch)
time.sleep(1)
print("sent", flush=True)
if leave == "exit":
    os._exit(0)
if leave == "ends":
    writer.done_writing()
    reader.read() if what == "rows" else reader.read_all()
    writer.close()
time.sleep(60 if leave == "killed" else 4)
os._exit(0)
"""


def spine() -> pyarrow.Table:
    return delivery(0).select(["meter", "time"]).rename_columns(["meter", "at"])


@pytest.mark.parametrize("what", ["rows", "spine"])
@pytest.mark.parametrize("leave", ["killed", "exit", "deadline", "ends"])
def test_an_upload_counts_when_it_was_ended(tmp_path: Path, what: str, leave: str) -> None:
    store, file = tmp_path / "store", tmp_path / "rows.arrow"
    table = delivery(1) if what == "rows" else spine()
    with pyarrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    with Server(store) as server:
        with lineament.connect(server.url) as client:
            client.apply({**DEFINITIONS, "tick.toml": DEFINITIONS["tick.toml"].partition("\n[source]")[0]})
            client.ingest("tick", delivery(0))
        process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, server.url, str(file), what, leave],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        said = process.stdout.readline()
        if leave == "killed":
            process.kill()
        _, errors = process.communicate(timeout=60)
        assert said == "sent\n", errors
        # A server that would take it has done so by then.
        time.sleep(1)
        assert server.stop() == 0
    with Server(store) as server, lineament.connect(server.url) as client:
        rows = client.sql("SELECT count(*) AS n FROM history('tick')").to_arrow()["n"][0].as_py()
        sets = client.sql("SELECT * FROM lineament.training_sets").to_arrow().num_rows
    taken = leave == "ends"
    assert rows == (ROWS - 1) * (2 if taken and what == "rows" else 1)
    assert sets == (1 if taken and what == "spine" else 0)


FAILING = """
import sys
import pyarrow, pyarrow.flight as flight

url, rows, said = sys.argv[1:]
table = pyarrow.ipc.open_file(rows).read_all()
headers = [(b"lineament-rows", said.encode())] if said else []
client = flight.connect(url)
writer, reader = client.do_put(
    flight.FlightDescriptor.for_path("tick"), table.schema, flight.FlightCallOptions(headers=headers)
)
with writer:
    for number, batch in enumerate(table.to_batches(max_chunksize=500)):
        if number == 2:
            raise KeyboardInterrupt
        writer.write_batch(batch)
"""


@pytest.mark.parametrize(("said", "taken"), [(str(ROWS), 0), ("1000", 1000), ("", 1000)])
def test_a_client_that_fails_between_rows_needs_to_have_said_how_many(tmp_path: Path, said: str, taken: int) -> None:
    file = tmp_path / "rows.arrow"
    with pyarrow.ipc.new_file(file, delivery(1).schema) as writer:
        writer.write_table(delivery(1))
    with Server(tmp_path / "store") as server, lineament.connect(server.url) as client:
        client.apply({**DEFINITIONS, "tick.toml": DEFINITIONS["tick.toml"].partition("\n[source]")[0]})
        failed = subprocess.run(
            [sys.executable, "-c", FAILING, server.url, str(file), said], capture_output=True, text=True, timeout=60
        )
        assert "KeyboardInterrupt" in failed.stderr
        time.sleep(1)
        assert client.sql("SELECT count(*) AS n FROM history('tick')").to_arrow()["n"][0].as_py() == taken


class Interrupted:
    """A connection, or a writer of one, that meets Ctrl-C in the midst of its rows."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    def do_put(self, *arguments):
        writer, answers = self._inner.do_put(*arguments)
        return Interrupted(writer), answers

    def do_exchange(self, *arguments):
        writer, reader = self._inner.do_exchange(*arguments)
        return Interrupted(writer), reader

    def write_batch(self, batch):
        self._inner.write_batch(batch.slice(0, 500))
        raise KeyboardInterrupt


def test_our_own_client_says_how_many(tmp_path: Path) -> None:
    with Server(tmp_path / "store") as server, lineament.connect(server.url) as client:
        client.apply({**DEFINITIONS, "tick.toml": DEFINITIONS["tick.toml"].partition("\n[source]")[0]})
        client.ingest("tick", delivery(0))
        whole = client._connection
        client._connection = Interrupted(whole)
        with pytest.raises(KeyboardInterrupt):
            client.ingest("tick", delivery(1))
        with pytest.raises(KeyboardInterrupt):
            client.get_historical_features(spine(), ["tick.value"])
        client._connection = whole
        time.sleep(1)
        assert client.sql("SELECT * FROM lineament.batches").to_arrow().num_rows == 1
        assert client.sql("SELECT * FROM lineament.training_sets").to_arrow().num_rows == 0


def test_a_client_that_cancels_is_told_nothing_and_can_send_again(tmp_path: Path) -> None:
    with Server(tmp_path / "store") as server, lineament.connect(server.url) as client:
        client.apply({**DEFINITIONS, "tick.toml": DEFINITIONS["tick.toml"].partition("\n[source]")[0]})
        plain = flight.connect(server.url)
        descriptor = flight.FlightDescriptor.for_path("tick")
        writer, _ = plain.do_put(descriptor, delivery(1).schema, flight.FlightCallOptions(timeout=0.5))
        writer.write_table(delivery(1))
        time.sleep(1)
        with pytest.raises(flight.FlightTimedOutError):
            writer.close()
        time.sleep(1)
        assert client.sql("SELECT * FROM lineament.batches").to_arrow().num_rows == 0
        assert client.ingest("tick", delivery(1)).rows == ROWS - 1
