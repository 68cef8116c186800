"""What is read from a real MLflow server, and what the store is told of it."""

import contextlib
import sys
import time
from datetime import UTC, datetime, timedelta

import lineament
import mlflow
import pytest
import readings
from lineament.mlflow.outbox import OUTBOX
from lineament.mlflow.reconciliation import Known, RunUse, _moved
from tracking import TrackingServer


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    """A server of this file's own, for whole listings are looked at."""
    with TrackingServer(tmp_path_factory.mktemp("mlflow")) as tracking:
        yield tracking


@pytest.fixture
def registry():
    return mlflow.MlflowClient()


def retrieve(client) -> lineament.TrainingSet:
    return client.get_historical_features(readings.spine(), ["reading.value"])


def settled() -> None:
    until = time.monotonic() + 30
    while [one for one in OUTBOX.waiting() if not one.failed]:
        lineament.mlflow.flush()
        assert time.monotonic() < until, lineament.mlflow.pending()


def register(registry, name, run):
    with contextlib.suppress(mlflow.MlflowException):
        registry.create_registered_model(name)
    return registry.create_model_version(name, f"runs:/{run.info.run_id}/model", run.info.run_id)


def key(version) -> str:
    return f"{version.name}/{version.version}/{version.creation_timestamp}"


def by_id(records):
    return {record["external_id"]: record for record in records}


def test_what_is_read_of_a_run(tracked, tracking, registry):
    with mlflow.start_run(run_name="a search", tags={"mlflow.source.git.commit": "abc"}) as above:
        mlflow.set_tag("long", "x" * 9000)
        training_set = retrieve(tracked)
        with mlflow.start_run(nested=True) as below:
            mlflow.log_params({"depth": 3, "cut": "y" * 6000})
            mlflow.log_metrics({"auc": 0.9, "loss": float("nan"), "worst": float("inf")})
            tested = retrieve(tracked)
    with mlflow.start_run():
        mlflow.log_param("of", "no concern of ours")
    settled()
    seen = lineament.mlflow.observe(tracking.uri)
    assert seen.authority == tracking.uri
    runs = by_id(seen.runs)
    assert set(runs) == {above.info.run_id, below.info.run_id}
    run = runs[below.info.run_id]
    assert (run["parent_run"], run["experiment"], run["status"], run["lifecycle"]) == (
        above.info.run_id, below.info.experiment_id, "FINISHED", "active",
    )  # fmt: skip
    assert run["params"]["depth"] == "3" and run["truncated"] == ["params.cut"]
    # MLflow itself keeps the greatest number in place of infinity.
    assert run["metrics"] == {"auc": 0.9, "loss": "NaN", "worst": sys.float_info.max}
    assert run["started_at"] <= run["ended_at"] <= seen.seen_at
    assert abs(seen.seen_at - time.time() * 1e6) < 60e6
    assert (runs[above.info.run_id]["name"], runs[above.info.run_id]["source_commit"]) == ("a search", "abc")
    assert runs[above.info.run_id]["truncated"] == ["tags.long"]
    authority = tracking.uri
    assert set(seen.uses) == {
        RunUse(set.id, f"mlflow;{authority};{run.info.experiment_id};{run.info.run_id}", "train", "tag")
        for set, run in ((training_set, above), (tested, below))
    }
    everything = lineament.mlflow.observe(tracking.uri, all_runs=True)
    assert len(everything.runs) == 3


def test_the_parent_of_a_run_that_names_a_set_is_read_too(tracked, tracking):
    with mlflow.start_run() as above, mlflow.start_run(nested=True) as below:
        retrieve(tracked)
    settled()
    seen = by_id(lineament.mlflow.observe(tracking.uri).runs)
    assert {above.info.run_id, below.info.run_id} <= set(seen)


def test_runs_deleted_and_collected(tracked, tracking):
    with mlflow.start_run() as run:
        retrieve(tracked)
    settled()
    id = run.info.run_id
    before = lineament.mlflow.observe(tracking.uri)
    assert by_id(before.runs)[id]["lifecycle"] == "active"
    mlflow.delete_run(id)
    deleted = lineament.mlflow.observe(tracking.uri, before.known())
    assert by_id(deleted.runs)[id]["lifecycle"] == "deleted"
    tracking.collect()
    gone = lineament.mlflow.observe(tracking.uri, deleted.known())
    assert by_id(gone.runs)[id] == {"external_id": id, "lifecycle": "gone"}
    # Said once; from then on nobody knows it.
    assert id not in by_id(lineament.mlflow.observe(tracking.uri, gone.known()).runs)


