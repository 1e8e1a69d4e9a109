#!/usr/bin/env python3
"""Soaks minicorn: good and bad clients of every kind for half an hour, while workers are killed. Every answer is
checked; only what was under way on a killed worker may be lost; memory and descriptors of the master, and of one worker
that is spared, must not grow. Exits with 0 when all of that held, else with 1. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness import environment, report, servers, session, soak_clients
from harness.client import Wrong
from harness.environment import MINICORN, RESULTS, Missing
from harness.fleet import Shape, running, workers_of
from harness.growth import Series, descriptors, rss_bytes
from harness.ledger import Ledger
from harness.processes import ServerProcess
from harness.session import say

TICK_SECONDS = 0.2
SAMPLE_SECONDS_MAX = 10.0
SAMPLES_WANTED = 40
# Allocators and buffers reach their size in the first part of a run: large bodies are rare, and threads many.
WARM_UP_SHARE = 0.25
WARM_UP_SECONDS_MIN = 120.0
RSS_GROWTH_MAX = 0.05
DESCRIPTORS_GROWTH_MAX = 3.0
# More than a client waits for one answer.
CLIENTS_END_SECONDS_MAX = soak_clients.SECONDS_MAX + 10
STOP_SECONDS_MAX = 15.0
MIB = 1024 * 1024


@dataclass
class Watch:
    """What is seen of the processes during the run."""

    process: ServerProcess
    spared: int
    """The worker that is never killed, so that one grows as old as the run."""
    alive: set[int]
    rss: dict[int, Series] = field(default_factory=dict)
    open_files: dict[int, Series] = field(default_factory=dict)

    def sample(self, at: float) -> None:
        for pid in self.process.pids():
            try:
                rss, files = rss_bytes(pid), descriptors(pid)
            except OSError:
                continue  # It ended since it was listed.
            self.rss.setdefault(pid, Series()).add(at, rss / MIB)
            self.open_files.setdefault(pid, Series()).add(at, files)

    def notice_deaths(self, ledger: Ledger) -> None:
        """Workers that are gone without having been killed from here; those are taken out of `alive` before."""
        now = set(workers_of(self.process))
        for pid in self.alive - now:
            ledger.record_failure("worker", f"{pid} ended by itself")
        self.alive = now

    def kill_one(self, ledger: Ledger, draw: random.Random, workers: int) -> None:
        if len(self.alive) < workers:
            ledger.record_failure("master", f"{len(self.alive)} of {workers} workers since the last kill")
        victims = sorted(self.alive - {self.spared})
        if not victims:
            return
        victim = draw.choice(victims)
        ledger.record_kill()
        os.kill(victim, signal.SIGKILL)
        self.alive.remove(victim)


def main() -> int:
    options = parse_options()
    session.end_servers_on_term()
    try:
        environment.require_binary(options.binary)
        cores = "{},{}".format(*session.parse_cores(options.cores))
        session.claim_machine()
        environment.prepare()
    except Missing as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    folder = RESULTS / "soak"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shape = Shape(options.workers, options.threads)
    ledger = Ledger()
    try:
        with running(servers.minicorn(options.binary.resolve()), shape, cores, folder / "minicorn.output") as process:
            watch = soak(process, ledger, options)
            stop_server(process, ledger)
    except Wrong as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    return conclude(ledger, watch, options)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="(%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=4, help="of each worker (%(default)s)")
    parser.add_argument("--kill-every", type=float, default=20, metavar="SECONDS", help="0 = never (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is left to chance (%(default)s)")
    parser.add_argument("--binary", type=Path, default=MINICORN, help="minicorn (target/release/minicorn)")
    session.add_cores_option(parser)
    options = parser.parse_args()
    if options.minutes <= 0 or min(options.workers, options.threads) < 1:
        parser.error("--minutes, --workers and --threads are above 0")
    return options


def soak(process: ServerProcess, ledger: Ledger, options: argparse.Namespace) -> Watch:
    """Runs the clients for the whole time, and kills and samples beside them."""
    draw = random.Random(options.seed)
    workers = workers_of(process)
    watch = Watch(process, draw.choice(workers), set(workers))
    stop = threading.Event()
    # Daemons, so that a client that hangs cannot keep this program from ending.
    clients = [
        threading.Thread(
            target=soak_clients.run,
            args=(client, process.port, ledger, stop, random.Random(f"{options.seed} {client.name} {number}")),
            daemon=True,
        )
        for client in soak_clients.CLIENTS
        for number in range(client.threads)
    ]
    for client in clients:
        client.start()
    try:
        disturb(watch, ledger, draw, options)
    finally:
        stop.set()
    deadline = time.monotonic() + CLIENTS_END_SECONDS_MAX
    for client in clients:
        client.join(max(0.0, deadline - time.monotonic()))
    if hung := sum(client.is_alive() for client in clients):
        ledger.record_failure("soak", f"{hung} clients did not end")
    return watch


def disturb(watch: Watch, ledger: Ledger, draw: random.Random, options: argparse.Namespace) -> None:
    seconds = options.minutes * 60
    start = time.monotonic()
    sample_every = min(SAMPLE_SECONDS_MAX, seconds / SAMPLES_WANTED)
    next_sample, next_kill = 0.0, options.kill_every or seconds
    while (at := time.monotonic() - start) < seconds:
        watch.notice_deaths(ledger)
        if at >= next_sample:
            watch.sample(at)
            next_sample += sample_every
        # None towards the end: the last worker is to be seen at work.
        if at >= next_kill and at < seconds - options.kill_every / 2:
            watch.kill_one(ledger, draw, options.workers)
            next_kill += options.kill_every * draw.uniform(0.75, 1.25)
            say(f"[{at:4.0f} s] {ledger.summary()}")
        time.sleep(TICK_SECONDS)


def stop_server(process: ServerProcess, ledger: Ledger) -> None:
    """TERM has to end it soon, now that nothing is under way."""
    if process.has_ended():
        ledger.record_failure("master", f"ended by itself: {process.last_output()}")
        return
    os.kill(process.master, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS_MAX
    while not process.has_ended() and time.monotonic() < deadline:
        time.sleep(0.01)
    if not process.has_ended():
        ledger.record_failure("master", f"still there {STOP_SECONDS_MAX:.0f} s after TERM")


def conclude(ledger: Ledger, watch: Watch, options: argparse.Namespace) -> int:
    table = [["target", "right", "cut by a kill", "failed"]]
    for name in dict.fromkeys([*(client.name for client in soak_clients.CLIENTS), *ledger.failed]):
        counts = (ledger.right[name], ledger.cut[name], ledger.failed[name])
        table.append([name, *(f"{count:,}" for count in counts)])
    print(f"\n{options.minutes:g} minutes, {ledger.kills} workers killed\n{report.text_table(table)}")
    idle = [client.name for client in soak_clients.CLIENTS if not ledger.right[client.name]]
    for name in idle:
        print(f"never answered right: {name}")
    for failure in ledger.failures:
        print(f"  {failure}")
    is_flat = judge_growth(watch, options.minutes * 60)
    is_right = not ledger.failed and not idle
    print("\nsoak: " + ("ok" if is_right and is_flat else "FAILED"))
    return 0 if is_right and is_flat else 1


def judge_growth(watch: Watch, seconds: float) -> bool:
    """Prints how the master and the spared worker have grown; False when one did. A short run has no say in that."""
    warm_up = max(seconds * WARM_UP_SHARE, WARM_UP_SECONDS_MIN)
    table = [["target", "unit", "after warm-up", "grown by", "±", "limit", "outcome"]]
    is_flat = True
    for who, pid in (("master", watch.process.master), ("spared worker", watch.spared)):
        for unit, series, limit_share, limit_least in (
            ("MiB RSS", watch.rss, RSS_GROWTH_MAX, 0.0),
            ("descriptors", watch.open_files, 0.0, DESCRIPTORS_GROWTH_MAX),
        ):
            grown = series.get(pid, Series()).after(warm_up).growth()
            if grown is None:
                table.append([who, unit, "–", "–", "–", "–", f"not judged: needs more than {warm_up:.0f} s"])
                continue
            limit = max(grown.start * limit_share, limit_least)
            is_flat &= not grown.is_above(limit)
            outcome = "grows" if grown.is_above(limit) else "ok"
            numbers = (grown.start, grown.by, grown.error, limit)
            table.append([who, unit, *(f"{number:.2f}" for number in numbers), outcome])
    print(f"\n{report.text_table(table)}")
    return is_flat


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
