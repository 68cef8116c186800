"""Policies of a store: what applying them changes. See docs/policies.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from .errors import InvalidRequest, NotFound
from .reports import known


@dataclass(frozen=True, repr=False)
class PolicyPlan:
    """What policies change, or have changed: always all of them, whole.

    >>> client.plan_policies({"base.cedar": "permit(principal, action, resource);"})
    policies@1, not applied
      + base.cedar
    """

    #: Of the version that it makes, or of the one in force where nothing changes.
    number: int
    #: Names of files.
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    #: The log entry that made it so; None for a plan, and where nothing changed.
    sequence: int | None = None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        return cls(**known(cls, answer))

    def __repr__(self) -> str:
        signs = (("+", self.added), ("~", self.changed), ("-", self.removed))
        lines = "".join(f"\n  {sign} {name}" for sign, names in signs for name in names)
        if not lines:
            return f"policies@{self.number}, as they were"
        state = "not applied" if self.sequence is None else f"in force from sequence {self.sequence} on"
        return f"policies@{self.number}, {state}{lines}"


def read_policies(source: str | Path | Iterable[str | Path] | Mapping[str, str]) -> dict[str, str]:
    """Policy files by name: of a folder (its `*.cedar`), one file, several files, or a mapping of name to text."""
    if isinstance(source, Mapping):
        return {str(name): str(text) for name, text in source.items()}
    if isinstance(source, (str, Path)):
        path = Path(source)
        paths = sorted(path.glob("*.cedar")) if path.is_dir() else [path]
    else:
        paths = [Path(path) for path in source]
    if not paths:
        raise NotFound(f"{source} has no policy files (*.cedar)")
    files = {}
    for path in paths:
        try:
            files[path.name] = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise NotFound(f"there is no file or folder {path}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"the policy file {path} cannot be read: {error}") from None
    if len(files) < len(paths):
        raise InvalidRequest("two policy files have the same name; rename one of them")
    return files
