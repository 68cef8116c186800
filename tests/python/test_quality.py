"""Measures agree with scipy, profiles with pandas, and twenty kinds of damage to real weather are found while clean days are not."""

import json

import numpy
import pandas
import pyarrow.parquet
import pytest
from program import FLIGHTS, fails, run
from scipy import stats
from scipy.spatial.distance import jensenshannon

ENTITY = 'kind = "entity"\nname = "station"\n[[keys]]\nname = "station"\ntype = "string"\n'


def view(features: dict[str, str], quality: str) -> str:
    declared = "".join(f'[[features]]\nname = "{name}"\ntype = "{kind}"\n' for name, kind in features.items())
    return (
        'kind = "feature_view"\nname = "readings"\nentity = "station"\n[time]\nvalid_at = "at"\nknown_at = "assumed"\n'
        + declared
        + quality
    )


def store_with(folder, features: dict[str, str], quality: str = ""):
    definitions = folder / "definitions"
    definitions.mkdir()
    (definitions / "station.toml").write_text(ENTITY)
    (definitions / "readings.toml").write_text(view(features, quality))
    run(folder / "store", "apply", definitions)
    return folder / "store"


def ingest(store, folder, frame: pandas.DataFrame, name: str) -> str:
    path = folder / f"{name}.parquet"
    frame.to_parquet(path, index=False)
    return run(store, "ingest", "readings", path)


def frame(day: int, **columns) -> pandas.DataFrame:
    rows = len(next(iter(columns.values())))
    at = pandas.date_range(f"2024-01-{day:02}", periods=rows, freq="s", tz="UTC")
    return pandas.DataFrame({"station": "a", "at": at, **columns})


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Two batches of known distributions, and what the program measures of the second against the first."""
    folder = tmp_path_factory.mktemp("measures")
    store = store_with(folder, {"level": "int64", "amount": "float64", "kind": "string"})
    random = numpy.random.default_rng(7)
    first = frame(
        1,
        level=random.integers(0, 60, 4000),
        amount=random.lognormal(2, 1, 4000),
        kind=random.choice(["a", "b", "c", "d"], 4000, p=[0.4, 0.3, 0.2, 0.1]),
    )
    second = frame(
        2,
        level=numpy.minimum(random.integers(5, 80, 1500), 63),
        amount=random.lognormal(2.3, 0.8, 1500),
        kind=random.choice(["a", "b", "c", "d"], 1500, p=[0.15, 0.3, 0.3, 0.25]),
    )
    second.loc[:99, "amount"] = None
    ingest(store, folder, first, "first")
    ingest(store, folder, second, "second")
    report = json.loads(run(store, "drift", "readings", "--format", "json"))
    assert (report["rows"], report["baseline_batches"], report["baseline_rows"]) == (1500, 1, 4000)
    measures = {(one["feature"], one["measure"]): one["value"] for one in report["measures"]}
    return store, first, second, measures


def tenths(baseline: pandas.Series, batch: pandas.Series) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Counts in the groups that docs/quality.md describes; every value below 64 has a bin of its own."""
    groups: list[list[int]] = [[0, 0]]
    before, until = 0, 1
    for value in sorted(set(baseline) | set(batch)):
        of_baseline, of_batch = int((baseline == value).sum()), int((batch == value).sum())
        if of_baseline and before * 10 >= until * len(baseline):
            groups.append([0, 0])
            until = before * 10 // len(baseline) + 1
        groups[-1][0] += of_baseline
        groups[-1][1] += of_batch
        before += of_baseline
    counts = numpy.array(groups)
    return counts[:, 0], counts[:, 1]


def test_jensen_shannon(compared):
    _, first, second, measures = compared
    baseline, batch = tenths(first.level, second.level)
    assert len(baseline) == 10
    assert measures["level", "jensen_shannon"] == pytest.approx(jensenshannon(baseline, batch, 2), abs=2e-6)
    kinds = sorted(set(first.kind))
    counts = [[int((of.kind == kind).sum()) for kind in kinds] for of in (first, second)]
    assert measures["kind", "jensen_shannon"] == pytest.approx(jensenshannon(*counts, 2), abs=2e-6)


def test_psi(compared):
    _, first, second, measures = compared
    baseline, batch = tenths(first.level, second.level)
    p, q = (numpy.maximum(counts / counts.sum(), 1e-4) for counts in (baseline, batch))
    # The sum of both relative entropies, less what chance gives.
    expected = stats.entropy(p, q) + stats.entropy(q, p)
    by_hand = float(((q - p) * numpy.log(q / p)).sum())
    assert by_hand == pytest.approx(expected, rel=1e-6)
    chance = 2 * (len(p) - 1) * (1 / len(first) + 1 / len(second))
    assert measures["level", "psi"] == pytest.approx(by_hand - chance, abs=2e-6)


