"""ADBC's Flight SQL driver, as Go programs, R, Polars and DuckDB use it."""

import threading
import time
from datetime import timedelta

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pyarrow
import pytest
import readings
from adbc_driver_flightsql import ConnectionOptions, DatabaseOptions

COOKIES = {DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true"}
LONG = "SELECT r.value, n.value FROM reading r CROSS JOIN generate_series(1, 100000000) n"


@pytest.fixture
def connection(readings_client, server):
    with flightsql.connect(server.url, db_kwargs=COOKIES) as connection:
        yield connection


@pytest.fixture
def cursor(connection):
    with connection.cursor() as cursor:
        yield cursor


def test_prepared_statements_take_parameters(cursor):
    sql = "SELECT count(*) AS n FROM reading WHERE sensor = ? AND value >= ?"
    for sensor, least, count in [("a", 2.0, 1), ("d", 0.0, 1), ("'; DROP TABLE reading", 0.0, 0)]:
        cursor.execute(sql, (sensor, least))
        assert cursor.fetchone() == (count,)
    cursor.adbc_prepare(sql)
    cursor.execute(sql, ("b", 5.0))
    assert cursor.fetchall() == [(1,)]
    # Before anything is bound it says which types it wants, and none where it does not care.
    told = cursor.adbc_prepare(sql)
    assert told is not None and told.types == [pyarrow.string(), pyarrow.float64()]
    told = cursor.adbc_prepare("SELECT ?, value FROM reading WHERE quality = ? LIMIT ?")
    assert told is not None and told.types == [pyarrow.null(), pyarrow.int32(), pyarrow.int64()]
    two = pyarrow.record_batch({"sensor": ["a", "b"], "least": [1.0, 1.0]})
    with pytest.raises(adbc_driver_manager.ProgrammingError, match="once a row"):
        cursor.execute(sql, two)
    # To the driver, a statement that is run many times is one that changes something.
    with pytest.raises(adbc_driver_manager.NotSupportedError, match="only read"):
        cursor.executemany(sql, [("a", 1.0), ("b", 1.0)])


def test_objects_with_their_columns_and_keys(connection):
    objects = connection.adbc_get_objects(depth="all", table_name_filter="reading").read_all().to_pylist()
    [catalog] = objects
    assert catalog["catalog_name"] == "store"
    [table] = [table for schema in catalog["catalog_db_schemas"] for table in schema["db_schema_tables"] or ()]
    assert (table["table_name"], table["table_type"]) == ("reading", "TABLE")
    columns = [column["column_name"] for column in table["table_columns"]]
    assert {"sensor", "valid_at", "value"} <= set(columns)
    assert connection.adbc_get_table_types() == ["TABLE", "VIEW"]
    schema = connection.adbc_get_table_schema("reading", db_schema_filter="default")
    assert schema.field("value").type == pyarrow.float64()
    with pytest.raises(adbc_driver_manager.Error):
        connection.adbc_get_table_schema("readin")


def test_what_the_server_says_of_itself(connection):
    info = connection.adbc_get_info()
    assert info["vendor_name"] == "Lineament"
    assert info["vendor_arrow_version"] and info["vendor_version"]
    assert (info.get("vendor_sql", True), info.get("vendor_substrait", False)) == (True, False)


def later(minutes: int, sensor: str) -> pyarrow.Table:
    row = readings.rows().slice(0, 1)
    for at, name in ((1, "measured_at"), (2, "published_at")):
        moved = [time + timedelta(days=1, minutes=minutes) for time in row[name].to_pylist()]
        row = row.set_column(at, name, pyarrow.array(moved, readings.INSTANT))
    return row.set_column(0, "sensor", pyarrow.array([sensor]))


def test_rows_are_ingested_into_a_view(cursor, readings_client):
    assert cursor.adbc_ingest("reading", later(0, "adbc"), mode="append") == 1
    assert cursor.adbc_ingest("reading", later(1, "adbc"), mode="create_append", db_schema_name="default") == 1
    count = readings_client.sql("SELECT count(*) AS n FROM reading WHERE sensor = 'adbc'").to_arrow()
    assert count["n"].to_pylist() == [2]
    for mode in ("create", "replace"):
        with pytest.raises(adbc_driver_manager.NotSupportedError, match="only append"):
            cursor.adbc_ingest("reading", later(2, "adbc"), mode=mode)
    with pytest.raises(adbc_driver_manager.Error, match="did you mean `reading`"):
        cursor.adbc_ingest("readin", later(2, "adbc"), mode="append")


def put_up(cursor, name: str, rows: pyarrow.Table, mode: str) -> None:
    """A temporary table. The driver takes up the cookie of a stream when that has ended, and loses it where it sees first that the call is
    over (docs/flight.md); what the server says is tested without it, in crates/server/src/tests/protocol_actions.rs."""
    for _ in range(20):
        assert cursor.adbc_ingest(name, rows, mode=mode, temporary=True) == rows.num_rows
        try:
            cursor.execute(f"SELECT count(*) FROM session.{name}")
        except adbc_driver_manager.ProgrammingError as error:
            assert "no table `session." in str(error)
        else:
            if cursor.fetchone() == (rows.num_rows,):
                return
    pytest.fail("the driver lost the cookie of a temporary table twenty times")


def test_a_temporary_table_is_a_spine_of_the_session(cursor, readings_client, server):
    put_up(cursor, "labels", readings.spine(), "create")
    cursor.execute("SELECT * FROM historical_features((SELECT * FROM session.labels), features => ['reading.value'])")
    rows = cursor.fetch_arrow_table()
    assert rows["value"].to_pylist() == readings.VALUES
    with pytest.raises(adbc_driver_manager.Error, match="replace it"):
        cursor.adbc_ingest("labels", readings.spine(), mode="create", temporary=True)
    put_up(cursor, "labels", readings.spine().slice(0, 2), "replace")
    with flightsql.connect(server.url, db_kwargs=COOKIES) as other, other.cursor() as elsewhere:
        with pytest.raises(adbc_driver_manager.Error, match="no table `session.labels`"):
            elsewhere.execute("SELECT count(*) FROM session.labels")


def test_options_of_the_session(connection, readings_client):
    name = ConnectionOptions.OPTION_SESSION_OPTION_PREFIX.value
    connection.adbc_connection.set_options(**{f"{name}run": "adbc-run", f"{name}experiment": "delays"})
    assert connection.adbc_connection.get_option(f"{name}run") == "adbc-run"
    assert (connection.adbc_current_catalog, connection.adbc_current_db_schema) == ("store", "default")
    with connection.cursor() as cursor:
        cursor.adbc_ingest("reading", later(3, "session"), mode="append")
    runs = readings_client.sql("SELECT run FROM lineament.log WHERE run LIKE '%adbc-run%'").to_arrow()
    assert runs.num_rows >= 1
    with pytest.raises(adbc_driver_manager.Error):
        connection.adbc_connection.set_options(**{f"{name}colour": "red"})


def test_a_query_is_cancelled(cursor):
    cursor.execute(LONG)
    reader = cursor.fetch_record_batch()
    next(reader)
    threading.Timer(0.2, cursor.adbc_cancel).start()
    started = time.monotonic()
    with pytest.raises((adbc_driver_manager.Error, pyarrow.ArrowException, OSError), match="(?i)cancel"):
        for _ in reader:
            pass
    assert time.monotonic() - started < 30


def test_statements_that_change_something_are_refused(cursor, connection):
    for sql in ("DELETE FROM reading", "CREATE TABLE x AS SELECT 1"):
        with pytest.raises(adbc_driver_manager.Error, match="only read"):
            cursor.execute(sql)
    with pytest.raises(adbc_driver_manager.Error, match="(?i)transaction"):
        connection.adbc_connection.set_autocommit(False)
