"""Answers, after `/fork` has forked a process that waits as gate.py does and ends without a word."""

import os
import warnings
from urllib.parse import parse_qs
from wsgiref.validate import validator

from tests.apps.gate import wait

# Python 3.12 warns of a fork while there are threads.
warnings.simplefilter("ignore", DeprecationWarning)


@validator
def app(environ, start_response):
    if environ["PATH_INFO"] == "/fork" and os.fork() == 0:
        try:
            wait(parse_qs(environ["QUERY_STRING"]))
        finally:
            os._exit(0)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
