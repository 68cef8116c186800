"""From a registered model back to its features, whatever became of its run, its alias and its name."""

import json
import time

import lineament
import mlflow
import numpy
import pandas
import pyarrow
import pytest
import readings
from lineament.mlflow.outbox import OUTBOX
from lineament.mlflow.recipe import Recipe
from mlflow.models import infer_signature

REFERENCES = ["reading.value", "reading.grade"]
FEATURES = (("value", "reading@1.value"), ("grade", "reading@1.grade"))


class Doubled(mlflow.pyfunc.PythonModel):
    """Predicts twice the value; of several columns, the sum."""

    def predict(self, context, model_input, params=None):
        return 2 * model_input.select_dtypes("number").sum(axis=1)


class Two(mlflow.pyfunc.PythonModel):
    """Two answers a row."""

    def predict(self, context, model_input, params=None):
        return pandas.DataFrame({"low": model_input["value"] - 1, "high": model_input["value"] + 1})


class Short(mlflow.pyfunc.PythonModel):
    """One row too few."""

    def predict(self, context, model_input, params=None):
        return numpy.zeros(len(model_input) - 1)


def retrieve(client, references=REFERENCES, **options) -> lineament.TrainingSet:
    return client.get_historical_features(readings.spine(), references, **options)


def settled() -> None:
    until = time.monotonic() + 30
    while [one for one in OUTBOX.waiting() if not one.failed]:
        lineament.mlflow.flush()
        assert time.monotonic() < until, lineament.mlflow.pending()


def log(model=None, columns=("value",), name=None):
    example = pandas.DataFrame({column: [1.0] for column in columns})
    signature = None if not columns else infer_signature(example, numpy.array([1.0]))
    return mlflow.pyfunc.log_model(
        name="model",
        python_model=model or Doubled(),
        signature=signature,
        pip_requirements=[],
        registered_model_name=name,
    )


def trained(client, name=None, references=REFERENCES, model=None, columns=("value",), **options):
    """A run that retrieves a set and logs a model: as any training script does."""
    with mlflow.start_run() as run:
        training_set = retrieve(client, references, **options)
        logged = log(model, columns, name)
    settled()
    return run, training_set, logged


@pytest.fixture
def registry():
    return mlflow.MlflowClient()


def test_every_way_to_name_a_model(tracked, registry):
    run, training_set, logged = trained(tracked, "ways", ttl={"reading": "1h"}, full_feature_names=True)
    registry.set_registered_model_alias("ways", "champion", logged.registered_model_version)
    ways = [
        "models:/ways@champion",
        f"models:/ways/{logged.registered_model_version}",
        f"models:/{logged.model_id}",
        f"runs:/{run.info.run_id}",
        f"runs:/{run.info.run_id}/model",
        ["models:/ways@champion"],
        training_set,
    ]
    for features in ways:
        again = tracked.get_historical_features(readings.spine(), features)
        # The same features, the same names, the same look-back: the same content.
        assert again.digest == training_set.digest, features
        assert again.id != training_set.id
    # What the call says itself comes first.
    longer = tracked.get_historical_features(readings.spine(), ways[0], ttl={"reading": "2h"})
    assert longer.to_arrow()["reading__value"].to_pylist() == readings.VALUES


@pytest.mark.parametrize(
    "options",
    [{}, {"ttl": {"reading": "45m"}}, {"known_by": "2024-01-01T11:45:00Z"}, {"full_feature_names": True}],
    ids=lambda options: next(iter(options), "none"),
)
def test_the_manifest_and_what_is_logged_say_the_same(tracked, relay, options):
    training_set = retrieve(tracked, **options)
    by_store = Recipe.of(tracked, training_set.id)
    assert relay.bodies("lineament.manifest")[-1:] in ([{"training_set": training_set.id}], [])
    logged = Recipe.of_profile(training_set.id, training_set.asked)
    assert by_store.features == logged.features and by_store.known_by == logged.known_by
    assert (
        by_store.full_feature_names == logged.full_feature_names == options.get("full_feature_names", False)
    )
    # The manifest has the ttl that was in force; what is logged, the one that was asked for.
    assert by_store.ttl == {"reading": "2h", **logged.ttl}
    for recipe in (by_store, logged):
        assert tracked._retrieve_as(recipe, readings.spine()).digest == training_set.digest


def test_a_server_without_manifests(tracked, relay):
    relay.without.add("lineament.manifest")
    run, training_set, _ = trained(tracked, ttl={"reading": "45m"})
    again = tracked.get_historical_features(readings.spine(), f"runs:/{run.info.run_id}")
    assert again.digest == training_set.digest
    with pytest.raises(lineament.NotFound, match="how training set .* was asked for is not known"):
        tracked.get_historical_features(readings.spine(), tracked.training_set(training_set.id))


