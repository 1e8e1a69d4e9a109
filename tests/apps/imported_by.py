"""Tells on standard error which user has imported it."""

import os
import sys

print("imported by users", os.getresuid(), file=sys.stderr)


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello, world!\n"]
