"""Answers what it was told about the request's name, one `key=value` a line; the query says what else it does.

`own` sets the header itself, `errors` writes to wsgi.errors, `raise` raises, `short` yields too little, `sleep` takes a
moment.
"""

import time

KEYS = ("HTTP_X_REQUEST_ID", "minicorn.request_id")


def app(environ, start_response):
    query = environ["QUERY_STRING"]
    if query == "errors":
        environ["wsgi.errors"].write("written by the application\n")
    if query == "raise":
        raise RuntimeError("raised by the application")
    if query == "sleep":
        time.sleep(0.05)
    headers = [("Content-Type", "text/plain")]
    if query == "own":
        headers.append(("x-request-id", "of-the-application"))
    if query == "short":
        headers.append(("Content-Length", "1000"))
    start_response("200 OK", headers)
    return ["".join(f"{key}={environ.get(key)}\n" for key in KEYS).encode()]
