"""Experiments, runs, models and deployments, as they are told to the store; and how far a thing reaches.

Nobody needs any of it for lineage: what a training set was made of is recorded anyway. See docs/experiments.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from . import html
from .erasure import Erased
from .errors import InvalidRequest
from .instants import instant
from .reports import known
from .retention import Retained
from .rows import counted


@dataclass(frozen=True, repr=False)
class Refreshed:
    """What bringing a derived view up to date did."""

    #: `celsius@1`
    version: str
    #: The new batch and its sequence; None where there was nothing new.
    batch: str | None = None
    sequence: int | None = None
    #: The sequence that was read.
    snapshot: int = 0
    #: Only what came after this sequence was read; None where everything was.
    since: int | None = None
    #: The versions that the query reads.
    parents: list[str] = field(default_factory=list)
    #: Rows that the query gave, those of them that the view had not, and those that were rejected.
    computed: int = 0
    rows: int = 0
    rejected: int = 0
    #: Rows that the query gave otherwise, and that stay as they were computed when its parents had rows that are kept no longer.
    kept: int = 0
    #: Observations that the view has and the query gives no more; None where not everything was read, or parents keep their rows no longer.
    vanished: int | None = None
    examples: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        return cls(**known(cls, answer))

    def __repr__(self) -> str:
        parents = ", ".join(self.parents)
        read = f"all of {parents}" if self.since is None else f"what came to {parents} after sequence {self.since}"
        if self.sequence is None:
            return f"{self.version}: nothing new in {read}"
        return f"{self.version}: {counted(self.rows, 'new row')} from {read}, at sequence {self.sequence}"


@dataclass(frozen=True)
class Step:
    """Something that a walk over the graph reached."""

    #: `batch`, `training_set`, `run`, `model_version`, …
    kind: str
    id: str
    #: How people call it: `weather@1`, `delay/3`.
    label: str
    depth: int
    #: The step that it was reached from, by its place in the list, and the edge; None for the start.
    origin: int | None = None
    edge: str | None = None
    #: Of a training set's use by a run.
    role: str | None = None
    #: Of a batch's part in a training set.
    cells: int | None = None
    sequence: int | None = None


@dataclass(frozen=True, repr=False)
class Lineage:
    """What came of something, or where it came from."""

    sequence: int
    #: The start first, then by distance.
    steps: list[Step]
    #: Whether everything was reached; False where `depth` cut it.
    complete: bool

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        steps = [Step(**known(Step, {**step, "origin": step["from"]})) for step in answer["steps"]]
        return cls(answer["sequence"], steps, answer["complete"])

    def kinds(self) -> dict[str, int]:
        """How many of each kind were reached, the start not counted."""
        counts: dict[str, int] = {}
        for step in self.steps[1:]:
            counts[step.kind] = counts.get(step.kind, 0) + 1
        return counts

    def __repr__(self) -> str:
        start = self.steps[0]
        reached = ", ".join(counted(count, kind.replace("_", " ")) for kind, count in self.kinds().items())
        cut = "" if self.complete else ", and more beyond the depth"
        return f"{start.kind.replace('_', ' ')} {start.label}: {reached or 'nothing'}{cut}"

    def _repr_html_(self) -> str:
        rows = [[str(step.depth), step.kind.replace("_", " "), step.label, step.id] for step in self.steps]
        return html.heading(repr(self), f"at sequence {self.sequence}") + html.table(rows, ["distance", "", "", "id"])


@dataclass(frozen=True)
class Reached:
    """A training set with cells of something, and one model version and deployment that were made of the set."""

    training_set: str
    name: str
    #: Cells whose value came from it. Exact. None where policies keep some of them from you.
    cells_from: int | None
    #: Cells of what was derived from it. At most.
    cells_reached: int | None
    run: str | None = None
    role: str | None = None
    model_version: str | None = None
    #: In force now.
    deployment: str | None = None


@dataclass(frozen=True, repr=False)
class Impact:
    """What would be touched if something were wrong or gone."""

    node: str
    kind: str
    sequence: int
    #: None where policies keep some of them from you.
    cells_from: int | None
    cells_reached: int | None
    training_sets: int
    model_versions: int
    deployments: int
    rows: list[Reached]

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        rows = [Reached(**known(Reached, row)) for row in answer["rows"]]
        return cls(**{**known(cls, answer), "rows": rows})

    def __repr__(self) -> str:
        cells = "– cells" if self.cells_from is None else counted(self.cells_from, "cell")
        derived = f", and at most {self.cells_reached:,} of what is derived," if self.cells_reached else ""
        return (
            f"{self.kind.replace('_', ' ')} {self.node}: {cells}{derived} of "
            f"{counted(self.training_sets, 'training set')}, {counted(self.model_versions, 'model version')}, "
            f"{counted(self.deployments, 'deployment')} in force"
        )

    def _repr_html_(self) -> str:
        rows = [
            [
                row.name or row.training_set,
                "–" if row.cells_from is None else f"{row.cells_from:,}",
                "–" if row.cells_reached is None else f"{row.cells_reached:,}",
                row.model_version or "",
                row.deployment or "",
            ]
            for row in self.rows
        ]
        head = ["training set", "cells from it", "cells derived, at most", "model version", "deployment"]
        return html.heading(repr(self), f"at sequence {self.sequence}") + (html.table(rows, head) if rows else "")


@dataclass(frozen=True)
class RolledBack:
    """A batch or a version that is taken back or put back."""

    #: `batch` or `version`.
    kind: str
    id: str
    #: The view version that it is or belongs to.
    version: str
    #: Of a batch. None where policies keep rows of it from you.
    rows: int | None


@dataclass(frozen=True, repr=False)
class Rollback:
    """What was taken back or put back, or would be."""

    #: What stands on it.
    impact: Impact
    #: All that is moved, the named thing first.
    moved: list[RolledBack]
    #: Batches of derived views that were made of it and stay as they are.
    derived_left: list[RolledBack]
    #: Of a version: the one that is in force afterwards.
    in_force_after: str | None
    undo: bool
    #: None where nothing was done.
    sequence: int | None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        lists = {
            name: [RolledBack(**known(RolledBack, one)) for one in answer[name]] for name in ("moved", "derived_left")
        }
        return cls(**{**known(cls, answer), **lists, "impact": Impact.of(answer["impact"])})

    def __repr__(self) -> str:
        names = ", ".join(
            one.version if one.kind == "version" else f"batch {one.id} of {one.version}" for one in self.moved
        )
        done = "restored" if self.undo else "withdrawn"
        done = f"would be {done}" if self.sequence is None else f"{done} at sequence {self.sequence}"
        return f"{names} {done}: {repr(self.impact).partition(': ')[2]}"


@dataclass(frozen=True)
class Biased:
    """A measure of a training set's population against the one that is served."""

    #: `weather@2`
    version: str
    #: None of the entities themselves.
    feature: str | None
    #: `entity_share`, `psi` and others, as docs/quality.md has them.
    measure: str
    value: float
    #: Above which it warns and fails.
    warn: float | None
    fail: float | None
    #: `pass`, `warn` or `fail`.
    verdict: str


