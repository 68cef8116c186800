"""A store in a bucket: the same program against a real S3 server, moto's, which the test starts."""

import lineament
import pyarrow
import pytest
from bucket import Bucket
from program import FLIGHTS, Server, fails, run

@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """An empty bucket, as `s3://…`; the environment says where."""
    with Bucket(tmp_path_factory.mktemp("s3")) as bucket:
        yield bucket.url


def test_a_store_in_a_bucket_answers_as_one_in_a_folder(bucket, tmp_path):
    spine = pyarrow.table({
        "origin": ["EWR", "JFK", "LGA", None],
        "at": pyarrow.array([1372680000000000, 1372690000000000, 1388000000000000, 0], pyarrow.timestamp("us", "UTC")),
    })  # fmt: skip
    answers = []
    for store in (f"{bucket}/one", tmp_path / "store"):
        run(store, "apply", FLIGHTS / "features")
        assert "26,114 rows" in run(store, "ingest", "weather")
        # What was taken is not taken again, and the same definitions change nothing.
        again = run(store, "ingest", "weather")
        assert "26,114" not in again
        with Server(store) as server, lineament.connect(server.url) as client:
            training_set = client.get_historical_features(spine, ["weather.temp", "weather.wind_speed"])
            assert client.replay(training_set).equal
            counts = client.sql("SELECT count(*) AS n, count(DISTINCT origin) AS places FROM weather").to_arrow()
            answers.append((training_set.digest, counts.to_pylist(), client.status()["sequence"]))
    assert answers[0][:2] == answers[1][:2]
    assert answers[0][1] == [{"n": 26114, "places": 3}]


def test_two_writers_in_a_bucket_lose_nothing(bucket):
    """Entries are appended by creating objects only where nothing is, which the bucket has proved."""
    store = f"{bucket}/two"
    run(store, "apply", FLIGHTS / "features")
    with Server(store) as one, Server(store) as other:
        clients = [lineament.connect(server.url) for server in (one, other)]
        for number in range(6):
            hour = pyarrow.array([1_372_680_000_000_000 + number * 3_600_000_000], pyarrow.timestamp("us", "UTC"))
            rows = pyarrow.table({
                "origin": ["EWR"], "time_hour": hour, "temp": [70.0 + number], "dewp": [60.0], "humid": [50.0],
                "wind_dir": [10.0], "wind_speed": [5.0], "wind_gust": [None], "precip": [0.0], "pressure": [1010.0],
                "visib": [10.0],
            })  # fmt: skip
            clients[number % 2].ingest("weather", rows, claim="back_fill", key=f"hour {number}")
        for client in clients:
            assert client.sql("SELECT count(*) AS n FROM weather").to_arrow()["n"][0].as_py() == 6
            client.close()
    told = run(store, "sql", "SELECT count(*) AS batches, count(DISTINCT sequence) AS entries FROM lineament.batches")
    assert told.split()[-2:] == ["6", "6"], told


def test_a_bucket_that_is_not_there(bucket):
    said = fails("s3://nothing-here/store", "sql", "SELECT 1")
    assert "nothing-here" in said, said
