"""Rejected rows: as a frame that can be mended, and in again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import pyarrow

from .errors import Error
from .frames import to_table, without_views
from .quoting import literal
from .reports import IngestReport
from .rows import Rows

if TYPE_CHECKING:
    import pandas


def _bare(source: dict[str, Any]) -> dict[str, Any]:
    """A rejected row without what says which it was: an export that was ingested as it is has such columns of its own."""
    return {name: value for name, value in source.items() if name not in ("rejected_origin", "rejected_row", "rejected_for")}


class Mending:
    """What a client does with rows that were rejected."""

    def sql(self, query: str) -> Rows:
        raise NotImplementedError

    def _put(self, command: Mapping[str, Any], rows: pyarrow.Table, what: str) -> dict[str, Any] | None:
        raise NotImplementedError

    def rejected(self, batch: str) -> pandas.DataFrame:
        """The rejected rows of a batch that nobody has mended yet, as they came: each column as text, after `rejected_origin` and
        `rejected_row`, which say which row it was, and `rejected_for`, what was wrong with it.

        >>> batch = client.sql("SELECT batch FROM lineament.rejected_rows WHERE feature_view = 'weather'").to_df().batch[0]
        >>> rows = client.rejected(batch)
        """
        found = self.sql(
            'SELECT origin, "row", message, source_row FROM lineament.rejected_rows'
            f" WHERE batch = {literal(str(batch))} AND mended_by IS NULL ORDER BY origin, \"row\", reason"
        ).to_df()
        rows: dict[tuple[str, int], dict[str, Any]] = {}
        for origin, number, message, source in zip(found.origin, found.row, found.message, found.source_row, strict=True):
            row = rows.setdefault(
                (origin, number),
                {"rejected_origin": origin, "rejected_row": number, "rejected_for": [], **_bare(json.loads(source))},
            )
            row["rejected_for"].append(message)
        import pandas

        frame = pandas.DataFrame(list(rows.values()))
        if len(frame):
            frame["rejected_for"] = frame.rejected_for.str.join("; ")
        return frame

    def mend(self, batch: str, df: Any, *, claim: Literal["back_fill", "correction"] | None = None) -> IngestReport:
        """Ingests rejected rows of a batch that were mended: a batch of its own, tied to the one that had rejected them.

        `df`: as `rejected` gives them, with their values mended; rows may be left out, and mended another time. Their columns
        `rejected_origin` and `rejected_row` must be as they were. `claim`: as in `ingest`. Raises `InvalidRequest` for rows that
        were not rejected, or are mended already, and what `ingest` raises.

        >>> batch = client.sql("SELECT batch FROM lineament.rejected_rows WHERE feature_view = 'weather'").to_df().batch[0]
        >>> client.rejected(batch)[["rejected_row", "origin", "wind_speed"]]
           rejected_row origin  wind_speed
        0          1009    EWR  1048.36058
        >>> rows = client.rejected(batch).assign(wind_speed="10.48")
        >>> client.mend(batch, rows, claim="back_fill").mended
        1
        >>> len(client.rejected(batch))
        0
        """
        request: dict[str, Any] = {"batch": str(batch)}
        if claim is not None:
            request["claim"] = claim
        answer = self._put({"mend": request}, without_views(to_table(df)), "mending")
        if answer is None:
            raise Error("the server ended without an answer; ask `rejected` what is left, and send that again")
        return IngestReport.of(answer)
