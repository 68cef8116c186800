"""Rows in: from every library, once, with reasons for what is rejected."""

from concurrent.futures import ThreadPoolExecutor

import lineament
import log
import pandas
import polars
import pyarrow
import pyarrow.parquet
import pytest
import readings
from program import Server, run


def shifted(days: int) -> pyarrow.Table:
    """The same readings some days later."""
    frame = readings.rows().to_pandas()
    for column in ("measured_at", "published_at"):
        frame[column] += pandas.Timedelta(days=days)
    return pyarrow.Table.from_pandas(frame, preserve_index=False)


@pytest.fixture(scope="module")
def empty(client):
    plan = client.plan(readings.DEFINITIONS)
    assert plan.sequence is None
    assert sorted((change.action, change.name) for change in plan.changes) == [
        ("create", "model"), ("create", "reading"), ("create", "sensor")]  # fmt: skip
    applied = client.apply(readings.DEFINITIONS)
    assert applied.changes == plan.changes and applied.sequence is not None
    again = client.apply(readings.DEFINITIONS)
    assert again.sequence is None and {change.action for change in again.changes} <= {"keep"}
    return client


FRAMES = {
    "pandas": lambda table: table.to_pandas(),
    "polars": lambda table: polars.DataFrame(table),
    "table": lambda table: table,
    "batch": lambda table: table.combine_chunks().to_batches()[0],
    "reader": lambda table: table.to_reader(max_chunksize=2),
    "categories": lambda table: polars.DataFrame(table).with_columns(polars.col("sensor").cast(polars.Categorical)),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_every_kind_of_frame(empty, kind):
    days = 10 + 10 * list(FRAMES).index(kind)
    given = shifted(days)
    report = empty.ingest("reading", FRAMES[kind](given))
    assert (report.view_version, report.rows, report.rejected, report.repeated) == ("reading@1", 7, 0, False)
    stored = empty.sql(f"SELECT * FROM history('reading') WHERE batch = '{report.batch}'").to_arrow()
    columns = ["sensor", "value", "quality", "grade"]
    key = lambda row: (row["sensor"], row["value"])  # noqa: E731
    assert sorted(stored.select(columns).to_pylist(), key=key) == sorted(given.select(columns).to_pylist(), key=key)
    assert report.batch in repr(report) and f"sequence {report.sequence}" in repr(report)


def test_rejected_rows_say_why(empty):
    given = shifted(100).set_column(3, "value", pyarrow.array([1.0, 2.0, 400.0, float("nan"), None, -51.0, 9.0]))
    given = given.set_column(5, "grade", pyarrow.array(["good", "bad", None, "good", "good", "good", "good"]))
    report = empty.ingest("reading", given)
    assert (report.rows, report.rejected) == (3, 4)
    assert {(reason.reason, reason.column, reason.rows) for reason in report.reasons} == {
        ("above_range", "value", 1), ("below_range", "value", 1), ("nan", "value", 1), ("not_one_of", "grade", 1)}  # fmt: skip
    assert any("400" in example and "`value`" in example for example in report.examples)
    listed = empty.sql(
        f'SELECT "row", reason, "column", "value" FROM lineament.rejected_rows WHERE batch = \'{report.batch}\' ORDER BY 1'
    ).to_arrow()
    assert listed["row"].to_pylist() == [1, 2, 3, 5]
    assert listed["reason"].to_pylist() == ["not_one_of", "above_range", "nan", "below_range"]
    assert "4 rejected" in repr(report) and "above_range" in repr(report)


def test_missing_values_of_pandas_are_nulls_and_nan_of_arrow_is_nan(empty):
    frame = shifted(110).to_pandas()
    frame["value"] = float("nan")
    report = empty.ingest("reading", frame)
    assert (report.rows, report.rejected) == (7, 0)
    report = empty.ingest("reading", polars.DataFrame(shifted(120)).with_columns(polars.lit(float("nan")).alias("value")).head(1).vstack(
        polars.DataFrame(shifted(120)).tail(1)))  # fmt: skip
    assert (report.rows, report.rejected, report.reasons[0].reason) == (1, 1, "nan")


def test_an_idempotency_key_makes_a_repeat_harmless(empty):
    given = shifted(130)
    first = empty.ingest("reading", given, key="delivery-130")
    before = log.writes(empty)
    again = empty.ingest("reading", given.to_reader(max_chunksize=1), key="delivery-130")
    assert again.repeated and not first.repeated
    assert (again.batch, again.sequence, again.rows) == (first.batch, first.sequence, first.rows)
    assert log.writes(empty) == before
    with pytest.raises(lineament.InvalidRequest, match="delivery-130"):
        empty.ingest("reading", shifted(131), key="delivery-130")
    assert log.writes(empty) == before


def test_other_columns_are_ignored_and_steps_are_kept(empty):
    given = shifted(140).append_column("comment", pyarrow.array(["x"] * 7))
    report = empty.with_run(run="nightly").ingest(
        "reading", given, steps=["read from the office's mail", "dropped footers"]
    )
    assert report.rows == 7
    spine = pyarrow.table({"sensor": ["b"], "at": pyarrow.array([given["published_at"][3].as_py()], readings.INSTANT)})
    training_set = empty.get_historical_features(spine, ["reading.value"])
    winner = empty.explain(training_set, 0, "value").winner
    assert (winner.batch, winner.run) == (report.batch, "nightly")
    assert winner.steps == ["read from the office's mail", "dropped footers"]


def test_many_rows_go_in_pieces(empty):
    count = 200_000
    times = pandas.date_range("2030-01-01", periods=count, freq="s", tz="UTC")
    frame = pandas.DataFrame({
        "sensor": [f"sensor with a long name, number {number % 50}" for number in range(count)],
        "measured_at": times, "published_at": times, "value": [number % 100 for number in range(count)],
        "quality": 1, "grade": "good"})  # fmt: skip
    report = empty.ingest("reading", frame)
    assert (report.rows, report.rejected) == (count, 0)
    counted = empty.sql("SELECT count(*) AS n, sum(value) AS total FROM reading WHERE sensor LIKE 'sensor%'").to_arrow()
    assert counted.to_pylist() == [{"n": count, "total": float(sum(number % 100 for number in range(count)))}]


def at_once(*jobs) -> list:
    """Runs them at the same time, and gives what they give."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]


def test_one_key_from_many_clients_at_once(empty):
    given = shifted(150)
    reports = at_once(*[lambda: empty.ingest("reading", given, key="delivery-150")] * 8)
    assert len({report.batch for report in reports}) == 1
    assert sorted(report.repeated for report in reports) == [False] + [True] * 7


def test_writers_in_several_processes_at_once(empty, server, tmp_path):
    """The server and the command line take turns in one log; nobody's rows are lost, or taken twice."""
    for number in range(4):
        pyarrow.parquet.write_table(shifted(170 + number), tmp_path / f"{number}.parquet")
    before = empty.sql("SELECT count(*) AS n FROM lineament.batches").to_arrow()["n"][0].as_py()
    by_command = [lambda n=n: run(server.store, "ingest", "reading", tmp_path / f"{n}.parquet") for n in range(4)]
    by_client = [lambda n=n: empty.ingest("reading", shifted(180 + n)) for n in range(4)]
    at_once(*by_command, *by_client)
    after = empty.sql("SELECT count(*) AS n FROM lineament.batches").to_arrow()["n"][0].as_py()
    assert after == before + 8
    stored = empty.sql(
        "SELECT CAST(date_trunc('day', valid_at) AS DATE) AS day, count(*) AS n FROM history('reading') "
        "WHERE valid_at >= TIMESTAMP '2024-06-19T00:00:00Z' AND valid_at < TIMESTAMP '2024-07-04T00:00:00Z' GROUP BY 1"
    ).to_arrow()
    assert sorted(stored["n"].to_pylist()) == [7] * 8
    sequences = empty.sql("SELECT sequence FROM lineament.log ORDER BY 1").to_arrow()["sequence"].to_pylist()
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))


