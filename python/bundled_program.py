"""Puts the `lineament` program into the wheel, where LINEAMENT_WHEEL_PROGRAM names one; without it the wheel
is Python alone.

The program that was built, and tested, is packed as it is: building it again here, as maturin would, costs
the build of the whole engine anew, and an installation from these sources would need a Rust toolchain.
"""

import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BundledProgram(BuildHookInterface):
    """Named by `[tool.hatch.build.targets.wheel.hooks.custom]`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        named = os.environ.get("LINEAMENT_WHEEL_PROGRAM")
        if not named:
            return
        program = Path(named).resolve()
        if not program.is_file():
            raise FileNotFoundError(
                f"LINEAMENT_WHEEL_PROGRAM names {program}, where there is no program; build it first"
            )
        self._scratch = tempfile.TemporaryDirectory()
        stripped = Path(self._scratch.name) / "lineament"
        strip = shutil.which("strip")
        if strip is None:
            raise RuntimeError(
                "there is no `strip` on the PATH, without which the wheel has all debug information; install "
                "binutils"
            )
        subprocess.run([strip, "-o", stripped, program], check=True)
        stripped.chmod(0o755)
        build_data["shared_scripts"] = {str(stripped): "lineament"}
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform(stripped.read_bytes())}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "_scratch"):
            self._scratch.cleanup()


def platform(program: bytes) -> str:
    """The wheel's platform: on Linux the C library that the program needs at least, from the versions that
    its symbols name."""
    here = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    needed = [int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", program)]
    if here.startswith("linux_") and needed:
        return f"manylinux_2_{max(needed)}_{here.removeprefix('linux_')}"
    return here
