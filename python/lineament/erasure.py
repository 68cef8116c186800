"""Entities whose values are gone. See docs/erasure.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from .reports import known
from .rows import counted


@dataclass(frozen=True, repr=False)
class ErasedTrainingSet:
    """A training set that had rows of the entity."""

    training_set: str
    name: str | None
    rows: int
    #: Whether a replay can prove what is left; None before it is erased.
    provable: bool | None

    def __repr__(self) -> str:
        return f"{counted(self.rows, 'row')} of training set {self.name or self.training_set}"


@dataclass(frozen=True, repr=False)
class Erased:
    """What went, or would go. It names the key nowhere."""

    entity: str
    dry_run: bool
    #: From this entry on the values are gone, at every sequence; None where nothing was written.
    sequence: int | None
    views: list[str]
    #: Rows of all batches, and of each.
    rows: int
    batches: dict[str, int] = field(default_factory=dict)
    #: Data files that had such rows.
    files: int = 0
    #: Reasons of rejected rows.
    rejected: int = 0
    #: Recorded reads that spoke of it.
    reads: int = 0
    #: Spines that clients put up: nobody can ask for them any more.
    spines: int = 0
    #: Profiles of samples of what was read or streamed, among whose entities it is.
    samples: int = 0
    #: More of these than one entry can name: the next erasure goes on.
    samples_left: int = 0
    #: Batches of derived views of other entities that were computed from batches with such rows, with their views. They stay.
    derived_left: dict[str, str] = field(default_factory=dict)
    training_sets: list[ErasedTrainingSet] = field(default_factory=list)
    #: What was made of these sets: `model version delay/3`, `deployment delay-api`.
    kept_for: list[str] = field(default_factory=list)
    #: The id of the erasure; None where nothing was written.
    erasure: str | None = None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        batches = {one["batch"]: one["rows"] for one in answer["batches"]}
        sets = [ErasedTrainingSet(**known(ErasedTrainingSet, one)) for one in answer["training_sets"]]
        derived = {one["batch"]: one["version"] for one in answer.get("derived_left", [])}
        return cls(**{**known(cls, answer), "batches": batches, "derived_left": derived, "training_sets": sets})

    def __repr__(self) -> str:
        rows = counted(self.rows, "row")
        if self.dry_run:
            return f"{rows} of {self.entity} would go"
        if self.sequence is None:
            return "there is nothing of it"
        return f"{rows} of {self.entity} {'is' if self.rows == 1 else 'are'} gone: entry {self.sequence}"
