"""The clients of a soak, good and bad, each a thread with blocking calls: here it is not speed that is looked for.

What they ask for is in bench/apps/work.py, and they know every right answer.
"""

from __future__ import annotations

import hashlib
import random
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from harness.client import Answer, Wrong
from harness.environment import APPS
from harness.ledger import Ended, Ledger
from harness.wire import RECV_BYTES, ResponseReader, expect, get

sys.path.append(str(APPS))
from work import content  # noqa: E402  The bytes that the app answers with.

SECONDS_MAX = 30.0
"""For any one call of a socket. No request of a soak takes a tenth of that when the server does what it should."""
KIB_BITS, EIGHT_MIB_BITS = 10, 23

SMALL_BUFFER_BYTES = 65_536
SLOW_READ_BYTES, SLOW_READ_SECONDS = 32_768, 0.03
SLOW_SEND_SECONDS = 0.02


class Session:
    """One connection of one client."""

    def __init__(self, port: int, has_small_buffer: bool = False) -> None:
        self.socket = socket.socket()
        if has_small_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        self.socket.settimeout(SECONDS_MAX)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = ResponseReader()
        self.is_over = False
        """The server said so in its last answer, or the client has left."""

    def send(self, data: bytes) -> None:
        """Raises Ended, or Wrong when the server takes nothing for SECONDS_MAX."""
        try:
            self.socket.sendall(data)
        except socket.timeout as error:
            raise Wrong(f"took nothing for {SECONDS_MAX:.0f} s") from error
        except OSError as error:
            raise Ended(f"while sending: {error}") from error

    def answer(self, pace: Callable[[], int] = lambda: RECV_BYTES) -> Answer:
        """The next one. `pace` is called before each read, and says how much to read at most.

        Raises Ended, or Wrong.
        """
        while (answer := self._reader.next_answer()) is None:
            try:
                more = self.socket.recv(pace())
            except socket.timeout as error:
                raise Wrong(f"sent nothing for {SECONDS_MAX:.0f} s") from error
            except OSError as error:
                raise Ended(f"while reading: {error}") from error
            if not more:
                raise Ended("before a response" if self._reader.is_between_responses else "within a response")
            self._reader.feed(more)
        self.is_over = answer.is_last
        return answer

    def has_ended(self) -> bool:
        """Whether an idle connection was closed by the server, or something came that nobody asked for."""
        return bool(select.select([self.socket], [], [], 0)[0])

    def close(self) -> None:
        self.socket.close()


@dataclass(frozen=True)
class Client:
    """One kind of client."""

    name: str
    threads: int
    exchange: Callable[[Session, random.Random, Ledger], None]
    """One turn. Raises Ended, or Wrong for an answer that is not right."""
    pause_seconds: float = 0.05
    """Longest one between two turns."""
    has_small_buffer: bool = False


def run(client: Client, port: int, ledger: Ledger, stop: threading.Event, draw: random.Random) -> None:
    """Turn after turn until `stop`; every turn goes into the ledger."""
    session = None
    while not stop.is_set():
        try:
            if session is None:
                session = Session(port, client.has_small_buffer)
            elif session.has_ended():
                raise Ended("while idle")
            client.exchange(session, draw, ledger)
            ledger.record_right(client.name)
        except Ended as error:
            ledger.record_end(client.name, error)
            session = leave(session)
        except (Wrong, OSError) as error:
            ledger.record_failure(client.name, str(error) or type(error).__name__)
            session = leave(session)
        if session is not None and session.is_over:
            session = leave(session)
        stop.wait(draw.uniform(0, client.pause_seconds))
    leave(session)


def leave(session: Session | None) -> None:
    if session is not None:
        session.close()


def fast(session: Session, draw: random.Random, ledger: Ledger) -> None:
    word = f"{draw.random():.9f}"
    session.send(get(f"/say/{word}"))
    expect(session.answer(), word.encode())
    # Now and then a new connection.
    session.is_over |= draw.random() < 0.02


def slow(session: Session, draw: random.Random, ledger: Ledger) -> None:
    milliseconds = str(draw.randint(50, 500))
    session.send(get(f"/sleep/{milliseconds}"))
    expect(session.answer(), milliseconds.encode())


