"""Training sets that were retrieved before there was a run, and how the next run gets them."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .dataset_input import RecordedSet
from .links import LogInput, RecordUse, TagRun, client_of
from .outbox import OUTBOX, Job, Later, Waiting, check_reachable, translated_from_mlflow
from .tracked_run import TrackedRun, tracking_uri

#: The tag by which a run names the training sets that were retrieved before it, ids with commas between.
TAG = "lineament.training_sets"
#: So many ids fit into a tag, which MLflow cuts at 8,000 characters. Of more sets without a run, the latest
#: count.
MOST = 200
# A run that was asked for its tags is there a moment later, or its creation failed.
_SEARCHES = 7


@dataclass(frozen=True)
class _Retrieved:
    recorded: RecordedSet
    #: Seconds of the wall clock: a run that ended before was not made with this set.
    at: float


class Pending:
    """The sets of this process that have no run yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sets: dict[str, _Retrieved] = {}
        #: Handed to a run that is being created, by the tag's value.
        self._offered: dict[str, list[_Retrieved]] = {}

    def add(self, recorded: RecordedSet) -> None:
        self._put_back([_Retrieved(recorded, time.time())])

    def waiting(self) -> list[Waiting]:
        with self._lock:
            return [
                Waiting("the link to the next run", (id,), None, error="no run began since it was retrieved")
                for id in self._sets
            ]

    def offer(self) -> str | None:
        """The tag's value for a run that is being created now; None where no set waits."""
        with self._lock:
            if not self._sets:
                return None
            offered, self._sets = list(self._sets.values()), {}
            value = ",".join(retrieved.recorded.id for retrieved in offered)
            self._offered[value] = offered
        uri = tracking_uri()
        if uri is not None:
            OUTBOX.put(FindRun(uri, value))
        return value

    def flush_to(self, run: TrackedRun, tag: str | None = None) -> None:
        """Links all that waits to a run that is there. `tag`: what the run carries of ours since its
        creation."""
        # Mostly nothing waits, and this is asked at every call.
        if not self._sets and not self._offered:
            return
        with self._lock:
            tagged = self._offered.pop(tag, []) if tag is not None else []
            untagged, self._sets = list(self._sets.values()), {}
        for job in _links(tagged, run):
            OUTBOX.put(job)
        if untagged:
            OUTBOX.put(TagRun(run, TAG, tuple(retrieved.recorded.id for retrieved in untagged)))
            for job in _links(untagged, run):
                OUTBOX.put(job)

    def is_offered(self, tag: str) -> bool:
        with self._lock:
            return tag in self._offered

    def found(self, tag: str, run: TrackedRun) -> list[Job]:
        """The run that was created with the tag: what is to be written now."""
        with self._lock:
            return _links(self._offered.pop(tag, []), run)

    def not_found(self, tag: str) -> None:
        """No run came of it: its sets wait for another."""
        with self._lock:
            offered = self._offered.pop(tag, [])
        self._put_back(offered)

    def last_retrieved(self) -> float | None:
        with self._lock:
            return max((retrieved.at for retrieved in self._sets.values()), default=None)

    def forget(self) -> None:
        self.__init__()  # type: ignore[misc]

    def _put_back(self, retrieved: list[_Retrieved]) -> None:
        with self._lock:
            for one in retrieved:
                self._sets[one.recorded.id] = one
            while len(self._sets) > MOST:
                self._sets.pop(next(iter(self._sets)))


def _links(retrieved: list[_Retrieved], run: TrackedRun) -> list[Job]:
    jobs: list[Job] = []
    for one in retrieved:
        jobs += [LogInput(run, one.recorded), RecordUse(one.recorded, run, how="pending")]
    return jobs


class FindRun(Job):
    """Finds the run that was created with our tag. It is asked for its tags before it has an id, and nobody
    tells us after."""

    run = None

    def __init__(self, uri: str, tag: str) -> None:
        self.target = self._uri = uri
        self._tag = tag
        self.training_sets = tuple(tag.split(","))
        self._searches = 0

    @property
    def what(self) -> str:
        return f"the link of {len(self.training_sets)} training set(s) to the run that begins"

    def write(self) -> list[Job]:
        if not PENDING.is_offered(self._tag):
            return []
        check_reachable(self._uri)
        client = client_of(self._uri)
        try:
            experiments = [experiment.experiment_id for experiment in _pages(client.search_experiments)]
            runs = client.search_runs(
                experiments, filter_string=f"tags.`{TAG}` = '{self._tag}'", max_results=1
            )  # fmt: skip
        except Exception as error:
            raise translated_from_mlflow(error) from error
        if runs:
            info = runs[0].info
            return PENDING.found(self._tag, TrackedRun(self._uri, info.experiment_id, info.run_id, "thread"))
        self._searches += 1
        if self._searches >= _SEARCHES:
            PENDING.not_found(self._tag)
            return []
        raise Later("the run has not begun")


def _pages(search: Callable[..., Any]) -> Iterator[Any]:
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def at_exit() -> None:
    """Links what waits to the run that this thread had last, if it was active after the retrieval.

    A run that is resumed asks for no tags; without this its sets would wait for a run that never comes.
    """
    retrieved_at = PENDING.last_retrieved()
    uri = tracking_uri()
    last_active_run = getattr(sys.modules.get("mlflow"), "last_active_run", None)
    if retrieved_at is None or uri is None or last_active_run is None:
        return
    try:
        check_reachable(uri)
        run = last_active_run()
    except Exception as error:  # noqa: BLE001  (whatever MLflow raises, the process ends in order)
        OUTBOX.warn(f"training sets without a run stay so: {error}", once="at exit")
        return
    ended = None if run is None else run.info.end_time
    if run is not None and (ended is None or ended / 1000 >= retrieved_at):
        PENDING.flush_to(
            TrackedRun(uri, run.info.experiment_id, run.info.run_id, "thread"), run.data.tags.get(TAG)
        )  # fmt: skip


#: Those of this process.
PENDING = Pending()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PENDING.forget)
