"""What the server reports of what it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from . import html
from .rows import counted


def known(kind: type[Any], members: Mapping[str, Any]) -> dict[str, Any]:
    """The members that a dataclass has; a later server may send more."""
    return {field.name: members[field.name] for field in fields(kind) if field.name in members}


@dataclass(frozen=True)
class Rejections:
    """How many rows were rejected for one reason in one column."""

    reason: str
    column: str
    rows: int


@dataclass(frozen=True, repr=False)
class IngestReport:
    """What became of rows that were sent in.

    >>> client.ingest("weather", frame, claim="back_fill")
    26,114 rows into weather@1, 1 rejected (batch ..., sequence ...)
      above_range in wind_speed: 1 row
      rows, row 1009, column `wind_speed`: 1048.36058 mph is above 200 mph, the greatest that `weather` accepts
    """

    #: The version that took them, as in `weather@2`.
    view_version: str
    #: The batch's id; None where there was nothing new.
    batch: str | None = None
    #: The sequence from which the rows are visible.
    sequence: int | None = None
    #: Rows that were accepted.
    rows: int = 0
    #: Rows that were rejected; `SELECT * FROM lineament.rejected_rows` lists them.
    rejected: int = 0
    #: Rows that the source's `where` left out.
    filtered: int = 0
    #: Files of the source that the view had before.
    skipped_files: int = 0
    #: Files of the source that the view refused before, under the same definition.
    refused_files: int = 0
    #: Whether an earlier request with the same key did this, and nothing was done now.
    repeated: bool = False
    #: Most frequent first. One row may have several reasons.
    reasons: list[Rejections] = field(default_factory=list)
    #: The first few rejections in words.
    examples: list[str] = field(default_factory=list)
    #: The verdict of the view's checks and what was found, as docs/quality.md has it; None where it declares none.
    judged: dict[str, Any] | None = None
    #: Whether the batch was kept back: its rows count for nobody until it is released.
    quarantined: bool = False
    #: Rows that another batch had rejected and this one has, mended.
    mended: int = 0

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        members = known(cls, answer)
        members["reasons"] = [Rejections(**known(Rejections, reason)) for reason in answer.get("reasons", [])]
        return cls(**members)

    def __repr__(self) -> str:
        text = f"{counted(self.rows, 'row')} into {self.view_version}, {self.rejected:,} rejected"
        if self.filtered:
            text += f", {self.filtered:,} left out by the source's where"
        if self.batch is not None:
            text += f" (batch {self.batch}, sequence {self.sequence})"
        if self.repeated:
            text += "; the same request was answered before, so nothing was written now"
        if self.mended:
            text += f"\n  {counted(self.mended, 'row')} that had been rejected mended"
        if self.quarantined:
            text += "\n  kept back: its rows count for nobody until it is released"
        for found in self._findings():
            text += f"\n  {found}"
        for reason in self.reasons:
            text += f"\n  {reason.reason} in {reason.column}: {counted(reason.rows, 'row')}"
        for example in self.examples:
            text += f"\n  {example}"
        return text

    def _findings(self) -> list[str]:
        return [
            f"{one['verdict']}: {one['measure']} of {one.get('feature') or 'the batch'} is {one['value']:.3f},"
            f" above {one['threshold']:.3f}"
            for one in (self.judged or {}).get("findings", [])
        ]

    def _repr_html_(self) -> str:
        title = f"{counted(self.rows, 'row')} into {self.view_version}, {self.rejected:,} rejected"
        said = [
            ("batch", self.batch), ("sequence", self.sequence), ("left out by the source's where", self.filtered or None),
            ("files taken before", self.skipped_files or None), ("files refused before", self.refused_files or None),
        ]  # fmt: skip
        if self.repeated:
            said.append(("repeated", "the same request was answered before, so nothing was written now"))
        if self.quarantined:
            said.append(("kept back", "its rows count for nobody until it is released"))
        reasons = [[reason.reason, reason.column, f"{reason.rows:,}"] for reason in self.reasons]
        table = html.table(reasons, ["rejected for", "column", "rows"]) if reasons else ""
        return html.heading(title) + html.facts(said) + table + html.listing([*self._findings(), *self.examples])


@dataclass(frozen=True)
class Change:
    """What applying definitions does to one entity, feature view or feature service."""

    #: What kind of thing it is.
    subject: str
    project: str
    name: str
    #: `create`, `next_version`, `describe` (words for people only) or `keep`.
    action: Literal["create", "next_version", "describe", "keep"]
    #: The change in words.
    text: str
    #: What it means to those who read it by its name: `harmless`, `needs_back_fill` or `breaking`.
    effect: str = "harmless"
    #: Services that list it without a version.
    services: list[str] = field(default_factory=list)
    #: Who else would feel it, by kind: `derived_views`, `training_sets`, `model_versions`, `deployments`.
    felt_by: dict[str, list[str]] = field(default_factory=dict)
    #: Of a derived view: what stands in the way of tracing its columns to their sources; None where nothing does.
    untraced: str | None = None


@dataclass(frozen=True, repr=False)
class Plan:
    """What definitions change, or have changed.

    >>> client.plan({"gate.toml": '''
    ... kind = "entity"
    ... name = "gate"
    ... [[keys]]
    ... name = "gate"
    ... type = "string"
    ... '''})
    1 change, not applied
      + entity gate@1
    """

    changes: list[Change]
    #: The log entry that made it so; None for a plan, and where nothing changed.
    sequence: int | None = None
    #: The gravest of the changes: `harmless`, `needs_back_fill` or `breaking`.
    effect: str = "harmless"
    #: What is approved where it breaks others: the digest of what it makes, and of the versions before.
    digest: str | None = None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        changes = [Change(**known(Change, change)) for change in answer.get("changes", [])]
        return cls(changes, answer.get("sequence"), answer.get("effect", "harmless"), answer.get("digest"))

    def __repr__(self) -> str:
        made = [change for change in self.changes if change.action != "keep"]
        if not made:
            return f"no changes ({counted(len(self.changes), 'definition')} as they were)"
        state = "not applied" if self.sequence is None else f"applied at sequence {self.sequence}"
        lines = "".join(f"\n  {change.text}" for change in made)
        return f"{counted(len(made), 'change')}, {state}{lines}"

    def _repr_html_(self) -> str:
        title = repr(self).partition("\n")[0]
        return html.heading(title) + html.listing([change.text for change in self.changes if change.action != "keep"])


@dataclass(frozen=True)
class Difference:
    """A column of a rebuilt training set that is not as it was recorded."""

    column: str
    #: The column's digest as recorded, and as built now; None where there was, or is, no such column.
    recorded: str | None = None
    rebuilt: str | None = None
    #: The first block of 65,536 rows that differs.
    first_block: int | None = None


@dataclass(frozen=True)
class Suspect:
    """A batch that made a rebuilt training set differ."""

    batch: str
    #: The version that the set reads the batch under, as in `weather@1`.
    version: str
    why: str
    #: The entry of the log that brought the batch; None where there is none.
    sequence: int | None = None


@dataclass(frozen=True, repr=False)
class ReplayReport:
    """Whether a training set, rebuilt from its id, is the same.

    >>> report = client.replay(training_set.id)
    >>> report.equal
    True
    """

    training_set: str
    #: `equal_minus_erasures`: rows of it were erased since, and what is left is what it was.
    verdict: Literal["equal", "differs", "equal_minus_erasures"]
    #: The digest that was recorded.
    digest: str
    #: The digest of what was built now.
    rebuilt: str
    rows: int
    differences: list[Difference] = field(default_factory=list)
    #: The entries of the log that made the difference, as far as that can be told.
    entries: list[Suspect] = field(default_factory=list)
    #: What is known where no entry can be named.
    note: str | None = None
    #: How long rebuilding took.
    seconds: float = 0.0

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        members = known(cls, answer)
        differences = answer.get("differences") or []
        members["differences"] = [Difference(**known(Difference, difference)) for difference in differences]
        members["entries"] = [Suspect(**known(Suspect, entry)) for entry in answer.get("entries") or []]
        return cls(**members)

    @property
    def equal(self) -> bool:
        return self.verdict == "equal"

    def __bool__(self) -> bool:
        return self.verdict != "differs"

    def __repr__(self) -> str:
        text = f"training set {self.training_set}: {self.verdict.replace('_', ' ')}, {counted(self.rows, 'row')} rebuilt in {self.seconds:.2f} s"
        text += f"\n  recorded {self.digest}\n  rebuilt  {self.rebuilt}"
        for difference in self.differences:
            block = "" if difference.first_block is None else f" from row {difference.first_block * 65536:,} on"
            text += f"\n  column {difference.column} differs{block}"
        for entry in self.entries:
            text += f"\n  sequence {entry.sequence}, batch {entry.batch} of {entry.version}: {entry.why}"
        if self.note:
            text += f"\n  {self.note}"
        return text

    def _repr_html_(self) -> str:
        title = f"{self.verdict}: {counted(self.rows, 'row')} rebuilt in {self.seconds:.2f} s"
        said = [
            ("training set", self.training_set),
            ("recorded", self.digest),
            ("rebuilt", self.rebuilt),
            ("note", self.note),
        ]
        differ = [
            [one.column, "" if one.first_block is None else f"from row {one.first_block * 65536:,} on"]
            for one in self.differences
        ]
        entries = [[str(entry.sequence), entry.batch, entry.version, entry.why] for entry in self.entries]
        return (
            html.heading(title) + html.facts(said) + (html.table(differ, ["column that differs", ""]) if differ else "")
            + (html.table(entries, ["sequence", "batch", "version", "why"]) if entries else "")
        )  # fmt: skip
