"""The connection to a server, and everything that can be asked of it."""

from __future__ import annotations

import json
import os
import re
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

import pyarrow
import pyarrow.flight as flight
import pyarrow.fs

from . import definition
from .mlflow import linking, models
from .mlflow.recipe import Recipe, profile
from .mlflow.tracked_run import named
from .access import Access
from .audit import Audit
from .definition import DefinedView, read_definitions
from .deprecations import Governance, warn as warn_of_deprecations
from .diff import Diff
from .errors import Damaged, Error, InvalidRequest, NotFound, translated, without_action
from .endpoints import SetReader, read_batches, read_training_set
from .explanation import Explanation
from .exports import Export, export, place
from .feature_view import FeatureView, feature_view
from .frames import check_same, named_index, rows_a_message, to_table, without_views
from .instants import instant, state
from .kept_spine import KeptSpine
from .loader import Loader
from .mending import Mending
from .producer import ProducerStream
from .progress import Progress
from .quoting import literal
from .registry import Registry
from .reports import IngestReport, Plan, ReplayReport
from .rows import Rows
from .search import SearchResult
from .sent_spine import Sender, spine_reader
from .snapshots import Snapshots
from .spans import span
from .splits import Split
from .streams import BatchStream
from .training_set import TrainingSet

_QUERY = re.compile(r"\s*(\(\s*)*(SELECT|WITH)\b", re.IGNORECASE)


def connect(
    url: str = "grpc://127.0.0.1:8815",
    *,
    token: str | None = None,
    tls_root_certs: str | os.PathLike[str] | bytes | None = None,
    run: Any = None,
    experiment: str | None = None,
    purpose: str | None = None,
    progress: bool | None = None,
) -> Client:
    """Connects to a server that `lineament --store URL serve` started.

    A server that asks its callers who they are needs a `token`; left out, it is `LINEAMENT_TOKEN` of the environment. One that encrypts
    calls is at `grpc+tls://host:port`; `tls_root_certs` is a PEM file (or its bytes) that vouches for its certificate, where those
    that the system trusts do not (`LINEAMENT_TLS_ROOT_CERTS` of the environment). See docs/security.md.

    `run` and `experiment` are free text (an MLflow run id, a job's name); the log keeps them with whatever this client
    writes. Where `run` is left out, each call is made for the run of MLflow that is active in its thread, if there is one:
    see docs/mlflow.md. `purpose` is what rows are wanted for, as policies ask (docs/policies.md): `explore` where it is left out,
    `train` or `serve`. `progress`: whether uploads, retrievals and exports that take a while are shown on standard error; where left
    out, in terminals and notebooks. Raises `Unavailable` where no server answers, `Unauthenticated` where the token is missing or
    does not count.

    >>> with lineament.connect("grpc://127.0.0.1:8815", experiment="delays") as client:
    ...     client.sql("SELECT count(*) AS hours FROM weather").to_arrow()["hours"][0].as_py()
    26114
    """
    if "://" not in url:
        url = f"grpc://{url}"
    access = Access(token, tls_root_certs)
    connection = access.open(url)
    client = Client(
        connection, url, run=run, experiment=experiment, purpose=purpose, progress=progress, access=access
    )
    try:
        client.status()
    except BaseException:
        connection.close()
        raise
    return client


