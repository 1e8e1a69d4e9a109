"""Calls that first meet in a barrier of as many as the query's `parties`, and then do what the path says.

`/name` answers the name of its thread and `/count` how many threads Python knows; `/recurse` calls itself without end,
`/recurse-in-c` does so through a C function.
"""

import threading
from urllib.parse import parse_qs
from wsgiref.validate import validator

barriers = {}
lock = threading.Lock()


@validator
def app(environ, start_response):
    parties = int(parse_qs(environ["QUERY_STRING"]).get("parties", ["1"])[0])
    with lock:
        barrier = barriers.setdefault(parties, threading.Barrier(parties))
    barrier.wait(timeout=15)
    answer = PATHS[environ["PATH_INFO"]]()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer.encode()]


def name():
    return threading.current_thread().name


def count():
    return str(len(threading.enumerate()))


def recurse():
    return recurse()


def recurse_in_c():
    return max([0], key=lambda _: recurse_in_c())


PATHS = {"/name": name, "/count": count, "/recurse": recurse, "/recurse-in-c": recurse_in_c}
