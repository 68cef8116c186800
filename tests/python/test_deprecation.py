"""What will go is told to whoever reads it, over Flight and on the command line, and refused at its date; what breaks others is said why."""

import time
import warnings
from datetime import UTC, datetime, timedelta

import lineament
import pyarrow.flight as flight
import pytest
import readings
from lineament.mlflow.linking import retrieved_for
from program import Server, fails, run


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def quietly(call):
    """What a call gives, and that it warned of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", lineament.DeprecatedFeatureWarning)
        return call()


@pytest.fixture
def store(tmp_path):
    """A store of its own with the readings, served."""
    with Server(tmp_path / "store") as server, lineament.connect(server.url) as client:
        client.apply(readings.DEFINITIONS)
        client.ingest("reading", readings.rows())
        yield server, client


def test_readers_are_warned_by_every_way(store):
    server, client = store
    retrieve = [
        lambda: client.sql("SELECT value FROM reading"),
        lambda: client.get_historical_features(readings.spine(), "reading.value", record=False),
        lambda: client.get_historical_features(readings.spine(), "reading.value"),
        lambda: list(client.stream(readings.spine(), "reading.value")),
        lambda: client.get_historical_features(client.keep_spine(readings.spine()), "reading.value"),
    ]
    for call in retrieve:
        quietly(call)
    told = client.deprecate(
        "reading@1", reason="another sensor", closed_on="2100-01-01", withdrawn_on="2100-02-01T12:00:00Z"
    )
    assert (told.of, told.kind, told.closed_at) == ("reading@1", "version", "2100-01-01T00:00:00Z")
    for call in retrieve:
        with pytest.warns(lineament.DeprecatedFeatureWarning, match="reading@1 is deprecated by") as seen:
            call()
        assert len(seen) == 1
        # Where it was asked for, and not in the package.
        assert seen[0].filename == __file__
        notice = seen[0].message.notice
        assert (notice["stage"], notice["withdrawn_at"], notice["instead"]) == ("announced", "2100-02-01T12:00:00Z", None)
    quietly(lambda: client.sql("SELECT * FROM lineament.deprecations"))

    # A client that knows nothing of ours sees the header, and an empty batch with the report at the end.
    seen = []

    class Headers(flight.ClientMiddlewareFactory):
        def start_call(self, info):
            class Middleware(flight.ClientMiddleware):
                def received_headers(self, headers):
                    seen.extend(headers.get("lineament-deprecated", []))

            return Middleware()

    with flight.FlightClient(server.url, middleware=[Headers()]) as plain:
        plain.do_get(flight.Ticket(b'{"sql": "SELECT value FROM reading"}')).read_all()
        assert seen == ["reading@1"]
        plain.do_get(flight.Ticket(b'{"sql": "SELECT 1"}')).read_all()
        assert seen == ["reading@1"]

    with pytest.raises(lineament.InvalidRequest, match="is deprecated already"):
        client.deprecate("reading@1", reason="again", closed_on="2100-01-01")
    undone = client.deprecate("reading@1", reason="it stays", undo=True)
    assert undone.undo
    for call in retrieve:
        quietly(call)


def test_what_is_closed_trains_nothing_new(store):
    server, client = store
    with client.with_run("train-1").stream(readings.spine(), "reading.value") as stream:
        list(stream)
        old = stream.id
    client.log_model("scored/1", run="train-1")
    client.deploy("scorer", "scored/1")
    told = client.deprecate("reading@1", reason="another sensor", closed_on=soon(1), withdrawn_on=soon(2))
    assert told.deployments == ["scorer in production (scored/1)"]
    time.sleep(2.5)
    with pytest.raises(lineament.InvalidRequest, match="reading@1 is closed to new uses since .* ask "):
        client.get_historical_features(readings.spine(), "reading.value")
    # The model in force is scored as before, though the second date is past too.
    with pytest.warns(lineament.DeprecatedFeatureWarning, match="closed to new training sets"), retrieved_for("score"):
        scored = client.get_historical_features(readings.spine(), "reading@1.value")
    assert scored.id is not None
    assert quietly(lambda: client.replay(old)).equal
    stage = client.sql("SELECT stage, closed_at_sequence FROM lineament.deprecations").to_arrow().to_pylist()
    assert stage[0]["stage"] == "closed" and stage[0]["closed_at_sequence"] is not None
    put_off = run(server.store, "deprecate", "--due")
    assert "and is in use: scorer in production (scored/1)" in put_off, put_off
    assert "scorer in production (scored/1) stands on it" in fails_or_runs(server.store, "reconcile")
    done = run(server.store, "deprecate", "--due", "--in-use", "--reason", "the sensor was broken")
    assert "reading@1 is withdrawn" in done, done
    with pytest.raises(lineament.InvalidRequest, match="reading@1 is withdrawn since"):
        client.sql("SELECT value FROM reading")
    assert client.replay(old).equal


def fails_or_runs(store, *arguments):
    import subprocess

    from program import command

    done = subprocess.run(command(store, *arguments), capture_output=True, text=True, timeout=600)
    return done.stdout


def test_the_command_line_announces_warns_and_lists(tmp_path):
    store, features = tmp_path / "store", tmp_path / "features"
    features.mkdir()
    for name, text in readings.DEFINITIONS.items():
        (features / name).write_text(text)
    run(store, "apply", features)
    refused = fails(store, "deprecate", "reading", "--reason", "another sensor", "--closed-on", "2001-01-01")
    assert "nothing is closed without notice" in refused, refused
    said = run(
        store, "deprecate", "reading", "--reason", "another sensor", "--closed-on", "2100-01-01", "--withdrawn-on", "2100-02-01"
    )
    assert "reading is deprecated, announced at sequence 2" in said and "read no more: 2100-02-01T00:00:00Z" in said, said
    assert "nothing is due" in run(store, "deprecate", "--due")
    listed = run(store, "decisions", "--kind", "deprecate")
    assert "another sensor" in listed and "reading" in listed, listed
    assert "not deprecated any more" in run(store, "deprecate", "reading", "--undo", "--reason", "it stays")
    listed = run(store, "decisions", "--of", "reading")
    assert listed.count("reading") >= 3 and "deprecation_revoked" in listed, listed


def test_what_breaks_others_says_why(store):
    _, client = store
    changed = {
        name: text.replace('type = "float64"', 'type = "float32"', 1) for name, text in readings.DEFINITIONS.items()
    }
    assert changed != readings.DEFINITIONS
    plan = client.plan(changed)
    assert (plan.effect, plan.sequence) == ("breaking", None)
    assert plan.digest.startswith("blake3:")
    (change,) = [change for change in plan.changes if change.effect == "breaking"]
    assert change.name == "reading" and change.felt_by["training_sets"] == []
    with pytest.raises(lineament.InvalidRequest, match=r"needs a reason.*`reason=`\): feature view reading@2"):
        client.apply(changed)
    applied = client.apply(changed, reason="half the bytes")
    assert (applied.digest, applied.effect) == (plan.digest, "breaking")
    decided = client.sql("SELECT kind, subject, reason FROM lineament.decisions WHERE sequence > 2").to_arrow()
    assert decided.to_pylist() == [{"kind": "apply", "subject": "reading@2", "reason": "half the bytes"}]


POLICIES = """
permit(principal, action == Action::"read", resource);
@approval("breaking") permit(principal in Role::"author", action == Action::"apply", resource);
permit(principal in Role::"author", action in [Action::"ingest", Action::"govern"], resource);
permit(principal in Role::"owner", action == Action::"approve", resource);
"""


def test_a_second_person_approves_exactly_what_is_applied(tmp_path):
    store, features, tokens = tmp_path / "store", tmp_path / "features", tmp_path / "tokens.toml"
    (features / "policies").mkdir(parents=True)
    for name, text in readings.DEFINITIONS.items():
        (features / name).write_text(text)
    (features / "policies" / "base.cedar").write_text(POLICIES)
    made = {
        name: run(store, "token", "create", "--tokens", tokens, "--principal", name, "--role", role).strip()
        for name, role in (("bert", "author"), ("ann", "owner"))
    }
    run(store, "apply", features, "--as-role", "author")
    changed = {
        name: text.replace('type = "float64"', 'type = "float32"', 1) for name, text in readings.DEFINITIONS.items()
    }
    with Server(store, "--tokens", tokens) as server:
        bert, ann = (lineament.connect(server.url, token=made[name]) for name in ("bert", "ann"))
        with bert, ann:
            bert.ingest("reading", readings.rows())
            plan = bert.plan(changed)
            with pytest.raises(lineament.Forbidden, match=f"the plan {plan.digest} is proposed"):
                bert.apply(changed, reason="half the bytes")
            with pytest.raises(lineament.Forbidden, match="somebody else has to approve it"):
                bert.approve(plan.digest, reason="myself")
            approved = ann.approve(plan.digest.removeprefix("blake3:")[:12], reason="agreed")
            assert (approved.proposed_by, approved.proposed_for) == ("bert", "half the bytes")
            assert approved.changes == ["feature view reading@2 (breaking): feature `value`: type float64 → float32"]
            assert bert.apply(changed, reason="half the bytes").sequence is not None
            kinds = ann.sql("SELECT kind, principal FROM lineament.decisions WHERE kind IN ('propose', 'approve')")
            assert kinds.to_arrow().to_pylist() == [
                {"kind": "propose", "principal": "bert"},
                {"kind": "approve", "principal": "ann"},
            ]
