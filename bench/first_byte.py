"""How soon a small query answers, and how soon a Python that just began has its first answer.

    python bench/first_byte.py [--queries 2000] [--starts 25]

    first byte      one view of 1,000 rows, over a connection that is there: until the first batch is in this process
    connect         the same over a connection that has to be made
    cold            a new Python: connect and first query, from after pyarrow was imported to the answer as a table
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
import pyarrow
import pyarrow.flight as flight

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "python"))
from program import Server  # noqa: E402

DEFINITIONS = {
    "unit.toml": 'kind = "entity"\nname = "unit"\n[[keys]]\nname = "unit"\ntype = "int64"\n',
    "small.toml": 'kind = "feature_view"\nname = "small"\nentity = "unit"\n[time]\nvalid_at = "at"\nknown_at = "assumed"\n'
    '[[features]]\nname = "value"\ntype = "float64"\n',
}
COLD = """
import sys, time
import pyarrow, pyarrow.flight
begun = time.perf_counter()
import lineament
with lineament.connect(sys.argv[1]) as client:
    assert client.sql("SELECT * FROM small").to_arrow().num_rows == 1000
print(time.perf_counter() - begun)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--starts", type=int, default=25)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder) / "store") as server:
        with lineament.connect(server.url) as client:
            client.apply(DEFINITIONS)
            at = pyarrow.array(numpy.arange(1000) + 1_600_000_000_000_000, pyarrow.timestamp("us", "UTC"))
            values = {"unit": numpy.arange(1000), "at": at, "value": numpy.arange(1000) / 7}
            client.ingest("small", pyarrow.table(values))
        with flight.connect(server.url) as plain:
            asked(plain, 50)
            tell("first byte", asked(plain, arguments.queries))
        connected = []
        for _ in range(arguments.queries // 10):
            begun = time.perf_counter()
            with flight.connect(server.url) as plain:
                asked(plain, 1)
                connected.append(time.perf_counter() - begun)
        tell("connect", connected)
        command = [sys.executable, "-c", COLD, server.url]
        cold = [float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(arguments.starts)]
        tell("cold", cold)


def asked(client: flight.FlightClient, times: int) -> list[float]:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        reader = client.do_get(flight.Ticket(b'{"sql": "SELECT * FROM small"}'))
        assert reader.read_chunk().data.num_rows > 0
        taken.append(time.perf_counter() - begun)
        reader.read_all()
    return taken


def tell(what: str, taken: list[float]) -> None:
    taken = [1000 * seconds for seconds in taken]
    quantiles = statistics.quantiles(taken, n=100)
    print(f"{what}: ms p50 {quantiles[49]:.2f}, p90 {quantiles[89]:.2f}, p99 {quantiles[98]:.2f}, {len(taken)} times")


if __name__ == "__main__":
    main()
