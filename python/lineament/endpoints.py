"""A recorded training set, read from all its endpoints side by side: as a whole, or batch by batch in its order."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import pyarrow
import pyarrow.flight as flight

from .errors import Damaged, Error
from .progress import Progress

#: Streams that are read at once.
READERS = 4
#: Batches of an endpoint that may wait until those before it were taken. A batch is some 2 MiB.
AHEAD = 4


def read_batches(
    reader: flight.FlightStreamReader, came: Callable[[int], None]
) -> tuple[list[pyarrow.RecordBatch], pyarrow.Buffer | None]:
    """The batches of a stream that have rows, and the metadata of its last message. `came` is told of their rows."""
    batches: list[pyarrow.RecordBatch] = []
    last = None
    while True:
        try:
            chunk = reader.read_chunk()
        except StopIteration:
            return batches, last
        if chunk.data is not None and chunk.data.num_rows:
            batches.append(chunk.data)
            came(chunk.data.num_rows)
        last = chunk.app_metadata


def read_training_set(
    connection: flight.FlightClient, options: flight.FlightCallOptions, id: str, shown: bool | None
) -> tuple[pyarrow.Table, dict[str, Any]]:
    """The rows of a recorded set in their order, and a report as a replay gives it.

    Raises `Damaged` where what came is not the whole set.
    """
    began = time.monotonic()
    descriptor = flight.FlightDescriptor.for_command(json.dumps({"training_set": id}).encode())
    info = connection.get_flight_info(descriptor, options)
    with Progress("retrieving", info.total_records, shown=shown) as progress:
        counting = threading.Lock()

        def came(rows: int) -> None:
            with counting:
                progress.add(rows)

        def read(endpoint: flight.FlightEndpoint) -> tuple[list[pyarrow.RecordBatch], dict[str, Any]]:
            batches, last = read_batches(connection.do_get(endpoint.ticket, options), came)
            if last is None:
                raise Error("the rows came without their report, so they may not be all; ask again")
            return batches, json.loads(last.to_pybytes())

        with ThreadPoolExecutor(READERS, thread_name_prefix="lineament-endpoint") as readers:
            # Where one fails, those that have not begun do not begin.
            futures = [readers.submit(read, endpoint) for endpoint in info.endpoints]
            try:
                parts = [future.result() for future in futures]
            except BaseException:
                readers.shutdown(wait=False, cancel_futures=True)
                raise
    batches = [batch for part, _ in parts for batch in part]
    table = pyarrow.Table.from_batches(batches, info.schema)
    return table, _proved(id, [report for _, report in parts], table.num_rows, time.monotonic() - began)


class Chunk(NamedTuple):
    """What a Flight stream gives, piece by piece."""

    data: pyarrow.RecordBatch | None
    app_metadata: pyarrow.Buffer | None


class SetReader:
    """The rows of a recorded set in their order, in pieces as one Flight stream gives them; the last is the report of the whole.

    Endpoints are read side by side, each a few batches ahead of whoever reads here, so that the set is never held.
    """

    def __init__(self, connection: flight.FlightClient, options: flight.FlightCallOptions, id: str) -> None:
        descriptor = flight.FlightDescriptor.for_command(json.dumps({"training_set": id}).encode())
        info = connection.get_flight_info(descriptor, options)
        #: The columns of the batches.
        self.schema: pyarrow.Schema = info.schema
        #: How many rows there are in all.
        self.total: int = info.total_records
        self._id, self._began = id, time.monotonic()
        self._connection, self._options = connection, options
        self._endpoints = info.endpoints
        self._waiting: list[queue.Queue[Any]] = [queue.Queue(AHEAD) for _ in self._endpoints]
        self._reports: list[dict[str, Any]] = []
        self._rows, self._told = 0, False
        self._left = threading.Event()
        self._turn = threading.Lock()
        self._begun = 0
        self._open: set[flight.FlightStreamReader] = set()
        for number in range(min(READERS, len(self._endpoints))):
            threading.Thread(target=self._work, name=f"lineament-endpoint-{number}", daemon=True).start()

    def read_chunk(self) -> Chunk:
        """The next batch, or the report after the last of them; then StopIteration."""
        while len(self._reports) < len(self._endpoints):
            taken = self._waiting[len(self._reports)].get()
            if isinstance(taken, BaseException):
                self.cancel()
                raise taken
            if isinstance(taken, pyarrow.RecordBatch):
                self._rows += taken.num_rows
                return Chunk(taken, None)
            self._reports.append(taken)
        if self._told:
            raise StopIteration
        self._told = True
        report = _proved(self._id, self._reports, self._rows, time.monotonic() - self._began)
        return Chunk(None, pyarrow.py_buffer(json.dumps(report).encode()))

    def cancel(self) -> None:
        """Asks for no more."""
        self._left.set()
        with self._turn:
            readers, self._open = self._open, set()
        for reader in readers:
            with suppress(pyarrow.ArrowException, OSError):
                reader.cancel()

    def _work(self) -> None:
        """Reads endpoints, each from its first batch to its last, in their order: the one that is waited for is always under way."""
        while True:
            with self._turn:
                number, self._begun = self._begun, self._begun + 1
            if number >= len(self._endpoints) or self._left.is_set():
                return
            try:
                self._read(number)
            except BaseException as error:
                self._put(number, error)
                return

    def _read(self, number: int) -> None:
        reader = self._connection.do_get(self._endpoints[number].ticket, self._options)
        with self._turn:
            self._open.add(reader)
        last = None
        while True:
            try:
                chunk = reader.read_chunk()
            except StopIteration:
                break
            if chunk.data is not None and chunk.data.num_rows and not self._put(number, chunk.data):
                reader.cancel()
                return
            last = chunk.app_metadata
        with self._turn:
            self._open.discard(reader)
        if last is None:
            raise Error("the rows came without their report, so they may not be all; ask again")
        self._put(number, json.loads(last.to_pybytes()))

    def _put(self, number: int, what: Any) -> bool:
        """False where nobody takes it any more."""
        while not self._left.is_set():
            try:
                self._waiting[number].put(what, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False


def _proved(id: str, reports: Iterable[dict[str, Any]], rows: int, seconds: float) -> dict[str, Any]:
    """One report of all stretches, which must follow each other from the set's first row to its last."""
    until, last = 0, None
    for report in reports:
        same = last is None or (report["digest"], report["rows"]) == (last["digest"], last["rows"])
        if not same or report["from"] != until or report["verdict"] == "differs":
            raise Damaged(f"the stretches of training set {id} do not belong together; ask again")
        until, last = report["until"], report
    if last is None or not until == rows == last["rows"]:
        raise Damaged(f"training set {id} came with {rows:,} rows, which are not all; ask again")
    return {
        "training_set": id,
        "verdict": last["verdict"],
        "digest": last["digest"],
        "rebuilt": last["digest"],
        "rows": rows,
        "differences": [],
        "seconds": seconds,
    }
