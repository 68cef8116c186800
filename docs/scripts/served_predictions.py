"""A deployed model is judged: its predictions, labels that come days later and its metrics, beside the
feature versions that fed it.

Takes some seconds: python docs/scripts/served_predictions.py
"""

import lineament
import numpy
import pandas

client = lineament.serve("memory://").connect()
client.apply("testdata/nycflights13/features")
client.ingest("weather", pandas.read_parquet("testdata/nycflights13/weather.parquet"))
columns = ["flight_id", "origin", "at", "arr_utc", "arr_delay"]
flights = pandas.read_parquet("testdata/nycflights13/flights.parquet", columns=columns).dropna()
NAMES = ["temp", "visib", "wind_speed"]


def given(frame: pandas.DataFrame) -> numpy.ndarray:
    return numpy.column_stack([frame[NAMES].fillna(0), numpy.ones(len(frame))])


# Trained on June, by a run that a version of the model and so the deployment lead back to.
june = flights[(flights["at"] >= "2013-06-01T00:00:00Z") & (flights["at"] < "2013-07-01T00:00:00Z")]
train = client.with_run("june", experiment="delays").get_historical_features(
    june, [f"weather.{name}" for name in NAMES]
)
frame = train.to_df()
weights, *_ = numpy.linalg.lstsq(given(frame), frame.arr_delay, rcond=None)
client.log_model("delay/1", run="june", aliases=["champion"])
BEGIN, END = (pandas.Timestamp(f"2013-07-{day}T00:00:00Z") for day in ("01", "08"))
client.deploy("delay-api", "delay@champion", since=BEGIN)

# It serves a week: for each flight what it said, when, and which version said it.
week = flights[(flights["at"] >= BEGIN) & (flights["at"] < END)]
asked = week[["flight_id", "origin", "at"]]
served = client.get_historical_features(asked, features=train, record=False).to_df()
predictions = served[["flight_id", "at"]].assign(prediction=given(served) @ weights, model_version="delay/1")
client.define_view(predictions, key="flight_id", time="at", known_at="1s", name="predictions")
client.ingest("predictions", predictions)

# How late a flight really was reaches the store three days after it landed.
labels = week[["flight_id", "arr_utc", "arr_delay"]]
client.define_view(labels, key="flight_id", time="arr_utc", known_at="3d", name="labels")
client.ingest("labels", labels)

# Nobody takes a label for known before it was.
for days in (2, 10):
    later = asked[["flight_id"]].assign(at=asked["at"] + pandas.Timedelta(days=days))
    wanted = ["predictions.prediction", "labels.arr_delay"]
    seen = client.get_historical_features(later, wanted, record=False).to_df()
    known = seen[["prediction", "arr_delay"]].count()
    print(f"{days} days later: {known.prediction} predictions, {known.arr_delay} labels of {len(week)} flights")

# All labels are there, so the week can be judged. Told again for the same time, a number replaces the one
# before.
error = (seen.prediction - seen.arr_delay).abs().mean()
client.log_metrics("delay-api", {"mae": error}, since=BEGIN, until=END)

# What was said, what came of it and what was told of it, beside the features that the model was made of.
print(client.sql(
    'SELECT m.name, m.version, m.feature_versions, m.metric, m."value", count(*) AS predictions,'
    " count(l.arr_delay) AS labels, avg(abs(p.prediction - l.arr_delay)) AS recomputed"
    " FROM lineament.deployment_metrics m"
    ' JOIN predictions p ON p.model_version = m.version AND p.valid_at >= m."from" AND p.valid_at < m.until'
    " LEFT JOIN labels l ON l.flight_id = p.flight_id"
    ' GROUP BY m.name, m.version, m.feature_versions, m.metric, m."value"'
).to_df().to_string(index=False))  # fmt: skip
