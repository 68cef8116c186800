"""Batches for training, as numpy arrays or torch tensors, of a training set that is never held whole."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow
import pyarrow.compute as compute

from .errors import InvalidRequest
from .optional import needed
from .splits import Split

if TYPE_CHECKING:
    from .client import Client


class Loader:
    """A training set in batches of one size, anew each time it is gone through.

    Each pass asks the server for the set again, which rebuilds and proves it; here one batch is held, and
    what `shuffle` asks for. Without `dtype` a batch is a mapping of column names to numpy arrays, typed as in
    `TrainingSet.to_df`: a null is NaN, NaT or None, and whole numbers with nulls in a batch are floats. With
    `dtype` it is a matrix of rows by columns, where a null is NaN; with `label` too, a pair of the matrix and
    the labels.

    >>> for batch in client.loader(training_set, columns=["temp", "seats"], batch_size=600):
    ...     print(batch["temp"].shape, batch["temp"].dtype)
    (600,) float64
    (400,) float64
    """

    def __init__(
        self,
        client: Client,
        training_set: str,
        *,
        columns: Sequence[str] | None,
        label: str | None,
        dtype: Any,
        batch_size: int,
        part: str | None,
        split: Split | None,
        at: str | None,
        shuffle: int,
        seed: int,
        drop_last: bool,
    ) -> None:
        if batch_size < 1:
            raise InvalidRequest(f"batch_size is {batch_size}; it is a number of rows, 1 or more")
        if shuffle < 0:
            raise InvalidRequest(
                f"shuffle is {shuffle}; it is how many rows are mixed with one another, 0 for none"
            )
        if label is not None and dtype is None:
            raise InvalidRequest('a label is set apart from a matrix; give dtype too, as dtype="float32"')
        if part is not None:
            if split is None:
                raise InvalidRequest(
                    f"there is no part `{part}`: the training set was recorded without a split; give "
                    "get_historical_features(…, split=…) one"
                )
            if part not in split.parts:
                raise InvalidRequest(f"there is no part `{part}`; the parts are {', '.join(split.parts)}")
        self._client: Client | None = client
        self._process = os.getpid()
        self._options = (client.url, client.run, client.experiment, client._access)
        #: The set's id.
        self.training_set = training_set
        self.columns = None if columns is None else list(columns)
        self.label = label
        self.dtype = dtype
        self.batch_size = batch_size
        self.part = part
        self._split = split
        self._at = at
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        #: How often it was begun; with `seed` it decides the order of a shuffled pass.
        self.epoch = 0

    def __iter__(self) -> Iterator[Any]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self._batches(epoch, 0, 1)

    def torch(self) -> Any:
        """The batches as a `torch.utils.data.IterableDataset`, whose items are whole batches: give it to a
        `DataLoader` with `batch_size=None`. Several workers share the batches; have them begun by `spawn`,
        for a connection does not survive a fork. Numbers become tensors, and other columns stay numpy arrays.
        Raises `ImportError` without torch.
        """
        with needed("torch", "Loader.torch()"):
            import torch

        loader = self

        class TrainingSetDataset(torch.utils.data.IterableDataset):
            """Batches of a training set, as tensors."""

            def __iter__(self) -> Iterator[Any]:
                worker = torch.utils.data.get_worker_info()
                place, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
                epoch, loader.epoch = loader.epoch, loader.epoch + 1
                if worker is not None:
                    # Workers begin anew for each pass, with a count of their own; what torch draws for it is the same in all of them.
                    epoch += worker.seed - worker.id
                for batch in loader._batches(epoch, place, count):
                    yield _tensors(torch, batch)

            def __reduce__(self) -> Any:
                return (_torch_dataset, (loader,))

        return TrainingSetDataset()

    def __getstate__(self) -> dict[str, Any]:
        # In another process it connects anew.
        return {**self.__dict__, "_client": None}

    def __repr__(self) -> str:
        part = "" if self.part is None else f", part {self.part}"
        return f"<Loader of training set {self.training_set}{part}, {self.batch_size:,} rows a batch>"

    def _batches(self, epoch: int, place: int, count: int) -> Iterator[Any]:
        """Every `count`-th batch from the one at `place` on."""
        tables = self._cut(self._mixed(self._wanted(), epoch))
        for number, table in enumerate(tables):
            if number % count == place:
                yield self._arrays(table)

    def _wanted(self) -> Iterator[pyarrow.Table]:
        """The rows of the part, with the columns that are asked for."""
        client = self._connected()
        number = None if self._split is None or self.part is None else self._split.parts.index(self.part)
        with client.stream(self.training_set) as stream:
            names = self._names(stream.schema)
            first = 0
            for batch in stream:
                table = pyarrow.Table.from_batches([batch])
                rows = table.num_rows
                if number is not None and self._split is not None:
                    table = table.filter(compute.equal(self._split.assign(table, self._at, first), number))
                first += rows
                yield table.select(names)

    def _names(self, schema: pyarrow.Schema) -> list[str]:
        wanted = (
            [name for name in schema.names if name != self.label]
            if self.columns is None
            else list(self.columns)
        )
        if self.label is not None and self.label not in wanted:
            wanted.append(self.label)
        for name in wanted:
            if schema.names.count(name) != 1:
                raise InvalidRequest(
                    f"the training set has no column `{name}`; it has {', '.join(schema.names)}"
                )
            if self.dtype is not None and not _numeric(schema.field(name).type):
                raise InvalidRequest(
                    f"column `{name}` is {schema.field(name).type}, which has no place in a matrix; name the "
                    f"columns that have, or leave dtype out"
                )
        return wanted

    def _mixed(self, tables: Iterator[pyarrow.Table], epoch: int) -> Iterator[pyarrow.Table]:
        """The rows, those within each window of `shuffle` rows in an order that seed and pass decide."""
        if not self.shuffle:
            yield from tables
            return
        for window, table in enumerate(_sized(tables, self.shuffle)):
            order = list(range(table.num_rows))
            random.Random(f"{self.seed}/{epoch}/{window}").shuffle(order)
            yield table.take(pyarrow.array(order, pyarrow.int64()))

    def _cut(self, tables: Iterator[pyarrow.Table]) -> Iterator[pyarrow.Table]:
        for table in _sized(tables, self.batch_size):
            if table.num_rows == self.batch_size or not self.drop_last:
                yield table

    def _arrays(self, table: pyarrow.Table) -> Any:
        with needed("numpy", "a loader"):
            import numpy

        if self.dtype is None:
            return {
                name: _array(column) for name, column in zip(table.column_names, table.columns, strict=True)
            }
        label = None if self.label is None else table.column(self.label)
        names = [name for name in table.column_names if name != self.label]
        matrix = numpy.empty((table.num_rows, len(names)), dtype=self.dtype)
        for place, name in enumerate(names):
            matrix[:, place] = _number(table.column(name), name, matrix.dtype)
        if label is None:
            return matrix
        return matrix, _number(label, self.label or "", matrix.dtype).astype(matrix.dtype)

    def _connected(self) -> Client:
        if self._client is None or self._process != os.getpid():
            from .client import Client

            url, run, experiment, access = self._options
            self._client = Client(access.open(url), url, run=run, experiment=experiment, access=access)
            self._process = os.getpid()
        return self._client


def _torch_dataset(loader: Loader) -> Any:
    return loader.torch()


def _sized(tables: Iterator[pyarrow.Table], rows: int) -> Iterator[pyarrow.Table]:
    """The same rows in tables of so many each, but for the last."""
    held: list[pyarrow.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += table.num_rows
        if count < rows:
            continue
        whole = pyarrow.concat_tables(held)
        full = count // rows
        for number in range(full):
            yield whole.slice(number * rows, rows)
        rest = whole.slice(full * rows)
        held, count = ([rest], rest.num_rows) if rest.num_rows else ([], 0)
    if count:
        yield pyarrow.concat_tables(held)


def _numeric(kind: pyarrow.DataType) -> bool:
    types = pyarrow.types
    return (
        types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)
    )


def _number(column: pyarrow.ChunkedArray, name: str, dtype: Any) -> Any:
    """A column of numbers, its nulls NaN."""
    if column.null_count and dtype.kind != "f":
        raise InvalidRequest(
            f"column `{name}` has nulls, which {dtype} cannot hold; take a float dtype, or fill them first"
        )
    if dtype.kind == "f" and not pyarrow.types.is_floating(column.type):
        column = column.cast(pyarrow.float64(), safe=False)
    return column.to_numpy()


def _array(column: pyarrow.ChunkedArray) -> Any:
    if pyarrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.to_numpy()


def _tensors(torch: Any, batch: Any) -> Any:
    if isinstance(batch, dict):
        return {name: _tensor(torch, array) for name, array in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_tensor(torch, array) for array in batch)
    return _tensor(torch, batch)


def _tensor(torch: Any, array: Any) -> Any:
    if array.dtype.kind not in "biuf":
        return array
    # A tensor shares its memory, and Arrow's is read-only.
    return torch.from_numpy(array if array.flags.writeable else array.copy())