@dataclass(frozen=True, repr=False)
class Bias:
    """How far the population of a training set is from the one that is served."""

    training_set: str
    rows: int
    #: The worst of all measures: `pass`, `warn` or `fail`.
    verdict: str
    measures: list[Biased]
    #: By version: `spine_entities`, `served_entities`, `shared_entities`, `served_rows` and `moments`.
    populations: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        measures, populations = [], {}
        for view in answer["views"]:
            measures += [Biased(**known(Biased, {"version": view["version"], **one})) for one in view["measures"]]
            populations[view["version"]] = {name: said for name, said in view.items() if name not in ("version", "measures")}
        return cls(answer["training_set"], answer["rows"], answer["verdict"], measures, populations)

    def __repr__(self) -> str:
        text = f"training set {self.training_set} ({counted(self.rows, 'row')}) against the served population: {self.verdict}"
        for one in self.measures:
            if one.verdict != "pass":
                text += f"\n  {one.verdict}: {one.measure} of {one.feature or 'the entities'} of {one.version} is {one.value:.3f}"
        return text


@dataclass(frozen=True, repr=False)
class Ended:
    """What became of a batch in quarantine."""

    batch: str
    #: `weather@2`
    version: str
    rows: int
    #: `release` or `drop`.
    action: str
    sequence: int

    def __repr__(self) -> str:
        done = "released, and counts from here on" if self.action == "release" else "dropped, and will never count"
        return f"batch {self.batch} of {self.version} ({counted(self.rows, 'row')}) {done} (sequence {self.sequence})"