def test_wasserstein(compared):
    _, first, second, measures = compared
    for name in ("level", "amount"):
        expected = stats.wasserstein_distance(first[name], second[name].dropna()) / first[name].std()
        assert measures[name, "wasserstein"] == pytest.approx(expected, rel=0.02), name


def test_chi_square(compared):
    _, first, second, measures = compared
    kinds = sorted(set(first.kind))
    observed = numpy.array([(second.kind == kind).sum() for kind in kinds])
    shares = numpy.array([(first.kind == kind).sum() for kind in kinds]) / len(first)
    expected = stats.chisquare(observed, shares * len(second))
    assert expected.pvalue < 1e-4
    assert measures["kind", "chi_square"] == pytest.approx((expected.statistic / len(second)) ** 0.5, abs=2e-6)


def test_null_rate(compared):
    _, _, second, measures = compared
    assert measures["amount", "null_rate"] == pytest.approx(100 / len(second), abs=2e-6)


def test_profiles(compared):
    store, first, second, _ = compared
    said = run(
        store, "sql", "--format", "csv",
        "SELECT sequence, feature, rows, nulls, distinct_values, least, greatest, mean, spread FROM lineament.profiles"
        " WHERE feature <> 'kind' ORDER BY sequence, feature",
    )  # fmt: skip
    found = [line.split(",") for line in said.splitlines()[1:]]
    assert len(found) == 4, said
    for (_, feature, rows, nulls, distinct, least, greatest, mean, spread), batch in zip(
        found, (first, first, second, second), strict=True
    ):
        column = batch[feature]
        assert (int(rows), int(nulls)) == (len(column), int(column.isna().sum()))
        assert (float(least), float(greatest)) == (column.min(), column.max())
        assert float(mean) == pytest.approx(column.mean(), rel=1e-12)
        assert float(spread) == pytest.approx(column.std(), rel=1e-12)
        assert int(distinct) == pytest.approx(column.nunique(), rel=0.08)


def test_quarantine(tmp_path):
    quality = '[quality]\non_fail = "quarantine"\n[quality.checks]\nwasserstein = { fail = 3 }\n'
    store = store_with(tmp_path, {"level": "float64"}, quality)
    levels = numpy.arange(100) % 10 + 50.0
    ingest(store, tmp_path, frame(1, level=levels), "first")
    said = ingest(store, tmp_path, frame(2, level=levels / 10), "second")
    assert "kept back" in said and "fail: wasserstein of `level`" in said, said
    (held,) = json.loads(run(store, "quarantine", "list", "--format", "json"))
    assert (held["version"], held["rows"], held["judged"]["verdict"]) == ("readings@1", 100, "fail")
    count = "SELECT count(*) AS rows FROM readings"
    assert run(store, "sql", "--format", "csv", count).split() == ["rows", "100"]
    # What comes for the same time meanwhile is compared with what counts, and its place in the order is before a release.
    ingest(store, tmp_path, frame(2, level=levels + 1), "mended")
    batch = held["batch"]
    assert "say by --back-fill" in fails(store, "quarantine", "release", batch, "--reason", "it was right")
    assert "say why" in fails(store, "quarantine", "drop", batch, "--reason", " ")
    said = run(store, "quarantine", "release", batch, "--reason", "it was right", "--back-fill")
    assert "counts from here on" in said
    assert "released already" in fails(store, "quarantine", "drop", batch, "--reason", "after all")
    assert "no batch is in quarantine" in run(store, "quarantine", "list")
    # Of equal times the later in the order wins: the one that was released.
    low = "SELECT count(*) AS rows FROM readings WHERE level < 10"
    assert run(store, "sql", "--format", "csv", low).split() == ["rows", "100"]
    # What was opened from a checkpoint says the same.
    run(store, "checkpoint")
    run(store, "checkpoint", "--check")
    assert run(store, "sql", "--format", "csv", low).split() == ["rows", "100"]
    status = "SELECT status, reason FROM lineament.quarantine"
    assert run(store, "sql", "--format", "csv", status).split("\n")[1] == "released,it was right"
    run(store, "verify", "--full")


NUMBERS = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
WEATHER = """
kind = "feature_view"
name = "weather"
entity = "airport"
[time]
valid_at = "time_hour"
known_at = { delay = "30m" }
[quality]
on_fail = "quarantine"
"""
AIRPORT = 'kind = "entity"\nname = "airport"\n[[keys]]\nname = "origin"\ntype = "string"\n'


