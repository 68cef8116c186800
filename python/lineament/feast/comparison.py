"""One retrieval on both, cell by cell, with the reason where they differ."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow
import pyarrow.compute as compute

from ..explanation import Explanation
from ..rows import aligned, counted
from .definitions import SourceFile
from .sources import read_source

if TYPE_CHECKING:
    import pandas

    from ..client import Client

_TIME = "event_timestamp"
_ROW = "lineament_row"
_UTC = pyarrow.timestamp("us", tz="UTC")
#: How many differing cells of a column are explained, one by one.
_EXPLAINED = 50


class Retrieves(Protocol):
    """Feast's side."""

    def get_historical_features(
        self, entity_df: pandas.DataFrame, features: list[str]
    ) -> pandas.DataFrame: ...


@dataclass(frozen=True)
class DifferentCell:
    """A cell that is not the same in both."""

    view: str
    feature: str
    key: dict[str, Any]
    at: Any
    feast: Any
    ours: Any
    reason: str
    #: The observations that it is about.
    about: str


@dataclass(frozen=True, repr=False)
class Comparison:
    """What one retrieval gave in both."""

    rows: int = 0
    #: The training sets on our side, which can be explained further.
    training_sets: list[str] = field(default_factory=list)
    #: Rows that were asked for and that Feast did not give back, by view, and how many of them are null
    #: throughout here.
    lost: dict[str, tuple[int, int]] = field(default_factory=dict)
    #: Cells by view and feature.
    equal: dict[str, int] = field(default_factory=dict)
    different: dict[str, int] = field(default_factory=dict)
    #: Of the equal cells, those that are null in both.
    null: dict[str, int] = field(default_factory=dict)
    #: By column and reason, the first of each, with how many of those that were explained have it.
    examples: list[tuple[int, DifferentCell]] = field(default_factory=list)

    @property
    def same(self) -> bool:
        return not any(self.different.values())

    def __repr__(self) -> str:
        lines = [
            [
                name,
                f"{self.equal[name]:,} equal",
                f"{self.null[name]:,} of them null",
                f"{self.different[name]:,} different",
            ]
            for name in self.equal
        ]
        text = f"{counted(self.rows, 'row')} asked of both\n{aligned(lines)}"
        for view, (rows, null) in self.lost.items():
            text += f"\n  {view}: {counted(rows, 'row')} did not come back from Feast; here {null:,} of them have no value"
        for count, cell in self.examples:
            key = ", ".join(f"{name} = {value}" for name, value in cell.key.items())
            text += (
                f"\n  {cell.view}:{cell.feature}: {cell.reason} ({counted(count, 'cell')} of those looked at)"
                f"\n    {key} at {cell.at}: Feast {cell.feast}, here {cell.ours}; {cell.about}"
            )
        return text


def compare(client: Client, feast: Retrieves, sources: list[SourceFile], rows: int = 1_000) -> Comparison:
    """Asks both for the features of each source, at times when Feast's answer is most likely to be another:
    at the time of an observation, a moment before and after, and at and beyond the end of the ttl.
    """
    done = Comparison()
    asked = 0
    for source in sources:
        table = read_source(source)
        if table.num_rows == 0:
            continue
        spine = _spine(source, table, rows)
        names = list(source.features)
        theirs = feast.get_historical_features(
            spine.to_pandas(), [f"{source.feast_view}:{name}" for name in names]
        )
        there = theirs[_ROW].tolist()
        lost = set(range(spine.num_rows)) - set(there)
        asked += spine.num_rows
        references = [f"{source.view}.{source.features[name][0]}" for name in names]
        # Feast's columns are called view__feature; ours too, but names within may differ.
        ours = client.get_historical_features(
            _renamed_keys(source, spine),
            references,
            True,
            at=_TIME,
            name=f"beside Feast: {source.feast_view}",
        )
        if ours.id is not None:
            done.training_sets.append(ours.id)
        answer = ours.to_arrow()
        if lost:
            features = [
                answer.column(f"{source.view}__{source.features[name][0]}").to_pylist() for name in names
            ]
            null = sum(1 for row in lost if all(values[row] is None for values in features))
            done.lost[source.feast_view] = (len(lost), null)
        keys = spine.select(source.join_keys).to_pylist()
        times = spine.column(_TIME).to_pylist()
        for name in names:
            label = f"{source.feast_view}:{name}"
            column = f"{source.view}__{source.features[name][0]}"
            given = dict(zip(there, theirs[f"{source.feast_view}__{name}"].tolist(), strict=True))
            found = answer.column(column).to_pylist()
            different = [row for row in sorted(given) if not _same(given[row], found[row])]
            done.equal[label] = len(given) - len(different)
            done.different[label] = len(different)
            gone = set(different)
            done.null[label] = sum(1 for row in given if found[row] is None and row not in gone)
            reasons: Counter[str] = Counter()
            first: dict[str, DifferentCell] = {}
            for row in different[:_EXPLAINED]:
                reason, about = _reason(client.explain(ours, row, column), given[row])
                reasons[reason] += 1
                cell = DifferentCell(
                    source.feast_view, name, keys[row], times[row], given[row], found[row], reason, about
                )
                first.setdefault(reason, cell)
            done.examples.extend((count, first[reason]) for reason, count in reasons.most_common())
    return replace(done, rows=asked)


