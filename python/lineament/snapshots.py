"""Features without a spine: of some entities now, of all entities at an instant, and every change in a range
of time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .errors import InvalidRequest, NotFound
from .instants import instant
from .online import OnlineResponse, at_instant, entities
from .quoting import identifier, literal
from .rows import Rows

if TYPE_CHECKING:
    from .feature_view import FeatureView
    from .training_set import TrainingSet


class Snapshots:
    """What a client asks of the store as it stands at one instant, or as it changed."""

    def sql(self, query: str) -> Rows:
        raise NotImplementedError

    def feature_view(self, name: str) -> FeatureView:
        raise NotImplementedError

    def get_historical_features(
        self,
        entity_df: Any,
        features: str | Sequence[str] | TrainingSet,
        full_feature_names: bool = False,
        *,
        at: str | None = None,
        record: bool = True,
    ) -> TrainingSet:
        raise NotImplementedError

    def get_online_features(
        self,
        features: str | Sequence[str] | TrainingSet,
        entity_rows: Any,
        full_feature_names: bool = False,
        *,
        at: datetime | None = None,
    ) -> OnlineResponse:
        """Features of some entities as they are known now. Feast's name and shape; nothing is recorded as a
        training set.

        The store's own history is asked, with the rule of `get_historical_features`, so that an answer is
        what a training set of this moment would have: no second copy can differ. It is made for notebooks,
        tests and batches; milliseconds, not microseconds.

        - `features`: as in `get_historical_features`, also services and models.
        - `entity_rows`: a list of mappings (`[{"tailnum": "N14228"}]`), a mapping of lists, or a frame, with
          the key columns.
        - `at`: another instant than now, which is this machine's clock.

        >>> client.get_online_features(["plane.seats", "plane.engines"], [{"tailnum": "N14228"}]).to_df()
          tailnum  seats  engines
        0  N14228    149        2
        """
        table, name, moment = at_instant(entities(entity_rows), at)
        answer = self.get_historical_features(table, features, full_feature_names, at=name, record=False)
        return OnlineResponse(answer.to_arrow().drop_columns([name]), moment, answer.sequence)

    def features_at(
        self,
        features: str | Sequence[str],
        at: datetime | None = None,
        full_feature_names: bool = False,
        *,
        record: bool = False,
    ) -> TrainingSet:
        """The features of all entities that their views know of at an instant, now where none is given; a row
        an entity, by key.

        `features`: references alone (`"weather.temp"`, `"weather.*"`), of views of one entity. `record` makes
        it a training set. Raises `InvalidRequest` where the views are of different keys: then only a spine
        says which rows belong together.

        >>> from datetime import datetime, timezone
        >>> client.features_at(["weather.temp"], datetime(2013, 7, 1, 12, tzinfo=timezone.utc)).to_df()
          origin           event_timestamp   temp
        0    EWR 2013-07-01 12:00:00+00:00  75.92
        1    JFK 2013-07-01 12:00:00+00:00  71.96
        2    LGA 2013-07-01 12:00:00+00:00  75.92
        """
        names = [features] if isinstance(features, str) else list(features)
        views = list(dict.fromkeys(_view_of(name) for name in names))
        keys = {view: self.feature_view(view.partition("@")[0]).keys for view in views}
        if len({tuple(columns) for columns in keys.values()}) != 1:
            listed = "; ".join(f"{view} is of {', '.join(columns)}" for view, columns in keys.items())
            raise InvalidRequest(
                f"these features are of different entities ({listed}); give a spine to "
                f"get_historical_features"
            )
        columns = ", ".join(map(identifier, keys[views[0]]))
        _, _, moment = at_instant(entities([{"": 0}]), at)
        time = instant(moment, "at")
        known = " UNION ".join(
            f"SELECT {columns} FROM history({literal(view)}) WHERE valid_at <= {_instant(time)} "
            f"AND known_at <= {_instant(time)}"
            for view in views
        )
        spine = self.sql(f"SELECT DISTINCT {columns} FROM ({known}) AS known ORDER BY {columns}").to_arrow()
        if spine.num_rows == 0:
            raise NotFound(f"no entity of {', '.join(views)} has an observation that was known at {time}")
        table, name, _ = at_instant(spine, moment)
        return self.get_historical_features(table, names, full_feature_names, at=name, record=record)

    def changes(self, view: str, since: str | datetime, until: str | datetime) -> Rows:
        """Every observation of a view that became known from `since` on and before `until`, in the order of
        becoming known: its keys, features, `valid_at`, `known_at`, batch and sequence.

        >>> changes = client.changes("departures", "2013-07-01T12:00:00Z", "2013-07-01T12:02:00Z")
        >>> changes.to_df()[["origin", "valid_at", "known_at", "dep_delay"]]
          origin                  valid_at                  known_at  dep_delay
        0    JFK 2013-07-01 12:00:00+00:00 2013-07-01 12:00:00+00:00          0
        1    JFK 2013-07-01 12:00:00+00:00 2013-07-01 12:00:00+00:00          0
        2    EWR 2013-07-01 11:45:00+00:00 2013-07-01 12:01:00+00:00         16
        3    LGA 2013-07-01 12:02:00+00:00 2013-07-01 12:01:00+00:00         -1
        """
        first, last = instant(since, "since"), instant(until, "until")
        keys = ", ".join(map(identifier, self._leading_of(view)))
        return self.sql(
            f"SELECT * FROM history({literal(view)}) WHERE known_at >= {_instant(first)} AND known_at < "
            f"{_instant(last)} "
            f"ORDER BY known_at, valid_at, {keys}, sequence, file, \"row\""
        )

    def _leading_of(self, view: str) -> list[str]:
        """The columns that a view's history begins with: its keys, and its occurrence where it has one. What the server
        says of a view that is not there names the nearest."""
        names = self.sql(f"SELECT * FROM history({literal(view)}) LIMIT 0").column_names
        return names[: names.index("valid_at")]


def _view_of(reference: str) -> str:
    """The view of a reference, as `weather@1` of `weather@1.temp`."""
    view, separator, feature = reference.replace(":", ".").rpartition(".")
    if not separator or "/" in reference or not feature:
        raise InvalidRequest(
            f"`{reference}` names no view; write references such as `weather.temp` or `weather.*`"
        )
    return view


def _instant(text: str) -> str:
    return f"CAST({literal(text)} AS TIMESTAMP WITH TIME ZONE)"
