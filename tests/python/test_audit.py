"""The leak audit on a year of flights: a join that forgets when things became known is found out, to the cell."""

from datetime import timedelta

import lineament
import pandas
import polars
import pyarrow
import pyarrow.parquet
import pytest
from program import FLIGHTS, command, run

COLUMNS = ["flight_id", "origin", "sched_dep_utc", "dep_utc", "dep_delay"]


@pytest.fixture(scope="module")
def departures() -> pandas.DataFrame:
    """What the view `departures` holds: the flights that left."""
    flights = pyarrow.parquet.read_table(FLIGHTS / "flights.parquet", columns=COLUMNS).to_pandas()
    return flights.dropna(subset=["dep_utc"]).sort_values("sched_dep_utc", kind="stable")


@pytest.fixture(scope="module")
def naive(departures, flights_spine) -> pandas.DataFrame:
    """The usual join by pandas: the last departure that was scheduled before, of at most three hours ago."""
    spine = flights_spine.to_pandas().sort_values("at", kind="stable")
    joined = pandas.merge_asof(
        spine, departures[["origin", "sched_dep_utc", "dep_delay"]],
        left_on="at", right_on="sched_dep_utc", by="origin", tolerance=pandas.Timedelta("3h"),
    )  # fmt: skip
    return joined.drop(columns="sched_dep_utc").reset_index(drop=True)


@pytest.fixture(scope="module")
def honest(flights_client, naive) -> pandas.Series:
    """What was known. That it was is shown by test_flights, against numbers that no Lineament made."""
    spine = naive[["flight_id", "origin", "at"]]
    answer = flights_client.get_historical_features(spine, "departures.dep_delay", record=False)
    return answer.to_df()["dep_delay"]


@pytest.fixture(scope="module")
def differs(naive, honest) -> pandas.Series:
    return ~((naive["dep_delay"] == honest) | (naive["dep_delay"].isna() & honest.isna()))


@pytest.fixture(scope="module")
def leaks(naive, differs, departures) -> pandas.Series:
    """The rule of docs/audit.md in pandas: not what was known, and some departure had it that nobody could know of yet."""
    knowable_from = departures[["sched_dep_utc", "dep_utc"]].max(axis=1)
    last = knowable_from.groupby([departures["origin"], departures["dep_delay"]]).max()
    keys = pandas.MultiIndex.from_arrays([naive["origin"], naive["dep_delay"]])
    latest = pandas.Series(last.reindex(keys).array, index=naive.index)
    return differs & naive["dep_delay"].notna() & (latest > naive["at"])


def test_a_naive_join_leaks(flights_client, naive, differs, leaks, departures):
    audit = flights_client.audit(naive, "departures.dep_delay", full=True)
    column = audit["dep_delay"]
    missing = differs & naive["dep_delay"].isna()

    assert column.leaked == leaks.sum() == 153_533
    assert column.missing == missing.sum()
    assert column.cells == len(naive) == audit.rows
    assert column.knowable == (~differs).sum()
    assert column.stale + column.unexplained == (differs & ~leaks & ~missing).sum()
    assert audit.leaked_rows == column.leaked and not audit
    cells = audit.cells.to_arrow()
    rows = cells.filter(pyarrow.compute.equal(cells["class"], "leaked"))["row"].to_pylist()
    assert rows == naive.index[leaks].to_list()

    # Where it is the naive join's own departure that leaks, it is told, and how long before it was known.
    assert column.least_lead > timedelta(0)
    (batch,) = column.batches
    assert batch.cells == column.leaked
    listed = flights_client.sql("SELECT batch FROM lineament.batches WHERE feature_view = 'departures'").to_arrow()
    assert listed["batch"].to_pylist() == [batch.batch]
    worst = column.examples[0]
    assert worst.kind == "leaked" and worst.lead == column.greatest_lead
    at = pandas.Timestamp(worst.at)
    assert at == naive["at"][worst.row] and at + worst.lead == max(
        pandas.Timestamp(worst.known_at), pandas.Timestamp(worst.valid_at)
    )
    of_it = departures[(departures["origin"] == worst.key["origin"]) & (departures["dep_delay"] == float(worst.value))]
    assert (of_it["dep_utc"] == pandas.Timestamp(worst.known_at)).any()


def test_the_right_join_does_not(flights_client, naive, honest):
    table = naive[["flight_id", "origin", "at"]].assign(delay_before=honest)
    audit = flights_client.audit(table, columns={"delay_before": "departures.dep_delay"})
    assert audit and audit["delay_before"].knowable == len(table)
    assert "no leak in 336,776 rows" in repr(audit)