RULED = {
    "sensor.toml": readings.DEFINITIONS["sensor.toml"],
    "strict.toml": """
kind = "feature_view"
name = "strict"
entity = "sensor"
reject_above = 0.2

[time]
valid_at = "measured_at"
known_at = { delay = "30m" }

[[features]]
name = "value"
type = "float64"
nullable = false
""",
}


def test_too_many_wrong_rows_refuse_the_batch_whole(empty):
    empty.apply(RULED)
    given = shifted(0).set_column(3, "value", pyarrow.array([1.0, None, None, 4.0, 5.0, 6.0, 7.0]))
    with pytest.raises(lineament.Refused, match="2 of 7 rows") as refusal:
        empty.ingest("strict", given)
    assert "reject_above" in str(refusal.value) and "value" in str(refusal.value)
    assert empty.sql("SELECT count(*) AS n FROM strict").to_arrow()["n"].to_pylist() == [0]
    listed = empty.sql("SELECT count(*) AS n FROM lineament.rejected_rows WHERE feature_view = 'strict'")
    assert listed.to_arrow()["n"].to_pylist() == [2]
    assert empty.sql("SELECT status FROM lineament.batches WHERE feature_view = 'strict'").to_arrow()["status"].to_pylist() == [
        "refused"]  # fmt: skip


