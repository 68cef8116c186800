"""A recorded training set as a folder of Parquet files, here or in a bucket: a file at a time, so that a cut
export goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.fs as filesystems
import pyarrow.parquet as parquet

from .errors import Damaged, InvalidRequest
from .frames import check_same
from .progress import Progress
from .rows import counted
from .streams import BatchStream

_TRAINING_SET = b"lineament.training_set"
_FIRST_ROW = b"lineament.first_row"
_UNFINISHED = ".unfinished"


@dataclass(frozen=True, repr=False)
class Export:
    """What an export wrote.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> client.export(training_set, folder, rows_per_file=400)
    1,000 rows in 3 files of training set ..., in ...
    >>> client.export(training_set, folder, rows_per_file=400).kept
    3
    """

    training_set: str
    #: The digest of what the server sent, which is what was recorded.
    digest: str
    rows: int
    #: A path, or the place in the file system that was given.
    folder: Path | str
    files: list[Path | str] = field(default_factory=list)
    #: Of the files, how many an earlier export had written; they were compared, row by row, with what the
    #: server sent now.
    kept: int = 0

    def __repr__(self) -> str:
        kept = f", {self.kept:,} of them from before" if self.kept else ""
        return f"{counted(self.rows, 'row')} in {counted(len(self.files), 'file')}{kept} of training set {self.training_set}, in {self.folder}"


class Local:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def file(self, name: str) -> Path:
        return self.folder / name

    def found(self) -> list[Path]:
        """The Parquet files that are there."""
        return sorted(self.folder.glob("*.parquet"))


@dataclass(frozen=True)
class BucketFile:
    """A file of a file system of Arrow's."""

    filesystem: filesystems.FileSystem
    path: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def __str__(self) -> str:
        return self.path

    def exists(self) -> bool:
        return self.filesystem.get_file_info(self.path).type == filesystems.FileType.File

    def read(self) -> pyarrow.Buffer:
        with self.filesystem.open_input_stream(self.path) as file:
            return file.read_buffer()

    def delete(self) -> None:
        self.filesystem.delete_file(self.path)


class Bucket:
    """A folder of another file system, such as a bucket's."""

    def __init__(self, filesystem: filesystems.FileSystem, folder: str) -> None:
        self.filesystem, self.folder = filesystem, folder.rstrip("/")
        filesystem.create_dir(self.folder, recursive=True)

    def file(self, name: str) -> BucketFile:
        return BucketFile(self.filesystem, f"{self.folder}/{name}")

    def found(self) -> list[BucketFile]:
        """The Parquet files that are there."""
        selector = filesystems.FileSelector(self.folder, allow_not_found=True)
        names = sorted(file.base_name for file in self.filesystem.get_file_info(selector))
        return [self.file(name) for name in names if name.endswith(".parquet")]


def place(folder: str | os.PathLike[str], filesystem: filesystems.FileSystem | None) -> Local | Bucket:
    """Where files go: a path, an address as `s3://bucket/folder`, or a folder of a file system that is given."""
    if filesystem is None and isinstance(folder, str) and "://" in folder:
        filesystem, folder = filesystems.FileSystem.from_uri(folder)
    if filesystem is None:
        return Local(Path(folder))
    if isinstance(filesystem, filesystems.LocalFileSystem):
        return Local(Path(folder))
    return Bucket(filesystem, str(folder))


