"""Killed at any moment: what was acknowledged is there, nothing is there by half, and a new process answers within a second.
`LINEAMENT_KILLS` asks for more kills than an ordinary run has."""

import json
import random
import subprocess
import threading
import time
from pathlib import Path

import lineament
import pyarrow
import pyarrow.parquet
import pytest
from kills import KILLS, Reopenings, seeds
from program import Server, command, run

ROWS = 2_000
DEFINITIONS = {
    "meter.toml": 'kind = "entity"\nname = "meter"\n[[keys]]\nname = "meter"\ntype = "int64"\n',
    "tick.toml": """
kind = "feature_view"
name = "tick"
entity = "meter"

[time]
valid_at = "time"
known_at = "arrival"

[[features]]
name = "delivery"
type = "int64"

[[features]]
name = "value"
type = "float64"
range = [0, 1e6]

[source]
files = "deliveries/*.parquet"
""",
}


def delivery(number: int) -> pyarrow.Table:
    """Rows that no other delivery has; the last is out of range."""
    times = pyarrow.array([(number * ROWS + row) * 1_000_000 for row in range(ROWS)], pyarrow.timestamp("us", "UTC"))
    values = pyarrow.array([float(row) for row in range(ROWS - 1)] + [-1.0])
    return pyarrow.table(
        {"meter": [row % 7 for row in range(ROWS)], "time": times, "delivery": [number] * ROWS, "value": values}
    )


def check(store: Path, acknowledged: set[int], possible: set[int], reopenings: Reopenings) -> set[int]:
    """Opens the store anew. Every delivery is whole or absent, the acknowledged ones are whole, and log, batches, quarantine
    and rows agree. Gives the deliveries that are there."""
    with reopenings.server(store) as server, lineament.connect(server.url) as client:
        counts = client.sql(
            "SELECT delivery, count(*) AS n, sum(value) AS total FROM history('tick') GROUP BY delivery"
        )
        for counted in counts.to_arrow().to_pylist():
            assert (counted["n"], counted["total"]) == (ROWS - 1, float(sum(range(ROWS - 1)))), counted
        visible = set(counts.to_arrow()["delivery"].to_pylist())
        assert acknowledged <= visible <= possible
        batches = client.sql("""SELECT batch, status, "rows", rejected FROM lineament.batches""").to_arrow().to_pylist()
        assert sum(batch["rows"] for batch in batches) == len(visible) * (ROWS - 1)
        assert sum(batch["rejected"] for batch in batches) == len(visible)
        assert {batch["status"] for batch in batches} <= {"committed"}
        log = client.sql("SELECT sequence, records FROM lineament.log ORDER BY sequence").to_arrow()
        first = log["sequence"][0].as_py()
        assert log["sequence"].to_pylist() == list(range(first, first + log.num_rows))
        assert sum("batch" in records for records in log["records"].to_pylist()) == len(batches)
        rejected = client.sql("SELECT DISTINCT batch FROM lineament.rejected_rows").to_arrow()["batch"].to_pylist()
        assert sorted(rejected) == sorted(batch["batch"] for batch in batches)
    whole(store, len(batches))
    return visible


def whole(store: Path, batches: int) -> None:
    """The whole store is what was written: log, checkpoints, manifests, every block and row. What a kill left is an orphan."""
    found = json.loads(run(store, "verify", "--full", "--format", "json"))
    assert found["faults"] == [], found["faults"]
    assert found["batches"] == batches


def orphans(store: Path) -> int:
    """Data files that were staged and never committed."""
    with Server(store) as server, lineament.connect(server.url) as client:
        named = set(client.sql("SELECT DISTINCT file FROM history('tick')").to_arrow()["file"].to_pylist())
    return len({str(file.relative_to(store)) for file in (store / "data").rglob("*.parquet")} - named)


