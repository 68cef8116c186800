"""Weather month by month: one arrives in degrees Celsius and is kept back, is let in by mistake, reaches a model, and is taken back
again; and a winter is compared with the summer that a model knows.

Takes some seconds: python docs/scripts/weather_quality.py
"""

import pathlib
import re

import lineament
import pandas

FEATURES = pathlib.Path("testdata/nycflights13/features")
weather = (FEATURES / "weather.toml").read_text()
weather = re.sub(r"\[source\]\n.*\n", "", weather)  # the months are handed in one by one
entity = (FEATURES / "entity_airport.toml").read_text()

# What the model of this summer knows; no season moves the temperature by six of a summer's standard deviations.
QUALITY = """
[quality]
on_fail = "quarantine"
baseline = { from = "2013-06-01T00:00:00Z", until = "2013-09-01T12:00:00Z" }
[quality.features.temp]
wasserstein = { warn = 1, fail = 6 }
[quality.features.dewp]
wasserstein = { warn = 1, fail = 6 }
"""

client = lineament.serve("memory://").connect()
client.apply({"airport.toml": entity, "weather.toml": weather + QUALITY})
hours = pandas.read_parquet("testdata/nycflights13/weather.parquet")
months = {month: rows for month, rows in hours.groupby(hours.time_hour.dt.strftime("%Y-%m"))}

print("June to September:")
for month in ["2013-06", "2013-07", "2013-08", "2013-09"]:
    report = client.ingest("weather", months[month])
    print(f"  {month}: {report.judged['verdict']}")

print("\nOctober, from a station that was set to degrees Celsius:")
october = months["2013-10"].copy()
for column in ("temp", "dewp"):
    october[column] = (october[column] - 32) / 1.8
report = client.ingest("weather", october)
print(report)

print("\nIts rows count for nobody, and can be explained:")
asked = pandas.DataFrame({"origin": ["JFK"], "at": pandas.to_datetime(["2013-10-15T12:00:00Z"])})
print(client.get_historical_features(asked, ["weather.temp"]).to_df())
explained = client.explain_value("weather.temp", {"origin": "JFK"}, "2013-10-15T12:00:00Z")
print(f"  lost: {explained.losers_by_reason}")

print("\nSomebody lets it in all the same, and a model is trained and deployed:")
print(client.release(report.batch, reason="it looks like an early winter"))
flights = pandas.read_parquet("testdata/nycflights13/flights.parquet", columns=["flight_id", "origin", "at"])
autumn = flights[(flights["at"] >= "2013-09-01T00:00:00Z") & (flights["at"] < "2013-11-01T00:00:00Z")]
client.log_run("autumn", experiment="delays")
trained = client.with_run("autumn").get_historical_features(autumn, ["weather.temp", "weather.wind_speed"])
client.with_run("autumn").use(trained)
client.log_model("delay/1", run="autumn", aliases=["champion"])
client.deploy("delay-api", "delay@champion")

print("\nWhat the month reached, before it is taken back:")
print(client.rollback(report.batch))
print(client.rollback(report.batch, reason="degrees Celsius after all"))
found = client.sql("SELECT count(*) AS found FROM lineament.dangling WHERE problem LIKE '%Celsius%'").to_df()
print(f"  what stands on it is named by lineament.dangling: {int(found.found[0])} findings")
client.ingest("weather", months["2013-10"], claim="back_fill")
again = client.get_historical_features(autumn, ["weather.temp", "weather.wind_speed"])
print(f"  mean of October and September then {trained.to_df().temp.mean():.1f}, mended {again.to_df().temp.mean():.1f} °F")

print("\nThe winter against the summer:")
for month in ["2013-11", "2013-12"]:
    report = client.ingest("weather", months[month])
    print(f"  {month}: {report.judged['verdict']}, drift {report.judged['drift']:.2f}")
    for found in report.judged["findings"]:
        print(f"    {found['verdict']}: {found['measure']} of {found.get('feature', 'the batch')} is {found['value']:.2f}")
print(client.sql(
    "SELECT feature_view, sum(passed) AS passed, sum(warned) AS warned, sum(failed) AS failed, max(drift) AS drift FROM lineament.quality"
    " GROUP BY feature_view"
).to_df())  # fmt: skip
