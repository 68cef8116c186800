"""How a training set was asked for, by which the same features can be asked of other rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ..errors import Error, InvalidRequest, NotFound, without_action
from ..training_set import TrainingSet


@dataclass(frozen=True)
class Recipe:
    """The features of a training set with their versions, and the options that decide which values they
    have."""

    training_set: str
    #: `(output, reference)` in order, each reference with its version: `("temp", "weather@3.temp")`.
    features: tuple[tuple[str, str], ...]
    #: How far back was looked, by view, where it was not left to the view's version.
    ttl: Mapping[str, str] = field(default_factory=dict)
    #: The one instant that was the limit on what was known; None where each row's own time was.
    known_by: str | None = None

    @property
    def references(self) -> list[str]:
        return [reference for _, reference in self.features]

    @property
    def full_feature_names(self) -> bool:
        """Whether the columns are called `weather__temp` in place of `temp`."""
        return any(output != reference.rpartition(".")[2] for output, reference in self.features)

    def same_features(self, other: Recipe) -> bool:
        return (self.features, dict(self.ttl), self.known_by) == (
            other.features,
            dict(other.ttl),
            other.known_by,
        )

    def check(self, training_set: TrainingSet) -> None:
        """That a set has the columns of the recorded one, each of the same reference."""
        given = tuple((feature.output, feature.reference) for feature in training_set.features or [])
        if given != self.features:
            raise Error(
                f"training set {self.training_set} has the features {_listed(self.features)}, but "
                f"{_listed(given)} came; "
                "the server resolves references otherwise than when it was recorded"
            )

    @classmethod
    def of(cls, client: Any, training_set: str, profile: Mapping[str, Any] | None = None) -> Recipe:
        """The recipe of a recorded set: from the store's manifest, else from what was logged in MLflow with
        it.

        Raises `NotFound` where neither says it.
        """
        try:
            return cls.of_manifest(client._action("lineament.manifest", {"training_set": training_set}))
        except Error as error:
            if not without_action(error):
                raise
        recipe = None if profile is None else cls.of_profile(training_set, profile)
        if recipe is None:
            raise NotFound(
                f"how training set {training_set} was asked for is not known: the server at {client.url} "
                "does not give manifests, "
                "and the run's dataset input in MLflow does not say it either; name the features yourself"
            )
        return recipe

    @classmethod
    def of_set(cls, client: Any, training_set: TrainingSet) -> Recipe:
        """The recipe of a set that is at hand. What it does not say itself, the store does."""
        if training_set.id is None:
            raise InvalidRequest(
                "this training set was not recorded, so that its options are not known; name the features"
            )
        return cls.of(client, training_set.id, training_set.asked)

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any]) -> Recipe:
        """From the manifest of the set, as docs/format.md describes it."""
        references = manifest["references"]
        ttl = {
            view["label"].rpartition("@")[0]: view["ttl"]
            for view in manifest["views"]
            if view.get("ttl") is not None
        }
        return cls(
            training_set=manifest["id"],
            features=tuple((reference["output"], reference["resolved"]) for reference in references),
            ttl=ttl,
            known_by=_instant(manifest.get("knowledge")),
        )

    @classmethod
    def of_profile(cls, training_set: str, profile: Mapping[str, Any]) -> Recipe | None:
        """From the profile of a dataset input; None where it says too little."""
        features = profile.get("features")
        if not isinstance(features, list) or not features:
            return None
        try:
            pairs = tuple((str(feature["output"]), str(feature["reference"])) for feature in features)
        except (TypeError, KeyError):
            return None
        ttl = profile.get("ttl")
        return cls(training_set, pairs, ttl if isinstance(ttl, dict) else {}, profile.get("known_by"))


def profile(training_set: TrainingSet, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is logged in MLflow beside the columns: the recipe, the rows, and why cells are null."""
    features = [
        {"output": feature.output, "reference": feature.reference, "nulls": dict(feature.nulls)}
        for feature in training_set.features or []
    ]
    kept = {name: asked[name] for name in ("name", "at", "ttl", "known_by") if name in asked}
    return {"rows": training_set.num_rows, "features": features, **kept}


def _instant(knowledge: Any) -> str | None:
    """The one instant of a manifest's knowledge rule; microseconds of UTC inside, text outside."""
    if knowledge == "at_row":
        return None
    instant = knowledge.get("by") if isinstance(knowledge, Mapping) else None
    if isinstance(instant, int):
        instant = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant)).isoformat()
    if isinstance(instant, str):
        return instant.replace("+00:00", "Z")
    raise InvalidRequest(
        f"the training set was retrieved with the knowledge rule {knowledge!r}, which cannot be asked for "
        "from here"
    )


def _listed(features: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{reference} as {output}" for output, reference in features)
