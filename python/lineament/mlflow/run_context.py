"""MLflow's entry point `mlflow.run_context_provider`: what a run that is being created is told of us."""

from __future__ import annotations

import sys
from types import FrameType

from mlflow.tracking.context.abstract_context import RunContextProvider

from .pending import PENDING, TAG

# From here up to `start_run` lie `tags`, MLflow's registry, and what else may come between.
_FRAMES = 8


class PendingTrainingSets(RunContextProvider):
    """Puts the tag `lineament.training_sets` on the next run, where sets were retrieved before it."""

    def in_context(self) -> bool:
        return _run_is_created()

    def tags(self) -> dict[str, str]:
        value = PENDING.offer()
        return {} if value is None else {TAG: value}


def _run_is_created() -> bool:
    """Whether MLflow asks because a run is being created. It asks the same for traces, models and datasets
    too, and does not say which; the tag would go to them and be lost to the run."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_FRAMES):
        frame = frame.f_back if frame is not None else None
        if frame is None:
            return False
        if (
            frame.f_code.co_name == "start_run"
            and frame.f_globals.get("__name__") == "mlflow.tracking.fluent"
        ):
            return True
    return False
