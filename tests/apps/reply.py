"""Answers what the query string asks for: status, header (repeated, `Name: value`), item (repeated), lazy.

`lazy=1` yields the items from a generator that calls start_response only when it is first asked.
"""

from urllib.parse import parse_qs
from wsgiref.validate import validator


def bare(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True, encoding="latin-1")
    status = query.get("status", ["200 OK"])[0]
    headers = [tuple(header.split(": ", 1)) for header in query.get("header", [])]
    if status[:3] not in ("204", "304"):
        headers.append(("Content-Type", "text/plain"))
    items = [item.encode("latin-1") for item in query.get("item", [])]
    if "lazy" in query:
        return lazily(start_response, status, headers, items)
    start_response(status, headers)
    return items


def lazily(start_response, status, headers, items):
    start_response(status, headers)
    yield from items


app = validator(bare)
