"""Features without a spine of one's own: now, at an instant, in a range of time, and of a query's rows."""

from datetime import UTC, datetime, timedelta

import lineament
import pandas
import polars
import pyarrow
import pytest
import readings

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def test_online_features_are_what_a_training_set_of_now_has(readings_client):
    rows = [{"sensor": "a"}, {"sensor": "nobody"}, {"sensor": None}, {"sensor": "a"}]
    response = readings_client.get_online_features(["reading.value", "reading.grade"], rows, at=NOON)
    assert response.to_dict() == {
        "sensor": ["a", "nobody", None, "a"], "value": [2.5, None, None, 2.5], "grade": ["poor", None, None, "poor"],
    }  # fmt: skip
    assert response.to_df().shape == (4, 3)
    assert response.to_polars()["value"].to_list() == [2.5, None, None, 2.5]
    assert response.at == NOON and response.sequence >= 1
    assert response.to_dict(include_event_timestamps=True)["event_timestamp"] == [NOON] * 4
    full = readings_client.get_online_features("model", rows, True, at=NOON)
    assert full.column_names == ["sensor", "reading__value", "reading__grade"]
    # By now the ttl of two hours is long over.
    before = datetime.now(UTC)
    now = readings_client.get_online_features("reading.value", [{"sensor": "a"}])
    assert now.to_dict()["value"] == [None]
    assert before - timedelta(seconds=1) <= now.at <= datetime.now(UTC)
    assert "as of" in repr(now) and "<table>" in now._repr_html_()


@pytest.mark.parametrize(
    "rows",
    [
        {"sensor": ["a", "b"]},
        [{"sensor": "a"}, {"sensor": "b"}],
        pandas.DataFrame({"sensor": ["a", "b"]}),
        polars.DataFrame({"sensor": ["a", "b"]}),
        pyarrow.table({"sensor": ["a", "b"]}),
    ],
    ids=["mapping", "mappings", "pandas", "polars", "arrow"],
)
def test_entities_come_in_any_form(readings_client, rows):
    response = readings_client.get_online_features(
        ["reading.value"], rows, at=datetime(2024, 1, 1, 11, tzinfo=UTC)
    )
    assert response.to_dict() == {"sensor": ["a", "b"], "value": [1.0, 5.0]}


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "there are no entity rows"),
        ({}, "there are no entity rows"),
        ([{"sensor": "a"}, {"senso": "b"}], "entity row 1 has the columns senso, but row 0 has sensor"),
        ([{"sensor": "a"}, "b"], "entity row 1 is 'b'"),
        ([{"sensor": "a"}, {"sensor": 7}], "column `sensor` of the entity rows"),
        ({"sensor": ["a"], "other": []}, "the entity rows cannot be read"),
        ([{"other": 1}], "sensor"),
    ],
)
def test_entities_that_cannot_be_read(readings_client, rows, why):
    with pytest.raises(lineament.InvalidRequest, match=why):
        readings_client.get_online_features(["reading.value"], rows)


def test_an_instant_needs_its_zone(readings_client):
    for ask in (
        lambda: readings_client.get_online_features(
            ["reading.value"], [{"sensor": "a"}], at=datetime(2024, 1, 1)
        ),
        lambda: readings_client.features_at("reading.value", datetime(2024, 1, 1)),
    ):
        with pytest.raises(lineament.InvalidRequest, match="has no zone"):
            ask()


def test_what_is_pushed_is_seen_at_once(server):
    with lineament.connect(server.url) as client:
        client.apply(
            {
                name: text.replace('name = "reading"', 'name = "pushed"').replace('"reading.', '"pushed.')
                for name, text in readings.DEFINITIONS.items()
            },
            reason="its service is of what is pushed from now on",
        )
        now = datetime.now(UTC).replace(microsecond=0)
        frame = pandas.DataFrame(
            {
                "sensor": ["z"],
                "measured_at": [now],
                "published_at": [now],
                "value": [3.5],
                "quality": [1],
                "grade": ["good"],
            }
        )
        assert client.push("pushed", frame.astype({"quality": "int32"})).rows == 1
        assert client.get_online_features(["pushed.value"], [{"sensor": "z"}]).to_dict()["value"] == [3.5]
        with pytest.raises(lineament.NotFound, match="did you mean `pushed`"):
            client.push("pushd", frame)


def test_all_entities_at_an_instant(readings_client):
    at = datetime(2024, 1, 1, 11, 15, tzinfo=UTC)
    training_set = readings_client.features_at(["reading.value", "reading.grade"], at)
    assert training_set.to_arrow().to_pylist() == [
        {"sensor": "a", "event_timestamp": at, "value": 1.0, "grade": "good"},
        {"sensor": "b", "event_timestamp": at, "value": None, "grade": None},
        {"sensor": "d", "event_timestamp": at, "value": 9.0, "grade": "good"},
    ]
    assert training_set.id is None
    # `b` is there, and its value too old: it had one at nine.
    assert training_set.null_reasons["value"] == {"expired": 1}
    recorded = readings_client.features_at("reading.*", at, True, record=True)
    assert readings_client.replay(recorded.id).equal
    assert recorded.column_names[2:] == ["reading__value", "reading__quality", "reading__grade"]
    # At half past nine only `b` was there.
    early = readings_client.features_at("reading@1.value", datetime(2024, 1, 1, 9, 30, tzinfo=UTC))
    assert early.to_arrow()["sensor"].to_pylist() == ["b"]
    with pytest.raises(lineament.NotFound, match="no entity of reading"):
        readings_client.features_at("reading.value", datetime(2023, 1, 1, tzinfo=UTC))
    with pytest.raises(lineament.InvalidRequest, match="`model` names no view"):
        readings_client.features_at("model", at)
    with pytest.raises(lineament.NotFound, match="did you mean `reading`"):
        readings_client.features_at("readin.value", at)


