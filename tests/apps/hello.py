"""A list of one bytes item, no Content-Length: not validated, since the validator's iterator hides the list."""


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello, world!\n"]
