"""Servers x workloads -> results. All servers of a workload are up at the same time and idle but for the one whose turn
it is; the turns go forwards in one round and backwards in the next (ABBA), so that a machine that slowly gets faster or
slower favours nobody."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from harness.client import Client, Wrong, check
from harness.load import Load, LoadFailed, run_wrk
from harness.processes import Memory, ServerProcess, free_port
from harness.servers import Launch, Server
from harness.workloads import WORKLOADS, Workload

START_SECONDS_MAX = 15.0
# Lets a server finish what wrk left in its queue before the next server has its turn.
SETTLE_SECONDS = 0.05


@dataclass(frozen=True)
class Plan:
    """How long and where to measure."""

    rounds: int
    seconds: int
    """Of load in each round; wrk takes whole seconds."""
    starts: int
    """How often each server is started for the time to its first response."""
    server_core: int
    load_core: int
    folder: Path
    """For request files, logs and what servers print."""


@dataclass(frozen=True)
class Round:
    """One server's turn."""

    load: Load
    cpu_us: float
    """CPU time of all its processes, per request."""


@dataclass
class Cell:
    """One server on one workload."""

    rounds: list[Round] = field(default_factory=list)
    remark: str = ""
    flaws: list[str] = field(default_factory=list)
    """Why the numbers are marked and nobody is measured against them."""
    fails: str = ""
    """Why there are no numbers."""

    @property
    def cpu_us(self) -> float:
        """The least of all rounds: what disturbs a round (other processes in the caches, interrupts) only ever adds
        CPU time, so the least is nearest to the server's own cost. A median moves with the neighbours."""
        return min(round.cpu_us for round in self.rounds)

    @property
    def cpu_us_median(self) -> float:
        return statistics.median(round.cpu_us for round in self.rounds)

    @property
    def per_second(self) -> float:
        """Medians here and below: they depend on the client as well, whose disturbance can go either way."""
        return statistics.median(round.load.per_second for round in self.rounds)

    @property
    def p50_ms(self) -> float:
        return statistics.median(round.load.p50_ms for round in self.rounds)

    @property
    def p99_ms(self) -> float:
        return statistics.median(round.load.p99_ms for round in self.rounds)


@dataclass
class Footprint:
    """What a server takes before and beside the requests."""

    first_response_ms: float | None = None
    """From its start to the first 200; the median of several starts."""
    memory: Memory | None = None
    """After a load of hello, with no other server up: shared pages are counted once for each process that maps them."""
    remark: str = ""
    """How the server is run."""
    flaws: list[str] = field(default_factory=list)
    fails: str = ""


@dataclass
class Contender:
    """A server that is up for a workload."""

    server: Server
    process: ServerProcess
    cell: Cell
    processes: int = 0


def measure_workload(servers: list[Server], workload: Workload, plan: Plan) -> dict[str, Cell]:
    """Starts, checks and loads the servers; one cell for each."""
    cells = {server.name: Cell() for server in servers}
    with ExitStack() as stack:
        contenders = []
        for server in servers:
            process = stack.enter_context(start(server, workload, plan))
            contender = Contender(server, process, cells[server.name])
            if passes_check(contender, workload):
                contender.processes = len(process.pids())
                contenders.append(contender)
        for number in range(plan.rounds):
            for contender in contenders if number % 2 == 0 else reversed(contenders):
                take_turn(contender, workload, plan)
        for contender in contenders:
            inspect_after_load(contender, workload)
    for server in servers:
        if workload.access_log:
            inspect_access_log(server, cells[server.name], access_log(server, workload, plan))
    return cells


def start(server: Server, workload: Workload, plan: Plan) -> ServerProcess:
    port = free_port()
    log = access_log(server, workload, plan) if workload.access_log and server.logs else None
    command = server.command(Launch(port, workload.app, log, workload.is_observed))
    return ServerProcess(command, port, plan.server_core, output(server, workload, plan))


def output(server: Server, workload: Workload, plan: Plan) -> Path:
    return plan.folder / f"{workload.name}-{server.name}.output"


def access_log(server: Server, workload: Workload, plan: Plan) -> Path:
    if server.prints_log:
        return output(server, workload, plan)
    return plan.folder / f"{workload.name}-{server.name}.access"


