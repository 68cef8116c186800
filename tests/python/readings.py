"""A view small enough to work out by hand, and a spine that meets every part of the rule."""

from datetime import UTC, datetime, timedelta

import pyarrow

DEFINITIONS = {
    "sensor.toml": """
kind = "entity"
name = "sensor"

[[keys]]
name = "sensor"
type = "string"
""",
    "reading.toml": """
kind = "feature_view"
name = "reading"
entity = "sensor"
ttl = "2h"

[time]
valid_at = "measured_at"
known_at = { column = "published_at" }

[[features]]
name = "value"
type = "float64"
range = [-50, 150]
nan = false

[[features]]
name = "quality"
type = "int32"

[[features]]
name = "grade"
type = "string"
one_of = ["good", "poor"]
""",
    "model.toml": """
kind = "feature_service"
name = "model"
features = ["reading.value", "reading.grade"]
""",
}


def doubled(condition: str | None = None) -> str:
    """The definition of a derived view: every reading, or those that the condition is true of, in another unit."""
    where = "" if condition is None else f" WHERE {condition}"
    return f"""
kind = "feature_view"
name = "doubled"
entity = "sensor"

[time]
valid_at = "valid_at"
known_at = {{ column = "known_at" }}

[derived]
sql = "SELECT sensor, valid_at, known_at, 2 * value AS twice FROM history('reading'){where}"

[[features]]
name = "twice"
type = "float64"
"""


def clock(text: str | None) -> datetime | None:
    """A time of 2024-01-01, UTC."""
    if text is None:
        return None
    base = datetime(2024, 1, 1, tzinfo=UTC)
    hours, minutes, *seconds = text.split(":")
    return base + timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds[0]) if seconds else 0)


INSTANT = pyarrow.timestamp("us", "UTC")


def rows() -> pyarrow.Table:
    given = [
        # sensor, measured, published, value, quality, grade
        ("a", "10:00", "10:10", 1.0, 1, "good"),
        ("a", "11:00", "11:30", 2.0, None, "good"),
        ("a", "11:00", "12:00", 2.5, 2, "poor"),
        ("b", "09:00", "09:00", 5.0, 3, None),
        ("d", "10:00", "10:00", 7.0, 4, "good"),
        ("d", "10:00", "10:00", 8.0, 5, "poor"),
        ("d", "10:00", "10:00", 9.0, 6, "good"),
    ]
    columns = list(zip(*given, strict=True))
    return pyarrow.table(
        {
            "sensor": columns[0],
            "measured_at": pyarrow.array(map(clock, columns[1]), INSTANT),
            "published_at": pyarrow.array(map(clock, columns[2]), INSTANT),
            "value": columns[3],
            "quality": pyarrow.array(columns[4], pyarrow.int32()),
            "grade": columns[5],
        }
    )


# sensor, time, and the value, quality and reason that the rule of docs/time.md gives by hand
ASKED = [
    ("a", "11:15", 1.0, 1, None),  # 11:00 is known from 11:30 on
    ("a", "11:45", 2.0, None, "null_at_source"),  # only the quality is null
    ("a", "12:00", 2.5, 2, None),  # the correction, known in this very instant
    ("a", "13:00", 2.5, 2, None),  # as old as the ttl allows
    ("a", "13:00:0.000001", None, None, "expired"),
    ("a", "9:59:59.999999", None, None, "later"),
    ("a", "10:05", None, None, "not_yet_known"),
    ("b", "11:00", 5.0, 3, None),
    ("c", "11:00", None, None, "unknown_entity"),
    (None, "11:00", None, None, "null_key_or_time"),
    ("a", None, None, None, "null_key_or_time"),
    ("a", "11:45", 2.0, None, "null_at_source"),  # once more
    ("d", "10:00", 9.0, 6, None),  # the last received among equals
]

VALUES = [value for _, _, value, _, _ in ASKED]
QUALITIES = [quality for _, _, _, quality, _ in ASKED]
NO_MATCH = {"expired": 1, "later": 1, "not_yet_known": 1, "unknown_entity": 1, "null_key_or_time": 2}


def spine() -> pyarrow.Table:
    return pyarrow.table(
        {
            "label": list(range(len(ASKED))),
            "sensor": pyarrow.array([sensor for sensor, *_ in ASKED], pyarrow.string()),
            "at": pyarrow.array([clock(time) for _, time, *_ in ASKED], INSTANT),
        }
    )
