"""Why one cell of a training set, or one value of a feature, is what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from . import html
from .reports import known
from .rows import aligned


@dataclass(frozen=True)
class Candidate:
    """An observation that could have given the value. Times are UTC, in RFC 3339."""

    valid_at: str | None = None
    known_at: str | None = None
    #: None where the observation itself has no value.
    value: Any = None
    batch: str | None = None
    sequence: int | None = None
    #: The feature view's version, as in `weather@1`.
    version: str | None = None
    #: The data file, and the row in it, counted from 0; None where rows of the view are hidden.
    file: str | None = None
    row: int | None = None
    #: Who wrote it, with which program, for which run, from what.
    principal: str | None = None
    program: str | None = None
    run: str | None = None
    origin: Any = None
    #: What was done to the rows before, as the writer stated.
    steps: list[str] = field(default_factory=list)
    #: Why it lost; None for the winner.
    reason: str | None = None
    #: The query that made it, where its feature view is derived and policies keep nothing of it from the caller.
    sql: str | None = None


@dataclass(frozen=True, repr=False)
class Explanation:
    """One value, its observation, and the candidates that lost.

    >>> client.explain(training_set, row=0, column="temp")
    temp = 39.02 in row 0 of training set ...
      weather@1.temp of origin = EWR, wanted at 2013-01-01T09:15:00Z
      won: valid at 2013-01-01T08:00:00Z, known at 2013-01-01T08:30:00Z
        batch ... (sequence ...), row ... of data/....parquet
        written by ... with lineament ... from weather.parquet
      lost: ...
    """

    #: Set, row and column of the cell; None for a value that was asked for without a set.
    training_set: str | None = None
    row: int | None = None
    column: str | None = None
    value: Any = None
    #: Why the cell is null: `expired`, `later`, `unknown_entity`, …; None where it has a value.
    null_reason: str | None = None
    #: Whether the value is the feature's declared default.
    defaulted: bool = False
    #: The feature with its version, as in `weather@1.temp`.
    reference: str | None = None
    #: The entity's key in this row.
    key: dict[str, Any] = field(default_factory=dict)
    #: The time at which the value was wanted.
    at: str | None = None
    winner: Candidate | None = None
    #: Newest first; there may be more than are listed.
    losers: list[Candidate] = field(default_factory=list)
    #: How many candidates lost for each reason: exact, unless there are unopened files.
    losers_by_reason: dict[str, int] = field(default_factory=dict)
    #: Files that may hold more candidates that lost, and were left unopened since there are very many.
    unopened_files: int = 0
    #: Who withdrew the version by now, and why; None where it is not withdrawn.
    withdrawn: str | None = None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        members = {name: value for name, value in known(cls, answer).items() if value is not None}
        if answer.get("winner"):
            members["winner"] = Candidate(**known(Candidate, answer["winner"]))
        members["losers"] = [Candidate(**known(Candidate, loser)) for loser in answer.get("losers") or []]
        return cls(**members)

    def __repr__(self) -> str:
        value = f"null ({self.null_reason})" if self.value is None else str(self.value)
        default = ", its default" if self.defaulted else ""
        if self.training_set is None:
            lines = [f"{self.reference} = {value}{default}"]
        else:
            lines = [f"{self.column} = {value}{default} in row {self.row} of training set {self.training_set}"]
        key = ", ".join(f"{name} = {'null' if part is None else part}" for name, part in self.key.items())
        lines.append(f"  {self.reference} of {key}, wanted at {self.at}")
        if self.withdrawn is not None:
            lines.append(f"  that version is withdrawn, {self.withdrawn}")
        if self.winner is None:
            lines.append("  no observation won")
        else:
            lines.extend(_winner(self.winner))
        if self.losers_by_reason:
            counts = ", ".join(f"{count:,} {reason}" for reason, count in self.losers_by_reason.items())
            lines.append(f"  lost: {'at least ' if self.unopened_files else ''}{counts}")
        if self.losers:
            cells = [
                [loser.reason or "", f"valid at {loser.valid_at}", f"known at {loser.known_at}", _shown(loser.value)]
                for loser in self.losers
            ]
            lines.append(aligned(cells, indent="    "))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        value = f"null ({self.null_reason})" if self.value is None else str(self.value)
        default = ", its default" if self.defaulted else ""
        cell = self.reference if self.training_set is None else f"{self.column}, row {self.row} of {self.training_set}"
        key = ", ".join(f"{name} = {_shown(part)}" for name, part in self.key.items())
        said = [("feature", self.reference), ("entity", key), ("wanted at", self.at)]
        if self.withdrawn is not None:
            said.append(("withdrawn", self.withdrawn))
        if self.winner is not None:
            said += [
                ("row", f"{_place(self.winner)} of {self.winner.file}"),
                ("program", self.winner.program),
                ("run", self.winner.run),
                ("query", self.winner.sql),
            ]
            said += [("step", step) for step in self.winner.steps]
        rows = [] if self.winner is None else [_row(self.winner, "won")]
        rows += [_row(loser, loser.reason or "lost") for loser in self.losers]
        counts = ", ".join(f"{count:,} {reason}" for reason, count in self.losers_by_reason.items())
        lost = html.paragraph(f"lost: {'at least ' if self.unopened_files else ''}{counts}") if counts else ""
        head = ["", "value", "valid at", "known at", "batch", "written by"]
        table = html.table(rows, head) if rows else html.paragraph("no observation won")
        return html.heading(f"{cell} = {value}{default}") + html.facts(said) + table + lost


def _row(candidate: Candidate, why: str) -> list[str]:
    batch = "" if candidate.batch is None else f"{candidate.batch} (sequence {candidate.sequence})"
    return [
        why,
        _shown(candidate.value),
        candidate.valid_at or "",
        candidate.known_at or "",
        batch,
        candidate.principal or "",
    ]


def _winner(winner: Candidate) -> list[str]:
    lines = [f"  won: valid at {winner.valid_at}, known at {winner.known_at}"]
    lines.append(f"    batch {winner.batch} (sequence {winner.sequence}), row {_place(winner)} of {winner.file}")
    written = f"    written by {winner.principal} with {winner.program}"
    if winner.run:
        written += f" for run {winner.run}"
    if winner.origin:
        origin = winner.origin if isinstance(winner.origin, str) else ", ".join(map(str, winner.origin))
        written += f" from {origin}"
    lines.append(written)
    if winner.sql:
        lines.extend(f"      {line}" for line in winner.sql.strip().splitlines())
    lines.extend(f"      {step}" for step in winner.steps)
    return lines


def _place(candidate: Candidate) -> str:
    # Where rows are hidden, its number would count those before it.
    return "(hidden)" if candidate.row is None else str(candidate.row)


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
