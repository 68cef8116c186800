"""The wheel with the program in it: from `pip install` to a first training set of one's own Parquet file, in
an environment where there is nothing else of ours. pyarrow and pandas are taken from the environment of the
tests, for they are not what is tried.

LINEAMENT_WHEEL_PROGRAM names the program of `make wheel`, which is built for its size; else it is the one of the other tests, which
is larger, and the limit is only that nothing large came to it. The time is held to with the program of
`make wheel` alone, and else printed."""

import os
import re
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

import pytest
from program import REPOSITORY, binary

MEBIBYTE = 1 << 20
GIVEN = os.environ.get("LINEAMENT_WHEEL_PROGRAM")
PROGRAM = Path(GIVEN) if GIVEN else binary()
#: Bytes beyond pyarrow: 150 MB were promised.
LIMIT = 150_000_000 if GIVEN else 200 * MEBIBYTE
#: Seconds from `pip install` to a first training set.
PROMISED = 30


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--wheel-dir", folder,
         REPOSITORY / "python"],
        check=True, timeout=300, env={**os.environ, "LINEAMENT_WHEEL_PROGRAM": str(PROGRAM)},
    )  # fmt: skip
    (made,) = folder.glob("*.whl")
    return made


def test_what_is_in_it(wheel):
    assert re.fullmatch(
        r"lineament-[\d.]+-py3-none-(manylinux_2_\d+|macosx_\w+|linux)_\w+\.whl", wheel.name
    ), wheel.name
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        scripts = [name for name in names if ".data/scripts/" in name]
        assert [name.rpartition("/")[2] for name in scripts] == ["lineament"]
        assert "lineament/py.typed" in names and "lineament/feast/__main__.py" in names
        assert not [name for name in names if "bundled_program" in name or name.endswith(".pyc")]
        # Names of source files are what debug information would hold most of; one that was built without has nothing to strip.
        assert packed.getinfo(scripts[0]).file_size < PROGRAM.stat().st_size + bool(GIVEN) * MEBIBYTE


def test_a_first_training_set_from_it(wheel, tmp_path):
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    packages = next((tmp_path / "env").glob("lib/python*/site-packages"))
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", wheel],
        check=True, timeout=300,
    )  # fmt: skip
    installed = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())
    program = tmp_path / "env" / "bin" / "lineament"
    installed += program.stat().st_size
    # What the package itself needs, and pandas, which the script reads its file with.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (tmp_path / "testdata").symlink_to(REPOSITORY / "testdata")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LINEAMENT_")}
    script = REPOSITORY / "docs" / "scripts" / "first_training_set.py"
    done = subprocess.run(
        [python, script],
        cwd=tmp_path,
        env={**environment, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "336,776 rows, 5 columns" in done.stdout and "equal" in done.stdout
    took = time.monotonic() - began
    print(f"{took:.1f} s from the wheel to a training set")
    assert not GIVEN or took <= PROMISED, f"{took:.1f} s"
    where = subprocess.run(
        [python, "-c", "import lineament, lineament.server as s; print(lineament.__file__); print(s.binary())"],
        env={**environment, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert Path(where[0]).is_relative_to(packages) and Path(where[1]) == program
    print(f"{installed / 1e6:.1f} MB beyond pyarrow")
    assert installed <= LIMIT, f"{installed:,} bytes"
