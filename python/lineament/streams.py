"""Rows batch by batch, so that a training set of any size needs little memory here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pyarrow
import pyarrow.flight as flight

from .deprecations import warn
from .endpoints import SetReader
from .errors import Damaged, Error, translated
from .frames import check_same
from .progress import Progress
from .sent_spine import Sender


class BatchStream:
    """The rows of a training set, batch by batch, once. Closed, or left as a context manager, it asks for no
    more.

    What it is of is known at its end: `id`, `digest` and `report` are None before. Whoever stops early has
    rows that are not proved.

    >>> with client.stream(training_set) as stream:
    ...     rows = sum(batch.num_rows for batch in stream)
    >>> rows, stream.id == training_set.id
    (1000, True)
    """

    def __init__(
        self,
        reader: flight.FlightStreamReader | SetReader,
        url: str,
        *,
        spine: pyarrow.Table | None = None,
        sender: Sender | None = None,
        rows: int | None = None,
        proved: Callable[[dict[str, Any], int, pyarrow.Schema], None] | None = None,
        finished: Callable[[], None] | None = None,
        shown: bool | None = False,
    ) -> None:
        self._reader = reader
        self._url = url
        self._spine = spine
        self._sender = sender
        self._proved = proved
        self._finished = finished
        self._progress = Progress("retrieving", rows, shown=shown)
        self._ended = False
        #: The server's report of the whole; None until the last batch was given.
        self.report: dict[str, Any] | None = None
        #: How many rows were given so far.
        self.rows = 0
        with translated(url):
            #: The columns of the batches.
            self.schema: pyarrow.Schema = reader.schema

    @property
    def id(self) -> str | None:
        """The training set's id; None before the end, and where it is not recorded."""
        return (self.report or {}).get("training_set")

    @property
    def digest(self) -> str | None:
        """The training set's digest; None before the end."""
        return (self.report or {}).get("digest")

    def __iter__(self) -> Iterator[pyarrow.RecordBatch]:
        return self

    def __next__(self) -> pyarrow.RecordBatch:
        if self._ended:
            raise StopIteration
        last = None
        while True:
            try:
                with translated(self._url):
                    chunk = self._reader.read_chunk()
            except StopIteration:
                self._end(last)
                raise
            except BaseException as error:
                failure = None if self._sender is None else self._sender.failure
                self.close()
                if failure is not None:
                    raise failure from error
                raise
            last = chunk.app_metadata
            batch = chunk.data
            if last is not None:
                self.report = json.loads(last.to_pybytes())
            if batch is not None and batch.num_rows:
                self._check(batch)
                self.rows += batch.num_rows
                self._progress.add(batch.num_rows)
                return batch

    def to_reader(self) -> pyarrow.RecordBatchReader:
        """The stream for whatever takes Arrow streams: DuckDB, `pyarrow.dataset`, a Parquet writer."""
        return pyarrow.RecordBatchReader.from_batches(self.schema, self)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.to_reader().__arrow_c_stream__(requested_schema)

    def quiet(self) -> None:
        """Shows no progress: whoever takes the rows shows his own."""
        self._progress.close()
        self._progress = Progress("", shown=False)

    def close(self) -> None:
        """Asks for no more rows."""
        if not self._ended:
            self._ended = True
            self._progress.close()
            with suppress(pyarrow.ArrowException, OSError):
                self._reader.cancel()
            if self._sender is not None:
                self._sender.stop()
            self._release()

    def __enter__(self) -> BatchStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A server that is asked to stop waits for streams that nobody reads any more.
        if hasattr(self, "schema"):
            self.close()

    def _check(self, batch: pyarrow.RecordBatch) -> None:
        """That the spine's rows come back as they were sent."""
        if self._spine is None:
            return
        sent = self._spine.slice(self.rows, batch.num_rows)
        if sent.num_rows != batch.num_rows:
            self.close()
            raise Damaged(f"the spine has {self._spine.num_rows:,} rows, but more came back; ask again")
        try:
            check_same(sent, pyarrow.Table.from_batches([batch]))
        except Damaged:
            self.close()
            raise

    def _end(self, last: Any) -> None:
        self._ended = True
        self._progress.close()
        self._release()
        if self.report is None:
            raise Error("the rows ended without their report, so they may not be all; ask again")
        if self._spine is not None and self.rows != self._spine.num_rows:
            raise Damaged(
                f"the spine has {self._spine.num_rows:,} rows, but {self.rows:,} came back; ask again"
            )
        if self._sender is not None and self.rows != self._sender.rows:
            raise Damaged(f"{self._sender.rows:,} rows of the spine were sent, but {self.rows:,} came back; ask again")
        warn(self.report)
        if self._proved is not None:
            self._proved(self.report, self.rows, self.schema)

    def _release(self) -> None:
        finished, self._finished = self._finished, None
        if finished is not None:
            with suppress(pyarrow.ArrowException, OSError):
                finished()
