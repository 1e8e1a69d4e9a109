"""Imports a C extension of an installed package, and answers where it was found."""

from wsgiref.validate import validator

from markupsafe import _speedups


@validator
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [_speedups.__file__.encode()]
