"""Does a response drain at its reader's speed while the only thread of the only worker is in another request?"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.client import Wrong
from harness.environment import APPS
from harness.fleet import Shape
from harness.holding import answer_of, closing
from harness.scenario import Bench, Row
from harness.wire import RECV_BYTES, Line, ResponseReader, expect, get

sys.path.append(str(APPS))
from work import content  # noqa: E402  The bytes that the app answers with.

BODY_BYTES = 50_000_000
BYTES_PER_SECOND = 25_000_000
CALL_SECONDS = 2.0
# Long enough for a steady speed, and early enough that most of the body is still to come.
CALL_AFTER_SECONDS = 0.5
STEADY_AFTER_SECONDS = 0.2
WINDOW_SECONDS = 0.1
# A thread that has to wait for a slow reader is let go only when nearly all has been read.
WAIT_SECONDS_MAX = 0.25
TRANSFER_SECONDS_MAX = 12.0
RECEIVE_BUFFER_BYTES = 262_144
RECV_BYTES_MIN = 65_536
BUDGET_BYTES_MAX = 1_000_000
SEED = "drain"


@dataclass
class Transfer:
    """What the reader got and when."""

    received: list[tuple[float, int]] = field(default_factory=list)
    """Monotonic time, and bytes so far."""
    failure: str = ""

    @property
    def total(self) -> int:
        return self.received[-1][1] if self.received else 0

    def bytes_at(self, when: float) -> int:
        """So far, at that time."""
        return max((total for at, total in self.received if at <= when), default=0)


def read_at_speed(port: int, path: str, expected: bytes, transfer: Transfer) -> None:
    """Asks, and takes the answer at BYTES_PER_SECOND: never more than a reader of that speed would have by now."""
    try:
        with connect_with_little_room(port) as connection:
            connection.sendall(get(path))
            reader = ResponseReader()
            for more in received_at_speed(connection):
                reader.feed(more)
                transfer.received.append((time.monotonic(), transfer.total + len(more)))
                if transfer.total >= len(expected) and (answer := reader.next_answer()):
                    expect(answer, expected)
                    return
            raise Wrong(f"the response ended or stood still after {transfer.total:,} of {len(expected):,} bytes")
    except (Wrong, OSError) as error:
        transfer.failure = str(error)


def connect_with_little_room(port: int) -> socket.socket:
    """A large receive buffer would hold a tenth of the body, and drain on while the server stands still."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    connection.settimeout(TRANSFER_SECONDS_MAX)
    connection.connect(("127.0.0.1", port))
    return connection


def received_at_speed(connection: socket.socket) -> Iterator[bytes]:
    """What comes, at BYTES_PER_SECOND at most, until the end of the stream or of TRANSFER_SECONDS_MAX."""
    last = time.monotonic()
    deadline = last + TRANSFER_SECONDS_MAX
    budget = 0.0
    while (now := time.monotonic()) < deadline:
        # What did not come in time is not made up for later, but for a little: the scheduler's delays.
        budget = min(budget + (now - last) * BYTES_PER_SECOND, BUDGET_BYTES_MAX)
        last = now
        if budget < RECV_BYTES_MIN:
            time.sleep((RECV_BYTES_MIN - budget) / BYTES_PER_SECOND)
            continue
        more = connection.recv(int(budget))
        if not more:
            return
        budget -= len(more)
        yield more


def drain(bench: Bench, name: str, variant: str) -> Row:
    """`variant` is how the app makes the body: block or pieces."""
    body = content(BODY_BYTES, SEED)
    path = f"/{variant}/{BODY_BYTES}/{SEED}"
    with bench.serving(name, Shape()) as process:
        # Both connections are there before anything is busy, and the app has made the body before.
        warm = Transfer()
        read_fast(process.port, path, body)
        with closing(Line(process.port)) as other:
            answer_of(other, "/say/ready")
            reader = threading.Thread(target=read_at_speed, args=(process.port, path, body, warm))
            reader.start()
            time.sleep(CALL_AFTER_SECONDS)
            asked_at = time.monotonic()
            try:
                began, ended = map(float, answer_of(other, f"/call/{CALL_SECONDS}").split())
            finally:
                reader.join()
    return judged(warm, asked_at, began, ended)


def read_fast(port: int, path: str, expected: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=TRANSFER_SECONDS_MAX) as connection:
        connection.sendall(get(path))
        reader = ResponseReader()
        while (answer := reader.next_answer()) is None:
            more = connection.recv(RECV_BYTES)
            if not more:
                raise Wrong("the connection was closed")
            reader.feed(more)
        expect(answer, expected)


def judged(transfer: Transfer, asked_at: float, began: float, ended: float) -> Row:
    """Speed during the call against the speed before it, and how long the call had to wait for the transfer."""
    if not transfer.received:
        return Row(fails=transfer.failure or "nothing came")
    failures = [transfer.failure] if transfer.failure else []
    first_at = transfer.received[0][0]
    steady_from = min(first_at + STEADY_AFTER_SECONDS, asked_at - WINDOW_SECONDS)
    before = (transfer.bytes_at(asked_at) - transfer.bytes_at(steady_from)) / (asked_at - steady_from)
    waited = {"call waited ms": (began - asked_at) * 1000}
    left = BODY_BYTES - transfer.bytes_at(began)
    if left <= 0 or before <= 0 or began - asked_at > WAIT_SECONDS_MAX:
        # That is the other way to fail, and leaves next to nothing to be drained during the call.
        return Row({"during/before": 0.0, **waited}, failures, ["the reader held the thread: the call was let in late"])
    # When a reader that goes on at its speed would be through, or the call over.
    until = min(ended, began + left / before)
    during = (transfer.bytes_at(until) - transfer.bytes_at(began)) / (until - began)
    per_window = WINDOW_SECONDS / 1e6
    speeds = {"MB/100 ms before": before * per_window, "during": during * per_window}
    return Row({"during/before": during / before, **speeds, **waited}, failures)


def drain_block(bench: Bench, name: str) -> Row:
    return drain(bench, name, "block")


def drain_pieces(bench: Bench, name: str) -> Row:
    return drain(bench, name, "pieces")
