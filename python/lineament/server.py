"""A server of one's own, for as long as a notebook, a script or a test runs."""

from __future__ import annotations

import atexit
import collections
import os
import queue
import shutil
import subprocess
import sysconfig
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from .client import Client, connect
from .errors import NotFound, Unavailable

#: How long a server may take to open its store, in seconds.
_STARTUP = 60.0
#: How long it may take to end once it is asked to, in seconds; it finishes what it is writing.
_ENDING = 20.0
#: How many lines of what it said are kept for errors.
_LINES = 200
_LISTENING = "listening on "


def binary() -> Path:
    """The `lineament` program: the one that `LINEAMENT_BIN` names, that came with this package, or that is on
    the `PATH`.

    Raises `NotFound` where there is none.
    """
    named = os.environ.get("LINEAMENT_BIN")
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise NotFound(
                f"LINEAMENT_BIN names {path}, where there is no program; mend it or leave it unset"
            )
        return path.resolve()
    program = "lineament.exe" if os.name == "nt" else "lineament"
    bundled = Path(sysconfig.get_path("scripts")) / program
    if bundled.is_file():
        return bundled
    found = shutil.which(program)
    if found is None:
        raise NotFound(
            "there is no `lineament` program beside this package or on the PATH; install the wheel that "
            "`make wheel` builds, "
            "put the program on the PATH, or name it by LINEAMENT_BIN"
        )
    return Path(found)


def serve(
    store: str | os.PathLike[str],
    *,
    port: int = 0,
    memory_limit: str | None = None,
    arguments: Sequence[str] = (),
    timeout: float = _STARTUP,
) -> Server:
    """Starts a server over a store, which is made where there is none, and returns once it answers.

    It listens on loopback alone, and ends with `stop()`, with the `with` block, or with this process, however
    that ends.

    - `store`: a folder, or `file://`, `s3://`, `gs://`, `az://` or `memory://`.
    - `port`: any that is free where left out.
    - `memory_limit`: what all its queries together may hold, as `"512M"`; half of the machine's memory where
      left out.
    - `arguments`: more of what `lineament serve --help` lists.
    - `timeout`: how long it may take to start, in seconds.

    Raises `NotFound` where there is no `lineament` program, `Unavailable` with what the program said where it
    does not start.

    >>> with lineament.serve("memory://") as server:
    ...     client = server.connect()
    ...     client.status()["sequence"]
    0
    """
    command = [str(binary()), "--store", os.fspath(store), "serve", "--port", str(port), "--until-stdin-ends"]
    if memory_limit is not None:
        command += ["--memory-limit", memory_limit]
    return Server(command + [str(argument) for argument in arguments], os.fspath(store), timeout)


class Server:
    """A running `lineament serve`; `lineament.serve` makes one."""

    def __init__(self, command: Sequence[str], store: str, timeout: float = _STARTUP) -> None:
        #: The store that is served.
        self.store = store
        self._owner = os.getpid()
        self._said: collections.deque[str] = collections.deque(maxlen=_LINES)
        self._clients: list[Client] = []
        # The server ends where its standard input does, which the system closes with this process, also a
        # killed one.
        self.process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            # An interrupt at the keyboard is for what runs here.
            start_new_session=True,
        )  # fmt: skip
        _RUNNING.add(self)
        lines: queue.Queue[str | None] = queue.Queue()
        self._listeners = [
            threading.Thread(target=self._listen, args=(stream, taker), daemon=True)
            for stream, taker in ((self.process.stdout, lines), (self.process.stderr, None))
        ]
        for listener in self._listeners:
            listener.start()
        try:
            #: The server's address, `grpc://127.0.0.1:<port>`.
            self.url = self._wait(lines, timeout)
        except BaseException:
            self.stop()
            raise

    def connect(self, *, run: Any = None, experiment: str | None = None, **options: Any) -> Client:
        """A client of this server, as `lineament.connect` makes one; it is closed with the server."""
        if not self.running:
            raise Unavailable(f"the server at {self.url} has ended; start another with lineament.serve")
        client = connect(self.url, run=run, experiment=experiment, **options)
        self._clients.append(client)
        return client

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def said(self) -> str:
        """The last lines that it printed: its log is on standard error, and `LINEAMENT_LOG=info` makes it say
        more."""
        return "".join(self._said)

    def stop(self) -> None:
        """Ends the server; streams that are open are finished first. Does nothing where it has ended, and in
        a forked process."""
        if self._owner != os.getpid():
            return
        _RUNNING.discard(self)
        for client in self._clients:
            client.close()
        self._clients.clear()
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_ENDING)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(_ENDING)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = self.url if self.running else "ended"
        return f"<lineament.Server {self.store} {state}>"

    def _listen(self, stream: IO[str], lines: queue.Queue[str | None] | None) -> None:
        with stream:
            for line in stream:
                self._said.append(line)
                if lines is not None:
                    lines.put(line)
        if lines is not None:
            lines.put(None)

    def _wait(self, lines: queue.Queue[str | None], timeout: float) -> str:
        while True:
            try:
                line = lines.get(timeout=timeout)
            except queue.Empty:
                raise Unavailable(
                    f"the server over {self.store} did not start within {timeout:g} s{self._words()}"
                ) from None
            if line is None:
                self.process.wait(_ENDING)
                # Its last words may still be on their way.
                for listener in self._listeners:
                    listener.join(_ENDING)
                raise Unavailable(f"the server over {self.store} ended before it listened{self._words()}")
            if line.startswith(_LISTENING):
                return line.removeprefix(_LISTENING).strip()

    def _words(self) -> str:
        said = self.said().strip()
        return f": {said}" if said else ""

    def _forked(self) -> None:
        """In a forked process: the server is the parent's, so that it must not live as long as the child."""
        if self.process.stdin is not None:
            self.process.stdin.close()


_RUNNING: weakref.WeakSet[Server] = weakref.WeakSet()


def _stop_all() -> None:
    for server in list(_RUNNING):
        server.stop()


def _leave_all() -> None:
    for server in list(_RUNNING):
        server._forked()
    _RUNNING.clear()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)