def test_experiments_deleted_and_collected(tracked, tracking, registry):
    id = registry.create_experiment("passing", tags={"team": "a"})
    before = lineament.mlflow.observe(tracking.uri)
    record = by_id(before.experiments)[id]
    assert (record["name"], record["lifecycle"], record["tags"]["team"]) == ("passing", "active", "a")
    registry.delete_experiment(id)
    deleted = lineament.mlflow.observe(tracking.uri, before.known())
    assert by_id(deleted.experiments)[id]["lifecycle"] == "deleted"
    tracking.collect()
    gone = lineament.mlflow.observe(tracking.uri, deleted.known())
    assert by_id(gone.experiments)[id] == {"external_id": id, "lifecycle": "gone"}


def test_only_what_ended_lately_and_what_was_known(tracked, tracking):
    with mlflow.start_run() as ended:
        retrieve(tracked)
    settled()
    with mlflow.start_run() as running:
        retrieve(tracked)
        settled()
        later = datetime.now(UTC) + timedelta(hours=1)
        seen = by_id(lineament.mlflow.observe(tracking.uri, ended_after=later).runs)
        assert running.info.run_id in seen and ended.info.run_id not in seen
        assert "ended_at" not in seen[running.info.run_id]
        known = Known(runs=frozenset({ended.info.run_id}))
        assert ended.info.run_id in by_id(
            lineament.mlflow.observe(tracking.uri, known, ended_after=later).runs
        )


def test_an_alias_that_moves(tracked, tracking, registry):
    with mlflow.start_run() as run:
        pass
    first, second = register(registry, "moving", run), register(registry, "moving", run)
    registry.set_registered_model_alias("moving", "champion", first.version)
    before = lineament.mlflow.observe(tracking.uri)
    assert by_id(before.model_versions)[key(first)]["run"] == run.info.run_id
    # The run that made a version is read though it names no set: the link that is missing is seen.
    assert run.info.run_id in by_id(before.runs)
    registry.set_registered_model_alias("moving", "champion", second.version)
    after = lineament.mlflow.observe(tracking.uri, before.known())
    (alias,) = [one for one in after.aliases if one["model"] == "moving"]
    assert alias == {
        "model": "moving", "alias": "champion", "model_version": key(second), "seen_at": after.seen_at,
        "previous_seen_at": before.seen_at,
    }  # fmt: skip
    assert _moved(before.known(), after) == [("moving", "champion", key(first), key(second))]
    registry.delete_registered_model_alias("moving", "champion")
    removed = lineament.mlflow.observe(tracking.uri, after.known())
    assert _moved(after.known(), removed) == [("moving", "champion", key(second), None)]
    assert _moved(removed.known(), lineament.mlflow.observe(tracking.uri, removed.known())) == []


def test_a_model_registered_again_is_another(tracked, tracking, registry):
    with mlflow.start_run() as run:
        pass
    old = register(registry, "again", run)
    before = lineament.mlflow.observe(tracking.uri)
    registry.delete_registered_model("again")
    new = register(registry, "again", run)
    after = by_id(lineament.mlflow.observe(tracking.uri, before.known()).model_versions)
    assert (old.name, str(old.version)) == (new.name, str(new.version))
    assert after[key(old)]["lifecycle"] == "gone"
    assert after[key(new)]["lifecycle"] == "active" and "renamed_from" not in after[key(new)]


def test_a_model_that_is_renamed_stays_itself(tracked, tracking, registry):
    with mlflow.start_run() as run:
        pass
    version = register(registry, "maiden name", run)
    registry.set_registered_model_alias("maiden name", "champion", version.version)
    before = lineament.mlflow.observe(tracking.uri)
    registry.rename_registered_model("maiden name", "married name")
    after = lineament.mlflow.observe(tracking.uri, before.known())
    versions = by_id(after.model_versions)
    renamed = f"married name/{version.version}/{version.creation_timestamp}"
    assert versions[renamed]["renamed_from"] == "maiden name"
    assert key(version) not in versions
    # Nothing moved: it is the same version that the alias means.
    assert _moved(before.known(), after) == []


