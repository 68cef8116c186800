"""One suite for every place that a store can lie in: a folder, a bucket of S3 and a container of Azure, each a real server
that the test starts. (A store in memory lives as long as its process: the Rust suite runs on that.)"""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import lineament
import pyarrow
import pyarrow.dataset
import pyarrow.fs
import pytest
import readings
from object_storage import azure, s3, s3s
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
            exported_twice(store, training_set)
            counts = client.sql("SELECT count(*) AS n, count(DISTINCT origin) AS places FROM weather").to_arrow()
            answers.append((training_set.digest, counts.to_pylist()))
        run(store, "checkpoint")
        found = verified(store)
        assert (found["batches"], found["training_sets"], found["checkpoints"]) == (1, 1, 1)
        assert found["notes"] == [] and found["orphans"] == []
    assert answers[0] == answers[1]


def exported_twice(store: str, training_set: lineament.TrainingSet) -> None:
    """The set as files beside the store, by the program: whole, gone on with, and refused where other files are."""
    options = (training_set.id, f"{store}-exported", "--rows-per-file")
    said = run(store, "export", *options, 3)
    assert "4 rows in 2 files, in " in said and f"read back: {training_set.digest}" in said
    assert "2 files, 2 of them from before" in run(store, "export", *options, 3)
    assert "is no part of this export" in fails(store, "export", *options, 4)


def test_python_exports_to_a_bucket(tmp_path):
    with s3(tmp_path) as storage, Server(tmp_path / "store") as server, lineament.connect(server.url) as client:
        client.apply(readings.DEFINITIONS)
        client.ingest("reading", readings.rows())
        training_set = client.get_historical_features(readings.spine(), ["reading.value"])
        bucket = pyarrow.fs.S3FileSystem(
            access_key="test", secret_key="test", region="us-east-1", scheme="http",
            endpoint_override=storage.environment["AWS_ENDPOINT_URL"].removeprefix("http://"),
        )  # fmt: skip
        for kept in (0, 3):
            exported = client.export(training_set, "features/sets/one", rows_per_file=5, filesystem=bucket)
            assert (exported.rows, exported.kept, exported.digest) == (13, kept, training_set.digest)
        read = pyarrow.dataset.dataset(exported.files, filesystem=bucket).to_table()
        assert read.replace_schema_metadata().equals(training_set.to_arrow().replace_schema_metadata())
        with pytest.raises(lineament.InvalidRequest, match="is no part of this export"):
            client.export(training_set, "features/sets/one", rows_per_file=13, filesystem=bucket)


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


def test_a_storage_that_overwrites_is_refused(tmp_path):
    """s3s-fs takes the condition of a create, looks, and then writes: of creates at the same time several win. Each store that is begun
    in it is refused, before anything of it is written, and so is each write to one that was made elsewhere and carried there."""
    bucket = tmp_path / "storage"
    bucket.mkdir()
    with s3s(bucket) as storage:
        for attempt in range(10):
            said = fails(f"{storage.address}/{attempt}", "apply", FLIGHTS / "features")
            assert "ignores put-if-absent" in said, said
        left = [path for path in (bucket / "features").rglob("*") if path.is_file()]
        assert all("probe" in path.parts for path in left), left

        # A bucket is a folder here, and so was this store proved when it was made.
        one = bucket / "features" / "one"
        run(one, "apply", FLIGHTS / "features")
        entries = log(one)
        for verb in (("ingest", "weather"), ("ingest", "plane")):
            said = fails(f"{storage.address}/one", *verb)
            assert "ignores put-if-absent" in said, said
        with Server(f"{storage.address}/one") as server, lineament.connect(server.url) as client:
            for _ in range(88):
                with pytest.raises(lineament.Error, match="ignores put-if-absent"):
                    client.apply(readings.DEFINITIONS)
        assert log(one) == entries
    assert verified(one)["entries"] == len(entries)


def log(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (store / "log").iterdir()}


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
