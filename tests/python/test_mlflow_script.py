"""The scripts of docs/mlflow.md, as they stand there: no word about lineage, and all of it is there."""

import shutil
import subprocess
import sys
import time

import lineament
import mlflow
import pytest
from program import REPOSITORY, Server
from tracking import environment

SCRIPTS = [
    part.partition("```")[0]
    for part in (REPOSITORY / "docs" / "mlflow.md").read_text().split("```python\n")[1:]
]


@pytest.fixture(scope="module")
def served(flights_store, tracking, tmp_path_factory):
    store = tmp_path_factory.mktemp("scripts") / "store"
    shutil.copytree(flights_store, store)
    asked = ("--mlflow", tracking.uri, "--mlflow-every", "1s", "--mlflow-deployed", "champion=production")
    with Server(store, *asked) as server, lineament.connect(server.url) as client:
        yield server, client


def run(code: str, server: Server, tracking) -> subprocess.CompletedProcess[str]:
    for documented, address in (
        ("grpc://127.0.0.1:8815", server.url),
        ("http://127.0.0.1:5000", tracking.uri),
    ):
        assert documented in code
        code = code.replace(documented, address)
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=REPOSITORY,
        env=environment(),
    )


def test_a_script_without_a_word_about_lineage(served, tracking):
    script, questions = SCRIPTS
    lines = [line for line in script.splitlines() if line.strip()]
    assert len(lines) <= 25
    for word in ("lineage", "use(", "run=", "dataset", "log_input", "training_set"):
        assert word not in script
    server, client = served
    done = run(script, server, tracking)
    assert done.returncode == 0, done.stderr
    assert "LinkWarning" not in done.stderr

    # From the alias to one cell's file.
    mlflow.set_tracking_uri(tracking.uri)
    version = mlflow.MlflowClient().get_model_version_by_alias("delay", "champion")
    made = mlflow.get_run(version.run_id)
    stored = client.sql(
        f"SELECT training_set, digest FROM lineament.training_sets WHERE run = "
        f"'mlflow;{tracking.uri};{made.info.experiment_id};{version.run_id}'"
    ).to_arrow().to_pylist()  # fmt: skip
    assert len(stored) == 1
    ours = [given for given in made.inputs.dataset_inputs if given.dataset.source_type == "lineament"]
    assert [given.dataset.digest for given in ours] == [stored[0]["training_set"]]
    assert client.replay(stored[0]["training_set"]).equal
    winner = client.explain(stored[0]["training_set"], row=0, column="temp").winner
    assert (server.store / winner.file).is_file()
    assert winner.batch and winner.sequence and winner.origin

    # The server asks MLflow by itself: the alias is a deployment, and the graph leads from it to the same batch and its source.
    key = f"delay/{version.version}/{version.creation_timestamp}"
    deployed = (
        "SELECT d.environment, d.evidence FROM lineament.deployments d "
        "JOIN lineament.model_versions v ON v.model_version = d.model_version "
        f"WHERE d.name = 'delay' AND d.until IS NULL AND v.external_id = '{key}'"
    )
    until = time.monotonic() + 60
    while not (found := client.sql(deployed).to_arrow().to_pylist()):
        assert time.monotonic() < until, server.said()
        time.sleep(0.2)
    assert found == [{"environment": "production", "evidence": "alias"}]
    up = client.lineage("deployment:delay", up=True)
    reached = {(step.kind, step.id) for step in up.steps}
    assert up.complete and {("training_set", stored[0]["training_set"]), ("batch", winner.batch)} <= reached
    provided = {up.steps[step.origin].id for step in up.steps if step.kind == "source"}
    assert winner.batch in provided, up
    assert {"model_version", "run", "view_version", "feature"} <= up.kinds().keys()

    asked = run(questions, server, tracking)
    assert asked.returncode == 0, asked.stderr
    assert winner.file in asked.stdout
