"""Alerts to a real receiver that fails now and then, hangs, and is down for a while, while servers are killed: each cause once."""

import http.server
import json
import os
import subprocess
import threading
import time

import lineament
import pytest
import readings
from lineament.alerts import NotSigned, verify
from program import Server, command, fails, run

KEY = "0123456789abcdef-the-key-of-the-test"
TOKEN = "a-part-of-the-address-that-is-a-secret"
WAIT = 60
QUALITY = """
[quality]
on_fail = "quarantine"
least_rows = 5
[quality.checks]
wasserstein = { warn = 1, fail = 3 }
volume = {}
"""


class Receiver:
    """A webhook on a port that it keeps, up or down. `answers`: what it does with the next messages, else it takes them."""

    def __init__(self) -> None:
        self.taken: list[dict] = []
        #: Alert and attempt of every message that came, taken or not.
        self.came: list[tuple[str, int]] = []
        self.answers: list[object] = []
        self.faults: list[str] = []
        self.released = threading.Event()
        self.port = 0
        self.up()

    def up(self) -> None:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.handle(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def down(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def handle(self, request: http.server.BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        try:
            alert = verify(body, request.headers["lineament-signature"], KEY)
        except NotSigned as why:
            self.faults.append(str(why))
            return request.send_error(401)
        if alert["alert"] != request.headers["lineament-alert"] or request.path != f"/in/{TOKEN}":
            self.faults.append(f"{request.path} {dict(request.headers)}")
        self.came.append((alert["alert"], int(request.headers["lineament-attempt"])))
        answer = self.answers.pop(0) if self.answers else 200
        if answer == "hang":
            self.released.wait(WAIT)
            return None
        if answer in (200, "take and hang"):
            self.taken.append(alert)
        if answer == "take and hang":
            self.released.wait(WAIT)
            return None
        request.send_response(answer)
        request.send_header("content-length", "0")
        request.end_headers()
        return None

    def ids(self) -> list[str]:
        return [alert["alert"] for alert in self.taken]


@pytest.fixture
def receiver(monkeypatch):
    receiver = Receiver()
    monkeypatch.setenv("ALERTS_KEY", KEY)
    monkeypatch.setenv("ALERTS_URL", f"http://127.0.0.1:{receiver.port}/in/{TOKEN}")
    yield receiver
    receiver.released.set()
    receiver.down()
    assert receiver.faults == []


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "alerts.toml"
    path.write_text(
        """
every = "1s"
[[sinks]]
name = "on_call"
type = "webhook"
url_env = "ALERTS_URL"
secret_env = "ALERTS_KEY"
timeout = "1s"
[[sinks]]
name = "log"
type = "log"
[[rules]]
name = "reading_fails"
on = "check"
sinks = ["on_call", "log"]
"""
    )
    return path


def definitions() -> dict[str, str]:
    return {**readings.DEFINITIONS, "reading.toml": readings.DEFINITIONS["reading.toml"] + QUALITY}


def batch(day: int, shift: float):
    import pyarrow

    at = [f"2024-01-{1 + day // 24:02}T{day % 24:02}:{minute:02}:00" for minute in range(20)]
    at = pyarrow.array(at).cast(pyarrow.timestamp("us")).cast(readings.INSTANT)
    return pyarrow.table(
        {
            "sensor": ["a"] * 20,
            "measured_at": at,
            "published_at": at,
            "value": [float(number % 5) + shift for number in range(20)],
            "quality": pyarrow.array([1] * 20, pyarrow.int32()),
            "grade": ["good"] * 20,
        }
    )


class Story:
    """A store whose bad batches are counted."""

    def __init__(self, folder, rules) -> None:
        self.store, self.rules, self.batches, self.bad = folder / "store", rules, 0, 0
        with Server(self.store) as server, lineament.connect(server.url) as client:
            client.apply(definitions())
            # Good ones, so that bad ones stand out; what was before the rules raises nothing.
            for _ in range(3):
                self.ingest(client, 0)
            self.ingest(client, 60)
            self.bad = 0

    def ingest(self, client, shift: float) -> None:
        report = client.ingest("reading", batch(self.batches, shift))
        assert report.judged["verdict"] == ("fail" if shift else "pass"), report
        self.batches += 1
        self.bad += 1 if shift else 0

    def server(self) -> Server:
        return Server(self.store, "--alerts", self.rules)

    def rows(self, where: str = "true") -> list[dict]:
        with Server(self.store) as server, lineament.connect(server.url) as client:
            return client.sql(f"SELECT * FROM lineament.alerts WHERE {where}").to_arrow().to_pylist()


def until(condition, what: str, patience: float = WAIT) -> None:
    ends = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < ends, f"{what} did not happen within {patience} s"
        time.sleep(0.05)


def begun(client) -> bool:
    """Whether the rules were asked for the first time."""
    return bool(client.sql("SELECT 1 FROM lineament.log WHERE records LIKE '%alerts_raised%'").num_rows)


def test_each_cause_once_whatever_fails(tmp_path, receiver, rules):
    story = Story(tmp_path, rules)
    with story.server() as server, lineament.connect(server.url) as client:
        until(lambda: begun(client), "the first look")
        # It fails now and then: refuses, is silent longer than the timeout, and is busy.
        receiver.answers = [500, 200, "hang", 503, 200, 200, 500]
        for _ in range(4):
            story.ingest(client, 60)
            story.ingest(client, 0)
        until(lambda: len(receiver.taken) == 4, "four alerts")
        receiver.released.set()
        receiver.released = threading.Event()
        # Down for a while, and then the server is killed.
        receiver.down()
        for _ in range(3):
            story.ingest(client, 60)
        waiting = "SELECT alert, status, attempts, why FROM lineament.alerts WHERE sink = 'on_call' AND status <> 'delivered'"
        until(lambda: client.sql(waiting).num_rows == 3, "three that wait")
        until(lambda: client.sql(waiting + " AND attempts >= 2").num_rows >= 1, "a second attempt")
        failed = client.sql(waiting + " AND status = 'failed'").to_arrow().to_pylist()
        assert all("refused" in row["why"].lower() or "connect" in row["why"].lower() for row in failed), failed
        assert all(TOKEN not in row["why"] for row in failed)
        assert server.said().count("ALERT reading@1: batch ") == 7
        server.kill()
    assert run(story.store, "alerts", "list", "--open").count("reading_fails") == 3
    # Killed in the midst of attempts that are not answered, again and again.
    receiver.up()
    for _ in range(2):
        receiver.answers = ["hang"]
        came = len(receiver.came)
        with story.server() as server, lineament.connect(server.url) as client:
            story.ingest(client, 60)
            until(lambda: len(receiver.came) > came, "an attempt")
            server.kill()
        receiver.released.set()
        receiver.released = threading.Event()
    receiver.answers = [500]
    with story.server() as server, lineament.connect(server.url) as client:
        until(lambda: len(receiver.taken) >= story.bad, "all")
        story.ingest(client, 60)
        until(lambda: len(receiver.taken) >= story.bad, "the last")
        time.sleep(3)
        assert server.stop() == 0
    assert story.bad == 10
    assert len(receiver.ids()) == len(set(receiver.ids())) == story.bad
    batches = [alert["details"]["batch"] for alert in receiver.taken]
    assert len(set(batches)) == story.bad, "one alert a batch"
    rows = story.rows()
    assert {row["status"] for row in rows} == {"delivered"} and len(rows) == 2 * story.bad
    # Whoever starts again has nothing to send.
    with story.server() as server, lineament.connect(server.url) as client:
        client.ingest("reading", batch(story.batches, 0))
        time.sleep(3)
    assert len(receiver.taken) == story.bad
    # No secret lies in the store.
    for folder, _, names in os.walk(story.store):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                content = file.read()
            assert KEY.encode() not in content and TOKEN.encode() not in content, name


def test_two_servers_that_are_killed_in_turn(tmp_path, receiver, rules):
    story = Story(tmp_path, rules)
    servers = [story.server(), story.server()]
    try:
        with lineament.connect(servers[0].url) as client:
            until(lambda: begun(client), "the first look")
        for turn in range(6):
            with lineament.connect(servers[turn % 2].url) as client:
                receiver.answers = [500] if turn % 2 else []
                story.ingest(client, 60)
                story.ingest(client, 60)
                until(lambda: len(receiver.taken) >= story.bad - 1, "most of them")
                # Between attempts, as far as one can tell: what was taken is on record.
                delivered = "SELECT 1 FROM lineament.alerts WHERE sink = 'on_call' AND status = 'delivered'"
                until(lambda: client.sql(delivered).num_rows == len(receiver.taken), "the record of them")
            servers[turn % 2].kill()
            servers[turn % 2] = story.server()
        until(lambda: len(receiver.taken) >= story.bad, "all of them")
        time.sleep(2)
    finally:
        for server in servers:
            server.kill()
    assert story.bad == 12 and sorted(receiver.ids()) == sorted(set(receiver.ids())) and len(receiver.ids()) == 12


def test_what_nobody_knows_the_outcome_of_comes_again_and_says_so(tmp_path, receiver, rules):
    """The one exception: the receiver took it, and the server died before that was on record."""
    story = Story(tmp_path, rules)
    with story.server() as server, lineament.connect(server.url) as client:
        until(lambda: begun(client), "the first look")
        receiver.answers = ["take and hang"]
        story.ingest(client, 60)
        until(lambda: len(receiver.taken) == 1, "the first")
        server.kill()
    with story.server():
        until(lambda: len(receiver.taken) == 2, "the second")
        time.sleep(2)
    (first, second) = receiver.taken
    assert first == second, "the same body, and the same id"
    assert receiver.came == [(first["alert"], 1), (first["alert"], 2)]


def test_without_a_server(tmp_path, receiver, rules):
    story = Story(tmp_path, rules)
    assert run(story.store, "alerts", "check", rules) == "reading_fails: check, to on_call, log\n"
    assert run(story.store, "alerts", "run", rules) == "0 raised, 0 delivered, 0 still to be delivered\n"
    with Server(story.store) as server, lineament.connect(server.url) as client:
        story.ingest(client, 60)
    receiver.answers = [400, 200]
    done = subprocess.run(
        command(story.store, "alerts", "run", rules, "--patience", "1s"), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (3, "1 raised, 1 delivered, 1 still to be delivered\n"), done
    assert "ALERT reading@1: batch " in done.stderr and "it answered 400 Bad Request" in done.stderr
    (row,) = story.rows("status = 'failed'")
    assert (row["sink"], row["why"], row["condition"], row["feature_view"]) == (
        "on_call", "it answered 400 Bad Request", "check", "reading",
    )  # fmt: skip
    assert json.loads(row["details"])["findings"][0]["measure"] == "wasserstein"
    said = run(story.store, "alerts", "drop", row["alert"], "--reason", "seen")
    assert said.startswith(f"alert {row['alert']} need not be delivered to 1 sinks"), said
    assert run(story.store, "alerts", "run", rules) == "0 raised, 0 delivered, 0 still to be delivered\n"
    assert "nowhere on its way" in fails(story.store, "alerts", "drop", row["alert"], "--reason", "again")


def test_mistakes(tmp_path, rules, monkeypatch):
    store = tmp_path / "store"
    monkeypatch.delenv("ALERTS_KEY", raising=False)
    monkeypatch.setenv("ALERTS_URL", "http://127.0.0.1:1/")
    said = fails(store, "serve", "--port", 0, "--alerts", rules)
    assert "the sink `on_call`: the environment variable ALERTS_KEY is not set" in said
    rules.write_text(rules.read_text().replace('on = "check"', 'on = "chek"'))
    line = rules.read_text().splitlines().index('on = "chek"') + 1
    said = fails(store, "serve", "--port", 0, "--alerts", rules)
    assert f"{rules}:{line}:6: " in said and "did you mean `check`?" in said, said
    said = fails(store, "alerts", "check", tmp_path / "none.toml")
    assert "none.toml" in said
