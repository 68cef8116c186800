"""Many clients with mixed queries at once: what fails, what memory the server takes over time, how long they wait.

    python bench/many_clients.py [--clients 200] [--seconds 300] [--memory 2G] [--processes 4] [-- serve's own arguments]

Each client is a connection of its own that asks again as soon as it has its answer, without a pause, and verifies what it gets. The mix: rows of a few
keys, an aggregate over a view, a join of two views, a retrieval of 2,000 rows, one of 50,000, a recorded one, and what tools ask of the store. A client
that is told to come back waits as long as it was told. What is told of is every answer by kind and outcome, resident memory and what of it is reserved once a
second, and the longest that anybody waited.
"""

import argparse
import collections
import json
import multiprocessing
import random
import re
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import lineament
import numpy
import pyarrow

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "python"))
from program import Server  # noqa: E402

ENTITIES, OBSERVATIONS, FEATURES = 20_000, 1_000_000, 8
START, DAY = 1_600_000_000_000_000, 86_400_000_000
DEFINITIONS = {
    "unit.toml": 'kind = "entity"\nname = "unit"\n[[keys]]\nname = "unit"\ntype = "int64"\n',
    **{
        f"{view}.toml": f'kind = "feature_view"\nname = "{view}"\nentity = "unit"\n[time]\nvalid_at = "at"\nknown_at = "assumed"\n'
        + "".join(f'[[features]]\nname = "{view}{number}"\ntype = "float64"\n' for number in range(FEATURES))
        for view in ("first", "second")
    },
}
BACK = re.compile(r"try again in ([0-9.]+) s")


