"""How soon a client that leaves has its work stopped and its memory and place given back.

    python bench/leaving.py [--times 20]

A client in a process of its own asks for what takes long, and is killed once the server is at it. Told is how long it takes from then until no query runs and
no memory is reserved, as the server's metrics have it (asked for every 2 ms), for

    aggregate   a query that has no row to give yet
    rows        a stream that is being read
    retrieval   features of a spine of a million rows
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lineament
import numpy
from many_clients import DEFINITIONS, REPOSITORY, Server, observations, samples

CLIENT = """
import sys
sys.path.insert(0, sys.argv[3])
import lineament, many_clients, numpy
import pyarrow.flight as flight
url, kind = sys.argv[1:3]
if kind == "retrieval":
    with lineament.connect(url) as client:
        spine = many_clients.spine(1_000_000, numpy.random.default_rng(1))
        client.get_historical_features(spine, [f"first.first{n}" for n in range(8)])
else:
    text = {
        "aggregate": "SELECT count(DISTINCT a.value * b.value) FROM generate_series(1, 2000) a CROSS JOIN generate_series(1, 100000000) b",
        "rows": "SELECT a.value FROM generate_series(1, 100000000) a CROSS JOIN generate_series(1, 2000) b",
    }[kind]
    reader = flight.connect(url).do_get(flight.Ticket(('{"sql": "' + text + '"}').encode()))
    while True:
        reader.read_chunk()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    chance = numpy.random.default_rng(3)
    with tempfile.TemporaryDirectory() as folder:
        options = ("--memory-limit", "2G", "--http", "127.0.0.1:0")
        with Server(Path(folder) / "store", *options) as server:
            with lineament.connect(server.url) as client:
                client.apply(DEFINITIONS)
                client.ingest("first", observations("first", chance))
            for kind in ("aggregate", "rows", "retrieval"):
                taken = [1000 * left(server, kind) for _ in range(times)]
                print(f"{kind}: ms median {statistics.median(taken):.0f}, most {max(taken):.0f}, {times} times")


def idle(server: Server) -> bool:
    now = samples(server.http)
    return not now["lineament_queries_running"] and not now["lineament_memory_reserved_bytes"]


def left(server: Server, kind: str) -> float:
    command = [sys.executable, "-c", CLIENT, server.url, kind, str(REPOSITORY / "bench")]
    client = subprocess.Popen(command)
    # A retrieval first sends its spine: it is left once that is being looked up.
    held = (100 << 20) if kind == "retrieval" else 0
    while True:
        now = samples(server.http)
        if now["lineament_queries_running"] and now["lineament_memory_reserved_bytes"] >= held:
            break
        assert client.poll() is None, "it ended before it was at work"
        time.sleep(0.002)
    time.sleep(0.02)
    client.kill()
    begun = time.perf_counter()
    while not idle(server):
        assert time.perf_counter() - begun < 60, "it still runs, and its client is gone"
        time.sleep(0.002)
    taken = time.perf_counter() - begun
    client.wait()
    return taken


if __name__ == "__main__":
    main()
