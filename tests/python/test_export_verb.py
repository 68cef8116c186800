"""`lineament export`: a recorded training set as files, beside the store."""

import re
import subprocess

import pyarrow
import pyarrow.dataset
import pyarrow.parquet
import pytest
import readings
from program import command, fails, run, watched


@pytest.fixture(scope="module")
def recorded(readings_client, server):
    spine = pyarrow.concat_tables([readings.spine()] * 300)
    training_set = readings_client.get_historical_features(spine, ["reading.*"])
    return server.store, training_set


def test_it_holds_what_was_recorded(recorded, readings_client, tmp_path):
    store, training_set = recorded
    said = run(store, "export", training_set.id, tmp_path / "set", "--rows-per-file", 1_000)
    assert f"3,900 rows in 4 files, in {tmp_path}/set; read back: {training_set.digest}" in said
    files = sorted((tmp_path / "set").iterdir())
    assert [path.name for path in files] == [f"part-0000{number}.parquet" for number in range(4)]
    read = pyarrow.dataset.dataset(files).to_table()
    assert read.replace_schema_metadata().equals(training_set.to_arrow().replace_schema_metadata())
    # Python's export goes on with the same files.
    assert readings_client.export(training_set, tmp_path / "set", rows_per_file=1_000).kept == 4


def test_it_goes_on_where_it_was_cut(recorded, tmp_path):
    store, training_set = recorded
    run(store, "export", training_set.id, tmp_path, "--rows-per-file", 1_000)
    kept = (tmp_path / "part-00000.parquet").stat().st_mtime_ns
    (tmp_path / "part-00002.parquet").unlink()
    (tmp_path / "part-00003.parquet").rename(tmp_path / "part-00003.parquet.unfinished")
    said = run(store, "export", training_set.id, tmp_path, "--rows-per-file", 1_000)
    assert "3,900 rows in 4 files, 2 of them from before" in said
    assert (tmp_path / "part-00000.parquet").stat().st_mtime_ns == kept
    assert len(list(tmp_path.iterdir())) == 4


def test_a_running_server_gives_the_same_files(recorded, readings_client, tmp_path):
    store, training_set = recorded
    # The store is the server's: here there is none.
    asked = (tmp_path / "no store", "export", training_set.id, tmp_path / "set")
    served = (*asked, "--rows-per-file", 1_000, "--server", readings_client.url)
    assert f"3,900 rows in 4 files, in {tmp_path}/set; read back: {training_set.digest}" in run(*served)
    (tmp_path / "set" / "part-00001.parquet").unlink()
    assert "3 of them from before" in run(*served)
    # Beside the store it goes on with them.
    assert "4 of them from before" in run(store, *asked[1:], "--rows-per-file", 1_000)
    read = pyarrow.dataset.dataset(sorted((tmp_path / "set").iterdir())).to_table()
    assert read.replace_schema_metadata().equals(training_set.to_arrow().replace_schema_metadata())
    assert not (tmp_path / "no store").exists()


def test_a_set_of_several_endpoints_comes_in_its_order(recorded, readings_client, tmp_path):
    spine = pyarrow.concat_tables([readings.spine()] * 25_000)
    training_set = readings_client.get_historical_features(spine, ["reading.value"])
    said = run(
        tmp_path / "no store", "export", training_set.id, tmp_path / "set", "--server", readings_client.url,
        "--rows-per-file", 150_000,
    )  # fmt: skip
    assert f"325,000 rows in 3 files, in {tmp_path}/set; read back: {training_set.digest}" in said


def test_a_server_that_does_not_give_the_set(recorded, readings_client, tmp_path):
    missing = "01a219c4-53f4-720e-b65b-0c5c32c675df"
    for server, id, why in (
        (readings_client.url, missing, "there is no training set"),
        ("grpc://127.0.0.1:1", missing, "no server answers at grpc://127.0.0.1:1"),
        ("http://127.0.0.1:1", missing, "write it as grpc://host:port"),
        ("grpc+tls://127.0.0.1:1", missing, "--tls-root-certs"),
    ):
        assert why in fails(tmp_path / "no store", "export", id, tmp_path / "none", "--server", server)
    told = fails(
        tmp_path / "no store", "export", missing, tmp_path / "none", "--server", "grpc://example.org:1", "--token", "x"
    )
    assert "others could read the token" in told
    assert not (tmp_path / "none").exists()


def test_a_person_sees_how_far_it_is(recorded, tmp_path):
    store, training_set = recorded
    printed, shown = watched(store, "export", training_set.id, tmp_path / "watched", "--rows-per-file", 1_000)
    assert f"read back: {training_set.digest}" in printed and "/3,900" not in printed
    bars = re.findall(r"  export +(█*)[^ /█]* +([\d,]+)/3,900 ", shown)
    done = [int(count.replace(",", "")) for _, count in bars]
    assert done and done == sorted(done) and done[-1] > 0, shown
    assert all(len(bar) == min(32, 32 * count // 3_900) for (bar, _), count in zip(bars, done, strict=True)), shown
    # The line is taken away again.
    assert shown.rstrip("\r").endswith("\x1b[2K"), repr(shown[-200:])
    # Where nobody watches there is nothing but what it says at the end.
    unwatched = subprocess.run(
        command(store, "export", training_set.id, tmp_path / "unwatched", "--rows-per-file", 1_000),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (unwatched.returncode, unwatched.stderr) == (0, "")
    assert unwatched.stdout == printed.replace(f"{tmp_path}/watched", f"{tmp_path}/unwatched")


def test_a_folder_of_something_else(recorded, readings_client, tmp_path):
    store, training_set = recorded
    run(store, "export", training_set.id, tmp_path, "--rows-per-file", 2_000)
    assert "as many rows a file as before" in fails(
        store, "export", training_set.id, tmp_path, "--rows-per-file", 1_999
    )
    assert "is no part of this export" in fails(store, "export", training_set.id, tmp_path)
    spine = pyarrow.concat_tables([readings.spine()] * 300)
    other = readings_client.get_historical_features(spine, ["reading.value"])
    assert f"is of the training set {training_set.id}" in fails(
        store, "export", other.id, tmp_path, "--rows-per-file", 2_000
    )
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "part-00000.parquet")
    assert "is of no training set" in fails(
        store, "export", training_set.id, tmp_path, "--rows-per-file", 2_000
    )
    missing = "01a219c4-53f4-720e-b65b-0c5c32c675df"
    assert "there is no training set" in fails(store, "export", missing, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_changed_file_is_noticed(recorded, tmp_path):
    store, training_set = recorded
    run(store, "export", training_set.id, tmp_path, "--rows-per-file", 2_000)
    path = tmp_path / "part-00001.parquet"
    table = pyarrow.parquet.read_table(path)
    labels = table["label"].to_pylist()
    labels[7] += 1
    pyarrow.parquet.write_table(table.set_column(0, table.schema.field("label"), pyarrow.array(labels)), path)
    done = subprocess.run(
        command(store, "export", training_set.id, tmp_path, "--rows-per-file", 2_000),
        capture_output=True,
        text=True,
        timeout=60,
    )
    # 4 tells of damage.
    assert (
        done.returncode == 4
        and f"but the training set {training_set.id} is {training_set.digest}" in done.stderr
    )
    path.write_bytes(path.read_bytes()[:-50])
    assert "cannot be read" in fails(store, "export", training_set.id, tmp_path, "--rows-per-file", 2_000)
