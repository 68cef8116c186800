"""Frames of any library as Arrow, and Arrow in pieces that fit a Flight message."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import pyarrow
import pyarrow.compute as compute

from .errors import Damaged, InvalidRequest

# The server takes messages of 64 MiB at most; rows that are larger than most leave room.
_MESSAGE_BYTES = 2 << 20
_MESSAGE_ROWS = 1 << 16


def to_table(frame: Any) -> pyarrow.Table:
    """A pandas or Polars frame, an Arrow table, batch or reader, or whatever exports an Arrow stream, as an Arrow table.

    Column types stay as they are. In pandas, missing values (`None`, `NaN`, `NaT`, `pandas.NA`) become nulls, and the index
    is left out. `NaN` of Polars and Arrow stays `NaN`.
    """
    try:
        return _table(frame)
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError, OSError) as error:
        if isinstance(error, InvalidRequest):
            raise
        # pyarrow gives the reason and the column as two arguments.
        reason = "; ".join(str(part) for part in error.args) or type(error).__name__
        raise InvalidRequest(f"the frame cannot be read: {reason}{_culprit(frame)}") from error


def _table(frame: Any) -> pyarrow.Table:
    if isinstance(frame, pyarrow.Table):
        return frame
    if isinstance(frame, pyarrow.RecordBatch):
        return pyarrow.Table.from_batches([frame])
    if isinstance(frame, pyarrow.RecordBatchReader):
        return frame.read_all()
    library = type(frame).__module__.partition(".")[0]
    kind = type(frame).__name__
    if kind == "LazyFrame":
        raise InvalidRequest("a LazyFrame has no rows yet; give frame.collect()")
    if kind == "Series":
        raise InvalidRequest("a Series is one column; give a frame, as to_frame() makes one")
    if library == "pandas" and kind == "DataFrame":
        doubled = [name for name, times in Counter(map(str, frame.columns)).items() if times > 1]
        if doubled:
            raise InvalidRequest(f"the frame has several columns named `{doubled[0]}`; rename all but one")
        return pyarrow.Table.from_pandas(frame, preserve_index=False)
    if library == "polars" and kind == "DataFrame":
        # With offsets from the start, which is one copy less.
        return frame.to_arrow(compat_level=sys.modules["polars"].CompatLevel.oldest())
    if isinstance(frame, str) or hasattr(frame, "__fspath__"):
        raise InvalidRequest(
            f"rows are wanted, not the path {frame}; read it first, for example with pyarrow.parquet.read_table(…), "
            "or use `lineament ingest` on the command line"
        )
    if hasattr(frame, "__arrow_c_stream__"):
        return pyarrow.RecordBatchReader.from_stream(frame).read_all()
    raise InvalidRequest(
        f"{library}.{kind} is not a frame; give a pandas or Polars DataFrame, or an Arrow table, batch or reader"
    )


def _culprit(frame: Any) -> str:
    """Which value of a pandas frame is the first that Arrow does not take, with its column and row."""
    if type(frame).__module__.partition(".")[0] != "pandas" or type(frame).__name__ != "DataFrame":
        return ""
    for place, name in enumerate(frame.columns):
        column = frame.iloc[:, place]
        if _converts(column, len(column)):
            continue
        taken, refused = 0, len(column)
        # The most rows that convert, and the fewest that do not.
        while refused - taken > 1:
            middle = (taken + refused) // 2
            if _converts(column, middle):
                taken = middle
            else:
                refused = middle
        value = repr(column.iloc[taken])
        shown = value if len(value) <= 60 else value[:59] + "…"
        return f": column `{name}`, row {taken}: {shown} is not of the type of the values before it; make them all one type"
    return ""


def _converts(column: Any, rows: int) -> bool:
    try:
        pyarrow.Array.from_pandas(column.iloc[:rows])
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def without_views(table: pyarrow.Table) -> pyarrow.Table:
    """Text and bytes with offsets in place of views, whose buffers every slice would carry whole."""
    plain = {pyarrow.string_view(): pyarrow.large_string(), pyarrow.binary_view(): pyarrow.large_binary()}
    if not any(field.type in plain for field in table.schema):
        return table
    fields = [field.with_type(plain.get(field.type, field.type)) for field in table.schema]
    return table.cast(pyarrow.schema(fields, metadata=table.schema.metadata))


def rows_a_message(table: pyarrow.Table) -> int:
    """How many rows to send in one message."""
    bytes_a_row = max(1, table.nbytes // max(1, table.num_rows))
    return max(1, min(_MESSAGE_ROWS, _MESSAGE_BYTES // bytes_a_row))


def named_index(frame: Any) -> str | None:
    """The names of a pandas index that somebody gave one."""
    if type(frame).__module__.partition(".")[0] != "pandas":
        return None
    names = [str(name) for name in getattr(frame.index, "names", []) if name is not None]
    return ", ".join(names) or None


def check_same(sent: pyarrow.Table, returned: pyarrow.Table) -> None:
    """That the spine came back as it was sent: every row, once, in its place.

    Raises `Damaged` otherwise: features would stand beside rows that they do not belong to.
    """
    if returned.num_rows != sent.num_rows:
        raise Damaged(f"the spine has {sent.num_rows:,} rows, but {returned.num_rows:,} came back; ask again")
    if returned.column_names[: sent.num_columns] != sent.column_names:
        raise Damaged(
            f"the spine's columns are {', '.join(sent.column_names)}, but {', '.join(returned.column_names)} came back"
        )
    for position, name in enumerate(sent.column_names):
        if not _same_values(sent.column(position), returned.column(position)):
            raise Damaged(f"column `{name}` of the spine came back with other values than were sent; ask again")


def _same_values(sent: pyarrow.ChunkedArray, returned: pyarrow.ChunkedArray) -> bool:
    sent, returned = _decoded(sent), _decoded(returned)
    if pyarrow.types.is_nested(sent.type):
        # pyarrow has no comparison in which NaN within a list equals itself; to Python's text it does.
        return sent.equals(returned) or str(sent.to_pylist()) == str(returned.to_pylist())
    if sent.type != returned.type:
        sent = sent.cast(returned.type)
    if sent.equals(returned):
        return True
    if not pyarrow.types.is_floating(sent.type):
        return False
    if pyarrow.types.is_float16(sent.type):
        sent, returned = sent.cast(pyarrow.float32()), returned.cast(pyarrow.float32())
    both_null = compute.and_(compute.is_null(sent), compute.is_null(returned))
    both_nan = compute.fill_null(compute.and_(compute.is_nan(sent), compute.is_nan(returned)), False)
    equal = compute.fill_null(compute.equal(sent, returned), False)
    return compute.all(compute.or_(compute.or_(equal, both_nan), both_null)).as_py() is not False


def _decoded(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    return column.cast(column.type.value_type) if pyarrow.types.is_dictionary(column.type) else column
