"""Latency of handlers that mostly wait: who queues behind a slow request? One thread and select(2), whose timeouts are
in microseconds where those of epoll are in milliseconds; a few hundred requests per second are little for it."""

from __future__ import annotations

import math
import random
import select
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.client import Wrong
from harness.fleet import Shape
from harness.scenario import Bench, Row
from harness.wire import Line

FAST_MS, SLOW_MS = 1, 200
WORKERS = 4

MIX_LINES = 8
MIX_PAUSE_SECONDS = 0.010
MIX_SLOW_SHARE = 0.005

OPEN_LINES = 16
OPEN_SLOW_SHARE = 0.05
OPEN_MEAN_SECONDS = (OPEN_SLOW_SHARE * SLOW_MS + (1 - OPEN_SLOW_SHARE) * FAST_MS) / 1000
OPEN_PER_SECOND = WORKERS / OPEN_MEAN_SECONDS / 3

# For the answers that are still under way when the load ends: a queue of slow ones, or a server that lost one.
DRAIN_SECONDS_MAX = 10.0


@dataclass
class Seen:
    """What the clients saw."""

    fast_ms: list[float] = field(default_factory=list)
    slow_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, other: Seen) -> None:
        self.fast_ms += other.fast_ms
        self.slow_ms += other.slow_ms
        self.failures += other.failures

    @property
    def all_ms(self) -> list[float]:
        return self.fast_ms + self.slow_ms


@dataclass
class Request:
    """One request under way."""

    milliseconds: int
    since: float
    """What its latency counts from."""


class Lines:
    """Connections to one server, and the request that each of them carries."""

    def __init__(self, port: int, count: int) -> None:
        self.free = [Line(port) for _ in range(count)]
        self.under_way: dict[Line, Request] = {}
        self.seen = Seen()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        for line in [*self.free, *self.under_way]:
            line.close()

    def ask(self, line: Line, request: Request) -> None:
        """`line` is one of the free ones."""
        self.free.remove(line)
        self.under_way[line] = request
        try:
            text = str(request.milliseconds)
            line.ask(f"/sleep/{text}", text.encode(), time.perf_counter())
        except OSError as error:
            self._fail(line, error)

    def wait(self, seconds: float) -> list[Line]:
        """Takes what comes within that time, at least once; returns the lines that have become free."""
        readable, _, _ = select.select(list(self.under_way), [], [], max(0.0, seconds))
        return [line for line in readable if self._receive(line)]

    def _receive(self, line: Line) -> bool:
        try:
            if line.receive() is None:
                return False
        except (Wrong, OSError) as error:
            self._fail(line, error)
            return True
        request = self.under_way.pop(line)
        self.free.append(line)
        took_ms = (time.perf_counter() - request.since) * 1000
        (self.seen.slow_ms if request.milliseconds == SLOW_MS else self.seen.fast_ms).append(took_ms)
        return True

    def _fail(self, line: Line, error: Exception) -> None:
        self.seen.failures.append(str(error) or type(error).__name__)
        del self.under_way[line]
        line.reopen()
        self.free.append(line)

    def drain(self) -> None:
        """Waits for the last answers; what does not come is a failure."""
        deadline = time.perf_counter() + DRAIN_SECONDS_MAX
        while self.under_way and time.perf_counter() < deadline:
            self.wait(deadline - time.perf_counter())
        self.seen.failures += ["no answer"] * len(self.under_way)


def closed_loop(port: int, lines: int, seconds: float, pause: float, slow_share: float, draw: random.Random) -> Seen:
    """Each connection asks, waits for the answer, pauses, and asks again."""
    with Lines(port, lines) as pool:
        end = time.perf_counter() + seconds
        # Spread over one pause, so that the clients do not march in step.
        due = {line: time.perf_counter() + pause * number / lines for number, line in enumerate(pool.free)}
        while (now := time.perf_counter()) < end:
            for line in [line for line, at in due.items() if at <= now]:
                del due[line]
                pool.ask(line, Request(SLOW_MS if draw.random() < slow_share else FAST_MS, time.perf_counter()))
            for line in pool.wait(min(due.values(), default=end) - time.perf_counter()):
                due[line] = time.perf_counter() + pause
            for line in pool.free:
                due.setdefault(line, time.perf_counter() + pause)
        pool.drain()
        return pool.seen


