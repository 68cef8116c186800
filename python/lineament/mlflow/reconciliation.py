"""What an MLflow server says of experiments, runs, models and aliases, and telling the store.

Reading changes nothing in MLflow. What it said at one time is an `Observation`; what the store knew before
tells what has gone since, moved, or was renamed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ..errors import Error, NotFound, Unavailable, without_action
from ..instants import instant
from ..quoting import literal
from .authority import authority as normalised
from .dataset_input import CONTEXT_TAG, ROLES, SOURCE_TYPE
from .links import client_of, use
from .outbox import check_reachable
from .pending import TAG

_PARENT = "mlflow.parentRunId"
_COMMIT = "mlflow.source.git.commit"
# MLflow cuts values silently at these lengths; one of exactly this length may be cut.
_TAG_CUT, _PARAM_CUT = 8000, 6000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RUNS_A_PAGE = 1000
# A message stays well below what the server takes.
_RECORDS_A_MESSAGE = 200


@dataclass(frozen=True)
class RunUse:
    """A training set that a run names: as a dataset input, or by the tag of sets that were retrieved before
    it."""

    training_set: str
    #: `mlflow;<authority>;<experiment id>;<run id>`
    run: str
    role: str
    #: `tag` for an input, which anyone may have written; `pending` for the tag that our client puts on a new
    #: run.
    how: str


@dataclass(frozen=True)
class Known:
    """What was known of one MLflow server before, and is not known to have gone."""

    experiments: frozenset[str] = frozenset()
    runs: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    #: `<name>/<version>/<creation time>`: a name that is made again starts at version 1 again, with other
    #: contents.
    model_versions: frozenset[str] = frozenset()
    #: The version of each `(model, alias)`; None where it was removed.
    aliases: Mapping[tuple[str, str], str | None] = field(default_factory=dict)
    #: `(training set, run id)`
    uses: frozenset[tuple[str, str]] = frozenset()
    #: When that was so, with a zone; None where nobody looked yet.
    seen_at: datetime | None = None
    #: The ids of what was known to have gone.
    gone: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Observation:
    """What an MLflow server said at one time. Records are as the action `lineament.observe` takes them."""

    authority: str
    seen_at: datetime
    previous_seen_at: datetime | None
    experiments: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    models: list[dict[str, Any]]
    model_versions: list[dict[str, Any]]
    #: One for each alias there is, and one without a version for each that is gone.
    aliases: list[dict[str, Any]]
    uses: list[RunUse]

    def known(self) -> Known:
        """This observation as what is known before the next."""

        def there(records: Iterable[Mapping[str, Any]]) -> frozenset[str]:
            return frozenset(record["id"] for record in records if record["lifecycle"] != "gone")

        return Known(
            experiments=there(self.experiments),
            runs=there(self.runs),
            models=there(self.models),
            model_versions=there(self.model_versions),
            aliases={(alias["model"], alias["alias"]): alias.get("version") for alias in self.aliases},
            uses=frozenset((use.training_set, _run_id(use.run)) for use in self.uses),
            seen_at=self.seen_at,
            gone=frozenset(self.gone()),
        )

    def gone(self) -> list[str]:
        """The ids of what was known before and is no longer there."""
        things = [*self.experiments, *self.runs, *self.models, *self.model_versions]
        return [thing["id"] for thing in things if thing["lifecycle"] == "gone"]

    def messages(self) -> Iterator[dict[str, Any]]:
        """The bodies of `lineament.observe`: what others refer to first, and at last that this was all."""
        head: dict[str, Any] = {
            "system": "mlflow",
            "authority": self.authority,
            "how": "reconciliation",
            "seen_at": instant(self.seen_at, "seen_at"),
        }
        if self.previous_seen_at is not None:
            head["previous_seen_at"] = instant(self.previous_seen_at, "previous_seen_at")
        found = 0
        # Versions before models: by a version with another model's name the store knows a model again.
        for kind in ("experiments", "runs", "model_versions", "models", "aliases"):
            records = getattr(self, kind)
            found += len(records)
            for first in range(0, len(records), _RECORDS_A_MESSAGE):
                yield {**head, kind: records[first : first + _RECORDS_A_MESSAGE]}
        gone = len(self.gone())
        yield {**head, "complete": {"found": found - gone, "gone": gone}}


@dataclass(frozen=True, repr=False)
class ReconciliationReport:
    """What a pass over an MLflow server found."""

    observation: Observation
    #: Runs that name a training set, which the store did not know.
    linked: list[RunUse]
    #: Runs that name a training set that this store does not have.
    foreign: list[RunUse]
    #: Aliases that mean another version than before, `(model, alias, before, now)`; None for no version.
    moved: list[tuple[str, str, str | None, str | None]]
    #: Experiments, runs, models and versions that are no longer there.
    gone: list[str]
    #: Models with another name than before, `(before, now)`.
    renamed: list[tuple[str, str]]

    def __repr__(self) -> str:
        seen = self.observation
        text = (
            f"{seen.authority}: {len(seen.experiments)} experiments, {len(seen.runs)} runs, "
            f"{len(seen.model_versions)} model versions, "
            f"{len(seen.aliases)} aliases"
        )
        text += f"\n  {len(self.linked)} links were missing"
        text += f"\n  {len(self.foreign)} links name training sets of another store"
        text += "".join(
            f"\n  {model}@{alias} moved from {before or 'nothing'} to {now or 'nothing'}"
            for model, alias, before, now in self.moved
        )
        text += "".join(f"\n  model {before} is called {now}" for before, now in self.renamed)
        text += "".join(f"\n  gone: {id}" for id in self.gone)
        return text


def reconcile(
    client: Any,
    tracking_uri: str | None = None,
    *,
    known: Known | None = None,
    deployed: Mapping[str, str] | None = None,
    ended_after: datetime | None = None,
    all_runs: bool = False,
) -> ReconciliationReport:
    """Reads what an MLflow server says, and tells the store what it does not know. Nothing is written in
    MLflow.

    - `tracking_uri`: the server; MLflow's own default where left out.
    - `known`: what was known before, as `report.observation.known()` gives it; the store is asked where left
      out.
    - `deployed`: aliases that stand for a deployment, with its environment: `{"champion": "production"}`.
      Where one has moved, the store is told of the deployment too.
    - `ended_after`, `all_runs`: see `observe`.

    Raises `Unavailable` where either server does not answer, `NotFound` where the store's server does not
    take observations.
    """
    uri = tracking_uri or _default_uri()
    before = _known_to_store(client, normalised(uri)) if known is None else known
    observation = observe(uri, before, ended_after=ended_after, all_runs=all_runs)
    for message in observation.messages():
        client._action("lineament.observe", message)
    linked, foreign = [], []
    for one in observation.uses:
        if (one.training_set, _run_id(one.run)) in before.uses:
            continue
        try:
            client._action("lineament.use", use(one.training_set, one.run, one.role, one.how))
        except NotFound as error:
            if without_action(error):
                raise
            foreign.append(one)
        else:
            linked.append(one)
    moved = _moved(before, observation)
    for model, alias, _, now in moved:
        environment = (deployed or {}).get(alias)
        if environment is not None:
            deployment = {"name": model, "environment": environment, "evidence": "alias"}
            if now is not None:
                deployment["model_version"] = now
            client._action("lineament.deploy", deployment)
    renamed = sorted(
        {(one["renamed_from"], one["model"]) for one in observation.model_versions if "renamed_from" in one}
    )
    gone = [id for id in observation.gone() if id not in before.gone]
    return ReconciliationReport(observation, linked, foreign, moved, gone, renamed)


def observe(
    tracking_uri: str,
    known: Known | None = None,
    *,
    ended_after: datetime | None = None,
    all_runs: bool = False,
) -> Observation:
    """What an MLflow server says now.

    All experiments, models, versions and aliases are read. Of the runs, those are kept that name a training
    set, that made a model version, that were known before, and their parents; or all with `all_runs`.
    `ended_after` reads only runs that ended later or did not end, and those known before: leave a day for
    what is written after the end.
    """
    check_reachable(tracking_uri)
    try:
        return _Reader(tracking_uri, known or Known()).read(ended_after, all_runs)
    except Error:
        raise
    except Exception as error:
        raise _as_ours(error, tracking_uri) from error


class _Reader:
    def __init__(self, uri: str, known: Known) -> None:
        self._mlflow = client_of(uri)
        self._authority = normalised(uri)
        self._known = known
        self._seen_at = datetime.now(UTC)

    def read(self, ended_after: datetime | None, all_runs: bool) -> Observation:
        experiments = self._experiments()
        models, versions, aliases = self._registry()
        made = {version["run"] for version in versions if "run" in version}
        runs, uses = self._runs([one["id"] for one in experiments], made, ended_after, all_runs)
        experiments += _gone(self._known.experiments, experiments)
        return Observation(
            self._authority,
            self._seen_at,
            self._known.seen_at,
            experiments,
            runs,
            models,
            versions,
            aliases,
            uses,
        )

    def _experiments(self) -> list[dict[str, Any]]:
        from mlflow.entities import ViewType

        found = _pages(
            lambda token: self._mlflow.search_experiments(view_type=ViewType.ALL, page_token=token)
        )
        return [
            _present(
                id=experiment.experiment_id,
                name=experiment.name,
                lifecycle=experiment.lifecycle_stage,
                tags=dict(experiment.tags),
            )
            for experiment in found
        ]

    def _runs(
        self, experiments: list[str], made: set[str], ended_after: datetime | None, all_runs: bool
    ) -> tuple[list[dict[str, Any]], list[RunUse]]:
        filters = [""]
        if ended_after is not None:
            millis = int(ended_after.timestamp() * 1000)
            filters = [f"attributes.end_time > {millis}"] + [
                f"attributes.status = '{status}'" for status in ("RUNNING", "SCHEDULED")
            ]
        records: dict[str, dict[str, Any]] = {}
        uses: list[RunUse] = []
        wanted = made | self._known.runs
        for wording in filters:
            for run in self._search(experiments, wording):
                if run.info.run_id in records:
                    continue
                named = self._uses(run)
                if named or all_runs or run.info.run_id in wanted:
                    records[run.info.run_id] = _run(run)
                    uses += named
        # Known runs that the search did not give, and the parents of all, one by one: to say that one is
        # gone, it is asked for.
        while asked := sorted((wanted | _parents(records)) - records.keys()):
            for id in asked:
                run = self._one_run(id)
                records[id] = {"id": id, "lifecycle": "gone"} if run is None else _run(run)
                uses += [] if run is None else self._uses(run)
        return list(records.values()), uses

    def _search(self, experiments: list[str], wording: str) -> Iterator[Any]:
        from mlflow.entities import ViewType

        if not experiments:
            return iter(())
        return _pages(
            lambda token: self._mlflow.search_runs(
                experiments, wording, run_view_type=ViewType.ALL, max_results=_RUNS_A_PAGE, page_token=token
            )
        )

    def _one_run(self, id: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self._mlflow.get_run(id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _uses(self, run: Any) -> list[RunUse]:
        text = f"mlflow;{self._authority};{run.info.experiment_id};{run.info.run_id}"
        found: dict[str, RunUse] = {}
        for one in run.inputs.dataset_inputs if run.inputs is not None else []:
            if one.dataset.source_type == SOURCE_TYPE:
                context = next((tag.value for tag in one.tags if tag.key == CONTEXT_TAG), "")
                found[one.dataset.digest] = RunUse(
                    one.dataset.digest, text, ROLES.get(context, "unknown"), "tag"
                )
        for id in filter(None, run.data.tags.get(TAG, "").split(",")):
            role = found[id].role if id in found else "unknown"
            found[id] = RunUse(id, text, role, "pending")
        return list(found.values())

    def _registry(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
        found = list(_pages(lambda token: self._mlflow.search_registered_models(page_token=token)))
        listed = list(_pages(lambda token: self._mlflow.search_model_versions("", page_token=token)))
        models = [{"id": model.name, "name": model.name, "lifecycle": "active"} for model in found]
        versions = {_version_key(version): self._version(version) for version in listed}
        by_number = {(version.name, str(version.version)): _version_key(version) for version in listed}
        renamed = set()
        for before in sorted(self._known.model_versions - versions.keys()):
            name, number, created = before.rsplit("/", 2)
            # The same number and time under another name, which nobody knew: the model was renamed.
            now = [
                key
                for key in versions.keys() - self._known.model_versions
                if key.rsplit("/", 2)[1:] == [number, created]
            ]
            if len(now) == 1 and name not in {model.name for model in found}:
                versions[now[0]]["renamed_from"] = name
                renamed.add(name)
            else:
                versions[before] = {"id": before, "model": name, "version": number, "lifecycle": "gone"}
        models += _gone(self._known.models - renamed, models)
        aliases = [
            {"model": model.name, "alias": alias, "version": by_number[model.name, str(number)]}
            for model in found
            for alias, number in sorted(model.aliases.items())
            # One that was set between the two listings is for the next pass.
            if (model.name, str(number)) in by_number
        ]
        there = {(alias["model"], alias["alias"]) for alias in aliases}
        aliases += [
            {"model": model, "alias": alias}
            for (model, alias), version in sorted(self._known.aliases.items())
            if version is not None and (model, alias) not in there and model not in renamed
        ]
        return models, list(versions.values()), aliases

    def _version(self, version: Any) -> dict[str, Any]:
        logged = getattr(version, "model_id", None) or None
        source = version.source or ""
        if logged is None and source.startswith("models:/m-"):
            logged = source.removeprefix("models:/").partition("/")[0]
        run = version.run_id or None
        if run is None and logged is not None:
            run = self._run_of_logged_model(logged)
        return _present(
            id=_version_key(version),
            model=version.name,
            version=str(version.version),
            run=run,
            logged_model=logged,
            source_uri=source,
            created_at=_instant(version.creation_timestamp),
            status=str(version.status),
            lifecycle="active",
            tags=dict(version.tags),
        )

    def _run_of_logged_model(self, id: str) -> str | None:
        from mlflow.exceptions import MlflowException

        try:
            return self._mlflow.get_logged_model(id).source_run_id or None
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise


def _parents(records: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {record["parent"] for record in records.values() if "parent" in record}


def _run(run: Any) -> dict[str, Any]:
    tags, params, metrics = dict(run.data.tags), dict(run.data.params), dict(run.data.metrics)
    truncated = [f"tags.{key}" for key, value in tags.items() if len(value) == _TAG_CUT]
    # Of parameters the bare name; the store shows it beside the value.
    truncated += [key for key, value in params.items() if len(value) == _PARAM_CUT]
    # A metric that is no number has no place among numbers, and is told with the tags.
    odd = {f"metrics.{key}": str(value) for key, value in metrics.items() if not math.isfinite(value)}
    info = run.info
    return _present(
        id=info.run_id,
        experiment=info.experiment_id,
        parent=tags.get(_PARENT),
        name=info.run_name,
        user=info.user_id,
        status=str(info.status),
        started_at=_instant(info.start_time),
        ended_at=_instant(info.end_time),
        lifecycle=info.lifecycle_stage,
        params=params,
        metrics={key: value for key, value in metrics.items() if math.isfinite(value)},
        tags={**tags, **odd},
        source_commit=tags.get(_COMMIT),
        truncated=truncated,
    )


def _gone(known: Iterable[str], records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    there = {record["id"] for record in records}
    return [{"id": id, "lifecycle": "gone"} for id in sorted(set(known) - there)]


def _version_key(version: Any) -> str:
    return f"{version.name}/{version.version}/{version.creation_timestamp}"


def _moved(known: Known, seen: Observation) -> list[tuple[str, str, str | None, str | None]]:
    names = {one["renamed_from"]: one["model"] for one in seen.model_versions if "renamed_from" in one}

    def called(version: str | None) -> str | None:
        # A version under the new name of its model is the same version.
        if version is None:
            return None
        name, number, created = version.rsplit("/", 2)
        return f"{names.get(name, name)}/{number}/{created}"

    before = {
        (names.get(model, model), alias): called(version) for (model, alias), version in known.aliases.items()
    }
    now = {(one["model"], one["alias"]): one.get("version") for one in seen.aliases}
    return [
        (model, alias, before.get((model, alias)), now.get((model, alias)))
        for model, alias in sorted(before.keys() | now.keys())
        if before.get((model, alias)) != now.get((model, alias))
    ]


def _run_id(run: str) -> str:
    """The run's own id, which tells runs of one server apart, in the text of a run."""
    return run.rpartition(";")[2]


