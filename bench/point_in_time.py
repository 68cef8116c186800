"""The point-in-time join beside the systems that a user would pick instead: one table, one run, answers compared.

    cargo build --release --workspace --bench point_in_time
    python bench/point_in_time.py --harness DIR --data DIR --stores DIR --workload S --peers polars_lazy,duckdb

The harness (generate.py, run.py, peers.py) generates the workloads and runs each peer in a process of its own. This adds `lineament` to
its peers: it ingests the same rows once into a store of its own, and then reads that store by
`benches/point_in_time.rs`. Runs of all peers are interleaved, in the order given, so that all meet the same moods of the machine. A row says the median
of wall and CPU seconds, the peak of anonymous memory, and the ratio to the best other peer, pair by pair.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import key_shapes

REPOSITORY = Path(__file__).resolve().parents[1]


def program() -> str:
    """The benchmark's own program, as cargo built it last, or the one that LINEAMENT_BENCH_PROGRAM names."""
    if named := os.environ.get("LINEAMENT_BENCH_PROGRAM"):
        return named
    built = [path for path in (REPOSITORY / "target/release/deps").glob("point_in_time-*") if not path.suffix]
    if not built:
        sys.exit("the benchmark is not built: cargo build --release --workspace --bench point_in_time")
    return str(max(built, key=lambda path: path.stat().st_mtime))


def add_lineament(peers) -> None:
    key_shapes.over_two_columns(peers)

    @peers.peer("lineament")
    class Lineament:
        """Becomes our program, so that its memory and time are measured as the other peers' are."""

        mode = None

        def prepare(self, job):
            data = os.path.dirname(job.spine)
            command = [program(), "run", "--data", data, "--store", os.environ["LINEAMENT_BENCH_STORE"]]
            command += ["--spine", Path(job.spine).stem, "--mode", self.mode or job.mode]
            if job.mode == "parquet":
                command += ["--out", job.out]
            asked = len(job.views[0].floats)
            if asked < len(job.m["views"][0]["floats"]):
                command += ["--features", str(asked)]
            if job.limit:
                command += ["--memory", str(job.limit)]
            os.execv(command[0], command)

    @peers.peer("lineament_rows")
    class LineamentRows(Lineament):
        """The rows themselves, in the spine's order, reduced as they come."""

        mode = "rows"

    @peers.peer("lineament_digest")
    class LineamentDigest(Lineament):
        """The recorded training set: content digest, stored spine and manifest on top."""

        mode = "digest"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harness", required=True, help="the folder of generate.py, run.py and peers.py")
    parser.add_argument("--data", required=True, help="where generated workloads lie")
    parser.add_argument("--stores", required=True, help="where our stores are made, one a workload")
    parser.add_argument("--workload", required=True)
    parser.add_argument("--peers", default="lineament,polars_lazy,duckdb")
    parser.add_argument("--spine", default="spine")
    parser.add_argument("--features", type=int)
    parser.add_argument("--mode", default="agg", choices=["agg", "parquet"])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--batches", type=int, default=1, help="into how many batches our rows are ingested")
    parser.add_argument("--deal", default="turn", choices=["turn", "time", "rows"], help="how they are dealt to them")
    parser.add_argument("--corrections", action="store_true", help="a tenth of our rows comes once more, as a correction")
    parser.add_argument("--compression", default="zstd", choices=["zstd", "snappy", "none"], help="of the peers' files")
    parser.add_argument("--memory-limit-gib", type=float, default=12.0)
    parser.add_argument("--pass-limit", type=float, default=0.0)
    arguments = parser.parse_args()

    folder = arguments.workload + ("" if arguments.compression == "zstd" else f"-{arguments.compression}")
    data = Path(arguments.data).resolve() / folder
    if not data.exists():
        generate(arguments, folder)
    # Our files do not depend on how those that they are made of lie.
    shape = f"{arguments.workload}-{arguments.batches}-{arguments.deal}"
    store = Path(arguments.stores).resolve() / (shape + ("-corrected" if arguments.corrections else ""))
    if not store.exists():
        command = [program(), "ingest", "--data", data, "--store", store]
        command += ["--batches", arguments.batches, "--deal", arguments.deal]
        command += ["--corrections"] if arguments.corrections else []
        subprocess.run([str(part) for part in command], check=True)
    os.environ["LINEAMENT_BENCH_STORE"] = str(store)

    sys.path.insert(0, arguments.harness)
    run = importlib.import_module("run")
    scratch = Path(arguments.stores) / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    # Each measurement is a child process, which must know our peer too.
    run.__file__ = __file__
    base = argparse.Namespace(
        data=str(Path(arguments.data).resolve()), workload=folder, name=None, spine=arguments.spine,
        features=arguments.features, mode=arguments.mode, timeout=300.0, threads=os.cpu_count(), keep=None,
        memory_limit_gib=arguments.memory_limit_gib, pass_limit=arguments.pass_limit, scratch=str(scratch),
    )
    names = arguments.peers.split(",")
    runs: dict[str, list[dict]] = {name: [] for name in names}
    for _ in range(arguments.repeat):
        for name in names:
            runs[name].append(run.measure(base, name, sys.executable))
    report(names, runs, store, data)


