"""What will go, and what others have to agree to: announced, told to whoever reads it, approved."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Self

from .definition import read_definitions
from .errors import InvalidRequest
from .instants import instant
from .policies import PolicyPlan, read_policies
from .reports import known
from .rows import counted

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class DeprecatedFeatureWarning(FutureWarning):
    """Something that was read will go: a version of a feature view, a feature view, or a feature service.

    `notice` has what the server says of it: `of`, `kind`, `stage`, `reason`, `by`, `closed_at`, `withdrawn_at`, `instead`.
    """

    def __init__(self, text: str, notice: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        #: What the server says of it.
        self.notice = dict(notice or {})


def warn(report: Mapping[str, Any] | None) -> None:
    """Warns of what a report says will go, where it was asked for."""
    for notice in (report or {}).get("deprecations") or []:
        warnings.warn(DeprecatedFeatureWarning(_words(notice), notice), stacklevel=_level())


def _level() -> int:
    """How far up the first caller is that is not of this package."""
    level, frame = 2, sys._getframe(2)
    while frame.f_back is not None and os.path.abspath(frame.f_code.co_filename).startswith(_HERE):
        level, frame = level + 1, frame.f_back
    return level


def _words(notice: Mapping[str, Any]) -> str:
    text = f"{notice.get('of')} is deprecated by {notice.get('by')}: {notice.get('reason')}; "
    if notice.get("stage") == "closed":
        text += "it is closed to new training sets"
    else:
        text += f"it is closed to new training sets on {notice.get('closed_at')}"
    if notice.get("withdrawn_at"):
        text += f", and read no more from {notice['withdrawn_at']} on"
    if notice.get("instead"):
        text += f"; use {notice['instead']} instead"
    return text


@dataclass(frozen=True, repr=False)
class Deprecation:
    """What was deprecated, or is no more."""

    #: `weather@1`
    of: str
    #: `version`, `feature_view` or `feature_service`.
    kind: str
    undo: bool
    sequence: int
    #: From when on it makes no new training set, and from when on it is read no more.
    closed_at: str | None = None
    withdrawn_at: str | None = None
    instead: str | None = None
    #: What stands on it now.
    training_sets: int = 0
    model_versions: list[str] = field(default_factory=list)
    #: In force. What they stand on is not withdrawn unless somebody says why.
    deployments: list[str] = field(default_factory=list)
    #: Why reconciliation will name it: its author is not its owner, and no policies said that they may.
    without_right: str | None = None

    @classmethod
    def of_answer(cls, answer: Mapping[str, Any]) -> Self:
        return cls(**known(cls, answer))

    def __repr__(self) -> str:
        if self.undo:
            return f"{self.of} is not deprecated any more, from sequence {self.sequence} on"
        withdrawn = "" if self.withdrawn_at is None else f", read no more from {self.withdrawn_at} on"
        return (
            f"{self.of} is deprecated at sequence {self.sequence}: closed to new training sets on {self.closed_at}{withdrawn}; "
            f"in use by {counted(self.training_sets, 'training set')}, {counted(len(self.model_versions), 'model version')}, "
            f"{counted(len(self.deployments), 'deployment')} in force"
        )


@dataclass(frozen=True, repr=False)
class Approval:
    """What was said of somebody else's plan."""

    #: The digest of the plan.
    plan: str
    approved: bool
    proposed_by: str
    #: Why it was proposed.
    proposed_for: str
    #: What it would change, in words.
    changes: list[str]
    sequence: int

    def __repr__(self) -> str:
        said = "approved" if self.approved else "declined"
        lines = "".join(f"\n  {change}" for change in self.changes)
        return f"plan of {self.proposed_by} {said} at sequence {self.sequence}: {self.proposed_for}{lines}"


