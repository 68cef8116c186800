"""What is read from a real MLflow server, and what the store is told of it."""

import contextlib
import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import lineament
import mlflow
import pytest
import readings
import requests
from lineament.mlflow.outbox import OUTBOX
from lineament.mlflow.reconciliation import Known, RunUse, _known_to_store, _moved
from program import Server, command, fails, run as verb
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
    return {record["id"]: record for record in records}


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
    assert (run["parent"], run["experiment"], run["status"], run["lifecycle"]) == (
        above.info.run_id, below.info.experiment_id, "FINISHED", "active",
    )  # fmt: skip
    assert run["params"]["depth"] == "3" and run["truncated"] == ["cut"]
    # MLflow itself keeps the greatest number in place of infinity.
    assert run["metrics"] == {"auc": 0.9, "worst": sys.float_info.max}
    assert run["tags"]["metrics.loss"] == "nan"
    started, ended = (datetime.fromisoformat(run[name]) for name in ("started_at", "ended_at"))
    assert started <= ended <= seen.seen_at
    assert abs(seen.seen_at - datetime.now(UTC)) < timedelta(minutes=1)
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
    assert by_id(gone.runs)[id] == {"id": id, "lifecycle": "gone"}
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
    assert by_id(gone.experiments)[id] == {"id": id, "lifecycle": "gone"}


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
    assert alias == {"model": "moving", "alias": "champion", "version": key(second)}
    assert after.previous_seen_at == before.seen_at < after.seen_at
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


def rows(client, query):
    return client.sql(query).to_arrow().to_pylist()


def test_the_store_is_told(tracked, client, tracking, registry):
    with mlflow.start_run(run_name="told") as run:
        mlflow.log_params({"depth": 3})
        mlflow.log_metrics({"auc": 0.75, "loss": float("nan")})
        linked = retrieve(tracked)
    settled()
    ids = f"{linked.id},01a00000-0000-7000-8000-000000000000"
    with mlflow.start_run(tags={"lineament.training_sets": ids}) as tagged:
        pass
    version = register(registry, "told", run)
    registry.set_registered_model_alias("told", "champion", version.version)
    deployed = {"champion": "production"}
    report = lineament.mlflow.reconcile(client, tracking.uri, deployed=deployed)

    # What only MLflow knew is told; what names a set of another store is said.
    assert [one.training_set for one in report.linked if one.run.endswith(tagged.info.run_id)] == [linked.id]
    assert [one.training_set for one in report.foreign if one.run.endswith(tagged.info.run_id)] == [
        "01a00000-0000-7000-8000-000000000000"
    ]
    assert not [one for one in report.linked if one.run.endswith(run.info.run_id)]
    assert ("told", "champion", None, key(version)) in report.moved
    assert "links were missing" in repr(report)

    uses = rows(client, f"SELECT external_id, how FROM lineament.uses WHERE training_set = '{linked.id}'")
    assert {(use["external_id"], use["how"]) for use in uses} == {
        (run.info.run_id, "thread"), (tagged.info.run_id, "pending")
    }  # fmt: skip
    (seen,) = rows(
        client,
        "SELECT name, status, lifecycle, authority, started_at <= ended_at AS in_order FROM lineament.runs "
        f"WHERE external_id = '{run.info.run_id}'",
    )
    assert seen == {
        "name": "told", "status": "FINISHED", "lifecycle": "active", "authority": tracking.uri,
        "in_order": True,
    }  # fmt: skip
    metrics = (
        'SELECT metric, "value" FROM lineament.feature_versions_by_run '
        f"WHERE training_set = '{linked.id}'"
    )
    assert {(row["metric"], row["value"]) for row in rows(client, metrics)} >= {("auc", 0.75)}
    (made,) = rows(client, "SELECT external_id, version FROM lineament.model_versions WHERE name = 'told'")
    assert made == {"external_id": key(version), "version": "1"}
    (alias,) = rows(client, "SELECT alias, version, until FROM lineament.alias_history WHERE name = 'told'")
    assert alias == {"alias": "champion", "version": "1", "until": None}
    (serves,) = rows(
        client, "SELECT environment, evidence, until FROM lineament.deployments WHERE name = 'told'"
    )
    assert serves == {"environment": "production", "evidence": "alias", "until": None}
    # From a view down to what serves.
    reached = [row for row in client.impact("reading").rows if row.training_set == linked.id]
    assert [row.deployment is not None for row in reached if row.model_version is not None] == [True]
    (passed,) = rows(
        client,
        f"SELECT max(checked_at) AS at FROM lineament.reconciliation WHERE authority = '{tracking.uri}'",
    )
    assert passed["at"] == report.observation.seen_at


