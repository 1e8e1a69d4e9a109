"""Requests per second, with wrk as the load. Servers that are compared are up at the same time and take turns, forwards
and backwards, as in `measure`; whose ratio is judged has been measured in the same minute."""

from __future__ import annotations

import functools
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.client import Client, Wrong
from harness.environment import BENCH
from harness.fleet import Shape
from harness.load import Load, LoadFailed, run_wrk
from harness.measure import SETTLE_SECONDS, Plan, measure_workload
from harness.processes import ServerProcess
from harness.scenario import US, Bench, Row, Rows
from harness.servers import PYTHON, Server, floor
from harness.wire import expect, get
from harness.workloads import WORKLOADS

CPU_TWO_US, CPU_TWO_CONNECTIONS = 50, 16
THREADS_CPU_US, THREADS_CPU_CONNECTIONS, THREADS_CPU_THREADS = 200, 16, 8
ONE_THREAD = "minicorn, 1 thread"
BLOCKING_MS, BLOCKING_THREADS, BLOCKING_CONNECTIONS = 5, 16, 64

DRIBBLERS = 2000
DRIBBLE_CONNECTIONS = 4
DRIBBLE_PAIRS = 3
DRIBBLE_CONNECTIONS_MAX = 4000
DRIBBLERS_START_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Asked:
    """What wrk asks for."""

    path: str
    body: bytes
    connections: int


@dataclass
class Contender:
    """A server that is up, and the turns that it had."""

    process: ServerProcess
    row: Row
    loads: list[Load] = field(default_factory=list)


def cpu_two(bench: Bench) -> Rows:
    shapes = {name: (name, Shape(workers=2)) for name in bench.servers}
    return by_turns(bench, shapes, burning(CPU_TWO_US, CPU_TWO_CONNECTIONS))


def threads_cpu(bench: Bench) -> Rows:
    shapes = {US: (US, Shape(threads=THREADS_CPU_THREADS)), ONE_THREAD: (US, Shape())}
    return by_turns(bench, shapes if US in bench.servers else {}, burning(THREADS_CPU_US, THREADS_CPU_CONNECTIONS))


def blocking(bench: Bench) -> Rows:
    shapes = {name: (name, Shape(threads=BLOCKING_THREADS)) for name in bench.servers}
    return by_turns(bench, shapes, Asked(f"/sleep/{BLOCKING_MS}", str(BLOCKING_MS).encode(), BLOCKING_CONNECTIONS))


def burning(microseconds: float, connections: int) -> Asked:
    turns = str(round(microseconds * burn_turns_per_us()))
    return Asked(f"/burn/{turns}", turns.encode(), connections)


@functools.lru_cache(maxsize=1)
def burn_turns_per_us() -> float:
    """How often the app's loop turns in a microsecond of an undisturbed CPU, for the same work in every server."""
    code = """
import timeit
print(min(timeit.repeat("for _ in range(10000): pass", number=1, repeat=200)))
"""
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return 10_000 / (float(done.stdout) * 1e6)


def by_turns(bench: Bench, shapes: dict[str, tuple[str, Shape]], asked: Asked) -> Rows:
    """One row for each of `shapes`: how a row is called, whose it is, and how that is run. Servers and wrk share both
    cores."""
    rows: Rows = {}
    with ExitStack() as stack:
        contenders = []
        for label, (name, shape) in shapes.items():
            row = rows[label] = Row()
            try:
                process = stack.enter_context(bench.serving(name, shape))
                check(process, asked)
                contenders.append(Contender(process, row))
            except (Wrong, OSError) as error:
                row.fails = str(error)
        for number in range(bench.rounds):
            for contender in contenders if number % 2 == 0 else reversed(contenders):
                take_turn(bench, contender, asked)
        for contender in contenders:
            summarize(contender, asked)
    return rows


def check(process: ServerProcess, asked: Asked) -> None:
    with Client(process.port) as client:
        expect(client.ask(get(asked.path))[0], asked.body)


def take_turn(bench: Bench, contender: Contender, asked: Asked) -> None:
    time.sleep(SETTLE_SECONDS)
    try:
        contender.loads.append(load(contender.process.port, asked, bench.round_seconds, bench.both_cores, bench.folder))
    except LoadFailed as error:
        contender.row.failures.append(str(error))


