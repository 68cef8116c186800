"""A station sends its weather as it comes, and once more from the beginning.

python docs/scripts/station_stream.py
"""

import lineament
import pyarrow.compute
import pyarrow.parquet

client = lineament.serve("lineament-store").connect()
client.apply("testdata/nycflights13/features")
weather = pyarrow.parquet.read_table("testdata/nycflights13/weather.parquet")
jfk = weather.filter(pyarrow.compute.equal(weather["origin"], "JFK")).slice(0, 1_000)

for attempt in ("sent", "sent again"):
    with client.stream("weather", producer="JFK", claim="back_fill") as stream:
        for first in range(0, jfk.num_rows, 25):
            stream.send(jfk.slice(first, 25))
        receipts = stream.flush()
    rows = sum(receipt.rows for receipt in receipts)
    repeated = sum(receipt.repeated for receipt in receipts)
    print(f"{attempt}: {len(receipts)} parts, {rows:,} rows; {repeated} parts had been committed before")

print(client.sql("SELECT count(*) AS rows, count(DISTINCT batch) AS batches FROM history('weather')").to_df())
