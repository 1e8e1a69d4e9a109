"""Waits inside a request until the file `release` of the query exists; `entered` is created first.

`/before` waits before it answers, `/between` after its first item, `/burst` after two that come at once, `/after` after
its last, `/written` after its first write(). All of them go on by themselves after 30 seconds. With `length` the response has that Content-Length.
"""

import os
import time
from urllib.parse import parse_qs
from wsgiref.validate import validator


def bare(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    if environ["PATH_INFO"] == "/before":
        wait(query)
    lengths = [("Content-Length", length) for length in query.get("length", [])]
    write = start_response("200 OK", [("Content-Type", "text/plain"), *lengths])
    if environ["PATH_INFO"] == "/between":
        return between(query)
    if environ["PATH_INFO"] == "/burst":
        return burst(query)
    if environ["PATH_INFO"] == "/after":
        return after(query)
    if environ["PATH_INFO"] == "/written":
        write(b"first")
        wait(query)
        return [b"second"]
    return [str(os.getpid()).encode()]


def between(query):
    yield b"first"
    wait(query)
    yield b"second"


def burst(query):
    yield b"first"
    yield b"second"
    wait(query)
    yield b"third"


def after(query):
    yield b"whole"
    wait(query)


def wait(query):
    if "entered" in query:
        open(query["entered"][0], "w").close()
    deadline = time.monotonic() + 30
    while not os.path.exists(query["release"][0]) and time.monotonic() < deadline:
        time.sleep(0.005)


app = validator(bare)
