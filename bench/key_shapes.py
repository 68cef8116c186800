"""Other shapes of keys than the harness generates, and its peers over them.

`S-text` is S with keys of text, `S-two` with keys of two columns, `S-zipf` with keys as skewed as words are: of 100,000 entities the first
has 13 % of all rows. Text and two columns are made of S, row by row and in its order, so that every other value is the same.
"""

import json
import os
from pathlib import Path

SHAPES = ("S-text", "S-two", "S-zipf")
# An entity's number, in two columns.
PARTS = 1000
EXPONENT = 1.1


def generate(generator, data: Path, shape: str, compression: str) -> None:
    if shape == "S-zipf":
        zipf(generator, data, shape, compression)
        return
    source, target = data / "S", data / shape
    if not source.exists():
        raise SystemExit(f"{shape} is made of S, which is not in {data}; measure S first")
    manifest = json.loads((source / "manifest.json").read_text())
    target.mkdir()
    for file in [view["file"] for view in manifest["views"]] + [spine["file"] for spine in manifest["spines"].values()]:
        rewrite(source / file, target / file, shape, compression)
    for described in [*manifest["views"], *manifest["spines"].values()]:
        described["bytes"] = os.path.getsize(target / described["file"])
    text = [{"name": "entity_id", "type": "string"}]
    two = [{"name": "entity_id", "type": "int64"}, {"name": "entity_part", "type": "int64"}]
    manifest["keys"] = text if shape == "S-text" else two
    (target / "manifest.json").write_text(json.dumps(manifest, indent=1))


def rewrite(source: Path, target: Path, shape: str, compression: str) -> None:
    import numpy
    import pyarrow
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(source)
    writer = None
    for group in range(file.num_row_groups):
        rows = file.read_row_group(group)
        place = rows.schema.get_field_index("entity_id")
        numbers = rows["entity_id"].to_numpy()
        if shape == "S-text":
            # Padded, so that texts are in the order of the numbers.
            texts = pyarrow.array(numpy.char.mod("customer-%07d", numbers))
            rows = rows.set_column(place, pyarrow.field("entity_id", pyarrow.string(), nullable=False), texts)
        else:
            whole = lambda name: pyarrow.field(name, pyarrow.int64(), nullable=False)
            rows = rows.set_column(place, whole("entity_id"), pyarrow.array(numbers // PARTS))
            rows = rows.add_column(place + 1, whole("entity_part"), pyarrow.array(numbers % PARTS))
        level = 1 if compression == "zstd" else None
        writer = writer or pyarrow.parquet.ParquetWriter(
            target, rows.schema, compression=compression, compression_level=level, write_page_index=True
        )
        writer.write_table(rows, row_group_size=len(rows))
    writer.close()


def zipf(generator, data: Path, shape: str, compression: str) -> None:
    """S, whose entities are drawn by their rank."""
    import numpy
    import sys

    def drawn(random, rows, entities):
        weights = numpy.cumsum(1.0 / numpy.arange(1, entities + 1) ** EXPONENT)
        ranks = numpy.searchsorted(weights, random.random(rows) * weights[-1])
        # Who is first has any number, the same for features and spine.
        return numpy.random.Generator(numpy.random.PCG64(generator.SEED)).permutation(entities)[ranks]

    generator.zipfish_entities = drawn
    sys.argv = ["generate.py", "--out", str(data), "--workload", "S", "--name", shape, "--compression", compression]
    generator.main()


def over_two_columns(peers) -> None:
    """Peers that join on one column, over keys of two."""

    def read_both(job):
        for view in job.views:
            view.read.insert(1, "entity_part")

    @peers.peer("duckdb_two")
    class DuckTwo(peers.DuckAsof):
        def query(self, job):
            text = super().query(job)
            for view in job.views:
                name = f"v{view.i}"
                one = f"ON s.entity_id = {name}.entity_id"
                text = text.replace(one, f"{one} AND s.entity_part = {name}.entity_part")
            return text

    @peers.peer("polars_lazy_two")
    class PolarsTwo(peers.PolarsLazy):
        def run(self, job):
            read_both(job)
            return super().run(job)

        @staticmethod
        def asof(left, right, view):
            return left.join_asof(
                right, left_on="at", right_on="valid_at", by=["entity_id", "entity_part"], strategy="backward",
                check_sortedness=False, coalesce=False,
            ).drop("valid_at")
