"""Answers as many bytes as the query asks for, in one item or (`/items`) in items of 64 KiB."""

import array
import sys
from urllib.parse import parse_qs
from wsgiref.validate import validator


@validator
def app(environ, start_response):
    length = int(parse_qs(environ["QUERY_STRING"])["bytes"][0])
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(length))])
    if environ["PATH_INFO"] == "/items":
        return (pattern(min(65536, length - start), start) for start in range(0, length, 65536))
    return [pattern(length)]


def pattern(length, start=0):
    """Big-endian numbers that tell their place, so that a piece sent twice or left out shows."""
    words = array.array("I", range(start // 4, (start + length) // 4 + 1))
    if sys.byteorder == "little":
        words.byteswap()
    return words.tobytes()[:length]
