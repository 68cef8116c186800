"""One suite for every place that a store can lie in: a folder, a bucket of S3 and a container of Azure, each a real server
that the test starts. (A store in memory lives as long as its process: the Rust suite runs on that.)"""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import lineament
import pyarrow
import pytest
from object_storage import azure, s3
from program import FLIGHTS, Server, fails, run


@pytest.fixture(scope="module", params=["file", "s3", "azure"])
def place(request, tmp_path_factory):
    """The address under which stores are made, and, while it lasts, the environment that says where that is."""
    folder = tmp_path_factory.mktemp(request.param)
    storage = {"file": lambda _: nullcontext(), "s3": s3, "azure": azure}[request.param](folder)
    with storage:
        yield str(folder) if request.param == "file" else storage.address


def hour(number: int) -> pyarrow.Table:
    time = pyarrow.array([1_372_680_000_000_000 + number * 3_600_000_000], pyarrow.timestamp("us", "UTC"))
    return pyarrow.table({
        "origin": ["EWR"], "time_hour": time, "temp": [70.0 + number], "dewp": [60.0], "humid": [50.0],
        "wind_dir": [10.0], "wind_speed": [5.0], "wind_gust": [None], "precip": [0.0], "pressure": [1010.0],
        "visib": [10.0],
    })  # fmt: skip


def verified(store) -> dict:
    found = json.loads(run(store, "verify", "--full", "--format", "json"))
    assert found["faults"] == []
    return found


def test_a_store_answers_and_is_whole(place, tmp_path):
    spine = pyarrow.table({
        "origin": ["EWR", "JFK", "LGA", None],
        "at": pyarrow.array([1372680000000000, 1372690000000000, 1388000000000000, 0], pyarrow.timestamp("us", "UTC")),
    })  # fmt: skip
    answers = []
    for store in (f"{place}/one", str(tmp_path / "beside")):
        run(store, "apply", FLIGHTS / "features")
        assert "26,114 rows" in run(store, "ingest", "weather")
        assert "26,114" not in run(store, "ingest", "weather"), "what was taken is not taken again"
        with Server(store) as server, lineament.connect(server.url) as client:
            training_set = client.get_historical_features(spine, ["weather.temp", "weather.wind_speed"])
            assert client.replay(training_set).equal
            counts = client.sql("SELECT count(*) AS n, count(DISTINCT origin) AS places FROM weather").to_arrow()
            answers.append((training_set.digest, counts.to_pylist()))
        run(store, "checkpoint")
        found = verified(store)
        assert (found["batches"], found["training_sets"], found["checkpoints"]) == (1, 1, 1)
        assert found["notes"] == [] and found["orphans"] == []
    assert answers[0] == answers[1]


def test_many_writers_lose_nothing(place):
    """Entries are appended by creating objects only where nothing is, which the storage has proved in a race before."""
    store, rows = f"{place}/many", 24
    run(store, "apply", FLIGHTS / "features")
    with Server(store) as one, Server(store) as other:

        def send(number: int) -> None:
            with lineament.connect((one, other)[number % 2].url) as client:
                client.ingest("weather", hour(number), claim="back_fill", key=f"hour {number}")

        with ThreadPoolExecutor(8) as senders:
            list(senders.map(send, range(rows)))
        # All of it again changes nothing.
        for number in range(rows):
            with lineament.connect(one.url) as client:
                assert client.ingest("weather", hour(number), claim="back_fill", key=f"hour {number}").repeated
        with lineament.connect(other.url) as client:
            assert client.sql("SELECT count(*) AS n FROM weather").to_arrow()["n"][0].as_py() == rows
    # Beside the batches: the first entry, the definitions, and what the query was.
    found = verified(store)
    assert (found["batches"], found["entries"]) == (rows, rows + 3)


def test_a_killed_writer_harms_nobody(place):
    store = f"{place}/killed"
    run(store, "apply", FLIGHTS / "features")
    acknowledged = set()
    for number in range(6):
        with Server(store) as server, lineament.connect(server.url) as client:
            client.ingest("weather", hour(number), claim="back_fill", key=f"hour {number}")
            acknowledged.add(number)
            server.kill()
        assert verified(store)["batches"] == len(acknowledged)


def test_a_place_that_is_not_there(place):
    scheme, found, _ = place.partition("://")
    said = fails(f"{scheme}://nothing-here/store" if found else f"{place}/nothing-here", "sql", "SELECT 1")
    assert "nothing-here" in said, said
