"""Logs as applications of gunicorn do, and writes to its standard streams."""

import logging
import subprocess
import sys

print("printed at the import")
subprocess.run(["echo", "a program's line"], check=True)
sys.stdout.flush()

own = logging.getLogger("some.application")
own.handlers = logging.getLogger("gunicorn.error").handlers
own.setLevel(logging.getLogger("gunicorn.error").level)


def app(environ, start_response):
    log = logging.getLogger("gunicorn.error")
    log.debug("not worth a line")
    log.warning("careful with %d", 3)
    try:
        raise ValueError("wrong")
    except ValueError:
        log.exception("it went wrong")
    own.warning("through the application")
    print("printed for a request", flush=True)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
