"""Input that is wrong, one kind after another: refused clearly, and nothing of it or of what was there is lost."""

import lineament
import log
import pandas
import polars
import pyarrow
import pytest
import readings

FEATURES = ["reading.value"]


@pytest.fixture
def unchanged(readings_client):
    """Whatever is refused in a test leaves the store as it was."""

    def rows() -> list[str]:
        return sorted(map(str, readings_client.sql("SELECT * FROM history('reading')").to_arrow().to_pylist()))

    stored = rows()
    before = log.writes(readings_client)
    yield readings_client
    assert rows() == stored
    assert log.writes(readings_client) == before


def replaced(name: str, values) -> pyarrow.Table:
    table = readings.rows()
    return table.set_column(table.column_names.index(name), name, values)


def later(table: pyarrow.Table, hours: int = 1000) -> pyarrow.Table:
    """The same rows at times of their own."""
    for name in ("measured_at", "published_at"):
        moved = [time + pandas.Timedelta(hours=hours) for time in table[name].to_pylist()]
        table = table.set_column(table.column_names.index(name), name, pyarrow.array(moved, readings.INSTANT))
    return table


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (replaced("value", pyarrow.array([True] * 7)), ["`value`", "bool", "float64"]),
        (replaced("value", pyarrow.array([[1.0]] * 7)), ["`value`", "list", "column of its own"]),
        (replaced("grade", pyarrow.array([1.5] * 7)), ["`grade`", "float64", "string"]),
        (replaced("sensor", pyarrow.array([1.5] * 7)), ["`sensor`", "float64", "string"]),
        (replaced("measured_at", pyarrow.array(range(7))), ["`measured_at`", "int64", "unit"]),
        (readings.rows().drop_columns(["sensor"]), ["`sensor`", "no column"]),
        (readings.rows().drop_columns(["measured_at"]), ["`measured_at`", "no column"]),
        (readings.rows().drop_columns(["published_at"]), ["`published_at`", "no column"]),
        (readings.rows().rename_columns(["sensor", "measured_at", "published_at", "valeu", "quality", "grade"]),
         ["`value`", "did you mean `valeu`"]),
        (replaced("measured_at", readings.rows()["measured_at"].cast(pyarrow.timestamp("us"))), ["`measured_at`", "zone"]),
        (readings.rows().append_column("value", readings.rows()["value"]), ["2 columns named `value`"]),
        (readings.rows().slice(0, 0), ["no rows"]),
    ],
    ids=["bool", "list", "number for text", "number as key", "number as time", "no key", "no time", "no known_at", "misspelt",
         "naive time", "two of one name", "no rows"],
)  # fmt: skip
def test_batches_that_do_not_fit(unchanged, rows, words):
    with pytest.raises(lineament.InvalidRequest) as caught:
        unchanged.ingest("reading", rows)
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("value", pyarrow.array(["1.5", "warm", "2", "3", "4", "5", "6"]), "wrong_type"),
        ("value", pyarrow.array([1.0, float("nan"), 1, 1, 1, 1, 1]), "nan"),
        ("value", pyarrow.array([1.0, 151.0, 1, 1, 1, 1, 1]), "above_range"),
        ("value", pyarrow.array([1.0, float("inf"), 1, 1, 1, 1, 1]), "above_range"),
        ("quality", pyarrow.array([1, 2**40, 1, 1, 1, 1, 1]), "wrong_type"),
        ("quality", pyarrow.array([1.0, 1.5, 1, 1, 1, 1, 1]), "wrong_type"),
        ("grade", pyarrow.array(["good", "Good", None, None, None, None, None]), "not_one_of"),
        ("sensor", pyarrow.array(["a", None, "a", "a", "a", "a", "a"]), "null_key"),
        ("measured_at", [None], "null_time"),
        ("published_at", [None], "null_time"),
    ],
)
def test_single_rows_that_are_wrong(readings_client, name, value, reason):
    rows = later(readings.rows())
    if isinstance(value, list):
        times = rows[name].to_pylist()
        value = pyarrow.array([times[0], None, *times[2:]], readings.INSTANT)
    rows = rows.set_column(rows.column_names.index(name), name, value)
    before = readings_client.sql("SELECT count(*) AS n FROM history('reading')").to_arrow()["n"][0].as_py()
    report = readings_client.ingest("reading", rows)
    assert (report.rows, report.rejected) == (6, 1)
    assert [(found.reason, found.column, found.rows) for found in report.reasons] == [(reason, name, 1)]
    (example,) = report.examples
    assert "row 1" in example and f"`{name}`" in example
    after = readings_client.sql("SELECT count(*) AS n FROM history('reading')").to_arrow()["n"][0].as_py()
    assert after == before + 6


def test_times_finer_than_a_microsecond(readings_client):
    nanos = pyarrow.timestamp("ns", "UTC")
    rows = later(readings.rows(), 2000)
    exact = rows["measured_at"].cast(nanos)
    whole = rows.set_column(1, "measured_at", exact)
    assert readings_client.ingest("reading", whole).rejected == 0
    numbers = [time.value for time in exact.to_pandas()]
    numbers[4] += 1
    fine = later(readings.rows(), 3000).set_column(1, "measured_at", pyarrow.array(numbers, nanos))
    report = readings_client.ingest("reading", fine)
    assert (report.rejected, report.reasons[0].reason, report.reasons[0].column) == (1, "time_too_fine", "measured_at")
    # A spine's time may be as fine as it likes: flooring it sees less, never more.
    spine = pyarrow.table(
        {"sensor": ["a"], "at": pyarrow.array([readings.clock("11:45")], readings.INSTANT).cast(nanos)}
    )
    assert readings_client.get_historical_features(spine, FEATURES).to_arrow()["value"].to_pylist() == [2.0]


