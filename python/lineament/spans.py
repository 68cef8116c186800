"""Lengths of time as definitions write them."""

from __future__ import annotations

import re
from datetime import timedelta

from .errors import InvalidRequest

_MICROS = {
    "w": 604_800_000_000, "d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000, "us": 1,
}  # fmt: skip


def span(length: str | timedelta) -> str:
    """A length of time as definitions write it: `30m`, `7d`, `1h30m`."""
    if isinstance(length, timedelta):
        micros = length // timedelta(microseconds=1)
        if micros < 0:
            raise InvalidRequest(f"{length} is a negative length of time")
        text = ""
        for unit in ("d", "h", "m", "s", "us"):
            if micros >= _MICROS[unit]:
                text += f"{micros // _MICROS[unit]}{unit}"
                micros %= _MICROS[unit]
        return text or "0s"
    if not isinstance(length, str):
        raise InvalidRequest(
            f'{length!r} is not a length of time; write it as "30m" or "7d", or give a timedelta'
        )
    return length


def micros_of(text: str) -> int:
    """The microseconds of a length of time."""
    parts = re.findall(r"(\d+)([a-z]+)", text.strip())
    if (
        not parts
        or "".join(number + unit for number, unit in parts) != text.strip()
        or any(unit not in _MICROS for _, unit in parts)
    ):
        raise InvalidRequest(f"`{text}` is not a length of time: write it as 30m, 7d or 1h30m")
    return sum(int(number) * _MICROS[unit] for number, unit in parts)
