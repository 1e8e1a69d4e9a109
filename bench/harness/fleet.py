"""Servers in other shapes than one worker with one thread: more of both, and more connections."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.client import Wrong
from harness.environment import Missing
from harness.measure import START_SECONDS_MAX, wait_for_connection
from harness.processes import ServerProcess, free_port
from harness.servers import Launch, Server

# Under bench/apps.
APP = "work"
# An import takes CPU time all the time, an idle server next to none.
SETTLED_SECONDS = 0.3
SETTLED_CPU_NS_MAX = 3_000_000


@dataclass(frozen=True)
class Shape:
    """How a server is to be run."""

    workers: int = 1
    threads: int = 1
    connections: int | None = None
    """Open at a time in one worker, where a default would be too few."""


def options(name: str, shape: Shape) -> list[str]:
    """What is appended to a server's usual command line. Of an option that is given twice, the last one counts for all
    of them."""
    workers = ["--workers", str(shape.workers)]
    connections = ["--worker-connections", str(shape.connections)] if shape.connections else []
    if name.startswith("minicorn"):
        return [*workers, *(["--threads", str(shape.threads)] if shape.threads > 1 else []), *connections]
    if name == "gunicorn-gthread":
        # It closes idle connections after 2 s by default, which is no way to hold 10,000 of them.
        return [*workers, "--threads", str(shape.threads), "--keep-alive", "75", *connections]
    if name == "granian":
        # 1,024 requests at a time by default, which counts connections that are idle or still sending as well.
        backpressure = ["--backpressure", str(shape.connections)] if shape.connections else []
        return [*workers, "--blocking-threads", str(shape.threads), *backpressure]
    raise Missing(f"nobody has said how {name} is given workers and threads")


@contextmanager
def running(server: Server, shape: Shape, cores: str, output: Path) -> Iterator[ServerProcess]:
    """Started, answering, and done with its imports in all workers.

    Raises Wrong when it is not within START_SECONDS_MAX.
    """
    port = free_port()
    command = [*server.command(Launch(port, APP, None)), *options(server.name, shape)]
    first_core = int(cores.partition(",")[0])
    # ServerProcess pins to one core; the inner taskset widens that again before it becomes the server.
    with ServerProcess(["taskset", "-c", cores, *command], port, first_core, output) as process:
        try:
            wait_for_connection(process)
            wait_until_settled(process, shape.workers)
        except Wrong as error:
            raise Wrong(complaint(process) or str(error)) from error
        yield process


def complaint(process: ServerProcess) -> str:
    """The line that says why it did not start: the last one of a usage message only points to --help."""
    lines = process.output.read_text(errors="replace").splitlines()
    return next((line.strip() for line in lines if "error:" in line.lower()), "")


def wait_until_settled(process: ServerProcess, workers: int) -> None:
    """Until all workers are there and nobody uses CPU time: there is no word for "ready" that all servers know."""
    deadline = time.monotonic() + START_SECONDS_MAX
    used_before, quiet_since = 0, time.monotonic()
    while time.monotonic() - quiet_since < SETTLED_SECONDS:
        if process.has_ended():
            raise Wrong(f"the server ended: {process.last_output()}")
        if time.monotonic() > deadline:
            raise Wrong(f"not at rest within {START_SECONDS_MAX:.0f} s of the start")
        used = process.cpu_ns()
        if used - used_before > SETTLED_CPU_NS_MAX or len(process.pids()) <= workers:
            used_before, quiet_since = used, time.monotonic()
        time.sleep(0.01)


def workers_of(process: ServerProcess) -> list[int]:
    """All processes but the master."""
    return [pid for pid in process.pids() if pid != process.master]


def private_bytes(pid: int) -> int:
    """Memory that would be free again if the process ended: dirty pages of its own. Kernel memory, such as socket
    buffers, is not in it."""
    return rollup_bytes(pid, "Private_Dirty")


def rollup_bytes(pid: int, wanted: str) -> int:
    for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == wanted:
            return int(value.split()[0]) * 1024
    raise RuntimeError(f"no {wanted} in /proc/{pid}/smaps_rollup")


def allow_descriptors(wanted: int) -> None:
    """For this program and the servers it starts.

    Raises Missing when the system does not let it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    except (OSError, ValueError) as error:
        raise Missing(f"{wanted} descriptors are needed and {hard} allowed; raise `ulimit -n`") from error
