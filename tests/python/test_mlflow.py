"""Training sets and runs of a real MLflow server: linked without a word, and back again."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
import warnings

import lineament
import mlflow
import pandas
import pyarrow
import pyarrow.parquet
import pytest
import readings
from lineament.mlflow.outbox import OUTBOX
from lineament.mlflow.pending import PENDING
from program import REPOSITORY
from sklearn.linear_model import LinearRegression
from tracking import environment

REFERENCES = ["reading.value", "reading.grade"]


@pytest.fixture
def store(tracked) -> lineament.Client:
    return tracked


def retrieve(client, **options) -> lineament.TrainingSet:
    return client.get_historical_features(readings.spine(), REFERENCES, **options)


def settled() -> None:
    """Waits until nothing more is to be written."""
    until = time.monotonic() + 30
    while [one for one in OUTBOX.waiting() if not one.failed]:
        lineament.mlflow.flush()
        assert time.monotonic() < until, lineament.mlflow.pending()


def inputs(run_id: str) -> dict[str, mlflow.entities.DatasetInput]:
    found = mlflow.get_run(run_id).inputs.dataset_inputs
    return {one.dataset.digest: one for one in found}


def text(tracking, run, experiment=None) -> str:
    experiment = run.info.experiment_id if experiment is None else experiment
    return f"mlflow;{tracking.uri};{experiment};{run.info.run_id}"


def script(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=REPOSITORY,
        env={**environment(), **variables},
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ in the run


def test_a_set_retrieved_in_a_run_is_linked_to_it(store, relay, tracking):
    with mlflow.start_run() as run:
        training_set = retrieve(store, name="readings of a day", ttl={"reading": "1h"})
    (headers,) = relay.retrievals
    assert (headers["lineament-run"], headers["lineament-how"]) == (text(tracking, run), "thread")
    stored = store.sql(
        f"SELECT run FROM lineament.training_sets WHERE training_set = '{training_set.id}'"
    ).to_arrow()
    assert stored["run"].to_pylist() == [text(tracking, run)]

    settled()
    given = inputs(run.info.run_id)[training_set.id]
    assert (given.dataset.name, given.dataset.source_type) == ("readings of a day", "lineament")
    assert json.loads(given.dataset.source) == {
        "uri": f"lineament://127.0.0.1:{relay.port}/training-sets/{training_set.id}",
        "digest": training_set.digest, "sequence": training_set.sequence,
    }  # fmt: skip
    assert {tag.key: tag.value for tag in given.tags} == {
        "mlflow.data.context": "training", "lineament.digest": training_set.digest
    }  # fmt: skip
    columns = json.loads(given.dataset.schema)["mlflow_colspec"]
    assert [(column["name"], column["type"]) for column in columns] == [
        ("label", "long"), ("sensor", "string"), ("at", "datetime"), ("value", "double"), ("grade", "string"),
    ]  # fmt: skip
    assert mlflow.search_runs(filter_string=f"dataset.digest = '{training_set.id}'").run_id.tolist() == [
        run.info.run_id
    ]
    uses = store.sql(
        f"SELECT external_id, authority, how FROM lineament.uses WHERE training_set = '{training_set.id}'"
    ).to_arrow()
    assert uses.to_pylist() == [
        {"external_id": run.info.run_id, "authority": tracking.uri, "how": "thread"},
    ]
    # The store was told with the retrieval itself, and needs no second word.
    assert relay.bodies("lineament.use") == []
    assert lineament.mlflow.pending() == []


def test_the_input_loads_the_set_again(store, relay, monkeypatch):
    with mlflow.start_run() as run:
        training_set = retrieve(store)
    settled()
    again = mlflow.data.get_source(inputs(run.info.run_id)[training_set.id]).load()
    assert (again.id, again.digest) == (training_set.id, training_set.digest)
    assert again.to_arrow().equals(training_set.to_arrow())
    source = mlflow.data.get_source(inputs(run.info.run_id)[training_set.id])
    # The store may have moved since.
    moved = type(source)(source.uri.replace(f":{relay.port}/", ":9/"), source.digest)
    assert moved.load(relay.url).id == training_set.id
    monkeypatch.setenv("LINEAMENT_URL", relay.url)
    assert moved.load().id == training_set.id
    source.digest = source.digest[:-1] + ("0" if source.digest[-1] != "0" else "1")
    with pytest.raises(lineament.Damaged, match="its dataset input was changed"):
        source.load()


def test_importing_lineament_does_not_import_mlflow(relay):
    done = script(
        "import sys, lineament, lineament.mlflow.reconciliation\n"
        f"client = lineament.connect('{relay.url}')\n"
        "client.status()\n"
        "assert 'mlflow' not in sys.modules"
    )
    assert done.returncode == 0, done.stderr


def test_a_set_that_is_not_recorded_is_linked_to_nothing(store):
    with mlflow.start_run() as run:
        retrieve(store, record=False)
    settled()
    assert inputs(run.info.run_id) == {}


# ------------------------------------------------------------------------------------------------- which run


def test_the_innermost_run_of_the_thread_counts(store, relay, tracking):
    with mlflow.start_run(), mlflow.start_run(nested=True) as inner:
        retrieve(store)
        # MLflow's active run is of its thread alone, and so is the link.
        other = threading.Thread(target=retrieve, args=(store,))
        other.start()
        other.join()
    in_run, beside = relay.retrievals
    assert in_run["lineament-run"] == text(tracking, inner)
    assert "lineament-run" not in beside


def test_the_environment_names_the_run(store, relay, tracking, monkeypatch):
    with mlflow.start_run() as run:
        pass
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    training_set = retrieve(store)
    (headers,) = relay.retrievals
    assert (headers["lineament-run"], headers["lineament-how"]) == (text(tracking, run, ""), "environment")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", run.info.experiment_id)
    retrieve(store)
    assert relay.retrievals[1]["lineament-run"] == text(tracking, run)
    settled()
    assert training_set.id in inputs(run.info.run_id)


def test_who_names_a_run_means_it(store, relay, tracking):
    with mlflow.start_run() as named:
        pass
    with mlflow.start_run():
        by_object = store.with_run(run=named)
        retrieve(by_object)
        retrieve(store.with_run(run=named.info.run_id))
        retrieve(store.with_run(run=text(tracking, named)))
    assert [headers["lineament-run"] for headers in relay.retrievals] == [
        text(tracking, named), text(tracking, named, ""), text(tracking, named)
    ]  # fmt: skip
    assert {headers["lineament-how"] for headers in relay.retrievals} == {"explicit"}
    settled()
    assert len(inputs(named.info.run_id)) == 3


def test_words_of_ones_own_stay_and_the_active_run_is_linked_beside(store, relay, tracking):
    with mlflow.start_run() as run:
        training_set = retrieve(store.with_run(run="nightly", experiment="delays"))
    (headers,) = relay.retrievals
    assert (headers["lineament-run"], headers["lineament-experiment"]) == ("nightly", "delays")
    settled()
    assert training_set.id in inputs(run.info.run_id)
    assert relay.bodies("lineament.use") == [
        {"training_set": training_set.id, "run": text(tracking, run), "role": "unknown", "how": "thread"}
    ]


def test_a_run_that_is_none(store):
    for wrong in (7, "mlflow;http://127.0.0.1", "mlflow;;1;2"):
        with pytest.raises(lineament.InvalidRequest, match="mlflow;<tracking URI>|a run id"):
            store.with_run(run=wrong).status()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("HTTP://User:Secret@Host.Example:80/", "http://host.example"),
        ("https://host:443/mlflow//", "https://host/mlflow"),
        ("https://host:5000/?x=1#y", "https://host:5000"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("http://host:port/", "http://host:port"),
        ("postgresql+psycopg2://me:pw@DB:5432/mlflow", "postgresql+psycopg2://db/mlflow"),
        ("sqlite:////data/ml flow.db", "sqlite:////data/ml%20flow.db"),
        ("sqlite:///mlflow.db", f"sqlite:///{os.getcwd()}/mlflow.db"),
        ("file:///data/mlruns/", "file:///data/mlruns"),
        ("file:mlruns", f"file://{os.getcwd()}/mlruns"),
        ("./mlruns", f"file://{os.getcwd()}/mlruns"),
        ("/data/a;b/é", "file:///data/a%3Bb/%C3%A9"),
        ("databricks", "databricks"),
    ],
)
def test_authorities(uri, expected):
    assert lineament.mlflow.authority(uri) == expected
    assert lineament.mlflow.authority(expected) == expected


# --------------------------------------------------------------------------------------------- before the run


def test_a_set_retrieved_before_the_run_goes_to_the_next(store, relay, tracking):
    first, second = retrieve(store), retrieve(store)
    assert [one.training_sets for one in lineament.mlflow.pending()] == [(first.id,), (second.id,)]
    # MLflow asks for tags for these too, and no run comes of it.
    mlflow.data.from_pandas(pandas.DataFrame({"x": [1.0]}))
    with mlflow.start_span("a trace"):
        pass
    with mlflow.start_run() as run:
        pass
    with mlflow.start_run() as next_run:
        pass
    settled()
    assert mlflow.get_run(run.info.run_id).data.tags["lineament.training_sets"] == f"{first.id},{second.id}"
    assert set(inputs(run.info.run_id)) == {first.id, second.id}
    assert "lineament.training_sets" not in mlflow.get_run(next_run.info.run_id).data.tags
    assert relay.bodies("lineament.use") == [
        {"training_set": set.id, "run": text(tracking, run), "role": "unknown", "how": "pending"}
        for set in (first, second)
    ]
    assert lineament.mlflow.pending() == []


def test_a_run_that_autologging_starts(store):
    mlflow.sklearn.autolog(log_models=False)
    try:
        training_set = retrieve(store)
        frame = training_set.to_df().dropna()
        LinearRegression().fit(frame[["value"]], frame["label"])
        run = mlflow.last_active_run()
    finally:
        mlflow.sklearn.autolog(disable=True)
    settled()
    assert mlflow.get_run(run.info.run_id).data.tags["lineament.training_sets"] == training_set.id
    assert training_set.id in inputs(run.info.run_id)


def test_a_run_in_a_local_database(store, relay, tmp_path):
    """What MLflow does where nobody names a server."""
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_experiment("local")
    with mlflow.start_run() as run:
        training_set = retrieve(store)
    expected = f"mlflow;sqlite:///{tmp_path}/mlflow.db;{run.info.experiment_id};{run.info.run_id}"
    assert relay.retrievals[-1]["lineament-run"] == expected
    settled()
    assert set(inputs(run.info.run_id)) == {training_set.id}


def test_a_run_whose_name_is_too_long_for_a_header(store, relay, tmp_path):
    folder = tmp_path / ("x" * 200) / ("y" * 200)
    folder.mkdir(parents=True)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment("local")
    with mlflow.start_run() as run:
        training_set = retrieve(store)
    assert "lineament-run" not in relay.retrievals[-1]
    settled()
    assert set(inputs(run.info.run_id)) == {training_set.id}
    (use,) = relay.bodies("lineament.use")
    assert (use["how"], use["run"].rpartition(";")[2]) == ("thread", run.info.run_id)


def test_a_run_that_is_not_created_leaves_the_set_waiting(store, monkeypatch):
    training_set = retrieve(store)
    with pytest.raises(mlflow.MlflowException, match="No Experiment with id"):
        mlflow.start_run(experiment_id="424242")
    settled()
    assert [one.training_sets for one in lineament.mlflow.pending()] == [(training_set.id,)]
    with mlflow.start_run() as run:
        pass
    settled()
    assert set(inputs(run.info.run_id)) == {training_set.id}


def test_a_run_that_is_resumed_gets_it_at_the_next_call(store, relay, tracking):
    with mlflow.start_run(tags={"lineament.training_sets": "01a00000-0000-7000-8000-000000000000"}) as run:
        pass
    before = retrieve(store)
    with mlflow.start_run(run_id=run.info.run_id):
        inside = retrieve(store)
    settled()
    assert set(inputs(run.info.run_id)) == {before.id, inside.id}
    tag = mlflow.get_run(run.info.run_id).data.tags["lineament.training_sets"]
    assert tag == f"01a00000-0000-7000-8000-000000000000,{before.id}"
    assert [body["how"] for body in relay.bodies("lineament.use")] == ["pending"]


AT_EXIT = """
import lineament, mlflow, readings
mlflow.set_tracking_uri("{tracking}")
client = lineament.connect("{url}")
{before}
print(client.get_historical_features(readings.spine(), ["reading.value"]).id)
{after}
"""


@pytest.mark.parametrize("resumed_after", [True, False])
def test_a_run_that_is_resumed_gets_it_at_the_end_of_the_process(store, relay, tracking, resumed_after):
    with mlflow.start_run() as run:
        pass
    resumed = f"with mlflow.start_run(run_id='{run.info.run_id}'): pass"
    code = AT_EXIT.format(
        tracking=tracking.uri,
        url=relay.url,
        before="" if resumed_after else resumed,
        after=resumed if resumed_after else "",
    )
    done = script(code, PYTHONPATH=str(REPOSITORY / "tests" / "python"))
    assert done.returncode == 0, done.stderr
    (id,) = [line for line in done.stdout.splitlines() if len(line) == 36]
    # A run that was over before the retrieval was not made with it.
    assert set(inputs(run.info.run_id)) == ({id} if resumed_after else set())


def test_a_forked_process_does_not_do_what_its_parent_will(store):
    training_set = retrieve(store)
    child = os.fork()
    if child == 0:
        os._exit(0 if lineament.mlflow.pending() == [] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert [one.training_sets for one in lineament.mlflow.pending()] == [(training_set.id,)]


# ------------------------------------------------------------------------------------------- data that
# travelled


def test_data_that_travelled_is_linked_by_what_it_carries(store, relay, tracking, tmp_path):
    training_set = retrieve(store)
    PENDING.forget()
    assert training_set.schema.metadata[b"lineament.training_set"].decode() == training_set.id
    frame = training_set.to_df()
    frame[frame.value > 1].to_parquet(tmp_path / "frame.parquet")
    pyarrow.parquet.write_table(training_set.to_arrow().slice(0, 3), tmp_path / "table.parquet")
    travelled = [
        training_set,
        training_set.id,
        pandas.read_parquet(tmp_path / "frame.parquet"),
        pyarrow.parquet.read_table(tmp_path / "frame.parquet"),
        pyarrow.parquet.read_table(tmp_path / "table.parquet"),
        training_set.to_df(dtype_backend="pyarrow").copy(),
    ]
    for data in travelled:
        with mlflow.start_run() as run:
            use = store.use(data, role="test")
        assert (use.training_set, use.run, use.how) == (training_set.id, text(tracking, run), "thread")
        settled()
        (given,) = inputs(run.info.run_id).values()
        assert given.dataset.digest == training_set.id
        assert {tag.key: tag.value for tag in given.tags}["mlflow.data.context"] == "testing"
        assert relay.bodies("lineament.use")[-1] == {
            "training_set": training_set.id, "run": text(tracking, run), "role": "test", "how": "thread"
        }  # fmt: skip


def test_a_set_made_from_another_is_itself(store):
    first = retrieve(store)
    second = store.get_historical_features(first.to_arrow(), "reading.quality")
    assert second.to_df().attrs["lineament.training_set"] == second.id != first.id
    unrecorded = store.get_historical_features(first.to_df(), "reading.quality", record=False)
    assert b"lineament.training_set" not in (unrecorded.schema.metadata or {})
    assert "lineament.training_set" not in unrecorded.to_df().attrs


def test_uses_that_cannot_be(store):
    training_set = retrieve(store)
    with pytest.raises(lineament.InvalidRequest, match="no run is active"):
        store.use(training_set)
    with mlflow.start_run():
        with pytest.raises(lineament.InvalidRequest, match="does not say of which training set"):
            store.use(training_set.to_polars())
        with pytest.raises(lineament.InvalidRequest, match="one of train, validate"):
            store.use(training_set, role="deploy")
        with pytest.raises(lineament.NotFound, match="there is no training set"):
            store.use("01a00000-0000-7000-8000-000000000000")


# ------------------------------------------------------------------------------------------ what stands in
# the way


def test_a_server_that_is_down_delays_nothing_and_loses_nothing(store, tracking):
    with mlflow.start_run() as run:
        tracking.stop()
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                started = time.monotonic()
                sets = [retrieve(store) for _ in range(3)]
                took = time.monotonic() - started
                waiting = lineament.mlflow.flush()
            assert took < 3
            assert {id for one in waiting for id in one.training_sets} == {one.id for one in sets}
            assert all("no MLflow server answers" in one.error and not one.failed for one in waiting)
            told = [
                str(one.message) for one in warned if issubclass(one.category, lineament.mlflow.LinkWarning)
            ]
            assert len(told) <= 1 and all("tried again" in message for message in told)
            stored = store.sql(
                "SELECT training_set FROM lineament.training_sets WHERE run LIKE '%" + run.info.run_id + "'"
            )
            assert set(stored.to_arrow()["training_set"].to_pylist()) == {one.id for one in sets}
        finally:
            tracking.start()
        # Nobody calls anything; it is tried again by itself.
        until = time.monotonic() + 60
        while lineament.mlflow.pending() and time.monotonic() < until:
            time.sleep(0.2)
        assert set(inputs(run.info.run_id)) == {one.id for one in sets}


def test_a_process_that_ends_while_the_server_is_down(store, relay, tracking):
    with mlflow.start_run() as run:
        pass
    before = f"client = client.with_run(run='{run.info.run_id}')"
    code = AT_EXIT.format(tracking=tracking.uri, url=relay.url, before=before, after="")
    tracking.stop()
    try:
        started = time.monotonic()
        done = script(code, PYTHONPATH=str(REPOSITORY / "tests" / "python"))
        took = time.monotonic() - started
    finally:
        tracking.start()
    assert done.returncode == 0, done.stderr
    assert "LinkWarning" in done.stderr and "no MLflow server answers" in done.stderr
    assert took < 60
    (id,) = [line for line in done.stdout.splitlines() if len(line) == 36]
    stored = store.sql(f"SELECT run FROM lineament.training_sets WHERE training_set = '{id}'").to_arrow()
    assert stored["run"].to_pylist() == [text(tracking, run, "")]


def test_a_run_that_was_deleted(store):
    with mlflow.start_run() as run:
        pass
    mlflow.delete_run(run.info.run_id)
    with pytest.warns(lineament.mlflow.LinkWarning, match="could not be written"):
        training_set = retrieve(store.with_run(run=run))
        settled()
    failed = [one for one in lineament.mlflow.pending() if training_set.id in one.training_sets]
    assert [one.failed for one in failed] == [True]
    assert "deleted" in failed[0].error
    assert training_set.to_arrow().num_rows == readings.spine().num_rows


def test_a_store_that_takes_no_uses(store, relay):
    relay.without.add("lineament.use")
    training_set = retrieve(store)
    with pytest.warns(lineament.mlflow.LinkWarning, match="does not take uses"):
        with mlflow.start_run() as run:
            pass
        settled()
    assert training_set.id in inputs(run.info.run_id)


def test_mlflow_tells_apart_less_than_the_store(client, tracking):
    """Two sets that differ after row 10,000: one digest in MLflow, two here."""
    # A sensor of its own that only late rows ask for, whose value is corrected between the two retrievals.
    name = f"late-{uuid.uuid4()}"
    row = readings.rows().slice(0, 1)
    row = row.set_column(0, "sensor", pyarrow.array([name]))
    client.ingest("reading", row)
    sensors = ["a"] * 10_000 + [name] * 10
    spine = pyarrow.table(
        {"sensor": sensors, "at": pyarrow.array([readings.clock("12:00")] * len(sensors), readings.INSTANT)}
    )
    before = client.get_historical_features(spine, "reading.value")
    corrected = row.set_column(3, "value", pyarrow.array([99.0])).set_column(
        2, "published_at", pyarrow.array([readings.clock("10:30")], readings.INSTANT)
    )
    client.ingest("reading", corrected)
    after = client.get_historical_features(spine, "reading.value")
    assert before.to_arrow()["value"].to_pylist()[-1] == 1.0
    assert after.to_arrow()["value"].to_pylist()[-1] == 99.0
    assert mlflow.data.from_pandas(before.to_df()).digest == mlflow.data.from_pandas(after.to_df()).digest
    assert before.digest != after.digest
    assert before.id != after.id