def _known_to_store(client: Any, authority: str) -> Known:
    """What the store knows of an MLflow server. A store that keeps none of it knows nothing."""
    views = {
        row["table_name"]
        for row in _select(
            client, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'lineament'"
        )
    }
    ours = f"system = 'mlflow' AND authority = {literal(authority)}"
    ids: dict[str, set[str]] = {}
    for view, kind in (
        ("experiments", "experiment"),
        ("runs", "run"),
        ("models", "model"),
        ("model_versions", "model_version"),
    ):
        if view in views:
            there = f"{ours} AND lifecycle IS DISTINCT FROM 'gone'"
            query = f"SELECT external_id FROM lineament.{view} WHERE {there}"
            ids[kind] = {row["external_id"] for row in _select(client, query)}
            query = f"SELECT external_id FROM lineament.{view} WHERE {ours} AND lifecycle = 'gone'"
            ids.setdefault("gone", set()).update(row["external_id"] for row in _select(client, query))
    # A retrieval's own run stands as text.
    uses = {
        (row["training_set"], _run_id(row["run"]))
        for row in _select(
            client, "SELECT training_set, run FROM lineament.training_sets WHERE run IS NOT NULL"
        )
        if row["run"].startswith(f"mlflow;{authority};")
    }
    if "uses" in views:
        query = f"SELECT training_set, external_id FROM lineament.uses WHERE {ours}"
        uses |= {(row["training_set"], row["external_id"]) for row in _select(client, query)}
    return Known(
        experiments=frozenset(ids.get("experiment", ())),
        runs=frozenset(ids.get("run", ())),
        models=frozenset(ids.get("model", ())),
        model_versions=frozenset(ids.get("model_version", ())),
        aliases=_aliases(client, ours) if {"alias_history", "models", "model_versions"} <= views else {},
        uses=frozenset(uses),
        seen_at=_last_pass(client, ours) if "reconciliation" in views else None,
        gone=frozenset(ids.get("gone", ())),
    )


