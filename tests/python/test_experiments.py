"""Experiments, runs, models and deployments through the client, and what they reach."""

import json
from datetime import UTC, datetime, timedelta

import lineament
import pyarrow
import pytest
import readings
from program import run


def select(client, query):
    return client.sql(query).to_arrow().to_pylist()


def test_from_a_run_to_a_deployment(readings_client, server):
    client = readings_client.with_run(run="night-1", experiment="warmth")
    client.log_experiment("warmth", hypothesis="It gets warmer", owner="ada")
    training_set = client.get_historical_features(readings.spine(), ["reading.value"], name="warm")
    (use,) = select(client, f"SELECT * FROM lineament.uses WHERE training_set = '{training_set.id}'")
    assert (use["external_id"], use["role"], use["how"]) == ("night-1", "unknown", "explicit")
    client.log_run(
        "night-1", params={"depth": 6}, metrics={"auc": 0.75}, status="FINISHED",
        started_at=datetime(2024, 6, 1, 8, tzinfo=UTC), ended_at=datetime(2024, 6, 1, 9, tzinfo=UTC),
    )  # fmt: skip
    client.log_model("warm/1", aliases=["champion"])
    client.deploy("warm-api", "warm@champion", service="none")
    found = select(
        client,
        "SELECT metric, \"value\", role FROM lineament.feature_versions_by_run "
        f"WHERE training_set = '{training_set.id}'",
    )
    assert found == [{"metric": "auc", "value": 0.75, "role": "unknown"}]
    impact = client.impact("reading")
    assert (impact.deployments, impact.model_versions) == (1, 1)
    assert impact.cells_from == sum(row.cells_from for row in impact.rows) > 0
    assert select(client, "SELECT sum(cells_from) AS cells FROM impact('reading@1')") == [{"cells": impact.cells_from}]
    up = client.lineage("warm-api", up=True)
    assert up.complete and {"model_version", "run", "training_set", "batch", "feature"} <= up.kinds().keys()
    assert not client.lineage("warm-api", up=True, depth=1).complete
    day = [datetime.now(tz=UTC) + timedelta(days=days) for days in (0, 1)]
    client.log_metrics("warm-api", {"auc": 0.7}, since=day[0], until=day[1])
    assert select(client, "SELECT name, version, metric, \"value\", feature_versions FROM lineament.deployment_metrics") == [
        {"name": "warm-api", "version": "warm/1", "metric": "auc", "value": 0.7, "feature_versions": "reading@1"}
    ]
    client.deploy("warm-api", None)
    assert client.impact("reading").deployments == 0
    # What was so before it was told.
    client.deploy("warm-shadow", "warm/1", environment="test", since=datetime(2024, 6, 1, tzinfo=UTC))
    stretch = "SELECT \"from\", until FROM lineament.deployments WHERE name = 'warm-shadow'"
    assert select(client, stretch) == [{"from": datetime(2024, 6, 1, tzinfo=UTC), "until": None}]
    client.deploy("warm-shadow", None, environment="test")
    # The same on the command line, of the same store.
    told = run(server.store, "lineage", "warm-api", "--up")
    assert "model version warm/1   serves" in told and "training set warm   used" in told, told
    assert "1 model version, 0 deployments in force" in run(server.store, "impact", "reading")
    # What the model was made of has to stay, also when it serves no more.
    kept = run(server.store, "lineage", "reading@1", "--kept-by")
    assert "└─ model version warm/1   from run night-1, training set warm" in kept, kept
    assert "└─ nothing" in run(server.store, "lineage", "warm/1", "--kept-by")
    dot = run(server.store, "lineage", "reading", "--format", "dot")
    assert dot.startswith("digraph") and "training_set:" in dot
    # As JSON both ways; each step is a node, with the edge and the place of the step that it was reached by.
    told = json.loads(run(server.store, "lineage", "reading", "--format", "json"))
    assert told.keys() == {"up", "down"}
    steps = told["down"]["steps"]
    assert (steps[0]["depth"], steps[0]["from"], steps[0]["edge"]) == (0, None, None)
    assert all(step["edge"] and steps[step["from"]]["depth"] == step["depth"] - 1 for step in steps[1:])
    assert ("training_set", "warm") in {(step["kind"], step["label"]) for step in steps}


