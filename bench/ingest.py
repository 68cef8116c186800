"""Taking rows in beside DuckDB, which sorts the same rows and writes them as Parquet: time, and bytes on disk.

    cargo build --release --workspace
    LINEAMENT_BIN=target/release/lineament python bench/ingest.py --folder DIR [--rows 10000000] [--runs 5]

Rows of ten features (six floats of two decimals, two counts, a word, a flag) of a million keys come unsorted from one Parquet file. We read them,
check every value against its range, sort, write, sync, and commit one entry. DuckDB reads the same file and writes one that is sorted by key and
time, with as many threads and LZ4, and syncs nothing; its file is then synced here, and that time is added. Runs are interleaved. Then
both are asked for the sum of one feature, in turns and each time by a new process: ours opens the store first, compares each block that it reads with
its digest, and leaves on record that it was asked; DuckDB's is a Python that imports it, so its query alone is timed too. The answers are compared.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import duckdb

PROGRAM = os.environ.get("LINEAMENT_BIN", "target/release/lineament")
KEYS = 1_000_000
SUM = "SELECT count(*) AS n, sum(c0) AS s FROM {}"

ENTITY = 'kind = "entity"\nname = "meter"\n[[keys]]\nname = "meter"\ntype = "int64"\n'
FLOATS = [f"f{number}" for number in range(6)]


def view(source: Path) -> str:
    features = [(name, "float64", "range = [0, 1000]") for name in FLOATS]
    features += [("c0", "int64", "range = [0, 100000]"), ("c1", "int64", "range = [0, 100]")]
    features += [("word", "string", ""), ("flag", "bool", "")]
    text = f'kind = "feature_view"\nname = "tick"\nentity = "meter"\n[source]\nfiles = "{source}"\n'
    text += '[time]\nvalid_at = "time"\nknown_at = { delay = "5m" }\n'
    for name, kind, rule in features:
        text += f'[[features]]\nname = "{name}"\ntype = "{kind}"\n{rule}\n'
    return text


def generate(folder: Path, rows: int) -> Path:
    """The same rows for the same number of them."""
    source = folder / f"source-{rows}.parquet"
    if source.exists():
        return source
    floats = ", ".join(
        f"round((hash(i * 31 + {seed}) % 100000) / 100.0, 2)::DOUBLE AS {name}" for seed, name in enumerate(FLOATS)
    )
    duckdb.sql(f"""
        COPY (
            SELECT (hash(i) % {KEYS})::BIGINT AS meter,
                   make_timestamptz((1356998400000000 + (hash(i + 7) % 31536000) * 1000000)::BIGINT) AS time,
                   {floats},
                   (hash(i + 11) % 100001)::BIGINT AS c0, (hash(i + 13) % 101)::BIGINT AS c1,
                   'word ' || (hash(i + 17) % 50) AS word, hash(i + 19) % 3 = 0 AS flag
            FROM range({rows}) AS t(i)
        ) TO '{source}' (FORMAT parquet, COMPRESSION snappy)""")
    return source


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size


def synced(path: Path) -> float:
    begun = time.perf_counter()
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    return time.perf_counter() - begun


def ours(folder: Path, source: Path) -> tuple[float, Path]:
    store, definitions = folder / "store", folder / "definitions"
    shutil.rmtree(store, ignore_errors=True)
    definitions.mkdir(exist_ok=True)
    (definitions / "meter.toml").write_text(ENTITY)
    (definitions / "tick.toml").write_text(view(source))
    subprocess.run([PROGRAM, "--store", store, "apply", definitions], check=True, capture_output=True)
    begun = time.perf_counter()
    subprocess.run([PROGRAM, "--store", store, "ingest", "tick"], check=True, capture_output=True)
    return time.perf_counter() - begun, store


def theirs(folder: Path, source: Path) -> tuple[float, Path]:
    target = folder / "duckdb.parquet"
    target.unlink(missing_ok=True)
    code = (
        f"import duckdb; duckdb.sql(\"COPY (SELECT * FROM '{source}' ORDER BY meter, time) TO '{target}' "
        '(FORMAT parquet, COMPRESSION lz4_raw, ROW_GROUP_SIZE 1048576)")'
    )
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begun + synced(target), target


def our_sum(store: Path) -> tuple[float, str]:
    begun = time.perf_counter()
    asked = [PROGRAM, "--store", store, "sql", "--format", "csv", SUM.format("tick")]
    done = subprocess.run(asked, check=True, capture_output=True, text=True)
    return time.perf_counter() - begun, done.stdout.split()[1]


def their_sum(target: Path) -> tuple[float, float, str]:
    """The process, the query in it, and the answer."""
    query = SUM.format(f"'{target}'")
    code = (
        f'import time, duckdb; begun = time.perf_counter(); [(n, s)] = duckdb.sql("{query}").fetchall(); '
        'print(time.perf_counter() - begun, f"{n},{s}")'
    )
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    taken = time.perf_counter() - begun
    query_taken, answer = done.stdout.split()
    return taken, float(query_taken), answer


def median_of(runs: list[float]) -> str:
    return f"{statistics.median(runs):.3f} s ({min(runs):.3f} to {max(runs):.3f}, n = {len(runs)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    folder = arguments.folder.resolve()
    source = generate(folder, arguments.rows)
    print(f"{arguments.rows:,} rows of ten features, DuckDB {duckdb.__version__}, {os.cpu_count()} cores")
    times: dict[str, list[float]] = {"Lineament": [], "DuckDB": []}
    for _ in range(arguments.runs):
        taken, store = ours(folder, source)
        times["Lineament"].append(taken)
        taken, target = theirs(folder, source)
        times["DuckDB"].append(taken)
    for name, runs in times.items():
        print(f"{name:<10} {median_of(runs)}")
    ratio = statistics.median(one / other for one, other in zip(*times.values(), strict=True))
    print(f"ours takes {ratio:.2f} of DuckDB's time, run by run")
    data, file = size(store / "data"), size(target)
    print(f"data files {data:,} bytes, DuckDB's file {file:,}: {data / file:.2f}")
    rest = size(store) - data
    print(f"log, manifests, profiles and the rest: {rest:,} bytes")
    sums: dict[str, list[float]] = {"Lineament": [], "DuckDB": [], "its query": []}
    for _ in range(arguments.runs):
        taken, ours_is = our_sum(store)
        sums["Lineament"].append(taken)
        taken, query, theirs_is = their_sum(target)
        sums["DuckDB"].append(taken)
        sums["its query"].append(query)
        assert ours_is == theirs_is, (ours_is, theirs_is)
    print(f"count and sum of one feature, by a new process: {ours_is}")
    for name, runs in sums.items():
        print(f"{name:<10} {median_of(runs)}")


if __name__ == "__main__":
    main()
