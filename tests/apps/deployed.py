"""Answers a request with its own body, or with its query when it has none, and says in two header fields who answers.

`answering` makes an app of another generation, for modules that a test writes. `pause` seconds pass first.
"""

import os
import time
from wsgiref.validate import validator


def answering(generation, pause=0):
    def app(environ, start_response):
        time.sleep(pause)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or environ["QUERY_STRING"].encode()
        fields = [("X-Worker", str(os.getpid())), ("X-Generation", generation)]
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *fields])
        return [body]

    return validator(app)


app = answering("1")
slow = answering("1", pause=0.005)
