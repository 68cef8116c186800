"""Which run a call is made for, as MLflow says it in this thread and this process."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InvalidRequest
from .authority import authority

How = Literal["thread", "environment", "explicit"]

#: The longest run that the server takes as a header, in bytes.
HEADER_BYTES = 512

_RUN_ID = re.compile(r"\A[0-9a-f]{32}\Z")


@dataclass(frozen=True)
class TrackedRun:
    """A run of an MLflow server, and how it is known that a call is made for it."""

    #: The tracking URI, as MLflow's own client takes it; it may hold credentials.
    uri: str
    #: The experiment's id on its server; empty where only the run was named.
    experiment: str
    #: The run's id on its server.
    run: str
    #: `thread` (the run is active in this thread), `environment` (MLFLOW_RUN_ID) or `explicit` (somebody
    #: named it).
    how: How

    @property
    def authority(self) -> str:
        return authority(self.uri)

    def __str__(self) -> str:
        return f"mlflow;{self.authority};{self.experiment};{self.run}"


def current(named: str | None = None) -> TrackedRun | None:
    """The run that a call of this thread is made for, or None.

    A run that `named` names comes first: who names one means it. Then the innermost run that is active in
    this thread, then MLFLOW_RUN_ID. MLflow is not imported for this, and no run is started. Text in `named`
    that names no run of MLflow (a job's name) is no run here.
    """
    return (parsed(named) if named is not None else None) or _active() or _of_environment()


def parsed(text: str) -> TrackedRun | None:
    """A run as text: `mlflow;<authority>;<experiment id>;<run id>`, or a run id alone where MLflow is in
    use."""
    if text.startswith("mlflow;"):
        parts = text.split(";")
        if len(parts) != 4 or not parts[1] or not parts[3]:
            raise InvalidRequest(
                f"run is {text!r}; a run of MLflow is written mlflow;<tracking URI>;<experiment id>;<run id>"
            )
        _, server, experiment, run = parts
        here = tracking_uri()
        same = here is not None and authority(here) == authority(server)
        return TrackedRun(here if here is not None and same else server, experiment, run, "explicit")
    if _RUN_ID.match(text):
        uri = tracking_uri()
        if uri is not None:
            active = _active()
            experiment = active.experiment if active is not None and active.run == text else ""
            return TrackedRun(uri, experiment, text, "explicit")
    return None


def named(run: Any) -> str | None:
    """The text of a run that is given as text, or as an object of MLflow's (`mlflow.active_run()`)."""
    if run is None or isinstance(run, str):
        return run
    info = getattr(run, "info", None)
    run_id, experiment = getattr(info, "run_id", None), getattr(info, "experiment_id", None)
    uri = tracking_uri()
    if not isinstance(run_id, str) or uri is None:
        raise InvalidRequest(f"run is {run!r}; it is text, such as a run id, or a run of MLflow")
    return str(TrackedRun(uri, str(experiment or ""), run_id, "explicit"))


def tracking_uri() -> str | None:
    """The tracking server in use in this process; None where there is no sign of one."""
    get = getattr(sys.modules.get("mlflow"), "get_tracking_uri", None)
    return get() if get is not None else os.environ.get("MLFLOW_TRACKING_URI") or None


def _active() -> TrackedRun | None:
    # Another thread may be importing it just now.
    active_run = getattr(sys.modules.get("mlflow"), "active_run", None)
    run = active_run() if active_run is not None else None
    uri = tracking_uri()
    if run is None or uri is None:
        return None
    return TrackedRun(uri, str(run.info.experiment_id), run.info.run_id, "thread")


def _of_environment() -> TrackedRun | None:
    run = os.environ.get("MLFLOW_RUN_ID", "")
    if not _RUN_ID.match(run):
        return None
    uri = tracking_uri()
    if uri is None:
        # Only MLflow knows its server where nobody names one. Whoever sets MLFLOW_RUN_ID is about to import
        # it anyway.
        try:
            import mlflow
        except ImportError:
            return None
        uri = mlflow.get_tracking_uri()
    return TrackedRun(uri, os.environ.get("MLFLOW_EXPERIMENT_ID", ""), run, "environment")
