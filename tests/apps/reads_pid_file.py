"""Answers what was in the file PID_FILE when it was imported, and the process id of its parent."""

import os
from wsgiref.validate import validator

with open(os.environ["PID_FILE"]) as file:
    AT_IMPORT = file.read()


@validator
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{AT_IMPORT}{os.getppid()}\n".encode()]
