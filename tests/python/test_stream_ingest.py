"""Producers that send without end: each part is there once, whatever breaks, and nothing that was acknowledged is lost."""

import itertools
import json
import random
import threading
import time

import lineament
import pyarrow
import pytest
from kills import KILLS, Reopenings, seeds
from program import Server, run

ROWS = 40
DEFINITIONS = {
    "meter.toml": 'kind = "entity"\nname = "meter"\n[[keys]]\nname = "meter"\ntype = "int64"\n',
    "tick.toml": """
kind = "feature_view"
name = "tick"
entity = "meter"
reject_above = 0.5

[time]
valid_at = "time"
known_at = "arrival"

[[features]]
name = "part"
type = "int64"

[[features]]
name = "value"
type = "float64"
range = [0, 1e6]
""",
}


def part(number: int, rows: int = ROWS, bad: int = 1) -> pyarrow.Table:
    """Rows that no other part has; the last ones are out of range."""
    times = pyarrow.array([(number * rows + row) * 1_000_000 for row in range(rows)], pyarrow.timestamp("us", "UTC"))
    values = pyarrow.array([float(row) for row in range(rows - bad)] + [-1.0] * bad)
    return pyarrow.table(
        {"meter": [row % 7 for row in range(rows)], "time": times, "part": [number] * rows, "value": values}
    )


@pytest.fixture(scope="module")
def ticks(client) -> lineament.Client:
    client.apply(DEFINITIONS)
    return client


def counts(client: lineament.Client, parts: range) -> dict[int, int]:
    """How many rows of each part there are."""
    found = client.sql(
        f"SELECT part, count(*) AS n FROM history('tick') WHERE part BETWEEN {parts[0]} AND {parts[-1]} GROUP BY part"
    )
    return {row["part"]: row["n"] for row in found.to_arrow().to_pylist()}


def batches(client: lineament.Client) -> int:
    return client.sql("SELECT count(*) AS n FROM lineament.batches").to_arrow()["n"][0].as_py()


def test_receipts_name_the_entry_and_rows_can_be_read(ticks):
    with ticks.stream("tick", producer="one") as stream:
        assert (stream.epoch, stream.next_number, stream.committed()) == (1, 1, (0, 0))
        assert [stream.send(part(number)) for number in range(1, 11)] == list(range(1, 11))
        receipts = stream.flush()
        assert stream.flush() == []
        assert stream.committed() == (1, 10)
    assert [receipt.number for receipt in receipts] == list(range(1, 11))
    for receipt in receipts:
        assert (receipt.rows, receipt.rejected, receipt.refused, receipt.repeated) == (ROWS - 1, 1, False, False)
        assert receipt.view_version == "tick@1" and "value" in receipt.examples[0]
    assert len({receipt.batch for receipt in receipts}) < 10, "parts that come together are one batch"
    where = ticks.sql("SELECT DISTINCT part, batch, sequence FROM history('tick') WHERE part BETWEEN 1 AND 10")
    assert {(row["part"], row["batch"], row["sequence"]) for row in where.to_arrow().to_pylist()} == {
        (receipt.number, receipt.batch, receipt.sequence) for receipt in receipts
    }
    assert counts(ticks, range(1, 11)) == {number: ROWS - 1 for number in range(1, 11)}


def test_sending_everything_again_changes_nothing(ticks):
    parts = range(100, 120)
    first = None
    for _ in range(3):
        with ticks.stream("tick", producer="again") as stream:
            for number in parts:
                stream.send(part(number))
            receipts = stream.flush()
        if first is None:
            first = receipts
            written = batches(ticks)
            continue
        assert all(receipt.repeated for receipt in receipts)
        assert [(r.number, r.sequence, r.batch, r.rows) for r in receipts] == [
            (r.number, r.sequence, r.batch, r.rows) for r in first
        ]
        assert batches(ticks) == written
    assert counts(ticks, parts) == {number: ROWS - 1 for number in parts}


def test_a_number_stands_for_one_part(ticks):
    with ticks.stream("tick", producer="other content") as stream:
        stream.send(part(200))
    with pytest.raises(lineament.InvalidRequest, match="with other content.*begin epoch 2"):
        with ticks.stream("tick", producer="other content") as stream:
            stream.send(part(201))
    with ticks.stream("tick", producer="other content", resume=True) as stream:
        assert (stream.epoch, stream.next_number) == (1, 2)
        stream.send(part(201))
    with ticks.stream("tick", producer="other content", epoch="new") as stream:
        assert (stream.epoch, stream.next_number) == (2, 1)
        stream.send(part(202))
    assert counts(ticks, range(200, 203)) == {number: ROWS - 1 for number in range(200, 203)}


