"""A Feast repository, read by Feast itself. Its code is run, as `feast apply` runs it; nothing of it is
changed."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    import pandas


class Unreadable(InvalidRequest):
    """Feast is not here, or cannot read the repository; the message is its own."""


class Repository:
    """The definitions of a repository, and Feast's retrieval over them.

    `folder` holds `feature_store.yaml`, or a folder `feature_repo` that does. Raises `NotFound` where neither
    is so, `Unreadable` where Feast is not installed or fails.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        given = Path(folder)
        places = [given, given / "feature_repo"]
        found = [place for place in places if (place / "feature_store.yaml").is_file()]
        if not found:
            raise NotFound(
                f"there is no feature_store.yaml in {given}, nor in {places[1]}; name the folder of a Feast "
                f"repository"
            )
        #: The folder with `feature_store.yaml`; paths of sources start here.
        self.folder = found[0].resolve()
        with self._within():
            try:
                from feast.repo_operations import parse_repo
            except ImportError as error:
                raise Unreadable(
                    f"Feast's definitions are Python, which only Feast can read, and it is not installed "
                    f"here ({error}); install this "
                    "package into the environment where the repository is used"
                ) from None
            try:
                #: Feast's own objects, by kind.
                self.contents: Any = parse_repo(self.folder)
            except Exception as error:  # Whatever the repository's code raises.
                raise Unreadable(
                    f"Feast cannot read {self.folder}: {type(error).__name__}: {error}"
                ) from error

    def get_historical_features(
        self, entity_df: pandas.DataFrame, features: Sequence[str]
    ) -> pandas.DataFrame:
        """Feast's own answer, with full names. Its registry is a temporary one; what the repository uses is
        left alone."""
        from feast import FeatureStore
        from feast.repo_config import load_repo_config

        with self._within(), TemporaryDirectory() as scratch:
            config = load_repo_config(self.folder, self.folder / "feature_store.yaml")
            config = config.model_copy(
                update={
                    "registry_config": str(Path(scratch) / "registry.db"),
                    "online_config": {"type": "sqlite", "path": str(Path(scratch) / "online.db")},
                }
            )
            config.repo_path = self.folder
            # Both are made when they are first asked for.
            config._registry, config._online_store = None, None
            store = FeatureStore(config=config)
            objects = [
                *self.contents.data_sources, *self.contents.entities, *self.contents.feature_views,
                *getattr(self.contents, "label_views", []),
            ]  # fmt: skip
            store.apply([one for one in objects if not one.name.startswith("__dummy")])
            retrieved = store.get_historical_features(
                entity_df=entity_df, features=list(features), full_feature_names=True
            )
            return retrieved.to_df()

    @contextmanager
    def _within(self) -> Iterator[None]:
        """In the repository's folder, with its modules to import, as the `feast` command is."""
        before, path = Path.cwd(), list(sys.path)
        os.chdir(self.folder)
        sys.path.insert(0, str(self.folder))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            os.chdir(before)
            sys.path[:] = path
