"""Features of some entities as they are now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import pyarrow

from .errors import InvalidRequest
from .frames import to_table
from .rows import Rows

if TYPE_CHECKING:
    import pandas

_TIME = pyarrow.timestamp("us", tz="UTC")
#: What the column of the instant is called on its way; Feast's name for it.
_AT = "event_timestamp"


class OnlineResponse(Rows):
    """The entities' keys, then their features, a row for each entity that was asked for, in the order of
    asking.

    >>> rows = [{"tailnum": "N14228"}, {"tailnum": "none such"}]
    >>> response = client.get_online_features(["plane.seats"], rows)
    >>> response.to_dict()
    {'tailnum': ['N14228', 'none such'], 'seats': [149, None]}
    """

    def __init__(self, table: pyarrow.Table, at: datetime, sequence: int | None) -> None:
        super().__init__(table)
        #: The instant for which the values hold.
        self.at = at
        #: The sequence of the log at which the store was read.
        self.sequence = sequence

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, list[Any]]:
        """The columns by name, as Feast gives them. `include_event_timestamps` adds `event_timestamp`, the
        instant asked for, to every row: when a value became true is what `Client.explain_value` says.
        """
        columns = {
            name: column.to_pylist()
            for name, column in zip(self.column_names, self._table.columns, strict=True)
        }
        if include_event_timestamps:
            columns[_AT] = [self.at] * self.num_rows
        return columns

    def to_df(self, *, dtype_backend: Literal["numpy", "pyarrow"] = "numpy") -> pandas.DataFrame:
        """The rows as a pandas frame, as `Rows.to_df` makes them."""
        return super().to_df(dtype_backend=dtype_backend)

    def _title(self) -> str:
        return f"{super()._title()}, as of {self.at:%Y-%m-%d %H:%M:%S} UTC"


def entities(entity_rows: Any) -> pyarrow.Table:
    """Entities as a table: of a list of mappings, of a mapping of lists, or of any frame.

    Raises `InvalidRequest` where there are none, or where their rows have not all the same columns.
    """
    if isinstance(entity_rows, Mapping):
        try:
            table = pyarrow.table(
                {str(name): pyarrow.array(list(values)) for name, values in entity_rows.items()}
            )
        except (pyarrow.ArrowException, TypeError, ValueError) as error:
            raise InvalidRequest(
                f"the entity rows cannot be read: {'; '.join(map(str, error.args))}"
            ) from error
    elif isinstance(entity_rows, Sequence) and not isinstance(entity_rows, (str, bytes)):
        table = _of_mappings(entity_rows)
    else:
        table = to_table(entity_rows)
    if table.num_rows == 0:
        raise InvalidRequest('there are no entity rows; give some, as [{"origin": "EWR"}, {"origin": "JFK"}]')
    return table


def _of_mappings(rows: Sequence[Any]) -> pyarrow.Table:
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InvalidRequest(f"entity row {place} is {row!r}; it is a mapping of key columns to values")
        if set(row) != set(rows[0]):
            raise InvalidRequest(
                f"entity row {place} has the columns {_listed(row)}, but row 0 has {_listed(rows[0])}; give "
                f"all rows the same"
            )
    names = list(rows[0]) if rows else []
    columns = {}
    for name in names:
        values = [row[name] for row in rows]
        try:
            columns[str(name)] = pyarrow.array(values)
        except (pyarrow.ArrowException, TypeError, ValueError) as error:
            raise InvalidRequest(
                f"column `{name}` of the entity rows cannot be read: {'; '.join(map(str, error.args))}"
            ) from error
    return pyarrow.table(columns) if columns else pyarrow.table({})


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names)) or "no columns"


def at_instant(table: pyarrow.Table, at: datetime | None) -> tuple[pyarrow.Table, str, datetime]:
    """The table with a column that holds one instant in every row, now where none is given; its name; the
    instant."""
    moment = datetime.now(UTC) if at is None else at
    if moment.tzinfo is None:
        raise InvalidRequest(
            f"at is {moment}, which has no zone; give one, as in datetime(…, tzinfo=timezone.utc)"
        )
    name = _AT
    while name in table.column_names:
        name += "_"
    times = pyarrow.repeat(pyarrow.scalar(moment.astimezone(UTC), _TIME), table.num_rows)
    return table.append_column(pyarrow.field(name, _TIME), times), name, moment.astimezone(UTC)
