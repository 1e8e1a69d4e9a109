"""What minicorn promises in numbers, and whether a run keeps it. A target that the run has no numbers for says so
instead of passing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.measure import Cell, Footprint

MIB = 1024 * 1024


@dataclass
class Results:
    """A whole run."""

    cells: dict[str, dict[str, Cell]]
    """By workload, then by server."""
    footprints: dict[str, Footprint]
    peers: frozenset[str]
    """The servers that minicorn is compared with as "the best peer"."""

    def sound_cpu_us(self, workload: str, server: str) -> float | None:
        """CPU per request; None when it was not measured, has no numbers, or numbers with a flaw."""
        cell = self.cells.get(workload, {}).get(server)
        return cell.cpu_us if cell and not cell.fails and not cell.flaws else None

    def has_run(self, workload: str, server: str) -> bool:
        return server in self.cells.get(workload, {})

    def best_peer(self, workload: str) -> tuple[str, ...]:
        """The one with the least CPU per request; none when no peer has sound numbers."""
        cpu_us = {name: self.sound_cpu_us(workload, name) for name in self.peers}
        sound = {name: cpu for name, cpu in cpu_us.items() if cpu is not None}
        return tuple(sorted(sound, key=lambda name: sound[name])[:1])


@dataclass(frozen=True)
class Target:
    """One line of the list: `measure` answers with the number to hold against the limit, and the name of the server it
    was compared with."""

    what: str
    limit: float
    unit: str
    measure: Callable[[Results], tuple[float | None, str]]


@dataclass(frozen=True)
class Verdict:
    """One target in one run."""

    what: str
    limit: str
    measured: str
    outcome: str
    """ok, miss, or not measured."""


def against(workload: str, *others: str) -> Callable[[Results], tuple[float | None, str]]:
    """CPU per request, as a ratio to the better of `others`, or to the best peer when none is named. One of `others`
    that fails is no competition; one that was left out of the run may have been, and leaves the target open."""

    def measure(results: Results) -> tuple[float | None, str]:
        ours = results.sound_cpu_us(workload, "minicorn")
        names = others or results.best_peer(workload)
        theirs = {name: cpu for name in names if (cpu := results.sound_cpu_us(workload, name))}
        if ours is None or not theirs or not all(results.has_run(workload, name) for name in names):
            return None, ""
        best = min(theirs, key=lambda name: theirs[name])
        return ours / theirs[best], best

    return measure


def memory_against_bjoern(results: Results) -> tuple[float | None, str]:
    ours, theirs = (results.footprints.get(name, Footprint()).memory for name in ("minicorn", "bjoern"))
    return (ours.all_bytes / theirs.all_bytes, "bjoern") if ours and theirs else (None, "")


def master_memory(results: Results) -> tuple[float | None, str]:
    memory = results.footprints.get("minicorn", Footprint()).memory
    return (memory.master_bytes / MIB, "") if memory else (None, "")


def first_response(results: Results) -> tuple[float | None, str]:
    return results.footprints.get("minicorn", Footprint()).first_response_ms, ""


TARGETS = [
    Target("hello: CPU against the floor", 1.18, "×", against("hello", "floor")),
    Target("hello: CPU against the better of bjoern and fastwsgi", 0.82, "×", against("hello", "bjoern", "fastwsgi")),
    Target("12 browser headers: CPU against the better of both", 0.75, "×", against("browser", "bjoern", "fastwsgi")),
    Target("access log on: CPU against bjoern, which logs nothing", 1.00, "×", against("log", "bjoern")),
    Target("JSON log, request ids, metrics: CPU against fastwsgi without", 1.10, "×", against("observed", "fastwsgi")),
    Target("16-deep pipelining: CPU against fastwsgi", 0.30, "×", against("pipeline", "fastwsgi")),
    Target("Connection: close: CPU against bjoern", 1.00, "×", against("close", "bjoern")),
    Target("Flask hello: CPU against bjoern", 0.92, "×", against("flask", "bjoern")),
    Target("Flask hello: CPU against gunicorn gthread", 0.40, "×", against("flask", "gunicorn-gthread")),
    Target("1 MiB response: CPU against the best peer", 1.00, "×", against("megabyte")),
    Target("generator: CPU against the best peer", 1.00, "×", against("generator")),
    Target("PSS, master and one worker, against bjoern's one process", 1.40, "×", memory_against_bjoern),
    Target("PSS, master alone", 3.0, "MiB", master_memory),
    Target("start to first response", 100.0, "ms", first_response),
]


def verdicts(results: Results) -> list[Verdict]:
    """Every target, in order."""
    return [judge(target, *target.measure(results)) for target in TARGETS]


def judge(target: Target, measured: float | None, compared_with: str) -> Verdict:
    limit = f"≤ {target.limit:.2f} {target.unit}"
    if measured is None:
        return Verdict(target.what, limit, "–", "not measured")
    # One digit more than the limit has, so that a narrow miss does not look like the limit.
    shown = f"{measured:.3f} {target.unit} {compared_with}".rstrip()
    return Verdict(target.what, limit, shown, "ok" if measured <= target.limit else "miss")
