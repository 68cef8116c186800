"""What waits to be written to MLflow or to the store about links, so that no retrieval waits for it or fails
by it."""

from __future__ import annotations

import atexit
import os
import threading
import time
import warnings
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import Error, Unavailable

#: How long the end of the process waits for what is still to be written, in seconds.
EXIT_SECONDS = 10.0
#: How long a server may take to say that it is there, in seconds.
_PROBE_SECONDS = 2.0
_LONGEST_DELAY = 60.0
_FAILED_KEPT = 1000


class LinkWarning(UserWarning):
    """A link between a training set and a run waits, or could not be written. The training set itself is
    safe."""


class Unwritable(Exception):
    """Trying again will not help; the message says why."""


class Later(Exception):
    """Not now; the message says why."""


@dataclass(frozen=True)
class Waiting:
    """A link that is not written yet, or that cannot be."""

    #: What is to be written, in words.
    what: str
    #: The training sets that it is about.
    training_sets: tuple[str, ...]
    #: The run, `mlflow;…`; None where none began since the sets were retrieved.
    run: str | None
    #: How often it was tried.
    tries: int = 0
    #: What stood against it the last time; None where it was not tried yet.
    error: str | None = None
    #: Whether it was given up: the error will not go away by itself.
    failed: bool = False


class Job(ABC):
    """One thing to write. Doing it twice must be harmless."""

    #: Where it is written: what cannot be reached for one job is not tried for the next.
    target: str
    training_sets: tuple[str, ...]
    run: str | None

    @property
    @abstractmethod
    def what(self) -> str:
        """What is to be written, in words."""

    @abstractmethod
    def write(self) -> list[Job]:
        """Writes it, and gives what is to be written next.

        Raises `Unwritable` where trying again cannot help; whatever else it raises means that it is tried
        again.
        """


class _Entry:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.tries = 0
        self.not_before = 0.0
        self.error: str | None = None
        self.asked = False

    def waiting(self, failed: bool = False) -> Waiting:
        job = self.job
        return Waiting(job.what, job.training_sets, job.run, self.tries, self.error, failed)