def observations(view: str, chance) -> pyarrow.Table:
    columns = {
        "unit": chance.integers(0, ENTITIES, OBSERVATIONS),
        "at": pyarrow.array(START + chance.integers(0, 365 * 24, OBSERVATIONS) * (DAY // 24), pyarrow.timestamp("us", "UTC")),
    }
    return pyarrow.table(columns | {f"{view}{number}": chance.normal(size=OBSERVATIONS) for number in range(FEATURES)})


def spine(rows: int, chance) -> pyarrow.Table:
    return pyarrow.table({
        "unit": chance.integers(0, ENTITIES, rows),
        "at": pyarrow.array(START + chance.integers(0, 365 * 24, rows) * (DAY // 24), pyarrow.timestamp("us", "UTC")),
    })  # fmt: skip


def kinds(client, seed: int) -> dict[str, tuple[int, object]]:
    """Each kind of question: how often of a hundred, and how it is asked."""
    chance = numpy.random.default_rng(seed)
    few, many = spine(2_000, chance), spine(50_000, chance)
    both = [f"{view}.{view}{number}" for view in ("first", "second") for number in range(4)]

    def rows_of(query: str, rows: int | None = None):
        def ask():
            found = client.sql(query).to_arrow().num_rows
            assert rows is None or found == rows, f"{found} rows and not {rows}"
        return ask

    def retrieve(of: pyarrow.Table, record: bool):
        def ask():
            assert client.get_historical_features(of, both, record=record).to_arrow().num_rows == of.num_rows
        return ask

    keys = ", ".join(str(key) for key in chance.integers(0, ENTITIES, 5))
    return {
        "keys": (30, rows_of(f"SELECT * FROM first WHERE unit IN ({keys})")),
        "aggregate": (15, rows_of("SELECT unit % 10 AS u, avg(first0), max(first1) FROM first GROUP BY 1", 10)),
        "join": (5, rows_of("SELECT count(*) FROM first JOIN second USING (unit, valid_at)", 1)),
        "sort": (5, rows_of("SELECT unit, valid_at, first0, first1 FROM first ORDER BY first0 LIMIT 1000", 1_000)),
        "retrieval of 2,000": (20, retrieve(few, False)),
        "retrieval of 50,000": (8, retrieve(many, False)),
        "recorded": (2, retrieve(few, True)),
        "status": (15, client.status),
    }  # fmt: skip


def clients(url: str, number: int, first: int, seconds: float, answers) -> None:
    """Some clients in a process of their own."""
    found = []
    until = time.monotonic() + seconds

    def one(seed: int) -> None:
        turns = random.Random(seed)
        with lineament.connect(url) as client:
            asked = kinds(client, seed)
            while time.monotonic() < until:
                (kind,) = turns.choices(list(asked), [often for often, _ in asked.values()])
                begun = time.monotonic()
                outcome = "ok"
                try:
                    asked[kind][1]()
                except Exception as error:
                    said = str(error)
                    told = BACK.search(said)
                    outcome = "told to come back" if told else f"{type(error).__name__}: {said[:160]}"
                    found.append((kind, outcome, time.monotonic() - begun))
                    time.sleep(float(told[1]) if told else 0.1)
                    continue
                found.append((kind, outcome, time.monotonic() - begun))

    threads = [threading.Thread(target=one, args=(first + which,)) for which in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.put(found)


def samples(http: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{http}/metrics", timeout=10) as answer:
        lines = (line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--memory", default="2G")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("serve", nargs="*", help="further arguments of `lineament serve`")
    arguments = parser.parse_args()
    chance = numpy.random.default_rng(3)
    with tempfile.TemporaryDirectory() as folder:
        options = ("--memory-limit", arguments.memory, "--http", "127.0.0.1:0", *arguments.serve)
        with Server(Path(folder) / "store", *options) as server:
            with lineament.connect(server.url) as client:
                client.apply(DEFINITIONS)
                for view in ("first", "second"):
                    client.ingest(view, observations(view, chance))
            measure(arguments, server)


def measure(arguments, server: Server) -> None:
    spawning = multiprocessing.get_context("spawn")
    answers = spawning.Queue()
    each = arguments.clients // arguments.processes
    started = [
        spawning.Process(target=clients, args=(server.url, each, which * each, arguments.seconds, answers))
        for which in range(arguments.processes)
    ]
    for process in started:
        process.start()
    begun, resident, reserved, waiting = time.monotonic(), [], [], []
    while time.monotonic() - begun < arguments.seconds:
        now = samples(server.http)
        resident.append(now["process_resident_memory_bytes"] / 2**20)
        reserved.append(now["lineament_memory_reserved_bytes"] / 2**20)
        waiting.append(now["lineament_queries_waiting"])
        time.sleep(1)
    found = [answer for _ in started for answer in answers.get(timeout=300)]
    for process in started:
        process.join()
    report(found, arguments, resident, reserved, waiting)
    time.sleep(3)
    now = samples(server.http)
    print(
        f"afterwards: {now['lineament_queries_running']:.0f} run, {now['lineament_queries_waiting']:.0f} wait, "
        f"{now['lineament_memory_reserved_bytes'] / 2**20:.0f} MiB reserved, {now['process_resident_memory_bytes'] / 2**20:.0f} MiB resident"
    )


def report(found: list, arguments, resident: list, reserved: list, waiting: list) -> None:
    outcomes = collections.Counter(outcome for _, outcome, _ in found)
    print(f"{arguments.clients} clients, {arguments.seconds:.0f} s, {len(found):,} answers, {len(found) / arguments.seconds:.0f} a second")
    print(json.dumps(dict(outcomes.most_common()), indent=2))
    for kind in sorted({kind for kind, _, _ in found}):
        taken = sorted(seconds for of, outcome, seconds in found if of == kind and outcome == "ok")
        if len(taken) > 1:
            quantiles = statistics.quantiles(taken, n=100)
            print(f"{kind}: {len(taken):,} answers, s: p50 {quantiles[49]:.2f}, p99 {quantiles[98]:.2f}, most {taken[-1]:.2f}")
    taken = [seconds for _, outcome, seconds in found if outcome == "ok"]
    print(f"all: p50 {statistics.median(taken):.2f} s, p99 {statistics.quantiles(taken, n=100)[98]:.2f} s")
    tenth = max(1, len(resident) // 10)
    parts = [statistics.median(resident[at : at + tenth]) for at in range(0, len(resident), tenth)]
    print("resident MiB, median of each tenth:", " ".join(f"{part:.0f}" for part in parts), f"most {max(resident):.0f}")
    print(f"reserved MiB: median {statistics.median(reserved):.0f}, most {max(reserved):.0f}; waiting: most {max(waiting):.0f}")


if __name__ == "__main__":
    main()
