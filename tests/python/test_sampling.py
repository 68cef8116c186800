"""What passes by is looked at within a minute, and the population of a training set is compared with the one that is served."""

import time

import lineament
import numpy
import pandas
import pytest
from program import Server, run
from scipy import stats
from scipy.spatial.distance import jensenshannon

ENTITY = 'kind = "entity"\nname = "customer"\n[[keys]]\nname = "customer"\ntype = "int64"\n'
VIEW = """
kind = "feature_view"
name = "account"
entity = "customer"
[time]
valid_at = "at"
known_at = "assumed"
[[features]]
name = "balance"
type = "float64"
[[features]]
name = "level"
type = "int64"
[[features]]
name = "plan"
type = "string"
"""
SAMPLING = "[sampling]\nreads = 0.25\nstreams = 0.25\n[quality.features.balance]\nwasserstein = { warn = 1, fail = 3 }\n"
SERVICE = 'kind = "feature_service"\nname = "churn"\nfeatures = ["account.*"]\n'
CUSTOMERS = 4000


def accounts(day: int, *, factor: float = 1.0, seed: int = 3) -> pandas.DataFrame:
    random = numpy.random.default_rng(seed + day)
    return pandas.DataFrame(
        {
            "customer": numpy.arange(CUSTOMERS),
            "at": pandas.Timestamp(f"2024-01-{day:02}", tz="UTC"),
            "balance": random.lognormal(2, 1, CUSTOMERS) * factor,
            "level": random.integers(0, 60, CUSTOMERS),
            "plan": random.choice(["free", "basic", "gold"], CUSTOMERS, p=[0.6, 0.3, 0.1]),
        }
    )


def samples(client) -> pandas.DataFrame:
    return client.sql('SELECT kind, passed, "rows", verdict, share, sequence FROM lineament.samples ORDER BY sequence, kind').to_df()


