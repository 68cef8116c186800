"""The log, as tests look at it."""

import lineament


def writes(client: lineament.Client) -> int:
    """How many entries the log has, apart from those that only tell of reads, which come when they come."""
    counted = client.sql("SELECT count(*) AS n FROM lineament.log WHERE records NOT LIKE '%reads_recorded%'")
    return counted.to_arrow()["n"][0].as_py()
