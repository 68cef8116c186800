"""A bucket: a real S3 server, moto's, with one bucket in it."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

STARTUP = 60


class Bucket:
    """An empty bucket, at `url`; while it is there, the environment says where."""

    url = "s3://features"

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._log = (folder / "moto.log").open("wb")
        self._before = dict(os.environ)
        endpoint = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=self._log, stderr=self._log
        )
        os.environ.update(
            AWS_ENDPOINT_URL=endpoint,
            AWS_ALLOW_HTTP="true",
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            AWS_REGION="us-east-1",
        )
        try:
            self._create(endpoint)
        except BaseException:
            self.__exit__()
            raise

    def _create(self, endpoint: str) -> None:
        end = time.monotonic() + STARTUP
        while True:
            try:
                create = urllib.request.Request(f"{endpoint}/features", method="PUT")
                urllib.request.urlopen(create, timeout=5).close()
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert self._process.poll() is None and time.monotonic() < end, "moto did not start"
                time.sleep(0.2)

    def stop(self) -> None:
        """The bucket is gone; what it held is too."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> "Bucket":
        return self

    def __exit__(self, *_: object) -> None:
        os.environ.clear()
        os.environ.update(self._before)
        self.stop()
        self._log.close()
