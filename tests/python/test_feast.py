"""What a Feast repository becomes here. Feast itself is large, so that most of this looks at stand-ins with
its attributes; what `feast init` makes is read and retrieved by Feast itself."""

import enum
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace as Object

import lineament
import pyarrow
import pyarrow.parquet
import pytest
from feast_consumer import binaries
from lineament.feast import Repository, Unreadable, compare, read_source, translate
from lineament.feast.__main__ import main
from lineament.feast.definitions import Translation
from program import Server, command, fails

ValueType = enum.Enum(
    "ValueType", "UNKNOWN STRING INT32 INT64 FLOAT DOUBLE BOOL BYTES UNIX_TIMESTAMP JSON MAP INT64_LIST"
)
START = datetime(2024, 1, 1, tzinfo=UTC)


def field(name, kind, description="", tags=None):
    return Object(
        name=name,
        dtype=Object(to_value_type=lambda: ValueType[kind]),
        description=description,
        tags=tags or {},
    )


def entity(name, join_key, kind="UNKNOWN", **words):
    return Object(
        name=name,
        join_key=join_key,
        value_type=ValueType[kind],
        **{"description": "", "tags": {}, "owner": "", **words},
    )


def file_source(path, **members):
    given = {
        "timestamp_field": "event_timestamp",
        "created_timestamp_column": "",
        "field_mapping": {},
        **members,
    }
    return Object(path=str(path), **given)


def view(name, entities, features, batch, **members):
    given = {
        "entity_columns": [], "ttl": None, "batch_source": batch, "stream_source": None, "description": "", "tags": {},
        "owner": "", **members,
    }  # fmt: skip
    return Object(name=name, entities=entities, features=features, **given)


def service(name, *projections, **members):
    found = [
        Object(
            name=view,
            name_alias=None,
            join_key_map={},
            features=[Object(name=feature) for feature in features],
        )
        for view, features in projections
    ]
    return Object(
        name=name,
        feature_view_projections=found,
        description="",
        tags={},
        owner="",
        logging_config=None,
        **members,
    )


def contents(**kinds):
    names = (
        "projects data_sources entities feature_views on_demand_feature_views stream_feature_views label_views "
        "feature_services permissions"
    )
    return Object(**{name: kinds.get(name, []) for name in names.split()})


@pytest.fixture
def folder(tmp_path) -> Path:
    """A file of hourly statistics, each time twice: the row that was created later stands first and is
    right."""
    (tmp_path / "data").mkdir()
    rows = [(driver, hour, order) for hour in range(24) for driver in (1, 2) for order in (1, 0)]
    pyarrow.parquet.write_table(
        pyarrow.table(
            {
                "driver_id": pyarrow.array([driver for driver, _, _ in rows], pyarrow.int64()),
                "event_timestamp": pyarrow.array(
                    [(START + timedelta(hours=hour)).replace(tzinfo=None) for _, hour, _ in rows],
                    pyarrow.timestamp("ns"),
                ),
                "created": pyarrow.array(
                    [(START + timedelta(days=9, hours=order)).replace(tzinfo=None) for _, _, order in rows],
                    pyarrow.timestamp("us"),
                ),
                "RateRaw": pyarrow.array(
                    [driver + hour / 100 - (order == 0) for driver, hour, order in rows], pyarrow.float64()
                ),
                "trips": pyarrow.array([hour for _, hour, _ in rows], pyarrow.int32()),
                "note": [f"{driver}/{hour}" for driver, hour, _ in rows],
            }
        ),
        tmp_path / "data" / "stats.parquet",
    )
    return tmp_path


