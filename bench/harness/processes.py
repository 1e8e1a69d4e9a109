"""One server under test: start it on its core, read its CPU time and memory from the kernel, end it. Knows no HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from harness.environment import APPS, VENV

STOP_SECONDS_MAX = 5.0
# Below the ephemeral range, so that no client's connection can take the port of a server that is about to start.
FIRST_PORT, LAST_PORT = 18000, 28000


@dataclass(frozen=True)
class Memory:
    """Proportional set sizes: a page that N processes share counts 1/N for each of them."""

    all_bytes: int
    master_bytes: int
    processes: int


class ServerProcess:
    """A started server with all its processes. A context manager: what it started has ended when it is left."""

    def __init__(self, command: list[str], port: int, core: int, output: Path) -> None:
        self.port = port
        self.output = output
        self.started_at = 0.0
        self._command = ["taskset", "-c", str(core), *command]
        self._popen: subprocess.Popen | None = None

    def __enter__(self) -> ServerProcess:
        self.started_at = time.monotonic()
        with open(self.output, "wb") as output:
            # A session of its own keeps the terminal's ctrl-C from it, and makes the group that `_stop` ends.
            self._popen = subprocess.Popen(
                self._command,
                cwd=APPS,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stop()

    @property
    def master(self) -> int:
        """The process that was started: taskset becomes the server."""
        assert self._popen is not None, "entered"
        return self._popen.pid

    def has_ended(self) -> bool:
        # WNOWAIT leaves the zombie, so that its number stays ours until `_stop` has signalled the group.
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.master, flags) is not None

    def last_output(self) -> str:
        lines = self.output.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "no output"

    def pids(self) -> list[int]:
        """The master and all its descendants, found by their parents."""
        children: dict[int, list[int]] = {}
        for pid, parent in living():
            children.setdefault(parent, []).append(pid)
        family = [self.master]
        for pid in family:
            family.extend(children.get(pid, []))
        return family

    def cpu_ns(self) -> int:
        """CPU time of all its processes so far, user and system, threads that have ended included."""
        return sum(process_cpu_ns(pid) for pid in self.pids())

    def memory(self) -> Memory:
        sizes = {pid: pss_bytes(pid) for pid in self.pids()}
        return Memory(sum(sizes.values()), sizes[self.master], len(sizes))

    def _stop(self) -> None:
        """TERM to the master, then KILL to whatever is left of its group."""
        assert self._popen is not None, "entered"
        try:
            if not self.has_ended():
                os.kill(self.master, signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS_MAX
            while not self.has_ended() and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            # Also when a second ctrl-C cuts the wait short. The number is still ours: nobody has reaped the master.
            os.killpg(self.master, signal.SIGKILL)
            self._popen.wait()


def environment() -> dict[str, str]:
    """What a server finds in its environment: the benchmark's venv, and nothing of the operator's settings."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "LC_ALL", "TMPDIR") if name in os.environ}
    path = f"{VENV / 'bin'}:{os.environ.get('PATH', os.defpath)}"
    return {**kept, "PATH": path, "VIRTUAL_ENV": str(VENV), "PYTHONPATH": str(APPS)}


def free_port() -> int:
    """A port that nobody listens on; each call gives another."""
    global _next_port
    while _next_port < LAST_PORT:
        port, _next_port = _next_port, _next_port + 1
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port from {FIRST_PORT} to {LAST_PORT}")


_next_port = FIRST_PORT


def living() -> list[tuple[int, int]]:
    """All processes that have not ended, each with its parent."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            # The name in parentheses may hold spaces; state and parent follow the last one.
            state, parent = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            found.append((int(entry), int(parent)))
    return found


def process_cpu_ns(pid: int) -> int:
    """The CPU clock of another process.

    The kernel's own sum of what /proc/PID/task/*/schedstat shows thread by thread, to the nanosecond, and with the
    threads that have ended: http.server starts one for each connection. The number of the clock is what
    clock_getcpuclockid(3) makes of the pid, CPUCLOCK_SCHED being 2.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return 0  # It ended since it was listed.


def schedstat_ns(pid: int) -> int:
    """The same from schedstat, for living threads alone: what process_cpu_ns is tested against."""
    threads = Path("/proc", str(pid), "task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)


def pss_bytes(pid: int) -> int:
    for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) * 1024
    raise RuntimeError(f"no Pss in /proc/{pid}/smaps_rollup")
