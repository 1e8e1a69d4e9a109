"""The file `path` of the query through wsgi.file_wrapper, from `offset` on, and `length` as its Content-Length.

The path says how it is opened; `/closed` answers how many of the files opened so far are closed. Not validated: the
validator would hide the wrapper from the server.
"""

import gzip
import io
import os
from urllib.parse import parse_qs

opened = []


def app(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    headers = [("Content-Type", "application/octet-stream")]
    headers += [("Content-Length", length) for length in query.get("length", [])]
    start_response("200 OK", headers)
    if environ["PATH_INFO"] == "/closed":
        return [f"{sum(file.closed for file in opened)} of {len(opened)}".encode()]
    file = PATHS[environ["PATH_INFO"]](query["path"][0])
    opened.append(file)
    for offset in query.get("offset", []):
        file.seek(int(offset))
    return environ["wsgi.file_wrapper"](file, 65536)


def plain(path):
    return open(path, "rb")


def unbuffered(path):
    return open(path, "rb", buffering=0)


def partly_read(path):
    """The descriptor is farther than the file object, which has read ahead into its buffer."""
    file = plain(path)
    file.read(100)
    return file


def unlinked(path):
    file = plain(path)
    os.unlink(path)
    return file


def memory(path):
    with open(path, "rb") as file:
        return io.BytesIO(file.read())


def text(path):
    return open(path, encoding="latin-1")


def unzipped(path):
    """Its descriptor is that of the compressed file."""
    with open(path, "rb") as file, gzip.open(path + ".gz", "wb") as zipped:
        zipped.write(file.read())
    return gzip.open(path + ".gz")


def overridden(path):
    """A subclass may change what is read: its read() counts, not its descriptor."""
    return Reversed(open(path, "rb", buffering=0))


class Reversed(io.BufferedReader):
    def read(self, size=-1):
        return super().read(size)[::-1]


PATHS = {
    "/plain": plain,
    "/unbuffered": unbuffered,
    "/partly-read": partly_read,
    "/unlinked": unlinked,
    "/memory": memory,
    "/text": text,
    "/unzipped": unzipped,
    "/overridden": overridden,
}
