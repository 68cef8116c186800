"""How the cost of the point-in-time join grows with each size: measured, and drawn as docs/growth/*.svg.

    python bench/growth.py measure --harness DIR --data DIR --stores DIR --chart spine
    python bench/growth.py draw

Needs what bench/point_in_time.py needs, and the workloads S, W, V and X (with X's store in six batches) that it made. Each chart changes one
size and leaves the others. Runs are interleaved, each in a process of its own; a point is the median of wall seconds. `measure` keeps what it
found in docs/growth/points.json, of which `draw` makes the charts.
"""

import argparse
import importlib
import json
import math
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

import point_in_time

KEPT = point_in_time.REPOSITORY / "docs/growth"
CHARTS = ("spine", "features", "views", "files", "columns")


@dataclass
class Point:
    """One measurement: what is varied, and what is read for it."""

    x: int
    data: str
    store: str
    line: str = "Lineament"
    spine: str = "spine"
    features: int | None = None
    peers: tuple[tuple[str, str], ...] = ()


FASTEST = (("Polars", "polars_lazy"), ("DuckDB", "duckdb"))


class Workloads:
    def __init__(self, arguments):
        sys.path.insert(0, arguments.harness)
        self.generator = importlib.import_module("generate")
        self.data, self.stores = Path(arguments.data).resolve(), Path(arguments.stores).resolve()

    def points(self, chart: str) -> list[Point]:
        return getattr(self, chart)()

    def spine(self) -> list[Point]:
        """S with spines of 100,000, 1 million and 10 million rows."""
        folder, made = self.beside("S", "growth-spine", lambda manifest: manifest["views"])
        if made:
            self.spines(folder, {f"spine_{rows}": rows for rows in (100_000, 1_000_000, 10_000_000)}, 100_000)
        return [
            Point(rows, "growth-spine", "S-1-turn", spine=f"spine_{rows}", peers=FASTEST)
            for rows in (100_000, 1_000_000, 10_000_000)
        ]

    def features(self) -> list[Point]:
        """Ten features in 600,000, 6 million and 60 million rows, and the same 2,000 rows of a spine."""
        late = (("DuckDB, keys first", "duckdb_late"),)
        points = []
        for rows in (600_000, 6_000_000):
            name = f"growth-rows-{rows}"
            self.generated(name, "X", rows=rows, floats=10, spines={"sparse": 2_000})
            points.append(Point(rows, name, self.ingested(name, name), spine="sparse", peers=late))
        return [*points, Point(60_000_000, "X", "X-6-rows", spine="sparse", peers=late)]

    def views(self) -> list[Point]:
        """One, two, five and all ten of V's views, a hundred features each."""
        points = []
        for number in (1, 2, 5, 10):
            name = f"growth-views-{number}"
            self.beside("V", name, lambda manifest: manifest["views"][:number], spines=True)
            points.append(Point(number, name, "V-1-turn", peers=FASTEST))
        return points

    def files(self) -> list[Point]:
        """A million rows of ten features, in one batch, ten and a hundred: by time, and all entities and times in each."""
        name = "growth-files"
        self.generated(name, "S", rows=1_000_000, floats=10, spines={"spine": 100_000})
        points = []
        for deal, line in (("time", "a stretch of time each"), ("turn", "all times in each")):
            for batches in (1, 10, 100):
                store = self.ingested(name, f"{name}-{batches}-{deal}", "--batches", batches, "--deal", deal)
                points.append(Point(batches, name, store, line=line))
        return points

    def columns(self) -> list[Point]:
        """2, 20 and all 200 features of W."""
        return [Point(columns, "W", "W-1-turn", features=columns, peers=FASTEST) for columns in (2, 20, 200)]

    def beside(self, of: str, name: str, views, spines=False) -> tuple[Path, bool]:
        """A workload of another's files; whether it was made now."""
        folder = self.data / name
        if (folder / "manifest.json").exists():
            return folder, False
        folder.mkdir(exist_ok=True)
        manifest = json.loads((self.data / of / "manifest.json").read_text())
        elsewhere = lambda described: {**described, "file": os.path.join("..", of, described["file"])}
        manifest["views"] = [elsewhere(view) for view in views(manifest)]
        if not spines:
            manifest["spines"] = {}
        for spine in manifest["spines"].values():
            # Beside this manifest, by which our side is told its views.
            (folder / spine["file"]).symlink_to(os.path.join("..", of, spine["file"]))
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
        return folder, True

    def spines(self, folder: Path, sizes: dict[str, int], entities: int) -> None:
        spec, options = dict(entities=entities, row_group=1_000_000), dict(compression="zstd", level=1)
        manifest = json.loads((folder / "manifest.json").read_text())
        for place, (name, rows) in enumerate(sizes.items()):
            file = folder / f"{name}.parquet"
            manifest["spines"][name] = self.generator.write_spine(str(file), 0, place, rows, spec, options)
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))

    def generated(self, name: str, number: str, rows: int, floats: int, spines: dict[str, int]) -> None:
        if (self.data / name / "manifest.json").exists():
            return
        views = [dict(rows=rows, floats=floats, strings=0, ttl_us=None)]
        spec = dict(entities=100_000, row_group=1_000_000, views=views, spines=spines)
        self.generator.WORKLOADS[number] = spec
        sys.argv = ["generate.py", "--out", str(self.data), "--workload", number, "--name", name]
        self.generator.main()

    def ingested(self, data: str, store: str, *options) -> str:
        if not (self.stores / store).exists():
            command = [point_in_time.program(), "ingest", "--data", self.data / data, "--store", self.stores / store]
            subprocess.run([str(part) for part in [*command, *options]], check=True)
        return store


