"""A spine that is far more than the server may hold, sent by plain pyarrow and by generators of ours."""

import contextlib
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import lineament
import numpy
import pyarrow
import pyarrow.flight as flight
import pyarrow.parquet
import pytest
import readings
from program import Server, command

MEBIBYTE = 1 << 20
LIMIT = 64
SPINE = 600
ROWS = 4096  # Of a batch of a mebibyte.
REQUEST = {"historical_features": {"features": ["reading.value"]}}
SCHEMA = pyarrow.schema(
    [("row", pyarrow.int64()), ("sensor", pyarrow.string()), ("at", readings.INSTANT), ("note", pyarrow.binary())]
)


def batches(count: int = SPINE) -> Iterator[pyarrow.RecordBatch]:
    """So many mebibytes, made one by one; what each row carries along cannot be compressed."""
    chance = numpy.random.default_rng(7)
    start = int(datetime(2024, 1, 1, 10, tzinfo=UTC).timestamp() * 1_000_000)
    for number in range(count):
        rows = numpy.arange(number * ROWS, (number + 1) * ROWS)
        notes = chance.bytes(ROWS * (MEBIBYTE // ROWS))
        note = [notes[at : at + MEBIBYTE // ROWS] for at in range(0, len(notes), MEBIBYTE // ROWS)]
        at = pyarrow.array(start + rows % 7200 * 1_000_000, pyarrow.int64()).cast(readings.INSTANT)
        sensors = pyarrow.array(["abcd"[row % 4] for row in rows])
        yield pyarrow.record_batch([pyarrow.array(rows), sensors, at, pyarrow.array(note, pyarrow.binary())], schema=SCHEMA)


@pytest.fixture(scope="module", autouse=True)
def given_back_at_once() -> Iterator[None]:
    """The allocator keeps for a second what was given back to it, which under load is as much as the spine: what is measured here is what
    the program holds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMALLOC_PURGE_DELAY", "0")
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Iterator[Server]:
    store = tmp_path_factory.mktemp("small") / "store"
    with Server(store, "--memory-limit", f"{LIMIT}M", "--spill-limit", "2G") as server:
        with lineament.connect(server.url) as client:
            client.apply(readings.DEFINITIONS)
            client.ingest("reading", readings.rows())
        yield server


def peak(server: Server) -> int:
    """The most memory that the server has had, in MiB."""
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", text, re.MULTILINE)[1]) >> 10


def check(stream: Iterator[pyarrow.RecordBatch], expected: dict[int, float | None]) -> int:
    """That the spine's rows come back as they were sent, with what each was to find; how many came."""
    came = 0
    sent = batches()
    waiting = next(sent)
    for batch in stream:
        for row, value in enumerate(batch.column("value").to_pylist() if came < len(expected) else [], came):
            assert value == expected.get(row, value)
        spine = batch.select(SCHEMA.names)
        while spine.num_rows:
            if not waiting.num_rows:
                waiting = next(sent)
            rows = min(spine.num_rows, waiting.num_rows)
            assert spine.slice(0, rows).equals(waiting.slice(0, rows))
            spine, waiting = spine.slice(rows), waiting.slice(rows)
            came += rows
    return came


@pytest.fixture(scope="module")
def expected(small) -> dict[int, float | None]:
    """What the first rows find, asked for as a small spine."""
    with lineament.connect(small.url) as client:
        spine = pyarrow.Table.from_batches(batches(4)).drop_columns("note")
        found = client.get_historical_features(spine, ["reading.value"], record=False).to_arrow()
    return dict(zip(found["row"].to_pylist(), found["value"].to_pylist(), strict=True))


def chunks(reader: flight.FlightStreamReader, reports: list[dict]) -> Iterator[pyarrow.RecordBatch]:
    for chunk in reader:
        if chunk.app_metadata is not None:
            reports.append(json.loads(chunk.app_metadata.to_pybytes()))
        if chunk.data is not None and chunk.data.num_rows:
            yield chunk.data


@pytest.mark.parametrize("reads", ["afterwards", "meanwhile"])
def test_plain_pyarrow_sends_a_spine_beyond_memory(small, expected, reads) -> None:
    """A client that sends all before it reads the first feature must not be made to wait for itself; one that reads meanwhile gets features
    before it has sent the last row."""
    descriptor = flight.FlightDescriptor.for_command(json.dumps(REQUEST))
    reports: list[dict] = []
    sent = 0
    first_after: list[int] = []

    def features(reader: flight.FlightStreamReader) -> Iterator[pyarrow.RecordBatch]:
        for batch in chunks(reader, reports):
            first_after.append(sent)
            yield batch

    with flight.connect(small.url) as client:
        writer, reader = client.do_exchange(descriptor)
        came: list[int | BaseException] = []

        def read() -> None:
            try:
                came.append(check(features(reader), expected))
            except BaseException as error:
                came.append(error)

        reading = threading.Thread(target=read)
        writer.begin(SCHEMA)
        if reads == "meanwhile":
            reading.start()
        for batch in batches():
            writer.write_batch(batch)
            sent += 1
        writer.done_writing()
        if reads == "afterwards":
            reading.start()
        reading.join(timeout=600)
        writer.close()
    assert came == [SPINE * ROWS], came
    assert (reports[-1]["rows"], len(reports)) == (SPINE * ROWS, 1)
    if reads == "meanwhile":
        assert first_after[0] < SPINE
    with lineament.connect(small.url) as client:
        recorded = client.sql("SELECT digest FROM lineament.training_sets ORDER BY sequence").to_arrow()
    assert set(recorded["digest"].to_pylist()) == {reports[-1]["digest"]}
    print(f"{SPINE} MiB went through a server of {LIMIT} MiB, which took {peak(small)} MiB at most")
    assert peak(small) < SPINE, "it never held the spine: it takes as much for one of any other size"


class Watched:
    """Streams whose batches go by, and the most memory of pyarrow's that there was meanwhile."""

    def __init__(self) -> None:
        self.before = pyarrow.total_allocated_bytes()
        self.most = 0

    def __call__(self, stream: Iterator[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
        for batch in stream:
            self.most = max(self.most, pyarrow.total_allocated_bytes() - self.before)
            yield batch


def test_a_generator_is_sent_as_it_goes(small, expected) -> None:
    made = 0

    def generator() -> Iterator[pyarrow.RecordBatch]:
        nonlocal made
        for batch in batches():
            made += 1
            yield batch

    watched = Watched()
    with lineament.connect(small.url) as client:
        with client.stream(generator(), ["reading.value"], record=False) as stream:
            assert check(watched(stream), expected) == SPINE * ROWS
        assert (made, stream.rows, stream.report["rows"]) == (SPINE, SPINE * ROWS, SPINE * ROWS)
    assert watched.most < SPINE * MEBIBYTE // 4, "the client never held the spine"
    assert peak(small) < SPINE


def test_a_recorded_set_beyond_memory_is_read_again(small, expected) -> None:
    """Its spine is kept as it is made, and its rows come back however they are asked for: the server never holds it either way."""
    watched = Watched()
    with lineament.connect(small.url) as client:
        kept = client.keep_spine(watched(batches()))
        assert (kept.rows, watched.most < SPINE * MEBIBYTE // 4) == (SPINE * ROWS, True)
        request = {"historical_features": {"features": ["reading.value"], "spine": kept.digest}}
        with flight.connect(small.url) as plain:
            reports: list[dict] = []
            reader = plain.do_get(flight.Ticket(json.dumps(request)))
            assert check(chunks(reader, reports), expected) == SPINE * ROWS
            id = reports[-1]["training_set"]
            reader = plain.do_get(flight.Ticket(json.dumps({"training_set": id})))
            assert check(chunks(reader, reports), expected) == SPINE * ROWS
            assert (reports[-1]["verdict"], reports[-1]["rows"]) == ("equal", SPINE * ROWS)
        assert client.replay(id).equal
        last = client.explain(id, SPINE * ROWS - 1, "value")
        assert last.row == SPINE * ROWS - 1
    assert watched.most < SPINE * MEBIBYTE // 4, "the client never held it"
    print(f"a set of {SPINE} MiB was read again from a server of {LIMIT} MiB, which took {peak(small)} MiB at most")
    assert peak(small) < SPINE


def test_the_program_reads_a_spine_file_as_it_goes(small, tmp_path) -> None:
    """`lineament retrieve`, `replay` and `export` within a limit, of a file that is far more."""
    spine = tmp_path / "spine.parquet"
    with pyarrow.parquet.ParquetWriter(spine, SCHEMA, compression="none") as writer:
        for batch in batches():
            writer.write_batch(batch)
    limits = ("--memory-limit", f"{LIMIT}M", "--spill-limit", "2G")
    told, most = measured(small.store, "retrieve", "reading.value", "--spine", spine, *limits, "--out", tmp_path / "out.parquet")
    assert f"{SPINE * ROWS:,} rows" in told
    assert pyarrow.parquet.read_metadata(tmp_path / "out.parquet").num_rows == SPINE * ROWS
    id = re.search(r"training set (\S+):", told)[1]
    again, replayed = measured(small.store, "replay", id, *limits)
    assert again.startswith(f"equal: {SPINE * ROWS:,} rows")
    exported, kept = measured(small.store, "export", id, tmp_path / "set", *limits)
    assert f"{SPINE * ROWS:,} rows in 3 files" in exported
    print(f"{SPINE} MiB within {LIMIT} MiB: retrieve took {most} MiB at most, replay {replayed}, export {kept}")
    assert max(most, replayed, kept) < SPINE


def measured(store: Path, *arguments: object) -> tuple[str, int]:
    """What a verb printed, and the most memory that it had, in MiB."""
    program = subprocess.Popen(command(store, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    most = 0
    # What the system says of a child at its end has the memory of its parent in it, as it was before the program took its place.
    while program.poll() is None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{program.pid}/status").read_text()
            if (peak := re.search(r"VmHWM:\s+(\d+) kB", status)) is not None:
                most = max(most, int(peak[1]) >> 10)
        time.sleep(0.02)
    out, error = program.communicate()
    assert program.returncode == 0, error
    assert most > 0
    return out, most


def test_who_leaves_is_asked_for_no_more(small) -> None:
    made = 0

    def endless() -> Iterator[pyarrow.RecordBatch]:
        nonlocal made
        [batch] = batches(1)
        while True:
            made += 1
            yield batch

    with lineament.connect(small.url) as client:
        stream = client.stream(endless(), ["reading.value"], record=False)
        assert next(stream).num_rows > 0
        stream.close()
        assert list(stream) == []
        seen = made
        time.sleep(0.5)
        assert made <= seen + 1
        # The server has given back what it held for it.
        assert client.sql("SELECT count(*) AS n FROM reading").num_rows == 1


def test_more_than_the_disk_may_take_is_refused(tmp_path) -> None:
    """The client learns it even though it reads nothing before it has sent all."""
    with Server(tmp_path / "store", "--memory-limit", f"{LIMIT}M", "--spill-limit", "30M") as server:
        with lineament.connect(server.url) as client:
            client.apply(readings.DEFINITIONS)
            client.ingest("reading", readings.rows())
            spine = pyarrow.Table.from_batches(batches(150))
            for record in (True, False):
                with pytest.raises(lineament.Error, match="--spill-limit"):
                    client.get_historical_features(spine, ["reading.value"], record=record)
            with pytest.raises(lineament.Error, match="--spill-limit"):
                client.keep_spine(spine)
            # Whoever makes rows as they are sent is told why they are not taken, too.
            with pytest.raises(lineament.Error, match="--spill-limit"):
                client.keep_spine(batches(150))
            assert client.sql("SELECT * FROM lineament.training_sets").num_rows == 0
            assert client.sql("SELECT count(*) AS n FROM reading").num_rows == 1
        assert server.stop() == 0