def test_an_instance_that_was_followed_by_another_is_refused(ticks):
    old = ticks.stream("tick", producer="two instances")
    old.send(part(300))
    old.flush()
    with ticks.stream("tick", producer="two instances", epoch="new") as new:
        new.send(part(301))
    old.send(part(302))
    with pytest.raises(lineament.InvalidRequest, match="epoch 1 is over"):
        old.flush()
    with pytest.raises(lineament.InvalidRequest, match="epoch 1 is over"):
        old.send(part(303))
    old.close()
    assert counts(ticks, range(300, 304)) == {300: ROWS - 1, 301: ROWS - 1}


def test_a_part_with_too_many_bad_rows_is_refused_and_the_stream_goes_on(ticks):
    with ticks.stream("tick", producer="bad rows") as stream:
        for number, bad in ((400, 0), (401, ROWS - 5), (402, 1)):
            stream.send(part(number, bad=bad))
        receipts = stream.flush()
    assert [(r.rows, r.rejected, r.refused) for r in receipts] == [(ROWS, 0, False), (0, ROWS - 5, True), (ROWS - 1, 1, False)]
    assert counts(ticks, range(400, 403)) == {400: ROWS, 402: ROWS - 1}
    rejected = ticks.sql(
        f"SELECT batch, count(*) AS n FROM lineament.rejected_rows WHERE batch IN ('{receipts[1].batch}', '{receipts[2].batch}') GROUP BY batch"
    )
    assert {row["batch"]: row["n"] for row in rejected.to_arrow().to_pylist()} == {
        receipts[1].batch: ROWS - 5,
        receipts[2].batch: 1,
    }


def test_what_cannot_be_sent_is_said(ticks):
    with pytest.raises(lineament.NotFound, match="did you mean `tick`"):
        with ticks.stream("tock", producer="p") as stream:
            stream.send(part(1))
    with pytest.raises(lineament.InvalidRequest, match="no rows"):
        with ticks.stream("tick", producer="p") as stream:
            stream.send(part(1).slice(0, 0))
    with pytest.raises(lineament.InvalidRequest, match="does not fit"):
        with ticks.stream("tick", producer="p") as stream:
            stream.send(part(1).drop_columns(["time"]))
    with pytest.raises(lineament.InvalidRequest, match="give its name"):
        ticks.stream(part(1), producer="p")
    stream = ticks.stream("tick", producer="p")
    stream.close()
    with pytest.raises(lineament.InvalidRequest, match="was closed"):
        stream.send(part(1))


def test_columns_may_change_and_large_tables_become_several_parts(ticks):
    wide = part(500).append_column("note", pyarrow.array(["x"] * ROWS))
    big = part(502, rows=200_000, bad=0).append_column("text", pyarrow.array(["y" * 90] * 200_000))
    with ticks.stream("tick", producer="columns") as stream:
        assert stream.send(part(501)) == 1
        assert stream.send(wide) == 2
        last = stream.send(big)
        assert last > 3
        receipts = stream.flush()
    assert [receipt.number for receipt in receipts] == list(range(1, last + 1))
    assert counts(ticks, range(500, 503)) == {500: ROWS - 1, 501: ROWS - 1, 502: 200_000}


