"""Reads the body in the way that the path names, and answers with it; X-Length is the environ's CONTENT_LENGTH."""

from wsgiref.validate import validator


def blocks(file, size):
    return list(iter(lambda: file.read(size), b""))


WAYS = {
    "/small-blocks": lambda file: blocks(file, 1000),
    "/large-blocks": lambda file: blocks(file, 70_000),
    "/lines": lambda file: list(file),
    "/parts-of-lines": lambda file: list(iter(lambda: file.readline(100), b"")),
    "/list-of-lines": lambda file: file.readlines(),
    "/mixed": lambda file: [file.readline(), file.read(10), file.read(100_000), file.readline(), file.read(10**9)],
}


@validator
def app(environ, start_response):
    body = b"".join(WAYS[environ["PATH_INFO"]](environ["wsgi.input"]))
    length = environ.get("CONTENT_LENGTH", "none")
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("X-Length", length)])
    return [body]
