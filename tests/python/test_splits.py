"""Splits: declared with a training set, recorded with it, and found again from the rule and the rows
alone."""

import hashlib
from datetime import UTC, date, datetime, timedelta

import lineament
import pyarrow
import pytest
import readings
from lineament import Split

ROWS = 2_000
START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def spine() -> pyarrow.Table:
    """Rows of sensors at hourly times; some without a time or a sensor."""
    return pyarrow.table(
        {
            "sensor": pyarrow.array([None if row % 97 == 0 else f"s{row % 60}" for row in range(ROWS)]),
            "at": pyarrow.array(
                [None if row % 89 == 0 else START + timedelta(hours=row) for row in range(ROWS)],
                pyarrow.timestamp("us", "UTC"),
            ),
            "number": pyarrow.array(range(ROWS), pyarrow.int32()),
        }
    )


def mix(value: int) -> int:
    """SplitMix64, as docs/splits.md writes it."""
    value = (value + 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def weighed(hashed: int, weights: dict[str, int]) -> str:
    place = hashed % sum(weights.values())
    for name, weight in weights.items():
        if place < weight:
            return name
        place -= weight
    raise AssertionError(place)


def by_number(row: int, weights: dict[str, int], seed: int) -> str:
    return weighed(mix(row ^ mix(seed)), weights)


def by_key(parts: list[str | None], weights: dict[str, int], seed: int) -> str | None:
    if None in parts:
        return None
    text = "".join(f"{len(part.encode())}:{part}" for part in parts)
    digest = hashlib.sha256(seed.to_bytes(8, "little") + text.encode()).digest()
    return weighed(int.from_bytes(digest[:8], "little"), weights)


def assigned(split: Split, table: pyarrow.Table, at: str | None = "at") -> list[str | None]:
    return [None if place is None else split.parts[place] for place in split.assign(table, at).to_pylist()]


@pytest.mark.parametrize("seed", [0, 1, 42, 2**64 - 1])
def test_random_is_what_the_page_says(spine, seed):
    split = Split.random({"train": 0.7, "validate": 0.1, "test": 0.2}, seed=seed)
    assert split.to_json() == {
        "random": {
            "parts": [
                {"name": "train", "weight": 7},
                {"name": "validate", "weight": 1},
                {"name": "test", "weight": 2},
            ],
            "seed": seed,
        }
    }
    expected = [by_number(row, {"train": 7, "validate": 1, "test": 2}, seed) for row in range(ROWS)]
    assert assigned(split, spine) == expected
    # A batch at a time it is the same.
    pieces = [split.assign(spine.slice(first, 77), "at", first).to_pylist() for first in range(0, ROWS, 77)]
    assert sum(pieces, []) == split.assign(spine, "at").to_pylist()
    assert 0.65 < expected.count("train") / ROWS < 0.75


def test_the_vectors_of_the_page():
    """What docs/splits.md prints, so that other programs can be checked by it."""
    split = Split.random({"train": 4, "test": 1}, seed=7)
    assert (
        "".join(part[1] for part in assigned(split, pyarrow.table({"x": list(range(24))})))
        == "rrrrerreerrrrrrrrerrreer"
    )
    keys = pyarrow.table({"tail": ["N14228", "N24211", "N619AA", "N804JB", "N668DN"], "leg": [1, 2, 3, 4, 5]})
    assert assigned(Split.by_entity("tail", {"train": 4, "test": 1}, seed=7), keys) == [
        "train",
        "test",
        "train",
        "train",
        "train",
    ]
    assert assigned(Split.by_entity(["tail", "leg"], {"train": 4, "test": 1}, seed=7), keys) == [
        "train",
        "train",
        "train",
        "train",
        "train",
    ]


@pytest.mark.parametrize("seed", [0, 5])
def test_entities_are_never_torn(spine, seed):
    weights = {"train": 2, "test": 1}
    split = Split.by_entity("sensor", weights, seed=seed)
    expected = [by_key([key], weights, seed) for key in spine["sensor"].to_pylist()]
    assert assigned(split, spine) == expected
    assert expected.count(None) == spine["sensor"].null_count
    two = Split.by_entity(["sensor", "number"], weights, seed=seed)
    rows = zip(spine["sensor"].to_pylist(), spine["number"].to_pylist(), strict=True)
    assert assigned(two, spine) == [by_key([key, str(number)], weights, seed) for key, number in rows]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pyarrow.array([1, -5, None], pyarrow.int8()), ["1", "-5", None]),
        (pyarrow.array([2**64 - 1, 0], pyarrow.uint64()), ["18446744073709551615", "0"]),
        (pyarrow.array([True, False]), ["true", "false"]),
        (pyarrow.array([date(2013, 7, 9), date(1969, 12, 31)]), ["2013-07-09", "1969-12-31"]),
        (pyarrow.array(["é", "", "a:b"], pyarrow.large_string()), ["é", "", "a:b"]),
        (pyarrow.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
    ],
)
def test_keys_have_one_text_each(values, texts):
    weights = {"a": 1, "b": 1, "c": 1}
    split = Split.by_entity("k", weights, seed=3)
    assert assigned(split, pyarrow.table({"k": values})) == [by_key([text], weights, 3) for text in texts]


