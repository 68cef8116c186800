"""Clients that have no library of ours: plain pyarrow.flight and Flight SQL over ADBC, as docs/flight.md says."""

import json

import adbc_driver_flightsql.dbapi as flightsql
import log
import pyarrow
import pyarrow.flight as flight
import pytest
import readings

SQL = "SELECT sensor, value FROM reading WHERE sensor IN ('a', 'b') ORDER BY sensor, valid_at"
ANSWER = {"sensor": ["a", "a", "b"], "value": [1.0, 2.5, 5.0]}


@pytest.fixture(scope="module")
def plain(readings_client, server):
    with flight.connect(server.url) as connection:
        yield connection


def rows_of(connection, info) -> pyarrow.Table:
    assert len(info.endpoints) == 1
    return connection.do_get(info.endpoints[0].ticket).read_all()


def test_sql_as_a_command(plain):
    info = plain.get_flight_info(flight.FlightDescriptor.for_command(SQL))
    table = rows_of(plain, info)
    assert table.to_pydict() == ANSWER
    assert info.schema.names == table.schema.names and info.schema.types == table.schema.types
    schema = plain.get_schema(flight.FlightDescriptor.for_command(SQL)).schema
    assert schema.names == table.schema.names


def test_sql_as_a_ticket(plain):
    table = plain.do_get(flight.Ticket(json.dumps({"sql": SQL}))).read_all()
    assert table.to_pydict() == ANSWER


def test_a_view_as_a_path(plain):
    for path in ("reading", "reading@1"):
        info = plain.get_flight_info(flight.FlightDescriptor.for_path(path))
        table = rows_of(plain, info)
        assert table.num_rows == 4
        assert {"sensor", "valid_at", "value", "quality", "grade"} <= set(table.column_names)
        assert plain.get_schema(flight.FlightDescriptor.for_path(path)).schema.names == table.column_names


def test_views_are_listed(plain):
    listed = [info.descriptor.path for info in plain.list_flights()]
    assert [b"reading"] in listed


def test_rows_put_by_path(plain, readings_client):
    row = readings.rows().slice(3, 1)
    times = [readings.clock("15:00")]
    row = row.set_column(1, "measured_at", pyarrow.array(times, readings.INSTANT))
    row = row.set_column(2, "published_at", pyarrow.array(times, readings.INSTANT)).set_column(
        0, "sensor", pyarrow.array(["put"])
    )
    writer, answers = plain.do_put(flight.FlightDescriptor.for_path("reading"), row.schema)
    with writer:
        writer.write_table(row)
        writer.done_writing()
        answer = json.loads(answers.read().to_pybytes())
    assert (answer["view_version"], answer["rows"], answer["rejected"], answer["repeated"]) == (
        "reading@1",
        1,
        0,
        False,
    )
    assert answer.keys() == {
        "view_version", "batch", "sequence", "rows", "rejected", "filtered", "skipped_files", "refused_files", "repeated", "reasons", "examples", "judged", "quarantined", "mended"}  # fmt: skip
    stored = readings_client.sql("SELECT value FROM reading WHERE sensor = 'put'").to_arrow()
    assert stored["value"].to_pylist() == [5.0]


def test_historical_features_without_a_library(plain):
    command = {"historical_features": {"features": ["reading.value"], "record": False}}
    writer, reader = plain.do_exchange(flight.FlightDescriptor.for_command(json.dumps(command)))
    with writer:
        writer.begin(readings.spine().schema)
        writer.write_table(readings.spine())
        writer.done_writing()
        values, last = [], None
        for chunk in reader:
            if chunk.data is not None:
                values += chunk.data["value"].to_pylist() if chunk.data.num_rows else []
            last = chunk.app_metadata
    assert values == readings.VALUES
    report = json.loads(last.to_pybytes())
    assert (report["training_set"], report["rows"]) == (None, 13)
    assert {"digest", "sequence", "features", "views"} <= report.keys()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ({"historical_features": {"feature": ["reading.value"]}}, "`feature`"),
        ({"historical_features": {"features": ["reading.value"], "recorded": False}}, "`recorded`"),
        ({"historical": {}}, "`historical`"),
    ],
)  # fmt: skip
def test_unknown_members_are_refused_by_name(plain, command, message):
    with pytest.raises(pyarrow.ArrowInvalid, match=message):
        writer, reader = plain.do_exchange(flight.FlightDescriptor.for_command(json.dumps(command)))
        with writer:
            writer.begin(readings.spine().schema)
            writer.done_writing()
            reader.read_all()


def test_actions_are_listed_and_unknown_ones_named(plain):
    listed = {action.type for action in plain.list_actions()}
    assert {"lineament.plan", "lineament.apply", "lineament.replay", "lineament.explain", "lineament.status"} <= listed
    with pytest.raises(pyarrow.ArrowException, match="lineament.stats"):
        list(plain.do_action(flight.Action("lineament.stats", b"{}")))


def test_adbc(readings_client, server):
    with flightsql.connect(server.url) as connection, connection.cursor() as cursor:
        cursor.execute(SQL)
        assert cursor.fetch_arrow_table().to_pydict() == ANSWER
        cursor.execute('SELECT feature_view, "rows" FROM lineament.feature_views')
        assert cursor.fetchone()[0] == "reading"
        objects = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
        tables = {
            table["table_name"]
            for catalog in objects
            for schema in catalog["catalog_db_schemas"]
            for table in schema["db_schema_tables"]
        }
        assert {"reading", "batches"} <= tables
        with pytest.raises(Exception, match="did you mean `reading`"):
            cursor.execute("SELECT * FROM readin")


@pytest.mark.parametrize(
    ("sql", "answer"),
    [
        ("SELECT now() > TIMESTAMP '2024-01-01T00:00:00Z' AS x", True),
        ("SELECT current_date > DATE '2024-01-01' AS x", True),
        ("SELECT sum(value) AS x FROM reading WHERE sensor = 'a'", 3.5),
        ("SELECT count(*) AS x FROM history('reading') WHERE sensor = 'a'", 3),
        ("SELECT count(*) AS x FROM \"reading@1\" WHERE sensor = 'a'", 2),
        (
            "SELECT value AS x FROM historical_features((SELECT 'a' AS sensor, TIMESTAMP '2024-01-01T11:45:00Z' AS at), "
            "features => ['reading.value'])",
            2.0,
        ),
        (
            "SELECT r.value AS x FROM (SELECT 'a' AS sensor, TIMESTAMP '2024-01-01T11:45:00Z' AS t) s "
            "ASOF JOIN reading r MATCH_CONDITION (s.t >= r.valid_at) ON s.sensor = r.sensor",
            2.0,
        ),
    ],
)
def test_what_sql_can_ask(readings_client, sql, answer):
    assert readings_client.sql(sql).to_arrow()["x"].to_pylist() == [answer]


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE reading",
        "CREATE TABLE x AS SELECT 1",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "INSERT INTO reading VALUES (1)",
        "DELETE FROM reading",
        "COPY reading TO '/tmp/x.csv'",
        "SET datafusion.execution.batch_size = 1",
        "SELECT * FROM '/etc/passwd'",
    ],
)
def test_sql_only_reads(plain, readings_client, sql):
    before = log.writes(readings_client)
    for ask in (
        lambda: plain.do_get(flight.Ticket(json.dumps({"sql": sql}))).read_all(),
        lambda: plain.get_flight_info(flight.FlightDescriptor.for_command(sql)),
    ):
        with pytest.raises((flight.FlightUnauthorizedError, pyarrow.ArrowKeyError, pyarrow.ArrowInvalid)):
            ask()
    assert log.writes(readings_client) == before