class Client(Registry, Governance, Snapshots, Mending):
    """A connection to a Lineament server; `lineament.connect` makes one. As a context manager it closes itself.

    It may be used by several threads at once.
    """

    def __init__(
        self,
        connection: flight.FlightClient,
        url: str,
        *,
        run: Any = None,
        experiment: str | None = None,
        purpose: str | None = None,
        progress: bool | None = None,
        access: Access | None = None,
    ) -> None:
        self._connection = connection
        self._access = access or Access()
        #: Whether what takes a while is shown on standard error; None: in terminals and notebooks.
        self.progress = progress
        self._streams: weakref.WeakSet[BatchStream] = weakref.WeakSet()
        self._url = url
        self.run = named(run)
        self.experiment = experiment
        self.purpose = purpose
        # What cannot travel is said here, not at the first call.
        said = {"run": self.run, "experiment": experiment, "purpose": purpose}
        for name, value in ((f"lineament-{name}", value) for name, value in said.items()):
            if value is not None:
                _header(name, value)

    # -------------------------------------------------------------------------------------------------- connection

    def close(self) -> None:
        """Closes the connection, and with it its streams. Clients made by `with_run` share it."""
        for stream in list(self._streams):
            stream.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        names = [("run", self.run), ("experiment", self.experiment)]
        return f"<lineament.Client {self._url}{''.join(f' {name}={value!r}' for name, value in names if value)}>"

    @property
    def url(self) -> str:
        """The server's address."""
        return self._url

    def with_run(self, run: Any = None, experiment: str | None = None) -> Client:
        """The same connection on behalf of a run or an experiment, which the log keeps with what is written.

        `run`: text, or a run of MLflow (`mlflow.active_run()`), which then comes before the one that is active at the call.

        >>> training_set = client.with_run(run="2f1c", experiment="delays").get_historical_features(flights, "delay")
        >>> client.sql(f"SELECT run FROM lineament.training_sets WHERE training_set = '{training_set.id}'").to_df()
            run
        0  2f1c
        """
        client = Client(
            self._connection,
            self._url,
            run=run or self.run,
            experiment=experiment or self.experiment,
            purpose=self.purpose,
            progress=self.progress,
            access=self._access,
        )
        client._streams = self._streams
        return client

    def status(self) -> dict[str, Any]:
        """The store's id, its sequence (the number of its last log entry) and the server's program.

        >>> client.status()
        {'store': '...', 'sequence': ..., 'program': 'lineament ...', ...}
        """
        return self._action("lineament.status", {})

    # ------------------------------------------------------------------------------------------------- definitions

    def plan(self, definitions: str | Path | Iterable[str | Path] | Mapping[str, str]) -> Plan:
        """What applying these definitions would change. Nothing is written.

        `definitions`: a folder (all its `*.toml`), a file, several files, or a mapping of file name to text.

        >>> client.plan("features/")
        no changes (7 definitions as they were)
        """
        return Plan.of(self._action("lineament.plan", {"files": read_definitions(definitions)}))

    def apply(
        self, definitions: str | Path | Iterable[str | Path] | Mapping[str, str], *, reason: str | None = None
    ) -> Plan:
        """Makes these definitions the ones in force, in one log entry. Doing it again changes nothing.

        What breaks those who read something (`Plan.effect`) needs a `reason`, which stands in the log for ever, and where policies say so
        somebody else's approval: without it `Forbidden` is raised, and the plan is proposed to them (`approve`).

        Takes what `plan` takes. What they do not name stays as it is. The files of a `[source]`, relative to the folder of
        their definition, become absolute; a mapping is sent as it is. They are read where `lineament ingest` runs.

        >>> client.apply({"runway.toml": '''
        ... kind = "entity"
        ... name = "runway"
        ... [[keys]]
        ... name = "runway"
        ... type = "string"
        ... '''})
        1 change, applied at sequence ...
          + entity runway@1
        """
        body: dict[str, Any] = {"files": read_definitions(definitions)}
        if reason is not None:
            body["reason"] = reason
        return Plan.of(self._action("lineament.apply", body))

    def define_view(
        self,
        df: Any,
        *,
        key: str | Sequence[str],
        time: str,
        name: str | None = None,
        known_at: str | timedelta | None = None,
        entity: str | None = None,
        folder: str | Path | None = None,
        ttl: str | timedelta | None = None,
        zone: str | None = None,
        description: str | None = None,
        owner: str | None = None,
        overwrite: bool = False,
    ) -> DefinedView:
        """Writes and applies a first definition of a feature view whose rows look like this frame. No rows are sent.

        - `key`: the column, or columns, that tell one entity from another. `time`: the column that says when a row is true.
        - `known_at`: when a row could first have been known: a column of the frame, a delay after `time` (`"30m"` or a
          timedelta), `"arrival"`, or `"assumed"` (at `time` itself), which it is where none is given.
        - `name`, `entity`: made from the key where left out. An entity that the folder or the store knows is used as it is.
        - `folder`: where the two TOML files go; a file that says something else is left alone unless `overwrite`.
        - `ttl`: how far a retrieval looks back (`"3h"`, a timedelta); for ever where left out, and never zero.
        - `zone`: the IANA zone of times that carry none.

        Every other column becomes a feature of its own type; all may be null. Least and greatest values stand as
        comments, for a person to widen into a range. What the author should know comes as `DefinitionWarning`s.

        >>> hourly = frame[["origin", "time_hour", "temp", "visib"]]
        >>> view = client.define_view(hourly, key="origin", time="time_hour", known_at="30m", ttl="3h", name="hourly")
        >>> client.ingest(view.name, hourly).rows
        26115
        """
        table = to_table(df)
        place = None if folder is None else Path(folder)
        wanted = definition.draft(
            table, key=key, time=time, name=name, known_at=known_at, entity=entity, entity_text=None,
            ttl=ttl, zone=zone, description=description, owner=owner,
        )  # fmt: skip
        existing = self._entity(wanted.entity, place)
        if existing is not None:
            wanted = definition.draft(
                table, key=key, time=time, name=name, known_at=known_at, entity=wanted.entity, entity_text=existing[1],
                ttl=ttl, zone=zone, description=description, owner=owner,
            )  # fmt: skip
        files = {
            existing[0] if existing is not None else f"entity_{wanted.entity}.toml": wanted.entity_text,
            f"{wanted.name}.toml": wanted.text,
        }
        if place is not None and not overwrite:
            for file, text in files.items():
                path = place / file
                if path.exists() and path.read_text(encoding="utf-8") != text:
                    raise InvalidRequest(
                        f"{path} holds another definition; edit it and apply({str(folder)!r}), give another name, or overwrite=True"
                    )
        definition.warn(wanted.warnings, stacklevel=2)
        plan = self.apply(files)
        written = []
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)
            for file, text in files.items():
                (place / file).write_text(text, encoding="utf-8")
                written.append(place / file)
        return DefinedView(wanted.name, wanted.entity, wanted.text, wanted.entity_text, plan, written, wanted.warnings)

    def _entity(self, name: str, folder: Path | None) -> tuple[str, str] | None:
        """The file name and text of an entity that the folder or the store has."""
        if folder is not None and folder.is_dir():
            for file, text in ((path.name, path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.toml"))):
                declared = definition.declared(text)
                if declared.get("kind") == "entity" and declared.get("name") == name:
                    return file, text
        known = self.sql(
            "SELECT keys, description, owner, tags FROM lineament.entities "
            f"WHERE project = 'default' AND entity = {literal(name)} ORDER BY version DESC LIMIT 1"
        ).to_arrow()
        if known.num_rows == 0:
            return None
        return f"entity_{name}.toml", definition.entity_text(name, **known.to_pylist()[0])

    # ------------------------------------------------------------------------------------------------------ rows in

    def ingest(
        self,
        view: str,
        df: Any,
        *,
        key: str | None = None,
        claim: Literal["back_fill", "correction"] | None = None,
        steps: Sequence[str] | None = None,
    ) -> IngestReport:
        """Sends rows into a feature view. Either all accepted rows are visible when it returns, or it raises and none is.

        `df`: a pandas or Polars frame, an Arrow table, batch or reader, with the columns that the view's definition
        names. Other columns are ignored. pandas' missing values (None, NaN, NaT, NA) are sent as nulls; NaN of Polars and Arrow
        is sent as NaN. Times without a zone are sent as they are; the view's `zone` says what they mean.

        - `key`: an idempotency key. The same key with the same rows is answered as the first time, and nothing is written again.
        - `claim`: what rows are whose times the view covers already: a `"back_fill"` was known when the view's rule says, a
          `"correction"` is known from now on.
        - `steps`: what made the rows, in words, kept with the batch.

        Rows that break a rule are rejected one by one, and reported. Raises `Refused` where there are more of them than the view
        bears, `InvalidRequest` where columns or types do not fit, `NotFound` where there is no such view.

        >>> report = client.ingest("weather", frame, key="weather of 2013, once more", claim="back_fill")
        >>> report.rows, report.rejected
        (26114, 1)
        """
        if isinstance(steps, str):
            steps = [steps]
        request: dict[str, Any] = {"view": view}
        for name, value in (("key", key), ("claim", claim), ("steps", None if steps is None else list(steps))):
            if value is not None:
                request[name] = value
        # All rows are at hand before the first is sent, and the server is told how many. For whatever ends a put, Ctrl-C
        # too, looks to the server like the end of the rows, and pyarrow cannot cancel one.
        table = without_views(to_table(df))
        answer = self._put({"ingest": request}, table, "ingesting")
        if answer is None:
            raise Error("the server ended the ingest without an answer; send the rows again with the same key")
        return IngestReport.of(answer)

    def push(self, view: str, df: Any) -> IngestReport:
        """Sends rows into a feature view, by Feast's name: `ingest(view, df)`, with no more to say. They are seen by what is asked
        next, also by `get_online_features`.

        >>> reading = frame.head(1)[["origin", "time_hour", "temp", "visib"]]
        >>> client.push("hourly", reading.assign(time_hour=pandas.Timestamp.now("UTC").floor("s"))).rows
        1
        """
        return self.ingest(view, df)

    # ----------------------------------------------------------------------------------------------------- rows out

    def get_historical_features(
        self,
        entity_df: Any,
        features: str | Sequence[str] | TrainingSet,
        full_feature_names: bool = False,
        *,
        at: str | None = None,
        ttl: Mapping[str, str | timedelta] | None = None,
        known_by: str | datetime | None = None,
        as_of: int | str | datetime | None = None,
        name: str | None = None,
        record: bool = True,
        split: Split | None = None,
        null_reasons: bool = False,
    ) -> TrainingSet:
        """Features as they were known of each row's entity at the row's time: a training set.

        `entity_df` is the spine: the entities' key columns, one time column, and whatever else you want beside the features,
        such as labels; a pandas or Polars frame, or an Arrow table, batch or reader, or a query (`"SELECT …"`) whose rows it is, or
        what `keep_spine` gave. All
        its rows come back, as often, in the order and with the types that they had. A reader, or a generator of batches or frames, is
        sent as it goes and not held (views of text come back as text). A query is run by the server, of the same state as the features: no
        rows are sent.

        - `features`: references (`"weather.temp"`, `"weather@1.temp"`, `"weather.*"`, Feast's `"weather:temp"`), names of
          feature services, or one name of a service. Or a model of MLflow (`"models:/delay@champion"`, `"models:/delay/3"`,
          `"runs:/<run id>"`), or a `TrainingSet`: the features of the set that it was trained on, with their versions, names,
          ttl and `known_by` as they were recorded, where this call does not say otherwise.
        - `full_feature_names`: columns are called `weather__temp` in place of `temp`.
        - `at`: the spine's time column. Where left out it is `at`, else the only column of times
          (`event_timestamp` is one; beside another it must be named).
        - `ttl`: how far back to look, by view, for this retrieval alone (`{"weather": "2h"}`).
        - `known_by`: one instant in place of each row's own as the limit on what was known ("as we knew it then").
        - `as_of`: the store as it was after an entry of its log, by its sequence, or at a time: definitions and rows that came later count for
          nothing, also in a spine that is a query. A set that is recorded is of that state, and is rebuilt from it (docs/time.md).
        - `record`: whether the set is recorded, so that it has an id and can be rebuilt and explained.
        - `split`: how the set falls into parts, as `lineament.Split` declares it; recorded with the set. `TrainingSet.parts` gives
          them.
        - `null_reasons`: for each feature a column `temp__null_reason` beside it that says why it is null, after all features.

        A cell is null where nothing was known, or what was known has no value; `TrainingSet.null_reasons` counts why. Null keys
        and null times match nothing.

        >>> flights = pandas.DataFrame({"origin": ["EWR"], "at": pandas.to_datetime(["2013-07-01T12:00:00Z"])})
        >>> client.get_historical_features(flights, ["weather.temp", "weather.visib"]).to_df()
          origin                        at   temp  visib
        0    EWR 2013-07-01 12:00:00+00:00  75.92   10.0
        """
        recipe = models.recipe_of(self, features)
        if recipe is not None:
            return self._retrieve_as(
                recipe, entity_df, full_feature_names=full_feature_names, at=at, ttl=ttl, known_by=known_by, as_of=as_of,
                name=name, record=record, split=split, null_reasons=null_reasons,
            )  # fmt: skip
        request = _historical(
            features, full_feature_names, at, ttl, known_by, as_of, name, record, split, null_reasons
        )
        if isinstance(entity_df, KeptSpine):
            return self._retrieve_kept(entity_df, request, split)
        if (query := _query(entity_df)) is not None:
            return self._retrieve_queried(query, request, split)
        sent = spine_reader(entity_df)
        if sent is not None:
            width = len(sent.schema)
            with self._stream_sent(sent, request, None) as stream:
                table = pyarrow.Table.from_batches(list(stream), stream.schema)
            return self._retrieved(table, pyarrow.schema(list(table.schema)[:width]), stream.report or {}, request, split)
        given = self._spine(entity_df)
        spine = without_views(given)
        returned, report = self._exchange({"historical_features": request}, spine)
        if report is None:
            raise Error("the features came without their report, so they may not be all; ask again")
        check_same(spine, returned)
        columns = [*given.columns, *returned.columns[given.num_columns :]]
        fields = [*given.schema, *list(returned.schema)[given.num_columns :]]
        table = pyarrow.table(columns, schema=pyarrow.schema(fields, metadata=given.schema.metadata))
        return self._retrieved(table, given.schema, report, request, split)

    def keep_spine(self, entity_df: Any) -> KeptSpine:
        """Ingests a spine once, so that features are looked up for it many times without sending it again.

        It is known by the digest of its rows: the same rows again change nothing. `get_historical_features` takes what this gives
        in place of rows. A `RecordBatchReader`, a generator or another iterator of batches, tables or frames is sent as it is made:
        its rows are never held here.

        >>> spine = client.keep_spine(flights)
        >>> client.get_historical_features(spine, ["weather.temp"]).column_names[-1]
        'temp'
        """
        sent = spine_reader(entity_df)
        told = self._keep_sent(sent) if sent is not None else self._keep_whole(entity_df)
        if told is None:
            raise Error("the server did not say what it kept; ask again")
        return KeptSpine(told["spine"], told["rows"], told["columns"], told["repeated"])

    def _keep_whole(self, entity_df: Any) -> dict[str, Any] | None:
        return self._put({"spine": {}}, without_views(self._spine(entity_df)), "sending the spine")

    def _keep_sent(self, rows: pyarrow.RecordBatchReader) -> dict[str, Any] | None:
        """Sends batches as they come. How many rows they were is said after the last: without it the server keeps nothing."""
        descriptor = flight.FlightDescriptor.for_command(_json({"spine": {}}))
        schema = without_views(rows.schema.empty_table()).schema
        options = flight.FlightCallOptions(headers=[*self._headers, (b"lineament-rows", b"last")])
        # What is wrong with the rows is told as it was raised, and not as a fault of the server.
        failure: list[BaseException] = []

        def batches() -> Iterator[pyarrow.RecordBatch]:
            try:
                yield from rows
            except GeneratorExit:
                # It is left because sending failed: why, the server says.
                raise
            except BaseException as error:
                failure.append(error)
                raise

        try:
            with translated(self._url):
                writer, answers = self._connection.do_put(descriptor, schema, options)
                with _closing(writer), Progress("sending the spine", shown=self.progress) as progress:
                    for batch in batches():
                        _write(writer, without_views(pyarrow.Table.from_batches([batch])), progress)
                    writer.write_metadata(_json({"rows": progress.rows}))
                    writer.done_writing()
                    answer = answers.read()
        except Error:
            if failure:
                raise failure[0] from None
            raise
        return None if answer is None else _parsed(answer)

    def _retrieve_kept(self, spine: KeptSpine, request: dict[str, Any], split: Split | None) -> TrainingSet:
        """The features of a spine that lies in the store. No rows are sent."""
        table, report = self._get({"historical_features": {**request, "spine": spine.digest}})
        if report is None:
            raise Error("the features came without their report, so they may not be all; ask again")
        if table.num_rows != spine.rows:
            raise Damaged(f"the spine has {spine.rows:,} rows, but {table.num_rows:,} came back; ask again")
        given = pyarrow.schema([table.schema.field(name) for name in spine.columns])
        return self._retrieved(table, given, report, request, split)

    def _retrieve_queried(self, query: str, request: dict[str, Any], split: Split | None) -> TrainingSet:
        """The features of the rows of a query, which the server runs. No rows are sent."""
        table, report = self._get({"historical_features": {**request, "spine_sql": query}})
        if report is None:
            raise Error("the features came without their report, so they may not be all; ask again")
        _all_came(report, table.num_rows)
        added = len(report["features"]) * (2 if request.get("null_reasons") else 1)
        given = pyarrow.schema(list(table.schema)[: table.num_columns - added])
        return self._retrieved(table, given, report, request, split)

    def _retrieved(
        self,
        table: pyarrow.Table,
        spine: pyarrow.Schema,
        report: dict[str, Any],
        request: dict[str, Any],
        split: Split | None,
    ) -> TrainingSet:
        training_set = TrainingSet.of(table, report)
        training_set.split, training_set.at = split, _time_column(spine, request.get("at"))
        training_set.asked = profile(training_set, request)
        linking.recorded(self.run, self._url, training_set, training_set.asked)
        return training_set

    def _spine(self, entity_df: Any) -> pyarrow.Table:
        """The spine as a table; a query is asked for its rows."""
        if (query := _query(entity_df)) is not None:
            return self.sql(query).to_arrow()
        index = named_index(entity_df)
        if index is not None:
            definition.warn([f"the index ({index}) is not sent; reset_index() makes it a column"], stacklevel=3)
        return to_table(entity_df)

    def _retrieve_as(
        self,
        recipe: Recipe,
        entity_df: Any,
        full_feature_names: bool = False,
        *,
        ttl: Mapping[str, str | timedelta] | None = None,
        known_by: str | datetime | None = None,
        **options: Any,
    ) -> TrainingSet:
        """The features of a recorded set for other rows; what is given here comes before what was recorded."""
        training_set = self.get_historical_features(
            entity_df, recipe.references, full_feature_names or recipe.full_feature_names,
            ttl={**recipe.ttl, **(ttl or {})}, known_by=recipe.known_by if known_by is None else known_by, **options,
        )  # fmt: skip
        if full_feature_names in (False, recipe.full_feature_names):
            recipe.check(training_set)
        return training_set

    @overload
    def stream(
        self,
        entity_df: str,
        *,
        producer: str,
        epoch: int | Literal["new"] | None = None,
        resume: bool = False,
        claim: Literal["back_fill", "correction"] | None = None,
        patience: float = 60.0,
    ) -> ProducerStream: ...

    @overload
    def stream(
        self,
        entity_df: Any,
        features: str | Sequence[str] | None = None,
        full_feature_names: bool = False,
        *,
        at: str | None = None,
        ttl: Mapping[str, str | timedelta] | None = None,
        known_by: str | datetime | None = None,
        as_of: int | str | datetime | None = None,
        name: str | None = None,
        record: bool = True,
        split: Split | None = None,
        null_reasons: bool = False,
    ) -> BatchStream: ...

    def stream(
        self,
        entity_df: Any,
        features: str | Sequence[str] | None = None,
        full_feature_names: bool = False,
        *,
        producer: str | None = None,
        epoch: int | Literal["new"] | None = None,
        resume: bool = False,
        claim: Literal["back_fill", "correction"] | None = None,
        patience: float = 60.0,
        at: str | None = None,
        ttl: Mapping[str, str | timedelta] | None = None,
        known_by: str | datetime | None = None,
        as_of: int | str | datetime | None = None,
        name: str | None = None,
        record: bool = True,
        split: Split | None = None,
        null_reasons: bool = False,
    ) -> BatchStream | ProducerStream:
        """The rows of a training set batch by batch, so that it need not fit into memory here.

        With `features`, as `get_historical_features`: a frame is held and sent, what comes back is not. An Arrow reader, or a generator of
        batches or frames, is not held either: it is sent in a thread of its own while features come back, so that a spine of any size goes
        through. Without `features`, `entity_df` is a recorded set or its id. It is read from all its endpoints side by side, some batches
        ahead; each block of them is proved before the first of its rows is sent, and at the end that they are all.

        >>> stream = client.stream(flights, ["weather.temp"])
        >>> sum(batch.num_rows for batch in stream)
        1000
        >>> stream.report["training_set"] == stream.id
        True

        With a `producer` the stream goes the other way: rows that are sent into the feature view that is named, in numbered parts
        that are committed in groups and acknowledged after that. Sending everything again from the first part on changes nothing.

        - `epoch`: parts are numbered from 1 in each. The one that the producer is in where left out; `"new"` begins the next, after
          which other instances that are still in an earlier one are refused.
        - `resume`: numbers go on after the last part that is committed, for a producer that does not send everything again.
        - `claim`: what the rows are, as of `ingest`. Left out, they are known from their arrival.
        - `patience`: for how many seconds the server may be out of reach before `send` and `flush` give up.

        >>> with client.stream("weather", producer="station-8", claim="back_fill") as stream:
        ...     number = stream.send(frame.head(10))
        ...     stream.flush()[0].rows
        10
        """
        if producer is not None:
            if not isinstance(entity_df, str):
                raise InvalidRequest("a producer's stream goes into a feature view; give its name first")
            return ProducerStream(
                self, entity_df, producer, epoch=epoch, resume=resume, claim=claim, patience=patience
            )
        if features is None:
            reader, rows = self._set_reader(_id(entity_df))
            stream = BatchStream(reader, self._url, proved=_replayed, rows=rows, shown=self.progress)
            self._streams.add(stream)
            return stream
        if models.recipe_of(self, features) is not None:
            raise InvalidRequest(
                "a model's features are not streamed; give their references, or use get_historical_features"
            )
        request = _historical(
            features, full_feature_names, at, ttl, known_by, as_of, name, record, split, null_reasons
        )

        def proved(report: Mapping[str, Any], rows: int, schema: pyarrow.Schema) -> None:
            _all_came(report, rows)
            training_set = TrainingSet.of(schema.empty_table(), report)
            linking.recorded(self.run, self._url, training_set, {**profile(training_set, request), "rows": rows})

        if (query := _query(entity_df)) is not None:
            ticket = flight.Ticket(_json({"historical_features": {**request, "spine_sql": query}}))
            with translated(self._url):
                rows_of_query = self._connection.do_get(ticket, self._options)
            stream = BatchStream(rows_of_query, self._url, proved=proved, shown=self.progress)
            self._streams.add(stream)
            return stream
        sent = spine_reader(entity_df)
        if sent is not None:
            return self._stream_sent(sent, request, proved)
        given = without_views(self._spine(entity_df))
        descriptor = flight.FlightDescriptor.for_command(_json({"historical_features": request}))
        with translated(self._url):
            writer, reader = self._connection.do_exchange(descriptor, self._sending(given))
            try:
                with self._progress("sending the spine", given) as progress:
                    writer.begin(given.schema)
                    _write(writer, given, progress)
                    writer.done_writing()
                stream = BatchStream(
                    reader,
                    self._url,
                    spine=given,
                    proved=proved,
                    finished=writer.close,
                    rows=given.num_rows,
                    shown=self.progress,
                )
            except BaseException:
                with _closing(writer):
                    raise
        self._streams.add(stream)
        return stream

    def _set_reader(self, id: str) -> tuple[flight.FlightStreamReader | SetReader, int | None]:
        """The rows of a recorded set, and how many they are."""
        with translated(self._url):
            try:
                reader = SetReader(self._connection, self._options, id)
                return reader, reader.total
            except (pyarrow.ArrowException, OSError) as error:
                # An older server has no endpoints for a set, and gives it as a whole.
                if "give this command to DoGet" not in str(error):
                    raise
                return self._connection.do_get(flight.Ticket(_json({"training_set": id})), self._options), None

    def _stream_sent(
        self,
        rows: pyarrow.RecordBatchReader,
        request: dict[str, Any],
        proved: Callable[[Mapping[str, Any], int, pyarrow.Schema], None] | None,
    ) -> BatchStream:
        """The features of a spine that is sent while they come back."""
        descriptor = flight.FlightDescriptor.for_command(_json({"historical_features": request}))
        with translated(self._url):
            # How many rows come is not known yet; the report says how many came.
            writer, reader = self._connection.do_exchange(descriptor, self._options)
            try:
                sender = Sender(rows, writer, reader)
            except BaseException:
                with _closing(writer):
                    raise
            try:
                stream = BatchStream(
                    reader, self._url, sender=sender, proved=proved, finished=sender.finish, shown=self.progress
                )
            except BaseException as error:
                sender.stop()
                if sender.failure is not None:
                    raise sender.failure from error
                raise
        self._streams.add(stream)
        return stream

    def loader(
        self,
        training_set: str | TrainingSet,
        *,
        columns: Sequence[str] | None = None,
        label: str | None = None,
        dtype: Any = None,
        batch_size: int = 1024,
        part: str | None = None,
        shuffle: int = 0,
        seed: int = 0,
        drop_last: bool = False,
    ) -> Loader:
        """A recorded training set in batches of numpy arrays, and by `Loader.torch()` of tensors; it is never held whole.

        - `columns`: those to give; all where left out. `label` is set apart, and needs `dtype`.
        - `dtype`: makes each batch one matrix of this type, such as `"float32"`.
        - `part`: the rows of one part, of a set that was recorded with a split.
        - `shuffle`: how many rows at a time are mixed with one another; that many are held. `seed` and the number of the pass
          decide the order.
        - `drop_last`: leaves out a last batch that is not full.

        >>> features, delays = next(iter(client.loader(training_set, columns=["temp"], label="seats", dtype="float32")))
        >>> features.shape, delays.shape
        ((1000, 1), (1000,))
        """
        id = _id(training_set)
        split, time = self._split_of(id) if part is not None else (None, None)
        return Loader(
            self, id, columns=columns, label=label, dtype=dtype, batch_size=_whole(batch_size, "batch_size"), part=part, split=split,
            at=time, shuffle=_whole(shuffle, "shuffle"), seed=seed, drop_last=drop_last,
        )  # fmt: skip

    def export(
        self,
        training_set: str | TrainingSet,
        folder: str | Path,
        *,
        rows_per_file: int = 1_000_000,
        filesystem: pyarrow.fs.FileSystem | None = None,
    ) -> Export:
        """Writes a recorded training set into a folder, as Parquet files that any reader of Parquet can read.

        The folder may be in a bucket: an address that pyarrow knows (`"s3://bucket/folder"`, `"gs://…"`), or a folder of the
        `filesystem` that is given.

        The server rebuilds the set and proves its digest. Each file is read back and compared before it has its name, so that an
        export that was cut goes on where it stopped when it is asked for again; files that are there already are compared too. In a
        bucket a file has its name first: one that does not read back as it was sent is deleted.
        `lineament export` does the same, beside the store or with `--server`. Raises `InvalidRequest` where the folder holds other Parquet files,
        `Damaged` where a file is not what was recorded.

        >>> import tempfile, pyarrow.dataset
        >>> exported = client.export(training_set, tempfile.mkdtemp())
        >>> pyarrow.dataset.dataset(exported.files).count_rows()
        1000
        """
        id = _id(training_set)
        total = self._action("lineament.manifest", {"training_set": id})["rows"]
        to = place(folder, filesystem)
        with self.stream(id) as stream:
            stream.quiet()
            return export(stream, id, to, _whole(rows_per_file, "rows_per_file"), total, self.progress)

    def feature_view(self, name: str) -> FeatureView:
        """A feature view in force, with its features and rules. Raises `NotFound` with the nearest name.

        >>> client.feature_view("plane").keys
        ['tailnum']
        """
        project, _, view = name.rpartition(".")
        chosen = f"WHERE project = {literal(project or 'default')} AND feature_view = {literal(view)}"
        found = self.sql(f"SELECT * FROM lineament.feature_views {chosen}").to_arrow().to_pylist()
        if not found:
            if "@" in name:
                raise InvalidRequest(f"`{name}` is a version; give the feature view's name, `{name.partition('@')[0]}`")
            # What the server says of a view that is not there names the nearest that is.
            self.sql(f"SELECT * FROM history({literal(name)}) LIMIT 0")
            raise NotFound(f"there is no feature view `{name}` in force")
        return feature_view(found[0], self.sql(f"SELECT * FROM lineament.features {chosen}").to_arrow().to_pylist())

    def _split_of(self, id: str) -> tuple[Split | None, str | None]:
        """How a recorded set was declared to fall into parts, and its time column."""
        manifest = self._action("lineament.manifest", {"training_set": id})
        recorded = manifest.get("split")
        return None if recorded is None else Split.of(recorded), manifest["spine"]["at"]

    def score_batch(
        self,
        model: str,
        entity_df: Any,
        *,
        output: str = "prediction",
        columns: Sequence[str] | None = None,
        at: str | None = None,
        name: str | None = None,
        record: bool = True,
    ) -> models.Predictions:
        """What a model of MLflow predicts for these rows, from the features that it was trained on.

        `model`: `"models:/delay@champion"`, `"models:/delay/3"`, `"models:/<model id>"` or `"runs:/<run id>"`. An alias is looked
        up once, so that model and features belong together even where it moves meanwhile. Its features are retrieved for
        `entity_df` as `get_historical_features(entity_df, features=model)` would, and recorded with the role `score`.

        - `output`: the name of the prediction's column; a model that gives several has `output_0`, `output_1` or their own names.
        - `columns`: the columns that the model is given, in order. Where left out, those of its signature, which may be columns
          of `entity_df` too; where it has none, the features.
        - `at`, `name`, `record`: as in `get_historical_features`.

        Nulls are given to the model as pandas writes them (NaN, None). Raises `NotFound` where the model's run is linked to no
        training set, `InvalidRequest` where the model cannot predict from the rows, `Unavailable` where MLflow does not answer.
        """
        options = {"at": at, "name": name, "record": record}
        return models.score_batch(self, model, entity_df, output=output, columns=columns, options=options)

    def use(self, data: Any, *, run: Any = None, role: linking.Role = "train") -> linking.Use:
        """Records that a run used a training set, where the retrieval itself was not made in it: data that travelled to another
        process, a set that tests what another trained.

        - `data`: a `TrainingSet`, its id, or a frame or table that came from one and still says so (pandas' `attrs`, Arrow's schema
          metadata; both go through Parquet).
        - `run`: a run of MLflow, its id, or `mlflow;<tracking URI>;<experiment id>;<run id>`; the active run where left out.
        - `role`: `train`, `validate`, `test`, `score` or `unknown`.

        The use is in the store's log when this returns; MLflow gets it as a dataset input in the background. Raises
        `InvalidRequest` where the data does not say which set it is or no run is known, `NotFound` where there is no such set.
        """
        return linking.used(self, data, run, role)

    def training_set(self, id: str) -> TrainingSet:
        """Rebuilds a recorded training set from its id, proves its digest, and gives its rows again in the same order.

        Raises `Damaged` where the rebuilt rows are not those that were recorded, `NotFound` where there is no such set.

        >>> client.training_set(training_set.id).to_arrow().equals(training_set.to_arrow())
        True
        """
        table, report = self._read_training_set(str(id))
        if report is None:
            raise Error("the training set came without its report, so it may not be all; ask again")
        _replayed(report, table.num_rows, table.schema)
        replay = ReplayReport.of(report)
        training_set = TrainingSet(
            table, id=replay.training_set, digest=replay.digest, sequence=None, features=None, report=report
        )
        try:
            training_set.split, training_set.at = self._split_of(str(id))
        except Error as error:
            # An older server knows of no splits, and gives no manifests.
            if not without_action(error):
                raise
        return training_set

    def _read_training_set(self, id: str) -> tuple[pyarrow.Table, dict[str, Any] | None]:
        try:
            with translated(self._url):
                return read_training_set(self._connection, self._options, id, self.progress)
        except InvalidRequest as error:
            # An older server has no endpoints for a set, and gives it as a whole.
            if "give this command to DoGet" not in str(error):
                raise
            return self._get({"training_set": id})

    def replay(self, training_set: str | TrainingSet) -> ReplayReport:
        """Rebuilds a training set on the server and compares the digest. Its rows are not sent.

        >>> client.replay(training_set.id).verdict
        'equal'
        """
        return ReplayReport.of(self._action("lineament.replay", {"training_set": _id(training_set)}))

    def explain(self, training_set: str | TrainingSet, row: int, column: str) -> Explanation:
        """Why one cell of a training set has its value: batch, file, row, version, and the candidates that lost.

        `row` is counted from 0 in the training set's order; `column` is a feature's column.

        >>> client.explain(training_set, row=0, column="temp").winner.known_at
        '2013-01-01T08:30:00Z'
        """
        request = {"training_set": _id(training_set), "row": _whole(row), "column": column}
        return Explanation.of(self._action("lineament.explain", request))

    def explain_value(
        self,
        feature: str,
        key: Mapping[str, Any],
        at: str | datetime,
        *,
        known_by: str | datetime | None = None,
        sequence: int | None = None,
        exhaustive: bool = False,
    ) -> Explanation:
        """Why a feature has its value for an entity at a time, without a training set.

        - `key`: the entity's key columns and their values.
        - `known_by`: one instant in place of `at` as the limit on what was known.
        - `sequence`: the store as it was after this entry of the log.
        - `exhaustive`: opens every file that may hold the key, so that all that lost are counted, however many they are.

        >>> why = client.explain_value("weather.temp", {"origin": "EWR"}, at="2013-07-01T12:00:00Z")
        >>> why.value, why.winner.known_at
        ('75.92', '2013-07-01T11:30:00Z')
        """
        request: dict[str, Any] = {
            "feature": feature,
            "key": {name: _key_part(part) for name, part in key.items()},
            "at": instant(at, "at"),
        }
        if known_by is not None:
            request["known_by"] = instant(known_by, "known_by")
        if sequence is not None:
            request["sequence"] = _whole(sequence, "sequence")
        if exhaustive:
            request["exhaustive"] = True
        return Explanation.of(self._action("lineament.explain_value", request))

    def diff(self, a: str | TrainingSet, b: str | TrainingSet, *, examples: int = 3, full: bool = False) -> Diff:
        """What is other in training set `b` than in `a`, cell by cell, and why: newer data, a correction, another version, …

        - `examples`: how many changed cells of each kind are shown; counts are exact whatever it is.
        - `full`: sends every changed cell, as `Diff.cells`.

        >>> client.diff(training_set, training_set)
        equal (1,000 rows)
        """
        request = {"a": _id(a), "b": _id(b), "examples": _whole(examples, "examples")}
        if not full:
            return Diff.of(self._action("lineament.diff", request))
        table, report = self._get({"diff": request})
        if report is None:
            raise Error("the diff came without its report, so it may not be all; ask again")
        return Diff.of(report, Rows(table))

    def audit(
        self,
        table: Any,
        features: str | Sequence[str] = (),
        *,
        columns: Mapping[str, str] | None = None,
        at: str | None = None,
        ttl: Mapping[str, str | timedelta] | None = None,
        examples: int = 5,
        full: bool = False,
    ) -> Audit:
        """Which cells hold what could not be known at their row's time, how many, and from which batches.

        `table` is a recorded training set, or its id: then every cell is followed to its observation. Or it is a table that was
        joined elsewhere, as a frame with the entities' key columns, a time, and the columns to audit: then each value is
        compared with what was knowable, and what differs is looked for among all observations of the row's entity.

        - `features`: what the frame's columns hold; `weather.temp` is looked for as `temp` and as `weather__temp`.
        - `columns`: columns that are called otherwise, by name (`{"temperature": "weather.temp"}`).
        - `at`: the frame's time column. Where left out it is `at`, else the only column of times
          (`event_timestamp` is one; beside another it must be named).
        - `ttl`: a ttl in place of the version's own, by view.
        - `full`: gives every cell that is not what was knowable, as `Audit.cells`.

        >>> joined = client.get_historical_features(flights, ["weather.temp"], known_by="2014-01-01T00:00:00Z").to_df()
        >>> client.audit(joined, "weather.temp")
        323 of 1,000 rows leak (judged by value, at sequence ...)
          temp  weather@1.temp  677 knowable, 323 leaked
        """
        if isinstance(table, (str, TrainingSet)):
            if features or columns or at or ttl:
                raise InvalidRequest("a recorded training set says itself what its columns hold; give it alone")
            request: dict[str, Any] = {"training_set": _id(table), "examples": _whole(examples, "examples")}
            if not full:
                return Audit.of(self._action("lineament.audit", request))
            cells, report = self._get({"audit": request})
        else:
            request = {
                "features": [features] if isinstance(features, str) else list(features),
                "examples": _whole(examples, "examples"),
            }
            if columns:
                request["columns"] = dict(columns)
            if at is not None:
                request["at"] = at
            if ttl:
                request["ttl"] = {view: span(length) for view, length in ttl.items()}
            cells, report = self._exchange({"audit": request}, without_views(to_table(table)))
        if report is None:
            raise Error("the audit came without its report, so it may not be all; ask again")
        return Audit.of(report, Rows(cells) if full else None)

    def search(
        self,
        words: str,
        *,
        kind: Literal["feature", "feature_view", "feature_service"] | None = None,
        limit: int = 20,
    ) -> SearchResult:
        """Features, feature views and feature services that have these words, the best first.

        Words are looked for in names, descriptions, tags, owners, units and in what uses a thing, and may be mistyped. `tag:pii`,
        `owner:ann`, `unit:mph`, `use:delay` say where a word must stand. What policies keep from the caller is not found.

        >>> client.search("win sped")[0].name
        'weather.wind_speed'
        """
        body = {"words": words, "limit": _whole(limit, "limit")}
        if kind is not None:
            body["kind"] = kind
        return SearchResult.of(self._action("lineament.search", body))

    def sql(self, query: str, *, as_of: int | str | datetime | None = None) -> Rows:
        """Runs a query that only reads. Feature views are tables (`weather`, `"weather@1"`); the schema `lineament` says what
        the store holds. Raises `Forbidden` for anything that would write.

        `as_of`: all of it as it was after an entry of the log, by its sequence, or at a time (a datetime with a zone, or text such as
        `2013-07-01T00:00:00Z`). Policies are those of now. Raises `InvalidRequest` for what is still to come, and before the store.

        >>> client.sql("SELECT feature_view, version, keys FROM lineament.feature_views WHERE entity = 'plane'").to_df()
          feature_view  version     keys
        0          leg        1  tailnum
        1        plane        1  tailnum
        >>> client.sql("SELECT count(*) AS entries FROM lineament.log", as_of=0).to_df()
           entries
        0        1
        """
        asked = query if as_of is None else {"query": query, "as_of": state(as_of)}
        table, _ = self._get({"sql": asked})
        return Rows(table)

    # ---------------------------------------------------------------------------------------------------- transport

    @property
    def _headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of a call that is made now, in this thread."""
        headers = linking.call_headers(self.run)
        if self.experiment is not None:
            headers.append(("lineament-experiment", self.experiment))
        if self.purpose is not None:
            headers.append(("lineament-purpose", self.purpose))
        return [*self._access.headers, *((name.encode(), _header(name, value)) for name, value in headers)]

    @property
    def _options(self) -> flight.FlightCallOptions:
        return flight.FlightCallOptions(headers=self._headers)

    def _sending(self, rows: pyarrow.Table) -> flight.FlightCallOptions:
        """The options of a call that sends rows: the server refuses fewer or more."""
        return flight.FlightCallOptions(headers=[*self._headers, (b"lineament-rows", str(rows.num_rows).encode())])

    def _action(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        with translated(self._url):
            results = list(self._connection.do_action(flight.Action(name, _json(body)), self._options))
        if len(results) != 1:
            raise Error(f"the server gave {len(results)} answers to {name}, where one is due")
        return _parsed(results[0].body)

    def _put(self, command: Mapping[str, Any], rows: pyarrow.Table, what: str) -> dict[str, Any] | None:
        """Sends rows up; what the server says of them, and None where it ends without a word."""
        descriptor = flight.FlightDescriptor.for_command(_json(command))
        with translated(self._url):
            writer, answers = self._connection.do_put(descriptor, rows.schema, self._sending(rows))
            with _closing(writer), self._progress(what, rows) as progress:
                _write(writer, rows, progress)
                writer.done_writing()
                answer = answers.read()
        return None if answer is None else _parsed(answer)

    def _exchange(self, command: Mapping[str, Any], rows: pyarrow.Table) -> tuple[pyarrow.Table, dict[str, Any] | None]:
        descriptor = flight.FlightDescriptor.for_command(_json(command))
        with translated(self._url):
            writer, reader = self._connection.do_exchange(descriptor, self._sending(rows))
            with _closing(writer), self._progress("sending rows", rows) as progress:
                writer.begin(rows.schema)
                _write(writer, rows, progress)
                writer.done_writing()
                progress.stage("retrieving", rows.num_rows)
                table, report = _read(reader, progress)
        warn_of_deprecations(report)
        return table, report

    def _get(self, ticket: Mapping[str, Any]) -> tuple[pyarrow.Table, dict[str, Any] | None]:
        with translated(self._url):
            reader = self._connection.do_get(flight.Ticket(_json(ticket)), self._options)
            with Progress("retrieving", shown=self.progress) as progress:
                table, report = _read(reader, progress)
        warn_of_deprecations(report)
        return table, report

    def _progress(self, what: str, rows: pyarrow.Table) -> Progress:
        return Progress(what, rows.num_rows, shown=self.progress)


def _historical(
    features: Any,
    full_feature_names: bool,
    at: str | None,
    ttl: Mapping[str, str | timedelta] | None,
    known_by: str | datetime | None,
    as_of: int | str | datetime | None,
    name: str | None,
    record: bool,
    split: Split | None,
    null_reasons: bool,
) -> dict[str, Any]:
    """The request for historical features, as docs/flight.md has it."""
    request: dict[str, Any] = {"features": [features] if isinstance(features, str) else list(features)}
    if full_feature_names:
        request["full_feature_names"] = True
    if at is not None:
        request["at"] = at
    if ttl:
        request["ttl"] = {view: span(length) for view, length in ttl.items()}
    if known_by is not None:
        request["known_by"] = instant(known_by, "known_by")
    if as_of is not None:
        request["as_of"] = state(as_of)
    if name is not None:
        request["name"] = name
    if not record:
        request["record"] = False
    if split is not None:
        if not isinstance(split, Split):
            raise InvalidRequest(
                f"split is {split!r}; it is a lineament.Split, as Split.random({{'train': 0.8, 'test': 0.2}})"
            )
        request["split"] = split.to_json()
    if null_reasons:
        request["null_reasons"] = True
    return request


def _query(given: Any) -> str | None:
    """The text of a query; None for anything else."""
    return given if isinstance(given, str) and _QUERY.match(given) else None


def _all_came(report: Mapping[str, Any], rows: int) -> None:
    if rows != report["rows"]:
        raise Damaged(f"the training set has {report['rows']:,} rows, but {rows:,} came; ask again")


def _time_column(schema: pyarrow.Schema, at: str | None) -> str | None:
    """The spine's time column, by the server's rule."""
    if at is not None:
        return at
    if "at" in schema.names and "event_timestamp" not in schema.names:
        return "at"
    times = [field.name for field in schema if field.name in ("at", "event_timestamp") or _is_time(field.type)]
    return times[0] if len(times) == 1 else None


def _is_time(kind: pyarrow.DataType) -> bool:
    return pyarrow.types.is_timestamp(kind) or pyarrow.types.is_date(kind)


def _replayed(report: Mapping[str, Any], rows: int, _: pyarrow.Schema) -> None:
    replay = ReplayReport.of(report)
    if not replay:
        raise Damaged(repr(replay))
    if rows != replay.rows:
        raise Damaged(f"training set {replay.training_set} has {replay.rows:,} rows, but {rows:,} came; ask again")


def _write(writer: flight.FlightStreamWriter, rows: pyarrow.Table, progress: Progress) -> None:
    """Sends rows in messages of a size that the server takes."""
    for batch in rows.to_batches(max_chunksize=rows_a_message(rows)):
        writer.write_batch(batch)
        progress.add(batch.num_rows)


def _read(reader: flight.FlightStreamReader, progress: Progress) -> tuple[pyarrow.Table, dict[str, Any] | None]:
    """The rows of a stream, and what its last message says of them."""
    batches, last = read_batches(reader, progress.add)
    table = pyarrow.Table.from_batches(batches, reader.schema)
    return table, None if last is None else _parsed(last)


@contextmanager
def _closing(writer: flight.FlightStreamWriter) -> Iterator[None]:
    """Closes the writer. Where the server stopped listening, only closing tells why; that error is the one to show."""
    try:
        yield
    except (pyarrow.ArrowException, OSError):
        writer.close()
        raise
    except BaseException:
        with suppress(pyarrow.ArrowException, OSError):
            writer.close()
        raise
    writer.close()


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _parsed(answer: pyarrow.Buffer) -> dict[str, Any]:
    try:
        parsed = json.loads(answer.to_pybytes())
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise Error("the server's answer is not what this client knows; is it a Lineament server?")
    return parsed


def _id(training_set: str | TrainingSet) -> str:
    if isinstance(training_set, TrainingSet):
        if training_set.id is None:
            raise InvalidRequest(
                "this training set was not recorded, so that it cannot be rebuilt; ask for it with record=True"
            )
        return training_set.id
    return str(training_set)


def _whole(number: Any, name: str = "row") -> int:
    try:
        return number.__index__()
    except AttributeError:
        raise InvalidRequest(f"{name} is {number!r}; it is a whole number, counted from 0") from None


def _key_part(part: Any) -> Any:
    """A part of a key as JSON has it: whole numbers, truth values and None as they are, anything else as text."""
    if part is None or isinstance(part, (bool, str)):
        return part
    if isinstance(part, datetime):
        return instant(part, "the key")
    if hasattr(part, "__index__"):
        return part.__index__()
    return str(part)


def _header(name: str, value: str) -> bytes:
    if not (value.isascii() and value.isprintable()):
        raise InvalidRequest(
            f"{name.removeprefix('lineament-')} is {value!r}; it travels as a header, which takes printable ASCII only"
        )
    return value.encode()