def open_loop(port: int, lines: int, arrivals: list[tuple[float, int]], draw: random.Random) -> Seen:
    """Requests come when they come, whether or not the earlier ones are done. Each goes to a random free connection, or
    waits for one; its time counts from the moment it was due, so that a server cannot slow its own clock."""
    with Lines(port, lines) as pool:
        start = time.perf_counter()
        coming = deque(Request(milliseconds, start + at) for at, milliseconds in arrivals)
        while coming:
            if coming[0].since <= time.perf_counter() and pool.free:
                pool.ask(draw.choice(pool.free), coming.popleft())
                continue
            until = coming[0].since if pool.free else coming[0].since + DRAIN_SECONDS_MAX
            pool.wait(until - time.perf_counter())
            if time.perf_counter() > coming[0].since + DRAIN_SECONDS_MAX:
                pool.seen.failures += ["no free connection"] * len(coming)
                break
        pool.drain()
        return pool.seen


def poisson_arrivals(
    per_second: float, seconds: float, slow_share: float, draw: random.Random
) -> list[tuple[float, int]]:
    """When each request comes, and how long its handler takes. There is exactly that share of slow ones: chance would
    move the mean more than servers do."""
    count = round(per_second * seconds)
    slow = set(draw.sample(range(count), round(count * slow_share)))
    arrivals, at = [], 0.0
    for number in range(count):
        at += draw.expovariate(per_second)
        arrivals.append((at, SLOW_MS if number in slow else FAST_MS))
    return arrivals


def slow_mix(bench: Bench, name: str) -> Row:
    def load(port: int, draw: random.Random) -> Seen:
        return closed_loop(port, MIX_LINES, bench.seconds / bench.rounds, MIX_PAUSE_SECONDS, MIX_SLOW_SHARE, draw)

    def figures(seen: Seen) -> dict[str, float]:
        # Where chance spreads the connections evenly, a slow request delays one other: half a percent, which p99 hides.
        return {f"p{percent:g} ms": percentile(seen.fast_ms, percent) for percent in (50, 99, 99.9)}

    return in_rounds(bench, name, load, figures)


def open_mix(bench: Bench, name: str) -> Row:
    def load(port: int, draw: random.Random) -> Seen:
        arrivals = poisson_arrivals(OPEN_PER_SECOND, bench.seconds / bench.rounds, OPEN_SLOW_SHARE, draw)
        return open_loop(port, OPEN_LINES, arrivals, draw)

    def figures(seen: Seen) -> dict[str, float]:
        return {"mean ms": statistics.fmean(seen.all_ms), "p90 ms": percentile(seen.all_ms, 90)}

    return in_rounds(bench, name, load, figures)


def in_rounds(
    bench: Bench,
    name: str,
    load: Callable[[int, random.Random], Seen],
    figures: Callable[[Seen], dict[str, float]],
) -> Row:
    """All rounds as if they were one. Each has fresh connections, because which workers these fall on is luck with most
    servers; chance is the same for all of them."""
    seen = Seen()
    with bench.serving(name, Shape(workers=WORKERS)) as process:
        for number in range(bench.rounds):
            seen.add(load(process.port, random.Random(number)))
    if not seen.fast_ms:
        return Row(fails=seen.failures[0] if seen.failures else "no answer")
    counts = {"fast": float(len(seen.fast_ms)), "slow": float(len(seen.slow_ms))}
    return Row({**figures(seen), **counts}, seen.failures)


def percentile(values: list[float], percent: float) -> float:
    """The nearest rank: a value that occurred."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]