def test_the_store_is_told(tracked, relay, tracking, registry):
    with mlflow.start_run() as run:
        linked = retrieve(tracked)
    settled()
    with mlflow.start_run(
        tags={"lineament.training_sets": f"{linked.id},01a00000-0000-7000-8000-000000000000"}
    ) as tagged:
        pass
    version = register(registry, "told", run)
    registry.set_registered_model_alias("told", "champion", version.version)
    relay.taken.clear()
    report = lineament.mlflow.reconcile(tracked, tracking.uri, deployed={"champion": "production"})
    observed = relay.bodies("lineament.observe")
    assert {kind for body in observed for kind in body} >= {
        "experiments",
        "runs",
        "model_versions",
        "aliases",
    }
    assert {body["authority"] for body in observed} == {tracking.uri}
    assert all(sum(len(part) for part in body.values() if isinstance(part, list)) <= 200 for body in observed)
    told = [record["id"] for body in observed for record in body.get("runs", [])]
    assert {run.info.run_id, tagged.info.run_id} <= set(told) and len(told) == len(set(told))
    # The retrieval said it itself; what only MLflow knew is told now.
    of_runs = [
        body
        for body in relay.bodies("lineament.use")
        if body["run"].rpartition(";")[2] in (run.info.run_id, tagged.info.run_id)
    ]
    text = f"mlflow;{tracking.uri};{tagged.info.experiment_id};{tagged.info.run_id}"
    assert of_runs == [
        {"training_set": id, "run": text, "role": "unknown", "how": "pending"}
        for id in (linked.id, "01a00000-0000-7000-8000-000000000000")
    ]
    assert {
        "name": "told", "environment": "production", "model_version": key(version), "evidence": "alias"
    } in relay.bodies("lineament.deploy")  # fmt: skip
    served = tracked.sql("SELECT version, evidence FROM lineament.deployments WHERE name = 'told'").to_arrow()
    assert served.to_pylist() == [{"version": f"told/{version.version}", "evidence": "alias"}]
    used = tracked.sql(f"SELECT how FROM lineament.uses WHERE external_id = '{tagged.info.run_id}'").to_arrow()
    assert used["how"].to_pylist() == ["pending"]
    assert tracked.impact("reading").deployments == 1
    assert ("told", "champion", None, key(version)) in report.moved
    assert "links were missing" in repr(report)
    # A second pass with what the first knows says nothing of what has not changed.
    relay.taken.clear()
    again = lineament.mlflow.reconcile(
        tracked, tracking.uri, known=report.observation.known(), deployed={"champion": "production"}
    )
    assert (again.linked, again.moved, again.gone, again.renamed) == ([], [], [], [])
    assert relay.bodies("lineament.use") == relay.bodies("lineament.deploy") == []
    passes = tracked.sql(
        "SELECT checked_at FROM lineament.reconciliation ORDER BY sequence DESC LIMIT 2"
    ).to_arrow()
    now, before = (int(at.timestamp() * 1_000_000) for at in passes["checked_at"].to_pylist())
    assert (now, before) == (again.observation.seen_at, report.observation.seen_at)
    assert again.observation.previous_seen_at == before


def test_nothing_is_written_in_mlflow(tracked, tracking, registry):
    def everything():
        experiments = [experiment.experiment_id for experiment in registry.search_experiments()]
        return [run.to_dictionary() for run in registry.search_runs(experiments)], [
            dict(model) for model in registry.search_registered_models()
        ]

    with mlflow.start_run():
        retrieve(tracked)
    settled()
    before = everything()
    lineament.mlflow.reconcile(tracked, tracking.uri)
    assert str(everything()) == str(before)


def test_a_store_that_takes_no_observations(tracked, relay, tracking):
    relay.without.add("lineament.observe")
    with pytest.raises(lineament.Error, match="there is no action `lineament.observe`"):
        lineament.mlflow.reconcile(tracked, tracking.uri)


def test_a_server_that_does_not_answer(tracked):
    with pytest.raises(lineament.Unavailable, match="no MLflow server answers at http://127.0.0.1:9"):
        lineament.mlflow.reconcile(tracked, "http://127.0.0.1:9/")