def test_scored_rows(tracked, relay, registry):
    _, training_set, logged = trained(tracked, "scored")
    registry.set_registered_model_alias("scored", "champion", logged.registered_model_version)
    with mlflow.start_run() as scoring:
        predictions = tracked.score_batch("models:/scored@champion", readings.spine())
    expected = [None if value is None else 2 * value for value in readings.VALUES]
    given = predictions.to_arrow()
    # What is null was NaN to the model, whose sum of nothing is 0.
    assert given["prediction"].to_pylist() == [0.0 if value is None else value for value in expected]
    assert given.column_names == ["label", "sensor", "at", "value", "grade", "prediction"]
    assert (predictions.model.uri, predictions.model.version) == (
        f"models:/scored/{logged.registered_model_version}",
        "1",
    )
    assert predictions.features.digest == training_set.digest
    assert tracked.explain(predictions.features, row=0, column="value").value == "1.0"
    assert relay.retrievals[-1]["lineament-role"] == "score"
    roles = tracked.sql("SELECT role FROM lineament.uses ORDER BY at DESC LIMIT 1").to_arrow()["role"].to_pylist()
    assert roles == ["score"]
    settled()
    (given,) = mlflow.get_run(scoring.info.run_id).inputs.dataset_inputs
    assert {tag.key: tag.value for tag in given.tags}["mlflow.data.context"] == "scoring"
    # A model is not what it was last used on: the scored rows are no training set of the run.
    with pytest.raises(lineament.InvalidRequest, match="already; name the predictions by output="):
        tracked.score_batch("models:/scored@champion", given_spine("prediction"))
    assert "p" in tracked.score_batch("models:/scored@champion", readings.spine(), output="p").column_names


def given_spine(extra: str) -> pyarrow.Table:
    return readings.spine().append_column(extra, pyarrow.array([1.0] * readings.spine().num_rows))


def test_what_a_model_takes_and_gives(tracked):
    run, _, _ = trained(tracked, columns=("value", "extra"))
    uri = f"runs:/{run.info.run_id}"
    with pytest.raises(lineament.InvalidRequest, match="wants the column.s. extra"):
        tracked.score_batch(uri, readings.spine())
    sums = tracked.score_batch(uri, given_spine("extra")).to_arrow()["prediction"].to_pylist()
    assert sums[0] == 2 * (1.0 + 1.0)
    run, _, _ = trained(tracked, model=Two(), columns=())
    both = tracked.score_batch(f"runs:/{run.info.run_id}", readings.spine(), columns=["value"])
    assert both.outputs == ["prediction_low", "prediction_high"]
    assert both.to_arrow()["prediction_high"].to_pylist()[0] == 2.0
    run, _, _ = trained(tracked, model=Short())
    with pytest.raises(lineament.Error, match="12 predictions for 13 rows"):
        tracked.score_batch(f"runs:/{run.info.run_id}", readings.spine())


def test_an_alias_that_moves(tracked, registry):
    _, _, first = trained(tracked, "moving")
    _, _, second = trained(tracked, "moving", ["reading.quality"], columns=("quality",))
    for version, column in ((first, "value"), (second, "quality"), (first, "value")):
        registry.set_registered_model_alias("moving", "champion", version.registered_model_version)
        assert (
            column
            in tracked.get_historical_features(readings.spine(), "models:/moving@champion").column_names
        )
    registry.delete_registered_model_alias("moving", "champion")
    with pytest.raises(lineament.NotFound, match="champion"):
        tracked.get_historical_features(readings.spine(), "models:/moving@champion")


def test_a_model_registered_again_under_its_name(tracked, registry):
    trained(tracked, "again")
    registry.delete_registered_model("again")
    trained(tracked, "again", ["reading.quality"], columns=("quality",))
    features = tracked.get_historical_features(readings.spine(), "models:/again/1").features
    assert [feature.reference for feature in features] == ["reading@1.quality"]


def test_a_run_that_was_deleted_and_collected(tracked, registry, tracking):
    run, training_set, logged = trained(tracked, "kept")
    mlflow.delete_run(run.info.run_id)
    # Deleted is only hidden.
    assert tracked.get_historical_features(readings.spine(), "models:/kept/1").digest == training_set.digest
    tracking.collect()
    with pytest.raises(mlflow.MlflowException, match="not found"):
        mlflow.get_run(run.info.run_id)
    # The store has what it was told.
    assert tracked.get_historical_features(readings.spine(), "models:/kept/1").digest == training_set.digest


