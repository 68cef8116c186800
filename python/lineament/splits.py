"""How a training set falls into parts: declared when it is made, recorded with it, and the same for ever.

Which part a row is in follows from the recorded rule and the set's own rows alone: its time, its entity, or
its number and a seed. docs/splits.md says how, to the bit.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, Self

import pyarrow
import pyarrow.compute as compute

from .errors import Error, InvalidRequest
from .instants import instant
from .spans import micros_of, span

#: The most that weights may sum up to.
_SUM = (1 << 32) - 1
_MICROS = pyarrow.timestamp("us", tz="UTC")


#: Members of a rule, and of each of its parts.
_MEMBERS: dict[str, tuple[set[str], set[str]]] = {
    "time": ({"parts", "gap"}, {"name", "until"}),
    "entity": ({"keys", "parts", "seed"}, {"name", "weight"}),
    "random": ({"parts", "seed"}, {"name", "weight"}),
}


class Split:
    """A rule that puts each row of a training set into one part, or into none.

    >>> rule = lineament.Split.by_time({"train": "2013-09-01T00:00:00Z", "test": None}, gap="1d")
    >>> rule.parts
    ['train', 'test']
    """

    def __init__(self, kind: str, rule: Mapping[str, Any]) -> None:
        self._kind = kind
        self._rule = dict(rule)

    @classmethod
    def by_time(
        cls, parts: Mapping[str, str | datetime | None], *, gap: str | timedelta | None = None
    ) -> Self:
        """By the set's time: each part ends at an instant, and the last, with None, has all later rows.

        `gap`: rows so long after a boundary are in no part, for what is learnt of them may overlap with the
        part before. Rows without a time are in none either.
        """
        members = []
        for name, until in parts.items():
            members.append(
                {"name": name} if until is None else {"name": name, "until": instant(until, f"part {name}")}
            )
        rule: dict[str, Any] = {"parts": members}
        if gap is not None:
            rule["gap"] = span(gap)
        return cls("time", rule)

    @classmethod
    def by_entity(cls, key: str | Sequence[str], parts: Mapping[str, float], *, seed: int = 0) -> Self:
        """By entity: all rows of one are in one part, whatever else the set holds. Rows whose key has a null
        are in none.

        `parts`: the share of each (`{"train": 0.8, "test": 0.2}`), of entities, not of rows.
        """
        keys = [key] if isinstance(key, str) else list(key)
        return cls("entity", {"keys": keys, "parts": _weighted(parts), "seed": _seed(seed)})

    @classmethod
    def random(cls, parts: Mapping[str, float], *, seed: int = 0) -> Self:
        """By the numbers of the rows and a seed: a set of the same rows in the same order falls into the same
        parts."""
        return cls("random", {"parts": _weighted(parts), "seed": _seed(seed)})

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Self:
        """The rule as a manifest has it."""
        if len(recorded) != 1:
            raise Error(
                f"the recorded split {dict(recorded)!r} is not one that this client knows; a later client may"
            )
        ((kind, rule),) = recorded.items()
        if kind not in _MEMBERS:
            raise Error(
                f"the training set is split by {kind}, which this client does not know; a later client may"
            )
        # A member that is not known changes what the rule means.
        of_rule, of_part = _MEMBERS[kind]
        unknown = set(rule) - of_rule
        unknown.update(member for part in rule["parts"] for member in set(part) - of_part)
        if unknown:
            raise Error(
                f"the recorded split has `{min(unknown)}`, which this client does not know; a later client may"
            )
        return cls(kind, rule)

    @property
    def kind(self) -> str:
        """`time`, `entity` or `random`."""
        return self._kind

    @property
    def parts(self) -> list[str]:
        """The names of the parts, in their order."""
        return [part["name"] for part in self._rule["parts"]]

    def to_json(self) -> dict[str, Any]:
        """The rule as it is sent and recorded."""
        return {self._kind: self._rule}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Split) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(repr(self.to_json()))

    def __repr__(self) -> str:
        if self._kind == "time":
            ends = [
                f"{part['name']} until {part['until']}" for part in self._rule["parts"] if "until" in part
            ]
            gap = f", gap {self._rule['gap']}" if "gap" in self._rule else ""
            return f"<Split by time: {', '.join([*ends, self.parts[-1]])}{gap}>"
        weights = ", ".join(f"{part['name']} {part['weight']}" for part in self._rule["parts"])
        by = ", ".join(self._rule.get("keys", ["row number"]))
        return f"<Split by {by}: {weights}; seed {self._rule.get('seed', 0)}>"

    def assign(
        self, rows: pyarrow.Table | pyarrow.RecordBatch, at: str | None, first_row: int = 0
    ) -> pyarrow.Array:
        """The part of each row, by its place among `parts`; null where it is in none.

        `at`: the set's time column. `first_row`: the number, in the set, of the first of these rows.
        """
        if self._kind == "random":
            numbers = _numbers(first_row, rows.num_rows)
            return self._pick(_mixed(compute.bit_wise_xor(numbers, _scalar(_mix(self._rule.get("seed", 0))))))
        if self._kind == "time":
            if at is None:
                raise Error(
                    "the training set does not say which column has its times, so it cannot be split by time"
                )
            return self._by_time(_flat(rows.column(at)))
        return self._by_entity([_flat(rows.column(key)) for key in self._rule["keys"]])

    def _by_time(self, times: pyarrow.Array) -> pyarrow.Array:
        if pyarrow.types.is_timestamp(times.type) and times.type.unit == "ns":
            # Whole microseconds, towards the past.
            times = compute.floor_temporal(times, unit="microsecond")
        micros = times.cast(_MICROS, safe=False).cast(pyarrow.int64())
        gap = micros_of(self._rule["gap"]) if "gap" in self._rule else 0
        ends = [micros_of_instant(part["until"]) for part in self._rule["parts"] if "until" in part]
        part = pyarrow.repeat(pyarrow.scalar(0, pyarrow.int64()), len(micros))
        outside = pyarrow.repeat(pyarrow.scalar(False), len(micros))
        for end in ends:
            after = compute.greater_equal(micros, end)
            part = compute.add(part, after.cast(pyarrow.int64()))
            outside = compute.or_(outside, compute.and_(after, compute.less(micros, end + gap)))
        return compute.if_else(outside, pyarrow.scalar(None, pyarrow.int64()), part)

    def _by_entity(self, keys: list[pyarrow.Array]) -> pyarrow.Array:
        texts = [_text(key) for key in keys]
        # Whatever the values are, no two keys have one text: lengths say where a part ends.
        joined = compute.binary_join_element_wise(*map(_measured, texts), "")
        encoded = joined.dictionary_encode()
        seed = struct.pack("<Q", self._rule.get("seed", 0))
        hashes = [
            int.from_bytes(hashlib.sha256(seed + text.encode()).digest()[:8], "little")
            for text in encoded.dictionary.to_pylist()
        ]
        parts = self._pick(pyarrow.array(hashes, pyarrow.uint64()))
        return parts.take(encoded.indices)

    def _pick(self, hashes: pyarrow.Array) -> pyarrow.Array:
        """The part whose share of the weights a hash falls into."""
        weights = [part["weight"] for part in self._rule["parts"]]
        total = _scalar(sum(weights))
        place = compute.subtract(hashes, compute.multiply(compute.divide(hashes, total), total))
        part = pyarrow.repeat(pyarrow.scalar(0, pyarrow.int64()), len(hashes))
        upto = 0
        for weight in weights[:-1]:
            upto += weight
            part = compute.add(part, compute.greater_equal(place, _scalar(upto)).cast(pyarrow.int64()))
        return part


class Parts(Mapping[str, pyarrow.Table]):
    """The rows of a training set by part, as Arrow tables, each in the set's order.

    >>> rule = lineament.Split.random({"train": 0.8, "test": 0.2}, seed=2)
    >>> parts = client.get_historical_features(flights, "weather.temp", split=rule).parts()
    >>> parts.counts
    {'train': 805, 'test': 195}
    >>> parts["test"].num_rows
    195
    """

    def __init__(self, table: pyarrow.Table, split: Split, at: str | None) -> None:
        self._table = table
        self._names = split.parts
        self._assigned = split.assign(table, at)

    def __getitem__(self, name: str) -> pyarrow.Table:
        if name not in self._names:
            raise KeyError(f"{name}; the parts are {', '.join(self._names)}")
        return self._table.filter(compute.equal(self._assigned, self._names.index(name)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def counts(self) -> dict[str, int]:
        """How many rows are in each part."""
        found = dict.fromkeys(range(len(self._names)), 0)
        for pair in compute.value_counts(self._assigned).to_pylist():
            if pair["values"] is not None:
                found[pair["values"]] = pair["counts"]
        return {name: found[place] for place, name in enumerate(self._names)}

    @property
    def outside(self) -> int:
        """How many rows are in no part: in a gap, or without a time or key."""
        return self._assigned.null_count

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {count:,}" for name, count in self.counts.items())
        return f"<Parts {counts}{f', in none {self.outside:,}' if self.outside else ''}>"


def micros_of_instant(text: str) -> int:
    """RFC 3339 as microseconds since 1970."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise InvalidRequest(f"{text} has no zone; write it as 2013-07-09T12:30:00Z")
    return (moment - datetime.fromisoformat("1970-01-01T00:00:00+00:00")) // timedelta(microseconds=1)


