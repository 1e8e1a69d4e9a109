"""Query parameters: what stands behind the `?` is in QUERY_STRING, still percent-encoded.

minicorn examples.query:app
curl 'http://127.0.0.1:8000/?name=Ada&name=Grace&greeting=Good+morning'
"""

from urllib.parse import parse_qs


def app(environ, start_response):
    parameters = parse_qs(environ["QUERY_STRING"])
    greeting = parameters.get("greeting", ["Hello"])[0]
    names = parameters.get("name", ["world"])
    lines = [f"{greeting}, {name}!\n" for name in names]

    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return ["".join(lines).encode()]
