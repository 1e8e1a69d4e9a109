"""Reads its input in pieces of 64 KiB, and answers its length and its Adler-32."""

import zlib
from wsgiref.validate import validator


@validator
def app(environ, start_response):
    length, checksum = 0, 1
    while piece := environ["wsgi.input"].read(65536):
        length += len(piece)
        checksum = zlib.adler32(piece, checksum)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{length} {checksum}".encode()]
