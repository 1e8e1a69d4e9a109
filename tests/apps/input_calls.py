"""Evaluates the expression in X-Call, where `i` is wsgi.input, and answers with its repr.

Not validated: wsgiref.validate refuses calls that PEP 3333 asks servers to support, as `read()` without a size.
"""


def app(environ, start_response):
    answer = repr(eval(environ["HTTP_X_CALL"], {"i": environ["wsgi.input"], "next": next})).encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer]
