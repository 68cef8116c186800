"""Small batches become few files, by the server itself, and nothing that can be asked has another answer."""

import time

import lineament
from program import Server, run
from test_retention import VISITS, data_files, spine, store_with, visits

BATCHES = 20
# Nothing is too old to be kept here.
FOREVER = VISITS.split("[retention]")[0]


def asked(client: lineament.Client) -> list:
    """The view now and at every sequence of an ingest, batch by batch, and a training set of it."""
    entries = client.sql("SELECT sequence FROM lineament.batches ORDER BY sequence").to_arrow()["sequence"].to_pylist()
    history = "SELECT visitors, valid_at, known_at, batch, sequence FROM history('visits') ORDER BY sequence, visitors"
    answers = [entries, client.sql(history).to_arrow()]
    for sequence in entries:
        answers.append(client.sql(f"SELECT * FROM at_sequence('visits', {sequence}) ORDER BY visitors").to_arrow())
    made = client.get_historical_features(spine(*range(BATCHES)), ["visits.visitors"], record=False).to_arrow()
    assert made["visitors"].to_pylist() == list(range(BATCHES))
    return [*answers, made]


def compactions(client: lineament.Client) -> list[dict]:
    return client.sql('SELECT batches, "rows", in_force FROM lineament.compactions').to_arrow().to_pylist()


def test_the_server_merges_now_and_then(tmp_path):
    store = store_with(tmp_path, FOREVER)
    with Server(store, "--compact-every", "never") as server, lineament.connect(server.url) as client:
        for number in range(BATCHES):
            client.ingest("visits", visits(number), claim="back_fill")
        before = asked(client)
        recorded = client.get_historical_features(spine(3, 7), ["visits.visitors"])
        assert compactions(client) == [] and data_files(store) == BATCHES
    with Server(store, "--compact-every", "1s") as server, lineament.connect(server.url) as client:
        for _ in range(300):
            if compactions(client):
                break
            time.sleep(0.1)
        assert compactions(client) == [{"batches": BATCHES, "rows": BATCHES, "in_force": True}]
        assert client.sql("SELECT DISTINCT file FROM history('visits')").to_arrow().num_rows == 1
        assert asked(client) == before
        assert client.replay(recorded).equal
        # With nothing new there is nothing to merge.
        time.sleep(2.5)
        assert len(compactions(client)) == 1
    assert f"{BATCHES} rows of" in run(store, "compact", "--check")
    assert "holds" in run(store, "verify", "--full")
