"""A program for which there is nothing but pyarrow and this package: `pyarrow_alone.py URL FOLDER`.

Whatever else is installed cannot be imported, as in an environment that `pip install lineament` made."""

import importlib.abc
import sys

TAKEN = {"pyarrow", "lineament", "readings"}
OPTIONAL = ("pandas", "polars", "numpy", "torch", "mlflow", "feast")


class NothingElse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        # What Python knows of its own build is called after the platform, and is in no list.
        if top in TAKEN or top in sys.stdlib_module_names or top.startswith("_sysconfigdata"):
            return None
        raise ModuleNotFoundError(f"No module named {top!r}", name=top)


def refused(attempt, package: str, wanted: str) -> None:
    """That something is refused for want of a package, and says so and what to do."""
    try:
        attempt()
    except ImportError as error:
        said = str(error)
        assert said.startswith(f"{wanted} needs {package}"), said
        assert said.endswith(f"; pip install 'lineament[{package}]'"), said
    else:
        raise AssertionError(f"{wanted} did without {package}")


def main(url: str, folder: str) -> None:
    sys.meta_path.insert(0, NothingElse())
    import lineament
    import pyarrow.parquet
    import readings

    with lineament.connect(url) as client:
        assert client.apply(readings.DEFINITIONS).sequence is not None
        report = client.ingest("reading", readings.rows())
        assert (report.rows, report.rejected) == (7, 0), report
        training_set = client.get_historical_features(readings.spine(), ["reading.value", "reading.quality"])
        assert training_set.to_arrow()["value"].to_pylist() == readings.VALUES
        assert len(repr(training_set)) > 100 and "<table>" in training_set._repr_html_()
        streamed = pyarrow.Table.from_batches(list(client.stream(training_set)))
        assert streamed["value"].to_pylist() == readings.VALUES
        spine = pyarrow.RecordBatchReader.from_batches(readings.spine().schema, readings.spine().to_batches())
        with client.stream(spine, "reading.value") as stream:
            assert [value for batch in stream for value in batch.column("value").to_pylist()] == readings.VALUES
        exported = client.export(training_set, folder, rows_per_file=5)
        read = [pyarrow.parquet.read_table(file)["value"].to_pylist() for file in exported.files]
        assert [value for values in read for value in values] == readings.VALUES and len(read) == 3
        assert client.explain(training_set, 2, "value").value == "2.5"
        online = client.get_online_features(["reading.value"], [{"sensor": "b"}], at=readings.clock("10:00"))
        assert online.to_dict()["value"] == [5.0]
        view = client.define_view(readings.rows(), key="sensor", time="measured_at", name="drafted", known_at="30m")
        assert client.ingest(view.name, readings.rows()).rows == 7
        for rows in (training_set, client.sql("SELECT 1"), online):
            refused(rows.to_df, "pandas", "to_df()")
            refused(lambda rows=rows: rows.to_df(dtype_backend="pyarrow"), "pandas", "to_df()")
        refused(training_set.to_polars, "polars", "to_polars()")
        refused(lambda: next(iter(client.loader(training_set))), "numpy", "a loader")
        refused(lambda: next(iter(client.loader(training_set, columns=["value"], dtype="float32"))), "numpy", "a loader")
        refused(client.loader(training_set).torch, "torch", "Loader.torch()")
        client.with_run("by hand").use(training_set, role="test")
        try:
            client.score_batch("models:/delay@champion", readings.spine())
        except lineament.InvalidRequest as error:
            assert "pip install 'lineament[mlflow]'" in str(error), error
        else:
            raise AssertionError("a model was asked for, and there is no MLflow")
    loaded = [name for name in OPTIONAL if name in sys.modules]
    assert not loaded, loaded
    print("done without")


if __name__ == "__main__":
    main(*sys.argv[1:])
