"""Waits inside a request as gate.py does, whatever its path is."""

import os
from urllib.parse import parse_qs
from wsgiref.validate import validator

from tests.apps.gate import wait


@validator
def app(environ, start_response):
    wait(parse_qs(environ["QUERY_STRING"]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