@dataclass(frozen=True, repr=False)
class Hold:
    """Something that is kept with all that it needs, or is no more."""

    #: The id of the hold, by which it is lifted.
    hold: str
    #: `batch`, `version`, `training_set` or `model_version`, and its id.
    kind: str
    id: str
    reason: str
    sequence: int

    def __repr__(self) -> str:
        return f"hold {self.hold} of {self.kind.replace('_', ' ')} {self.id} (sequence {self.sequence}): {self.reason}"


class Registry:
    """What a client tells of experiments and models, and asks of the graph."""

    run: str | None

    def _action(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def refresh(self, view: str | None = None, *, full: bool = False) -> list[Refreshed]:
        """Brings a derived view up to date with what it is made of, or all of them, each after its parents.

        `full` reads everything again, also where what came since the last refresh would do. Raises `InvalidRequest` for a view that is
        not derived.

        >>> client.refresh()
        []
        """
        body: dict[str, Any] = {"full": full}
        if view is not None:
            body["view"] = view
        return [Refreshed.of(one) for one in self._action("lineament.refresh", body)["views"]]

    def rollback(
        self, node: str, *, reason: str | None = None, undo: bool = False, derived: bool = False
    ) -> Rollback:
        """Takes back a batch (its id) or a version (`weather@2`) from here on, or with `undo` puts it back: one entry of the log, no
        data is copied or deleted, and recorded training sets are made again as before.

        Without a `reason`, which stands in the log for ever, nothing is done: the answer tells what would be touched. `derived`: the
        batches of derived views that were made of it go with it. Raises `InvalidRequest` for what is as it is asked to be already, and for
        the last version of a view.

        >>> batch = client.sql("SELECT batch FROM lineament.batches WHERE feature_view = 'plane'").to_df().batch[0]
        >>> client.rollback(batch)
        batch ... of plane@1 would be withdrawn: ... cells of ...
        """
        body: dict[str, Any] = {"node": str(node), "undo": undo, "derived": derived}
        if reason is not None:
            body["reason"] = reason
        return Rollback.of(self._action("lineament.rollback", body))

    def bias(
        self, training_set: Any, *, at: datetime | str | None = None, moments: int | None = None
    ) -> Bias:
        """Whether the population of a training set is the one that is served: its entities and values against those that had features in
        force, at `moments` (12) that fall as the set's times do, or at one moment `at`. See docs/quality.md.

        >>> client.bias(training_set).verdict in ("pass", "warn", "fail")
        True
        """
        body: dict[str, Any] = {"training_set": getattr(training_set, "id", None) or str(training_set)}
        if at is not None:
            body["at"] = instant(at, "at")
        if moments is not None:
            body["moments"] = moments
        return Bias.of(self._action("lineament.bias", body))

    def retain(self, view: str | None = None, *, dry_run: bool = False) -> Retained:
        """Lets rows of a view, or of all views, count no more that are older than the view's definition keeps them: one entry of the log.
        Their files are deleted by a later sweep, but for what a training set, a model or a hold needs.

        `dry_run` says what would go and what stays, and writes nothing. Raises `InvalidRequest` for a view that keeps its rows for ever.
        See docs/retention.md.

        >>> client.retain(dry_run=True)
        0 rows would not count any more
        """
        body: dict[str, Any] = {"dry_run": dry_run}
        if view is not None:
            body["view"] = view
        return Retained.of(self._action("lineament.retain", body))

    def erase(
        self,
        entity: str,
        key: Mapping[str, Any],
        *,
        reason: str | None = None,
        request: str | None = None,
        dry_run: bool = False,
    ) -> Erased:
        """Erases an entity: its values go from data files, spines, rejected rows and what else holds them, from earlier snapshots too, for
        good. Training sets that had rows of it are named, and replay as equal minus erasures.

        `reason` and `request` (what whoever keeps such requests calls this one) stand in the log for ever and so name nobody. `dry_run` says
        what would go, needs no reason, and writes nothing. See docs/erasure.md.

        >>> client.erase("airport", {"origin": "XXX"}, dry_run=True)
        0 rows of airport would go
        """
        body: dict[str, Any] = {
            "entity": entity,
            "key": {column: _key_text(value) for column, value in key.items()},
            "dry_run": dry_run,
        }
        if reason is not None:
            body["reason"] = reason
        if request is not None:
            body["request"] = request
        return Erased.of(self._action("lineament.erase", body))

    def hold(self, node: str, *, reason: str) -> Hold:
        """Keeps a batch (its id), a version (`weather@2`), a training set or a model version (`delay/3`) with all that it needs, whatever else
        would let it go, until the hold is lifted.

        Raises `NotFound` for a name of nothing, `Forbidden` where policies do not permit it. `SELECT * FROM lineament.holds` lists them. See
        docs/retention.md.

        >>> held = client.hold("plane@1", reason="case 17")
        >>> held
        hold ... of version ... (sequence ...): case 17
        >>> client.lift_hold(held.hold, reason="closed").reason
        'closed'
        """
        return Hold(**known(Hold, self._action("lineament.hold", {"node": str(node), "reason": reason})))

    def lift_hold(self, hold: str, *, reason: str) -> Hold:
        """Lifts a hold by its id: what it kept may go as soon as nothing else needs it. Raises what `hold` raises, and `InvalidRequest` for
        one that was lifted.

        >>> client.lift_hold("0198f3c1-0000-7000-8000-000000000000", reason="closed")
        Traceback (most recent call last):
        ...
        lineament.errors.NotFound: there is no hold ...; ...
        """
        return Hold(**known(Hold, self._action("lineament.lift_hold", {"hold": str(hold), "reason": reason})))

    def release(self, batch: str, *, reason: str, back_fill: bool = False) -> Ended:
        """Lets a batch that was kept back count, from here on: its place in the order of the log is that of this release.

        `back_fill`: its rows could have been known when the view's rule says, although others of their time came since. Raises
        `NotFound` for a batch that was never kept back, `InvalidRequest` for one that waits no more. See docs/quality.md.

        >>> client.release("0198f3c1-0000-7000-8000-000000000000", reason="the sensor was right")
        Traceback (most recent call last):
        ...
        lineament.errors.NotFound: there is no batch ... in quarantine; ...
        """
        return self._end_quarantine("release", batch, reason, back_fill)

    def drop(self, batch: str, *, reason: str) -> Ended:
        """Lets a batch that was kept back never count. Raises what `release` raises.

        >>> client.drop("0198f3c1-0000-7000-8000-000000000000", reason="degrees Celsius")
        Traceback (most recent call last):
        ...
        lineament.errors.NotFound: there is no batch ... in quarantine; ...
        """
        return self._end_quarantine("drop", batch, reason, False)

    def drop_alert(self, alert: str, *, reason: str) -> int:
        """Says that an alert need not be delivered where it has not arrived, and why; the number of sinks that were still to be told.

        Raises `NotFound` for an alert that there is not, `InvalidRequest` for one that is nowhere on its way.

        >>> client.drop_alert("0198f3c1-7c31-7e90-b1d4-5a7e8c9d0e1f", reason="that receiver is gone")
        Traceback (most recent call last):
        lineament.errors.NotFound: there is no alert 0198f3c1-7c31-7e90-b1d4-5a7e8c9d0e1f; ...
        """
        return self._action("lineament.drop_alert", {"alert": alert, "reason": reason})["sinks"]

    def _end_quarantine(self, action: str, batch: str, reason: str, back_fill: bool) -> Ended:
        body = {"batch": str(batch), "action": action, "reason": reason, "back_fill": back_fill}
        answer = self._action("lineament.quarantine", body)
        return Ended(**known(Ended, answer))

    def log_experiment(self, name: str, *, hypothesis: str | None = None, owner: str | None = None) -> None:
        """Says what an experiment is to find out, and who owns it. What is left out stays as it was.

        >>> client.log_experiment("delays", hypothesis="Weather explains delays", owner="operations")
        >>> client.sql("SELECT hypothesis FROM lineament.experiments WHERE name = 'delays'").to_df()
                        hypothesis
        0  Weather explains delays
        """
        self._observe("experiments", _said(id=name, name=name, hypothesis=hypothesis, owner=owner))

    def log_run(
        self,
        run: str,
        *,
        experiment: str | None = None,
        parent: str | None = None,
        name: str | None = None,
        status: str | None = None,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        started_at: datetime | None = None,
        ended_at: datetime | None = None,
    ) -> None:
        """Says what is known of a run of one's own; runs of MLflow are read by `lineament.mlflow.reconcile`.

        Parameters, metrics and tags that are given replace those that were. What is left out stays.

        >>> client.log_run("nightly-7", experiment="delays", params={"depth": 6}, metrics={"auc": 0.71}, status="FINISHED")
        >>> client.sql("SELECT name, \\"value\\" FROM lineament.run_metrics").to_df()
          name  value
        0  auc   0.71
        """
        seen = _said(
            id=run, experiment=experiment, parent=parent, name=name, status=status,
            params={key: str(value) for key, value in (params or {}).items()} or None,
            metrics={key: float(value) for key, value in (metrics or {}).items()} or None,
            tags=dict(tags or {}) or None,
            started_at=None if started_at is None else instant(started_at, "started_at"),
            ended_at=None if ended_at is None else instant(ended_at, "ended_at"),
        )  # fmt: skip
        self._observe("runs", seen)

    def log_model(
        self, version: str, *, run: str | None = None, aliases: Sequence[str] = (), source: str | None = None
    ) -> None:
        """Registers a model version of one's own, such as `delay/3`, made by a run (the client's, where left out); `aliases` mean it
        from now on.

        >>> client.log_model("delay/1", run="nightly-7", aliases=["champion"])
        >>> client.sql("SELECT name, alias, version FROM lineament.alias_history").to_df()
            name     alias version
        0  delay  champion       1
        """
        model, separator, number = version.rpartition("/")
        if not separator:
            raise InvalidRequest(f"{version!r} is no model version; write name and version, as in delay/3")
        seen = _said(model=model, version=number, run=run or self.run, source_uri=source)
        moved = [{"model": model, "alias": alias, "version": version} for alias in aliases]
        self._action("lineament.observe", {"model_versions": [seen], "aliases": moved})

    def deploy(
        self,
        name: str,
        model_version: str | None,
        *,
        environment: str = "production",
        service: str | None = None,
        endpoint: str | None = None,
        since: datetime | None = None,
    ) -> None:
        """Says that a deployment serves a model version (`delay/3`, `delay@champion`) from now on, or since an earlier time; None
        where it serves none any more. Raises `NotFound` for a version that is not known.

        >>> client.log_model("delay/1", run="nightly-7", aliases=["champion"])
        >>> client.deploy("delay-api", "delay@champion")
        >>> client.impact("weather").deployments
        0
        """
        body = _said(
            name=name, environment=environment, model_version=model_version, service=service, endpoint=endpoint
        )
        if since is not None:
            body["from"] = instant(since, "since")
        self._action("lineament.deploy", body)

    def log_metrics(
        self,
        deployment: str,
        metrics: Mapping[str, float],
        *,
        since: datetime,
        until: datetime,
        environment: str = "production",
    ) -> None:
        """Says how well a deployment did with the predictions of some time, once their labels are known.

        Said again for the same time, it replaces what was. `lineament.deployment_metrics` shows it beside the model version that
        served then and the feature versions that it was trained on. Raises `NotFound` where there is no such deployment.
        """
        measured = {
            "deployment": deployment, "environment": environment, "from": instant(since, "since"),
            "until": instant(until, "until"),
            "metrics": {name: float(value) for name, value in metrics.items()},
        }  # fmt: skip
        self._observe("measurements", measured)

    def lineage(self, node: str, *, up: bool = False, depth: int | None = None) -> Lineage:
        """What came of something, or with `up` where it came from.

        `node`: a batch, training set or run by id, `weather`, `weather@1`, `weather@1.temp`, `delay/3`, `delay@champion`, a deployment, an
        experiment, a person. Raises `NotFound` with the nearest name, `InvalidRequest` where it may be several things.

        >>> sorted(client.lineage(training_set.id, up=True).kinds().items())
        [('batch', 2), ('feature', 2), ('principal', 1), ('source', 2), ('view_version', 2)]
        """
        body = _said(node=str(node), up=up, depth=depth)
        return Lineage.of(self._action("lineament.lineage", body))

    def impact(self, node: str) -> Impact:
        """What would be touched if something were wrong: cells of training sets, model versions, deployments in force.

        Takes what `lineage` takes.

        >>> client.impact("weather@1.temp")
        feature weather@1.temp: ... cells of ... training sets, 0 model versions, 0 deployments in force
        """
        return Impact.of(self._action("lineament.impact", {"node": str(node)}))

    def _observe(self, kind: str, seen: Mapping[str, Any]) -> None:
        self._action("lineament.observe", {kind: [seen]})


def _key_text(value: Any) -> str:
    """A part of a key, as the store reads it from text."""
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _said(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
