"""Answers with the texts of its environ and its process id as JSON. `/wait` waits first, as gate.py does."""

import json
import os
from urllib.parse import parse_qs

from tests.apps.gate import wait


def app(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        wait(parse_qs(environ["QUERY_STRING"]))
    texts = {key: value for key, value in environ.items() if isinstance(value, str)}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({**texts, "pid": os.getpid()}).encode()]
