"""A download of `bytes` bytes in blocks of 64 KiB, each of which begins with its number.

How many bytes have been asked for so far is in the file `progress` of the query, twenty digits; the file `closed` is
created when close() is called. Without `bytes` it answers at once.
"""

import os
from urllib.parse import parse_qs
from wsgiref.validate import validator

BLOCK = 65536
FILLING = bytes(range(256)) * (BLOCK // 256)


@validator
def app(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    length = query.get("bytes", ["2"])[0]
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", length)])
    return Blocks(int(length), query) if "bytes" in query else [b"ok"]


class Blocks:
    def __init__(self, length, query):
        self.count, self.number = length // BLOCK, 0
        self.closed = query["closed"][0]
        self.progress = os.open(query["progress"][0], os.O_CREAT | os.O_WRONLY)

    def __iter__(self):
        return self

    def __next__(self):
        if self.number == self.count:
            raise StopIteration
        block = self.number.to_bytes(8, "big") + FILLING[8:]
        self.number += 1
        # In one write, since it is read at any moment.
        os.pwrite(self.progress, b"%020d" % (self.number * BLOCK), 0)
        return block

    def close(self):
        os.close(self.progress)
        open(self.closed, "w").close()
