"""Every kind of error, with the server's own sentence and none of gRPC's."""

import json
import shutil

import lineament
import pandas
import pyarrow.parquet
import pytest
import readings
from program import Server, fails

NOISE = (
    "gRPC",
    "Flight returned",
    "debug context",
    "Detail:",
    "DataFusion",
    "Error during planning",
    "panicked",
    "External error",
)


def message_of(kind: type[lineament.Error], ask) -> str:
    with pytest.raises(kind) as caught:
        ask()
    assert type(caught.value) is kind
    message = str(caught.value)
    assert message and not [noise for noise in NOISE if noise in message], message
    assert caught.value.__cause__ is None
    return message


def test_not_found_names_the_nearest(readings_client):
    client, spine = readings_client, readings.spine()
    cases = [
        (lambda: client.ingest("readin", readings.rows()), "`readin`", "`reading`"),
        (lambda: client.sql("SELECT * FROM readin"), "readin", "`reading`"),
        (lambda: client.get_historical_features(spine, ["readin.value"]), "readin", "`reading`"),
        (lambda: client.get_historical_features(spine, ["reading.valu"]), "`valu`", "`value`"),
        (lambda: client.get_historical_features(spine, "modell"), "`modell`", "`model`"),
        (lambda: client.get_historical_features(spine, ["reading@7.value"]), "7", "reading"),
    ]
    for ask, wrong, nearest in cases:
        with pytest.raises((lineament.NotFound, lineament.InvalidRequest)) as caught:
            ask()
        assert wrong in str(caught.value) and nearest in str(caught.value)
        assert not [noise for noise in NOISE if noise in str(caught.value)], str(caught.value)
    unknown = "01900000-0000-7000-8000-000000000000"
    assert unknown in message_of(lineament.NotFound, lambda: client.replay(unknown))
    assert unknown in message_of(lineament.NotFound, lambda: client.training_set(unknown))
    assert unknown in message_of(lineament.NotFound, lambda: client.explain(unknown, 0, "value"))
    assert isinstance(pytest.raises(LookupError, client.replay, unknown).value, lineament.Error)


def test_a_cell_that_is_not_there(readings_client):
    training_set = readings_client.get_historical_features(readings.spine(), ["reading.value"])
    assert "`value`" in str(pytest.raises(lineament.Error, readings_client.explain, training_set, 0, "vaule").value)
    assert "13" in str(pytest.raises(lineament.Error, readings_client.explain, training_set, 13, "value").value)
    with pytest.raises(lineament.InvalidRequest, match="whole number"):
        readings_client.explain(training_set, 1.5, "value")
    with pytest.raises(lineament.Error):
        readings_client.explain(training_set, -1, "value")


def test_invalid_requests_say_how_to_mend_them(readings_client):
    message = message_of(lineament.InvalidRequest, lambda: readings_client.sql("SELECT value FRM reading WHERE"))
    assert "WHERE" in message or "reading" in message
    message = message_of(lineament.InvalidRequest, lambda: readings_client.replay("not an id"))
    assert "not an id" in message
    assert isinstance(pytest.raises(ValueError, readings_client.replay, "x").value, lineament.Error)


def test_definitions_name_file_and_line(readings_client, tmp_path):
    broken = readings.DEFINITIONS["reading.toml"].replace('type = "float64"', 'type = "flaot64"')
    message = message_of(
        lineament.InvalidRequest, lambda: readings_client.apply({**readings.DEFINITIONS, "reading.toml": broken})
    )
    assert "reading.toml:13" in message and "flaot64" in message and "float64" in message
    (tmp_path / "b.toml").write_text(broken)
    assert "b.toml" in message_of(lineament.InvalidRequest, lambda: readings_client.plan(tmp_path))
    (tmp_path / "b.toml").unlink()
    message_of(lineament.NotFound, lambda: readings_client.plan(tmp_path))
    message_of(lineament.NotFound, lambda: readings_client.plan(tmp_path / "nowhere"))
    message_of(lineament.InvalidRequest, lambda: readings_client.plan([]))
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe")
    message_of(lineament.InvalidRequest, lambda: readings_client.plan(tmp_path))


