"""What a leak costs: a model that is trained on a join that sees the future, one that is not, and both in
production.

Needs scikit-learn, and takes some seconds: python docs/scripts/leak_audit.py
"""

import lineament
import pandas
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

client = lineament.serve("memory://").connect()
client.apply("testdata/nycflights13/features")
flights = pandas.read_parquet("testdata/nycflights13/flights.parquet")
client.ingest("departures", flights[flights.dep_utc.notna()])
client.ingest("leg", flights[flights.arr_utc.notna() & flights.tailnum.notna()])

# The question, an hour before each departure: will it arrive more than fifteen minutes late?
asked = flights[flights.arr_delay.notna() & flights.tailnum.notna()].sort_values("at")
spine = asked[["flight_id", "origin", "tailnum", "hour", "month", "at"]].assign(late=asked.arr_delay > 15)

# As it is often joined: the last departure of the airport and the last leg of the plane, by the schedule. But
# a flight that should have left or landed by now may be in the air or at the gate yet, and nobody knows how
# late it will be.
departures = flights.dropna(subset=["dep_utc"]).sort_values("sched_dep_utc")[
    ["origin", "sched_dep_utc", "dep_delay"]
]
legs = flights.dropna(subset=["arr_utc", "tailnum"]).sort_values("sched_arr_utc")[
    ["tailnum", "sched_arr_utc", "arr_delay"]
]
joined = pandas.merge_asof(
    spine, departures, left_on="at", right_on="sched_dep_utc", by="origin", tolerance=pandas.Timedelta("3h")
)
joined = pandas.merge_asof(
    joined, legs.rename(columns={"arr_delay": "delay"}), left_on="at", right_on="sched_arr_utc", by="tailnum",
    tolerance=pandas.Timedelta("24h"),
).drop(columns=["sched_dep_utc", "sched_arr_utc"])  # fmt: skip

print("The join by schedule:")
print(client.audit(joined, ["departures.dep_delay", "leg.delay"]))

split = lineament.Split.by_time({"train": "2013-10-01T00:00:00Z", "test": None}, gap="1d")
honest = client.get_historical_features(spine, ["departures.dep_delay", "leg.delay"], split=split)
print("The training set:")
print(client.audit(honest))

names = ["hour", "month", "dep_delay", "delay"]
parts = {name: part.to_pandas() for name, part in honest.parts().items()}
leaky = {name: joined[joined.flight_id.isin(part.flight_id)] for name, part in parts.items()}
print("\nArea under the ROC curve, from October on:")
scores = {}
for title, rows in (("by schedule", leaky), ("correct in time", parts)):
    model = HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(rows["train"][names], rows["train"].late)
    for where, tested in (("offline", rows["test"]), ("in production", parts["test"])):
        scores[title, where] = roc_auc_score(tested.late, model.predict_proba(tested[names])[:, 1])
        print(f"  {title:<16} {where:<14} {scores[title, where]:.4f}")
lost = scores["by schedule", "offline"] - scores["by schedule", "in production"]
print(f"The leak promised {lost:.4f} that production does not have.")
