"""Retrieval end to end in Python, as a ratio to the best of DuckDB and Polars doing the same in process from Parquet.

    python bench/retrieval_from_pandas.py [--spine 1000000] [--observations 5000000] [--pairs 7]

All begin with the spine as a pandas data frame and the observations as one Parquet file (those of DuckDB and Polars sorted by time, which helps
them; ours in the store), and end with the spine's columns and ten float64 features as an Arrow table in the spine's order. Ours goes through
client and server over loopback: once with the training set recorded, which is what the call does unless told otherwise, and once without.
Measurements are interleaved; the answers are compared cell by cell first. A ratio below 1 means that ours took less time.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import lineament
import numpy
import pandas
import polars
import pyarrow
import pyarrow.parquet

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "python"))
from program import Server  # noqa: E402

FEATURES = [f"f{number}" for number in range(10)]
ENTITIES = 100_000
START, YEAR = 1_600_000_000_000_000, 365 * 86_400_000_000
DEFINITIONS = {
    "unit.toml": 'kind = "entity"\nname = "unit"\n[[keys]]\nname = "unit"\ntype = "int64"\n',
    "seen.toml": 'kind = "feature_view"\nname = "seen"\nentity = "unit"\n[time]\nvalid_at = "at"\nknown_at = "assumed"\n'
    + "".join(f'[[features]]\nname = "{name}"\ntype = "float64"\n' for name in FEATURES),
}



def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spine", type=int, default=1_000_000)
    parser.add_argument("--observations", type=int, default=5_000_000)
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    chance = numpy.random.default_rng(11)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "seen.parquet"
        at = START + chance.integers(0, YEAR // 1_000, arguments.observations) * 1_000
        seen = {"unit": chance.integers(0, ENTITIES, arguments.observations), "at": at}
        seen |= {name: chance.normal(size=arguments.observations) for name in FEATURES}
        seen = polars.DataFrame(seen).unique(["unit", "at"], keep="any").sort("at")
        stamped = polars.col("at").cast(polars.Datetime("us", "UTC"))
        seen.with_columns(stamped).write_parquet(file, compression="lz4", row_group_size=1 << 20)
        del seen
        spine = pandas.DataFrame({
            "unit": chance.integers(0, ENTITIES, arguments.spine),
            "at": pandas.to_datetime(START + chance.integers(0, YEAR // 1_000, arguments.spine) * 1_000, unit="us", utc=True),
        })  # fmt: skip
        with Server(Path(folder) / "store") as server, lineament.connect(server.url) as client:
            client.apply(DEFINITIONS)
            client.ingest("seen", pyarrow.parquet.read_table(file))
            measure(arguments, client, spine, file)


def measure(arguments, client, spine: pandas.DataFrame, file: Path) -> None:
    references = [f"seen.{name}" for name in FEATURES]
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")

    def by_duckdb() -> pyarrow.Table:
        numbered = spine.reset_index(names="row")
        database.register("spine", numbered)
        columns = ", ".join(f"o.{name}" for name in FEATURES)
        return database.sql(
            f"SELECT s.unit, s.at, {columns} FROM spine s ASOF LEFT JOIN read_parquet('{file}') o "
            "ON s.unit = o.unit AND s.at >= o.at ORDER BY s.row"
        ).to_arrow_table()

    def by_polars() -> pyarrow.Table:
        left = polars.from_pandas(spine).with_columns(polars.col("at").cast(polars.Datetime("us", "UTC")))
        left = left.lazy().with_row_index("row").sort("at")
        right = polars.scan_parquet(file).set_sorted("at")
        joined = left.join_asof(right, on="at", by="unit", strategy="backward").sort("row").drop("row")
        return joined.collect().to_arrow()

    ways = {
        "recorded": lambda: client.get_historical_features(spine, references).to_arrow(),
        "not recorded": lambda: client.get_historical_features(spine, references, record=False).to_arrow(),
        "DuckDB": by_duckdb,
        "Polars": by_polars,
    }
    ours = ways["recorded"]()
    for name in ("DuckDB", "Polars"):
        compare(ours, ways[name](), name)
    print(f"spine of {len(spine):,} rows, {arguments.observations:,} observations, {len(FEATURES)} features: equal answers")
    taken = {name: [] for name in ways}
    for _ in range(arguments.pairs):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - begun)
    for name, seconds in taken.items():
        print(f"{name}: s {spread(seconds)}")
    best = min(("DuckDB", "Polars"), key=lambda name: statistics.median(taken[name]))
    for name in ("recorded", "not recorded"):
        ratios = [a / b for a, b in zip(taken[name], taken[best], strict=True)]
        print(f"{name} / {best}: {spread(ratios)}")


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f}–{max(values):.3f})"


def compare(ours: pyarrow.Table, theirs: pyarrow.Table, name: str) -> None:
    assert ours.num_rows == theirs.num_rows, name
    for column in FEATURES:
        mine, other = ours[column].to_numpy(), theirs[column].to_numpy()
        assert numpy.array_equal(mine, other, equal_nan=True), f"{name} differs in {column}"


if __name__ == "__main__":
    main()
