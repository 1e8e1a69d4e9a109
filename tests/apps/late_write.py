"""Writes when its response is already complete: from the close() of its iterable."""


class Late:
    def __init__(self, write):
        self.write = write
        self.items = iter([b"whole"])

    def __iter__(self):
        return self.items

    def close(self):
        self.write(b"late")


def app(environ, start_response):
    return Late(start_response("200 OK", [("Content-Type", "text/plain")]))
