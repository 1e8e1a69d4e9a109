"""Writes the path of each request to wsgi.errors."""

from wsgiref.validate import validator


@validator
def app(environ, start_response):
    environ["wsgi.errors"].write(f"asked for {environ['PATH_INFO']}\n")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"logged"]
