"""Answers how many requests its process has seen."""

from wsgiref.validate import validator

seen = 0


@validator
def app(environ, start_response):
    global seen
    seen += 1
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(seen).encode()]
