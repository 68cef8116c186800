"""OpenLineage events in a catalog that is not ours: Feast's consumer takes them all, and shows what they say when it is asked."""

import collections
import json
from collections.abc import Iterator
from pathlib import Path

import lineament
import pytest
import readings
from feast_consumer import FeastConsumer
from program import Server, run

AUTHORITY = "features.example.org"
NAMESPACE = f"lineament://{AUTHORITY}"


TELLING = ("emit", "--authority", AUTHORITY, "--openlineage-reads")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A batch, a derived one, a read, and a model with what it came from."""
    store = tmp_path_factory.mktemp("feast") / "store"
    with Server(store) as server, lineament.connect(server.url) as client:
        client.apply({**readings.DEFINITIONS, "doubled.toml": readings.doubled("grade IS NOT NULL")})
        client.ingest("reading", readings.rows())
        run(store, "refresh", "doubled")
        features = ["reading.value", "doubled.twice"]
        set_id = str(client.get_historical_features(readings.spine(), features, name="model").id)
        assert client.replay(set_id).equal
    run(store, "sql", "SELECT sensor, value FROM reading WHERE grade IS NOT NULL")
    run(store, "experiment", "churn")
    run(store, "--experiment", "churn", "run", "train-1", "--status", "RUNNING")
    run(store, "--run", "train-1", "use", set_id, "--role", "train")
    run(store, "--run", "train-1", "model", "churn/1", "--alias", "champion")
    run(store, "--experiment", "churn", "run", "train-1", "--status", "FINISHED")
    run(store, "deploy", "churn-api", "--model", "churn@champion")
    return store


@pytest.fixture(scope="module")
def events(store) -> list[dict]:
    file = store.parent / "events.jsonl"
    run(store, *TELLING, "--to", file)
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def feast(store, events) -> Iterator[FeastConsumer]:
    """Feast, which has taken all of them over HTTP."""
    consumer = FeastConsumer(store.parent / "consumer")
    try:
        said = run(store, *TELLING, "--to", consumer.address)
        assert f"sent {len(events)} events" in said
        yield consumer
    finally:
        consumer.stop()


def named(dataset: dict) -> tuple[str, str]:
    return dataset["namespace"], dataset["name"]


def test_feast_shows_every_dataset_and_job(events, feast):
    sides = [dataset for event in events for side in ("inputs", "outputs") for dataset in event.get(side, [])]
    sides += [event["dataset"] for event in events if "dataset" in event]
    shown = {(one["dataset_namespace"], one["dataset_name"]): one for one in feast.ask("datasets")["datasets"]}
    assert set(shown) == {named(dataset) for dataset in sides}
    # The last words on each are those that stand.
    schemas = {named(one): one["facets"]["schema"] for one in sides if "schema" in one["facets"]}
    assert {"reading", "doubled", "training_sets/model"} <= {name for _, name in schemas}
    for name, schema in schemas.items():
        fields = json.loads(shown[name]["schema_json"])
        fields = fields["fields"] if isinstance(fields, dict) else fields
        assert [field["name"] for field in fields] == [field["name"] for field in schema["fields"]]
    jobs = {(one["job_namespace"], one["job_name"]) for one in feast.ask("jobs")["jobs"]}
    assert jobs == {named(event["job"]) for event in events if "job" in event}
    names = {name for _, name in jobs}
    assert {"ingest.reading", "derive.doubled", "retrieve.model", "replay.model", "query.sql"} <= names


def test_feast_shows_every_run_with_what_it_read_and_wrote(events, feast):
    runs: dict[str, list[dict]] = collections.defaultdict(list)
    for event in events:
        if "run" in event:
            runs[event["run"]["runId"]].append(event)
    assert {one["run_id"] for one in feast.ask("runs", limit=500)["runs"]} == set(runs)
    for run_id, told in runs.items():
        shown = feast.ask(f"runs/{run_id}")
        assert shown["state"] == told[-1]["eventType"]
        for side in ("inputs", "outputs"):
            assert {named(one) for one in shown[side]} == {named(one) for event in told for one in event[side]}


def test_feast_shows_what_each_column_comes_from(events, feast):
    told = {}
    for event in events:
        for output in event.get("outputs", []):
            if "columnLineage" in output["facets"]:
                told[named(output)] = output["facets"]["columnLineage"]["fields"]
    assert set(told) == {(NAMESPACE, "doubled"), (NAMESPACE, "training_sets/model")}
    for (name, fields), columns in zip(told.items(), feast.columns(list(told)), strict=True):
        expected = {
            (column, *named(source), source["field"], kind["type"], kind["subtype"])
            for column, sources in fields.items()
            for source in sources["inputFields"]
            for kind in source["transformations"]
        }
        shown = {
            (one["output_field"], one["input_namespace"], one["input_name"], one["input_field"], kind["type"],
             kind["subtype"])
            for one in columns
            for kind in json.loads(one["transformations_json"])
        }  # fmt: skip
        assert shown == expected
        source = ("doubled", "twice") if name[1] == "training_sets/model" else ("reading", "value")
        assert ("twice", NAMESPACE, *source) in {edge[:4] for edge in shown}


def test_feast_finds_the_way_from_a_model_to_the_rows_that_came_in(feast):
    graph = feast.ask("graph")
    made_of = collections.defaultdict(set)
    for edge in graph["edges"]:
        if edge["source_type"] == edge["target_type"] == "dataset":
            made_of[edge["target_name"]].add(edge["source_name"])
    way = ["models/churn"]
    for name in way:
        way += sorted(made_of[name] - set(way))
    assert {"training_sets/model", "spines/model", "doubled", "reading"} <= set(way)
    assert any(name.startswith("sources/") for name in way)
    # An ad-hoc read has what it read, and nothing comes of it.
    reads = {(edge["source_name"], edge["target_name"]) for edge in graph["edges"] if "query.sql" in edge.values()}
    assert reads == {("reading", "query.sql")}
