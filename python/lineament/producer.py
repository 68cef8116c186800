"""Rows that go up without end: parts that are numbered, committed in groups, and sent again where nobody said that they were."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import pyarrow
import pyarrow.flight as flight

from .errors import Error, InvalidRequest, Unavailable, from_flight
from .frames import rows_a_message, to_table, without_views
from .reports import known

if TYPE_CHECKING:
    from .client import Client

#: Parts, and bytes of them, that may wait for their receipts; `send` waits where there are more.
_PARTS = 1_000
_BYTES = 64 << 20
#: Pauses between attempts to reach the server again, in seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


@dataclass(frozen=True)
class Receipt:
    """What became of one part.

    >>> with client.stream("weather", producer="station-7", claim="back_fill") as stream:
    ...     stream.send(frame.head(100))
    ...     [receipt] = stream.flush()
    1
    >>> receipt.rows, receipt.repeated
    (100, False)
    """

    #: The producer's epoch, and the part's number in it.
    epoch: int
    number: int
    #: The version that took it, as in `weather@2`.
    view_version: str
    #: The sequence from which its rows are visible where they are not kept back, and the batch that holds them.
    sequence: int
    batch: str
    #: Rows that were accepted, and rows that were rejected.
    rows: int
    rejected: int
    #: More rows were rejected than the view bears, so that none of the part was taken. It counts as committed.
    refused: bool = False
    #: The batch that holds it failed its checks and was kept back: its rows count for nobody until it is released.
    quarantined: bool = False
    #: It had been committed before; nothing was written now.
    repeated: bool = False
    #: The first few rejections in words.
    examples: list[str] = field(default_factory=list)


class ProducerStream:
    """A producer's stream into a feature view; `Client.stream` with a `producer` makes one. As a context manager it flushes at its
    end. One thread uses it at a time.
    """

    def __init__(
        self,
        client: Client,
        view: str,
        producer: str,
        *,
        epoch: int | Literal["new"] | None = None,
        resume: bool = False,
        claim: Literal["back_fill", "correction"] | None = None,
        patience: float = 60.0,
    ) -> None:
        self._client = client
        self._wanted: dict[str, Any] = {"view": view, "producer": producer}
        if claim is not None:
            self._wanted["claim"] = claim
        self._patience = patience
        committed, number = self._last()
        #: The epoch that parts are sent in.
        self.epoch: int = max(committed, 1) if epoch is None else committed + 1 if epoch == "new" else int(epoch)
        #: The number of the part that is sent next.
        self.next_number: int = number + 1 if resume and self.epoch == committed else 1
        self._changed = threading.Condition()
        #: Parts that were sent and have no receipt, by number.
        self._waiting: dict[int, pyarrow.RecordBatch] = {}
        self._receipts: list[Receipt] = []
        self._call: _Call | None = None
        self._failed: Error | None = None
        self._closed = False

    def __repr__(self) -> str:
        view, producer = self._wanted["view"], self._wanted["producer"]
        return f"<lineament.ProducerStream {producer!r} into {view}, epoch {self.epoch}, number {self.next_number} next>"

    def committed(self) -> tuple[int, int]:
        """Epoch and number of the part that the producer committed last, as the server says; zeros before the first."""
        return self._last()

    def send(self, df: Any) -> int:
        """Sends rows, and gives the number of their last part. What is larger than a message becomes several parts.

        Returns before the rows are committed; `flush` says when they are. Waits where much is not committed yet. Raises what became
        of earlier parts, where one of them cannot be taken.
        """
        table = without_views(to_table(df)).combine_chunks()
        if table.num_rows == 0:
            raise InvalidRequest("there are no rows to send")
        self._check_usable()
        for batch in table.to_batches(max_chunksize=rows_a_message(table)):
            self._wait_for(self._has_room)
            number, self.next_number = self.next_number, self.next_number + 1
            with self._changed:
                self._waiting[number] = batch
            self._write(number, batch)
        return self.next_number - 1

    def flush(self) -> list[Receipt]:
        """Waits until all that was sent is committed, and gives the receipts since the last flush, in order.

        Where the connection breaks, what has no receipt is sent again; the server knows what it has committed. Raises `InvalidRequest`
        where a part cannot be taken, `Unavailable` where the server cannot be reached for as long as the stream's patience lasts.
        """
        self._check_usable()
        self._wait_for(lambda: not self._waiting)
        with self._changed:
            receipts, self._receipts = self._receipts, []
        return receipts

    def close(self) -> None:
        """Ends the stream without waiting. Parts without a receipt may or may not be committed."""
        self._closed = True
        call, self._call = self._call, None
        if call is not None:
            call.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and not self._closed:
                self.flush()
        finally:
            self.close()

    # ------------------------------------------------------------------------------------------------------ within

    def _check_usable(self) -> None:
        if self._failed is not None:
            raise self._failed
        if self._closed:
            raise InvalidRequest("the stream was closed; open another")

    def _last(self) -> tuple[int, int]:
        asked = {"view": self._wanted["view"], "producer": self._wanted["producer"]}
        answer = self._client._action("lineament.last_part", asked)
        return answer["epoch"], answer["number"]

    def _has_room(self) -> bool:
        return len(self._waiting) < _PARTS and sum(batch.nbytes for batch in self._waiting.values()) < _BYTES

    def _wait_for(self, holds: Callable[[], bool]) -> None:
        """Waits until something holds; where the call ends meanwhile, another takes its place."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: holds() or self._call is None or self._call.ended)
                if holds():
                    return
            self._again()

    def _write(self, number: int, batch: pyarrow.RecordBatch) -> None:
        call = self._call
        if call is not None and call.schema != batch.schema:
            # A call has one schema: what is under way is acknowledged first.
            self._wait_for(lambda: set(self._waiting) <= {number})
            call.close()
            call = self._call = None
        try:
            if call is None:
                call = self._call = self._open(batch.schema)
            call.write(self.epoch, number, batch)
        except (pyarrow.ArrowException, OSError, Error):
            self._again()

    def _open(self, schema: pyarrow.Schema) -> _Call:
        return _Call(self._client, self._wanted, schema, self._take)

    def _take(self, answer: Mapping[str, Any] | None) -> None:
        """A receipt, or the news that the call has ended."""
        with self._changed:
            if answer is not None:
                receipt = Receipt(**known(Receipt, answer))
                if self._waiting.pop(receipt.number, None) is not None:
                    self._receipts.append(receipt)
            self._changed.notify_all()

    def _again(self) -> None:
        """Sends what has no receipt in a new call, unless the one before ended for a reason that will not pass."""
        until = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            call, self._call = self._call, None
            error = call.close() if call is not None else None
            if error is not None and not isinstance(error, Unavailable):
                self._failed = error
                raise error
            if time.monotonic() > until:
                # It may be back later: whoever flushes again goes on.
                raise error or Unavailable("the server ended the stream again and again; flush once more")
            if error is not None:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            with self._changed:
                waiting = list(self._waiting.items())
            if not waiting:
                return
            try:
                committed = self._last()
                if committed[0] > self.epoch:
                    raise InvalidRequest(
                        f"another instance of producer {self._wanted['producer']!r} has begun epoch {committed[0]}; "
                        f"{len(waiting)} parts of epoch {self.epoch} were not acknowledged"
                    )
                # Whatever the server has committed of these it answers as it did first.
                for number, batch in waiting:
                    call = self._call
                    if call is not None and call.schema != batch.schema:
                        break
                    if call is None:
                        call = self._call = self._open(batch.schema)
                    call.write(self.epoch, number, batch)
                else:
                    return
                # The rest has other columns and goes once these are acknowledged.
                first = {number for number, sent in waiting if sent.schema == call.schema}
                with self._changed:
                    self._changed.wait_for(lambda: call.ended or not first & set(self._waiting))
            except Unavailable:
                if self._call is None:
                    time.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    if time.monotonic() > until:
                        raise
            except Error as error:
                self._failed = error
                raise
            except (pyarrow.ArrowException, OSError):
                # What the call ended with is told when it is closed.
                pass


