"""A first definition of a feature view, from a frame."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute as compute
from pyarrow import types

from .errors import InvalidRequest, NotFound
from .reports import Plan
from .spans import span

_SPAN = re.compile(r"(\d+(w|d|h|ms|m|us|s))+")
_RESERVED = {"at", "valid_at", "known_at", "sequence"}
_KEY_ENDINGS = ("_id", "_key", "_code", "_no")


class DefinitionWarning(UserWarning):
    """Something about a frame that its definition should say, or that will be refused at ingest."""


@dataclass(frozen=True, repr=False)
class DefinedView:
    """What `define_view` wrote and applied."""

    #: The feature view's name.
    name: str
    #: The entity's name.
    entity: str
    #: The view's definition, in TOML.
    text: str
    #: The entity's definition, in TOML.
    entity_text: str
    #: What applying them changed.
    plan: Plan
    #: The files that hold them; empty where no folder was given.
    files: list[Path] = field(default_factory=list)
    #: What its author should know; each was given as a `DefinitionWarning` too.
    warnings: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        where = "".join(f"\n# {file}" for file in self.files)
        return f"feature view {self.name} of entity {self.entity}: {self.plan!r}{where}\n\n{self.text}"


# ------------------------------------------------------------------------------------------------------ definition files


def read_definitions(source: Any) -> dict[str, str]:
    """Definition files by name: of a folder (its `*.toml`), one file, several files, or a mapping of name to text."""
    if isinstance(source, Mapping):
        return {str(name): str(text) for name, text in source.items()}
    if isinstance(source, (str, Path)) or hasattr(source, "__fspath__"):
        path = Path(source)
        if path.is_dir():
            paths = sorted(path.glob("*.toml"))
            if not paths:
                raise NotFound(f"the folder {path} has no definition files (*.toml)")
        else:
            paths = [path]
    elif isinstance(source, Iterable):
        paths = [Path(path) for path in source]
        if not paths:
            raise InvalidRequest("no definition files are given")
    else:
        raise InvalidRequest(
            f"definitions are a folder, files or a mapping of name to text, not {type(source).__name__}"
        )
    names = [path.name for path in paths]
    files = {}
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise NotFound(f"there is no file or folder {path}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"the definition file {path} cannot be read: {error}") from None
        files[path.name if names.count(path.name) == 1 else str(path)] = with_absolute_source(text, path.parent)
    return files


def with_absolute_source(text: str, folder: Path) -> str:
    """The same definition, with the files of its `[source]` found from anywhere, as `lineament apply` has it.

    All lines stay where they are, so that messages name them right. A text that is not understood stays as it is, for the
    server says what is wrong with it.
    """
    parsed = declared(text)
    source = parsed.get("source")
    if not isinstance(source, dict) or not isinstance(source.get("files"), str):
        return text
    absolute = os.path.normpath(os.path.join(os.path.abspath(folder), source["files"]))
    lines = text.split("\n")
    for number, line in enumerate(lines):
        found = re.match(r"""(.*?\bfiles\s*=\s*)("(?:[^"\\]|\\.)*"|'[^']*')(.*)""", line, re.DOTALL)
        if found is None:
            continue
        changed = "\n".join([*lines[:number], f"{found[1]}{quoted(absolute)}{found[3]}", *lines[number + 1 :]])
        if declared(changed) == {**parsed, "source": {**source, "files": absolute}}:
            return changed
    return text


# --------------------------------------------------------------------------------------------------------------- writing


@dataclass(frozen=True)
class Draft:
    """Definitions as text, and what their author should know."""

    name: str
    entity: str
    text: str
    entity_text: str
    warnings: list[str]


