"""Serves itself, and forgets that its workers import it."""

import minicorn


def app(environ, start_response):
    raise AssertionError("it is never called")


minicorn.run("unguarded:app", bind="127.0.0.1:0")
