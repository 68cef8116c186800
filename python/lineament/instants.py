"""Instants, and states of the store, as the server reads them."""

from __future__ import annotations

from datetime import UTC, datetime

from .errors import InvalidRequest


def instant(time: str | datetime, name: str) -> str:
    """RFC 3339 text in UTC. Text is passed on as it is; `name` is what errors call it.

    Raises `InvalidRequest` for anything else, and for a datetime without a zone.
    """
    if isinstance(time, str):
        return time
    if not isinstance(time, datetime):
        raise InvalidRequest(
            f"{name} is {time!r}; it is a datetime with a zone, or text such as 2013-07-01T00:00:00Z"
        )
    if time.tzinfo is None:
        raise InvalidRequest(f"{name} is {time}, which has no zone; give one, as in datetime(…, tzinfo=timezone.utc)")
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def state(as_of: int | str | datetime) -> int | str:
    """A state of the store: a sequence of its log as a number, or an instant as text.

    Raises `InvalidRequest` for anything else, and for a datetime without a zone.
    """
    if isinstance(as_of, (str, datetime)):
        return instant(as_of, "as_of")
    if isinstance(as_of, bool) or not hasattr(as_of, "__index__"):
        raise InvalidRequest(
            f"as_of is {as_of!r}; it is a sequence of the log, a datetime with a zone, or text such as "
            "2013-07-01T00:00:00Z"
        )
    return as_of.__index__()