def draft(
    table: pyarrow.Table,
    *,
    key: str | Iterable[str],
    time: str,
    name: str | None,
    known_at: str | timedelta | None,
    entity: str | None,
    entity_text: str | None,
    ttl: str | timedelta | None,
    zone: str | None,
    description: str | None,
    owner: str | None,
) -> Draft:
    """Writes the definitions of a frame's entity and view. `entity_text` is the entity as it is known already."""
    keys = [key] if isinstance(key, str) else list(key)
    if not keys:
        raise InvalidRequest('no key is named; say which column tells one entity from another, as in key="user_id"')
    for column in [*keys, time]:
        _require(table, column)
    if len({*keys, time}) < len(keys) + 1:
        raise InvalidRequest("a column is named twice; name each key once, and the time apart from them")
    rule, known_column = _known_at(known_at, table)
    notes = _time_notes(table, time, zone)
    if rule == '"assumed"':
        notes.append(
            'known_at is "assumed": values are taken as known at their valid_at; if they were published later, say so with '
            'known_at="a column", known_at="30m" or known_at="arrival", or training sees them too early'
        )

    names = _names(table, keys, leave_out={time, known_column})
    features = []
    for column in table.column_names:
        if column in keys or column in (time, known_column):
            continue
        kind = feature_type(table.schema.field(column).type)
        if kind is None:
            notes.append(f"column `{column}` is left out: no feature type holds {table.schema.field(column).type}")
        else:
            features.append((column, kind))
    if not features:
        raise InvalidRequest("no column is left to be a feature, beside the keys and the times")
    for column in [*keys, *(column for column, _ in features)]:
        if names[column] != column:
            notes.append(f"column `{column}` is called `{names[column]}` in the store")
    for column in keys:
        nulls = table.column(column).null_count
        if nulls:
            notes.append(f"key `{column}` is null in {nulls} of {table.num_rows} rows, and these will be rejected")

    if entity_text is not None and entity is not None:
        entity_keys = [part["name"] for part in tomllib.loads(entity_text).get("keys", [])]
    else:
        entity_keys = [names[column] for column in keys]
        entity = entity or _entity_name(entity_keys)
        entity_text = _entity_toml(table, entity, keys, entity_keys, owner)
    view = name or valid_name(f"{entity}_features")
    lines = [
        'kind = "feature_view"',
        f"name = {quoted(view)}",
        f"entity = {quoted(entity)}",
        f"description = {quoted(description)}" if description else '# description = "…"  what the features say',
    ]
    if owner:
        lines.append(f"owner = {quoted(owner)}")
    if ttl is None:
        lines.append('# ttl = "7d"  how far a retrieval looks back; for ever where it is left out')
    else:
        lines.append(f"ttl = {quoted(span(ttl))}")
    lines += ["", "[time]", f"valid_at = {quoted(time)}", f"known_at = {rule}"]
    if zone:
        lines.append(f"zone = {quoted(zone)}")
    renamed = _key_columns(entity_keys, keys, names)
    if renamed:
        lines += ["", "[keys]", *(f"{part} = {quoted(column)}" for part, column in renamed.items())]
    for column, kind in features:
        lines += ["", "[[features]]", f"name = {quoted(names[column])}", f'type = "{kind}"']
        if names[column] != column:
            lines.append(f"column = {quoted(column)}")
        lines += _observed(table.column(column), kind)
    return Draft(view, entity, "\n".join(lines) + "\n", entity_text, notes)


def warn(notes: Iterable[str], stacklevel: int) -> None:
    for note in notes:
        warnings.warn(note, DefinitionWarning, stacklevel=stacklevel + 1)


def feature_type(data_type: pyarrow.DataType) -> str | None:
    """How definitions spell the type that holds an Arrow type's values; None where none does."""
    if types.is_dictionary(data_type):
        return feature_type(data_type.value_type)
    if types.is_boolean(data_type):
        return "bool"
    if types.is_integer(data_type):
        return str(data_type)
    if types.is_float32(data_type):
        return "float32"
    if types.is_float64(data_type):
        return "float64"
    if types.is_string(data_type) or types.is_large_string(data_type) or types.is_string_view(data_type):
        return "string"
    if (
        types.is_binary(data_type)
        or types.is_large_binary(data_type)
        or types.is_fixed_size_binary(data_type)
        or types.is_binary_view(data_type)
    ):
        return "binary"
    if types.is_date(data_type):
        return "date"
    if types.is_timestamp(data_type):
        return "timestamp"
    if types.is_decimal(data_type) and data_type.precision <= 38 and 0 <= data_type.scale <= data_type.precision:
        return f"decimal({data_type.precision},{data_type.scale})"
    return None


