"""Answers what Python sees of its surroundings, as JSON."""

import json
import os
import sys
import threading
from wsgiref.validate import validator

import _ctypes  # noqa: F401  a C extension of the standard library
import _sqlite3  # noqa: F401


@validator
def app(environ, start_response):
    answer = {
        "argv": sys.argv,
        "cwd": os.getcwd(),
        "env": dict(os.environ),
        "executable": sys.executable,
        "main_thread": threading.current_thread() is threading.main_thread(),
        "path": sys.path,
        "prefix": sys.prefix,
        "version": "%d.%d.%d" % sys.version_info[:3],
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
