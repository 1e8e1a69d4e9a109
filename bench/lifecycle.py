#!/usr/bin/env python3
"""Runs the long forms of the tests of tests/lifecycle.rs and tests/proxies.rs, one at a time, and prints their figures:
200 reloads, 100,000 requests to recycled workers, a minute of kills, 1,000 respawns. Exits with 0 when all of them
pass, else with 1. What each of them wrote is in bench/results/lifecycle. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

from harness import report
from harness.environment import RESULTS, ROOT, Missing
from harness.session import claim_machine, say

FOLDER = RESULTS / "lifecycle"
# More than the longest takes on a slow machine: its tests have deadlines of their own.
TEST_SECONDS_MAX = 1800
FIGURE = re.compile(r"figure: (?P<test>[^:]+): (?P<name>[^:]+): (?P<value>.+)$", re.MULTILINE)
PASSED = re.compile(r"^test result: ok\. 1 passed", re.MULTILINE)
# As the tests' own defaults, in the long form.
LONG = {
    "MINICORN_TEST_RELOADS": "200",
    "MINICORN_TEST_RECYCLED_REQUESTS": "100000",
    "MINICORN_TEST_KILL_SECONDS": "60",
    "MINICORN_TEST_RESPAWNS": "1000",
}
TESTS = [
    "lifecycle::reloads_under_load",
    "lifecycle::a_broken_deploy_changes_nothing",
    "lifecycle::recycled_workers_under_load",
    "lifecycle::killed_workers_under_load",
    "lifecycle::every_way_to_stop",
    "lifecycle::a_backlog_of_500_is_answered",
    "lifecycle::process_1_under_load",
    "lifecycle::the_master_does_not_grow_with_its_workers",
    "lifecycle::an_idle_master_sleeps",
    "proxies::reloads_behind_nginx_over_tcp",
    "proxies::reloads_behind_nginx_over_a_unix_socket",
    "proxies::one_server_after_the_other_behind_haproxy",
]


@dataclass
class Run:
    """One test that has ended."""

    test: str
    passed: bool
    seconds: float
    figures: list[tuple[str, str]]


def main() -> int:
    options = parse_options()
    tests = [test for test in TESTS if options.only is None or options.only in test]
    if not tests:
        print(f"lifecycle: no test has {options.only!r} in its name", file=sys.stderr)
        return 2
    try:
        claim_machine()
    except Missing as error:
        print(f"lifecycle: {error}", file=sys.stderr)
        return 2
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    runs = []
    for test in tests:
        runs.append(run(test, {} if options.short else LONG))
        say(f"{test}: {'ok' if runs[-1].passed else 'FAILED'}, {runs[-1].seconds:.0f} s")
    print(f"\n{report.text_table(table(runs))}")
    failed = [run.test for run in runs if not run.passed]
    for test in failed:
        print(f"FAILED: {test}, see {FOLDER / file_name(test)}")
    print("\nlifecycle: " + ("FAILED" if failed else "ok"))
    return 1 if failed else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="TEXT", help="the tests with this in their name")
    parser.add_argument("--short", action="store_true", help="as `make test` runs them")
    return parser.parse_args()


def run(test: str, variables: dict[str, str]) -> Run:
    """The test in a run of its own, so that nothing else takes the machine from it."""
    command = ["cargo", "test", "--quiet", "--locked", "--test", "integration"]
    command += ["--", test, "--exact", "--nocapture"]
    venv = ROOT / ".venv"
    surroundings = {"VIRTUAL_ENV": str(venv), "PYO3_PYTHON": str(venv / "bin" / "python")}
    start = time.monotonic()
    with open(FOLDER / file_name(test), "w+") as output:
        status = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **surroundings, **variables},
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=TEST_SECONDS_MAX,
        ).returncode
        output.seek(0)
        text = output.read()
    # A name that no test has would run none of them, and well.
    passed = status == 0 and PASSED.search(text) is not None
    return Run(test, passed, time.monotonic() - start, figures_of(text))


def file_name(test: str) -> str:
    return test.replace("::", "-") + ".output"


def figures_of(text: str) -> list[tuple[str, str]]:
    return [(found["name"].strip(), found["value"].strip()) for found in FIGURE.finditer(text)]


def table(runs: list[Run]) -> list[list[str]]:
    """A line for each figure; a test without one has a line all the same."""
    lines = [["target", "outcome", "figure", "value"]]
    for run in runs:
        target, outcome = run.test.split("::")[1].replace("_", " "), "ok" if run.passed else "FAILED"
        for name, value in run.figures or [("–", "–")]:
            lines.append([target, outcome, name, value])
            target = outcome = ""
    return lines


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