def valid_name(text: str) -> str:
    """The nearest name that the store takes: lower case, other characters as `_`."""
    folded = re.sub(r"([a-z])([A-Z])", r"\1_\2", text)
    folded = re.sub(r"[^A-Za-z0-9]+", "_", folded).strip("_").lower()
    if not folded:
        folded = "unnamed"
    if not folded[0].isalpha():
        folded = f"n_{folded}"
    folded = folded[:58].rstrip("_")
    return f"{folded}_value" if folded in _RESERVED else folded


def quoted(text: str) -> str:
    """A string of TOML."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _require(table: pyarrow.Table, column: str) -> None:
    if table.column_names.count(column) == 1:
        return
    if column in table.column_names:
        raise InvalidRequest(f"the frame has several columns named `{column}`; rename all but one")
    near = difflib.get_close_matches(str(column), table.column_names, 1)
    hint = f" (did you mean `{near[0]}`?)" if near else ""
    raise InvalidRequest(f"the frame has no column `{column}`{hint}; its columns are {', '.join(table.column_names)}")


def _known_at(rule: str | timedelta | None, table: pyarrow.Table) -> tuple[str, str | None]:
    """The rule in TOML, and the column that it names."""
    if isinstance(rule, timedelta):
        return f"{{ delay = {quoted(span(rule))} }}", None
    if rule is None or rule in ("assumed", "arrival"):
        return quoted(rule or "assumed"), None
    if rule in table.column_names:
        _require(table, rule)
        return f"{{ column = {quoted(rule)} }}", rule
    if _SPAN.fullmatch(rule):
        return f"{{ delay = {quoted(rule)} }}", None
    near = difflib.get_close_matches(rule, [*table.column_names, "assumed", "arrival"], 1)
    hint = f" (did you mean `{near[0]}`?)" if near else ""
    raise InvalidRequest(
        f'known_at is `{rule}`{hint}; it is a column of the frame, a delay such as "30m", "arrival" or "assumed"'
    )


def _time_notes(table: pyarrow.Table, time: str, zone: str | None) -> list[str]:
    kind = table.schema.field(time).type
    if types.is_date(kind):
        return [
            f"time column `{time}` is a date, which means the start of that day: a day's aggregate dated by its own day leaks, "
            "for training rows of that day would see what happened after them; date it by the day after, or give "
            'known_at="1d"'
        ]
    if feature_type(kind) == "string":
        if zone:
            return []
        return [
            f"time column `{time}` is text: ingest reads 2013-07-09T12:30:00Z, with its zone, and for texts without one needs "
            'zone="UTC" or the zone of the clocks that wrote it; a timestamp column is safer'
        ]
    if not types.is_timestamp(kind):
        times = [field.name for field in table.schema if types.is_temporal(field.type)]
        hint = f"name one that is: {', '.join(times)}" if times else "no column of this frame is a time"
        raise InvalidRequest(
            f"time column `{time}` is {kind}; a time is a timestamp, a date or text in RFC 3339: {hint}"
        )
    notes = []
    if kind.tz is None and not zone:
        notes.append(
            f'time column `{time}` carries no zone, and naive times are refused at ingest; give zone="UTC", or the zone of the '
            f'clocks that wrote it, or make the column an instant (pandas: frame["{time}"].dt.tz_localize(…))'
        )
    if kind.unit == "ns":
        nanos = table.column(time).cast(pyarrow.int64())
        # Whole microseconds stay the same when divided and multiplied again.
        whole = compute.multiply(compute.divide(nanos, 1000), 1000)
        fine = compute.sum(compute.not_equal(nanos, whole)).as_py() or 0
        if fine:
            notes.append(
                f"time column `{time}` is finer than a microsecond in {fine} of {table.num_rows} rows, and these will be refused, "
                "for rounding could show a row what came after it; round them up in the source"
            )
    return notes


def _names(table: pyarrow.Table, keys: list[str], leave_out: set[str | None]) -> dict[str, str]:
    """A valid name for each column, no two alike."""
    names: dict[str, str] = {}
    for column in [*keys, *(column for column in table.column_names if column not in keys)]:
        if column in leave_out:
            continue
        wanted = valid_name(column)
        name, number = wanted, 2
        while name in names.values():
            name, number = f"{wanted[:50]}_{number}", number + 1
        names[column] = name
    return names


def _entity_name(keys: list[str]) -> str:
    """`user` for the key `user_id`, `origin_carrier` for two keys."""
    parts = []
    for key in keys:
        ending = next((ending for ending in _KEY_ENDINGS if key.endswith(ending) and key != ending), "")
        parts.append(key.removesuffix(ending))
    return valid_name("_".join(parts))


def _entity_toml(table: pyarrow.Table, entity: str, columns: list[str], keys: list[str], owner: str | None) -> str:
    lines = ['kind = "entity"', f"name = {quoted(entity)}", '# description = "…"  who or what it is']
    if owner:
        lines.append(f"owner = {quoted(owner)}")
    for column, key in zip(columns, keys, strict=True):
        data_type = table.schema.field(column).type
        kind = feature_type(data_type)
        if kind is None or kind.startswith("float"):
            raise InvalidRequest(
                f"key column `{column}` is {data_type}; a key is whole numbers, text, bool, a date, a timestamp or a decimal, "
                "so cast it first or name another column"
            )
        lines += ["", "[[keys]]", f"name = {quoted(key)}", f'type = "{kind}"']
    return "\n".join(lines) + "\n"


def _key_columns(entity_keys: list[str], keys: list[str], names: dict[str, str]) -> dict[str, str]:
    """The entity's keys whose column has another name. Columns whose names are keys stand for those, the rest in order."""
    if len(entity_keys) != len(keys):
        raise InvalidRequest(
            f"the entity has {len(entity_keys)} keys ({', '.join(entity_keys)}), but {len(keys)} are named "
            f"({', '.join(keys)}); name one column for each"
        )
    column_of = {names[column]: column for column in keys if names[column] in entity_keys}
    rest = [column for column in keys if column not in column_of.values()]
    for key in entity_keys:
        if key not in column_of:
            column_of[key] = rest.pop(0)
    return {key: column_of[key] for key in entity_keys if column_of[key] != key}


