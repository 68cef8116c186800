"""Rows that their views keep no longer. See docs/retention.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from .reports import known
from .rows import counted


@dataclass(frozen=True, repr=False)
class KeptRows:
    """Files with old rows that stay for one reason."""

    #: `hold`, `deployment`, `model_version` or `training_set`; `younger_rows` where such lie in the same files.
    kept_for: str
    #: From the training set of a batch to what is kept; empty for `younger_rows`.
    path: str
    batches: int
    files: int
    #: Of the files, with younger ones.
    rows: int
    bytes: int

    def __repr__(self) -> str:
        why = "younger rows lie in them" if not self.path else f"{self.kept_for.replace('_', ' ')} {self.path}"
        return f"{counted(self.files, 'file')} of {counted(self.rows, 'row')} stay: {why}"


@dataclass(frozen=True, repr=False)
class RetainedView:
    """The old rows of one view."""

    #: `weather@1`, which says how long rows are kept.
    version: str
    #: `400d`, as the program writes it: `57w1d`.
    keep: str
    #: Rows that are valid before this do not count.
    before: str
    #: That counted up to now, and how many of each batch.
    rows: int
    batches: dict[str, int] = field(default_factory=dict)
    #: Files of old rows alone that nothing that is kept needs: the next sweep whose grace is over deletes them.
    files: int = 0
    file_rows: int = 0
    bytes: int = 0
    #: Files with old rows that stay.
    kept: list[KeptRows] = field(default_factory=list)

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        batches = {one["batch"]: one["rows"] for one in answer["batches"]}
        kept = [KeptRows(**known(KeptRows, one)) for one in answer["kept"]]
        return cls(**{**known(cls, answer), "batches": batches, "kept": kept})


@dataclass(frozen=True, repr=False)
class Retained:
    """What does not count any more, or would not."""

    views: list[RetainedView]
    dry_run: bool
    #: None where nothing was written.
    sequence: int | None
    #: Views, as `weather@1`, of which some rows are hidden from who asks what would go: no numbers of them are told.
    untold: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        return cls(**{**known(cls, answer), "views": [RetainedView.of(view) for view in answer["views"]]})

    @property
    def rows(self) -> int:
        """How many rows, of all views."""
        return sum(view.rows for view in self.views)

    def __repr__(self) -> str:
        if self.dry_run:
            return f"{counted(self.rows, 'row')} would not count any more"
        if self.sequence is None:
            return "there is nothing to let go"
        return f"{counted(self.rows, 'row')} {'does' if self.rows == 1 else 'do'} not count from sequence {self.sequence} on"
