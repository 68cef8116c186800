"""An entity is erased: told first, then nowhere in the store, and what was made of it says what is left."""

import json

import pyarrow
import pyarrow.parquet
import pytest
from program import Server, fails, run
from test_retention import SHOP, spine, store_with

import lineament

VISITS = """
kind = "feature_view"
name = "visits"
entity = "shop"

[time]
valid_at = "day"
known_at = "assumed"

[[features]]
name = "visitors"
type = "int64"
"""


def ingest(store, name: str, day: str, *shops: str) -> None:
    path = store.parent / f"{name}.parquet"
    rows = pyarrow.table({
        "shop": list(shops), "day": pyarrow.array([day] * len(shops)).cast(pyarrow.timestamp("us", tz="UTC")),
        "visitors": list(range(len(shops))),
    })  # fmt: skip
    pyarrow.parquet.write_table(rows, path)
    run(store, "ingest", "visits", path, "--back-fill")


def holding(store, word: str) -> list[str]:
    """Objects in which a word stands, as stored and as decoded."""
    found = []
    for path in (path for path in store.rglob("*") if path.is_file()):
        text = path.read_bytes()
        if path.suffix == ".parquet":
            text += repr(pyarrow.parquet.read_table(path).to_pylist()).encode()
        if word.encode() in text:
            found.append(str(path))
    return found


def test_the_program_erases(tmp_path):
    assert 'name = "shop"' in SHOP
    store = store_with(tmp_path, VISITS)
    ingest(store, "first", "2024-04-10T00:00:00Z", "ZEBRA77", "OTHER")
    ingest(store, "second", "2024-04-11T00:00:00Z", "OTHER", "ZEBRA77")
    run(store, "compact")
    told = run(store, "erase", "shop", "shop=ZEBRA77", "--dry-run")
    assert "2 rows of shop would go; nothing was written" in told, told
    assert holding(store, "ZEBRA77")
    assert "say why" in fails(store, "erase", "shop", "shop=ZEBRA77")
    assert "is of the key" in fails(store, "erase", "shop", "shop=ZEBRA77", "--reason", "ZEBRA77 asked")
    report = json.loads(run(store, "erase", "shop", "shop=ZEBRA77", "--reason", "case 17", "--format", "json"))
    assert report["rows"] == 2 and report["sequence"] is not None
    assert holding(store, "ZEBRA77") == []
    answer = run(store, "sql", "SELECT shop FROM at_sequence('visits', 3) ORDER BY shop", "--format", "csv")
    assert answer.splitlines()[1:] == ["OTHER", "OTHER"]
    assert "holds" in run(store, "verify", "--full")
    run(store, "compact", "--check")
    assert "there is nothing of it" in run(store, "erase", "shop", "shop=ZEBRA77", "--reason", "case 17")


def test_the_server_erases_and_replays_say_what_is_left(tmp_path):
    store = store_with(tmp_path, VISITS)
    ingest(store, "first", "2024-04-10T00:00:00Z", "A", "B")
    with Server(store) as server, lineament.connect(server.url) as client:
        rows = pyarrow.concat_tables([spine(1), spine(2).set_column(0, "shop", pyarrow.array(["B"]))])
        affected = client.get_historical_features(rows, ["visits.visitors"])
        unaffected = client.get_historical_features(rows.slice(0, 1), ["visits.visitors"])
        assert affected.to_arrow()["visitors"].to_pylist() == [0, 1]
        dry = client.erase("shop", {"shop": "B"}, dry_run=True)
        assert repr(dry) == "1 row of shop would go" and dry.training_sets[0].training_set == affected.id
        erased = client.erase("shop", {"shop": "B"}, reason="it was asked for", request="case 17")
        assert erased.rows == 1 and erased.training_sets[0].provable is True
        report = client.replay(affected.id)
        assert report and not report.equal and report.verdict == "equal_minus_erasures"
        assert client.replay(unaffected.id).equal
        again = client.training_set(affected.id).to_arrow()
        assert again["visitors"].to_pylist() == [0, None] and again["shop"].to_pylist() == ["A", None]
        with pytest.raises(lineament.InvalidRequest, match="say why"):
            client.erase("shop", {"shop": "A"})
        with pytest.raises(lineament.NotFound, match="did you mean `shop`"):
            client.erase("shpo", {"shop": "A"}, reason="it was asked for")
