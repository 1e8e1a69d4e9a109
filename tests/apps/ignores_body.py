"""Never touches its input."""

from wsgiref.validate import validator


@validator
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "7")])
    return [b"ignored"]
