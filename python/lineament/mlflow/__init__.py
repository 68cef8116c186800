"""Training sets and the runs of MLflow that they were made for. See docs/mlflow.md.

Nothing needs to be called: with MLflow in the process, a training set that is asked for inside
`mlflow.start_run()` is linked to that run, and logged as its dataset input. Importing this does not import
MLflow.

>>> lineament.mlflow.pending()
[Waiting(what='the link to the next run', ...)]
"""

from __future__ import annotations

from .authority import authority
from .linking import Use
from .models import ModelReference, Predictions
from .outbox import OUTBOX, LinkWarning, Waiting
from .pending import PENDING
from .reconciliation import Known, Observation, ReconciliationReport, RunUse, observe, reconcile

__all__ = [
    "Known",
    "LinkWarning",
    "ModelReference",
    "Observation",
    "Predictions",
    "ReconciliationReport",
    "RunUse",
    "Use",
    "Waiting",
    "authority",
    "flush",
    "observe",
    "pending",
    "reconcile",
]


def pending() -> list[Waiting]:
    """What is not linked yet in this process: sets that wait for a run, and links that wait for a server or
    that failed.

    None of it is lost from the store: it has every training set, and the run of each that was retrieved
    inside one.
    """
    return [*PENDING.waiting(), *OUTBOX.waiting()]


def flush(seconds: float = 30.0) -> list[Waiting]:
    """Writes now what waits for a server, and gives what is still not linked. Otherwise it is written in the
    background, and when the process ends. Returns when all was tried once, or after `seconds`.

    >>> lineament.mlflow.flush()
    [Waiting(what='the link to the next run', ...)]
    """
    OUTBOX.flush(seconds)
    return pending()
