"""The log stays for ever, so no value of a row may stand in it: values that are nowhere else are put in by every way that there is,
and looked for in every object of the store."""

import base64
import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import lineament
import pyarrow
import pyarrow.parquet
import pytest
from program import Server, run

DEFINITIONS = {
    "visitor.toml": 'kind = "entity"\nname = "visitor"\n[[keys]]\nname = "visitor"\ntype = "string"\n',
    "visits.toml": """
kind = "feature_view"
name = "visits"
entity = "visitor"
reject_above = 0.9

[time]
valid_at = "at"
known_at = "arrival"

[[features]]
name = "note"
type = "string"

[[features]]
name = "amount"
type = "float64"
range = [0, 1e9]

[[features]]
name = "number"
type = "int64"

[quality]
least_rows = 1

[quality.checks]
volume = { warn = 1.1 }
""",
}

DRAWN = random.Random(15)
TEXTS = ["key", "note", "rejected", "refused", "streamed", "label", "asked"]
CANARIES: dict[str, str | float | int] = {name: DRAWN.randbytes(50).hex() for name in TEXTS}
CANARIES |= {"amount": 73_195_720.913, "number": 4_861_946_401_452_233, "bad_amount": -61_802_297.357}

# Where each may be found, and is. Entries are in none of these folders, and neither is the state that they fold to.
PLACES = {
    "key": {"data", "manifests", "quarantine", "spines"},
    "note": {"data", "manifests", "profiles"},
    "rejected": {"quarantine"},
    "refused": {"quarantine"},
    "streamed": {"data", "manifests", "profiles", "reads"},
    "label": {"spines"},
    "asked": {"reads"},
    "amount": {"data", "manifests", "profiles", "reads"},
    "number": {"data", "manifests", "profiles", "reads"},
    "bad_amount": {"quarantine"},
}


def forms(canary: str | float | int) -> set[bytes]:
    """What a value can look like: text, cut off on either side too, or a number's bytes, and either as a text encodes it."""
    if isinstance(canary, str):
        plain = {canary[:24].encode(), canary[-24:].encode()}
    else:
        kind = "d" if isinstance(canary, float) else "q"
        plain = {str(canary).encode(), struct.pack(f"<{kind}", canary), struct.pack(f">{kind}", canary)}
    encoded = set()
    for form in plain:
        encoded |= {form, form.hex().encode()}
        # Of three places that it can have in what is encoded; what its neighbours have a part in is left out.
        for start in range(3):
            encoded.add(base64.b64encode(form[start : start + (len(form) - start) // 3 * 3]))
    return encoded


def leaves(value) -> Iterator[bytes]:
    if isinstance(value, dict):
        yield from leaves(list(value.items()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from leaves(one)
    else:
        yield value if isinstance(value, bytes) else str(value).encode()


def contents(path: Path) -> bytes:
    """An object as it is stored and as it is decoded."""
    stored = path.read_bytes()
    if path.suffix == ".parquet":
        return stored + b"\n".join(leaves(pyarrow.parquet.read_table(path).to_pylist()))
    if path.suffix == ".json":
        return stored + b"\n".join(leaves(json.loads(stored)))
    # Keys of hashes, and nothing else.
    assert path.suffix == ".key" and len(stored) == 32, path
    return stored


def places(store: Path) -> dict[str, set[str]]:
    """The folders of the objects in which each canary is."""
    wanted = {name: forms(canary) for name, canary in CANARIES.items()}
    found = {name: set() for name in CANARIES}
    for path in (path for path in store.rglob("*") if path.is_file()):
        text = contents(path)
        for name, looks in wanted.items():
            if any(look in text for look in looks):
                found[name].add(path.relative_to(store).parts[0])
    return found


def rows(*given: tuple[object, object, object, object]) -> pyarrow.Table:
    keys, notes, amounts, numbers = zip(*given, strict=True)
    times = [1_700_000_000_000_000 + row * 1_000_000 for row in range(len(given))]
    return pyarrow.table(
        {
            "visitor": keys,
            "at": pyarrow.array(times, pyarrow.timestamp("us", "UTC")),
            "note": notes,
            "amount": pyarrow.array(amounts, pyarrow.float64()),
            "number": numbers,
        }
    )


def test_no_entry_holds_a_value_of_a_row(tmp_path):
    store, of = tmp_path / "store", CANARIES
    key, note, amount, number = (of[name] for name in ("key", "note", "amount", "number"))
    with Server(store) as server, lineament.connect(server.url) as client:
        client.apply(DEFINITIONS)
        first = rows((key, note, amount, number), (key, of["rejected"], of["bad_amount"], 1), ("other", "plain", 2.0, 2))
        report = client.ingest("visits", first, key="the first")
        assert (report.rows, report.rejected) == (2, 1)
        assert client.ingest("visits", first, key="the first").repeated
        more = client.ingest("visits", rows(*[(key, note, amount + row, number + row) for row in range(12)]))
        assert {"volume", "psi", "spread"} <= {found["measure"] for found in more.judged["findings"]}, more.judged
        with pytest.raises(lineament.Refused):
            client.ingest("visits", rows((key, of["refused"], of["bad_amount"], 1)))
        with client.stream("visits", producer="gate") as stream:
            stream.send(rows((key, of["streamed"], amount, number)))
            assert [receipt.rows for receipt in stream.flush()] == [1]
        spine = pyarrow.table({
            "visitor": [key, "nobody"], "label": [of["label"], "plain"],
            "at": pyarrow.array([4_000_000_000_000_000] * 2, pyarrow.timestamp("us", "UTC")),
        })  # fmt: skip
        made = client.get_historical_features(spine, ["visits.note", "visits.amount", "visits.number"])
        assert made.to_arrow()["number"].to_pylist() == [number + 11, None]
        assert client.replay(made).equal
        assert client.sql(f"SELECT number FROM visits WHERE note = '{of['asked']}' OR amount = {amount}").to_arrow().num_rows == 1
        # What a read came to is kept with it: an error that says a value does so there.
        with pytest.raises(lineament.Error, match=of["streamed"]):
            client.sql(f"SELECT CAST(note AS BIGINT) FROM visits WHERE number = {number}")
        assert client.explain_value("visits.number", {"visitor": key}, at="2090-01-01T00:00:00Z").value == str(number + 11)
    run(store, "compact")
    run(store, "checkpoint")
    assert places(store) == PLACES
    # An erasure names the key to nobody either.
    run(store, "erase", "visitor", f"visitor={key}", "--reason", "case 17")
    run(store, "checkpoint")
    assert not any({"log", "checkpoints"} & folders for folders in places(store).values())
    entries = [json.loads(path.read_bytes()) for path in (store / "log").iterdir()]
    records = {record["type"] for entry in entries for record in entry["records"]}
    assert records >= {1, 10, 11, 16, 20, 21, 30, 31, 32, 60, 67}, sorted(records)
