"""Files through wsgi.file_wrapper. Not validated: the validator would hide the wrapper from the server."""

import io
import os
import tempfile
from urllib.parse import parse_qs

CONTENT = bytes(range(256)) * 4096

closed = 0


class Closing(io.BytesIO):
    def close(self):
        global closed
        closed += not self.closed
        super().close()


def app(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    headers = [("Content-Type", "application/octet-stream")]
    headers += [("Content-Length", length) for length in query.get("length", [])]
    if environ["PATH_INFO"] == "/closed":
        start_response("200 OK", headers)
        return [str(closed).encode()]
    start_response("200 OK", headers)
    return environ["wsgi.file_wrapper"](FILES[environ["PATH_INFO"]](), 8192)


def real():
    file = tempfile.TemporaryFile()
    file.write(CONTENT)
    file.seek(0)
    return file


def offset():
    file = real()
    file.seek(len(CONTENT) - 1000)
    return file


def pipe():
    reader, writer = os.pipe()
    os.write(writer, b"from a pipe")
    os.close(writer)
    return open(reader, "rb")


FILES = {"/real": real, "/offset": offset, "/memory": lambda: Closing(CONTENT), "/pipe": pipe}
