"""A training set: the spine's rows with the features that were known of each at its time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pyarrow

from . import html
from .errors import InvalidRequest
from .reports import known
from .rows import Rows, aligned, counted, html_preview
from .splits import Parts, Split

if TYPE_CHECKING:
    import pandas

#: Where tables (in their schema's metadata) and pandas frames (in `attrs`) say of which training set their rows are.
MARK = "lineament.training_set"


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
        super().__init__(_marked(table, id))
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
        #: How it was asked for, as it is logged in MLflow; None where the set was read back from its id.
        self.asked: dict[str, Any] | None = None
        #: How it was declared to fall into parts; None where it was not.
        self.split: Split | None = None
        #: Its time column; None where it is not known.
        self.at: str | None = None
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

    def parts(self) -> Parts:
        """Its rows by part, by the split that it was recorded with. Raises `InvalidRequest` where it has none.

        >>> rule = lineament.Split.by_entity("origin", {"train": 2, "test": 1}, seed=3)
        >>> parts = client.get_historical_features(flights, ["weather.temp"], split=rule).parts()
        >>> sorted(set(parts["train"]["origin"].to_pylist()) & set(parts["test"]["origin"].to_pylist()))
        []
        """
        if self.split is None:
            raise InvalidRequest(
                "this training set was recorded without a split; give get_historical_features(…, split=lineament.Split.…) one"
            )
        return Parts(self._table, self.split, self.at)

    def to_df(self, *, dtype_backend: Literal["numpy", "pyarrow"] = "numpy") -> pandas.DataFrame:
        """The rows as a pandas frame with a plain index, as `Rows.to_df` makes them; its `attrs` name the training set.

        pandas keeps `attrs` through filters, copies and Parquet, so that `client.use(frame)` knows the set again.

        >>> frame = training_set.to_df()
        >>> frame[frame.seats > 100].attrs["lineament.training_set"] == training_set.id
        True
        """
        frame = super().to_df(dtype_backend=dtype_backend)
        frame.attrs.pop(MARK, None)
        if self.id is not None:
            frame.attrs[MARK] = self.id
        return frame

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
        lines = self._nulls()
        nulls = html.table(lines, ["column", "feature", "", "why"]) if lines else ""
        return f"{html.paragraph(self._title())}{nulls}{html_preview(self._table)}"


def training_set_of(data: Any) -> str:
    """The id of the training set that is given: as an id, a `TrainingSet`, or a frame or table that says where it is from.

    Raises `InvalidRequest` where it says nothing.
    """
    if isinstance(data, str):
        return data
    if isinstance(data, TrainingSet):
        if data.id is None:
            raise InvalidRequest("this training set was not recorded, so nothing can refer to it; ask with record=True")
        return data.id
    schema = getattr(data, "schema", None)
    metadata = schema.metadata if isinstance(schema, pyarrow.Schema) else None
    mark = (metadata or {}).get(MARK.encode())
    # pandas writes `attrs` into Parquet as JSON, which Arrow reads back as that.
    attrs = _attributes(metadata or {}) if isinstance(schema, pyarrow.Schema) else getattr(data, "attrs", None)
    if mark is None and isinstance(attrs, dict):
        mark = attrs.get(MARK)
    if mark is None:
        raise InvalidRequest(
            f"this {type(data).__name__} does not say of which training set it is (Polars frames never do, and pandas loses it "
            "in some operations); give the TrainingSet or its id"
        )
    return mark.decode() if isinstance(mark, bytes) else str(mark)


def _attributes(metadata: Mapping[bytes, bytes]) -> Any:
    for key, member in ((b"PANDAS_ATTRS", None), (b"pandas", "attributes")):
        try:
            value = json.loads(metadata.get(key, b"null"))
        except ValueError:
            continue
        value = value.get(member) if member is not None and isinstance(value, dict) else value
        if isinstance(value, dict) and MARK in value:
            return value
    return None


def _marked(table: pyarrow.Table, id: str | None) -> pyarrow.Table:
    """The table with the id in its metadata. What the spine was a part of before, these rows are not."""
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key != MARK.encode()}
    if id is not None:
        metadata[MARK.encode()] = id.encode()
    return table.replace_schema_metadata(metadata or None)