def test_a_batch_is_taken_back_and_put_back(readings_client, server):
    client = readings_client
    training_set = client.get_historical_features(readings.spine(), ["reading.value"], name="before")
    (batch, *_) = [row["batch"] for row in select(client, "SELECT batch FROM lineament.batches ORDER BY sequence")]
    held = lambda: client.sql("SELECT count(*) AS rows FROM reading").to_arrow()["rows"][0].as_py()
    rows = held()
    would = client.rollback(batch)
    assert would.sequence is None and would.impact.cells_from > 0 and "would be withdrawn" in repr(would)
    assert held() == rows
    done = client.rollback(batch, reason="the sensor read °C")
    assert [one.id for one in done.moved] == [batch] and done.sequence is not None
    assert held() < rows
    assert client.replay(training_set.id).equal
    after = client.get_historical_features(readings.spine(), ["reading.value"])
    assert {change.cause for change in client.diff(training_set.id, after.id).changes} == {"withdrawn"}
    dangling = select(client, "SELECT id, problem FROM lineament.dangling WHERE problem LIKE '%withdrew%'")
    assert training_set.id in [one["id"] for one in dangling]
    assert all("the sensor read °C" in one["problem"] for one in dangling)
    with pytest.raises(lineament.InvalidRequest, match="withdrawn already"):
        client.rollback(batch, reason="again")
    # The same on the command line, of the same store.
    told = run(server.store, "rollback", batch, "--undo")
    assert "would be restored" in told and "--reason" in told, told
    assert "restored, at sequence" in run(server.store, "rollback", batch, "--undo", "--reason", "it was °F")
    assert held() == rows
    told = select(client, "SELECT what, reason FROM lineament.withdrawals")
    assert [row["what"] for row in told] == ["withdrawn", "restored"]
    with pytest.raises(lineament.InvalidRequest, match="only version"):
        client.rollback("reading@1", reason="why not")


def test_what_is_wrong_is_said(readings_client):
    with pytest.raises(lineament.NotFound, match="did you mean"):
        readings_client.impact("raeding")
    with pytest.raises(lineament.InvalidRequest, match="is no model version"):
        readings_client.log_model("warm")
    with pytest.raises(lineament.NotFound, match="there is no model version `cold/1`"):
        readings_client.deploy("cold-api", "cold/1")
    with pytest.raises(lineament.InvalidRequest, match="has no zone"):
        readings_client.log_run("night-2", started_at=datetime(2024, 6, 1))
    with pytest.raises(lineament.InvalidRequest, match="is written mlflow;"):
        readings_client.with_run(run="mlflow;x;y").get_historical_features(readings.spine(), ["reading.*"])


def test_a_derived_view(readings_client, server):
    client = readings_client
    client.apply({
        "sensor.toml": readings.DEFINITIONS["sensor.toml"],
        "doubled.toml": readings.doubled(),
    })  # fmt: skip
    (first,) = client.refresh("doubled")
    assert first.parents == ["reading@1"] and first.rows == first.computed > 0
    # From feature to feature, in both directions.
    assert "feature reading@1.value   derives" in run(server.store, "lineage", "doubled@1.twice", "--up")
    assert "feature doubled@1.twice   derives" in run(server.store, "lineage", "reading@1.value", "--down")
    (again,) = client.refresh()
    assert again.sequence is None and "nothing new" in repr(again)
    asked = client.get_historical_features(readings.spine(), ["doubled.twice"], record=False).to_arrow()
    # The ttl is the parent's affair.
    assert asked["twice"].to_pylist()[:4] == [2 * value for value in readings.VALUES[:4]]
    why = client.explain_value("doubled.twice", {"sensor": "a"}, readings.clock("13:00"))
    query = "SELECT sensor, valid_at, known_at, 2 * value AS twice FROM history('reading')"
    assert why.winner.sql == query and query in repr(why) and "2 * value" in why._repr_html_()
    told = run(
        server.store, "explain", "--feature", "doubled.twice", "--key", "sensor=a", "--at", "2024-01-01T13:00:00Z",
    )  # fmt: skip
    assert f"query   {query}\n" in told, told
    of_reading = client.explain_value("reading.value", {"sensor": "a"}, readings.clock("13:00"))
    assert of_reading.winner.sql is None
    with pytest.raises(lineament.InvalidRequest, match="is not derived"):
        client.refresh("reading")
    with pytest.raises(lineament.InvalidRequest, match="lineament refresh doubled"):
        client.ingest("doubled", pyarrow.table({"sensor": ["a"]}))
