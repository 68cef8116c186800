"""The real program: run as a command, or kept running as a server."""

import fcntl
import os
import pty
import queue
import struct
import subprocess
import termios
import threading
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FLIGHTS = REPOSITORY / "testdata" / "nycflights13"
STARTUP = 60


def binary() -> Path:
    # A relative path is one of the repository, wherever a test has gone.
    path = REPOSITORY / os.environ.get("LINEAMENT_BIN", "target/quick/lineament")
    assert path.exists(), f"there is no {path}; build it with `make build`, or name it by LINEAMENT_BIN"
    return path


def command(store: Path, *arguments: object) -> list[str]:
    return [str(binary()), "--store", str(store), *map(str, arguments)]


def run(store: Path, *arguments: object) -> str:
    """Runs a verb to its end and gives what it printed."""
    done = subprocess.run(command(store, *arguments), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{' '.join(map(str, arguments))}: {done.stdout}{done.stderr}"
    return done.stdout


def fails(store: Path, *arguments: object) -> str:
    """Runs a verb that must fail, and gives what it said."""
    done = subprocess.run(command(store, *arguments), capture_output=True, text=True, timeout=600)
    assert done.returncode != 0, f"{' '.join(map(str, arguments))} did not fail: {done.stdout}"
    assert "panicked" not in done.stderr, done.stderr
    return done.stderr


def watched(store: Path, *arguments: object) -> tuple[str, str]:
    """Runs a verb to its end where a person watches: gives what it printed, and what the terminal got that is its standard error."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with subprocess.Popen(
        command(store, *arguments), stdout=subprocess.PIPE, stderr=terminal, text=True, env={**os.environ, "TERM": "xterm"}
    ) as process:
        os.close(terminal)
        shown = b""
        try:
            while part := os.read(screen, 1 << 16):
                shown += part
        except OSError:
            # As Linux says that nobody writes to the terminal any more.
            pass
        finally:
            os.close(screen)
        printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, f"{' '.join(map(str, arguments))}: {printed}{shown!r}"
    return printed, shown.decode()


class Server:
    """`lineament serve`, on a port of its own choice where none is given."""

    def __init__(self, store: Path, *arguments: object, port: int = 0) -> None:
        self.store = store
        # Where metrics and health are asked for, with `--http`.
        self.http: str | None = None
        self.process = subprocess.Popen(
            command(store, "serve", "--port", port, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        lines: queue.Queue[str] = queue.Queue()
        self._said: list[str] = []
        threading.Thread(target=self._listen, args=(self.process.stdout, lines), daemon=True).start()
        threading.Thread(target=self._listen, args=(self.process.stderr, None), daemon=True).start()
        self.url = self._wait(lines)

    def _listen(self, stream, lines) -> None:
        for line in stream:
            self._said.append(line)
            if lines is not None:
                lines.put(line)
        if lines is not None:
            lines.put("")

    def _wait(self, lines) -> str:
        while True:
            try:
                line = lines.get(timeout=STARTUP)
            except queue.Empty:
                self.kill()
                raise AssertionError(f"the server did not start within {STARTUP} s: {self.said()}") from None
            if line.startswith("metrics and health on "):
                self.http = line.removeprefix("metrics and health on ").strip()
            if line.startswith("listening on "):
                return line.removeprefix("listening on ").strip()
            if line == "":
                self.kill()
                raise AssertionError(f"the server ended before it listened: {self.said()}")

    def said(self) -> str:
        return "".join(self._said)

    def stop(self) -> int:
        """Ends it as a service manager would, and gives its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("the server did not stop within 20 s of being asked to") from None

    def kill(self) -> None:
        """Ends it as the kernel would when memory is short."""
        self.process.kill()
        self.process.wait(timeout=20)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
