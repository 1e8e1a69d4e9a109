"""Leaves a process behind at every request: its parent, a child of the worker, ends first."""

import os
from wsgiref.validate import validator


@validator
def app(environ, start_response):
    child = os.fork()
    if child == 0:
        os.fork()
        os._exit(0)
    os.waitpid(child, 0)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"orphaned"]
