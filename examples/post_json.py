"""Reading a request body: POST a JSON list of numbers, get their sum.

minicorn examples.post_json:app
curl --json '[1, 2, 3.5]' http://127.0.0.1:8000/
"""

import json


def app(environ, start_response):
    if environ["REQUEST_METHOD"] != "POST":
        return reply(start_response, "405 Method Not Allowed", {"error": "POST a JSON list"}, ("Allow", "POST"))
    try:
        # CONTENT_LENGTH is also set for a body that came in chunks: it is complete before the application is called.
        length = int(environ.get("CONTENT_LENGTH") or 0)
        numbers = json.loads(environ["wsgi.input"].read(length))
        return reply(start_response, "200 OK", {"count": len(numbers), "sum": sum(numbers)})
    except (ValueError, TypeError):
        return reply(start_response, "400 Bad Request", {"error": "the body is not a JSON list of numbers"})


def reply(start_response, status, answer, *more_headers):
    body = json.dumps(answer).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *more_headers])
    return [body]
