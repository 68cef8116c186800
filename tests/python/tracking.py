"""The real MLflow server, on a port that stays its own when it is stopped and started again."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests

STARTUP = 120


class TrackingServer:
    """`mlflow server` over a SQLite file, as MLflow starts it where nobody says otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.database = f"sqlite:///{folder}/mlflow.db"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        assert self.process is None
        arguments = [
            "server",
            "--backend-store-uri",
            self.database,
            "--artifacts-destination",
            str(self.folder / "artifacts"),
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--workers",
            "1",
        ]
        with (self.folder / "server.log").open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *arguments],
                stdout=said,
                stderr=said,
                cwd=self.folder,
                env=environment(),
                start_new_session=True,
            )
        until = time.monotonic() + STARTUP
        while time.monotonic() < until:
            assert self.process.poll() is None, self.said()
            try:
                if requests.get(f"{self.uri}/health", timeout=1).status_code == 200:
                    return
            except requests.exceptions.RequestException:
                time.sleep(0.2)
        self.stop()
        raise AssertionError(f"MLflow did not start within {STARTUP} s: {self.said()}")

    def stop(self) -> None:
        """Ends the server and the workers that it started."""
        if self.process is None:
            return
        group = os.getpgid(self.process.pid)
        os.killpg(group, signal.SIGTERM)
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(group, signal.SIGKILL)
            self.process.wait(timeout=15)
        self.process = None

    def collect(self) -> str:
        """`mlflow gc`: what was deleted goes for good."""
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "mlflow",
                "gc",
                "--backend-store-uri",
                self.database,
                "--tracking-uri",
                self.uri,
                "--artifacts-destination",
                str(self.folder / "artifacts"),
            ],
            capture_output=True,
            text=True,
            timeout=300,
            env={**environment(), "MLFLOW_TRACKING_URI": self.uri},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def said(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")[-4000:]

    def __enter__(self) -> "TrackingServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def environment() -> dict[str, str]:
    """The environment without what a test, or whoever runs the tests, has set for MLflow's clients."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")} | {
        "MLFLOW_DISABLE_TELEMETRY": "true"
    }
