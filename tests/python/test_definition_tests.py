"""`lineament test`: fixture rows in, expected rows out."""

import shutil

import pytest
from program import FLIGHTS, fails, run


@pytest.fixture
def features(tmp_path):
    folder = tmp_path / "features"
    shutil.copytree(FLIGHTS / "features", folder)
    return folder


def failing(tmp_path, features, *arguments) -> str:
    """What it prints where a test fails, which is on standard output."""
    import subprocess

    from program import command

    done = subprocess.run(
        command(tmp_path / "store", "test", features, *arguments), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "panicked" not in done.stderr, done.stdout + done.stderr
    return done.stdout


def test_those_of_the_flights_pass(features, tmp_path):
    said = run(tmp_path / "store", "test", features)
    assert said.endswith("2 passed, 0 failed\n")
    assert "ok      known_when_it_left (" in said and "ok      look_back (" in said
    # In memory: nothing is left.
    assert not (tmp_path / "store").exists()
    assert run(tmp_path / "store", "test", features, "--only", "look").endswith("1 passed, 0 failed\n")


def test_a_cell_that_is_not_as_expected(features, tmp_path):
    test = features / "tests" / "known_when_it_left"
    (test / "expected.csv").write_text("origin,dep_delay\nEWR,5\nEWR,5\nEWR,90\nEWR,90\nLGA,\n")
    said = failing(tmp_path, features)
    assert "FAILED  known_when_it_left" in said and "1 passed, 1 failed" in said
    assert "row 0, `dep_delay`: null, expected 5 (not_yet_known)" in said
    assert (
        "row 2, `dep_delay`: 5, expected 90 (the observation of 2013-01-01T10:00:00Z, known at "
        "2013-01-01T10:05:00Z, won)" in said
    )
    assert "row 4, `origin`: JFK, expected LGA" in said


def test_a_definition_that_changed_its_meaning(features, tmp_path):
    departures = features / "departures.toml"
    departures.write_text(
        departures.read_text().replace('known_at = { column = "dep_utc" }', 'known_at = "assumed"')
    )
    assert "row 2, `dep_delay`: 90, expected 5" in failing(tmp_path, features)


def test_rows_that_are_rejected(features, tmp_path):
    question = features / "tests" / "look_back" / "test.toml"
    question.write_text('features = ["weather.temp"]\n')
    assert "weather.csv, row 1, column `temp`: \"400.1\" degF" in failing(tmp_path, features)
    question.write_text('features = ["weather.temp"]\nrejected = { weather = 2 }\n')
    assert "1 rows of `weather` were rejected; 2 should be" in failing(tmp_path, features)


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("test.toml", 'features = ["weather.tmp"]\n', "did you mean `temp`"),
        (
            "expected.csv",
            "origin,tmp\nLGA,\nLGA,1\nLGA,1\nLGA,\n",
            "has the column `tmp`, which the answer has not (did you mean `temp`?)",
        ),
        ("expected.csv", "origin,temp\nLGA,\n", "the spine has 4 rows"),
        ("expected.csv", "origin,temp\nLGA,\nLGA,4O.1\nLGA,40.1\nLGA,\n", "Cannot cast string '4O.1'"),
        ("wether.csv", "origin,time_hour\n", "wether"),
    ],
)
def test_a_test_that_is_wrong_fails(features, tmp_path, file, text, why):
    (features / "tests" / "look_back" / file).write_text(text)
    assert why in failing(tmp_path, features)


def test_what_is_no_test(features, tmp_path):
    look_back = features / "tests" / "look_back"
    (look_back / "test.toml").write_text('feature = ["weather.temp"]\n')
    assert "unknown field `feature`" in fails(tmp_path / "store", "test", features)
    (look_back / "test.toml").unlink()
    assert "has no test.toml" in fails(tmp_path / "store", "test", features)
    assert "no test with `xyz` in its name" in fails(tmp_path / "store", "test", features, "--only", "xyz")
    shutil.rmtree(features / "tests")
    assert "tests" in fails(tmp_path / "store", "test", features)