def spine_with(**columns) -> pyarrow.Table:
    return pyarrow.table({"sensor": ["a"], "at": pyarrow.array([readings.clock("11:45")], readings.INSTANT), **columns})


@pytest.mark.parametrize(
    ("spine", "features", "words"),
    [
        (readings.spine().slice(0, 0), FEATURES, ["no rows"]),
        (readings.spine().drop_columns(["at"]), FEATURES, ["time column", "sensor"]),
        (readings.spine().drop_columns(["sensor"]), FEATURES, ["`sensor`", "reading"]),
        (readings.spine().rename_columns(["label", "senser", "at"]), FEATURES, ["`sensor`", "`senser`"]),
        (readings.spine().set_column(2, "at", readings.spine()["at"].cast(pyarrow.timestamp("us"))), FEATURES, ["`at`", "zone", "tz_localize"]),
        (readings.spine().set_column(2, "at", pyarrow.array(["2024"] * 13)), FEATURES, ["`at`"]),
        (readings.spine().set_column(1, "sensor", pyarrow.array(range(13))), FEATURES, ["`sensor`", "cast"]),
        (spine_with(value=[1.0]), FEATURES, ["`value`", "full feature names"]),
        (readings.spine(), ["reading.value", "reading.value"], ["reading@1.value", "twice"]),
        (readings.spine(), ["reading.value", "other.value"], ["reading@1.value", "other@1.value", "full feature names"]),
        (readings.spine(), [], ["no features"]),
        (readings.spine(), ["value"], ["`value`"]),
        (readings.spine(), ["reading."], ["reading."]),
    ],
    ids=["no rows", "no time", "no key", "misspelt key", "naive time", "text as time", "number as key", "column is taken", "twice",
         "one name", "none", "no view", "no feature"],
)  # fmt: skip
def test_spines_and_references_that_do_not_fit(readings_client, spine, features, words):
    other = readings.DEFINITIONS["reading.toml"].replace('name = "reading"', 'name = "other"')
    readings_client.apply({"sensor.toml": readings.DEFINITIONS["sensor.toml"], "other.toml": other})
    before = log.writes(readings_client)
    with pytest.raises(lineament.InvalidRequest) as caught:
        readings_client.get_historical_features(spine, features)
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)
    assert log.writes(readings_client) == before


def test_a_spine_of_two_columns_of_one_name(readings_client):
    spine = readings.spine().append_column("label", readings.spine()["label"])
    with pytest.raises(lineament.InvalidRequest, match="label"):
        readings_client.get_historical_features(spine, FEATURES)
    frame = readings.spine().to_pandas()
    frame.columns = ["sensor", "sensor", "at"]
    with pytest.raises(lineament.InvalidRequest, match="several columns named `sensor`"):
        readings_client.get_historical_features(frame, FEATURES)


@pytest.mark.parametrize("ttl", ["0s", "soon", "-1h", 5])
def test_lengths_of_time_that_are_none(unchanged, ttl):
    with pytest.raises(lineament.InvalidRequest):
        unchanged.get_historical_features(readings.spine(), FEATURES, ttl={"reading": ttl}, record=False)


def test_a_ttl_for_a_view_that_is_not_asked_for(unchanged):
    with pytest.raises(lineament.InvalidRequest, match="weather"):
        unchanged.get_historical_features(readings.spine(), FEATURES, ttl={"weather": "1h"}, record=False)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ("weather.parquet", "path"),
        (5, "not a frame"),
        (None, "not a frame"),
        (polars.LazyFrame({"a": [1]}), "collect"),
        (pandas.Series([1]), "to_frame"),
        (pandas.DataFrame({"a": [1, "b"]}), "cannot be read.*column a"),
        (pandas.DataFrame([[1, 2]], columns=["a", "a"]), "several columns named `a`"),
    ],
    ids=["path", "number", "none", "lazy frame", "series", "mixed types", "two of one name"],
)
def test_what_is_no_frame(unchanged, frame, words):
    for ask in (lambda: unchanged.ingest("reading", frame), lambda: unchanged.get_historical_features(frame, FEATURES)):
        with pytest.raises(lineament.InvalidRequest, match=words):
            ask()


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (RuntimeError("the line went dead"), RuntimeError),
        (OSError("the line went dead"), lineament.InvalidRequest),
        (pyarrow.ArrowInvalid("the line went dead"), lineament.InvalidRequest),
        (KeyboardInterrupt("the line went dead"), KeyboardInterrupt),
    ],
)
def test_a_source_that_breaks_off_leaves_nothing(unchanged, failure, raised):
    def batches():
        yield later(readings.rows(), 5000).to_batches()[0]
        raise failure

    reader = pyarrow.RecordBatchReader.from_batches(readings.rows().schema, batches())
    with pytest.raises(raised, match="went dead"):
        unchanged.ingest("reading", reader)
