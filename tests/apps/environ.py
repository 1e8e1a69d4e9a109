"""Answers with its environ, one `KEY=repr(value)` a line."""

from wsgiref.validate import validator


def dump(environ, start_response):
    lines = [f"{key}={environ[key]!r}\n" for key in sorted(environ)]
    lines.append(f"type={type(environ).__name__}\n")
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return ["".join(lines).encode("utf-8", "backslashreplace")]


app = validator(dump)

# Without the validator, which puts objects of its own into the environ.
bare = dump