def _observed(column: pyarrow.ChunkedArray, kind: str) -> list[str]:
    """Comments on what was seen. What is possible is for a person to say, so nothing of it is a rule yet."""
    lines = []
    if kind.startswith(("int", "uint", "float", "decimal", "date", "timestamp")):
        values = column.filter(compute.is_finite(column)) if kind.startswith("float") else column
        ends = compute.min_max(values).as_py() if len(values) else {"min": None, "max": None}
        if ends["min"] is not None:
            # Time goes on, so that nobody should make a range of it.
            advice = "observed" if kind in ("date", "timestamp") else "observed; widen it to what is possible"
            lines.append(f"# range = [{_literal(ends['min'])}, {_literal(ends['max'])}]  # {advice}")
    if len(column) and column.null_count == 0:
        lines.append("# nullable = false  # no null observed")
    elif column.null_count:
        share = column.null_count / len(column)
        lines.append(f"# {column.null_count} of {len(column)} rows are null ({share:.1%})")
    return lines


def _literal(value: object) -> str:
    if isinstance(value, (datetime, date, Decimal)):
        return quoted(value.isoformat() if isinstance(value, (datetime, date)) else str(value))
    return repr(value)


# --------------------------------------------------------------------------------------------------------------- reading


def declared(text: str) -> dict[str, Any]:
    """What a definition file declares; nothing where it is not TOML, for the server says what is wrong with it."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}


def entity_text(name: str, keys: str, description: str | None, owner: str | None, tags: str | None) -> str:
    """An entity as `lineament.entities` tells it, in TOML again; `keys` as in `origin string, carrier string`."""
    lines = ['kind = "entity"', f"name = {quoted(name)}"]
    for word, text in (("description", description), ("owner", owner)):
        if text:
            lines.append(f"{word} = {quoted(text)}")
    if tags:
        lines.append(f"tags = [{', '.join(quoted(tag) for tag in tags.split(', '))}]")
    for key, kind in re.findall(r"(\w+) (decimal\([^)]*\)|\w+)", keys):
        lines += ["", "[[keys]]", f"name = {quoted(key)}", f'type = "{kind}"']
    return "\n".join(lines) + "\n"