def test_refused_batches(readings_client):
    strict = (
        readings.DEFINITIONS["reading.toml"]
        .replace('name = "reading"', 'name = "hard"')
        .replace("ttl =", "reject_above = 0\nttl =")
    )
    readings_client.apply({"sensor.toml": readings.DEFINITIONS["sensor.toml"], "hard.toml": strict})
    wrong = readings.rows().set_column(3, "value", pyarrow.array([1.0] * 6 + [1e9]))
    message = message_of(lineament.Refused, lambda: readings_client.ingest("hard", wrong))
    assert "1 of 7 rows" in message and "value" in message and "1000000000" in message
    assert readings_client.sql("SELECT count(*) AS n FROM hard").to_arrow()["n"].to_pylist() == [0]


def test_forbidden_sql(readings_client):
    for sql in ("DROP TABLE reading", "INSERT INTO reading VALUES (1)", "COPY reading TO 'x.csv'", "SET a.b = 1"):
        message = message_of(lineament.Forbidden, lambda sql=sql: readings_client.sql(sql))
        assert "read" in message.lower()


def test_unavailable(tmp_path):
    message = message_of(lineament.Unavailable, lambda: lineament.connect("grpc://127.0.0.1:9"))
    assert "127.0.0.1:9" in message and "serve" in message
    server = Server(tmp_path / "store")
    client = lineament.connect(server.url)
    assert server.stop() == 0, server.said()
    assert server.url in message_of(lineament.Unavailable, client.status)
    message_of(lineament.Unavailable, lambda: client.sql("SELECT 1"))
    message_of(lineament.Unavailable, lambda: client.ingest("reading", readings.rows()))
    message_of(lineament.Unavailable, lambda: client.get_historical_features(readings.spine(), ["reading.value"]))


@pytest.fixture
def recorded(tmp_path):
    """A store with rows and a training set, and no server."""
    with Server(tmp_path / "store") as server, lineament.connect(server.url) as client:
        client.apply(readings.DEFINITIONS)
        client.ingest("reading", readings.rows())
        id = client.get_historical_features(readings.spine(), ["reading.value"]).id
    return tmp_path / "store", id


def test_damaged_data_is_named(recorded):
    store, id = recorded
    (data,) = [path for path in (store / "data").rglob("*.parquet")]
    whole = data.read_bytes()
    for damage in (whole[: len(whole) // 2], whole[:-1] + b"X", None):
        if damage is None:
            data.unlink()
        else:
            data.chmod(0o644)
            data.write_bytes(damage)
        with Server(store) as server, lineament.connect(server.url) as client:
            message = message_of(lineament.Damaged, lambda client=client: client.replay(id))
            assert data.name in message
            message_of(lineament.Damaged, lambda client=client: client.training_set(id))
            message_of(lineament.Damaged, lambda client=client: client.sql("SELECT * FROM reading"))


def test_a_changed_log_entry_is_named(recorded):
    store, _ = recorded
    entries = sorted((store / "log").glob("*.json"))
    entry = entries[2]
    parsed = json.loads(entry.read_bytes())
    entry.chmod(0o644)
    entry.write_text(json.dumps({**parsed, "principal": "somebody else"}))
    message = fails(store, "sql", "SELECT 1")
    assert str(parsed["sequence"]) in message and "log" in message


def test_folders_that_are_no_store(tmp_path):
    other = tmp_path / "photos"
    other.mkdir()
    (other / "holiday.txt").write_text("sun")
    message = fails(other, "serve", "--port", 0)
    assert "photos" in message
    assert sorted(path.name for path in other.iterdir()) == ["holiday.txt"]
    missing = tmp_path / "half"
    with Server(missing) as server:
        assert server.process.poll() is None
    shutil.rmtree(missing / "log")
    assert "half" in fails(missing, "sql", "SELECT 1") or not any(missing.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("values", "row", "value"),
    [
        ([1, 2, "three", 4], 2, "'three'"),
        (["a", "b", "c", 4], 3, "4"),
        ([{"a": 1}, [2], None, None], 1, "[2]"),
        ([None, 1, object, 2], 2, "<class 'object'>"),
    ],
)
def test_a_value_that_no_column_holds_is_named(client, values, row, value):
    frame = pandas.DataFrame({"fine": [1, 2, 3, 4], "mixed": pandas.Series(values, dtype=object)})
    for call in (client.ingest, lambda _, frame: client.get_historical_features(frame, ["reading.value"])):
        with pytest.raises(lineament.InvalidRequest) as raised:
            call("reading", frame)
        assert f"column `mixed`, row {row}: {value} is not of the type" in str(raised.value)
