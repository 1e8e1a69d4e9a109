"""Runs the command in X-Command, with whatever a program started from a worker inherits, and answers its output."""

import shlex
import subprocess
from wsgiref.validate import validator


@validator
def app(environ, start_response):
    command = shlex.split(environ["HTTP_X_COMMAND"])
    output = subprocess.run(command, close_fds=False, restore_signals=False, check=True, capture_output=True).stdout
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [output]
