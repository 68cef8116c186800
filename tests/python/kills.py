"""Kills of real programs: how many there are, and how soon a store answers after one."""

import functools
import os
import statistics
import tempfile
import time
from pathlib import Path

import lineament
from program import Server

# So many a seed of each loop has: those of test_kill.py, and the one of test_stream_ingest.py.
KILLS = {"ingest": 24, "server": 20, "verbs": 56, "compaction": 16, "sweep": 16, "stream": 12}
# Seconds from the start of a process to its first answer, beyond those that it takes over an empty store.
BAR = 1.0


def seeds(first: int) -> list[int]:
    """What a loop is run with: one seed, or as many as make `LINEAMENT_KILLS` kills of all loops together. Each has a store of its
    own, since all of it is looked at after each kill, which in a store of a thousand would be all that takes time."""
    rounds = -(-int(os.environ.get("LINEAMENT_KILLS", "1")) // sum(KILLS.values()))
    return [first + 100 * number for number in range(rounds)]


class Reopenings:
    """How long new servers took, after each kill, to open the store and to answer.

    The median has to keep the bar, which lies a second above what the start over an empty store takes on this machine. One that takes
    longer is begun once more, and how often that was so and helped is printed: a process that waits for a core seldom does so twice in
    a row."""

    def __init__(self) -> None:
        self.took: list[float] = []
        self.again: list[float] = []
        self.bar = _empty() + BAR

    def server(self, store: Path, *arguments: object, port: int = 0) -> Server:
        server, took = _answering(store, *arguments, port=port)
        self.took.append(took)
        if took > self.bar:
            server.stop()
            server, again = _answering(store, *arguments, port=port)
            self.again.append(again)
        return server

    def told(self) -> str:
        median = statistics.median(self.took)
        assert median <= self.bar, (self.bar, self.took)
        twice = sum(again > self.bar for again in self.again)
        return (
            f"answered anew after {median:.3f} s (median of {len(self.took)}, at most {self.bar:.3f} s), {max(self.took):.3f} s at worst, "
            f"{len(self.again)} late, {twice} of them twice"
        )


@functools.cache
def _empty() -> float:
    """Seconds from the start of a process to its first answer where the store is empty: the median of three."""
    with tempfile.TemporaryDirectory() as folder:
        store, took = Path(folder) / "store", []
        # The first makes the store.
        for _ in range(4):
            server, seconds = _answering(store, port=0)
            server.stop()
            took.append(seconds)
    return statistics.median(took[1:])


def _answering(store: Path, *arguments: object, port: int) -> tuple[Server, float]:
    started = time.monotonic()
    server = Server(store, *arguments, port=port)
    with lineament.connect(server.url) as client:
        # It is read from the folded log, and leaves nothing behind but that it was asked.
        client.sql("SELECT count(*) FROM lineament.batches").to_arrow()
    return server, time.monotonic() - started