def _aliases(client: Any, ours: str) -> dict[tuple[str, str], str | None]:
    """What each alias means now, in the other system's words."""
    rows = _select(
        client,
        "SELECT m.external_id AS model, a.alias, v.external_id AS version "
        f"FROM lineament.alias_history a JOIN (SELECT * FROM lineament.models WHERE {ours}) m "
        "ON m.model = a.model LEFT JOIN lineament.model_versions v ON v.model_version = a.model_version "
        "WHERE a.until IS NULL",
    )
    return {(row["model"], row["alias"]): row["version"] for row in rows}


def _last_pass(client: Any, ours: str) -> datetime | None:
    rows = _select(client, f"SELECT max(checked_at) AS checked_at FROM lineament.reconciliation WHERE {ours}")
    return rows[0]["checked_at"] if rows else None


def _select(client: Any, query: str) -> list[dict[str, Any]]:
    return client.sql(query).to_arrow().to_pylist()


def _pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def _present(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _instant(millis: int | None) -> str | None:
    return None if millis is None else instant(_EPOCH + timedelta(milliseconds=int(millis)), "the time")


def _default_uri() -> str:
    import mlflow

    return mlflow.get_tracking_uri()


def _as_ours(error: Exception, uri: str) -> Error:
    code = getattr(error, "error_code", None)
    kind = Unavailable if code in ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR") else Error
    return kind(f"MLflow at {normalised(uri)}: {getattr(error, 'message', None) or error}")