def test_rows_over_old_times_must_say_what_they_are(empty):
    empty.apply(RULED)
    given = shifted(200)
    assert empty.ingest("strict", given).rows == 7
    changed = given.set_column(3, "value", pyarrow.array([value + 1 for value in given["value"].to_pylist()]))
    with pytest.raises(lineament.InvalidRequest, match="correction"):
        empty.ingest("strict", changed)
    at = pyarrow.array([given["measured_at"][3].as_py() + pandas.Timedelta(hours=1)], readings.INSTANT)
    spine = pyarrow.table({"sensor": ["b"], "at": at})
    empty.ingest("strict", changed, claim="correction")
    assert empty.get_historical_features(spine, ["strict.value"]).to_arrow()["value"].to_pylist() == [5.0]
    empty.ingest("strict", changed, claim="back_fill")
    assert empty.get_historical_features(spine, ["strict.value"]).to_arrow()["value"].to_pylist() == [6.0]


def test_sources_are_found_from_where_their_definition_lies(tmp_path):
    """What Python applies, the command line ingests, from any folder; and each finds the other's work unchanged."""
    folder, store = tmp_path / "features", tmp_path / "store"
    folder.mkdir()
    (tmp_path / "data").mkdir()
    pyarrow.parquet.write_table(shifted(0), tmp_path / "data" / "day.parquet")
    for name, text in readings.DEFINITIONS.items():
        (folder / name).write_text(text)
    sources = {
        "plain": '[source]\n# where it is\nfiles = "../data/*.parquet"  # all of them\n',
        "inline": "source = { files = '../data/./*.parquet' }\n",
    }
    for kind, source in sources.items():
        text = readings.DEFINITIONS["reading.toml"].replace('name = "reading"', f'name = "{kind}"')
        text = text + source if kind == "plain" else text.replace("ttl", f"{source}ttl", 1)
        (folder / f"{kind}.toml").write_text(text)
    with Server(store) as server, lineament.connect(server.url) as client:
        client.apply(folder)
        assert {change.action for change in client.plan(folder).changes} == {"keep"}
    for kind in sources:
        assert "7 rows" in run(store, "ingest", kind)
    with Server(store) as server, lineament.connect(server.url) as client:
        before = log.writes(client)
    run(store, "apply", folder)
    with Server(store) as server, lineament.connect(server.url) as client:
        assert log.writes(client) == before
        assert client.plan(folder).sequence is None
        assert client.sql("SELECT count(*) AS n FROM inline").to_arrow()["n"].to_pylist() == [4]