@pytest.fixture
def repository(folder):
    stats = file_source(
        "data/stats.parquet", created_timestamp_column="created", field_mapping={"RateRaw": "rate"}
    )
    return contents(
        entities=[entity("driver", "driver_id", description="who drives"), entity("__dummy", "__dummy_id"), entity("Zone", "zone", "INT32")],
        feature_views=[
            view(
                "Hourly-Stats", ["driver"],
                [field("rate", "FLOAT", "share", {"kind": "ratio"}), field("trips", "INT64"), field("note", "JSON"),
                 field("vector", "INT64_LIST"), field("gone", "STRING"), field("created", "UNIX_TIMESTAMP")],
                stats, ttl=timedelta(hours=3), tags={"team": "a", "b": "c"}, owner="me@example.com", stream_source=Object(),
            ),
            view("nobody", [], [field("x", "INT64")], stats),
            view("elsewhere", ["driver", "Zone"], [field("x", "DOUBLE")], Object(timestamp_field="ts"), ttl=timedelta(0)),
            view("unknown", ["rider"], [field("x", "INT64")], stats),
        ],
        label_views=[view("labels", ["driver"], [field("trips", "INT64")], None, source=Object(batch_source=stats))],
        on_demand_feature_views=[Object(name="plus_one")],
        feature_services=[
            service("Model", ("Hourly-Stats", ["rate", "vector"]), ("plus_one", ["y"]), ("labels", ["trips"]), version=1),
            service("none", ("plus_one", ["y"])),
            service("far", ("elsewhere", ["x"]), ("nobody", ["x"])),
        ],
        permissions=[Object(name="readers")],
        projects=[Object(name="rides")],
    )  # fmt: skip


def test_definitions(repository, folder):
    done = translate(repository, folder)
    files = {name: tomllib.loads(text) for name, text in done.files.items()}
    assert sorted(files) == [
        "elsewhere.toml", "entity_driver.toml", "entity_driver_zone.toml", "hourly_stats.toml", "labels.toml", "service_far.toml",
        "service_model.toml",
    ]  # fmt: skip
    assert files["entity_driver.toml"] == {
        "kind": "entity", "name": "driver", "description": "who drives", "keys": [{"name": "driver_id", "type": "int64"}],
    }  # fmt: skip
    assert files["entity_driver_zone.toml"]["keys"] == [
        {"name": "driver_id", "type": "string"},
        {"name": "zone", "type": "int32"},
    ]
    stats = files["hourly_stats.toml"]
    assert stats["ttl"] == "3h" and stats["tags"] == ["b=c", "team=a"] and stats["owner"] == "me@example.com"
    assert stats["time"] == {"valid_at": "event_timestamp", "known_at": "assumed", "zone": "UTC"}
    assert stats["features"] == [
        # The file's own width, which is what Feast gives.
        {
            "name": "rate",
            "type": "float64",
            "column": "RateRaw",
            "description": "share",
            "tags": ["kind=ratio"],
        },
        {"name": "trips", "type": "int32"},
        {"name": "note", "type": "string"},
    ]
    assert stats["source"] == {"files": str(folder / "data" / "stats.parquet"), "format": "parquet"}
    assert "ttl" not in files["elsewhere.toml"] and files["elsewhere.toml"]["time"]["valid_at"] == "ts"
    assert "source" not in files["elsewhere.toml"]
    assert files["service_model.toml"]["features"] == ["hourly_stats.rate", "labels.trips"]
    # A view is there for services whether its rows are in a file or not.
    assert files["service_far.toml"]["features"] == ["elsewhere.x"]
    assert "feature service far: without the features of nobody, which is left out" in map(str, done.notes)


def test_names_that_meet_lose_nothing_in_silence():
    done = Translation()
    assert done.define("feature view a-b", "feature view", "a_b", "one")
    assert not done.define("feature view a_b", "feature view", "a_b", "other")
    assert done.define("entity driver", "entity", "driver", "key")
    assert done.define("feature view entity_driver", "feature view", "entity_driver", "rows")
    assert sorted(done.files.values()) == ["key", "one", "rows"]
    assert [(note.subject, note.lost) for note in done.notes] == [("feature view a_b", True)]


