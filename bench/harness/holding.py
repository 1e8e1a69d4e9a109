"""Connections that are held open: which worker they live on, what they weigh, and whether one that is being answered
gets on while its worker is busy with another request."""

from __future__ import annotations

import selectors
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from harness.client import Wrong
from harness.fleet import Shape, private_bytes, rollup_bytes, workers_of
from harness.processes import ServerProcess
from harness.scenario import US, Bench, Row, Rows, Verdict, verdict
from harness.wire import Line, ResponseReader, get

SPREAD_LINES = 64
SPREAD_WORKERS = 4
SPREAD_ROUNDS = 5
SPREAD_FROM, SPREAD_TO = 12, 20

IDLE_LINES = 10_000
IDLE_CONNECTIONS_MAX = 20_000
# Connecting ones at a time: fewer than the shortest backlog.
IDLE_BATCH = 100
# Before the first look, so that buffers that serve every connection are there already.
IDLE_WARM_UP = 500
KIB = 1024

ANSWER_SECONDS_MAX = 10.0


def spread(bench: Bench, name: str) -> Row:
    """The worst of several bursts."""
    with bench.serving(name, Shape(workers=SPREAD_WORKERS)) as process:
        bursts = [burst(process) for _ in range(SPREAD_ROUNDS)]
    counts = [counts for counts, _ in bursts]
    notes = ["last burst " + "/".join(str(count) for count in counts[-1])]
    if moved := sum(moved for _, moved in bursts):
        notes.append(f"{moved} connections moved while nothing was busy")
    return Row({"min": float(min(map(min, counts))), "max": float(max(map(max, counts)))}, notes=notes)


def burst(process: ServerProcess) -> tuple[list[int], int]:
    """Connections on each worker, after all of them were opened and used at once; and how many of them did not stay
    where they were."""
    with ExitStack() as stack:
        lines = [stack.enter_context(closing(Line(process.port))) for _ in range(SPREAD_LINES)]
        ask_all(lines, "/pid")
        # Now that all is quiet, a connection lives where it is answered from.
        homes = [answer_of(line, "/pid") for line in lines]
        moved = sum(answer_of(line, "/pid") != home for line, home in zip(lines, homes))
    counts = Counter(homes)
    return sorted((counts[str(pid).encode()] for pid in workers_of(process)), reverse=True), moved


def judge_spread(rows: Rows) -> Verdict:
    row = rows.get(US)
    least, most = (row.figures.get("min", -1), row.figures.get("max", -1)) if row else (-1, -1)
    return verdict(row, f"{least:.0f} to {most:.0f}", least >= SPREAD_FROM and most <= SPREAD_TO)


def idle(bench: Bench, name: str) -> Row:
    with bench.serving(name, Shape(connections=IDLE_CONNECTIONS_MAX)) as process, ExitStack() as stack:

        def hold(count: int) -> list[Line]:
            lines = []
            for start in range(0, count, IDLE_BATCH):
                batch = [
                    stack.enter_context(closing(Line(process.port))) for _ in range(min(IDLE_BATCH, count - start))
                ]
                ask_all(batch, "/say/hello", b"hello")
                lines += batch
            return lines

        early = hold(IDLE_WARM_UP)
        private, shared = worker_memory(process)
        lines = hold(IDLE_LINES)
        private_after, shared_after = worker_memory(process)
        closed = sum(is_closed(line) for line in early + lines)
    growth = {
        "KiB/connection": (private_after - private) / IDLE_LINES / KIB,
        "PSS KiB/connection": (shared_after - shared) / IDLE_LINES / KIB,
        "before MiB": private / KIB / KIB,
    }
    return Row(growth, [f"{closed} idle connections were closed"] if closed else [])


def worker_memory(process: ServerProcess) -> tuple[int, int]:
    """Private dirty and proportional bytes of all workers."""
    pids = workers_of(process)
    return sum(map(private_bytes, pids)), sum(rollup_bytes(pid, "Pss") for pid in pids)


@contextmanager
def closing(line: Line) -> Iterator[Line]:
    try:
        yield line
    finally:
        line.close()


def ask_all(lines: list[Line], path: str, expected: bytes | None = None) -> list[bytes]:
    """One request on each at the same time; the bodies, in the order of `lines`.

    Raises Wrong when an answer is wrong or does not come.
    """
    with selectors.DefaultSelector() as selector:
        readers = {}
        for line in lines:
            line.socket.send(get(path))
            selector.register(line, selectors.EVENT_READ, line)
            readers[line] = ResponseReader()
        bodies: dict[Line, bytes] = {}
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while len(bodies) < len(lines):
            if time.monotonic() > deadline:
                raise Wrong(f"{len(bodies)} of {len(lines)} connections were answered in {ANSWER_SECONDS_MAX:.0f} s")
            for key, _ in selector.select(deadline - time.monotonic()):
                body = body_of(key.data, readers[key.data])
                if body is not None:
                    bodies[key.data] = body
                    selector.unregister(key.data)
    if expected is not None and set(bodies.values()) != {expected}:
        raise Wrong("a wrong body")
    return [bodies[line] for line in lines]


def answer_of(line: Line, path: str) -> bytes:
    return ask_all([line], path)[0]


def body_of(line: Line, reader: ResponseReader) -> bytes | None:
    more = line.socket.recv(65536)
    if not more:
        raise Wrong("the connection was closed")
    reader.feed(more)
    answer = reader.next_answer()
    if answer is None:
        return None
    if answer.status != 200:
        raise Wrong(f"status {answer.status}")
    if answer.is_last:
        raise Wrong("closes after each answer, so that there is nothing to hold")
    return answer.body


def is_closed(line: Line) -> bool:
    try:
        return line.socket.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