def _spine(source: SourceFile, table: pyarrow.Table, rows: int) -> pyarrow.Table:
    """Keys of observations that are there, at telling times, evenly over the file."""
    offsets = [timedelta(0), timedelta(microseconds=-1), timedelta(seconds=1), timedelta(hours=1)]
    if source.ttl is not None:
        offsets += [source.ttl, source.ttl + timedelta(microseconds=1)]
    step = max(1, table.num_rows * len(offsets) // max(1, rows))
    chosen = table.take(pyarrow.array(range(0, table.num_rows, step), pyarrow.int64()))
    times = chosen.column(source.time).cast(
        pyarrow.timestamp("us", tz=getattr(chosen.column(source.time).type, "tz", None)), safe=False
    )
    times = (
        times.cast(_UTC) if times.type.tz is not None else compute.assume_timezone(times, "UTC").cast(_UTC)
    )
    pieces = []
    for offset in offsets:
        moved = compute.add(times, pyarrow.scalar(offset, pyarrow.duration("us"))).cast(_UTC)
        columns = {join: chosen.column(key) for join, key in zip(source.join_keys, source.keys, strict=True)}
        pieces.append(pyarrow.table({**columns, _TIME: moved}))
    # Feast gives rows of one entity and time back once.
    spine = (
        pyarrow.concat_tables(pieces).group_by([*source.join_keys, _TIME], use_threads=False).aggregate([])
    )
    return spine.append_column(_ROW, pyarrow.array(range(spine.num_rows), pyarrow.int64()))


def _renamed_keys(source: SourceFile, spine: pyarrow.Table) -> pyarrow.Table:
    """The spine with our names of the keys."""
    from ..definition import valid_name

    return spine.rename_columns(
        [valid_name(name) if name in source.join_keys else name for name in spine.column_names]
    )


def _same(theirs: Any, ours: Any) -> bool:
    if _missing(theirs) or _missing(ours):
        return _missing(theirs) and _missing(ours)
    if isinstance(ours, (bytes, str, bool)):
        return bool(theirs == ours)
    if hasattr(ours, "isoformat"):
        return _moment(theirs) == _moment(ours)
    # pandas makes floats of whole numbers among nulls, and float32 of either is the same float64.
    return float(theirs) == float(ours)


def _missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)


def _moment(value: Any) -> str:
    return str(value).removesuffix("+00:00").replace("T", " ")


def _reason(why: Explanation, theirs: Any) -> tuple[str, str]:
    """Why our cell is what it is, where Feast's is another: the reason, and what it is about."""
    if why.winner is None:
        reason, about = (
            f"null here ({why.null_reason})",
            ", ".join(f"{count} {lost}" for lost, count in why.losers_by_reason.items()),
        )
    else:
        reason, about = "another observation here", f"here that of {why.winner.valid_at} won"
    if _missing(theirs):
        return "null in Feast", about
    if why.winner is not None and _close(theirs, why.value):
        return "the same observation, rounded otherwise", about
    gave = next((loser for loser in why.losers if _close(theirs, loser.value)), None)
    if gave is None:
        return f"{reason}, and none with Feast's value", about
    return (
        f"{reason}; Feast's is {gave.reason} here",
        f"{about}; Feast gave that of {gave.valid_at}".removeprefix("; "),
    )


def _close(a: Any, b: Any) -> bool:
    if str(a) == str(b):
        return True
    try:
        return math.isclose(float(a), float(b), rel_tol=1e-6)
    except (TypeError, ValueError):
        return False
