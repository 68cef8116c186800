"""A first definition from a frame: what it says, what it warns of, and that it works."""

import tomllib
import warnings
from datetime import date, timedelta

import lineament
import log
import pandas
import polars
import pyarrow
import pytest

TIMES = pandas.to_datetime(["2024-03-01T10:00:00Z", "2024-03-01T11:00:00Z", "2024-03-01T12:00:00Z"])


def visits() -> pandas.DataFrame:
    return pandas.DataFrame({
        "userId": [1, 2, 1], "shop": ["x", "y", "x"], "seen at": TIMES, "Basket Size": [1.5, None, 3.0],
        "items": [1, 2, 3], "member": [True, False, True], "since": [date(2020, 1, 1)] * 3, "tags": [["a"], [], ["b"]]})  # fmt: skip


def quietly(client, *arguments, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # What pandas says of how pyarrow uses it is not for our users.
        warnings.simplefilter("ignore", pandas.errors.Pandas4Warning)
        view = client.define_view(*arguments, **options)
    # What earlier tests left open is found by the collector whenever it runs.
    caught = [warning for warning in caught if not issubclass(warning.category, ResourceWarning)]
    assert [warning.category for warning in caught] == [lineament.DefinitionWarning] * len(caught)
    assert all(warning.filename == __file__ for warning in caught)
    assert [str(warning.message) for warning in caught] == view.warnings
    return view


def test_types_names_and_keys(client, tmp_path):
    view = quietly(
        client, visits(), key=["userId", "shop"], time="seen at", known_at="30m", ttl=timedelta(hours=36), name="visit",
        folder=tmp_path, description='what was "bought"', owner="shop",
    )  # fmt: skip
    parsed = tomllib.loads(view.text)
    assert (parsed["name"], parsed["entity"], parsed["ttl"]) == ("visit", "user_shop", "1d12h")
    assert (parsed["description"], parsed["owner"]) == ('what was "bought"', "shop")
    assert parsed["time"] == {"valid_at": "seen at", "known_at": {"delay": "30m"}}
    assert parsed["keys"] == {"user_id": "userId"}
    assert [(feature["name"], feature["type"], feature.get("column")) for feature in parsed["features"]] == [
        ("basket_size", "float64", "Basket Size"), ("items", "int64", None), ("member", "bool", None), ("since", "date", None)]  # fmt: skip
    entity = tomllib.loads(view.entity_text)
    assert entity["keys"] == [{"name": "user_id", "type": "int64"}, {"name": "shop", "type": "string"}]
    assert "# range = [1, 3]" in view.text and "range" not in parsed["features"][1]
    assert sorted(file.name for file in view.files) == ["entity_user_shop.toml", "visit.toml"]
    assert (tmp_path / "visit.toml").read_text() == view.text
    assert {change.action for change in view.plan.changes} == {"create"}
    assert [warning for warning in view.warnings if "`tags` is left out" in warning]
    assert [warning for warning in view.warnings if "`userId` is called `user_id`" in warning]
    assert "visit" in repr(view) and view.text in repr(view)

    report = client.ingest("visit", visits().drop(columns="tags"))
    assert (report.rows, report.rejected) == (3, 0)
    spine = pandas.DataFrame({"user_id": [1, 1], "shop": ["x", "x"], "at": TIMES[[1, 2]]})
    answer = client.get_historical_features(spine, ["visit.basket_size", "visit.since"])
    assert answer.to_arrow()["basket_size"].to_pylist() == [1.5, 1.5]
    assert answer.to_arrow()["since"].to_pylist() == [date(2020, 1, 1)] * 2

    again = quietly(
        client, visits(), key=["userId", "shop"], time="seen at", known_at="30m", ttl="1d12h", name="visit", folder=tmp_path,
        description='what was "bought"', owner="shop",
    )  # fmt: skip
    assert again.plan.sequence is None and {change.action for change in again.plan.changes} <= {"keep"}


def test_a_file_that_somebody_edited_is_left_alone(client, tmp_path):
    frame = visits().drop(columns="tags")
    options = {"key": "userId", "time": "seen at", "name": "edited", "folder": tmp_path}
    quietly(client, frame, **options)
    edited = (tmp_path / "edited.toml").read_text().replace("# ttl", "ttl").replace("  how far", "  # how far")
    (tmp_path / "edited.toml").write_text(edited)
    before = log.writes(client)
    with pytest.raises(lineament.InvalidRequest, match="overwrite=True"):
        client.define_view(frame, **options)
    assert (tmp_path / "edited.toml").read_text() == edited
    assert log.writes(client) == before
    assert client.apply(tmp_path).sequence is not None and log.writes(client) == before + 1
    quietly(client, frame, overwrite=True, **options)
    assert (tmp_path / "edited.toml").read_text() != edited


def test_an_entity_that_the_store_knows_is_used(client):
    client.apply({"customer.toml": 'kind = "entity"\nname = "customer"\ndescription = "a \\"buyer\\""\nowner = "crm"\ntags = ["who", "pii"]\n'
                  '[[keys]]\nname = "customer_no"\ntype = "int32"\n'})  # fmt: skip
    view = quietly(
        client, visits()[["userId", "seen at", "items"]], key="userId", time="seen at", entity="customer", name="bought"
    )
    assert tomllib.loads(view.text)["keys"] == {"customer_no": "userId"}
    assert {(change.subject, change.action) for change in view.plan.changes if change.action != "keep"} == {
        ("feature_view", "create")
    }
    known = client.sql(
        "SELECT keys, description, owner, tags FROM lineament.entities WHERE entity = 'customer'"
    ).to_arrow()
    assert known.to_pylist() == [
        {"keys": "customer_no int32", "description": 'a "buyer"', "owner": "crm", "tags": "who, pii"}
    ]
    assert client.ingest("bought", visits()[["userId", "seen at", "items"]]).rows == 3


def test_known_at_in_all_its_forms(client):
    frame = visits()[["userId", "seen at", "items"]].assign(told=TIMES + pandas.Timedelta(minutes=5))
    for given, expected in [
        (None, "assumed"), ("assumed", "assumed"), ("arrival", "arrival"), ("told", {"column": "told"}), ("1h30m", {"delay": "1h30m"}),
        (timedelta(minutes=90), {"delay": "1h30m"}),
    ]:  # fmt: skip
        view = quietly(client, frame, key="userId", time="seen at", known_at=given, name="form")
        parsed = tomllib.loads(view.text)
        assert parsed["time"]["known_at"] == expected
        assert ("told" in [feature["name"] for feature in parsed["features"]]) == (given != "told")
        assert any("assumed" in warning for warning in view.warnings) == (expected == "assumed")
    with pytest.raises(lineament.InvalidRequest, match="did you mean `told`"):
        client.define_view(frame, key="userId", time="seen at", known_at="tolt", name="form")


def test_times_that_will_cause_trouble(client):
    frame = visits()[["userId", "items"]]
    dated = quietly(client, frame.assign(day=[date(2024, 3, 1)] * 3), key="userId", time="day", name="dated")
    assert any("start of that day" in warning for warning in dated.warnings)
    naive = frame.assign(time=TIMES.tz_localize(None))
    view = quietly(client, naive, key="userId", time="time", name="naive")
    assert any("carries no zone" in warning for warning in view.warnings)
    with pytest.raises(lineament.InvalidRequest, match="zone"):
        client.ingest("naive", naive)
    zoned = quietly(client, naive, key="userId", time="time", name="zoned", zone="America/New_York")
    assert not any("carries no zone" in warning for warning in zoned.warnings)
    assert client.ingest("zoned", naive).rows == 3
    first = client.sql("SELECT min(valid_at) AS first FROM zoned").to_df()["first"][0]
    assert first == pandas.Timestamp("2024-03-01T15:00:00Z")
    fine = frame.assign(time=TIMES.as_unit("ns") + pandas.to_timedelta([0, 1, 1000], unit="ns"))
    view = quietly(client, fine, key="userId", time="time", name="fine")
    assert any("finer than a microsecond in 1 of 3 rows" in warning for warning in view.warnings)
    assert client.ingest("fine", fine).rejected == 1
    text = quietly(client, frame.assign(time=["2024-03-01T10:00:00Z"] * 3), key="userId", time="time", name="texts")
    assert any("is text" in warning for warning in text.warnings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": "userid", "time": "seen at"}, "did you mean `userId`"),
        ({"key": "userId", "time": "seen"}, "no column `seen`"),
        ({"key": [], "time": "seen at"}, "no key is named"),
        ({"key": "seen at", "time": "seen at"}, "named twice"),
        ({"key": "Basket Size", "time": "seen at"}, "key column `Basket Size` is double"),
        ({"key": "userId", "time": "items"}, "name one that is: seen at, since"),
        ({"key": "userId", "time": "seen at", "ttl": "0s"}, "zero|0s"),
        ({"key": "userId", "time": "seen at", "name": "Visit"}, "visit"),
    ],
)  # fmt: skip
def test_frames_that_do_not_fit(client, options, message):
    before = log.writes(client)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(lineament.InvalidRequest, match=message):
            client.define_view(visits(), **options)
    assert log.writes(client) == before


def test_polars_and_arrow_types(client):
    frame = polars.DataFrame({
        "key": ["a", "b"], "time": TIMES[:2], "cat": polars.Series(["x", None], dtype=polars.Categorical),
        "small": polars.Series([1, 2], dtype=polars.Int8), "amount": polars.Series(["1.25", "2.50"]).cast(polars.Decimal(10, 2)),
        "raw": [b"x", None], "single": polars.Series([1.0, 2.0], dtype=polars.Float32)})  # fmt: skip
    view = quietly(client, frame, key="key", time="time", name="typed", known_at="arrival")
    assert {feature["name"]: feature["type"] for feature in tomllib.loads(view.text)["features"]} == {
        "cat": "string", "small": "int8", "amount": "decimal(10,2)", "raw": "binary", "single": "float32"}  # fmt: skip
    assert client.ingest("typed", frame).rows == 2
    stored = client.sql("SELECT cat, small, amount, raw, single FROM typed ORDER BY key").to_arrow()
    plain = pyarrow.table(frame).select(["cat", "small", "amount", "raw", "single"])
    assert stored.to_pylist() == plain.to_pylist()
