"""What the two command lines have in common: choosing, pinning, warning, and ending so that no server is left."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import sys

from harness.environment import RESULTS, Missing
from harness.measure import Plan

# In the abstract namespace: no file is left behind, and none has to be writable.
CLAIM = "\0minicorn-bench"


def end_servers_on_term() -> None:
    """TERM, like ctrl-C, then leaves through the context managers that end the servers."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def pick(known: list, wanted: str | None, kind: str) -> list:
    """Those of `known` that are named in `wanted`, in the order of the tables; all without a wish."""
    names = [item.name for item in known]
    chosen = names if wanted is None else wanted.split(",")
    if unknown := [name for name in chosen if name not in names]:
        raise Missing(f"no {kind} is called {unknown[0]!r}; there are {', '.join(names)}")
    return [item for item in known if item.name in chosen]


def add_cores_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cores", default="0,1", metavar="S,L", help="for the servers and for the load (%(default)s)")


def claim_machine() -> None:
    """Refuses to measure beside another run, of this or another checkout: each would measure the other."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(CLAIM)
    except OSError as error:
        raise Missing("another benchmark is running on this machine") from error
    # Open, and with it the name taken, until this program ends; the servers do not inherit it.
    claim.detach()


def make_plan(options: argparse.Namespace) -> Plan:
    """Empties the folder of the last run, and pins this program to the load's core: what it does between the turns must
    not disturb the server's."""
    server_core, load_core = parse_cores(options.cores)
    folder = RESULTS / "logs"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.sched_setaffinity(0, {load_core})
    return Plan(options.rounds, options.seconds, options.starts, server_core, load_core, folder)


def parse_cores(text: str) -> tuple[int, int]:
    usable = os.sched_getaffinity(0)
    server, _, load = text.partition(",")
    if not (server.isdigit() and load.isdigit() and server != load and {int(server), int(load)} <= usable):
        raise Missing(f"--cores takes two different cores of {sorted(usable)}, not {text!r}")
    return int(server), int(load)


def warn_if_busy() -> None:
    if (load := os.getloadavg()[0]) > 0.5:
        say(f"the machine is not idle (load {load:.1f}): trust the ratios more than the numbers")


def say(text: str) -> None:
    """Progress, apart from the results on stdout."""
    print(text, file=sys.stderr, flush=True)
