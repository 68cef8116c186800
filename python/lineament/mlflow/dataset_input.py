"""A training set as MLflow's dataset input of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pyarrow

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

SOURCE_TYPE = "lineament"
DIGEST_TAG = "lineament.digest"
CONTEXT_TAG = "mlflow.data.context"
#: What MLflow calls the roles, where it has words for them.
CONTEXTS = {
    "train": "training",
    "unknown": "training",
    "validate": "validation",
    "test": "testing",
    "score": "scoring",
}
ROLES = {"training": "train", "validation": "validate", "testing": "test", "scoring": "score"}

# MLflow's own limits, in characters.
_NAME = 500
_SCHEMA = 1_048_575
_PROFILE = 16_777_215


@dataclass(frozen=True)
class RecordedSet:
    """What is told to MLflow of a recorded training set. None of it is computed from the rows."""

    id: str
    #: The server that has it, `grpc://host:port`.
    url: str
    #: `lmt1:…`; MLflow's own digest field holds the id, for a content digest does not fit.
    digest: str
    sequence: int | None = None
    name: str | None = None
    schema: pyarrow.Schema | None = field(default=None, compare=False)
    #: How it was asked for, by which the same can be asked of other rows.
    profile: Mapping[str, Any] | None = field(default=None, compare=False)

    @property
    def uri(self) -> str:
        return f"lineament://{urlsplit(self.url).netloc}/training-sets/{self.id}"

    def source(self) -> dict[str, Any]:
        return {"uri": self.uri, "digest": self.digest, "sequence": self.sequence}


def dataset_input(recorded: RecordedSet, role: str) -> DatasetInput:
    """The input as MLflow's client sends it. Imports MLflow."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    schema = None if recorded.schema is None else json.dumps({"mlflow_colspec": columns(recorded.schema)})
    profile = None if recorded.profile is None else json.dumps(recorded.profile, ensure_ascii=False)
    dataset = Dataset(
        name=recorded.name if recorded.name and len(recorded.name) <= _NAME else recorded.id,
        digest=recorded.id,
        source_type=SOURCE_TYPE,
        source=json.dumps(recorded.source()),
        schema=schema if schema is not None and len(schema) <= _SCHEMA else None,
        profile=profile if profile is not None and len(profile) <= _PROFILE else None,
    )
    tags = {CONTEXT_TAG: CONTEXTS.get(role, role), DIGEST_TAG: recorded.digest}
    return DatasetInput(dataset, [InputTag(key, value) for key, value in tags.items()])


def columns(schema: pyarrow.Schema) -> list[dict[str, Any]]:
    """The columns in the words of MLflow's model signatures."""
    return [{**_type(column.type), "name": column.name, "required": False} for column in schema]


def _type(kind: pyarrow.DataType) -> dict[str, Any]:
    types = pyarrow.types
    if types.is_dictionary(kind):
        return _type(kind.value_type)
    if types.is_boolean(kind):
        return {"type": "boolean"}
    if types.is_integer(kind):
        # An unsigned 32-bit number needs the longer type; an unsigned 64-bit one has no better.
        return {"type": "long" if kind.bit_width == 64 or kind == pyarrow.uint32() else "integer"}
    if types.is_float16(kind) or types.is_float32(kind):
        return {"type": "float"}
    if types.is_float64(kind):
        return {"type": "double"}
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return {"type": "string"}
    if any(
        test(kind)
        for test in (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    ):
        return {"type": "binary"}
    if types.is_timestamp(kind) or types.is_date(kind):
        return {"type": "datetime"}
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return {"type": "array", "items": _type(kind.value_type)}
    # Decimals, times of day, maps and structs have no type there that would say what they are.
    return {"type": "any"}
