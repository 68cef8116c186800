"""Rows that came from the store, for whichever library the caller works in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import pyarrow

from . import html
from .optional import needed

if TYPE_CHECKING:
    import pandas
    import polars

_PREVIEW = 10


class Rows:
    """The answer to a query, held as one Arrow table.

    >>> rows = client.sql("SELECT origin, avg(temp) AS temp FROM weather GROUP BY origin ORDER BY origin")
    >>> rows.to_df().round(2)
      origin   temp
    0    EWR  55.55
    1    JFK  54.47
    2    LGA  55.76

    Whatever reads Arrow streams reads it as it is: `pyarrow.table(rows)`, `polars.DataFrame(rows)`, DuckDB.
    """

    def __init__(self, table: pyarrow.Table) -> None:
        self._table = table

    @property
    def num_rows(self) -> int:
        return self._table.num_rows

    @property
    def num_columns(self) -> int:
        return self._table.num_columns

    @property
    def column_names(self) -> list[str]:
        return self._table.column_names

    @property
    def schema(self) -> pyarrow.Schema:
        return self._table.schema

    def to_arrow(self) -> pyarrow.Table:
        """The rows with the store's own types; nulls are nulls. No copy."""
        return self._table

    def to_df(self, *, dtype_backend: Literal["numpy", "pyarrow"] = "numpy") -> pandas.DataFrame:
        """The rows as a pandas frame with a plain index.

        pandas' own types have no null integer or bool: a whole number with nulls becomes float64 with NaN, and a bool with nulls
        becomes object. `dtype_backend="pyarrow"` keeps every type, and null apart from NaN. Raises `ImportError` without pandas.
        """
        with needed("pandas", "to_df()"):
            import pandas
        if dtype_backend == "numpy":
            return self._table.to_pandas()
        if dtype_backend != "pyarrow":
            raise ValueError(f'dtype_backend is {dtype_backend!r}; it is "numpy" or "pyarrow"')
        return self._table.replace_schema_metadata(None).to_pandas(types_mapper=pandas.ArrowDtype)

    def to_polars(self) -> polars.DataFrame:
        """The rows as a Polars frame; nulls are nulls, and NaN is NaN. Raises `ImportError` without Polars."""
        with needed("polars", "to_polars()"):
            import polars

        frame = polars.from_arrow(self._table)
        assert isinstance(frame, polars.DataFrame)
        return frame

    def __len__(self) -> int:
        return self._table.num_rows

    def __iter__(self) -> Iterator[pyarrow.RecordBatch]:
        """The rows in Arrow batches, without a copy. `Client.stream` gives them without holding them all."""
        return iter(self._table.to_batches())

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)

    def _title(self) -> str:
        return f"{counted(self.num_rows, 'row')}, {counted(self.num_columns, 'column')}"

    def __repr__(self) -> str:
        return f"{self._title()}\n{preview(self._table)}"

    def _repr_html_(self) -> str:
        return html.paragraph(self._title()) + html_preview(self._table)


def counted(number: int, noun: str) -> str:
    """`1 row`, `26,114 rows`, `2 batches`."""
    plural = "es" if noun.endswith(("ch", "s", "x")) else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def cell(value: object, width: int = 32) -> str:
    """A value as it stands in a preview: null in words, long text cut."""
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:g}" if value == value else "NaN"
    text = value.isoformat(" ") if hasattr(value, "isoformat") else str(value)
    text = text.replace("\n", " ")
    return text if len(text) <= width else text[: width - 1] + "…"


def aligned(lines: list[list[str]], indent: str = "  ") -> str:
    """Lines of cells as columns of text."""
    if not lines:
        return ""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        indent + "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def preview(table: pyarrow.Table) -> str:
    """The first rows as text."""
    head = table.slice(0, _PREVIEW)
    columns = [
        [name, *(cell(value) for value in _values(head.column(at)))] for at, name in enumerate(table.column_names)
    ]
    lines = [list(line) for line in zip(*columns, strict=True)]
    more = table.num_rows - head.num_rows
    return aligned(lines) + (f"\n  … {more:,} more" if more > 0 else "")


def html_preview(table: pyarrow.Table) -> str:
    """The first rows as an HTML table."""
    head = table.slice(0, _PREVIEW)
    columns = [[cell(value) for value in _values(head.column(at))] for at in range(table.num_columns)]
    more = table.num_rows - head.num_rows
    tail = html.paragraph(f"… {more:,} more") if more > 0 else ""
    return html.table(zip(*columns, strict=True), table.column_names) + tail


def _values(column: pyarrow.ChunkedArray) -> list[object]:
    try:
        return column.to_pylist()
    except (ValueError, pyarrow.ArrowException):
        # Nanoseconds have no type of their own in plain Python.
        return column.cast(pyarrow.string()).to_pylist()
