"""Answers its command line as /proc shows it, its environment and that of a program it starts, and loads a library.

`/held` waits as gate.py does, and answers nothing else.
"""

import ctypes
import json
import os
import subprocess
from urllib.parse import parse_qs
from wsgiref.validate import validator

from tests.apps.gate import wait


@validator
def app(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    if environ["PATH_INFO"] == "/held":
        wait(query)
    with open("/proc/self/cmdline", "rb") as file:
        title = file.read().rstrip(b"\0").decode()
    for library in query.get("library", []):
        ctypes.CDLL(library)
    answer = {
        "title": title,
        "environ": dict(os.environ),
        "child": subprocess.run(["env", "-0"], stdout=subprocess.PIPE, check=True).stdout.decode().split("\0"),
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