def scaled(column: str, factor: float, shift: float = 0.0):
    return lambda day: day.assign(**{column: day[column] * factor + shift})


def replaced(column: str, of):
    return lambda day: day.assign(**{column: of(day)})


def noisy(day):
    return day.temp + numpy.random.default_rng(3).normal(0, 40, len(day))


def some(day, column: str, share: float, value: float | None):
    changed = day[column].copy()
    changed.iloc[: int(len(day) * share)] = value
    return changed


DAMAGE = {
    "temperature in Celsius": scaled("temp", 1 / 1.8, -32 / 1.8),
    "temperature in Kelvin": scaled("temp", 1 / 1.8, 459.67 / 1.8),
    "dew point in Kelvin": scaled("dewp", 1 / 1.8, 459.67 / 1.8),
    "pressure in inches": scaled("pressure", 0.02953),
    "pressure in pascal": scaled("pressure", 100),
    "humidity as a share": scaled("humid", 0.01),
    "wind in knots, ten times": scaled("wind_speed", 8.69),
    "direction in radians": scaled("wind_dir", numpy.pi / 180),
    "precipitation in tenths of a millimetre, and a gauge that drips": scaled("precip", 254, 2),
    "visibility in metres": scaled("visib", 1609),
    "no temperature": replaced("temp", lambda day: some(day, "temp", 1, None)),
    "half of the humidity missing": replaced("humid", lambda day: some(day, "humid", 0.5, None)),
    "a thermometer that stands still": replaced("temp", lambda day: some(day, "temp", 1, day.temp.median())),
    "pressure that is 0": replaced("pressure", lambda day: some(day, "pressure", 0.5, 0)),
    "-9999 for nothing": replaced("dewp", lambda day: some(day, "dewp", 0.1, -9999)),
    "a sign lost": scaled("dewp", -1),
    "two columns exchanged": lambda day: day.assign(temp=day.humid, humid=day.temp),
    "a broken thermometer": replaced("temp", noisy),
    "every row six times": lambda day: pandas.concat([day] * 6),
    "a file that was cut": lambda day: day.head(len(day) // 6),
}


def tried(days: list[pandas.DataFrame]) -> tuple[list, dict[str, list], list[str]]:
    """The clean days that fail, and of each kind of damage what is found and whether it fails, at default thresholds."""
    import lineament

    assert len(DAMAGE) == 20 and len(days) in (364, 365, 366)
    columns = "".join(f'[[features]]\nname = "{name}"\ntype = "float64"\n' for name in NUMBERS)
    alarms, found, missed = [], {}, []
    damage = iter(DAMAGE.items())
    with lineament.serve("memory://") as server, server.connect() as client:
        client.apply({"airport.toml": AIRPORT, "weather.toml": WEATHER + columns})
        for number, day in enumerate(days):
            day = day.astype({name: "float64" for name in NUMBERS})
            if number >= 40 and number % 16 == 0 and (next_one := next(damage, None)) is not None:
                name, change = next_one
                report = client.ingest("weather", change(day), claim="back_fill")
                found[name] = [(one["measure"], one.get("feature"), one["verdict"]) for one in report.judged.get("findings", [])]
                if report.judged["verdict"] != "fail":
                    missed.append(name)
                if not report.quarantined:
                    client.rollback(report.batch, reason="made up")
            report = client.ingest("weather", day, claim="back_fill")
            if report.judged["verdict"] == "fail":
                alarms.append((number, report.judged["findings"][0]))
                client.release(report.batch, reason="a clean day", back_fill=True)
    assert next(damage, None) is None, "there were not enough days"
    return alarms, found, missed


def test_damage_to_real_weather_is_found_and_clean_days_are_not():
    hours = pyarrow.parquet.read_table(FLIGHTS / "weather.parquet").to_pandas()
    # A broken instrument that the view of docs/scripts refuses by its range.
    hours = hours[~(hours.wind_speed > 200)]
    alarms, found, missed = tried([day for _, day in hours.groupby(hours.time_hour.dt.strftime("%Y-%m-%d"))])
    assert all(found.values()), found
    assert len(missed) <= 1, (missed, found)
    assert len(alarms) <= 1, alarms


def test_thresholds_on_a_year_that_they_were_not_chosen_on():
    """The defaults were set on the real year of the test above. This year was made up after the limits here were: less is found
    than on the year that the thresholds know, and a clean day in a hundred and fifty may fail."""
    from made_up_weather import year

    hours = year(201)
    alarms, _, missed = tried([day for _, day in hours.groupby(hours.time_hour.dt.strftime("%Y-%m-%d"))])
    assert len(missed) <= 3, missed
    assert len(alarms) <= 2, alarms
