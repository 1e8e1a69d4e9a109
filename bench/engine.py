#!/usr/bin/env python3
"""Measures what the worker engine promises: nobody waits behind a slow request or a slow client, connections are spread
and weigh little, and none of it is paid for by the plain request. Each scenario has a bar; minicorn and the peers run
in the same minutes. Standard library only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import time
from pathlib import Path

from harness import drain, environment, holding, latency, report, session, throughput
from harness.environment import MINICORN, RESULTS, Missing
from harness.fleet import allow_descriptors
from harness.scenario import (
    Bench,
    Row,
    Rows,
    Scenario,
    Verdict,
    at_least,
    at_least_times,
    at_most,
    on_each_server,
    shown,
)
from harness.servers import all_servers
from harness.session import say

SERVERS = ["minicorn", "gunicorn-gthread", "granian"]
# One end of 10,500 connections, here and in the server, and what else either has open.
DESCRIPTORS = 16_384

SCENARIOS = [
    Scenario(
        "slow-mix",
        "0.5 % of 200 ms among 1 ms, closed loop; 4 workers × 1 thread: the fast ones",
        "p99 ≤ 5 ms",
        on_each_server(latency.slow_mix),
        at_most("p99 ms", 5.0),
    ),
    Scenario(
        "open-loop",
        "5 % of 200 ms among 1 ms, one third of the capacity, open loop; 4 workers × 1 thread: all",
        "mean ≤ 16 ms",
        on_each_server(latency.open_mix),
        at_most("mean ms", 16.0),
    ),
    Scenario(
        "spread",
        "64 connections opened at once, 4 workers: connections of one worker, worst of 5 bursts",
        "12 to 20",
        on_each_server(holding.spread),
        holding.judge_spread,
    ),
    Scenario(
        "cpu-two",
        "50 µs of CPU, 16 connections, 2 workers × 1 thread",
        "requests/s ≥ 1.10 × granian",
        throughput.cpu_two,
        at_least_times("requests/s", 1.10, "granian"),
    ),
    Scenario(
        "dribble",
        "4 clients at full speed, alone and beside 2,000 that never finish; 1 worker × 1 thread",
        "requests/s ≥ 0.90 × alone",
        on_each_server(throughput.dribble),
        at_least("ratio", 0.90, 3),
    ),
    Scenario(
        "idle",
        "10,000 idle keep-alive connections on 1 worker: growth of its private memory",
        "≤ 2 KiB/connection",
        on_each_server(holding.idle),
        at_most("KiB/connection", 2.0),
    ),
    Scenario(
        "slow-reader",
        "50 MB in one bytes object at 25 MB/s, while the only thread is in a call of 2 s",
        "≥ 0.95 × the speed before",
        on_each_server(drain.drain_block),
        at_least("during/before", 0.95, 3),
    ),
    Scenario(
        "slow-reader-pieces",
        "the same from a generator of 64 KiB pieces",
        "≥ 0.95 × the speed before",
        on_each_server(drain.drain_pieces),
        at_least("during/before", 0.95, 3),
    ),
    Scenario(
        "blocking",
        "5 ms asleep, 64 connections, 1 worker × 16 threads",
        "requests/s ≥ 1.00 × the better peer",
        throughput.blocking,
        at_least_times("requests/s", 1.00, "gunicorn-gthread", "granian"),
    ),
    Scenario(
        "threads-cpu",
        "200 µs of CPU, 16 connections, 1 worker × 8 threads",
        "requests/s ≥ 0.90 × 1 thread",
        throughput.threads_cpu,
        at_least_times("requests/s", 0.90, throughput.ONE_THREAD),
    ),
    Scenario(
        "hello-one",
        "hello, 1 connection: CPU against a C responder",
        "≤ 1.10 × floor",
        throughput.hello_one,
        at_most("× floor", 1.10, 3),
    ),
    Scenario(
        "hello-64",
        "hello, 64 connections: CPU against a C responder",
        "≤ 1.15 × floor",
        throughput.hello_64,
        at_most("× floor", 1.15, 3),
    ),
]


def main() -> int:
    options = parse_options()
    session.end_servers_on_term()
    try:
        scenarios = session.pick(SCENARIOS, options.scenarios, "scenario")
        bench = make_bench(options)
        if "minicorn" in bench.servers:
            environment.require_binary(options.binary)
        allow_descriptors(DESCRIPTORS)
        session.claim_machine()
        environment.prepare()
    except Missing as error:
        print(f"engine: {error}", file=sys.stderr)
        return 2
    session.warn_if_busy()
    measure(scenarios, bench, options.json)
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(scenario.name for scenario in SCENARIOS)
    parser.add_argument("--scenarios", metavar="A,B", help=f"only these: {names}")
    parser.add_argument("--servers", metavar="X,Y", default=",".join(SERVERS), help="(%(default)s)")
    parser.add_argument("--binary", type=Path, default=MINICORN, help="minicorn (target/release/minicorn)")
    parser.add_argument("--seconds", type=int, default=20, help="of load, per server and scenario (%(default)s)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write everything (default bench/results/engine.json)"
    )
    session.add_cores_option(parser)
    options = parser.parse_args()
    if options.seconds < 1:
        parser.error("--seconds is at least 1")
    return options


def make_bench(options: argparse.Namespace) -> Bench:
    known = [server for server in all_servers(options.binary.resolve()) if server.name in SERVERS]
    servers = {server.name: server for server in session.pick(known, options.servers, "server")}
    server_core, load_core = session.parse_cores(options.cores)
    folder = RESULTS / "engine"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Bench(servers, options.seconds, server_core, load_core, folder)


def measure(scenarios: list[Scenario], bench: Bench, json_file: Path | None) -> None:
    """Runs everything, prints each table as soon as it is complete, and writes what there is after each of them."""
    results: dict[str, Rows] = {}
    verdicts: dict[str, Verdict] = {}
    started = time.monotonic()
    for scenario in scenarios:
        say(f"[{time.monotonic() - started:4.0f} s] {scenario.name}")
        rows = results[scenario.name] = scenario.run(bench)
        verdicts[scenario.name] = scenario.judge(rows)
        print(f"\n{scenario.name}: {scenario.title}\n{report.text_table(rows_table(rows))}", flush=True)
        (json_file or RESULTS / "engine.json").write_text(as_json(bench, results, verdicts))
    say(f"[{time.monotonic() - started:4.0f} s] done")
    print(f"\n{report.text_table(verdict_table(scenarios, verdicts))}")


def rows_table(rows: Rows) -> list[list[str]]:
    """Head and lines: one server each."""
    columns = list(dict.fromkeys(figure for row in rows.values() for figure in row.figures))
    table = [["server", *columns, "remarks"]]
    for name, row in rows.items():
        values = [row.figures.get(column) for column in columns]
        table.append([name, *(shown(value, digits(value)) for value in values), remarks(row)])
    return table


def digits(value: float | None) -> int:
    """Three significant ones or more."""
    size = abs(value or 0)
    return 0 if size >= 100 or size == int(size) else 1 if size >= 10 else 3


def remarks(row: Row) -> str:
    said = [f"fails: {row.fails}"] if row.fails else list(dict.fromkeys(row.notes))[:3]
    if row.failures:
        kinds = "; ".join(f"{row.failures.count(kind)} × {kind}" for kind in list(dict.fromkeys(row.failures))[:3])
        said.append(f"FAILURES: {kinds}")
    return "; ".join(said)


def verdict_table(scenarios: list[Scenario], verdicts: dict[str, Verdict]) -> list[list[str]]:
    table = [["target", "bar", "minicorn", "outcome"]]
    for scenario in scenarios:
        judged = verdicts[scenario.name]
        table.append([scenario.name, scenario.bar, judged.measured, judged.outcome])
    return table


def as_json(bench: Bench, results: dict[str, Rows], verdicts: dict[str, Verdict]) -> str:
    everything = {
        "seconds": bench.seconds,
        "results": {name: as_dicts(rows) for name, rows in results.items()},
        "verdicts": as_dicts(verdicts),
    }
    return json.dumps(everything, indent=1)


def as_dicts(by_name: Rows | dict[str, Verdict]) -> dict[str, dict]:
    return {name: dataclasses.asdict(value) for name, value in by_name.items()}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