def test_time_with_a_gap(spine):
    first, second = START + timedelta(days=30), START + timedelta(days=60)
    gap = timedelta(days=2)
    split = Split.by_time({"train": first, "validate": second, "test": None}, gap=gap)
    expected = []
    for time in spine["at"].to_pylist():
        if time is None or first <= time < first + gap or second <= time < second + gap:
            expected.append(None)
        else:
            expected.append("train" if time < first else "validate" if time < second else "test")
    assert assigned(split, spine) == expected
    assert expected.count(None) == spine["at"].null_count + 2 * 48 - sum(
        1 for row, time in enumerate(spine["at"].to_pylist())
        if time is None and any(0 <= row - 24 * days < 48 for days in (30, 60))
    )  # fmt: skip
    assert split.to_json()["time"]["gap"] == "2d"


@pytest.mark.parametrize(
    "column",
    [
        pyarrow.array([999, 1_000, 1_001, -1], pyarrow.timestamp("ns", "UTC")),
        pyarrow.array([0, 1, 1, -1], pyarrow.timestamp("us", "America/New_York")),
    ],
)
def test_times_of_other_units_are_cut_to_microseconds(column):
    table = pyarrow.table({"at": column})
    split = Split.by_time({"a": "1970-01-01T00:00:00.000001Z", "b": None})
    assert assigned(split, table) == ["a", "b", "b", "a"]


def test_dates_are_the_start_of_their_day():
    table = pyarrow.table({"at": [date(2024, 1, 1), date(2024, 1, 2)]})
    assert assigned(Split.by_time({"a": "2024-01-02T00:00:00Z", "b": None}), table) == ["a", "b"]


def test_it_is_recorded_with_the_set(readings_client, server, spine):
    spine = spine.append_column("label", pyarrow.array(range(ROWS)))
    rules = [
        Split.random({"train": 0.8, "test": 0.2}, seed=11),
        Split.by_entity("sensor", {"train": 0.5, "test": 0.5}),
        Split.by_time({"train": START + timedelta(days=40), "test": None}, gap="12h"),
    ]
    digests = set()
    for rule in rules:
        training_set = readings_client.get_historical_features(spine, ["reading.value"], split=rule)
        digests.add(training_set.digest)
        parts = training_set.parts()
        labels = {name: parts[name]["label"].to_pylist() for name in parts}
        assert sum(map(len, labels.values())) + parts.outside == ROWS
        assert parts.counts == {name: len(rows) for name, rows in labels.items()}
        assert list(parts) == ["train", "test"] and len(parts) == 2
        # From the id alone, on another connection, it is the same.
        with lineament.connect(server.url) as other:
            again = other.training_set(training_set.id)
            assert again.split == rule
            found = again.parts()
            assert {name: found[name]["label"].to_pylist() for name in found} == labels
            assert other.replay(training_set.id).equal
            # And in batches.
            for name, rows in labels.items():
                batches = other.loader(training_set.id, columns=["label"], batch_size=300, part=name)
                assert [label for batch in batches for label in batch["label"].tolist()] == rows
        with pytest.raises(KeyError, match="the parts are train, test"):
            parts["other"]
    # The rule changes no row, and so no digest.
    assert digests == {readings_client.get_historical_features(spine, ["reading.value"]).digest}


