"""Training sets that are never held whole: streams, loaders and exports."""

import gc
import pickle
import sys
import types
from datetime import UTC, datetime, timedelta

import lineament
import numpy
import pandas
import pyarrow
import pyarrow.compute as compute
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
import pytest
import readings
from lineament import exports
from lineament.training_set import training_set_of

FEATURES = ["reading.value", "reading.quality"]
ROWS = 20_000


@pytest.fixture(scope="module")
def spine() -> pyarrow.Table:
    start = datetime(2024, 1, 1, 10, tzinfo=UTC)
    return pyarrow.table(
        {
            "row": pyarrow.array(range(ROWS), pyarrow.int64()),
            "sensor": ["abcd"[row % 4] for row in range(ROWS)],
            "at": pyarrow.array([start + timedelta(seconds=row) for row in range(ROWS)], readings.INSTANT),
            "label": pyarrow.array(
                [None if row % 11 == 0 else row / 2 for row in range(ROWS)], pyarrow.float32()
            ),
            "flag": pyarrow.array([row % 3 == 0 for row in range(ROWS)]),
        }
    )


@pytest.fixture(scope="module")
def training_set(readings_client, spine) -> lineament.TrainingSet:
    return readings_client.get_historical_features(spine, FEATURES)


# ---------------------------------------------------------------------------------------------------- streams


def test_a_stream_of_a_spine_is_the_whole_set(readings_client, spine, training_set):
    stream = readings_client.stream(spine, FEATURES, name="streamed")
    assert stream.schema.names == training_set.column_names
    assert (stream.id, stream.digest, stream.report) == (None, None, None)
    batches = list(stream)
    assert pyarrow.Table.from_batches(batches).equals(training_set.to_arrow().replace_schema_metadata())
    assert stream.rows == ROWS and stream.digest == training_set.digest
    assert readings_client.replay(stream.id).equal
    assert list(stream) == []


def test_a_stream_of_a_recorded_set(readings_client, training_set):
    for given in (training_set, training_set.id):
        with readings_client.stream(given) as stream:
            table = pyarrow.Table.from_batches(list(stream))
        assert table.equals(training_set.to_arrow().replace_schema_metadata())
        assert (stream.id, stream.digest) == (training_set.id, training_set.digest)


def test_other_libraries_take_streams(readings_client, training_set, tmp_path):
    import duckdb

    # It finds the variable by its name.
    rows = readings_client.stream(training_set).to_reader()
    assert rows.schema.names[0] == "row"
    assert duckdb.sql("SELECT count(*), max(row) FROM rows").fetchall() == [(ROWS, ROWS - 1)]
    with readings_client.stream(training_set) as stream:
        pyarrow.parquet.write_table(pyarrow.table(stream), tmp_path / "all.parquet")
    assert pyarrow.parquet.read_metadata(tmp_path / "all.parquet").num_rows == ROWS


def test_a_training_set_gives_its_batches(training_set):
    batches = list(training_set)
    assert all(isinstance(batch, pyarrow.RecordBatch) for batch in batches)
    assert sum(batch.num_rows for batch in batches) == ROWS


def test_who_stops_early_is_let_go(readings_client, spine, server):
    for stop in ("close", "leave", "forget", "disconnect"):
        other = lineament.connect(server.url)
        stream = other.stream(pyarrow.concat_tables([spine] * 10), FEATURES)
        assert next(stream).num_rows > 0
        if stop == "close":
            stream.close()
            stream.close()
            assert list(stream) == [] and stream.report is None
        elif stop == "leave":
            with stream:
                next(stream)
            assert list(stream) == []
        elif stop == "forget":
            del stream
            gc.collect()
        other.close()
    # The server has nothing left that it waits for.
    assert readings_client.status()["sequence"] > 0


