"""What was found by words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from . import html
from .reports import known
from .rows import counted


@dataclass(frozen=True)
class Found:
    """A feature, a feature view or a feature service that has the words."""

    kind: Literal["feature", "feature_view", "feature_service"]
    #: As it is asked for: `weather.temp`, `weather`, `delay`.
    name: str
    #: Of the view in force, or of the service.
    version: int
    unit: str | None = None
    #: Of a feature, its view's where it has none of its own.
    owner: str | None = None
    #: Of a feature, its view's too.
    tags: list[str] = field(default_factory=list)
    description: str | None = None
    #: Models, deployments, services and named training sets that have it; the first twenty.
    uses: list[str] = field(default_factory=list)
    #: Where the words stand: name, tag, unit, owner, use, view, description.
    matched: list[str] = field(default_factory=list)
    score: float = 0.0


@dataclass(frozen=True, repr=False)
class SearchResult:
    """What was found, the best first.

    >>> next(iter(client.search("temperatur dew", kind="feature"))).name
    'weather.dewp'
    """

    found: list[Found]
    #: Whether that is all.
    complete: bool
    sequence: int

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        found = [Found(**known(Found, one)) for one in answer["found"]]
        return cls(found, answer["complete"], answer["sequence"])

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Found]:
        return iter(self.found)

    def __getitem__(self, place: int) -> Found:
        return self.found[place]

    def _lines(self) -> list[list[str]]:
        return [
            [one.name, one.kind.replace("_", " "), one.unit or "", one.owner or "", ", ".join(one.tags),
             ", ".join(one.uses), one.description or ""]
            for one in self.found
        ]  # fmt: skip

    def __repr__(self) -> str:
        more = "" if self.complete else ", and more"
        names = "".join(
            f"\n  {one.name}" + (f" ({one.unit})" if one.unit else "") + (f": {one.description}" if one.description else "")
            for one in self.found
        )
        return f"{counted(len(self.found), 'thing')} found{more}{names}"

    def _repr_html_(self) -> str:
        head = ["name", "kind", "unit", "owner", "tags", "uses", "description"]
        return html.heading(f"{counted(len(self.found), 'thing')} found") + html.table(self._lines(), head)
