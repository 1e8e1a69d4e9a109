"""Calls start_response a second time, each path in its own way. Not validated: most of these are errors."""

import sys


def app(environ, start_response):
    return PATHS[environ["PATH_INFO"]](start_response)


def exc_info():
    try:
        raise ValueError("the reason for the second call")
    except ValueError:
        return sys.exc_info()


def without_exc_info(start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"never sent"]


def before_the_head(start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-First", "1")])
    start_response("503 Busy", [("Content-Type", "text/plain"), ("X-Second", "2")], exc_info())
    return [b"replaced"]


def after_the_head(start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"sent"
    start_response("500 Too Late", [("Content-Type", "text/plain")], exc_info())
    yield b"never sent"


def before_the_first_byte(start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b""
    start_response("503 Busy", [("Content-Type", "text/plain")], exc_info())
    yield b"replaced"


def exc_info_at_first(start_response):
    start_response("200 OK", [("Content-Type", "text/plain")], exc_info())
    return [b"fine"]


def never(start_response):
    return [b"no start_response at all"]


def never_lazily(start_response):
    yield b"no start_response at all"


PATHS = {
    "/without-exc-info": without_exc_info,
    "/before-the-head": before_the_head,
    "/after-the-head": after_the_head,
    "/before-the-first-byte": before_the_first_byte,
    "/exc-info-at-first": exc_info_at_first,
    "/never": never,
    "/never-lazily": never_lazily,
}
