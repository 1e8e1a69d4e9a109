"""Never stops yielding by itself."""

import itertools


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return itertools.repeat(b"again ")
