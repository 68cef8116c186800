"""The examples in the package's documentation run as they stand."""

import doctest
import importlib
import pkgutil
import shutil

import lineament
import pandas
import polars
import pyarrow.parquet
import pytest
from lineament.server import _stop_all as stop_all
from program import FLIGHTS, REPOSITORY, Server, binary

MODULES = [
    "lineament",
    *(module.name for module in pkgutil.walk_packages(lineament.__path__, "lineament.") if module.name != "lineament.feast.__main__"),
]


@pytest.fixture(scope="module")
def names(flights_store, tmp_path_factory):
    """What the examples take as given: a store with the flights, and no server but this on the usual port."""
    store = tmp_path_factory.mktemp("documented") / "store"
    shutil.copytree(flights_store, store)
    with Server(store) as server, lineament.connect(server.url) as client:
        flights = (
            pyarrow.parquet.read_table(FLIGHTS / "flights.parquet", columns=["origin", "tailnum", "at"])
            .slice(0, 1000)
            .to_pandas()
        )
        frame = pyarrow.parquet.read_table(FLIGHTS / "weather.parquet").to_pandas()
        training_set = client.get_historical_features(flights, ["weather.temp", "plane.seats"])
        yield {
            "lineament": lineament, "pandas": pandas, "polars": polars, "client": client, "flights": flights, "frame": frame,
            "training_set": training_set, "url": server.url, "features": str(FLIGHTS / "features"),
        }  # fmt: skip


def test_the_readme(tmp_path, monkeypatch):
    """The example of python/README.md, on a store of its own."""
    text = (REPOSITORY / "python" / "README.md").read_text()
    (example,) = [block.partition("```")[0] for block in text.split("```python\n")[1:]]
    (tmp_path / "testdata").symlink_to(REPOSITORY / "testdata")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINEAMENT_BIN", str(binary()))
    names = {}
    try:
        exec(compile(example, "README.md", "exec"), names)
    finally:
        stop_all()
    assert names["features"].shape[1] == 2
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == ["entity_origin.toml", "weather.toml"]


@pytest.mark.parametrize("module", MODULES)
def test_examples(names, module, monkeypatch):
    connect = lineament.connect
    monkeypatch.chdir(FLIGHTS)
    monkeypatch.setenv("LINEAMENT_BIN", str(binary()))
    monkeypatch.setattr(lineament, "connect", lambda url="", **options: connect(names["url"], **options))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(importlib.import_module(module), extraglobs=names, optionflags=flags, report=True)
    assert result.failed == 0
