"""One keep-alive connection of a load client, and the responses that come in on it. Where `client` checks a server once
and at leisure, this one is fed by an event loop and may be asked thousands of times a second."""

from __future__ import annotations

import socket

from harness.client import Answer, Wrong, parse_head

RECV_BYTES = 262_144
CONNECT_SECONDS_MAX = 10.0


class ResponseReader:
    """Bytes in, answers out, however the bytes are cut."""

    def __init__(self) -> None:
        self._input = bytearray()
        self._fields: dict[str, str] | None = None
        """Of the response whose body is being read; None between two responses."""
        self._status = 0
        self._is_last = False
        self._chunks = bytearray()

    @property
    def is_between_responses(self) -> bool:
        return self._fields is None and not self._input

    def feed(self, more: bytes) -> None:
        self._input += more

    def next_answer(self) -> Answer | None:
        """The next complete response, or None when more bytes are needed.

        Raises Wrong when what came is no response.
        """
        if self._fields is None and not self._take_head():
            return None
        body = self._take_body()
        if body is None:
            return None
        self._fields = None
        return Answer(self._status, body, self._is_last)

    def _take_head(self) -> bool:
        while True:
            end = self._input.find(b"\r\n\r\n")
            if end < 0:
                return False
            self._status, version, self._fields = parse_head(bytes(self._input[:end]))
            del self._input[: end + 4]
            if self._status >= 200:
                break
            self._fields = None  # 100 Continue: the answer is still to come.
        connection = self._fields.get("connection", "").lower()
        self._is_last = connection == "close" or (version == "HTTP/1.0" and connection != "keep-alive")
        return True

    def _take_body(self) -> bytes | None:
        assert self._fields is not None, "a head came first"
        if self._fields.get("transfer-encoding", "").lower() == "chunked":
            return self._take_chunks()
        length = self._fields.get("content-length", "")
        if not length.isdigit():
            raise Wrong("a response without a length, which a keep-alive client cannot read")
        return self._take(int(length))

    def _take_chunks(self) -> bytes | None:
        while (end := self._input.find(b"\r\n")) >= 0:
            try:
                size = int(bytes(self._input[:end]), 16)
            except ValueError as error:
                raise Wrong(f"a chunk size {bytes(self._input[:20])!r}") from error
            if len(self._input) < end + 2 + size + 2:
                return None
            self._chunks += self._input[end + 2 : end + 2 + size]
            del self._input[: end + 2 + size + 2]
            if size == 0:
                body, self._chunks = bytes(self._chunks), bytearray()
                return body
        return None

    def _take(self, count: int) -> bytes | None:
        if len(self._input) < count:
            return None
        taken = bytes(self._input[:count])
        del self._input[:count]
        return taken


class Line:
    """A connection that never blocks once it is open, with one request on it at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.expected: bytes | None = None
        """The body that the request under way has to be answered with; None when there is none under way."""
        self.sent_at = 0.0
        self._open()

    def _open(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self._port), timeout=CONNECT_SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._reader = ResponseReader()
        self.expected = None

    def fileno(self) -> int:
        return self.socket.fileno()

    def ask(self, path: str, expected: bytes, now: float) -> None:
        """Sends a request. It is far smaller than a socket buffer, so one send takes it whole.

        Raises OSError when the connection is gone.
        """
        self.expected, self.sent_at = expected, now
        self.socket.send(get(path))

    def receive(self) -> Answer | None:
        """Reads once; the answer when that completed it, checked.

        Raises Wrong when it is not the expected one or the connection ended, OSError when it was reset.
        """
        more = self.socket.recv(RECV_BYTES)
        if not more:
            raise Wrong("the connection was closed")
        self._reader.feed(more)
        answer = self._reader.next_answer()
        if answer is None:
            return None
        if self.expected is None:
            raise Wrong("an answer to nothing")
        expected, self.expected = self.expected, None
        expect(answer, expected)
        if answer.is_last:
            self.reopen()
        return answer

    def reopen(self) -> None:
        self.close()
        self._open()

    def close(self) -> None:
        self.socket.close()


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def expect(answer: Answer, body: bytes) -> None:
    """Raises Wrong unless it is a 200 with this body."""
    if answer.status != 200:
        raise Wrong(f"status {answer.status}")
    if answer.body != body:
        raise Wrong(f"a body of {len(answer.body)} bytes, {answer.body[:20]!r}, instead of the right {len(body)}")
