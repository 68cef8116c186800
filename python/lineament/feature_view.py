"""A feature view as it is in force: what it holds, since when, and by which rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import html
from .rows import aligned, counted


@dataclass(frozen=True)
class FeatureDescription:
    """One feature of a view."""

    feature: str
    type: str
    unit: str | None = None
    #: The accepted values, in words; None where all are.
    accepted: str | None = None
    nullable: bool = True
    default: str | None = None
    description: str | None = None
    owner: str | None = None


@dataclass(frozen=True, repr=False)
class FeatureView:
    """A feature view with its features.

    >>> client.feature_view("leg")
    leg@1 of plane (tailnum): 1 feature, ... rows in 1 batch
      ...
      delay  int32  minute  ...
    """

    name: str
    project: str
    version: int
    entity: str
    keys: list[str]
    #: How far a retrieval looks back; None for ever.
    ttl: str | None
    #: When a row could first have been known: `column`, `delay …`, `arrival` or `assumed`.
    known_at: str
    rows: int
    batches: int
    description: str | None = None
    owner: str | None = None
    hypothesis: str | None = None
    features: list[FeatureDescription] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Name and version, as in `weather@1`; with the project where it is not `default`."""
        return f"{'' if self.project == 'default' else self.project + '.'}{self.name}@{self.version}"

    def __repr__(self) -> str:
        lines = [[*map(str, row)] for row in self._features()]
        note = f"\n  {self.description}" if self.description else ""
        return f"{self._title()}{note}\n  {self._rules()}" + (f"\n{aligned(lines)}" if lines else "")

    def _repr_html_(self) -> str:
        said = [("description", self.description), ("owner", self.owner), ("hypothesis", self.hypothesis)]
        head = ["feature", "type", "unit", "accepted", ""]
        return (
            html.heading(self._title())
            + html.facts([*said, ("rules", self._rules())])
            + html.table(self._features(), head)
        )

    def _title(self) -> str:
        return (
            f"{self.label} of {self.entity} ({', '.join(self.keys)}): "
            f"{counted(len(self.features), 'feature')}, "
            f"{counted(self.rows, 'row')} in {counted(self.batches, 'batch')}"
        )

    def _rules(self) -> str:
        return f"known_at: {self.known_at}; looks back {self.ttl or 'for ever'}"

    def _features(self) -> list[list[str]]:
        return [
            [
                feature.feature, feature.type, feature.unit or "", feature.accepted or "",
                ", ".join(
                    note
                    for note in (
                        "" if feature.nullable else "not null",
                        "" if feature.default is None else f"default {feature.default}",
                        feature.description or "",
                    )
                    if note
                ),
            ]
            for feature in self.features
        ]  # fmt: skip


def feature_view(view: dict[str, Any], features: list[dict[str, Any]]) -> FeatureView:
    """Of a row of `lineament.feature_views` and those of its features."""
    described = [
        FeatureDescription(
            feature["feature"], feature["type"], feature["unit"], feature["accepted"], feature["nullable"],
            feature["default_value"], feature["description"], feature["owner"],
        )
        for feature in features
    ]  # fmt: skip
    return FeatureView(
        view["feature_view"], view["project"], view["version"], view["entity"],
        [key.strip() for key in view["keys"].split(",")], view["ttl"], view["known_at"], view["rows"] or 0, view["batches"] or 0,
        view["description"], view["owner"], view["hypothesis"], described,
    )  # fmt: skip
