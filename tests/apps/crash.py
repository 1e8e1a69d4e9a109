"""Answers its process id, or ends its process as the path says."""

import ctypes
import os
import signal
from wsgiref.validate import validator


@validator
def app(environ, start_response):
    if environ["PATH_INFO"] == "/exit":
        os._exit(7)
    if environ["PATH_INFO"] == "/segfault":
        ctypes.string_at(0)
    if environ["PATH_INFO"] == "/abort":
        os.kill(os.getpid(), signal.SIGABRT)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
