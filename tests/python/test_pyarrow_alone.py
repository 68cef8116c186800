"""The package depends on pyarrow alone: all that needs no other package works without one, and what needs one says so."""

import subprocess
import sys
import tomllib

from program import REPOSITORY


def test_with_nothing_else(server, tmp_path):
    done = subprocess.run(
        [sys.executable, REPOSITORY / "tests" / "python" / "pyarrow_alone.py", server.url, tmp_path / "set"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "done without\n"


def test_it_asks_for_nothing_else():
    with (REPOSITORY / "python" / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    assert project["dependencies"] == ["pyarrow>=17"]
    # What an error tells to install is there to be installed.
    assert {"pandas", "polars", "numpy", "torch", "mlflow"} <= set(project["optional-dependencies"])
