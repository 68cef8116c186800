"""What is other in one training set than in another, on rows that can be worked out by hand."""

import lineament
import pyarrow
import pytest
import readings
from program import run

FEATURES = ["reading.value", "reading.quality"]


@pytest.fixture(scope="module")
def sets(readings_client) -> dict[str, lineament.TrainingSet]:
    """One set before and others after more came in."""
    client = readings_client
    made = {"first": client.get_historical_features(readings.spine(), FEATURES, name="first")}
    made["again"] = client.get_historical_features(readings.spine(), FEATURES)
    made["hindsight"] = client.get_historical_features(readings.spine(), FEATURES, known_by="2025-01-01T00:00:00Z")
    made["short"] = client.get_historical_features(readings.spine(), FEATURES, ttl={"reading": "30m"})
    backwards = readings.spine().take(list(range(12, -1, -1))).slice(1)
    made["backwards"] = client.get_historical_features(backwards, ["reading.value", "reading.grade"])
    # 11:00 of a is told at once, and told otherwise; b has a reading of noon.
    times = [readings.clock("11:00"), readings.clock("10:30")]
    late = pyarrow.table(
        {
            "sensor": ["a", "b"],
            "measured_at": pyarrow.array(times, readings.INSTANT),
            "published_at": pyarrow.array([readings.clock("11:01"), readings.clock("10:31")], readings.INSTANT),
            "value": [99.0, 6.0],
            "quality": pyarrow.array([1, 3], pyarrow.int32()),
            "grade": ["good", None],
        }
    )
    client.ingest("reading", late)
    made["later"] = client.get_historical_features(readings.spine(), FEATURES)
    return made


def counts(diff: lineament.Diff) -> dict[tuple[str, str, str], int]:
    return {(change.column, change.change, change.cause): change.cells for change in diff.changes}


def test_equal_sets(readings_client, sets):
    diff = readings_client.diff(sets["first"], sets["again"].id)
    assert diff.equal and diff.changes == [] and diff.changed_cells == 0
    assert repr(diff) == "equal (13 rows)"


def test_newer_data(readings_client, sets):
    diff = readings_client.diff(sets["first"], sets["later"], full=True)
    old, new = sets["first"].to_arrow(), sets["later"].to_arrow()
    expected = {
        (row, name): (old[name][row].as_py(), new[name][row].as_py())
        for name in ("value", "quality")
        for row in range(13)
        if old[name][row].as_py() != new[name][row].as_py()
    }
    assert diff.changed_cells == len(expected) > 0
    cells = diff.cells.to_arrow().to_pylist()
    assert {(cell["row_a"], cell["column"]) for cell in cells} == set(expected)
    for cell in cells:
        before, after = expected[cell["row_a"], cell["column"]]
        assert (cell["value_a"] is None, cell["value_b"] is None) == (before is None, after is None)
        if after is not None:
            assert float(cell["value_b"]) == after
        assert cell["sequence_b"] == diff.entries[0].sequence
    # At 11:15 the later one is of the same instant as none that won before; at 11:45 it is.
    causes = {(cell["row_a"], cell["cause"]) for cell in cells if cell["column"] == "value"}
    assert (0, "newer_data") in causes and (7, "newer_data") in causes
    assert {entry.cause for entry in diff.entries} <= {"newer_data", "correction"}
    (batch,) = {entry.batch for entry in diff.entries}
    assert batch in readings_client.sql("SELECT batch FROM lineament.batches").to_arrow()["batch"].to_pylist()
    assert "newer_data" in repr(diff) and "13 rows in both" in repr(diff)


def test_back_in_time_is_the_mirror(readings_client, sets):
    there = readings_client.diff(sets["first"], sets["later"])
    back = readings_client.diff(sets["later"], sets["first"])
    mirrored = {"null_to_value": "value_to_null", "value_to_null": "null_to_value"}
    assert counts(back) == {
        (column, mirrored.get(change, change), cause): cells for (column, change, cause), cells in counts(there).items()
    }


def test_knowledge_and_ttl(readings_client, sets):
    hindsight = readings_client.diff(sets["first"], sets["hindsight"])
    assert {change.cause for change in hindsight.changes} == {"knowledge"}
    short = readings_client.diff(sets["first"], sets["short"])
    assert {(change.change, change.cause) for change in short.changes} == {("value_to_null", "ttl")}


