#!/usr/bin/env python3
"""Measures minicorn beside its peers: CPU time per request, requests per second, latency, memory, first response.

Each server runs on one core with one worker process, wrk with one thread on another. Servers take turns, round by
round. Answers are checked byte by byte before they are counted; a server that cannot do a workload fails it, and one
whose numbers stand for less is marked. Results are printed, and kept under bench/results. Standard library only.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import time
from pathlib import Path

from harness import environment, plot, report, session
from harness.environment import BENCH, MINICORN, RESULTS, Missing
from harness.measure import Plan, measure_footprints, measure_workload
from harness.servers import Server, all_servers
from harness.session import say
from harness.targets import Results, verdicts
from harness.workloads import WORKLOADS, Workload

# Those that the targets name, and granian as the best known of the others.
QUICK_SERVERS = ["floor", "minicorn", "bjoern", "fastwsgi", "granian", "gunicorn-gthread"]


def main() -> int:
    options = parse_options()
    session.end_servers_on_term()
    try:
        servers = session.pick(all_servers(MINICORN), options.servers, "server")
        workloads = session.pick(WORKLOADS, options.workloads, "workload")
        if any(server.name == "minicorn" for server in servers):
            environment.require_binary(MINICORN)
        session.claim_machine()
        environment.prepare()
        plan = session.make_plan(options)
    except Missing as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    session.warn_if_busy()
    header = describe(plan)
    print(header)
    results = measure(servers, workloads, plan)
    write(results, header, options)
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(server.name for server in all_servers(MINICORN))
    parser.add_argument("--servers", metavar="A,B", help=f"only these: {names}")
    parser.add_argument("--workloads", metavar="X,Y", help="only these: " + ", ".join(w.name for w in WORKLOADS))
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server on each workload (%(default)s)")
    parser.add_argument("--seconds", type=int, default=2, help="of load in each turn (%(default)s)")
    parser.add_argument("--starts", type=int, default=5, help="of each server, for its first response (%(default)s)")
    session.add_cores_option(parser)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 s, the servers of the targets: 3 minutes")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables for the README")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write every round (default bench/results/latest.json)"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="write the plot (default bench/plot.svg after a full run)"
    )
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.starts = 2, 1, 3
        options.servers = options.servers or ",".join(QUICK_SERVERS)
    if min(options.rounds, options.seconds, options.starts) < 1:
        parser.error("--rounds, --seconds and --starts are at least 1")
    return options


def describe(plan: Plan) -> str:
    machine = f"{cpu_model()}, Linux {platform.release()}, CPython {platform.python_version()}"
    when = datetime.date.today().isoformat()
    command = " ".join(["bench/bench.py", *sys.argv[1:]])
    turns = f"{plan.rounds} interleaved rounds of {plan.seconds} s"
    return f"{when}, `{command}`, {turns}; CPU: least of the rounds, the rest: median. {machine}."


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def measure(servers: list[Server], workloads: list[Workload], plan: Plan) -> Results:
    """Runs everything and prints each table as soon as it is complete."""
    results = Results({}, {}, frozenset(server.name for server in servers if server.peer))
    started = time.monotonic()
    for workload in workloads:
        say(f"[{time.monotonic() - started:4.0f} s] {workload.title}")
        taking_part = [server for server in servers if server.takes_part_in(workload.name)]
        cells = results.cells[workload.name] = measure_workload(taking_part, workload, plan)
        print(f"\n{workload.title}\n{report.text_table(report.workload_table(workload, cells))}", flush=True)
    say(f"[{time.monotonic() - started:4.0f} s] memory and start")
    results.footprints = measure_footprints(servers, plan)
    table = report.footprint_table(results.footprints)
    print(f"\nMemory after load, and start\n{report.text_table(table)}", flush=True)
    say(f"[{time.monotonic() - started:4.0f} s] done")
    return results


def write(results: Results, header: str, options: argparse.Namespace) -> None:
    judged = verdicts(results)
    print(f"\n{report.text_table(report.verdict_table(judged))}")
    json_file = options.json or RESULTS / "latest.json"
    json_file.write_text(report.as_json(results, judged, header))
    if options.markdown:
        options.markdown.write_text(report.markdown(results, judged, header))
    # A partial run must not replace the plot that stands in the README.
    is_full = not (options.quick or options.servers or options.workloads)
    plot_file = options.plot or (BENCH / "plot.svg" if is_full else None)
    if plot_file and (svg := plot.render(results)):
        plot_file.write_text(svg)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
