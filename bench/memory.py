#!/usr/bin/env python3
"""Weighs servers with four Flask workers after load: minicorn without --preload, with it and after a reload with it, and
gunicorn --preload. What counts is the proportional set size of all processes together, master and template included.
Two bars are held against it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness import environment, report, session
from harness.client import Wrong
from harness.environment import MINICORN, RESULTS, ROOT, Missing
from harness.fleet import wait_until_settled
from harness.load import LoadFailed, run_wrk
from harness.measure import wait_for_connection
from harness.processes import ServerProcess, free_port, process_cpu_ns, pss_bytes
from harness.session import say
from harness.servers import script

MIB = 1024 * 1024
WORKERS = 4
APP = "examples.flask_app:app"
REQUEST = b"GET /?name=minicorn HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
CONNECTIONS = 16
# Of each worker, on average, before it is weighed.
REQUESTS_MIN = 2_000
TURN_SECONDS = 2
LOAD_SECONDS_MAX = 60
# A worker that has worked less than this part of the average has not been under load.
SHARE_MIN = 0.25

PLAIN, PRELOADED, PEER = "minicorn", "minicorn --preload", "gunicorn --preload"
RELOADED = f"{PRELOADED}, after HUP"
# How much either of them may weigh, as a part of what another one does.
BARRED = [PRELOADED, RELOADED]
BARS = {PLAIN: 0.60, PEER: 0.85}
RELOAD_SECONDS_MAX = 60


@dataclass(frozen=True)
class Contender:
    """One row of the table."""

    name: str
    command: Callable[[int], list[str]]
    """For a port."""
    has_template: bool = False
    is_reloaded: bool = False
    """Whether it serves in a second generation when it is weighed."""


@dataclass(frozen=True)
class Weight:
    """PSS in bytes."""

    master: int
    template: int
    workers: list[int]

    @property
    def total(self) -> int:
        return self.master + self.template + sum(self.workers)


@dataclass
class Weighed:
    """All rounds of one contender."""

    weights: list[Weight] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    fails: str = ""

    def median(self, part: Callable[[Weight], float]) -> float | None:
        return statistics.median(map(part, self.weights)) if self.weights and not self.fails else None


def main() -> int:
    options = parse_options()
    session.end_servers_on_term()
    try:
        environment.require_binary(options.binary)
        session.claim_machine()
        environment.prepare()
        server_core, load_core = session.parse_cores(options.cores)
    except Missing as error:
        print(f"memory: {error}", file=sys.stderr)
        return 2
    contenders = all_contenders(str(options.binary.resolve()))
    results = {contender.name: Weighed() for contender in contenders}
    for number in range(options.rounds):
        for contender in contenders:
            say(f"round {number + 1}: {contender.name}")
            add_round(results[contender.name], contender, f"{server_core},{load_core}")
    print(f"\n{report.text_table(weight_table(results))}\n\n{report.text_table(verdict_table(results))}")
    everything = {name: asdict(weighed) for name, weighed in results.items()}
    (options.json or RESULTS / "memory.json").write_text(json.dumps(everything, indent=1))
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=MINICORN, help="minicorn (target/release/minicorn)")
    parser.add_argument("--rounds", type=int, default=3, help="starts of each, of which the median counts (%(default)s)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write everything (default bench/results/memory.json)"
    )
    session.add_cores_option(parser)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds is at least 1")
    return options


def all_contenders(binary: str) -> list[Contender]:
    def minicorn(*options: str) -> Callable[[int], list[str]]:
        return lambda port: [binary, *common(port), "--access-logfile", "none", *options, APP]

    def gunicorn(port: int) -> list[str]:
        return [script("gunicorn"), *common(port), "--no-control-socket", "--preload", APP]

    return [
        Contender(PLAIN, minicorn()),
        Contender(PRELOADED, minicorn("--preload"), has_template=True),
        Contender(RELOADED, minicorn("--preload"), has_template=True, is_reloaded=True),
        Contender(PEER, gunicorn),
    ]


def common(port: int) -> list[str]:
    return ["--bind", f"127.0.0.1:{port}", "--workers", str(WORKERS), "--chdir", str(ROOT)]


def add_round(weighed: Weighed, contender: Contender, cores: str) -> None:
    try:
        weight, requests = weigh(contender, cores)
    except (Wrong, LoadFailed, OSError) as error:
        weighed.fails = str(error)
        return
    weighed.weights.append(weight)
    weighed.requests.append(requests)


def weigh(contender: Contender, cores: str) -> tuple[Weight, int]:
    """Starts it, loads it, and weighs it when it is at rest again."""
    port = free_port()
    folder = RESULTS / "memory"
    folder.mkdir(parents=True, exist_ok=True)
    # ServerProcess pins to one core; the inner taskset widens that again before it becomes the server.
    command = ["taskset", "-c", cores, *contender.command(port)]
    output = folder / f"{contender.name.replace(' --', '-')}.output"
    with ServerProcess(command, port, int(cores.partition(",")[0]), output) as process:
        wait_for_connection(process)
        wait_until_settled(process, WORKERS)
        if contender.is_reloaded:
            load_until_enough(port, cores, folder / "request")
            reload(process)
        before = {pid: process_cpu_ns(pid) for pid in process.pids()}
        requests = load_until_enough(port, cores, folder / "request")
        wait_until_settled(process, WORKERS)
        pids = process.pids()
        used = {pid: process_cpu_ns(pid) - before.get(pid, 0) for pid in pids if pid != process.master}
        template, workers = roles(used, contender.has_template)
        weights = {pid: pss_bytes(pid) for pid in pids}
    parts = [weights[pid] for pid in workers]
    return Weight(weights[process.master], weights.get(template, 0), parts), requests


def reload(process: ServerProcess) -> None:
    """Returns when all children are new ones, at rest. Raises Wrong when that takes too long."""
    old, deadline = set(process.pids()) - {process.master}, time.monotonic() + RELOAD_SECONDS_MAX
    os.kill(process.master, signal.SIGHUP)
    while old & set(process.pids()):
        if time.monotonic() > deadline:
            raise Wrong(f"not reloaded after {RELOAD_SECONDS_MAX} s")
        time.sleep(0.05)
    wait_until_settled(process, WORKERS)


def load_until_enough(port: int, cores: str, file: Path) -> int:
    """Returns how many requests it took. Raises Wrong when one of them fails, or all of them take too long."""
    requests, deadline = 0, time.monotonic() + LOAD_SECONDS_MAX
    while requests < WORKERS * REQUESTS_MIN:
        if time.monotonic() > deadline:
            raise Wrong(f"{requests} requests in {LOAD_SECONDS_MAX} s are too few for {WORKERS} workers")
        load = run_wrk(port, REQUEST, CONNECTIONS, TURN_SECONDS, cores, file)
        if load.errors:
            raise Wrong(f"errors under load: {load.errors}")
        requests += load.requests
    return requests


def roles(used: dict[int, int], has_template: bool) -> tuple[int | None, list[int]]:
    """The template, which is the one that does nothing under load, and the workers, by the CPU time that each has used.

    Raises Wrong when there are not as many as there should be, or one of them was not under load.
    """
    pids = sorted(used, key=lambda pid: used[pid])
    template, workers = (pids[0], pids[1:]) if has_template and pids else (None, pids)
    if len(workers) != WORKERS:
        raise Wrong(f"{len(workers)} workers instead of {WORKERS}")
    average = sum(used[pid] for pid in workers) / WORKERS
    if used[workers[0]] < SHARE_MIN * average:
        raise Wrong("a worker got next to no requests")
    return template, workers


def weight_table(results: dict[str, Weighed]) -> list[list[str]]:
    table = [["server", "PSS MiB", "of it master", "template", "each worker", "requests", "remarks"]]
    parts: list[Callable[[Weight], float]] = [
        lambda weight: weight.total,
        lambda weight: weight.master,
        lambda weight: weight.template,
        lambda weight: statistics.fmean(weight.workers),
    ]
    for name, weighed in results.items():
        values = [weighed.median(part) for part in parts]
        requests = f"{min(weighed.requests):,}" if weighed.requests else report.NOT_MEASURED
        remarks = f"fails: {weighed.fails}" if weighed.fails else ""
        table.append([name, *map(mebibytes, values), requests, remarks])
    return table


def mebibytes(value: float | None) -> str:
    return f"{value / MIB:.1f}" if value else report.NOT_MEASURED


def verdict_table(results: dict[str, Weighed]) -> list[list[str]]:
    table = [["target", "bar", "measured", "outcome"]]
    for name, (other, limit) in itertools.product(BARRED, BARS.items()):
        measured = ratio(results[name], results[other])
        shown = report.NOT_MEASURED if measured is None else f"{measured:.2f} ×"
        outcome = "not measured" if measured is None else "ok" if measured <= limit else "missed"
        table.append([f"{name} / {other}", f"≤ {limit:.2f} ×", shown, outcome])
    return table


def ratio(ours: Weighed, theirs: Weighed) -> float | None:
    totals = [weighed.median(lambda weight: weight.total) for weighed in (ours, theirs)]
    return None if None in totals else totals[0] / totals[1]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
