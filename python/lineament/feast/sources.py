"""The rows of a file source, as they are sent."""

from __future__ import annotations

import pyarrow
import pyarrow.compute as compute
import pyarrow.parquet as parquet
from pyarrow import types

from ..errors import InvalidRequest, NotFound
from .definitions import SourceFile

#: Our types as Arrow's.
_ARROW = {
    "bool": pyarrow.bool_(), "binary": pyarrow.binary(), "float64": pyarrow.float64(), "float32": pyarrow.float32(),
    "int8": pyarrow.int8(), "int16": pyarrow.int16(), "int32": pyarrow.int32(), "int64": pyarrow.int64(),
    "string": pyarrow.string(),
}  # fmt: skip


def read_source(source: SourceFile) -> pyarrow.Table:
    """The rows of a source in the order in which they are to be received: as in the file, and where Feast
    breaks ties by a column, by that. Columns have the declared types where their values can be had in them
    exactly.

    Raises `NotFound` where there is no such file, `InvalidRequest` where it is not Parquet or lacks columns.
    """
    wanted = list(
        dict.fromkeys([*source.keys, source.time, *(column for _, column, _ in source.features.values())])
    )
    if source.created is not None:
        wanted.append(source.created)
    try:
        table = parquet.read_table(source.path)
    except FileNotFoundError:
        raise NotFound(f"there is no file {source.path}, the source of {source.feast_view}") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidRequest(
            f"{source.path}, the source of {source.feast_view}, cannot be read: {error}"
        ) from None
    missing = [column for column in wanted if column not in table.column_names]
    if missing:
        raise InvalidRequest(
            f"{source.path}, the source of {source.feast_view}, has no column {missing[0]}; it has "
            f"{', '.join(table.column_names)}"
        )
    table = table.select(wanted)
    if source.created is not None:
        # Rows without one are the oldest; the order of the file decides among equals.
        times = pyarrow.table(
            {"said": compute.is_valid(table.column(source.created)), "time": table.column(source.created)}
        )
        order = compute.sort_indices(times, sort_keys=[("said", "ascending"), ("time", "ascending")])
        table = table.take(order).drop_columns([source.created])
    declared = {column: data_type for _, column, data_type in source.features.values()}
    for place, name in enumerate(table.column_names):
        column = table.column(place)
        held = _held(column, declared.get(name))
        if held is not column:
            table = table.set_column(place, name, held)
    return table


def _held(column: pyarrow.ChunkedArray, declared: str | None) -> pyarrow.ChunkedArray:
    """The column in its declared type, where nothing is lost by it; else as it is, for the store to say what
    is wrong with it."""
    wanted = _ARROW.get(declared or "")
    if types.is_timestamp(column.type) and column.type.unit == "ns" and declared in (None, "timestamp"):
        wanted = pyarrow.timestamp("us", tz=column.type.tz)
    if wanted is None or column.type == wanted:
        return column
    try:
        return column.cast(wanted, safe=True)
    except pyarrow.ArrowException:
        return column
