"""Search, from Python and on the command line."""

import json
import subprocess

import lineament
import pytest
from program import command, fails, run


def names(result):
    return [found.name for found in result]


def test_what_is_found(flights_client):
    result = flights_client.search("wnid sped")
    assert result[0].name == "weather.wind_speed" and result[0].unit == "mph" and result.complete
    assert "weather.wind_gust" in names(flights_client.search("gust"))
    views = flights_client.search("weather", kind="feature_view")
    assert names(views) == ["weather"] and views[0].kind == "feature_view"
    few = flights_client.search("weather", limit=3)
    assert len(few) == 3 and not few.complete and "3 things found, and more" in repr(few)
    assert "<th>unit</th>" in few._repr_html_()
    assert len(flights_client.search("zzzzzz")) == 0
    rows = flights_client.sql("SELECT name FROM search('wind gust') ORDER BY rank LIMIT 1").to_arrow().to_pylist()
    assert rows == [{"name": "weather.wind_gust"}]


def test_uses(readings_client):
    readings_client.log_run("search-1")
    readings_client.with_run("search-1").get_historical_features(
        __import__("readings").spine(), ["reading.value"], name="searched_set"
    )
    readings_client.log_model("delay/7", run="search-1")
    (found,) = readings_client.search("use:delay", kind="feature")
    assert found.name == "reading.value" and found.uses[0] == "delay/7" and "searched_set" in found.uses
    readings_client.deploy("delay-api", "delay/7")
    (found,) = readings_client.search("use:delay use:production", kind="feature")
    assert "delay-api in production" in found.uses


def test_mistakes(readings_client):
    with pytest.raises(lineament.InvalidRequest, match="nothing is looked for"):
        readings_client.search("  ")
    with pytest.raises(lineament.InvalidRequest, match="did you mean `owner:`"):
        readings_client.search("ownr:ann")
    with pytest.raises(lineament.InvalidRequest):
        readings_client.search("value", limit=-1)


def test_command_line(flights_store):
    said = run(flights_store, "search", "tempreature")
    assert "weather.temp" in said.splitlines()[2], said
    report = json.loads(run(flights_store, "search", "unit:mph", "--kind", "feature", "--format", "json"))
    assert {one["name"] for one in report["found"]} == {"weather.wind_speed", "weather.wind_gust"}
    nothing = subprocess.run(command(flights_store, "search", "zzzzzz"), capture_output=True, text=True)
    assert nothing.returncode == 1 and nothing.stdout.startswith("nothing has these words"), nothing
    assert "is no place to look in" in fails(flights_store, "search", "tagg:x")
