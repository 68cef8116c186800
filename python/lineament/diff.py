"""What is other in one training set than in another, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from . import html
from .reports import known
from .rows import Rows, aligned, counted


@dataclass(frozen=True)
class CellChanges:
    """How many cells of a column changed in one way for one cause. Exact."""

    column: str
    #: `value`, `null_to_value`, `value_to_null`, `type`, `nan` or `zero_sign`.
    change: str
    #: `newer_data`, `correction`, `other_version`, `other_feature`, `ttl`, `knowledge`, `definition` or `spine`.
    cause: str
    cells: int


@dataclass(frozen=True)
class CellChange:
    """One changed cell. Values are text; None is null."""

    column: str
    change: str
    cause: str
    #: The row in each set, counted from 0.
    row_a: int
    row_b: int
    key: dict[str, Any] = field(default_factory=dict)
    at: str | None = None
    a: str | None = None
    b: str | None = None
    #: The batch that tells the cause, and its sequence in the log.
    batch: str | None = None
    sequence: int | None = None


@dataclass(frozen=True)
class RowChange:
    """A row that one set alone has, or that stands elsewhere."""

    change: Literal["added", "removed", "moved"]
    row_a: int | None = None
    row_b: int | None = None
    key: dict[str, Any] = field(default_factory=dict)
    at: str | None = None


@dataclass(frozen=True)
class ChangedBy:
    """How many cells changed because of one batch. Exact."""

    cause: str
    sequence: int
    batch: str
    #: The version that the batch was written under, as in `weather@1`.
    version: str
    cells: int


@dataclass(frozen=True)
class Retyped:
    """A column of another type."""

    column: str
    a: str
    b: str


@dataclass(frozen=True, repr=False)
class Diff:
    """What is other in training set `b` than in `a`. Counts are exact; examples are a few of each kind.

    Rows are aligned on the entities' keys, the time, and the occurrence (the first row of both meets the first); not on their position.

    >>> honest = client.get_historical_features(flights, ["weather.temp"])
    >>> hindsight = client.get_historical_features(flights, ["weather.temp"], known_by="2014-01-01T00:00:00Z")
    >>> client.diff(honest, hindsight)
    1,000 rows in both, 0 added, 0 removed, 0 moved
      temp  value  knowledge  323 cells
    """

    #: The ids of the two sets.
    a: str
    b: str
    #: Whether the digests are equal: then all values, types, names and their order are.
    equal: bool
    matched: int = 0
    added: int = 0
    removed: int = 0
    #: Of the matched rows, the fewest without which all others stand in the same order.
    moved: int = 0
    #: The columns that rows are aligned on.
    aligned_on: list[str] = field(default_factory=list)
    columns_added: list[str] = field(default_factory=list)
    columns_removed: list[str] = field(default_factory=list)
    retyped: list[Retyped] = field(default_factory=list)
    #: Changed cells by column, kind of change and cause; most cells first.
    changes: list[CellChanges] = field(default_factory=list)
    #: The batches that changed cells lie in; most cells first.
    entries: list[ChangedBy] = field(default_factory=list)
    examples: list[CellChange] = field(default_factory=list)
    row_examples: list[RowChange] = field(default_factory=list)
    #: Every changed cell, a row each; None unless it was asked for with `full=True`.
    cells: Rows | None = None

    @classmethod
    def of(cls, answer: Mapping[str, Any], cells: Rows | None = None) -> Self:
        rows, columns = answer.get("rows", {}), answer.get("columns", {})
        return cls(
            a=answer["a"]["training_set"],
            b=answer["b"]["training_set"],
            equal=answer["equal"],
            matched=rows.get("matched", 0),
            added=rows.get("added", 0),
            removed=rows.get("removed", 0),
            moved=rows.get("moved", 0),
            aligned_on=list(answer.get("aligned_on", [])),
            columns_added=list(columns.get("added", [])),
            columns_removed=list(columns.get("removed", [])),
            retyped=[Retyped(**known(Retyped, retyped)) for retyped in columns.get("retyped", [])],
            changes=[CellChanges(**_renamed(CellChanges, change)) for change in answer.get("changes", [])],
            entries=[ChangedBy(**known(ChangedBy, entry)) for entry in answer.get("entries", [])],
            examples=[CellChange(**_renamed(CellChange, example)) for example in answer.get("examples", [])],
            row_examples=[RowChange(**known(RowChange, example)) for example in answer.get("row_examples", [])],
            cells=cells,
        )

    @property
    def changed_cells(self) -> int:
        """How many cells changed, in rows and columns that both sets have."""
        return sum(change.cells for change in self.changes)

    def __repr__(self) -> str:
        if self.equal:
            return f"equal ({counted(self.matched, 'row')})"
        text = f"{counted(self.matched, 'row')} in both, {self.added:,} added, {self.removed:,} removed, {self.moved:,} moved"
        for what, names in (("added", self.columns_added), ("removed", self.columns_removed)):
            if names:
                text += f"\n  columns {what}: {', '.join(names)}"
        for retyped in self.retyped:
            text += f"\n  {retyped.column} was {retyped.a} and is {retyped.b}"
        lines = [[change.column, change.change, change.cause, counted(change.cells, "cell")] for change in self.changes]
        return text + (f"\n{aligned(lines)}" if lines else "")

    def _repr_html_(self) -> str:
        title = repr(self).partition("\n")[0]
        said = [
            ("a", self.a), ("b", self.b), ("aligned on", ", ".join(self.aligned_on)),
            ("columns added", ", ".join(self.columns_added)), ("columns removed", ", ".join(self.columns_removed)),
            *((f"type of {one.column}", f"was {one.a}, is {one.b}") for one in self.retyped),
        ]  # fmt: skip
        changes = [[one.column, one.change, one.cause, f"{one.cells:,}"] for one in self.changes]
        cells = [
            [one.column, one.cause, f"{one.row_a:,}", "null" if one.a is None else one.a, "null" if one.b is None else one.b,
             one.batch or ""]
            for one in self.examples
        ]  # fmt: skip
        return (
            html.heading(title) + html.facts(said)
            + (html.table(changes, ["column", "change", "cause", "cells"]) if changes else "")
            + (html.table(cells, ["column", "cause", "row of a", "a", "b", "batch"]) if cells else "")
        )  # fmt: skip


def _renamed(kind: type[Any], members: Mapping[str, Any]) -> dict[str, Any]:
    """`class` is a word of Python's own."""
    return known(kind, {("change" if name == "class" else name): value for name, value in members.items()})
