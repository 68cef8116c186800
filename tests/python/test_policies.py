"""Policies: the program's verbs, and a server whose callers' tokens say what they are."""

import lineament
import pytest
import readings
from program import Server, fails, run

POLICIES = """
@id("governors") permit(principal in Role::"governor", action, resource);
@id("guests") @rows("sensor = 'a'") @mask("round:1")
permit(principal in Role::"guest", action == Action::"read", resource)
when { context.purpose == Purpose::"explore" };
"""
CASES = """
[[case]]
name = "guests see whole numbers"
roles = ["guest"]
feature = "reading.value"
expect = "mask round:1; rows sensor = 'a'"
by = "guests"
[[case]]
name = "and train on none"
roles = ["guest"]
purpose = "train"
feature = "reading.value"
expect = "deny"
"""


def definitions(folder):
    """The definitions as files, with policies beside them."""
    features = folder / "features"
    (features / "policies").mkdir(parents=True)
    for name, text in readings.DEFINITIONS.items():
        (features / name).write_text(text)
    (features / "policies" / "base.cedar").write_text(POLICIES)
    (features / "policies" / "cases.toml").write_text(CASES)
    return features


def test_policies_are_planned_tested_applied_explained_and_lifted(tmp_path):
    store, features = tmp_path / "store", definitions(tmp_path)
    assert "2 passed, 0 failed" in run(store, "policy", "test", features)
    governor = ("--as-role", "governor")
    refused = fails(store, "apply", features)
    assert "could not change them again: no policy permits it" in refused, refused
    applied = run(store, "apply", features, *governor)
    assert "+ policies@1 of 1 files" in applied and "policies are in force from sequence 1 on" in applied, applied
    planned = run(store, "plan", features, *governor)
    assert "policies@1 unchanged" in planned and "nothing to do" in planned, planned
    explained = run(store, "policy", "explain", "reading", "--who", "ann", "--as-role", "guest")
    assert "value: mask round:1; rows sensor = 'a', by guests" in explained, explained
    denied = fails(store, "sql", "SELECT value FROM reading")
    assert "may not be read" in denied and "no policy permits it" in denied, denied
    asked = "SELECT action, asked FROM lineament.access_decisions WHERE decision = 'denied'"
    assert "reading@1.*" in run(store, "sql", asked, *governor), "a denial is on record also where the program fails"
    cases = (features / "policies" / "cases.toml").read_text().replace("round:1;", "round:2;")
    (features / "policies" / "cases.toml").write_text(cases)
    assert "expected `mask round:2" in fails_with_output(store, "policy", "test", features)
    (features / "policies" / "base.cedar").write_text(POLICIES.replace("@mask", "@msak"))
    assert "base.cedar:3:37: @msak means nothing here (did you mean @mask?)" in fails(store, "plan", features, *governor)
    run(store, "policy", "lift", "--reason", "an exercise", *governor)
    run(store, "sql", "SELECT value FROM reading")
    assert "lifted: an exercise" in run(store, "policy", "list")


def fails_with_output(store, *arguments):
    import subprocess

    from program import command

    done = subprocess.run(command(store, *arguments), capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stderr
    return done.stdout


def test_a_server_shows_each_caller_what_its_token_may_see(tmp_path):
    store, features, tokens = tmp_path / "store", definitions(tmp_path), tmp_path / "tokens.toml"
    made = {
        name: run(store, "token", "create", "--tokens", tokens, "--principal", name, "--role", role).strip()
        for name, role in (("ada", "governor"), ("ann", "guest"))
    }
    run(store, "apply", features, "--as-role", "governor")
    with Server(store, "--tokens", tokens) as server:
        with lineament.connect(server.url, token=made["ada"]) as ada:
            ada.ingest("reading", readings.rows())
            every = ada.sql("SELECT sensor, value FROM reading ORDER BY sensor, valid_at").to_arrow()
        assert len(set(every["sensor"].to_pylist())) > 1
        with lineament.connect(server.url, token=made["ann"]) as ann:
            seen = ann.sql("SELECT sensor, value FROM reading ORDER BY sensor, valid_at").to_arrow()
            whole = [value for sensor, value in zip(*every.to_pydict().values()) if sensor == "a"]
            assert seen["sensor"].to_pylist() == ["a"] * len(whole)
            assert all(value == int(value) for value in seen["value"].to_pylist())
            with pytest.raises(lineament.Forbidden, match="may not ingest `default.reading`"):
                ann.ingest("reading", readings.rows())
        with (
            lineament.connect(server.url, token=made["ann"], purpose="train") as ann,
            pytest.raises(lineament.Forbidden, match="may not be read by `ann`: no policy permits it"),
        ):
            ann.sql("SELECT sensor FROM reading").to_arrow()
        with pytest.raises(lineament.InvalidRequest, match="`lineament-purpose`: `fun` is not a purpose"):
            lineament.connect(server.url, token=made["ann"], purpose="fun")


def test_policies_and_holds_over_flight(tmp_path):
    store, features, tokens = tmp_path / "store", definitions(tmp_path), tmp_path / "tokens.toml"
    policies = features / "policies"
    made = {
        name: run(store, "token", "create", "--tokens", tokens, "--principal", name, "--role", role).strip()
        for name, role in (("ada", "governor"), ("ann", "guest"))
    }
    with (
        Server(store, "--tokens", tokens) as server,
        lineament.connect(server.url, token=made["ada"]) as ada,
        lineament.connect(server.url, token=made["ann"]) as ann,
    ):
        # The policies come first, and speak of keys that are not there yet.
        planned = ada.plan_policies(policies, definitions=features)
        assert (planned.number, planned.added, planned.sequence) == (1, ["base.cedar"], None)
        with pytest.raises(lineament.InvalidRequest, match="fits the keys of no feature view"):
            ada.plan_policies(policies)
        with pytest.raises(lineament.InvalidRequest, match="`ann` could not change them again"):
            ann.apply_policies(policies, definitions=features)
        assert ada.apply_policies(policies, definitions=features).sequence is not None
        ada.apply(readings.DEFINITIONS)
        again = ada.apply_policies(policies)
        assert (again.number, again.sequence, repr(again)) == (1, None, "policies@1, as they were")
        with pytest.raises(lineament.Forbidden, match="may not govern `default`"):
            ann.lift_policies(reason="why not")
        with pytest.raises(lineament.Forbidden, match="may not hold `default.reading`"):
            ann.hold("reading@1", reason="mine")
        held = ada.hold("reading@1", reason="case 17")
        with pytest.raises(lineament.Forbidden, match="may not hold `default.reading`"):
            ann.lift_hold(held.hold, reason="mine")
        assert ada.lift_hold(held.hold, reason="closed").id == held.id
        asked = "SELECT asked, policies FROM lineament.access_decisions WHERE decision = 'allowed' AND action = 'hold'"
        assert ada.sql(asked).to_arrow().to_pylist() == [{"asked": "reading@1", "policies": 1}] * 2
        ada.lift_policies(reason="an exercise")
        ann.lift_hold(ann.hold("reading@1", reason="mine").hold, reason="closed")
