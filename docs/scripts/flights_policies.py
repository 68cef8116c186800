"""Who may see what of the flights: a model's analysts and guests, over one server that knows them by their tokens; what each is
shown, what is denied, what neither may learn in passing, and who could read what, and why.

Takes some seconds: python docs/scripts/flights_policies.py
"""

import pathlib
import shutil
import subprocess
import tempfile

import lineament
import pandas

FLIGHTS = pathlib.Path("testdata/nycflights13")
POLICIES = """
// Whoever governs the store may do everything.
@id("governors") permit(principal in Role::"governor", action, resource);

// Analysts explore and train, and airlines are hashes to them: equal ones stay equal.
@id("analysts") permit(principal in Role::"analyst", action == Action::"read", resource);
@id("airlines") @mask("hash")
permit(principal in Role::"analyst", action == Action::"read", resource == Feature::"default.departures.carrier");

// Guests explore the weather of one airport, in whole tens of degrees.
@id("guests") @rows("origin = 'JFK'")
permit(principal in Role::"guest", action == Action::"read", resource in View::"default.weather")
when { context.purpose == Purpose::"explore" };
@id("tens") @mask("round:10")
permit(principal in Role::"guest", action == Action::"read", resource == Feature::"default.weather.temp");
"""
CASES = """
[[case]]
roles = ["analyst"]
purpose = "train"
feature = "departures.carrier"
expect = "mask hash"
by = "airlines"
[[case]]
roles = ["guest"]
feature = "weather.temp"
expect = "mask round:10; rows origin = 'JFK'"
[[case]]
roles = ["guest"]
purpose = "train"
feature = "weather.temp"
expect = "deny"
"""

place = pathlib.Path(tempfile.mkdtemp())
features = shutil.copytree(FLIGHTS / "features", place / "features")
(features / "policies").mkdir()
(features / "policies" / "base.cedar").write_text(POLICIES)
(features / "policies" / "cases.toml").write_text(CASES)


def program(*arguments):
    command = [lineament.server.binary(), "--store", place / "store", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


print(program("policy", "test", features).strip())
print(program("apply", features, "--as-role", "governor").strip().splitlines()[-1])
tokens = {
    name: program("token", "create", "--tokens", place / "tokens.toml", "--principal", name, "--role", role).strip()
    for name, role in [("ada", "governor"), ("ann", "analyst"), ("gus", "guest")]
}
server = lineament.serve(place / "store", arguments=["--tokens", place / "tokens.toml"])
ada, ann, gus = (server.connect(token=tokens[name]) for name in ["ada", "ann", "gus"])
flights = pandas.read_parquet(FLIGHTS / "flights.parquet")
ada.ingest("weather", pandas.read_parquet(FLIGHTS / "weather.parquet"))
ada.ingest("departures", flights[flights.dep_utc.notna()])

print("\nThe same question, three answers:")
QUESTION = "SELECT count(DISTINCT origin) AS airports, count(*) AS hours, max(temp) AS warmest FROM weather"
for name, client in [("ada", ada), ("ann", ann), ("gus", gus)]:
    found = client.sql(QUESTION).to_df()
    print(f"  {name}: {found.airports[0]} airports, {found.hours[0]:,} hours, at most {found.warmest[0]:.2f} °F")

print("\nAn analyst trains, with airlines as hashes:")
asked = flights[["flight_id", "origin", "at"]].head(20_000)
training = server.connect(token=tokens["ann"], purpose="train")
trained = training.get_historical_features(asked, ["weather.temp", "departures.dep_delay", "departures.carrier"])
print(f"  {len(asked):,} rows, {trained.to_df().carrier.nunique()} airlines, one is {trained.to_df().carrier.dropna().iloc[0][:8]}…")

print("\nA guest trains on nothing, reads no departures, and sees no set that shows more:")
attempts = {
    "train": lambda: server.connect(token=tokens["gus"], purpose="train").sql("SELECT temp FROM weather").to_df(),
    "departures": lambda: gus.sql("SELECT carrier FROM departures").to_df(),
    "the set": lambda: gus.replay(trained.id),
}
for what, attempt in attempts.items():
    try:
        attempt()
        print(f"  {what}: shown")
    except lineament.Forbidden as refused:
        print(f"  {what}: {str(refused).split('; ')[0]}")

print("\nNor is it told in passing how many hours there are, what they are like, or what others asked:")
ann.sql("SELECT count(*) FROM weather WHERE temp > 95.5 AND origin = 'EWR'").to_df()
TOLD = {
    "rows of the batch": 'SELECT "rows" FROM lineament.batches WHERE feature_view = \'weather\'',
    "profiles": "SELECT count(*) FROM lineament.profiles WHERE feature_view = 'weather'",
    "cells of the set": "SELECT sum(cells_from) FROM impact('weather@1')",
}
for what, question in TOLD.items():
    told = [client.sql(question).to_arrow().column(0)[0].as_py() for client in (ada, gus)]
    print(f"  {what}: to ada {told[0]}, to gus {told[1]}")

print("\nCould gus read the temperature, and why? What was decided of gus?")
for purpose in ("explore", "train"):
    ((decision, why),) = gus.sql(
        f"SELECT decision, why FROM access('weather.temp', principal => 'gus', roles => ['guest'], purpose => '{purpose}')"
    ).to_df().itertuples(index=False)  # fmt: skip
    print(f"  to {purpose}: {decision}; {why}")
server.stop()
decided = program(
    "sql", "SELECT decision, count(*) AS times, max(policies) AS policies FROM lineament.access_decisions"
    " WHERE principal = 'gus' GROUP BY decision ORDER BY decision", "--as-role", "governor", "--format", "csv",
)  # fmt: skip
print(decided.strip())
shutil.rmtree(place)
