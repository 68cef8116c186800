"""A spine that is ingested once and asked for many times, with the Python package."""

import lineament
import pyarrow
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


def test_one_that_is_sent_as_it_is_made(readings_client):
    spine = readings.spine()
    whole = readings_client.keep_spine(spine)
    parts = [spine.slice(at, 2) for at in range(0, spine.num_rows, 2)]
    for given in (
        pyarrow.RecordBatchReader.from_batches(spine.schema, spine.to_batches(max_chunksize=3)),
        iter(parts),
        (part.to_pandas() for part in parts),
    ):
        kept = readings_client.keep_spine(given)
        assert (kept.digest, kept.rows, kept.columns) == (whole.digest, whole.rows, whole.columns)
    assert kept.repeated


def kept(client) -> list[str]:
    return sorted(client.sql("SELECT spine FROM lineament.spines").to_arrow()["spine"].to_pylist())


def test_one_that_fails_on_its_way_is_not_kept(readings_client):
    def failing(error):
        yield readings.spine().slice(0, 3)
        if error is not None:
            raise error

    spines = kept(readings_client)
    for error in (ValueError("no more"), OSError("the disk is gone"), pyarrow.ArrowInvalid("a broken file")):
        with pytest.raises(type(error), match=str(error)):
            readings_client.keep_spine(failing(error))
    odd = iter([readings.spine(), readings.spine().drop_columns(["at"])])
    with pytest.raises(lineament.InvalidRequest, match="batch 1 of the spine has the columns"):
        readings_client.keep_spine(odd)
    with pytest.raises(lineament.InvalidRequest, match="no batches"):
        readings_client.keep_spine(iter([]))
    assert kept(readings_client) == spines
    # Three rows of another content would be a spine of their own.
    spine = readings_client.keep_spine(failing(None))
    assert (spine.rows, spine.repeated) == (3, False)
    assert kept(readings_client) == sorted([*spines, spine.digest])
