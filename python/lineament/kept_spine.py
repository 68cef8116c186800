"""A spine that lies in the store and is asked for many times."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class KeptSpine:
    """Rows that were ingested once, to have features looked up for them again and again.

    >>> spine = client.keep_spine(flights)
    >>> client.get_historical_features(spine, ["weather.temp"]).num_rows == spine.rows
    True
    >>> client.keep_spine(flights).repeated
    True
    """

    #: The digest of its rows, by which it is known: `lmt1:…`.
    digest: str
    rows: int
    columns: list[str] = field(default_factory=list)
    #: Whether the same rows lay there already, so that nothing was written.
    repeated: bool = False
