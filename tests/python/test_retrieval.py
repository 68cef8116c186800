"""Retrieval on rows that can be worked out by hand, from every library and with every option."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import lineament
import log
import pandas
import polars
import pyarrow
import pytest
import readings

FEATURES = ["reading.value", "reading.quality"]


def plain_reasons(reasons: dict[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in reasons.items() if count}


def test_arrow_in_and_out(readings_client):
    spine = readings.spine()
    training_set = readings_client.get_historical_features(spine, FEATURES)
    table = training_set.to_arrow()
    assert table.column_names == ["label", "sensor", "at", "value", "quality"]
    assert table.select(["label", "sensor", "at"]).equals(spine)
    assert table["value"].to_pylist() == readings.VALUES
    assert table["quality"].to_pylist() == readings.QUALITIES
    assert (table.schema.field("value").type, table.schema.field("quality").type) == (
        pyarrow.float64(),
        pyarrow.int32(),
    )
    assert len(training_set) == len(readings.ASKED)


def test_every_null_says_why(readings_client):
    training_set = readings_client.get_historical_features(readings.spine(), FEATURES)
    reasons = {feature: plain_reasons(counts) for feature, counts in training_set.null_reasons.items()}
    assert reasons == {"value": readings.NO_MATCH, "quality": {**readings.NO_MATCH, "null_at_source": 2}}
    assert training_set.matched == {"reading@1": 7}
    assert [feature.reference for feature in training_set.features] == ["reading@1.value", "reading@1.quality"]
    text = repr(training_set)
    assert training_set.id in text and training_set.digest in text and "2 null_at_source" in text
    assert "reading@1.value" in training_set._repr_html_()


def test_every_null_says_why_beside_it(readings_client):
    plain = readings_client.get_historical_features(readings.spine(), FEATURES)
    training_set = readings_client.get_historical_features(readings.spine(), FEATURES, null_reasons=True)
    table = training_set.to_arrow()
    assert table.column_names == [*plain.column_names, "value__null_reason", "quality__null_reason"]
    assert table.select(plain.column_names).equals(plain.to_arrow())
    reasons = [reason for *_, reason in readings.ASKED]
    assert table["quality__null_reason"].to_pylist() == reasons
    assert table["value__null_reason"].to_pylist() == [reason if reason != "null_at_source" else None for reason in reasons]
    for output, counts in training_set.null_reasons.items():
        said = [reason for reason in table[f"{output}__null_reason"].to_pylist() if reason is not None]
        assert {reason: said.count(reason) for reason in set(said)} == plain_reasons(counts)
    # It is a part of the set: proved with it, and read again.
    assert readings_client.replay(training_set).equal
    assert readings_client.training_set(training_set.id).to_arrow().equals(table)
    with readings_client.stream(readings.spine(), FEATURES, null_reasons=True, record=False) as stream:
        assert pyarrow.Table.from_batches(list(stream)).equals(table.replace_schema_metadata())
    # A set without it differs in these columns and in no cell.
    diff = readings_client.diff(plain.id, training_set.id)
    assert sorted(diff.columns_added) == ["quality__null_reason", "value__null_reason"]
    assert not diff.changes
    # Each is one that explain gives.
    for row, reason in enumerate(reasons):
        assert readings_client.explain(training_set, row, "quality").null_reason == reason
    taken = readings.spine().append_column("value__null_reason", pyarrow.array(["x"] * len(reasons)))
    with pytest.raises(lineament.InvalidRequest, match="there already is a column `value__null_reason`"):
        readings_client.get_historical_features(taken, FEATURES, null_reasons=True)


def test_pandas_keeps_its_types_and_order(readings_client):
    base = readings.spine().to_pandas()
    frame = base.assign(
        sensor=base.sensor.astype("category"),
        weight=pandas.array([1, None] * 6 + [3], dtype="Int16"),
        flag=pandas.array([True, None] * 6 + [False], dtype="boolean"),
        score=[float("nan"), 1.5] * 6 + [0.0],
        at=base["at"].dt.tz_convert("America/New_York"),
    )
    frame = frame.iloc[::-1]
    answer = readings_client.get_historical_features(frame, FEATURES).to_df()
    pandas.testing.assert_frame_equal(answer[list(frame.columns)], frame.reset_index(drop=True))
    values = pandas.array(readings.VALUES[::-1], dtype="Float64")
    assert answer["value"].astype("Float64").equals(pandas.Series(values, name="value"))
    exact = readings_client.get_historical_features(frame, FEATURES).to_df(dtype_backend="pyarrow")
    assert str(exact["quality"].dtype) == "int32[pyarrow]"
    assert [None if value is pandas.NA else value for value in exact["quality"]] == readings.QUALITIES[::-1]


def test_polars_keeps_its_types_and_order(readings_client):
    frame = polars.DataFrame(readings.spine()).with_columns(
        polars.col("sensor").cast(polars.Categorical),
        polars.lit("a text that is longer than a view holds inline").alias("note"),
        polars.Series("score", [float("nan"), None] * 6 + [0.0]),
    )
    answer = readings_client.get_historical_features(frame, FEATURES).to_polars()
    assert answer.select(frame.columns).equals(frame)
    assert answer.select(frame.columns).schema == frame.schema
    assert answer["value"].to_list() == readings.VALUES
    assert answer["quality"].to_list() == readings.QUALITIES


@pytest.mark.parametrize(
    "given",
    [
        lambda spine: spine.to_reader(max_chunksize=3),
        lambda spine: spine.combine_chunks().to_batches()[0],
        lambda spine: polars.DataFrame(spine),
        lambda spine: spine.to_pandas(),
    ],
    ids=["reader", "batch", "polars", "pandas"],
)
def test_all_kinds_of_frames_have_one_digest(readings_client, given):
    spine = readings.spine()
    expected = readings_client.get_historical_features(spine, FEATURES).digest
    assert expected.startswith("lmt1:blake3:")
    assert readings_client.get_historical_features(given(spine), FEATURES).digest == expected


COLUMNS = {
    "list": pyarrow.array([[1.0, float("nan")], None] * 6 + [[]]),
    "fixed list": pyarrow.array([[1, 2], None] * 6 + [[3, 4]], pyarrow.list_(pyarrow.int32(), 2)),
    "struct": pyarrow.array([{"a": 1, "b": "x"}, None] * 6 + [{"a": None, "b": None}]),
    "null": pyarrow.nulls(13),
    "duration": pyarrow.array([1, None] * 6 + [3], pyarrow.duration("us")),
    "decimal": pyarrow.array([Decimal("1.20"), None] * 6 + [Decimal("-3.45")], pyarrow.decimal128(9, 2)),
    "wide decimal": pyarrow.array([Decimal("1.20"), None] * 6 + [Decimal("-3.45")], pyarrow.decimal256(50, 2)),
    "half": pyarrow.array([1.5, None] * 6 + [2.0], pyarrow.float16()),
    "signed zeros and NaN": pyarrow.array([-0.0, 0.0] * 6 + [float("nan")]),
    "bytes": pyarrow.array([b"ab", None] * 6 + [b""], pyarrow.large_binary()),
    "fixed bytes": pyarrow.array([b"ab", None] * 6 + [b"cd"], pyarrow.binary(2)),
    "date": pyarrow.array([date(2024, 1, 1), None] * 6 + [None]),
    "time": pyarrow.array([time(1, 2, 3), None] * 6 + [None]),
    "naive nanoseconds": pyarrow.array([1, None] * 6 + [None], pyarrow.timestamp("ns")),
    "seconds in a zone": pyarrow.array([1, None] * 6 + [None], pyarrow.timestamp("s", "Europe/Berlin")),
    "dictionary": pyarrow.array(["x", None] * 6 + ["y"]).dictionary_encode(),
    "null in a dictionary": pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0, 1] * 6 + [1], pyarrow.int8()), pyarrow.array(["x", None])
    ),
    "text view": pyarrow.array(["short", None] * 6 + ["too long to lie within a view"], pyarrow.string_view()),
    "greatest integer": pyarrow.array([2**64 - 1, None] * 6 + [0], pyarrow.uint64()),
    "": pyarrow.array(range(13)),
    "Größe; DROP TABLE --": pyarrow.array(range(13)),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_of_any_type_come_along(readings_client, name):
    column = COLUMNS[name]
    training_set = readings_client.get_historical_features(readings.spine().append_column(name, column), FEATURES)
    table = training_set.to_arrow()
    assert table.schema.field(name).type == column.type
    assert str(table[name].to_pylist()) == str(column.to_pylist())
    assert table["value"].to_pylist() == readings.VALUES
    assert readings_client.replay(training_set).equal
    again = readings_client.training_set(training_set.id).to_arrow()
    assert str(again[name].to_pylist()) == str(column.to_pylist())


def test_what_reads_arrow_streams_reads_a_training_set(readings_client):
    training_set = readings_client.get_historical_features(readings.spine(), FEATURES)
    assert pyarrow.table(training_set).equals(training_set.to_arrow())
    assert polars.DataFrame(training_set)["value"].to_list() == readings.VALUES


def test_services_names_and_feast_references(readings_client):
    spine = readings.spine()
    by_service = readings_client.get_historical_features(spine, "model")
    assert by_service.column_names[3:] == ["value", "grade"]
    one = readings_client.get_historical_features(spine, "reading.value")
    assert one.column_names[3:] == ["value"]
    feast = readings_client.get_historical_features(spine, ["reading:value", "reading@1.grade"])
    assert feast.to_arrow().equals(by_service.to_arrow())
    full = readings_client.get_historical_features(spine, ["reading.*"], full_feature_names=True)
    assert full.column_names[3:] == ["reading__value", "reading__quality", "reading__grade"]
    assert list(full.null_reasons) == full.column_names[3:]


@pytest.mark.parametrize("length", ["30m", timedelta(minutes=30)])
def test_a_ttl_for_one_retrieval(readings_client, length):
    answer = readings_client.get_historical_features(readings.spine(), FEATURES, ttl={"reading": length})
    # Of the matched rows only those at most 30 minutes after 11:00 and 10:00 are left; none of b's, nor noon's.
    assert answer.to_arrow()["value"].to_pylist() == [None] * 12 + [9.0]
    assert answer.null_reasons["value"]["expired"] == 7


def test_as_we_knew_it_then(readings_client):
    spine = readings.spine().slice(0, 4)
    instant = datetime(2024, 1, 1, 11, 45, tzinfo=UTC)
    for known_by in (
        instant,
        "2024-01-01T11:45:00Z",
        pandas.Timestamp(instant),
        instant.astimezone(timezone(timedelta(hours=5))),
    ):
        answer = readings_client.get_historical_features(spine, FEATURES, known_by=known_by)
        assert answer.to_arrow()["value"].to_pylist() == [2.0, 2.0, 2.0, 2.0]
    with pytest.raises(lineament.InvalidRequest, match="no zone"):
        readings_client.get_historical_features(spine, FEATURES, known_by=datetime(2024, 1, 1))


def test_the_time_column(readings_client):
    spine = readings.spine()
    renamed = spine.rename_columns(["label", "sensor", "event_timestamp"])
    answer = readings_client.get_historical_features(renamed, FEATURES)
    assert answer.to_arrow()["value"].to_pylist() == readings.VALUES
    two = spine.append_column("made_at", spine["at"]).rename_columns(["label", "sensor", "wanted_at", "made_at"])
    with pytest.raises(lineament.InvalidRequest, match="wanted_at.*made_at"):
        readings_client.get_historical_features(two, FEATURES)
    chosen = readings_client.get_historical_features(two, FEATURES, at="wanted_at")
    assert chosen.to_arrow()["value"].to_pylist() == readings.VALUES
    with pytest.raises(lineament.InvalidRequest, match="did you mean `made_at`"):
        readings_client.get_historical_features(two, FEATURES, at="made_att")


def test_a_named_index_is_not_sent_silently(readings_client):
    frame = readings.spine().to_pandas().set_index("label")
    with pytest.warns(lineament.DefinitionWarning, match="label.*reset_index"):
        answer = readings_client.get_historical_features(frame, FEATURES)
    assert answer.column_names == ["sensor", "at", "value", "quality"]


def test_recorded_or_not(readings_client):
    before = log.writes(readings_client)
    unrecorded = readings_client.get_historical_features(readings.spine(), FEATURES, record=False)
    assert unrecorded.id is None
    assert log.writes(readings_client) == before
    with pytest.raises(lineament.InvalidRequest, match="record=True"):
        readings_client.replay(unrecorded)
    recorded = readings_client.get_historical_features(readings.spine(), FEATURES, name="by hand")
    assert log.writes(readings_client) == before + 1
    assert recorded.digest == unrecorded.digest
    listed = readings_client.sql(
        f"""SELECT snapshot, "rows", digest FROM lineament.training_sets WHERE training_set = '{recorded.id}'"""
    )
    assert listed.to_arrow().to_pylist() == [{"snapshot": recorded.sequence, "rows": 13, "digest": recorded.digest}]


def test_runs_and_experiments_reach_the_log(readings_client):
    run = readings_client.with_run(run="run-7", experiment="by hand")
    training_set = run.get_historical_features(readings.spine(), FEATURES)
    listed = run.sql(f"SELECT run, experiment FROM lineament.training_sets WHERE training_set = '{training_set.id}'")
    assert listed.to_arrow().to_pylist() == [{"run": "run-7", "experiment": "by hand"}]
    assert (readings_client.run, readings_client.experiment) == (None, None)
    with pytest.raises(lineament.InvalidRequest, match="ASCII"):
        readings_client.with_run(run="größer")


def test_a_set_read_back_from_its_id(readings_client):
    recorded = readings_client.get_historical_features(readings.spine(), FEATURES)
    again = readings_client.training_set(recorded.id)
    assert again.to_arrow().equals(recorded.to_arrow())
    assert (again.id, again.digest, again.null_reasons) == (recorded.id, recorded.digest, None)
    verdict = readings_client.replay(recorded)
    assert verdict and verdict.equal and verdict.verdict == "equal"
    assert (verdict.rebuilt, verdict.rows, verdict.differences) == (recorded.digest, 13, [])
    verified = readings_client.sql(f"SELECT verdict FROM lineament.verifications WHERE training_set = '{recorded.id}'")
    assert "equal" in verified.to_arrow()["verdict"].to_pylist()


def test_later_rows_change_no_recorded_set(readings_client):
    recorded = readings_client.get_historical_features(readings.spine(), FEATURES)
    # As if 11:00 had been told at once, and told otherwise: from now on a new set sees it.
    late = readings.rows().slice(1, 1).set_column(3, "value", pyarrow.array([99.0]))
    late = late.set_column(2, "published_at", pyarrow.array([readings.clock("11:01")], readings.INSTANT))
    readings_client.ingest("reading", late)
    now = readings_client.get_historical_features(readings.spine(), FEATURES)
    assert now.to_arrow()["value"].to_pylist()[0] == 99.0
    assert now.digest != recorded.digest
    assert readings_client.replay(recorded.id).equal
    assert readings_client.training_set(recorded.id).to_arrow().equals(recorded.to_arrow())


def test_explain(readings_client):
    training_set = readings_client.get_historical_features(readings.spine(), FEATURES)
    why = readings_client.explain(training_set, row=2, column="value")
    assert (why.value, why.null_reason, why.defaulted) == ("2.5", None, False)
    assert (why.reference, why.key, why.at) == ("reading@1.value", {"sensor": "a"}, "2024-01-01T12:00:00Z")
    assert (why.winner.valid_at, why.winner.known_at) == ("2024-01-01T11:00:00Z", "2024-01-01T12:00:00Z")
    assert (
        why.winner.batch in readings_client.sql("SELECT batch FROM lineament.batches").to_arrow()["batch"].to_pylist()
    )
    assert why.winner.version == "reading@1" and why.winner.file.endswith(".parquet") and why.winner.row >= 0
    assert why.losers_by_reason["corrected"] >= 1 and why.losers_by_reason["older"] == 1
    assert "2.5" in repr(why) and "corrected" in repr(why)

    null = readings_client.explain(training_set.id, row=6, column="value")
    assert (null.value, null.null_reason, null.winner) == (None, "not_yet_known", None)
    assert null.losers_by_reason["not_yet_known"] >= 1
    for row, reason in [
        (4, "expired"),
        (5, "later"),
        (8, "unknown_entity"),
        (9, "null_key_or_time"),
        (10, "null_key_or_time"),
    ]:
        assert readings_client.explain(training_set, row=row, column="value").null_reason == reason
    source = readings_client.explain(training_set, row=7, column="value")
    assert source.winner.principal and source.winner.program
