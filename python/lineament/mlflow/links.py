"""What links a training set to a run: an input and a tag in MLflow, a use in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import Error, without_action
from .dataset_input import RecordedSet, dataset_input
from .outbox import Job, Unwritable, check_reachable, translated_from_mlflow, translated_from_store
from .tracked_run import TrackedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient


def client_of(uri: str) -> MlflowClient:
    """MLflow's own client for one server. Imports MLflow."""
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise Unwritable(
            f"MLflow cannot be imported here ({error}); pip install 'lineament[mlflow]'"
        ) from None  # fmt: skip
    return MlflowClient(tracking_uri=uri)


class _OfRun(Job):
    def __init__(self, run: TrackedRun, training_sets: tuple[str, ...]) -> None:
        self._run = run
        self.run = str(run)
        self.target = run.uri
        self.training_sets = training_sets


class LogInput(_OfRun):
    """The training set as a dataset input of the run."""

    def __init__(self, run: TrackedRun, recorded: RecordedSet, role: str = "train") -> None:
        super().__init__(run, (recorded.id,))
        self._recorded = recorded
        self._role = role

    @property
    def what(self) -> str:
        return f"the dataset input {self._recorded.id} of MLflow's run {self._run.run}"

    def write(self) -> list[Job]:
        check_reachable(self._run.uri)
        client = client_of(self._run.uri)
        try:
            client.log_inputs(self._run.run, [dataset_input(self._recorded, self._role)])
        except Exception as error:
            raise translated_from_mlflow(error) from error
        return []


class TagRun(_OfRun):
    """The tag that names training sets, added to those that the run names already."""

    def __init__(self, run: TrackedRun, tag: str, training_sets: tuple[str, ...]) -> None:
        super().__init__(run, training_sets)
        self._tag = tag

    @property
    def what(self) -> str:
        return f"the tag {self._tag} of MLflow's run {self._run.run}"

    def write(self) -> list[Job]:
        check_reachable(self._run.uri)
        client = client_of(self._run.uri)
        try:
            there = client.get_run(self._run.run).data.tags.get(self._tag, "")
            ids = dict.fromkeys([*filter(None, there.split(",")), *self.training_sets])
            client.set_tag(self._run.run, self._tag, ",".join(ids))
        except Exception as error:
            raise translated_from_mlflow(error) from error
        return []


class RecordUse(_OfRun):
    """The use in the store's own log."""

    def __init__(self, recorded: RecordedSet, run: TrackedRun, how: str, role: str = "unknown") -> None:
        super().__init__(run, (recorded.id,))
        self.target = recorded.url
        self._how = how
        self._role = role

    @property
    def what(self) -> str:
        return f"the use of training set {self.training_sets[0]} by run {self._run.run} in the store"

    def write(self) -> list[Job]:
        # A connection of its own: the client that retrieved the set may be closed by now.
        from ..client import connect

        try:
            with connect(self.target) as client:
                client._action(
                    "lineament.use", use(self.training_sets[0], self.run or "", self._role, self._how)
                )
        except Error as error:
            if without_action(error):
                raise Unwritable(
                    f"the server at {self.target} does not take uses; the run names the set in MLflow, where "
                    "lineament.mlflow.reconcile finds it once the server does"
                ) from error
            raise translated_from_store(error) from error
        return []


def use(training_set: str, run: str, role: str, how: str) -> dict[str, str]:
    """The body of the action `lineament.use`."""
    return {"training_set": training_set, "run": run, "role": role, "how": how}