class Outbox:
    """Jobs and the one thread that does them, in the order that they came where nothing stands against
    them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: list[_Entry] = []
        self._failed: list[Waiting] = []
        self._thread: threading.Thread | None = None
        self._warned: set[str] = set()

    def put(self, job: Job) -> None:
        with self._changed:
            self._entries.append(_Entry(job))
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._work, name="lineament-links", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    # The process is ending and starts no more threads; `flush` does the work itself.
                    pass
                else:
                    self._thread = thread
            self._changed.notify_all()

    def waiting(self) -> list[Waiting]:
        with self._changed:
            return [entry.waiting() for entry in self._entries] + list(self._failed)

    def flush(self, seconds: float) -> None:
        """Tries everything that waits once more, now, and returns when all was tried or the time is over."""
        until = time.monotonic() + seconds
        with self._changed:
            for entry in self._entries:
                entry.not_before, entry.asked = 0.0, True
            self._changed.notify_all()
            while any(entry.asked for entry in self._entries) and (left := until - time.monotonic()) > 0:
                if self._thread is not None:
                    self._changed.wait(left)
                    continue
                entry = next(entry for entry in self._entries if entry.asked)
                self._changed.release()
                try:
                    self._try(entry)
                finally:
                    self._changed.acquire()

    def drop(self) -> None:
        """Drops what waits and what failed. What is being written is written, and nothing follows from it."""
        with self._changed:
            self._entries.clear()
            self._failed.clear()
            self._changed.notify_all()

    def forget(self) -> None:
        """Drops everything: a forked process does not do what its parent will do, and has none of its
        threads."""
        self.__init__()  # type: ignore[misc]

    def _work(self) -> None:
        while True:
            with self._changed:
                entry = min(self._entries, key=lambda entry: entry.not_before, default=None)
                wait = None if entry is None else entry.not_before - time.monotonic()
                if entry is None or (wait is not None and wait > 0):
                    self._changed.wait(wait)
                    continue
            self._try(entry)

    def _try(self, entry: _Entry) -> None:
        following: list[Job] = []
        failure: Exception | None = None
        try:
            following = entry.job.write()
        except Exception as error:  # noqa: BLE001  (whatever MLflow raises, the thread goes on)
            failure = error
        with self._changed:
            if entry not in self._entries:
                return
            entry.tries += 1
            asked, entry.asked = entry.asked, False
            if failure is None:
                self._entries.remove(entry)
                for job in following:
                    next_entry = _Entry(job)
                    # What follows from a job that somebody waits for is waited for too.
                    next_entry.asked = asked
                    self._entries.append(next_entry)
            else:
                entry.error = str(failure) or type(failure).__name__
                if isinstance(failure, Unwritable):
                    self._entries.remove(entry)
                    self._failed = [*self._failed, entry.waiting(failed=True)][-_FAILED_KEPT:]
                else:
                    again = time.monotonic() + min(0.5 * 2 ** min(entry.tries - 1, 16), _LONGEST_DELAY)
                    entry.not_before = again
                    if isinstance(failure, Unavailable):
                        for other in self._entries:
                            if other.job.target == entry.job.target:
                                other.not_before, other.asked = max(other.not_before, again), False
                                other.error = other.error or entry.error
            self._changed.notify_all()
        if isinstance(failure, Unwritable):
            self.warn(
                f"{entry.job.what} could not be written: {entry.error}",
                once=f"{entry.job.target} {entry.error}",
            )
        elif failure is not None and not isinstance(failure, Later):
            self.warn(
                f"{entry.job.what} waits: {entry.error}; it is tried again until the process ends, and "
                "lineament.mlflow.pending() lists what waits",
                once=entry.job.target,
            )

    def warn(self, message: str, once: str) -> None:
        """Warns, once for each reason: what stands against one link mostly stands against all."""
        with self._changed:
            if once in self._warned:
                return
            self._warned.add(once)
        # Where warnings are errors, the thread that writes must not end by one.
        with suppress(LinkWarning):
            warnings.warn(message, LinkWarning, stacklevel=2)


#: The one of this process.
OUTBOX = Outbox()


def _at_exit() -> None:
    from .pending import at_exit

    at_exit()
    OUTBOX.flush(EXIT_SECONDS)
    left = [waiting for waiting in OUTBOX.waiting() if not waiting.failed]
    if left:
        ids = sorted({id for waiting in left for id in waiting.training_sets})
        OUTBOX.warn(
            f"the process ends before {len(left)} link(s) could be written ({left[0].error or 'not tried'}); "
            "the store has the "
            f"training sets {', '.join(ids[:5])}{', …' if len(ids) > 5 else ''} and the runs that they were "
            "retrieved in",
            once="exit",
        )


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=OUTBOX.forget)


def check_reachable(uri: str) -> None:
    """That somebody answers at a tracking URI. MLflow's own client would try for minutes before it gave up.

    Raises `Unavailable`. A local folder or database is taken to be there.
    """
    if urlsplit(uri).scheme.lower() not in ("http", "https"):
        return
    import requests

    try:
        answer = requests.get(uri.rstrip("/") + "/health", timeout=_PROBE_SECONDS, allow_redirects=False)
    except requests.exceptions.SSLError:
        # Somebody is there; whether to trust him is for MLflow's settings to say.
        return
    except requests.exceptions.RequestException as error:
        raise Unavailable(f"no MLflow server answers at {_shown(uri)} ({type(error).__name__})") from None
    if answer.status_code in (502, 503, 504):
        raise Unavailable(f"the MLflow server at {_shown(uri)} is not ready (HTTP {answer.status_code})")


def _shown(uri: str) -> str:
    from .authority import authority

    return authority(uri)


# What MLflow answers that time does not mend.
_LASTING = {
    "BAD_REQUEST",
    "FEATURE_DISABLED",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "MALFORMED_REQUEST",
    "PERMISSION_DENIED",
    "RESOURCE_DOES_NOT_EXIST",
    "UNAUTHENTICATED",
}


def translated_from_mlflow(error: Exception) -> Exception:
    """What MLflow raised, as `Unwritable` where trying again cannot help."""
    code = getattr(error, "error_code", None)
    if code in _LASTING:
        return Unwritable(str(error))
    return error


def translated_from_store(error: Error) -> Exception:
    """What the store's server answered, as `Unwritable` where trying again cannot help."""
    return error if isinstance(error, Unavailable) or type(error) is Error else Unwritable(str(error))