@pytest.mark.parametrize("seed", seeds(1))
def test_ingest_on_the_command_line(tmp_path, seed):
    """A scheduler's command, killed at random moments and begun again. It takes what the source has and the view has not."""
    folder, store = tmp_path / "features", tmp_path / "store"
    (folder / "deliveries").mkdir(parents=True)
    for name, text in DEFINITIONS.items():
        (folder / name).write_text(text)
    run(store, "apply", folder)

    def deliver(number: int) -> None:
        pyarrow.parquet.write_table(delivery(number), folder / "deliveries" / f"{number}.parquet")

    deliver(0)
    started = time.monotonic()
    run(store, "ingest", "tick")
    usual = time.monotonic() - started
    moments, reopenings = random.Random(seed), Reopenings()
    acknowledged, delivered, kills, landed = {0}, {0}, 0, 0
    # Some more where chance has it that none fell between staging and committing.
    while kills < KILLS["ingest"] or orphans(store) == 0 and kills < 3 * KILLS["ingest"]:
        number = len(delivered)
        deliver(number)
        delivered.add(number)
        process = subprocess.Popen(command(store, "ingest", "tick"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        # From the first instant to somewhat past the usual end.
        time.sleep(moments.uniform(0, 1.1 * usual))
        if process.poll() is None:
            process.kill()
            kills += 1
        process.communicate(timeout=60)
        if process.returncode == 0:
            acknowledged = set(delivered)
        # Every file that the source had may have been taken as one batch, so rows are told apart by delivery.
        visible = check(store, acknowledged, delivered, reopenings)
        landed += number in visible
    run(store, "ingest", "tick")
    assert check(store, delivered, delivered, reopenings) == delivered
    assert orphans(store) > 0, "no kill fell between staging and committing, so that nothing was proved"
    print(
        f"{kills} kills of an ingest that takes {usual:.3f} s; {landed} of {len(delivered) - 1} deliveries were in after "
        f"their first attempt; {orphans(store)} data files lie there that no entry names; {reopenings.told()}"
    )
    run(store, "ingest", "tick")
    assert check(store, delivered, delivered, reopenings) == delivered


@pytest.mark.parametrize("seed", seeds(2))
def test_the_server(tmp_path, seed):
    """The server itself, killed while a client sends rows with idempotency keys and repeats what was not answered."""
    store = tmp_path / "store"
    moments, reopenings = random.Random(seed), Reopenings()
    without_source = {**DEFINITIONS, "tick.toml": DEFINITIONS["tick.toml"].partition("\n[source]")[0]}
    with Server(store) as server, lineament.connect(server.url) as client:
        client.apply(without_source)
    acknowledged: set[int] = set()
    sent: set[int] = set()
    repeated = []

    def send(url: str) -> None:
        try:
            with lineament.connect(url) as client:
                while True:
                    # What was sent and not answered goes first, under its own key.
                    number = min(sent - acknowledged, default=len(sent))
                    sent.add(number)
                    report = client.ingest("tick", delivery(number), key=f"delivery-{number}")
                    assert (report.rows, report.rejected) == (ROWS - 1, 1)
                    if report.repeated:
                        repeated.append(number)
                    acknowledged.add(number)
        except lineament.Error as error:
            failures.append(error)

    kills = 0
    while kills < KILLS["server"] or len(acknowledged) <= 5 and kills < 3 * KILLS["server"]:
        failures: list[Exception] = []
        server = Server(store)
        sender = threading.Thread(target=send, args=(server.url,))
        sender.start()
        # From the first instant; later ones have more time, so that some are answered on a busy machine too.
        time.sleep(moments.uniform(0.02, 0.4 + kills / 20))
        server.kill()
        kills += 1
        sender.join(timeout=60)
        assert not sender.is_alive() and len(failures) == 1, failures
        check(store, acknowledged, sent, reopenings)
    assert len(acknowledged) > 5, "the server never lived long enough to answer"
    with Server(store) as server, lineament.connect(server.url) as client:
        for number in sorted(sent):
            client.ingest("tick", delivery(number), key=f"delivery-{number}")
    assert check(store, sent, sent, reopenings) == sent
    print(
        f"{kills} kills, {len(sent)} deliveries, {len(repeated)} of them had landed unanswered and were told so; "
        f"{orphans(store)} data files lie there that no entry names; {reopenings.told()}"
    )


@pytest.mark.parametrize("seed", seeds(3))
def test_other_verbs(tmp_path, seed):
    """`apply`, `checkpoint` and `retrieve` killed at random moments."""
    store, folder = tmp_path / "store", tmp_path / "features"
    folder.mkdir()
    for name, text in DEFINITIONS.items():
        (folder / name).write_text(text)
    run(store, "apply", folder)
    (folder / "deliveries").mkdir()
    pyarrow.parquet.write_table(delivery(0), folder / "deliveries" / "0.parquet")
    run(store, "ingest", "tick")
    times = pyarrow.array([3_000_000_000_000_000 + row for row in range(100)], pyarrow.timestamp("us", "UTC"))
    spine = tmp_path / "spine.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"meter": [row % 9 for row in range(100)], "at": times}), spine)

    def verb(number: int) -> tuple[str, ...]:
        match number % 3:
            case 0:
                text = DEFINITIONS["tick.toml"].partition("\n[source]")[0].replace('"tick"', f'"view_{number}"')
                (folder / "more.toml").write_text(text)
                return ("apply", folder)
            case 1:
                return ("retrieve", "tick.value", "--spine", spine, "--name", f"set {number}")
            case _:
                return ("checkpoint",)

    usual = {}
    for number in range(3):
        started = time.monotonic()
        run(store, *verb(number))
        usual[number % 3] = time.monotonic() - started
    moments, reopenings = random.Random(seed), Reopenings()
    kills, number, done = 0, 3, {0, 1, 2}
    while kills < KILLS["verbs"]:
        process = subprocess.Popen(
            command(store, *verb(number)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        time.sleep(moments.uniform(0, 1.1 * usual[number % 3]))
        if process.poll() is None:
            process.kill()
            kills += 1
        _, said = process.communicate(timeout=60)
        if process.returncode == 0:
            done.add(number)
        else:
            assert process.returncode < 0, said
        reopenings.server(store).stop()
        whole(store, 1)
        number += 1
    with Server(store) as server, lineament.connect(server.url) as client:
        views = set(client.sql("SELECT feature_view FROM lineament.feature_views").to_arrow()["feature_view"].to_pylist())
        sets = client.sql("SELECT training_set, name FROM lineament.training_sets").to_arrow().to_pylist()
    assert {f"view_{n}" for n in done if n % 3 == 0} <= views
    assert views <= {"tick"} | {f"view_{n}" for n in range(0, number, 3)}
    assert {f"set {n}" for n in done if n % 3 == 1} <= {made["name"] for made in sets}
    for made in sets:
        run(store, "replay", made["training_set"])
    assert "holds" in run(store, "checkpoint", "--check")
    print(
        f"{kills} kills, {len(done)} of {number} commands ended before; {len(sets)} training sets rebuilt; {reopenings.told()}"
    )


def without_source(tmp_path):
    """A store of the definitions, whose rows come by Flight."""
    folder, store = tmp_path / "features", tmp_path / "store"
    folder.mkdir()
    for name, text in DEFINITIONS.items():
        (folder / name).write_text(text.partition("\n[source]")[0])
    run(store, "apply", folder)
    return store


def deliver(store, delivered: set[int]) -> None:
    """Three more deliveries, a batch each."""
    with Server(store, "--compact-every", "never") as server, lineament.connect(server.url) as client:
        for number in range(len(delivered), len(delivered) + 3):
            client.ingest("tick", delivery(number), key=f"delivery-{number}")
            delivered.add(number)


@pytest.mark.parametrize("seed", seeds(4))
def test_compaction(tmp_path, seed):
    """Killed while it merges: either all of a run lies in new files or none of it does, and no row is lost or doubled."""
    store, delivered, moments = without_source(tmp_path), set(), random.Random(seed)
    reopenings = Reopenings()

    deliver(store, delivered)
    started = time.monotonic()
    run(store, "compact", "--everything")
    usual = time.monotonic() - started
    kills, merged, rounds = 0, 1, 0
    while kills < KILLS["compaction"] or merged < 2 and rounds < 60:
        rounds += 1
        deliver(store, delivered)
        process = subprocess.Popen(
            command(store, "compact", "--everything"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        # From the first instant to well past the usual end: each merge has more rows than the one before, and later ones have
        # more time, so that some end on a busy machine too.
        time.sleep(moments.uniform(0, (2.5 + rounds / 8) * usual))
        if process.poll() is None:
            process.kill()
            kills += 1
        process.communicate(timeout=60)
        assert check(store, delivered, delivered, reopenings) == delivered
        entries = [json.loads(entry.read_bytes()) for entry in (store / "log").glob("*.json")]
        merged = sum(record["type"] == 60 for entry in entries for record in entry["records"])
        run(store, "compact", "--check")
    assert merged > 1, "no merge ended before it was killed"
    run(store, "compact", "--everything")
    assert check(store, delivered, delivered, reopenings) == delivered
    checked = run(store, "compact", "--check")
    assert f"{len(delivered) * (ROWS - 1):,} rows of" in str(checked), checked
    with Server(store) as server, lineament.connect(server.url) as client:
        files = client.sql("SELECT DISTINCT file FROM history('tick')").to_arrow()
        assert files.num_rows == 1, files
    orphaned = len(list((store / "manifests").glob("*.parquet"))) - len(delivered) - merged - 1
    print(
        f"{kills} kills of a merge that takes {usual:.3f} s; {merged} merges are in the log but for the last, and {orphaned} more "
        f"were written and not committed; {reopenings.told()}"
    )


@pytest.mark.parametrize("seed", seeds(5))
def test_sweep(tmp_path, seed):
    """Killed while it sweeps: what its entry condemns is gone or goes with the next, and nothing else ever is."""
    store, delivered, moments = without_source(tmp_path), set(), random.Random(seed)
    reopenings = Reopenings()

    def waste() -> None:
        """Files that a compaction replaces, one that nobody names, and one that never became an object."""
        deliver(store, delivered)
        run(store, "compact", "--everything")
        (store / "bodies" / f"01890a5d-ac96-774b-bcce-{len(delivered):012}.json").write_text("{}")
        (store / "bodies" / f"body.json#{len(delivered)}").write_text("{")

    def swept() -> tuple[str, ...]:
        # Only a sweep may go by so short a time: reads take longer.
        run(store, "sweep", "--set-grace", "1ms", "--set-longest-read", "1ms")
        return ("sweep",)

    def restored() -> None:
        run(store, "sweep", "--set-grace", "7d", "--set-longest-read", "1d")

    waste()
    verb = swept()
    started = time.monotonic()
    run(store, *verb)
    usual = time.monotonic() - started
    restored()
    kills = ended = 0
    while kills < KILLS["sweep"]:
        waste()
        verb = swept()
        process = subprocess.Popen(command(store, *verb), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(moments.uniform(0, 1.2 * usual))
        if process.poll() is None:
            process.kill()
            kills += 1
        process.communicate(timeout=60)
        ended += process.returncode == 0
        restored()
        assert check(store, delivered, delivered, reopenings) == delivered
        run(store, "compact", "--check")
    run(store, *swept())
    restored()
    assert check(store, delivered, delivered, reopenings) == delivered
    # Nothing is left but what is read.
    assert len(list((store / "data").rglob("*.parquet"))) == 1
    assert not list(store.rglob("*#*"))
    found = json.loads(run(store, "verify", "--full", "--format", "json"))
    assert (found["faults"], found["orphan_objects"]) == ([], 0)
    print(f"{kills} kills of a sweep that takes {usual:.3f} s; {ended} more had ended before; {reopenings.told()}")