def within(seconds: float, client, many: int) -> pandas.DataFrame:
    """The samples, once there are so many."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = samples(client)
        if len(found) >= many:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{samples(client)} after {seconds} s")


@pytest.mark.parametrize("every", [None, "1s"])
def test_what_is_read_and_streamed_is_compared_in_the_server(tmp_path, every):
    arguments = () if every is None else ("--sample-every", every)
    # As often as the server looks where nothing is said, a minute is enough.
    patience = 60 if every is None else 20
    with Server(tmp_path / "store", *arguments) as server, lineament.connect(server.url) as client:
        client.apply({"customer.toml": ENTITY, "account.toml": VIEW + SAMPLING, "churn.toml": SERVICE})
        for day in range(1, 4):
            client.ingest("account", accounts(day))
        spine = pandas.DataFrame({"customer": numpy.arange(CUSTOMERS), "at": pandas.Timestamp("2024-01-03T12:00Z")})
        assert client.get_historical_features(spine, ["churn"], record=False).to_df().plan.notna().all()
        found = within(patience, client, 1)
        assert list(found.kind) == ["reads"] and list(found.verdict) == ["pass"] and list(found.passed) == [CUSTOMERS]
        # Five standard deviations of a binomial.
        assert abs(found.rows[0] - CUSTOMERS / 4) < 5 * (CUSTOMERS * 0.25 * 0.75) ** 0.5
        # Recorded to fit a model with, it is of times that are over; and the same entities are sampled each time.
        client.get_historical_features(spine, ["churn"])
        client.get_historical_features(spine, ["churn"], record=False)
        again = within(patience, client, 2)
        assert list(again.passed) == [CUSTOMERS] * 2 and again.rows[1] == again.rows[0]
        with client.stream("account", producer="bank") as stream:
            for part in range(4):
                rows = accounts(4, factor=200).iloc[part * 1000 : part * 1000 + 1000]
                stream.send(rows)
            assert not any(receipt.quarantined for receipt in stream.flush())
        streamed = within(patience, client, 3)
        last = streamed.iloc[-1]
        assert (last.kind, last.verdict) == ("streams", "fail") and last.rows == again.rows[0]
        findings = client.sql(
            "SELECT DISTINCT feature FROM lineament.sample_findings WHERE kind = 'streams' AND verdict = 'fail'"
        ).to_df()
        assert list(findings.feature) == ["balance"]
        assert server.stop() == 0
    assert "not as the baseline is" in server.said()
    run(tmp_path / "store", "verify", "--full")


def test_what_waits_is_compared_when_the_server_stops(tmp_path):
    store = tmp_path / "store"
    with Server(store, "--sample-every", "1h") as server, lineament.connect(server.url) as client:
        client.apply({"customer.toml": ENTITY, "account.toml": VIEW + "[sampling]\nreads = 1\n"})
        client.ingest("account", accounts(1))
        spine = pandas.DataFrame({"customer": pandas.array([1, 2, None], "Int64"), "at": pandas.Timestamp("2024-01-03T12:00Z")})
        client.get_historical_features(spine, ["account.level"], record=False)
        assert len(samples(client)) == 0
        server.stop()
    said = run(store, "sql", "--format", "csv", 'SELECT kind, passed, "rows", verdict FROM lineament.samples')
    # Too few to be compared; a row without a key is nobody's.
    assert said.split() == ["kind,passed,rows,verdict", "reads,3,2,pass"]


@pytest.fixture(scope="module")
def biased(tmp_path_factory):
    """A training set that prefers some customers, and what is said of it."""
    with lineament.serve(tmp_path_factory.mktemp("bias") / "store") as server, server.connect() as client:
        client.apply({"customer.toml": ENTITY, "account.toml": VIEW, "churn.toml": SERVICE})
        rows = accounts(1)
        client.ingest("account", rows)
        random = numpy.random.default_rng(11)
        # The richer, the likelier; and fifty that nobody serves.
        weights = rows.balance / rows.balance.sum()
        chosen = numpy.concatenate([random.choice(CUSTOMERS, 6000, p=weights), CUSTOMERS + numpy.arange(50)])
        spine = pandas.DataFrame({"customer": chosen, "at": pandas.Timestamp("2024-01-02T12:00Z")})
        training_set = client.get_historical_features(spine, ["churn"])
        report = client.bias(training_set)
        fair = client.get_historical_features(spine.assign(customer=random.permutation(CUSTOMERS).repeat(2)[:6050]), ["churn"])
        yield rows, training_set.to_df(), report, client.bias(fair)


def value(report, measure: str, feature: str | None = None) -> float:
    (found,) = [one.value for one in report.measures if (one.measure, one.feature) == (measure, feature)]
    return found


def test_entities(biased):
    served, spine, report, _ = biased
    population = report.populations["account@1"]
    assert population["served_entities"] == CUSTOMERS == population["served_rows"]
    assert population["spine_entities"] == spine.customer.nunique()
    assert population["shared_entities"] == spine.customer[spine.customer < CUSTOMERS].nunique()
    assert value(report, "unserved") == pytest.approx(50 / 6050, abs=1e-6)
    missing = CUSTOMERS - population["shared_entities"]
    assert value(report, "left_out") == pytest.approx(missing / CUSTOMERS, abs=1e-6)
    everyone = numpy.union1d(served.customer, spine.customer)
    counts = [numpy.array([(of.customer.value_counts().get(one, 0)) for one in everyone]) for of in (served, spine)]
    assert value(report, "entity_jensen_shannon") == pytest.approx(jensenshannon(*counts, 2), abs=2e-6)
    assert value(report, "entity_share") > 0.5


def test_features(biased):
    served, spine, report, _ = biased
    expected = stats.wasserstein_distance(served.balance, spine.balance.dropna()) / served.balance.std()
    assert value(report, "wasserstein", "balance") == pytest.approx(expected, rel=0.02)
    kinds = sorted(set(served.plan))
    counts = [[int((of.plan == kind).sum()) for kind in kinds] for of in (served, spine)]
    assert value(report, "jensen_shannon", "plan") == pytest.approx(jensenshannon(*counts, 2), abs=2e-6)
    assert value(report, "null_rate", "balance") == pytest.approx(50 / 6050, abs=2e-6)
    # Every level below 64 has a bin of its own; the groups are those that docs/quality.md describes.
    from test_quality import tenths

    baseline, batch = tenths(served.level, spine.level.dropna())
    p, q = (numpy.maximum(counts / counts.sum(), 1e-4) for counts in (baseline, batch))
    chance = 2 * (len(p) - 1) * (1 / baseline.sum() + 1 / batch.sum())
    expected = max(stats.entropy(p, q) + stats.entropy(q, p) - chance, 0)
    assert value(report, "psi", "level") == pytest.approx(expected, abs=2e-6)


def test_verdicts(biased):
    _, _, report, fair = biased
    assert report.verdict in ("warn", "fail")
    found = {(one.feature, one.measure) for one in report.measures if one.verdict != "pass"}
    assert {(None, "entity_share"), ("balance", "psi"), ("balance", "wasserstein")} <= found
    assert not any(feature in ("level", "plan") for feature, _ in found), found
    assert fair.verdict == "pass", fair


def test_the_share_of_few_entities_is_what_scipy_says(tmp_path):
    with lineament.serve(tmp_path / "store") as server, server.connect() as client:
        client.apply({"customer.toml": ENTITY, "account.toml": VIEW})
        client.ingest("account", accounts(1).head(4))
        often = [700, 100, 150, 50]
        spine = pandas.DataFrame({"customer": numpy.repeat(range(4), often), "at": pandas.Timestamp("2024-01-02T12:00Z")})
        report = client.bias(client.get_historical_features(spine, ["account.plan"]))
        expected = stats.chisquare(often, [250] * 4)
        assert expected.pvalue < 1e-4
        assert value(report, "entity_share") == pytest.approx((expected.statistic / 1000) ** 0.5, abs=2e-6)
        # By the verb, and in the report of a retrieval.
        said = run(tmp_path / "store", "bias", report.training_set)
        assert "against the served population: warn" in said and "entity_share" in said
        (tmp_path / "spine.csv").write_text(spine.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%SZ"))
        said = run(tmp_path / "store", "retrieve", "account.plan", "--spine", tmp_path / "spine.csv", "--bias")
        assert "against the served population: warn" in said


def test_the_season_is_no_bias(tmp_path):
    """Values that change with the day: of all days alike, a spine is like what is served on those days; of one moment it is not."""
    with lineament.serve(tmp_path / "store") as server, server.connect() as client:
        client.apply({"customer.toml": ENTITY, "account.toml": VIEW})
        for day in range(1, 29):
            client.ingest("account", accounts(day, factor=1.2**day))
        random = numpy.random.default_rng(5)
        days = pandas.to_datetime("2024-01-01T12:00Z") + pandas.to_timedelta(random.integers(0, 28, 8000), unit="D")
        spine = pandas.DataFrame({"customer": random.integers(0, CUSTOMERS, 8000), "at": days})
        training_set = client.get_historical_features(spine, ["account.balance"])
        assert client.bias(training_set, moments=28).verdict == "pass"
        last = client.bias(training_set, at="2024-01-28T12:00:00Z")
        assert [(one.feature, one.measure) for one in last.measures if one.verdict != "pass"], last
