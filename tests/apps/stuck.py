"""Calls that do not come back, each path in its own way; with `started` in the query, after a first item.

`/wait` waits as gate.py does, and `/pid` answers.
"""

import ctypes
import os
import time
from urllib.parse import parse_qs
from wsgiref.validate import validator

from tests.apps.gate import wait


@validator
def app(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    stick = PATHS[environ["PATH_INFO"]]
    if "started" not in query:
        stick(query)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return items(stick, query) if "started" in query else [str(os.getpid()).encode()]


def items(stick, query):
    yield b"first"
    stick(query)


def sleep(query):
    time.sleep(60)


def loop(query):
    while True:
        pass


def hold_the_gil(query):
    # Called through PyDLL, a C function keeps the GIL.
    ctypes.PyDLL(None).sleep(60)


PATHS = {"/sleep": sleep, "/loop": loop, "/gil": hold_the_gil, "/wait": wait, "/pid": lambda query: None}
