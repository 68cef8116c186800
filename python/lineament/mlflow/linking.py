"""What the client does at each call, so that a training set is linked to the run that it was retrieved
for."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import Error, InvalidRequest, NotFound
from ..quoting import literal
from ..training_set import TrainingSet, training_set_of
from . import tracked_run
from .dataset_input import RecordedSet
from .links import LogInput, RecordUse, use
from .outbox import OUTBOX
from .pending import PENDING, TAG
from .tracked_run import HEADER_BYTES, TrackedRun

Role = Literal["train", "validate", "test", "score", "unknown"]
ROLES = ("train", "validate", "test", "score", "unknown")

# What a set that is retrieved now is for.
_ROLE: ContextVar[Role] = ContextVar("lineament_role", default="unknown")


@dataclass(frozen=True)
class Use:
    """A training set that was used in a run."""

    training_set: str
    #: The run as the store has it: `mlflow;<authority>;<experiment id>;<run id>`.
    run: str
    role: str
    #: How the run is known: `thread`, `environment` or `explicit`.
    how: str


def call_headers(named: str | None) -> list[tuple[str, str]]:
    """The headers that say for which run a call is made; `named` is what the client was given as its run."""
    run = _current(named)
    # Also without a run: what a model scores may be closed to others.
    role: list[tuple[str, str]] = [] if _ROLE.get() == "unknown" else [("lineament-role", _ROLE.get())]
    if run is not None:
        PENDING.flush_to(run, _tag(run))
        # What somebody named in his own words stays as he named it; the run of MLflow is linked afterwards.
        if _carried(run, named):
            return [("lineament-run", str(run)), ("lineament-how", run.how), *role]
    return role if named is None else [("lineament-run", named), ("lineament-how", "explicit"), *role]


def recorded(named: str | None, url: str, training_set: TrainingSet, profile: Mapping[str, Any]) -> None:
    """Links a set that was just recorded to the run that it was retrieved for, or keeps it for the next.
    Never raises."""
    if training_set.id is None:
        return
    facts = RecordedSet(
        id=training_set.id, url=url, digest=training_set.digest, sequence=training_set.sequence,
        name=profile.get("name"), schema=training_set.schema.remove_metadata(), profile=profile,
    )  # fmt: skip
    run = _current(named)
    if run is None:
        PENDING.add(facts)
        return
    role = _ROLE.get()
    OUTBOX.put(LogInput(run, facts, "train" if role == "unknown" else role))
    if not _carried(run, named):
        OUTBOX.put(RecordUse(facts, run, run.how, role))


def used(client: Any, data: Any, run: Any, role: str) -> Use:
    """Records in the store that a training set was used in a run, and logs it as an input of the run in
    MLflow."""
    if role not in ROLES:
        raise InvalidRequest(f"role is {role!r}; it is one of {', '.join(ROLES)}")
    id = training_set_of(data)
    if run is not None:
        text = tracked_run.named(run)
        tracked = tracked_run.parsed(str(text))
    else:
        text = client.run
        tracked = _current(text)
    if tracked is None and text is None:
        raise InvalidRequest(
            "no run is active in this thread, and none is named; give run=, or start one first"
        )
    wanted = str(tracked) if tracked is not None else str(text)
    how = tracked.how if tracked is not None else "explicit"
    facts = _facts(client, id, data)
    client._action("lineament.use", use(id, wanted, role, how))
    if tracked is not None:
        OUTBOX.put(LogInput(tracked, facts, role))
    return Use(id, wanted, role, how)


@contextmanager
def retrieved_for(role: Role) -> Iterator[None]:
    """Sets that are retrieved within have this role."""
    token = _ROLE.set(role)
    try:
        yield
    finally:
        _ROLE.reset(token)


def _current(named: str | None) -> TrackedRun | None:
    try:
        return tracked_run.current(named)
    except Error:
        raise
    except Exception as error:  # noqa: BLE001  (an oddity of MLflow's must not fail a retrieval)
        OUTBOX.warn(
            f"MLflow does not say which run is active: {error}; give run= to connect()", once="active run"
        )
        return None


def _carried(run: TrackedRun, named: str | None) -> bool:
    """Whether the run goes into the header of the call, by which the store links it in the entry of the
    retrieval."""
    return (named is None or run.how == "explicit") and len(str(run)) <= HEADER_BYTES


def _tag(run: TrackedRun) -> str | None:
    """What the active run has carried of ours since it was created."""
    active_run = getattr(sys.modules.get("mlflow"), "active_run", None)
    active = active_run() if active_run is not None else None
    return active.data.tags.get(TAG) if active is not None and active.info.run_id == run.run else None


def _facts(client: Any, id: str, data: Any) -> RecordedSet:
    """What the store knows of a set. Raises `NotFound` where it has none."""
    rows = client.sql(
        f"SELECT digest, snapshot FROM lineament.training_sets WHERE training_set = {literal(id)}"
    ).to_arrow().to_pylist()  # fmt: skip
    if not rows:
        raise NotFound(f"there is no training set `{id}` in the store at {client.url}")
    schema = data.schema if isinstance(data, TrainingSet) else None
    asked = data.asked if isinstance(data, TrainingSet) else None
    return RecordedSet(
        id=id, url=client.url, digest=rows[0]["digest"], sequence=rows[0]["snapshot"],
        name=(asked or {}).get("name"), profile=asked,
        schema=None if schema is None else schema.remove_metadata(),
    )  # fmt: skip