def test_a_second_pass_tells_only_what_changed(tracked, client, tracking, registry):
    with mlflow.start_run() as run:
        retrieve(tracked)
    settled()
    first = register(registry, "passes", run)
    second = register(registry, "passes", run)
    registry.set_registered_model_alias("passes", "champion", first.version)
    deployed = {"champion": "production"}
    before = lineament.mlflow.reconcile(client, tracking.uri, deployed=deployed)
    known = _known_to_store(client, tracking.uri)
    assert known.seen_at == before.observation.seen_at
    # The store remembers what the pass itself would.
    there = before.observation.known()
    assert (known.runs, known.models, known.model_versions) == (
        there.runs,
        there.models,
        there.model_versions,
    )
    assert there.experiments <= known.experiments
    assert {name: version for name, version in known.aliases.items() if version} == {
        name: version for name, version in there.aliases.items() if version
    }

    again = lineament.mlflow.reconcile(client, tracking.uri, deployed=deployed)
    assert (again.linked, again.moved, again.gone, again.renamed) == ([], [], [], [])
    registry.set_registered_model_alias("passes", "champion", second.version)
    registry.delete_model_version("passes", first.version)
    last = lineament.mlflow.reconcile(client, tracking.uri, deployed=deployed)
    assert last.moved == [("passes", "champion", key(first), key(second))]
    assert last.gone == [key(first)]
    history = rows(
        client,
        "SELECT version, not_before, seen_at FROM lineament.alias_history "
        "WHERE name = 'passes' ORDER BY seen_at",
    )
    assert [row["version"] for row in history] == ["1", "2"]
    # It moved between two passes, and nobody can say when.
    assert (history[1]["not_before"], history[1]["seen_at"]) == (
        again.observation.seen_at,
        last.observation.seen_at,
    )
    serves = rows(
        client,
        """SELECT until IS NULL AS now FROM lineament.deployments WHERE name = 'passes' ORDER BY "from" """,
    )
    assert [row["now"] for row in serves] == [False, True]


def test_a_run_and_a_name_that_go_while_the_store_looks_away(tracked, client, tracking, registry):
    with mlflow.start_run() as run:
        retrieve(tracked)
    settled()
    version = register(registry, "before", run)
    lineament.mlflow.reconcile(client, tracking.uri)
    mlflow.delete_run(run.info.run_id)
    tracking.collect()
    registry.rename_registered_model("before", "after")
    report = lineament.mlflow.reconcile(client, tracking.uri)
    assert run.info.run_id in report.gone and report.renamed == [("before", "after")]
    lifecycle = f"SELECT lifecycle FROM lineament.runs WHERE external_id = '{run.info.run_id}'"
    assert rows(client, lifecycle) == [{"lifecycle": "gone"}]
    renamed = f"after/{version.version}/{version.creation_timestamp}"
    versions = (
        "SELECT name, external_id, lifecycle FROM lineament.model_versions WHERE name IN ('before', 'after')"
    )
    assert rows(client, versions) == [{"name": "after", "external_id": renamed, "lifecycle": "active"}]
    models = "SELECT name, versions FROM lineament.models WHERE name IN ('before', 'after')"
    assert rows(client, models) == [{"name": "after", "versions": 1}]
    again = lineament.mlflow.reconcile(client, tracking.uri)
    assert (again.gone, again.renamed) == ([], [])


def test_nothing_is_written_in_mlflow(tracked, client, tracking, registry):
    def everything():
        experiments = [experiment.experiment_id for experiment in registry.search_experiments()]
        return [run.to_dictionary() for run in registry.search_runs(experiments)], [
            dict(model) for model in registry.search_registered_models()
        ]

    with mlflow.start_run():
        retrieve(tracked)
    settled()
    before = everything()
    lineament.mlflow.reconcile(client, tracking.uri)
    assert str(everything()) == str(before)


def test_a_store_that_takes_no_observations(tracked, relay, tracking):
    relay.without.add("lineament.observe")
    with pytest.raises(lineament.Error, match="there is no action `lineament.observe`"):
        lineament.mlflow.reconcile(tracked, tracking.uri)


def test_a_server_that_does_not_answer(tracked):
    with pytest.raises(lineament.Unavailable, match="no MLflow server answers at http://127.0.0.1:9"):
        lineament.mlflow.reconcile(tracked, "http://127.0.0.1:9/")


# ------------------------------------------------------------------------------------- the server, by itself


