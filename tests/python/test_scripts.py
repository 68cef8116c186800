"""The scripts in docs/scripts run as they stand there, from a folder that looks like the repository's."""

import os
import re
import subprocess
import sys
from pathlib import Path

from feast_consumer import binaries
from program import REPOSITORY, binary

SCRIPTS = REPOSITORY / "docs" / "scripts"


def run(script: str, folder: Path, python=sys.executable, **variables: str) -> str:
    (folder / "testdata").symlink_to(REPOSITORY / "testdata")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        [python, SCRIPTS / script], cwd=folder, capture_output=True, text=True, timeout=600,
        # Threads that spin for one another take minutes for seconds' work where the cores are not theirs alone.
        env={**environment, "OMP_NUM_THREADS": "1", "LINEAMENT_BIN": str(binary()), **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_all_scripts_are_run():
    tried = set(re.findall(r'run\("(\w+\.py)"', Path(__file__).read_text()))
    assert {path.name for path in SCRIPTS.glob("*.py")} == tried


def test_a_first_training_set(tmp_path):
    lines = [
        line
        for line in (SCRIPTS / "first_training_set.py").read_text().partition('"""\n\n')[2].splitlines()
        if line.strip()
    ]
    assert len(lines) <= 10
    said = run("first_training_set.py", tmp_path)
    assert "26,115 rows into weather@1, 0 rejected" in said
    assert "336,776 rows, 5 columns" in said and "equal" in said
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "entity_origin.toml",
        "weather.toml",
    ]


def test_a_station_sends_everything_twice(tmp_path):
    said = run("station_stream.py", tmp_path)
    assert "sent: 40 parts, 1,000 rows; 0 parts" in said, said
    assert "sent again: 40 parts, 1,000 rows; 40 parts" in said, said
    assert "1000" in said.splitlines()[-1]


def test_what_a_leak_costs(tmp_path):
    said = run("leak_audit.py", tmp_path)
    assert re.search(r"[1-9][\d,]+ of 327,346 rows leak", said), said
    assert "no leak in 327,346 rows" in said
    scores = {
        tuple(found[:2]): float(found[2])
        for found in re.findall(r"  (\S.*?) +(offline|in production) +(0\.\d+)", said)
    }
    assert scores["by schedule", "offline"] > scores["correct in time", "offline"], scores
    assert scores["by schedule", "in production"] < scores["correct in time", "in production"], scores
    assert scores["correct in time", "offline"] == scores["correct in time", "in production"]


def test_the_quality_of_weather(tmp_path):
    said = run("weather_quality.py", tmp_path)
    assert "fail: wasserstein of temp" in said and "kept back" in said, said
    assert "'quarantined'" in said and "1 deployment in force" in said, said
    assert re.search(r"2013-11: warn, drift \d", said) and re.search(r"2013-12: warn, drift \d", said), said
    wrong, mended = map(float, re.search(r"then ([\d.]+), mended ([\d.]+) °F", said).groups())
    assert mended > wrong + 10, said


def test_policies_of_the_flights(tmp_path):
    said = run("flights_policies.py", tmp_path)
    assert "3 passed, 0 failed" in said and "applied at sequence 2 of" in said, said
    assert "ada: 3 airports, 26,114 hours, at most 100.04 °F" in said, said
    assert "gus: 1 airports, 8,706 hours, at most 100.00 °F" in said, said
    assert re.search(r"20,000 rows, 15 airlines, one is [0-9a-f]{8}…", said), said
    assert said.count("may not be read by `gus`: no policy permits it") == 2 and "shown\n" not in said, said
    assert "the set: " in said and "rows of the batch: to ada 26114, to gus None" in said, said
    assert "profiles: to ada 9, to gus 0" in said, said
    assert "cells of the set: to ada 20000, to gus None" in said, said
    assert "mask round:10" in said and "no policy permits it" in said and re.search(r"^denied,3,1$", said, re.M), said


def test_predictions_labels_and_metrics_of_a_deployment(tmp_path):
    said = run("served_predictions.py", tmp_path)
    assert "2 days later: 5981 predictions, 0 labels of 5981 flights" in said, said
    assert "10 days later: 5981 predictions, 5981 labels of 5981 flights" in said, said
    name, version, fed, metric, told, predictions, labels, recomputed = said.splitlines()[-1].split()
    assert (name, version, fed, metric) == ("delay-api", "delay/1", "weather@1", "mae"), said
    assert predictions == labels == "5981" and float(told) > 1, said
    # What was told is what the two views give.
    assert abs(float(told) - float(recomputed)) < 1e-3, said


def test_mlflow(tmp_path, tracking):
    said = run("mlflow_run.py", tmp_path, MLFLOW_TRACKING_URI=tracking.uri)
    assert "<Split by row number: train 4, test 1; seed 1> {'train': " in said
    assert "weather@1.temp of origin = EWR" in said and "won: valid at 2013-01-01" in said


def test_a_feast_repository(tmp_path):
    said = run("feast_repository.py", tmp_path, binaries() / "python")
    assert "driver_hourly_stats:conv_rate" in said and " 0 different" in said
    assert re.search(r"[1-9]\d* different", said) is None, said
    assert "'driver_id': [1001], 'conv_rate': [" in said
