"""Brings what `feast init` makes into a store, and compares one retrieval on both.

Runs where Feast is installed, beside this package: python docs/scripts/feast_repository.py
"""

import subprocess
import sys
from pathlib import Path

import lineament
from lineament.feast import Repository, compare, read_source, translate

subprocess.run([Path(sys.executable).with_name("feast"), "init", "rides"], check=True, capture_output=True)
repository = Repository("rides")
translation = translate(repository.contents, repository.folder)
for note in translation.notes:
    print(note)
translation.write(Path("rides-features"))

client = lineament.serve("rides-store").connect()
print(client.apply("rides-features"))
for source in translation.sources:
    rows = read_source(source)
    if rows.num_rows:
        print(client.ingest(source.view, rows, key=f"{source.view}, as of today"))
print(compare(client, repository, translation.sources))

# From here on it is Lineament's: now, or as a training set that is recorded.
print(client.get_online_features("driver_activity_v2", [{"driver_id": 1001}]).to_dict())
