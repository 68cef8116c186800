"""A spine that is ingested once and asked for many times, with the Python package."""

import lineament
import pytest
import readings


def test_features_of_a_kept_spine(readings_client):
    sent = readings_client.get_historical_features(readings.spine(), ["reading.value"])
    spine = readings_client.keep_spine(readings.spine())
    assert (spine.rows, spine.columns) == (readings.spine().num_rows, readings.spine().column_names)
    kept = readings_client.get_historical_features(spine, ["reading.value"])
    assert (kept.digest, kept.at) == (sent.digest, "at")
    assert kept.to_arrow().equals(sent.to_arrow())
    assert readings_client.training_set(kept.id).to_arrow().equals(sent.to_arrow())
    other = readings_client.get_historical_features(spine, ["reading.quality"], full_feature_names=True)
    assert other.to_arrow()["reading__quality"].to_pylist() == readings.QUALITIES
    assert readings_client.keep_spine(readings.spine().to_pandas()).digest


def test_one_that_was_never_ingested(readings_client):
    strange = lineament.KeptSpine("lmt1:blake3:" + "0" * 64, 3)
    with pytest.raises(lineament.NotFound, match="no spine lmt1:blake3:000"):
        readings_client.get_historical_features(strange, ["reading.value"])
    with pytest.raises(lineament.InvalidRequest, match="no rows"):
        readings_client.keep_spine(readings.spine().slice(0, 0))
    with pytest.raises(lineament.InvalidRequest, match="not a digest"):
        readings_client.get_historical_features(lineament.KeptSpine("", 1), ["reading.value"])
