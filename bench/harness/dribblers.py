"""Clients that never finish: each sends one byte of its request per second, half of them of a head, half of a body, and
starts again in the next second when it is turned away. A program of its own, so that its work is not done in the middle
of a measurement.

usage: dribblers.py PORT COUNT

Prints "ready" when all are connected, and dribbles until its stdin ends; then prints how often it was turned away.
"""

from __future__ import annotations

import collections
import heapq
import random
import select
import socket
import sys
import time

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
# For an app that reads all of it: one that answers at once would let its clients go.
BODY = b"POST /digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
CONNECT_SECONDS_MAX = 10.0
# Connecting between two short rests, so that a backlog is not overrun.
BATCH = 100
TICK_SECONDS = 0.01


class Dribbler:
    """One of them."""

    def __init__(self, port: int, start: bytes) -> None:
        self._port = port
        self._start = start
        self.refusals = 0
        self.socket: socket.socket | None = None
        """None from being turned away until its next byte is due."""
        self.connect()

    def connect(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self._port), timeout=CONNECT_SECONDS_MAX)
        self.socket.setblocking(False)
        # A head has to come byte by byte from its first one; in front of a body it comes at once.
        self._to_send = collections.deque(HEAD if self._start == HEAD else b"")
        if self._start == BODY:
            self.socket.send(BODY)

    def dribble(self) -> None:
        """The byte of this second. Raises OSError when the connection is gone, BlockingIOError when nobody reads it."""
        assert self.socket is not None, "connected"
        self.socket.send(bytes([self._to_send.popleft()]) if self._to_send else b"x")

    def leave(self) -> None:
        """Whatever came is a 408 or the end: no request of theirs is ever complete."""
        self.refusals += 1
        if self.socket is not None:
            self.socket.close()
        self.socket = None


class Crowd:
    """All of them, and when the next byte of each is due."""

    def __init__(self, port: int, count: int) -> None:
        self._epoll = select.epoll()
        self._epoll.register(sys.stdin, select.EPOLLIN | select.EPOLLHUP)
        self._by_fd: dict[int, Dribbler] = {}
        self._clients: list[Dribbler] = []
        self._due: list[tuple[float, int]] = []
        draw = random.Random(1)
        for number in range(count):
            self._clients.append(Dribbler(port, HEAD if number % 2 else BODY))
            self._watch(self._clients[-1])
            heapq.heappush(self._due, (time.monotonic() + draw.random(), number))
            if number % BATCH == 0:
                time.sleep(TICK_SECONDS)

    @property
    def refusals(self) -> int:
        return sum(client.refusals for client in self._clients)

    def run(self) -> None:
        """Until stdin ends."""
        while True:
            for fd, _ in self._epoll.poll(TICK_SECONDS):
                if fd == sys.stdin.fileno():
                    return
                # Closing takes it out of the epoll.
                self._by_fd.pop(fd).leave()
            now = time.monotonic()
            while self._due[0][0] <= now:
                at, number = heapq.heappop(self._due)
                self._take_turn(self._clients[number])
                heapq.heappush(self._due, (at + 1, number))

    def _take_turn(self, client: Dribbler) -> None:
        if client.socket is None:
            client.connect()
            self._watch(client)
        fd = client.socket.fileno()
        try:
            client.dribble()
        except BlockingIOError:
            pass  # The server leaves its bytes where they are.
        except OSError:
            del self._by_fd[fd]
            client.leave()

    def _watch(self, client: Dribbler) -> None:
        self._by_fd[client.socket.fileno()] = client
        self._epoll.register(client.socket, select.EPOLLIN | select.EPOLLRDHUP)


def main(port: int, count: int) -> None:
    crowd = Crowd(port, count)
    print("ready", flush=True)
    crowd.run()
    print(crowd.refusals, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
