"""OpenLineage events: held to the official schemas, read by the official client, and sent to consumers that fail."""

import collections
import copy
import importlib
import json
import pkgutil
import shutil
import socket
import subprocess
import sys
import time
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import attr
import jsonschema
import lineament
import openlineage.client.generated
import pyarrow
import pytest
import readings
import referencing
from openlineage.client import event_v2
from openlineage.client.serde import Serde
from program import REPOSITORY, Server, command, fails, run

SPEC = REPOSITORY / "testdata" / "openlineage" / "spec"
OURS = REPOSITORY / "docs" / "openlineage"
ENVELOPE = "https://openlineage.io/spec/2-0-2/OpenLineage.json"
RUN = "0123456789abcdef0123456789abcdef"
WAIT = 60

# A next version of the view, whose words and units are facets of their own.
WORDS = """
description = "What sensors say"
owner = "team:sensors"
tags = ["raw"]
reject_above = 0.5
"""
RICH = readings.DEFINITIONS["reading.toml"].replace('entity = "sensor"', f'entity = "sensor"{WORDS}') + """
[[features]]
name = "load"
type = "decimal(6,2)"
unit = "kg"
description = "The weight on it"
"""


def rich_rows(first: int, count: int, grade: str = "good") -> pyarrow.Table:
    times = [readings.clock("13:00") for _ in range(count)]
    return pyarrow.table(
        {
            "sensor": [f"s{number:03}" for number in range(first, first + count)],
            "measured_at": pyarrow.array(times, readings.INSTANT),
            "published_at": pyarrow.array(times, readings.INSTANT),
            "value": [float(number) for number in range(count)],
            "quality": pyarrow.array(range(count), pyarrow.int32()),
            "grade": [grade] * count,
            "load": pyarrow.array(range(count), pyarrow.decimal128(6, 2)),
        }
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """One of everything: versions, batches, a refused one, sets with and without a name and a run, a replay, runs, a
    model, where it serves."""
    store = tmp_path_factory.mktemp("openlineage") / "store"
    with Server(store) as server, lineament.connect(server.url) as client:
        client.apply(readings.DEFINITIONS)
        client.ingest("reading", readings.rows(), steps=["deduplicated", "converted to metres"])
        client.apply({**readings.DEFINITIONS, "reading.toml": RICH})
        client.ingest("reading", rich_rows(0, 9))
        with pytest.raises(lineament.Refused):
            client.ingest("reading", rich_rows(0, 3, grade="fair"))
        of_run = client.with_run(run=f"mlflow;http://tracking:5000;7;{RUN}")
        named = of_run.get_historical_features(readings.spine(), ["reading.*"], name="model")
        client.get_historical_features(readings.spine(), ["reading@1.value", "reading@2.load"])
        assert client.replay(named.id).equal
        set_id = str(named.id)
    table = store.parent / "more.csv"
    time = "2024-01-02T00:00:00Z"
    columns = "sensor,measured_at,published_at,value,quality,grade,load"
    table.write_text(f"{columns}\nz,{time},{time},1,,good,0.1\n")
    run(store, "ingest", "reading", table)
    run(store, "experiment", "churn", "--owner", "ann")
    for status in ("RUNNING", "FINISHED"):
        run(store, "--experiment", "churn", "run", "train-1", "--status", status, "--metric", "auc=0.7")
    run(store, "--run", "train-1", "use", set_id, "--role", "train")
    run(store, "--run", "train-1", "model", "churn/1", "--alias", "champion")
    run(store, "deploy", "churn-api", "--model", "churn@champion")
    run(store, "deploy", "churn-api", "--end")
    run(store, "sql", "SELECT sensor, value FROM reading WHERE quality > 1")
    return store


@pytest.fixture(scope="module")
def events(store, tmp_path_factory) -> list[dict]:
    file = tmp_path_factory.mktemp("events") / "events.jsonl"
    said = run(store, "emit", "--to", file, "--openlineage-reads")
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert f"sent {len(events)} events" in said
    return events


def facets(event: dict) -> Iterator[tuple[str, str, dict]]:
    """Every facet of an event: what it is of, its key, itself."""
    things = [("run", event.get("run")), ("job", event.get("job")), ("dataset", event.get("dataset"))]
    things += [("dataset", dataset) for side in ("inputs", "outputs") for dataset in event.get(side, [])]
    for of, thing in things:
        for kind in ("facets", "inputFacets", "outputFacets"):
            for key, facet in (thing or {}).get(kind, {}).items():
                yield (of if kind == "facets" else kind, key, facet)


# The official schemas.


@pytest.fixture(scope="module")
def schemas() -> dict[str, dict]:
    files = [SPEC / "OpenLineage.json", *sorted((SPEC / "facets").glob("*.json")), *sorted(OURS.glob("*.json"))]
    schemas = [json.loads(file.read_text()) for file in files]
    return {schema["$id"]: schema for schema in schemas}


@pytest.fixture(scope="module")
def check(schemas):
    resources = [(name, referencing.Resource.from_contents(schema)) for name, schema in schemas.items()]
    registry = referencing.Registry().with_resources(resources)

    def check(event: dict) -> None:
        def validate(instance: dict, schema: str) -> None:
            validator = jsonschema.Draft202012Validator(
                {"$ref": schema},
                registry=registry,
                format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
            )
            validator.validate(instance)

        validate(event, ENVELOPE)
        validate(event, event["schemaURL"])
        for of, key, facet in facets(event):
            address = facet["_schemaURL"]
            schema = schemas[address.partition("#")[0]]
            validate(facet, address)
            if not address.startswith("https://openlineage.io/"):
                continue
            # The official schemas allow any field besides theirs, so a misspelled one would pass: compare names as well.
            assert key in schema["properties"], f"{key} is not the key of {address}"
            definition = schema["$defs"][address.rpartition("/")[2]]
            parent = definition["allOf"][0]["$ref"].rpartition("/")[2]
            parents = {
                "run": "RunFacet", "job": "JobFacet", "dataset": "DatasetFacet",
                "inputFacets": "InputDatasetFacet", "outputFacets": "OutputDatasetFacet",
            }  # fmt: skip
            assert parent == parents[of], f"{key} is a {parent}, and stands among those of {of}"
            known = {name for part in definition["allOf"] for name in part.get("properties", {})}
            unknown = set(facet) - known - {"_producer", "_schemaURL"}
            assert not unknown, f"{address} has no {unknown}"

    return check


def test_every_event_fits_the_official_schemas(events, check):
    for event in events:
        check(event)


def test_the_events_hold_what_they_should(events):
    keys = {key for event in events for _, key, _ in facets(event)}
    assert keys >= {
        "schema", "version", "columnLineage", "ownership", "documentation", "tags", "lifecycleStateChange",
        "datasetType", "storage", "dataQualityMetrics", "dataQualityAssertions", "outputStatistics",
        "inputStatistics", "jobType", "parent", "processing_engine", "errorMessage", "lineament_entry",
        "lineament_batch", "lineament_read", "lineament_use", "lineament_trainingSet", "lineament_deployment",
    }  # fmt: skip
    states = collections.Counter(event.get("eventType") for event in events)
    # Three batches, a refused one, two sets, a replay and a read; the runs of two systems; one of them ended.
    assert (states["START"], states["COMPLETE"], states["FAIL"]) == (10, 8, 1)
    jobs = {event["job"]["name"] for event in events if "job" in event}
    assert jobs >= {"ingest.reading", "retrieve.model", "replay.model", "query.sql"}
    parents = {
        event["run"]["facets"]["parent"]["run"]["runId"]
        for event in events
        if event.get("job", {}).get("name") == "retrieve.model"
    }
    assert parents == {"01234567-89ab-cdef-0123-456789abcdef"}


def test_the_events_around_a_node_are_among_all_and_fit_the_schemas(store, events, check):
    said = run(store, "lineage", "churn-api", "--format", "openlineage")
    around = [json.loads(line) for line in said.splitlines()]
    for event in around:
        check(event)
    whole = iter(events)
    assert all(event in whole for event in around)
    jobs = {event["job"]["name"] for event in around if "job" in event}
    # From where it serves back to the rows; a batch that was written later is none of it.
    assert jobs == {"ingest.reading", "retrieve.model", "replay.model", "experiment.churn"}
    here, everywhere = (
        sum(event.get("job", {}).get("name") == "ingest.reading" for event in told) for told in (around, events)
    )
    assert 0 < here < everywhere
    named = run(store, "lineage", "churn-api", "--format", "openlineage", "--authority", "shop").splitlines()
    assert len(named) == len(around)
    assert "lineament://shop" in named[0]
    fails(store, "lineage", "churn-api", "--format", "openlineage", "--authority", "a shop")


@pytest.mark.parametrize(
    ("pointer", "wrong"),
    [
        ("run/runId", "not-a-uuid"),
        ("run/runId", None),
        ("eventTime", "yesterday"),
        ("eventType", "DONE"),
        ("producer", "not a uri"),
        ("job/name", None),
        ("job/facets/jobType/integration", None),
        ("outputs/0/namespace", None),
        ("outputs/0/facets/version/datasetVersion", 3),
        ("outputs/0/facets/schema/fields/0/name", None),
        ("outputs/0/facets/dataQualityMetrics/columnMetrics/value/min", "low"),
        ("outputs/0/facets/schema/_producer", None),
        ("outputs/0/outputFacets/outputStatistics/rowCount", 0.5),
        ("run/facets/lineament_batch/version", None),
        ("run/facets/lineament_entry/sequense", 3),
        ("job/facets/jobType/kind", "JOB"),
    ],
)
def test_the_check_finds_mistakes(events, check, pointer, wrong):
    """The check of the test above is one that can fail."""
    complete = (event for event in events if event.get("eventType") == "COMPLETE" and event["outputs"])
    event = copy.deepcopy(next(complete))
    *way, last = pointer.split("/")
    at = event
    for step in way:
        at = at[int(step)] if isinstance(at, list) else at[step]
    if wrong is None:
        del at[last]
    else:
        at[last] = wrong
    with pytest.raises((jsonschema.ValidationError, AssertionError)):
        check(event)


def test_the_golden_store_gives_the_events_that_it_always_gave(tmp_path):
    """Consumers hold what they were told: other events for the same entries need another number in the producer."""
    store = tmp_path / "store"
    shutil.copytree(REPOSITORY / "testdata" / "golden" / "store-v1", store)
    run(store, "emit", "--to", tmp_path / "events.jsonl")
    golden = REPOSITORY / "testdata" / "openlineage" / "store-v1.jsonl"
    assert (tmp_path / "events.jsonl").read_text().splitlines() == golden.read_text().splitlines()


# The official client.

# The schema of this facet in OpenLineage's repository says 1-0-0; the client was made from one that says
# 1-0-1.
RENUMBERED = {"DataQualityMetricsDatasetFacet"}


def classes() -> dict[str, type]:
    """The client's facets by the names of their schemas."""
    found = {}
    for module in pkgutil.iter_modules(openlineage.client.generated.__path__):
        module = importlib.import_module(f"openlineage.client.generated.{module.name}")
        found |= {name: value for name, value in vars(module).items() if attr.has(value)}
    return found


def built(kind: object, value: object, known: dict[str, type]) -> object:
    """What JSON says, as an object of the client's classes. A field that a class lacks, or one that it wants, is an error."""
    if value is None:
        return None
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return built(next(kind for kind in arguments if kind is not types.NoneType), value, known)
    if origin is list:
        return [built(arguments[0], item, known) for item in value]
    if origin is dict:
        return {name: built(arguments[1], item, known) for name, item in value.items()}
    if isinstance(value, dict) and "_schemaURL" in value:
        name = value["_schemaURL"].rpartition("/")[2]
        if name not in known:
            # One of ours: the client keeps it as it is.
            assert value["_schemaURL"].startswith("urn:lineament:")
            return value
        kind = known[name]
    if attr.has(kind):
        hints = typing.get_type_hints(kind)
        fields = {field.name: field for field in attr.fields(kind)}
        given = {}
        for name, item in value.items():
            assert name in fields, f"{kind.__name__} has no {name}"
            # What the class says itself is compared below.
            if fields[name].init:
                given[name.lstrip("_")] = built(hints[name], item, known)
        return kind(**given)
    if isinstance(kind, type) and issubclass(kind, event_v2.RunState):
        return kind(value)
    return value


def test_the_official_client_reads_every_event_and_writes_it_back(events):
    known = classes()
    for event in events:
        kind = event_v2.RunEvent if "run" in event else event_v2.DatasetEvent
        read = built(kind, event, known)
        written = json.loads(Serde.to_json(read))
        for _, _, facet in facets(written):
            name = facet["_schemaURL"].rpartition("/")[2]
            if name in RENUMBERED:
                facet["_schemaURL"] = facet["_schemaURL"].replace("/1-0-1/", "/1-0-0/")
        # The client fills in empty lists and objects; nothing else may differ, in either direction.
        assert pruned(written) == pruned(event)


def pruned(value: object) -> object:
    if isinstance(value, dict):
        kept = {name: pruned(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in ({}, [])}
    if isinstance(value, list):
        return [pruned(item) for item in value]
    return value


def test_who_folds_the_events_finds_the_way_from_a_deployment_to_its_sources(events):
    """What a catalog does with them: edges from inputs to outputs, by run, over datasets that it knows by name."""
    sides = collections.defaultdict(lambda: {"inputs": set(), "outputs": set()})
    deployed = {}
    for event in events:
        if "run" in event:
            for side in ("inputs", "outputs"):
                found = {(dataset["namespace"], dataset["name"]) for dataset in event[side]}
                sides[event["run"]["runId"]][side] |= found
        else:
            facet = event["dataset"]["facets"].get("lineament_deployment", {})
            if "model" in facet:
                deployed[event["dataset"]["name"]] = (facet["model"]["namespace"], facet["model"]["name"])
    upstream = [deployed["deployments/production/churn-api"]]
    for node in upstream:
        for run_sides in sides.values():
            if node in run_sides["outputs"]:
                upstream += sorted(run_sides["inputs"] - set(upstream))
    names = [name for _, name in upstream]
    assert names[:2] == ["models/churn", "training_sets/model"]
    assert {"reading", "spines/model", "sources/more.csv"} <= set(names)


# Consumers that fail.


class Consumer:
    """The consumer of `openlineage_consumer.py`, on a port that it comes back to."""

    def __init__(self, folder: Path, pause: float = 0.0) -> None:
        self.file = folder / "taken.jsonl"
        self.pause = pause
        self.process: subprocess.Popen | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        script = Path(__file__).with_name("openlineage_consumer.py")
        arguments = [sys.executable, str(script), str(self.port), str(self.file), str(self.pause)]
        self.process = subprocess.Popen(arguments)
        wait_for(self._listens, "the consumer listens")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=20)

    def answer(self, *answers: str) -> None:
        self.file.with_suffix(".answers").write_text("\n".join(answers))

    def taken(self) -> list[str]:
        return self.file.read_text().splitlines() if self.file.exists() else []


@pytest.fixture
def consumer(tmp_path) -> Iterator[Consumer]:
    consumer = Consumer(tmp_path)
    yield consumer
    if consumer.process is not None and consumer.process.poll() is None:
        consumer.kill()


def wait_for(is_so, what: str) -> None:
    until = time.monotonic() + WAIT
    while not is_so():
        assert time.monotonic() < until, f"{what}: not within {WAIT} s"
        time.sleep(0.02)


def lines(store: Path, folder: Path) -> list[str]:
    file = folder / "whole.jsonl"
    run(store, "emit", "--to", file)
    return file.read_text().splitlines()


def in_order(taken: list[str], whole: list[str], repeated: int) -> None:
    """All of them, in order; at most so many of them twice."""
    at = 0
    for line in taken:
        if at < len(whole) and line == whole[at]:
            at += 1
            continue
        assert line in whole[:at], f"an event that is none of the log's, or came too soon: {line}"
        repeated -= 1
    assert at == len(whole), f"{len(whole) - at} events are missing"
    assert repeated >= 0


def test_a_consumer_killed_midway_loses_nothing(store, tmp_path, consumer):
    whole = lines(store, tmp_path)
    consumer.pause = 0.05
    consumer.start()
    emit = command(store, "emit", "--to", consumer.address, "--cursor", tmp_path / "cursor")
    sender = subprocess.Popen(emit, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for deaths in (1, 2):
        wait_for(lambda: len(consumer.taken()) >= deaths * 5, "some events are taken")
        consumer.kill()
        time.sleep(0.5)
        assert sender.poll() is None, "the sender does not wait for the consumer"
        consumer.start()
    said, complaints = sender.communicate(timeout=WAIT)
    assert sender.returncode == 0, complaints
    assert f"sent {len(whole)} events to {consumer.address}/api/v1/lineage" in said
    assert "entries behind" in complaints
    # The one that was on its way when the consumer died may have been written down before it was answered.
    in_order(consumer.taken(), whole, repeated=2)
    # The cursor is at the end: there is nothing more to send.
    taken = len(consumer.taken())
    assert "sent 0 events" in run(store, "emit", "--to", consumer.address, "--cursor", tmp_path / "cursor")
    assert len(consumer.taken()) == taken
    lag = json.loads(run(store, "emit", "--to", consumer.address, "--cursor", tmp_path / "cursor", "--lag"))
    assert lag == {"next": lag["head"] + 1, "head": lag["head"], "entries": 0}


def test_a_sender_killed_midway_loses_nothing(store, tmp_path, consumer):
    whole = lines(store, tmp_path)
    consumer.pause = 0.05
    consumer.start()
    emit = command(store, "emit", "--to", consumer.address, "--cursor", tmp_path / "cursor")
    sender = subprocess.Popen(emit)
    wait_for(lambda: len(consumer.taken()) >= 5, "some events are taken")
    sender.kill()
    sender.wait(timeout=20)
    run(store, *emit[3:])
    in_order(consumer.taken(), whole, repeated=len(whole))


def test_a_consumer_that_is_dead_is_given_up_and_gone_on_with(store, tmp_path, consumer):
    arguments = ["emit", "--to", consumer.address, "--cursor", tmp_path / "cursor", "--patience", 1]
    said = fails(store, *arguments)
    assert "Connection refused" in said and "entries behind" in said, said
    consumer.start()
    run(store, *arguments)
    in_order(consumer.taken(), lines(store, tmp_path), repeated=0)


def test_answers_that_pass_are_waited_out(store, tmp_path, consumer):
    consumer.start()
    consumer.answer("503", "429 Retry-After: 1", "408", "500")
    started = time.monotonic()
    run(store, "emit", "--to", consumer.address)
    assert time.monotonic() - started >= 1
    in_order(consumer.taken(), lines(store, tmp_path), repeated=0)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("422", "422 Unprocessable Entity: not this one"),
        ("401", "401 Unauthorized"),
        ("301 Location: /elsewhere", "301 Moved Permanently, name /elsewhere instead"),
    ],
)
def test_an_event_that_is_refused_for_good_is_named(store, tmp_path, consumer, answer, why):
    whole = lines(store, tmp_path)
    consumer.start()
    consumer.answer("", "", answer)
    arguments = ["emit", "--to", consumer.address, "--cursor", tmp_path / "cursor"]
    said = fails(store, *arguments)
    third = json.loads(whole[2])
    assert why in said and "of sequence" in said and "--from" in said, said
    assert third["run"]["runId"] in said if "run" in third else third["dataset"]["name"] in said
    assert consumer.taken() == whole[:2]
    run(store, *arguments)
    in_order(consumer.taken(), whole, repeated=0)