def export(
    stream: BatchStream, id: str, to: Local | Bucket, rows_per_file: int, total: int, shown: bool | None
) -> Export:
    """Writes what a stream of a recorded set gives. At most the rows of one file are held, twice."""
    if rows_per_file < 1:
        raise InvalidRequest(f"rows_per_file is {rows_per_file}; it is 1 or more")
    count = max(1, -(-total // rows_per_file))
    files = [to.file(f"part-{number:05}.parquet") for number in range(count)]
    _refuse_others(to, files, id, rows_per_file)
    kept = 0
    first = 0
    with Progress("exporting", total, shown=shown) as progress:
        for path, table in zip(files, _tables(stream, rows_per_file), strict=True):
            marked = table.replace_schema_metadata(_metadata(id, first))
            if path.exists():
                _compare(path, marked)
                kept += 1
            else:
                _write(path, marked)
            first += table.num_rows
            progress.add(table.num_rows)
    names = [file if isinstance(file, Path) else str(file) for file in files]
    return Export(id, stream.digest or "", first, to.folder, names, kept)


def _metadata(id: str, first: int) -> dict[bytes, bytes]:
    """What a file says of itself; pandas takes its part of it as the `attrs` of the frame."""
    attributes = json.dumps({_TRAINING_SET.decode(): id}).encode()
    return {_TRAINING_SET: id.encode(), _FIRST_ROW: str(first).encode(), b"PANDAS_ATTRS": attributes}


def _tables(stream: BatchStream, rows: int) -> Iterator[pyarrow.Table]:
    """The rows of a stream in tables of so many, but for the last; one without rows where there are none at
    all."""
    held: list[pyarrow.RecordBatch] = []
    count = 0
    given = False
    for batch in stream:
        while count + batch.num_rows >= rows:
            take = rows - count
            yield pyarrow.Table.from_batches([*held, batch.slice(0, take)], stream.schema)
            given = True
            held, count, batch = [], 0, batch.slice(take)
        if batch.num_rows:
            held.append(batch)
            count += batch.num_rows
    if count or not given:
        yield pyarrow.Table.from_batches(held, stream.schema)


def _refuse_others(to: Local | Bucket, files: list[Any], id: str, rows_per_file: int) -> None:
    """Whoever reads the folder reads all Parquet files in it, so there must be none of anything else."""
    expected = {path.name: number * rows_per_file for number, path in enumerate(files)}
    for path in to.found():
        if path.name not in expected:
            raise InvalidRequest(
                f"{path} is no part of this export; name an empty folder, or that of the same export with as "
                f"many rows a file"
            )
        said = _schema(path).metadata or {}
        if said.get(_TRAINING_SET) != id.encode():
            of = said.get(_TRAINING_SET)
            raise InvalidRequest(
                f"{path} is of {f'the training set {of.decode()}' if of else 'no training set'}, not of "
                f"{id}; name another folder"
            )
        if said.get(_FIRST_ROW) != str(expected[path.name]).encode():
            raise InvalidRequest(
                f"{path} was exported with other rows_per_file; give the same, or another folder"
            )


def _schema(path: Path | BucketFile) -> pyarrow.Schema:
    try:
        if isinstance(path, Path):
            return parquet.read_schema(path)
        with path.filesystem.open_input_file(path.path) as file:
            return parquet.read_schema(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise Damaged(f"{path} cannot be read ({error}); remove it and export again") from None


def _compare(path: Path | BucketFile, table: pyarrow.Table) -> None:
    """That a file holds these rows and no others."""
    try:
        if isinstance(path, Path):
            read = parquet.read_table(path, partitioning=None)
        else:
            read = parquet.read_table(pyarrow.BufferReader(path.read()))
    except (pyarrow.ArrowException, OSError) as error:
        raise Damaged(f"{path} cannot be read ({error}); remove it and export again") from None
    try:
        if read.num_columns != table.num_columns:
            raise Damaged("it has other columns")
        check_same(table, read)
    except Damaged as error:
        raise Damaged(
            f"{path} does not hold what was recorded ({error}); remove it and export again"
        ) from None


def _write(path: Path | BucketFile, table: pyarrow.Table) -> None:
    """Under its name only when all of it is on disk and reads back as it was. In a bucket, which renames nothing, a file has its name as it
    is written, and is deleted where it reads back as something else."""
    if isinstance(path, BucketFile):
        # As a whole, since a stream that fails would end as one that is complete.
        made = pyarrow.BufferOutputStream()
        parquet.write_table(table, made, compression="zstd")
        with path.filesystem.open_output_stream(path.path) as file:
            file.write(made.getvalue())
        try:
            _compare(path, table)
        except Damaged:
            # Why is what matters; one that cannot be deleted either is found by the next export.
            with suppress(pyarrow.ArrowException, OSError):
                path.delete()
            raise
        return
    unfinished = path.with_name(path.name + _UNFINISHED)
    with unfinished.open("wb") as file:
        parquet.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    _compare(unfinished, table)
    unfinished.replace(path)
