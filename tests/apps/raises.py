"""Fails in a way that the path names. Not validated: the validator would raise first."""

import sys


def app(environ, start_response):
    return PATHS[environ["PATH_INFO"]](start_response)


def start(start_response, *headers):
    start_response("200 OK", [("Content-Type", "text/plain"), *headers])


def in_call(start_response):
    raise RuntimeError("raised in the call")


def after_start(start_response):
    start(start_response)
    raise RuntimeError("raised after start_response")


def in_first_item(start_response):
    start(start_response)
    raise RuntimeError("raised in the first item")
    yield b"never"


def in_second_item(start_response):
    start(start_response)
    yield b"first"
    raise RuntimeError("raised in the second item")


def in_second_item_with_length(start_response):
    start(start_response, ("Content-Length", "100"))
    yield b"first"
    raise RuntimeError("raised in the second item")


class InClose:
    def __iter__(self):
        return iter([b"whole"])

    def close(self):
        raise RuntimeError("raised in close")


def in_close(start_response):
    start(start_response, ("Content-Length", "5"))
    return InClose()


def text_item(start_response):
    start(start_response)
    return ["text, not bytes"]


def none(start_response):
    start(start_response)
    return None


def number(start_response):
    start(start_response)
    return 42


def write_text(start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])("text, not bytes")
    return []


def leave(start_response):
    sys.exit(3)


PATHS = {
    "/in-call": in_call,
    "/after-start": after_start,
    "/in-first-item": in_first_item,
    "/in-second-item": in_second_item,
    "/in-second-item-with-length": in_second_item_with_length,
    "/in-close": in_close,
    "/text-item": text_item,
    "/none": none,
    "/number": number,
    "/write-text": write_text,
    "/sys-exit": leave,
    "/fine": lambda start_response: start(start_response) or [b"fine"],
}
