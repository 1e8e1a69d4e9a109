"""A raw HTTP/1.1 client that believes nothing: is the answer to a workload right, before anybody counts it? It parses
answers itself, because a forgiving client library would hide what is being looked for."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

from harness.workloads import Workload

ANSWER_SECONDS_MAX = 3.0
RECV_BYTES = 65536


class Wrong(Exception):
    """An answer that is not what the workload asks for; the text says how."""


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    body: bytes
    is_last: bool
    """The server said that it closes after this one, or ended the body by closing."""


@dataclass(frozen=True)
class Verdict:
    """What a reader of a server's numbers has to know about its answers, which were right."""

    remark: str = ""
    """Another way to do the workload, as good as any."""
    flaw: str = ""
    """The numbers stand for less than the workload: they are marked, and nobody is measured against them."""


class Client:
    """One connection. Whatever is asked of it ends within ANSWER_SECONDS_MAX."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS_MAX)
        self._input = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def ask(self, request: bytes, depth: int = 1) -> list[Answer]:
        """Sends the bytes and reads `depth` answers, or fewer when the server closes in between."""
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        answers: list[Answer] = []
        try:
            self._socket.sendall(request)
            while len(answers) < depth and not (answers and answers[-1].is_last):
                answers.append(self._read_answer(deadline))
        except (OSError, Wrong) as error:
            raise Wrong(f"{len(answers)} of {depth} answers, then {error}") from error
        return answers

    def receive_until(self, request: bytes, wanted: bytes) -> bytes:
        """Sends the bytes and returns everything that has come by the time `wanted` has."""
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        self._socket.sendall(request)
        while wanted not in self._input:
            self._fill_or_fail(deadline)
        return self._input

    def is_closed_by_server(self) -> bool:
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        try:
            return not self._fill(deadline)
        except ConnectionResetError:
            return True
        except OSError:
            return False

    def _read_answer(self, deadline: float) -> Answer:
        status, version, fields = parse_head(self._read_until(b"\r\n\r\n", deadline))
        connection = fields.get("connection", "").lower()
        is_last = connection == "close" or (version == "HTTP/1.0" and connection != "keep-alive")
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return Answer(status, self._read_chunks(deadline), is_last)
        if "content-length" in fields:
            return Answer(status, self._read_exactly(int(fields["content-length"]), deadline), is_last)
        return Answer(status, self._read_to_end(deadline), True)

    def _read_chunks(self, deadline: float) -> bytes:
        body = []
        while size := int(self._read_until(b"\r\n", deadline), 16):
            body.append(self._read_exactly(size + 2, deadline)[:-2])
        self._read_exactly(2, deadline)
        return b"".join(body)

    def _read_until(self, end: bytes, deadline: float) -> bytes:
        while end not in self._input:
            self._fill_or_fail(deadline)
        taken, _, self._input = self._input.partition(end)
        return taken

    def _read_exactly(self, count: int, deadline: float) -> bytes:
        while len(self._input) < count:
            self._fill_or_fail(deadline)
        taken, self._input = self._input[:count], self._input[count:]
        return taken

    def _read_to_end(self, deadline: float) -> bytes:
        while self._fill(deadline):
            pass
        taken, self._input = self._input, b""
        return taken

    def _fill_or_fail(self, deadline: float) -> None:
        if not self._fill(deadline):
            raise Wrong("the connection was closed")

    def _fill(self, deadline: float) -> bool:
        """Receives more; False at the end of the stream."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("nothing more came")
        self._socket.settimeout(left)
        try:
            more = self._socket.recv(RECV_BYTES)
        except socket.timeout as error:
            raise TimeoutError("nothing more came") from error
        self._input += more
        return bool(more)


def parse_head(head: bytes) -> tuple[int, str, dict[str, str]]:
    """Status, version, and the fields with lower-case names."""
    status_line, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = status_line.partition(" ")
    if version not in ("HTTP/1.0", "HTTP/1.1") or not rest[:3].isdigit():
        raise Wrong(f"a status line {status_line[:60]!r}")
    pairs = (line.partition(":") for line in lines)
    return int(rest[:3]), version, {name.lower(): value.strip() for name, _, value in pairs}


SLOW = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"


def check(port: int, workload: Workload) -> Verdict:
    """Asks as the workload does and compares. Raises Wrong when the server cannot do the workload."""
    with Client(port) as client:
        persists = ask_and_compare(client, workload)
        if workload.client_closes:
            if not client.is_closed_by_server():
                raise Wrong("Connection: close is ignored")
            return Verdict()
        if workload.streams and holds_chunks_back(port):
            return Verdict(flaw="holds chunks back until the app has made more (PEP 3333 forbids it)")
        if not persists:
            return Verdict(remark="closes each connection")
        ask_and_compare(client, workload)
        # The first connection stays open beside it.
        if workload.connections > 1 and not is_served(port, workload):
            return Verdict(flaw="serves one keep-alive connection, the other 63 wait")
    return Verdict()


def ask_and_compare(client: Client, workload: Workload) -> bool:
    """True when the connection can be used again."""
    answers = client.ask(workload.request, workload.depth)
    for answer in answers:
        if answer.status != 200:
            raise Wrong(f"status {answer.status}")
        if answer.body != workload.body:
            raise Wrong(f"a body of {len(answer.body)} bytes instead of the right {len(workload.body)}")
    if len(answers) < workload.depth:
        raise Wrong(f"closed after {len(answers)} of {workload.depth} answers")
    return not answers[-1].is_last


def is_served(port: int, workload: Workload) -> bool:
    try:
        with Client(port) as client:
            ask_and_compare(client, workload)
    except Wrong:
        return False
    return True


def holds_chunks_back(port: int) -> bool:
    """Whether the first piece of a slow body comes only together with the second, which the app makes 0.2 s later."""
    with Client(port) as client:
        return b"second" in client.receive_until(SLOW, b"first")
