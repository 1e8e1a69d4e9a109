"""Writes to wsgi.errors and to standard error."""

import sys
from wsgiref.validate import validator


@validator
def app(environ, start_response):
    errors = environ["wsgi.errors"]
    errors.write("written to wsgi.errors\n")
    errors.writelines(["first of writelines\n", "second of writelines\n"])
    errors.write("Zażółć gęślą jaźń\n")
    errors.write("\x1b[31mred\x1b[0m\n")
    errors.write("no line end")
    errors.flush()
    errors.write("no line end and no flush")
    print("printed to stderr", file=sys.stderr)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"logged"]
