"""A training set: the spine's rows with the features that were known of each at its time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow

from .reports import known
from .rows import Rows, aligned, counted, escaped, html_preview


@dataclass(frozen=True)
class Feature:
    """One feature of a training set."""

    #: The column.
    output: str
    #: What it is, with the version that gave it: `weather@1.temp`.
    reference: str
    #: Why cells are null, and how many.
    nulls: dict[str, int] = field(default_factory=dict)
    #: Cells without an observation that have the declared default.
    defaulted: int = 0


class TrainingSet(Rows):
    """The spine's columns first, as they were sent, then the features; one row for each row of the spine, in its order.

    A cell is null where no observation was known of the entity at the row's time, or where the observation has no
    value; `null_reasons` counts why.

    >>> training_set = client.get_historical_features(flights, ["weather.temp", "plane.seats"])
    >>> frame = training_set.to_df()
    >>> training_set.null_reasons
    {'temp': {}, 'seats': {'unknown_entity': 170}}
    >>> client.replay(training_set.id).equal
    True
    """

    def __init__(
        self,
        table: pyarrow.Table,
        *,
        id: str | None,
        digest: str,
        sequence: int | None,
        features: list[Feature] | None,
        matched: Mapping[str, int] | None = None,
        report: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(table)
        #: The id from which the set can be rebuilt and explained; None where it was not recorded.
        self.id = id
        #: The digest of the content, `lmt1:…`: the same for the same values, however they are stored or sent.
        self.digest = digest
        #: The sequence of the log at which the store was read; None where it is not known.
        self.sequence = sequence
        #: The features in the order of their columns; None where the set was read back from its id.
        self.features = features
        #: Rows that found an observation, by feature view version; None where the set was read back from its id.
        self.matched = None if matched is None else dict(matched)
        #: The server's report, as it came.
        self.report = dict(report or {})

    @classmethod
    def of(cls, table: pyarrow.Table, report: Mapping[str, Any]) -> TrainingSet:
        return cls(
            table,
            id=report.get("training_set"),
            digest=report.get("digest", ""),
            sequence=report.get("sequence"),
            features=[Feature(**known(Feature, feature)) for feature in report.get("features", [])],
            matched={view["version"]: view["matched"] for view in report.get("views", [])},
            report=report,
        )

    @property
    def seconds(self) -> float | None:
        """How long the server took, without sending and receiving; None where it does not say."""
        return self.report.get("seconds")

    @property
    def null_reasons(self) -> dict[str, dict[str, int]] | None:
        """By feature: how many cells are null for which reason. None where the set was read back from its id."""
        if self.features is None:
            return None
        return {feature.output: dict(feature.nulls) for feature in self.features}

    def _title(self) -> str:
        name = "unrecorded training set" if self.id is None else f"training set {self.id}"
        at = "" if self.sequence is None else f" at sequence {self.sequence}"
        return f"{name}: {counted(self.num_rows, 'row')}, {counted(self.num_columns, 'column')}{at}\n  {self.digest}"

    def _nulls(self) -> list[list[str]]:
        lines = []
        for feature in self.features or []:
            nulls = sum(feature.nulls.values())
            share = f" ({nulls / self.num_rows:.1%})" if self.num_rows else ""
            why = ", ".join(f"{count:,} {reason}" for reason, count in feature.nulls.items() if count)
            lines.append([feature.output, feature.reference, f"{nulls:,} null{share}" if nulls else "no null", why])
        return lines

    def __repr__(self) -> str:
        nulls = self._nulls()
        return self._title() + (f"\n{aligned(nulls)}" if nulls else "")

    def _repr_html_(self) -> str:
        title = escaped(self._title()).replace("\n", "<br>")
        lines = "".join(
            "<tr>" + "".join(f"<td>{escaped(text)}</td>" for text in line) + "</tr>" for line in self._nulls()
        )
        nulls = f"<table><tbody>{lines}</tbody></table>" if lines else ""
        return f"<p>{title}</p>{nulls}{html_preview(self._table)}"
