"""One run of wrk. Its request bytes are the ones that were checked before, written to a file for wrk.lua."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.environment import BENCH

WRK_GRACE_SECONDS = 15


class LoadFailed(Exception):
    """wrk could not run, for instance because the server is gone."""


@dataclass(frozen=True)
class Load:
    """What wrk saw."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: dict[str, int]
    """Kinds that occurred: connect, read, write, status (not 2xx or 3xx), timeout."""

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def run_wrk(port: int, request: bytes, connections: int, seconds: int, cores: str, request_file: Path) -> Load:
    """Loads the server for `seconds` with this request, from one thread on whichever of `cores` it is given."""
    request_file.write_bytes(request)
    load = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(BENCH / "wrk.lua")]
    command = ["taskset", "-c", cores, *load, f"http://127.0.0.1:{port}/", "--", str(request_file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + WRK_GRACE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"wrk did not end within {error.timeout} s") from error
    if done.returncode != 0:
        raise LoadFailed(f"wrk failed: {(done.stderr or done.stdout).strip()[-200:]}")
    return parse_result(done.stdout.strip().splitlines()[-1])


def parse_result(line: str) -> Load:
    """Reads the JSON line that `done` in wrk.lua prints."""
    seen = json.loads(line)
    kinds = ("connect", "read", "write", "status", "timeout")
    return Load(
        requests=seen["requests"],
        seconds=seen["microseconds"] / 1e6,
        p50_ms=seen["p50_us"] / 1e3,
        p99_ms=seen["p99_us"] / 1e3,
        errors={kind: seen[kind] for kind in kinds if seen[kind]},
    )
