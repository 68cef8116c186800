"""What an export of a recorded training set costs over loopback, beside a bare Flight server that sends the same batches from memory.

    cargo build --release --workspace --bench bare_flight
    python bench/export_loopback.py --rows 5000000 --columns 20 [--pairs 7] [--endpoints 2]

A store is made with one view of float64 features, and a training set of as many rows recorded. Measured, in turns, are

    export      DoGet of the training set into a pyarrow table: it is rebuilt, its digest proved, and sent
    rebuild     the action `lineament.replay`: the same without sending
    bare        DoGet of the same batches from a server that does nothing else (benches/bare_flight.rs), in one stream and in several

For each: wall seconds, the server's CPU seconds, and GB/s of the part from the first batch to the last. `sending` is the CPU of an export less that of
the rebuild before it; its ratio to the bare server's is the figure. The answers are compared before anything is measured.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lineament
import numpy
import pyarrow
import pyarrow.flight as flight

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "python"))
from program import Server, run  # noqa: E402

ENTITIES = 50_000
TICKS = os.sysconf("SC_CLK_TCK")


def definitions(columns: int) -> dict[str, str]:
    features = "".join(f'[[features]]\nname = "f{number}"\ntype = "float64"\n\n' for number in range(columns))
    return {
        "unit.toml": 'kind = "entity"\nname = "unit"\n[[keys]]\nname = "unit"\ntype = "int64"\n',
        "wide.toml": f'kind = "feature_view"\nname = "wide"\nentity = "unit"\n[time]\nvalid_at = "at"\nknown_at = "assumed"\n\n{features}',
    }


def cpu(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f}–{max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--endpoints", type=int, default=2)
    parser.add_argument("--bare", type=Path, help="the built benchmark; the newest under target/release/deps where none is named")
    arguments = parser.parse_args()
    found = sorted(
        (file for file in (REPOSITORY / "target/release/deps").glob("bare_flight-*") if not file.suffix),
        key=lambda file: file.stat().st_mtime,
    )
    bare = arguments.bare or found[-1]
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, Path(folder), bare)


def measure(arguments, folder: Path, program: Path) -> None:
    chance = numpy.random.default_rng(7)
    start, day = 1_600_000_000_000_000, 86_400_000_000
    observations = {
        "unit": numpy.arange(ENTITIES, dtype="int64"),
        "at": pyarrow.array(numpy.full(ENTITIES, start), pyarrow.timestamp("us", "UTC")),
    }
    observations |= {f"f{number}": chance.normal(size=ENTITIES) for number in range(arguments.columns)}
    store = folder / "store"
    with Server(store) as server, lineament.connect(server.url) as client:
        client.apply(definitions(arguments.columns))
        client.ingest("wide", pyarrow.table(observations))
        spine = pyarrow.table({
            "unit": chance.integers(0, ENTITIES, arguments.rows),
            "at": pyarrow.array(start + chance.integers(0, 300, arguments.rows) * day, pyarrow.timestamp("us", "UTC")),
        })  # fmt: skip
        recorded = client.get_historical_features(spine, [f"wide.f{number}" for number in range(arguments.columns)])
        ticket = json.dumps({"training_set": recorded.id})
        del recorded, spine
        other = subprocess.Popen(
            [str(program), "--from", server.url.replace("grpc://", "http://"), "--ticket", ticket],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            url = other.stdout.readline().split()[-1]
            compare(arguments, client, server, url, other.pid, ticket)
        finally:
            other.stdin.close()
            other.wait(timeout=30)


def fetch(url: str, ticket: str) -> tuple[pyarrow.Table, float, float]:
    """The table, with when its first and last batches came."""
    with flight.connect(url) as client:
        reader = client.do_get(flight.Ticket(ticket.encode()))
        batches, first = [], None
        for chunk in reader:
            if chunk.data.num_rows:
                first = first or time.perf_counter()
                batches.append(chunk.data)
        return pyarrow.Table.from_batches(batches), first, time.perf_counter()


def fetch_all(url: str, tickets: list[str]) -> tuple[pyarrow.Table, float, float]:
    with ThreadPoolExecutor(len(tickets)) as readers:
        parts = list(readers.map(lambda ticket: fetch(url, ticket), tickets))
    tables, firsts, lasts = zip(*parts, strict=True)
    return pyarrow.concat_tables(tables), min(firsts), max(lasts)


def compare(arguments, client, server, url: str, bare: int, ticket: str) -> None:
    ours, process = server.url, server.process.pid
    parts = [f"{part + 1}/{arguments.endpoints}" for part in range(arguments.endpoints)]
    answer, _, _ = fetch(ours, ticket)
    assert answer.equals(fetch(url, "all")[0]) and answer.equals(fetch_all(url, parts)[0]), "the answers differ"
    size = answer.nbytes
    print(f"{answer.num_rows:,} rows, {answer.num_columns} columns, {size / 1e9:.2f} GB: equal answers")
    del answer
    identity = json.loads(ticket)["training_set"]
    ways = {
        "rebuild": (process, lambda: client.replay(identity)),
        "export": (process, lambda: fetch(ours, ticket)),
        "bare": (bare, lambda: fetch(url, "all")),
        f"bare, {arguments.endpoints} streams": (bare, lambda: fetch_all(url, parts)),
    }
    walls, cpus, rates = ({name: [] for name in ways} for _ in range(3))
    for _ in range(arguments.pairs):
        for name, (of, way) in ways.items():
            before, begun = cpu(of), time.perf_counter()
            result = way()
            walls[name].append(time.perf_counter() - begun)
            cpus[name].append(cpu(of) - before)
            if isinstance(result, tuple):
                rates[name].append(size / 1e9 / (result[2] - result[1]))
            del result
    for name in ways:
        rate = f", GB/s {spread(rates[name])}" if rates[name] else ""
        print(f"{name}: wall s {spread(walls[name])}, server's CPU s {spread(cpus[name])}{rate}")
    sending = [export - rebuild for export, rebuild in zip(cpus["export"], cpus["rebuild"], strict=True)]
    print(f"sending: CPU s {spread(sending)}")
    print(f"sending / bare, CPU: {spread([a / b for a, b in zip(sending, cpus['bare'], strict=True)])}")
    print(f"export / bare, GB/s from first batch to last: {spread([a / b for a, b in zip(rates['export'], rates['bare'], strict=True)])}")


if __name__ == "__main__":
    main()