class _Call:
    """One DoPut: parts go up, and a thread takes what comes back."""

    def __init__(
        self,
        client: Client,
        wanted: Mapping[str, Any],
        schema: pyarrow.Schema,
        take: Callable[[Mapping[str, Any] | None], None],
    ) -> None:
        self.schema = schema
        self.ended = False
        self._url = client.url
        descriptor = flight.FlightDescriptor.for_command(json.dumps({"stream": dict(wanted)}).encode())
        try:
            self._writer, self._results = client._connection.do_put(descriptor, schema, client._options)
        except (pyarrow.ArrowException, OSError) as error:
            raise from_flight(error, self._url) from None
        self._take = take
        self._reader = threading.Thread(target=self._read, name="lineament stream", daemon=True)
        self._reader.start()

    def write(self, epoch: int, number: int, batch: pyarrow.RecordBatch) -> None:
        said = json.dumps({"epoch": epoch, "number": number}).encode()
        self._writer.write_with_metadata(batch, pyarrow.py_buffer(said))

    def _read(self) -> None:
        with suppress(pyarrow.ArrowException, OSError, ValueError):
            while (result := self._results.read()) is not None:
                self._take(json.loads(result.to_pybytes()))
        self.ended = True
        self._take(None)

    def close(self) -> Error | None:
        """Ends the call; the error that the server ended it with, if it did."""
        with suppress(pyarrow.ArrowException, OSError):
            self._writer.done_writing()
        try:
            self._writer.close()
        except (pyarrow.ArrowException, OSError) as error:
            return from_flight(error, self._url)
        finally:
            if self._reader is not threading.current_thread():
                self._reader.join(timeout=5)
        return None