def test_what_has_no_counterpart_is_said(repository, folder):
    notes = {str(note): note.lost for note in translate(repository, folder).notes}
    for text, lost in [
        ("feature view Hourly-Stats, feature vector: its type int64_list has no counterpart", True),
        ("feature view Hourly-Stats, feature gone: the file has no column `gone`", True),
        ("feature view Hourly-Stats, feature created: `created` is a time of the view", True),
        (
            "feature view Hourly-Stats, feature rate: Feast declares float32 and gives the file's float64",
            False,
        ),
        ("feature view Hourly-Stats, feature note: JSON is kept as text", False),
        ("feature view Hourly-Stats: `Hourly-Stats` is called `hourly_stats` here", False),
        (
            "feature view Hourly-Stats: its SimpleNamespace has no counterpart: send rows by "
            "`client.push('hourly_stats', rows)`",
            False,
        ),
        ("feature view Hourly-Stats: `created` breaks ties in Feast", False),
        ('feature view Hourly-Stats: known_at is "assumed"', False),
        ("feature view nobody: left out: it has no entity", True),
        ("feature view unknown: left out: there is no entity rider", True),
        ("feature view elsewhere: its source is SimpleNamespace, which is no file", False),
        ("entity driver and Zone: a view of several entities is one of the entity `driver_zone`", False),
        (
            "entity driver: its key `driver_id` has no type that a key may have (unknown); taken as string",
            False,
        ),
        ("on-demand feature view plus_one: its Python function has no counterpart", True),
        ("feature service Model: without Hourly-Stats:vector", True),
        ("feature service Model: without the features of plus_one", True),
        ("feature service none: left out", True),
        ("permission readers: ", True),
        ("project rides: ", False),
    ]:
        found = [said for said in notes if said.startswith(text)]
        assert found, f"{text} is not among\n" + "\n".join(notes)
        assert notes[found[0]] is lost, found[0]


class FeastLike:
    """Retrieval as Feast's file store does it: ties by `created`, rows without an observation dropped.
    `wrong` sees the future."""

    def __init__(self, path: Path, wrong: bool = False) -> None:
        self.rows = pyarrow.parquet.read_table(path).to_pandas()
        self.rows["event_timestamp"] = self.rows["event_timestamp"].dt.tz_localize("UTC")
        self.wrong = wrong

    def get_historical_features(self, entity_df, features):
        names = [feature.partition(":") for feature in features]
        kept = []
        for asked in entity_df.to_dict("records"):
            found = self.rows[self.rows.driver_id == asked["driver_id"]]
            ahead = timedelta(hours=1) if self.wrong else timedelta(0)
            found = found[found.event_timestamp <= asked["event_timestamp"] + ahead]
            found = found[found.event_timestamp >= asked["event_timestamp"] - timedelta(hours=3)]
            if len(found) == 0:
                continue
            row = found.sort_values(["event_timestamp", "created"]).iloc[-1]
            column = {"rate": "RateRaw"}
            kept.append(
                {**asked, **{f"{view}__{name}": row[column.get(name, name)] for view, _, name in names}}
            )
        import pandas

        return pandas.DataFrame(kept).sample(frac=1, random_state=1)


@pytest.fixture
def brought(server, repository, folder):
    done = translate(repository, folder)
    sources = [source for source in done.sources if source.feast_view == "Hourly-Stats"]
    with lineament.connect(server.url) as client:
        client.apply(done.files)
        for source in sources:
            report = client.ingest(source.view, read_source(source), key="once")
            assert (report.rows, report.rejected) == (96, 0)
        yield client, sources


def test_both_give_the_same(brought, folder):
    client, sources = brought
    compared = compare(client, FeastLike(folder / "data" / "stats.parquet"), sources, rows=400)
    assert compared.same, compared
    assert set(compared.equal) == {"Hourly-Stats:rate", "Hourly-Stats:trips", "Hourly-Stats:note"}
    assert compared.equal["Hourly-Stats:rate"] > 150 and compared.rows > 150
    # A microsecond before the first, and beyond the ttl of the last, there is nothing: Feast drops such rows.
    lost, null = compared.lost["Hourly-Stats"]
    assert lost == null > 0
    assert f"{lost} rows did not come back from Feast; here {null} of them have no value" in repr(compared)
    assert client.replay(compared.training_sets[0]).equal


def test_what_differs_is_explained(brought, folder):
    client, sources = brought
    compared = compare(client, FeastLike(folder / "data" / "stats.parquet", wrong=True), sources, rows=400)
    assert not compared.same
    assert compared.different["Hourly-Stats:trips"] > 0
    reasons = {cell.reason for _, cell in compared.examples}
    assert "another observation here; Feast's is not_yet_known here" in reasons
    assert "Hourly-Stats:trips: " in repr(compared) and "driver_id = " in repr(compared)


