"""What a notebook shows: HTML in which nothing of the data is markup, and progress where a person watches."""

import html.parser
import io
import sys
from datetime import timedelta

import lineament
import pyarrow
import pytest
import readings
from lineament.audit import AuditedCell, AuditedColumn
from lineament.diff import CellChange, CellChanges, Retyped
from lineament.progress import Progress, watched
from lineament.registry import Reached, Step
from lineament.reports import Change, Difference, Rejections, Suspect

HOSTILE = "<script>alert('x')</script>&\"<img src=x onerror=y>"


class Tags(html.parser.HTMLParser):
    """The elements of a text, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, attributes))
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


PLAIN = {"p", "b", "small", "br", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}


def check(shown: str, *, hostile: bool = True) -> Tags:
    """That all elements are ours, none has an attribute, all are closed, and the data stands as it is."""
    read = Tags(shown)
    assert {tag for tag, _ in read.tags} <= PLAIN, shown
    assert all(not attributes for _, attributes in read.tags)
    assert read.open == []
    if hostile:
        assert HOSTILE in read.words, shown
    return read


def test_rows_and_names_of_columns():
    rows = lineament.Rows(pyarrow.table({HOSTILE: [1, None], "b": [HOSTILE[:30], "c"]}))
    read = check(rows._repr_html_())
    assert "2 rows, 2 columns" in read.words and HOSTILE[:30] in read.words
    check(lineament.Rows(pyarrow.table({HOSTILE: pyarrow.array([], pyarrow.int64())}))._repr_html_())


def test_a_training_set(readings_client):
    spine = readings.spine().append_column(HOSTILE, pyarrow.array([HOSTILE] * readings.spine().num_rows))
    training_set = readings_client.get_historical_features(spine, ["reading.value"])
    read = check(training_set._repr_html_())
    assert training_set.id in read.words and training_set.digest in read.words and "1 expired" in read.words


def test_explanations_of_real_cells(readings_client):
    training_set = readings_client.get_historical_features(readings.spine(), ["reading.value"])
    for row in range(len(training_set)):
        explanation = readings_client.explain(training_set, row, "value")
        read = check(explanation._repr_html_(), hostile=False)
        assert "reading@1.value" in read.words
        assert (
            "won" if explanation.winner else "no observation won" if not explanation.losers else ""
        ) in read.words
    value = readings_client.explain_value("reading.value", {"sensor": "d"}, readings.clock("10:00"))
    assert "9.0" in check(value._repr_html_(), hostile=False).words


REPORTS = [
    lineament.Explanation(
        HOSTILE, 0, HOSTILE, HOSTILE, None, True, HOSTILE, {HOSTILE: HOSTILE}, HOSTILE,
        lineament.Candidate(HOSTILE, HOSTILE, HOSTILE, HOSTILE, 1, HOSTILE, HOSTILE, 1, HOSTILE, HOSTILE, HOSTILE, HOSTILE, [HOSTILE], sql=HOSTILE),
        [lineament.Candidate(value=None, reason=HOSTILE)], {HOSTILE: 2}, 3, withdrawn=HOSTILE,
    ),
    lineament.IngestReport(HOSTILE, HOSTILE, 1, 5, 1, 2, 3, 4, True, [Rejections(HOSTILE, HOSTILE, 1)], [HOSTILE]),
    lineament.Plan([Change("entity", "default", HOSTILE, "create", HOSTILE), Change("entity", "default", "b", "keep", "b")], 3),
    lineament.ReplayReport(
        HOSTILE, "differs", HOSTILE, HOSTILE, 3, [Difference(HOSTILE, "a", "b", 1)], [Suspect(HOSTILE, HOSTILE, HOSTILE, 3)], HOSTILE,
    ),
    lineament.Audit(
        5, 1, "value", 3, HOSTILE,
        [AuditedColumn(HOSTILE, HOSTILE, 5, 4, 1, median_lead=timedelta(hours=1),
                       examples=[AuditedCell("leaked", 3, value=HOSTILE, knowable=None, known_at=HOSTILE, lead=timedelta(1))])],
    ),
    lineament.Diff(
        HOSTILE, HOSTILE, False, 5, 1, 1, 0, [HOSTILE], [HOSTILE], [HOSTILE], [Retyped(HOSTILE, HOSTILE, HOSTILE)],
        [CellChanges(HOSTILE, "value", HOSTILE, 2)], examples=[CellChange(HOSTILE, "value", HOSTILE, 1, 2, a=HOSTILE, b=None)],
    ),
    lineament.Lineage(3, [Step("batch", HOSTILE, HOSTILE, 0), Step("run", HOSTILE, HOSTILE, 1, 0)], False),
    lineament.Impact(HOSTILE, "batch", 3, 5, 6, 1, 1, 1, [Reached(HOSTILE, HOSTILE, 5, 6, model_version=HOSTILE, deployment=HOSTILE)]),
    lineament.FeatureView(
        HOSTILE, HOSTILE, 1, HOSTILE, [HOSTILE], HOSTILE, HOSTILE, 5, 1, HOSTILE, HOSTILE, HOSTILE,
        [lineament.FeatureDescription(HOSTILE, HOSTILE, HOSTILE, HOSTILE, False, HOSTILE, HOSTILE)],
    ),
]  # fmt: skip


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
def test_reports(report):
    check(report._repr_html_())


def test_empty_reports_are_shown_too():
    for report in (
        lineament.Plan([]), lineament.IngestReport("reading@1"), lineament.Explanation(reference="a.b"),
        lineament.Audit(0, 0, "value", 1, "at"), lineament.Diff("a", "b", True),
    ):  # fmt: skip
        check(report._repr_html_(), hostile=False)


# --------------------------------------------------------------------------------------------------- progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


#: As a cell's output is: of the kernel's class, and no terminal.
Notebook = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})


def test_who_watches(monkeypatch):
    assert watched(Terminal())
    assert not watched(io.StringIO())
    assert not watched(None)
    assert not watched(object())
    assert watched(Notebook())


def drawn(monkeypatch, total, parts, shown=None, stream=None):
    stream = Terminal() if stream is None else stream
    monkeypatch.setattr(sys, "stderr", stream)
    clock = iter(range(1_000))
    monkeypatch.setattr("lineament.progress.time.monotonic", lambda: float(next(clock)))
    with Progress("retrieving", total, shown=shown) as progress:
        for rows in parts:
            progress.add(rows)
    return stream.getvalue()


def test_a_bar_is_drawn_and_taken_away(monkeypatch):
    said = drawn(monkeypatch, 1_000, [250, 250, 500])
    lines = said.split("\r")
    assert "250 of 1,000 rows (25%, " in lines[1] and "s left" in lines[1]
    assert "1,000 of 1,000 rows (100%)" in lines[3]
    assert lines[-1] == "" and lines[-2].strip() == "" and len(lines[-2]) >= len(lines[3].strip())
    assert "750 rows" in drawn(monkeypatch, None, [750])
    assert drawn(monkeypatch, 1_000, [500], shown=False) == ""
    assert drawn(monkeypatch, 1_000, [500], stream=io.StringIO()) == ""
    assert "500 of 1,000" in drawn(monkeypatch, 1_000, [500], shown=True, stream=io.StringIO())


def test_what_is_soon_over_shows_nothing(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress("retrieving", 10) as progress:
        progress.add(10)
    assert stream.getvalue() == ""


def test_a_stream_that_breaks_breaks_nothing_else(monkeypatch):
    class Broken(Terminal):
        def write(self, text):
            raise BrokenPipeError

    assert drawn(monkeypatch, 10, [5, 5], stream=Broken()) == ""


@pytest.mark.parametrize("watching", [Terminal, Notebook])
def test_uploads_retrievals_and_exports_are_shown(readings_client, server, monkeypatch, tmp_path, watching):
    stream = watching()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("lineament.progress._PATIENCE", 0.0)
    monkeypatch.setattr("lineament.progress._EVERY", 0.0)
    with lineament.connect(server.url) as client:
        client.ingest("reading", readings.rows(), key="shown")
        assert "ingesting" in stream.getvalue() and "7 of 7 rows" in stream.getvalue()
        training_set = client.get_historical_features(readings.spine(), ["reading.value"])
        assert "retrieving" in stream.getvalue() and "13 of 13 rows" in stream.getvalue()
        list(client.stream(training_set))
        assert stream.getvalue().endswith("\r")
        before = len(stream.getvalue())
        client.export(training_set, tmp_path / "shown", rows_per_file=5)
        lines = stream.getvalue()[before:].split("\r")
        # One bar, that of the files: the stream they are written from draws none.
        drawn = [line for line in lines if line.strip()]
        assert all(line.startswith("exporting  ") for line in drawn)
        for line, rows in zip(drawn, ("5 of 13 rows (38%, ", "10 of 13 rows (77%, ", "13 of 13 rows (100%)"), strict=True):
            assert rows in line
        assert lines[-1] == "" and lines[-2].strip() == "" and len(lines[-2]) >= len(drawn[-1].rstrip())
    shown = stream.getvalue()
    with lineament.connect(server.url, progress=False) as client:
        client.with_run("r").get_historical_features(readings.spine(), ["reading.value"])
        client.export(training_set, tmp_path / "unseen", rows_per_file=5)
    assert stream.getvalue() == shown
