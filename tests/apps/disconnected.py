"""Asks whether its client is still there.

`/` answers, `/watch` asks until the client is gone or 15 seconds have passed, and creates the files `entered` and
`left` of the query before and after; `/keep` keeps the function that answers, and `/kept` calls it.
"""

import time
from urllib.parse import parse_qs
from wsgiref.validate import validator

kept = []


@validator
def app(environ, start_response):
    answer = PATHS[environ["PATH_INFO"]](environ["minicorn.client_disconnected"], parse_qs(environ["QUERY_STRING"]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(answer).encode()]


def ask(disconnected, query):
    return disconnected()


def watch(disconnected, query):
    open(query["entered"][0], "w").close()
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if disconnected():
            open(query["left"][0], "w").close()
            return True
        time.sleep(0.002)
    return False


def keep(disconnected, query):
    kept.append(disconnected)
    return disconnected()


def ask_kept(disconnected, query):
    try:
        return kept[0]()
    except RuntimeError:
        return "raised"


PATHS = {"/": ask, "/watch": watch, "/keep": keep, "/kept": ask_kept}
