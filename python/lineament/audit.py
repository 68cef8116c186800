"""Which cells of a table hold what could not be known at their row's time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, Self

from . import html
from .reports import known
from .rows import Rows, aligned, counted


@dataclass(frozen=True)
class AuditedCell:
    """A cell that is not what was knowable at its row's time. Values are text; None is null."""

    #: `leaked`, `stale`, `missing` or `unexplained`.
    kind: str
    #: Counted from 0.
    row: int
    key: dict[str, Any] = field(default_factory=dict)
    at: str | None = None
    value: str | None = None
    #: What was knowable in its place.
    knowable: str | None = None
    #: The times of the observation that has the value.
    valid_at: str | None = None
    known_at: str | None = None
    #: How long after the row's time it could be known.
    lead: timedelta | None = None
    batch: str | None = None


@dataclass(frozen=True)
class LeakingBatch:
    """How many leaked values come from one batch. Exact."""

    batch: str
    sequence: int
    cells: int


@dataclass(frozen=True)
class AuditedColumn:
    """The cells of one column, counted: `knowable`, `leaked`, `stale`, `missing` and `unexplained` make up all of them."""

    column: str
    #: The feature with its version, as in `weather@1.temp`.
    reference: str
    cells: int
    #: Cells that are what was knowable at their row's time; null where nothing was.
    knowable: int = 0
    #: Cells with the value of an observation that was not true or not known yet.
    leaked: int = 0
    #: Of the leaked cells, those whose value another observation had that was known and within the ttl: they may be stale.
    ambiguous: int = 0
    #: Cells with the value of an observation that was known, but superseded or too old.
    stale: int = 0
    #: Cells that are null, though a value was knowable.
    missing: int = 0
    #: Cells whose value no observation of the entity has.
    unexplained: int = 0
    #: How long before they could be known the leaked values stand: least, median and greatest.
    least_lead: timedelta | None = None
    median_lead: timedelta | None = None
    greatest_lead: timedelta | None = None
    #: Where the leaked values come from; most cells first.
    batches: list[LeakingBatch] = field(default_factory=list)
    #: The worst leaked cells, and a few of each other kind.
    examples: list[AuditedCell] = field(default_factory=list)

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        members = known(cls, answer)
        for name, micros in (answer.get("lead") or {}).items():
            members[f"{name}_lead"] = timedelta(microseconds=micros)
        members["batches"] = [LeakingBatch(**known(LeakingBatch, batch)) for batch in answer.get("batches", [])]
        members["examples"] = [_cell(example) for example in answer.get("examples", [])]
        return cls(**members)


@dataclass(frozen=True, repr=False)
class Audit:
    """What an audit found. True where nothing leaks.

    >>> client.audit(training_set)
    no leak in 1,000 rows (judged by provenance, at sequence ...)
      temp   weather@1.temp  1,000 knowable
      seats  plane@1.seats   1,000 knowable
    """

    rows: int
    #: Rows with a leaked cell.
    leaked_rows: int
    #: `provenance` for a recorded set, each of whose cells is followed to its observation; `value` for a table.
    judged_by: Literal["provenance", "value"]
    sequence: int
    #: The column of the rows' times.
    at: str
    columns: list[AuditedColumn] = field(default_factory=list)
    training_set: str | None = None
    #: Every cell that is not what was knowable, a row each; None unless it was asked for with `full=True`.
    cells: Rows | None = None

    @classmethod
    def of(cls, answer: Mapping[str, Any], cells: Rows | None = None) -> Self:
        members = known(cls, answer)
        members["columns"] = [AuditedColumn.of(column) for column in answer.get("columns", [])]
        members["cells"] = cells
        return cls(**members)

    @property
    def clean(self) -> bool:
        return self.leaked_rows == 0

    def __bool__(self) -> bool:
        return self.clean

    def __getitem__(self, column: str) -> AuditedColumn:
        for audited in self.columns:
            if audited.column == column:
                return audited
        raise KeyError(f"{column}; audited were {', '.join(audited.column for audited in self.columns)}")

    def __repr__(self) -> str:
        rows = counted(self.rows, "row")
        found = f"no leak in {rows}" if self.clean else f"{self.leaked_rows:,} of {rows} leak"
        lines = []
        for column in self.columns:
            kinds = ("knowable", "leaked", "stale", "missing", "unexplained")
            counts = [f"{getattr(column, kind):,} {kind}" for kind in kinds if getattr(column, kind)]
            lines.append([column.column, column.reference, ", ".join(counts)])
        return f"{found} (judged by {self.judged_by}, at sequence {self.sequence})\n{aligned(lines)}"

    def _repr_html_(self) -> str:
        rows = counted(self.rows, "row")
        title = f"no leak in {rows}" if self.clean else f"{self.leaked_rows:,} of {rows} leak"
        kinds = ("knowable", "leaked", "stale", "missing", "unexplained")
        counts = [
            [
                column.column,
                column.reference,
                *(f"{getattr(column, kind):,}" for kind in kinds),
                _lead(column.median_lead),
            ]
            for column in self.columns
        ]
        worst = [
            [column.column, example.kind, f"{example.row:,}", _text(example.value), _text(example.knowable), example.known_at or "",
             _lead(example.lead)]
            for column in self.columns for example in column.examples
        ]  # fmt: skip
        cells = html.table(worst, ["column", "", "row", "value", "was knowable", "known at", "lead"]) if worst else ""
        note = f"judged by {self.judged_by}, at sequence {self.sequence}"
        return html.heading(title, note) + html.table(counts, ["column", "feature", *kinds, "median lead"]) + cells


def _lead(lead: timedelta | None) -> str:
    return "" if lead is None else str(lead)


def _text(value: str | None) -> str:
    return "null" if value is None else value


def _cell(answer: Mapping[str, Any]) -> AuditedCell:
    members = {("kind" if name == "class" else name): value for name, value in answer.items()}
    if members.get("lead") is not None:
        members["lead"] = timedelta(microseconds=members["lead"])
    return AuditedCell(**known(AuditedCell, members))