def passed(server) -> dict:
    """The status of a server's first pass over MLflow, whatever came of it."""
    until = time.monotonic() + 60
    with lineament.connect(server.url) as client:
        while (last := client.status()["mlflow"]) is None:
            assert time.monotonic() < until, server.said()
            time.sleep(0.1)
    return last


def agrees(server, tracking) -> None:
    """The client's own pass finds nothing that the server's did not tell: its only entry says that it was made."""
    with lineament.connect(server.url) as client:
        before = client.status()["sequence"]
        report = lineament.mlflow.reconcile(client, tracking.uri)
        assert (report.linked, report.moved, report.gone, report.renamed) == ([], [], [], [])
        assert client.status()["sequence"] == before + 1


def test_the_server_asks_by_itself_and_agrees_with_the_client(tracked, tracking, registry, tmp_path):
    store = tmp_path / "store"
    with Server(store) as server, lineament.connect(server.url) as client:
        client.apply(readings.DEFINITIONS)
        client.ingest("reading", readings.rows())
        with mlflow.start_run(run_name="above", tags={"mlflow.source.git.commit": "abc"}) as above:
            mlflow.set_tag("long", "x" * 9000)
            with mlflow.start_run(nested=True) as below:
                mlflow.log_params({"depth": 3, "cut": "y" * 6000})
                mlflow.log_metrics({"auc": 0.9, "loss": float("nan"), "worst": float("inf")})
                training_set = retrieve(client)
        settled()
    ids = f"{training_set.id},01a00000-0000-7000-8000-000000000000"
    with mlflow.start_run(tags={"lineament.training_sets": ids}) as tagged:
        pass
    first, second = register(registry, "served", below), register(registry, "served", below)
    registry.set_registered_model_alias("served", "champion", first.version)

    asked = ("--mlflow", tracking.uri, "--mlflow-every", "1h", "--mlflow-deployed", "champion=production")
    with Server(store, *asked) as server, lineament.connect(server.url) as client:
        last = passed(server)
        # The server is shared with the tests above, whose aliases and sets are there as well.
        assert (last["authority"], last["error"], last["failures"]) == (tracking.uri, None, 0)
        assert last["linked"] == 1 and last["foreign"] >= 1 and last["moved"] >= 1
        agrees(server, tracking)
        runs = "SELECT external_id, name, status FROM lineament.runs WHERE external_id = '{}'"
        assert rows(client, runs.format(above.info.run_id)) == [
            {"external_id": above.info.run_id, "name": "above", "status": "FINISHED"}
        ]
        uses = f"SELECT external_id, how FROM lineament.uses WHERE training_set = '{training_set.id}'"
        assert {(use["external_id"], use["how"]) for use in rows(client, uses)} == {
            (below.info.run_id, "thread"), (tagged.info.run_id, "pending")
        }  # fmt: skip
        reached = [row for row in client.impact("reading").rows if row.training_set == training_set.id]
        assert any(row.deployment is not None for row in reached)

    registry.set_registered_model_alias("served", "champion", second.version)
    registry.delete_model_version("served", first.version)
    mlflow.delete_run(tagged.info.run_id)
    tracking.collect()
    with Server(store, *asked) as server, lineament.connect(server.url) as client:
        last = passed(server)
        assert (last["linked"], last["moved"]) == (0, 1)
        # The run and the version.
        assert last["gone"] == 2
        agrees(server, tracking)
        history = "SELECT version, until IS NULL AS now FROM lineament.alias_history WHERE name = 'served'"
        assert rows(client, history) == [{"version": "1", "now": False}, {"version": "2", "now": True}]
        serves = "SELECT until IS NULL AS now FROM lineament.deployments WHERE name = 'served'"
        assert sorted(row["now"] for row in rows(client, serves)) == [False, True]

    registry.rename_registered_model("served", "serving")
    with Server(store, *asked) as server, lineament.connect(server.url) as client:
        last = passed(server)
        assert (last["moved"], last["gone"]) == (0, 0)
        agrees(server, tracking)
        models = "SELECT name, versions FROM lineament.models WHERE name IN ('served', 'serving')"
        assert rows(client, models) == [{"name": "serving", "versions": 2}]


