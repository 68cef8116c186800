"""What an MLflow server says of experiments, runs, models and aliases, and telling the store.

Reading changes nothing in MLflow. What it said at one time is an `Observation`; what the store knew before
tells what has gone since, moved, or was renamed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..errors import Error, NotFound, Unavailable, without_action
from .authority import authority as normalised
from .dataset_input import CONTEXT_TAG, ROLES, SOURCE_TYPE
from .links import client_of, use
from .outbox import check_reachable
from .pending import TAG

_PARENT = "mlflow.parentRunId"
_COMMIT = "mlflow.source.git.commit"
# MLflow cuts values silently at these lengths; one of exactly this length may be cut.
_TAG_CUT, _PARAM_CUT = 8000, 6000
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
    """What was known of one MLflow server before."""

    experiments: frozenset[str] = frozenset()
    runs: frozenset[str] = frozenset()
    #: `<name>/<version>/<creation time>`: a name that is made again starts at version 1 again, with other
    #: contents.
    model_versions: frozenset[str] = frozenset()
    #: The version of each `(model, alias)`; None where it was removed.
    aliases: Mapping[tuple[str, str], str | None] = field(default_factory=dict)
    #: `(training set, run id)`
    uses: frozenset[tuple[str, str]] = frozenset()
    #: When that was so, microseconds of UTC; None where nobody looked yet.
    seen_at: int | None = None


@dataclass(frozen=True)
class Observation:
    """What an MLflow server said at one time. Records are as `lineament.observe` takes them; times are
    microseconds of UTC."""

    authority: str
    seen_at: int
    previous_seen_at: int | None
    experiments: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    model_versions: list[dict[str, Any]]
    #: One for each alias there is, and one without a version for each that is gone.
    aliases: list[dict[str, Any]]
    uses: list[RunUse]

    def known(self) -> Known:
        """This observation as what is known before the next."""

        def there(records: Iterable[Mapping[str, Any]]) -> frozenset[str]:
            return frozenset(record["external_id"] for record in records if record["lifecycle"] != "gone")

        return Known(
            experiments=there(self.experiments),
            runs=there(self.runs),
            model_versions=there(self.model_versions),
            aliases={(alias["model"], alias["alias"]): alias["model_version"] for alias in self.aliases},
            uses=frozenset((use.training_set, _run_id(use.run)) for use in self.uses),
            seen_at=self.seen_at,
        )

    def messages(self) -> Iterator[dict[str, Any]]:
        """The bodies of `lineament.observe`: what others refer to first."""
        head = {"authority": self.authority, "seen_at": self.seen_at}
        if self.previous_seen_at is not None:
            head["previous_seen_at"] = self.previous_seen_at
        sent = False
        for kind in ("experiments", "runs", "model_versions", "aliases"):
            records = getattr(self, kind)
            for first in range(0, len(records), _RECORDS_A_MESSAGE):
                sent = True
                yield {**head, kind: records[first : first + _RECORDS_A_MESSAGE]}
        if not sent:
            # That nothing is there was seen too.
            yield head


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
    #: Runs and model versions that are no longer there.
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
            deployment = {"name": model, "environment": environment}
            client._action(
                "lineament.deploy", deployment if now is None else {**deployment, "model_version": now}
            )
    gone = [
        record["external_id"]
        for record in [*observation.runs, *observation.model_versions]
        if record["lifecycle"] == "gone"
    ]
    renamed = sorted(
        {(one["renamed_from"], one["model"]) for one in observation.model_versions if "renamed_from" in one}
    )
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
        self._seen_at = time.time_ns() // 1000

    def read(self, ended_after: datetime | None, all_runs: bool) -> Observation:
        experiments = self._experiments()
        versions, aliases = self._registry()
        made = {version["run"] for version in versions if "run" in version}
        runs, uses = self._runs(
            [record["external_id"] for record in experiments], made, ended_after, all_runs
        )
        there = {record["external_id"] for record in experiments}
        experiments += [
            {"external_id": id, "lifecycle": "gone"} for id in sorted(self._known.experiments - there)
        ]
        return Observation(
            self._authority, self._seen_at, self._known.seen_at, experiments, runs, versions, aliases, uses
        )

    def _experiments(self) -> list[dict[str, Any]]:
        from mlflow.entities import ViewType

        found = _pages(
            lambda token: self._mlflow.search_experiments(view_type=ViewType.ALL, page_token=token)
        )
        return [
            _present(
                external_id=experiment.experiment_id,
                name=experiment.name,
                lifecycle=experiment.lifecycle_stage,
                created_at=_micros(experiment.creation_time),
                updated_at=_micros(experiment.last_update_time),
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
                records[id] = {"external_id": id, "lifecycle": "gone"} if run is None else _run(run)
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

    def _registry(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        models = list(_pages(lambda token: self._mlflow.search_registered_models(page_token=token)))
        found = list(_pages(lambda token: self._mlflow.search_model_versions("", page_token=token)))
        versions = {_version_key(version): self._version(version) for version in found}
        by_number = {(version.name, str(version.version)): _version_key(version) for version in found}
        gone = self._known.model_versions - versions.keys()
        for before in gone:
            name, number, created = before.rsplit("/", 2)
            # The same number and time under another name, which nobody knew: the model was renamed.
            now = [
                key for key in versions
                if key not in self._known.model_versions and key.rsplit("/", 2)[1:] == [number, created]
            ]  # fmt: skip
            if len(now) == 1 and name not in {model.name for model in models}:
                versions[now[0]]["renamed_from"] = name
            else:
                versions[before] = {
                    "external_id": before, "model": name, "version": number, "lifecycle": "gone",
                    "created_at": int(created) * 1000,
                }  # fmt: skip
        aliases = []
        for model in models:
            for alias, number in sorted(model.aliases.items()):
                aliases.append(self._alias(model.name, alias, by_number.get((model.name, str(number)))))
        there = {(alias["model"], alias["alias"]) for alias in aliases}
        for (model, alias), version in sorted(self._known.aliases.items()):
            if version is not None and (model, alias) not in there:
                aliases.append(self._alias(model, alias, None))
        return list(versions.values()), aliases

    def _version(self, version: Any) -> dict[str, Any]:
        logged = getattr(version, "model_id", None) or None
        source = version.source or ""
        if logged is None and source.startswith("models:/m-"):
            logged = source.removeprefix("models:/").partition("/")[0]
        run = version.run_id or None
        if run is None and logged is not None:
            run = self._run_of_logged_model(logged)
        return _present(
            external_id=_version_key(version),
            model=version.name,
            name=f"{version.name}/{version.version}",
            version=str(version.version),
            run=run,
            logged_model=logged,
            source_uri=source,
            created_at=_micros(version.creation_timestamp),
            updated_at=_micros(version.last_updated_timestamp),
            status=str(version.status),
            lifecycle="active",
        )

    def _run_of_logged_model(self, id: str) -> str | None:
        from mlflow.exceptions import MlflowException

        try:
            return self._mlflow.get_logged_model(id).source_run_id or None
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _alias(self, model: str, alias: str, version: str | None) -> dict[str, Any]:
        # It moved somewhere between the two times; nobody can say when.
        return {
            "model": model, "alias": alias, "model_version": version, "seen_at": self._seen_at,
            "previous_seen_at": self._known.seen_at,
        }  # fmt: skip


def _parents(records: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {record["parent_run"] for record in records.values() if "parent_run" in record}


def _run(run: Any) -> dict[str, Any]:
    tags, params = dict(run.data.tags), dict(run.data.params)
    truncated = [f"tags.{key}" for key, value in tags.items() if len(value) == _TAG_CUT]
    truncated += [f"params.{key}" for key, value in params.items() if len(value) == _PARAM_CUT]
    info = run.info
    return _present(
        external_id=info.run_id,
        experiment=info.experiment_id,
        parent_run=tags.get(_PARENT),
        name=info.run_name,
        user=info.user_id,
        status=str(info.status),
        started_at=_micros(info.start_time),
        ended_at=_micros(info.end_time),
        lifecycle=info.lifecycle_stage,
        params=params,
        metrics={key: _number(value) for key, value in run.data.metrics.items()},
        tags=tags,
        source_commit=tags.get(_COMMIT),
        truncated=truncated,
    )


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
    now = {
        (one["model"], one["alias"]): one["model_version"]
        for one in seen.aliases
        if one["model"] not in names
    }
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
    ours = f"system = 'mlflow' AND authority = {_text(authority)}"
    ids: dict[str, set[str]] = {}
    runs: dict[str, str] = {}
    if "external_ids" in views:
        query = f"SELECT id, kind, external_id FROM lineament.external_ids WHERE {ours}"
        for row in _select(client, query):
            ids.setdefault(row["kind"], set()).add(row["external_id"])
            if row["kind"] == "run":
                runs[str(row["id"])] = row["external_id"]
    # A retrieval's own run stands as text; a use's run may stand as text or by our id.
    uses = set()
    for view in ("training_sets", "uses"):
        if view in views:
            query = f"SELECT training_set, run FROM lineament.{view} WHERE run IS NOT NULL"
            for row in _select(client, query):
                run = str(row["run"])
                if run.startswith(f"mlflow;{authority};"):
                    uses.add((row["training_set"], _run_id(run)))
                elif run in runs:
                    uses.add((row["training_set"], runs[run]))
    return Known(
        experiments=frozenset(ids.get("experiment", ())),
        runs=frozenset(ids.get("run", ())),
        model_versions=frozenset(ids.get("model_version", ())),
        aliases=_aliases(client, authority) if {"alias_history", "external_ids"} <= views else {},
        uses=frozenset(uses),
        seen_at=_last_pass(client, authority) if "reconciliation" in views else None,
    )


def _aliases(client: Any, authority: str) -> dict[tuple[str, str], str | None]:
    rows = _select(
        client,
        "SELECT m.external_id AS model, a.alias, v.external_id AS version FROM lineament.alias_history a "
        "JOIN lineament.external_ids m ON m.id = a.model LEFT JOIN lineament.external_ids v ON v.id = "
        "a.model_version "
        f"WHERE a.until IS NULL AND m.authority = {_text(authority)}",
    )
    return {(row["model"], row["alias"]): row["version"] for row in rows}


def _last_pass(client: Any, authority: str) -> int | None:
    rows = _select(
        client,
        "SELECT max(checked_at) AS checked_at FROM lineament.reconciliation "
        f"WHERE authority = {_text(authority)}",
    )  # fmt: skip
    at = rows[0]["checked_at"] if rows else None
    return None if at is None else int(at.timestamp() * 1_000_000)


def _select(client: Any, query: str) -> list[dict[str, Any]]:
    return client.sql(query).to_arrow().to_pylist()


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


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


def _micros(millis: int | None) -> int | None:
    return None if millis is None else int(millis) * 1000


def _number(value: float) -> float | str:
    """A metric as JSON can say it; NaN and the infinities as text."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _default_uri() -> str:
    import mlflow

    return mlflow.get_tracking_uri()


def _as_ours(error: Exception, uri: str) -> Error:
    code = getattr(error, "error_code", None)
    kind = Unavailable if code in ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR") else Error
    return kind(f"MLflow at {normalised(uri)}: {getattr(error, 'message', None) or error}")
