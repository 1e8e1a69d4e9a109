"""What a scenario of the engine is: what runs, whom it compares, and the bar that minicorn is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.client import Wrong
from harness.fleet import Shape, running
from harness.processes import ServerProcess
from harness.servers import Server

US = "minicorn"


@dataclass(frozen=True)
class Bench:
    """One run of the program: who takes part, for how long, and where."""

    servers: dict[str, Server]
    seconds: int
    """Of load for each server in each scenario, in several turns where servers take turns."""
    server_core: int
    load_core: int
    folder: Path
    """For what servers print."""

    @property
    def rounds(self) -> int:
        return 5 if self.seconds >= 5 else 3

    @property
    def round_seconds(self) -> int:
        """wrk takes whole seconds."""
        return max(1, self.seconds // self.rounds)

    @property
    def both_cores(self) -> str:
        return f"{self.server_core},{self.load_core}"

    @contextmanager
    def serving(self, name: str, shape: Shape, cores: str | None = None) -> Iterator[ServerProcess]:
        """The server, up and settled, on `cores` or on both. Raises Wrong when it does not come up."""
        output = self.folder / f"{name}-{shape.workers}x{shape.threads}.output"
        with running(self.servers[name], shape, cores or self.both_cores, output) as process:
            yield process


@dataclass
class Row:
    """One server in one scenario."""

    figures: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    """Wrong or missing answers. A bar is never met with one of these."""
    notes: list[str] = field(default_factory=list)
    fails: str = ""
    """Why there are no figures."""


Rows = dict[str, Row]


@dataclass(frozen=True)
class Verdict:
    """minicorn against the bar."""

    measured: str
    outcome: str
    """ok, missed, or not measured."""


@dataclass(frozen=True)
class Scenario:
    """One thing that an engine can be good or bad at."""

    name: str
    title: str
    bar: str
    run: Callable[[Bench], Rows]
    judge: Callable[[Rows], Verdict]


def on_each_server(measure: Callable[[Bench, str], Row]) -> Callable[[Bench], Rows]:
    """Servers one after the other, each alone on the machine: for loads that leave the machine mostly idle."""

    def run(bench: Bench) -> Rows:
        rows: Rows = {}
        for name in bench.servers:
            try:
                rows[name] = measure(bench, name)
            except (Wrong, OSError) as error:
                rows[name] = Row(fails=str(error))
        return rows

    return run


def verdict(row: Row | None, measured: str, is_met: bool) -> Verdict:
    """Failures are part of the measured text and miss every bar."""
    if row is None:
        return Verdict("–", "not measured")
    if row.fails:
        return Verdict("fails", "missed")
    if row.failures:
        return Verdict(f"{measured}, {len(row.failures)} failures", "missed")
    return Verdict(measured, "ok" if is_met else "missed")


def at_most(figure: str, limit: float, digits: int = 2) -> Callable[[Rows], Verdict]:
    def judge(rows: Rows) -> Verdict:
        value = figure_of(rows, US, figure)
        return verdict(rows.get(US), f"{shown(value, digits)} {figure}", value is not None and value <= limit)

    return judge


def at_least(figure: str, limit: float, digits: int = 2) -> Callable[[Rows], Verdict]:
    def judge(rows: Rows) -> Verdict:
        value = figure_of(rows, US, figure)
        return verdict(rows.get(US), f"{shown(value, digits)} {figure}", value is not None and value >= limit)

    return judge


def at_least_times(figure: str, limit: float, *others: str) -> Callable[[Rows], Verdict]:
    """`limit` times as much as the best of `others`. One that was left out of the run may have been better, and leaves
    the bar open; one that fails is no competition."""

    def judge(rows: Rows) -> Verdict:
        theirs = [value for name in others if (value := figure_of(rows, name, figure))]
        if not theirs or not all(name in rows for name in others):
            return Verdict("–", "not measured")
        ours = figure_of(rows, US, figure)
        ratio = None if ours is None else ours / max(theirs)
        return verdict(rows.get(US), f"{shown(ratio, 3)} ×", ratio is not None and ratio >= limit)

    return judge


def figure_of(rows: Rows, name: str, figure: str) -> float | None:
    return rows[name].figures.get(figure) if name in rows else None


def shown(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
