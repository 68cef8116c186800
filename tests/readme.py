"""Runs what README shows, as it stands there and in its order, in a copy of the working folder's view of the world.

Blocks marked sh, python and sql are taken; `make test` is what runs this, and so is left out, and a server that a block starts is
left running for the blocks after it. Anything that fails fails the run.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = (ROOT / os.environ.get("LINEAMENT_BIN", "target/quick/lineament")).resolve()


def blocks(text):
    for match in re.finditer(r"^```(sh|python|sql)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield match.group(1), match.group(2).strip()


def run(command, **options):
    print(f"$ {command if isinstance(command, str) else ' '.join(map(str, command))}", flush=True)
    done = subprocess.run(command, text=True, capture_output=True, timeout=600, **options)
    if done.returncode != 0:
        sys.exit(f"README: this failed with {done.returncode}:\n{command}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def serve(words, folder):
    server = subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True)
    line = server.stdout.readline()
    if not line.startswith("listening on "):
        sys.exit(f"README: the server said {line!r}")
    return server


def main():
    folder = Path(tempfile.mkdtemp(prefix="readme-"))
    # The repository as a newcomer sees it, where nothing that README does leaves a trace.
    for name in ["Cargo.toml", "testdata", "python"]:
        (folder / name).symlink_to(ROOT / name)
    (folder / "target" / "quick").mkdir(parents=True)
    (folder / "target" / "quick" / "lineament").symlink_to(BIN)
    server = None
    counts = {"sh": 0, "python": 0, "sql": 0}
    started = time.monotonic()
    try:
        for kind, text in blocks((ROOT / "README.md").read_text()):
            if kind == "sql":
                out = run([BIN, "--store", "lineament-demo", "sql", text], cwd=folder)
                assert len(out.splitlines()) > 2, f"README: no rows came of\n{text}\n{out}"
                counts[kind] += 1
            elif kind == "python":
                run([sys.executable, "-c", text], cwd=folder)
                counts[kind] += 1
            else:
                for line in text.splitlines():
                    if line == "make test" or line.startswith("pip install"):
                        continue
                    if line == "cargo run --profile quick -- demo":
                        out = run([BIN, "demo"], cwd=folder)
                        assert "equal to the one above" in out and "shipped the worse model" in out, out
                    elif line.endswith(" serve"):
                        server = serve(line.split(), folder)
                    else:
                        run(line, shell=True, cwd=folder)
                    counts[kind] += 1
        assert counts["sh"] >= 6 and counts["python"] >= 1 and counts["sql"] >= 3, counts
    finally:
        if server:
            server.terminate()
            server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
    total = sum(counts.values())
    print(f"README: {total} passed, 0 failed, in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
