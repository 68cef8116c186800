"""Feast's lineage server, as `feast serve_lineage` starts it, in an interpreter of its own: it wants another pandas than we do."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import requests
from program import REPOSITORY

STARTUP = 120

SETTINGS = """
project: shop
provider: local
registry: registry.db
online_store:
  type: sqlite
  path: online.db
entity_key_serialization_version: 3
openlineage:
  enabled: false
  consumer:
    enabled: true
    connection_string: sqlite:///{database}
    retention_days: 0
"""

# Its address of a dataset's columns has the namespace as one step of a path, and so takes none with slashes, which
# OpenLineage's namespaces have. What stands behind that address is asked instead.
COLUMNS = """
import json, sys
from feast.openlineage.store import OpenLineageStore
store = OpenLineageStore(connection_string=sys.argv[1])
datasets = json.loads(sys.argv[2])
json.dump([store.get_column_lineage(*dataset, "upstream") for dataset in datasets], sys.stdout)
"""


def binaries() -> Path:
    folder = REPOSITORY / ".venv-feast" / "bin"
    assert (folder / "feast").exists(), f"there is no Feast in {folder}; make it with `make .venv-feast/.made`"
    return folder


class FeastConsumer:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.database = f"sqlite:///{folder}/lineage.db"
        (folder / "feature_store.yaml").write_text(SETTINGS.format(database=folder / "lineage.db"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        arguments = ["serve_lineage", "--host", "127.0.0.1", "--port", str(self.port)]
        with (folder / "server.log").open("wb") as said:
            self.process = subprocess.Popen(
                [binaries() / "feast", *arguments], cwd=folder, stdout=said, stderr=said, start_new_session=True
            )
        until = time.monotonic() + STARTUP
        while time.monotonic() < until:
            assert self.process.poll() is None, self.said()
            try:
                self.ask("jobs")
                return
            except requests.exceptions.ConnectionError:
                time.sleep(0.2)
        self.stop()
        raise AssertionError(f"Feast did not start within {STARTUP} s: {self.said()}")

    def said(self) -> str:
        return (self.folder / "server.log").read_text()

    def ask(self, what: str, **parameters: object) -> dict:
        answer = requests.get(f"{self.address}/api/v1/lineage/openlineage/{what}", params=parameters, timeout=30)
        assert answer.status_code == 200, f"{what}: {answer.status_code} {answer.text}"
        return answer.json()

    def columns(self, datasets: list[tuple[str, str]]) -> list[list[dict]]:
        """Of each of these, by namespace and name, what its columns come from."""
        arguments = [binaries() / "python", "-c", COLUMNS, self.database, json.dumps(datasets)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(timeout=20)
