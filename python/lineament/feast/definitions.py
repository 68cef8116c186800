"""Feast's objects as our definitions, and what has no counterpart.

Feast is not imported here: its objects are looked at by their attributes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
from pyarrow import types

from ..definition import feature_type, quoted, valid_name
from ..spans import span

#: Feast's value types, and ours.
_TYPES = {
    "BOOL": "bool", "BYTES": "binary", "DOUBLE": "float64", "FLOAT": "float32", "INT32": "int32", "INT64": "int64",
    "STRING": "string", "UNIX_TIMESTAMP": "timestamp", "JSON": "string", "UUID": "string",
}  # fmt: skip
_KEY_TYPES = {name: ours for name, ours in _TYPES.items() if not ours.startswith("float")}


@dataclass(frozen=True)
class Note:
    """Something of the repository that is not here as it is there."""

    #: Kind and name, as in `feature view driver_stats`.
    subject: str
    text: str
    #: Whether it is missing here altogether.
    lost: bool = False

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"


@dataclass(frozen=True)
class SourceFile:
    """The file behind a view, and the columns of it that the view takes."""

    #: Our name of the view.
    view: str
    #: Feast's.
    feast_view: str
    path: str
    time: str
    #: Feast's tie-breaker among rows of one entity and time: the latest wins.
    created: str | None
    #: Key columns in the file, as they are called there.
    keys: list[str]
    #: Their names in the entity.
    join_keys: list[str]
    #: Feature by Feast's name: our name, the column in the file, our type.
    features: dict[str, tuple[str, str, str]]
    ttl: timedelta | None = None


@dataclass(frozen=True)
class DefinedView:
    """A view as it is defined here, whether its source is a file or not."""

    #: Our name of it.
    name: str
    #: Our names of its features, by Feast's.
    features: dict[str, str]


@dataclass
class Translation:
    """Definitions that say what the repository says."""

    #: TOML by file name.
    files: dict[str, str] = field(default_factory=dict)
    sources: list[SourceFile] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    _defined: set[tuple[str, str]] = field(default_factory=set)

    def write(self, folder: Path) -> list[Path]:
        """Writes the files into a folder, over what is there of the same names."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for name, text in self.files.items():
            (folder / name).write_text(text, encoding="utf-8")
            written.append(folder / name)
        return written

    def note(self, subject: str, text: str, *, lost: bool = False) -> None:
        self.notes.append(Note(subject, text, lost))

    def define(self, subject: str, kind: str, name: str, text: str) -> bool:
        """Takes a definition, unless another of its kind has its name here."""
        if (kind, name) in self._defined:
            self.note(subject, f"left out: its name here is `{name}`, which another {kind} has already", lost=True)
            return False
        self._defined.add((kind, name))
        file = f"{name}.toml" if kind == "feature view" else f"{kind}_{name}.toml"
        # A view may be called as the file of an entity is.
        self.files[f"{kind.replace(' ', '_')}.{file}" if file in self.files else file] = text
        return True


def translate(contents: Any, folder: Path) -> Translation:
    """What a repository's objects are in our definitions. `folder`: where paths of sources start."""
    done = Translation()
    entities = {entity.name: entity for entity in contents.entities if not entity.name.startswith("__dummy")}
    views: dict[str, DefinedView | None] = {}
    kinds = (
        ("feature view", contents.feature_views),
        ("stream feature view", contents.stream_feature_views),
        ("label view", getattr(contents, "label_views", [])),
    )
    keys: dict[tuple[str, ...], tuple[str, list[str]]] = {}
    for kind, found in kinds:
        for view in sorted(found, key=lambda view: view.name):
            views[view.name] = _view(done, kind, view, entities, keys, folder)
    for service in sorted(contents.feature_services, key=lambda service: service.name):
        _service(done, service, views)
    for view in contents.on_demand_feature_views:
        done.note(
            f"on-demand feature view {view.name}",
            "its Python function has no counterpart; what it makes of features alone can be a derived view "
            "(`[derived] sql`), and what "
            "it makes of request values is computed by the caller",
            lost=True,
        )
    for permission in contents.permissions:
        done.note(f"permission {permission.name}", "who may call is a matter of the server", lost=True)
    for project in contents.projects:
        done.note(f"project {project.name}", "its definitions go into the project `default`")
    return done