def _weighted(parts: Mapping[str, float]) -> list[dict[str, Any]]:
    """Shares as whole weights: 0.8 and 0.2 are 4 and 1, exactly."""
    shares: dict[str, Fraction] = {}
    for name, share in parts.items():
        try:
            shares[name] = Fraction(str(share))
        except ValueError:
            raise InvalidRequest(f"the share of {name} is {share!r}; it is a number, as 0.8") from None
        if shares[name] <= 0:
            raise InvalidRequest(f"the share of {name} is {share}; leave out what is to have nothing")
    common = 1
    for exact in shares.values():
        common = common * exact.denominator // _gcd(common, exact.denominator)
    weights = {name: int(exact * common) for name, exact in shares.items()}
    divisor = 0
    for weight in weights.values():
        divisor = _gcd(divisor, weight)
    whole = {name: weight // max(divisor, 1) for name, weight in weights.items()}
    if sum(whole.values()) > _SUM:
        raise InvalidRequest("the shares have too many digits; round them, as in 0.333")
    return [{"name": name, "weight": weight} for name, weight in whole.items()]


def _gcd(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a


def _seed(seed: int) -> int:
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 64:
        raise InvalidRequest(f"the seed is {seed!r}; it is a whole number of 0 to 2^64 - 1")
    return seed


def _flat(column: pyarrow.ChunkedArray | pyarrow.Array) -> pyarrow.Array:
    if isinstance(column, pyarrow.ChunkedArray):
        column = column.combine_chunks()
    return column.dictionary_decode() if pyarrow.types.is_dictionary(column.type) else column


def _text(key: pyarrow.Array) -> pyarrow.Array:
    """A key's canonical text: text as it is, whole numbers in decimals, `true` and `false`, dates as
    2013-07-09."""
    return key.cast(pyarrow.string())


def _measured(text: pyarrow.Array) -> pyarrow.Array:
    length = compute.binary_length(text).cast(pyarrow.string())
    return compute.binary_join_element_wise(length, text, ":")


_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def _mix(value: int) -> int:
    """SplitMix64's step and finaliser."""
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)


def _mixed(values: pyarrow.Array) -> pyarrow.Array:
    """`_mix` of each; Arrow's plain arithmetic wraps around as it does."""
    values = compute.add(values, _scalar(_GOLDEN))
    values = compute.multiply(
        compute.bit_wise_xor(values, compute.shift_right(values, _scalar(30))), _scalar(_FIRST)
    )
    values = compute.multiply(
        compute.bit_wise_xor(values, compute.shift_right(values, _scalar(27))), _scalar(_SECOND)
    )
    return compute.bit_wise_xor(values, compute.shift_right(values, _scalar(31)))


def _scalar(value: int) -> pyarrow.Scalar:
    return pyarrow.scalar(value, pyarrow.uint64())


def _numbers(first: int, count: int) -> pyarrow.Array:
    ones = pyarrow.repeat(_scalar(1), count)
    return compute.add(compute.subtract(compute.cumulative_sum(ones), _scalar(1)), _scalar(first))
