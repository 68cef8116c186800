"""How long the flights' training set takes, as a ratio to DuckDB doing the same joins in the same run.

    python bench/pit_flights.py                 needs target/release/lineament and tests/python/requirements.txt

All answer one question: for each of 336,776 flights, the twelve features of the service `delay` (four views) that could be
known one hour before its scheduled departure. All obey one rule: the greatest (valid_at, known_at, arrival) among the
accepted rows of the key with valid_at <= at, known_at <= at and valid_at >= at - ttl. All begin with the spine as an Arrow table in
this process and the views as Parquet files, those of the store itself, and end with the answer as an Arrow table in this
process, in the spine's order. All may use every core. The answers are compared cell by cell before anything is measured.

    client      get_historical_features(record=False): sending the spine, the lookup with its content digest, receiving the answer
    server      the part of it that the server reports: the lookup and the digest
    duckdb      the four joins in one statement, over the Parquet files
    prepared    the same with the views in memory and everything about them that does not depend on the spine worked out
                beforehand, which DuckDB is not charged for: what is left is four ASOF joins

Measurements are interleaved, so that all meet the same moods of the machine. A ratio above 1 means that DuckDB took longer.

DuckDB's ASOF JOIN cannot say the rule by itself, for what is valid later may be known earlier. So each view is first made
into steps: from a time on, this row is the best that can be seen. That is a running maximum of the rows' rank by (valid_at,
known_at, arrival) over greatest(valid_at, known_at).
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import lineament
import pyarrow
import pyarrow.compute as compute
import pyarrow.parquet

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "python"))
from program import FLIGHTS, Server, run  # noqa: E402

KEYS = {"weather": "origin", "departures": "origin", "leg": "tailnum", "plane": "tailnum"}
TTL = {"weather": "3 hours", "departures": "3 hours", "leg": "24 hours", "plane": None}
FEATURES = {
    "weather": ["temp", "wind_speed", "wind_gust", "precip", "pressure", "visib"],
    "departures": ["dep_delay"],
    "leg": ["delay"],
    "plane": ["year", "engines", "seats", "manufacturer"],
}
SPINE = ["flight_id", "origin", "tailnum", "at"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9, help="how often each is measured; at least 5")
    pairs = max(5, parser.parse_args().pairs)

    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        run(store, "apply", FLIGHTS / "features")
        for view in KEYS:
            run(store, "ingest", view)
        spine = pyarrow.parquet.read_table(FLIGHTS / "flights.parquet", columns=SPINE)
        with Server(store) as server, lineament.connect(server.url) as client:
            database = open_duckdb(store, spine)
            ways = {
                "client": lambda: client.get_historical_features(spine, "delay", record=False),
                "duckdb": lambda: database.sql(joins("source")).to_arrow_table(),
                "prepared": lambda: database.sql(joins("steps")).to_arrow_table(),
            }
            ours = ways["client"]().to_arrow()
            for way in ("duckdb", "prepared"):
                compare(ours, ways[way]())
            print(
                f"{spine.num_rows:,} rows, {len(FEATURES)} views, {sum(map(len, FEATURES.values()))} features, "
                f"{os.cpu_count()} cores, DuckDB {duckdb.__version__}: equal answers"
            )
            measure(ways, pairs)


def open_duckdb(store: Path, spine: pyarrow.Table) -> duckdb.DuckDBPyConnection:
    """DuckDB over the store's own files; `view_source` reads them, `view_steps` is made of them beforehand."""
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    database.register("spine", spine)
    for folder in (store / "data").iterdir():
        files = sorted(str(file) for file in folder.rglob("*.parquet"))
        names = set(pyarrow.parquet.read_schema(files[0]).names)
        (view,) = [view for view in KEYS if {KEYS[view], *FEATURES[view]} <= names]
        # Each view has one batch, whose files keep rows of one key and time in the order of their arrival.
        database.execute(
            f"CREATE VIEW {view}_files AS SELECT {KEYS[view]} AS key, valid_at, known_at, {listed(FEATURES[view])}, "
            f"row_number() OVER () AS position FROM read_parquet({files})"
        )
        database.execute(f"CREATE VIEW {view}_source AS {steps(view)}")
        database.execute(f"CREATE TABLE {view}_steps AS FROM {view}_source")
    return database


def steps(view: str) -> str:
    """From `visible` on, and until the key's next step, this is the row that the rule chooses, its ttl aside."""
    return f"""
        WITH ranked AS MATERIALIZED (
            SELECT *, row_number() OVER (ORDER BY valid_at, known_at, position) AS rank FROM {view}_files),
        best AS (
            SELECT DISTINCT key, greatest(valid_at, known_at) AS visible,
                   max(rank) OVER (PARTITION BY key ORDER BY greatest(valid_at, known_at)) AS rank
            FROM ranked)
        SELECT best.key, best.visible, ranked.valid_at, {listed("ranked." + name for name in FEATURES[view])}
        FROM best JOIN ranked USING (rank)"""


def joins(made: str) -> str:
    chosen = [f's."{name}"' for name in SPINE]
    sides = ""
    for view, key in KEYS.items():
        sides += f' ASOF LEFT JOIN {view}_{made} {view} ON s.{key} = {view}.key AND s."at" >= {view}.visible'
        for name in FEATURES[view]:
            value = f"{view}.{name}"
            if TTL[view]:
                value = f"CASE WHEN {view}.valid_at >= s.\"at\" - INTERVAL '{TTL[view]}' THEN {value} END"
            chosen.append(f"{value} AS {name}")
    return f"SELECT {listed(chosen)} FROM spine s {sides} ORDER BY s.flight_id"


def listed(names) -> str:
    return ", ".join(names)


def compare(ours: pyarrow.Table, theirs: pyarrow.Table) -> None:
    assert ours.column_names == theirs.column_names, (ours.column_names, theirs.column_names)
    for name in ours.column_names:
        mine, other = ours[name], theirs[name].cast(ours.schema.field(name).type)
        both_null = compute.and_(mine.is_null(), other.is_null())
        same = compute.or_(both_null, compute.fill_null(compute.equal(mine, other), False))
        wrong = len(mine) - compute.sum(same).as_py()
        assert wrong == 0, f"{name}: {wrong:,} cells differ"


def measure(ways: dict[str, Callable], pairs: int) -> None:
    seconds: dict[str, list[float]] = {way: [] for way in ("client", "server", "duckdb", "prepared")}
    order = list(ways)
    for _ in range(pairs):
        for way in order:
            started = time.perf_counter()
            answer = ways[way]()
            seconds[way].append(time.perf_counter() - started)
            if way == "client":
                seconds["server"].append(answer.seconds)
        order = order[1:] + order[:1]
    for way, measured in seconds.items():
        print(f"{way:9} {spread(measured, 's')}")
    for theirs in ("duckdb", "prepared"):
        for ours in ("client", "server"):
            ratios = [their / our for our, their in zip(seconds[ours], seconds[theirs], strict=True)]
            print(f"{theirs:>8} / {ours:6}  {spread(ratios, '×')}")
    print(f"{pairs} measurements each, interleaved; the spread is from least to greatest")


def spread(values: list[float], unit: str) -> str:
    return f"median {statistics.median(values):.3f} {unit}, from {min(values):.3f} to {max(values):.3f}"


if __name__ == "__main__":
    main()
