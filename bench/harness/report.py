"""Results as text: tables for the terminal, Markdown for the README, JSON for whatever comes later."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.measure import Cell, Footprint
from harness.targets import MIB, Results, Verdict
from harness.workloads import WORKLOADS, Workload

US = "minicorn"
NOT_MEASURED = "–"
# Titles of the columns that hold words.
WORDS = frozenset({"server", "remarks", "target", "outcome"})


@dataclass(frozen=True)
class Column:
    """A number of a cell or a footprint, shown with its ratio to minicorn's."""

    title: str
    value: Callable[[Any], float | None]
    digits: int


CELL_COLUMNS = [
    Column("CPU µs/request", lambda cell: cell.cpu_us, 2),
    Column("requests/s", lambda cell: cell.per_second, 0),
    Column("p50 ms", lambda cell: cell.p50_ms, 2),
    Column("p99 ms", lambda cell: cell.p99_ms, 2),
]
FOOTPRINT_COLUMNS = [
    Column("PSS MiB", lambda footprint: footprint.memory and footprint.memory.all_bytes / MIB, 1),
    Column("of it master", lambda footprint: footprint.memory and footprint.memory.master_bytes / MIB, 1),
    Column("first response ms", lambda footprint: footprint.first_response_ms, 0),
]


def workload_table(workload: Workload, cells: dict[str, Cell]) -> list[list[str]]:
    """Head and rows: one server each, every number followed by its ratio to minicorn's."""
    # wrk times a pipelined batch as if it were one request, and gets its percentiles wrong.
    columns = CELL_COLUMNS if workload.depth == 1 else CELL_COLUMNS[:2]
    return with_ratios(columns, cells)


def footprint_table(footprints: dict[str, Footprint]) -> list[list[str]]:
    return with_ratios(FOOTPRINT_COLUMNS, footprints)


def with_ratios(columns: list[Column], rows: dict[str, Cell] | dict[str, Footprint]) -> list[list[str]]:
    head = [word for column in columns for word in (column.title, "×")]
    ours = rows.get(US)
    table = [["server", *head, "remarks"]]
    for name, row in rows.items():
        shown = []
        for column in columns:
            value = None if row.fails else column.value(row)
            base = None if ours is None or ours.fails else column.value(ours)
            shown += [
                number(value, column.digits),
                number(value / base, 2) if value is not None and base else NOT_MEASURED,
            ]
        table.append([name + mark(row), *shown, remarks(row)])
    return table


def cpu_matrix(results: Results) -> list[list[str]]:
    """The short table: servers down, workloads across, CPU per request and the ratio to minicorn's."""
    workloads = [workload for workload in WORKLOADS if workload.name in results.cells]
    names = list(dict.fromkeys(name for workload in workloads for name in results.cells[workload.name]))
    table = [["server", *(workload.name for workload in workloads)]]
    for name in names:
        table.append([name, *(matrix_cell(results, workload.name, name) for workload in workloads)])
    return table


def matrix_cell(results: Results, workload: str, server: str) -> str:
    cell = results.cells[workload].get(server)
    if cell is None:
        return NOT_MEASURED
    if cell.fails:
        return "fails"
    ours = results.cells[workload].get(US)
    ratio = f" ({cell.cpu_us / ours.cpu_us:.2f})" if ours and not ours.fails else ""
    return f"{number(cell.cpu_us, 1 if cell.cpu_us < 100 else 0)}{ratio}{mark(cell)}"


def notes(results: Results) -> list[str]:
    """Why a cell fails or is marked, one line for each server and reason."""
    workloads_by_reason: dict[tuple[str, str], list[str]] = {}
    for workload, cells in results.cells.items():
        for name, cell in cells.items():
            for reason in [f"fails: {cell.fails}"] if cell.fails else cell.flaws:
                workloads_by_reason.setdefault((name, reason), []).append(workload)
    return [f"{name} ({', '.join(workloads)}) {reason}" for (name, reason), workloads in workloads_by_reason.items()]


def verdict_table(verdicts: list[Verdict]) -> list[list[str]]:
    return [["target", "limit", "measured", "outcome"], *([v.what, v.limit, v.measured, v.outcome] for v in verdicts)]


def markdown(results: Results, verdicts: list[Verdict], header: str) -> str:
    """What stands in the README."""
    hello = next(workload for workload in WORKLOADS if workload.name == "hello")
    parts = [header, "CPU µs per request (ratio to minicorn):", markdown_table(cpu_matrix(results))]
    if listed := notes(results):
        parts.append("\\* marked: " + "; ".join(listed) + ".")
    if hello.name in results.cells:
        parts += [f"{hello.title}:", markdown_table(workload_table(hello, results.cells[hello.name]))]
    if results.footprints:
        parts += ["Memory after load, and start:", markdown_table(footprint_table(results.footprints))]
    parts += ["Targets:", markdown_table(verdict_table(verdicts))]
    return "\n\n".join(parts) + "\n"


def as_json(results: Results, verdicts: list[Verdict], header: str) -> str:
    """Everything, round by round."""
    everything = {
        "header": header,
        "results": dataclasses.asdict(results),
        "targets": [dataclasses.asdict(verdict) for verdict in verdicts],
    }
    return json.dumps(everything, indent=1, default=sorted)


def text_table(table: list[list[str]]) -> str:
    """Columns padded: words to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]

    def line(row: list[str]) -> str:
        columns = zip(table[0], row, widths)
        padded = [text.ljust(width) if title in WORDS else text.rjust(width) for title, text, width in columns]
        return "  ".join(padded).rstrip()

    return "\n".join(line(row) for row in table)


def markdown_table(table: list[list[str]]) -> str:
    head, *rows = table
    aligned = ["---" if title in WORDS else "--:" for title in head]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, aligned, *rows])


def mark(row: Cell | Footprint) -> str:
    return " *" if row.flaws else ""


def remarks(row: Cell | Footprint) -> str:
    said = [f"fails: {row.fails}"] if row.fails else [row.remark, *row.flaws]
    return "; ".join(text for text in said if text)


def number(value: float | None, digits: int) -> str:
    return NOT_MEASURED if value is None else f"{value:,.{digits}f}"
