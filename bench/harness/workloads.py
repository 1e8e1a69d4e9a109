"""The workloads: which bytes a client sends, and which answer is the right one. Nothing is measured here."""

from __future__ import annotations

from dataclasses import dataclass

HELLO = b"Hello, World!"
PLAIN = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
CLOSING = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
# Twelve fields, as a browser behind a login sends them.
BROWSER = (
    b"GET / HTTP/1.1\r\n"
    b"Host: localhost\r\n"
    b"Connection: keep-alive\r\n"
    b"Cache-Control: max-age=0\r\n"
    b'sec-ch-ua: "Chromium";v="130", "Not?A_Brand";v="99"\r\n'
    b"sec-ch-ua-mobile: ?0\r\n"
    b"Upgrade-Insecure-Requests: 1\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    b"Chrome/130.0.0.0 Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Sec-Fetch-Site: same-origin\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
    b"Cookie: sessionid=8f14e45fceea167a5a36dedd4bea2543; csrftoken=c9f0f895fb98ab9159f51fd0297e236d; theme=dark\r\n"
    b"\r\n"
)
SIXTEEN_KIB = b"0123456789abcdef" * 1024
ECHO = (
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\nContent-Length: 16384\r\n\r\n"
    + SIXTEEN_KIB
)


@dataclass(frozen=True)
class Workload:
    """One thing that servers are asked to do."""

    name: str
    title: str
    request: bytes
    """What a client sends at a time: one request, or `depth` of them in one piece."""
    body: bytes
    """What each answer has to carry."""
    app: str = "hello"
    """Module under bench/apps; its callable is `app`."""
    depth: int = 1
    connections: int = 64
    client_closes: bool = False
    """The request asks for the connection to be closed."""
    access_log: bool = False
    is_observed: bool = False
    """minicorn's log is JSON, and its requests have names; others do what they do for an access log."""
    streams: bool = False
    """The app yields its body piece by piece, and answers /slow with "first", a pause, "second"."""


WORKLOADS = [
    Workload("hello", "Hello, 64 keep-alive connections", PLAIN, HELLO),
    Workload("browser", "Hello, 12 browser headers", BROWSER, HELLO),
    Workload("pipeline", "Hello, pipelined 16 deep", PLAIN * 16, HELLO, depth=16),
    Workload("close", "Hello, Connection: close", CLOSING, HELLO, client_closes=True),
    Workload("single", "Hello, one connection", PLAIN, HELLO, connections=1),
    Workload("log", "Hello, access log on, to a file", PLAIN, HELLO, access_log=True),
    Workload("observed", "Hello, JSON log, request ids, metrics", PLAIN, HELLO, access_log=True, is_observed=True),
    Workload("flask", "Flask hello", PLAIN, HELLO, app="flask_hello"),
    Workload("echo", "POST of 16 KiB, echoed", ECHO, SIXTEEN_KIB, app="echo"),
    Workload("megabyte", "Response of 1 MiB", PLAIN, b"0123456789abcdef" * 65536, app="megabyte"),
    Workload("generator", "Generator of 100 × 1 KiB", PLAIN, b"0123456789abcdef" * 6400, app="generator", streams=True),
]
