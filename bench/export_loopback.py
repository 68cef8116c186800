"""What an export of a recorded training set costs over loopback, beside a bare Flight server that sends the same batches from memory.

    cargo build --release --workspace --bench bare_flight
    python bench/export_loopback.py --rows 5000000 --columns 20 [--pairs 7] [--repeats 2] [--readers 2]

A store is made with one view of float64 features. For each pair a training set of its own is recorded (they have the same rows), so that one is
there which nobody has read. Measured, in turns, and in the other order in every second pair, are

    rebuild   the action `lineament.replay`: the set is made again and digested, and nothing is sent
    cold      all endpoints of a set that nobody has read, into a pyarrow table: it is rebuilt once, proved, and sent
    warm      the same endpoints again, at once: they come from memory, with nothing to decode or to digest
    bare      as many tickets of a server that does nothing else (benches/bare_flight.rs: arrow-rs' own encoder over the same
              batches, with the allocator that ours has), read by the same code with as many readers

For each: wall seconds, the server's CPU seconds, and GB/s from the first batch to the last. The figures are the ratios of warm to bare, pair by
pair: CPU (the bar: 1.1) and GB/s (0.9). `cold - rebuild` is what sending costs where the set is made on the way; it is the difference
of two large numbers, and so only checks the first. The answers are compared before anything is measured, and the first pair is not counted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

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
    parser.add_argument("--repeats", type=int, default=2, help="reads of which one measurement of warm and bare is the sum")
    parser.add_argument("--readers", type=int, default=2, help="streams that are read side by side")
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
        spine = client.keep_spine(pyarrow.table({
            "unit": chance.integers(0, ENTITIES, arguments.rows),
            "at": pyarrow.array(start + chance.integers(0, 300, arguments.rows) * day, pyarrow.timestamp("us", "UTC")),
        }))  # fmt: skip
        features = [f"wide.f{number}" for number in range(arguments.columns)]
        # One for the answers and the warming up, and one a pair.
        sets = [client.get_historical_features(spine, features).id for _ in range(arguments.pairs + 2)]
        ticket = json.dumps({"training_set": sets[0]})
        other = subprocess.Popen(
            [str(program), "--from", server.url.replace("grpc://", "http://"), "--ticket", ticket],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            url = other.stdout.readline().split()[-1]
            compare(arguments, client, server, url, other.pid, sets)
        finally:
            other.stdin.close()
            other.wait(timeout=30)


class Fetched(NamedTuple):
    table: pyarrow.Table
    #: When its first and its last batch came.
    first: float
    last: float
    reports: list[dict]


def fetch(connection: flight.FlightClient, tickets: list[flight.Ticket], readers: int) -> Fetched:
    """All tickets by so many readers side by side, in their order."""

    def one(ticket: flight.Ticket) -> tuple[list[pyarrow.RecordBatch], float, float, bytes | None]:
        batches, first, last = [], None, None
        for chunk in connection.do_get(ticket):
            if chunk.data.num_rows:
                first = first or time.perf_counter()
                batches.append(chunk.data)
            last = chunk.app_metadata
        return batches, first, time.perf_counter(), last

    with ThreadPoolExecutor(readers) as pool:
        parts = list(pool.map(one, tickets))
    table = pyarrow.Table.from_batches([batch for batches, _, _, _ in parts for batch in batches])
    reports = [json.loads(last.to_pybytes()) for *_, last in parts if last is not None]
    return Fetched(table, min(first for _, first, _, _ in parts), max(end for _, _, end, _ in parts), reports)


class Ways:
    """Each way to get the rows, with the process that gives them."""

    def __init__(self, arguments, client: lineament.Client, server: Server, bare_url: str, bare: int) -> None:
        self.readers, self.repeats = arguments.readers, arguments.repeats
        self.client, self.process, self.bare_process = client, server.process.pid, bare
        self.ours, self.bare_server = flight.connect(server.url), flight.connect(bare_url)

    def tickets(self, id: str) -> list[flight.Ticket]:
        descriptor = flight.FlightDescriptor.for_command(json.dumps({"training_set": id}))
        return [endpoint.ticket for endpoint in self.ours.get_flight_info(descriptor).endpoints]

    def rebuild(self, id: str) -> None:
        assert self.client.replay(id).equal

    def set(self, id: str) -> Fetched:
        fetched = fetch(self.ours, self.tickets(id), self.readers)
        proved = {report["proved_by"] for report in fetched.reports}
        assert proved == {"digest"}, "the set does not fit into a quarter of the memory limit: nothing is kept in memory"
        return fetched

    def bare(self, parts: int) -> Fetched:
        tickets = [flight.Ticket(f"{part + 1}/{parts}".encode()) for part in range(parts)]
        return fetch(self.bare_server, tickets, self.readers)


class Measured(NamedTuple):
    wall: float
    cpu: float
    #: GB/s from the first batch to the last; none where nothing was sent.
    rate: float | None


def measured(process: int, way: Callable[[], Fetched | None], repeats: int = 1) -> Measured:
    # What the one before left to be cleared away is not this one's.
    time.sleep(0.2)
    before, begun, rates = cpu(process), time.perf_counter(), []
    for _ in range(repeats):
        fetched = way()
        if fetched is not None:
            rates.append(fetched.table.nbytes / 1e9 / (fetched.last - fetched.first))
        del fetched
    wall = (time.perf_counter() - begun) / repeats
    return Measured(wall, (cpu(process) - before) / repeats, statistics.mean(rates) if rates else None)


def compare(arguments, client, server, url: str, bare: int, sets: list[str]) -> None:
    ways = Ways(arguments, client, server, url, bare)
    parts = len(ways.tickets(sets[0]))
    answer = ways.set(sets[0]).table
    assert answer.equals(ways.bare(parts).table), "the answers differ"
    print(
        f"{answer.num_rows:,} rows, {answer.num_columns} columns, {answer.nbytes / 1e9:.2f} GB in {parts} endpoints, "
        f"{ways.readers} readers: equal answers"
    )
    del answer
    found: dict[str, list[Measured]] = {name: [] for name in ("rebuild", "cold", "warm", "bare")}
    for number, id in enumerate(sets[1:]):
        steps = [
            ("rebuild", lambda id=id: measured(ways.process, lambda: ways.rebuild(id))),
            ("cold", lambda id=id: measured(ways.process, lambda: ways.set(id))),
            ("warm", lambda id=id: measured(ways.process, lambda: ways.set(id), ways.repeats)),
            ("bare", lambda: measured(ways.bare_process, lambda: ways.bare(parts), ways.repeats)),
        ]
        # The warm one comes right after the cold one in either order.
        for name, step in steps if number % 2 else [steps[3], *steps[:3]]:
            result = step()
            if number:
                found[name].append(result)
    for name, results in found.items():
        rates = [result.rate for result in results if result.rate is not None]
        rate = f", GB/s {spread(rates)}" if rates else ""
        walls, cpus = ([getattr(result, of) for result in results] for of in ("wall", "cpu"))
        print(f"{name}: wall s {spread(walls)}, server's CPU s {spread(cpus)}{rate}")
    pairs = list(zip(found["rebuild"], found["cold"], found["warm"], found["bare"], strict=True))
    print(f"warm / bare, CPU: {spread([warm.cpu / bare.cpu for _, _, warm, bare in pairs])}  (bar 1.1)")
    print(f"warm / bare, GB/s from first batch to last: {spread([warm.rate / bare.rate for _, _, warm, bare in pairs])}  (bar 0.9)")
    print(f"(cold - rebuild) / bare, CPU: {spread([(cold.cpu - rebuild.cpu) / bare.cpu for rebuild, cold, _, bare in pairs])}")


if __name__ == "__main__":
    main()
