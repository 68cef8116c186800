"""MLflow's entry point `mlflow.dataset_source`: from a dataset input back to the rows."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from mlflow.data.dataset_source import DatasetSource

from ..client import connect
from ..errors import Damaged, InvalidRequest
from ..training_set import TrainingSet
from .dataset_input import SOURCE_TYPE


class TrainingSetSource(DatasetSource):
    """A recorded training set: `lineament://<host:port>/training-sets/<id>`.

    >>> from lineament.mlflow.dataset_source import TrainingSetSource
    >>> uri = f"lineament://{url.removeprefix('grpc://')}/training-sets/{training_set.id}"
    >>> source = TrainingSetSource.from_dict({"uri": uri})
    >>> source.load().digest == training_set.digest
    True
    """

    def __init__(self, uri: str, digest: str | None = None, sequence: int | None = None) -> None:
        parts = urlsplit(uri)
        folder, _, id = parts.path.removeprefix("/").rpartition("/")
        if parts.scheme != "lineament" or not parts.netloc or folder != "training-sets" or not id:
            raise InvalidRequest(
                f"{uri!r} is no training set; one is lineament://<host:port>/training-sets/<id>"
            )
        self.uri = uri
        self.digest = digest
        self.sequence = sequence
        self.id = id
        self._address = parts.netloc

    def load(self, url: str | None = None) -> TrainingSet:
        """The rows again: rebuilt by the store from the id, and proved by the digest.

        `url`: where the store is served now; else LINEAMENT_URL, else the address at which it was retrieved.
        Raises `Damaged` where the rows are not those that the run was given, `NotFound` where that store has
        no such set.
        """
        with connect(url or os.environ.get("LINEAMENT_URL") or f"grpc://{self._address}") as client:
            training_set = client.training_set(self.id)
        if self.digest is not None and training_set.digest != self.digest:
            raise Damaged(
                f"training set {self.id} has the digest {training_set.digest}, but the run was given "
                f"{self.digest}; "
                "its dataset input was changed, or this is another store"
            )
        return training_set

    def __repr__(self) -> str:
        return f"<TrainingSetSource {self.uri}>"

    @staticmethod
    def _get_source_type() -> str:
        return SOURCE_TYPE

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return isinstance(raw_source, str) and raw_source.startswith("lineament://")

    @classmethod
    def _resolve(cls, raw_source: Any) -> TrainingSetSource:
        return cls(raw_source)

    def to_dict(self) -> dict[str, Any]:
        return {"uri": self.uri, "digest": self.digest, "sequence": self.sequence}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> TrainingSetSource:
        return cls(source_dict.get("uri", ""), source_dict.get("digest"), source_dict.get("sequence"))
