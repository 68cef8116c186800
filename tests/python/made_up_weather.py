"""A year of hourly weather at three stations, made up: seasons, days, fronts, rain that comes in spells, instruments that are out.

Thresholds are chosen on such years, so that no year that they are tried on was looked at. Nothing here is fitted to a real one: the
numbers are those of a temperate coast, as a textbook has them.
"""

import numpy
import pandas

STATIONS = ["AAA", "BBB", "CCC"]
HOURS = 365 * 24


def fronts(random: numpy.random.Generator, hours: float, spread: float) -> numpy.ndarray:
    """What comes and goes within so many hours, with so great a standard deviation."""
    keep = numpy.exp(-1 / hours)
    steps = random.normal(0, spread * (1 - keep**2) ** 0.5, HOURS)
    steps[0] = random.normal(0, spread)
    values = numpy.empty(HOURS)
    last = 0.0
    for hour, step in enumerate(steps):
        last = last * keep + step
        values[hour] = last
    return values


def spells(random: numpy.random.Generator, share: float, hours: float) -> numpy.ndarray:
    """Whether it is so, hour by hour: a share of the time, in spells of so many hours."""
    ends = 1 / hours
    begins = ends * share / (1 - share)
    draws = random.random(HOURS)
    state, states = False, numpy.empty(HOURS, dtype=bool)
    for hour, draw in enumerate(draws):
        state = draw >= ends if state else draw < begins
        states[hour] = state
    return states


def year(seed: int) -> pandas.DataFrame:
    random = numpy.random.default_rng(seed)
    hour = numpy.arange(HOURS)
    season = -numpy.cos(2 * numpy.pi * (hour / 24 - 20) / 365)
    of_day = -numpy.cos(2 * numpy.pi * (hour % 24 - 4) / 24)
    wet = spells(random, 0.08, 6)
    temp = 55 + 22 * season + 6 * of_day * numpy.where(wet, 0.3, 1) + fronts(random, 60, 8)
    dry = numpy.clip(16 + 7 * of_day + fronts(random, 30, 7), 0.5, None) * numpy.where(wet, 0.2, 1)
    pressure = 1016 - 2 * season + fronts(random, 50, 7) - numpy.where(wet, 4, 0)
    wind = numpy.clip(10 + 2 * of_day + fronts(random, 20, 5), 0, None)
    direction = (200 + numpy.cumsum(random.normal(0, 25, HOURS))) % 360
    fog = spells(random, 0.03, 5)
    tables = []
    for station in STATIONS:
        own = temp + random.normal(0, 1.2, HOURS) + random.normal(0, 1)
        dewp = numpy.minimum(own - dry * random.uniform(0.9, 1.1, HOURS), own)
        # Magnus' formula, of degrees Fahrenheit.
        celsius, dew = (own - 32) / 1.8, (dewp - 32) / 1.8
        humid = 100 * numpy.exp(17.6 * dew / (243 + dew) - 17.6 * celsius / (243 + celsius))
        speed = numpy.round(numpy.clip(wind + random.normal(0, 2, HOURS), 0, None) / 1.15) * 1.15
        gusts = (speed > 14) & (random.random(HOURS) < 0.5)
        rain = numpy.where(wet & (random.random(HOURS) < 0.7), numpy.ceil(random.gamma(0.6, 8, HOURS)) / 100, 0.0)
        visib = numpy.where(wet, random.choice([2, 3, 5, 8, 10], HOURS), 10.0)
        visib = numpy.where(fog, random.choice([0.25, 0.5, 1, 3], HOURS), visib)
        table = pandas.DataFrame(
            {
                "origin": station,
                "time_hour": pandas.date_range("2011-01-01", periods=HOURS, freq="h", tz="UTC"),
                "temp": own.round(1),
                "dewp": dewp.round(1),
                "humid": humid.clip(5, 100).round(1),
                "wind_dir": numpy.where(random.random(HOURS) < 0.02, numpy.nan, numpy.round((direction + random.normal(0, 15, HOURS)) % 360, -1)),
                "wind_speed": speed,
                "wind_gust": numpy.where(gusts, speed * random.uniform(1.2, 1.6, HOURS), numpy.nan),
                "precip": rain,
                "pressure": numpy.where(random.random(HOURS) < 0.1, numpy.nan, (pressure + random.normal(0, 0.3, HOURS)).round(1)),
                "visib": visib,
            }
        )
        # Each instrument is out for about a day, three times a year, and some hours are never reported.
        for name in table.columns[2:]:
            table.loc[spells(random, 3 / 365, 24), name] = numpy.nan
        tables.append(table[random.random(HOURS) > 0.005])
    whole = pandas.concat(tables)
    # Once a year what one instrument says is lost everywhere, for half a day.
    for name in whole.columns[2:]:
        begin = whole.time_hour.min() + pandas.Timedelta(hours=int(random.integers(0, HOURS - 12)))
        lost = (whole.time_hour >= begin) & (whole.time_hour < begin + pandas.Timedelta(hours=12))
        whole.loc[lost & (random.random() < 1 / 9), name] = numpy.nan
    return whole
