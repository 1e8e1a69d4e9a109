"""Iterables that count their close() calls; `/closed` answers how many there were (in this process)."""

closed = 0


class Body:
    def __init__(self, items):
        self.items = iter(items)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.items)

    def close(self):
        global closed
        closed += 1


def raising():
    yield b"first"
    raise RuntimeError("raised while iterating")


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/closed":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(closed).encode()]
    if path != "/no-start":
        length = [("Content-Length", "3")] if path == "/too-long" else []
        start_response("200 OK", [("Content-Type", "text/plain"), *length])
    return Body(BODIES.get(path, lambda: [b"whole"])())


BODIES = {
    "/empty": lambda: [],
    "/many": lambda: [b"a", b"b", b"c"],
    "/raises": raising,
    "/endless": lambda: iter(lambda: b"x" * 65536, None),
    "/too-long": lambda: [b"ab", b"cd", b"ef"],
    "/text": lambda: ["text"],
}
