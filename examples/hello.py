"""The smallest WSGI application (PEP 3333): a callable that starts a response and returns its body.

minicorn examples.hello:app
"""


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"Hello, world!\n"]