def _view(
    done: Translation,
    kind: str,
    view: Any,
    entities: Mapping[str, Any],
    keys: dict[tuple[str, ...], tuple[str, list[str]]],
    folder: Path,
) -> DefinedView | None:
    subject = f"{kind} {view.name}"
    names = [name for name in view.entities if not name.startswith("__dummy")]
    missing = [name for name in names if name not in entities]
    if not names or missing:
        why = (
            f"there is no entity {missing[0]}"
            if missing
            else "it has no entity, and a value of everything has no key to be found by"
        )
        done.note(subject, f"left out: {why}", lost=True)
        return None
    source = _batch_source(view)
    path = getattr(source, "path", None)
    schema = None
    if path is None:
        what = "no source" if source is None else type(source).__name__
        done.note(
            subject,
            f"its source is {what}, which is no file: the view is defined, and its rows come by `lineament "
            f"ingest` or `push`",
        )
    else:
        path = _located(path, folder)
        schema = _schema(path)
        if schema is None:
            done.note(
                subject,
                f"{path} is no Parquet file that can be read here, so that types are those that Feast "
                f"declares",
            )
    if getattr(view, "stream_source", None) is not None:
        done.note(
            subject,
            f"its {type(view.stream_source).__name__} has no counterpart: send rows by "
            f"`client.push({valid_name(view.name)!r}, rows)`",
        )
    if kind == "stream feature view":
        done.note(
            subject,
            "its aggregations and transformation have no counterpart; the rows of its batch source are taken "
            "as they are",
            lost=True,
        )
    if getattr(view, "feature_transformation", None) is not None and kind == "feature view":
        done.note(
            subject,
            "its transformation has no counterpart; write it as a derived view (`[derived] sql`)",
            lost=True,
        )
    mapping = {ours: column for column, ours in (getattr(source, "field_mapping", None) or {}).items()}
    time = getattr(source, "timestamp_field", None) or "event_timestamp"
    created = getattr(source, "created_timestamp_column", None) or None
    columns = {key.name: key for key in view.entity_columns}
    parts: list[tuple[str, str]] = []
    for name in names:
        entity = entities[name]
        parts.append(
            (
                entity.join_key,
                _key_type(done, f"entity {name}", entity, columns.get(entity.join_key), mapping, schema),
            )
        )
    entity_name, entity_keys = _entity(done, names, [entities[name] for name in names], parts, keys)
    features = _features(done, subject, view, mapping, schema, {time, created}, set(entity_keys))
    if not features:
        done.note(subject, "left out: no feature is left", lost=True)
        return None
    ours = _renamed(done, subject, view.name)
    lines = [
        'kind = "feature_view"', f"name = {quoted(ours)}", f"entity = {quoted(entity_name)}", *_words(view),
    ]  # fmt: skip
    ttl = view.ttl if isinstance(getattr(view, "ttl", None), timedelta) and view.ttl else None
    if ttl is not None:
        lines.append(f"ttl = {quoted(span(ttl))}")
    lines += [
        "", "[time]", f"valid_at = {quoted(time)}",
        "# Feast has no time at which values became known. Where rows arrive later than what they say, say "
        "so here, or training",
        '# sees them too early: { delay = "1h" }, { column = "published_at" } or "arrival".',
        'known_at = "assumed"',
    ]  # fmt: skip
    if schema is None or _naive(schema, time):
        lines += ["# Feast takes times without a zone as UTC.", 'zone = "UTC"']
    located = {key: mapping.get(join, join) for key, (join, _) in zip(entity_keys, parts, strict=True)}
    renamed = {key: column for key, column in located.items() if key != column}
    if renamed:
        lines += ["", "[keys]", *(f"{key} = {quoted(column)}" for key, column in renamed.items())]
    for feature, (name, column, data_type) in features.items():
        lines += ["", "[[features]]", f"name = {quoted(name)}", f"type = {quoted(data_type)}"]
        if column != name:
            lines.append(f"column = {quoted(column)}")
        described = next(declared for declared in view.features if declared.name == feature)
        lines += _words(described)
    if path is not None:
        lines += ["", "[source]", f"files = {quoted(path)}"]
        if schema is not None:
            lines.append('format = "parquet"')
    if not done.define(subject, "feature view", ours, "\n".join(lines) + "\n"):
        return None
    if created is not None and path is not None:
        done.note(
            subject,
            f"`{created}` breaks ties in Feast: rows are sent in its order, so that here the last received "
            f"wins as there",
        )
    done.note(
        subject,
        'known_at is "assumed": Feast takes every value as known at its own time. If that is not so, its '
        "training sets leak, and these "
        "will too until the definition says when values became known",
    )
    if path is not None:
        done.sources.append(
            SourceFile(
                ours,
                view.name,
                path,
                time,
                created,
                [located[key] for key in entity_keys],
                [join for join, _ in parts],
                features,
                ttl,
            )
        )
    return DefinedView(ours, {feature: name for feature, (name, _, _) in features.items()})


