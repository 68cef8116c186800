"""Polars and DuckDB, which read what ADBC's driver brings them."""

import adbc_driver_flightsql.dbapi as flightsql
import duckdb
import polars
import pytest
import readings

SQL = "SELECT sensor, valid_at, value, quality FROM reading WHERE sensor IN ('a', 'b') ORDER BY sensor, valid_at"


@pytest.fixture
def connection(readings_client, server):
    with flightsql.connect(server.url) as connection:
        yield connection


def test_polars(connection, readings_client):
    frame = polars.read_database(SQL, connection)
    assert frame.equals(readings_client.sql(SQL).to_polars())
    assert frame["quality"].dtype == polars.Int32
    one = polars.read_database("SELECT value FROM reading WHERE sensor = ?", connection, execute_options={"parameters": ["b"]})
    assert one["value"].to_list() == [5.0]


def test_polars_writes(connection, readings_client):
    row = polars.from_arrow(readings.rows().slice(3, 1)).with_columns(
        sensor=polars.lit("polars"), measured_at=polars.col("measured_at") + polars.duration(days=3),
        published_at=polars.col("published_at") + polars.duration(days=3),
    )  # fmt: skip
    assert row.write_database("reading", connection, engine="adbc", if_table_exists="append") == 1
    stored = readings_client.sql("SELECT value FROM reading WHERE sensor = 'polars'").to_arrow()
    assert stored["value"].to_pylist() == [5.0]


def test_duckdb(connection):
    with connection.cursor() as cursor, duckdb.connect() as database:
        cursor.execute(SQL)
        read = cursor.fetch_record_batch()
        database.register("reading", read)
        means = database.execute("SELECT sensor, avg(value) FROM reading GROUP BY sensor ORDER BY sensor").fetchall()
    assert means == [("a", 1.75), ("b", 5.0)]


def test_duckdb_features_of_its_own_rows(connection, readings_client):
    """What DuckDB has becomes the spine, and the features come back to it."""
    with connection.cursor() as cursor, duckdb.connect() as database:
        database.execute("CREATE TABLE labels AS SELECT 'a' AS sensor, TIMESTAMPTZ '2024-01-01 11:45:00+00' AS at, 7 AS label")
        spine = readings_client.keep_spine(database.execute("SELECT * FROM labels").to_arrow_table())
        cursor.execute(f"SELECT * FROM historical_features(spine => '{spine.digest}', features => ['reading.value'])")
        features = cursor.fetch_record_batch()
        assert database.execute("SELECT label, value FROM features").fetchall() == [(7, 2.0)]