def test_a_stream_says_what_is_wrong(readings_client, spine):
    with pytest.raises(lineament.NotFound, match="did you mean `reading`"):
        list(readings_client.stream(spine, ["readin.value"]))
    with pytest.raises(lineament.NotFound, match="there is no training set"):
        list(readings_client.stream("01a219c4-53f4-720e-b65b-0c5c32c675df"))
    with pytest.raises(lineament.InvalidRequest, match="record=True"):
        readings_client.stream(readings_client.get_historical_features(spine, FEATURES, record=False))
    with pytest.raises(lineament.InvalidRequest, match="rows are wanted, not the path"):
        readings_client.stream("spine.parquet", FEATURES)


def test_rows_that_are_not_the_spine_are_noticed(readings_client, spine, monkeypatch):
    changed = spine.set_column(0, "row", compute.add(spine["row"], 1))
    stream = readings_client.stream(spine, FEATURES)
    stream._spine = changed
    with pytest.raises(lineament.Damaged, match="column `row` of the spine"):
        next(stream)
    stream = readings_client.stream(spine, FEATURES)
    stream._spine = pyarrow.concat_tables([spine, spine.slice(0, 1)])
    with pytest.raises(lineament.Damaged, match="20,001 rows, but 20,000 came back"):
        list(stream)