def test_a_model_of_a_run_below(tracked):
    with mlflow.start_run():
        training_set = retrieve(tracked)
        with mlflow.start_run(nested=True):
            logged = log()
    settled()
    again = tracked.get_historical_features(readings.spine(), f"models:/{logged.model_id}")
    assert again.digest == training_set.digest


def test_several_sets_of_one_run(tracked):
    with mlflow.start_run() as same:
        retrieve(tracked)
        tracked.get_historical_features(readings.spine().slice(0, 5), REFERENCES)
    with mlflow.start_run() as other:
        first = retrieve(tracked)
        second = retrieve(tracked, ["reading.quality"])
    with mlflow.start_run() as tested:
        retrieve(tracked)
    trained_on = retrieve(tracked, ["reading.quality"])
    tracked.use(trained_on, run=tested, role="test")
    settled()
    assert len(tracked.get_historical_features(readings.spine(), f"runs:/{same.info.run_id}").features) == 2
    with pytest.raises(lineament.InvalidRequest, match="different features") as error:
        tracked.get_historical_features(readings.spine(), f"runs:/{other.info.run_id}")
    assert first.id in str(error.value) and second.id in str(error.value)
    # What a model was tested on is not what it was trained on.
    features = tracked.get_historical_features(readings.spine(), f"runs:/{tested.info.run_id}").features
    assert [feature.reference for feature in features] == ["reading@1.value", "reading@1.grade"]


def test_an_input_that_was_edited(tracked, registry):
    with mlflow.start_run() as run:
        retrieve(tracked)
    settled()
    with mlflow.start_run() as forged:
        pass
    (given,) = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    tags = [mlflow.entities.InputTag("lineament.digest", "lmt1:blake3:" + "0" * 64)]
    registry.log_inputs(forged.info.run_id, [mlflow.entities.DatasetInput(given.dataset, tags)])
    with pytest.raises(lineament.InvalidRequest, match="the input was changed in MLflow"):
        tracked.get_historical_features(readings.spine(), f"runs:/{forged.info.run_id}")
    elsewhere = mlflow.entities.Dataset(
        "x", "01a00000-0000-7000-8000-000000000000", "lineament", json.dumps({"uri": "x"})
    )
    with mlflow.start_run() as foreign:
        registry.log_inputs(foreign.info.run_id, [mlflow.entities.DatasetInput(elsewhere, [])])
    with pytest.raises(lineament.NotFound, match="does not have; connect to the store that does"):
        tracked.get_historical_features(readings.spine(), f"runs:/{foreign.info.run_id}")


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        ("models:/unheard@champion", lineament.NotFound, "unheard"),
        ("models:/unheard/1", lineament.NotFound, "unheard"),
        ("models:/unheard", lineament.InvalidRequest, "names no version"),
        ("models:/unheard/latest", lineament.InvalidRequest, "names no version"),
        ("models:/m-" + "0" * 32, lineament.NotFound, "0000"),
        ("runs:/" + "0" * 32, lineament.NotFound, "0000"),
    ],
)
def test_models_that_are_not_there(tracked, uri, error, message):
    with pytest.raises(error, match=message):
        tracked.get_historical_features(readings.spine(), uri)


def test_a_run_without_a_set(tracked):
    with mlflow.start_run() as run:
        log()
    with pytest.raises(lineament.NotFound, match="linked to no training set"):
        tracked.get_historical_features(readings.spine(), f"runs:/{run.info.run_id}")


def test_a_server_that_does_not_answer(tracked):
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(lineament.Unavailable, match="no MLflow server answers at http://127.0.0.1:9"):
        tracked.get_historical_features(readings.spine(), "models:/delay@champion")
    assert time.monotonic() - started < 10


# The last, for versions go on from here.
def test_the_version_of_training_and_not_the_one_in_force(tracked, client, relay):
    run, training_set, _ = trained(tracked)
    changed = {
        **readings.DEFINITIONS,
        "reading.toml": readings.DEFINITIONS["reading.toml"].replace('ttl = "2h"', 'ttl = "3h"'),
    }
    client.apply(changed, reason="they come later now")
    now = retrieve(tracked)
    assert now.features[0].reference == "reading@2.value"
    again = tracked.get_historical_features(readings.spine(), f"runs:/{run.info.run_id}")
    assert [feature.reference for feature in again.features] == ["reading@1.value", "reading@1.grade"]
    assert again.digest == training_set.digest != now.digest
