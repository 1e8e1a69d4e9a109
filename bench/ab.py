#!/usr/bin/env python3
"""Compares two builds of minicorn on chosen workloads: before and after a change of the hot path.

Both are up at the same time on the same core and take turns in the order A B B A, in many short rounds. Give the same
binary twice to see how far two equal things differ on this machine: a change within that distance is not a change.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from harness import environment, report, session
from harness.environment import Missing
from harness.measure import Cell, measure_workload
from harness.servers import minicorn
from harness.workloads import WORKLOADS


def main() -> int:
    options = parse_options()
    session.end_servers_on_term()
    try:
        for binary in (options.a, options.b):
            environment.require_binary(binary)
        workloads = session.pick(WORKLOADS, options.workloads, "workload")
        session.claim_machine()
        environment.prepare()
        plan = session.make_plan(options)
    except Missing as error:
        print(f"ab: {error}", file=sys.stderr)
        return 2
    session.warn_if_busy()
    servers = [minicorn(options.a.resolve(), "A"), minicorn(options.b.resolve(), "B")]
    print(f"A = {options.a}\nB = {options.b}\n{plan.rounds} rounds of {plan.seconds} s, CPU µs per request")
    table = [["workload", "A min", "A median", "B min", "B median", "B/A min", "B/A median", "remarks"]]
    for workload in workloads:
        session.say(workload.title)
        cells = measure_workload(servers, workload, plan)
        table.append([workload.name, *compare(cells["A"], cells["B"])])
    print(report.text_table(table))
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path, metavar="A", help="binary before")
    parser.add_argument("b", type=Path, metavar="B", help="binary after")
    parser.add_argument("--workloads", default="hello", metavar="X,Y", help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each (%(default)s)")
    parser.add_argument("--seconds", type=int, default=1, help="of load in each turn (%(default)s)")
    session.add_cores_option(parser)
    parser.set_defaults(starts=0)
    return parser.parse_args()


def compare(a: Cell, b: Cell) -> list[str]:
    """The columns of one workload."""
    remarks = "; ".join(f"{name}: {said}" for name, cell in (("A", a), ("B", b)) if (said := report.remarks(cell)))
    if a.fails or b.fails:
        return [report.NOT_MEASURED] * 6 + [remarks]
    # Turn by turn, so that a slow minute of the machine is in both halves of a ratio.
    pairs = [after.cpu_us / before.cpu_us for before, after in zip(a.rounds, b.rounds)]
    values = [a.cpu_us, a.cpu_us_median, b.cpu_us, b.cpu_us_median]
    ratios = [b.cpu_us / a.cpu_us, statistics.median(pairs)]
    return [*(f"{value:.2f}" for value in values), *(f"{ratio:.3f}" for ratio in ratios), remarks]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
