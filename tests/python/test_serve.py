"""A server of one's own: it answers when `serve` returns, and is gone with whoever started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lineament
import pytest
import readings
from lineament import server as servers
from program import binary


@pytest.fixture(autouse=True)
def program(monkeypatch):
    monkeypatch.setenv("LINEAMENT_BIN", str(binary()))


def gone(process: int, within: float = 20.0) -> bool:
    """Whether a process ends within so many seconds; one that is dead and not yet reaped has ended."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_store_is_made_served_and_kept(tmp_path):
    store = tmp_path / "store"
    with lineament.serve(store) as server:
        client = server.connect(experiment="own")
        client.apply(readings.DEFINITIONS)
        assert client.ingest("reading", readings.rows()).rejected == 0
        assert client.experiment == "own"
        assert server.running and str(store) in repr(server) and server.url in repr(server)
    assert not server.running
    assert "ended" in repr(server)
    with lineament.serve(store) as server:
        assert server.connect().sql("SELECT count(*) AS rows FROM reading").to_arrow()["rows"][0].as_py() > 0


def test_without_a_with_block(tmp_path):
    server = lineament.serve("memory://")
    other = lineament.serve("memory://")
    assert server.url != other.url
    client = server.connect()
    assert client.status()["sequence"] == 0
    server.stop()
    server.stop()
    with pytest.raises(lineament.Unavailable):
        client.status()
    with pytest.raises(lineament.Unavailable, match="has ended"):
        server.connect()
    assert other.connect().status()["sequence"] == 0
    other.stop()


PARENT = """
import lineament, os, sys, time
server = lineament.serve("memory://")
print(server.process.pid, server.url, flush=True)
{}
"""


def parent(then: str) -> tuple[subprocess.Popen, int, str]:
    process = subprocess.Popen([sys.executable, "-c", PARENT.format(then)], stdout=subprocess.PIPE, text=True)
    pid, url = process.stdout.readline().split()
    return process, int(pid), url


def test_it_ends_with_a_script_that_ends():
    process, pid, _ = parent("")
    assert process.wait(30) == 0
    assert gone(pid)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_with_a_killed_parent(how):
    process, pid, url = parent("time.sleep(600)")
    with lineament.connect(url) as client:
        assert client.status()["sequence"] == 0
    process.send_signal(how)
    process.wait(30)
    assert gone(pid), f"server {pid} outlived its parent"


def test_it_ends_with_a_parent_that_crashes():
    process, pid, _ = parent("os.abort()")
    assert process.wait(30) != 0
    assert gone(pid)


def test_a_fork_neither_stops_it_nor_keeps_it():
    process, pid, _ = parent(
        "child = os.fork()\n"
        "if child == 0:\n"
        "    server.stop()\n"
        "    time.sleep(600)\n"
        "assert server.connect().status()['sequence'] == 0\n"
        "print(child, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    child = int(process.stdout.readline())
    process.wait(30)
    try:
        assert gone(pid), "the fork kept the server"
    finally:
        os.kill(child, signal.SIGKILL)


def test_an_interrupt_at_the_keyboard_is_not_for_it():
    script = """
import lineament, os, signal, sys, time
server = lineament.serve("memory://")
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)
    print(server.connect().status()["sequence"], flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stdout.readline() == "ready\n"
    os.killpg(child.pid, signal.SIGINT)
    assert child.communicate(timeout=60)[0] == "0\n" and child.returncode == 0


def test_what_keeps_it_from_starting_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no store")
    with pytest.raises(lineament.Unavailable, match="ended before it listened: .*file"):
        lineament.serve(tmp_path / "file")
    with pytest.raises(lineament.Unavailable, match="--no-such-option"):
        lineament.serve("memory://", arguments=["--no-such-option"])
    with lineament.serve("memory://") as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(lineament.Unavailable, match="ended before it listened"):
            lineament.serve("memory://", port=port)
    monkeypatch.setenv("LINEAMENT_BIN", str(tmp_path / "nowhere"))
    with pytest.raises(lineament.NotFound, match="LINEAMENT_BIN names .*nowhere"):
        lineament.serve("memory://")


def test_where_the_program_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("LINEAMENT_BIN")
    scripts = tmp_path / "scripts"
    monkeypatch.setattr(servers.sysconfig, "get_path", lambda name: str(scripts))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    with pytest.raises(lineament.NotFound, match="make wheel"):
        servers.binary()
    for folder in (tmp_path / "path", scripts):
        folder.mkdir()
        (folder / "lineament").write_text("#!/bin/sh\n")
        (folder / "lineament").chmod(0o755)
        assert servers.binary() == folder / "lineament"


def test_options_reach_it(tmp_path):
    with lineament.serve(
        tmp_path / "store", memory_limit="64M", arguments=["--reconcile-every", "never"]
    ) as server:
        client = server.connect()
        with pytest.raises(lineament.InvalidRequest, match="memory"):
            client.sql("SELECT array_agg(value) FROM generate_series(1, 20000000)")
