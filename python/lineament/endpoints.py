"""A recorded training set, read from all its endpoints side by side."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow
import pyarrow.flight as flight

from .errors import Damaged, Error
from .progress import Progress

#: Streams that are read at once.
READERS = 4


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


def _proved(id: str, reports: Iterable[dict[str, Any]], rows: int, seconds: float) -> dict[str, Any]:
    """One report of all stretches, which must follow each other from the set's first row to its last."""
    until, last = 0, None
    for report in reports:
        same = last is None or (report["digest"], report["rows"]) == (last["digest"], last["rows"])
        if not same or report["from"] != until or report["verdict"] != "equal":
            raise Damaged(f"the stretches of training set {id} do not belong together; ask again")
        until, last = report["until"], report
    if last is None or not until == rows == last["rows"]:
        raise Damaged(f"training set {id} came with {rows:,} rows, which are not all; ask again")
    return {
        "training_set": id,
        "verdict": "equal",
        "digest": last["digest"],
        "rebuilt": last["digest"],
        "rows": rows,
        "differences": [],
        "seconds": seconds,
    }
