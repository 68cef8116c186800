"""Rejected rows are written out, mended, and taken in again, each once."""

import lineament
import pandas
import pytest
from program import FLIGHTS, Server, fails, run

HOURS = pandas.DataFrame(
    {
        "origin": ["JFK", "JFK", "LGA", "LGA", "EWR"],
        "hour": [f"2024-01-01T{hour:02}:00:00Z" for hour in (8, 9, 8, 9, 8)],
        "temp": ["31", "451", "cold", "33", "28"],
    }
)
AIRPORT = 'kind = "entity"\nname = "airport"\n[[keys]]\nname = "origin"\ntype = "string"\n'
WEATHER = """
kind = "feature_view"
name = "weather"
entity = "airport"
[time]
valid_at = "hour"
known_at = { delay = "30m" }
[[features]]
name = "temp"
type = "float64"
range = [-40, 130]
"""


@pytest.fixture
def store(tmp_path):
    definitions = tmp_path / "definitions"
    definitions.mkdir()
    (definitions / "airport.toml").write_text(AIRPORT)
    (definitions / "weather.toml").write_text(WEATHER)
    run(tmp_path / "store", "apply", definitions)
    HOURS.to_csv(tmp_path / "hours.csv", index=False)
    said = run(tmp_path / "store", "ingest", "weather", tmp_path / "hours.csv")
    assert "3 rows accepted, 2 rejected" in said
    return tmp_path / "store"


def asked(store, query: str) -> list[str]:
    return run(store, "sql", "--format", "csv", query).splitlines()[1:]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_by_files(store, tmp_path, ending):
    (batch,) = asked(store, "SELECT DISTINCT batch FROM lineament.rejected_rows")
    file = tmp_path / f"rejected.{ending}"
    assert "2 rejected rows" in run(store, "quarantine", "export", batch, "--to", file)
    rows = pandas.read_csv(file, dtype=str) if ending == "csv" else pandas.read_parquet(file)
    assert list(rows.columns) == ["rejected_origin", "rejected_row", "rejected_for", "origin", "hour", "temp"]
    assert list(rows.temp) == ["451", "cold"] and "is above 130" in rows.rejected_for[0]
    # One is mended, and the other is not right yet.
    rows.loc[0, "temp"] = "45.1"
    write = rows.to_csv if ending == "csv" else rows.to_parquet
    write(file, index=False)
    # Its batch covers these times, so that it must be said what the mended rows are.
    assert "--back-fill" in fails(store, "quarantine", "mend", batch, file)
    said = run(store, "quarantine", "mend", batch, file, "--back-fill")
    assert "1 rows accepted, 1 rejected" in said and "1 rows that had been rejected are mended" in said
    mended = asked(store, 'SELECT "value", mended_by IS NULL FROM lineament.rejected_rows')
    # What is not right yet is a rejected row of the new batch, and of the old one no more. As JSON: they came as text.
    assert sorted(mended) == ['"""451""",false', '"""cold""",false', '"""cold""",true']
    assert asked(store, "SELECT temp FROM weather WHERE origin = 'JFK' ORDER BY valid_at") == ["31.0", "45.1"]
    assert "was mended before" in fails(store, "quarantine", "mend", batch, file, "--back-fill")
    assert "0 rejected rows" in run(store, "quarantine", "export", batch, "--to", tmp_path / f"none.{ending}")
    # What is left is written out again, and mended.
    (left,) = asked(store, "SELECT DISTINCT batch FROM lineament.rejected_rows WHERE mended_by IS NULL")
    assert "1 rejected rows" in run(store, "quarantine", "export", left, "--to", file)
    rows = pandas.read_csv(file, dtype=str) if ending == "csv" else pandas.read_parquet(file)
    assert list(rows.columns) == ["rejected_origin", "rejected_row", "rejected_for", "origin", "hour", "temp"]
    rows["temp"] = "32"
    write = rows.to_csv if ending == "csv" else rows.to_parquet
    write(file, index=False)
    run(store, "quarantine", "mend", left, file, "--back-fill")
    assert asked(store, "SELECT count(*) FROM weather") == ["5"]
    run(store, "checkpoint")
    run(store, "checkpoint", "--check")
    run(store, "verify", "--full")