def upload(session: Session, draw: random.Random, ledger: Ledger) -> None:
    body = some_content(draw)
    if draw.random() < 0.5:
        session.send(b"POST /digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
        session.send(body)
    else:
        session.send(b"POST /digest HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for chunk in cut(body, draw):
            session.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        session.send(b"0\r\n\r\n")
    expect(session.answer(), hashlib.sha256(body).hexdigest().encode())


def download(session: Session, draw: random.Random, ledger: Ledger) -> None:
    path, body = some_download(draw, EIGHT_MIB_BITS)
    session.send(get(path))
    expect(session.answer(), body)


def slow_reader(session: Session, draw: random.Random, ledger: Ledger) -> None:
    def pace() -> int:
        # What the kernel still holds for a connection whose worker was killed is read at once, so that its end is seen
        # in time to be told from an end without a cause.
        if not ledger.has_just_killed():
            time.sleep(SLOW_READ_SECONDS)
        return SLOW_READ_BYTES

    path, body = some_download(draw, bits_max=21)
    session.send(get(path))
    expect(session.answer(pace), body)


def slow_sender(session: Session, draw: random.Random, ledger: Ledger) -> None:
    body = content(draw.randint(20, 2000), draw.random())
    head = b"POST /digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    pieces = [head[start : start + 3] for start in range(0, len(head), 3)]
    for piece in [*pieces, *cut(body, draw)]:
        session.send(piece)
        time.sleep(SLOW_SEND_SECONDS)
        # Sending goes on into a closed connection for a while.
        if session.has_ended():
            break
    expect(session.answer(), hashlib.sha256(body).hexdigest().encode())


def pipeline(session: Session, draw: random.Random, ledger: Ledger) -> None:
    words = [f"{draw.random():.9f}" for _ in range(draw.randint(2, 16))]
    session.send(b"".join(get(f"/say/{word}") for word in words))
    for word in words:
        expect(session.answer(), word.encode())


def quit_early(session: Session, draw: random.Random, ledger: Ledger) -> None:
    """Leaves in the middle of a head, a body, a call or a response; with a reset in half of the cases. There is no
    answer to be checked: what it may break is everybody else's."""
    path, _ = some_download(draw, EIGHT_MIB_BITS)
    upload_head = b"POST /digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    where = draw.choice(["head", "body", "call", "response"])
    if where == "head":
        request = get(path)
        session.send(request[: draw.randrange(1, len(request))])
    elif where == "body":
        session.send(upload_head + bytes(draw.randrange(100_000)))
    elif where == "call":
        session.send(get(f"/sleep/{draw.randint(1, 300)}"))
    else:
        session.send(get(path))
        try:
            session.socket.recv(draw.randint(1, RECV_BYTES))
        except OSError as error:
            raise Ended(f"while reading: {error}") from error
    if draw.random() < 0.5:
        session.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    session.is_over = True


CLIENTS = [
    Client("fast", 6, fast, pause_seconds=0.02),
    Client("slow", 3, slow),
    Client("upload", 2, upload, pause_seconds=0.2),
    Client("download", 2, download, pause_seconds=0.2),
    Client("slow reader", 3, slow_reader, has_small_buffer=True),
    Client("slow sender", 3, slow_sender),
    Client("pipeline", 2, pipeline),
    Client("quit early", 2, quit_early, pause_seconds=0.1),
]


def some_content(draw: random.Random) -> bytes:
    """1 KiB to 8 MiB, each doubling as likely as any other."""
    return content(round(2 ** draw.uniform(KIB_BITS, EIGHT_MIB_BITS)), draw.random())


def some_download(draw: random.Random, bits_max: int) -> tuple[str, bytes]:
    """A path, and the body that it has to be answered with."""
    length, seed = round(2 ** draw.uniform(KIB_BITS, bits_max)), draw.random()
    return f"/{draw.choice(['block', 'pieces'])}/{length}/{seed}", content(length, seed)


def cut(body: bytes, draw: random.Random) -> list[bytes]:
    """Into 1 to 20 pieces, none of them empty."""
    step = max(1, len(body) // draw.randint(1, 20))
    return [body[start : start + step] for start in range(0, len(body), step)]
