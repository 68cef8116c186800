"""Rows go when their view keeps them no longer: told first, then out of sight, then out of the store."""

import json
import time
from datetime import UTC, datetime, timedelta

import pyarrow
import pyarrow.parquet
from program import Server, fails, run

import lineament

SHOP = 'kind = "entity"\nname = "shop"\n[[keys]]\nname = "shop"\ntype = "string"\n'
VISITS = """
kind = "feature_view"
name = "visits"
entity = "shop"
ttl = "2d"

[time]
valid_at = "day"
known_at = "assumed"

[[features]]
name = "visitors"
type = "int64"

[retention]
keep = "10d"
"""


def days_ago(*days: int) -> list[datetime]:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return [today - timedelta(days=number) for number in days]


def visits(*days: int) -> pyarrow.Table:
    kind = pyarrow.timestamp("us", tz="UTC")
    return pyarrow.table({
        "shop": ["A"] * len(days), "day": pyarrow.array(days_ago(*days), kind), "visitors": list(days),
    })  # fmt: skip


def spine(*days: int) -> pyarrow.Table:
    kind = pyarrow.timestamp("us", tz="UTC")
    return pyarrow.table({"shop": ["A"] * len(days), "at": pyarrow.array(days_ago(*days), kind)})


def short_reads(store) -> None:
    """Files may go a second after nothing needs them: no read lasts longer."""
    run(store, "sweep", "--set-longest-read", "1s", "--set-grace", "1s")


def store_with(folder, view: str = VISITS):
    definitions = folder / "definitions"
    definitions.mkdir()
    (definitions / "shop.toml").write_text(SHOP)
    (definitions / "visits.toml").write_text(view)
    run(folder / "store", "apply", definitions)
    return folder / "store"


def ingest(store, *days: int) -> None:
    path = store.parent / f"visits-{'-'.join(map(str, days))}.parquet"
    pyarrow.parquet.write_table(visits(*days), path)
    run(store, "ingest", "visits", path, "--back-fill")


def values(store) -> list[int]:
    answer = run(store, "sql", "SELECT visitors FROM visits ORDER BY visitors", "--format", "csv")
    return [int(line) for line in answer.splitlines()[1:]]


def data_files(store) -> int:
    return len(list((store / "data").rglob("*.parquet")))


def test_old_rows_are_told_of_then_count_no_more_then_are_deleted(tmp_path):
    store = store_with(tmp_path)
    ingest(store, 40, 30)
    ingest(store, 20, 1)
    short_reads(store)
    told = run(store, "retain", "--dry-run")
    assert "3 rows would not count any more; nothing was written" in told, told
    assert "visits@1 keeps rows for 1w3d" in told, told
    assert values(store) == [1, 20, 30, 40]
    report = json.loads(run(store, "retain", "visits", "--format", "json"))
    assert report["views"][0]["rows"] == 3 and report["sequence"] is not None
    assert report["views"][0]["files"] == 3 and report["views"][0]["kept"] == []
    assert values(store) == [1]
    assert data_files(store) == 4
    time.sleep(1.1)
    swept = run(store, "sweep")
    assert "its view keeps such old rows no longer" in swept, swept
    assert data_files(store) == 1
    assert values(store) == [1]
    assert "rows that are gone" in fails(store, "sql", f"SELECT * FROM at_sequence('visits', {report['sequence'] - 1})")
    assert "holds" in run(store, "verify", "--full")
    assert "there is nothing to let go" in run(store, "retain")


def test_a_recorded_set_keeps_its_rows_and_is_made_again(tmp_path):
    store = store_with(tmp_path)
    ingest(store, 30, 1)
    with Server(store) as server, lineament.connect(server.url) as client:
        made = client.get_historical_features(spine(30, 1), ["visits.visitors"])
        assert made.to_arrow()["visitors"].to_pylist() == [30, 1]
    ingest(store, 25)
    short_reads(store)
    told = run(store, "retain")
    assert "training set" in told and made.id in told, told
    time.sleep(1.1)
    run(store, "sweep")
    assert data_files(store) == 2
    with Server(store) as server, lineament.connect(server.url) as client:
        assert client.replay(made.id).equal
        now = client.get_historical_features(spine(30, 1), ["visits.visitors"])
        assert now.to_arrow()["visitors"].to_pylist() == [None, 1]


def test_from_python(tmp_path):
    store = store_with(tmp_path)
    ingest(store, 30, 25, 1)
    with Server(store) as server, lineament.connect(server.url) as client:
        made = client.get_historical_features(spine(30, 1), ["visits.visitors"])
        told = client.retain(dry_run=True)
        assert repr(told) == "2 rows would not count any more" and told.sequence is None
        done = client.retain("visits")
        assert done.rows == 2 and list(done.views[0].batches.values()) == [2]
        assert [kept.kept_for for kept in done.views[0].kept] == ["training_set"]
        assert made.id in done.views[0].kept[0].path
        assert client.sql("SELECT visitors FROM visits").to_arrow()["visitors"].to_pylist() == [1]
        assert repr(client.retain()) == "there is nothing to let go"
        why = client.explain_value("visits.visitors", {"shop": "A"}, at=days_ago(24)[0])
        assert why.value is None and why.losers_by_reason == {"past_retention": 2, "not_yet_known": 1}


def test_the_server_does_it_now_and_then(tmp_path):
    store = store_with(tmp_path)
    ingest(store, 30, 1)
    short_reads(store)
    with Server(store, "--sweep-every", "1s") as server, lineament.connect(server.url) as client:
        for _ in range(300):
            if data_files(store) == 1:
                break
            time.sleep(0.1)
        assert data_files(store) == 1
        assert client.sql("SELECT visitors FROM visits").to_arrow().to_pydict() == {"visitors": [1]}


def test_a_view_that_looks_back_further_than_it_keeps_is_refused(tmp_path):
    store = store_with(tmp_path)
    definitions = tmp_path / "definitions" / "visits.toml"
    definitions.write_text(VISITS.replace('keep = "10d"', 'keep = "1d"'))
    said = fails(store, "plan", tmp_path / "definitions")
    assert "`keep` is \"1d\", less than the view's `ttl`" in said, said
    definitions.write_text(VISITS.replace('ttl = "2d"\n', ""))
    assert "looks back for ever" in fails(store, "plan", tmp_path / "definitions")
    definitions.write_text(VISITS.replace('keep = "10d"', 'keep = "20d"'))
    assert "retention 1w3d → 2w6d" in run(store, "plan", tmp_path / "definitions")
    definitions.write_text(VISITS.split("[retention]")[0])
    run(store, "apply", tmp_path / "definitions")
    assert "keeps its rows for ever" in fails(store, "retain", "visits")
