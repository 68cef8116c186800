"""What can go wrong, by what to do about it. Every message is the server's own sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow
import pyarrow.flight as flight


class Error(Exception):
    """Anything that went wrong; the classes below say what to do about it.

    >>> try:
    ...     client.ingest("wether", frame)
    ... except lineament.NotFound as error:
    ...     print(error)
    there is no feature view `wether` (did you mean `weather`?); there are: ...
    """


class InvalidRequest(Error, ValueError):
    """The request, its definitions or its rows are not right; the message says how to mend them."""


class NotFound(Error, LookupError):
    """There is no such view, feature, training set or file; the message names the nearest there is."""


class Refused(Error):
    """More rows of a batch were rejected than its feature view bears, so that none was taken."""


class Forbidden(Error):
    """SQL that does more than read, or a ticket that was given to another caller."""


class Unauthenticated(Error):
    """The server asks who calls, and the token is missing, has expired, or is none that it knows; the message says how to give one."""


class Damaged(Error):
    """An object of the store was changed or is gone, or an answer is not what it claims to be."""


class Unavailable(Error):
    """The server or its object storage does not answer; try again."""


class Busy(Unavailable):
    """The server has as much to do as it may; try again after `retry_after` seconds, or ask for less at once."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


# What pyarrow puts before a message, by gRPC status.
_STATUSES: tuple[tuple[str, type[Error]], ...] = (
    ("Flight returned invalid argument error", InvalidRequest),
    ("gRPC returned out-of-range error", InvalidRequest),
    ("gRPC returned resource exhausted error", InvalidRequest),
    ("Flight returned not found error", NotFound),
    ("gRPC returned precondition failed error", Refused),
    ("Flight returned unauthorized error", Forbidden),
    ("Flight returned unauthenticated error", Unauthenticated),
    ("gRPC returned data loss error", Damaged),
    ("Flight returned unavailable error", Unavailable),
    ("Flight returned timeout error", Unavailable),
)
# And where it puts nothing, by class.
_CLASSES: tuple[tuple[type[BaseException], type[Error]], ...] = (
    (flight.FlightUnauthorizedError, Forbidden),
    (flight.FlightUnauthenticatedError, Unauthenticated),
    (flight.FlightUnavailableError, Unavailable),
    (flight.FlightTimedOutError, Unavailable),
)
_PREFIX = re.compile(r"\A(?:Unknown: )?(?:Flight|gRPC) [a-zA-Z -]+?,? with message: ")
_BUSY = re.compile(r"try again in (\d+(?:\.\d+)?) s\b")
_EXHAUSTED = "gRPC returned resource exhausted error"
_CONTEXT = ". gRPC client debug context: "
_DETAIL = re.compile(r"\. Detail: \w+\Z")
_UNTRUSTED = ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed", "Hostname Verification", "handshake failed")
_UNREACHABLE = (
    "failed to connect to all addresses",
    "Socket closed",
    "Connection reset",
    "recvmsg:",
    "Connection refused",
)


def from_flight(error: BaseException, url: str) -> Error:
    """The error that a failed Flight call stands for, with pyarrow's and gRPC's own words taken off."""
    # str() of an ArrowKeyError may quote the message.
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    kind = next((kind for prefix, kind in _STATUSES if prefix in text[:80]), None)
    if kind is None:
        kind = next((kind for raised, kind in _CLASSES if isinstance(error, raised)), Error)
        text = _DETAIL.sub("", text)
    if "FlightClient is closed" in text:
        return Unavailable(f"the connection to {url} was closed; connect again")
    message = _PREFIX.sub("", text).split(_CONTEXT, 1)[0].strip()
    # The sentence that calls end with holds what the connection ended with.
    if kind is Unavailable and any(sign in text for sign in _UNTRUSTED):
        message = (
            f"the server at {url} does not prove that it is the one that is asked for: its certificate is not trusted "
            "or is of another host; give connect() the PEM file that vouches for it as tls_root_certs="
        )
    elif kind is Unavailable and any(sign in message for sign in _UNREACHABLE):
        message = (
            f"no server answers at {url}; start one with `lineament --store URL serve`, "
            "or give connect() the address that it printed (grpc+tls://… where it encrypts calls)"
        )
    busy = _BUSY.search(message)
    if busy and _EXHAUSTED in text[:80]:
        return Busy(message, float(busy[1]))
    return kind(message or type(error).__name__)


def without_action(error: Error) -> bool:
    """Whether a server refused an action because it is an older one, which has no such action."""
    return "there is no action `" in str(error)


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turns what pyarrow raises within into errors of this module."""
    try:
        yield
    except Error:
        raise
    except (pyarrow.ArrowException, OSError) as error:
        raise from_flight(error, url) from None