def test_the_verb_makes_one_pass_and_names_what_disagrees(tracked, tracking, registry, tmp_path, monkeypatch):
    store = tmp_path / "store"
    with mlflow.start_run() as silent:
        pass
    with Server(store) as server, lineament.connect(server.url) as client:
        client.apply(readings.DEFINITIONS)
        client.ingest("reading", readings.rows())
        with mlflow.start_run() as known:
            training_set = retrieve(client)
        settled()
    foreign = "01a00000-0000-7000-8000-000000000000"
    with mlflow.start_run(tags={"lineament.training_sets": f"{training_set.id},{foreign}"}) as tagged:
        pass
    version = register(registry, "verb", known)
    registry.set_registered_model_alias("verb", "crowned", version.version)

    def use(of, run):
        return {"training_set": of, "run": f"mlflow;{tracking.uri};{run.info.experiment_id};{run.info.run_id}"}

    # What the store alone is told of.
    unnamed = use(training_set.id, silent)
    verb(store, "use", training_set.id, "--run", unnamed["run"], "--role", "test")
    asked = ("reconcile", "--mlflow", tracking.uri, "--mlflow-deployed", "crowned=production")
    told = json.loads(verb(store, *asked, "--format", "json"))
    seen = told["mlflow"]
    assert told["broken"] == 0 and seen["authority"] == tracking.uri and seen["found"] > 4
    assert seen["linked"] == [use(training_set.id, tagged)]
    assert {"model": "verb", "alias": "crowned", "version": key(version)} in seen["moved"]
    assert use(foreign, tagged) in seen["foreign"] and unnamed not in seen["foreign"]
    assert seen["unnamed"] == [unnamed]
    # It is taken, and what still does not agree is named again.
    served = verb(store, "sql", "SELECT name, environment FROM lineament.deployments WHERE until IS NULL")
    assert "verb" in served and "production" in served, served
    said = verb(store, *asked)
    assert f"{tracking.uri}: " in said and "; 0 taken into the log, " in said, said
    assert f"it used training set {training_set.id}, and MLflow does not name it" in said, said
    assert f"{use(foreign, tagged)['run']} names it, and this store has no such set" in said, said
    assert "0 under what is deployed" in said, said
    mlflow.delete_run(tagged.info.run_id)
    tracking.collect()
    gone = json.loads(verb(store, *asked, "--format", "json"))["mlflow"]["gone"]
    assert {"kind": "run", "id": tagged.info.run_id} in gone
    assert "mlflow" not in json.loads(verb(store, "reconcile", "--format", "json"))
    # One that cannot be asked keeps nobody from seeing the store's own report; and the environment alone makes no pass.
    down = subprocess.run(
        command(store, "reconcile", "--mlflow", "http://127.0.0.1:9", "--format", "json"), capture_output=True, text=True, timeout=600
    )
    assert down.returncode != 0 and "MLflow at http://127.0.0.1:9, experiments/search: " in down.stderr, down.stderr
    told = json.loads(down.stdout)
    assert told["broken"] == 0 and "mlflow" not in told
    monkeypatch.setenv("LINEAMENT_MLFLOW", "http://127.0.0.1:9")
    assert "mlflow" not in json.loads(verb(store, "reconcile", "--format", "json"))


def test_an_mlflow_that_is_down_is_in_nobodys_way(tracking, tmp_path):
    tracking.stop()
    try:
        asked = ("--mlflow", tracking.uri, "--mlflow-every", "1s", "--http", "127.0.0.1:0")
        with Server(tmp_path / "store", *asked) as server:
            last = passed(server)
            assert (last["at"], last["failures"]) == (None, 1)
            assert last["error"].startswith(f"MLflow at {tracking.uri}, experiments/search: ")
            with lineament.connect(server.url) as client:
                client.apply(readings.DEFINITIONS)
                assert client.ingest("reading", readings.rows()).rows > 0
                tracking.start()
                until = time.monotonic() + 60
                while (last := client.status()["mlflow"])["at"] is None:
                    assert time.monotonic() < until, server.said()
                    time.sleep(0.2)
                assert (last["failures"], last["error"]) == (0, None)
                seen = rows(client, "SELECT authority FROM lineament.reconciliation")
                assert {row["authority"] for row in seen} == {tracking.uri}
            lines = requests.get(f"{server.http}/metrics", timeout=10).text.splitlines()
            counted = dict(line.rsplit(" ", 1) for line in lines if line.startswith("lineament_"))
            passes, failures = (float(counted[f"lineament_mlflow_{what}_total"]) for what in ("passes", "failures"))
            assert passes > failures >= 1
            assert abs(float(counted["lineament_last_mlflow_pass_timestamp_seconds"]) - time.time()) < 600
    finally:
        if tracking.process is None:
            tracking.start()


def test_a_server_that_cannot_be_asked_is_refused_at_once(tmp_path):
    said = fails(tmp_path / "store", "serve", "--port", 0, "--mlflow", "sqlite:///runs.db")
    assert "not at sqlite://" in said
    said = fails(tmp_path / "store", "serve", "--port", 0, "--mlflow", "http://tracking", "--mlflow-deployed", "champion")
    assert "write champion=production" in said