def _batch_source(view: Any) -> Any:
    source = getattr(view, "batch_source", None)
    if source is None:
        source = getattr(view, "source", None)
    # A push or stream source stands before a batch source.
    behind = getattr(source, "batch_source", None)
    return behind if behind is not None else source


def _located(path: str, folder: Path) -> str:
    if "://" in path or os.path.isabs(path):
        return path
    return str(folder / path)


def _schema(path: str) -> pyarrow.Schema | None:
    if "://" in path:
        return None
    try:
        return parquet.ParquetDataset(path).schema if os.path.isdir(path) else parquet.read_schema(path)
    except (OSError, pyarrow.ArrowException):
        return None


def _naive(schema: pyarrow.Schema, column: str) -> bool:
    found = schema.field(column).type if column in schema.names else None
    return found is None or (types.is_timestamp(found) and found.tz is None)


def _key_type(
    done: Translation,
    subject: str,
    entity: Any,
    declared: Any,
    mapping: Mapping[str, str],
    schema: pyarrow.Schema | None,
) -> str:
    """The file's own type before what is declared, which Feast does not enforce."""
    column = mapping.get(entity.join_key, entity.join_key)
    if schema is not None and column in schema.names:
        found = feature_type(schema.field(column).type)
        if found is not None and not found.startswith("float"):
            return found
    names = [] if declared is None else [_value_type(declared)]
    names.append(entity.value_type.name)
    for name in names:
        if name in _KEY_TYPES:
            return _KEY_TYPES[name]
    done.note(
        subject,
        f"its key `{entity.join_key}` has no type that a key may have ({names[-1].lower()}); taken as string",
    )
    return "string"


def _entity(
    done: Translation,
    names: list[str],
    entities: list[Any],
    parts: list[tuple[str, str]],
    known: dict[tuple[str, ...], tuple[str, list[str]]],
) -> tuple[str, list[str]]:
    """The entity of a view; several of Feast's together are one of ours, with as many keys."""
    identity = tuple(names)
    if identity in known:
        return known[identity]
    subject = f"entity {' and '.join(names)}"
    ours = _renamed(done, subject, "_".join(names))
    if len(names) > 1:
        done.note(
            subject, f"a view of several entities is one of the entity `{ours}`, which has all their keys"
        )
    keys = [_renamed(done, subject, join) for join, _ in parts]
    lines = ['kind = "entity"', f"name = {quoted(ours)}"]
    if len(entities) == 1:
        lines += _words(entities[0])
    for key, (_, data_type) in zip(keys, parts, strict=True):
        lines += ["", "[[keys]]", f"name = {quoted(key)}", f"type = {quoted(data_type)}"]
    done.define(subject, "entity", ours, "\n".join(lines) + "\n")
    known[identity] = (ours, keys)
    return known[identity]


