"""A streaming response: each item that the generator yields is sent before the next one is asked for.

minicorn examples.streaming:app
curl --no-buffer 'http://127.0.0.1:8000/?from=5'
"""

import time
from urllib.parse import parse_qs


def app(environ, start_response):
    start = parse_qs(environ["QUERY_STRING"]).get("from", ["3"])[0]
    if not (start.isascii() and start.isdigit() and int(start) <= 60):
        start_response("400 Bad Request", [("Content-Type", "text/plain")])
        return [b"from must be a number from 0 to 60\n"]

    # No Content-Length: the length is not known yet, so the body goes out in chunks.
    start_response("200 OK", [("Content-Type", "text/plain")])
    return countdown(int(start))


def countdown(start):
    for second in range(start, 0, -1):
        yield f"{second}...\n".encode()
        time.sleep(1)
    yield b"lift-off\n"
