"""Where the rules coincide, a join answers as DuckDB's ASOF JOIN, Polars' join_asof and pandas' merge_asof do, by a digest of all rows.

They know no known_at, no retractions and no order among equals: here all is known at once, and no two observations of a key are of one
time.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import duckdb
import numpy
import pandas
import polars
import pyarrow
import pytest

TTL = timedelta(hours=2)
KEYS = 12
OBSERVED = 4_000
ASKED = 5_000
COLUMNS = ["line", "value", "number", "grade"]

ENTITY = 'kind = "entity"\nname = "sensor"\n[[keys]]\nname = "sensor"\ntype = "int64"\n'
VIEW = """
kind = "feature_view"
name = "{name}"
entity = "sensor"
{ttl}
[time]
valid_at = "seen_at"
known_at = "assumed"
"""
FEATURE = '[[features]]\nname = "{}"\ntype = "{}"\n'
GAUGE = VIEW.format(name="gauge", ttl='ttl = "2h"') + "".join(
    FEATURE.format(*feature) for feature in [("value", "float64"), ("number", "int64"), ("grade", "string")]
)
PROBE = VIEW.format(name="probe", ttl="") + FEATURE.format("line", "int64")


def instants(minutes: Iterable[int]) -> pyarrow.Array:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return pyarrow.array([start + timedelta(minutes=int(minute)) for minute in minutes], pyarrow.timestamp("us", "UTC"))


@pytest.fixture(scope="module")
def observed() -> pyarrow.Table:
    chance = numpy.random.default_rng(5)
    # Of each key every minute at most once; gaps are longer than the ttl here and there.
    drawn = numpy.sort(chance.choice(KEYS * 60_000, OBSERVED, replace=False))
    minutes, keys = numpy.divmod(drawn, KEYS)
    values = chance.normal(size=OBSERVED)
    return pyarrow.table(
        {
            "sensor": pyarrow.array(keys, pyarrow.int64()),
            "seen_at": instants(minutes),
            "value": pyarrow.array(values, mask=chance.random(OBSERVED) < 0.07),
            "number": pyarrow.array(chance.integers(-(10**12), 10**12, OBSERVED)),
            "grade": pyarrow.array([f"grade {n % 17}" if n % 5 else None for n in range(OBSERVED)]),
        }
    )


@pytest.fixture(scope="module")
def asked(observed) -> pyarrow.Table:
    chance = numpy.random.default_rng(6)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    seen = [int((time - start) / timedelta(minutes=1)) for time in observed["seen_at"].to_pylist()]
    # At any time, in the very minute of an observation, as old as the ttl allows, and a minute older; of keys that nobody saw too.
    which = chance.integers(0, OBSERVED, ASKED)
    later = chance.choice([0, 0, 1, 60, 120, 121], ASKED)
    minutes = numpy.where(chance.random(ASKED) < 0.5, chance.integers(-100, 60_100, ASKED), numpy.array(seen)[which] + later)
    same = chance.random(ASKED) < 0.7
    keys = numpy.where(same, numpy.array(observed["sensor"])[which], chance.integers(0, KEYS + 2, ASKED))
    order = numpy.argsort(minutes, kind="stable")
    return pyarrow.table(
        {
            "line": pyarrow.array(numpy.arange(ASKED)),
            "sensor": pyarrow.array(keys[order], pyarrow.int64()),
            "at": instants(minutes[order]),
        }
    )


@pytest.fixture(scope="module")
def store(client, observed, asked):
    client.apply({"sensor.toml": ENTITY, "gauge.toml": GAUGE, "probe.toml": PROBE})
    middle = OBSERVED // 2
    for part in (observed.slice(0, middle), observed.slice(middle)):
        client.ingest("gauge", part, claim="back_fill")
    client.ingest("probe", asked.rename_columns(["line", "sensor", "seen_at"]))
    return client


def canonical(columns: dict[str, Iterable]) -> list[tuple]:
    """The rows by their number, each value as Python has it; what is missing is None."""
    kinds = {"line": int, "value": float, "number": int, "grade": str}
    lists = [[None if pandas.isna(cell) else kinds[name](cell) for cell in columns[name]] for name in COLUMNS]
    return sorted(zip(*lists, strict=True))


def from_arrow(table: pyarrow.Table) -> list[tuple]:
    return canonical({name: table[name].to_pylist() for name in COLUMNS})


def by_pandas(asked, observed, operator: str, tolerance: timedelta | None) -> list[tuple]:
    joined = pandas.merge_asof(
        asked.to_pandas(), observed.to_pandas(), left_on="at", right_on="seen_at", by="sensor",
        tolerance=None if tolerance is None else pandas.Timedelta(tolerance),
        direction="backward" if ">" in operator else "forward", allow_exact_matches="=" in operator,
    )  # fmt: skip
    # The numbers of rows that found nothing made floats of all, which hold them exactly.
    return canonical({name: joined[name].to_list() for name in COLUMNS})


def by_polars(asked, observed, operator: str, tolerance: timedelta | None) -> list[tuple]:
    joined = polars.from_arrow(asked).join_asof(
        polars.from_arrow(observed), left_on="at", right_on="seen_at", by="sensor", tolerance=tolerance,
        strategy="backward" if ">" in operator else "forward", allow_exact_matches="=" in operator,
        check_sortedness=False,
    )  # fmt: skip
    return canonical({name: joined[name].to_list() for name in COLUMNS})


def by_duckdb(asked, observed, operator: str, tolerance: timedelta | None) -> list[tuple]:
    alive = "true" if tolerance is None else f'a."at" - o.seen_at <= INTERVAL {int(tolerance.total_seconds())} SECOND'
    features = ", ".join(f"CASE WHEN {alive} THEN o.{name} END AS {name}" for name in COLUMNS[1:])
    with duckdb.connect() as database:
        database.register("asked", asked)
        database.register("observed", observed)
        joined = database.execute(
            f"SELECT a.line, {features} FROM asked a ASOF LEFT JOIN observed o "
            f'ON a.sensor = o.sensor AND a."at" {operator} o.seen_at'
        )
        return from_arrow(joined.to_arrow_table())


OTHERS = [by_pandas, by_polars, by_duckdb]


def digest(rows: list[tuple]) -> str:
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def assert_same(ours: list[tuple], asked, observed, operator: str, tolerance: timedelta | None) -> None:
    assert len(ours) == ASKED
    found = sum(number is not None for _, _, number, _ in ours)
    assert ASKED / 10 < found < ASKED
    for other in OTHERS:
        theirs = other(asked, observed, operator, tolerance)
        differing = [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]]
        assert digest(ours) == digest(theirs), f"{other.__name__}: {len(differing)} rows differ, the first are {differing[:3]}"


def test_a_retrieval(store, asked, observed):
    features = ["gauge.value", "gauge.number", "gauge.grade"]
    assert_same(from_arrow(store.get_historical_features(asked, features).to_arrow()), asked, observed, ">=", TTL)


@pytest.mark.parametrize("operator", [">=", ">"])
def test_a_join_with_a_feature_view(store, asked, observed, operator):
    joined = store.sql(
        "SELECT p.line, g.value, g.number, g.grade FROM history('probe') p ASOF JOIN gauge g "
        f"MATCH_CONDITION (p.valid_at {operator} g.valid_at) ON p.sensor = g.sensor"
    )
    assert_same(from_arrow(joined.to_arrow()), asked, observed, operator, TTL)


@pytest.mark.parametrize("operator", [">=", ">", "<=", "<"])
def test_a_join_of_plain_relations(store, asked, observed, operator):
    joined = store.sql(
        "SELECT p.line, g.value, g.number, g.grade FROM history('probe') p ASOF JOIN history('gauge') g "
        f"MATCH_CONDITION (p.valid_at {operator} g.valid_at) ON p.sensor = g.sensor"
    )
    assert_same(from_arrow(joined.to_arrow()), asked, observed, operator, None)