def test_memory_does_not_grow_with_the_set(flights_client, flights_spine, flights_server):
    """A set of 670,000 rows and 20 columns, gone through in a process of its own."""
    many = pyarrow.concat_tables([flights_spine] * 2)
    features = ["weather.*", "departures.*", "leg.*", "plane.seats"]
    stream = flights_client.stream(many, features)
    held = sum(batch.nbytes for batch in stream)
    del many
    import subprocess

    code = f"""
import lineament, resource
client = lineament.connect({flights_server.url!r})
small = next(iter(client.loader({stream.id!r}, batch_size=1000)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = sum(len(batch["at"]) for batch in client.loader({stream.id!r}, batch_size=5000))
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows, grown = map(int, done.stdout.split())
    assert rows == 2 * flights_spine.num_rows
    assert held > 64 << 20, held
    assert grown * 1024 < held / 4, f"{grown >> 10} MiB more were held for a set of {held >> 20} MiB"


# ---------------------------------------------------------------------------------------------------- loaders


def test_batches_have_one_size_and_lose_nothing(readings_client, training_set):
    loader = readings_client.loader(training_set, batch_size=777)
    batches = list(loader)
    assert [len(batch["row"]) for batch in batches] == [777] * (ROWS // 777) + [ROWS % 777]
    whole = training_set.to_df()
    for name in training_set.column_names:
        joined = numpy.concatenate([batch[name] for batch in batches])
        if name == "at":
            assert (joined == whole["at"].to_numpy(dtype="datetime64[us]")).all()
        elif joined.dtype.kind == "f":
            numpy.testing.assert_array_equal(joined, whole[name].to_numpy(dtype=joined.dtype))
        else:
            assert joined.tolist() == whole[name].tolist()
    # Anew, each time it is gone through.
    assert len(list(loader)) == len(batches) and loader.epoch == 2
    dropped = readings_client.loader(training_set, batch_size=777, drop_last=True)
    assert {len(batch["row"]) for batch in dropped} == {777}


def test_a_matrix_and_its_labels(readings_client, training_set):
    loader = readings_client.loader(
        training_set, columns=["value", "quality", "flag"], label="label", dtype="float32", batch_size=6_000
    )
    pairs = list(loader)
    matrix = numpy.concatenate([features for features, _ in pairs])
    labels = numpy.concatenate([label for _, label in pairs])
    assert (matrix.shape, matrix.dtype, labels.dtype) == (
        (ROWS, 3),
        numpy.dtype("float32"),
        numpy.dtype("float32"),
    )
    frame = training_set.to_df()
    numpy.testing.assert_array_equal(matrix[:, 0], frame["value"].to_numpy("float32"))
    numpy.testing.assert_array_equal(matrix[:, 1], frame["quality"].to_numpy("float32"))
    numpy.testing.assert_array_equal(matrix[:, 2], frame["flag"].to_numpy("float32"))
    numpy.testing.assert_array_equal(labels, frame["label"].to_numpy("float32"))
    (alone,) = readings_client.loader(training_set, columns=["row"], dtype="int64", batch_size=ROWS)
    assert alone.shape == (ROWS, 1) and alone[:, 0].tolist() == list(range(ROWS))


def test_shuffling_mixes_within_a_window_and_repeats_itself(readings_client, training_set):
    def rows(**options):
        loader = readings_client.loader(training_set, columns=["row"], batch_size=500, **options)
        return [numpy.concatenate([batch["row"] for batch in loader]).tolist() for _ in range(2)]

    first, second = rows(shuffle=2_000, seed=1)
    assert sorted(first) == sorted(second) == list(range(ROWS))
    assert first != second and first != list(range(ROWS))
    for window in range(0, ROWS, 2_000):
        assert sorted(first[window : window + 2_000]) == list(range(window, window + 2_000))
    assert rows(shuffle=2_000, seed=1) == [first, second]
    assert rows(shuffle=2_000, seed=2)[0] != first


def test_a_loader_travels_to_another_process(readings_client, training_set):
    loader = pickle.loads(
        pickle.dumps(readings_client.loader(training_set, columns=["row"], batch_size=9_000))
    )
    assert [len(batch["row"]) for batch in loader] == [9_000, 9_000, 2_000]
    assert training_set.id in repr(loader)


@pytest.fixture
def torch(monkeypatch):
    """What a loader needs of torch, in its place: torch itself is too large for these tests, so that how its
    own DataLoader takes the batches is not tried here."""
    module = types.ModuleType("torch")
    module.worker = None
    data = types.SimpleNamespace(
        IterableDataset=type("IterableDataset", (), {}), get_worker_info=lambda: module.worker
    )
    module.utils = types.SimpleNamespace(data=data)

    def from_numpy(array):
        assert array.flags.writeable, "a tensor would share memory that must not change"
        return ("tensor", array)

    module.from_numpy = from_numpy
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


def test_batches_as_tensors(readings_client, training_set, torch):
    dataset = readings_client.loader(
        training_set, columns=["row", "sensor", "value"], batch_size=8_000
    ).torch()
    assert isinstance(dataset, torch.utils.data.IterableDataset)
    batches = list(dataset)
    assert [kind for kind, _ in (batches[0]["row"], batches[0]["value"])] == ["tensor"] * 2
    assert batches[0]["sensor"][:4].tolist() == list("abcd")
    assert sum(len(batch["row"][1]) for batch in batches) == ROWS
    features, label = next(
        iter(readings_client.loader(training_set, columns=["row"], label="label", dtype="float32").torch())
    )
    assert (features[0], label[0]) == ("tensor", "tensor")


def test_workers_share_the_batches(readings_client, training_set, torch):
    seen = []
    for worker in range(3):
        torch.worker = types.SimpleNamespace(id=worker, num_workers=3, seed=70 + worker)
        dataset = readings_client.loader(
            training_set, columns=["row"], batch_size=1_000, shuffle=4_000
        ).torch()
        seen.append([row for batch in dataset for row in batch["row"][1].tolist()])
    assert sorted(sum(seen, [])) == list(range(ROWS))
    assert all(len(rows) >= 6_000 for rows in seen)


def test_a_loader_says_what_is_wrong(readings_client, training_set):
    for options, why in [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": "many"}, "batch_size is 'many'"),
        ({"shuffle": -1}, "shuffle is -1"),
        ({"label": "label"}, "give dtype too"),
        ({"columns": ["valu"]}, "has no column `valu`; it has row, sensor, at, label, flag, value, quality"),
        ({"columns": ["sensor"], "dtype": "float32"}, "column `sensor` is string"),
        ({"columns": ["value"], "dtype": "int32"}, "column `value` has nulls"),
        ({"part": "train"}, "recorded without a split"),
    ]:
        with pytest.raises(lineament.InvalidRequest, match=why):
            list(readings_client.loader(training_set, **options))


# ---------------------------------------------------------------------------------------------------- exports


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_export_holds_what_was_recorded(readings_client, training_set, tmp_path):
    exported = readings_client.export(training_set, tmp_path / "set", rows_per_file=7_000)
    assert names(tmp_path / "set") == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert (exported.rows, exported.kept, exported.digest) == (ROWS, 0, training_set.digest)
    assert [pyarrow.parquet.read_metadata(path).num_rows for path in exported.files] == [7_000, 7_000, 6_000]
    read = pyarrow.dataset.dataset(exported.files).to_table()
    assert read.replace_schema_metadata().equals(training_set.to_arrow().replace_schema_metadata())
    # A file says of which set it is, to Arrow and to pandas.
    for rows in (pandas.read_parquet(exported.files[1]), pyarrow.parquet.read_table(exported.files[1])):
        assert training_set_of(rows) == training_set.id
    assert "3 files" in repr(exported)


def test_a_cut_export_goes_on_where_it_stopped(readings_client, training_set, tmp_path, monkeypatch):
    write = exports._write
    written = []

    def failing(path, table):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, table)

    monkeypatch.setattr(exports, "_write", failing)
    with pytest.raises(KeyboardInterrupt):
        readings_client.export(training_set, tmp_path, rows_per_file=3_000)
    assert names(tmp_path) == ["part-00000.parquet", "part-00001.parquet"]
    (tmp_path / "part-00002.parquet.unfinished").write_bytes(b"half of it")
    times = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("*.parquet"))]
    monkeypatch.setattr(exports, "_write", write)
    exported = readings_client.export(training_set, tmp_path, rows_per_file=3_000)
    assert (exported.kept, len(exported.files)) == (2, 7)
    assert [path.stat().st_mtime_ns for path in exported.files[:2]] == times
    assert names(tmp_path) == [path.name for path in exported.files]
    assert readings_client.export(training_set, tmp_path, rows_per_file=3_000).kept == 7


def test_an_export_refuses_a_folder_of_something_else(readings_client, training_set, spine, tmp_path):
    readings_client.export(training_set, tmp_path, rows_per_file=10_000)
    for options, why in [
        ({"rows_per_file": 20_000}, "is no part of this export"),
        ({"rows_per_file": 10_001}, "other rows_per_file"),
    ]:
        with pytest.raises(lineament.InvalidRequest, match=why):
            readings_client.export(training_set, tmp_path, **options)
    other = readings_client.get_historical_features(spine, ["reading.grade"])
    with pytest.raises(lineament.InvalidRequest, match=f"is of the training set {training_set.id}"):
        readings_client.export(other, tmp_path, rows_per_file=10_000)
    with pytest.raises(lineament.InvalidRequest, match="rows_per_file is 0"):
        readings_client.export(training_set, tmp_path / "none", rows_per_file=0)
    pandas.DataFrame({"x": [1]}).to_parquet(tmp_path / "part-00000.parquet")
    with pytest.raises(lineament.InvalidRequest, match="is of no training set"):
        readings_client.export(training_set, tmp_path, rows_per_file=10_000)


def test_a_changed_file_is_noticed(readings_client, training_set, tmp_path):
    exported = readings_client.export(training_set, tmp_path, rows_per_file=10_000)
    table = pyarrow.parquet.read_table(exported.files[1])
    values = table["value"].to_pylist()
    values[5_000] = 99.5
    changed = table.set_column(
        table.column_names.index("value"), table.schema.field("value"), pyarrow.array(values)
    )
    pyarrow.parquet.write_table(changed, exported.files[1])
    with pytest.raises(
        lineament.Damaged, match="part-00001.parquet does not hold what was recorded.*`value`"
    ):
        readings_client.export(training_set, tmp_path, rows_per_file=10_000)
    exported.files[1].write_bytes(exported.files[1].read_bytes()[:-100])
    with pytest.raises(lineament.Damaged, match="cannot be read .*remove it"):
        readings_client.export(training_set, tmp_path, rows_per_file=10_000)
    exported.files[1].unlink()
    assert readings_client.export(training_set, tmp_path, rows_per_file=10_000).kept == 1


def test_a_file_of_a_bucket_that_reads_back_as_another_is_not_left(readings_client, training_set, tmp_path, monkeypatch):
    bucket = pyarrow.fs.SubTreeFileSystem(str(tmp_path), pyarrow.fs.LocalFileSystem())
    monkeypatch.setattr(exports.BucketFile, "read", lambda file: pyarrow.py_buffer(b"half of it"))
    with pytest.raises(lineament.Damaged, match="part-00000.parquet cannot be read"):
        readings_client.export(training_set, "set", rows_per_file=10_000, filesystem=bucket)
    assert names(tmp_path / "set") == []
    monkeypatch.undo()
    exported = readings_client.export(training_set, "set", rows_per_file=10_000, filesystem=bucket)
    assert (exported.rows, exported.kept) == (ROWS, 0)


# ------------------------------------------------------------------------------- spines that are sent as they are made


def parts(spine: pyarrow.Table, rows: int = 3_000) -> list[pyarrow.RecordBatch]:
    return spine.to_batches(max_chunksize=rows)


@pytest.mark.parametrize("given", ["generator", "reader", "frames"])
def test_a_spine_that_is_sent_as_it_is_made_is_the_same_set(readings_client, spine, training_set, given):
    def made():
        match given:
            case "generator":
                return (batch for batch in parts(spine))
            case "reader":
                return pyarrow.RecordBatchReader.from_batches(spine.schema, parts(spine))
            case "frames":
                return (pyarrow.Table.from_batches([batch]) for batch in parts(spine))

    with readings_client.stream(made(), FEATURES) as stream:
        table = pyarrow.Table.from_batches(list(stream))
    assert table.equals(training_set.to_arrow().replace_schema_metadata())
    assert (stream.rows, stream.digest) == (ROWS, training_set.digest)
    assert readings_client.replay(stream.id).equal

    whole = readings_client.get_historical_features(made(), FEATURES)
    assert whole.to_arrow().replace_schema_metadata().equals(table)
    assert (whole.digest, whole.at) == (training_set.digest, "at")


def test_a_spine_that_fails_on_its_way_is_no_spine(readings_client, spine):
    before = readings_client.sql("SELECT count(*) AS n FROM lineament.training_sets").to_arrow()["n"][0]

    def failing(error: BaseException):
        yield from parts(spine)[:2]
        raise error

    for ask in (readings_client.stream, readings_client.get_historical_features):
        with pytest.raises(ZeroDivisionError, match="a fault of mine"):
            list(ask(failing(ZeroDivisionError("a fault of mine")), FEATURES))
        other = [parts(spine)[0], parts(spine)[1].drop_columns("label")]
        with pytest.raises(lineament.InvalidRequest, match="batch 1 of the spine has the columns"):
            list(ask(iter(other), FEATURES))
        with pytest.raises(lineament.InvalidRequest, match="no batches"):
            ask(iter([]), FEATURES)
        with pytest.raises(lineament.InvalidRequest, match="no rows"):
            list(ask(iter([spine.slice(0, 0)]), FEATURES))
        with pytest.raises(lineament.Error, match="quality_"):
            list(ask(iter(parts(spine)), ["reading.quality_"]))
    after = readings_client.sql("SELECT count(*) AS n FROM lineament.training_sets").to_arrow()["n"][0]
    assert after == before
