"""Leaves garbage behind whose finalizers write to wsgi.errors, wherever the garbage collector comes upon it.

`/callable` tells which `start_response` it was given, and leaves none.
"""

import gc

# Used up, so that what the server makes is allocated, at which the collector runs.
KEPT = []


class Garbage:
    def __init__(self, errors, count):
        self.errors = errors
        self.count = count
        self.itself = self

    def __del__(self):
        self.errors.write(f"finalizer {self.count}\n")
        if self.count:
            for count in (self.count - 1, 0, 0):
                Garbage(self.errors, count)
        KEPT.extend([(i, i) for i in range(30)])
        KEPT.extend([[i] for i in range(30)])


class Response:
    def __init__(self, errors):
        self.errors = errors

    def __iter__(self):
        return iter([b"ok"])

    def close(self):
        gc.disable()
        gc.set_threshold(1)
        for count in [30] + [0] * 49:
            Garbage(self.errors, count)
        gc.enable()


def app(environ, start_response):
    start_response("200 OK", [(f"X-{number}", "value") for number in range(5)])
    if environ["PATH_INFO"] == "/callable":
        return [str(id(start_response)).encode()]
    return Response(environ["wsgi.errors"])