def test_what_cannot_be_mended(store, tmp_path):
    (batch,) = asked(store, "SELECT DISTINCT batch FROM lineament.rejected_rows")
    HOURS.to_csv(tmp_path / "bare.csv", index=False)
    assert "it has no column rejected_origin" in fails(store, "quarantine", "mend", batch, tmp_path / "bare.csv")
    strange = HOURS.head(1).assign(rejected_origin="hours.csv", rejected_row=0)
    strange.to_csv(tmp_path / "strange.csv", index=False)
    assert "is no rejected row" in fails(store, "quarantine", "mend", batch, tmp_path / "strange.csv", "--back-fill")
    twice = pandas.concat([HOURS.iloc[[1]].assign(rejected_origin="hours.csv", rejected_row=1)] * 2)
    twice.to_csv(tmp_path / "twice.csv", index=False)
    assert "is there twice" in fails(store, "quarantine", "mend", batch, tmp_path / "twice.csv", "--back-fill")
    no_batch = "0198f3c1-0000-7000-8000-000000000000"
    assert "there is no batch" in fails(store, "quarantine", "mend", no_batch, tmp_path / "twice.csv")
    assert "endings are .csv and .parquet" in fails(store, "quarantine", "export", batch, "--to", tmp_path / "rejected.txt")
    HOURS.head(1).to_csv(tmp_path / "whole.csv", index=False)
    run(store, "ingest", "weather", tmp_path / "whole.csv", "--back-fill")
    (whole,) = asked(store, "SELECT batch FROM lineament.batches WHERE rejected = 0")
    assert "no row of batch" in fails(store, "quarantine", "export", whole, "--to", tmp_path / "rejected.csv")


def test_by_python():
    with lineament.serve("memory://") as server, server.connect() as client:
        client.apply(FLIGHTS / "features")
        weather = pandas.read_parquet(FLIGHTS / "weather.parquet")
        report = client.ingest("weather", weather)
        assert report.rejected == 1
        rows = client.rejected(report.batch)
        assert list(rows.rejected_row) == [1009] and "is above 200 mph" in rows.rejected_for[0]
        with pytest.raises(lineament.InvalidRequest, match="rejected_origin"):
            client.mend(report.batch, rows.drop(columns="rejected_origin"))
        mended = client.mend(report.batch, rows.assign(wind_speed="10.48"), claim="back_fill")
        assert (mended.rows, mended.mended) == (1, 1) and "had been rejected mended" in repr(mended)
        assert len(client.rejected(report.batch)) == 0
        with pytest.raises(lineament.InvalidRequest, match="mended before"):
            client.mend(report.batch, rows.assign(wind_speed="10.48"), claim="back_fill")


def test_marks_that_came_with_a_row_are_no_part_of_it(store, tmp_path):
    """An export that is ingested as it is, rather than mended, has columns of that name."""
    hours = HOURS.iloc[[1]].assign(hour="2024-01-02T09:00:00Z", rejected_origin="x.csv", rejected_row=7, rejected_for="it")
    hours.to_csv(tmp_path / "again.csv", index=False)
    assert "1 of 1 rows were rejected" in fails(store, "ingest", "weather", tmp_path / "again.csv")
    with Server(store) as server, lineament.connect(server.url) as client:
        query = "SELECT batch FROM lineament.rejected_rows WHERE origin = 'again.csv'"
        rows = client.rejected(client.sql(query).to_df().batch[0])
    assert list(rows.rejected_origin) == ["again.csv"] and list(rows.rejected_row) == [0]
    assert "is above 130" in rows.rejected_for[0]