def passes_check(contender: Contender, workload: Workload) -> bool:
    """Waits for the server and has its answers checked."""
    cell = contender.cell
    try:
        wait_for_connection(contender.process)
        verdict = check(contender.process.port, workload)
    except (Wrong, OSError) as error:
        cell.fails = str(error)
        return False
    cell.remark = verdict.remark
    if verdict.flaw:
        cell.flaws.append(verdict.flaw)
    return True


def load_once(process: ServerProcess, workload: Workload, plan: Plan) -> Load:
    """One run of wrk, pinned to the core that is for the load."""
    cores, file = str(plan.load_core), plan.folder / "request"
    return run_wrk(process.port, workload.request, workload.connections, plan.seconds, cores, file)


def take_turn(contender: Contender, workload: Workload, plan: Plan) -> None:
    """One round for one server."""
    process = contender.process
    time.sleep(SETTLE_SECONDS)
    before = process.cpu_ns()
    try:
        load = load_once(process, workload, plan)
    except LoadFailed as error:
        contender.cell.flaws.append(str(error))
        return
    spent = process.cpu_ns() - before
    if load.requests == 0:
        contender.cell.flaws.append("a round without any answer")
        return
    contender.cell.rounds.append(Round(load, spent / 1000 / load.requests))


def inspect_after_load(contender: Contender, workload: Workload) -> None:
    """Whatever says that the numbers are not what they seem becomes a flaw."""
    cell = contender.cell
    errors: dict[str, int] = {}
    for round in cell.rounds:
        for kind, count in round.load.errors.items():
            errors[kind] = errors.get(kind, 0) + count
    if errors:
        cell.flaws.append("wrk saw errors: " + ", ".join(f"{count} {kind}" for kind, count in errors.items()))
    if len(contender.process.pids()) != contender.processes:
        cell.flaws.append("a process ended or started under load")
    try:
        check(contender.process.port, workload)
    except (Wrong, OSError) as error:
        cell.flaws.append(f"after the load: {error}")
    if not cell.rounds:
        cell.fails = "no round with an answer"


def inspect_access_log(server: Server, cell: Cell, log: Path) -> None:
    """A log with fewer lines than answers is no access log. Counted when the server has ended and written all."""
    if not server.logs:
        cell.remark = "logs nothing"
        return
    if cell.fails:
        return
    answered = sum(round.load.requests for round in cell.rounds)
    with open(log, "rb") as lines:
        logged = sum(1 for _ in lines)
    if logged < answered:
        cell.flaws.append(f"logged {logged} of {answered} requests")
    log.unlink()


def wait_for_connection(process: ServerProcess) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            Client(process.port).close()
            return
        except ConnectionRefusedError as error:
            give_up_on(process, deadline, error)


def give_up_on(process: ServerProcess, deadline: float, error: Exception) -> None:
    """Waits a millisecond, or raises Wrong when the server has ended or the deadline is past."""
    if process.has_ended():
        raise Wrong(f"the server ended: {process.last_output()}") from error
    if time.monotonic() > deadline:
        raise Wrong(f"no answer within {START_SECONDS_MAX:.0f} s of the start: {error}") from error
    time.sleep(0.001)


def measure_footprints(servers: list[Server], plan: Plan) -> dict[str, Footprint]:
    """Starts each server alone, several times, the servers taking turns."""
    hello = next(workload for workload in WORKLOADS if workload.name == "hello")
    footprints = {server.name: Footprint(remark=server.remark) for server in servers}
    times: dict[str, list[float]] = {server.name: [] for server in servers}
    for number in range(plan.starts):
        for server in servers:
            footprint = footprints[server.name]
            if footprint.fails:
                continue
            try:
                with start(server, hello, plan) as process:
                    times[server.name].append(first_response_ms(process, hello))
                    if number == plan.starts - 1:
                        load_once(process, hello, plan)
                        footprint.memory = process.memory()
            except Wrong as error:
                footprint.fails = str(error)
            except LoadFailed as error:
                footprint.flaws.append(str(error))
    for name, measured in times.items():
        footprints[name].first_response_ms = statistics.median(measured) if measured else None
    return footprints


def first_response_ms(process: ServerProcess, workload: Workload) -> float:
    """From the start of the process to the first answer with status 200."""
    deadline = process.started_at + START_SECONDS_MAX
    while True:
        try:
            with Client(process.port) as client:
                if client.ask(workload.request)[0].status == 200:
                    return (time.monotonic() - process.started_at) * 1000
            raise Wrong("not yet")
        except (Wrong, OSError) as error:
            give_up_on(process, deadline, error)
