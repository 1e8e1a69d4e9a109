"""What has to be on the machine before anything is measured: tools, the peers' virtual environment, the floor. Each is
made when it is missing or out of date; what cannot be made is one sentence that names it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1]
ROOT = BENCH.parent
APPS = BENCH / "apps"
VENV = BENCH / ".venv"
RESULTS = BENCH / "results"
FLOOR = RESULTS / "floor"
MINICORN = ROOT / "target" / "release" / "minicorn"

SETUP_SECONDS_MAX = 900


class Missing(Exception):
    """Something the benchmark needs and cannot make; the text is for the operator."""


def prepare() -> None:
    """Makes the machine ready, in seconds when it already is.

    Raises Missing when it cannot be.
    """
    RESULTS.mkdir(exist_ok=True)
    for tool in ("wrk", "taskset", "cc"):
        if shutil.which(tool) is None:
            raise Missing(f"{tool} is not on PATH")
    build_floor()
    build_venv()


def build_floor() -> None:
    source = BENCH / "floor" / "floor.c"
    if FLOOR.exists() and FLOOR.stat().st_mtime > source.stat().st_mtime:
        return
    RESULTS.mkdir(exist_ok=True)
    run(["cc", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", str(FLOOR), str(source)])


def build_venv() -> None:
    """The venv is made by the Python that runs this: minicorn embeds one version, and all have to run the same."""
    requirements = BENCH / "requirements.txt"
    stamp = VENV / "made-from"
    made_from = f"{sys.version}\n{requirements.read_text()}"
    if stamp.exists() and stamp.read_text() == made_from:
        return
    require_libev()
    print("making bench/.venv (bjoern and uWSGI are compiled; a minute)", file=sys.stderr)
    run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    run([str(VENV / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)])
    stamp.write_text(made_from)


def require_libev() -> None:
    """bjoern is compiled against libev."""
    if has_libev():
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        run(["apt-get", "update", "-qq"])
        run(["apt-get", "install", "-y", "-qq", "libev-dev"])
    if not has_libev():
        raise Missing("bjoern needs the headers of libev: apt-get install libev-dev")


def has_libev() -> bool:
    probe = subprocess.run(["cc", "-E", "-x", "c", "-"], input=b"#include <ev.h>\n", capture_output=True, timeout=60)
    return probe.returncode == 0


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SETUP_SECONDS_MAX)
    if done.returncode != 0:
        last_lines = (done.stderr or done.stdout).strip()[-2000:]
        raise Missing(f"{' '.join(command)} failed:\n{last_lines}")


def require_binary(binary: Path) -> None:
    if not os.access(binary, os.X_OK):
        raise Missing(f"{binary} does not exist; cargo build --release makes minicorn")
