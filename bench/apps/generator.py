"""One hundred chunks of 1 KiB and no Content-Length. PEP 3333 wants each on the wire before the next is asked for;
/slow is where the harness looks whether it is."""

import time

CHUNK = b"0123456789abcdef" * (1024 // 16)


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    if environ["PATH_INFO"] == "/slow":
        yield b"first"
        time.sleep(0.2)
        yield b"second"
        return
    for _ in range(100):
        yield CHUNK
