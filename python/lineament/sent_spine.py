"""A spine that is sent as it is made: it is never held whole here."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pyarrow
import pyarrow.flight as flight

from .errors import InvalidRequest
from .frames import rows_a_message, to_table, without_views


def spine_reader(given: Any) -> pyarrow.RecordBatchReader | None:
    """The batches of a reader, a generator or another iterator of batches, tables or frames; None for what is a whole frame.

    The first batch is made here, since it says what columns there are. The others must have the same.
    """
    if isinstance(given, pyarrow.RecordBatchReader):
        return given
    if not isinstance(given, Iterator):
        return None
    first = next(given, None)
    if first is None:
        raise InvalidRequest("the spine has no batches; give at least one, if only for its columns")
    schema = to_table(first).schema.remove_metadata()

    def batches() -> Iterator[pyarrow.RecordBatch]:
        for number, part in enumerate(itertools.chain([first], given)):
            table = to_table(part).replace_schema_metadata()
            if table.schema != schema:
                raise InvalidRequest(
                    f"batch {number} of the spine has the columns {_columns(table.schema)}, and the first has {_columns(schema)}; "
                    "make them alike"
                )
            yield from table.to_batches()

    return pyarrow.RecordBatchReader.from_batches(schema, batches())


def _columns(schema: pyarrow.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


class Sender:
    """Sends a spine in a thread of its own, beside whoever reads its features.

    A spine that fails on its way ends the exchange without its end, so that nothing of it counts; `failure` says why.
    """

    def __init__(
        self,
        rows: pyarrow.RecordBatchReader,
        writer: flight.FlightStreamWriter,
        reader: flight.FlightStreamReader,
    ) -> None:
        #: What went wrong with the spine, and not with the server.
        self.failure: BaseException | None = None
        #: How many rows were sent.
        self.rows = 0
        self._given, self._writer, self._reader = rows, writer, reader
        self._left = threading.Event()
        writer.begin(without_views(rows.schema.empty_table()).schema)
        self._thread = threading.Thread(target=self._send, name="lineament-spine", daemon=True)
        self._thread.start()

    def _send(self) -> None:
        try:
            for batch in self._given:
                table = without_views(pyarrow.Table.from_batches([batch]))
                for part in table.to_batches(max_chunksize=rows_a_message(table)):
                    if self._left.is_set():
                        return
                    try:
                        self._writer.write_batch(part)
                    except (pyarrow.ArrowException, OSError):
                        # The server stopped listening: whoever reads is told why.
                        return
                    self.rows += part.num_rows
            with suppress(pyarrow.ArrowException, OSError):
                self._writer.done_writing()
        except BaseException as error:
            self.failure = error
            self._cancel()

    def _cancel(self) -> None:
        with suppress(pyarrow.ArrowException, OSError):
            self._reader.cancel()

    def finish(self) -> None:
        """Waits until it has ended, and closes the exchange."""
        self._thread.join()
        self._writer.close()

    def stop(self) -> None:
        """Sends no more."""
        self._left.set()
        self._cancel()
        # A generator that takes its time over the next batch is not waited for.
        self._thread.join(timeout=1)
