"""From a model back to the features that it was trained on, and forward to predictions on new rows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow

from ..errors import Error, Forbidden, InvalidRequest, NotFound, Unavailable
from ..quoting import literal
from ..rows import Rows, preview
from ..training_set import TrainingSet
from .dataset_input import CONTEXT_TAG, DIGEST_TAG, SOURCE_TYPE
from .linking import retrieved_for
from .outbox import Unwritable, check_reachable
from .pending import TAG
from .recipe import Recipe

_MODEL = re.compile(r"\A(models|runs):/(?!/)(.+)\Z", re.DOTALL)
_LOGGED_MODEL = re.compile(r"\Am-[0-9a-f]{32}\Z")
_PARENT = "mlflow.parentRunId"
# A parent of a parent of a … is followed so far; MLflow itself shows fewer.
_GENERATIONS = 16

_T = TypeVar("_T")


@dataclass(frozen=True)
class ModelReference:
    """A model of MLflow, pinned: the alias that named it may move the next moment."""

    #: As it was asked for: `models:/delay@champion`.
    asked: str
    #: The run that made it.
    run: str
    #: What MLflow loads it by, without an alias: `models:/delay/3`, `models:/m-…`. None for a run without one
    #: model.
    uri: str | None = None
    #: The registered model's name and version, where it is one.
    name: str | None = None
    version: str | None = None


class Predictions(Rows):
    """The rows that were scored, in their order: the spine, the features, and what the model says of them."""

    def __init__(
        self, table: pyarrow.Table, training_set: TrainingSet, model: ModelReference, outputs: list[str]
    ) -> None:
        super().__init__(table)
        #: The features that the model was given, recorded as any others: `client.explain(features, …)` works.
        self.features = training_set
        #: The model, with the version that the alias meant.
        self.model = model
        #: The columns that the model made.
        self.outputs = outputs

    def __repr__(self) -> str:
        return f"{self._title()} by {self.model.uri} for {self.model.asked}\n{preview(self._table)}"


def recipe_of(client: Any, features: Any) -> Recipe | None:
    """How to retrieve what a model of MLflow, or another training set, stands for; None where features are
    named themselves."""
    if isinstance(features, TrainingSet):
        return Recipe.of_set(client, features)
    if isinstance(features, Sequence) and not isinstance(features, str) and len(features) == 1:
        features = features[0]
    if isinstance(features, str) and _MODEL.match(features):
        return _recipe(client, _resolved(features))
    return None


def score_batch(
    client: Any,
    model: str,
    entity_df: Any,
    *,
    output: str,
    columns: Sequence[str] | None,
    options: Mapping[str, Any],
) -> Predictions:
    pinned = _resolved(model)
    if pinned.uri is None:
        raise InvalidRequest(
            f"{model} names a run that has no model, or several; name one, as runs:/<run id>/<path>"
        )
    loaded = _asked(lambda mlflow: mlflow.pyfunc.load_model(pinned.uri))
    recipe = _recipe(client, pinned)
    with retrieved_for("score"):
        training_set = client._retrieve_as(recipe, entity_df, **options)
    table = training_set.to_arrow()
    wanted = list(columns) if columns is not None else _inputs(loaded, recipe, table)
    missing = [name for name in wanted if name not in table.column_names]
    if missing:
        raise InvalidRequest(
            f"{pinned.uri} wants the column(s) {', '.join(missing)}, which are neither in entity_df nor "
            "among the features of "
            f"training set {recipe.training_set}; add them to entity_df, or name the model's columns by "
            "columns=[…]"
        )
    try:
        answer = loaded.predict(training_set.to_df()[wanted])
    except Exception as error:
        raise InvalidRequest(
            f"{pinned.uri} cannot predict from these rows ({type(error).__name__}: {error}); "
            "null features are what models mostly refuse: null_reasons says why there are any"
        ) from error
    predicted = _predicted(answer, output, table.num_rows)
    doubled = [name for name in predicted if name in table.column_names]
    if doubled:
        raise InvalidRequest(f"there is a column `{doubled[0]}` already; name the predictions by output=")
    for name, values in predicted.items():
        table = table.append_column(name, values)
    return Predictions(table.replace_schema_metadata(None), training_set, pinned, list(predicted))


# ---------------------------------------------------------------------- model to run


def _resolved(uri: str) -> ModelReference:
    found = _MODEL.match(uri)
    if found is None:
        raise InvalidRequest(
            f"{uri!r} is no model; one is models:/<name>@<alias>, models:/<name>/<version>, models:/<model "
            "id> or runs:/<run id>"
        )
    kind, rest = found.groups()
    rest = rest.rstrip("/")
    if kind == "runs":
        run, _, path = rest.partition("/")
        return ModelReference(uri, run, f"runs:/{run}/{path}" if path else _model_of_run(run))
    if _LOGGED_MODEL.match(rest):
        return ModelReference(uri, _run_of_logged_model(rest, uri), f"models:/{rest}")
    name, at, alias = rest.rpartition("@")
    if at:
        version = _asked(lambda mlflow: mlflow.MlflowClient().get_model_version_by_alias(name, alias))
    else:
        name, slash, number = rest.rpartition("/")
        if not slash or not number.isdecimal():
            raise InvalidRequest(
                f"{uri!r} names no version; write models:/<name>@<alias> or models:/<name>/<version>, for "
                "what is meant by "
                "a stage or by `latest` may change without a trace"
            )
        version = _asked(lambda mlflow: mlflow.MlflowClient().get_model_version(name, number))
    run = version.run_id
    if not run:
        logged = _MODEL.match(version.source or "")
        if logged is None or not _LOGGED_MODEL.match(logged[2]):
            raise NotFound(
                f"version {version.version} of {name} does not say which run made it (its source is "
                f"{version.source!r}); "
                "register models from a run, or name the features"
            )
        run = _run_of_logged_model(logged[2], uri)
    return ModelReference(uri, run, f"models:/{name}/{version.version}", name, str(version.version))


def _run_of_logged_model(id: str, uri: str) -> str:
    run = _asked(lambda mlflow: mlflow.MlflowClient().get_logged_model(id)).source_run_id
    if not run:
        raise NotFound(
            f"{uri} was not logged in a run, so nothing tells what it was trained on; name the features"
        )
    return run


def _run(id: str) -> Any:
    return _asked(lambda mlflow: mlflow.MlflowClient().get_run(id))


def _model_of_run(run: str) -> str | None:
    outputs = _run(run).outputs
    models = [] if outputs is None else [model.model_id for model in outputs.model_outputs]
    return f"models:/{models[0]}" if len(models) == 1 else None


# ---------------------------------------------------------------------- run to training set


def _recipe(client: Any, model: ModelReference) -> Recipe:
    found = _sets_of(client, model.run)
    if not found:
        raise NotFound(
            f"run {model.run}, which made {model.asked}, is linked to no training set, in MLflow or in the "
            "store; "
            "client.use(<training set>, run=…) links one"
        )
    # Several sets of the same features, as for training and validation, are one recipe.
    recipes = {id: Recipe.of(client, id, profile) for id, profile in found.items()}
    first, *others = recipes.values()
    if not all(first.same_features(other) for other in others):
        raise InvalidRequest(
            f"run {model.run}, which made {model.asked}, used training sets with different features: "
            f"{', '.join(recipes)}; "
            "name the features, or give the TrainingSet that is meant as features="
        )
    return first


def _sets_of(client: Any, run_id: str) -> dict[str, Mapping[str, Any] | None]:
    """The training sets of a run, with what was logged of each. A run without any has those of its parent, as
    a search over parameters retrieves once and trains in runs below."""
    run_ids = [run_id]
    for _ in range(_GENERATIONS):
        try:
            run = _run(run_ids[-1])
        except NotFound:
            # Collected; the store keeps what it was told.
            break
        found = _logged_sets(client, run)
        if found:
            return found
        parent = run.data.tags.get(_PARENT)
        if not parent or parent in run_ids:
            break
        run_ids.append(parent)
    for one in run_ids:
        known = _stored_sets(client, one)
        if known:
            return dict.fromkeys(known)
    return {}


def _logged_sets(client: Any, run: Any) -> dict[str, Mapping[str, Any] | None]:
    inputs = run.inputs.dataset_inputs if run.inputs is not None else []
    ours = [(one.dataset, {tag.key: tag.value for tag in one.tags}) for one in inputs]
    ours = [(dataset, tags) for dataset, tags in ours if dataset.source_type == SOURCE_TYPE]
    # What it was trained on, not what it was tested on or scored; another word than MLflow's is taken as
    # training.
    trained = [one for one in ours if one[1].get(CONTEXT_TAG, "training") in ("training", "train")]
    found: dict[str, Mapping[str, Any] | None] = {}
    for dataset, tags in trained or ours:
        _check_digest(client, dataset.digest, tags.get(DIGEST_TAG), run.info.run_id)
        found[dataset.digest] = _profile(dataset.profile)
    if not found:
        found = dict.fromkeys(filter(None, run.data.tags.get(TAG, "").split(",")))
    return found


def _check_digest(client: Any, id: str, digest: str | None, run: str) -> None:
    """That the store has the set, with the digest that the run was given."""
    rows = _select(client, f"SELECT digest FROM lineament.training_sets WHERE training_set = {literal(id)}")
    if not rows:
        raise NotFound(
            f"run {run} was given training set {id}, which the store at {client.url} does not have; connect "
            "to the store that does"
        )
    if digest is not None and rows[0]["digest"] != digest:
        raise InvalidRequest(
            f"run {run} says that training set {id} has the digest {digest}, but it has {rows[0]['digest']}; "
            "the input was changed "
            "in MLflow: correct it there, or name the features"
        )


def _stored_sets(client: Any, run: str) -> list[str]:
    """The training sets that the store knows of a run of MLflow."""
    views = _select(
        client,
        "SELECT 1 AS there FROM information_schema.tables "
        "WHERE table_schema = 'lineament' AND table_name = 'uses'",
    )
    query = (
        f"SELECT training_set FROM lineament.uses WHERE system = 'mlflow' AND external_id = {literal(run)} "
        "AND role IN ('train', 'unknown') ORDER BY \"at\" DESC"
        if views
        else f"SELECT training_set FROM lineament.training_sets WHERE run LIKE {literal(f'mlflow;%;{run}')} "
        "ORDER BY sequence DESC"
    )
    return list(dict.fromkeys(row["training_set"] for row in _select(client, query)))


def _profile(text: str | None) -> Mapping[str, Any] | None:
    try:
        profile = json.loads(text) if text else None
    except ValueError:
        return None
    return profile if isinstance(profile, dict) else None


def _select(client: Any, query: str) -> list[dict[str, Any]]:
    return client.sql(query).to_arrow().to_pylist()


# ---------------------------------------------------------------------- scoring


def _inputs(loaded: Any, recipe: Recipe, table: pyarrow.Table) -> list[str]:
    """The columns that the model wants: its signature's, else the features in the order that they were
    recorded in."""
    schema = loaded.metadata.get_input_schema()
    names = schema.input_names() if schema is not None and schema.has_input_names() else None
    if names is None:
        return [output for output, _ in recipe.features]
    required = set(schema.required_input_names())
    return [name for name in names if name in required or name in table.column_names]


def _predicted(answer: Any, output: str, rows: int) -> dict[str, pyarrow.Array]:
    """What a model of any flavour gave, as columns."""
    if hasattr(answer, "columns") and hasattr(answer, "items"):
        # One column is the prediction; several have names of their own.
        given = list(answer.items())
        columns = {output if len(given) == 1 else f"{output}_{name}": values for name, values in given}
    elif getattr(answer, "ndim", 1) == 2:
        width = answer.shape[1]
        columns = {output if width == 1 else f"{output}_{at}": answer[:, at] for at in range(width)}
    elif isinstance(answer, Mapping):
        columns = {f"{output}_{name}": values for name, values in answer.items()}
    else:
        columns = {output: answer}
    arrays = {}
    for name, values in columns.items():
        try:
            array = pyarrow.array(values)
        except (pyarrow.ArrowException, TypeError, ValueError) as error:
            raise InvalidRequest(f"the model's answer cannot stand in a table: {error}") from error
        arrays[name] = array.combine_chunks() if isinstance(array, pyarrow.ChunkedArray) else array
        if len(array) != rows:
            raise Error(f"the model gave {len(array):,} predictions for {rows:,} rows")
    return arrays


# ---------------------------------------------------------------------- MLflow


def _asked(question: Callable[[Any], _T]) -> _T:
    """What MLflow answers, with its errors as ours."""
    try:
        import mlflow
        import mlflow.pyfunc
    except ImportError as error:
        raise InvalidRequest(
            f"a model is asked for, and MLflow cannot be imported ({error}); pip install 'lineament[mlflow]'"
        ) from None
    with _as_ours(mlflow):
        check_reachable(mlflow.get_registry_uri() or mlflow.get_tracking_uri())
        check_reachable(mlflow.get_tracking_uri())
        return question(mlflow)


@contextmanager
def _as_ours(mlflow: Any) -> Iterator[None]:
    try:
        yield
    except mlflow.exceptions.MlflowException as error:
        kinds = {"RESOURCE_DOES_NOT_EXIST": NotFound, "NOT_FOUND": NotFound, "PERMISSION_DENIED": Forbidden}
        kinds |= {"TEMPORARILY_UNAVAILABLE": Unavailable, "INVALID_PARAMETER_VALUE": InvalidRequest}
        kind = kinds.get(error.error_code, Error)
        # An alias that is not there is an invalid parameter to MLflow.
        if kind is InvalidRequest and "not found" in error.message:
            kind = NotFound
        raise kind(f"MLflow: {error.message}") from error
    except Unwritable as error:
        raise Error(str(error)) from error
