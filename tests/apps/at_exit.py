"""Prints without flushing, and registers a function for the end of its interpreter."""

import atexit
import sys
from wsgiref.validate import validator

atexit.register(lambda: print("the interpreter ends", file=sys.stderr))


@validator
def app(environ, start_response):
    print("printed and not flushed")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"printed"]
