"""Sends early hints: `/` one and `/two` two, and both then wait for their gate (gate.py) before they answer.

`/bad` tries wrong ones and answers what was raised, `/late` sends one when the body has begun, and `/after` when
the request is over.
"""

from urllib.parse import parse_qs
from wsgiref.validate import validator

from tests.apps.gate import wait

LINK = ("Link", "</a.css>; rel=preload")
BAD = [
    [("Link", "</a.css>\r\nX-Injected: yes")],
    [("Link", "a\nb")],
    [("Li\r\nnk", "a")],
    [("Li nk", "a")],
]

kept = []


@validator
def app(environ, start_response):
    hint = environ["wsgi.early_hints"]
    answer = PATHS[environ["PATH_INFO"]](hint, parse_qs(environ["QUERY_STRING"]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return answer


def one(hint, query):
    hint([LINK])
    wait(query)
    return [b"hinted"]


def two(hint, query):
    hint([LINK, ("X-Other", "1")])
    hint([("Link", "</b.css>; rel=preload")])
    wait(query)
    return [b"hinted"]


def bad(hint, query):
    return [" ".join(outcome(hint, headers) for headers in BAD).encode()]


def late(hint, query):
    yield b"first"
    outcome(hint, [LINK])
    yield b"second"


def after(hint, query):
    kept.append(hint)
    return [outcome(kept[0], [LINK]).encode() if len(kept) > 1 else b"kept"]


def outcome(hint, headers):
    try:
        hint(headers)
        return "sent"
    except Exception as error:
        return type(error).__name__


PATHS = {"/": one, "/two": two, "/bad": bad, "/late": late, "/after": after}
