#!/usr/bin/env python3
"""What it costs to be watched: requests per second of one worker without --admin-bind, with it, and with it while /metrics
is scraped many times a second. Master and worker share one core, so that what the master does is taken from the worker.
Two bars are held against it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness import environment, report, session
from harness.client import Wrong
from harness.environment import MINICORN, RESULTS, Missing
from harness.fleet import wait_until_settled
from harness.load import LoadFailed, run_wrk
from harness.measure import SETTLE_SECONDS, wait_for_connection
from harness.processes import ServerProcess, free_port
from harness.session import say

CONNECTIONS = 64
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
SCRAPES_PER_SECOND = 50
# A scraper that came to less of them says nothing about so many.
SCRAPES_SHARE_MIN = 0.9

UNWATCHED, WATCHED, SCRAPED = "without --admin-bind", "with it", f"with it, {SCRAPES_PER_SECOND} scrapes/s"
# Of the requests per second of another row, turn by turn.
BARS = {(SCRAPED, WATCHED): 0.98, (WATCHED, UNWATCHED): 0.98}


@dataclass
class Row:
    """What one of the three has done, turn by turn."""

    per_second: list[float] = field(default_factory=list)
    scrapes_per_second: list[float] = field(default_factory=list)
    scrape_ms: list[float] = field(default_factory=list)
    """The median of each turn."""
    failures: list[str] = field(default_factory=list)


class Scraper(threading.Thread):
    """Asks for the metrics at a steady pace until it is told to stop; late ones are not made up for."""

    def __init__(self, port: int, pace: float = SCRAPES_PER_SECOND) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.interval = 1 / pace
        self.times: list[float] = []
        self.failure = ""
        self._stop_asked = threading.Event()

    def run(self) -> None:
        try:
            while not self._stop_asked.is_set():
                started = time.monotonic()
                scrape(self.port)
                self.times.append(time.monotonic() - started)
                self._stop_asked.wait(max(0.0, started + self.interval - time.monotonic()))
        except (OSError, Wrong) as error:
            self.failure = f"a scrape failed: {error}"

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()


def scrape(port: int) -> bytes:
    """The metrics. Raises Wrong when they are not what a scraper wants."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise Wrong(f"answered {head[:40]!r}")
    if b"minicorn_requests_total" not in body or f"Content-Length: {len(body)}\r\n".encode() not in head + b"\r\n":
        raise Wrong("the metrics are not complete")
    return body


def main() -> int:
    options = parse_options()
    session.end_servers_on_term()
    try:
        environment.require_binary(options.binary)
        session.claim_machine()
        environment.prepare()
    except Missing as error:
        print(f"scrape: {error}", file=sys.stderr)
        return 2
    session.warn_if_busy()
    rows = measure(options)
    print(report.text_table(rows_table(rows)))
    print(f"\n{report.text_table(verdict_table(rows))}")
    results = {name: asdict(row) for name, row in rows.items()}
    (options.json or RESULTS / "scrape.json").write_text(json.dumps(results, indent=1))
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=MINICORN, help="minicorn (target/release/minicorn)")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each (%(default)s)")
    parser.add_argument("--seconds", type=int, default=2, help="of load in each turn (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything (default bench/results/scrape.json)")
    session.add_cores_option(parser)
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict[str, Row]:
    """The two servers are up all the time, and take turns forwards and backwards."""
    server_core, load_core = session.parse_cores(options.cores)
    # The scraper must not take from the server what the server is measured by.
    os.sched_setaffinity(0, {load_core})
    folder = RESULTS / "scrape"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = {name: Row() for name in (UNWATCHED, WATCHED, SCRAPED)}
    with ExitStack() as stack:
        admin_port = free_port()
        start = lambda name, more: stack.enter_context(  # noqa: E731
            started(options.binary.resolve(), more, server_core, folder / f"{name}.output")
        )
        plain = start("plain", [])
        watched = start("watched", ["--admin-bind", f"127.0.0.1:{admin_port}"])
        for process in (plain, watched):
            wait_for_connection(process)
            wait_until_settled(process, 1)
        turns = [(UNWATCHED, plain, None), (WATCHED, watched, None), (SCRAPED, watched, admin_port)]
        for number in range(options.rounds):
            say(f"round {number + 1} of {options.rounds}")
            for name, process, port in turns if number % 2 == 0 else reversed(turns):
                take_turn(rows[name], process, port, options.seconds, str(load_core), folder)
    return rows


def started(binary: Path, options: list[str], core: int, output: Path) -> ServerProcess:
    port = free_port()
    command = [str(binary), "--bind", f"127.0.0.1:{port}", "--access-logfile", "none", *options, "hello:app"]
    return ServerProcess(command, port, core, output)


def take_turn(row: Row, process: ServerProcess, admin_port: int | None, seconds: int, cores: str, folder: Path) -> None:
    time.sleep(SETTLE_SECONDS)
    scraper = Scraper(admin_port) if admin_port else None
    if scraper:
        scraper.start()
    try:
        load = run_wrk(process.port, REQUEST, CONNECTIONS, seconds, cores, folder / "request")
    except LoadFailed as error:
        row.failures.append(str(error))
        return
    finally:
        if scraper:
            scraper.stop()
    row.failures.extend(load.errors)
    row.per_second.append(load.per_second)
    if scraper:
        note_scrapes(row, scraper, load.seconds)


def note_scrapes(row: Row, scraper: Scraper, seconds: float) -> None:
    if scraper.failure:
        row.failures.append(scraper.failure)
    pace = len(scraper.times) / seconds
    if pace < SCRAPES_SHARE_MIN / scraper.interval:
        row.failures.append(f"only {pace:.0f} scrapes/s")
    if scraper.times:
        row.scrapes_per_second.append(pace)
        row.scrape_ms.append(statistics.median(scraper.times) * 1000)


def rows_table(rows: dict[str, Row]) -> list[list[str]]:
    table = [["minicorn", "requests/s", "scrapes/s", "ms/scrape", "remarks"]]
    for name, row in rows.items():
        figures = [(row.per_second, 0), (row.scrapes_per_second, 0), (row.scrape_ms, 2)]
        cells = [f"{statistics.median(values):,.{digits}f}" if values else "–" for values, digits in figures]
        table.append([name, *cells, "; ".join(dict.fromkeys(row.failures))])
    return table


def verdict_table(rows: dict[str, Row]) -> list[list[str]]:
    table = [["bar", "measured", "outcome"]]
    for (name, other), bar in BARS.items():
        ratio = ratio_of(rows[name], rows[other])
        measured = "–" if ratio is None else f"{ratio:.3f}"
        outcome = "not measured" if ratio is None else "ok" if ratio >= bar else "missed"
        table.append([f"{name} ≥ {bar} × {other}", measured, outcome])
    return table


def ratio_of(row: Row, other: Row) -> float | None:
    """Turn by turn, so that a slow minute of the machine is in both halves."""
    if row.failures or other.failures or not row.per_second:
        return None
    return statistics.median(own / its for own, its in zip(row.per_second, other.per_second))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