def _features(
    done: Translation,
    subject: str,
    view: Any,
    mapping: Mapping[str, str],
    schema: pyarrow.Schema | None,
    times: set[str | None],
    keys: set[str],
) -> dict[str, tuple[str, str, str]]:
    features: dict[str, tuple[str, str, str]] = {}
    for declared in view.features:
        kind = _value_type(declared)
        name = declared.name
        if kind not in _TYPES:
            done.note(f"{subject}, feature {name}", f"its type {kind.lower()} has no counterpart", lost=True)
            continue
        column = mapping.get(name, name)
        if schema is not None and column not in schema.names:
            done.note(f"{subject}, feature {name}", f"the file has no column `{column}`", lost=True)
            continue
        if column in times:
            done.note(
                f"{subject}, feature {name}",
                f"`{column}` is a time of the view, and no feature beside",
                lost=True,
            )
            continue
        ours = _renamed(done, f"{subject}, feature {name}", name)
        if ours in keys or any(ours == other for other, _, _ in features.values()):
            done.note(f"{subject}, feature {name}", f"`{ours}` is another column's name", lost=True)
            continue
        if kind == "JSON":
            done.note(f"{subject}, feature {name}", "JSON is kept as text")
        data_type = _TYPES[kind]
        found = None if schema is None else feature_type(schema.field(column).type)
        if (
            found is not None
            and found != data_type
            and found.rstrip("1234568") == data_type.rstrip("1234568")
        ):
            done.note(
                f"{subject}, feature {name}",
                f"Feast declares {data_type} and gives the file's {found}, which it is here too",
            )
            data_type = found
        features[name] = (ours, column, data_type)
    return features


def _value_type(declared: Any) -> str:
    return str(declared.dtype.to_value_type().name)


def _renamed(done: Translation, subject: str, name: str) -> str:
    ours = valid_name(name)
    if ours != name:
        done.note(subject, f"`{name}` is called `{ours}` here: names are lower case")
    return ours


def _words(described: Any) -> list[str]:
    """Words for people; tags are `key=value`."""
    lines = []
    if getattr(described, "description", ""):
        lines.append(f"description = {quoted(described.description)}")
    if getattr(described, "owner", ""):
        lines.append(f"owner = {quoted(described.owner)}")
    tags = getattr(described, "tags", None) or {}
    if tags:
        lines.append(f"tags = [{', '.join(quoted(f'{key}={value}') for key, value in sorted(tags.items()))}]")
    return lines


def _service(done: Translation, service: Any, views: Mapping[str, DefinedView | None]) -> None:
    subject = f"feature service {service.name}"
    references: list[str] = []
    for projection in service.feature_view_projections:
        if projection.name not in views:
            done.note(
                subject,
                f"without the features of {projection.name}, which is no feature view here",
                lost=True,
            )
            continue
        if getattr(projection, "join_key_map", None):
            done.note(
                subject,
                f"{projection.name} is joined by other keys, which has no counterpart; rename the spine's "
                f"columns",
                lost=True,
            )
        if getattr(projection, "name_alias", None):
            done.note(
                subject,
                f"{projection.name} is called {projection.name_alias} in it, which has no counterpart; "
                f"columns have the view's name",
            )
        references += _references(done, subject, projection, views[projection.name])
    if not references:
        done.note(subject, "left out: no feature is left", lost=True)
        return
    ours = _renamed(done, subject, service.name)
    lines = ['kind = "feature_service"', f"name = {quoted(ours)}", *_words(service)]
    lines.append(f"features = [{', '.join(quoted(reference) for reference in dict.fromkeys(references))}]")
    if not done.define(subject, "service", ours, "\n".join(lines) + "\n"):
        return
    if getattr(service, "logging_config", None) is not None:
        done.note(subject, "its logging has no counterpart: the store records every retrieval itself")


def _references(done: Translation, subject: str, projection: Any, view: DefinedView | None) -> Iterable[str]:
    if view is None:
        done.note(subject, f"without the features of {projection.name}, which is left out", lost=True)
        return
    for feature in projection.features:
        if feature.name in view.features:
            yield f"{view.name}.{view.features[feature.name]}"
        else:
            done.note(subject, f"without {projection.name}:{feature.name}, which is not here", lost=True)