def test_views_of_different_entities_need_a_spine(flights_client):
    at = datetime(2013, 7, 1, tzinfo=UTC)
    with pytest.raises(lineament.InvalidRequest, match="weather is of origin; plane is of tailnum"):
        flights_client.features_at(["weather.temp", "plane.seats"], at)
    both = flights_client.features_at(["plane.seats", "leg.delay"], at)
    assert both.column_names == ["tailnum", "event_timestamp", "seats", "delay"]
    keys = both.to_arrow()["tailnum"].to_pylist()
    assert keys == sorted(set(keys)) and len(keys) > 3_000


def test_a_view_with_occurrences_has_a_row_an_entity(flights_client):
    at = datetime(2013, 7, 1, 12, tzinfo=UTC)
    both = flights_client.features_at(["departures.dep_delay", "weather.temp"], at)
    assert both.to_arrow()["origin"].to_pylist() == ["EWR", "JFK", "LGA"]


def test_every_change_in_a_range(readings_client):
    changes = readings_client.changes("reading", "2024-01-01T10:00:00Z", NOON)
    times = changes.to_arrow()["known_at"].to_pylist()
    assert [(key, time.strftime("%H:%M")) for key, time in zip(changes.to_arrow()["sensor"].to_pylist(), times, strict=True)] == [
        ("d", "10:00"), ("d", "10:00"), ("d", "10:00"), ("a", "10:10"), ("a", "11:30"),
    ]  # fmt: skip
    # What became known at noon belongs to the next range.
    after = readings_client.changes("reading@1", NOON, NOON + timedelta(microseconds=1)).to_arrow()
    assert after["value"].to_pylist() == [2.5]
    with pytest.raises(lineament.NotFound, match="did you mean `reading`"):
        readings_client.changes("readings", NOON, NOON)
    with pytest.raises(lineament.InvalidRequest, match="since is"):
        readings_client.changes("reading", 5, NOON)


def test_a_query_gives_the_spine(readings_client):
    query = "SELECT sensor, known_at AS at, value AS label FROM history('reading') WHERE sensor = 'a' ORDER BY known_at"
    training_set = readings_client.get_historical_features(query, ["reading.grade"])
    assert training_set.to_arrow()["label"].to_pylist() == [1.0, 2.0, 2.5]
    assert training_set.to_arrow()["grade"].to_pylist() == ["good", "good", "poor"]
    assert readings_client.replay(training_set.id).equal
    # As if the rows had come here and gone back.
    sent = readings_client.get_historical_features(readings_client.sql(query).to_arrow(), ["reading.grade"])
    assert (training_set.digest, training_set.at) == (sent.digest, sent.at)
    assert training_set.column_names == sent.column_names == ["sensor", "at", "label", "grade"]
    why = readings_client.get_historical_features(query, ["reading.grade"], null_reasons=True, record=False)
    assert (why.at, why.column_names[-1]) == ("at", "grade__null_reason")
    streamed = readings_client.stream(f"WITH rows AS ({query}) SELECT * FROM rows", ["reading.grade"])
    assert sum(batch.num_rows for batch in streamed) == 3
    assert streamed.id is not None
    with pytest.raises(lineament.InvalidRequest, match="the query of the spine has no rows"):
        readings_client.get_historical_features(f"SELECT * FROM ({query}) WHERE label > 99", ["reading.grade"])
    with pytest.raises(lineament.InvalidRequest, match="several time columns"):
        readings_client.stream("SELECT sensor, valid_at, valid_at AS seen FROM reading", ["reading.grade"])
    with pytest.raises(lineament.InvalidRequest, match="reading"):
        readings_client.get_historical_features("SELECT nothing FROM reading", ["reading.grade"])
    with pytest.raises(lineament.InvalidRequest, match="rows are wanted, not the path selection.parquet"):
        readings_client.get_historical_features("selection.parquet", ["reading.grade"])


def test_a_feature_view_is_described(readings_client):
    view = readings_client.feature_view("reading")
    assert (view.label, view.keys, view.rows >= 7, view.version) == ("reading@1", ["sensor"], True, 1)
    assert {feature.feature: feature.accepted for feature in view.features}["value"] == "-50…150"
    for text in (repr(view), view._repr_html_()):
        assert "reading@1" in text and "grade" in text and "-50…150" in text
    with pytest.raises(lineament.NotFound, match="did you mean `reading`"):
        readings_client.feature_view("readin")
    with pytest.raises(lineament.InvalidRequest, match="is a version"):
        readings_client.feature_view("reading@1")
