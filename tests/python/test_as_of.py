"""The store as it was, by a sequence or a time: queries, training sets, streams, and the command line."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import lineament
import numpy
import pandas
import pyarrow
import pyarrow.flight as flight
import pyarrow.parquet
import pytest
import readings
from program import fails, run

VALUE = "SELECT value FROM reading WHERE sensor = 'a' AND valid_at = TIMESTAMP '2024-01-01T11:00:00Z'"
CHANGES = "SELECT sensor, known_at AS at FROM history('reading') WHERE sensor = 'a' ORDER BY known_at"
# Of half past twelve is the correction, and of noon what it corrects.
OLD, NEW = [2.5, 2.5], [2.5, 3.5]


def correction(value: float) -> pyarrow.Table:
    return pyarrow.table(
        {
            "sensor": ["a"],
            "measured_at": pyarrow.array([readings.clock("11:00")], readings.INSTANT),
            "published_at": pyarrow.array([readings.clock("12:30")], readings.INSTANT),
            "value": [value],
            "quality": pyarrow.array([7], pyarrow.int32()),
            "grade": ["good"],
        }
    )


def spine() -> pyarrow.Table:
    times = [readings.clock("12:15"), readings.clock("12:45")]
    return pyarrow.table({"sensor": ["a", "a"], "at": pyarrow.array(times, readings.INSTANT)})


@dataclass
class States:
    """The sequences after the definitions, the first rows and their correction, and when the two last were committed."""

    defined: int
    first: int
    corrected: int
    first_at: datetime
    corrected_at: datetime


@pytest.fixture(scope="module")
def states(client) -> States:
    client.apply(readings.DEFINITIONS)
    defined = client.status()["sequence"]
    first = client.ingest("reading", readings.rows()).sequence
    corrected = client.ingest("reading", correction(3.5)).sequence
    found = client.sql(f"SELECT committed_at FROM lineament.log WHERE sequence IN ({first}, {corrected}) ORDER BY sequence")
    return States(defined, first, corrected, *found.to_arrow()["committed_at"].to_pylist())


def values(rows) -> list[float | None]:
    return rows.to_arrow()["value"].to_pylist()


def ways_of_saying(states: States) -> tuple[list, list]:
    """The state before the correction and the one after it, each in every form."""
    before, after = states.corrected_at - timedelta(microseconds=1), states.corrected_at
    return tuple(
        [sequence, numpy.int64(sequence), str(sequence), time, time.isoformat(), pandas.Timestamp(time)]
        for sequence, time in ((states.corrected - 1, before), (states.corrected, after))
    )


def test_a_query_reads_the_store_as_it_was(client, states):
    before, after = ways_of_saying(states)
    assert [values(client.sql(VALUE, as_of=as_of)) for as_of in before] == [[2.5]] * len(before)
    assert [values(client.sql(VALUE, as_of=as_of)) for as_of in after] == [[3.5]] * len(after)
    assert values(client.sql(VALUE)) == values(client.sql(VALUE, as_of=None)) == [3.5]
    assert values(client.sql(VALUE, as_of=states.first_at)) == [2.5]


def test_all_of_a_query_is_of_that_state(client, states):
    # No rows, and then no view.
    assert values(client.sql(VALUE, as_of=states.defined)) == []
    with pytest.raises(lineament.NotFound, match="there is no table `reading`"):
        client.sql(VALUE, as_of=0)
    joined = "SELECT value FROM historical_features((SELECT 'a' AS sensor, TIMESTAMP '2024-01-01T12:45:00Z' AS at), features => ['reading.value'])"
    changes = "SELECT value FROM history('reading') WHERE sensor = 'a'"
    for as_of, value, known in ((states.first, 2.5, 3), (states.corrected, 3.5, 4)):
        assert values(client.sql(joined, as_of=as_of)) == [value]
        assert len(values(client.sql(changes, as_of=as_of))) == known
        last = client.sql("SELECT max(sequence) AS last FROM lineament.log", as_of=as_of).to_arrow()["last"]
        assert last.to_pylist() == [as_of]
    # What is still later is not there, from where it stands.
    later = f"SELECT value FROM at_sequence('reading', {states.corrected})"
    with pytest.raises(lineament.InvalidRequest, match=f"the log ends at sequence {states.first}; there is no"):
        client.sql(later, as_of=states.first)


def test_a_training_set_of_an_earlier_state_is_made_again(client, states):
    for all_of_one, value in zip(ways_of_saying(states), (OLD, NEW), strict=True):
        for as_of in all_of_one:
            found = client.get_historical_features(spine(), ["reading.value"], as_of=as_of, record=False)
            assert values(found) == value and found.id is None
    old = client.get_historical_features(spine(), ["reading.value"], as_of=states.first, name="as it was")
    new = client.get_historical_features(spine(), ["reading.value"])
    assert (values(old), old.sequence, values(new), new.sequence > states.first) == (OLD, states.first, NEW, True)
    recorded = client.sql(f"SELECT snapshot FROM lineament.training_sets WHERE training_set = '{old.id}'")
    assert recorded.to_arrow()["snapshot"].to_pylist() == [states.first]
    for training_set, value, batch in ((old, OLD, states.first), (new, NEW, states.corrected)):
        assert client.replay(training_set.id).equal
        assert client.training_set(training_set.id).to_arrow().equals(training_set.to_arrow())
        why = client.explain(training_set, 1, "value")
        assert (float(why.value), why.winner.sequence) == (value[1], batch)
    assert not client.diff(old, new).equal


def test_a_set_of_what_was_rolled_back_since_is_made_again(client, states):
    wrong = client.ingest("reading", correction(99.0))
    client.rollback(wrong.batch, reason="a typing error")
    assert values(client.sql(VALUE)) == [3.5]
    assert values(client.sql(VALUE, as_of=wrong.sequence)) == [99.0]
    of_it = client.get_historical_features(spine(), ["reading.value"], as_of=wrong.sequence)
    assert (values(of_it), of_it.sequence) == ([2.5, 99.0], wrong.sequence)
    assert client.replay(of_it.id).equal
    problems = client.sql(f"SELECT problem FROM lineament.dangling WHERE id = '{of_it.id}'").to_arrow()["problem"]
    assert any("withdrew: a typing error" in problem for problem in problems.to_pylist())


def test_spines_of_every_kind_are_looked_up_in_that_state(client, states):
    of_then = {"as_of": states.first, "record": False}
    kept = client.keep_spine(spine())
    assert values(client.get_historical_features(kept, ["reading.value"], **of_then)) == OLD
    reader = pyarrow.RecordBatchReader.from_batches(spine().schema, spine().to_batches())
    assert values(client.get_historical_features(reader, ["reading.value"], **of_then)) == OLD
    streamed = pyarrow.Table.from_batches(list(client.stream(spine(), ["reading.value"], **of_then)))
    assert streamed["value"].to_pylist() == OLD
    # A query is asked in it too: the correction was the fourth change.
    for as_of, many in ((states.first, 3), (states.corrected, 4)):
        of_query = client.get_historical_features(CHANGES, ["reading.value"], as_of=as_of, record=False)
        assert of_query.num_rows == many
        batches = client.stream(CHANGES, ["reading.value"], as_of=as_of, record=False)
        assert sum(batch.num_rows for batch in batches) == many
    # By a service, and by a set of later features: their versions are recorded, the state is asked for.
    service = client.get_historical_features(spine(), "model", as_of=states.first_at)
    assert values(client.get_historical_features(spine(), service, **of_then)) == OLD
    assert client.get_historical_features(spine(), service, record=False).to_arrow()["value"].to_pylist() == NEW


@pytest.mark.parametrize(
    ("as_of", "why"),
    [
        (10**6, r"the log ends at sequence \d+; there is no 1000000 yet"),
        (datetime(2020, 1, 1, tzinfo=UTC), "the store begins at .*; there is nothing as of 2020-01-01T00:00:00Z"),
        ("2999-01-01T00:00:00Z", "2999-01-01T00:00:00Z is still to come"),
        (datetime(2024, 1, 1), "as_of is 2024-01-01 00:00:00, which has no zone"),
        ("2024-01-01T00:00:00", "`2024-01-01T00:00:00` is neither a sequence of the log nor an instant"),
        ("noon", "`noon` is neither a sequence of the log nor an instant"),
        (-1, "integer `-1`, expected a sequence of the log, or an instant"),
        (1.5, "as_of is 1.5; it is a sequence of the log"),
        (True, "as_of is True; it is a sequence of the log"),
    ],
)
def test_a_state_that_there_is_not(client, states, as_of, why):
    for ask in (
        lambda: client.sql(VALUE, as_of=as_of),
        lambda: client.get_historical_features(spine(), ["reading.value"], as_of=as_of),
        lambda: client.get_historical_features(CHANGES, ["reading.value"], as_of=as_of),
        lambda: list(client.stream(spine(), ["reading.value"], as_of=as_of)),
    ):
        with pytest.raises(lineament.InvalidRequest, match=why):
            ask()


def test_a_view_that_was_not_there_yet(client, states):
    with pytest.raises(lineament.NotFound, match="there is no feature view `reading`"):
        client.get_historical_features(spine(), ["reading.value"], as_of=0)


def test_plain_flight_asks_for_a_state_in_json(server, states):
    with flight.connect(server.url) as plain:
        for as_of, value in ((states.first, 2.5), (states.corrected_at.isoformat(), 3.5)):
            ticket = json.dumps({"sql": {"query": VALUE, "as_of": as_of}})
            assert plain.do_get(flight.Ticket(ticket)).read_all()["value"].to_pylist() == [value]
            # The ticket that is given out for it is of that state too.
            info = plain.get_flight_info(flight.FlightDescriptor.for_command(ticket))
            (endpoint,) = info.endpoints
            assert plain.do_get(endpoint.ticket).read_all()["value"].to_pylist() == [value]
        # So are its columns.
        empty = flight.FlightDescriptor.for_command(json.dumps({"sql": {"query": VALUE, "as_of": 0}}))
        with pytest.raises(pyarrow.ArrowKeyError, match="there is no table `reading`"):
            plain.get_flight_info(empty)
        for ticket, why in (
            ({"sql": {"query": VALUE, "asof": 7}}, "unknown field `asof`"),
            ({"sql": {"as_of": 7}}, "missing field `query`"),
            ({"sql": 7}, "expected SQL text, or an object of `query` and `as_of`"),
        ):
            with pytest.raises(pyarrow.ArrowInvalid, match=why):
                plain.do_get(flight.Ticket(json.dumps(ticket))).read_all()


def test_the_command_line(client, server, states, tmp_path):
    store, rows = server.store, tmp_path / "spine.parquet"
    pyarrow.parquet.write_table(spine(), rows)
    for as_of, value in (
        (states.first, 2.5),
        (states.first_at.isoformat(), 2.5),
        (states.corrected, 3.5),
        (states.corrected_at.isoformat(), 3.5),
    ):
        assert run(store, "sql", VALUE, "--as-of", as_of, "--format", "csv") == f"value\n{value}\n"
        out = tmp_path / "set.parquet"
        said = run(store, "retrieve", "reading.value", "--spine", rows, "--as-of", as_of, "--out", out)
        assert pyarrow.parquet.read_table(out)["value"].to_pylist() == [2.5, value]
        id = re.search(r"training set ([0-9a-f-]{36}):", said)[1]
        assert client.replay(id).equal
        snapshot = client.sql(f"SELECT snapshot FROM lineament.training_sets WHERE training_set = '{id}'")
        assert snapshot.to_arrow()["snapshot"].to_pylist() == [states.first if value == 2.5 else states.corrected]
    # A query in place of a file is asked of that state too: the correction was the fourth change.
    for as_of, many in ((states.first, 3), (states.corrected, 4)):
        said = run(store, "retrieve", "reading.value", "--spine-sql", CHANGES, "--as-of", as_of)
        assert f"{many} rows, digest lmt1:" in said
    early = (states.first_at - timedelta(days=900)).isoformat()
    for as_of, why in (
        (10**6, "there is no 1000000 yet"),
        (early, "the store begins at"),
        ((datetime.now(UTC) + timedelta(days=1)).isoformat(), "is still to come"),
        ("noon", "`noon` is neither a sequence of the log nor an instant"),
    ):
        assert why in fails(store, "sql", VALUE, "--as-of", as_of)
        assert why in fails(store, "retrieve", "reading.value", "--spine", rows, "--as-of", as_of)