def summarize(contender: Contender, asked: Asked) -> None:
    """Turns into figures; wrk looks at no body, so the server is asked once more."""
    row, loads = contender.row, contender.loads
    row.failures += [failure for load in loads for failure in failures_of(load)]
    try:
        check(contender.process, asked)
    except (Wrong, OSError) as error:
        row.failures.append(f"after the load: {error}")
    if not loads:
        row.fails = row.failures[0]
        return
    row.figures = {
        "requests/s": statistics.median(load.per_second for load in loads),
        "p50 ms": statistics.median(load.p50_ms for load in loads),
        "p99 ms": statistics.median(load.p99_ms for load in loads),
    }


def failures_of(load: Load) -> list[str]:
    return [f"{count} {kind}" for kind, count in load.errors.items()]


def load(port: int, asked: Asked, seconds: int, cores: str, folder: Path) -> Load:
    """One run of wrk with one thread, on whichever of `cores` the scheduler gives it."""
    return run_wrk(port, get(asked.path), asked.connections, seconds, cores, folder / "request")


def dribble(bench: Bench, name: str) -> Row:
    """Pairs of turns, one alone and one beside the dribblers. A turn lasts for the whole of `bench.seconds`: turning
    away those whose head takes too long, after 10 s with minicorn, is part of it."""
    asked = Asked("/say/hello", b"hello", DRIBBLE_CONNECTIONS)
    row = Row()
    alone, beside = [], []
    shape = Shape(connections=DRIBBLE_CONNECTIONS_MAX)
    with bench.serving(name, shape, cores=str(bench.server_core)) as process:
        check(process, asked)

        def turn(results: list[float]) -> None:
            seen = load(process.port, asked, bench.seconds, str(bench.load_core), bench.folder)
            row.failures.extend(failures_of(seen))
            results.append(seen.per_second)

        for _ in range(DRIBBLE_PAIRS):
            try:
                turn(alone)
                with dribbling(process.port, bench.load_core, row):
                    turn(beside)
            except LoadFailed as error:
                row.failures.append(str(error))
                break
    pairs = [after / before for before, after in zip(alone, beside) if before > 0]
    if not pairs:
        return Row(fails=row.failures[0] if row.failures else "no turn was completed")
    row.figures = {
        "ratio": statistics.median(pairs),
        "requests/s alone": statistics.median(alone),
        "beside": statistics.median(beside),
    }
    return row


@contextmanager
def dribbling(port: int, core: int, row: Row) -> Iterator[None]:
    """While this is entered, DRIBBLERS clients dribble."""
    script = str(BENCH / "harness" / "dribblers.py")
    command = ["taskset", "-c", str(core), sys.executable, script, str(port), str(DRIBBLERS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as clients:
        try:
            assert clients.stdin is not None and clients.stdout is not None, "both are pipes"
            readable, _, _ = select.select([clients.stdout], [], [], DRIBBLERS_START_SECONDS_MAX)
            if not readable or clients.stdout.readline() != b"ready\n":
                raise Wrong(f"{DRIBBLERS} clients could not connect")
            yield
            clients.stdin.close()
            readable, _, _ = select.select([clients.stdout], [], [], DRIBBLERS_START_SECONDS_MAX)
            told = clients.stdout.readline().strip() if readable else b""
            if not told.isdigit():
                row.failures.append("the dribblers could not go on: the server refuses connections")
            elif int(told):
                row.notes.append(f"dribblers turned away {int(told)} times")
        finally:
            clients.kill()


def hello_one(bench: Bench) -> Rows:
    return against_floor(bench, "single")


def hello_64(bench: Bench) -> Rows:
    return against_floor(bench, "hello")


def against_floor(bench: Bench, workload_name: str) -> Rows:
    """The workload as bench.py measures it, each server on one core, with one worker and its usual threads."""
    workload = next(workload for workload in WORKLOADS if workload.name == workload_name)
    plan = Plan(bench.rounds, bench.round_seconds, 0, bench.server_core, bench.load_core, bench.folder)
    servers = [Server("floor", floor, peer=False), *bench.servers.values()]
    rows: Rows = {}
    cells = measure_workload(servers, workload, plan)
    lowest = None if cells["floor"].fails else cells["floor"].cpu_us
    for name, cell in cells.items():
        rows[name] = Row(failures=cell.flaws, fails=cell.fails, notes=[cell.remark] if cell.remark else [])
        if not cell.fails:
            rows[name].figures = {"CPU µs": cell.cpu_us, "requests/s": cell.per_second}
        if not cell.fails and lowest:
            rows[name].figures["× floor"] = cell.cpu_us / lowest
    return rows