def test_recorded_sets(flights_client, flights_spine):
    features = ["weather.temp", "departures.dep_delay", "leg.delay", "plane.seats"]
    honest = flights_client.get_historical_features(flights_spine, features)
    proved = flights_client.audit(honest)
    assert proved.clean and proved.judged_by == "provenance" and proved.leaked_rows == 0
    assert all(column.knowable == column.cells == len(flights_spine) for column in proved.columns)

    hindsight = flights_client.get_historical_features(flights_spine, features, known_by="2100-01-01T00:00:00Z")
    found = flights_client.audit(hindsight.id, full=True)
    # What leaks is what a diff finds to be other for want of the limit, cell by cell.
    diff = flights_client.diff(honest, hindsight)
    assert {change.cause for change in diff.changes} == {"knowledge"}
    changed = dict.fromkeys(["temp", "dep_delay", "delay", "seats"], 0)
    for change in diff.changes:
        changed[change.column] += change.cells
    assert {column.column: column.leaked for column in found.columns} == changed
    assert changed["seats"] == 0 and changed["dep_delay"] > 150_000
    assert len(found.cells) == sum(changed.values())
    # A reading of the weather is known half an hour after its hour.
    assert found["temp"].greatest_lead <= timedelta(minutes=30)
    # By value alone, the same set as a table leaks in as many cells that hold a value.
    by_value = flights_client.audit(hindsight.to_arrow(), "weather.temp")
    lost = sum(change.cells for change in diff.changes if (change.column, change.change) == ("temp", "value_to_null"))
    assert by_value["temp"].leaked == changed["temp"] - lost and by_value["temp"].missing == lost


@pytest.mark.parametrize("library", [pandas.DataFrame, polars.DataFrame, pyarrow.table], ids=["pandas", "polars", "arrow"])
def test_frames_of_all_libraries(flights_client, naive, leaks, library):
    some = naive[["origin", "at", "dep_delay"]].head(2_000)
    frame = {
        pandas.DataFrame: lambda: some,
        polars.DataFrame: lambda: polars.from_pandas(some),
        pyarrow.table: lambda: pyarrow.Table.from_pandas(some, preserve_index=False),
    }[library]()
    assert flights_client.audit(frame, "departures.dep_delay")["dep_delay"].leaked == leaks.head(2_000).sum() > 0


def test_wrong_requests(flights_client, naive):
    some = naive.head(10)
    for table, arguments, kind, words in [
        (some, {"features": "departures.dep_dely"}, lineament.InvalidRequest, "dep_delay"),
        (some, {"features": "weather.temp"}, lineament.NotFound, "no column `temp` or `weather__temp`"),
        (some, {}, lineament.InvalidRequest, "no features are named"),
        (some, {"columns": {"tailnum": "departures.dep_delay"}}, lineament.InvalidRequest, "cannot be compared"),
        (some.drop(columns="origin"), {"features": "departures.dep_delay"}, lineament.InvalidRequest, "origin"),
        (some.head(0), {"features": "departures.dep_delay"}, lineament.InvalidRequest, "no rows"),
        ("01890000-0000-7000-8000-000000000000", {}, lineament.NotFound, "01890000"),
    ]:
        with pytest.raises(kind, match=words):
            flights_client.audit(table, **arguments)
    with pytest.raises(lineament.InvalidRequest, match="give it alone"):
        flights_client.audit("01890000-0000-7000-8000-000000000000", "weather.temp")


def test_on_the_command_line(flights_store, flights_client, flights_spine, naive, tmp_path):
    import subprocess

    table = tmp_path / "joined.parquet"
    naive.to_parquet(table, index=False)
    cells = tmp_path / "cells.parquet"
    done = subprocess.run(
        command(flights_store, "audit", "--table", table, "--features", "departures.dep_delay", "--full", cells),
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    # A leak is a failure, so that a pipeline stops.
    assert done.returncode == 1, done.stderr
    assert "153,533 of 336,776 rows hold what could not be known at their `at`" in done.stdout
    assert pyarrow.parquet.read_metadata(cells).num_rows >= 153_533
    few = flights_spine.slice(0, 100)
    honest = flights_client.get_historical_features(few, ["departures.dep_delay"])
    assert "no leak in 100 rows" in run(flights_store, "audit", honest.id)
