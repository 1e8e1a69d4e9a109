"""Calls start_response with the Python literals of X-Status and X-Headers, however wrong they are: not validated."""

from ast import literal_eval


def app(environ, start_response):
    status = literal_eval(environ.get("HTTP_X_STATUS", "'200 OK'"))
    headers = literal_eval(environ.get("HTTP_X_HEADERS", "[]"))
    start_response(status, headers)
    return [b"body"]
