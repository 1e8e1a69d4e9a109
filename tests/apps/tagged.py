"""Answers its body and then the query's `tag` as often as `items` says: a piece in the wrong response shows.

`pause` seconds pass before each item. They come from a generator, or with `whole` as one item.
"""

import time
from urllib.parse import parse_qs
from wsgiref.validate import validator


def bare(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    tag, items = query["tag"][0].encode(), int(query["items"][0])
    pause = float(query["pause"][0])
    start_response("200 OK", [("Content-Type", "text/plain")])
    if "whole" in query:
        time.sleep(pause)
        return [body + tag * items]
    return pieces(body, tag, items, pause)


def pieces(body, tag, items, pause):
    yield body
    for _ in range(items):
        time.sleep(pause)
        yield tag


app = validator(bare)