def test_without_a_split_there_are_no_parts(readings_client):
    training_set = readings_client.get_historical_features(readings.spine(), ["reading.value"])
    with pytest.raises(lineament.InvalidRequest, match="recorded without a split"):
        training_set.parts()
    with pytest.raises(lineament.InvalidRequest, match="no part `train`.*without a split"):
        readings_client.loader(training_set, part="train")


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (lambda: Split.random({"train": 1}), "has 1 parts"),
        (lambda: Split.random({"A b": 1, "test": 1}), "`A b` cannot name a part"),
        (lambda: Split.by_entity([], {"a": 1, "b": 1}), "names the key columns"),
        (
            lambda: Split.by_entity("sensr", {"a": 1, "b": 1}),
            "`sensr`, which is no column.*did you mean `sensor`",
        ),
        (lambda: Split.by_entity("score", {"a": 1, "b": 1}), "goes by `score`, which is Float64"),
        (lambda: Split.by_time({"a": None, "b": None}), "`a` has no end"),
        (
            lambda: Split.by_time({"a": "2024-01-02T00:00:00Z", "b": "2024-01-01T00:00:00Z", "c": None}),
            "leaves it no time",
        ),
        (lambda: Split.by_time({"a": "2024-01-02T00:00:00Z", "b": "2024-01-03T00:00:00Z"}), "`b` has an end"),
    ],
)
def test_a_rule_that_says_nothing_is_refused(readings_client, rule, why):
    spine = readings.spine().append_column("score", pyarrow.array([0.5] * readings.spine().num_rows))
    with pytest.raises(lineament.InvalidRequest, match=why):
        readings_client.get_historical_features(spine, ["reading.value"], split=rule())


def test_what_is_wrong_on_this_side(readings_client):
    for shares, why in [
        ({"a": 0, "b": 1}, "leave out"),
        ({"a": -1, "b": 1}, "leave out"),
        ({"a": "half", "b": 1}, "is a number"),
    ]:
        with pytest.raises(lineament.InvalidRequest, match=why):
            Split.random(shares)
    with pytest.raises(lineament.InvalidRequest, match="too many digits"):
        Split.random({"a": 0.123456789123, "b": 0.3})
    for seed in (-1, 2**64, 0.5, True):
        with pytest.raises(lineament.InvalidRequest, match="the seed is"):
            Split.random({"a": 1, "b": 1}, seed=seed)
    with pytest.raises(lineament.InvalidRequest, match="has no zone"):
        Split.by_time({"a": datetime(2024, 1, 1), "b": None})
    with pytest.raises(lineament.InvalidRequest, match="it is a lineament.Split"):
        readings_client.get_historical_features(readings.spine(), ["reading.value"], split="random")
    with pytest.raises(lineament.InvalidRequest, match="recorded with its training set"):
        readings_client.get_historical_features(
            readings.spine(), ["reading.value"], split=Split.random({"a": 1, "b": 1}), record=False
        )
    with pytest.raises(lineament.Error, match="does not know"):
        Split.of({"phase_of_the_moon": {}})
    parts = [{"name": "a", "weight": 1}, {"name": "b", "weight": 1}]
    for rule in ({"parts": parts, "salt": "x"}, {"parts": [{**parts[0], "until": "x"}, parts[1]]}):
        with pytest.raises(lineament.Error, match="this client does not know"):
            Split.of({"random": rule})


def test_shares_are_exact():
    thirds = Split.random({"a": 0.333, "b": 0.333, "c": 0.334}).to_json()["random"]["parts"]
    assert [part["weight"] for part in thirds] == [333, 333, 334]
    assert Split.random({"a": 80, "b": 20}) == Split.random({"a": 0.8, "b": 0.2})