def test_a_repository_that_is_none(tmp_path):
    with pytest.raises(lineament.NotFound, match="no feature_store.yaml"):
        Repository(tmp_path)
    (tmp_path / "feature_store.yaml").write_text("project: x\n")
    with pytest.raises(Unreadable, match="only Feast can read"):
        Repository(tmp_path)
    assert main([str(tmp_path / "nowhere")]) == 1


# ------------------------------------------------------------------------------------------------------ Feast

def made_by_feast(template: str, folder: Path) -> None:
    """A repository as `feast init` makes it. Some templates ask for addresses and accounts, and stop where nobody answers; what they
    have made by then is a repository without these."""
    made = subprocess.run(
        [binaries() / "feast", "init", "-t", template, "brought"],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (folder / "brought" / "feature_repo" / "feature_store.yaml").exists(), made.stdout + made.stderr


def defined(template: str, folder: Path) -> str:
    """What is said where a template's definitions alone are brought, into `features`."""
    made_by_feast(template, folder)
    done = subprocess.run(
        [binaries() / "python", "-m", "lineament.feast", "brought", "--folder", "features"],
        cwd=folder, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Templates whose rows are in a service, and not in a file of theirs. Four more (couchbase, postgres, ray, rag) Feast itself cannot read
# without packages that it does not bring, and ray_rag cannot be made.
@pytest.mark.parametrize("template", ["gcp", "aws", "snowflake"])
def test_the_definitions_of_what_feast_init_makes(server, tmp_path, template):
    said = defined(template, tmp_path)
    files = {path.name: tomllib.loads(path.read_text()) for path in (tmp_path / "features").glob("*.toml")}
    service = files["service_driver_activity_v1.toml"]["features"]
    assert service == ["driver_hourly_stats.conv_rate"]
    assert "which is no file: the view is defined" in said
    # What was written is what the program takes.
    with lineament.connect(server.url) as client:
        plan = client.plan({f"{template}/{name}": (tmp_path / "features" / name).read_text() for name in files})
    assert {change.name for change in plan.changes} >= {"driver", "driver_hourly_stats", "driver_activity_v1"}


# Their rows are in files; what Feast asks them with is in packages that it does not bring.
@pytest.mark.parametrize("template", ["hbase", "milvus"])
def test_the_definitions_for_an_online_store_that_is_not_installed(tmp_path, template):
    said = defined(template, tmp_path)
    names = {path.name for path in (tmp_path / "features").glob("*.toml")}
    assert len(names) == 6 and "service_driver_activity_v1.toml" in names


@pytest.mark.parametrize(("template", "columns"), [("local", 8), ("pytorch_nlp", 11)])
def test_what_feast_init_makes(tmp_path, template, columns):
    made_by_feast(template, tmp_path)
    before = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "brought").rglob("*")
        if path.suffix in (".parquet", ".db", ".yaml")
    }
    # A store of its own: the templates have views of the same names, which are not the same.
    python, options = binaries() / "python", ["brought", "--folder", "features", "--rows", "600"]
    if template == "local":
        brought = [*command(tmp_path / "store", "import", "feast"), *options, "--python", python]
        done = subprocess.run(brought, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    else:
        with Server(tmp_path / "store") as server:
            brought = [python, "-m", "lineament.feast", *options, "--url", server.url]
            done = subprocess.run(brought, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    compared = done.stdout.partition("asked of both\n")[2].splitlines()
    equal = [line for line in compared if " equal" in line]
    assert len(equal) == columns, done.stdout
    assert all(line.endswith(" 0 different") and " 0 equal" not in line for line in equal)
    assert "has no counterpart" in done.stdout and list((tmp_path / "features").glob("*.toml"))
    # The repository is as it was.
    after = {path: path.stat().st_mtime_ns for path in before}
    assert after == before and not list((tmp_path / "brought").rglob("registry.db"))


def test_a_python_without_feast(tmp_path):
    """What is missing is said, and nothing was done."""
    for python, missing in (
        ("no-such-python", "no-such-python cannot be run"),
        ("false", "false does not say which packages it has"),
        (sys.executable, "has no package `feast`"),
    ):
        said = fails(tmp_path / "store", "import", "feast", tmp_path, "--python", python)
        assert missing in said and "--python" in said, said
    assert list(tmp_path.iterdir()) == []