class Governance:
    """What a client says of what is to go and to change."""

    def _action(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def deprecate(
        self,
        node: str,
        *,
        reason: str,
        closed_on: str | date | datetime | None = None,
        withdrawn_on: str | date | datetime | None = None,
        instead: str | None = None,
        undo: bool = False,
    ) -> Deprecation:
        """Announces that a version (`weather@1`), a feature view (`weather`) or a feature service will go, or with `undo` that it stays.

        Who reads it is warned by a `DeprecatedFeatureWarning`. From `closed_on` on it makes no new training set, while models that are there
        are scored, and sets replayed, as before; from `withdrawn_on` on it is read no more but by replays. `instead` names what takes its
        place. Raises `Forbidden` where policies do not permit it, `InvalidRequest` for a day that is past. See docs/deprecation.md.

        >>> client.deprecate("plane@1", reason="the register moves", closed_on="2100-01-01")
        plane@1 is deprecated at sequence ...: closed to new training sets on 2100-01-01T00:00:00Z; in use by ...
        >>> client.deprecate("plane@1", reason="it stays", undo=True)
        plane@1 is not deprecated any more, from sequence ... on
        """
        body: dict[str, Any] = {"node": str(node), "reason": reason, "undo": undo}
        for name, day in (("closed_on", closed_on), ("withdrawn_on", withdrawn_on)):
            if day is not None:
                body[name] = _day(day, name)
        if instead is not None:
            body["instead"] = str(instead)
        return Deprecation.of_answer(self._action("lineament.deprecate", body))

    def approve(self, plan: str, *, reason: str, decline: bool = False) -> Approval:
        """Lets somebody else's plan pass that breaks others and waits, or with `decline` does not.

        `plan` is the digest that `plan` gives and the refused `apply` named, or the first digits of it. It counts for exactly this plan. Raises
        `NotFound` where no such plan was proposed, `Forbidden` for its own author and for who may not. See docs/definitions.md.

        >>> client.approve("0123456789ab", reason="agreed in the review")
        Traceback (most recent call last):
        ...
        lineament.errors.NotFound: no plan of the digest `0123456789ab` was proposed; ...
        """
        body = {"plan": str(plan), "reason": reason, "decline": decline}
        return Approval(**known(Approval, self._action("lineament.approve", body)))

    def plan_policies(
        self,
        policies: str | Path | Iterable[str | Path] | Mapping[str, str],
        *,
        definitions: str | Path | Iterable[str | Path] | Mapping[str, str] | None = None,
    ) -> PolicyPlan:
        """What applying these policies would change. Nothing is written.

        `policies`: a folder (all its `*.cedar`), a file, several files, or a mapping of file name to text. `definitions` are such as are not
        applied yet, that policies may speak of their keys. Raises `InvalidRequest` with all that is wrong, by file, line and column.

        >>> client.plan_policies({"base.cedar": "permit(principal, action == Action::\\"red\\", resource);"})
        Traceback (most recent call last):
        ...
        lineament.errors.InvalidRequest: base.cedar:1:... did you mean `Action::"read"`...
        """
        return PolicyPlan.of(self._action("lineament.plan_policies", _policies(policies, definitions)))

    def apply_policies(
        self,
        policies: str | Path | Iterable[str | Path] | Mapping[str, str],
        *,
        definitions: str | Path | Iterable[str | Path] | Mapping[str, str] | None = None,
    ) -> PolicyPlan:
        """Makes these policies the ones in force, all of them and whole, in one log entry: from then on only what they permit is allowed.

        Takes what `plan_policies` takes, and raises what it raises; `InvalidRequest` also where their author could not change them again, and
        `Forbidden` for who may not govern. `SELECT * FROM lineament.policies` lists every version. See docs/policies.md.

        >>> client.apply_policies({"base.cedar": "// nobody may do anything"})
        Traceback (most recent call last):
        ...
        lineament.errors.InvalidRequest: these files hold no policy, ...
        """
        return PolicyPlan.of(self._action("lineament.apply_policies", _policies(policies, definitions)))

    def lift_policies(self, *, reason: str) -> int:
        """Takes all policies out of force, so that everybody may do everything; the sequence of the log entry.

        >>> client.lift_policies(reason="an exercise")
        Traceback (most recent call last):
        ...
        lineament.errors.InvalidRequest: no policies are in force; there is nothing to lift...
        """
        return self._action("lineament.lift_policies", {"reason": reason})["sequence"]


def _policies(policies: Any, definitions: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"files": read_policies(policies)}
    if definitions is not None:
        body["definitions"] = read_definitions(definitions)
    return body


def _day(day: str | date | datetime, name: str) -> str:
    """As the server reads it: a day in UTC, or an instant with its zone."""
    if isinstance(day, datetime):
        return instant(day, name)
    if isinstance(day, date):
        return day.isoformat()
    if not isinstance(day, str):
        raise InvalidRequest(f"{name} is {day!r}; it is a date, a datetime with its zone, or a text as 2027-01-01")
    return day