def test_many_producers_side_by_side(server, ticks):
    errors: list[Exception] = []

    def produce(producer: int) -> None:
        try:
            with lineament.connect(server.url) as client, client.stream("tick", producer=f"of many {producer}") as stream:
                for number in range(50):
                    stream.send(part(1_000 + producer * 100 + number, rows=3, bad=0))
                assert len(stream.flush()) == 50
        except Exception as error:
            errors.append(error)

    before = batches(ticks)
    threads = [threading.Thread(target=produce, args=(producer,)) for producer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert errors == []
    found = counts(ticks, range(1_000, 1_800))
    assert found == {1_000 + producer * 100 + number: 3 for producer in range(8) for number in range(50)}
    assert batches(ticks) - before < 100, "400 parts are few batches"


@pytest.mark.parametrize("seed", seeds(11))
def test_the_server_killed_in_the_middle(tmp_path, seed):
    """kill -9 of the server at random moments, under a producer that goes on. After each the store is whole, and every receipt that was
    ever given is true; in the end each row is there once."""
    store = tmp_path / "store"
    moments, reopenings = random.Random(seed), Reopenings()
    server = Server(store)
    port = int(server.url.rpartition(":")[2])
    with lineament.connect(server.url) as client:
        client.apply(DEFINITIONS)
    receipts: list[lineament.Receipt] = []
    failures: list[Exception] = []
    enough = threading.Event()

    def produce() -> None:
        try:
            with lineament.connect(server.url) as client, client.stream("tick", producer="station") as stream:
                for number in itertools.count(1):
                    stream.send(part(number))
                    time.sleep(0.02)
                    if number % 10 == 0:
                        receipts.extend(stream.flush())
                        if enough.is_set():
                            return
        except Exception as error:
            failures.append(error)

    producer = threading.Thread(target=produce)
    producer.start()
    given: list[lineament.Receipt] = []
    for kill in range(KILLS["stream"]):
        # From the first instant, when the producer may not have found the server yet; every other time once it has gone on.
        deadline = time.monotonic() + 30
        while kill % 2 and len(receipts) == len(given) and failures == []:
            assert time.monotonic() < deadline, "the producer did not go on"
            time.sleep(0.01)
        time.sleep(moments.uniform(0.1, 0.8))
        server.kill()
        given = list(receipts)
        whole(store)
        server = reopenings.server(store, port=port)
        with lineament.connect(server.url) as client:
            true(client, given)
    enough.set()
    producer.join(timeout=120)
    assert not producer.is_alive() and failures == [], failures
    parts = range(1, len(receipts) + 1)
    assert [receipt.number for receipt in receipts] == list(parts)
    with server, lineament.connect(server.url) as client:
        check(client, parts, receipts)
        written = batches(client)
        # Another instance that knows nothing sends everything again.
        with client.stream("tick", producer="station") as stream:
            for number in parts:
                stream.send(part(number))
            again = stream.flush()
        assert [(r.number, r.sequence, r.batch, r.repeated) for r in again] == [
            (r.number, r.sequence, r.batch, True) for r in receipts
        ]
        assert batches(client) == written
        check(client, parts, receipts)
    whole(store)
    landed = sum(receipt.repeated for receipt in receipts)
    print(
        f"{KILLS['stream']} kills, {len(parts)} parts, {landed} of them had landed unacknowledged and were told so; "
        f"{reopenings.told()}"
    )


def test_a_server_that_is_away_for_longer_than_the_patience(tmp_path):
    """`flush` gives up, says so, and goes on where it is asked again once the server is back."""
    store = tmp_path / "store"
    server = Server(store)
    port = int(server.url.rpartition(":")[2])
    with lineament.connect(server.url) as client:
        client.apply(DEFINITIONS)
        stream = client.stream("tick", producer="patient", patience=0.5)
        stream.send(part(1))
        receipts = stream.flush()
        server.kill()
        stream_error = None
        try:
            stream.send(part(2))
            stream.flush()
        except lineament.Unavailable as error:
            stream_error = error
        assert stream_error is not None and "no server answers" in str(stream_error)
        with Server(store, port=port):
            deadline = time.monotonic() + 30
            while len(receipts) < 2:
                try:
                    receipts.extend(stream.flush())
                except lineament.Unavailable:
                    assert time.monotonic() < deadline
            stream.send(part(3))
            receipts.extend(stream.flush())
            assert [receipt.number for receipt in receipts] == [1, 2, 3]
            check(client, range(1, 4), receipts)
            stream.close()


def whole(store) -> None:
    """The whole store is what was written: log, checkpoints, manifests, every block and row."""
    found = json.loads(run(store, "verify", "--full", "--format", "json"))
    assert found["faults"] == [], found["faults"]


def true(client: lineament.Client, receipts: list[lineament.Receipt]) -> None:
    """Every part is whole or absent, and those that have a receipt are where it says."""
    found = client.sql("SELECT part, batch, sequence, count(*) AS n FROM history('tick') GROUP BY part, batch, sequence")
    found = found.to_arrow().to_pylist()
    assert all(row["n"] == ROWS - 1 for row in found), found
    there = {row["part"]: (row["batch"], row["sequence"]) for row in found}
    assert len(there) == len(found), "a part is in two batches"
    for receipt in receipts:
        assert there.get(receipt.number) == (receipt.batch, receipt.sequence), receipt


def check(client: lineament.Client, parts: range, receipts: list[lineament.Receipt]) -> None:
    assert counts(client, parts) == {number: ROWS - 1 for number in parts}
    where = client.sql("SELECT DISTINCT part, batch, sequence FROM history('tick')").to_arrow().to_pylist()
    assert {(row["part"], row["batch"], row["sequence"]) for row in where} == {
        (receipt.number, receipt.batch, receipt.sequence) for receipt in receipts
    }