def test_rows_and_columns(readings_client, sets):
    diff = readings_client.diff(sets["first"], sets["backwards"], examples=100)
    assert (diff.matched, diff.added, diff.removed) == (12, 0, 1)
    # Two rows are of one sensor and time, and stand for each other: these and one between are in order, the others are not.
    assert diff.moved == 9
    assert (diff.columns_added, diff.columns_removed) == (["grade"], ["quality"])
    assert counts(diff) == {("label", "value", "spine"): 2}
    (removed,) = [row for row in diff.row_examples if row.change == "removed"]
    assert removed.row_a == 12 and removed.key == {"sensor": "d"}
    assert diff.aligned_on == ["sensor", "at"]


def test_wrong_requests(readings_client, sets):
    with pytest.raises(lineament.NotFound, match="01890000"):
        readings_client.diff(sets["first"], "01890000-0000-7000-8000-000000000000")
    unrecorded = readings_client.get_historical_features(readings.spine(), FEATURES, record=False)
    with pytest.raises(lineament.InvalidRequest, match="record=True"):
        readings_client.diff(sets["first"], unrecorded)
    with pytest.raises(lineament.InvalidRequest, match="examples"):
        readings_client.diff(sets["first"], sets["later"], examples="many")


def test_on_the_command_line(server, sets, tmp_path):
    said = run(server.store, "diff", sets["first"].id, sets["later"].id, "--full", tmp_path / "cells.parquet")
    assert "newer data" in said and "13 in both" in said
    cells = pyarrow.parquet.read_table(tmp_path / "cells.parquet")
    assert f"{cells.num_rows} changed cells" in said
    assert {"sensor", "at", "column", "class", "cause", "value_a", "value_b", "batch_b"} <= set(cells.column_names)
    assert "equal: 13 rows" in run(server.store, "diff", sets["first"].id, sets["again"].id)


def test_explain_value_is_the_cells_explanation(readings_client, sets):
    for row, (sensor, time, value, _, _) in enumerate(readings.ASKED):
        if time is None:
            continue
        cell = readings_client.explain(sets["first"], row, "value")
        why = readings_client.explain_value(
            "reading.value", {"sensor": sensor}, readings.clock(time), sequence=sets["first"].sequence
        )
        assert why.value == (None if value is None else str(value)), (sensor, time)
        assert (why.value, why.null_reason) == (cell.value, cell.null_reason), (sensor, time)
        assert (why.winner, why.losers, why.losers_by_reason) == (cell.winner, cell.losers, cell.losers_by_reason)
        assert (why.training_set, why.reference, why.key) == (None, "reading@1.value", {"sensor": sensor})
    then = readings_client.explain_value(
        "reading@1.value", {"sensor": "a"}, "2024-01-01T13:00:00Z", known_by="2024-01-01T11:45:00Z", sequence=4
    )
    assert then.value == "2.0" and then.losers_by_reason["not_yet_known"] >= 1
    assert "reading@1.value = 2.0" in repr(then)
    with pytest.raises(lineament.InvalidRequest, match="`sensr` is no key.*did you mean `sensor`"):
        readings_client.explain_value("reading.value", {"sensr": "a"}, "2024-01-01T13:00:00Z")
    with pytest.raises(lineament.NotFound, match="no feature `valu`"):
        readings_client.explain_value("reading.valu", {"sensor": "a"}, "2024-01-01T13:00:00Z")
    with pytest.raises(lineament.InvalidRequest, match="at is .*no zone"):
        readings_client.explain_value("reading.value", {"sensor": "a"}, readings.clock("12:00").replace(tzinfo=None))


def test_explain_value_on_the_command_line(server, sets):
    said = run(
        server.store, "explain", "--feature", "reading.value", "--key", "sensor=a", "--at", "2024-01-01T12:00:00Z",
        "--sequence", sets["first"].sequence,
    )  # fmt: skip
    assert "value = 2.5   (reading@1.value for sensor = a at 2024-01-01T12:00:00Z)" in said
    assert "1 corrected" in said and "1 older" in said
