"""Keeps the environ, input and start_response of the first request, and uses them in the second: they must be inert."""

kept = []


def app(environ, start_response):
    if not kept:
        kept.append((environ, environ["wsgi.input"], start_response))
    elif environ["PATH_INFO"] == "/look":
        old, old_input, _ = kept[0]
        answer = f"{old['PATH_INFO']} {old_input.read()!r} {old is environ}".encode()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [answer]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"kept"]