def generate(arguments, folder: str) -> None:
    """Has the harness write a workload, V among them: ten views of a hundred features, all thousand asked for."""
    sys.path.insert(0, arguments.harness)
    generator = importlib.import_module("generate")
    if arguments.workload in key_shapes.SHAPES:
        if arguments.compression != "zstd":
            sys.exit("other shapes of keys are generated with Zstandard alone")
        key_shapes.generate(generator, Path(arguments.data), arguments.workload, arguments.compression)
        return
    views = [dict(rows=500_000, floats=100, strings=0, ttl_us=None)] * 10
    workload = arguments.workload
    if workload == "V":
        # The generator numbers its own workloads, so V goes by the number of another.
        spec = dict(entities=50_000, row_group=131_072, views=views, spines=dict(spine=200_000))
        generator.WORKLOADS["W"], workload = spec, "W"
    sys.argv = ["generate.py", "--out", arguments.data, "--workload", workload, "--name", folder]
    sys.argv += ["--compression", arguments.compression]
    generator.main()


def report(names, runs, store, data) -> None:
    good = {name: [one for one in runs[name] if one["status"] == "ok"] for name in names}
    others = [name for name in names if not name.startswith("lineament") and good[name]]
    medians = {name: statistics.median(one["wall_s"] for one in good[name]) for name in names if good[name]}
    best = min(others, key=lambda name: medians[name], default=None)
    print(f"| peer | wall s (min–max, n) | CPU s | peak MiB | × {best} (min–max) | others' CPUs |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in names:
        found = good[name]
        if not found:
            failed = runs[name][-1]
            print(f"| {name} | {failed['status']}: {failed.get('error', '')[-300:]} | | {failed['peak_anon_mib']} | | |")
            continue
        walls = [one["wall_s"] for one in found]
        ratios = [a["wall_s"] / b["wall_s"] for a, b in zip(found, good[best])] if best else [1.0]
        print(
            f"| {name} | {statistics.median(walls):.3f} ({min(walls):.3f}–{max(walls):.3f}, {len(walls)}) "
            f"| {statistics.median(one['cpu_s'] for one in found):.2f} | {max(one['peak_anon_mib'] for one in found)} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) "
            f"| {statistics.median(one['others_cpus'] for one in found):.2f} |"
        )
    checks = {json.dumps(one["check"]["exact"]) for name in names for one in good[name] if one.get("check")}
    sums = [one["check"]["sum"] for name in names for one in good[name] if one.get("check")]
    spread = max(sums, default=0.0) - min(sums, default=0.0)
    agree = len(checks) <= 1 and spread <= 1e-9 * max([1.0, *map(abs, sums)])
    stored = sum(path.stat().st_size for path in (store / "data").rglob("*.parquet"))
    given = sum(path.stat().st_size for path in data.glob("v*.parquet"))
    print(f"\nanswers agree: {agree}; our data files are {stored / given:.2f} of the peers' ({stored / 1e6:.0f} MB)")


if __name__ == "__main__":
    if "--child" in sys.argv:
        sys.path.insert(0, os.environ["LINEAMENT_BENCH_HARNESS"])
        add_lineament(importlib.import_module("peers"))
        importlib.import_module("run").main()
    else:
        os.environ["LINEAMENT_BENCH_HARNESS"] = sys.argv[sys.argv.index("--harness") + 1] if "--harness" in sys.argv else "."
        main()
