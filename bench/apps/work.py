"""Does what its path says, so that one process answers every kind of request an engine is measured with:

/pid                  the process that answered
/sleep/MS             blocked outside of Python for so long, then the number again
/call/SECONDS         the same; answers with the monotonic times at which the call began and ended
/burn/N               N turns of an empty loop, then the number again
/block/BYTES/SEED     the bytes of `content` as one object
/pieces/BYTES/SEED    the same as a generator of 64 KiB pieces
/digest               the SHA-256 of the request body
/say/WORD             the word
"""

import functools
import hashlib
import os
import time

PIECE_BYTES = 65536


def app(environ, start_response):
    _, action, *arguments = environ["PATH_INFO"].split("/")
    length, body = ACTIONS[action](environ, *arguments)
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(length))])
    return body


def content(length, seed):
    """Bytes that anybody can make again from the seed, and that repeat nowhere."""
    return hashlib.shake_128(str(seed).encode()).digest(length)


# The drain of a response is what is measured there, and 50 MB take a quarter of a second to make.
large_content = functools.lru_cache(maxsize=1)(content)
LARGE_BYTES = 32 * 1024 * 1024


def text(value):
    body = str(value).encode()
    return len(body), [body]


def pid(environ):
    return text(os.getpid())


def sleep(environ, milliseconds):
    time.sleep(int(milliseconds) / 1000)
    return text(milliseconds)


def call(environ, seconds):
    began = time.monotonic()
    time.sleep(float(seconds))
    return text(f"{began} {time.monotonic()}")


def burn(environ, turns):
    for _ in range(int(turns)):
        pass
    return text(turns)


def block(environ, length, seed):
    make = large_content if int(length) >= LARGE_BYTES else content
    body = make(int(length), seed)
    return len(body), [body]


def pieces(environ, length, seed):
    (body,) = block(environ, length, seed)[1]
    return len(body), (body[start : start + PIECE_BYTES] for start in range(0, len(body), PIECE_BYTES))


def digest(environ):
    sha256 = hashlib.sha256()
    while piece := environ["wsgi.input"].read(PIECE_BYTES):
        sha256.update(piece)
    return text(sha256.hexdigest())


def say(environ, word):
    return text(word)


ACTIONS = {action.__name__: action for action in (pid, sleep, call, burn, block, pieces, digest, say)}
