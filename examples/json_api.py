"""A small JSON API without a framework: a few routes over a dictionary.

minicorn examples.json_api:app
curl http://127.0.0.1:8000/books
curl http://127.0.0.1:8000/books/2
"""

import json

BOOKS = {
    1: {"id": 1, "title": "The Left Hand of Darkness", "author": "Ursula K. Le Guin"},
    2: {"id": 2, "title": "Solaris", "author": "Stanisław Lem"},
}


def app(environ, start_response):
    status, answer = route(environ["REQUEST_METHOD"], environ["PATH_INFO"])
    body = json.dumps(answer, ensure_ascii=False).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if status.startswith("405"):
        headers.append(("Allow", "GET, HEAD"))
    start_response(status, headers)
    return [body]


def route(method, path):
    if method not in ("GET", "HEAD"):
        return "405 Method Not Allowed", {"error": f"{method} is not supported here"}
    if path == "/books":
        return "200 OK", list(BOOKS.values())
    number = path[len("/books/"):] if path.startswith("/books/") else ""
    if number.isascii() and number.isdigit() and int(number) in BOOKS:
        return "200 OK", BOOKS[int(number)]
    return "404 Not Found", {"error": f"nothing at {path}"}