def test_a_server_sends_what_is_written_and_waits_for_nobody(tmp_path, consumer):
    store = tmp_path / "store"
    arguments = ["--openlineage", consumer.address, "--cursor", tmp_path / "cursor"]
    with Server(store, *arguments) as server, lineament.connect(server.url) as client:
        client.apply({**readings.DEFINITIONS, "reading.toml": RICH})
        # The consumer is dead, and nobody notices.
        for number in range(20):
            client.ingest("reading", rich_rows(number, 1))
        assert consumer.taken() == []
        told = "openlineage: http://127.0.0.1"
        wait_for(lambda: told in server.said() and "Connection refused" in server.said(), "the server says so")
        consumer.start()
        wait_for(lambda: len(consumer.taken()) >= 41, "the consumer gets what it missed")
        client.ingest("reading", rich_rows(20, 1))
        wait_for(lambda: len(consumer.taken()) >= 43, "it gets what is new")
        assert server.stop() == 0
    in_order(consumer.taken(), lines(store, tmp_path), repeated=0)
    with Server(store, *arguments) as server, lineament.connect(server.url) as client:
        client.ingest("reading", rich_rows(21, 1))
        wait_for(lambda: len(consumer.taken()) >= 45, "another server goes on at the cursor")
    (tmp_path / "whole.jsonl").unlink()
    (tmp_path / "whole.jsonl.cursor").unlink()
    in_order(consumer.taken(), lines(store, tmp_path), repeated=0)


def test_a_store_may_go_by_a_name(store, tmp_path):
    file = tmp_path / "named.jsonl"
    run(store, "emit", "--to", file, "--authority", "features.example.org")
    named = [json.loads(line) for line in file.read_text().splitlines()]
    ingests = [event for event in named if event.get("job", {}).get("name") == "ingest.reading"]
    assert {event["job"]["namespace"] for event in ingests} == {"lineament://features.example.org"}
    assert "`a b` is no authority" in fails(store, "emit", "--to", file, "--authority", "a b")
    assert "not to kafka://" in fails(store, "emit", "--to", "kafka://broker")