def measure(arguments) -> None:
    workloads = Workloads(arguments)
    points = workloads.points(arguments.chart)
    if arguments.only_prepare:
        return
    run = importlib.import_module("run")
    # Each measurement is a child process, which must know our peer too.
    run.__file__ = point_in_time.__file__
    os.environ["LINEAMENT_BENCH_HARNESS"] = arguments.harness
    scratch = workloads.stores / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    walls: dict[tuple[str, int], list[float]] = {}
    checks: dict[int, set[str]] = {}
    for _ in range(arguments.repeat):
        for point in points:
            for line, peer in ((point.line, "lineament"), *point.peers):
                os.environ["LINEAMENT_BENCH_STORE"] = str(workloads.stores / point.store)
                base = argparse.Namespace(
                    data=str(workloads.data), workload=point.data, name=None, spine=point.spine,
                    features=point.features, mode="agg", timeout=120.0, threads=os.cpu_count(), keep=None,
                    memory_limit_gib=12.0, pass_limit=0.0, scratch=str(scratch),
                )
                one = run.measure(base, peer, sys.executable)
                if one["status"] != "ok":
                    sys.exit(f"{peer} at {point.x}: {one['status']}: {one.get('error')}")
                walls.setdefault((line, point.x), []).append(one["wall_s"])
                checks.setdefault(point.x, set()).add(json.dumps(one["check"]["exact"]))
                print(f"{line:24} {point.x:>12,} {one['wall_s']:8.3f} s, others' CPUs {one['others_cpus']}", flush=True)
    differ = [x for x, found in checks.items() if len(found) > 1]
    if differ:
        sys.exit(f"answers differ at {differ}")
    lines: dict[str, list] = {}
    for (line, x), found in sorted(walls.items()):
        lines.setdefault(line, []).append([x, round(statistics.median(found), 4), len(found)])
    KEPT.mkdir(parents=True, exist_ok=True)
    kept = read()
    kept[arguments.chart] = {"what": getattr(Workloads, arguments.chart).__doc__, "lines": lines}
    (KEPT / "points.json").write_text(json.dumps(kept, indent=1) + "\n")
    draw(arguments)


def read() -> dict:
    file = KEPT / "points.json"
    return json.loads(file.read_text()) if file.exists() else {}


LABELS = {
    "spine": "rows of the spine",
    "features": "rows stored",
    "views": "views",
    "files": "batches",
    "columns": "features asked for",
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 64, 150, 16, 48


def draw(_) -> None:
    for chart, found in read().items():
        (KEPT / f"{chart}.svg").write_text(svg(LABELS[chart], found["what"], found["lines"]))


def svg(label: str, what: str, lines: dict[str, list]) -> str:
    """Wall seconds over a size, both in logarithms."""
    xs = sorted({x for points in lines.values() for x, *_ in points})
    ys = [y for points in lines.values() for _, y, *_ in points]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    high = max(high, low + 1)
    spread = math.log10(xs[-1] / xs[0]) or 1.0
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    across = lambda x: LEFT + (right - LEFT) * math.log10(x / xs[0]) / spread
    up = lambda y: bottom - (bottom - TOP) * (math.log10(y) - low) / (high - low)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f"<title>{escape(what)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for power in range(low, high + 1):
        y = up(10.0**power)
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g} s</text>')
    for x in xs:
        parts.append(f'<line x1="{across(x):.1f}" x2="{across(x):.1f}" y1="{TOP}" y2="{bottom}" stroke="#eee"/>')
        parts.append(f'<text x="{across(x):.1f}" y="{bottom + 18}" text-anchor="middle">{x:,}</text>')
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(label)}</text>')
    beneath = TOP
    for place, (line, points) in sorted(enumerate(lines.items()), key=lambda one: up(one[1][1][-1][1])):
        colour = COLOURS[place % len(COLOURS)]
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y, *_ in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{colour}"/>' for x, y, *_ in points]
        # Names keep apart where lines end close together.
        beneath = max(up(points[-1][1]) + 4, beneath + 14)
        name = f"{line}, {points[-1][1]:.2g} s"
        parts.append(f'<text x="{right + 8}" y="{beneath:.1f}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("measure")
    one.add_argument("--harness", required=True, help="the folder of generate.py, run.py and peers.py")
    one.add_argument("--data", required=True, help="where generated workloads lie")
    one.add_argument("--stores", required=True, help="where our stores are made")
    one.add_argument("--chart", required=True, choices=CHARTS)
    one.add_argument("--repeat", type=int, default=3)
    one.add_argument("--only-prepare", action="store_true", help="generate and ingest what is missing, and measure nothing")
    one.set_defaults(does=measure)
    verbs.add_parser("draw").set_defaults(does=draw)
    arguments = parser.parse_args()
    arguments.does(arguments)


if __name__ == "__main__":
    main()
